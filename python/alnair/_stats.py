"""Counters of this process and its DataLoader workers."""

from __future__ import annotations

from typing import Dict

from . import _core


def stats() -> Dict[str, int]:
    """Counters since the process began, by name; those of its worker processes are included.

    ``s3_get_object`` counts GetObject requests (retries and hedges apart), ``memory_hits``, ``disk_hits`` and
    ``source_hits`` where reads found their bytes, ``wait_us`` the microseconds that reads blocked. Times end in ``_us``,
    sizes in ``_bytes``. docs/configuration.md lists them all.
    """
    _core.deliver_log_messages()
    return _core.stats()
