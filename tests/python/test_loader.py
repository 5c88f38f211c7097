"""AlnairJobDataLoader against PyTorch's own DataLoader."""

import alnair
import pytest
from alnair import AlnairJobDataset
from conftest import KEYS, content_of

torch = pytest.importorskip("torch")
from alnair import AlnairJobDataLoader, _ahead, _order  # noqa: E402
from torch.utils import data  # noqa: E402
from torch.utils.data.distributed import DistributedSampler  # noqa: E402


class Unknown(data.Sampler):
    """A sampler that draws from the global generator as it goes."""

    def __init__(self, size):
        self.size = size

    def __iter__(self):
        for _ in range(self.size):
            yield int(torch.randint(self.size, ()).item())

    def __len__(self):
        return self.size


class UnknownRandom(data.RandomSampler):
    """A subclass may do anything."""

    def __iter__(self):
        return iter([int(i) for i in torch.randperm(len(self.data_source))])


WEIGHTS = [1.0 + i % 3 for i in range(len(KEYS))]
SAMPLERS = {
    "sequential": lambda d, g: {},
    "shuffle": lambda d, g: {"shuffle": True, "generator": g},
    "shuffle, dropping the last": lambda d, g: {"shuffle": True, "generator": g, "drop_last": True},
    "random with replacement": lambda d, g: {"sampler": data.RandomSampler(d, True, 50, generator=g)},
    "random, several rounds": lambda d, g: {"sampler": data.RandomSampler(d, num_samples=90, generator=g)},
    "random subset": lambda d, g: {"sampler": data.SubsetRandomSampler([1, 30, 5, 2, 2], generator=g)},
    "weighted": lambda d, g: {"sampler": data.WeightedRandomSampler(WEIGHTS, 50, generator=g)},
    "weighted without replacement": lambda d, g: {"sampler": data.WeightedRandomSampler(WEIGHTS, 30, False, generator=g)},
    "distributed": lambda d, g: {"sampler": DistributedSampler(d, 3, 1, seed=5)},
    "distributed without shuffle": lambda d, g: {"sampler": DistributedSampler(d, 3, 2, shuffle=False, drop_last=True)},
    "batch sampler": lambda d, g: {"batch_sampler": data.BatchSampler(data.RandomSampler(d, generator=g), 7, False)},
    "no batches": lambda d, g: {"batch_size": None, "shuffle": True, "generator": g},
    "a list": lambda d, g: {"sampler": [5, 4, 3, 3, 0]},
    "batches in a list": lambda d, g: {"batch_sampler": [[1, 2], [3], [9, 8, 7]]},
    "unknown": lambda d, g: {"sampler": Unknown(20)},
    "unknown subclass": lambda d, g: {"sampler": UnknownRandom(d)},
}


def trace_of(loader_class, dataset, sampler, generator, **arguments):
    """Batches and random states at every step of three epochs, one of them broken off."""
    torch.manual_seed(7)
    generator = torch.Generator().manual_seed(9) if generator else None
    arguments = {"collate_fn": keys_of, **arguments, **SAMPLERS[sampler](dataset, generator)}
    if "batch_sampler" not in arguments:
        arguments.setdefault("batch_size", 8)
    loader = loader_class(dataset, **arguments)
    trace = [len(loader)]
    for epoch in range(3):
        for step, batch in enumerate(loader):
            state = torch.get_rng_state().sum().item(), generator and generator.get_state().sum().item()
            trace.append((batch, state))
            if epoch == 1 and step == 1:
                break
        trace.append(torch.rand(1).item())
    return trace


def keys_of(batch):
    return batch[1] if isinstance(batch, tuple) else [key for _, key in batch]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("generator", [False, True], ids=["global", "own generator"])
def test_batches_and_random_states_equal_pytorchs_at_every_step(source, sampler, generator):
    dataset = AlnairJobDataset(source=source)
    expected = trace_of(data.DataLoader, dataset, sampler, generator)
    assert trace_of(AlnairJobDataLoader, dataset, sampler, generator) == expected
    assert trace_of(AlnairJobDataLoader, dataset, sampler, generator, lookahead=0) == expected


@pytest.mark.parametrize("sampler", ["sequential", "shuffle", "weighted", "distributed", "no batches", "unknown"])
def test_they_are_equal_with_workers_too(source, sampler):
    dataset = AlnairJobDataset(source=source)
    expected = trace_of(data.DataLoader, dataset, sampler, True, num_workers=2)
    assert trace_of(AlnairJobDataLoader, dataset, sampler, True, num_workers=2) == expected


def test_they_are_equal_with_persistent_workers(source):
    dataset = AlnairJobDataset(source=source)
    arguments = {"num_workers": 2, "persistent_workers": True, "prefetch_factor": 3}
    expected = trace_of(data.DataLoader, dataset, "shuffle", False, **arguments)
    assert trace_of(AlnairJobDataLoader, dataset, "shuffle", False, **arguments) == expected


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if "unknown" not in name and name != "batches in a list"])
@pytest.mark.parametrize("generator", [False, True], ids=["global", "own generator"])
def test_the_predicted_order_is_the_order(source, sampler, generator):
    dataset = AlnairJobDataset(source=source)
    arguments = SAMPLERS[sampler](dataset, torch.Generator().manual_seed(9) if generator else None)
    loader = data.DataLoader(dataset, **{"batch_size": 8, **arguments} if "batch_sampler" not in arguments else arguments)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    predicted = list(_order.predict(loader._index_sampler))
    assert torch.equal(torch.get_rng_state(), before)
    drawn = [i for batch in loader._index_sampler for i in (batch if isinstance(batch, list) else [batch])]
    assert drawn == predicted[: len(drawn)]
    assert drawn


@pytest.mark.parametrize("sampler", ["unknown", "unknown subclass"])
def test_of_an_unknown_sampler_nothing_is_predicted(source, sampler):
    dataset = AlnairJobDataset(source=source)
    assert _order.predict(SAMPLERS[sampler](dataset, None)["sampler"]) is None


class Recorder:
    """Stands in for the C++ dataset, and records what the prefetcher is told."""

    def __init__(self, core):
        self.core = core
        self.calls = []

    def __len__(self):
        return len(self.core)

    def __getattr__(self, name):
        if not name.startswith("prefetch"):
            return getattr(self.core, name)

        def record(*arguments):
            self.calls.append((name[9:] or "order", *(list(a) if not isinstance(a, int) else a for a in arguments)))

        return record


@pytest.fixture
def recorded(source):
    dataset = AlnairJobDataset(source=source)
    recorder = dataset._alnair.source._core = Recorder(dataset._alnair.source.core)
    return dataset, recorder.calls


def test_the_whole_order_is_handed_over_at_the_first_batch_and_consumption_is_reported(recorded):
    dataset, calls = recorded
    iterator = iter(AlnairJobDataLoader(dataset, batch_size=15, collate_fn=list, lookahead=3))
    assert calls == []  # nothing before it is asked for
    for _ in iterator:
        pass
    assert calls == [("order", list(range(40)), 3 << 20), ("advance", 0), ("advance", 15), ("advance", 30)]
    del iterator
    assert calls[-1] == ("cancel",)


def test_leaving_the_loop_cancels(recorded):
    dataset, calls = recorded
    for _ in AlnairJobDataLoader(dataset, batch_size=15, collate_fn=list):
        break
    assert [call[0] for call in calls] == ["order", "advance", "cancel"]
    calls.clear()
    with pytest.raises(ZeroDivisionError):
        for _ in AlnairJobDataLoader(dataset, batch_size=15, collate_fn=list):
            1 / 0  # noqa: B018
    assert calls[0][0] == "order"


def test_an_older_loop_does_not_disturb_a_newer_one(recorded):
    dataset, calls = recorded
    loader = AlnairJobDataLoader(dataset, batch_size=15, collate_fn=list)
    older, newer = iter(loader), iter(loader)
    next(older), next(newer)
    calls.clear()
    next(older)
    del older
    assert calls == []
    next(newer)
    assert calls == [("advance", 15)]


def test_with_workers_what_the_loop_got_is_consumed_and_unknown_orders_are_handed_over_as_drawn(recorded):
    dataset, calls = recorded
    loader = AlnairJobDataLoader(dataset, batch_size=2, collate_fn=keys_of, num_workers=2, sampler=Unknown(16))
    iterator = iter(loader)
    assert calls[0] == ("order", [], 0)
    assert [call[0] for call in calls[1:]] == ["extend"] * 4  # two batches for each worker
    next(iterator)
    assert [call[0] for call in calls[5:]] == ["extend", "advance"]
    assert calls[-1] == ("advance", 2)
    del iterator


def test_indices_are_followed_through_subsets(recorded):
    dataset, calls = recorded
    inner = data.Subset(dataset, range(10, 30))
    loader = AlnairJobDataLoader(data.Subset(inner, [3, 1]), batch_size=1, collate_fn=keys_of)
    assert [batch for batch in loader] == [[KEYS[13]], [KEYS[11]]]
    assert calls[0][:2] == ("order", [13, 11])
    one, _ = data.random_split(dataset, [0.5, 0.5])
    assert _ahead.trace(one).objects([0]).tolist() == [one.indices[0]]


def test_samples_that_convert_reordered_map_to_their_objects(source):
    class Reversed(AlnairJobDataset):
        def __convert__(self):
            return [self.data[key] for key in reversed(self.keys)], None

    assert _ahead.trace(Reversed(source=source)).objects([0, 39]).tolist() == [39, 0]


def test_other_datasets_and_wrappers_lose_prefetching_only(source):
    class Wrapper(data.Dataset):
        def __init__(self, inner):
            self.inner = inner

        def __getitem__(self, index):
            return self.inner[index][1]

        def __len__(self):
            return len(self.inner)

    loader = AlnairJobDataLoader(Wrapper(AlnairJobDataset(source=source)), batch_size=None)
    assert list(loader) == KEYS
    assert list(AlnairJobDataLoader([1, 2, 3], batch_size=2, collate_fn=list)) == [[1, 2], [3]]
    assert list(AlnairJobDataLoader(Numbers(), batch_size=None)) == [0, 1, 2]


class Numbers(data.IterableDataset):
    def __iter__(self):
        return iter(range(3))


def test_pytorchs_own_loader_reads_the_dataset_too(source):
    loader = data.DataLoader(AlnairJobDataset(source=source), batch_size=16, collate_fn=list, num_workers=2)
    assert [sample for batch in loader for sample in batch] == [(content_of(key), key) for key in KEYS]


def test_an_index_out_of_range_raises_as_itself_from_a_worker(source):
    loader = AlnairJobDataLoader(AlnairJobDataset(source=source), batch_sampler=[[1, 99]], num_workers=1)
    with pytest.raises(alnair.OutOfRangeError, match="index 99 is out of range: the dataset has 40"):
        next(iter(loader))


def test_a_read_error_raises_as_itself_from_a_worker(source, folder):
    dataset = AlnairJobDataset(source=source)
    (folder / KEYS[3]).unlink()
    loader = AlnairJobDataLoader(dataset, batch_size=8, collate_fn=list, num_workers=1)
    with pytest.raises((alnair.NotFoundError, alnair.ChangedError), match=KEYS[3]):
        list(loader)


def test_extra_parameters_are_keyword_only_and_attributes(source, monkeypatch):
    dataset = AlnairJobDataset(source=source)
    assert AlnairJobDataLoader(dataset).lookahead is None
    assert AlnairJobDataLoader(dataset, lookahead=64).lookahead == 64
    monkeypatch.setenv("ALNAIR_LOOKAHEAD", "32")
    assert AlnairJobDataLoader(dataset).lookahead == 32
    for wrong in (-1, "much"):
        with pytest.raises(alnair.ConfigError, match="lookahead: expected a number of MiB of at least 0, not"):
            AlnairJobDataLoader(dataset, lookahead=wrong)
