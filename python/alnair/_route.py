"""From the indices that a DataLoader reads to objects of Alnair datasets, through the wrappers that PyTorch has."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Any, Iterator, List, Optional, Sequence

from torch.utils.data import ConcatDataset, Subset

from ._source import Source
from .dataset import AlnairJobDataset


class Route:
    """Follows ``Subset``s (``random_split``) and ``ConcatDataset``s down to Alnair datasets, which it has convert.

    What is behind other wrappers, and samples that are not read when used, is passed over. A subclass of a wrapper is
    another wrapper.
    """

    def __init__(self, dataset: Any) -> None:
        self.sources: List[Source] = []  # distinct
        self.exact = True  # whether each index is one object of the one source
        self._steps = self._follow(dataset)

    def objects(self, indices: Sequence[Any]) -> List["array[int]"]:
        """For each source the objects behind indices, in their order. Raises LookupError or TypeError for what is no index."""
        found = [array("Q") for _ in self.sources]
        self._steps.find(indices, found)
        return found

    def _follow(self, dataset: Any) -> "_Step":
        if type(dataset) is Subset:
            return _Through(dataset.indices, self._follow(dataset.dataset))
        if type(dataset) is ConcatDataset:
            return _Parts(dataset.cumulative_sizes, [self._follow(part) for part in dataset.datasets])
        if isinstance(dataset, AlnairJobDataset):
            dataset.data  # converts, if that is not done: before workers are made  # noqa: B018
            state, hooked = dataset._alnair, dataset._maps_keys
            if hooked or state.objects is not None:
                if state.source not in self.sources:
                    self.sources.append(state.source)
                self.exact = self.exact and not hooked and len(self.sources) == 1
                lane = self.sources.index(state.source)
                return _Hooked(dataset, lane) if hooked else _Objects(state.objects, lane)
        self.exact = False
        return _Step()


class _Step:
    """What leads nowhere."""

    def find(self, indices: Sequence[Any], found: List["array[int]"]) -> None:
        """Appends to `found`, by source, the objects behind the indices."""


class _Objects(_Step):
    def __init__(self, objects: Any, lane: int) -> None:
        self._objects, self._lane = objects, lane

    def find(self, indices: Sequence[Any], found: List["array[int]"]) -> None:
        objects = self._objects
        found[self._lane].extend([objects[index] for index in indices])


class _Hooked(_Step):
    def __init__(self, dataset: AlnairJobDataset, lane: int) -> None:
        self._dataset, self._lane = dataset, lane

    def find(self, indices: Sequence[Any], found: List["array[int]"]) -> None:
        found[self._lane].extend(self._dataset._objects_of(indices))


class _Through(_Step):
    def __init__(self, places: Sequence[int], inner: _Step) -> None:
        self._places, self._inner = places, inner

    def find(self, indices: Sequence[Any], found: List["array[int]"]) -> None:
        places = self._places
        self._inner.find([places[index] for index in indices], found)


class _Parts(_Step):
    def __init__(self, ends: Sequence[int], parts: List[_Step]) -> None:
        self._ends, self._parts = ends, parts

    def find(self, indices: Sequence[Any], found: List["array[int]"]) -> None:
        ends = self._ends
        for index in indices:
            if index < 0:
                index += ends[-1]
            part = bisect_right(ends, index)
            self._parts[part].find([index - (ends[part - 1] if part else 0)], found)


class _Batch:
    """``__getitems__`` for a wrapper that has none: the batch is fetched at once, then read as it would be."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __call__(self, indices: Sequence[Any]) -> List[Any]:
        route = Route(self._dataset)
        try:
            for source, objects in zip(route.sources, route.objects(indices)):
                source.hold(objects)
        except (LookupError, TypeError):
            pass  # reading it will say what is wrong
        try:
            return [self._dataset[index] for index in indices]
        finally:
            for source in route.sources:
                source.release()


def prepare(dataset: Any) -> None:
    """Makes what a loader reads ready for it: to be called before an epoch, in the process of the loop.

    All ranks read the same versions (else ChangedError). Wrappers that PyTorch reads sample by sample (ConcatDataset, Subset before
    2.1) get a way to read a batch at once.
    """
    for each in leaves(dataset):
        each._alnair.source.agree()
    if type(dataset) is Subset:
        prepare(dataset.dataset)
    wraps = type(dataset) in (Subset, ConcatDataset) and next(leaves(dataset), None) is not None
    if wraps and not hasattr(dataset, "__getitems__"):
        setattr(dataset, "__getitems__", _Batch(dataset))  # DataLoader's fetcher, and Subset, look it up on the object


def leaves(dataset: Any) -> Iterator[AlnairJobDataset]:
    """The Alnair datasets behind the wrappers that are known."""
    if type(dataset) is Subset:
        yield from leaves(dataset.dataset)
    elif type(dataset) is ConcatDataset:
        for part in dataset.datasets:
            yield from leaves(part)
    elif isinstance(dataset, AlnairJobDataset):
        yield dataset


def trace(dataset: Any) -> Optional[Route]:
    """The Route; None if it leads to no Alnair dataset that reads objects when they are used."""
    route = Route(dataset)
    return route if route.sources else None
