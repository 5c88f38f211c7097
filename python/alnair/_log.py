"""Python's logger "alnair", which the C++ library's messages reach as well."""

from __future__ import annotations

import logging
import os

from . import _core
from .errors import ConfigError

logger = logging.getLogger("alnair")

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "off": 100}


def configure() -> None:
    """Applies ALNAIR_LOG, else the level that the program gave to the logger. Called whenever a dataset is opened."""
    wanted = os.environ.get("ALNAIR_LOG", "")
    if wanted:
        if wanted not in _LEVELS:
            raise ConfigError(f"ALNAIR_LOG: expected one of {', '.join(_LEVELS)}, not {wanted!r}")
        logger.setLevel(_LEVELS[wanted])
        if wanted != "off" and not logger.hasHandlers():  # the program has not set up logging
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("alnair: %(levelname)s: %(message)s"))
            logger.addHandler(handler)
    level = logger.getEffectiveLevel()
    _core.set_log_level(sum(level > bound for bound in (10, 20, 30, 40)))
