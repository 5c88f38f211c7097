"""Prefetching ahead of a DataLoader's loop, in the process of the loop."""

from __future__ import annotations

from array import array
from collections import deque
from itertools import islice
from typing import Any, Deque, Iterator, List, Optional, Sequence, Tuple

from ._log import logger
from ._order import Prediction, Unknown, begin, members, predict
from ._route import Route, trace
from ._source import Source

# Indices handed to the library at once: few at first, so that the first batch does not wait for them; then up to 2 MiB.
FIRST_PIECE, PIECE = 1 << 13, 1 << 18


class Ahead:
    """A sampler that yields just what `sampler` does, and has it prefetched.

    Args:
        sampler: what the loader draws from.
        dataset: what the loader reads.
        in_flight: batches that the loader draws before its loop gets the first one.
        budget: bytes of objects ahead of the loop; 0 for the library's default.
        seeds: the generator that the loader draws a seed from for each epoch; None if that is not one of its own.
    """

    def __init__(self, sampler: Any, dataset: Any, in_flight: int, budget: int, seeds: Any = None) -> None:
        self.sampler = sampler
        self.dataset = dataset
        self.in_flight = in_flight
        self.budget = budget
        self.seeds = seeds

    def __iter__(self) -> Iterator[Any]:
        drawn, known = begin(self.sampler)
        return (_StatefulWalk if hasattr(drawn, "state_dict") else Walk)(drawn, self, known)

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        if name == "sampler":  # not set yet: a copy in the making
            raise AttributeError(name)
        return getattr(self.sampler, name)


class _Stateful:
    """What torchdata's loader looks for; methods of the class, because it looks there and not at the object."""

    def state_dict(self) -> Any:
        return self._inner.state_dict()  # type: ignore[attr-defined]

    def load_state_dict(self, state: Any) -> None:
        self._inner.load_state_dict(state)  # type: ignore[attr-defined]


class StatefulAhead(_Stateful, Ahead):
    """The same for a sampler that has a state."""

    @property
    def _inner(self) -> Any:
        return self.sampler


class Lane:
    """One source's part in a loop. Advice: what fails here is not prefetched, and reading it will say why."""

    def __init__(self, source: Source, budget: int, here: bool) -> None:
        self.source = source
        self._budget = budget
        self._here = here  # the loop reads in this process

    def __call__(self, what: str, *arguments: Any) -> None:
        """Tells the prefetcher, unless another loop over the same source has begun since."""
        if self.source.prefetch_owner is self:
            try:
                getattr(self.source.core, what)(*arguments)
            except Exception as error:
                logger.debug("no look-ahead: %s", error)

    def begin(self, order: "array[int]") -> None:
        """Takes the prefetcher over, for objects in this order."""
        self.source.prefetch_owner = self
        self("prefetch", order, self._budget, self._here)

    def cancel(self) -> None:
        """Leaves the prefetcher to others."""
        if self.source.prefetch_owner is self:
            self("prefetch_cancel")
            self.source.prefetch_owner = None


class Walk:
    """One epoch. Draws from the sampler exactly when it is asked to; cancels what is in flight when it is dropped."""

    def __init__(self, drawn: Iterator[Any], ahead: Ahead, known: Any) -> None:
        self._inner = drawn
        self._known = known
        self._ahead = ahead
        self._begun = False
        self._route: Optional[Route] = None
        self._lanes: List[Lane] = []
        self._prediction: Optional[Prediction] = None
        self._upcoming: Optional[Iterator[Any]] = None  # of the prediction, what has not been handed over; None: unknown
        self._expected: List[Any] = []  # indices that were handed over and, from `_at` on, not drawn
        self._at = 0
        self._size = FIRST_PIECE  # how many are to be handed over next
        self._piece = 0  # how many were handed over last
        self._guessed = False  # the next epoch's beginning was handed over
        # For each lane how many objects were drawn, after each of the last batches: of those in flight, and the one before.
        self._counts: Deque[Tuple[int, ...]] = deque(maxlen=max(1, ahead.in_flight) + 1)
        self._ends = 0  # how often the loader has asked beyond the epoch's end: once for each batch in flight
        if ahead.in_flight > 0:
            self._find_route()  # before the loader makes workers

    def __iter__(self) -> "Walk":
        return self

    def __next__(self) -> Any:
        if not self._begun:
            self._prediction = predict(self._ahead.sampler, self._inner, self._ahead.seeds, self._known)
        try:
            batch = next(self._inner)
        except StopIteration:
            self._ends += 1
            self._follow([])
            raise
        try:
            indices = members(batch)
        except Unknown as error:
            logger.debug("no look-ahead: %s", error)
            self._leave()
        else:
            self._follow(indices)
        return batch

    def _find_route(self) -> None:
        self._route = route = trace(self._ahead.dataset)
        if route is None:
            return
        budget = self._ahead.budget
        if len(route.sources) > 1:  # they share it
            budget = (budget or route.sources[0].core.memory_usage()["limit_bytes"] // 16) // len(route.sources) or 1
        self._lanes = [Lane(source, budget, self._ahead.in_flight == 0) for source in route.sources]

    def _begin(self) -> None:
        self._begun = True
        if self._ahead.in_flight == 0:
            self._find_route()  # after the first draw, as the first sample would be
        if self._prediction is not None and self._lanes:
            self._upcoming = self._prediction.this_epoch()
        self._start()

    def _start(self) -> None:
        """Begins an order with what is predicted, or with nothing."""
        self._counts.clear()
        self._counts.append((0,) * len(self._lanes))
        pieces = self._next_piece()
        if pieces is None and self._ahead.in_flight == 0:
            self._leave()  # what is drawn is read at once
        for lane, piece in zip(self._lanes, pieces or [array("Q")] * len(self._lanes)):
            lane.begin(piece)

    def _leave(self) -> None:
        for lane in self._lanes:
            lane.cancel()
        self._lanes = []

    def _next_piece(self) -> "Optional[List[array[int]]]":
        """The objects of the next indices, to be handed over. None: what comes is not known."""
        try:
            piece, objects = self._take(self._upcoming)
        except Exception as error:  # of a sampler, or of a dataset's keys_of
            logger.debug("no look-ahead: %s", error)
            self._forget()
            return None
        self._expected[: self._at] = []
        self._expected += piece
        self._at = 0
        self._piece = len(piece)
        return objects

    def _take(self, indices: Optional[Iterator[Any]]) -> "Tuple[List[Any], List[array[int]]]":
        if indices is None or self._route is None:
            raise Unknown("nothing is predicted")
        piece = list(islice(indices, self._size))
        self._size = min(2 * self._size, PIECE)
        return piece, self._route.objects(piece)

    def _forget(self) -> None:
        """What was predicted is wrong, or ends."""
        self._prediction = self._upcoming = None
        self._expected, self._at = [], 0

    def _follow(self, indices: Sequence[Any]) -> None:
        """The loader has drawn these; none: it has asked beyond the end."""
        if not self._begun:
            self._begin()
        if self._upcoming is not None and indices:
            end = self._at + len(indices)
            if self._expected[self._at : end] == indices:
                self._at = end
            else:
                self._forget()
                self._start()
        try:
            if self._lanes:
                self._count(indices)
        except Exception as error:  # reading it will say what is wrong
            logger.debug("no look-ahead: %s", error)
            self._leave()
        if self._lanes and self._upcoming is not None:
            self._hand_over()

    def _count(self, indices: Sequence[Any]) -> None:
        assert self._route is not None
        drawn, known = self._counts[-1], self._upcoming is not None
        if known and self._route.exact:
            drawn = (drawn[0] + len(indices),)
        elif indices:
            objects = self._route.objects(indices)
            drawn = tuple(count + len(more) for count, more in zip(drawn, objects))
            if not known:
                self._extend(objects)
        self._counts.append(drawn)
        # Asking for a batch means being done with the first of those in flight.
        done = self._counts[0] if len(self._counts) == self._counts.maxlen else (0,) * len(drawn)
        for lane, *counts in zip(self._lanes, done, drawn):
            lane("prefetch_advance", *counts)

    def _hand_over(self) -> None:
        """Hands the next piece over when half of the last one is drawn; after the last, the next epoch's beginning."""
        if len(self._expected) - self._at > self._piece // 2 or self._guessed:
            return
        pieces = self._next_piece()
        if pieces is not None and self._piece == 0:
            self._guessed = True
            pieces = self._guess()
        if pieces is not None:
            self._extend(pieces)

    def _guess(self) -> "Optional[List[array[int]]]":
        try:
            return self._take(self._prediction.next_epoch() if self._prediction is not None else None)[1]
        except Exception as error:
            logger.debug("no look-ahead into the next epoch: %s", error)
            return None

    def _extend(self, pieces: "List[array[int]]") -> None:
        for lane, piece in zip(self._lanes, pieces):
            if piece:
                lane("prefetch_extend", piece)

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":  # not set yet
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __del__(self) -> None:
        if self._ends == 0 or self._ends < self._ahead.in_flight:  # else it is the next epoch that is fetched
            for lane in self._lanes:
                lane.cancel()


class _StatefulWalk(_Stateful, Walk):
    pass
