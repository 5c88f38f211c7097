"""The order in which a DataLoader will read: predicted from copies, so that nothing is drawn early.

Whoever draws from a sampler ahead of the loop changes what the loop could see: the global random state, a generator, the
sampler itself. So the order of an epoch is computed beside the sampler: its own code runs on a copy of it, with a copy of
the random state that it is about to use. A prediction that turns out wrong costs prefetching, never a wrong sample. Of PyTorch's random
and distributed samplers the loop draws through ``begin()``, as they do, and the prediction takes what it has drawn.
"""

from __future__ import annotations

import copy
import functools
from itertools import chain
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler
from torch.utils.data.distributed import DistributedSampler


_PIECE = 1 << 16  # numbers that are Python's at a time


class Unknown(Exception):
    """What a sampler will yield cannot be told without drawing from it."""


def members(item: Any) -> List[Any]:
    """The indices in what a sampler yields: a batch of them, or a single one. Raises Unknown for a batch that ends."""
    if isinstance(item, (list, tuple)):
        return item if isinstance(item, list) else list(item)
    if isinstance(item, (int, str)) or not hasattr(item, "__iter__") or getattr(item, "ndim", None) == 0:
        return [item]
    if hasattr(item, "__len__") and hasattr(item, "__getitem__"):
        return list(item)
    raise Unknown(f"a batch of type {type(item).__name__}, which only the loader may go through")


def flat(items: Iterable[Any]) -> Iterator[Any]:
    """The indices in what a sampler yields, one by one."""
    return chain.from_iterable(map(members, items))


class _Order:
    """What a sampler yields, without a list of millions of numbers. `known` is of the same sampler, and has drawn: the first
    iteration of this one takes what it has drawn."""

    def __init__(self, sampler: Any, known: Optional["_Order"] = None) -> None:
        self._sampler, self._known = sampler, known
        self._first: Optional[torch.Tensor] = None  # the numbers that were drawn first
        self._state: Optional[torch.Tensor] = None  # the generator's, after that

    def _taken(self) -> Optional["_Order"]:
        known, self._known = self._known, None
        if known is not None and known._first is None:
            raise Unknown("nothing has been drawn")
        return known


def _in_pieces(numbers: torch.Tensor) -> Iterator[int]:
    for start in range(0, len(numbers), _PIECE):
        yield from numbers[start : start + _PIECE].tolist()


class _Permutations(_Order):
    """Of a RandomSampler without replacement. Draws as PyTorch's own does, and when it does."""

    def __iter__(self) -> Iterator[int]:
        sampler, known = self._sampler, self._taken()
        size, generator = len(sampler.data_source), sampler.generator
        if generator is None:
            generator = torch.Generator()
            if known is None:
                generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
        for _ in range(sampler.num_samples // size):
            yield from _in_pieces(self._drawn(size, generator, known))
            known = None
        rest = sampler.num_samples % size
        if rest > 0 or sampler.generator is not None:  # one more is drawn in any case; of its own generator nobody sees it
            yield from _in_pieces(self._drawn(size, generator, known)[:rest])

    def _drawn(self, size: int, generator: torch.Generator, known: Optional[_Order]) -> torch.Tensor:
        if known is not None and known._first is not None and known._state is not None:
            generator.set_state(known._state)
            return known._first
        drawn = torch.randperm(size, generator=generator)
        if self._first is None:
            self._first, self._state = drawn, generator.get_state()
        return drawn


class _Share(_Order):
    """Of a DistributedSampler: what one rank reads."""

    def __iter__(self) -> Iterator[int]:
        known = self._taken()
        self._first = self._numbers() if known is None else known._first
        return iter(self._sampler) if self._first is None else _in_pieces(self._first)

    def _numbers(self) -> Optional[torch.Tensor]:
        """None: not what it should be, which PyTorch's own code has messages for."""
        sampler = self._sampler
        size = len(sampler.dataset)
        if size == 0:
            return None
        if sampler.shuffle:
            numbers = torch.randperm(size, generator=torch.Generator().manual_seed(sampler.seed + sampler.epoch))
        else:
            numbers = torch.arange(size, device="cpu")  # whatever the default is
        padding = 0 if sampler.drop_last else sampler.total_size - size
        if padding > 0:
            numbers = torch.cat([numbers, numbers.repeat(-(-padding // size))[:padding]])
        numbers = numbers[: sampler.total_size]
        share = numbers[sampler.rank : sampler.total_size : sampler.num_replicas].clone()
        return share if (len(numbers), len(share)) == (sampler.total_size, sampler.num_samples) else None


def _order_of(sampler: Any, known: Optional[_Order] = None) -> Optional[_Order]:
    if type(sampler) is RandomSampler and not sampler.replacement:
        return _Permutations(sampler, known)
    return _Share(sampler, known) if type(sampler) is DistributedSampler else None


@functools.lru_cache(maxsize=None)
def _draws_as_pytorch() -> bool:
    """Whether the installed PyTorch draws as the classes above do, tried on small samplers. Leaves the random state as it is."""
    state = torch.get_rng_state()

    def steps(items: Iterable[int], generator: torch.Generator) -> Iterator[Any]:
        iterator = iter(items)
        while True:
            yield torch.get_rng_state().tolist(), generator.get_state().tolist()
            try:
                yield next(iterator)
            except StopIteration:
                break
        yield torch.get_rng_state().tolist(), generator.get_state().tolist()

    def same(make: Callable[[torch.Generator], Any]) -> bool:
        seen = []
        for kind in (lambda sampler: sampler), _order_of:
            torch.set_rng_state(state)
            generator = torch.Generator().manual_seed(5)
            seen.append(list(steps(kind(make(generator)), generator)))
        return seen[0] == seen[1]

    samplers: List[Callable[[torch.Generator], Any]] = []
    for own, count in (True, None), (True, 3), (True, 12), (False, None), (False, 12):
        samplers.append(lambda g, own=own, count=count: RandomSampler(range(5), num_samples=count, generator=g if own else None))
    for size, shuffle, drop in (10, True, False), (10, False, True), (1, True, False):
        samplers.append(lambda g, size=size, s=shuffle, d=drop: DistributedSampler(range(size), 4, 1, s, 3, d))
    try:
        return all(map(same, samplers))
    except Exception:  # whatever has changed in it
        return False
    finally:
        torch.set_rng_state(state)


def begin(sampler: Any) -> Tuple[Iterator[Any], Optional[_Order]]:
    """iter(sampler), and what a Prediction may learn from, once it has drawn. Draws what PyTorch's own draws, and when it does."""
    batches = type(sampler) is BatchSampler
    order = _order_of(sampler.sampler if batches else sampler)
    if order is None or not _draws_as_pytorch():
        return iter(sampler), None
    if not batches:
        return iter(order), order
    twin = copy.copy(sampler)
    twin.sampler = order
    return iter(twin), order


class Prediction:
    """A copy of a sampler, with copies of the generators that it draws from."""

    def __init__(
        self,
        sampler: Any,
        drawn: Optional[Iterator[Any]] = None,
        seeds: Optional[torch.Generator] = None,
        known: Optional[_Order] = None,
    ) -> None:
        """To be made right before the first index is drawn from `drawn`, which is iter(sampler).

        Args:
            seeds: the generator that the loader draws a seed from between two epochs.
            known: of begin(sampler): it is looked at after the first index was drawn.

        Raises:
            Unknown: it cannot be told what the sampler will yield.
        """
        self._generators: Dict[int, torch.Generator] = {}
        self._next: List[Callable[[], None]] = []  # what happens to a sampler between two epochs
        self._sound = True  # whether the epoch after this one can be told
        self._seeds = seeds
        self._known = known
        self._twin = self._copy(sampler)
        iterator = self._ITERATORS.get(_name(type(drawn)))
        self._begun: Iterable[Any] = self._twin if iterator is None else iterator(self, drawn)

    def this_epoch(self) -> Iterator[Any]:
        """The indices that the sampler is about to yield, batches flattened. To be called once."""
        return flat(self._begun)

    def next_epoch(self) -> Optional[Iterator[Any]]:
        """Those of the epoch after it; None where that cannot be told. To be called when this one has been gone through."""
        if not self._sound:
            return None
        for change in self._next:
            change()
        if self._seeds is not None and id(self._seeds) in self._generators:
            torch.empty((), dtype=torch.int64).random_(generator=self._generators[id(self._seeds)])
        return flat(self._twin)

    # Copies.

    def _copy(self, sampler: Any) -> Any:
        kind = type(sampler)
        make = self._SAMPLERS.get(kind) or self._FOREIGN.get(_name(kind))
        if make is None:
            raise Unknown(f"a sampler of type {kind.__name__}")
        return make(self, sampler)

    def _generator(self, generator: Optional[torch.Generator]) -> torch.Generator:
        if generator is None:
            generator = torch.default_generator
            self._sound = False  # the loop draws from it too
        if generator.device.type != "cpu":
            raise Unknown(f"a generator on {generator.device}")
        if id(generator) not in self._generators:
            twin = torch.Generator()
            twin.set_state(generator.get_state())
            self._generators[id(generator)] = twin
        return self._generators[id(generator)]

    def _as_it_is(self, sampler: Any) -> Any:
        return sampler  # a function of its attributes: going through it changes nothing

    def _with_generator(self, sampler: Any) -> Any:
        twin = copy.copy(sampler)
        twin.generator = self._generator(sampler.generator)
        return twin

    def _random(self, sampler: RandomSampler) -> Any:
        twin = self._with_generator(sampler)
        if sampler.generator is None and self._known is not None:
            twin.generator = None
        elif sampler.generator is None:  # it takes a seed from the global generator, and the rest from one of its own
            seed = int(torch.empty((), dtype=torch.int64).random_(generator=twin.generator).item())
            twin.generator = torch.Generator()
            twin.generator.manual_seed(seed)
        return _order_of(twin, self._known) or twin

    def _weighted(self, sampler: WeightedRandomSampler) -> Any:
        if sampler.weights.device.type != "cpu":
            raise Unknown(f"weights on {sampler.weights.device}")
        return self._with_generator(sampler)

    def _distributed(self, sampler: DistributedSampler) -> Any:  # type: ignore[type-arg]
        twin = copy.copy(sampler)
        self._next.append(lambda: twin.set_epoch(twin.epoch + 1))
        return _order_of(twin, self._known) or twin

    def _batches(self, sampler: BatchSampler) -> Any:
        twin = copy.copy(sampler)
        twin.sampler = self._copy(sampler.sampler)
        return twin

    # Of accelerate.

    def _seedable(self, sampler: Any) -> Any:  # seeds its generator anew for each epoch, and counts those itself
        twin = copy.copy(sampler)
        twin.generator = torch.Generator()
        return twin

    def _shard(self, sampler: Any) -> Any:
        if isinstance(sampler.batch_sampler, (list, tuple)):
            raise Unknown("batches that the sampler changes as it goes")
        twin = copy.copy(sampler)
        twin.batch_sampler = self._copy(sampler.batch_sampler)
        return twin

    # Of torchdata, whose iterators hold the state and can be set to an earlier one.

    def _stateful_random(self, sampler: Any) -> Any:
        self._sound = False  # it draws when an iterator is made, which loaders do more than once an epoch
        return self._with_generator(sampler)

    def _random_iterator(self, drawn: Any) -> Any:
        twin = copy.copy(drawn)
        twin.sampler = self._copy(drawn.sampler)
        return twin

    def _batch_iterator(self, drawn: Any) -> Any:
        twin, inner = copy.copy(drawn), drawn.sampler_iter
        iterator = self._ITERATORS.get(_name(type(inner)))
        if iterator is not None:
            twin.sampler_iter = iterator(self, inner)
        elif drawn.samples_yielded == 0 or hasattr(drawn.sampler, "load_state_dict"):
            twin.sampler_iter = iter(self._copy(drawn.sampler))
        else:
            raise Unknown("a sampler that was resumed by skipping")
        return twin

    _SAMPLERS: Dict[type, Callable[["Prediction", Any], Any]] = {
        list: _as_it_is,
        tuple: _as_it_is,
        range: _as_it_is,
        SequentialSampler: _as_it_is,
        RandomSampler: _random,
        SubsetRandomSampler: _with_generator,
        WeightedRandomSampler: _weighted,
        DistributedSampler: _distributed,
        BatchSampler: _batches,
    }  # exact types: a subclass may do anything
    _FOREIGN: Dict[str, Callable[["Prediction", Any], Any]] = {
        "accelerate.data_loader.SeedableRandomSampler": _seedable,
        "accelerate.data_loader.BatchSamplerShard": _shard,
        "torchdata.stateful_dataloader.sampler.RandomSampler": _stateful_random,
        "torchdata.stateful_dataloader.sampler.BatchSampler": _batches,
        "torchdata.stateful_dataloader.sampler.StatefulDistributedSampler": _distributed,
    }
    _ITERATORS: Dict[str, Callable[["Prediction", Any], Any]] = {
        "torchdata.stateful_dataloader.sampler._StatefulRandomSamplerIterator": _random_iterator,
        "torchdata.stateful_dataloader.sampler._BatchSamplerIterator": _batch_iterator,
    }


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def predict(sampler: Any, *arguments: Any) -> Optional[Prediction]:
    """The Prediction of a sampler; None if there can be none."""
    try:
        return Prediction(sampler, *arguments)
    except Exception:  # whatever is wrong with the sampler, drawing from it will say so
        return None
