"""The example of a manager, as a user runs it: a real Redis Cluster, a real S3 server, daemons, and jobs that train."""
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "examples/manager/run"
BUILT = ROOT / "build/dev/alnair-manager"


@pytest.fixture
def command():
    if not BUILT.exists():
        pytest.skip("needs build/dev/alnair-manager")
    return [RUN, "--images", "300", "--manager", BUILT]


@pytest.mark.timeout(1800)
def test_the_second_job_reads_nothing_from_s3(command, tmp_path):
    run = subprocess.run(command, stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         env={**os.environ, "TMPDIR": str(tmp_path)})  # fmt: skip
    assert run.returncode == 0, run.stdout
    assert "asked for 257 objects, by the manager" in run.stdout
    assert "the S3 server was asked for 0 objects: the second read nothing from S3." in run.stdout
    assert re.search(r"dashboard: http://127\.0\.0\.1:\d+/", run.stdout) and "very same samples" in run.stdout
    assert not list(tmp_path.glob("alnair*")) and not list(Path("/dev/shm").glob("alnair-manager-*"))


@pytest.mark.timeout(1800)
def test_ctrl_c_leaves_nothing(command, tmp_path):
    run = subprocess.Popen([*command, "--stay"], stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": str(tmp_path)}, start_new_session=True)  # fmt: skip
    for line in run.stdout:
        if line.startswith("A pod with the job"):
            break
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(120) == 130, run.stdout.read()
    assert not list(tmp_path.glob("alnair*")) and not list(Path("/dev/shm").glob("alnair-manager-*"))


def test_help_needs_nothing():
    output = subprocess.run([RUN, "--help"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert output.returncode == 0 and "--stay" in output.stdout
