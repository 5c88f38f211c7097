"""Lists of handles, keys or numbers, kept as numbers beside each other.

A list of a million Python objects costs each worker process a copy of its pages, because counting references writes to
them, and a pickle of many megabytes. These hold one array, or a range where the numbers are consecutive: forked workers share
its pages, and spawned ones map a file that the process that pickles leaves in node memory's directory.
"""

from __future__ import annotations

import functools
import itertools
import operator
from array import array
from collections.abc import Sequence
from typing import Any, Iterator, List, Optional, Tuple, Union

from . import _core
from ._source import Source
from .errors import OutOfRangeError

_BLOCK = 4096  # keys that an iteration takes from the manifest at once

Numbers = Union[range, memoryview]  # of 64-bit integers or floats


def position(index: Any, size: int, what: str) -> int:
    """A checked index, counted from the end if negative."""
    number = operator.index(index)
    if not -size <= number < size:
        raise OutOfRangeError(f"index {number} is out of range: {what} has {size}")
    return number + size if number < 0 else number


def _view(values: Any, code: Any) -> memoryview:
    return memoryview(values).cast("B").cast(code).toreadonly()


class Packed(Sequence):  # type: ignore[type-arg]
    """A list that cannot be changed. What is sliced, added or copied from it is a real list."""

    numbers: Numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def _items(self, numbers: Numbers) -> Iterator[Any]:
        """The items that these numbers stand for."""
        raise NotImplementedError

    def _item(self, number: Any) -> Any:
        """The item that a number stands for."""
        raise NotImplementedError

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return list(self._items(self.numbers[index]))
        return self._item(self.numbers[position(index, len(self.numbers), "the list")])

    def __iter__(self) -> Iterator[Any]:
        return self._items(self.numbers)

    def __reversed__(self) -> Iterator[Any]:
        return self._items(self.numbers[::-1])

    def index(self, value: Any, start: int = 0, stop: Optional[int] = None) -> int:
        """The first place of an item."""
        first, last, _ = slice(start, stop).indices(len(self))
        for place, item in enumerate(self._items(self.numbers[first:last]), first):
            if item == value:
                return place
        raise ValueError(f"{value!r} is not in the list")

    def count(self, value: Any) -> int:
        """How often an item is there."""
        return sum(item == value for item in self)

    def copy(self) -> List[Any]:
        """A list of the items."""
        return list(self)

    __copy__ = copy

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Packed, list)):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: Any) -> List[Any]:
        return list(self) + list(other) if isinstance(other, (Packed, list)) else NotImplemented

    def __radd__(self, other: Any) -> List[Any]:
        return list(other) + list(self) if isinstance(other, list) else NotImplemented

    def __mul__(self, times: int) -> List[Any]:
        return list(self) * times

    __rmul__ = __mul__

    def __repr__(self) -> str:
        shown = [repr(item) for item in self[:3]] + (["..."] if len(self) > 3 else [])
        return f"<{len(self)} {type(self).__name__.lower()}: {', '.join(shown)}>"


class Keys(Packed):
    """Keys of objects; ``dataset.keys`` has them in bytewise order."""

    def __init__(self, source: Source, numbers: Numbers) -> None:
        self.source, self.numbers = source, numbers

    def _item(self, number: Any) -> Any:
        return self.source.key(number)

    def _items(self, numbers: Numbers) -> Iterator[str]:
        if not (isinstance(numbers, range) and numbers.step == 1):
            return map(self.source.key, numbers)
        starts = range(numbers.start, numbers.stop, _BLOCK)
        blocks = (self.source.core.keys(start, min(start + _BLOCK, numbers.stop)) for start in starts)
        return itertools.chain.from_iterable(blocks)

    def find(self, key: object) -> Optional[int]:
        """The first place of a key, or None. Among all keys of a window that is fast."""
        number = self.source.core.find(key) if isinstance(key, str) else None
        if number is None:
            return None
        if isinstance(self.numbers, range):
            return self.numbers.index(number) if number in self.numbers else None
        return next((place for place, other in enumerate(self.numbers) if other == number), None)

    def __contains__(self, key: object) -> bool:
        return self.find(key) is not None

    def index(self, value: Any, start: int = 0, stop: Optional[int] = None) -> int:
        """The first place of a key."""
        first, last, _ = slice(start, stop).indices(len(self))
        found = Keys(self.source, self.numbers[first:last]).find(value)
        if found is None:
            raise ValueError(f"{value!r} is not in the list of keys")
        return found + first

    def __reduce__(self) -> Tuple[Any, ...]:
        return Keys, (self.source, _Portable(self.numbers))


class Handles(Packed):
    """Handles of objects."""

    def __init__(self, source: Source, numbers: Numbers) -> None:
        self.source, self.numbers = source, numbers

    def _item(self, number: Any) -> Any:
        return _core.Handle(self.source, number)

    def _items(self, numbers: Numbers) -> Iterator[_core.Handle]:
        return map(functools.partial(_core.Handle, self.source), numbers)

    def __reduce__(self) -> Tuple[Any, ...]:
        return Handles, (self.source, _Portable(self.numbers))


class Values(Packed):
    """Whole numbers, or floats. ``numpy.asarray`` and ``torch.tensor`` make of them what they make of a list."""

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers

    def _item(self, number: Any) -> Any:
        return number

    def _items(self, numbers: Numbers) -> Iterator[Any]:
        return iter(numbers)

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Any:
        import numpy

        if isinstance(self.numbers, range):
            return numpy.arange(self.numbers.start, self.numbers.stop, dtype=dtype or numpy.int64)
        found = numpy.frombuffer(self.numbers, numpy.float64 if self.numbers.format == "d" else numpy.int64)
        if copy is False and dtype in (None, found.dtype):
            return found
        return numpy.array(found, dtype=dtype)

    def __reduce__(self) -> Tuple[Any, ...]:
        return Values, (_Portable(self.numbers),)


class _Portable:
    """Numbers in a pickle of their own: whole."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def __reduce__(self) -> Tuple[Any, ...]:
        if isinstance(self._numbers, range):
            return range, (self._numbers.start, self._numbers.stop)
        return _view, (self._numbers.tobytes(), self._numbers.format)


def _numbers(values: Any, code: str) -> Numbers:
    """The values of an array or of bytes; a range if they are consecutive whole numbers."""
    view = _view(values, code)
    if code != "d" and len(view) > 0:
        consecutive = range(view[0], view[0] + len(view))
        if view[-1] == consecutive[-1] and all(map(operator.eq, view, consecutive)):
            return consecutive
    return view


def pack(source: Source, values: Any) -> Any:
    """A packed list that is equal to the list `values`; everything but a list of handles, keys or numbers as it is."""
    if type(values) is not list or not values:
        return values
    types = set(map(type, values))
    if len(types) > 1:
        return values
    (kind,) = types
    if kind is _core.Handle:
        packed = _core.handle_indices(source, values)
        return values if packed is None else Handles(source, _numbers(packed, "Q"))
    if kind is str:
        packed = source.core.find_all(values)
        return values if packed is None else Keys(source, _numbers(packed, "Q"))
    if kind is int or kind is float:
        code = "d" if kind is float else "q"
        try:
            return Values(_numbers(array(code, values), code))
        except OverflowError:  # more than 64 bits
            return values
    return values


# In the pickle of a dataset, which is short: a list's kind, and a range, or the name of a file and the type of its numbers.
Token = Tuple[Any, ...]
_KINDS = {"keys": Keys, "handles": Handles, "values": Values}


def lend(source: Source, values: Packed) -> Optional[Token]:
    """A token by which the processes of this node find the numbers; None where nothing can be shared."""
    kind, numbers = type(values).__name__.lower(), values.numbers
    if isinstance(numbers, range):
        return kind, numbers.start, numbers.stop
    name = source.core.lend(numbers)
    return (kind, name, numbers.format) if name else None


def lent(source: Source, token: Token) -> Packed:
    """The list of a token. Raises LookupError if its file is gone."""
    kind, first, second = token
    if isinstance(first, int):
        numbers: Numbers = range(first, second)
    else:
        found = source.core.lent(first)
        if found is None:
            raise LookupError(first)
        numbers = _view(found, second)
    return Values(numbers) if kind == "values" else _KINDS[kind](source, numbers)
