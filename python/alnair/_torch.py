"""Says clearly that PyTorch is missing or too old, before anything else fails for it."""

from __future__ import annotations

import re

from .errors import DependencyError

_NEEDS = "AlnairJobDataLoader needs PyTorch 2.0 or later (pip install torch)"


def require() -> None:
    """Raises DependencyError unless a usable PyTorch can be imported."""
    try:
        import torch
        import torch.utils.data
    except ImportError as error:
        raise DependencyError(f"{_NEEDS}; importing torch failed: {error}") from error
    version = str(getattr(torch, "__version__", "unknown"))
    major = re.match(r"\d+", version)
    if major is None or int(major[0]) < 2:
        raise DependencyError(f"{_NEEDS}; this Python has version {version}")


require()
