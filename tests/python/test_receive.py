"""Workers' results are received while the loop computes, and the loop sees what PyTorch shows it all the same."""

import gc
import os
import queue
import signal
import subprocess
import sys
import threading
import time

import alnair
import pytest
from alnair import AlnairJobDataset

torch = pytest.importorskip("torch")
from alnair import AlnairJobDataLoader, _receive  # noqa: E402
from torch.utils import data  # noqa: E402

WORKERS = {"num_workers": 2, "prefetch_factor": 3}


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """However short a step is, the thread receives during it."""
    monkeypatch.setattr(_receive, "STEP", 0.0)


class Numbers(data.Dataset):
    """Tensors, and some samples that fail."""

    def __init__(self, length=40, bad=()):
        self.length, self.bad = length, bad

    def __getitem__(self, index):
        if index in self.bad:
            raise ValueError(f"sample {index} is bad")
        return torch.tensor([index, data.get_worker_info().id, data.get_worker_info().seed % 997])

    def __len__(self):
        return self.length


class Stream(data.IterableDataset):
    """One worker's part ends long before the other's."""

    def __iter__(self):
        worker = data.get_worker_info().id
        return (torch.tensor([worker, n]) for n in range(3 if worker else 20))


def receivers():
    return [thread for thread in threading.enumerate() if thread.name == "alnair-receive"]


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def trace_of(loader_class, dataset, **arguments):
    """Batches, random states and errors of three epochs, one of them left early, at uneven steps."""
    torch.manual_seed(7)
    loader = loader_class(dataset, **{"batch_size": 4, **WORKERS, **arguments})
    trace = []
    for epoch in range(3):
        iterator = iter(loader)
        for step in range(100):
            try:
                batch = next(iterator)
            except StopIteration:
                break
            except ValueError as error:
                trace.append(str(error).splitlines()[-1])
                continue
            trace.append((batch.tolist(), torch.get_rng_state().sum().item()))
            time.sleep(0.002 * (step % 3))
            if (epoch, step) == (1, 2):
                break
        del iterator
        gc.collect()
        trace.append(torch.rand(1).item())
    return trace


LOADERS = {
    "ours": AlnairJobDataLoader,
    "attached": lambda *a, **k: alnair.attach(data.DataLoader(*a, **k)),
}


@pytest.mark.parametrize(
    "arguments",
    [{}, {"shuffle": True}, {"persistent_workers": True}, {"timeout": 60}],
    ids=["sequential", "shuffled", "persistent", "with a timeout"],
)
def test_a_loop_sees_what_pytorch_shows_it(arguments):
    expected = trace_of(data.DataLoader, Numbers(), **arguments)
    for loader in LOADERS.values():
        assert trace_of(loader, Numbers(), **arguments) == expected


@pytest.mark.parametrize(
    "dataset, arguments",
    [
        (Stream(), {}),
        (Stream(), {"persistent_workers": True}),
        (Numbers(bad={5, 6, 30}), {"persistent_workers": True}),  # else a worker whose sample failed is waited for by PyTorch
        (Numbers(), {"persistent_workers": True, "multiprocessing_context": "spawn"}),
    ],
    ids=["stream", "persistent stream", "samples that fail", "spawned"],
)
def test_so_does_one_over_other_data_and_in_other_processes(dataset, arguments):
    assert trace_of(AlnairJobDataLoader, dataset, **arguments) == trace_of(data.DataLoader, dataset, **arguments)


def test_what_workers_have_sent_is_ready_before_the_loop_asks_for_it_and_no_more_is_asked_of_them():
    drawn = []

    class Sampler(data.SequentialSampler):
        def __iter__(self):
            for index in super().__iter__():
                drawn.append(index)
                yield index

    dataset = Numbers(20)
    loader = AlnairJobDataLoader(dataset, batch_size=1, sampler=Sampler(dataset), **WORKERS)
    iterator = iter(loader)
    assert isinstance(iterator, data.dataloader._MultiProcessingDataLoaderIter)
    assert type(iterator).__name__ == "_MultiProcessingDataLoaderIter"
    assert receivers() == []  # a loop that has not come back yet may be faster than the workers
    for taken in range(1, 4):
        next(iterator)
    wait_for(lambda: len(iterator._data_queue._ready) + len([t for t in iterator._task_info.values() if len(t) == 2]) == 6)
    assert len(drawn) == 9
    assert [batch[0, 0].item() for batch in iterator] == list(range(3, 20))
    assert receivers() == []


@pytest.mark.parametrize("end", ["break", "error", "kept"])
def test_the_thread_ends_with_the_iterator(end):
    loader = AlnairJobDataLoader(Numbers(), batch_size=1, persistent_workers=end == "kept", **WORKERS)
    iterator = iter(loader)
    for _ in range(5):
        next(iterator)
    assert len(receivers()) == 1
    workers = iterator._workers
    if end == "error":
        with pytest.raises(ZeroDivisionError):
            for _ in iterator:
                1 / 0  # noqa: B018
    del iterator
    gc.collect()
    assert len(receivers()) == (end == "kept")
    del loader
    gc.collect()
    assert receivers() == []
    assert not any(worker.is_alive() for worker in workers)


def test_a_loop_that_waits_for_its_data_receives_them_itself(monkeypatch):
    monkeypatch.setattr(_receive, "STEP", 3600.0)
    loader = AlnairJobDataLoader(Numbers(), batch_size=4, **WORKERS)
    for _ in loader:
        assert receivers() == []


# Failures.


class Unreadable:
    """Cannot be unpickled."""

    def __reduce__(self):
        return fail, ()


def fail():
    raise ArithmeticError("cannot be read")


def some_unreadable(samples):
    return Unreadable() if samples[0][0] == 5 else samples[0]


def test_what_cannot_be_unpickled_raises_in_its_turn():
    seen = {}
    for kind in (data.DataLoader, AlnairJobDataLoader):
        iterator = iter(kind(Numbers(10), collate_fn=some_unreadable, num_workers=1, prefetch_factor=4))
        seen[kind] = [next(iterator)[0].item() for _ in range(5)]
        time.sleep(0.2)  # it is received by now
        with pytest.raises(ArithmeticError, match="cannot be read"):
            next(iterator)
        del iterator
    assert seen[AlnairJobDataLoader] == seen[data.DataLoader] == [0, 1, 2, 3, 4]


class Deadly(Numbers):
    def __getitem__(self, index):
        if index == 11:
            time.sleep(0.5)  # the loop waits for it
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


class Slow(Numbers):
    def __getitem__(self, index):
        if index == 11:
            time.sleep(3)
        return super().__getitem__(index)


@pytest.mark.parametrize("dataset, arguments", [(Deadly(), {}), (Slow(), {"timeout": 1})], ids=["killed", "timed out"])
def test_a_worker_that_is_killed_or_does_not_answer_is_told_as_by_pytorch(dataset, arguments):
    told = {}
    for kind in (data.DataLoader, AlnairJobDataLoader):
        iterator = iter(kind(dataset, batch_size=1, **WORKERS, **arguments))
        pids = [worker.pid for worker in iterator._workers]
        with pytest.raises(RuntimeError) as caught:
            for _ in range(40):
                next(iterator)
                time.sleep(0.002)
        told[kind] = str(caught.value).replace(str(pids[1]), "PID")
        caught = None
        del iterator
        gc.collect()
    assert told[AlnairJobDataLoader] == told[data.DataLoader]
    assert receivers() == []


def test_the_queue_says_that_there_is_nothing_yet():
    iterator = iter(AlnairJobDataLoader(Slow(12), batch_size=1, **WORKERS))
    for _ in range(11):
        next(iterator)
    with pytest.raises(queue.Empty):
        iterator._data_queue.get(timeout=0.1)
    assert next(iterator)[0, 0] == 11


# Processes.


class Held:
    """Is unpickled under a lock, and takes its time."""

    lock, begun = threading.Lock(), threading.Event()

    def __reduce__(self):
        return hold, ()


def hold():
    with Held.lock:
        Held.begun.set()
        time.sleep(0.5)
    return Held()


def held_from_the_third(samples):
    return Held() if samples[0][0] >= 3 else None


def test_a_fork_waits_for_what_is_being_received():
    iterator = iter(AlnairJobDataLoader(Numbers(5), collate_fn=held_from_the_third, **WORKERS))
    for _ in range(3):
        next(iterator)
    Held.begun.clear()
    assert Held.begun.wait(30)
    child = os.fork()
    if child == 0:
        os._exit(0 if Held.lock.acquire(timeout=5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(list(iterator)) == 2


def test_other_loaders_may_start_workers_while_one_receives():
    outer = iter(AlnairJobDataLoader(Numbers(12), batch_size=1, multiprocessing_context="fork", **WORKERS))
    for number in range(12):
        assert next(outer)[0, 0] == number
        inner = AlnairJobDataLoader(Numbers(8), batch_size=2, multiprocessing_context="fork", **WORKERS)
        assert [n for batch in inner for n in batch[:, 0].tolist()] == list(range(8))


SCRIPT = """
import resource, sys, time, torch
from alnair import AlnairJobDataLoader, _receive
_receive.STEP = 0.0

class Many(torch.utils.data.Dataset):
    def __len__(self):
        return 400
    def __getitem__(self, index):
        return torch.full((1,), index)

if __name__ == "__main__":
    if sys.argv[1] == "files":
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
    kind = AlnairJobDataLoader if sys.argv[2] == "ours" else torch.utils.data.DataLoader
    loader = kind(Many(), 16, collate_fn=list, num_workers=2, prefetch_factor=6, persistent_workers=True)
    for _ in range(3):
        seen = []
        for batch in loader:
            seen += [int(sample) for sample in batch]
            time.sleep(0.02)
        assert seen == list(range(400))
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
        time.sleep(0.02)
    print("done")  # and leaves with a receiving thread
"""


@pytest.mark.parametrize("what", ["files", "exit"])
@pytest.mark.parametrize("kind", ["ours", "pytorch's"])
def test_few_files_are_enough_and_the_interpreter_ends(tmp_path, what, kind):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, tmp_path / "script.py", what, kind], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert "Error" not in done.stderr


def test_another_iterator_than_pytorchs_own_is_left_alone():
    alone = iter(AlnairJobDataLoader(Numbers(), batch_size=4))
    assert type(alone) is data.dataloader._SingleProcessDataLoaderIter

    class Own(data.dataloader._MultiProcessingDataLoaderIter):
        pass

    own = Own(AlnairJobDataLoader(Numbers(), **WORKERS))
    before = own._data_queue
    assert _receive.receive_ahead(own) is own
    assert own._data_queue is before
    assert type(own) is Own


def records(loader_class, **arguments):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in loader_class(Numbers(), batch_size=4, **WORKERS, **arguments):
            pass
    return [event.count for event in profile.key_averages() if event.key.startswith("enumerate(DataLoader)")]


@pytest.mark.parametrize("arguments", [{}, {"persistent_workers": True}])
def test_a_profiler_sees_each_batch_as_with_pytorch(arguments):
    assert records(AlnairJobDataLoader, **arguments) == records(data.DataLoader, **arguments) == [11]


@pytest.mark.parametrize("dataset", [Numbers(), Stream()])
@pytest.mark.parametrize("known", [True, False])
def test_without_a_profiler_nothing_is_recorded_of_a_pytorch_that_is_known(monkeypatch, dataset, known):
    recorded = []

    class Record(torch.autograd.profiler.record_function):
        def __enter__(self):
            recorded.append(self.name)
            return super().__enter__()

    monkeypatch.setattr(torch.autograd.profiler, "record_function", Record)
    monkeypatch.setattr(_receive._Receiving, "_needs_record", not known)
    assert sum(len(batch) for batch in AlnairJobDataLoader(dataset, batch_size=4, **WORKERS)) > 20
    assert bool(recorded) == (not known or isinstance(dataset, Stream))


def test_the_pytorch_at_hand_is_known():
    assert not _receive._Receiving._needs_record
    assert _receive._is_known(_receive._Iterator.__next__.__code__)
    assert not _receive._is_known((lambda self: self._another()).__code__)
    assert not _receive._is_known(None)
