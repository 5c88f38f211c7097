"""Lists that __convert__ returns: packed where that is possible, and lists in all but that."""

import collections
import copy
import os
import pickle
from pathlib import Path

import alnair
import numpy
import pytest
from alnair import AlnairJobDataset
from alnair._packed import Handles, Keys, Values
from conftest import KEYS, content_of


class Returns(AlnairJobDataset):
    """Its __convert__ returns what `make` makes of the dataset."""

    def __init__(self, make, **arguments):
        super().__init__(**arguments)
        self.make = make

    def __convert__(self):
        return self.make(self)


LISTS = {
    "int": [5, -3, 2**63 - 1, 0, 5],
    "consecutive": list(range(7, 30)),
    "float": [0.5, -1.25, float("inf"), 0.5],
}


def targets_of(source, values):
    dataset = Returns(lambda d: (list(d.data.values()), values), source=source)
    return dataset.targets


@pytest.mark.parametrize("name", LISTS)
def test_numbers_are_a_list_in_all_but_memory(source, name):
    values = LISTS[name]
    packed = targets_of(source, values)
    assert type(packed) is Values
    assert packed == values
    assert values == packed
    assert not packed != values
    assert packed != values[:-1]
    assert packed != values[:-1] + [values[-1] - 1]
    assert packed != "text"
    assert len(packed) == len(values)
    assert list(packed) == values
    assert list(reversed(packed)) == values[::-1]
    assert sorted(packed) == sorted(values)
    assert (packed[0], packed[-1], packed[numpy.int64(1)]) == (values[0], values[-1], values[1])
    for part in slice(1, 3), slice(None, None, -2), slice(-2, None), slice(9, 2):
        assert packed[part] == values[part]
        assert type(packed[part]) is list
    for wrong in len(values), -len(values) - 1:
        with pytest.raises(IndexError, match=f"index {wrong} is out of range: the list has {len(values)}"):
            packed[wrong]
    assert values[1] in packed
    assert 4.5 not in packed
    assert packed.count(values[0]) == values.count(values[0])
    assert packed.index(values[0], 1 if values.count(values[0]) > 1 else 0) == (values * 2).index(values[0], 1) % len(values)
    with pytest.raises(ValueError, match="is not in the list"):
        packed.index(4.5)
    assert packed + [1] == values + [1]
    assert [1] + packed == [1] + values
    assert packed * 2 == 2 * packed == values * 2
    assert collections.Counter(packed) == collections.Counter(values)
    assert [type(item) for item in packed] == [type(item) for item in values]
    assert type(packed.copy()) is list
    assert type(copy.copy(packed)) is list
    assert packed.copy() == copy.copy(packed) == copy.deepcopy(packed) == values
    assert pickle.loads(pickle.dumps(packed)) == values
    assert repr(packed).startswith(f"<{len(values)} values: {values[0]!r}, ")


@pytest.mark.parametrize("name", LISTS)
def test_numpy_makes_of_numbers_what_it_makes_of_a_list(source, name):
    packed, expected = targets_of(source, LISTS[name]), numpy.asarray(LISTS[name])
    for made in numpy.asarray(packed), numpy.array(packed):
        assert made.dtype == expected.dtype
        assert made.flags.writeable
        assert (made == expected).all()
    assert numpy.asarray(packed, dtype=numpy.float32).dtype == numpy.float32
    assert (packed == expected).all()
    assert numpy.unique(packed).tolist() == numpy.unique(expected).tolist()


@pytest.mark.parametrize("name", LISTS)
def test_torch_makes_of_numbers_what_it_makes_of_a_list(source, name):
    torch = pytest.importorskip("torch")
    packed, expected = targets_of(source, LISTS[name]), torch.tensor(LISTS[name])
    for made in torch.tensor(packed), torch.as_tensor(packed):
        assert made.dtype == expected.dtype
        assert torch.equal(made, expected)


@pytest.mark.parametrize(
    "values",
    [
        [True, False],
        [None, 1],
        [1, 2.0],
        [2**63],
        [numpy.int64(1), numpy.int64(2)],
        (1, 2),
        [],
        ["cat", "dog"],
        [KEYS[0], "cat"],
        [[1], [2]],
        numpy.arange(3),
        {"a": 1},
        range(3),
        None,
    ],
    ids=repr,
)
def test_everything_else_is_kept_as_it_is(source, values):
    assert targets_of(source, values) is values


def test_handles_are_packed(source):
    chosen = [KEYS[5], KEYS[2], KEYS[2]]
    dataset = Returns(lambda d: ([d.data[key] for key in chosen], None), source=source)
    data = dataset.data
    assert type(data) is Handles
    assert [handle.key for handle in data] == chosen
    assert isinstance(data[0], alnair.Handle)
    assert data[1] == data[-1] == dataset._alnair.data[2]
    assert [handle.key for handle in data[:2]] == chosen[:2]
    assert data.index(data[1]) == 1
    assert data.count(data[1]) == 2
    assert dataset[0][0] == content_of(KEYS[5])


def test_keys_are_packed(source):
    chosen = [KEYS[5], KEYS[2], KEYS[2]]
    dataset = Returns(lambda d: (chosen, chosen), source=source)
    assert type(dataset.data) is type(dataset.targets) is Keys
    assert dataset.data == chosen
    assert dataset.targets.index(KEYS[2]) == 1
    assert dataset.targets.index(KEYS[2], 2) == 2
    assert KEYS[5] in dataset.targets
    assert KEYS[6] not in dataset.targets
    assert [dataset[i] for i in range(3)] == [(content_of(key), key) for key in chosen]
    assert dataset.__getitems__([2, 0]) == [(content_of(KEYS[2]), KEYS[2]), (content_of(KEYS[5]), KEYS[5])]


def test_keys_of_another_window_or_dataset_are_texts_of_their_own(source):
    other = AlnairJobDataset(["train"], source=source)
    dataset = Returns(lambda d: (list(d.data.values()), KEYS[20:] + KEYS[:20]), keys=["train"], source=source)
    assert other.keys == KEYS[20:]
    assert type(dataset.targets) is list  # half of them are not in the dataset


# Pickles.


class Scattered(AlnairJobDataset):
    converted = 0

    def __convert__(self):
        Scattered.converted += 1
        keys = list(self.keys)[::-2]
        return [self.data[key] for key in keys], [len(self.load(key)) for key in keys]


@pytest.fixture
def many(tmp_path):
    (tmp_path / "many").mkdir()
    for number in range(2000):
        (tmp_path / "many" / f"{number:04d}").write_bytes(b"x" * (number % 7))
    return f"file://{tmp_path}/many"


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "eager"])
def test_a_dataset_with_packed_lists_pickles_small_and_does_not_convert_again(many, lazy):
    dataset = Scattered(source=many, lazyloading=lazy)
    expected = [dataset[i] for i in range(len(dataset))]
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 1000
    Scattered.converted = 0
    copy = pickle.loads(pickled)
    again = pickle.dumps(copy)  # before it is used
    assert [copy[i] for i in range(len(copy))] == expected
    assert copy.targets == dataset.targets
    assert pickle.loads(again)[5] == pickle.loads(pickle.dumps(copy))[5] == expected[5]
    assert Scattered.converted == 0


def test_a_pickle_that_outlived_its_files_converts_again(many):
    dataset = Scattered(source=many)
    expected, pickled = list(dataset.targets), pickle.dumps(dataset)
    removed = [file.unlink() for file in Path(os.environ["ALNAIR_MEMORY_DIR"], "shared").glob("list-*")]
    assert removed
    Scattered.converted = 0
    copy = pickle.loads(pickled)
    assert copy.targets == expected
    assert Scattered.converted == 1


def test_without_node_memory_the_numbers_are_in_the_pickle(many, tmp_path):
    (tmp_path / "file").touch()
    dataset = Scattered(source=many, memory_dir=str(tmp_path / "file" / "memory"))
    expected = list(dataset.targets)
    Scattered.converted = 0
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.targets == expected
    assert copy[3] == dataset[3]
    assert Scattered.converted == 0
