"""``python -m alnair doctor``: each thing that a job needs, and what to do where it is not as it should be."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from . import _config, _core
from ._progress import readable
from .errors import AccessError, ConfigError, Error, NotFoundError, SourceError, TimeoutError  # noqa: A004

_GIB = 1 << 30
_ROUNDS = 5
_MAX_READ = 4 << 20  # bytes of the object that is read on trial


class Check(NamedTuple):
    """One line: a verdict (ok, note, FAILED), what was looked at, what was found, and what to do about it."""

    verdict: str
    what: str
    found: str
    advice: str = ""


def _advice_for(what: str, error: Exception) -> str:
    if what == "Redis":
        return "check redis=, that its servers run, and the network; until they answer, jobs go on without them"
    if what == "tiers":
        return "correct the setting that the message names"
    if isinstance(error, AccessError):
        return "check the credentials above, and that they may do this (s3:ListBucket on the bucket, s3:GetObject on its objects)"
    if isinstance(error, NotFoundError):
        return "check the name of the bucket (or the directory) and the prefix, and --endpoint-url"
    if isinstance(error, ConfigError):
        return "correct the setting that the message names"
    if isinstance(error, (TimeoutError, SourceError)):
        return "check --endpoint-url, the network, and proxies (HTTP_PROXY, HTTPS_PROXY, NO_PROXY)"
    return ""


def _milliseconds(action: Callable[[], Any]) -> Tuple[float, Any]:
    start = time.perf_counter()
    result = action()
    return (time.perf_counter() - start) * 1000, result


class _Examination:
    def __init__(self) -> None:
        self.checks: List[Check] = []

    def add(self, verdict: str, what: str, found: str, advice: str = "") -> None:
        self.checks.append(Check(verdict, what, found, advice))

    def attempt(self, what: str, action: Callable[[], Any]) -> Any:
        """What `action` returns; None, and a line that says what to do, when it fails."""
        try:
            return action()
        except Error as error:
            self.add("FAILED", what, str(error), _advice_for(what, error))
            return None


def examine(arguments: Dict[str, Any]) -> List[Check]:
    """Looks at everything, in the order in which a job needs it. Raises ConfigError if no source is named."""
    config = _config.resolve(arguments)
    options = _config.core_options(config, "")
    examination = _Examination()
    _versions(examination)
    _machine(examination)
    _tiers(examination, options)
    _source(examination, config, options)
    return examination.checks


def _versions(examination: _Examination) -> None:
    try:
        import torch

        found = f"PyTorch {torch.__version__}"
    except ImportError:
        found = "no PyTorch"
    text = f"alnair {_core.__version__}, Python {platform.python_version()}, {found}, {platform.platform(terse=True)}"
    if found == "no PyTorch":
        examination.add("note", "versions", text, "AlnairJobDataset works without; AlnairJobDataLoader needs it: pip install torch")
    else:
        examination.add("ok", "versions", text)


def _machine(examination: _Examination) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = soft != resource.RLIM_INFINITY and soft < 1024
    advice = f"raise it to 4096 or more: ulimit -n {min(hard, 4096) if hard > 0 else 4096}" if low else ""
    examination.add("note" if low else "ok", "open files", f"at most {soft} a process", advice)
    cores = len(os.sched_getaffinity(0))
    memory = _memory_limit()
    limit = "" if memory is None else f", memory of this container limited to {readable(memory)}"
    examination.add("ok", "machine", f"{cores} cores{limit}")


def _memory_limit() -> Optional[int]:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                text = file.read().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < 1 << 60:
            return int(text)
    return None


def _space(path: str) -> Tuple[int, int]:
    """Bytes free and in all on the file system of a path, or of the nearest directory above it that is there."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize


def _tiers(examination: _Examination, options: Dict[str, Any]) -> None:
    where = _core.directories({name: options[name] for name in ("cache_dir", "memory_dir") if name in options})
    free, total = _space(where["memory_dir"])
    text = f"{where['memory_dir']}: {readable(free)} of {readable(total)} free"
    if total < _GIB:
        examination.add(
            "note",
            "shared memory",
            text,
            "that is little: give the container more (docker run --shm-size=8g; in Kubernetes an emptyDir with medium: Memory "
            "at /dev/shm)",
        )
    else:
        examination.add("ok", "shared memory", text)
    node = examination.attempt("tiers", lambda: _core.node(options))
    if node is None:
        return
    names = {"memory": ("node memory", where["memory_dir"], "memory_dir"), "disk": ("directory tier", where["cache_dir"], "cache_dir")}
    for tier, (name, directory, option) in names.items():
        usage = node[tier]
        if usage is not None:
            text = f"{directory}: {readable(usage['used_bytes'])} used of {readable(usage['limit_bytes'])}"
            examination.add("ok", name, text)
        elif tier == "disk" and options.get("usecache") is False:
            examination.add("ok", name, "off (usecache=False)")
        else:
            examination.add(
                "FAILED", name, f"{directory} cannot be used (the log says why)",
                f"make it a directory of your own on a file system with room, or set {option} to one",
            )  # fmt: skip

    _shared_tiers(examination, options, node["spill"])


def _shared_tiers(examination: _Examination, options: Dict[str, Any], spill: Optional[Dict[str, int]]) -> None:
    if options.get("usecache") is False:
        return
    if options.get("redis"):
        facts = examination.attempt("Redis", lambda: _core.redis_facts(options))
        if facts is not None:
            limited = facts["maxmemory"] > 0
            room = f"of {readable(facts['maxmemory'])}, {facts['policy']}" if limited else "and no maxmemory is known"
            examination.add(
                "ok" if limited else "note",
                "Redis",
                f"{facts['servers']} x {facts['version']}, {readable(facts['used_memory'])} used {room}",
                "" if limited else "set maxmemory and a maxmemory-policy (docs/cluster.md)",
            )
    if options.get("spill"):
        places = ", ".join(map(str, options["spill"]))
        if spill is None:
            advice = "make it a directory that this user may write to, on a file system with room; until then jobs go on without it"
            examination.add("FAILED", "shared directory", f"{places} cannot be used (the log says why)", advice)
        else:
            limit = f" of {readable(spill['limit_bytes'])}" if spill["limit_bytes"] else ""
            examination.add("ok", "shared directory", f"{places}: {readable(spill['used_bytes'])} used{limit}")


def _source(examination: _Examination, config: _config.Config, options: Dict[str, Any]) -> None:
    if config.source.startswith("s3://"):
        origin = examination.attempt("credentials", lambda: _core.find_credentials(options))
        if origin is None:
            return
        examination.add("ok", "credentials", f"found in {origin}" if origin != "anonymous" else "none wanted (anonymous)")
        place = examination.attempt("bucket", lambda: _core.locate(options))
        if place is None:
            return
        examination.add("ok", "bucket", f"{config.source} at {place[0]}, region {place[1]}")
    probe = examination.attempt("source", lambda: _core.Probe(options))
    listed = probe and examination.attempt("LIST", lambda: _milliseconds(probe.first_page))
    if not listed:
        return
    elapsed, page = listed
    if not page:
        examination.add("FAILED", "LIST", f"{config.source} has no objects", "check the prefix: `python -m alnair du` on the bucket")
        return
    examination.add("ok", "LIST", f"{len(page):,} keys in {elapsed:.0f} ms, the first is {page[0][0]!r}")
    key, size = next(((key, size) for key, size in page if size > 0), page[0])
    read = examination.attempt("GET", lambda: _milliseconds(lambda: probe.read(key, _MAX_READ)))
    if read is None:
        return
    examination.add("ok", "GET", f"{readable(min(size, _MAX_READ))} of {key!r} in {read[0]:.0f} ms")
    trips = examination.attempt("round trip", lambda: [_milliseconds(lambda: probe.stat(key))[0] for _ in range(_ROUNDS)])
    if trips is not None:
        examination.add("ok", "round trip", f"median {statistics.median(trips):.1f} ms of {_ROUNDS}, slowest {max(trips):.1f} ms")
