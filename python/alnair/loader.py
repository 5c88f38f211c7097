"""AlnairJobDataLoader: PyTorch's DataLoader, with the objects that it will read brought to this node ahead of the loop."""

from __future__ import annotations

import os
from typing import Any, Iterator, Optional

from . import _torch  # noqa: F401  (first: it checks that there is a PyTorch)
from . import _values, _windowed

from torch.utils.data import DataLoader  # isort: skip

from ._ahead import Ahead

_lookahead = _values.at_least(0, "a number of MiB")


class AlnairJobDataLoader(DataLoader[Any]):
    """A ``torch.utils.data.DataLoader`` that prefetches.

    It takes every argument of the installed PyTorch's DataLoader, and yields the same batches: with equal seeds, batches and
    random states are equal at every step. Over another dataset than Alnair's it is a plain DataLoader.

    Args:
        dataset: an ``AlnairJobDataset``, also in ``Subset``s (``random_split``).
        lookahead: MiB of objects that are brought ahead of the loop at most, by the process of the loop, whatever
            ``num_workers``; 0 turns it off. Default: ALNAIR_LOOKAHEAD, else what fits node memory's transit area.

    A dataset of several windows (``lazyloading=False`` with ``maxmemory``) is read window by window: no batch spans two of them,
    ``shuffle`` shuffles their order and the samples within, and ``len()`` is known after the first epoch. A ``DistributedSampler``
    is remade for each window; other samplers than PyTorch's sequential, random and distributed ones are refused.
    """

    def __init__(self, dataset: Any, *args: Any, lookahead: Optional[int] = None, **kwargs: Any) -> None:
        if lookahead is not None:
            lookahead = _lookahead(lookahead, "lookahead")
        elif os.environ.get("ALNAIR_LOOKAHEAD"):
            lookahead = _lookahead(os.environ["ALNAIR_LOOKAHEAD"], "ALNAIR_LOOKAHEAD")
        self.lookahead = lookahead
        self._own: Optional[Iterator[Any]] = None  # the epoch of next(loader)
        super().__init__(dataset, *args, **kwargs)

    @property
    def _index_sampler(self) -> Any:  # what the base class draws batches of indices from
        if _windowed.has_windows(self.dataset):
            return _windowed.WindowSampler(self)
        sampler = super()._index_sampler
        if self.lookahead == 0:
            return sampler
        in_flight = self.num_workers * (self.prefetch_factor or 2)
        return Ahead(sampler, self.dataset, in_flight, (self.lookahead or 0) << 20)

    def __iter__(self) -> Any:
        return _windowed.Epoch(self) if _windowed.has_windows(self.dataset) else super().__iter__()

    def __len__(self) -> int:
        return _windowed.length(self) if _windowed.has_windows(self.dataset) else super().__len__()

    def __next__(self) -> Any:
        """The next batch of this loader's own epoch; StopIteration at its end, after which another begins."""
        if self._own is None:
            self._own = iter(self)
        try:
            return next(self._own)
        except StopIteration:
            self._own = None
            raise
