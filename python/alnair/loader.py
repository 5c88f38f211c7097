"""AlnairJobDataLoader: PyTorch's DataLoader, with the objects that it will read brought to this node ahead of the loop."""

from __future__ import annotations

import os
from typing import Any, Dict, Iterator, Optional, Tuple, TypeVar

from . import _torch  # noqa: F401  (first: it checks that there is a PyTorch)
from . import _stats, _values, _windowed

from torch.utils.data import DataLoader  # isort: skip

from ._ahead import Ahead, StatefulAhead
from ._receive import receive_ahead
from ._route import prepare
from .errors import ConfigError, OptionTypeError

_lookahead = _values.at_least(0, "a number of MiB")
_Loader = TypeVar("_Loader", bound="DataLoader[Any]")


def _drawn_from(loader: Any, sampler: Any) -> Any:
    """What a loader draws from in place of its index sampler."""
    if _windowed.has_windows(loader.dataset):
        return _windowed.WindowSampler(loader)
    if loader.lookahead == 0 or loader._dataset_kind != 0:  # an iterable dataset draws no indices
        return sampler
    in_flight = loader.num_workers * (loader.prefetch_factor or 2)
    seeds = None if loader.persistent_workers and loader.num_workers > 0 else loader.generator
    kind = StatefulAhead if hasattr(sampler, "state_dict") else Ahead
    return kind(sampler, loader.dataset, in_flight, (loader.lookahead or 0) << 20, seeds)


class AlnairJobDataLoader(DataLoader[Any]):
    """A ``torch.utils.data.DataLoader`` that prefetches.

    It takes every argument of the installed PyTorch's DataLoader, and yields the same batches: with equal seeds, batches and
    random states are equal at every step. Over another dataset than Alnair's it is a plain DataLoader.

    Args:
        dataset: an ``AlnairJobDataset``, also in ``Subset``s (``random_split``) and ``ConcatDataset``s.
        lookahead: MiB of objects that are brought ahead of the loop at most, by the process of the loop, whatever
            ``num_workers``; 0 turns it off. Default: ALNAIR_LOOKAHEAD, else what fits node memory's transit area.

    A dataset of several windows (``lazyloading=False`` with ``maxmemory``) is read window by window: no batch spans two of them,
    ``shuffle`` shuffles their order and the samples within, and ``len()`` is known after the first epoch. A ``DistributedSampler``
    is remade for each window; other samplers than PyTorch's sequential, random and distributed ones are refused.
    """

    def __init__(self, dataset: Any, *args: Any, lookahead: Optional[int] = None, **kwargs: Any) -> None:
        self.lookahead = _resolved(lookahead)
        self._own: Optional[Iterator[Any]] = None  # the epoch of next(loader)
        if (args[1] if len(args) > 1 else kwargs.get("shuffle")) and _windowed.has_windows(dataset):
            _windowed.enter_one_with_samples(dataset)
        super().__init__(dataset, *args, **kwargs)

    @property
    def _index_sampler(self) -> Any:  # what the base class draws batches of indices from
        return _drawn_from(self, super()._index_sampler)

    def _get_iterator(self) -> Any:
        prepare(self.dataset)
        return receive_ahead(super()._get_iterator())

    def __iter__(self) -> Any:
        _stats.begin_epoch()
        return _windowed.Epoch(self, super().__iter__) if _windowed.has_windows(self.dataset) else super().__iter__()

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


def attach(loader: _Loader, *, lookahead: Optional[int] = None) -> _Loader:
    """Gives look-ahead to a DataLoader over an Alnair dataset, however it was built, and returns it.

    For loaders that a framework makes: its batches and random states stay what they are. The loader's class becomes a subclass
    of what it was. A dataset of several windows is passed through, as by ``AlnairJobDataLoader``. Over other datasets nothing
    changes. Loaders of accelerate (and so of Hugging Face's Trainer) are looked into.

    Args:
        loader: an instance of ``torch.utils.data.DataLoader`` or of a subclass.
        lookahead: as for ``AlnairJobDataLoader``.

    Raises:
        ConfigError: it is no DataLoader, ``lookahead`` is no number of MiB, or the dataset has windows that it cannot pass through.
    """
    inner = vars(loader).get("base_dataloader", loader) if hasattr(loader, "__dict__") else loader
    kind = type(inner)
    if not issubclass(kind, DataLoader):
        raise OptionTypeError(f"attach() takes a torch.utils.data.DataLoader, not {kind.__name__}")
    if hasattr(kind, "state_dict") and _windowed.has_windows(inner.dataset):
        raise ConfigError(f"a {kind.__name__} cannot pass through windows, in which it has no state; use lazyloading=True")
    inner.lookahead = _resolved(lookahead)
    if kind not in _attached.values() and not issubclass(kind, AlnairJobDataLoader):
        inner.__class__ = _with_look_ahead(kind)
    return loader


def _resolved(lookahead: Optional[int]) -> Optional[int]:
    if lookahead is not None:
        return _lookahead(lookahead, "lookahead")  # type: ignore[no-any-return]
    if os.environ.get("ALNAIR_LOOKAHEAD"):
        return _lookahead(os.environ["ALNAIR_LOOKAHEAD"], "ALNAIR_LOOKAHEAD")  # type: ignore[no-any-return]
    return None


_attached: Dict[type, type] = {}  # subclasses that attach() has made


def _with_look_ahead(kind: Any) -> type:
    if kind not in _attached:
        # The only base is the class itself: Python exchanges an object's class only for one of the same layout.
        class Attached(kind):  # type: ignore[misc]
            lookahead: Optional[int] = None

            @property
            def _index_sampler(self) -> Any:
                return _drawn_from(self, super()._index_sampler)

            def __iter__(self) -> Any:
                _stats.begin_epoch()
                return _windowed.Epoch(self, super().__iter__) if _windowed.has_windows(self.dataset) else super().__iter__()

            def __len__(self) -> int:
                return _windowed.length(self) if _windowed.has_windows(self.dataset) else super().__len__()

            def _get_iterator(self) -> Any:
                prepare(self.dataset)
                return receive_ahead(super()._get_iterator())

            def __reduce_ex__(self, protocol: Any) -> Tuple[Any, ...]:
                return _restored, (kind, self.__dict__)

        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            setattr(Attached, name, getattr(kind, name))
        _attached[kind] = Attached
    return _attached[kind]


def _restored(kind: Any, state: Dict[str, Any]) -> Any:
    loader = kind.__new__(_with_look_ahead(kind))
    loader.__dict__.update(state)
    return loader
