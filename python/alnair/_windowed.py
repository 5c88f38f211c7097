"""An epoch over a dataset that is loaded window by window."""

from __future__ import annotations

from array import array
from typing import Any, Callable, Dict, Iterator, List, Optional

import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
)
from torch.utils.data.distributed import DistributedSampler

from ._windows import WindowIndex
from .dataset import AlnairJobDataset
from .errors import ConfigError


def has_windows(dataset: Any) -> bool:
    """Whether a loader has to pass through windows. Raises ConfigError for a wrapper around such a dataset."""
    if isinstance(dataset, AlnairJobDataset):
        return len(dataset.chunks) > 1
    inner = [dataset.dataset] if isinstance(dataset, Subset) else dataset.datasets if isinstance(dataset, ConcatDataset) else ()
    for each in inner:
        if has_windows(each):
            raise ConfigError(
                f"a {type(dataset).__name__} cannot be read of a dataset of windows, which has one at a time; use lazyloading=True"
            )
    return False


def enter_one_with_samples(dataset: AlnairJobDataset) -> None:
    """Makes a window the current one that has samples, if there is any: PyTorch refuses to shuffle none."""
    for window in range(len(dataset.chunks)):
        if len(dataset) > 0:
            return
        dataset.load_data(window)


def _refuse(dataset: AlnairJobDataset, sampler: Any) -> ConfigError:
    return ConfigError(
        f"a dataset of {len(dataset.chunks)} windows cannot be read in the order of a {type(sampler).__name__}; "
        "use lazyloading=True"
    )


class Plan:
    """What a loader does with each window: its sampler and batches. A function of the loader's attributes, cheap to make."""

    def __init__(self, loader: Any) -> None:
        self.dataset: AlnairJobDataset = loader.dataset
        batches = loader.batch_sampler
        if batches is not None and type(batches) is not BatchSampler:
            raise _refuse(self.dataset, batches)
        sampler: Any = loader.sampler if batches is None else batches.sampler
        self.sampler = sampler
        known = type(sampler) in (SequentialSampler, RandomSampler) and sampler.data_source is self.dataset
        if type(sampler) is RandomSampler and (sampler.replacement or sampler._num_samples is not None):
            known = False  # so many samples of the epoch, not of each window
        if not known and type(sampler) is not DistributedSampler:
            raise _refuse(self.dataset, sampler)
        self.batch_size: Optional[int] = None if batches is None else batches.batch_size
        self.drop_last = batches is not None and batches.drop_last

    def order(self) -> List[int]:
        """The windows of the coming epoch. Draws from the sampler's generator, or is a function of its seed and epoch."""
        count, sampler, generator = len(self.dataset.chunks), self.sampler, None
        if type(sampler) is RandomSampler:
            generator = sampler.generator
        elif type(sampler) is DistributedSampler and sampler.shuffle:
            generator = torch.Generator().manual_seed(sampler.seed + sampler.epoch)
        else:
            return list(range(count))
        return torch.randperm(count, generator=generator).tolist()

    def samples(self, window: int, length: int) -> Any:
        """The sampler for a window of so many samples, the current one if its samples are to be drawn."""
        if type(self.sampler) is not DistributedSampler:
            return self.sampler if length > 0 else ()  # they look at the length whenever they are iterated
        given = self.sampler
        sampler: Any = DistributedSampler(
            range(length),  # type: ignore[arg-type]
            given.num_replicas,
            given.rank,
            given.shuffle,
            given.seed + (window << 32),  # windows of the same length are shuffled differently
            given.drop_last,
        )
        sampler.set_epoch(given.epoch)
        return sampler

    def indices(self, window: int, length: int) -> Any:
        """What a loader draws from for that window: batches, or single samples."""
        samples = self.samples(window, length)
        return samples if self.batch_size is None else BatchSampler(samples, self.batch_size, self.drop_last)

    def steps(self, window: int, length: int) -> int:
        """The number of batches (or single samples) that a window of so many samples gives, on every rank."""
        count = length if type(self.sampler) is not DistributedSampler else len(self.samples(window, length))
        if self.batch_size is None:
            return count
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)


class WindowSampler:
    """The index sampler of a loader over windows: that of the dataset's current window, whenever it is asked."""

    def __init__(self, loader: Any) -> None:
        # Not the loader: its iterator refers to this, and with persistent workers it to its iterator.
        self._plan, self._switches = Plan(loader), _switch_workers(loader)

    def __iter__(self) -> Iterator[Any]:
        plan, window = self._plan, self._plan.dataset._alnair.window
        indices: Iterator[Any] = iter(plan.indices(window, len(plan.dataset)))
        if not self._switches:
            return indices
        return ([WindowIndex(batch[0], window), *batch[1:]] for batch in indices)

    def __len__(self) -> int:
        return self._plan.steps(self._plan.dataset._alnair.window, len(self._plan.dataset))


def _switch_workers(loader: Any) -> bool:
    # Workers that stay learn of a new window by the batches' indices, which the dataset's own __getitems__ looks at.
    fetches = type(loader.dataset).__getitems__ is AlnairJobDataset.__getitems__
    return bool(loader.persistent_workers and loader.num_workers > 0 and loader.batch_sampler is not None and fetches)


def length(loader: Any) -> int:
    """The number of batches of an epoch. TypeError until every window has been converted once."""
    plan, dataset = Plan(loader), loader.dataset
    known: Dict[int, int] = dataset._alnair.lengths
    if len(known) < len(dataset.chunks) and not dataset._has_a_sample_for_each_object():
        raise TypeError(
            f"the loader's length is known after its first epoch: __convert__ decides how many samples each of the "
            f"{len(dataset.chunks)} windows has"
        )
    return sum(plan.steps(place, known.get(place, len(window))) for place, window in enumerate(dataset.chunks))


class Epoch:
    """Iterates over a loader's batches, window after window; brings the next window to this node meanwhile.

    What a sample raises is raised, and the next batch follows, as with PyTorch's iterators.
    """

    def __init__(self, loader: Any, begin: Callable[[], Iterator[Any]]) -> None:
        """`begin`: what the loader's iter() would be if there were no windows: one over the current window."""
        self._loader, self._dataset, self._begin = loader, loader.dataset, begin
        self._plan = Plan(loader)
        self._windows = self._plan.order()
        self._source = self._dataset._alnair.source
        self._token: Optional[object] = object() if loader.lookahead != 0 else None
        self._batches: Optional[Iterator[Any]] = None  # of the current window
        self._steps = self._step = 0
        self._enter()

    def __iter__(self) -> "Epoch":
        return self

    def __len__(self) -> int:
        return len(self._loader)

    def __next__(self) -> Any:
        while True:
            if self._batches is None:
                self._enter()
            if self._batches is None:
                raise StopIteration
            try:
                batch = next(self._batches)
            except StopIteration:
                self._batches = None
                continue
            self._advance()
            return batch

    def _enter(self) -> None:
        """Makes the next window that has batches the current one."""
        state, loader = self._dataset._alnair, self._loader
        while self._windows:
            window = self._windows[0]
            if state.window != window or not state.ready:
                self._dataset.load_data(window)  # what this raises, the next call meets again
            del self._windows[0]
            state.lengths[window] = len(self._dataset)
            self._step, self._steps = 0, self._plan.steps(window, len(self._dataset))
            self._fetch_ahead()
            if self._steps > 0:
                keep = _switch_workers(loader) or not loader.persistent_workers
                self._batches = self._begin() if keep else loader._get_iterator()
                return

    def _fetch_ahead(self) -> None:
        if self._token is None or not self._windows:
            return
        window = self._dataset.chunks[self._windows[0]]
        self._source.prefetch_owner = self._token
        self._source.core.prefetch(array("Q", range(window.start, window.stop)), (self._loader.lookahead or 0) << 20)

    def _advance(self) -> None:
        self._step += 1
        if self._token is None or self._source.prefetch_owner is not self._token:
            return
        if self._windows and self._source.config.usecache:
            # What is kept may be brought in step with the loop. Without a cache only what fits the transit area is.
            objects = len(self._dataset.chunks[self._windows[0]])
            self._source.core.prefetch_advance(objects * min(self._step, self._steps) // self._steps)

    def __del__(self) -> None:
        token = getattr(self, "_token", None)
        if token is not None and self._source.prefetch_owner is token:
            self._source.prefetch_owner = None
            self._source.core.prefetch_cancel()
