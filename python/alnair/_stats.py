"""Counters of this process and its DataLoader workers."""

from __future__ import annotations

import html
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
