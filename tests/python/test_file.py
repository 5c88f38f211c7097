"""read() and open(): parts of objects, and files over them."""

import io
import pickle
import random
import tarfile
import zipfile

import alnair
import pytest
from alnair import AlnairJobDataset

CHUNK = 4096
SIZE = 20 * CHUNK + 123
CONTENT = random.Random(5).randbytes(SIZE)


@pytest.fixture
def huge(tmp_path):
    """A dataset of one object of 21 chunks, and an empty one."""
    (tmp_path / "huge").mkdir()
    (tmp_path / "huge" / "huge.bin").write_bytes(CONTENT)
    (tmp_path / "huge" / "empty").touch()
    return AlnairJobDataset(source=f"file://{tmp_path}/huge", chunk_size=CHUNK)


def fetched(action):
    before = alnair.stats()["source_hit_bytes"]
    action()
    return alnair.stats()["source_hit_bytes"] - before


def test_read_gives_a_part_and_is_clamped_to_the_object(huge):
    handle = huge.data["huge.bin"]
    assert huge.read(handle, 5, 10) == huge.read("huge.bin", 5, 10) == CONTENT[5:15]
    assert huge.read(handle) == huge.load(handle) == CONTENT
    assert huge.read(handle, SIZE - 5, 100) == CONTENT[-5:]
    assert huge.read(handle, SIZE + 5, 100) == huge.read("empty") == b""
    assert huge.read(handle, 3 * CHUNK - 7) == CONTENT[3 * CHUNK - 7 :]
    view = huge.read(handle, 10, 20, view=True)
    assert type(view) is alnair.View
    assert type(pickle.loads(pickle.dumps(view))) is bytes
    assert pickle.loads(pickle.dumps(view)) == view == CONTENT[10:30]


def test_read_fetches_only_the_chunks_that_it_needs(huge):
    assert fetched(lambda: huge.read("huge.bin", 5 * CHUNK - 1, 2)) == 2 * CHUNK


def test_what_read_and_open_take_is_said(huge):
    with pytest.raises(alnair.ConfigError, match="offset: expected a number of bytes of at least 0, not -1"):
        huge.read("huge.bin", -1)
    with pytest.raises(TypeError, match="length: expected a number of bytes"):
        huge.read("huge.bin", 0, 1.5)
    for method in huge.read, huge.open:
        with pytest.raises(alnair.NotFoundError, match="the dataset has no object 'nothing'"):
            method("nothing")
    with pytest.raises(TypeError, match=r"open\(\) takes a handle or a key, not int"):
        huge.open(5)


def test_a_file_is_read_as_one_from_a_disk(huge, tmp_path):
    ours, disk = huge.open("huge.bin"), open(tmp_path / "huge" / "huge.bin", "rb")
    with ours, disk:
        assert ours.name == "huge.bin"
        assert ours.readable()
        assert ours.seekable()
        assert not ours.writable()
        choose = random.Random(1)
        for _ in range(300):
            place = choose.choice([(choose.randrange(SIZE + 50), 0), (-choose.randrange(SIZE), 2), (choose.randrange(99), 1)])
            assert ours.seek(*place) == disk.seek(*place)
            count = choose.choice([0, 1, 100, CHUNK, 3 * CHUNK, -1])
            assert ours.read(count) == disk.read(count)
            assert ours.tell() == disk.tell()
        for wrong in (-1, 0), (-SIZE - 1, 2):
            with pytest.raises((ValueError, OSError)):
                ours.seek(*wrong)
        ours.seek(0)
        disk.seek(0)
        assert ours.readline() == disk.readline()
        with pytest.raises(io.UnsupportedOperation):
            ours.write(b"x")
    with pytest.raises(ValueError, match="closed file"):
        ours.read(1)
    with huge.open("empty") as empty:
        assert empty.read() == b""


def test_a_seek_fetches_one_chunk_and_reading_in_order_brings_the_next_ones(huge):
    with huge.open("huge.bin") as file:
        file.seek(10 * CHUNK)
        assert fetched(lambda: file.read(10)) == CHUNK
    file = huge.open("huge.bin")
    raw = file.raw
    asked = []

    class Spy:
        def __init__(self, core):
            self.core = core

        def __getattr__(self, name):
            return getattr(self.core, name)

        def read_ahead(self, index, offset, length):
            asked.append((offset // CHUNK, length // CHUNK))
            self.core.read_ahead(index, offset, length)

    huge._alnair.source._core = Spy(huge._alnair.source._core)
    for number in (0, 1, 2, 3):
        raw.seek(number * CHUNK)
        assert raw.read(CHUNK) == CONTENT[number * CHUNK :][:CHUNK]
    assert asked == [(2, 4), (6, 1), (7, 1)]
    raw.seek(15 * CHUNK)
    assert raw.read(CHUNK) == CONTENT[15 * CHUNK :][:CHUNK]
    assert len(asked) == 3
    assert raw.read(CHUNK) == CONTENT[16 * CHUNK :][:CHUNK]
    assert asked[3:] == [(17, 4)]
    assert raw.readall() == CONTENT[17 * CHUNK :]


def test_archives_are_read_in_place(tmp_path):
    (tmp_path / "archives").mkdir()
    members = {f"{number}.txt": f"member {number}".encode() * 2000 for number in range(20)}
    with zipfile.ZipFile(tmp_path / "archives" / "a.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with tarfile.open(tmp_path / "archives" / "a.tar", "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    dataset = AlnairJobDataset(source=f"file://{tmp_path}/archives", chunk_size=CHUNK)
    with zipfile.ZipFile(dataset.open("a.zip")) as archive:
        assert {name: archive.read(name) for name in reversed(archive.namelist())} == members
    with tarfile.open(fileobj=dataset.open("a.tar")) as archive:
        assert {info.name: archive.extractfile(info).read() for info in archive} == members


def test_hdf5_is_read_in_place(tmp_path):
    h5py, numpy = pytest.importorskip("h5py"), pytest.importorskip("numpy")
    (tmp_path / "hdf5").mkdir()
    values = numpy.arange(100_000).reshape(100, 1000)
    with h5py.File(tmp_path / "hdf5" / "a.h5", "w") as file:
        file.create_dataset("values", data=values, chunks=(10, 1000))
    dataset = AlnairJobDataset(source=f"file://{tmp_path}/hdf5", chunk_size=CHUNK)
    with h5py.File(dataset.open("a.h5"), "r") as file:
        assert (file["values"][42:44] == values[42:44]).all()
        assert (file["values"][:] == values).all()


def test_parquet_is_read_in_place(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "parquet").mkdir()
    table = pyarrow.table({"number": list(range(10_000)), "square": [n * n for n in range(10_000)]})
    parquet.write_table(table, tmp_path / "parquet" / "a.parquet", row_group_size=1000)
    dataset = AlnairJobDataset(source=f"file://{tmp_path}/parquet", chunk_size=CHUNK)
    file = parquet.ParquetFile(dataset.open("a.parquet"))
    assert file.read_row_group(7, columns=["square"]).column(0).to_pylist() == [n * n for n in range(7000, 8000)]
    assert file.read() == table


def test_a_file_without_a_cache_reads_the_same(tmp_path):
    (tmp_path / "huge").mkdir()
    (tmp_path / "huge" / "huge.bin").write_bytes(CONTENT)
    dataset = AlnairJobDataset(source=f"file://{tmp_path}/huge", chunk_size=CHUNK, usecache=False)
    assert dataset.open("huge.bin").read() == CONTENT
