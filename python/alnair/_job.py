"""The job that JOBNAME names: its file, and the secret with its S3 credentials."""

from __future__ import annotations

import configparser
import difflib
import json
import os
import re
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from . import _values
from ._log import logger
from .errors import ConfigError

# The qos fields that are parameters.
QOS_FIELDS = ("usecache", "maxmemory", "durabilityindisk", "lazyloading", "single_pass")


class Job(NamedTuple):
    """A job file: values by parameter, each with where it was found."""

    name: str
    bucket: str
    scope: Tuple[str, ...]  # key entries of the datasource; empty: everything
    qos: Dict[str, Tuple[Any, str]]


class Secret(NamedTuple):
    """The S3 credentials of a job."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    region: str
    endpoint_url: str


class Manager(NamedTuple):
    """How to reach a cluster's manager."""

    url: str
    username: str
    password: str
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""


def job_path(name: str, environment: Mapping[str, str]) -> str:
    """The file of the job `name`."""
    if "/" in name or name in ("", ".", ".."):
        raise ConfigError(f"JOBNAME: expected the name of a job, not {name!r}")
    return os.path.join(environment.get("ALNAIR_JOBS_DIR") or "/jobs", name + ".json")


def secret_path(environment: Mapping[str, str]) -> str:
    """The file with a job's credentials."""
    return os.path.join(environment.get("ALNAIR_SECRET_DIR") or "/secret", "client.conf")


def share_path(name: str, environment: Mapping[str, str]) -> str:
    """The file that the daemon keeps for a job."""
    return os.path.join(environment.get("ALNAIR_SHARE_DIR") or "/share", name + ".json")


def _read(path: str) -> str:
    """The text of a file. Raises FileNotFoundError or NotADirectoryError where there is none, else ConfigError."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None


def _fold(value: Any) -> Any:
    """Objects with their field names in lower case."""
    return {str(name).lower(): _fold(item) for name, item in value.items()} if isinstance(value, dict) else value


def _line_of(text: str, field: str) -> int:
    match = re.search(r'"' + re.escape(field) + r'"\s*:', text, re.IGNORECASE)
    return text.count("\n", 0, match.start()) + 1 if match else 1


def read_job(name: str, path: str) -> Job:
    """Reads a job file. Raises FileNotFoundError, or a ConfigError that names file, line and field."""
    text = _read(path)
    if not text.strip():
        raise ConfigError(f"{path}: the file is empty")
    try:
        content = _fold(json.loads(text))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise ConfigError(f"{path}, line 1: nested too deeply") from None
    except ValueError:  # Python reads no number of more than 4,300 digits
        raise ConfigError(f"{path}: has a number of thousands of digits") from None

    def at(field: str) -> str:
        return f"{path}, line {_line_of(text, field.rpartition('.')[2])}, field {field}"

    if not isinstance(content, dict):
        raise ConfigError(f"{path}, line 1: expected an object with the fields name, datasource and qos")
    datasource = content.get("datasource")
    if not isinstance(datasource, dict):
        raise ConfigError(f"{at('datasource')}: expected an object with the fields name, bucket and keys")
    misplaced = [("datasource.qos", "qos")] if "qos" in datasource else []  # without effect, if it were let pass
    misplaced += [(field, f"qos.{field}") for field in QOS_FIELDS if field in content]
    misplaced += [(f"datasource.{field}", f"qos.{field}") for field in QOS_FIELDS if field in datasource]
    for place, right in misplaced:
        raise ConfigError(f"{at(place)}: is in the wrong place; expected it as {right}")
    bucket = datasource.get("bucket")
    if not isinstance(bucket, str) or re.fullmatch(r"[A-Za-z0-9._-]+", bucket) is None:
        raise ConfigError(f"{at('datasource.bucket')}: expected the name of a bucket")
    keys = datasource.get("keys")
    if isinstance(keys, str):
        keys = [keys]
    scope = () if keys is None or keys == [] else _values.entries(keys, at("datasource.keys"))
    qos = content.get("qos")
    if qos is None:
        qos = {}
    if not isinstance(qos, dict):
        raise ConfigError(f"{at('qos')}: expected an object with the fields {', '.join(QOS_FIELDS)}")
    for field in set(qos) - set(QOS_FIELDS):
        near = difflib.get_close_matches(field, QOS_FIELDS, 1)
        meant = f"did you mean {near[0]}?" if near else f"expected {', '.join(QOS_FIELDS)}"
        logger.warning("%s: is unknown, and has no effect; %s", at(f"qos.{field}"), meant)
    found = {field: (qos[field], at(f"qos.{field}")) for field in QOS_FIELDS if qos.get(field) is not None}
    return Job(name, bucket, scope or (), found)


class _Section:
    """A section of a secret, its name in any case. The errors show nothing of its contents."""

    def __init__(self, path: str, text: str, parser: configparser.RawConfigParser, name: str) -> None:
        found = [section for section in parser.sections() if section.strip().lower() == name]
        self._values = parser[found[0]] if found else None
        self._path, self._text, self._name = path, text, name

    def __bool__(self) -> bool:
        return self._values is not None

    def field(self, name: str, required: bool = False) -> str:
        """The value of a field; "" where it has none."""
        value = ((self._values.get(name) if self._values else "") or "").strip()
        if required and not value:
            line = self._line_of(r"^[ \t]*\[\s*" + self._name + r"\s*\]")
            raise ConfigError(f"{self._path}, line {line}: section [{self._name}] has no value for the field {name}")
        if any(ord(character) < 32 for character in value):
            line = self._line_of(r"^[ \t]*" + name + r"\s*[=:]")
            raise ConfigError(f"{self._path}, line {line}, field {name}: expected one line without control characters")
        return value

    def _line_of(self, pattern: str) -> int:
        match = re.search(pattern, self._text, re.IGNORECASE | re.MULTILINE)
        return self._text.count("\n", 0, match.start()) + 1 if match else 1


def _read_sections(path: str) -> Optional[Tuple[_Section, _Section]]:
    """The sections [aws_s3] and [alnair_manager] of a secret; None if there is no such file."""
    try:
        text = _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.MissingSectionHeaderError as error:
        raise ConfigError(f"{path}, line {error.lineno}: expected a section, [aws_s3], before any field") from None
    except configparser.ParsingError as error:
        raise ConfigError(f"{path}, line {error.errors[0][0]}: expected field = value") from None
    return _Section(path, text, parser, "aws_s3"), _Section(path, text, parser, "alnair_manager")


def read_secret(path: str) -> Optional[Secret]:
    """Reads the section [aws_s3] of a secret; None if there is no such file, or if it is about a manager only."""
    found = _read_sections(path)
    if found is None:
        return None
    s3, manager = found
    if not s3:
        if manager:
            return None
        raise ConfigError(f"{path}: has no section [aws_s3]")
    endpoint, region = s3.field("endpoint_url"), s3.field("region_name")
    return Secret(
        s3.field("aws_access_key_id", required=True),
        s3.field("aws_secret_access_key", required=True),
        s3.field("aws_session_token"),
        _values.region(region, f"{path}, field region_name"),
        _values.url(endpoint, f"{path}, field endpoint_url") if endpoint else "",
    )


def read_manager(path: str) -> Optional[Manager]:
    """Reads the section [alnair_manager] of a secret; None if there is no such file or section."""
    found = _read_sections(path)
    if found is None or not found[1]:
        return None
    section = found[1]
    address, port = section.field("server_address", required=True), section.field("server_port", required=True)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{path}, field server_port: expected a port from 1 to 65535")
    tls_ca = section.field("tls_ca")
    host = f"[{address}]" if ":" in address and not address.startswith("[") else address
    return Manager(
        _values.url(f"{'https' if tls_ca else 'http'}://{host}:{port}", f"{path}, field server_address"),
        section.field("username", required=True),
        section.field("password", required=True),
        tls_ca,
        section.field("tls_cert"),
        section.field("tls_key"),
    )
