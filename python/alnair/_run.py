"""One run, one version of a dataset: on the processes of a node through a record, across nodes through the process group.

Nothing here is a collective. Ranks may open datasets in any order, at any time, or not at all.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from typing import Any, Callable, List, Mapping, Optional, Tuple

from . import _core
from ._config import Config
from .errors import ChangedError, NotFoundError

WAIT_S = 60.0  # for the manifest of the rank that was first
_PART = 1 << 20  # bytes of a manifest in one value of the store
_MOST = 64 << 20  # bytes of a manifest that is handed on through the store


def run_id(environment: Optional[Mapping[str, str]] = None) -> str:
    """What the processes of this run on this node have in common; "" if nothing says that they are of one run.

    ALNAIR_RUN_ID; else torchelastic's, MPI's or Slurm's id of a run of several processes. Ids that users give again and again
    (``torchrun --rdzv-id``), or that may come again, count together with the process that started the ranks.
    """
    environment = os.environ if environment is None else environment
    own = environment.get("ALNAIR_RUN_ID", "")
    if own:
        return "" if own == "none" else f"run {own}"
    if environment.get("TORCHELASTIC_RUN_ID"):
        return f"torchelastic {environment['TORCHELASTIC_RUN_ID']} {_parent()}"
    for variable in ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "PMI_JOBID"):
        if environment.get(variable):
            return f"mpi {environment[variable]} {_parent()}"
    job, step = environment.get("SLURM_JOB_ID", ""), environment.get("SLURM_STEP_ID", "")
    if job and step and environment.get("SLURM_NTASKS", "1") != "1":
        return f"slurm {job} {step} {environment.get('SLURM_RESTART_COUNT', '0')}"
    return ""


def _parent() -> str:
    """The process that started this one: its id, and when it began, since ids come again."""
    parent = os.getppid()
    try:
        with open(f"/proc/{parent}/stat", "rb") as file:
            return f"{parent} {file.read().rpartition(b')')[2].split()[19].decode()}"
    except (OSError, IndexError):
        return str(parent)


class Group:
    """A process group's store, as far as one dataset uses it: which version was published first, by whom, and its manifest."""

    def __init__(self, store: Any, rank: int, config: Config) -> None:
        self._store = store
        self._rank = rank
        self._source = config.source
        what = (config.source, config.endpoint_url, sorted(config.scope), sorted(config.keys or ()))
        self._name = "alnair/" + hashlib.sha256(repr(what).encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def published(self) -> Optional[Tuple[str, int]]:
        """The version that was published first, and the rank that did; None if none has been."""
        return self._parsed(self._store.get(self._name)) if self._is_there(self._name) else None

    def publish(self, core: _core.Dataset) -> Tuple[str, int]:
        """Publishes a version unless one has been: the one that was first. Whoever is first hands its manifest on, too."""
        first = self._parsed(self._store.compare_set(self._name, "", f"{core.version} {self._rank}"))
        if first == (core.version, self._rank):
            self._announce(self._name)
            blob = core.manifest_blob()
            parts = [blob[i : i + _PART] for i in range(0, len(blob), _PART)] if len(blob) <= _MOST else []
            for number, part in enumerate(parts):
                self._store.set(f"{self._name}/{number}", part)
            self._store.set(f"{self._name}/parts", str(len(parts)))
            self._announce(f"{self._name}/parts")
        return first

    def manifest(self) -> bytes:
        """The manifest of the version that was first, once it is there; empty if it cannot be had."""
        if not self._wait_for(f"{self._name}/parts"):
            return b""
        parts = int(self._store.get(f"{self._name}/parts"))
        return b"".join(self._store.get(f"{self._name}/{number}") for number in range(parts))

    def differs(self, first: Tuple[str, int], own: str) -> ChangedError:
        """The error of a rank that cannot read what the first one reads."""
        version, rank = first
        return ChangedError(
            f"{self._source}: rank {rank} has opened the dataset at version {version}, and this one, rank {self._rank}, {own}; "
            "ranks would read different data. Make the dataset after torch.distributed.init_process_group, or give version="
        )

    def _wait_for(self, name: str) -> bool:
        deadline = time.monotonic() + WAIT_S
        while not self._is_there(name):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)  # where Ctrl-C interrupts
        return True

    # Whether a key is there, without waiting for it: a counter says so. Stores have check() only since PyTorch 2.1.

    def _announce(self, name: str) -> None:
        self._store.add(f"{name}/there", 1)

    def _is_there(self, name: str) -> bool:
        return bool(self._store.add(f"{name}/there", 0) > 0)

    @staticmethod
    def _parsed(value: Any) -> Tuple[str, int]:
        version, _, rank = bytes(value).decode().partition(" ")
        return version, int(rank)


_inherited: List[Any] = []  # the store of the process that this one was forked from: its connection is not ours


def _after_fork() -> None:
    _inherited[:] = [_store()]


os.register_at_fork(after_in_child=_after_fork)


def _store() -> Any:
    """The default process group's store; None without a process group."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    try:
        return distributed.distributed_c10d._get_default_store()
    except (AttributeError, RuntimeError, ValueError):  # MPI's groups have none
        return None


def group_of(config: Config) -> Optional[Group]:
    """What this process can agree with other ranks through; None if there is no process group, or a version was given."""
    store = None if config.version else _store()
    if store is None or any(store is each for each in _inherited):
        return None
    return Group(store, sys.modules["torch.distributed"].get_rank(), config)


def open_together(config: Config, open_version: Callable[[str, bytes], _core.Dataset]) -> Tuple[_core.Dataset, bool]:
    """Opens a dataset at the version that all ranks read, and whether they have agreed on it.

    `open_version` takes a version ("": the newest) and its manifest, if that is known.
    """
    group = group_of(config)
    if group is None:
        return open_version("", b""), False
    first, core = group.published(), None
    if first is None:
        core = open_version("", b"")
        first = group.publish(core)
    if core is None or core.version != first[0]:
        try:
            return open_version(first[0], b""), True
        except NotFoundError:
            manifest = group.manifest()
        if manifest:
            return open_version(first[0], manifest), True
    core = core or open_version("", b"")
    if core.version != first[0]:
        raise group.differs(first, f"finds {core.version}")
    return core, True


def agree(config: Config, core: _core.Dataset) -> bool:
    """For a dataset that was opened before there was a process group: whether it has been agreed now. Raises ChangedError."""
    group = group_of(config)
    if group is None:
        return False
    first = group.publish(core)
    if first[0] != core.version:
        raise group.differs(first, f"had opened it at {core.version} before")
    return True
