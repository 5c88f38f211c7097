"""Where the datasource and the QoS come from.

First found wins: constructor arguments; the environment (ALNAIR_<PARAMETER>); the job that JOBNAME names; defaults.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from . import _job, _values
from .errors import ConfigError

# name: (parser, default)
PARAMETERS: Dict[str, Tuple[_values.Parser, Any]] = {
    "keys": (_values.entries, None),
    "source": (_values.source, None),
    "manager": (_values.url, None),
    "endpoint_url": (_values.url, None),
    "region": (_values.region, None),
    "profile": (_values.text, None),
    "anonymous": (_values.boolean, False),
    "requester_pays": (_values.boolean, False),
    "addressing_style": (_values.one_of("auto", "path", "virtual"), "auto"),
    "ca_bundle": (_values.path, None),
    "max_connections": (_values.at_least(1, "a number of connections", 65535), None),
    "hedging": (_values.boolean, True),
    "usecache": (_values.boolean, True),
    "maxmemory": (_values.at_least(0, "a number of MiB (0: no limit)"), 0),
    "lazyloading": (_values.boolean, True),
    "durabilityindisk": (_values.at_least(0, "a number of minutes"), 1440),
    "single_pass": (_values.boolean, False),
    "cache_dir": (_values.path, None),
    "memory_dir": (_values.path, None),
    "memory_limit": (_values.size, 0),
    "disk_limit": (_values.size, 0),
    "redis": (_values.redis, None),
    "spill": (_values.directories, None),
    "spill_mode": (_values.mode, 0o700),
    "spill_limit": (_values.size, 0),
    "flush_frequency": (_values.at_least(1, "a number of seconds", 86400), 5),
    "flush_amount": (_values.size, 0),
    "flush_policy": (_values.one_of("recency", "frequency", "next_use"), "recency"),
    "chunk_size": (_values.size, None),
    "eviction": (_values.one_of("none", "lru", "s3fifo"), "none"),
    "version": (_values.text, None),
    "refresh": (_values.one_of("start", "never"), "start"),
    "on_error": (_values.on_error, "raise"),
    "progress": (_values.boolean, True),
}

# Parameters that the C++ library takes under the same name.
_CORE = (
    "source", "endpoint_url", "region", "profile", "anonymous", "requester_pays", "addressing_style", "ca_bundle",
    "max_connections", "hedging", "usecache", "single_pass", "cache_dir", "memory_dir", "memory_limit", "disk_limit", "redis", "spill",
    "spill_mode", "spill_limit", "durabilityindisk", "flush_frequency", "flush_amount", "flush_policy", "chunk_size", "eviction",
    "miss_socket", "miss_identity", "spill_namespace", "spill_domain",  # no parameters: a manager tells them
)  # fmt: skip


CONNECTIONS_A_RANK = 32
# What launchers (torchrun, Slurm, Open MPI, MPICH) call the number of ranks on this node.
_LOCAL_SIZE = ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")


class Config(NamedTuple):
    """The resolved configuration of a dataset. Small, and without secrets: those are read again by each process."""

    values: Dict[str, Any]  # parameters that are not at their default
    scope: Tuple[str, ...]  # the job's key entries
    jobname: str
    secret_file: str  # "": not under a job
    share_file: str = ""  # of the daemon beside the script; "": the datasource is not a job's

    def __getattr__(self, name: str) -> Any:
        if name not in PARAMETERS:
            raise AttributeError(name)
        return self.values.get(name, PARAMETERS[name][1])


def resolve(arguments: Mapping[str, Any], environment: Optional[Mapping[str, str]] = None) -> Config:
    """Resolves constructor arguments (None: not given) against the environment and the job. Raises ConfigError."""
    environment = os.environ if environment is None else environment
    found: Dict[str, Tuple[Any, str]] = {}
    for name, (parse, _) in PARAMETERS.items():
        value, variable = arguments.get(name), "ALNAIR_" + name.upper()
        if value is not None:
            found[name] = parse(value, name), name
        elif environment.get(variable):
            parse = _values.entries_text if name == "keys" else parse
            found[name] = parse(environment[variable], variable), variable

    jobname, secret_file, share_file = environment.get("JOBNAME", ""), "", ""
    scope: Tuple[str, ...] = ()
    if jobname:
        path = _job.job_path(jobname, environment)
        secret_file = _job.secret_path(environment)
        try:
            job = _job.read_job(jobname, path)
        except (FileNotFoundError, NotADirectoryError):
            if "source" not in found:
                raise ConfigError(
                    f"{path}: no such file; JOBNAME names the job {jobname!r}, and neither source nor ALNAIR_SOURCE is given"
                ) from None
        else:
            for name, (value, where) in job.qos.items():
                found.setdefault(name, (PARAMETERS[name][0](value, where), where))
            if "source" not in found:
                found["source"] = f"s3://{job.bucket}", path
                scope = job.scope
                share_file = _job.share_path(jobname, environment)
    if "source" not in found:
        raise ConfigError("no datasource is named: give source=\"s3://bucket\", or set ALNAIR_SOURCE or JOBNAME")

    values = {name: value for name, (value, _) in found.items() if value != PARAMETERS[name][1]}
    return Config(values, scope, jobname, secret_file if values["source"].startswith("s3://") else "", share_file)


def _ranks_of_this_node() -> int:
    """How many ranks the launcher says that it has started on this node."""
    counts = (os.environ.get(name, "") for name in _LOCAL_SIZE)
    return next((int(count) for count in counts if count.isdecimal() and int(count) > 0), 1)


def core_options(config: Config, version: str) -> Dict[str, Any]:
    """What the C++ library needs to open the dataset; with a version, exactly that one. Reads the job's secret."""
    options = {name: config.values[name] for name in _CORE if name in config.values}
    options["keys"] = config.keys or ()
    options["scope"] = config.scope
    options["version"] = version or config.version or ""
    options["refresh"] = config.refresh == "start"
    options.setdefault("max_connections", min(CONNECTIONS_A_RANK * _ranks_of_this_node(), 65535))
    secret = _job.read_secret(config.secret_file) if config.secret_file and not config.anonymous else None
    if secret is not None:
        options["credentials"] = (secret.access_key_id, secret.secret_access_key, secret.session_token)
        if secret.region:
            options.setdefault("region", secret.region)
        if secret.endpoint_url:
            options.setdefault("endpoint_url", secret.endpoint_url)
    return options
