"""Trains a small network on images in S3, through Alnair. See `run --help`, which sets up what this needs."""
import argparse
import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import sys
import time
import zlib
from pathlib import Path

HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alnair-quickstart"
MEMORY = Path(f"/dev/shm/alnair-quickstart-{os.getuid()}-{zlib.crc32(bytes(HOME)):08x}")  # one for each HOME, as the lock is
FASHION_MNIST_SHARE = 1 / 7  # 10,000 of the 70,000 images
PNG_END = b"IEND\xaeB`\x82"


def scratch() -> Path:
    """Where pictures may be for a moment on their way into a bucket."""
    shared = Path(f"{MEMORY}-images")
    with contextlib.suppress(OSError):
        shared.mkdir(mode=0o700, exist_ok=True)
        if shutil.disk_usage(shared).free > 32 << 20:
            return shared
    return HOME


def supervised(work) -> int:
    """Runs `work` in a process group of its own, and returns its exit status. Ctrl-C ends that group at once.

    The training may be deep in C++ (importing PyTorch, an optimiser's step), where no handler of Python runs; this process only
    waits. Killing is safe: it is what the cache is built for.
    """
    ends = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends | {signal.SIGCHLD})
    process = ctypes.CDLL(None)
    process.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: what `work` started becomes ours when it is gone
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        process.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ends | {signal.SIGCHLD})
        sys.exit(work())
    with contextlib.suppress(OSError):  # whoever comes first
        os.setpgid(child, child)
    while signal.sigwait(ends | {signal.SIGCHLD}) == signal.SIGCHLD:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
    os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    remove_half_written()
    print(("\r\033[K" if sys.stderr.isatty() else "") + "Stopped.", file=sys.stderr)
    return 130


def remove_half_written() -> None:
    """Removes pictures on their way into a bucket, and the objects there that the server has not written to their end."""
    shutil.rmtree(f"{MEMORY}-images", ignore_errors=True)
    for leftover in HOME.glob("images-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for bucket in HOME.glob("s3/fashion-*"):
        if (HOME / f"{bucket.name}.complete").exists():
            continue
        for path in bucket.glob("**/*.png"):
            if path.stat().st_mtime > time.time() - 60 and not path.read_bytes().endswith(PNG_END):
                path.unlink()


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
    parser = argparse.ArgumentParser(prog="examples/quickstart/run", allow_abbrev=False)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--source")
    parser.add_argument("--endpoint-url")
    parser.add_argument("--region")
    parser.add_argument("--anonymous", action="store_true")
    options = parser.parse_args()
    if options.epochs < 1 or options.workers < 0:
        parser.error("expected --epochs of at least 1, and --workers of at least 0")
    if options.endpoint_url and not options.source:
        parser.error("--endpoint-url says where --source is; there is no --source")
    return options


def main(options: argparse.Namespace) -> int:
    progress = Progress()
    try:
        HOME.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(open(HOME / "lock", "w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                sys.exit("Another quickstart of yours is running.")
            remove_half_written()  # of a run that was killed
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
    except Exception as error:
        progress.clear()
        if isinstance(error, OSError) or type(error).__module__ == "alnair.errors":  # it says what to do
            print(f"quickstart: {in_short(error)}", file=sys.stderr)
            return 1
        raise


def in_short(error: Exception) -> str:
    """Its message. Where PyTorch has put it at the end of a worker's traceback, that end."""
    text = str(error).rstrip()
    return text.splitlines()[-1] if "\nTraceback " in text or "\nOriginal Traceback " in text else text


def serve_fashion_mnist(stack: contextlib.ExitStack, share: float, progress: Progress) -> dict:
    import object_store

    store = stack.enter_context(object_store.ObjectStore(HOME))
    bucket = store.upload_fashion_mnist(share, scratch(), progress)
    shutil.rmtree(f"{MEMORY}-images", ignore_errors=True)
    progress.clear()
    print(f"Fashion-MNIST is in s3://{bucket}, served at {store.endpoint_url} by rclone, which checks signatures.")
    os.environ["AWS_ACCESS_KEY_ID"] = object_store.ACCESS_KEY
    os.environ["AWS_SECRET_ACCESS_KEY"] = object_store.SECRET_KEY
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        os.environ.pop(name, None)
    return {"source": f"s3://{bucket}", "endpoint_url": store.endpoint_url, "region": "us-east-1"}


if __name__ == "__main__":
    arguments = parse_arguments()
    sys.exit(supervised(lambda: main(arguments)))
