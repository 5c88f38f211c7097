"""Trains a small network on images in S3, through Alnair. See `run --help`, which sets up what this needs."""
import argparse
import contextlib
import fcntl
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import zlib
from pathlib import Path

HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alnair-quickstart"
MEMORY = Path(f"/dev/shm/alnair-quickstart-{os.getuid()}-{zlib.crc32(bytes(HOME)):08x}")  # one for each HOME, as the lock is
FASHION_MNIST_SHARE = 1 / 7  # 10,000 of the 70,000 images


stopping = threading.Event()


def stop_within_a_second(signal_number, frame) -> None:
    """Ctrl-C: unwinds as usual, but does not wait long for anything."""
    stopping.set()
    signal.signal(signal_number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch takes the end of a worker for a failure
    kill_workers()
    deadline = threading.Timer(0.6, lambda: (kill_workers(), os._exit(130)))
    deadline.daemon = True
    deadline.start()
    raise KeyboardInterrupt


def kill_workers() -> None:
    for worker in multiprocessing.active_children():
        worker.kill()


class Progress:
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self) -> None:
        self._shown = 0.0
        self._on = sys.stderr.isatty()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if not self._on or (now - self._shown < 0.1 and done < total):
            return
        self._shown = now
        width = 40
        bar = "█" * (width * done // max(total, 1))
        print(f"\r\033[K{what:<12} {bar:<{width}} {done:,}/{total:,}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._on:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="examples/quickstart/run")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--source")
    parser.add_argument("--endpoint-url")
    parser.add_argument("--region")
    parser.add_argument("--anonymous", action="store_true")
    options = parser.parse_args()
    if options.endpoint_url and not options.source:
        parser.error("--endpoint-url says where --source is; there is no --source")
    return options


def main() -> int:
    options = parse_arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop_within_a_second)
    progress = Progress()
    try:
        HOME.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(open(HOME / "lock", "w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                sys.exit("Another quickstart of yours is running.")
            if options.fresh:
                shutil.rmtree(HOME / "cache", ignore_errors=True)
                shutil.rmtree(MEMORY, ignore_errors=True)
            os.environ["ALNAIR_MEMORY_DIR"] = str(MEMORY)

            import training  # after the lock: PyTorch takes a while

            if options.source:
                where = {"source": options.source, "endpoint_url": options.endpoint_url, "region": options.region,
                         "anonymous": options.anonymous or None}
            else:
                where = serve_fashion_mnist(stack, 1 if options.all else FASHION_MNIST_SHARE, progress)
            where = {name: value for name, value in where.items() if value is not None}
            training.train(where, HOME / "cache", options.epochs, options.workers, progress)
        return 0
    except BaseException as error:
        progress.clear()
        if stopping.is_set():
            print("Stopped.", file=sys.stderr)
            return 130
        if isinstance(error, OSError) or type(error).__module__ == "alnair.errors":  # it says what to do
            print(f"quickstart: {error}", file=sys.stderr)
            return 1
        raise


def serve_fashion_mnist(stack: contextlib.ExitStack, share: float, progress: Progress) -> dict:
    import object_store

    store = stack.enter_context(object_store.ObjectStore(HOME))
    bucket = store.upload_fashion_mnist(share, progress)
    progress.clear()
    print(f"Fashion-MNIST is in s3://{bucket}, served at {store.endpoint_url} by rclone, which checks signatures.")
    os.environ["AWS_ACCESS_KEY_ID"] = object_store.ACCESS_KEY
    os.environ["AWS_SECRET_ACCESS_KEY"] = object_store.SECRET_KEY
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        os.environ.pop(name, None)
    return {"source": f"s3://{bucket}", "endpoint_url": store.endpoint_url, "region": "us-east-1"}


if __name__ == "__main__":
    sys.exit(main())
