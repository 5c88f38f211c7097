"""The parts in which a dataset is loaded that is larger than the memory for it."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Dict, List, Tuple

from . import _core
from ._packed import position
from ._source import Source
from .errors import ConfigError


class WindowIndex(int):
    """The first index of a batch, on its way to a worker that may be at another window."""

    window: int

    def __new__(cls, index: int, window: int) -> "WindowIndex":
        """An index that says of which window it is."""
        made = super().__new__(cls, index)
        made.window = window
        return made

    def __reduce__(self) -> Tuple[Any, ...]:
        return WindowIndex, (int(self), self.window)


class Window(Sequence):  # type: ignore[type-arg]
    """A part of the dataset that is loaded at once: for each object a dict with its `name`, `key` (a handle) and `size`."""

    def __init__(self, source: Source, start: int, stop: int) -> None:
        self.source, self.start, self.stop = source, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = self.start + position(index, len(self), "the window")
        handle = _core.Handle(self.source, place)
        item: Dict[str, Any] = {"name": handle.key, "key": handle, "size": handle.size}
        return item

    def __repr__(self) -> str:
        return f"<window of {len(self)} objects>"


def cut_windows(sizes: "array[int]", limit: int) -> List[Tuple[int, int]]:
    """Cuts objects of these sizes, in order, into ranges [start, stop) of at most `limit` bytes each (0: one range).

    Raises ValueError with the index of an object that is larger than the limit.
    """
    if limit == 0:
        return [(0, len(sizes))]
    ranges, start, total = [], 0, 0
    for index, size in enumerate(sizes):
        if size > limit:
            raise ValueError(index)
        if total + size > limit:
            ranges.append((start, index))
            start, total = index, 0
        total += size
    ranges.append((start, len(sizes)))
    return ranges


def windows(source: Source) -> List[Window]:
    """The windows of a dataset: several only without lazy loading, under a limit of memory."""
    config, core = source.config, source.core
    limit = 0 if config.lazyloading else config.maxmemory << 20
    if limit == 0:
        return [Window(source, 0, len(core))]
    sizes = array("Q")
    sizes.frombytes(core.sizes(0, len(core)))
    try:
        return [Window(source, start, stop) for start, stop in cut_windows(sizes, limit)]
    except ValueError as error:
        index = error.args[0]
        raise ConfigError(
            f"the object {core.key(index)!r} has {sizes[index]} bytes, more than maxmemory ({config.maxmemory} MiB); "
            "raise maxmemory, or use lazyloading=True"
        ) from None
