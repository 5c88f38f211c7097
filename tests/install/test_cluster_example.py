"""The example of a cluster, as a user runs it: a real Redis Cluster, a real S3 server, and nodes that train."""
import os
import re
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "examples/cluster/run"


@pytest.mark.timeout(1800)
def test_nodes_fetch_each_image_once_and_survive_a_master(tmp_path):
    run = subprocess.run([RUN, "--images", "300", "--epochs", "1", "--nodes", "2"], stdin=subprocess.DEVNULL, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert run.returncode == 0, run.stdout
    asked = re.search(r"asked for ([\d,]+) objects by 2 nodes; there are ([\d,]+)", run.stdout)
    assert asked and asked[1] == asked[2] == "257", run.stdout
    assert "killing the master" in run.stdout
    assert "All 4 epochs had the very same samples." in run.stdout
    assert not list(tmp_path.glob("alnair*"))
    assert not list(Path("/dev/shm").glob("alnair-cluster-*"))


def test_help_needs_nothing():
    output = subprocess.run([RUN, "--help"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert output.returncode == 0 and "--nodes" in output.stdout
