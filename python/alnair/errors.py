"""What can go wrong, organised by what the caller does next.

Every class is an ``alnair.Error`` and also of the built-in kind that callers catch anyway. Every instance can be pickled
and rebuilt from its message alone, so that it crosses a DataLoader worker as itself. ``str()`` is one plain sentence that
names the object, endpoint, file or option involved.
"""

import builtins

__all__ = [
    "AccessError",
    "CacheError",
    "CancelledError",
    "ChangedError",
    "ConfigError",
    "DependencyError",
    "Error",
    "NotFoundError",
    "OptionTypeError",
    "OutOfRangeError",
    "SourceError",
    "TimeoutError",
]


class Error(Exception):
    """The base of all failures that Alnair reports."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    def __str__(self) -> str:  # KeyError would show a repr
        return str(self.args[0]) if self.args else ""


class ConfigError(Error, ValueError):
    """Fix the configuration: an argument, environment value, URL, job file or credential is malformed or missing."""


class OptionTypeError(ConfigError, TypeError):
    """Fix the configuration: an argument is of the wrong type."""


class AccessError(Error, PermissionError):
    """Fix the permissions or credentials: the source, or a directory, refused access."""


class NotFoundError(Error, KeyError, FileNotFoundError):
    """The named bucket, prefix, object, key or dataset version does not exist."""


class ChangedError(Error, OSError):
    """The object was overwritten or deleted since the dataset was opened, and its bytes are not in the cache."""


class SourceError(Error, OSError):
    """The object source failed, after retries: unreachable, throttled, or answering garbage. Later may work."""


class TimeoutError(Error, builtins.TimeoutError):  # noqa: A001 (alnair.TimeoutError, a built-in TimeoutError)
    """A deadline passed. Trying again may work."""


class CacheError(Error, OSError):
    """A cache directory cannot be used (owned by someone else, read-only, of a newer format...)."""


class CancelledError(Error, RuntimeError):
    """The operation was cancelled."""


class OutOfRangeError(Error, IndexError):
    """The index is beyond the dataset's end."""


class DependencyError(Error, ImportError):
    """A package that this part of Alnair needs (PyTorch) is missing or too old."""
