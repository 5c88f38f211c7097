"""What importing alnair needs, and what it says when PyTorch is missing or too old."""

import os
import subprocess
import sys

import alnair
import pytest


def run(code, **environment):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment})
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


NO_TORCH = "import sys; sys.modules['torch'] = None\n"


def test_importing_alnair_imports_nothing_large_and_starts_no_thread():
    code = "import sys, os, alnair; alnair.stats, alnair.View; print('torch' in sys.modules, len(os.listdir('/proc/self/task')))"
    assert run(code) == "False 1"


def test_everything_public_is_there_and_documented():
    pytest.importorskip("torch")
    for name in alnair.__all__:
        value = getattr(alnair, name)
        assert isinstance(value, str) or value.__doc__, name
    for name, member in vars(alnair.AlnairJobDataset).items():
        if not name.startswith("_") and not isinstance(member, str):
            assert member.__doc__, name
    assert set(alnair.__all__) <= set(dir(alnair))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        alnair.nothing  # noqa: B018


def test_a_dataset_needs_no_pytorch(source):
    code = f"from alnair import AlnairJobDataset; d = AlnairJobDataset(source={source!r}); print(len(d), len(d[0][0]) > 0)"
    assert run(NO_TORCH + code) == "40 True"


def test_the_loader_says_that_pytorch_is_missing():
    code = "import alnair\ntry:\n from alnair import AlnairJobDataLoader\nexcept ImportError as e: print(type(e).__name__, e)"
    assert run(NO_TORCH + code).startswith(
        "DependencyError AlnairJobDataLoader needs PyTorch 2.0 or later (pip install torch); importing torch failed: "
    )


def test_the_loader_says_that_pytorch_is_too_old(tmp_path):
    package = tmp_path / "torch" / "utils" / "data"
    package.mkdir(parents=True)
    (tmp_path / "torch" / "__init__.py").write_text("__version__ = '1.13.1+cpu'")
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").write_text("class Dataset:\n  def __class_getitem__(cls, _): return cls")
    code = "import alnair\ntry: alnair.AlnairJobDataLoader\nexcept alnair.DependencyError as e: print(e)"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    assert run(code, PYTHONPATH=path) == (
        "AlnairJobDataLoader needs PyTorch 2.0 or later (pip install torch); this Python has version 1.13.1+cpu"
    )


def test_with_pytorch_a_dataset_is_pytorchs_kind_of_dataset():
    data = pytest.importorskip("torch.utils.data")
    assert issubclass(alnair.AlnairJobDataset, data.Dataset)
    assert issubclass(alnair.AlnairJobDataLoader, data.DataLoader)
