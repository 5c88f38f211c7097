"""A second manager on the same records: it waits, and takes over when the first one is gone. With SQLite and with MongoDB."""

import http.client
import itertools
import os
import random
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import manager_process
import pytest
from manager_process import DEADLINE_S, ManagerProcess, die_with_parent, wait_for


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class FerretDB:
    """A server that speaks MongoDB's protocol; kill() and start() again keep its data."""

    def __init__(self, program, directory):
        self.program, self.directory, self.port = program, directory, free_port()
        directory.mkdir()
        self.uri = f"mongodb://127.0.0.1:{self.port}/alnair"
        self.start()

    def start(self):
        command = [self.program, f"127.0.0.1:{self.port}", self.directory]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        wait_for(self._listens, "FerretDB")

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def mongodb(tmp_path):
    program = os.environ.get("ALNAIR_TEST_FERRETDB")
    if not program:
        pytest.skip("ALNAIR_TEST_FERRETDB names no program: tests/run sets it")
    server = FerretDB(program, tmp_path / "ferretdb")
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", "mongodb"])
def pair(request, tmp_path):
    """Two managers on the same records; the second one stands by."""
    if manager_process.binary() is None:
        pytest.skip("built without ALNAIR_MANAGER")
    settings = {}
    if request.param == "mongodb":
        settings = {"mongodb_uri": request.getfixturevalue("mongodb").uri, "mongodb_lease": 6}
    first = ManagerProcess(tmp_path / "first", **settings)
    first.add_client()
    directory = tmp_path / "first"
    if request.param == "mongodb":  # hosts of their own share the secrets
        directory = tmp_path / "second"
        directory.mkdir(mode=0o700)
        for name in ("admin.token", "seal.key"):
            (directory / name).write_text((first.directory / name).read_text())
            (directory / name).chmod(0o600)
    port = free_port()
    second = ManagerProcess(directory, port, standby="true", **settings)
    second.url = f"http://127.0.0.1:{port}"
    yield first, second
    for manager in (first, second):
        if manager.process.poll() is None:
            manager.kill()


def ready(manager):
    try:
        with urllib.request.urlopen(manager.url + "/readyz", timeout=DEADLINE_S) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def test_a_standby_says_so_and_serves_nothing(pair):
    first, second = pair
    assert second.call("GET", "/healthz").json == {"status": "standby"}
    for path in ("/readyz", "/v1/jobs", "/metrics"):
        answer = second.call("GET", path, token=first.admin)
        assert (answer.status, answer.problem) == (503, "standby")
    second.process.terminate()
    assert second.process.wait(DEADLINE_S) == 0
    assert first.call("GET", "/readyz").status == 200


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_it_takes_over_with_all_that_was_acknowledged(pair, s3_auth, how):
    first, second = pair
    token = first.connect(s3_auth)
    job = first.register(token)
    version = first.ended(job)["version"]
    getattr(first, how)()
    wait_for(lambda: ready(second), "the second manager")
    # The same tokens, and the same version, also where its manifest has to be listed again.
    assert second.ended(job)["version"] == version
    assert second.call("GET", f"/v1/jobs/{job['id']}/manifest", token=job["token"]).status == 200
    beat = second.call("POST", f"/v1/jobs/{job['id']}/heartbeat", {}, job["token"])
    assert beat.status == 200 and beat.json["state"] == "ready"
    assert [one["id"] for one in second.call("GET", "/v1/jobs", token=token).json["jobs"]] == [job["id"]]


def test_what_is_acknowledged_by_mongodb_survives_kills(mongodb, tmp_path, s3_auth):
    if manager_process.binary() is None:
        pytest.skip("built without ALNAIR_MANAGER")
    manager = ManagerProcess(tmp_path / "manager", mongodb_uri=mongodb.uri)
    manager.add_client()
    token, jobs = manager.connect(s3_auth), []
    for number in range(3):
        jobs.append(manager.register(token, name=f"job{number}"))
        manager.kill()
        manager.start()
    for job in jobs:
        assert manager.ended(job)["state"] == "ready"
    secret = s3_auth["secret_access_key"].encode()
    assert not any(secret in path.read_bytes() for path in mongodb.directory.iterdir())
    assert manager.stop() == 0


@pytest.mark.parametrize("records", ["sqlite", "mongodb"])
def test_kills_at_any_instant_lose_nothing_acknowledged(request, tmp_path, s3_auth, records):
    if manager_process.binary() is None:
        pytest.skip("built without ALNAIR_MANAGER")
    settings = {"mongodb_uri": request.getfixturevalue("mongodb").uri} if records == "mongodb" else {}
    manager = ManagerProcess(tmp_path / "manager", **settings)
    manager.add_client()
    token = manager.connect(s3_auth)
    registered, ending, ended, clients, numbers = {}, set(), set(), set(), itertools.count()

    def work(number):
        try:
            for turn in range(1000):
                job = manager.register(token, name=f"job{number}-{turn}")
                registered[job["id"]] = job
                if turn % 2:
                    ending.add(job["id"])
                    if manager.call("DELETE", f"/v1/jobs/{job['id']}", token=job["token"]).status == 204:
                        ended.add(job["id"])
                if number == 0:  # of hashing passwords two may go on at once, and others are sent away
                    manager.add_client(name := f"client{next(numbers)}")
                    clients.add(name)
        except (OSError, http.client.HTTPException):  # it was killed
            pass

    for _ in range(30 if os.environ.get("ALNAIR_TEST_STRESS") else 4):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(random.uniform(0.05, 1))
        manager.kill()
        for thread in threads:
            thread.join()
        manager.start()
        present = {job["id"] for job in manager.call("GET", "/v1/jobs", token=token).json["jobs"]}
        assert set(registered) - ending <= present, "what was registered is there"
        assert not ended & present, "what was deregistered is not"
        assert clients <= {client["name"] for client in manager.call("GET", "/v1/clients", token=manager.admin).json["clients"]}
    assert registered and ended
    for job in list(registered.values())[-20:]:
        if job["id"] not in ending:
            assert manager.ended(job)["state"] == "ready"
            assert manager.call("POST", f"/v1/jobs/{job['id']}/heartbeat", {}, job["token"]).status == 200
    assert manager.stop() == 0


@pytest.fixture
def hosts(mongodb, tmp_path):
    """Starts managers with state directories of their own, on the same records, secrets and shared directory."""
    if manager_process.binary() is None:
        pytest.skip("built without ALNAIR_MANAGER")
    (tmp_path / "backup").mkdir()
    managers = []

    def start(name, **settings):
        directory = tmp_path / name
        directory.mkdir(mode=0o700)
        for secret in ("admin.token", "seal.key") if managers else ():
            (directory / secret).write_text((managers[0].directory / secret).read_text())
            (directory / secret).chmod(0o600)
        managers.append(ManagerProcess(directory, mongodb_uri=mongodb.uri, mongodb_lease=3, backup_dir=tmp_path / "backup", **settings))
        return managers[-1]

    yield start
    for manager in managers:
        if manager.process.poll() is None:
            manager.kill()


def test_work_that_no_job_waits_for_goes_on_on_another_host(hosts, s3_server, s3_auth):
    bucket = s3_server.root / "moving"
    bucket.mkdir()
    for number in range(6):
        (bucket / str(number)).write_bytes(os.urandom(100_000))
    first = hosts("first")
    first.add_client()
    token = first.connect(s3_auth)
    job = first.ended(first.register(token, bucket=bucket.name))
    dataset = "/v1/datasets/" + job["dataset"]
    assert first.call("DELETE", f"/v1/jobs/{job['id']}", token=token).status == 204
    assert first.call("POST", dataset + "/warm", {"bytes_per_s": 100_000}, token).status == 202
    first.kill()
    (bucket / "6").write_bytes(b"of later")
    bucket.rename(bucket.with_name("moved"))

    second = hosts("second", standby="true")
    second.url = second.process.stdout.readline().split()[-1]  # once the lease of the first one has lapsed
    del second.settings["standby"]

    def copy():
        return second.call("GET", dataset, token=token).json["copy"] or {"failure": None, "running": True}

    failed = wait_for(lambda: (now := copy())["failure"] and now, "what S3 refuses")
    assert failed["running"] and "NoSuchBucket" in failed["failure"] and "(tried again in " in failed["failure"]
    second.kill()
    second.start()
    bucket.with_name("moved").rename(bucket)
    ended = wait_for(lambda: not (now := copy())["running"] and now, "the work")
    assert ended["failure"] is None and ended["total_objects"] == ended["objects"] == 7, "with what is there now"
    assert ended["cached_bytes"] == 600_008
    now = second.call("GET", dataset, token=token).json
    assert now["version"] != job["version"] and now["jobs"] == []
    assert "has changed" in second.log.read_text()
    second.kill()
    second.start()
    assert second.call("GET", dataset, token=token).json["copy"] is None, "what has ended is not begun again"


def test_while_mongodb_is_away_what_is_known_is_served(mongodb, tmp_path):
    if manager_process.binary() is None:
        pytest.skip("built without ALNAIR_MANAGER")
    manager = ManagerProcess(tmp_path / "manager", mongodb_uri=mongodb.uri, mongodb_lease=6)
    manager.add_client()
    mongodb.kill()
    answer = manager.call("POST", "/v1/clients", {"name": "bob", "password": "a-password-of-bob"}, manager.admin)
    assert (answer.status, answer.problem) == (503, "catalog-unavailable")
    assert f"MongoDB at 127.0.0.1:{mongodb.port}" in answer.json["detail"]
    wait_for(lambda: manager.call("GET", "/readyz").status == 503, "it to be no longer ready")
    assert len(manager.call("GET", "/v1/clients", token=manager.admin).json["clients"]) == 1
    mongodb.start()
    wait_for(lambda: manager.call("GET", "/readyz").status == 200, "it to be ready again")
    manager.add_client("bob")
    assert manager.stop() == 0


def test_mongodb_that_is_not_there_is_named_without_its_password(tmp_path):
    if manager_process.binary() is None:
        pytest.skip("built without ALNAIR_MANAGER")
    environment = {**os.environ, "ALNAIR_MANAGER_STATE_DIR": str(tmp_path / "state"), "ALNAIR_MANAGER_PORT": "0",
                   "ALNAIR_MANAGER_MONGODB_LEASE": "3",
                   "ALNAIR_MANAGER_MONGODB_URI": f"mongodb://alnair:sesame@127.0.0.1:{free_port()}/x"}  # fmt: skip
    ended = subprocess.run([manager_process.binary(), "serve"], env=environment, capture_output=True, text=True, timeout=60)
    if "was built without MongoDB" in ended.stderr:
        pytest.skip("built without libmongoc")
    assert ended.returncode == 1 and "MongoDB at 127.0.0.1:" in ended.stderr and "No suitable servers" in ended.stderr
    shown = subprocess.run([manager_process.binary(), "config", "show"], env=environment, capture_output=True, text=True, timeout=60)
    assert "uri = mongodb://(hidden)@127.0.0.1" in shown.stdout and "sesame" not in shown.stdout + ended.stderr + ended.stdout
