"""Worker processes, pickling, interrupts and kills."""

import contextlib
import http.server
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import alnair
import pytest
from alnair import AlnairJobDataset
from conftest import KEYS, content_of

torch = pytest.importorskip("torch")
from alnair import AlnairJobDataLoader  # noqa: E402

METHODS = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


class Cats(AlnairJobDataset):
    def __convert__(self):
        keys = [key for key in self.keys if "/cat/" in key]
        return [self.data[key] for key in keys], keys


class Wherefrom(AlnairJobDataset):
    """Samples that say which process read them, and at which version."""

    def __getitem__(self, index):
        return os.getpid(), self.version, self.get_data(index), os.environ.get("ALNAIR_TEST_WORKER")


def initialise(worker):
    os.environ["ALNAIR_TEST_WORKER"] = str(worker)


EXPECTED = [(content_of(key), key) for key in KEYS]


# Pickling.


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "eager"])
def test_a_dataset_pickles_small_and_reads_the_same(source, lazy):
    dataset = AlnairJobDataset(["train"], source=source, lazyloading=lazy)
    for _ in range(2):  # before and after it has been used
        pickled = pickle.dumps(dataset)
        assert len(pickled) < 1000
        copy = pickle.loads(pickled)
        assert copy.version == dataset.version
        assert list(copy) == EXPECTED[20:]
        list(dataset)


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "eager"])
def test_what_convert_returned_pickles_without_the_bytes(source, lazy):
    dataset = Cats(source=source, lazyloading=lazy)
    expected = list(dataset)
    pickled = pickle.dumps(dataset)
    assert content_of(expected[0][1])[:50] not in pickled
    copy = pickle.loads(pickled)
    assert list(copy) == expected
    assert pickle.loads(pickle.dumps(copy))[3] == expected[3]


def test_samples_of_its_own_and_attributes_pickle_as_they_are(source):
    class_ = Parsed(source=source)
    class_.colour = "red"
    copy = pickle.loads(pickle.dumps(class_) if len(class_) else b"")
    assert (copy[1], copy.colour) == (class_[1], "red")


class Parsed(AlnairJobDataset):
    def __convert__(self):
        return [self.load(self.data[key]).split(b"\n")[0] for key in self.keys[:4]], None


def test_a_copy_is_of_the_same_version_although_the_source_has_changed(source, folder):
    dataset = AlnairJobDataset(source=source)
    pickled = pickle.dumps(dataset)
    (folder / "new.txt").write_bytes(b"new")
    copy = pickle.loads(pickled)
    assert (len(copy), copy.version) == (len(KEYS), dataset.version)


def test_a_handle_and_keys_pickle(source):
    dataset = AlnairJobDataset(source=source)
    handle, keys = pickle.loads(pickle.dumps((dataset.data[KEYS[4]], dataset.keys)))
    assert bytes(handle) == content_of(KEYS[4])
    assert keys == KEYS


# Workers.


@METHODS
@pytest.mark.parametrize("loader_class", [AlnairJobDataLoader, torch.utils.data.DataLoader], ids=["ours", "pytorch's"])
def test_workers_read_the_same_samples_however_they_are_started(source, method, loader_class):
    dataset = Wherefrom(source=source)
    dataset[0]  # the parent has threads and files open
    before = alnair.stats()["reads"]
    arguments = {"num_workers": 2, "multiprocessing_context": method, "worker_init_fn": initialise}
    loader = loader_class(dataset, batch_size=4, collate_fn=list, **arguments)
    samples = [sample for batch in loader for sample in batch]
    assert [content for _, _, content, _ in samples] == [content for content, _ in EXPECTED]
    pids = {pid for pid, *_ in samples}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert {version for _, version, _, _ in samples} == {dataset.version}
    assert {worker for *_, worker in samples} == {"0", "1"}
    assert alnair.stats()["reads"] - before >= len(KEYS)


def test_persistent_workers_read_epoch_after_epoch(source):
    loader = AlnairJobDataLoader(
        AlnairJobDataset(source=source), batch_size=7, collate_fn=list, num_workers=2, persistent_workers=True
    )
    for _ in range(3):
        assert [sample for batch in loader for sample in batch] == EXPECTED


def test_a_thread_may_read_while_others_fork(source):
    dataset, stop, errors = AlnairJobDataset(source=source), threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                assert dataset[7] == EXPECTED[7]
            except BaseException as error:
                errors.append(error)
                return

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(5):
            loader = AlnairJobDataLoader(dataset, batch_size=20, collate_fn=list, num_workers=2, multiprocessing_context="fork")
            assert [sample for batch in loader for sample in batch] == EXPECTED
    finally:
        stop.set()
        thread.join()
    assert errors == []


def test_a_killed_worker_leaves_everything_usable(source):
    dataset = AlnairJobDataset(source=source)
    loader = AlnairJobDataLoader(dataset, batch_size=1, collate_fn=list, num_workers=2, multiprocessing_context="fork")
    iterator = iter(loader)
    next(iterator)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        for _ in range(2 * len(KEYS)):
            next(iterator)
    del iterator
    assert [sample for batch in loader for sample in batch] == EXPECTED


RUN = """
import sys, torch, alnair
dataset = alnair.AlnairJobDataset(source=sys.argv[1])
loader = alnair.AlnairJobDataLoader(dataset, batch_size=4, shuffle=True, collate_fn=list, num_workers=int(sys.argv[2]))
while True:
    for batch in loader:
        print("ready", flush=True)
        for content, key in batch:
            assert content.startswith(key.encode() + b"\\n")
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_main_process_leaves_everything_usable(source, tmp_path, monkeypatch, workers):
    for number in range(30 if os.environ.get("ALNAIR_TEST_STRESS") else 4):
        monkeypatch.setenv("ALNAIR_CACHE_DIR", str(tmp_path / f"cache-{number // 2}"))  # every other run finds an empty one
        command = [sys.executable, "-c", RUN, source, str(workers)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.05 * number % 0.5)
            process.kill()
            assert list(AlnairJobDataset(source=source)) == EXPECTED  # while its workers still live
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
        assert list(AlnairJobDataset(source=source)) == EXPECTED


# Interrupts.


class Stalling(http.server.BaseHTTPRequestHandler):
    """S3 with one object, which it never sends; with `lists` False it does not even list."""

    protocol_version = "HTTP/1.1"
    lists = True
    stalled = threading.Event()

    def do_GET(self):
        if not self.lists or "list-type" not in self.path:
            self.stalled.set()
            threading.Event().wait()  # for ever: the thread is a daemon
        body = (
            '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a.txt</Key><Size>5</Size>'
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def stalling(request):
    handler = type("Handler", (Stalling,), {"lists": request.param, "stalled": threading.Event()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.stalled
        server.shutdown()


WAIT = """
import sys, alnair
try:
    dataset = alnair.AlnairJobDataset(source="s3://pets", endpoint_url=sys.argv[1], anonymous=True, region="us-east-1")
    {read}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
LOOP = "[batch for batch in alnair.AlnairJobDataLoader(dataset, collate_fn=list, num_workers={})]"


@pytest.mark.parametrize(
    ("stalling", "read"),
    [
        (False, "pass"),
        (True, "dataset[0]"),
        (True, "dataset.__getitems__([0])"),
        (True, "dataset.mload(dataset.chunks[0])"),
        (True, LOOP.format(0)),
        (True, LOOP.format(2)),
    ],
    indirect=["stalling"],
    ids=["listing", "a sample", "a batch", "a window", "a loop", "a loop with workers"],
)
def test_ctrl_c_interrupts_any_wait(stalling, read):
    endpoint, stalled = stalling
    command = [sys.executable, "-c", WAIT.format(read=read), endpoint]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True)
    try:
        assert stalled.wait(60)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
        output, _ = process.communicate(timeout=120)
        assert "interrupted" in output
        assert process.returncode == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
