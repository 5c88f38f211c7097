"""The commands of ``python -m alnair``: what a person asks about a datasource and the caches of this node.

Exit codes: 0 all is well; 1 something is not, and a line says what; 2 the command or the configuration is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Optional, Tuple

from . import _config, _core, _doctor, _log
from ._packed import Keys
from ._progress import Progress, readable
from ._source import Source
from ._stats import of_processes
from .errors import ConfigError, Error

# What Alnair makes in its directories: nothing else is ever removed.
_IN_MEMORY_DIR = ("v1", "shared", "directory-", "directories.lock", "requests.lock")
_IN_CACHE_DIR = ("catalog.sqlite", "manifests", "chunks", "host-")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m alnair", description="Looks after datasources and this node's caches.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, what, needs_source) in COMMANDS.items():
        command = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        if needs_source:
            command.add_argument(
                "source", nargs="?", help="s3://bucket, s3://bucket/path or file:///directory; else ALNAIR_SOURCE or JOBNAME"
            )
            command.add_argument("--keys", action="append", metavar="ENTRY", help="narrow it to this entry; may be repeated")
            command.add_argument("--endpoint-url", metavar="URL", help="an S3 server other than AWS's")
            command.add_argument("--region", help="the bucket's region")
            command.add_argument("--profile", help="a profile of AWS's configuration files")
            command.add_argument("--anonymous", action="store_true", default=None, help="send unsigned requests")
        command.add_argument("--cache-dir", metavar="DIRECTORY", help="the catalog and the directory tier")
        command.add_argument("--memory-dir", metavar="DIRECTORY", help="node memory")
        command.add_argument("--json", action="store_true", help="print JSON")
        if name == "verify":
            command.add_argument("--objects", type=int, default=1000, help="so many, drawn at random (1000); 0: all")
        if name == "rm":
            command.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _arguments(options: argparse.Namespace) -> Dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name in _config.PARAMETERS and value is not None}


def _open(options: argparse.Namespace) -> Source:
    """Without a dataset, which would be PyTorch's: importing that takes seconds."""
    source = Source(_config.resolve({"progress": not options.json, **_arguments(options)}))
    source.core  # opens it  # noqa: B018
    return source


def _keys(source: Source) -> Keys:
    return Keys(source, range(len(source.core)))


def _print(options: argparse.Namespace, found: Any, lines: List[str]) -> None:
    print(json.dumps(found, indent=1) if options.json else "\n".join(lines))


def _table(rows: List[Tuple[Any, ...]]) -> List[str]:
    """Columns, all but the last to the right."""
    texts = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts)][:-1]
    return ["  ".join([*(cell.rjust(width) for cell, width in zip(row, widths)), row[-1]]) for row in texts]


def _shown(key: str) -> str:
    return key.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _ls(options: argparse.Namespace) -> int:
    source = _open(options)
    core = source.core
    if options.json:
        _print(options, [{"key": _shown(key), "size": core.size_of(i)} for i, key in enumerate(_keys(source))], [])
    else:
        for index, key in enumerate(_keys(source)):
            print(f"{core.size_of(index):14,}  {_shown(key)}")
    return 0


def _du(options: argparse.Namespace) -> int:
    source = _open(options)
    core, keys = source.core, _keys(source)
    # Below what all keys have in common, by the next part of their path.
    common = os.path.commonprefix([keys[0], keys[-1]]).rpartition("/")[0] if len(keys) else ""
    start = len(common) + 1 if common else 0
    folders: Dict[str, List[int]] = {}
    for index, key in enumerate(keys):
        head, slash, _ = key[start:].partition("/")
        counts = folders.setdefault((key[:start] + head + slash) if slash else key[:start] or ".", [0, 0])
        counts[0] += 1
        counts[1] += core.size_of(index)
    found = [(_shown(folder), count, size) for folder, (count, size) in sorted(folders.items())]
    total = {"objects": len(keys), "bytes": core.total_bytes}
    rows = [(count, readable(size), folder) for folder, count, size in found]
    content = {"folders": [dict(zip(("folder", "objects", "bytes"), each)) for each in found], "total": total}
    _print(options, content, _table([*rows, (len(keys), readable(core.total_bytes), "total")]))
    return 0


def _warm(options: argparse.Namespace) -> int:
    source = _open(options)
    core, before, failed, done, size = source.core, _core.stats(), [], 0, 0
    with Progress(f"Reading {source.config.source}", source.config.progress) as progress:
        for batch in source._batches(range(len(core))):
            for index, found in zip(batch, core.read_batch(batch)):
                if isinstance(found, Exception):
                    failed.append((core.key(index), str(found)))
                else:
                    size += len(found)
            done += len(batch)
            progress.update(done, size, len(core))
    core.flush()
    after, node = _core.stats(), _core.node(_config.core_options(source.config, source.version))
    fetched = {name: after[name] - before[name] for name in ("source_hits", "source_hit_bytes")}
    kept = sum((node[tier] or {}).get("used_bytes", 0) for tier in ("memory", "disk", "spill"))
    result = {
        "objects": len(core),
        "bytes": core.total_bytes,
        "fetched_bytes": fetched["source_hit_bytes"],
        "node": node,
        "failed": [{"key": _shown(key), "error": error} for key, error in failed],
    }
    lines = [
        f"{len(core):,} objects, {readable(core.total_bytes)}; fetched {readable(fetched['source_hit_bytes'])}, "
        f"the rest was here; the tiers hold {readable(kept)} of all datasets"
    ]
    if kept < size:
        lines.append("Not all of it fits: give node memory (memory_limit) or the directory tier (disk_limit) more room")
    _print(options, result, lines + [f"FAILED {_shown(key)}: {error}" for key, error in failed[:20]])
    return 1 if failed or kept < size else 0


def _verify(options: argparse.Namespace) -> int:
    if options.objects < 0:
        raise ConfigError(f"--objects: expected a number of objects of at least 0, not {options.objects}")
    source = _open(options)
    core, probe = source.core, _core.Probe(_config.core_options(source.config, source.version))
    chosen = list(range(len(core)))
    if 0 < options.objects < len(chosen):
        chosen = sorted(random.sample(chosen, options.objects))
    with Progress(f"Comparing with {source.config.source}", source.config.progress) as progress:

        def compare(index: int) -> Optional[str]:
            try:
                cached = core.read(index)
                return None if cached == probe.read(core.key(index)) else "the cache has other bytes than the source"
            except Error as error:
                return str(error)

        with ThreadPoolExecutor(16) as pool:
            wrong = []
            for count, (index, problem) in enumerate(zip(chosen, pool.map(compare, chosen)), 1):
                if problem is not None:
                    wrong.append((core.key(index), problem))
                progress.update(count, 0, len(chosen))
    result = {"compared": len(chosen), "wrong": [{"key": _shown(key), "problem": problem} for key, problem in wrong]}
    lines = [f"WRONG {_shown(key)}: {problem}" for key, problem in wrong]
    _print(options, result, [*lines, f"{len(chosen):,} of {len(core):,} objects compared, {len(wrong)} wrong"])
    return 1 if wrong else 0


def _rm(options: argparse.Namespace) -> int:
    found = _core.directories(_arguments(options))
    doomed = []
    for directory, names in (found["memory_dir"], _IN_MEMORY_DIR), (found["cache_dir"], _IN_CACHE_DIR):
        if os.path.islink(directory) or not os.path.isdir(directory) or os.stat(directory).st_uid != os.geteuid():
            continue  # Alnair refuses such directories: nothing there is its own
        doomed += [os.path.join(directory, name) for name in sorted(os.listdir(directory)) if name.startswith(names)]
    if doomed and not options.yes:
        for path in doomed:
            print(path, file=sys.stderr)
        if not sys.stdin.isatty():
            raise ConfigError("rm: removes the above; say --yes where nobody can be asked")
        print("Remove these? A job that runs goes on, from the source. [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 1
    failed = []
    for path in doomed:
        try:
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
        except OSError as error:
            failed.append(f"{path}: {error.strerror}")
    lines = [f"removed {path}" for path in doomed] or ["nothing to remove"]
    _print(options, {"removed": doomed, "failed": failed}, lines + [f"FAILED {text}" for text in failed])
    return 1 if failed else 0


def _stats(options: argparse.Namespace) -> int:
    node = _core.node(_arguments(options))
    processes = of_processes()
    lines = [f"node memory    {node['memory_dir']}", f"directory tier {node['cache_dir']}/chunks"]
    rows: List[Tuple[Any, ...]] = [("used", "limit", "chunks", "tier")]
    for name in ("memory", "disk", "spill"):
        tier = node[name]
        if tier is not None:
            rows.append((readable(tier["used_bytes"]), readable(tier["limit_bytes"]), tier["chunks"], name))
    lines += _table(rows)
    for pid, counters in processes.items():
        lines += ["", f"process {pid} and its workers"]
        lines += _table([(value, name) for name, value in counters.items() if value])
    _print(options, {"node": node, "processes": processes}, lines)
    return 0


def _run_doctor(options: argparse.Namespace) -> int:
    checks = _doctor.examine(_arguments(options))
    width = max(len(check.what) for check in checks)
    lines = [
        f"{check.verdict:7} {check.what.ljust(width)}  {check.found}" + (f"\n{'':8}-> {check.advice}" if check.advice else "")
        for check in checks
    ]
    _print(options, [check._asdict() for check in checks], lines)
    return 1 if any(check.verdict == "FAILED" for check in checks) else 0


# name: (function, what it does, whether it takes a source)
COMMANDS: Dict[str, Tuple[Any, str, bool]] = {
    "doctor": (_run_doctor, "checks credentials, the bucket, the tiers and this machine, and says what to do", True),
    "ls": (_ls, "lists the objects of a datasource, with their sizes", True),
    "du": (_du, "sums up objects and bytes by folder", True),
    "warm": (_warm, "reads a whole datasource into the caches of this node", True),
    "verify": (_verify, "compares what the caches have with the datasource", True),
    "rm": (_rm, "removes the caches of this node: node memory, catalog and directory tier", False),
    "stats": (_stats, "shows how full the tiers are, and the counters of this user's running jobs", False),
}


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs a command; the result is the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _log.configure()
        return int(COMMANDS[options.command][0](options))
    except Error as error:
        kind = type(error).__name__
        if options.json:
            print(json.dumps({"error": kind, "message": str(error)}))
        else:
            print(f"alnair {options.command}: {kind}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
