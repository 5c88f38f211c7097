"""What a dataset shows of its objects: keys, a mapping from keys to samples, and windows. All are lazy."""

from __future__ import annotations

import operator
from array import array
from collections.abc import ItemsView, Mapping, Sequence, ValuesView
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from . import _core
from ._source import Source
from .errors import ConfigError, NotFoundError, OutOfRangeError

_BLOCK = 4096  # keys that an iteration takes from the manifest at once


def position(index: Any, size: int, what: str) -> int:
    """A checked index, counted from the end if negative."""
    number = operator.index(index)
    if not -size <= number < size:
        raise OutOfRangeError(f"index {number} is out of range: {what} has {size}")
    return number + size if number < 0 else number


class Keys(Sequence):  # type: ignore[type-arg]
    """The keys of a window's objects, in bytewise order. A list in all but memory."""

    def __init__(self, source: Source, start: int, stop: int) -> None:
        self._source, self._start, self._stop = source, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._source.core.keys(self._start + start, self._start + max(start, stop))
            return [self._source.key(self._start + i) for i in range(start, stop, step)]
        return self._source.key(self._start + position(index, len(self), "the list of keys"))

    def __iter__(self) -> Iterator[str]:
        for start in range(self._start, self._stop, _BLOCK):
            yield from self._source.core.keys(start, min(start + _BLOCK, self._stop))

    def find(self, key: object) -> Optional[int]:
        """The place of a key, or None."""
        found = self._source.core.find(key) if isinstance(key, str) else None
        return found - self._start if found is not None and self._start <= found < self._stop else None

    def __contains__(self, key: object) -> bool:
        return self.find(key) is not None

    def index(self, value: Any, start: int = 0, stop: Optional[int] = None) -> int:
        """The place of a key."""
        found = self.find(value)
        if found is None or not start <= found < (len(self) if stop is None else stop):
            raise ValueError(f"{value!r} is not in the list of keys")
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Keys, list, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other))

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: Any) -> List[str]:
        return list(self) + list(other)

    def __repr__(self) -> str:
        shown = [repr(key) for key in self[:3]] + (["..."] if len(self) > 3 else [])
        return f"<{len(self)} keys: {', '.join(shown)}>"


class _Values(ValuesView):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Any]:
        return iter(self._mapping.samples())  # type: ignore[attr-defined]


class _Items(ItemsView):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Tuple[str, Any]]:
        return zip(self._mapping.keys(), self._mapping.samples())  # type: ignore[attr-defined]


class Objects(Mapping):  # type: ignore[type-arg]
    """A window's samples by key, and by number in the order of keys: handles, or bytes if they have been loaded."""

    def __init__(self, source: Source, start: int, stop: int, loaded: Optional[List[bytes]] = None) -> None:
        self.source, self.start, self.stop = source, start, stop
        self.loaded = loaded
        self._keys = Keys(source, start, stop)

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __getitem__(self, key: Any) -> Union[_core.Handle, bytes]:
        if isinstance(key, str):
            place = self._keys.find(key)
            if place is None:
                raise NotFoundError(f"the dataset has no object {key!r}")
        else:
            place = position(key, len(self), "the dataset")
        return _core.Handle(self.source, self.start + place) if self.loaded is None else self.loaded[place]

    def samples(self) -> List[Any]:
        """All samples, in the order of keys."""
        if self.loaded is not None:
            return self.loaded
        return _core.make_handles(self.source, range(self.start, self.stop))

    def keys(self) -> Any:
        """The keys, as a list-like."""
        return self._keys

    def values(self) -> Any:
        """The samples."""
        return _Values(self)

    def items(self) -> Any:
        """Pairs of key and sample."""
        return _Items(self)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} objects by key>"


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
