"""Limits of connections and requests hold for a node, not for each process."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import die_with_parent
from http_servers import QuietHandler, Server

LIMIT = 8
PROCESSES = 4

READ = """
import sys
sys.modules["torch"] = None  # not needed, and slow to import
from alnair import AlnairJobDataset
dataset = AlnairJobDataset([sys.argv[1]], source="s3://pets", endpoint_url=sys.argv[2], anonymous=True, region="us-east-1",
                           max_connections=int(sys.argv[3]), progress=False)
assert dataset.mload(dataset.keys) == [b"x"] * len(dataset.keys)
"""


class Counting(Server):
    """An S3 server with 400 objects in each folder, which counts what is going on at once. Those below hung/ never come."""

    def __init__(self):
        super().__init__(Handler)
        self.now = {"connections": 0, "requests": 0}
        self.most = dict(self.now)
        self.released = threading.Event()

    def count(self, what, difference):
        with self.lock:
            self.now[what] += difference
            self.most[what] = max(self.most[what], self.now[what])


class Handler(QuietHandler):
    def setup(self):
        super().setup()
        self.server.count("connections", 1)

    def finish(self):
        self.server.count("connections", -1)
        super().finish()

    def do_GET(self):
        self.server.count("requests", 1)
        try:
            if "list-type" in self.path:
                folder = self.path.partition("prefix=")[2].partition("&")[0].replace("%2F", "/")
                body = self.listing(folder)
            else:
                self.server.released.wait(60) if "/hung/" in self.path else time.sleep(0.01)
                body = b"x"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"1"')
            self.end_headers()
        finally:
            self.server.count("requests", -1)  # before the client can know
        self.wfile.write(body)

    def listing(self, prefix):
        folder = prefix.split("/")[0]
        entries = "".join(
            f"<Contents><Key>{folder}/{i:03d}</Key><LastModified>2026-01-01T00:00:00Z</LastModified>"
            '<ETag>"1"</ETag><Size>1</Size></Contents>'
            for i in range(400)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()


@pytest.fixture
def server():
    server = Counting()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def reader(server, folder, tmp_path, limit=LIMIT):
    environment = {**os.environ, "ALNAIR_CACHE_DIR": str(tmp_path / folder)}
    return subprocess.Popen([sys.executable, "-c", READ, f"{folder}/", server.url, str(limit)], env=environment, preexec_fn=die_with_parent)


def test_processes_together_keep_to_the_limit(server, tmp_path):
    readers = [reader(server, f"part{i}", tmp_path) for i in range(PROCESSES)]
    assert [process.wait(120) for process in readers] == [0] * PROCESSES
    # One more each: a process that has had no slot for a second, on a busy machine, goes ahead with one request.
    assert LIMIT // 2 <= server.most["requests"] <= LIMIT + PROCESSES
    assert server.most["connections"] <= 2 * LIMIT


def test_what_a_killed_process_held_is_free_at_once(server, tmp_path):
    holder = reader(server, "hung", tmp_path)
    deadline = time.monotonic() + 60
    while server.now["requests"] < LIMIT:
        assert holder.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    hung, server.most["requests"] = server.now["requests"], 0
    assert reader(server, "part", tmp_path).wait(120) == 0
    assert server.most["requests"] > hung + 1  # it had more than the one a second of a process without slots
