"""Configuration values: what each parameter accepts, as Python values or as text from the environment or a job file."""

from __future__ import annotations

import json
import multiprocessing.context
import operator
import os
import re
from collections.abc import Mapping
from typing import Any, Callable, Optional, Tuple

from .errors import ConfigError, OptionTypeError

# A parser takes the value and where it came from ("ALNAIR_REGION", "/jobs/a.json, line 7, field qos.maxmemory"), and raises
# a ConfigError that says so.
Parser = Callable[[Any, str], Any]

_TRUE = {"true", "1", "yes", "on"}
_FALSE = {"false", "0", "no", "off"}
_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_UNITS.update({"TB": 10**12, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40})


def wrong(where: str, expected: str, value: Any) -> ConfigError:
    """An error that says where a value came from, what was expected there, and what was found."""
    if isinstance(value, str):
        return ConfigError(f"{where}: expected {expected}, not {shown(value)}")
    return OptionTypeError(f"{where}: expected {expected}, not {value!r} ({type(value).__name__})")


def shown(text: str) -> str:
    """The text, unless it may hold a password; of a long one the beginning."""
    if "@" in text:
        return "a text with '@' (not shown)"
    return repr(text) if len(text) <= 200 else f"{text[:200]!r}..."


def boolean(value: Any, where: str) -> bool:
    """True or false: a bool, 0 or 1, or such a text."""
    if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
        value = bool(value)
    text = str(value).strip().lower()
    if isinstance(value, (bool, int, str)) and text in _TRUE:
        return True
    if isinstance(value, (bool, int, str)) and text in _FALSE:
        return False
    raise wrong(where, "true or false", value)


def at_least(minimum: int, what: str, maximum: int = (1 << 63) - 1) -> Parser:
    """A whole number of something, given as a number or as text."""

    def parse(value: Any, where: str) -> int:
        expected = f"{what} of at least {minimum}"
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,30}\s*", value):
            value = int(value)
        try:
            number = operator.index(value)
        except TypeError:
            raise wrong(where, expected, value) from None
        if isinstance(value, bool):
            raise wrong(where, expected, value)
        if number < minimum:
            raise ConfigError(f"{where}: expected {expected}, not {number}")
        if number > maximum:
            raise ConfigError(f"{where}: expected {what} of at most {maximum}, not {number}")
        return number

    return parse


def size(value: Any, where: str) -> int:
    """Bytes: a whole number, or a text such as 512MiB or 8G."""
    expected = "a size such as 1048576, 512MiB or 8G"
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d{1,30}(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
        if match is None or match[2].upper() not in _UNITS:
            raise wrong(where, expected, value)
        number, unit = match[1], _UNITS[match[2].upper()]
        value = int(float(number) * unit) if "." in number else int(number) * unit
    return at_least(0, "a size in bytes")(value, where)  # type: ignore[no-any-return]


def text(value: Any, where: str) -> str:
    """A text without control characters."""
    if not isinstance(value, str):
        raise wrong(where, "a text", value)
    if any(ord(character) < 32 for character in value):
        raise ConfigError(f"{where}: expected a text without control characters")
    try:
        value.encode("utf-8", "surrogateescape")  # as file names are
    except UnicodeEncodeError:
        raise ConfigError(f"{where}: expected Unicode, not {value!r}") from None
    return value


def path(value: Any, where: str) -> str:
    """A file name, made absolute: a text or an os.PathLike. A leading ~ is the home directory."""
    try:
        name = text(value.__fspath__() if hasattr(value, "__fspath__") else value, where)
    except OptionTypeError:
        raise wrong(where, "a path", value) from None
    return os.path.abspath(os.path.expanduser(name)) if name else ""


def region(value: Any, where: str) -> str:
    """The name of a region."""
    name: str = text(value, where).strip()
    if re.fullmatch(r"[A-Za-z0-9_-]*", name) is None:
        raise wrong(where, "a region such as eu-central-1", name)
    return name


class SecretText(str):
    """A URL that may hold a password: shown without it, and pickled with it only for a process that is being spawned."""

    @property
    def shown(self) -> str:
        """The text without user and password."""
        return re.sub(r"(?<=//).*@", "", self, count=1)

    def __repr__(self) -> str:
        return repr(self.shown)

    def __reduce__(self) -> Tuple[Any, ...]:
        # As multiprocessing keeps its own keys: spawned workers get them through a pipe, files get none.
        spawning = getattr(multiprocessing.context, "get_spawning_popen", lambda: None)() is not None
        return _unpickled_secret, (str(self) if spawning else self.shown, spawning)


def _unpickled_secret(value: str, whole: bool) -> SecretText:
    inherited = SecretText(os.environ.get("ALNAIR_REDIS", ""))
    return inherited if not whole and inherited.shown == value else SecretText(value)


def redis(value: Any, where: str) -> SecretText:
    """The URL of Redis."""
    expected = "a URL such as redis://host:6379,host:6379"
    if not isinstance(value, str):
        raise OptionTypeError(f"{where}: expected {expected}, not {type(value).__name__}")  # the value may be a secret
    if re.match(r"(rediss?://|unix:)", text(value, where)) is None:
        raise ConfigError(f"{where}: expected {expected}; also rediss:// and unix:/path")
    return SecretText(value)


def directories(value: Any, where: str) -> Tuple[str, ...]:
    """Absolute directories: one, or several as a list or in a text with commas between them."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    elif hasattr(value, "__fspath__"):
        value = [value]
    expected = "one or several absolute directories"
    try:
        parts = tuple(value)
    except TypeError:
        raise wrong(where, expected, value) from None
    for part in parts:  # before path(), which makes them absolute: all nodes must mean the same directory
        name = part.__fspath__() if hasattr(part, "__fspath__") else part
        if isinstance(name, str) and not name.startswith(("/", "~")):
            raise wrong(where, expected, name)
    found = tuple(path(part, where) for part in parts)
    if not found:
        raise ConfigError(f"{where}: expected {expected}, not an empty list")
    return found


def mode(value: Any, where: str) -> int:
    """The mode of directories: a number, or octal digits as text."""
    expected = "an octal mode that gives the owner all, such as 0700 or 2770"
    if isinstance(value, str):
        if re.fullmatch(r"\s*(0o)?[0-7]{3,5}\s*", value) is None:
            raise wrong(where, expected, value)
        number = int(value.strip(), 8)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        raise wrong(where, expected, value)
    if number & 0o700 != 0o700 or not 0 <= number <= 0o7777:
        raise ConfigError(f"{where}: expected {expected} (as a number 0o2770), not {value!r}")
    return number


def one_of(*names: str) -> Parser:
    """One of a few words."""

    def parse(value: Any, where: str) -> str:
        if isinstance(value, str) and value.strip().lower() in names:
            return value.strip().lower()
        raise wrong(where, "one of " + ", ".join(names), value)

    return parse


def on_error(value: Any, where: str) -> Any:
    """What stands in for an object that cannot be read: "raise", or a callable."""
    if callable(value) or value == "raise":
        return value
    raise wrong(where, '"raise" or a callable (key, error) -> bytes', value)


def url(value: Any, where: str) -> str:
    """The URL of an S3 endpoint."""
    found: str = text(value, where)
    if re.fullmatch(r"(?i:https?)://[^/\s?#]+[^\s]*", found) is None:
        raise wrong(where, "a URL such as http://127.0.0.1:9000 or https://s3.example.com", found)
    return found


def source(value: Any, where: str) -> str:
    """Where a dataset lives."""
    if hasattr(value, "__fspath__"):
        raise wrong(where, "s3://bucket, s3://bucket/path or file:///directory as a text", value)
    found: str = text(value, where)
    if re.match(r"s3://[^/]|file:///", found) is None:
        raise wrong(where, "s3://bucket, s3://bucket/path or file:///directory", found)
    return found


def entries(value: Any, where: str) -> Optional[Tuple[str, ...]]:
    """Key entries: a list of texts."""
    expected = "a list of key entries (texts)"
    if isinstance(value, (str, bytes)):
        hint = f"; did you mean [{value!r}]?" if isinstance(value, str) else ""
        raise OptionTypeError(f"{where}: expected {expected}, not {type(value).__name__}{hint}")
    try:
        if isinstance(value, Mapping):
            raise TypeError
        found = tuple(value)
    except TypeError:
        raise OptionTypeError(f"{where}: expected {expected}, not {type(value).__name__}") from None
    for position, entry in enumerate(found):
        if not isinstance(entry, str):
            raise OptionTypeError(f"{where}: expected {expected}, but item {position} is {type(entry).__name__}")
        if not entry:
            raise ConfigError(f"{where}: item {position} is an empty text; leave `keys` out to read everything")
        try:
            entry.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise ConfigError(f"{where}: item {position} is {entry!r}, which no key can be: it is not Unicode") from None
    if not found:
        raise ConfigError(f"{where}: the list is empty; leave `keys` out to read everything")
    return found


def entries_text(value: Any, where: str) -> Optional[Tuple[str, ...]]:
    """Key entries in one text: a JSON list, else separated by commas."""
    if value.lstrip().startswith("["):
        try:
            return entries(json.loads(value), where)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{where}: column {error.colno}: {error.msg}") from None
    return entries([entry.strip() for entry in value.split(",")], where)
