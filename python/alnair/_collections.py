"""What a dataset shows of its objects before they are converted: a lazy mapping from keys to samples."""

from __future__ import annotations

from collections.abc import ItemsView, Mapping, ValuesView
from typing import Any, Iterator, List, Optional, Tuple

from . import _core
from ._packed import Handles, Keys, position
from ._source import Source
from .errors import NotFoundError


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
        self._keys = Keys(source, range(start, stop))

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return list(self.samples()[key])
        if isinstance(key, str):
            place = self._keys.find(key)
            if place is None:
                raise NotFoundError(f"the dataset has no object {key!r}")
        else:
            place = position(key, len(self), "the dataset")
        return _core.Handle(self.source, self.start + place) if self.loaded is None else self.loaded[place]

    def samples(self) -> Any:
        """All samples, in the order of keys."""
        return Handles(self.source, range(self.start, self.stop)) if self.loaded is None else self.loaded

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
