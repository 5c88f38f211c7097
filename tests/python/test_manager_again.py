"""A registration that is lost and made again, and secrets that change, while scripts of the job go on."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys

from manager_process import ALICE, PASSWORD, die_with_parent, wait_for
from test_manager_cache import as_user, ready, start_manager, user_of, users  # noqa: F401
from test_manager_client import TRAIN
from test_manager_reach import pod_of, server, trained  # noqa: F401


HALVES = """
import hashlib, json, sys, alnair
from AlnairJob import AlnairJobDataset
dataset = AlnairJobDataset()
half = len(dataset) // 2
samples = {}
for part in (range(half), range(half, len(dataset))):
    for i in part:
        samples[dataset.keys[i]] = hashlib.sha256(dataset[i][0]).hexdigest()
    print("half", flush=True)
    sys.stdin.readline()
print(json.dumps({"samples": samples, "stats": alnair.stats()}))
"""


def running_script(pod):
    """A script that has read half of its dataset; finish() lets it read the rest."""
    process = subprocess.Popen([sys.executable, "-c", HALVES], env={**os.environ, "JOBNAME": "resnet"}, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent)  # fmt: skip
    assert process.stdout.readline() == "half\n", process.stderr.read()

    def finish():
        out, err = process.communicate("\n\n", timeout=120)
        return trained(subprocess.CompletedProcess([], process.returncode, out.split("half\n")[-1], err))

    return finish


def warmed_pod(start_manager, pod_of, server, **settings):
    manager = start_manager(redis_url=server.url, **settings)
    pod = pod_of(manager)
    pod.add_job("resnet", LazyLoading=False)
    pod.start_daemon()
    assert pod.wait_ready().returncode == 0
    return manager, pod


def is_let_in(server, user):
    return as_user(server, user, "GET", f"alnair:{ALICE}:x") is None


def test_a_job_that_the_manager_has_lost_keeps_its_user_in_redis(start_manager, pod_of, server):
    manager, pod = warmed_pod(start_manager, pod_of, server)
    first, user = pod.shared(), user_of(pod.shared()["redis"])
    finish = running_script(pod)
    assert manager.call("DELETE", f"/v1/jobs/{first['id']}", token=manager.admin).status == 204
    assert users(server) == [] and not is_let_in(server, user)
    again = wait_for(lambda: pod.shared()["redis"] != first["redis"] and pod.shared()["state"] == "ready" and pod.shared(), "the job")
    assert again["id"] == first["id"] and user_of(again["redis"])[0] == user[0]
    assert is_let_in(server, user) and is_let_in(server, user_of(again["redis"])), "the password of before, and the new one"
    stats = finish()
    assert stats["redis_hits"] == len(TRAIN) and stats["s3_get_object"] == 0, stats
    manager.kill()
    server.command("ACL", "DELUSER", user[0])  # as if it had started again meanwhile
    manager.start()
    wait_for(lambda: is_let_in(server, user), "what the records have of it")


def test_the_password_of_before_ends_after_a_tokens_life_and_scripts_go_on_with_the_new_one(start_manager, pod_of, server):
    manager, pod = warmed_pod(start_manager, pod_of, server, token_life=3)
    first, old = pod.shared(), user_of(pod.shared()["redis"])
    password = pod.directory / "share" / "resnet.password"
    assert password.read_text() == old[1] and stat.S_IMODE(password.stat().st_mode) == 0o600
    finish = running_script(pod)
    manager.call("DELETE", f"/v1/jobs/{first['id']}", token=manager.admin)
    again = wait_for(lambda: pod.shared()["redis"] != first["redis"] and pod.shared()["state"] == "ready" and pod.shared(), "the job")
    new = user_of(again["redis"])
    assert is_let_in(server, new) and password.read_text() == new[1]
    wait_for(lambda: not is_let_in(server, old), "the end of the password of before")
    assert is_let_in(server, new)
    server.command("CLIENT", "KILL", "USER", new[0])  # the script has to connect anew
    stats = finish()
    assert stats["redis_hits"] == len(TRAIN) and stats["s3_get_object"] == 0, stats


IN_A_CHILD = """
import hashlib, json, os, alnair
from AlnairJob import AlnairJobDataset
dataset = AlnairJobDataset()
out, into = os.pipe()
if os.fork() == 0:
    samples = {dataset.keys[i]: hashlib.sha256(dataset[i][0]).hexdigest() for i in range(len(dataset))}
    os.write(into, json.dumps(samples).encode())
    os._exit(0)
os.close(into)
os.wait()
with os.fdopen(out) as told:
    samples = json.loads(told.read())
print(json.dumps({"samples": samples, "stats": alnair.stats()}))
"""


def test_workers_of_a_script_that_registers_itself_find_the_password(start_manager, pod_of, server):
    manager, pod = warmed_pod(start_manager, pod_of, server)
    pod.stop_daemon()
    shutil.rmtree(pod.directory / "share")
    stats = trained(pod.run_script(IN_A_CHILD))
    assert stats["redis_hits"] == len(TRAIN) and stats["s3_get_object"] == 0, stats
    assert pod.jobs() == []


def test_a_daemon_that_was_killed_takes_its_job_up_again(start_manager, pod_of, server):
    manager, pod = warmed_pod(start_manager, pod_of, server)
    first = pod.shared()
    finish = running_script(pod)
    pod.daemon.kill()
    pod.daemon.wait()
    pod.start_daemon()
    again = wait_for(lambda: pod.shared()["redis"] != first["redis"] and pod.shared()["state"] == "ready" and pod.shared(), "the job")
    assert again["id"] == first["id"] and [job["id"] for job in pod.jobs()] == [first["id"]], "and none is left behind"
    for redis in (first["redis"], again["redis"]):
        assert is_let_in(server, user_of(redis))
    stats = finish()
    assert stats["redis_hits"] == len(TRAIN) and stats["s3_get_object"] == 0, stats
    pod.stop_daemon()
    assert users(server) == []


def test_nobody_gets_the_id_of_another_clients_job(start_manager, server, s3_auth):
    manager = start_manager(redis_url=server.url)
    manager.add_client("bob", "a-password-of-bob")
    job = manager.register(manager.connect(s3_auth))
    ready(manager, job)
    bob = manager.connect(s3_auth, "bob", "a-password-of-bob")
    body = {"name": "j", "datasource": {"bucket": "pets"}, "again": {"id": job["id"], "redis_hashes": ["0" * 64]}}
    theirs = manager.call("POST", "/v1/jobs", body, bob).json
    ready(manager, theirs)
    assert theirs["id"] != job["id"] and theirs["cache"]["domain"] == "bob"
    assert manager.call("GET", f"/v1/jobs/{job['id']}", token=job["token"]).json["client"] == ALICE
    assert b"0" * 64 not in json.dumps(server.command("ACL", "LIST"), default=bytes.decode).encode()
    for wrong in ({"id": "../../etc"}, {"id": job["id"], "redis_hashes": ["nopass"]}, {"id": job["id"], "more": 1}, {"redis_hashes": []}, 5):
        assert manager.call("POST", "/v1/jobs", {**body, "again": wrong}, bob).status == 422, wrong


def test_the_daemon_goes_on_with_a_secret_that_has_changed(start_manager, pod_of, server, s3_server):
    manager, pod = warmed_pod(start_manager, pod_of, server)
    first = pod.shared()
    secret, log = pod.directory / "secret" / "client.conf", pod.directory / "daemon.log"
    connects = lambda: int(re.search(r'route="POST /v1/connect",code="2xx"} (\d+)', manager.call("GET", "/metrics").body.decode())[1])  # noqa: E731

    def change(text, where=None):
        fresh = secret.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(where or secret)  # as mounted secrets are replaced

    before, connected = secret.read_text(), connects()
    change("[alnair_manager]\nserver_address = 127.0.0.1\n")
    wait_for(lambda: "has no value for the field server_port" in log.read_text(), "a complaint")
    change(before.replace(PASSWORD, "another-password-of-alice"))
    wait_for(lambda: "goes on with what it had" in log.read_text(), "a refusal that ends no job")
    assert manager.call("POST", f"/v1/clients/{ALICE}", {"password": "another-password-of-alice"}, manager.admin).status == 204
    change(before.replace(PASSWORD, "another-password-of-alice") + "\n")
    wait_for(lambda: connects() == connected + 1, "it to connect with the new password")
    assert pod.shared()["state"] == "ready" and [job["id"] for job in pod.jobs()] == [first["id"]]
    assert pod.shared()["redis"] == first["redis"], "the same registration"
    manager.add_client("bob", "a-password-of-bob")
    change(before.replace(f"username = {ALICE}", "username = bob").replace(PASSWORD, "a-password-of-bob"))
    wait_for(lambda: [job["client"] for job in pod.jobs()] == ["bob"] and pod.shared()["state"] == "ready", "the job of another client")
    assert pod.shared()["domain"] == "bob"
    for word in (PASSWORD, "another-password-of-alice", "a-password-of-bob"):
        assert word not in log.read_text()
