"""The job that JOBNAME names: its file, and the secret with its S3 credentials."""

from __future__ import annotations

import configparser
import json
import os
import re
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from . import _values
from .errors import ConfigError

# The qos fields that are parameters.
QOS_FIELDS = ("usecache", "maxmemory", "durabilityindisk", "lazyloading")


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


def job_path(name: str, environment: Mapping[str, str]) -> str:
    """The file of the job `name`."""
    if "/" in name or name in ("", ".", ".."):
        raise ConfigError(f"JOBNAME: expected the name of a job, not {name!r}")
    return os.path.join(environment.get("ALNAIR_JOBS_DIR") or "/jobs", name + ".json")


def secret_path(environment: Mapping[str, str]) -> str:
    """The file with a job's credentials."""
    return os.path.join(environment.get("ALNAIR_SECRET_DIR") or "/secret", "client.conf")


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
    if not isinstance(bucket, str) or not bucket or "/" in bucket:
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
    found = {field: (qos[field], at(f"qos.{field}")) for field in QOS_FIELDS if qos.get(field) is not None}
    return Job(name, bucket, scope or (), found)


def read_secret(path: str) -> Optional[Secret]:
    """Reads the section [aws_s3] of a secret; None if there is no such file. The errors show nothing of its contents."""
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
    found = [name for name in parser.sections() if name.strip().lower() == "aws_s3"]
    if not found:
        raise ConfigError(f"{path}: has no section [aws_s3]")
    section = parser[found[0]]

    def line_of(pattern: str) -> int:
        match = re.search(pattern, text, re.IGNORECASE | re.MULTILINE)
        return text.count("\n", 0, match.start()) + 1 if match else 1

    def field(name: str, required: bool = False) -> str:
        value = (section.get(name) or "").strip()
        if required and not value:
            line = line_of(r"^[ \t]*\[\s*aws_s3\s*\]")
            raise ConfigError(f"{path}, line {line}: section [aws_s3] has no value for the field {name}")
        if any(ord(character) < 32 for character in value):
            line = line_of(r"^[ \t]*" + name + r"\s*[=:]")
            raise ConfigError(f"{path}, line {line}, field {name}: expected one line without control characters")
        return value

    endpoint, region = field("endpoint_url"), field("region_name")
    return Secret(
        field("aws_access_key_id", required=True),
        field("aws_secret_access_key", required=True),
        field("aws_session_token"),
        _values.region(region, f"{path}, field region_name"),
        _values.url(endpoint, f"{path}, field endpoint_url") if endpoint else "",
    )
