"""What stands in for objects that cannot be read."""

import pickle

import alnair
import pytest
from alnair import AlnairJobDataset
from conftest import KEYS, content_of

GONE = KEYS[3]
EXPECTED = [(b"instead of " + key.encode() if key == GONE else content_of(key), key) for key in KEYS]


def instead(key, error):
    assert isinstance(error, (alnair.ChangedError, alnair.NotFoundError)), error
    assert key in str(error)
    return b"instead of " + key.encode()


def opened(folder, **arguments):
    dataset = AlnairJobDataset(source=f"file://{folder}", **arguments)
    (folder / GONE).unlink()
    return dataset


@pytest.mark.parametrize("arguments", [{}, {"on_error": "raise"}], ids=["by default", "raise"])
def test_an_object_that_cannot_be_read_raises_unless_something_stands_in_for_it(folder, arguments):
    dataset = opened(folder, **arguments)
    for read in (lambda: dataset[3], lambda: dataset.__getitems__([3]), lambda: dataset.mload([GONE])):
        with pytest.raises(OSError, match=GONE):
            read()


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "eager"])
def test_it_stands_in_wherever_the_object_is_read(folder, lazy):
    dataset = opened(folder, on_error=instead, lazyloading=lazy)
    assert len(dataset) == len(KEYS)
    assert list(dataset) == dataset.__getitems__(range(len(KEYS))) == EXPECTED
    assert dataset.load(GONE) == dataset.mload([GONE])[0] == bytes(dataset.chunks[0][3]["key"]) == EXPECTED[3][0]
    assert bytes(dataset.load(GONE, view=True)) == bytes(memoryview(dataset.data[GONE])) == EXPECTED[3][0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy[3] == EXPECTED[3]
    with pytest.raises(OSError, match=GONE):
        dataset.read(GONE, 0, 2)


@pytest.mark.parametrize("workers", ["none", "fork", "spawn"])
def test_it_stands_in_for_samples_of_a_loader(folder, workers):
    pytest.importorskip("torch")
    dataset = opened(folder, on_error=instead)
    arguments = {} if workers == "none" else {"num_workers": 1, "multiprocessing_context": workers}
    loader = alnair.AlnairJobDataLoader(dataset, batch_size=15, collate_fn=list, **arguments)
    assert [sample for batch in loader for sample in batch] == EXPECTED


def test_it_stands_in_within_windows(tmp_path):
    for name in "abc":
        (tmp_path / "large").mkdir(exist_ok=True)
        (tmp_path / "large" / name).write_bytes(name.encode() * 700_000)
    dataset = AlnairJobDataset(source=f"file://{tmp_path}/large", lazyloading=False, maxmemory=1, on_error=instead)
    (tmp_path / "large" / "b").unlink()
    seen = []
    for window in range(len(dataset.chunks)):
        dataset.load_data(window)
        seen += [content[:12] for content, _ in dataset]
    assert seen == [b"a" * 12, b"instead of b", b"c" * 12]


def test_what_it_must_be_and_return_is_said(folder, monkeypatch):
    for wrong in (5, "ignore"):
        with pytest.raises(alnair.ConfigError, match=r'on_error: expected "raise" or a callable \(key, error\) -> bytes, not'):
            AlnairJobDataset(source=f"file://{folder}", on_error=wrong)
    monkeypatch.setenv("ALNAIR_ON_ERROR", "raise")
    dataset = opened(folder, on_error=lambda key, error: None)
    with pytest.raises(TypeError, match=f"on_error must return bytes, not NoneType .for '{GONE}'"):
        dataset[3]


def test_what_it_raises_is_raised(folder):
    def fails(key, error):
        raise ZeroDivisionError(key)

    with pytest.raises(ZeroDivisionError, match=GONE):
        opened(folder, on_error=fails)[3]


def test_wrong_configuration_is_not_stood_in_for(s3, monkeypatch):
    dataset = AlnairJobDataset(source="s3://pets", on_error=instead)
    pickled = pickle.dumps(dataset)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(alnair.ConfigError, match="AWS_ACCESS_KEY_ID"):
        pickle.loads(pickled)[3]
