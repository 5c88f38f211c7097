"""Frameworks that build loaders of their own: two ranks (gloo) see what they see with PyTorch's loader, with look-ahead."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import KEYS

pytest.importorskip("torch")

# What framework_rank.py is to train with, by the package that it needs.
FRAMEWORKS = {
    "pytorch_lightning": ["lightning"],
    "accelerate": ["accelerate", "accelerate_seedable"],
    "transformers": ["transformers"],
    "torchdata": ["torchdata", "torchdata_random"],
}


@pytest.mark.parametrize("package", FRAMEWORKS)
def test_two_ranks_see_what_they_see_with_pytorchs_loader(package, source, tmp_path):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package} (tests/python/frameworks.txt)")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(Path(__file__).with_name("framework_rank.py")), source, str(tmp_path), *FRAMEWORKS[package]]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    for framework in FRAMEWORKS[package]:
        ranks = [json.loads((tmp_path / f"{framework}-{rank}.json").read_text()) for rank in range(2)]
        for rank in ranks:
            ours, pytorchs = rank["ours"], rank["pytorch's"]
            assert ours["seen"] == pytorchs["seen"]
            assert (ours["lookahead"], pytorchs["lookahead"]) == (5, "none")
            assert ours["predicted"]
            assert all(ours["predicted"])
            assert pytorchs["predicted"] == []
        # Exact sets; with torchdata's random sampler each rank reads everything, and twice as often.
        epochs = {"torchdata": 4, "torchdata_random": 8}.get(framework, 2)
        seen = sorted(index for rank in ranks for batch in rank["ours"]["seen"] for index in batch)
        assert seen == sorted(list(range(len(KEYS))) * epochs)
