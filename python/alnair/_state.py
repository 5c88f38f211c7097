"""What a dataset has loaded: a window, and what ``__convert__`` made of it."""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ._collections import Objects
from ._core import Handle
from ._log import logger
from ._packed import Handles, Keys, Packed, Token, lend, lent, pack, position
from ._progress import Progress
from ._source import Source
from ._windows import Window, windows

# Calls __convert__ and returns (samples, targets).
Convert = Callable[[], Tuple[Any, Any]]


class _Token(NamedTuple):
    """In a pickle, in place of what is found by it; None: of the window itself."""

    token: Optional[Token]


class State:
    """Loads and converts a window at first need. Thread-safe.

    Pickles small: a packed list as what other processes of this node find it by. Where that is gone (a pickle that was kept
    for long, or taken to another node), the copy converts again.
    """

    def __init__(self, source: Source, window: int = 0) -> None:
        self.source = source
        self.window = window
        self.lengths: Dict[int, int] = {}  # of the windows that a loader has been through: their samples
        self._windows: Optional[List[Window]] = None
        self._said_that_keys_are_the_windows = False
        self._lock = threading.RLock()  # held while a window is loaded and converted
        self.reset()

    def reset(self) -> None:
        """Forgets the window's contents."""
        self.ready = False
        self._converting = False
        self.data: Any = None  # while converting: the window; then what __convert__ returned
        self.targets: Any = None
        self._loaded: Any = None  # the handles of `data`, if that is a list of loaded bytes
        self._frozen: Optional[Tuple[Any, Any, bool]] = None  # from a pickle: data, targets, whether data is to be loaded
        self.objects: Optional[Sequence[int]] = None  # the manifest's index of each sample, if they are read when used
        self.handles: Optional[Sequence[int]] = None  # the same, if an item of `data` is a handle

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

    @property
    def keys(self) -> Keys:
        """The keys of the current window."""
        return Keys(self.source, range(self.current.start, self.current.stop))

    def warn_of_windows(self) -> None:
        """Says once that the dataset's keys are one window's."""
        if len(self.windows) > 1 and not self._said_that_keys_are_the_windows:
            self._said_that_keys_are_the_windows = True
            logger.warning(
                "dataset.keys has the %d keys of the current window, one of %d; dataset.all_keys has all %d",
                len(self.current), len(self.windows), len(self.source.core),
            )  # fmt: skip

    def prepare(self, convert: Convert) -> None:
        """Loads the window and converts it, unless that is done, or this thread is in the middle of it."""
        with self._lock:
            if self.ready or self._converting:
                return
            if not self._thaw():
                self._convert(convert)
            if self.source.config.lazyloading:
                if isinstance(self.data, Objects):
                    self.objects = range(self.data.start, self.data.stop)
                elif isinstance(self.data, (Handles, Keys)):
                    self.objects = self.data.numbers
                if type(self.data) in (Objects, Handles):
                    self.handles = self.objects
            self.ready = True

    def _convert(self, convert: Convert) -> None:
        self.data = window = self._load()
        self._converting = True
        try:
            data, targets = convert()
        except BaseException:
            self.reset()
            raise
        finally:
            self._converting = False
        if window.loaded is not None:
            self._loaded = self._objects_of(data, window)
        self.data, self.targets = pack(self.source, data), pack(self.source, targets)

    def _load(self) -> Objects:
        window, config, loaded = self.current, self.source.config, None
        if not config.lazyloading:
            with Progress("Loading", config.progress) as progress:
                loaded = self.source.read_all(range(window.start, window.stop), progress)
        return Objects(self.source, window.start, window.stop, loaded)

    def _objects_of(self, data: Any, window: Objects) -> Any:
        """The handles of what `data` has the bytes of; None if it is something else."""
        if type(data) is not list or window.loaded is None:
            return None
        index_of = {id(content): index for index, content in enumerate(window.loaded, window.start)}
        if any(id(content) not in index_of for content in data):
            return None
        return pack(self.source, [Handle(self.source, index_of[id(content)]) for content in data])

    # Pickles have neither the objects' bytes nor the numbers of packed lists, but what they are found by.

    def _freeze(self, values: Any) -> Any:
        if isinstance(values, Objects):
            return _Token(None)
        token = lend(self.source, values) if isinstance(values, Packed) else None
        return values if token is None else _Token(token)

    def _melt(self, values: Any) -> Any:
        if type(values) is not _Token:
            return values
        return self._load() if values.token is None else lent(self.source, values.token)

    def _thaw(self) -> bool:
        """Takes over what came through a pickle; False if nothing did, or what it refers to is no longer there."""
        if self._frozen is None:
            return False
        data, targets, loaded = self._frozen
        try:
            data, targets = self._melt(data), self._melt(targets)
        except LookupError:
            return False
        if loaded:
            self._loaded, data = data, self.source.read_all(data.numbers)
        self.data, self.targets = data, targets
        return True

    def __getstate__(self) -> Dict[str, Any]:
        with self._lock:
            frozen = self._frozen
            if self.ready:
                loaded = self._loaded is not None
                frozen = self._freeze(self._loaded if loaded else self.data), self._freeze(self.targets), loaded
            return {"source": self.source, "window": self.window, "frozen": frozen}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__init__(state["source"], state["window"])  # type: ignore[misc]
        self._frozen = state["frozen"]
