"""The self-contained wheel works in an environment where there is nothing but Python."""
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What every Linux distribution with a glibc has (PEP 600); all else must be inside.
MANYLINUX = {"libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libresolv.so.2", "libutil.so.1", "libz.so.1", "libstdc++.so.6",
             "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}

READ = """
import sys, alnair
assert "torch" not in sys.modules
dataset = alnair.AlnairJobDataset(source=sys.argv[1], progress=False)
samples = [dataset[i] for i in range(len(dataset))]
assert [(bytes(data), key) for data, key in samples] == [(b"one", "a"), (b"", "b")], samples
print(alnair.__version__, alnair.__file__)
"""


def run(*command, **options):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


pytestmark = pytest.mark.timeout(1800)  # the first test builds the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return Path(run(ROOT / "cmake/build-wheel", sys.executable, tmp_path_factory.mktemp("dist"), cwd=ROOT).strip())


@pytest.fixture(scope="module")
def empty_environment(wheel, tmp_path_factory):
    where = tmp_path_factory.mktemp("empty")
    venv.create(where, with_pip=True, symlinks=True)
    run(where / "bin/pip", "install", "--no-index", "--no-deps", wheel)
    return where


def test_its_name_says_which_glibc_it_needs(wheel):
    assert re.fullmatch(r"alnair-[0-9.]+-cp3\d+-cp3\d+-manylinux_2_\d+_\w+\.whl", wheel.name)


def test_it_reads_a_dataset_without_pytorch(empty_environment, tmp_path):
    objects = tmp_path / "objects"
    objects.mkdir()
    (objects / "a").write_bytes(b"one")
    (objects / "b").write_bytes(b"")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ALNAIR_MEMORY_DIR": str(tmp_path / "memory")}
    output = run(empty_environment / "bin/python", "-c", READ, f"file://{objects}", cwd=tmp_path, env=environment)
    assert str(empty_environment) in output


def test_it_brings_every_library_that_distributions_do_not_share(empty_environment):
    libraries = list(empty_environment.glob("lib/python*/site-packages/alnair*/**/*.so*"))
    inside = {path.name for path in libraries}
    for library in libraries:
        needed = set(re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", library)))
        assert needed <= MANYLINUX | inside, f"{library.name} needs {needed - MANYLINUX - inside}"


def test_it_has_types_and_a_license(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "alnair/py.typed" in names
    assert "AlnairJob/__init__.py" in names
    assert any(name.endswith("LICENSE") for name in names)
