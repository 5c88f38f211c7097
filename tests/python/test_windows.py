"""Datasets that are loaded window by window (lazyloading=False with maxmemory), and loaders over them."""

import collections
import gc
import logging
import os
import pickle
import random
import time
import weakref

import alnair
import pytest
from alnair import AlnairJobDataset
from alnair._windows import cut_windows

torch = pytest.importorskip("torch")
from alnair import AlnairJobDataLoader  # noqa: E402
from torch.utils import data  # noqa: E402
from torch.utils.data.distributed import DistributedSampler  # noqa: E402


def key_of(number):
    return f"{number:03d}"


@pytest.fixture
def large(tmp_path):
    """Makes a source of objects of these sizes, each of which begins with its key."""

    def make(*sizes):
        folder = tmp_path / "large"
        folder.mkdir()
        for number, size in enumerate(sizes):
            (folder / key_of(number)).write_bytes(key_of(number).encode())
            os.truncate(folder / key_of(number), size)
        return f"file://{folder}"

    return make


# Three windows under 1 MiB: 000-002, 003-005, 006.
SIZES = [300_000, 400_000, 300_000, 500_000, 400_000, 100_000, 700_000]
WINDOWS = [["000", "001", "002"], ["003", "004", "005"], ["006"]]
KEYS = [key_of(number) for number in range(len(SIZES))]


class Keyed(AlnairJobDataset):
    """Samples are keys, found in the bytes."""

    def __getitem__(self, index):
        return self.get_data(index)[:3].decode()


class Converting(AlnairJobDataset):
    """Leaves out every third key, and keeps the rest in reverse."""

    def __convert__(self):
        keys = [key for key in self.keys if int(key) % 3][::-1]
        return [self.data[key] for key in keys], [int(key) for key in keys]

    def __getitem__(self, index):
        assert self.get_data(index)[:3].decode() == key_of(self.get_target(index))
        return key_of(self.get_target(index))


class Wherefrom(Keyed):
    """Samples that say which process read them."""

    def __getitem__(self, index):
        return super().__getitem__(index), os.getpid()


def windowed(kind, source, **arguments):
    return kind(source=source, lazyloading=False, maxmemory=1, **arguments)


# Cutting.


@pytest.mark.parametrize("seed", range(20))
def test_windows_are_contiguous_full_and_within_the_limit(seed):
    choose = random.Random(seed)
    limit = choose.randrange(1, 100)
    sizes = [choose.randrange(limit + 1) for _ in range(choose.randrange(60))]
    ranges = cut_windows(sizes, limit)
    assert [index for start, stop in ranges for index in range(start, stop)] == list(range(len(sizes)))
    assert all(sum(sizes[start:stop]) <= limit for start, stop in ranges)
    for (start, stop), (_, following) in zip(ranges, ranges[1:]):
        assert stop < following or following == len(sizes)
        assert sum(sizes[start:stop]) + sizes[stop] > limit  # the next object would not have fitted


def test_keys_are_the_windows_and_that_is_said_once(large, caplog):
    dataset = windowed(AlnairJobDataset, large(*SIZES))
    with caplog.at_level(logging.WARNING, "alnair"):
        dataset[0]
        assert caplog.messages == []
        for _ in range(2):
            assert dataset.keys == WINDOWS[0]
    said = "dataset.keys has the 3 keys of the current window, one of 3; dataset.all_keys has all 7"
    assert caplog.messages == [said]
    assert dataset.all_keys == KEYS
    dataset.load_data(2)
    assert dataset.keys == ["006"]
    assert dataset.all_keys == KEYS


def test_nothing_is_said_of_one_window(large, caplog):
    with caplog.at_level(logging.WARNING, "alnair"):
        assert AlnairJobDataset(source=large(*SIZES), maxmemory=1).keys == KEYS  # lazy: maxmemory neither limits nor rejects
    assert caplog.messages == []


# Loaders.


def epochs(loader, count=3):
    return [[sample for batch in loader for sample in batch] for _ in range(count)]


@pytest.mark.parametrize("arguments", [{}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}], ids=str)
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("kind", [Keyed, Converting])
def test_an_epoch_reads_every_sample_once_window_by_window(large, kind, shuffle, arguments):
    dataset = windowed(kind, large(*SIZES))
    expected = [[key for key in keys if kind is Keyed or int(key) % 3] for keys in WINDOWS]
    torch.manual_seed(4)
    seen = epochs(AlnairJobDataLoader(dataset, batch_size=2, shuffle=shuffle, collate_fn=list, **arguments))
    for samples in seen:
        assert collections.Counter(samples) == collections.Counter(sum(expected, []))
        part = {key: place for place, keys in enumerate(expected) for key in keys}
        parts = [part[key] for key in samples]
        changes = sum(a != b for a, b in zip(parts, parts[1:]))
        assert changes == sum(map(bool, expected)) - 1  # each window in one go
    if not shuffle and kind is Keyed:
        assert seen == [KEYS] * 3
    if shuffle and kind is Keyed:
        assert len({tuple(samples) for samples in seen}) > 1


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_window_of_which_convert_leaves_nothing_is_passed_over(large, shuffle):
    dataset = windowed(Converting, large(700_000, 400_000, 300_000, 700_000))
    assert [len(window) for window in dataset.chunks] == [1, 2, 1]
    for window in 0, 2:  # of these it leaves nothing
        dataset.load_data(window)
        loader = AlnairJobDataLoader(dataset, 2, shuffle, collate_fn=list)
        assert [sorted(batch) for batch in loader] == [["001", "002"]]
    with pytest.raises(TypeError):
        len(AlnairJobDataLoader(windowed(Converting, dataset._alnair.source.config.source), shuffle=shuffle))


@pytest.mark.parametrize("batch_size", [None, 1, 3, 100])
@pytest.mark.parametrize("workers", [0, 1])
def test_any_batch_size_reads_every_sample_once(large, batch_size, workers):
    dataset = windowed(Keyed, large(*SIZES))
    collate = {} if batch_size is None else {"collate_fn": list}
    arguments = {"num_workers": workers, "persistent_workers": workers > 0}
    loader = AlnairJobDataLoader(dataset, batch_size=batch_size, shuffle=True, **collate, **arguments)
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert sorted(batches if batch_size is None else sum(batches, [])) == KEYS


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_windows_reach_workers_however_they_are_started(large, method):
    dataset = windowed(Converting, large(*SIZES[:6]))
    loader = AlnairJobDataLoader(dataset, batch_size=2, num_workers=1, collate_fn=list, multiprocessing_context=method)
    assert epochs(loader, 1) == [["002", "001", "005", "004"]]


def test_persistent_workers_stay_while_the_windows_pass(large):
    dataset = windowed(Wherefrom, large(*SIZES))
    loader = AlnairJobDataLoader(dataset, batch_size=1, num_workers=2, persistent_workers=True, collate_fn=list)
    seen = epochs(loader, 2)
    assert [[key for key, _ in samples] for samples in seen] == [KEYS] * 2
    assert len({pid for samples in seen for _, pid in samples}) == 2


class Stateful(data.DataLoader):
    def state_dict(self):
        raise NotImplementedError


@pytest.mark.parametrize("workers", [0, 2])
def test_an_attached_loader_passes_through_windows_too(large, workers):
    dataset = windowed(Keyed, large(*SIZES))
    arguments = {"batch_size": 2, "shuffle": True, "num_workers": workers, "persistent_workers": workers > 0}
    read = []
    for loader in AlnairJobDataLoader(dataset, **arguments), alnair.attach(data.DataLoader(dataset, **arguments)):
        torch.manual_seed(5)
        read.append(([list(loader) for _ in range(2)], len(loader)))
    assert read[0] == read[1]
    assert sorted(key for batch in read[1][0][0] for key in batch) == KEYS
    with pytest.raises(alnair.ConfigError, match="a Stateful cannot pass through windows, in which it has no state; use lazyloading=True"):
        alnair.attach(Stateful(dataset))


def test_a_dropped_loader_ends_its_workers_at_once(large):
    loader = AlnairJobDataLoader(windowed(Wherefrom, large(*SIZES)), num_workers=1, persistent_workers=True, collate_fn=list)
    assert len(epochs(loader, 1)[0]) == len(KEYS)
    gone = weakref.ref(loader)
    gc.disable()
    try:
        del loader
        assert gone() is None
    finally:
        gc.enable()


def test_the_order_is_a_function_of_the_random_state(large):
    dataset = windowed(Keyed, large(*SIZES))

    def order(seed, generator=None):
        torch.manual_seed(seed)
        return epochs(AlnairJobDataLoader(dataset, batch_size=2, shuffle=True, collate_fn=list, generator=generator))

    assert order(1) == order(1)
    assert len({str(order(seed)) for seed in range(5)}) > 1
    assert order(1, torch.Generator().manual_seed(8)) == order(2, torch.Generator().manual_seed(8))


def test_the_length_of_the_loader_is_the_epochs(large):
    source = large(*SIZES)
    loader = AlnairJobDataLoader(windowed(Keyed, source), batch_size=2, collate_fn=list)
    assert len(loader) == len(list(loader)) == 5  # 3 + 3 + 1 samples
    assert len(AlnairJobDataLoader(windowed(Keyed, source), batch_size=2, drop_last=True)) == 2
    dataset = windowed(Converting, source)
    loader = AlnairJobDataLoader(dataset, batch_size=2, collate_fn=list)
    with pytest.raises(TypeError, match="known after its first epoch: __convert__ decides how many samples each of the 3 windows"):
        len(loader)
    assert len(list(loader)) == len(loader) == 2  # 2 + 2 + 0 samples
    assert len(dataset) == 0  # the last window's


def test_one_window_is_read_exactly_as_by_pytorch(large):
    source = large(*SIZES)
    dataset = Keyed(source=source, lazyloading=False, maxmemory=100)

    def trace(kind):
        torch.manual_seed(3)
        loader = kind(dataset, batch_size=2, shuffle=True, collate_fn=list)
        steps = [(batch, torch.get_rng_state().sum().item()) for _ in range(2) for batch in loader]
        return len(loader), steps

    assert trace(AlnairJobDataLoader) == trace(data.DataLoader)


# Several ranks.


def read_on_ranks(dataset, ranks, epoch, seed=0, batch_size=2, **arguments):
    batches = []
    for rank in range(ranks):
        sampler = DistributedSampler(dataset, ranks, rank, seed=seed, **arguments)
        sampler.set_epoch(epoch)
        batches.append(list(AlnairJobDataLoader(dataset, batch_size=batch_size, sampler=sampler, collate_fn=list)))
    return batches


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [Keyed, Converting])
def test_ranks_read_the_same_windows_and_equally_many_batches(large, kind, seed):
    choose = random.Random(seed)
    sizes = [choose.randrange(4, 400_000) for _ in range(24)]
    dataset = windowed(kind, large(*sizes))
    parts = [[item["name"] for item in window] for window in dataset.chunks]
    expected = [[key for key in keys if kind is Keyed or int(key) % 3] for keys in parts]
    for ranks in 2, 3:
        batches = read_on_ranks(dataset, ranks, epoch=seed)
        assert len({len(each) for each in batches}) == 1
        seen = collections.Counter(key for each in batches for batch in each for key in batch)
        assert set(seen) == set(sum(expected, []))
        # As with PyTorch's own sampler, the last samples of a window may be repeated, so that ranks get equally many.
        assert sum(seen.values()) == sum(-(-len(keys) // ranks) * ranks for keys in expected)
        order = [{place for place, keys in enumerate(expected) if set(step[0]) <= set(keys)} for step in zip(*batches)]
        assert all(len(places) == 1 for places in order)
        for step, places in zip(zip(*batches), order):  # all ranks are in the same window at every step
            assert all(set(batch) <= set(expected[next(iter(places))]) for batch in step)
        dropped = collections.Counter(
            key for each in read_on_ranks(dataset, ranks, seed, drop_last=True) for batch in each for key in batch
        )
        assert max(dropped.values(), default=1) == 1
        assert sum(dropped.values()) == sum(len(keys) // ranks * ranks for keys in expected)


def test_the_order_of_ranks_is_a_function_of_seed_and_epoch(large):
    dataset = windowed(Keyed, large(*SIZES))
    assert read_on_ranks(dataset, 2, 1) == read_on_ranks(dataset, 2, 1)
    assert len({str(read_on_ranks(dataset, 2, epoch)) for epoch in range(4)}) > 1
    assert len({str(read_on_ranks(dataset, 2, 0, seed)) for seed in range(4)}) > 1
    in_order = read_on_ranks(dataset, 2, 3, shuffle=False, batch_size=1)
    assert [batch for batches in zip(*in_order) for batch in batches] == [[key] for key in [*KEYS[:3], "000", *KEYS[3:6], "003", "006", "006"]]


# What is refused.


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("SubsetRandomSampler", lambda d: {"sampler": data.SubsetRandomSampler([0])}),
        ("RandomSampler", lambda d: {"sampler": data.RandomSampler(d, num_samples=2)}),
        ("RandomSampler", lambda d: {"sampler": data.RandomSampler(d, replacement=True)}),
        ("RandomSampler", lambda d: {"sampler": data.RandomSampler(range(2))}),
        ("list", lambda d: {"sampler": [0, 1]}),
        ("list", lambda d: {"batch_sampler": [[0], [1]]}),
    ],
)
def test_samplers_that_know_one_window_are_refused(large, name, arguments):
    dataset = windowed(Keyed, large(*SIZES))
    loader = AlnairJobDataLoader(dataset, **arguments(dataset))
    message = f"a dataset of 3 windows cannot be read in the order of a {name}; use lazyloading=True"
    for use in iter, len:
        with pytest.raises(alnair.ConfigError, match=message):
            use(loader)


def test_wrappers_of_windows_are_refused(large):
    dataset = windowed(Keyed, large(*SIZES))
    for wrapper in data.Subset(dataset, [0]), data.ConcatDataset([[1], data.Subset(dataset, [0])]):
        with pytest.raises(alnair.ConfigError, match="cannot be read of a dataset of windows.*use lazyloading=True"):
            iter(AlnairJobDataLoader(wrapper))


# Faults.


class Faulty(Keyed):
    def __getitem__(self, index):
        key = super().__getitem__(index)
        if key in ("001", "006"):
            raise ArithmeticError(key)
        return key


def outcomes(iterator):
    found = []
    while True:
        try:
            found += next(iterator)
        except StopIteration:
            return found
        except ArithmeticError as error:
            found.append(str(error)[-3:] if "\n" in str(error) else f"!{error}")


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_sample_raises_does_not_end_the_epoch(large, workers):
    source = large(*SIZES)

    def read(dataset, kind):
        iterator = iter(kind(dataset, batch_size=1, collate_fn=list, num_workers=workers))
        return [key if key in KEYS and key not in ("001", "006") else "fault" for key in outcomes(iterator)]

    expected = read(Faulty(source=source), data.DataLoader)
    assert expected.count("fault") == 2
    assert read(windowed(Faulty, source), AlnairJobDataLoader) == expected


def test_a_window_that_cannot_be_loaded_is_an_error_that_can_be_retried(large, tmp_path):
    dataset = windowed(Keyed, large(*SIZES), usecache=False)
    loader = AlnairJobDataLoader(dataset, batch_size=3, collate_fn=list, lookahead=0)
    iterator = iter(loader)
    assert next(iterator) == WINDOWS[0]
    moved = tmp_path / "large" / "004"
    status = moved.stat()
    moved.rename(tmp_path / "moved")
    for _ in range(2):
        with pytest.raises(alnair.Error, match="004"):
            next(iterator)
    (tmp_path / "moved").rename(moved)
    os.utime(moved, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert next(iterator) == WINDOWS[1]
    assert list(iterator) == [WINDOWS[2]]


def test_leaving_the_loop_leaves_a_dataset_that_can_be_read_again(large):
    dataset = windowed(Keyed, large(*SIZES))
    loader = AlnairJobDataLoader(dataset, batch_size=2, collate_fn=list)
    for batch in loader:
        if "003" in batch:
            break
    assert epochs(loader, 1) == [KEYS]
    assert [next(loader), next(loader)] == [["000", "001"], ["002"]]


# Fetching ahead.


def test_the_next_window_is_fetched_while_one_is_consumed(large):
    dataset = windowed(Keyed, large(*SIZES))
    core, calls = dataset._alnair.source.core, []

    class Recorder:
        def __len__(self):
            return len(core)

        def __getattr__(self, name):
            if not name.startswith("prefetch"):
                return getattr(core, name)

            def record(*arguments):
                calls.append((name[9:] or "order", *(list(a) if not isinstance(a, int) else a for a in arguments)))

            return record

    dataset._alnair.source._core = Recorder()
    iterator = iter(AlnairJobDataLoader(dataset, batch_size=2, collate_fn=list, lookahead=5))
    assert calls == [("order", [3, 4, 5], 5 << 20)]
    next(iterator), next(iterator)
    assert calls[1:] == [("advance", 1), ("advance", 3)]
    next(iterator)
    assert calls[3:] == [("order", [6], 5 << 20), ("advance", 0)]
    assert len(list(iterator)) == 2
    assert calls[5:] == [("advance", 1)]
    calls.clear()
    del iterator
    assert calls == [("cancel",)]
    calls.clear()
    next(iter(AlnairJobDataLoader(dataset, lookahead=0)))
    assert calls == []
    iterator = iter(AlnairJobDataLoader(dataset))
    next(iterator)
    calls.clear()
    del iterator
    assert calls == [("cancel",)]


def test_the_next_window_reaches_this_node_without_being_asked_for(large):
    dataset = windowed(Keyed, large(*SIZES))
    before = alnair.stats()["source_hits"]
    iterator = iter(AlnairJobDataLoader(dataset, batch_size=1, collate_fn=list))
    deadline = time.monotonic() + 60
    while alnair.stats()["source_hits"] - before < len(WINDOWS[0]) + len(WINDOWS[1]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert next(iterator) == ["000"]


def test_a_dataset_of_windows_pickles_at_its_window(large):
    dataset = windowed(Keyed, large(*SIZES))
    dataset.load_data(1)
    copy = pickle.loads(pickle.dumps(dataset))
    assert [copy[i] for i in range(len(copy))] == WINDOWS[1]
