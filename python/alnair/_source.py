"""A datasource at one version, as this process reads it."""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.util
import threading
import weakref
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from . import _config, _core, _log, _manager, _run
from ._progress import Progress
from .errors import CancelledError, ChangedError, ConfigError, Error, NotFoundError, OptionTypeError

# Sources that this process has opened (or inherited open).
_opened: "weakref.WeakSet[Source]" = weakref.WeakSet()


def _finish(_: object = None) -> None:
    """At exit: what was fetched reaches the directory tier and the catalog; messages reach the logger."""
    for source in list(_opened):
        source.finish()
    _core.deliver_log_messages()


atexit.register(_finish)
# Worker processes leave without atexit; multiprocessing forgets a parent's finalizers in a child, then calls this.
multiprocessing.util.register_after_fork(
    _finish, lambda _: multiprocessing.util.Finalize(None, _finish, exitpriority=100)
)


class _Held(threading.local):
    """What a thread has fetched ahead for the batch that it is building: a View or an error by index."""

    views: Optional[Dict[int, Union[_core.View, Exception]]] = None


class Source:
    """A datasource, opened at first need: the first time it is listed, then always at the same version.

    Pickles as its configuration and version. Thread-safe; forked children use it as it is.
    """

    def __init__(self, config: _config.Config, version: str = "", metrics_path: str = "") -> None:
        self.config = config
        self.version = version
        self._metrics_path = metrics_path  # of the process that it was pickled in
        self._core: Optional[_core.Dataset] = None
        self._job: Optional[_manager.Client] = None  # keeps the job alive that this process has registered, or tells its daemon
        self.held = _Held()
        self._agreed = False  # with the other ranks
        self.prefetch_owner: Optional[object] = None  # a weak reference to who last called core.prefetch()

    @property
    def core(self) -> _core.Dataset:
        """The C++ dataset. Opens it if need be: lists the source unless the version is known."""
        return self._core if self._core is not None else self._open()

    def _open(self) -> _core.Dataset:
        _log.configure()
        if self._is_spawned() and self._metrics_path != _core.metrics_path():
            _core.attach_metrics(self._metrics_path)  # a spawned worker counts in the main process's block
        try:
            if self.version or self.config.version:
                core = self._open_version(self.version)
            else:
                core, self._agreed = _run.open_together(self.config, self._open_version)
        except NotFoundError:
            if not self.version:
                raise
            # This process finds no manifest that another one has kept (a cache directory that cannot be written to).
            core = self._open_version("", run="")
            if core.version != self.version:
                raise ChangedError(
                    f"{self.config.source} has changed: it is at version {core.version} now, and {self.version}, which the "
                    "dataset was opened at, is not kept on this node"
                ) from None
        core.on_wait = Progress(f"Waiting for {self.config.source}", self.config.progress).waited
        self._core, self.version = core, core.version
        _opened.add(self)
        return core

    def _is_spawned(self) -> bool:
        return self._metrics_path != "" and multiprocessing.parent_process() is not None

    def _open_version(self, version: str, manifest: bytes = b"", run: Optional[str] = None) -> _core.Dataset:
        registration = None if self.version or self._job else _manager.find(self.config)
        if registration is not None:
            self._job = registration.client
            # In the configuration, so that spawned workers have them, too.
            self.config = self.config._replace(values={**self.config.values, **registration.tiers})
        options = _config.core_options(self.config, version)
        options["run"] = _run.run_id() if run is None else run
        options["flush"] = not self._is_spawned()  # workers come and go
        if manifest:
            options["manifest"] = manifest
        if registration is not None and not version:  # else what the ranks agreed on comes first
            options.update(registration.manifest)
        with Progress(f"Listing {self.config.source}", self.config.progress) as progress:
            return _core.open(options, progress.update)

    def agree(self) -> None:
        """Sees to it that all ranks read the same version. To be called before reading. Raises ChangedError."""
        if not self._agreed:
            self._agreed = _run.agree(self.config, self.core)

    def __reduce__(self) -> Tuple[Any, ...]:
        return _reopen, (tuple(self.config), self.version, _core.metrics_path())

    # What a Handle asks for.

    def key(self, index: int) -> str:
        """The key of an object."""
        return self.core.key(index)

    def size_of(self, index: int) -> int:
        """The size of an object in bytes."""
        return self.core.size_of(index)

    def read(self, index: int) -> Union[_core.View, bytes]:
        """An object's bytes: those that this thread holds for its batch, else read now."""
        views = self.held.views
        found = None if views is None else views.get(index)
        if type(found) is _core.View:
            return found
        if found is None:
            try:
                return self.core.read(index)
            except Error as error:
                found = error
        return self._in_place_of(index, found)

    def _in_place_of(self, index: int, error: Exception) -> bytes:
        """What on_error returns for an object that could not be read; raises the error if it is not asked."""
        on_error = self.config.on_error
        if on_error == "raise" or isinstance(error, (ConfigError, CancelledError)):
            raise error.with_traceback(None)
        key = self.core.key(index)
        content = on_error(key, error)
        if not isinstance(content, (bytes, bytearray, memoryview, _core.View)):
            raise OptionTypeError(f"on_error must return bytes, not {type(content).__name__} (for {key!r}: {error})")
        return bytes(content)

    # Batches.

    def hold(self, indices: Sequence[int]) -> None:
        """Fetches objects at once, for this thread's read() calls until release(). Errors wait until they are read."""
        self.held.views = dict(zip(indices, self.core.read_batch(indices)))

    def release(self) -> None:
        """Lets go of what hold() fetched."""
        self.held.views = None

    def read_all(self, indices: Sequence[int], progress: Optional[Progress] = None) -> List[bytes]:
        """Whole objects as bytes, fetched in bounded batches. Raises the first error."""
        result: List[bytes] = []
        done = 0
        for batch in self._batches(indices):
            for index, item in zip(batch, self.core.read_batch(batch)):
                result.append(self._in_place_of(index, item) if isinstance(item, Exception) else bytes(item))
                done += len(result[-1])
            if progress is not None:
                progress.update(len(result), done, len(indices))
        return result

    def _batches(self, indices: Sequence[int], max_bytes: int = 64 << 20, max_objects: int = 1024) -> Any:
        batch: List[int] = []
        size = 0
        for index in indices:
            batch.append(index)
            size += self.core.size_of(index)
            if size >= max_bytes or len(batch) >= max_objects:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def finish(self) -> None:
        """Stops prefetching, writes out what is still queued, and deregisters the job."""
        if self._core is not None:
            self._core.prefetch_cancel()
            self._core.flush()
        if self._job is not None:
            self._job.close(2.0)


def _reopen(config: Tuple[Any, ...], version: str, metrics_path: str) -> Source:
    return Source(_config.Config(*config), version, metrics_path)
