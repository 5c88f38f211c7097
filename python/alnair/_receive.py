"""Receives what a loader's workers send while the loop computes, so that it is there when the loop asks for it.

PyTorch's iterator receives in ``next()``: it unpickles, and fetches the memory of each tensor from the worker over a socket, a step's
sleep after either process last ran. Where there is an accelerator, its thread that pins memory does this meanwhile; here a thread of
our own does. All else stays with PyTorch's iterator, at the time when it does it: what is drawn, sent and raised.
"""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.connection
import multiprocessing.queues
import os
import queue
import resource
import sys
import threading
import time
import weakref
from collections import deque
from typing import Any, Deque, List, Optional, Tuple

from torch import autograd as _autograd
from torch.autograd import profiler as _profiler
from torch.utils.data import dataloader as _pytorchs

_Iterator: Any = getattr(_pytorchs, "_MultiProcessingDataLoaderIter", object)
_profiler_enabled: Any = getattr(_autograd, "_profiler_enabled", lambda: True)
_MAP: Any = getattr(getattr(_pytorchs, "_DatasetKind", None), "Map", None)  # datasets that are no streams

# A loop that is back sooner than this (seconds) is waiting for its data: it is quickest to receive them itself.
STEP = 0.001
# Seconds that ending a thread, or a fork, waits for a result that is being received: a worker was killed while it sent one.
PATIENCE = 1.0


class Results:
    """The queue of workers' results, of which a thread receives some ahead. For one consumer.

    Between two calls of ``next()`` the thread alone takes from the queue, within them the loop alone: it hands over by `_away`, and
    waits for the thread to finish (`_receiving`) before it takes something itself. So results stay in order, and a loop that waits
    does so in PyTorch's own way.
    """

    def __init__(self, results: Any) -> None:
        self._queue = results
        self._begin()

    def _begin(self) -> None:
        self._ready: Deque[Tuple[Any, Optional[BaseException]]] = deque()  # in order: a result, or what receiving it raised
        self._receiving = threading.Lock()  # held by the thread while it receives
        self._away = threading.Event()  # set while the loop computes, and has left the queue to the thread
        self._left = 0.0  # when the loop was last given a batch
        self._steps = False  # whether it then computed for long enough
        self._thread: Optional[threading.Thread] = None
        self._stopped = False
        self._files_of_a_result = 0  # the most that one has needed

    def get(self, timeout: Optional[float] = None) -> Any:
        """As of the queue: the next result. Raises queue.Empty after `timeout` seconds, and what receiving it raised."""
        if not self._ready and self._thread is not None:
            self._away.clear()
            if not self._receiving.acquire(timeout=-1 if timeout is None else timeout):
                raise queue.Empty
            self._receiving.release()
        if not self._ready:
            return self._queue.get(timeout=timeout)
        result, error = self._ready.popleft()
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # which has this frame in its traceback

    def enter(self) -> None:
        """The loop asks for a batch."""
        self._steps = self._left > 0 and time.perf_counter() - self._left >= STEP

    def leave(self) -> None:
        """The loop has got its batch."""
        if self._steps and not self._away.is_set() and not self._stopped:
            if self._thread is None:
                self._start()
            self._away.set()
        self._left = time.perf_counter()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped = True
        thread, self._thread = self._thread, None
        if thread is not None:
            self._away.set()
            self._waker.send_bytes(b"stop")
            if thread is not threading.current_thread():  # where garbage may be collected, too
                thread.join(PATIENCE)

    def _start(self) -> None:
        self._wake, self._waker = multiprocessing.Pipe(duplex=False)
        _living.add(self)
        self._thread = threading.Thread(target=self._run, name="alnair-receive", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._away.wait()
            multiprocessing.connection.wait([self._queue._reader, self._wake])
            with self._receiving:
                if self._stopped:
                    return
                if self._away.is_set() and self._queue._reader.poll():
                    self._receive()

    def _receive(self) -> None:
        files = _open_files()
        if files + 2 * self._files_of_a_result > _file_limit() // 2:  # a tensor has a file descriptor
            self._away.clear()
            return
        try:
            self._ready.append((self._queue.get(), None))
        except BaseException as error:  # the loop's, when its turn has come
            self._ready.append((None, error))
            self._away.clear()
        self._files_of_a_result = max(self._files_of_a_result, _open_files() - files)


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _file_limit() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


_living: "weakref.WeakSet[Results]" = weakref.WeakSet()  # those that have had a thread
_forking = threading.local()


def _before_fork() -> None:
    """Receiving may hold locks that a child needs, such as a module's that is being imported."""
    locks: List[threading.Lock] = [results._receiving for results in list(_living)]
    _forking.locks = [lock for lock in locks if lock.acquire(timeout=PATIENCE)]


def _after_fork() -> None:
    for lock in _forking.locks:
        lock.release()


def _after_fork_in_child() -> None:
    for results in list(_living):
        results._begin()
    _living.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


@atexit.register
def _at_exit() -> None:
    """A thread that runs while the interpreter ends may crash it."""
    for results in list(_living):
        results.stop()


# What `__next__` of PyTorch's iterator names: it draws an epoch's first tasks if that waits, and takes and counts a batch; in the
# record of a profiler, and with a warning about the length of iterable datasets.
_KNOWN_NAMES = set(
    "torch autograd profiler record_function _profile_name _sampler_iter _reset _next_data _num_yielded _dataset_kind _DatasetKind "
    "Iterable _IterableDataset_len_called _dataset _num_workers warnings warn".split()
)


def _is_known(code: Any) -> bool:
    return code is not None and set(code.co_names) <= _KNOWN_NAMES


def _is_profiled() -> bool:
    return bool(
        _profiler_enabled()
        or getattr(_profiler, "_is_profiler_enabled", False)
        or getattr(_profiler, "_active_cuspy_profiler_observer", None) is not None
    )


class _Receiving(_Iterator):  # type: ignore[misc]
    """PyTorch's iterator over ``Results``."""

    _needs_record = not _is_known(getattr(getattr(_Iterator, "__next__", None), "__code__", None))

    def __next__(self) -> Any:
        # The record for a profiler costs more than all the rest of a step: its code has left the processor's caches.
        if self._needs_record or self._dataset_kind != _MAP or _is_profiled():
            return super().__next__()
        if self._sampler_iter is None:
            self._reset()
        batch = self._next_data()
        self._num_yielded += 1
        return batch

    def _next_data(self) -> Any:
        self._data_queue.enter()
        try:
            return super()._next_data()
        finally:
            self._data_queue.leave()

    def _shutdown_workers(self) -> None:
        self._data_queue.stop()
        super()._shutdown_workers()


for _name in ("__name__", "__qualname__", "__module__", "__doc__"):
    setattr(_Receiving, _name, getattr(_Iterator, _name))


def receive_ahead(iterator: Any) -> Any:
    """Has a thread receive for a loader's iterator, and returns it. One that is not PyTorch's own, with workers, stays as it is."""
    if type(iterator) is not _Iterator or not all(hasattr(iterator, name) for name in ("_next_data", "_shutdown_workers")):
        return iterator
    results = getattr(iterator, "_data_queue", None)
    if isinstance(results, multiprocessing.queues.Queue) and hasattr(results, "_reader"):  # else a thread of PyTorch's receives
        iterator._data_queue = Results(results)
        iterator.__class__ = _Receiving
    return iterator
