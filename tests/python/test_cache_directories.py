"""Whatever becomes of the cache's directories, samples are right, or an error says what is wrong."""

import contextlib
import os
import pickle
import shutil
import subprocess

import alnair
import pytest
from alnair import AlnairJobDataset
from conftest import KEYS, content_of

EXPECTED = [(content_of(key), key) for key in KEYS]


def test_missing_directories_are_made_for_their_owner_only(source, tmp_path):
    dataset = AlnairJobDataset(source=source, cache_dir=tmp_path / "a" / "b", memory_dir=tmp_path / "c" / "d")
    assert list(dataset) == EXPECTED
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "c" / "d").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("which", ["cache_dir", "memory_dir"])
def test_a_directory_that_is_deleted_meanwhile(source, tmp_path, which):
    dataset = AlnairJobDataset(source=source, **{which: tmp_path / "here"})
    assert list(dataset) == EXPECTED
    shutil.rmtree(tmp_path / "here")
    assert list(dataset) == EXPECTED
    assert list(AlnairJobDataset(source=source, **{which: tmp_path / "here"})) == EXPECTED


@pytest.mark.parametrize("which", ["cache_dir", "memory_dir"])
@pytest.mark.parametrize("what", ["a link", "a stranger's"])
def test_a_directory_that_somebody_else_could_control_is_refused(source, tmp_path, which, what):
    path = theirs = tmp_path / "theirs"
    theirs.mkdir()
    reason = f"belongs to user 12345, not to this process's user {os.geteuid()}"
    if what == "a link":
        path = tmp_path / "link"
        path.symlink_to(theirs)
        reason = "is a symbolic link; name the directory itself"
    elif os.geteuid() == 0:
        os.chown(theirs, 12345, 12345)
    else:
        pytest.skip("only root can give a directory away")
    with pytest.raises(alnair.CacheError, match=f"^the cache directory {path} {reason}$"):
        AlnairJobDataset(source=source, **{which: path})
    assert os.listdir(theirs) == []


@pytest.mark.parametrize("which", ["cache_dir", "memory_dir"])
def test_a_file_in_the_place_of_a_directory_is_named(source, tmp_path, which):
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(alnair.CacheError, match=f"^the cache directory {tmp_path / 'file'} is not a directory$"):
        AlnairJobDataset(source=source, **{which: tmp_path / "file"})
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_a_catalog_that_cannot_be_opened_is_done_without(source, tmp_path, caplog):
    (tmp_path / "cache" / "catalog.sqlite").mkdir(parents=True)
    (tmp_path / "cache").chmod(0o700)
    assert list(AlnairJobDataset(source=source)) == EXPECTED
    assert "the manifest could not be kept: The catalog" in caplog.text
    with pytest.raises(alnair.CacheError, match="fails while a dataset is looked up"):
        AlnairJobDataset(source=source, refresh="never")


@pytest.fixture
def full_disk(tmp_path):
    """A file system without a free byte."""
    where = tmp_path / "full"
    where.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "full", where], capture_output=True).returncode != 0:
        pytest.skip("nothing may be mounted here")
    try:
        (where / "cache").mkdir(mode=0o700)
        with contextlib.suppress(OSError), open(where / "fill", "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


@pytest.mark.parametrize("which", ["cache_dir", "memory_dir"])
def test_a_disk_without_a_free_byte_costs_no_sample(source, full_disk, which):
    dataset = AlnairJobDataset(source=source, **{which: full_disk / "cache"})
    assert list(dataset) == EXPECTED
    assert list(dataset) == EXPECTED


def test_a_spawned_worker_reads_though_no_manifest_could_be_kept(source, folder):
    def forget_everything():
        for path in os.environ["ALNAIR_CACHE_DIR"], os.environ["ALNAIR_MEMORY_DIR"]:
            shutil.rmtree(path, ignore_errors=True)

    dataset = AlnairJobDataset(source=source)
    pickled = pickle.dumps(dataset)
    forget_everything()
    assert list(pickle.loads(pickled)) == EXPECTED
    (folder / "new.txt").write_bytes(b"new")
    forget_everything()
    with pytest.raises(alnair.ChangedError, match=f"has changed: it is at version .* now, and {dataset.version}"):
        list(pickle.loads(pickled))
