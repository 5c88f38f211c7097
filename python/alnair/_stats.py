"""Counters of this process and its DataLoader workers."""

from __future__ import annotations

import html
import os
from typing import Dict

from . import _core


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
