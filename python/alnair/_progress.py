"""A line that moves, for what takes longer than two seconds."""

from __future__ import annotations

import os
import sys
import time
from typing import Callable, Mapping, Optional, TextIO

# What launchers (torchrun, Slurm, Open MPI, MPICH) call the rank on this node.
_LOCAL_RANK = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")

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


def speaks(environment: Mapping[str, str]) -> bool:
    """Whether this process shows progress: on the first local rank only, and not in each of its workers."""
    rank = next((environment[name] for name in _LOCAL_RANK if environment.get(name)), "0")
    if rank != "0":
        return False
    workers = sys.modules.get("torch.utils.data")
    worker = None if workers is None else workers.get_worker_info()
    return worker is None or worker.id == 0


def redraws(stream: TextIO) -> bool:
    """Whether a carriage return begins the line anew: on a terminal, and in a notebook."""
    return (hasattr(stream, "isatty") and stream.isatty()) or "ipykernel.iostream" in type(stream).__module__


class Progress:
    """Reports how far something is: a bar on a terminal or in a notebook, else a line now and then."""

    def __init__(
        self,
        label: str,
        enabled: bool = True,
        stream: Optional[TextIO] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._stream = sys.stderr if stream is None else stream
        self._enabled = enabled and self._stream is not None
        self._clock = clock
        self._redraws = self._enabled and redraws(self._stream)
        self._next = clock() + QUIET_S
        self._width = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Takes the bar away."""
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0

    def update(self, objects: int, size: int, total: Optional[int] = None) -> None:
        """So many objects and bytes are done, of `total` objects if that is known."""
        if not self._enabled or self._clock() < self._next:
            return
        text = f"{self._label}: {objects:,} objects, {readable(size)}"
        if total:
            done = int(20 * objects / total)
            text = f"{self._label}: [{'#' * done}{'.' * (20 - done)}] {objects:,} of {total:,} objects, {readable(size)}"
        self._show(text)

    def waited(self, seconds: Optional[float]) -> None:
        """A read has been waiting for so long; None: it is over. Only where a line can be redrawn: elsewhere the log has it."""
        if seconds is None:
            self.clear()
        elif self._redraws and self._clock() >= self._next:
            self._show(f"{self._label}: {seconds:.0f} s")

    def _show(self, text: str) -> None:
        self._next = self._clock() + (REDRAW_S if self._redraws else LINE_EVERY_S)
        if not speaks(os.environ):  # asked here: a forked worker inherits this object
            return
        if self._redraws:
            self._stream.write("\r" + text.ljust(self._width))
            self._width = max(self._width, len(text))
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
