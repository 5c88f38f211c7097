"""The quickstart, as a user runs it: a real S3 server, real images, real training."""
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


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cache directory of the test's own, in which the Python environments are those of the machine."""
    where = tmp_path_factory.mktemp("cache")
    real = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alnair-dev"
    (where / "alnair-dev").symlink_to(real)
    yield where
    memory = f"alnair-quickstart-{os.getuid()}-{zlib.crc32(bytes(where / 'alnair-quickstart')):08x}"
    shutil.rmtree(Path("/dev/shm") / memory, ignore_errors=True)


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
    half_written = [path for path in (home / "alnair-quickstart").glob("images-*")] if (home / "alnair-quickstart").exists() else []
    assert half_written == []


def test_help_needs_nothing():
    output = subprocess.run([RUN, "--help"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert output.returncode == 0 and "--endpoint-url" in output.stdout
