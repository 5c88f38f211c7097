"""A line that moves, for what takes longer than two seconds."""

from __future__ import annotations

import os
import sys
import time
from typing import Callable, Optional, TextIO

QUIET_S = 2.0  # nothing is shown before
LINE_EVERY_S = 30.0  # where there is no terminal
REDRAW_S = 0.1


def readable(size: float) -> str:
    """A size for people: 1.5 GB."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


class Progress:
    """Reports how far something is: a bar on a terminal, else a line now and then; on the first local rank only."""

    def __init__(
        self,
        label: str,
        enabled: bool = True,
        stream: Optional[TextIO] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._stream = sys.stderr if stream is None else stream
        self._enabled = enabled and os.environ.get("LOCAL_RANK", "0") in ("", "0")
        self._clock = clock
        self._terminal = self._enabled and hasattr(self._stream, "isatty") and self._stream.isatty()
        self._next = clock() + QUIET_S
        self._width = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()

    def update(self, objects: int, size: int, total: Optional[int] = None) -> None:
        """So many objects and bytes are done, of `total` objects if that is known."""
        if not self._enabled or self._clock() < self._next:
            return
        text = f"{self._label}: {objects:,} objects, {readable(size)}"
        if total:
            done = int(20 * objects / total)
            text = f"{self._label}: [{'#' * done}{'.' * (20 - done)}] {objects:,} of {total:,} objects, {readable(size)}"
        self._next = self._clock() + (REDRAW_S if self._terminal else LINE_EVERY_S)
        if self._terminal:
            self._stream.write("\r" + text.ljust(self._width))
            self._width = max(self._width, len(text))
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
