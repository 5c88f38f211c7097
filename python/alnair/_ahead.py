"""Prefetching ahead of a DataLoader's loop, in the process of the loop."""

from __future__ import annotations

from array import array
from collections import deque
from itertools import islice
from typing import Any, Deque, Iterable, Iterator, List, Optional, Sequence

from torch.utils.data import Subset

from ._order import predict
from .dataset import AlnairJobDataset

PIECE = 1 << 20  # indices handed to the library at once: 8 MiB


class Route:
    """From the indices that a sampler yields to objects of one source."""

    def __init__(self, dataset: AlnairJobDataset, subsets: Sequence[Sequence[int]]) -> None:
        dataset.data  # converts, if that is not done: before workers are made  # noqa: B018
        self.source = dataset._alnair.source
        self._objects = dataset._alnair.objects
        self._subsets = subsets  # outermost first

    @property
    def known(self) -> bool:
        """Whether the samples are objects that are read when used."""
        return self._objects is not None

    def objects(self, indices: Iterable[int]) -> "array[int]":
        """The objects behind indices. Raises IndexError or TypeError for what is no index."""
        for subset in self._subsets:
            indices = [subset[index] for index in indices]
        objects = self._objects
        assert objects is not None
        return array("Q", [objects[index] for index in indices])


def trace(dataset: Any) -> Optional[Route]:
    """Follows wrappers down to an Alnair dataset; None where there is none, or a wrapper is unknown."""
    subsets: List[Sequence[int]] = []
    while type(dataset) is Subset:
        subsets.append(dataset.indices)
        dataset = dataset.dataset
    if not isinstance(dataset, AlnairJobDataset):
        return None
    route = Route(dataset, subsets)
    return route if route.known else None


class Ahead:
    """A sampler that yields just what `sampler` does, and has it prefetched."""

    def __init__(self, sampler: Any, dataset: Any, in_flight: int, budget_bytes: int) -> None:
        self._sampler = sampler
        self._dataset = dataset
        self._in_flight = in_flight  # batches that are drawn before the loop gets the first one
        self._budget = budget_bytes  # 0: the library's default

    def __iter__(self) -> Iterator[Any]:
        route = trace(self._dataset)
        drawn = iter(self._sampler)
        return drawn if route is None else Walk(drawn, self._sampler, route, self._in_flight, self._budget)

    def __len__(self) -> int:
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)


class Walk:
    """One epoch. Draws from the sampler exactly when it is asked to; cancels what is in flight when it is dropped."""

    def __init__(self, drawn: Iterator[Any], sampler: Any, route: Route, in_flight: int, budget: int) -> None:
        self._drawn = drawn
        self._sampler = sampler
        self._source = route.source
        self._route = route
        self._budget = budget
        self._token: Optional[object] = None  # set once begun; the source knows whose order it follows
        self._order: Optional[Iterator[int]] = None  # of the prediction, what has not been handed over; None: unknown
        self._handed = 0  # indices handed over
        self._total = 0  # indices drawn
        self._in_flight = in_flight
        self._totals: Deque[int] = deque(maxlen=in_flight + 1)  # the total after each of the last batches

    def __iter__(self) -> "Walk":
        return self

    def __next__(self) -> Any:
        if self._token is None:
            self._begin()
        before = self._total
        batch = next(self._drawn)
        self._total += len(batch) if isinstance(batch, (list, tuple)) else 1
        self._totals.append(self._total)
        if self._source.prefetch_owner is self._token:  # else another loop over the same dataset has begun since
            self._hand_over(batch)
            if self._in_flight == 0:
                self._source.core.prefetch_advance(before)  # asking for a batch means being done with the one before
            elif len(self._totals) > self._in_flight:
                self._source.core.prefetch_advance(self._totals[0])
        return batch

    def _begin(self) -> None:
        self._token = object()
        order = predict(self._sampler)
        if order is None and self._in_flight == 0:
            return  # what is drawn is read at once
        self._order = None if order is None else iter(order)
        self._source.prefetch_owner = self._token
        self._source.core.prefetch(self._next_piece(), self._budget)

    def _next_piece(self) -> "array[int]":
        if self._order is None:
            return array("Q")
        try:
            piece = self._route.objects(islice(self._order, PIECE))
        except (IndexError, TypeError):  # reading it will say what is wrong
            piece = array("Q")
        if len(piece) < PIECE:
            self._order = iter(())
        self._handed += len(piece)
        return piece

    def _hand_over(self, batch: Any) -> None:
        if self._order is not None:
            if self._handed - self._total < PIECE // 2:
                piece = self._next_piece()
                if piece:
                    self._source.core.prefetch_extend(piece)
            return
        try:
            self._source.core.prefetch_extend(self._route.objects(batch if isinstance(batch, (list, tuple)) else [batch]))
        except (IndexError, TypeError):
            pass  # reading it will say what is wrong

    def __del__(self) -> None:
        if self._token is not None and self._source.prefetch_owner is self._token:
            self._source.prefetch_owner = None
            self._source.core.prefetch_cancel()
