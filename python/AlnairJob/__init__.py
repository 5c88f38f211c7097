"""The names that scripts written for the K-V-Store import: ``from AlnairJob import AlnairJobDataset``."""

from typing import Any

__all__ = ["AlnairJobDataLoader", "AlnairJobDataset"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import alnair

    return getattr(alnair, name)
