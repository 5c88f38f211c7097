"""A job's registration with a cluster's manager: waits for it, so that the dataset opens without listing, and reads
what the manager has copied into Redis and the shared directory.

The daemon beside the script registers and leaves what it got in ``/share``; where there is none the script's own
process registers, and sends heartbeats until it ends. What goes wrong costs a warning: S3 is listed as without a manager.
"""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple, Union

from . import _core, _job, _values
from ._config import Config
from ._log import logger
from ._progress import Progress
from .errors import ConfigError

_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                "AWS_CONTAINER_CREDENTIALS_FULL_URI")  # fmt: skip
DAEMON_S = 10.0  # for a daemon to begin with the job; then this process registers it
POLL_S = 0.1


Client = Union[_core.JobClient, _core.UseReporter]


class Registration(NamedTuple):
    """What a manager has listed and copied, and who keeps the registration alive, or tells the daemon that does what is read."""

    manifest: Dict[str, Any]  # options of the C++ library: what the dataset opens, and what is known of its bytes
    tiers: Dict[str, Any]  # parameters of the dataset: how the job reaches Redis and the directory
    client: Client


def patience(environment: Mapping[str, str]) -> float:
    """How many seconds a registration is waited for."""
    text = environment.get("ALNAIR_WAIT") or "600"
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigError(f"ALNAIR_WAIT: expected a number of seconds, not {text!r}")
    return seconds


def find(config: Config, environment: Optional[Mapping[str, str]] = None) -> Optional[Registration]:
    """The registration of what `config` names; None: there is no manager, or (with a warning) none in time."""
    environment = os.environ if environment is None else environment
    if config.keys or config.version or config.refresh != "start" or not config.source.startswith("s3://"):
        return None  # the manager lists whole datasources, and only now
    manager = _manager(config, environment)
    deadline = time.monotonic() + patience(environment)
    with Progress(f"Waiting for the manager to list {config.source}", config.progress) as progress:
        if _has_daemon(config.share_file, manager):
            begun = time.monotonic() + DAEMON_S if manager and not config.manager else deadline
            registration, why = _from_daemon(config, deadline, begun, progress)
            if registration is not None:
                return registration
            if why:
                _say_without(config, why)
                return None
        if manager is None:
            return None
        client, status = _register(config, manager, environment, deadline, progress)
        if status["state"] == "ready":
            return _registration(config, status, status, client)
        client.close(1.0)
        _say_without(config, status["detail"] or f"it is still {status['state']}")
        return None


def _has_daemon(share_file: str, manager: Optional[_job.Manager]) -> bool:
    """Whether a daemon has begun with the job, or is to be expected."""
    if not share_file:
        return False
    return os.path.exists(share_file) or (manager is not None and os.path.isdir(os.path.dirname(share_file)))


def _say_without(config: Config, why: str) -> None:
    logger.warning("%s is listed without the manager: %s", config.source, why)


def _manager(config: Config, environment: Mapping[str, str]) -> Optional[_job.Manager]:
    if not config.manager and not config.share_file:
        return None
    secret = _job.secret_path(environment)
    known = _job.read_manager(secret)
    if not config.manager:
        return known
    username = environment.get("ALNAIR_MANAGER_USERNAME") or (known.username if known else "")
    password = environment.get("ALNAIR_MANAGER_PASSWORD") or (known.password if known else "")
    if not username or not password:
        raise ConfigError(
            f"manager={config.manager!r} needs a name and a password: section [alnair_manager] of {secret}, or "
            "ALNAIR_MANAGER_USERNAME and ALNAIR_MANAGER_PASSWORD"
        )
    files = known or _job.Manager("", "", "")
    return _job.Manager(
        config.manager,
        username,
        password,
        config.ca_bundle or environment.get("ALNAIR_MANAGER_TLS_CA") or files.tls_ca,
        environment.get("ALNAIR_MANAGER_TLS_CLIENT_CERT") or files.tls_cert,
        environment.get("ALNAIR_MANAGER_TLS_CLIENT_KEY") or files.tls_key,
    )


def _has_credentials(config: Config, environment: Mapping[str, str]) -> bool:
    """Whether this process is told of any by which it could read S3 itself."""
    home = os.path.expanduser(environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
    if config.anonymous or config.profile or any(environment.get(name) for name in _CREDENTIALS) or os.path.exists(home):
        return True
    return bool(config.secret_file) and _job.read_secret(config.secret_file) is not None


def _registration(
    config: Config, content: Mapping[str, Any], blobs: Mapping[str, Any], client: Client
) -> Registration:
    """Of a ready job. Redis and the directory are the manager's where the user names none."""
    tiers: Dict[str, Any] = {}
    dataset = {"version": str(content.get("version")), "manifest": blobs["manifest"]}
    redis, directory = str(content.get("redis") or ""), str(content.get("directory") or "")
    if (redis or directory) and not config.redis and config.usecache:
        if redis:
            password = content.get("redis_password_file")  # each registration has another one
            if password:
                redis = _core.with_password_file(redis, _beside(config, str(password)))
            tiers["redis"] = _values.redis(redis, "the manager's cache.redis")
            if "flush_policy" not in config.values and content.get("flush_policy"):
                tiers["flush_policy"] = str(content["flush_policy"])
        if directory and not config.spill:
            tiers.update(spill=(directory,), spill_mode=int(content.get("directory_mode", 0o700)))
            tiers.update({f"spill_{name}": str(content.get(name)) for name in ("namespace", "domain")})
            if blobs.get("hashes") and config.chunk_size in (None, content.get("chunk_size")):
                dataset["hashes"] = blobs["hashes"]
        if content.get("misses") and not _has_credentials(config, os.environ):
            tiers.update(miss_socket=_beside(config, str(content.get("misses"))), miss_identity=str(content.get("identity")))
    return Registration(dataset, tiers, client)


def _beside(config: Config, name: str) -> str:
    """A file that the daemon keeps beside its first one."""
    return os.path.join(os.path.dirname(config.share_file), os.path.basename(name))


def _owner_of(path: str) -> str:
    try:
        return str(os.stat(path).st_uid)
    except PermissionError:  # the folder is closed, too
        return str(os.stat(os.path.dirname(path)).st_uid)


def _read_share(path: str) -> Optional[Dict[str, Any]]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise ConfigError(
            f"{path}: belongs to user {_owner_of(path)} and cannot be read by user {os.geteuid()}; start the daemon with "
            "--owner or --mode"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{path}: expected JSON: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected an object")
    return content


def _read_blobs(path: str, content: Dict[str, Any]) -> Optional[Dict[str, bytes]]:
    """The manifest and the hashes that `content` names; None: the daemon has just replaced them."""
    blobs: Dict[str, bytes] = {}
    try:
        for kind in ("manifest", "hashes"):
            if kind == "manifest" or content.get(kind):
                name = os.path.basename(str(content.get(kind)))
                with open(os.path.join(os.path.dirname(path), name), "rb") as file:
                    blobs[kind] = file.read()
    except FileNotFoundError:
        return None
    again = _read_share(path)
    return blobs if again is not None and again.get("version") == content.get("version") else None


def _from_daemon(config: Config, deadline: float, begun: float, progress: Progress) -> Tuple[Optional[Registration], str]:
    """What a daemon's file tells, or why nothing; neither: no daemon has begun with the job."""
    path, state = config.share_file, ""
    while True:
        content = _read_share(path)
        if content is not None:
            state = str(content.get("state"))
            if state == "failed":
                return None, str(content.get("detail"))
            if state == "ready":
                blobs = _read_blobs(path, content)
                if blobs is not None:
                    return _registration(config, content, blobs, _core.UseReporter(_beside(config, str(content.get("misses"))))), ""
            progress.update(int(content.get("objects", 0)), int(content.get("bytes", 0)))
        elif time.monotonic() >= begun:
            return None, ""
        if time.monotonic() >= deadline:
            return None, f"the daemon's registration is still {state}" if state else "no daemon has begun with it"
        time.sleep(POLL_S)


def _register(
    config: Config, manager: _job.Manager, environment: Mapping[str, str], deadline: float, progress: Progress
) -> Tuple[_core.JobClient, Dict[str, Any]]:
    secret = _job.read_secret(config.secret_file) if config.secret_file else None
    credentials = None
    if secret is not None:
        credentials = (secret.access_key_id, secret.secret_access_key, secret.session_token)
    elif environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY"):
        token = environment.get("AWS_SESSION_TOKEN", "")
        credentials = (environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], token)
    bucket, _, path = config.source[len("s3://") :].partition("/")
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""
    client = _core.JobClient(
        url=manager.url,
        username=manager.username,
        password=manager.password,
        ca_bundle=manager.tls_ca,
        credentials=credentials,
        region=config.region or (secret.region if secret else "") or environment.get("AWS_REGION", ""),
        endpoint_url=config.endpoint_url or (secret.endpoint_url if secret else "") or endpoint,
        name=config.jobname or bucket,
        node=socket.gethostname(),
        bucket=bucket,
        keys=(path,) if path else config.scope,
        qos={name: getattr(config, name) for name in _job.QOS_FIELDS},
        tls_cert=manager.tls_cert,
        tls_key=manager.tls_key,
    )
    try:
        while True:
            status = client.wait(POLL_S)
            if status["state"] in ("ready", "failed") or time.monotonic() >= deadline:
                return client, status
            progress.update(status["objects"], status["bytes"])
    except BaseException:  # Ctrl-C
        client.close(1.0)
        raise
