"""Counters of this process and its DataLoader workers."""

from __future__ import annotations

import html
import os
import time
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Tuple

from . import _core
from .errors import DependencyError, OutOfRangeError

# When the last epochs of this process's loaders began, and the counters then.
_epochs: Deque[Tuple[float, Dict[str, int]]] = deque(maxlen=100)

CAUSES = ("source", "slower tiers", "node memory")


class Stats(Dict[str, int]):
    """Counters by name; a table in a notebook."""

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td style='text-align:right'>{value:,}</td></tr>" for name, value in self.items() if value
        )
        zero = sum(not value for value in self.values())
        return f"<table><tr><th>counter</th><th>value</th></tr>{rows}</table><p>{zero} more are 0.</p>"


def stats() -> Stats:
    """Counters since the process began, by name; those of its worker processes are included.

    ``s3_get_object`` counts GetObject requests (retries and hedges apart), ``memory_hits``, ``disk_hits`` and
    ``source_hits`` where reads found their bytes, ``wait_us`` the microseconds that reads blocked. Times end in ``_us``,
    sizes in ``_bytes``. docs/configuration.md lists them all. In a notebook it is shown as a table.
    """
    _core.deliver_log_messages()
    return Stats(_core.stats())


def begin_epoch() -> None:
    """Called by a loader when an epoch begins."""
    _epochs.append((time.monotonic(), _core.stats()))


def stalls() -> List[Dict[str, float]]:
    """For each of the last 100 epochs of this process's loaders: its ``seconds`` until the next one began (or now), and the
    seconds that reads blocked meanwhile in all processes of the job together, by cause: ``source``, ``slower tiers`` (disk,
    Redis, shared directories), ``node memory``."""
    ends = [*list(_epochs)[1:], (time.monotonic(), _core.stats())] if _epochs else []
    found = []
    for (start, before), (end, after) in zip(_epochs, ends):
        wait, tiers, source = (
            (after[name] - before[name]) / 1e6 for name in ("wait_us", "wait_tiers_us", "wait_source_us")
        )
        found.append(dict(zip(("seconds", *CAUSES), (end - start, source, tiers, max(0.0, wait - tiers - source)))))
    return found


def plot_stalls(epoch: Optional[int] = None, ax: Any = None) -> Any:
    """Draws where reads of an epoch waited: a bar for each cause, in seconds summed over all processes.

    Args:
        epoch: which one, as an index into ``stalls()``; -1 is the current or last. None: all, side by side.
        ax: matplotlib's Axes to draw on; a new figure's by default.

    Returns:
        the Axes.

    Raises:
        DependencyError: matplotlib is not installed.
        OutOfRangeError: no loader has begun such an epoch.
    """
    try:
        import matplotlib.pyplot
    except ImportError:
        raise DependencyError("plot_stalls() needs matplotlib: pip install matplotlib") from None
    epochs = stalls()
    numbers = list(range(len(epochs)))
    try:
        chosen = numbers if epoch is None else [numbers[epoch]]
    except IndexError:
        chosen = []
    if not chosen:
        raise OutOfRangeError(f"{'no epoch' if epoch is None else f'epoch {epoch}'} has begun: there were {len(epochs)}")
    if ax is None:
        _, ax = matplotlib.pyplot.subplots()
    bottoms = [0.0] * len(chosen)
    for cause in CAUSES:
        heights = [epochs[number][cause] for number in chosen]
        ax.bar([f"epoch {number}\n{epochs[number]['seconds']:.1f} s" for number in chosen], heights, bottom=bottoms, label=cause)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights)]
    ax.set_ylabel("seconds that reads waited, all processes")
    ax.legend(title="for")
    return ax


def of_processes() -> Dict[int, Dict[str, int]]:
    """The counters of this user's other processes that use Alnair now, by the id of the oldest of those that share them.

    For a program that does nothing else: this process counts in the block of the last of them afterwards.
    """
    found: Dict[int, Dict[str, int]] = {}
    seen = set()
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            for number in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{number}"
                if pid == os.getpid() or not os.readlink(path).startswith("/memfd:alnair-metrics"):
                    continue
                identity = os.stat(path).st_ino
                if identity not in seen and _core.attach_metrics(path):
                    seen.add(identity)
                    found[pid] = dict(_core.stats())
        except OSError:  # another user's, or it has ended
            continue
    return found
