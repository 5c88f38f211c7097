"""The clients of a manager: the daemon beside a script, and scripts that register for themselves."""

import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
import textwrap

import alnair
import manager_process
import pytest
from alnair import _job, _manager
from conftest import ACCESS_KEY, KEYS, SECRET_KEY, content_of, write_objects
from manager_process import ALICE, DEADLINE_S, PASSWORD, ManagerProcess, die_with_parent, wait_for

TRAIN = [key for key in KEYS if key.startswith("train/")]

SCRIPT = textwrap.dedent(
    """
    import hashlib, json, logging, alnair
    from AlnairJob import AlnairJobDataset
    logging.basicConfig()
    dataset = AlnairJobDataset()
    samples = {dataset.keys[i]: hashlib.sha256(dataset[i][0]).hexdigest() for i in range(len(dataset))}
    print(json.dumps({"samples": samples, "stats": alnair.stats(), "version": dataset.version}))
    """
)
EXPECTED = {key: hashlib.sha256(content_of(key)).hexdigest() for key in TRAIN}


class Pod:
    """A secret, a job file and a share directory, and what runs on them."""

    def __init__(self, directory, manager, s3_server, monkeypatch):
        self.directory, self.manager = directory, manager
        for name in ("secret", "jobs", "share"):
            (directory / name).mkdir(parents=True)
            monkeypatch.setenv(f"ALNAIR_{name.upper()}_DIR", str(directory / name))
        (directory / "secret" / "client.conf").write_text(
            f"[aws_s3]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\nregion_name = us-east-1\n"
            f"endpoint_url = {s3_server.endpoint_url}\n[alnair_manager]\nserver_address = 127.0.0.1\n"
            f"server_port = {manager.url.rpartition(':')[2]}\nusername = {ALICE}\npassword = {PASSWORD}\n"
        )
        self.add_job("resnet")
        self.daemon = None

    def add_job(self, name, bucket="pets", keys=("train",), **qos):
        source, qos = {"Bucket": bucket, "Keys": list(keys)}, {"UseCache": "true", "MaxMemory": 0, **qos}
        content = {"Name": name, "DataSource": source, "QoS": qos}
        (self.directory / "jobs" / f"{name}.json").write_text(json.dumps(content))

    def start_daemon(self, *options):
        with open(self.directory / "daemon.log", "a") as log:
            self.daemon = subprocess.Popen(
                [manager_process.binary(), "client", *options],
                stdin=subprocess.DEVNULL,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def shared(self, name="resnet"):
        path = self.directory / "share" / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else {"state": "none"}

    def await_state(self, state, name="resnet"):
        return wait_for(lambda: self.shared(name)["state"] == state and self.shared(name), f"{name} to be {state}")

    def wait_ready(self, name="resnet", seconds=DEADLINE_S):
        command = [manager_process.binary(), "client", "--wait-ready", name]
        environment = {**os.environ, "ALNAIR_WAIT": str(seconds)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2 * DEADLINE_S)

    def run_script(self, script=SCRIPT, **environment):
        environment = {**os.environ, "JOBNAME": "resnet", **environment}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=5 * DEADLINE_S)

    def jobs(self):
        return self.manager.call("GET", "/v1/jobs", token=self.manager.admin).json["jobs"]

    def stop_daemon(self):
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.terminate()
            assert self.daemon.wait(DEADLINE_S) == 0


@pytest.fixture
def pod(tmp_path, manager, s3_server, monkeypatch):
    pod = Pod(tmp_path / "pod", manager, s3_server, monkeypatch)
    yield pod
    if pod.daemon is not None:
        pod.daemon.kill()
        pod.daemon.wait()


def test_a_script_with_only_a_jobname_reads_what_the_daemon_has_registered(pod):
    pod.start_daemon()
    ready = pod.wait_ready()
    assert ready.returncode == 0, ready.stderr
    ran = pod.run_script()
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["samples"] == EXPECTED
    assert result["stats"]["s3_list_objects"] == 0 and result["version"] == pod.shared()["version"]
    assert "without the manager" not in ran.stderr
    [job] = pod.jobs()
    assert job["name"] == "resnet" and job["id"] == pod.shared()["id"]

    share = pod.directory / "share" / "resnet.json"
    assert stat.S_IMODE(share.stat().st_mode) == 0o600
    assert SECRET_KEY not in share.read_text() and PASSWORD not in share.read_text()
    pod.stop_daemon()
    assert pod.jobs() == [] and list((pod.directory / "share").iterdir()) == []
    assert SECRET_KEY not in (pod.directory / "daemon.log").read_text()
    assert PASSWORD not in (pod.directory / "daemon.log").read_text()


def test_jobs_come_and_go_with_their_files(pod):
    pod.start_daemon("--mode", "0640")
    pod.await_state("ready")
    assert stat.S_IMODE((pod.directory / "share" / "resnet.json").stat().st_mode) == 0o640
    pod.add_job("second", keys=("test",))
    pod.await_state("ready", "second")
    (pod.directory / "jobs" / "resnet.json").unlink()
    wait_for(lambda: [job["name"] for job in pod.jobs()] == ["second"], "the job's end")
    wait_for(lambda: pod.shared()["state"] == "none", "its file's end")
    (pod.directory / "jobs" / "broken.json").write_text("{")
    wait_for(lambda: "broken.json: expected a JSON object" in (pod.directory / "daemon.log").read_text(), "a message")
    assert pod.shared("second")["state"] == "ready"


def test_what_the_share_directory_did_not_take_is_written_once_it_does(pod):
    (pod.directory / "share" / "resnet.json").mkdir()  # in the file's place
    pod.start_daemon()
    log = pod.directory / "daemon.log"
    wait_for(lambda: "job resnet: ready" in log.read_text(), "the registration")
    assert "resnet.json: cannot be renamed" in log.read_text()
    (pod.directory / "share" / "resnet.json").rmdir()
    pod.await_state("ready")


def test_garbage_on_the_socket_gets_an_answer_or_an_end(pod):
    (pod.directory / "jobs" / "two\nlines.json").write_text("{")
    pod.start_daemon()
    pod.await_state("ready")

    def ask(line):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(DEADLINE_S)
            connection.connect(str(pod.directory / "share" / "resnet.sock"))
            try:
                connection.sendall(line)
                return connection.makefile("rb").readline()
            except OSError:
                return b""

    for line in (b"garbage\n", b"[]\n", b"\n", b'{"chunks":5}\n', b'{"report":5}\n', b'{"a":' * 150_000 + b"\n"):
        assert json.loads(ask(line))["failure"].startswith("expected a line {"), line[:20]
    for chunk in ("-1", "1e300", "1.5", "null"):
        answer = ask(b'{"chunks":[{"key":"train/cat/000.txt","chunk":' + chunk.encode() + b"}]}\n")
        assert json.loads(answer) == {"failure": "chunk: expected the number of a chunk"}
    assert ask(b"x" * (3 << 20)) == b"", "too long: it is closed at once"
    assert pod.run_script().returncode == 0
    assert "two\\x0alines.json: expected a JSON object" in (pod.directory / "daemon.log").read_text()


def test_a_jobs_directory_that_cannot_be_read_ends_no_job(pod):
    pod.start_daemon()
    first = pod.await_state("ready")
    jobs = pod.directory / "jobs"
    jobs.rename(pod.directory / "away")
    wait_for(lambda: "jobs: cannot be read; its jobs go on" in (pod.directory / "daemon.log").read_text(), "a message")
    assert pod.shared()["id"] == first["id"] and [job["id"] for job in pod.jobs()] == [first["id"]]
    (pod.directory / "away").rename(jobs)
    pod.add_job("second", keys=("test",))
    pod.await_state("ready", "second")
    assert pod.shared()["id"] == first["id"]


def test_the_daemon_outlives_the_manager_and_registers_again_where_the_job_is_lost(tmp_path, s3_server, monkeypatch):
    manager = ManagerProcess(tmp_path / "manager", token_life=3)
    pod = None
    try:
        manager.add_client()
        pod = Pod(tmp_path / "pod", manager, s3_server, monkeypatch)
        pod.start_daemon()
        first = pod.await_state("ready")
        manager.kill()
        assert json.loads(pod.run_script(ALNAIR_WAIT="30").stdout)["samples"] == EXPECTED, "it reads on without a manager"
        manager.start()
        none = 'route="POST /v1/jobs/{id}/heartbeat",code="2xx"} 0'
        wait_for(lambda: none not in manager.call("GET", "/metrics").body.decode(), "heartbeats")
        assert [job["id"] for job in pod.jobs()] == [first["id"]]
        manager.call("DELETE", f"/v1/jobs/{first['id']}", token=manager.admin)
        wait_for(lambda: [job["id"] for job in pod.jobs()] == [first["id"]], "another registration, of the same id")
        pod.await_state("ready")
        pod.stop_daemon()
        assert pod.jobs() == []
    finally:
        if pod is not None and pod.daemon is not None:
            pod.daemon.kill()
            pod.daemon.wait()
        manager.kill()


def test_without_a_manager_in_time_the_script_lists_s3_and_says_so(pod):
    pod.manager.kill()
    pod.start_daemon()
    pod.await_state("connecting")
    ran = pod.run_script(ALNAIR_WAIT="1")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["samples"] == EXPECTED
    assert "s3://pets is listed without the manager" in ran.stderr
    pod.manager.start()
    pod.await_state("ready")  # the daemon has gone on trying


def test_a_script_registers_for_itself_where_there_is_no_daemon(pod):
    (pod.directory / "share").rmdir()
    ran = pod.run_script()
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["samples"] == EXPECTED and result["stats"]["s3_list_objects"] == 0
    assert pod.jobs() == [], "deregistered at its end"
    [dataset] = pod.manager.call("GET", "/v1/datasets", token=pod.manager.admin).json["datasets"]
    assert dataset["objects"] == len(TRAIN) and dataset["version"] == result["version"]


def test_manager_as_an_argument(pod, monkeypatch, s3):
    monkeypatch.setenv("ALNAIR_MANAGER_USERNAME", ALICE)
    monkeypatch.setenv("ALNAIR_MANAGER_PASSWORD", PASSWORD)
    dataset = alnair.AlnairJobDataset(source="s3://pets/train", manager=pod.manager.url)
    assert list(dataset.keys) == TRAIN and bytes(dataset[0][0]) == content_of(TRAIN[0])
    [job] = pod.jobs()
    assert job["name"] == "pets" and job["state"] == "ready" and job["version"] == dataset.version
    dataset._alnair.source.finish()
    assert pod.jobs() == []


def test_manager_without_a_password_is_an_error_and_a_wrong_one_a_warning(pod, monkeypatch, s3, caplog):
    monkeypatch.setenv("ALNAIR_SECRET_DIR", str(pod.directory / "absent"))
    with pytest.raises(alnair.ConfigError, match="ALNAIR_MANAGER_USERNAME and ALNAIR_MANAGER_PASSWORD"):
        alnair.AlnairJobDataset(source="s3://pets", manager=pod.manager.url)
    monkeypatch.setenv("ALNAIR_MANAGER_USERNAME", ALICE)
    monkeypatch.setenv("ALNAIR_MANAGER_PASSWORD", "wrong")
    dataset = alnair.AlnairJobDataset(source="s3://pets", manager=pod.manager.url)
    assert len(dataset) == len(KEYS)
    assert "the name or the password is wrong" in caplog.text


def test_an_unchanged_dataset_costs_its_listing_and_a_changed_one_a_new_version(pod, s3_server):
    s3_server.add_bucket("changing", TRAIN)
    pod.add_job("resnet", bucket="changing")
    pod.start_daemon()
    first = pod.await_state("ready")["version"]
    pod.stop_daemon()
    pod.start_daemon()
    assert pod.await_state("ready")["version"] == first
    pod.stop_daemon()
    write_objects(s3_server.root / "changing", ["train/cat/new.txt"])
    pod.start_daemon()
    assert pod.await_state("ready")["version"] != first
    ran = pod.run_script()
    assert set(json.loads(ran.stdout)["samples"]) == {*TRAIN, "train/cat/new.txt"}, ran.stderr


def test_wait_ready_gives_up(pod):
    late = pod.wait_ready(seconds=0.2)
    assert late.returncode == 1 and "no daemon has begun with it" in late.stderr


def test_the_daemon_names_what_is_wrong_with_its_secret(pod):
    secret = pod.directory / "secret" / "client.conf"
    for text, message in (
        ("[aws_s3]\n", "has no section [alnair_manager]"),
        ("[alnair_manager]\nserver_address = x\n", "has no value for the field server_port"),
        ("[alnair_manager]\nserver_address = x\nserver_port = 99999\n", "server_port: expected a port"),
    ):
        secret.write_text(text)
        refused = subprocess.run([manager_process.binary(), "client"], capture_output=True, text=True, timeout=DEADLINE_S)
        assert refused.returncode == 1 and str(secret) in refused.stderr and message in refused.stderr


@pytest.mark.parametrize(
    "text, message",
    [
        ("[alnair_manager]\nserver_address = h\nserver_port = 0\n", "server_port: expected a port"),
        ("[alnair_manager]\nserver_address = h\nserver_port = 1\nusername = a\n", "has no value for the field password"),
        ("[alnair_manager]\nserver_port = 1\n", "line 1: section .alnair_manager. has no value for the field server_address"),
    ],
)
def test_scripts_name_what_is_wrong_with_a_secret(tmp_path, text, message):
    path = tmp_path / "client.conf"
    path.write_text(text)
    with pytest.raises(alnair.ConfigError, match=message):
        _job.read_manager(str(path))
    path.write_text(
        "[ALNAIR_MANAGER]\nserver_address = ::1\nserver_port = 5\nusername = a\npassword = p\ntls_ca = /ca\n"
    )
    assert _job.read_manager(str(path)) == ("https://[::1]:5", "a", "p", "/ca", "", "")
    assert _job.read_secret(str(path)) is None, "a secret may be about a manager only"


def test_how_long_to_wait_must_be_a_number():
    assert _manager.patience({}) == 600 and _manager.patience({"ALNAIR_WAIT": "0.5"}) == 0.5
    for text in ("soon", "-1", "inf", "nan"):
        with pytest.raises(alnair.ConfigError, match="ALNAIR_WAIT: expected a number of seconds"):
            _manager.patience({"ALNAIR_WAIT": text})
