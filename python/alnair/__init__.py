"""Alnair: a dataset cache for deep-learning training.

Datasets live in S3 (or a directory) as raw objects; Alnair reads each byte over the network once and keeps it on this node::

    from alnair import AlnairJobDataset, AlnairJobDataLoader

    class Images(AlnairJobDataset):
        def __convert__(self):
            return [self.data[k] for k in self.keys], [label_of(k) for k in self.keys]

        def __getitem__(self, index):
            return decode(self.get_data(index)), self.get_target(index)

    train = Images(keys=["train"], source="s3://fashion")
    for images, labels in AlnairJobDataLoader(train, batch_size=256, shuffle=True, num_workers=2):
        ...
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, List

from .errors import (
    AccessError,
    CacheError,
    CancelledError,
    ChangedError,
    ConfigError,
    DependencyError,
    Error,
    NotFoundError,
    OptionTypeError,
    OutOfRangeError,
    SourceError,
    TimeoutError,  # noqa: A004
)

if TYPE_CHECKING:
    from ._core import Handle, View
    from ._core import __version__ as __version__
    from ._stats import plot_stalls, stalls, stats
    from .dataset import AlnairJobDataset
    from .loader import AlnairJobDataLoader, attach

# Loaded at first use: importing alnair starts nothing and needs nothing, and only the loader needs PyTorch.
_LAZY = {
    "AlnairJobDataLoader": ".loader",
    "AlnairJobDataset": ".dataset",
    "Handle": "._core",
    "View": "._core",
    "__version__": "._core",
    "attach": ".loader",
    "plot_stalls": "._stats",
    "stalls": "._stats",
    "stats": "._stats",
}

__all__ = [
    "AccessError",
    "AlnairJobDataLoader",
    "AlnairJobDataset",
    "CacheError",
    "CancelledError",
    "ChangedError",
    "ConfigError",
    "DependencyError",
    "Error",
    "Handle",
    "NotFoundError",
    "OptionTypeError",
    "OutOfRangeError",
    "SourceError",
    "TimeoutError",
    "View",
    "__version__",
    "attach",
    "plot_stalls",
    "stalls",
    "stats",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
