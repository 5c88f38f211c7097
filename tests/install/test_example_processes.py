"""How the examples start the programs that they need."""
import subprocess
import sys
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).resolve().parents[2] / "examples/quickstart"
INTERRUPTED_WHILE_IT_FORKS = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import object_store
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    object_store.start(["sleep", "60"])
except KeyboardInterrupt:
    print("stopped")
"""


def test_ctrl_c_while_a_program_is_started_is_not_lost():
    pytest.importorskip("PIL")
    run = subprocess.run([sys.executable, "-c", INTERRUPTED_WHILE_IT_FORKS, QUICKSTART], capture_output=True, text=True, timeout=50)
    assert (run.returncode, run.stdout, run.stderr) == (0, "stopped\n", "")
