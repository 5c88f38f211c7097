"""What a manager keeps in the cache for jobs: copies of datasets in Redis and a shared directory, and users in Redis."""

import json
import os
import re
import sys
import threading
import time
from pathlib import Path

import manager_process
import pytest
from conftest import KEYS, SECRET_KEY, content_of
from manager_process import ManagerProcess, wait_for
from test_manager_client import EXPECTED, TRAIN, Pod

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from redis_servers import RedisCluster, RedisError, RedisServer  # noqa: E402

NOW = {"qos": {"lazyloading": False}}  # a job that is ready once its dataset is in the cache

SCRIPT = """
import hashlib, json, alnair
from AlnairJob import AlnairJobDataset
dataset = AlnairJobDataset()
samples = {dataset.keys[i]: hashlib.sha256(dataset[i][0]).hexdigest() for i in range(len(dataset))}
print(json.dumps({"samples": samples, "stats": alnair.stats()}))
"""


@pytest.fixture(scope="module")
def cluster():
    with RedisCluster(masters=3, replicas=1) as cluster:
        yield cluster


@pytest.fixture
def redis(cluster):
    """The cluster, empty."""
    for server in cluster.servers[:3]:
        server.command("FLUSHALL")
    return cluster


@pytest.fixture
def start_manager(tmp_path):
    """Starts a manager with the client alice; more of its keys as arguments, and over TLS those of ManagerProcess.trust()."""
    if manager_process.binary() is None:
        pytest.skip("built without ALNAIR_MANAGER")
    managers = []

    def start(name="manager", trust=(), **settings):
        managers.append(ManagerProcess(tmp_path / name, **settings))
        if trust:
            managers[-1].trust(*trust)
        managers[-1].add_client()
        return managers[-1]

    yield start
    for manager in managers:
        manager.kill()


def user_of(url):
    return re.match(r"redis://([^:]+):([^@]+)@", url).groups()


def as_user(server, user, *command):
    """A command of that user and password: its reply, or the error's text."""
    import socket

    from redis_servers import _read_reply

    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection, connection.makefile("rb") as stream:
        replies = []
        for arguments in (("AUTH", *user), command):
            parts = [str(part).encode() for part in arguments]
            connection.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
            try:
                replies.append(_read_reply(stream))
            except RedisError as error:
                replies.append(str(error))
        return replies[1] if replies[0] == "OK" else replies[0]


def users(server):
    return [name.decode() for name in server.command("ACL", "USERS") if name.startswith(b"alnair-job-")]


def gets(manager):
    """GetObject requests that the manager has sent."""
    return int(re.search(r"^alnair_s3_get_object_total (\d+)", manager.call("GET", "/metrics").body.decode(), re.M)[1])


def ready(manager, job):
    def look():
        now = manager.call("GET", f"/v1/jobs/{job['id']}", token=job["token"]).json
        assert now["state"] != "failed", now
        return now["state"] == "ready" and now

    return wait_for(look, "the job")


def test_a_job_reads_from_redis_what_the_manager_has_copied(tmp_path, start_manager, redis, s3_server, monkeypatch):
    (tmp_path / "backup").mkdir()
    manager = start_manager(redis_url=redis.url, backup_dir=tmp_path / "backup")
    pod = Pod(tmp_path / "pod", manager, s3_server, monkeypatch)
    pod.add_job("resnet", LazyLoading=False)
    pod.start_daemon()
    try:
        assert pod.wait_ready().returncode == 0
        [job] = pod.jobs()
        assert job["copy"]["objects"] == job["copy"]["total_objects"] == len(TRAIN) and not job["copy"]["running"]
        assert job["copy"]["cached_bytes"] == job["copy"]["copied_bytes"] == sum(len(content_of(key)) for key in TRAIN)
        assert gets(manager) == len(TRAIN)
        ran = pod.run_script(SCRIPT)
        assert ran.returncode == 0, ran.stderr
        result = json.loads(ran.stdout)
        assert result["samples"] == EXPECTED
        assert result["stats"]["s3_get_object"] == result["stats"]["s3_list_objects"] == 0, result["stats"]
        assert result["stats"]["redis_hits"] == len(TRAIN) and "NOPERM" not in ran.stderr
        assert job["cache"]["redis"] is None, "a password is said once"
        name, password = user_of(pod.shared()["redis"])
        assert name == "alnair-job-" + job["id"] and password not in (pod.directory / "daemon.log").read_text()
        assert password not in manager.log.read_text() and SECRET_KEY not in manager.log.read_text()
    finally:
        pod.stop_daemon()
    wait_for(lambda: all(users(server) == [] for server in redis.servers), "the end of the job's user")


def test_a_jobs_user_reaches_its_own_domain_and_no_dangerous_command(start_manager, redis, s3_auth):
    manager = start_manager(redis_url=redis.url)
    manager.add_client("bob", "a-password-of-bob")
    alice = manager.register(manager.connect(s3_auth), name="a")
    bob = manager.register(manager.connect(s3_auth, "bob", "a-password-of-bob"), name="b")
    for job in (alice, bob):
        ready(manager, job)
    user = user_of(alice["cache"]["redis"])
    server = redis.servers[0]
    wait_for(lambda: all(len(users(each)) == 2 for each in redis.servers), "the users on every node, replicas too")
    for command in (["KEYS", "*"], ["SCAN", "0"], ["RANDOMKEY"], ["FLUSHALL"], ["CONFIG", "GET", "*"], ["ACL", "LIST"], ["DEBUG", "SLEEP", "0"]):
        assert "NOPERM" in as_user(server, user, *command), command
    for key in ("alnair:bob:x", "alnair:x", "other:alice:x"):
        assert "NOPERM" in as_user(server, user, "GET", key)
        assert "NOPERM" in as_user(server, user, "EVAL", "return redis.call('GET', KEYS[1])", "1", key)
    own = as_user(server, user, "GET", "alnair:alice:x")
    assert own is None or own.startswith("MOVED"), own
    # Somebody else's job is none, and neither is its manifest.
    for path in ("", "/manifest"):
        assert manager.call("GET", f"/v1/jobs/{alice['id']}{path}", token=bob["token"]).status == 404
    # A server that starts again has forgotten its users.
    redis.servers[5].start_again()
    wait_for(lambda: len(users(redis.servers[5])) == 2, "the users of a server that has started again")
    assert redis.wait_until_well()
    # Nobody's user: what a killed manager left behind.
    server.command("ACL", "SETUSER", "alnair-job-orphan", "on", "nopass")
    wait_for(lambda: "alnair-job-orphan" not in users(server), "the orphan's end")
    manager.kill()
    manager.start()
    assert manager.call("DELETE", f"/v1/jobs/{alice['id']}", token=alice["token"]).status == 204
    wait_for(lambda: all(users(each) == ["alnair-job-" + bob["id"]] for each in redis.servers), "the end of one user")


def test_registrations_at_once_share_one_copy_and_the_next_one_copies_what_is_new(start_manager, redis, s3_server, s3_auth):
    s3_server.add_bucket("shared", KEYS)
    manager = start_manager(redis_url=redis.url)
    token = manager.connect(s3_auth)
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(manager.call("POST", "/v1/jobs", {"name": "j", "datasource": {"bucket": "shared"}, **NOW}, token).json))
        for _ in range(8)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job in answers:
        ready(manager, job)
    assert gets(manager) == len(KEYS)
    (s3_server.root / "shared" / "new").write_bytes(b"one more")
    job = manager.call("POST", "/v1/jobs", {"name": "j", "datasource": {"bucket": "shared"}, **NOW}, token).json
    assert ready(manager, job)["copy"]["copied_bytes"] == len(b"one more")
    assert gets(manager) == len(KEYS) + 1


def test_a_killed_manager_goes_on_where_it_was(tmp_path, start_manager, redis, s3_server, s3_auth):
    big = s3_server.root / "big"
    big.mkdir()
    for number in range(24):
        (big / str(number)).write_bytes(os.urandom(3 << 20))
    manager = start_manager(redis_url=redis.url)
    token = manager.connect(s3_auth)
    job = manager.call("POST", "/v1/jobs", {"name": "j", "datasource": {"bucket": "big"}, **NOW}, token).json
    path = f"/v1/jobs/{job['id']}"
    wait_for(lambda: (manager.call("GET", path, token=job["token"]).json["copy"] or {}).get("copied_bytes"), "some progress")
    manager.kill()
    manager.start()
    copy = ready(manager, job)["copy"]
    assert copy["cached_bytes"] == copy["total_bytes"] == 24 * (3 << 20)
    assert copy["copied_bytes"] < copy["total_bytes"] and gets(manager) == copy["copied_bytes"] // (3 << 20)


def test_work_on_a_dataset_goes_on_after_a_kill(start_manager, s3_auth):
    with RedisServer() as server:
        manager = start_manager(redis_url=server.url)
        token = manager.connect(s3_auth)
        job = ready(manager, manager.register(token))
        dataset = "/v1/datasets/" + job["dataset"]

        def copy():
            return manager.call("GET", dataset, token=token).json["copy"]

        def chunks():
            return len(server.command("KEYS", "alnair:alice:" + "?" * 64))

        slow = {"prefix": "train/", "bytes_per_s": 1}
        assert manager.call("POST", dataset + "/warm", slow, token).status == 202
        manager.kill()
        manager.start()
        again = wait_for(lambda: (found := copy()) and found["total_objects"] and found, "the work to go on")
        assert (again["work"], again["total_objects"], again["running"]) == ("copy", len(TRAIN), True)
        assert manager.call("POST", dataset + "/cancel", {}, token).status == 204
        wait_for(lambda: not copy()["running"], "its end")
        manager.kill()
        manager.start()
        assert copy() is None, "what was cancelled is not begun again"
        assert manager.call("POST", dataset + "/warm", {}, token).status == 202
        wait_for(lambda: chunks() == len(KEYS) and not copy()["running"], "the copy")
        manager.call("DELETE", f"/v1/jobs/{job['id']}", token=token)
        server.freeze()  # so that nothing is evicted yet
        assert manager.call("DELETE", dataset, token=token).status == 204
        manager.kill()
        server.thaw()
        assert chunks() == len(KEYS)
        manager.start()
        assert manager.call("GET", dataset, token=token).problem == "unknown-dataset"
        wait_for(lambda: chunks() == 0, "the eviction of what was forgotten")
        assert manager.stop() == 0
        manager.start()
        assert manager.call("GET", "/v1/datasets", token=token).json == {"datasets": []}


def test_a_full_cache_makes_a_job_ready(start_manager, s3_server, s3_auth):
    full = s3_server.root / "full"
    full.mkdir()
    for number in range(20):
        (full / str(number)).write_bytes(os.urandom(2 << 20))
    with RedisServer("--maxmemory", "16mb") as server:
        manager = start_manager(redis_url=server.url)
        job = manager.call("POST", "/v1/jobs", {"name": "j", "datasource": {"bucket": "full"}, **NOW}, manager.connect(s3_auth)).json
        copy = ready(manager, job)["copy"]
        assert copy["full"] and 0 < copy["cached_bytes"] < copy["total_bytes"]


def test_where_redis_forbids_users_the_manager_says_so_or_takes_a_shared_one(tmp_path, start_manager, s3_auth):
    with RedisServer() as server:
        server.command("ACL", "SETUSER", "limited", "on", ">pw", "~*", "+@all", "-acl")
        url = server.url.replace("redis://", "redis://limited:pw@")
        with pytest.raises(AssertionError, match=r"lets the manager make no users for jobs.*\[redis\] shared_url"):
            start_manager("refused", redis_url=url)
        manager = start_manager(redis_url=url, redis_shared_url=url)
        job = manager.register(manager.connect(s3_auth))
        assert user_of(job["cache"]["redis"]) == ("limited", "pw") and "domain=alice" in job["cache"]["redis"]


def test_a_dataset_is_warmed_checked_and_evicted(start_manager, redis, s3_auth):
    manager = start_manager(redis_url=redis.url)
    token = manager.connect(s3_auth)
    job = manager.register(token)  # lazy: nothing is copied
    dataset = "/v1/datasets/" + ready(manager, job)["dataset"]

    def work(verb, body=None):
        answer = manager.call("POST", f"{dataset}/{verb}", body or {}, token)
        assert answer.status == 202, answer.body
        return wait_for(lambda: not (copy := manager.call("GET", dataset, token=token).json["copy"])["running"] and copy, verb)

    assert gets(manager) == 0
    train = sum(len(content_of(key)) for key in TRAIN)
    part = work("warm", {"prefix": "train/", "bytes_per_s": 1 << 30})
    assert (part["objects"], part["redis_bytes"], part["copied_bytes"]) == (len(TRAIN), train, train)
    assert work("warm", {"keys": KEYS[:1]})["copied_bytes"] == len(content_of(KEYS[0]))
    everything = sum(len(content_of(key)) for key in KEYS)
    assert work("warm")["cached_bytes"] == everything and gets(manager) == len(KEYS)
    cached = lambda: manager.call("GET", dataset, token=token).json["cached"]["redis_bytes"]  # noqa: E731
    wait_for(lambda: cached() == everything, "the count of it")
    chunk = next(key for server in redis.servers[:3] for key in server.command("KEYS", "alnair:alice:" + "?" * 64))
    [holder] = [server for server in redis.servers[:3] if chunk in server.command("KEYS", "*")]
    value = holder.command("GET", chunk)
    holder.command("SET", chunk, value[:-1] + bytes([value[-1] ^ 1]))
    assert work("check")["damaged_chunks"] == 1
    assert work("check")["damaged_chunks"] == 0
    assert manager.call("POST", dataset + "/evict", {}, token).problem == "dataset-in-use"
    manager.call("DELETE", f"/v1/jobs/{job['id']}", token=token)
    manager.call("POST", dataset + "/pin", {"minutes": 5}, token)
    assert manager.call("POST", dataset + "/evict", {}, token).problem == "dataset-pinned"
    manager.call("POST", dataset + "/pin", {"minutes": 0}, token)
    work("evict")
    wait_for(lambda: cached() == 0, "the count of nothing")
    assert [server.command("KEYS", "alnair:alice:" + "?" * 64) for server in redis.servers[:3]] == [[], [], []]
    slow = manager.call("POST", dataset + "/warm", {"bytes_per_s": 1}, token)
    assert slow.status == 202 and manager.call("POST", dataset + "/check", {}, token).problem == "dataset-busy"
    assert manager.call("POST", dataset + "/cancel", {}, token).status == 204
    wait_for(lambda: not manager.call("GET", dataset, token=token).json["copy"]["running"], "the end of what was cancelled")


def test_what_two_datasets_have_in_common_stays_as_long_as_one_is_used(start_manager, redis, s3_auth):
    manager = start_manager(redis_url=redis.url)
    token = manager.connect(s3_auth)
    whole, part = (manager.call("POST", "/v1/jobs", {"name": "j", "datasource": {"bucket": "pets", "keys": keys}, **NOW}, token).json
                   for keys in ([], ["train"]))  # fmt: skip
    for job in (whole, part):
        ready(manager, job)
    assert manager.call("DELETE", f"/v1/jobs/{whole['id']}?delete_dataset=true", token=token).status == 204

    def chunks():
        return sum(len(server.command("KEYS", "alnair:alice:" + "?" * 64)) for server in redis.servers[:3])

    wait_for(lambda: chunks() == len(TRAIN), "the eviction of what nobody uses")


@pytest.fixture
def no_secret(tmp_path):
    """A training container's: the secret is the daemon's alone."""
    (tmp_path / "empty").mkdir()
    return {"ALNAIR_SECRET_DIR": str(tmp_path / "empty"), "ALNAIR_WAIT": "60"}


def test_a_script_without_s3_credentials_reads_through_the_daemon(tmp_path, start_manager, redis, s3_server, no_secret, monkeypatch):
    manager = start_manager(redis_url=redis.url)
    pod = Pod(tmp_path / "pod", manager, s3_server, monkeypatch)
    pod.start_daemon()  # a lazy job: nothing is copied before it is asked for
    try:
        assert pod.wait_ready().returncode == 0 and gets(manager) == 0
        for expected in (len(TRAIN), 0):  # the second time its own node has it all
            ran = pod.run_script(SCRIPT, **no_secret)
            assert ran.returncode == 0, ran.stderr
            result = json.loads(ran.stdout)
            assert result["samples"] == EXPECTED and result["stats"]["s3_get_object"] == 0
            assert result["stats"]["source_hits"] == expected and gets(manager) == len(TRAIN)
    finally:
        pod.stop_daemon()


def test_what_no_tier_takes_is_read_by_a_url_of_the_managers(tmp_path, start_manager, s3_server, no_secret, monkeypatch):
    with RedisServer("--maxmemory", "1") as full:
        manager = start_manager(redis_url=full.url)
        pod = Pod(tmp_path / "pod", manager, s3_server, monkeypatch)
        pod.start_daemon()
        try:
            assert pod.wait_ready().returncode == 0
            ran = pod.run_script(SCRIPT, **no_secret)
            assert ran.returncode == 0, ran.stderr
            assert json.loads(ran.stdout)["samples"] == EXPECTED
        finally:
            pod.stop_daemon()


def test_misses_are_answered_with_where_the_chunks_are(start_manager, redis, s3_auth):
    manager = start_manager(redis_url=redis.url)
    manager.add_client("bob", "a-password-of-bob")
    job = ready(manager, manager.register(token := manager.connect(s3_auth)))
    path = f"/v1/jobs/{job['id']}/misses"

    def ask(*chunks, by=token):
        return manager.call("POST", path, {"chunks": [{"key": key, "chunk": chunk} for key, chunk in chunks]}, by)

    answer = wait_for(lambda: (answer := ask((KEYS[0], 0), (KEYS[0], 1), ("none", 0))).status == 200 and answer, "the chunks")
    found, beyond, unknown = answer.json["chunks"]
    assert found["state"] == "redis" and beyond["state"] == unknown["state"] == "failed"
    [value] = [server.command("GET", "alnair:alice:" + found["hash"]) for server in redis.servers[:3]
               if found["hash"].encode() in b"".join(server.command("KEYS", "*"))]  # fmt: skip
    assert value.endswith(content_of(KEYS[0]))
    assert gets(manager) == 1
    assert ask(by=token).problem == "invalid-field"
    assert ask((KEYS[0], 0), by=manager.connect(s3_auth, "bob", "a-password-of-bob")).problem == "unknown-job"


def test_what_no_job_has_used_for_its_durability_is_collected_unless_it_is_pinned(start_manager, redis, s3_auth):
    manager = start_manager(redis_url=redis.url)
    token = manager.connect(s3_auth)
    qos = {"qos": {"lazyloading": False, "durabilityindisk": 0}}
    kept, gone = (ready(manager, manager.call("POST", "/v1/jobs", {"name": "j", "datasource": {"bucket": "pets", "keys": [part]}, **qos},
                                              token).json) for part in ("test", "train"))  # fmt: skip
    assert manager.call("POST", "/v1/gc", {}, manager.admin).json == {"datasets": []}, "they are in use"
    manager.call("POST", f"/v1/datasets/{kept['dataset']}/pin", {"minutes": 5}, token)
    for job in (kept, gone):
        manager.call("DELETE", f"/v1/jobs/{job['id']}", token=token)
    assert manager.call("POST", "/v1/gc", {}, manager.admin).json == {"datasets": [gone["dataset"]]}
    left = lambda: sum(len(server.command("KEYS", "alnair:alice:" + "?" * 64)) for server in redis.servers[:3])  # noqa: E731
    wait_for(lambda: left() == len(KEYS) - len(TRAIN), "the eviction")
    assert manager.call("POST", "/v1/gc", {}, manager.admin).json == {"datasets": []}


def test_the_directory_keeps_what_live_jobs_and_pins_name(tmp_path, start_manager, s3_server, s3_auth):
    backup = tmp_path / "backup"
    files = lambda ending: {path for path in backup.rglob("*" + ending) if path.is_file()}  # noqa: E731
    manager = start_manager(backup_dir=backup)
    token = manager.connect(s3_auth)
    jobs, names, segments = {}, {}, {}
    for use in ("live", "pinned", "recent", "unused"):
        bucket = s3_server.root / use
        bucket.mkdir()
        for number in range(3):
            (bucket / str(number)).write_bytes(os.urandom(1000))
        known = files(".names"), files(".segment")
        qos = {**NOW["qos"], "durabilityindisk": 0 if use == "unused" else 1440}
        jobs[use] = ready(manager, manager.call("POST", "/v1/jobs", {"name": use, "datasource": {"bucket": use}, "qos": qos}, token).json)
        (names[use],) = wait_for(lambda known=known: files(".names") - known[0], f"the names of {use}")
        segments[use] = files(".segment") - known[1]
        assert segments[use]
    manager.call("POST", f"/v1/datasets/{jobs['pinned']['dataset']}/pin", {"minutes": 60}, token)
    for use in ("pinned", "recent", "unused"):
        manager.call("DELETE", f"/v1/jobs/{jobs[use]['id']}", token=token)
    assert manager.stop() == 0
    long_ago = time.time() - 3 * 24 * 3600
    for path in files(".names") | files(".segment"):
        os.utime(path, (long_ago, long_ago))
    pinned = names["pinned"].read_bytes()
    names["pinned"].unlink()  # as another host's collector may have
    manager.start()
    wait_for(lambda: not names["unused"].exists() and not segments["unused"] & files(".segment"), "the collector")
    for use in ("live", "recent"):
        assert names[use].stat().st_mtime > long_ago + 3600, use
    wait_for(names["pinned"].exists, "the names of what is pinned")
    assert names["pinned"].read_bytes() == pinned
    assert segments["live"] | segments["pinned"] | segments["recent"] <= files(".segment")


def test_a_single_pass_job_reads_the_cache_and_fills_nothing(start_manager, redis, s3_auth):
    manager = start_manager(redis_url=redis.url)
    job = manager.call("POST", "/v1/jobs", {"name": "j", "datasource": {"bucket": "pets"}, "single_pass": True, **NOW},
                       manager.connect(s3_auth)).json  # fmt: skip
    assert ready(manager, job)["copy"] is None and gets(manager) == 0
    user = user_of(job["cache"]["redis"])
    for server in redis.servers[:3]:
        wait_for(lambda server=server: len(users(server)) == 1, "its user")
        assert "NOPERM" in as_user(server, user, "SET", "alnair:alice:x", "y")
        own = as_user(server, user, "GET", "alnair:alice:x")
        assert own is None or own.startswith("MOVED"), own
