"""AlnairJobDataLoader against PyTorch's own DataLoader."""

import gc
import inspect
import itertools
import os
import random
import threading

import alnair
import numpy.random  # noqa: F401  (PyTorch's workers import it: not while they collect what they have inherited)
import pytest
from alnair import AlnairJobDataset
from conftest import KEYS, content_of

torch = pytest.importorskip("torch")
from alnair import AlnairJobDataLoader  # noqa: E402
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


class Odd(data.Sampler):
    """Samplers that only PyTorch's own protocol fits: iterated once an epoch, drawn from one by one."""

    def __init__(self, kind, generator):
        self.kind, self.generator, self.epoch, self.lock = kind, generator, 0, threading.Lock()

    def __iter__(self):  # with a side effect, and a lock that neither copies nor pickles
        self.epoch += 1
        for number in itertools.count():
            if self.kind == "infinite" or number < 30:
                yield int(torch.randint(len(KEYS), (), generator=self.generator)) if self.kind != "epochs" else self.epoch
            elif self.kind == "raises":
                raise ZeroDivisionError("the sampler's own")
            else:
                return

    def __reduce_ex__(self, protocol):
        raise TypeError("not to be copied")


class Picky(AlnairJobDataset):
    """Some samples fail."""

    def __getitem__(self, index):
        if index == 13:
            raise ValueError("sample 13 is bad")
        return super().__getitem__(index)


def random_trace(loader_class, source, seed, workers, **extra):
    """What a loop sees that is drawn from `seed`: batches, random states and errors, over some epochs."""
    choose = random.Random(seed)
    torch.manual_seed(seed)
    generators = {"none": None, "own": torch.Generator().manual_seed(seed), "global": torch.default_generator}
    generator = generators[choose.choice(list(generators))]
    # A worker whose sample failed is waited for by PyTorch for 5 seconds.
    dataset = choose.choice([AlnairJobDataset, AlnairJobDataset if workers else Picky])(source=source)
    if choose.random() < 0.3:
        dataset = data.random_split(dataset, [0.5, 0.5], generator=torch.Generator().manual_seed(seed))[0]
    elif choose.random() < 0.3:
        dataset = data.ConcatDataset([dataset, data.Subset(dataset, [3, 1, 4])])
    name = choose.choice(["odd"] + list(SAMPLERS)) if type(dataset) is AlnairJobDataset else choose.choice(["sequential", "shuffle"])
    if name == "odd":
        arguments = {"sampler": Odd(choose.choice(["infinite", "epochs", "ends"] + ["raises"] * (not workers)), generator)}
    else:
        arguments = SAMPLERS[name](dataset, generator)
    if "batch_sampler" not in arguments and "batch_size" not in arguments:
        arguments["batch_size"] = choose.choice([3, 8, 100])
        arguments["drop_last"] = choose.random() < 0.3 and arguments["batch_size"] < 20
    arguments.setdefault("generator", choose.choice([generator, None]))
    if workers:
        persistent, factor = choose.random() < 0.5, choose.choice([1, 3])
        arguments.update(num_workers=workers, persistent_workers=persistent, prefetch_factor=factor)
    draws, stop = choose.choice([None, None, generator, torch.default_generator]), choose.choice([None, 1, 3])
    loader, trace = loader_class(dataset, collate_fn=keys_of, **arguments, **extra), [name]
    for epoch in range(3):
        if workers:
            gc.collect()  # iterators that errors hold, which forked workers would else collect
        try:
            for step, batch in enumerate(loader):
                trace.append((batch, *(g.get_state().sum().item() for g in generators.values() if g is not None)))
                if draws is not None:
                    torch.rand(1, generator=draws)
                if step == (stop if epoch == 1 else 15):
                    break
        except (ValueError, ZeroDivisionError) as error:
            trace.append(str(error).splitlines()[-1])
        if hasattr(loader.sampler, "set_epoch"):
            loader.sampler.set_epoch(epoch + 1)
        trace.append(torch.rand(1).item())
    return trace


@pytest.mark.parametrize("seed", range(400) if os.environ.get("ALNAIR_TEST_STRESS") else range(40))
def test_any_loop_sees_what_pytorch_shows_it(source, seed):
    workers = 2 if seed % 10 == 0 else 0
    expected = random_trace(data.DataLoader, source, seed, workers)
    assert random_trace(AlnairJobDataLoader, source, seed, workers) == expected
    assert random_trace(lambda *a, **k: alnair.attach(data.DataLoader(*a, **k)), source, seed, workers) == expected


@pytest.mark.parametrize("loader_class", [data.DataLoader, AlnairJobDataLoader])
def test_persistent_workers_have_one_iterator_that_each_loop_begins_anew(source, loader_class):
    dataset = AlnairJobDataset(source=source)
    loader = loader_class(dataset, batch_size=8, collate_fn=keys_of, num_workers=1, persistent_workers=True)
    first = iter(loader)
    next(first)
    assert iter(loader) is first
    assert [key for batch in first for key in batch] == KEYS
    assert iter(loader_class(dataset)) is not iter(loader_class(dataset))


def test_next_of_the_loader_goes_through_epochs_of_its_own(source):
    loader = AlnairJobDataLoader(AlnairJobDataset(source=source), batch_size=15, collate_fn=keys_of)
    for _ in range(2):
        assert next(loader) == KEYS[:15]
        assert [key for batch in loader for key in batch] == KEYS  # a loop does not disturb it
        assert next(loader) + next(loader) == KEYS[15:]
        with pytest.raises(StopIteration):
            next(loader)


@pytest.mark.filterwarnings("ignore:'pin_memory'")  # without an accelerator it is not done
def test_memory_may_be_pinned_and_batches_come_as_they_are_ready(source):
    dataset = AlnairJobDataset(source=source)
    as_ready = {"in_order": False} if "in_order" in inspect.signature(data.DataLoader).parameters else {}  # since PyTorch 2.6
    for arguments in ({"pin_memory": True}, {"pin_memory": True, "num_workers": 2, **as_ready}):
        loader = AlnairJobDataLoader(dataset, batch_size=8, collate_fn=keys_of, **arguments)
        for _ in range(2):
            assert sorted(key for batch in loader for key in batch) == KEYS


def test_every_argument_of_the_installed_pytorch_is_taken_and_kept(source):
    dataset = AlnairJobDataset(source=source)
    given = {
        "batch_size": 3, "shuffle": True, "num_workers": 1, "collate_fn": keys_of, "pin_memory": False, "drop_last": True,
        "timeout": 60, "worker_init_fn": print, "multiprocessing_context": "fork", "generator": torch.Generator(),
        "prefetch_factor": 3, "persistent_workers": True, "pin_memory_device": "", "in_order": False,
    }  # fmt: skip
    known = inspect.signature(data.DataLoader.__init__).parameters
    assert set(known) - {"self", "dataset", "sampler", "batch_sampler"} <= set(given)
    given = {name: value for name, value in given.items() if name in known}
    loader = AlnairJobDataLoader(dataset, **given, lookahead=5)
    for name, value in given.items():
        if name not in ("shuffle", "multiprocessing_context"):
            assert getattr(loader, name) == value
    assert vars(loader)["lookahead"] == 5  # frameworks build a loader again from its attributes
    assert isinstance(loader.sampler, data.RandomSampler)
    assert loader.multiprocessing_context.get_start_method() == "fork"
    assert sum(len(batch) for batch in loader) == 39
    assert AlnairJobDataLoader(dataset, 7, True).batch_size == 7  # by position, as in the original


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
