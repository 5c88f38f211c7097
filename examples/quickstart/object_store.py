"""A real S3 server on this machine: `rclone serve s3`, which checks signatures. It dies with this process, however that ends."""
import ctypes
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fashion_mnist

RCLONE = Path(sys.executable).with_name("rclone")
ACCESS_KEY, SECRET_KEY = "quickstart", "not-a-secret-outside-this-machine"
PORTION = 2_000  # pictures
SCRATCH_PREFIX = "images-"


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle


def start(command: list, **options) -> subprocess.Popen:
    """A program that dies with this process. Ctrl-C takes effect once it has started: while Python forks, it would ignore the exception."""
    interrupts: list = []
    handler = signal.signal(signal.SIGINT, lambda *_: interrupts.append(True))
    try:
        process = subprocess.Popen(command, preexec_fn=die_with_parent, **options)
    finally:
        signal.signal(signal.SIGINT, handler)
    if interrupts:
        process.kill()
        process.wait()
        raise KeyboardInterrupt
    return process


def free_port(remembered: Path) -> int:
    """The port of the last run if it is free, because the endpoint is part of what names an object; else any."""
    ports = [int(remembered.read_text())] if remembered.exists() else []
    for port in [*ports, 0]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                print(f"Port {port} of the last run is taken, so the cache will not know the objects.", file=sys.stderr)
                continue
            port = probe.getsockname()[1]
        remembered.write_text(str(port))
        return port
    raise OSError("no free port on 127.0.0.1")


class ObjectStore:
    """Serves the folders below `home`/s3 as buckets. A context manager."""

    def __init__(self, home: Path):
        self.buckets = home / "s3"
        self.buckets.mkdir(parents=True, exist_ok=True)
        self.endpoint_url = f"http://127.0.0.1:{free_port(home / 'port')}"
        self._log = home / "rclone.log"

    def __enter__(self) -> "ObjectStore":
        environment = {**os.environ, "RCLONE_CONFIG": os.devnull, "RCLONE_AUTH_KEY": f'"{ACCESS_KEY},{SECRET_KEY}"'}
        with open(self._log, "w") as log:
            self._server = start(
                [RCLONE, "serve", "s3", "-v", "--addr", self.endpoint_url.split("//")[1], self.buckets],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while "Starting s3 server" not in self._log.read_text():
            if self._server.poll() is not None or time.monotonic() > deadline:
                self._server.kill()
                raise OSError(f"rclone did not start:\n{self._log.read_text()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_) -> None:
        self._server.kill()  # it has nothing to lose
        self._server.wait()

    def upload_fashion_mnist(self, share: float, scratch: Path, progress) -> str:
        """Uploads that share of Fashion-MNIST, unless an earlier run has; returns the bucket's name.

        The pictures pass through `scratch` in portions. An upload that was broken off begins anew, over what is there.
        """
        total = fashion_mnist.count_images(share)
        bucket = f"fashion-{total}"
        complete = self.buckets.parent / f"{bucket}.complete"
        if complete.exists() and (self.buckets / bucket).is_dir():
            return bucket
        images, done = fashion_mnist.images(share), 0
        while portion := list(itertools.islice(images, PORTION)):
            with tempfile.TemporaryDirectory(dir=scratch, prefix=SCRATCH_PREFIX) as folder:
                for key, image in portion:
                    path = Path(folder, key)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    image.save(path)
                self._copy(folder, bucket, lambda count: progress("Uploading", done + count, total))
            done += len(portion)
        complete.touch()
        return bucket

    def _copy(self, folder: str, bucket: str, progress) -> None:
        environment = {
            **os.environ, "RCLONE_CONFIG": os.devnull, "RCLONE_CONFIG_STORE_TYPE": "s3", "RCLONE_CONFIG_STORE_PROVIDER": "Rclone",
            "RCLONE_CONFIG_STORE_ENDPOINT": self.endpoint_url, "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": ACCESS_KEY,
            "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": SECRET_KEY, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        copy = start(
            [RCLONE, "copy", folder, f"store:{bucket}", "--transfers=16", "--no-traverse", "--ignore-times", "--s3-no-head",
             "--use-json-log", "--stats=200ms", "--stats-log-level=NOTICE"],
            env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            errors = []
            for line in copy.stderr:
                message = json.loads(line) if line.startswith("{") else {"msg": line}
                if "stats" in message:
                    progress(message["stats"]["transfers"])
                elif message.get("level") in (None, "error", "critical"):
                    errors.append(re.sub(r"\s+", " ", message["msg"]))
            if copy.wait() != 0:
                raise OSError(f"the upload failed: {' '.join(errors[-3:])}")
        finally:
            copy.kill()
            copy.wait()
