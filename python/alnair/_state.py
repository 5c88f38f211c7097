"""What a dataset has loaded: a window, and what ``__convert__`` made of it."""

from __future__ import annotations

import threading
from array import array
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ._collections import Objects, Window, position, windows
from ._core import handle_indices, make_handles
from ._progress import Progress
from ._source import Source

# Calls __convert__ and returns (samples, targets).
Convert = Callable[[], Tuple[Any, Any]]


class State:
    """Loads and converts a window at first need. Thread-safe.

    Pickles without the objects' bytes: a list of handles, or of bytes that came from the window, as their indices.
    """

    def __init__(self, source: Source, window: int = 0) -> None:
        self.source = source
        self.window = window
        self._windows: Optional[List[Window]] = None
        self._lock = threading.RLock()  # held while a window is loaded and converted
        self.reset()

    def reset(self) -> None:
        """Forgets the window's contents."""
        self.ready = False
        self._converting = False
        self.data: Any = None  # while converting: the window; then what __convert__ returned
        self.targets: Any = None
        self._places: Optional["array[int]"] = None  # the manifest's index of each sample, if `data` is a list of such
        self.objects: Optional[Sequence[int]] = None  # the same for samples that are read when used; None: not known

    @property
    def windows(self) -> List[Window]:
        """The dataset's windows."""
        if self._windows is None:
            self._windows = windows(self.source)
        return self._windows

    def select(self, window: int) -> None:
        """Makes another window the current one."""
        with self._lock:
            self.window = position(window, len(self.windows), "the list of windows")
            self.reset()

    @property
    def current(self) -> Window:
        """The current window."""
        return self.windows[self.window]

    def prepare(self, convert: Convert) -> None:
        """Loads the window and converts it, unless that is done, or this thread is in the middle of it."""
        with self._lock:
            if self.ready or self._converting:
                return
            if self._places is not None:  # came through a pickle
                self.data = self._unpack(self._places)
            else:
                self._convert(convert)
            if self.source.config.lazyloading:
                if isinstance(self.data, Objects):
                    self.objects = range(self.data.start, self.data.stop)
                else:
                    self.objects = self._places
            self.ready = True

    def _convert(self, convert: Convert) -> None:
        self.data = window = self._load()
        self._converting = True
        try:
            self.data, self.targets = convert()
        except BaseException:
            self.reset()
            raise
        finally:
            self._converting = False
        self._places = self._pack(self.data, window)

    def _load(self) -> Objects:
        window, config, loaded = self.current, self.source.config, None
        if not config.lazyloading:
            with Progress("Loading", config.progress) as progress:
                loaded = self.source.read_all(range(window.start, window.stop), progress)
        return Objects(self.source, window.start, window.stop, loaded)

    def _pack(self, data: Any, window: Objects) -> Optional["array[int]"]:
        if type(data) is not list:
            return None
        if window.loaded is None:
            packed = handle_indices(self.source, data)
            return None if packed is None else array("Q", packed)
        index_of = {id(content): index for index, content in enumerate(window.loaded, window.start)}
        places = [index_of.get(id(content)) for content in data]
        return None if None in places else array("Q", places)  # type: ignore[arg-type]

    def _unpack(self, places: "array[int]") -> List[Any]:
        return make_handles(self.source, places) if self.source.config.lazyloading else self.source.read_all(places)

    def __getstate__(self) -> Dict[str, Any]:
        with self._lock:
            state: Dict[str, Any] = {"source": self.source, "window": self.window}
            if self._places is not None:
                state.update(places=self._places.tobytes(), targets=self.targets)
            elif self.ready and not isinstance(self.data, Objects):
                state.update(data=self.data, targets=self.targets)
            return state

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__init__(state["source"], state["window"])  # type: ignore[misc]
        self.targets = state.get("targets")
        if "places" in state:
            self._places = array("Q", state["places"])
        elif "data" in state:
            self.data, self.ready = state["data"], True
