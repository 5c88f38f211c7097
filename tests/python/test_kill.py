"""Processes that are killed at random instants leave nothing behind, and the next run reads the right bytes.

A round forks a training process over cold or warm caches, which forks two workers; kill -9 hits it, or a worker, at any
moment from its first step on. Then another process reads everything and compares. ALNAIR_TEST_STRESS=1 makes it hundreds
of rounds.
"""

import contextlib
import ctypes
import hashlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from alnair import AlnairJobDataLoader, AlnairJobDataset  # noqa: E402

STRESS = os.environ.get("ALNAIR_TEST_STRESS") == "1"
ROUNDS = 400 if STRESS else 50
OBJECTS = 300
LIMIT = 24 << 20  # of each tier; the objects have about 15 MB


class Digests(AlnairJobDataset):
    def __getitem__(self, index):
        return self.get_target(index), hashlib.sha256(self.get_data(index)).hexdigest()


@pytest.fixture
def objects(tmp_path):
    """A directory of objects of very different sizes, and their digests by key."""
    rng, digests = random.Random(1), {}
    for number in range(OBJECTS):
        path = tmp_path / "objects" / f"{number % 7}" / f"{number:03d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = rng.randbytes(int(10 ** rng.uniform(0, 5.4)))
        path.write_bytes(data)
        digests[str(path.relative_to(tmp_path / "objects"))] = hashlib.sha256(data).hexdigest()
    return f"file://{tmp_path / 'objects'}", digests


def end_with_parent(worker):
    """For workers: PyTorch's watchdog misses a parent that dies before it first looks."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() == 1:
        os._exit(0)


def train(source, digests, epochs, workers):
    """Reads in shuffled order; exits with 1 at the first wrong sample."""
    dataset = Digests(source=source, memory_limit=LIMIT, disk_limit=LIMIT)
    for _ in range(epochs):
        seen = 0
        loader = AlnairJobDataLoader(
            dataset, batch_size=16, shuffle=True, num_workers=workers, worker_init_fn=end_with_parent if workers else None
        )
        for keys, found in loader:
            for key, digest in zip(keys, found):
                if digests[key] != digest:
                    os._exit(1)
            seen += len(keys)
        if seen != len(digests):
            os._exit(2)


def start(body):
    """Forks a process, in a session of its own, that runs `body`. Its exit status: 0, or what went wrong."""
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            os.setsid()
            body()
            status = 0
        except BaseException:  # noqa: B902
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def exit_status(pid, seconds=60.0):
    """What a process ended with; kills it if it does not end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"


def session(leader):
    """The processes of a session, except its leader."""
    members = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path("/proc", entry, "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == leader and int(entry) != leader and fields[0] != "Z":
                members.append(int(entry))
    return members


def test_killed_processes_leave_nothing_behind(objects):
    source, digests = objects
    rng = random.Random(int(os.environ.get("ALNAIR_TEST_SEED", "0")) or None)
    cache, memory = Path(os.environ["ALNAIR_CACHE_DIR"]), Path(os.environ["ALNAIR_MEMORY_DIR"])
    leaders = []
    for attempt in range(ROUNDS):
        if rng.random() < 0.2:
            shutil.rmtree(cache, ignore_errors=True)
        if rng.random() < 0.2:
            shutil.rmtree(memory, ignore_errors=True)
        leader = start(lambda: train(source, digests, epochs=1000, workers=2))
        leaders.append(leader)
        time.sleep(rng.uniform(0, 0.6))
        if rng.random() < 0.3:  # a worker: PyTorch reports it, and the main process ends with an error
            workers = session(leader)
            if workers:
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(rng.choice(workers), signal.SIGKILL)
                time.sleep(rng.uniform(0, 0.05))
        os.kill(leader, signal.SIGKILL)
        os.waitpid(leader, 0)
        # Its workers may live on for a moment: the next run begins beside them.
        checked = start(lambda: train(source, digests, epochs=1, workers=0))
        assert exit_status(checked) == 0, f"round {attempt}"

    deadline = time.monotonic() + 120
    while any(session(leader) for leader in leaders) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for leader in leaders for pid in session(leader)], "workers outlived their parents"

    # One more run, when everyone else is dead, cleans up what was left; then files are within the limits.
    assert exit_status(start(lambda: train(source, digests, epochs=2, workers=0))) == 0
    left = [path for path in memory.rglob("*") if path.is_file()]
    assert not [path.name for path in left if "dead" in path.name or "tmp" in path.name]
    segments = sum(path.stat().st_blocks * 512 for path in left if "shared" not in path.parts)
    assert segments <= LIMIT + (2 << 20), "node memory is larger than its limit (and a little for its index)"
    chunks = [path for path in (cache / "chunks").rglob("*") if path.is_file()]
    assert not [path.name for path in chunks if "tmp" in path.name], "unfinished segments"
    assert sum(path.stat().st_blocks * 512 for path in chunks) <= LIMIT + (1 << 20)
