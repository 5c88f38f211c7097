"""How jobs reach what the manager has put into the cache: a directory without Redis, a proxy, a single pass; and what scripts tell."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import alnair
import alnair._manager
import manager_process
import pytest
from conftest import KEYS, content_of
from manager_process import ALICE, PASSWORD, die_with_parent, wait_for
from test_manager_cache import NOW, SCRIPT, gets, no_secret, ready, start_manager, user_of  # noqa: F401
from test_manager_client import EXPECTED, TRAIN, Pod
from test_manager_tls import Authority

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from redis_servers import RedisServer, server_port  # noqa: E402

BYTES = sum(len(content_of(key)) for key in TRAIN)


@pytest.fixture
def pod_of(tmp_path, s3_server, monkeypatch):
    """Makes pods; their daemons end with the test."""
    pods = []

    def make(manager, name="pod"):
        pods.append(Pod(tmp_path / name, manager, s3_server, monkeypatch))
        return pods[-1]

    yield make
    for pod in pods:
        if pod.daemon is not None and pod.daemon.poll() is None:
            pod.daemon.kill()
            pod.daemon.wait()


@pytest.fixture
def server():
    with RedisServer() as server:
        yield server


def trained(ran):
    """The counters of a script that has read all of its dataset."""
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["samples"] == EXPECTED
    return result["stats"]


# A directory, and no Redis.


@pytest.mark.parametrize("with_credentials", [True, False])
def test_a_directory_alone_is_read_by_scripts(tmp_path, start_manager, pod_of, no_secret, with_credentials):
    (tmp_path / "backup").mkdir()
    manager = start_manager(backup_dir=tmp_path / "backup")
    pod = pod_of(manager)
    pod.add_job("resnet", LazyLoading=False)
    pod.start_daemon()
    assert pod.wait_ready().returncode == 0
    assert gets(manager) == len(TRAIN)
    assert (tmp_path / "backup" / "alnair" / ALICE).is_dir(), "the client's domain"
    stats = trained(pod.run_script(SCRIPT, **({} if with_credentials else no_secret)))
    assert stats["s3_get_object"] == stats["s3_list_objects"] == 0 and stats["spill_hits"] == len(TRAIN), stats
    assert gets(manager) == len(TRAIN)
    [dataset] = manager.call("GET", "/v1/datasets", token=manager.admin).json["datasets"]
    assert dataset["cached"]["directory_bytes"] == BYTES and dataset["cached"]["percent"] == 100
    assert dataset["capacity_bytes"] > BYTES


def test_misses_go_through_the_directory_where_there_is_no_redis(tmp_path, start_manager, pod_of, no_secret):
    (tmp_path / "backup").mkdir()
    manager = start_manager(backup_dir=tmp_path / "backup")
    pod = pod_of(manager)
    pod.start_daemon()  # a lazy job
    assert pod.wait_ready().returncode == 0 and gets(manager) == 0
    stats = trained(pod.run_script(SCRIPT, **no_secret))
    assert stats["s3_get_object"] == 0 and gets(manager) == len(TRAIN)


def test_a_script_that_registers_itself_reads_the_directory(tmp_path, start_manager, s3, s3_auth, monkeypatch):
    (tmp_path / "backup").mkdir()
    manager = start_manager(backup_dir=tmp_path / "backup")
    monkeypatch.setenv("ALNAIR_MANAGER_USERNAME", ALICE)
    monkeypatch.setenv("ALNAIR_MANAGER_PASSWORD", PASSWORD)
    manager.connect(s3_auth)
    before = alnair.stats()["spill_hits"]
    dataset = alnair.AlnairJobDataset(source="s3://pets", manager=manager.url, lazyloading=False)
    assert [bytes(dataset[i][0]) for i in range(len(dataset))] == [content_of(key) for key in KEYS]
    assert alnair.stats()["spill_hits"] - before == len(KEYS)
    other = alnair.AlnairJobDataset(source="s3://pets", manager=manager.url, chunk_size=4096, memory_dir=str(tmp_path / "other"))
    assert bytes(other[0][0]) == content_of(KEYS[0]), "chunks of another size are not those of the manager"


def test_hashes_come_in_pages_and_to_their_owner_only(tmp_path, start_manager, s3_server, s3_auth):
    (tmp_path / "backup").mkdir()
    manager = start_manager(backup_dir=tmp_path / "backup")
    manager.add_client("bob", "a-password-of-bob")
    token = manager.connect(s3_auth)
    job = manager.call("POST", "/v1/jobs", {"name": "j", "datasource": {"bucket": "pets"}, **NOW}, token).json
    ready(manager, job)
    path = f"/v1/jobs/{job['id']}/hashes"
    whole = manager.call("GET", path, token=token).body
    assert len(whole) == 32 * len(KEYS) and b"\0" * 32 not in whole
    assert manager.call("GET", path + f"?from={len(KEYS) - 1}", token=token).body == whole[-32:]
    assert manager.call("GET", path + f"?from={len(KEYS)}", token=token).body == b""
    assert manager.call("GET", path + "?from=-1", token=token).problem == "invalid-field"
    bob = manager.connect(s3_auth, "bob", "a-password-of-bob")
    assert manager.call("GET", path, token=bob).problem == "unknown-job"


# A proxy in front of Redis.


@contextlib.contextmanager
def forwarder(target):
    """A proxy that passes bytes on, as HAProxy does: users are the server's. Its port, and how many connections it has had."""
    listener = socket.create_server(("127.0.0.1", 0))
    counted = []

    def pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                counted.append(1)
                upstream = socket.create_connection(("127.0.0.1", target))
                for ends in ((client, upstream), (upstream, client)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1], counted
    listener.close()


@contextlib.contextmanager
def nutcracker(directory, server, password):
    """twemproxy, which has one password for all, and no users."""
    if shutil.which("nutcracker", path=os.environ["PATH"] + ":/usr/sbin") is None:
        pytest.skip("nutcracker is not installed (cmake/install-dependencies test)")
    port = server_port()
    (directory / "proxy.yml").write_text(
        f"pool:\n  listen: 127.0.0.1:{port}\n  redis: true\n  redis_auth: {password}\n  hash: fnv1a_64\n  distribution: ketama\n"
        f"  timeout: 5000\n  servers:\n   - 127.0.0.1:{server.port}:1\n"
    )
    command = ["nutcracker", "-c", directory / "proxy.yml", "-a", "127.0.0.1", "-s", str(server_port()), "-p", directory / "pid"]
    environment = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
    try:
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "nutcracker")
        yield port
    finally:
        process.kill()
        process.wait()


def test_a_job_trains_through_a_proxy_that_passes_users_on(start_manager, pod_of, server):
    with forwarder(server.port) as (port, connections):
        manager = start_manager(redis_url=server.url, enable_proxy="true", redis_proxy_host="127.0.0.1", redis_proxy_port=port)
        pod = pod_of(manager)
        pod.add_job("resnet", LazyLoading=False)
        pod.start_daemon()
        assert pod.wait_ready().returncode == 0
        url = pod.shared()["redis"]
        assert f"@127.0.0.1:{port}" in url and "mode=proxy" in url and not connections, "the manager goes to the server itself"
        assert user_of(url)[0] == "alnair-job-" + pod.shared()["id"]
        stats = trained(pod.run_script(SCRIPT))
        assert stats["redis_hits"] == len(TRAIN) and stats["s3_get_object"] == 0, stats
        assert connections


def test_a_job_trains_through_twemproxy_with_the_shared_user(tmp_path, start_manager, pod_of):
    with RedisServer() as server, nutcracker(tmp_path, server, "of-all-jobs") as port:
        server.command("CONFIG", "SET", "requirepass", "of-all-jobs")
        url = server.url.replace("redis://", "redis://:of-all-jobs@")
        manager = start_manager(redis_url=url, redis_shared_url=url, enable_proxy="true", redis_proxy_host="127.0.0.1",
                                redis_proxy_port=port)  # fmt: skip
        pod = pod_of(manager)
        pod.add_job("resnet", LazyLoading=False)
        pod.start_daemon()
        assert pod.wait_ready().returncode == 0
        assert f"@127.0.0.1:{port}" in pod.shared()["redis"]
        stats = trained(pod.run_script(SCRIPT))
        assert stats["redis_hits"] == len(TRAIN) and stats["s3_get_object"] == 0, stats


# A single pass.


def test_a_single_pass_does_not_displace_what_live_jobs_have(tmp_path, start_manager, pod_of, s3_server, s3_auth):
    large = s3_server.root / "large"
    large.mkdir()
    for number in range(40):
        (large / f"{number:02}").write_bytes(os.urandom(1 << 20))
    # Any write of the large dataset would evict, at random.
    with RedisServer("--maxmemory", "24mb", "--maxmemory-policy", "allkeys-random") as server:
        manager = start_manager(redis_url=server.url)
        live = manager.call("POST", "/v1/jobs", {"name": "live", "datasource": {"bucket": "pets"}, **NOW}, manager.connect(s3_auth)).json
        ready(manager, live)
        chunks = sorted(server.command("KEYS", "alnair:*" + "?" * 64))
        assert len(chunks) == len(KEYS)
        pod = pod_of(manager)
        script = "import json, alnair, AlnairJob\ndataset = AlnairJob.AlnairJobDataset()\n" \
                 "print(json.dumps([sum(len(dataset[i][0]) for i in range(len(dataset))), alnair.stats()]))"  # fmt: skip
        for name, bucket, keys, total in (("resnet", "large", [], 40 << 20), ("cached", "pets", ["train"], BYTES)):
            pod.add_job(name, bucket=bucket, keys=keys, single_pass=True)
            if pod.daemon is None:
                pod.start_daemon()
            assert pod.wait_ready(name).returncode == 0
            ran = pod.run_script(script, JOBNAME=name, ALNAIR_CACHE_DIR=str(tmp_path / name), ALNAIR_MEMORY_DIR=str(tmp_path / name / "m"))
            assert ran.returncode == 0, ran.stderr
            read, stats = json.loads(ran.stdout)
            assert read == total and "NOPERM" not in ran.stderr
            assert not list((tmp_path / name).rglob("*.segment")), "the node's own directory"
            assert sorted(server.command("KEYS", "alnair:*" + "?" * 64)) == chunks
            if bucket == "pets":
                assert stats["redis_hits"] == len(TRAIN) and stats["s3_get_object"] == 0, "it reads what the cache has"
        assert server.command("INFO", "stats").count(b"evicted_keys:0") == 1




# What scripts tell.


def test_what_scripts_read_reaches_the_manager_by_way_of_the_daemon(start_manager, pod_of, server):
    manager = start_manager(redis_url=server.url)
    pod = pod_of(manager)
    pod.start_daemon()  # a lazy job: the script fills the cache
    assert pod.wait_ready().returncode == 0
    for _ in range(2):
        trained(pod.run_script(SCRIPT))
    told = wait_for(lambda: (report := pod.jobs()[0]["report"]).get("counters", {}).get("reads") == 2 * len(TRAIN) and report["counters"], "counters")
    assert told["source_hits"] == len(TRAIN)

    def dataset():
        [found] = manager.call("GET", "/v1/datasets", token=manager.admin).json["datasets"]
        return found

    found = wait_for(lambda: (found := dataset())["cached"] and found["cached"]["bytes"] == BYTES and found, "a look at the cache")
    assert found["cached"]["redis_bytes"] == BYTES and found["cached"]["percent"] == 100
    assert found["use"]["reads"] == 2 * len(TRAIN) and found["use"]["hits"]["source"] == len(TRAIN)
    assert "alnair_manager_unflushed_seconds 0.0\n" in manager.call("GET", "/metrics").body.decode()
    time.sleep(1.5)  # it is kept once a second
    manager.kill()
    manager.start()
    assert dataset()["use"] == found["use"] and dataset()["cached"]["bytes"] == BYTES
    pod.daemon.send_signal(signal.SIGTERM)


def test_how_full_nodes_are_reaches_the_manager(start_manager, pod_of, server):
    manager = start_manager(redis_url=server.url)
    pod = pod_of(manager)
    pod.start_daemon("--node", "gpu-7")
    assert pod.wait_ready().returncode == 0
    overview = lambda: manager.call("GET", "/v1/overview", token=manager.admin).json  # noqa: E731
    [node] = overview()["nodes"]["shown"]
    assert (node["name"], node["health"], node["memory"], node["disk"]) == ("gpu-7", "ok", None, None), "no script has told"
    trained(pod.run_script(SCRIPT, ALNAIR_MEMORY_LIMIT="64 MiB", ALNAIR_DISK_LIMIT="128 MiB"))
    [node] = wait_for(lambda: (nodes := overview()["nodes"]["shown"])[0]["memory"] and nodes, "what the script has told")
    assert node["memory"]["limit_bytes"] == 64 << 20 and BYTES < node["memory"]["used_bytes"] <= 64 << 20
    assert node["disk"]["limit_bytes"] == 128 << 20
    found = overview()
    tiers = {tier["name"]: tier for tier in found["tiers"]}
    assert tiers["node memory"]["used_bytes"] == node["memory"]["used_bytes"] and tiers["node directory"]["limit_bytes"] == 128 << 20
    assert tiers["Redis"]["used_bytes"] > 0
    [redis] = found["redis_servers"]["shown"]
    assert redis["health"] == "ok" and redis["name"].endswith(f":{server.port}") and redis["used_bytes"] > 0
    metrics = manager.call("GET", "/metrics").body.decode()
    for line in (f'tier_used_bytes{{tier="memory"}} {node["memory"]["used_bytes"]}', f'tier_limit_bytes{{tier="disk"}} {128 << 20}',
                 'redis_servers{health="ok"} 1', 'redis_servers{health="failing"} 0'):  # fmt: skip
        assert f"alnair_manager_{line}\n" in metrics, line
    assert "gpu-7" not in metrics, "a label a node would be without bound"
    status = manager.call("GET", "/v1/status", token=manager.admin).json["tiers"]
    assert status["memory"] == node["memory"] and status["disk"] == node["disk"]
    server.kill()
    [redis] = wait_for(lambda: (servers := overview()["redis_servers"]["shown"]) and servers[0]["failure"] and servers, "Redis to be missed")
    assert redis["health"] == "failing" and str(server.port) in redis["failure"]


# What jobs are told.


def test_jobs_follow_the_managers_flush_policy_unless_they_name_one(start_manager, pod_of, server):
    manager = start_manager(redis_url=server.url, flush_policy="next_use")
    pod = pod_of(manager)
    pod.start_daemon()
    assert pod.wait_ready().returncode == 0 and pod.shared()["flush_policy"] == "next_use"
    show = "from AlnairJob import AlnairJobDataset\nd = AlnairJobDataset()\nprint(d._alnair.source.config.flush_policy)"
    assert pod.run_script(show).stdout.split() == ["next_use"]
    assert pod.run_script(show, ALNAIR_FLUSH_POLICY="frequency").stdout.split() == ["frequency"]


# A share file that the script's user cannot read.


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", ["file", "folder"])
def test_a_share_file_that_cannot_be_read_names_both_users(closed):
    nobody = 65534
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "share").mkdir()
        path = directory / "share" / "resnet.json"
        path.write_text("{}")
        path.chmod(0o600 if closed == "file" else 0o644)
        directory.chmod(0o755)
        (directory / "share").chmod(0o755 if closed == "file" else 0o700)
        shutil.copy(manager_process.binary(), directory / "alnair-manager")
        asked = subprocess.run([directory / "alnair-manager", "client", "--wait-ready", "resnet"], user=nobody, capture_output=True,
                               text=True, env={"ALNAIR_SHARE_DIR": str(directory / "share"), "ALNAIR_WAIT": "1"}, timeout=60)  # fmt: skip
        assert asked.returncode == 1 and f"cannot be read by user {nobody}" in asked.stderr, asked.stderr
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            os.setuid(nobody)
            try:
                alnair._manager._read_share(str(path))
            except alnair.ConfigError as error:
                os.write(write, str(error).encode())
            os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
        with os.fdopen(read) as told:
            message = told.read()
        assert f"{path}: belongs to user 0 and cannot be read by user {nobody}" in message, message


# Client certificates, of the daemon and of scripts.


def test_the_daemon_and_scripts_show_their_certificates(tmp_path, start_manager, pod_of):
    authority = Authority(tmp_path, "authority")
    (certificate, key), client = authority.sign("server"), authority.sign("client")
    manager = start_manager(trust=(authority.certificate, client), tls_certificate=certificate, tls_key=key,
                            tls_client_ca=authority.certificate)  # fmt: skip
    pod = pod_of(manager)
    secret = pod.directory / "secret" / "client.conf"
    secret.write_text(secret.read_text() + f"tls_ca = {authority.certificate}\n")
    pod.start_daemon()
    wait_for(lambda: "client-certificate" in pod.shared().get("detail", "") or "certificate" in pod.shared().get("detail", ""), "a refusal")
    pod.daemon.kill()
    pod.daemon.wait()
    secret.write_text(secret.read_text() + f"tls_cert = {client[0]}\ntls_key = {client[1]}\n")
    pod.start_daemon()
    assert pod.wait_ready().returncode == 0, pod.shared()
    assert trained(pod.run_script(SCRIPT))["s3_list_objects"] == 0
    pod.stop_daemon()
    shutil.rmtree(pod.directory / "share")
    assert trained(pod.run_script(SCRIPT))["s3_list_objects"] == 0, "a script of its own, likewise"
