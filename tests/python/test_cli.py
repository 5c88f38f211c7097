"""python -m alnair."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from alnair import AlnairJobDataset, _cli
from conftest import KEYS, SECRET_KEY, content_of

TOTAL = sum(len(content_of(key)) for key in KEYS)


@pytest.fixture
def run(capfd):
    """Runs a command in this process: (exit code, stdout, stderr)."""

    def run(*arguments):
        code = _cli.main(list(arguments))
        return (code, *capfd.readouterr())

    return run


def as_json(run, *arguments, code=0):
    found, output, _ = run(*arguments, "--json")
    assert found == code, output
    return json.loads(output)


def test_it_is_a_program(source):
    command = [sys.executable, "-X", "importtime", "-m", "alnair", "ls", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert " alnair._cli" in done.stderr
    assert " torch" not in done.stderr  # which takes seconds
    lines = done.stdout.splitlines()
    assert [line.split() for line in lines] == [[f"{len(content_of(key)):,}", key] for key in KEYS]
    usage = subprocess.run([sys.executable, "-m", "alnair"], capture_output=True, text=True, timeout=120)
    assert usage.returncode == 2
    assert "COMMAND" in usage.stderr


def test_ls_and_du(run, source):
    assert as_json(run, "ls", source) == [{"key": key, "size": len(content_of(key))} for key in KEYS]
    assert [item["key"] for item in as_json(run, "ls", source, "--keys", "train/cat/001.txt")] == ["train/cat/001.txt"]
    found = as_json(run, "du", source)
    assert found["total"] == {"objects": 40, "bytes": TOTAL}
    assert [(each["folder"], each["objects"]) for each in found["folders"]] == [("test/", 20), ("train/", 20)]
    code, output, _ = run("du", source, "--keys", "train/")
    assert code == 0
    assert [line.split()[-1] for line in output.splitlines()] == ["train/cat/", "train/dog/", "total"]


def test_the_source_may_come_from_the_environment(run, source, monkeypatch):
    monkeypatch.setenv("ALNAIR_SOURCE", source)
    assert as_json(run, "du")["total"]["objects"] == 40


def test_what_is_wrong_is_said_without_a_traceback(run, monkeypatch):
    code, output, error = run("ls")
    assert (code, output) == (2, "")
    assert error.startswith("alnair ls: ConfigError: no datasource is named")
    assert as_json(run, "ls", "nonsense", code=2)["error"] == "ConfigError"
    assert as_json(run, "ls", "file:///nonexistent", code=1)["error"] == "NotFoundError"


def test_warm_fills_the_caches_and_says_what_failed(run, source, folder):
    first = as_json(run, "warm", source)
    assert (first["objects"], first["bytes"], first["fetched_bytes"], first["failed"]) == (40, TOTAL, TOTAL, [])
    assert first["node"]["memory"]["chunks"] > 0
    assert as_json(run, "warm", source)["fetched_bytes"] == 0
    code, output, _ = run("warm", source)
    assert code == 0
    assert "40 objects" in output


def test_verify_compares_with_the_source(run, source, folder):
    AlnairJobDataset(source=source).mload(KEYS)
    assert as_json(run, "verify", source) == {"compared": 40, "wrong": []}
    assert as_json(run, "verify", source, "--objects", "7")["compared"] == 7
    # Other bytes of the same size, at the same time: the listing cannot tell.
    path = folder / KEYS[3]
    status = path.stat()
    path.write_bytes(b"?" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    found = as_json(run, "verify", source, "--objects", "0", code=1)
    assert found["wrong"] == [{"key": KEYS[3], "problem": "the cache has other bytes than the source"}]
    code, output, _ = run("verify", source, "--objects", "0")
    assert code == 1
    assert f"WRONG {KEYS[3]}" in output
    assert run("verify", source, "--objects", "-1")[0] == 2


def test_rm_removes_the_caches_and_nothing_else(run, source):
    AlnairJobDataset(source=source).mload(KEYS)
    memory, cache = Path(os.environ["ALNAIR_MEMORY_DIR"]), Path(os.environ["ALNAIR_CACHE_DIR"])
    (cache / "mine.txt").write_text("keep")
    before = sorted(memory.iterdir())
    assert before
    code, _, error = run("rm")  # stdin is no terminal
    assert code == 2
    assert "say --yes" in error
    assert sorted(memory.iterdir()) == before
    found = as_json(run, "rm", "--yes")
    assert str(cache / "catalog.sqlite") in found["removed"]
    assert found["failed"] == []
    assert list(memory.iterdir()) == []
    assert [path.name for path in cache.iterdir()] == ["mine.txt"]
    assert as_json(run, "rm", "--yes")["removed"] == []
    assert as_json(run, "warm", source)["fetched_bytes"] == TOTAL


def test_rm_leaves_directories_that_are_links(run, tmp_path, monkeypatch):
    (tmp_path / "elsewhere" / "chunks").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("ALNAIR_CACHE_DIR", str(tmp_path / "link"))
    assert as_json(run, "rm", "--yes")["removed"] == []
    assert (tmp_path / "elsewhere" / "chunks").is_dir()


JOB = """
import alnair, sys
dataset = alnair.AlnairJobDataset(source=sys.argv[1])
dataset.mload(dataset.keys)
print("ready", flush=True)
sys.stdin.read()
"""


def test_stats_show_the_tiers_and_the_jobs_that_run(source):
    command = [sys.executable, "-c", JOB, source]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as job:
        try:
            assert job.stdout.readline() == "ready\n"
            # In a process of its own: it counts in the job's block afterwards.
            command = [sys.executable, "-m", "alnair", "stats", "--json"]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout)
            assert found["processes"][str(job.pid)]["reads"] == 40
            assert found["node"]["memory"]["chunks"] > 0
            command.remove("--json")
            text = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
            assert f"process {job.pid} and its workers" in text
            assert os.environ["ALNAIR_MEMORY_DIR"] in text
        finally:
            job.kill()


# The doctor.


def verdicts(checks):
    return {check["what"]: check["verdict"] for check in checks}


def test_the_doctor_finds_a_directory_well(run, source):
    checks = as_json(run, "doctor", source)
    assert {name: verdicts(checks)[name] for name in ("node memory", "directory tier", "LIST", "GET", "round trip")} == dict.fromkeys(
        ("node memory", "directory tier", "LIST", "GET", "round trip"), "ok"
    )
    code, output, _ = run("doctor", source)
    assert code == 0
    assert "alnair 0" in output


def test_the_doctor_finds_s3_well_and_shows_no_secret(run, s3):
    code, output, error = run("doctor", "s3://pets/train")
    assert code == 0, output
    for line in "credentials", "bucket", "LIST", "GET", "round trip":
        assert any(text.split()[:2] == ["ok", line.split()[0]] for text in output.splitlines()), output
    assert "found in the environment" in output
    assert s3.endpoint_url in output
    assert "the first is 'train/cat/000.txt'" in output
    assert SECRET_KEY not in output + error


def test_the_doctor_says_what_to_do(run, s3, monkeypatch, tmp_path):
    def failed(*arguments):
        checks = as_json(run, "doctor", *arguments, code=1)
        (check,) = (check for check in checks if check["verdict"] == "FAILED")
        return check["what"], check["found"], check["advice"]

    what, found, advice = failed("s3://missing")
    assert what == "bucket"
    assert "missing" in found
    assert "name of the bucket" in advice
    what, _, advice = failed("s3://pets/nothing/here")
    assert (what, "check the prefix" in advice) == ("LIST", True)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    what, found, advice = failed("s3://pets")
    assert what == "bucket"
    assert "check the credentials" in advice
    assert "wrong" not in found.split()
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    what, found, advice = failed("s3://pets")
    assert what == "credentials"
    assert "AWS_SECRET_ACCESS_KEY is not" in found
    assert advice


def test_the_doctor_names_a_directory_that_cannot_be_used(run, source, tmp_path):
    (tmp_path / "file").touch()
    checks = as_json(run, "doctor", source, "--memory-dir", str(tmp_path / "file" / "memory"), code=1)
    (check,) = (check for check in checks if check["verdict"] == "FAILED")
    assert check["what"] == "node memory"
    assert "memory_dir" in check["advice"]
