"""AlnairJobDataset over a directory."""

import io
import threading

import alnair
import numpy
import pytest
from alnair import AlnairJobDataset
from conftest import KEYS, content_of, write_objects

LAZY = pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "eager"])


class Pets(AlnairJobDataset):
    def __convert__(self):
        keys = [key for key in self.keys if "/cat/" in key]
        return [self.data[key] for key in keys], [key.split("/")[1] for key in keys]

    def __getitem__(self, index):
        return self.get_data(index).decode(), self.get_target(index)

    def __len__(self):
        return len(self.data)


# Samples.


@LAZY
def test_without_any_override_a_sample_is_the_bytes_and_the_key(source, lazy):
    dataset = AlnairJobDataset(source=source, lazyloading=lazy)
    assert len(dataset) == len(KEYS)
    assert [dataset[i] for i in range(len(dataset))] == [(content_of(key), key) for key in KEYS]
    assert list(dataset) == [(content_of(key), key) for key in KEYS]
    assert dataset[-1] == (content_of(KEYS[-1]), KEYS[-1])
    assert type(dataset[0][0]) is bytes


@LAZY
def test_data_and_targets_are_what_convert_returned(source, lazy):
    dataset = Pets(source=source, lazyloading=lazy)
    cats = [key for key in KEYS if "/cat/" in key]
    assert len(dataset) == len(cats)
    assert dataset[3] == (content_of(cats[3]).decode(), "cat")
    assert dataset.targets == ["cat"] * len(cats)
    assert isinstance(dataset.data[0], alnair.Handle if lazy else bytes)


@LAZY
def test_an_older_preprocess_is_called_in_place_of_convert(source, lazy):
    class Older(AlnairJobDataset):
        def __preprocess__(self):
            return list(self.data.values())[:5], None

    dataset = Older(source=source, lazyloading=lazy)
    assert len(dataset) == 5
    assert dataset[4] == (content_of(KEYS[4]), None)


def test_a_subclass_may_override_only_getitem(source):
    class Lengths(AlnairJobDataset):
        def __getitem__(self, index):
            return len(self.get_data(index))

    assert list(Lengths(source=source))[:3] == [len(content_of(key)) for key in KEYS[:3]]


def test_convert_runs_once_at_first_need_and_its_attributes_are_there_from_the_start(source):
    calls = []

    class Classes(AlnairJobDataset):
        def __convert__(self):
            calls.append(1)
            self.classes = sorted({key.split("/")[1] for key in self.keys})
            return list(self.data.values()), [self.classes.index(key.split("/")[1]) for key in self.keys]

    dataset = Classes(source=source)
    assert calls == []
    assert dataset.classes == ["cat", "dog"]
    assert dataset[0][1] == 0
    assert calls == [1]
    with pytest.raises(AttributeError, match="no attribute 'colours'"):
        dataset.colours


def test_convert_may_return_keys_instead_of_handles(source):
    class ByKey(AlnairJobDataset):
        def __convert__(self):
            return list(self.keys), list(range(len(self.keys)))

    assert ByKey(source=source)[7] == (content_of(KEYS[7]), 7)


def test_convert_may_return_samples_of_its_own(source):
    class Parsed(AlnairJobDataset):
        def __convert__(self):
            return [self.load(self.data[key]).split(b"\n")[0] for key in self.keys[:4]], None

    assert Parsed(source=source)[2] == (KEYS[2].encode(), None)


def test_what_convert_must_return_is_said(source):
    class Wrong(AlnairJobDataset):
        def __convert__(self):
            return 5

    with pytest.raises(TypeError, match=r"Wrong.__convert__ must return \(samples, targets\), not int"):
        len(Wrong(source=source))


def test_a_failing_convert_raises_each_time_and_can_be_retried(source):
    class Flaky(AlnairJobDataset):
        broken = True

        def __convert__(self):
            if self.broken:
                raise RuntimeError("not yet")
            return list(self.data.values()), self.keys

    dataset = Flaky(source=source)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not yet"):
            len(dataset)
    Flaky.broken = False
    assert len(dataset) == len(KEYS)


def test_threads_that_need_the_samples_first_convert_once(source):
    calls = []

    class Slow(AlnairJobDataset):
        def __convert__(self):
            calls.append(1)
            return [self.data[key] for key in self.keys if key.endswith("1.txt")], None

    dataset, lengths = Slow(source=source), []
    threads = [threading.Thread(target=lambda: lengths.append(len(dataset))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]
    assert lengths == [4] * 8


def test_forgetting_to_initialise_the_base_class_is_said(source):
    class Forgot(AlnairJobDataset):
        def __init__(self):
            self.x = 1

    with pytest.raises(AttributeError, match=r"call super\(\).__init__\(keys\) first"):
        Forgot().data  # noqa: B018


# Reading.


def test_load_takes_handles_and_keys_and_gives_bytes(source):
    dataset = AlnairJobDataset(source=source)
    handle = dataset.data[KEYS[5]]
    assert dataset.load(handle) == dataset.load(KEYS[5]) == content_of(KEYS[5])
    assert type(dataset.load(handle)) is bytes
    with pytest.raises(alnair.NotFoundError, match="the dataset has no object 'nothing'"):
        dataset.load("nothing")
    with pytest.raises(TypeError, match="takes a handle or a key, not float"):
        dataset.load(1.5)


def test_a_load_that_a_subclass_overrides_is_called(source):
    class Upper(AlnairJobDataset):
        def load(self, key):
            return super().load(key).upper()

    class Cats(Pets, Upper):
        pass

    assert Upper(source=source).get_data(3) == content_of(KEYS[3]).upper()
    assert Cats(source=source).get_data(3) == content_of([key for key in KEYS if "/cat/" in key][3]).upper()


def test_mload_reads_windows_handles_and_keys_in_their_order(source):
    dataset = AlnairJobDataset(source=source)
    assert dataset.mload(dataset.chunks[0]) == [content_of(key) for key in KEYS]
    assert dataset.mload([dataset.data[KEYS[3]], KEYS[1]]) == [content_of(KEYS[3]), content_of(KEYS[1])]
    with pytest.raises(KeyError, match="nothing"):
        dataset.mload(["nothing"])
    for one in KEYS[0], dataset.data[KEYS[0]], b"abc":
        with pytest.raises(TypeError, match=r"^mload\(\) takes a window, or several handles or keys, not one (str|Handle|bytes)$"):
            dataset.mload(one)


def test_a_handle_knows_its_key_and_size_and_reads_itself_when_used(source):
    handle = AlnairJobDataset(source=source).data[KEYS[9]]
    assert (handle.key, handle.size) == (KEYS[9], len(content_of(KEYS[9])))
    assert bytes(handle) == io.BytesIO(handle).read() == content_of(KEYS[9])
    assert repr(handle) == f"<alnair.Handle {KEYS[9]!r}>"


def test_handles_are_equal_when_they_are_of_the_same_object(source):
    data = AlnairJobDataset(source=source).data
    assert data[KEYS[1]] == data[1] != data[2]
    assert len({data[KEYS[1]], data[1], data[2]}) == 2


def test_a_batch_calls_getitem_for_each_index_with_the_objects_at_hand(source, folder):
    class Removing(AlnairJobDataset):
        def __getitem__(self, index):
            for path in folder.rglob("*.txt"):
                path.unlink()  # what is read now was fetched before
            return super().__getitem__(index)

    dataset = Removing(source=source, usecache=False)
    assert dataset.__getitems__([4, 2, 4]) == [(content_of(KEYS[i]), KEYS[i]) for i in (4, 2, 4)]


def test_an_object_that_cannot_be_read_fails_its_own_sample_only(source, folder):
    class Forgiving(AlnairJobDataset):
        def __getitem__(self, index):
            try:
                return self.get_data(index)
            except alnair.Error as error:
                return error

    dataset = Forgiving(source=source)
    (folder / KEYS[2]).unlink()
    good, bad = dataset.__getitems__([1, 2])
    assert good == content_of(KEYS[1])
    assert isinstance(bad, (alnair.NotFoundError, alnair.ChangedError))
    assert KEYS[2] in str(bad)
    with pytest.raises(OSError, match=KEYS[2]):
        AlnairJobDataset.__getitem__(dataset, 2)


@LAZY
@pytest.mark.parametrize("index", [len(KEYS), -len(KEYS) - 1, 10**12])
def test_an_index_out_of_range_is_an_index_error_that_says_how_many_there_are(source, index, lazy):
    for dataset, count in (AlnairJobDataset(source=source, lazyloading=lazy), 40), (Pets(source=source, lazyloading=lazy), 20):
        for read in (dataset.get_data, dataset.__getitem__, lambda i: dataset.__getitems__([i])):
            with pytest.raises(IndexError, match=f"index {index} is out of range: the dataset has {count}"):
                read(index)
        with pytest.raises(alnair.OutOfRangeError):
            dataset.get_target(index)


def test_any_kind_of_integer_is_an_index(source):
    dataset = AlnairJobDataset(source=source)
    assert dataset[numpy.int64(3)] == dataset[3] == dataset.__getitems__([numpy.uint8(3)])[0]
    with pytest.raises(TypeError):
        dataset[1.0]


# Keys, data, windows.


def test_keys_are_a_list_in_all_but_memory(source):
    keys = AlnairJobDataset(source=source).keys
    assert keys == KEYS
    assert list(keys) == sorted(keys) == KEYS
    assert (keys[0], keys[-1], keys[2:5], keys[::-7]) == (KEYS[0], KEYS[-1], KEYS[2:5], KEYS[::-7])
    assert KEYS[3] in keys
    assert "nothing" not in keys
    assert 3 not in keys
    assert keys.index(KEYS[3]) == 3
    assert keys + ["x"] == KEYS + ["x"]
    assert repr(keys) == f"<40 keys: {KEYS[0]!r}, {KEYS[1]!r}, {KEYS[2]!r}, ...>"
    with pytest.raises(ValueError, match="is not in the list of keys"):
        keys.index("nothing")
    with pytest.raises(IndexError):
        keys[40]


@LAZY
def test_data_is_a_mapping_before_convert(source, lazy):
    data = AlnairJobDataset(source=source, lazyloading=lazy).data
    assert len(data) == len(KEYS)
    assert list(data) == list(data.keys()) == KEYS
    assert [bytes(value) for value in data.values()] == [content_of(key) for key in KEYS]
    assert [(key, bytes(value)) for key, value in data.items()] == [(key, content_of(key)) for key in KEYS]
    assert list(reversed(data)) == KEYS[::-1]
    assert KEYS[0] in data
    assert data.get("nothing") is None
    with pytest.raises(KeyError, match="nothing"):
        data["nothing"]


def test_keys_keep_any_name_that_a_file_system_has(tmp_path):
    names = [b"a b+%20.bin", "ü/\N{SNOWMAN}.bin".encode(), b"quote'\".bin", b"latin-\xe9.bin"]
    for name in names:
        path = str(tmp_path / "odd").encode() + b"/" + name
        import os

        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name)
    dataset = AlnairJobDataset(source=f"file://{tmp_path}/odd")
    assert {content for content, _ in dataset} == set(names)
    assert [key.encode("utf-8", "surrogateescape") for key in dataset.keys] == sorted(names)
    for key in dataset.keys:
        assert dataset.load(key) == key.encode("utf-8", "surrogateescape")


def test_keys_narrow_the_source(source):
    train_dogs = [key for key in KEYS if key.startswith("train/dog/")]
    assert AlnairJobDataset(["train/dog"], source=source).keys == train_dogs
    assert AlnairJobDataset(("train/dog/", "train/dog/001.txt"), source=source).keys == train_dogs
    assert AlnairJobDataset(["train/dog/00*"], source=source).keys == train_dogs
    assert AlnairJobDataset(["train/dog/001.txt"], source=source).keys == ["train/dog/001.txt"]


def test_without_lazy_loading_and_with_a_limit_there_are_windows(source, tmp_path):
    keys = [f"{i}.bin" for i in range(5)]
    for key in keys:
        (tmp_path / "large").mkdir(exist_ok=True)
        (tmp_path / "large" / key).write_bytes(key.encode() * 100_000)  # 500 kB
    dataset = AlnairJobDataset(source=f"file://{tmp_path}/large", lazyloading=False, maxmemory=1)
    assert [[item["name"] for item in window] for window in dataset.chunks] == [keys[0:2], keys[2:4], keys[4:5]]
    assert [item["size"] for item in dataset.chunks[1]] == [500_000] * 2
    assert dataset.load(dataset.chunks[2][0]["key"]) == keys[4].encode() * 100_000
    seen = []
    for window in range(len(dataset.chunks)):
        dataset.load_data(window)
        assert len(dataset) == len(dataset.chunks[window])
        assert dataset.keys == [item["name"] for item in dataset.chunks[window]]
        seen += [target for _, target in dataset]
    assert seen == keys
    with pytest.raises(IndexError, match="index 3 is out of range: the list of windows has 3"):
        dataset.load_data(3)
    assert len(AlnairJobDataset(source=f"file://{tmp_path}/large", maxmemory=1).chunks) == 1  # lazy
    assert len(AlnairJobDataset(source=f"file://{tmp_path}/large", lazyloading=False).chunks) == 1


def test_an_object_larger_than_maxmemory_is_an_error_that_names_it(tmp_path):
    write_objects(tmp_path / "large", ["small.txt"])
    (tmp_path / "large" / "huge.bin").write_bytes(bytes(1_500_000))
    source = f"file://{tmp_path}/large"
    message = r"the object 'huge.bin' has 1500000 bytes, more than maxmemory \(1 MiB\); raise maxmemory, or use lazyloading=True"
    with pytest.raises(alnair.ConfigError, match=message):
        AlnairJobDataset(source=source, lazyloading=False, maxmemory=1)
    assert len(AlnairJobDataset(source=source, maxmemory=1)) == 2


def test_an_object_may_be_empty(tmp_path):
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "nothing.txt").touch()
    dataset = AlnairJobDataset(source=f"file://{tmp_path}/objects")
    assert dataset[0] == (b"", "nothing.txt")
    view = dataset.load("nothing.txt", view=True)
    assert len(view) == 0
    assert memoryview(view).nbytes == 0


def test_the_version_is_that_of_the_contents_list(source, folder):
    first = AlnairJobDataset(source=source).version
    assert first == AlnairJobDataset(source=source).version
    assert first != AlnairJobDataset(["train"], source=source).version
    (folder / "new.txt").write_bytes(b"new")
    assert AlnairJobDataset(source=source).version != first


def test_attributes_of_the_k_v_store_are_there(source):
    dataset = AlnairJobDataset(source=source, maxmemory=5)
    assert dataset.qos == {"UseCache": True, "MaxMemory": 5, "DurabilityInDisk": 1440, "LazyLoading": True}
    assert dataset.jobname is None
