"""One run, one version: the processes of a node list once, and ranks read what the first of them read."""

import http.server
import multiprocessing
import os
import signal
import threading

import alnair
import pytest
from alnair import AlnairJobDataset, _run
from conftest import KEYS, content_of, write_objects
from test_processes import Stalling

FORK = multiprocessing.get_context("fork")


def lists():
    """Listings so far, of this process and those forked from it."""
    return alnair.stats()["s3_list_objects"]


def test_what_says_that_processes_are_of_one_run():
    parent = _run._parent()
    assert parent.split()[0] == str(os.getppid())
    for environment, expected in [
        ({}, ""),
        ({"ALNAIR_RUN_ID": "7", "TORCHELASTIC_RUN_ID": "x"}, "run 7"),
        ({"ALNAIR_RUN_ID": "none", "TORCHELASTIC_RUN_ID": "x"}, ""),
        ({"TORCHELASTIC_RUN_ID": "none", "SLURM_JOB_ID": "1"}, f"torchelastic none {parent}"),
        ({"PMIX_NAMESPACE": "prte-1@1"}, f"mpi prte-1@1 {parent}"),
        ({"OMPI_MCA_ess_base_jobid": "5"}, f"mpi 5 {parent}"),
        ({"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "8"}, "slurm 1 0 0"),
        ({"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "1"}, ""),  # an interactive shell
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"}, ""),  # a batch script, where any number of programs may run
    ]:
        assert _run.run_id(environment) == expected


# On one node.


def test_a_run_keeps_the_version_that_it_began_with(source, folder, monkeypatch):
    alone = AlnairJobDataset(source=source).version
    monkeypatch.setenv("ALNAIR_RUN_ID", "one")
    assert AlnairJobDataset(source=source).version == alone
    (folder / "new.txt").write_bytes(b"new")
    assert AlnairJobDataset(source=source).version == alone
    assert AlnairJobDataset(source=source, refresh="never").version == alone
    assert len(AlnairJobDataset(["train"], source=source)) == 20  # another dataset
    monkeypatch.setenv("ALNAIR_RUN_ID", "two")
    newer = AlnairJobDataset(source=source).version
    monkeypatch.delenv("ALNAIR_RUN_ID")
    assert AlnairJobDataset(source=source).version == newer != alone


class Remote:
    """A forked process that does what it is told."""

    def __init__(self, **environment):
        self._pipe, theirs = FORK.Pipe()
        self.process = FORK.Process(target=self._run, args=(theirs, environment), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, what, *arguments, **keywords):
        self._pipe.send((what, arguments, keywords))

    def receive(self):
        assert self._pipe.poll(120), "no answer"
        result = self._pipe.recv()
        if isinstance(result, BaseException):
            raise result
        return result

    def __call__(self, what, *arguments, **keywords):
        self.send(what, *arguments, **keywords)
        return self.receive()

    def stop(self):
        if self.process.is_alive():
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()

    def _run(self, pipe, environment):
        os.environ.update(environment)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        while True:
            what, arguments, keywords = pipe.recv()
            try:
                pipe.send(getattr(self, what)(*arguments, **keywords))
            except BaseException as error:
                pipe.send(error)

    # What it may be told.

    def open(self, source, **arguments):
        self.dataset = AlnairJobDataset(source=source, **arguments)
        return self.dataset.version

    def read(self, index):
        return self.dataset[index]

    def keys(self):
        return list(self.dataset.keys)

    def serve(self):
        import torch.distributed as distributed

        self.store = distributed.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
        return self.store.port

    def join(self, port, rank, world):
        import torch.distributed as distributed

        store = distributed.TCPStore("127.0.0.1", port, None, False)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)

    def loop(self):
        return [key for batch in alnair.AlnairJobDataLoader(self.dataset, batch_size=8, collate_fn=list) for _, key in batch]

    def set(self, name, value):
        setattr(_run, name, value)


@pytest.fixture
def remotes():
    started = []

    def start(count, **environment):
        started.extend(Remote(**environment) for _ in range(count))
        return started[-count:]

    yield start
    for remote in started:
        remote.stop()


def together(remotes, *what):
    for remote in remotes:
        remote.send(*what)
    return [remote.receive() for remote in remotes]


def test_the_processes_of_a_run_list_once(s3, remotes):
    processes, before = remotes(4, ALNAIR_RUN_ID="five"), lists()
    assert len(set(together(processes, "open", "s3://pets"))) == 1
    assert lists() - before == 1
    assert processes[1]("read", 3) == (content_of(KEYS[3]), KEYS[3])


class StallsOnce(Stalling):
    """Lists one object, but never answers the first request."""

    asked, stalled = False, threading.Event()

    def do_GET(self):
        self.lists, type(self).asked = self.asked, True
        super().do_GET()


def test_when_the_process_that_lists_is_killed_the_next_one_lists(remotes):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StallsOnce)
    server.daemon_threads, server.block_on_close = True, False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        opening = {"endpoint_url": endpoint, "anonymous": True, "region": "us-east-1"}
        asks, waits, interrupted = remotes(3, ALNAIR_RUN_ID="six")
        asks.send("open", "s3://pets", **opening)
        assert StallsOnce.stalled.wait(60)
        waits.send("open", "s3://pets", **opening)
        interrupted.send("open", "s3://pets", **opening)
        assert not waits._pipe.poll(0.5)
        while not interrupted._pipe.poll(0.2):  # again, if it came before the process began to open
            os.kill(interrupted.process.pid, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupted.receive()
        asks.stop()
        assert len(waits.receive()) == 64
        assert waits("keys") == ["a.txt"]
    finally:
        server.shutdown()
        server.server_close()


# Across nodes.


@pytest.fixture
def node(tmp_path, monkeypatch):
    """The environment of a process of another node: caches of its own."""

    def make(name):
        return {
            "ALNAIR_CACHE_DIR": str(tmp_path / f"cache-{name}"),
            "ALNAIR_MEMORY_DIR": os.environ["ALNAIR_MEMORY_DIR"] + f"-{name}",
            "GLOO_SOCKET_IFNAME": "lo",
        }

    return make


@pytest.fixture
def group(remotes):
    """Makes processes the ranks of one process group."""
    pytest.importorskip("torch.distributed")
    [server] = remotes(1)  # has a thread, which this process must not when it forks
    port = server("serve")

    def join(ranks):
        for rank, remote in enumerate(ranks):
            remote.send("join", port, rank, len(ranks))
        for remote in ranks:
            remote.receive()

    return join


def test_a_rank_that_starts_later_reads_what_the_first_one_reads_although_the_bucket_has_changed(s3, remotes, node, group):
    bucket = s3.add_bucket("agreed", KEYS[:6])
    [first], [second] = remotes(1, **node("a")), remotes(1, **node("b"))
    group([first, second])
    version, listed = first("open", bucket), lists()
    write_objects(s3.root / "agreed", ["a-new-one.txt"])
    (s3.root / "agreed" / KEYS[2]).write_bytes(b"overwritten")
    assert second("open", bucket) == version
    assert lists() == listed
    assert second("keys") == KEYS[:6]
    assert second("read", 1) == (content_of(KEYS[1]), KEYS[1])
    with pytest.raises(alnair.ChangedError, match=KEYS[2]):
        second("read", 2)
    assert second("open", bucket, refresh="never") == version  # it is kept on that node now
    write_objects(s3.root / "agreed", ["b-new-one.txt"])
    assert first("open", bucket) == version


def test_ranks_that_cannot_read_the_same_fail_with_an_error_that_names_both(s3, remotes, node, group):
    bucket = s3.add_bucket("torn", KEYS[:6])
    [first], [second] = remotes(1, **node("a")), remotes(1, **node("b"))
    old = second("open", bucket)  # before there is a process group
    write_objects(s3.root / "torn", ["a-new-one.txt"])
    group([first, second])
    first("set", "_MOST", 0)  # as if the manifest were too large to be handed on
    new = first("open", bucket)
    assert new != old
    assert first("loop") == ["a-new-one.txt", *KEYS[:6]]
    with pytest.raises(alnair.ChangedError) as caught:
        second("loop")
    message = str(caught.value)
    assert all(part in message for part in (bucket, old, new, "rank 0", "rank 1", "init_process_group"))
    assert second("open", bucket) == new  # by listing
    (s3.root / "torn" / KEYS[0]).unlink()
    [third] = remotes(1, **node("c"))
    assert third("open", bucket) != new  # a process of no group is free to


def test_ranks_that_start_while_the_bucket_changes_read_one_version(s3, remotes, node, group):
    bucket = s3.add_bucket("changing", KEYS)
    ranks = remotes(2, ALNAIR_RUN_ID="a", **node("a")) + remotes(2, ALNAIR_RUN_ID="b", **node("b"))
    group(ranks)
    stop = threading.Event()

    def change():
        number = 0
        while not stop.is_set():
            number += 1
            write_objects(s3.root / "changing", [f"new/{number}.txt"])

    changes = threading.Thread(target=change)
    changes.start()
    try:
        versions = together(ranks, "open", bucket)
    finally:
        stop.set()
        changes.join()
    assert len(set(versions)) == 1
    keys = together(ranks, "keys")
    assert all(each == keys[0] for each in keys)
    assert set(KEYS) <= set(keys[0])
    assert [rank("read", -1) for rank in ranks] == [(content_of(keys[0][-1]), keys[0][-1])] * 4


def test_a_version_that_is_given_is_opened_by_each_rank(source, folder, remotes, node, group):
    [first], [second] = remotes(1, **node("a")), remotes(1, **node("b"))
    old = second("open", source)
    (folder / "new.txt").write_bytes(b"new")
    group([first, second])
    assert first("open", source) != old
    assert second("open", source, version=old) == old
    assert len(second("loop")) == len(KEYS)
