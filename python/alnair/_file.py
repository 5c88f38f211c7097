"""A file over one object, for readers that seek: zipfile, tarfile, h5py, pyarrow."""

from __future__ import annotations

import io
from typing import Any

from ._source import Source

AHEAD_CHUNKS = 4  # that are on their way while a file is read in order


class ObjectFile(io.RawIOBase):
    """Reads an object chunk by chunk; only those that are touched are fetched. Where it is read in order, the next ones are
    on their way meanwhile. As with other files, two threads should not use one at once."""

    mode = "rb"

    def __init__(self, source: Source, index: int) -> None:
        super().__init__()
        self._source, self._index = source, index
        self.name = source.key(index)
        self.size = source.size_of(index)
        self._position = 0
        self._chunk = memoryview(b"")  # the last one read,
        self._start = 0  # its offset,
        self._number = -1  # and its number
        self._asked = 0  # chunks before this one have been asked for ahead

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The offset of the next byte to read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves, as in any file. Past the end is allowed: there is nothing to read there."""
        if self.closed:
            raise ValueError("seek of closed file")
        if whence not in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
            raise ValueError(f"whence is {whence}; expected 0, 1 or 2")
        position = offset + (0, self._position, self.size)[whence]
        if position < 0:
            raise ValueError(f"negative seek position {position}")
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        """Reads to the end of a chunk at most, as raw files may."""
        if self.closed:
            raise ValueError("read of closed file")
        target = memoryview(buffer).cast("B")
        if self._position >= self.size or len(target) == 0:
            return 0
        size = self._source.core.chunk_size
        number = self._position // size
        if number != self._number:
            self._enter(number, size)
        found = self._chunk[self._position - self._start :][: len(target)]
        target[: len(found)] = found
        self._position += len(found)
        return len(found)

    def _enter(self, number: int, size: int) -> None:
        in_order = number == self._number + 1
        if in_order and number > 0:
            first, last = max(self._asked, number + 1), number + 1 + AHEAD_CHUNKS
            if first < last and first * size < self.size:
                self._source.core.read_ahead(self._index, first * size, (last - first) * size)
            self._asked = last
        else:
            self._asked = 0
        self._chunk = memoryview(self._source.core.read(self._index, number * size, size))
        self._start, self._number = number * size, number


def open_object(source: Source, index: int) -> io.BufferedReader:
    """A buffered file over an object."""
    return io.BufferedReader(ObjectFile(source, index), 64 << 10)
