"""AlnairJobDataset: a map-style dataset over objects in S3 (or a directory), read through the cache."""

from __future__ import annotations

import os
from io import BufferedReader
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from . import _config, _values
from ._core import Handle, View
from ._file import open_object
from ._packed import Keys
from ._source import Source
from ._state import State
from ._windows import Window, WindowIndex
from .errors import NotFoundError, OptionTypeError, OutOfRangeError

if TYPE_CHECKING:
    from torch.utils.data import Dataset as _Base
else:
    try:
        from torch.utils.data import Dataset as _Base
    except ImportError:  # a dataset needs no PyTorch; where there is one, it is PyTorch's kind of dataset

        class _Base:
            def __class_getitem__(cls, _):
                return cls


_number_of_bytes = _values.at_least(0, "a number of bytes")
Size = Union[int, str]  # bytes, or a text such as "512MiB"


class AlnairJobDataset(_Base[Any]):
    """A dataset of raw objects. Override some of ``__convert__``, ``__getitem__`` and ``__len__``.

    ``__convert__`` sees ``self.keys`` and ``self.data[key]`` and returns ``(samples, targets)``, which ``data`` and
    ``targets`` are from then on. It runs when something of it is first needed. Without it, sample ``i`` is the object
    of the ``i``-th key, its target the key, and an item is ``(bytes, key)``.

    What is not given as an argument comes from the environment variable ``ALNAIR_<PARAMETER>``, then from the job that
    ``JOBNAME`` names (``/jobs/{JOBNAME}.json``, ``/secret/client.conf``), then from the default.

    The dataset pickles as its configuration and version, and reads the very same version in a worker process however that
    was started. Its methods may be called from several threads at once.

    Args:
        keys: entries that narrow the datasource: full object keys, folders, or raw prefixes that end in ``/`` or ``*``.
            None: everything.
        source: ``s3://bucket``, ``s3://bucket/path`` or ``file:///directory``.
        manager: ``http://host:port`` of a cluster's manager, which lists the datasource for all its jobs.
        endpoint_url: an S3 server other than AWS's.
        region: the bucket's region; found out if not given.
        profile: a profile of AWS's configuration files.
        anonymous: send unsigned requests.
        requester_pays: agree to pay for requests to such a bucket.
        addressing_style: ``auto``, ``path`` or ``virtual``.
        ca_bundle: a file of TLS certificates to trust in place of the system's.
        max_connections: connections, and requests in flight, of all processes of this node together.
        hedging: send a straggler's request a second time, for at most 5 % of the requests.
        usecache: False keeps only what is prefetched.
        maxmemory: MiB of objects that are loaded at a time with ``lazyloading=False``; 0 for no limit.
        lazyloading: True makes ``data[key]`` a light handle that ``load`` and ``get_data`` turn into bytes; with False it is
            the bytes themselves, loaded beforehand.
        durabilityindisk: minutes that chunks are kept in ``spill`` after a live job last named them.
        single_pass: True for a job that reads each object once (inference): it reads what the cache has, and displaces nothing there.
        cache_dir: directory of the catalog, manifests and directory tier.
        memory_dir: directory of node memory.
        memory_limit: size of node memory, in bytes or as ``"8GiB"``; 0 for the default.
        disk_limit: size of the directory tier.
        redis: the Redis Cluster that all nodes share: ``redis://user:password@host:6379,host:6379``; ``rediss://`` and ``unix:``
            too. Options follow a ``?``: ``namespace``, ``domain``, ``mode`` and others.
        spill: directories that all nodes share (NFS): a path, several in a list, or with commas between them. Each chunk lies in
            one of them; all nodes name them alike.
        spill_mode: mode of what is made in them: ``"0700"``, or ``"2770"`` to share them with a group.
        spill_limit: size of what is kept in each of them.
        flush_frequency: seconds between two looks at what Redis may have to evict, and the directories do not have yet.
        flush_amount: size of what is written to them each time, at most; 0 for the default.
        flush_policy: what Redis evicts first: "recency", "frequency" or "next_use".
        chunk_size: size of the parts that large objects are kept in.
        eviction: ``none``, ``lru`` or ``s3fifo``.
        version: open exactly this version (``dataset.version`` of an earlier run).
        refresh: ``start`` lists the source and compares; ``never`` opens the newest version that this node knows.
        on_error: ``raise``, or a callable that gets the key of an object that cannot be read, and the error, and returns the bytes
            to use in its place. It must be picklable where workers are spawned. ``read`` and ``open`` raise in any case.
        progress: show how far listing and loading are when they take more than two seconds.

    Raises:
        alnair.Error: ``ConfigError``, ``AccessError``, ``NotFoundError``, ``SourceError``, ``TimeoutError`` or ``CacheError``.
    """

    def __init__(
        self,
        keys: Optional[Iterable[str]] = None,
        *,
        source: Optional[str] = None,
        manager: Optional[str] = None,
        endpoint_url: Optional[str] = None,
        region: Optional[str] = None,
        profile: Optional[str] = None,
        anonymous: Optional[bool] = None,
        requester_pays: Optional[bool] = None,
        addressing_style: Optional[str] = None,
        ca_bundle: Optional[Union[str, "os.PathLike[str]"]] = None,
        max_connections: Optional[int] = None,
        hedging: Optional[bool] = None,
        usecache: Optional[bool] = None,
        maxmemory: Optional[int] = None,
        lazyloading: Optional[bool] = None,
        durabilityindisk: Optional[int] = None,
        single_pass: Optional[bool] = None,
        cache_dir: Optional[Union[str, "os.PathLike[str]"]] = None,
        memory_dir: Optional[Union[str, "os.PathLike[str]"]] = None,
        memory_limit: Optional[Size] = None,
        disk_limit: Optional[Size] = None,
        redis: Optional[str] = None,
        spill: Optional[Union[str, "os.PathLike[str]", Sequence[Union[str, "os.PathLike[str]"]]]] = None,
        spill_mode: Optional[Union[int, str]] = None,
        spill_limit: Optional[Size] = None,
        flush_frequency: Optional[int] = None,
        flush_amount: Optional[Size] = None,
        flush_policy: Optional[str] = None,
        chunk_size: Optional[Size] = None,
        eviction: Optional[str] = None,
        version: Optional[str] = None,
        refresh: Optional[str] = None,
        on_error: Optional[Union[str, Callable[[str, Exception], bytes]]] = None,
        progress: Optional[bool] = None,
    ) -> None:
        arguments = dict(locals())
        config = _config.resolve({name: arguments[name] for name in _config.PARAMETERS})
        state = State(Source(config))
        state.windows  # opens the source, and refuses objects larger than maxmemory  # noqa: B018
        self._alnair = state
        # As in the K-V-Store, for scripts that look at them.
        self.jobname: Optional[str] = config.jobname or None
        self.qos: Dict[str, Any] = {
            "UseCache": config.usecache,
            "MaxMemory": config.maxmemory,
            "DurabilityInDisk": config.durabilityindisk,
            "LazyLoading": config.lazyloading,
        }

    # What there is.

    @property
    def version(self) -> str:
        """The hash of the dataset's manifest: equal versions are equal lists of equal objects."""
        return self._alnair.source.core.version

    @property
    def keys(self) -> Keys:
        """The full keys of the current window's objects, in bytewise order."""
        self._alnair.warn_of_windows()
        return self._alnair.keys

    @property
    def all_keys(self) -> Keys:
        """The full keys of all objects, whichever window is the current one."""
        source = self._alnair.source
        return Keys(source, range(len(source.core)))

    @property
    def data(self) -> Any:
        """The samples, as ``__convert__`` returned them. Within it, and without one: handles or bytes by key."""
        state = self._alnair
        if not state.ready:
            state.prepare(self._converted)
        return state.data

    @property
    def targets(self) -> Any:
        """The targets, as ``__convert__`` returned them; without one, the keys."""
        state = self._alnair
        if not state.ready:
            state.prepare(self._converted)
        return state.targets

    @property
    def chunks(self) -> List[Window]:
        """The windows: with ``lazyloading=False`` and ``maxmemory``, parts that fit; else one that has everything."""
        return self._alnair.windows

    _loads_itself = True  # False in a subclass that overrides load()
    _maps_keys = False  # True in a subclass that overrides keys_of()

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls._loads_itself = cls.load is AlnairJobDataset.load
        cls._maps_keys = cls.keys_of is not AlnairJobDataset.keys_of

    def __convert__(self) -> Tuple[Any, Any]:
        """Turns ``self.keys`` and ``self.data`` into ``(samples, targets)``. To be overridden."""
        return self.data, self._alnair.keys

    def _has_a_sample_for_each_object(self) -> bool:
        kind = type(self)
        own = kind.__convert__ is AlnairJobDataset.__convert__ and not hasattr(kind, "__preprocess__")
        return own and kind.__len__ is AlnairJobDataset.__len__

    def keys_of(self, index: int) -> Iterable[Any]:
        """The objects that ``self[index]`` reads, as handles or full keys; they are fetched ahead of the loop.

        To be overridden where that is not the one object of ``data[index]``: several objects a sample, or another index.
        Called in the process of the loop for indices that are still to come, and for each batch where it is read: it must
        be cheap, and draw no random numbers. What it leaves out is fetched when it is read.
        """
        return (self.data[index],)

    def _objects_of(self, indices: Iterable[int]) -> List[int]:
        return [self._find(item, "keys_of")[1] for index in indices for item in self.keys_of(index)]

    def _converted(self) -> Tuple[Any, Any]:
        convert, name = self.__convert__, "__convert__"
        if type(self).__convert__ is AlnairJobDataset.__convert__ and hasattr(type(self), "__preprocess__"):
            convert, name = self.__preprocess__, "__preprocess__"
        result = convert()
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise TypeError(f"{type(self).__name__}.{name} must return (samples, targets), not {type(result).__name__}")
        return result[0], result[1]

    # Reading.

    def load(self, key: Any, *, view: bool = False) -> Any:
        """An object's bytes, given its handle or its full key; with ``view=True`` an ``alnair.View``, without a copy."""
        if isinstance(key, dict) and "key" in key:
            return self.load(key["key"], view=view)
        if isinstance(key, (bytes, View)):
            return key
        source, index = self._find(key, "load")
        found = source.read(index)
        return found if view else bytes(found)

    def _find(self, key: Any, method: str) -> Tuple[Source, int]:
        """The source and index of the object of a handle or a key; `method` is whose argument that is."""
        if type(key) is Handle:
            return key.source, key.index
        if not isinstance(key, str):
            raise OptionTypeError(f"{method}() takes a handle or a key, not {type(key).__name__}")
        source = self._alnair.source
        index = source.core.find(key)
        if index is None:
            raise NotFoundError(f"the dataset has no object {key!r}")
        return source, index

    def read(self, key: Any, offset: int = 0, length: Optional[int] = None, *, view: bool = False) -> Any:
        """A part of an object, given its handle or its full key: ``length`` bytes from ``offset``, fewer where it ends before.

        Only the chunks that it lies in are fetched. With ``view=True`` an ``alnair.View``.
        """
        source, index = self._find(key, "read")
        offset = _number_of_bytes(offset, "offset")
        length = None if length is None else _number_of_bytes(length, "length")
        found = source.core.read(index, offset, length)
        return found if view else bytes(found)

    def open(self, key: Any) -> BufferedReader:
        """A file over an object, given its handle or its full key: for huge ones, and for readers that seek, such as
        ``zipfile``, ``tarfile``, ``h5py`` and ``pyarrow``.

        Only the chunks that are touched are fetched; where it is read in order, the next ones are on their way meanwhile.
        """
        return open_object(*self._find(key, "open"))

    def mload(self, chunks: Iterable[Any]) -> List[bytes]:
        """The bytes of many objects (a window, or handles or keys), fetched in parallel."""
        if isinstance(chunks, (str, bytes, Handle)):
            raise OptionTypeError(f"mload() takes a window, or several handles or keys, not one {type(chunks).__name__}")
        items = range(chunks.start, chunks.stop) if isinstance(chunks, Window) else chunks
        items = (item["key"] if isinstance(item, dict) else item for item in items)
        return self._alnair.source.read_all([i if isinstance(i, int) else self._find(i, "mload")[1] for i in items])

    def get_data(self, index: int, *, view: bool = False) -> Any:
        """Sample ``index``, loaded if it is a handle or a key."""
        state = self._alnair
        data = state.data if state.ready else self.data
        try:
            if state.handles is not None and type(index) is int and self._loads_itself:
                source, number = state.source, state.handles[index]  # without making a handle
                views = source.held.views
                found = None if views is None else views.get(number)  # without another call
                if type(found) is not View:
                    found = source.read(number)
                return found if view else bytes(found)
            sample = data[index]
        except IndexError:
            raise OutOfRangeError(f"index {index} is out of range: the dataset has {len(data)} samples") from None
        if type(sample) is Handle:
            if self._loads_itself:  # without another call
                found = sample.source.read(sample.index)
                return found if view else bytes(found)
        elif type(sample) is not str or not state.source.config.lazyloading:
            return sample
        return self.load(sample, view=True) if view else self.load(sample)

    def get_target(self, index: int) -> Any:
        """The target of sample ``index``; None if there are no targets."""
        state = self._alnair
        targets = state.targets if state.ready else self.targets
        if targets is None:
            return None
        try:
            return targets[index]
        except IndexError:
            raise OutOfRangeError(f"index {index} is out of range: the dataset has {len(targets)} targets") from None

    def load_data(self, window: int) -> None:
        """Makes ``chunks[window]`` the current window, loads it and converts it."""
        self._alnair.select(window)
        self._alnair.prepare(self._converted)

    def __getitem__(self, index: int) -> Any:
        return self.get_data(index), self.get_target(index)

    def __getitems__(self, indices: Sequence[int]) -> List[Any]:
        """The items of a batch: their objects are fetched at once, then ``self[index]`` is called for each."""
        state = self._alnair
        if len(indices) > 0 and type(indices[0]) is WindowIndex:  # in a worker that stays while the windows pass
            if state.window != indices[0].window:
                self.load_data(indices[0].window)
            indices = [int(index) for index in indices]
        if not state.ready:
            state.prepare(self._converted)
        objects = state.objects
        try:
            if self._maps_keys:
                state.source.hold(self._objects_of(indices))
            elif objects is not None:
                state.source.hold([objects[index] for index in indices])
        except (LookupError, TypeError):
            pass  # self[index] has the better message
        try:
            return [self[index] for index in indices]
        finally:
            state.source.release()

    def __len__(self) -> int:
        return len(self.data)

    def __getattr__(self, name: str) -> Any:
        # Only for what is not there. A script may rely on attributes that its __convert__ sets.
        if not (name.startswith("__") or name == "_alnair"):
            state = self.__dict__.get("_alnair")
            if state is None:
                raise AttributeError(f"{type(self).__name__} has no {name!r} (yet): call super().__init__(keys) first")
            if not state.ready:
                state.prepare(self._converted)
                if name in self.__dict__:
                    return self.__dict__[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
