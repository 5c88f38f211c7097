"""The shared directory, as a dataset's user sees it."""

import array
import shutil
import time

import alnair
import pytest
from alnair import AlnairJobDataset
from conftest import KEYS, content_of

EXPECTED = [(content_of(key), key) for key in KEYS]


def flush(dataset):
    dataset._alnair.source.core.flush()


@pytest.mark.parametrize("form", ["text", "path", "list"])
def test_what_a_node_has_lost_comes_from_the_shared_directory(source, folder, tmp_path, form):
    paths = [tmp_path / "nfs", tmp_path / "nfs2"]
    spill = {"text": f"{paths[0]}, {paths[1]}", "path": paths[0], "list": [str(paths[0]), paths[1]]}[form]
    dataset = AlnairJobDataset(source=source, spill=spill, spill_mode="2770", spill_limit="64MiB")
    assert list(dataset) == EXPECTED
    flush(dataset)
    assert (paths[0] / "alnair" / "default").stat().st_mode & 0o7777 == 0o2770

    # The node knows what the objects hold, and has nothing of it any more; nor has the source.
    shutil.rmtree(tmp_path / "cache" / "chunks")
    for key in KEYS:
        (folder / key).unlink()
    before = alnair.stats()
    again = AlnairJobDataset(
        source=source, spill=spill, version=dataset.version, memory_dir=tmp_path / "memory", spill_limit="64MiB"
    )
    assert list(again) == EXPECTED
    now = alnair.stats()
    assert now["spill_hits"] - before["spill_hits"] == len({content_of(key) for key in KEYS})
    assert now["source_hits"] == before["source_hits"]


def test_it_may_be_named_in_the_environment(source, tmp_path, monkeypatch):
    monkeypatch.setenv("ALNAIR_SPILL", str(tmp_path / "nfs"))
    monkeypatch.setenv("ALNAIR_SPILL_MODE", "0750")
    monkeypatch.setenv("ALNAIR_SPILL_LIMIT", "64MiB")
    dataset = AlnairJobDataset(source=source)
    assert list(dataset) == EXPECTED
    flush(dataset)
    assert list((tmp_path / "nfs" / "alnair" / "default" / "v1").glob("*.segment"))
    assert (tmp_path / "nfs").stat().st_mode & 0o7777 == 0o750


def test_a_job_names_its_chunks_there_for_as_long_as_it_asks(source, tmp_path):
    spill = tmp_path / "nfs"
    dataset = AlnairJobDataset(source=source, spill=spill, spill_limit="64MiB", durabilityindisk=90)
    assert list(dataset) == EXPECTED
    flush(dataset)
    del dataset
    deadline = time.monotonic() + 60
    while len(names := list(spill.rglob("*.names"))) != 1 or names[0].name.count("-") != 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    words = array.array("Q", names[0].read_bytes())
    assert (words[2], words[3]) == (90 * 60, len({content_of(key) for key in KEYS}))


def test_without_a_cache_nothing_is_kept_in_it(source, tmp_path):
    dataset = AlnairJobDataset(source=source, spill=tmp_path / "nfs", usecache=False)
    assert list(dataset) == EXPECTED
    flush(dataset)
    assert not (tmp_path / "nfs").exists()


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("spill", "nfs", "spill: expected one or several absolute directories, not 'nfs'"),
        ("spill", [], "spill: expected one or several absolute directories, not an empty list"),
        ("spill", 5, "spill: expected one or several absolute directories, not 5 (int)"),
        ("spill_mode", "rwx", "spill_mode: expected an octal mode that gives the owner all, such as 0700 or 2770, not 'rwx'"),
        (
            "spill_mode",
            2770,
            "spill_mode: expected an octal mode that gives the owner all, such as 0700 or 2770 (as a number 0o2770), not 2770",
        ),
    ],
)
def test_malformed_options_are_named(source, argument, value, message):
    with pytest.raises(alnair.ConfigError) as error:
        AlnairJobDataset(source=source, **{argument: value})
    assert str(error.value) == message


def test_a_directory_that_is_not_mounted_is_named(source, tmp_path):
    with pytest.raises(alnair.ConfigError, match=f"^spill: there is no directory {tmp_path}/mnt/alnair, nor one to make it in"):
        AlnairJobDataset(source=source, spill=tmp_path / "mnt" / "alnair")


def test_a_directory_that_disappears_costs_no_sample(source, tmp_path):
    dataset = AlnairJobDataset(source=source, spill=tmp_path / "nfs", spill_limit="64MiB")
    assert list(dataset)[:10] == EXPECTED[:10]
    shutil.rmtree(tmp_path / "nfs")
    assert list(dataset) == EXPECTED
    assert list(AlnairJobDataset(source=source, spill=tmp_path / "nfs", memory_dir=tmp_path / "memory")) == EXPECTED
