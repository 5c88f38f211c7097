"""The quickstart, as a user runs it: a real S3 server, real images, real training."""
import ctypes
import os
import re
import shutil
import signal
import subprocess
import time
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "examples/quickstart/run"
EPOCH = re.compile(
    r"^epoch (\d): [\d,]+ samples/s, accuracy ([\d.]+)%, ([\d,]+) S3 GETs; "
    r"bytes from S3 ([\d.]+) MB, disk ([\d.]+) MB, memory ([\d.]+) MB; the loop waited [\d.]+ s for data$", re.MULTILINE)


def memory_of(home):
    return f"alnair-quickstart-{os.getuid()}-{zlib.crc32(bytes(home / 'alnair-quickstart')):08x}"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cache directory of the test's own, in which the Python environments are those of the machine."""
    where = tmp_path_factory.mktemp("cache")
    real = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alnair-dev"
    (where / "alnair-dev").symlink_to(real)
    yield where
    shutil.rmtree(Path("/dev/shm", memory_of(where)), ignore_errors=True)


def start(home, *arguments):
    return subprocess.Popen([RUN, *arguments], env={**os.environ, "XDG_CACHE_HOME": str(home)}, text=True, start_new_session=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def epochs_of(run):
    output, _ = run.communicate(timeout=1200)
    assert run.returncode == 0, output
    return [(int(gets.replace(",", "")), float(accuracy), float(s3), float(disk) + float(memory))
            for _, accuracy, gets, s3, disk, memory in EPOCH.findall(output)], output


def processes_of(home):
    """Every process, of whatever session, that was started for this home."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(home).encode() in environ.read_bytes() and environ.parent.name != str(os.getpid()):
                found.append((environ.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.mark.timeout(1800)
def test_only_the_first_epoch_of_the_first_run_asks_s3(home):
    epochs, output = epochs_of(start(home, "--fresh"))
    assert [gets for gets, *_ in epochs] == [10_000, 0, 0], output
    assert epochs[0][2] > 0 and [s3 for _, _, s3, _ in epochs[1:]] == [0, 0]
    assert epochs[-1][1] > 70  # percent: it learns

    epochs, output = epochs_of(start(home))
    assert [gets for gets, *_ in epochs] == [0, 0, 0], output
    assert "This run made 0 S3 GETs" in output


@pytest.mark.timeout(600)
@pytest.mark.parametrize("delay", [0.3, 2.0, 4.0, 6.0])
@pytest.mark.parametrize("stop", [os.killpg, os.kill])  # as a terminal does it, and the main process only
def test_ctrl_c_leaves_no_process_and_no_half_written_file(home, delay, stop):
    run = start(home, "--fresh", "--epochs", "1000")
    time.sleep(delay)
    stop(run.pid, signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode != 0
    assert processes_of(home) == []
    assert list((home / "alnair-quickstart").glob("images-*")) == []
    assert not Path("/dev/shm", memory_of(home) + "-images").exists()
    pictures = (home / "alnair-quickstart").glob("s3/**/*.png")
    assert [path for path in pictures if not path.read_bytes().endswith(b"IEND\xaeB`\x82")] == []


@pytest.fixture
def own_bucket(tmp_path):
    """The endpoint of somebody's own S3 server, with pictures of three colours in s3://mine/pictures, none set aside for a test."""
    image = pytest.importorskip("PIL.Image")
    for number in range(60):
        colour = ("red", "green", "blue")[number % 3]
        path = tmp_path / "mine" / "pictures" / "train" / colour / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.new("RGB", (40 + number, 50), colour).save(path)
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            [os.environ["ALNAIR_TEST_RCLONE"], "serve", "s3", "-v", "--addr", "127.0.0.1:0", "--auth-key", "own,secret", tmp_path],
            env={**os.environ, "RCLONE_CONFIG": os.devnull}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))  # PR_SET_PDEATHSIG
    deadline = time.monotonic() + 60
    while (started := re.search(r"Starting s3 server on \[(http://[^/]+)/", (tmp_path / "log").read_text())) is None:
        assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.05)
    yield started[1]
    server.kill()
    server.wait()


@pytest.mark.timeout(600)
def test_your_own_images_are_read_from_your_own_server(home, own_bucket, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "own")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    where = ["--source", "s3://mine/pictures", "--endpoint-url", own_bucket, "--workers", "0"]
    epochs, output = epochs_of(start(home, *where, "--epochs", "2"))
    assert [gets for gets, *_ in epochs] == [60, 0], output
    assert "3 classes" in output

    run = start(home, "--source", "s3://mine/pictrues", *where[2:])
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 1
    assert re.search(r"^quickstart: no object in s3://mine@\S+ matches 'pictrues'; near it: 'pictures/'$", output, re.MULTILINE), output


def test_help_needs_nothing():
    output = subprocess.run([RUN, "--help"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert output.returncode == 0 and "--endpoint-url" in output.stdout


@pytest.mark.parametrize("arguments", [["--bogus"], ["--epochs"], ["train"], ["--fresh", "--end", "http://x"]])
def test_what_cannot_be_right_is_said_before_anything_is_set_up(arguments):
    started = time.monotonic()
    output = subprocess.run([RUN, *arguments], env={"PATH": "/usr/bin:/bin", "HOME": "/dev/null"}, capture_output=True, text=True)
    assert output.returncode == 2 and output.stderr.startswith("examples/quickstart/run: "), output
    assert output.stderr.count("\n") == 1 and time.monotonic() - started < 5
