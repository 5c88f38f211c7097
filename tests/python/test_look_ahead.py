"""Look-ahead: what is predicted, what is handed to the prefetcher, and which datasets and loaders it reaches."""

import pickle

import alnair
import pytest
from alnair import AlnairJobDataset
from conftest import KEYS, content_of, write_objects

torch = pytest.importorskip("torch")
from alnair import AlnairJobDataLoader, _ahead, _order, _route  # noqa: E402
from test_loader import SAMPLERS, Unknown, keys_of  # noqa: E402
from torch.utils import data  # noqa: E402
from torch.utils.data.distributed import DistributedSampler  # noqa: E402


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if "unknown" not in name and name != "batches in a list"])
@pytest.mark.parametrize("generator", [False, True], ids=["global", "own generator"])
def test_the_predicted_order_is_the_order(source, sampler, generator):
    dataset = AlnairJobDataset(source=source)
    arguments = SAMPLERS[sampler](dataset, torch.Generator().manual_seed(9) if generator else None)
    loader = data.DataLoader(dataset, **{"batch_size": 8, **arguments} if "batch_sampler" not in arguments else arguments)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    predicted = list(_order.predict(loader._index_sampler).this_epoch())
    assert torch.equal(torch.get_rng_state(), before)
    drawn = [i for batch in loader._index_sampler for i in (batch if isinstance(batch, list) else [batch])]
    assert drawn == predicted
    assert drawn


STEPWISE = {
    "random": lambda g: data.RandomSampler(range(10), generator=g),
    "some": lambda g: data.RandomSampler(range(10), num_samples=3, generator=g),
    "several rounds": lambda g: data.RandomSampler(range(10), num_samples=25, generator=g),
    "batches": lambda g: data.BatchSampler(data.RandomSampler(range(10), generator=g), 4, False),
    "whole batches": lambda g: data.BatchSampler(data.RandomSampler(range(10), generator=g), 4, True),
    "no whole batch": lambda g: data.BatchSampler(data.RandomSampler(range(10), generator=g), 40, True),
    "share": lambda g: data.BatchSampler(DistributedSampler(range(10), 4, 3, seed=2), 2, False),
    "share of fewer": lambda g: DistributedSampler(range(2), 7, 6),
    "share of whole rounds": lambda g: DistributedSampler(range(11), 4, 3, drop_last=True),
    "share in order": lambda g: DistributedSampler(range(11), 4, 3, shuffle=False),
}


@pytest.mark.parametrize("name", STEPWISE)
@pytest.mark.parametrize("own", [False, True], ids=["global", "own generator"])
def test_what_is_drawn_without_a_list_is_what_pytorch_draws_and_when_it_does(name, own):
    def steps(begin):
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(9)
        iterator, items = begin(STEPWISE[name](generator if own else None)), [None]
        while items[-1] != "end":
            yield items[-1], torch.get_rng_state().tolist(), generator.get_state().tolist()
            items.append(next(iterator, "end"))
        yield torch.get_rng_state().tolist(), generator.get_state().tolist()

    assert _order.begin(STEPWISE[name](None))[1] is not None
    assert list(steps(lambda sampler: _order.begin(sampler)[0])) == list(steps(iter))


def test_a_share_in_order_is_made_whatever_the_default_device():
    sampler = DistributedSampler(range(11), 4, 3, shuffle=False)
    expected = list(sampler)
    with torch.device("meta"):
        assert list(_order.begin(sampler)[0]) == expected


def test_a_share_that_is_not_what_the_sampler_says_is_pytorchs_to_refuse():
    numbers = list(range(10))
    sampler = DistributedSampler(numbers, 2, 0, drop_last=True)
    del numbers[:4]
    with pytest.raises(AssertionError):
        list(_order.begin(sampler)[0])


@pytest.mark.parametrize("kind", [data.RandomSampler, DistributedSampler])
def test_samplers_of_another_pytorch_are_drawn_from_themselves(source, monkeypatch, kind):
    pytorchs = kind.__iter__
    monkeypatch.setattr(kind, "__iter__", lambda self: iter(sorted(pytorchs(self), key=lambda index: -index)))
    _order._draws_as_pytorch.cache_clear()
    before = torch.get_rng_state()
    try:
        dataset = AlnairJobDataset(source=source)
        sampler = data.RandomSampler(dataset) if kind is data.RandomSampler else DistributedSampler(dataset, 1, 0)
        assert not _order._draws_as_pytorch()
        assert torch.equal(torch.get_rng_state(), before)
        batches = list(AlnairJobDataLoader(dataset, 8, sampler=sampler, collate_fn=keys_of))
    finally:
        _order._draws_as_pytorch.cache_clear()
    assert [key for batch in batches for key in batch] == KEYS[::-1]


@pytest.mark.parametrize("distributed", [False, True])
def test_an_order_is_drawn_once_for_the_loop_and_for_look_ahead(recorded, monkeypatch, distributed):
    dataset, calls = recorded
    assert _order._draws_as_pytorch()
    sampler = DistributedSampler(dataset, 2, 1) if distributed else data.RandomSampler(dataset)
    drawn, randperm = [], torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda *arguments, **named: drawn.append(arguments) or randperm(*arguments, **named))
    keys = next(iter(AlnairJobDataLoader(dataset, 4, sampler=sampler, collate_fn=keys_of)))
    assert drawn == [(len(dataset),)]
    (order,) = (call[1] for call in calls if call[0] == "order")
    assert len(order) == len(sampler)
    assert [KEYS[index] for index in order[:4]] == keys


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
    assert calls[0] == ("order", list(range(40)), 3 << 20, True)
    assert [call for call in calls if call[0] == "advance"] == [("advance", *counts) for counts in [(0, 15), (15, 30), (30, 40), (40, 40)]]



def test_a_long_order_is_handed_over_in_growing_pieces_once(recorded, monkeypatch):
    monkeypatch.setattr(_ahead, "FIRST_PIECE", 4)
    dataset, calls = recorded
    sampler = data.SubsetRandomSampler(range(len(KEYS)))  # of whose next epoch nothing is known
    drawn = [index for batch in AlnairJobDataLoader(dataset, 2, sampler=sampler, collate_fn=list) for _, index in batch]
    pieces = [call[1] for call in calls if call[0] in ("order", "extend")]
    assert [len(piece) for piece in pieces] == [4, 8, 16, 12]
    assert [KEYS[index] for piece in pieces for index in piece] == drawn


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
    assert calls[0] == ("advance", 15, 30)


def test_with_workers_what_the_loop_got_is_consumed_and_unknown_orders_are_handed_over_as_drawn(recorded):
    dataset, calls = recorded
    loader = AlnairJobDataLoader(dataset, batch_size=2, collate_fn=keys_of, num_workers=2, sampler=Unknown(16))
    iterator = iter(loader)
    assert calls[0] == ("order", [], 0, False)
    assert [call[0] for call in calls[1:]] == ["extend", "advance"] * 4  # two batches for each worker
    next(iterator)
    assert [call[0] for call in calls[9:]] == ["extend", "advance"]
    assert calls[-1] == ("advance", 2, 10)
    del iterator


def test_indices_are_followed_through_subsets(recorded):
    dataset, calls = recorded
    inner = data.Subset(dataset, range(10, 30))
    loader = AlnairJobDataLoader(data.Subset(inner, [3, 1]), batch_size=1, collate_fn=keys_of)
    assert [batch for batch in loader] == [[KEYS[13]], [KEYS[11]]]
    assert calls[0][:2] == ("order", [13, 11])
    one, _ = data.random_split(dataset, [0.5, 0.5])
    assert _route.trace(one).objects([0])[0].tolist() == [one.indices[0]]


def test_samples_that_convert_reordered_map_to_their_objects(source):
    class Reversed(AlnairJobDataset):
        def __convert__(self):
            return [self.data[key] for key in reversed(self.keys)], None

    assert _route.trace(Reversed(source=source)).objects([0, 39])[0].tolist() == [39, 0]


KNOWN = [name for name in SAMPLERS if "unknown" not in name]
SAME_AGAIN = ["sequential", "a list", "batches in a list", "distributed without shuffle"]


def indices(loader):
    return [index for batch in loader._index_sampler for index in (batch if isinstance(batch, list) else [batch])]


@pytest.mark.parametrize("sampler", KNOWN)
@pytest.mark.parametrize("generator", [False, True], ids=["global", "own generator"])
@pytest.mark.parametrize("drawn", [False, True], ids=["computed", "from what was drawn"])
def test_the_next_epoch_is_guessed_where_that_is_sound(source, sampler, generator, drawn):
    dataset = AlnairJobDataset(source=source)
    generator = torch.Generator().manual_seed(9) if generator else None
    arguments = SAMPLERS[sampler](dataset, generator)
    if "batch_sampler" not in arguments:
        arguments.setdefault("batch_size", 8)
    loader = data.DataLoader(dataset, collate_fn=keys_of, **arguments)
    iterator, known = _order.begin(loader._index_sampler) if drawn else (None, None)
    prediction = _order.predict(loader._index_sampler, iterator, loader.generator, known)
    first = [next(iterator)] if drawn else []
    expected = _order.flat(first + list(iterator or ()))
    assert list(prediction.this_epoch()) == list(expected) or not drawn
    if drawn and generator is not None:
        generator.manual_seed(9)
    guess = prediction.next_epoch()
    assert (guess is None) == (generator is None and not (sampler in SAME_AGAIN or "distributed" in sampler))
    seen = []
    for epoch in range(2):
        if hasattr(loader.sampler, "set_epoch"):
            loader.sampler.set_epoch(epoch)
        if loader.generator is not None and epoch > 0:  # what making an iterator draws
            torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
        seen.append(indices(loader))
    assert guess is None or list(guess) == seen[1]


def test_towards_the_end_of_an_epoch_the_beginning_of_the_next_is_handed_over_and_outlives_it(recorded):
    dataset, calls = recorded
    loader = AlnairJobDataLoader(dataset, batch_size=15, collate_fn=list, shuffle=True, generator=torch.Generator())
    epochs = [list(loader) for _ in range(2)]
    orders = [call[1] for call in calls if call[0] == "order"]
    assert [[KEYS[i] for i in order] for order in orders] == [[key for b in epoch for _, key in b] for epoch in epochs]
    guesses = [call[1] for call in calls if call[0] == "extend"]
    assert guesses[0] == orders[1]
    assert "cancel" not in [call[0] for call in calls]


def test_with_workers_the_guess_outlives_an_epoch_that_was_read_to_its_end_only(recorded):
    dataset, calls = recorded
    loader = AlnairJobDataLoader(dataset, batch_size=5, collate_fn=keys_of, num_workers=2)
    for _ in loader:
        pass
    assert [call[0] for call in calls].count("extend") == 1
    assert ("cancel",) not in calls
    assert calls[-1] == ("advance", 40, 40)
    for number, _ in enumerate(loader):
        if number == 6:
            break
    assert calls[-1] == ("cancel",)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_prediction_that_turns_out_wrong_is_dropped_at_once(recorded, workers):
    dataset, calls = recorded
    sampler = data.RandomSampler(dataset, True, 96, generator=torch.Generator().manual_seed(1))  # 32 at a time
    loader = AlnairJobDataLoader(dataset, batch_size=8, collate_fn=keys_of, sampler=sampler, num_workers=workers)
    seen = []
    for batch in loader:
        torch.rand(1, generator=sampler.generator)
        seen += [KEYS.index(key) for key in batch]
    orders = [call[1] for call in calls if call[0] == "order"]
    assert len(orders[0]) == 96
    assert orders[0][:32] == seen[:32]
    assert orders[0][64:] != seen[64:]
    if workers:  # what the loader has drawn is known
        drawn = [index for call in calls[1:] if call[0] == "extend" for index in call[1]]
        assert drawn[-32:] == seen[64:]
        assert orders[1:] == [[]]
    else:
        assert orders[1:] == []
    assert calls[-1] == ("cancel",) or workers


def test_several_sources_have_an_order_each(source, tmp_path):
    write_objects(tmp_path / "more", ["a.txt", "b.txt"])
    first, second = AlnairJobDataset(source=source), AlnairJobDataset(source=f"file://{tmp_path}/more")
    recorders = []
    for dataset in (first, second):
        dataset._alnair.source._core = Recorder(dataset._alnair.source.core)
        recorders.append(dataset._alnair.source._core.calls)
    whole = data.ConcatDataset([second, [("other", "x")], data.Subset(first, [7, 5]), second])
    loader = AlnairJobDataLoader(whole, batch_size=2, sampler=[5, 0, 3, -1, 2, 1, 6], collate_fn=keys_of, lookahead=4)
    assert [key for batch in loader for key in batch] == ["a.txt", "a.txt", KEYS[7], "b.txt", "x", "b.txt", "b.txt"]
    assert recorders[0][0] == ("order", [7], 2 << 20, True)
    assert recorders[1][0] == ("order", [0, 0, 1, 1, 1], 2 << 20, True)
    assert [call[1:] for call in recorders[1] if call[0] == "advance"] == [(0, 2), (2, 3), (3, 4), (4, 5), (5, 5)]


def test_a_batch_is_fetched_at_once_through_a_concat_dataset(source, folder):
    class Removing(AlnairJobDataset):
        def __getitem__(self, index):
            for path in folder.rglob("*.txt"):
                path.unlink()  # what is read now was fetched before
            return super().__getitem__(index)

    for wrap in (lambda whole: whole, lambda whole: data.Subset(whole, range(len(whole)))):
        write_objects(folder, KEYS)
        dataset = Removing(source=source, usecache=False)
        whole = wrap(data.ConcatDataset([data.Subset(dataset, range(5, 9)), dataset]))
        loader = AlnairJobDataLoader(whole, batch_sampler=[[0, 4, 43]], collate_fn=list, lookahead=0)
        assert list(loader) == [[(content_of(KEYS[i]), KEYS[i]) for i in (5, 0, 39)]]


class Pairs(AlnairJobDataset):
    """A sample is two objects, found by their keys."""

    def keys_of(self, index):
        return [KEYS[index], self.data[KEYS[-1 - index]]]

    def __getitem__(self, index):
        return [self.load(key) for key in self.keys_of(index)]

    def __len__(self):
        return len(KEYS) // 2


def test_a_dataset_may_say_which_objects_a_sample_reads(source):
    dataset = Pairs(source=source)
    recorder = dataset._alnair.source._core = Recorder(dataset._alnair.source.core)
    loader = AlnairJobDataLoader(dataset, batch_size=8, collate_fn=list)
    samples = [sample for batch in loader for sample in batch]
    assert samples == [[content_of(KEYS[i]), content_of(KEYS[-1 - i])] for i in range(20)]
    assert recorder.calls[0] == ("order", [i for pair in zip(range(20), range(39, 19, -1)) for i in pair], 0, True)
    assert [call for call in recorder.calls if call[0] == "advance"] == [("advance", *counts) for counts in [(0, 16), (16, 32), (32, 40), (40, 40)]]


def test_they_are_fetched_at_once(source, folder):
    class Removing(Pairs):
        def __getitem__(self, index):
            for path in folder.rglob("*.txt"):
                path.unlink()
            return super().__getitem__(index)

    assert Removing(source=source, usecache=False).__getitems__([3])[0][0] == content_of(KEYS[3])


def test_what_is_wrong_with_keys_of_loses_look_ahead_only(source):
    class Wrong(Pairs):
        def keys_of(self, index):
            return ["nothing"] if index == 5 else super().keys_of(index)

        def __getitem__(self, index):
            return self.load(KEYS[index])

    loader = AlnairJobDataLoader(Wrong(source=source), batch_size=8, collate_fn=list)
    assert [sample for batch in loader for sample in batch] == [content_of(key) for key in KEYS[:20]]


# Attaching.


class Own(data.DataLoader):
    def __init__(self, dataset, colour, **arguments):
        super().__init__(dataset, **arguments)
        self.colour = colour


def test_look_ahead_is_attached_to_any_loader(recorded):
    dataset, calls = recorded
    loader = alnair.attach(data.DataLoader(dataset, batch_size=15, collate_fn=list), lookahead=3)
    assert isinstance(loader, data.DataLoader)
    assert loader.lookahead == 3
    list(loader)
    assert calls[0] == ("order", list(range(40)), 3 << 20, True)
    own = Own(dataset, "red", batch_size=15, collate_fn=list)
    assert alnair.attach(own) is own
    assert isinstance(own, Own)
    assert type(alnair.attach(own)) is type(own)  # again: nothing more
    assert (own.colour, own.lookahead, type(own).__name__) == ("red", None, "Own")
    assert type(type(own)(dataset, "blue")) is type(own)  # as frameworks build it again
    calls.clear()
    list(own)
    assert calls[0][:2] == ("order", list(range(40)))
    assert alnair.attach(AlnairJobDataLoader(dataset), lookahead=7).lookahead == 7


def test_an_attached_loader_pickles(source):
    loader = alnair.attach(Own(AlnairJobDataset(source=source), "red", batch_size=40, collate_fn=keys_of), lookahead=3)
    copy = pickle.loads(pickle.dumps(loader))
    assert (type(copy), copy.colour, copy.lookahead, list(copy)) == (type(loader), "red", 3, [KEYS])


def test_attaching_to_something_else_says_so(source, monkeypatch):
    for wrong in (5, [1], AlnairJobDataset(source=source), data.DataLoader):
        with pytest.raises(alnair.ConfigError, match=r"attach\(\) takes a torch.utils.data.DataLoader, not"):
            alnair.attach(wrong)
    with pytest.raises(alnair.ConfigError, match="lookahead: expected a number of MiB of at least 0, not -1"):
        alnair.attach(data.DataLoader([1]), lookahead=-1)
    monkeypatch.setenv("ALNAIR_LOOKAHEAD", "9")
    assert alnair.attach(data.DataLoader([1])).lookahead == 9
    assert list(alnair.attach(data.DataLoader([1, 2], batch_size=None))) == [1, 2]
