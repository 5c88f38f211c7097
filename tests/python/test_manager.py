"""The manager's server: real processes, a real S3 server, requests from outside."""

import json
import os
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import time

import manager_process
import pytest
from conftest import KEYS, SECRET_KEY, content_of
from manager_process import ALICE, PASSWORD, ManagerProcess, wait_for


def run(*arguments, **environment):
    return subprocess.run(
        [manager_process.binary(), *arguments], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


def test_a_job_is_registered_kept_alive_and_deregistered(manager, s3_auth):
    token = manager.connect(s3_auth)
    job = manager.register(token, keys=["train/"])
    assert job["state"] in ("listing", "ready") and job["token_life_s"] == 600
    ready = manager.ended(job)
    assert ready["state"] == "ready", ready
    train = [key for key in KEYS if key.startswith("train/")]
    assert ready["progress"]["objects"] == len(train)
    assert ready["progress"]["bytes"] == sum(len(content_of(key)) for key in train)
    assert "token" not in ready
    assert job["cache"]["domain"] == ready["cache"]["domain"]

    manifest = manager.call("GET", f"/v1/jobs/{job['id']}/manifest", token=job["token"])
    assert manifest.status == 200 and manifest.headers["Content-Type"] == "application/octet-stream" and len(manifest.body) > 40

    beat = manager.call("POST", f"/v1/jobs/{job['id']}/heartbeat", {"report": {"epoch": 3}}, job["token"])
    assert beat.json["state"] == "ready" and beat.json["version"] == ready["version"]
    [listed] = manager.call("GET", "/v1/jobs", token=token).json["jobs"]
    assert listed["id"] == job["id"] and listed["report"] == {"epoch": 3}
    [dataset] = manager.call("GET", "/v1/datasets", token=token).json["datasets"]
    assert dataset["objects"] == len(train) and dataset["jobs"] == [job["id"]]

    assert manager.call("DELETE", f"/v1/jobs/{job['id']}", token=job["token"]).status == 204
    assert manager.call("GET", f"/v1/jobs/{job['id']}", token=token).problem == "unknown-job"
    assert manager.call("GET", "/v1/jobs", token=job["token"]).problem == "invalid-token"
    assert manager.call("POST", "/v1/disconnect", {}, token).status == 204
    assert manager.call("GET", "/v1/jobs", token=token).problem == "invalid-token"


def test_what_s3_refuses_is_named(manager, s3_auth):
    token = manager.connect(s3_auth)
    failed = manager.ended(manager.register(token, bucket="no-such-bucket"))
    assert failed["state"] == "failed" and "no-such-bucket" in failed["failure"]
    token = manager.connect({**s3_auth, "secret_access_key": "wrong-secret-of-alice"})
    failed = manager.ended(manager.register(token))
    assert failed["state"] == "failed" and "pets" in failed["failure"] and "wrong-secret" not in failed["failure"]
    assert manager.call("GET", f"/v1/jobs/{failed['id']}/manifest", token=token).problem == "not-ready"


def test_a_client_sees_only_what_is_its_own(manager, s3_auth):
    alice = manager.connect(s3_auth)
    job = manager.register(alice)
    ready = manager.ended(job)
    manager.add_client("bob", "a-password-of-bob")
    bob = manager.connect(s3_auth, "bob", "a-password-of-bob")
    for method, path in (
        ("GET", ""), ("GET", "/manifest"), ("POST", "/heartbeat"), ("DELETE", ""),
    ):  # fmt: skip
        answer = manager.call(method, f"/v1/jobs/{job['id']}{path}", token=bob)
        assert answer.status == 404 and answer.problem == "unknown-job", (method, path)
    assert manager.call("GET", f"/v1/datasets/{ready['dataset']}", token=bob).problem == "unknown-dataset"
    assert manager.call("DELETE", f"/v1/datasets/{ready['dataset']}", token=bob).problem == "unknown-dataset"
    assert manager.call("POST", f"/v1/datasets/{ready['dataset']}/pin", {"minutes": 5}, bob).problem == "unknown-dataset"
    assert manager.call("GET", "/v1/jobs", token=bob).json == {"jobs": []}
    assert manager.call("GET", "/v1/datasets", token=bob).json == {"datasets": []}
    for path in ("/v1/clients", "/v1/config", "/v1/status"):
        assert manager.call("GET", path, token=bob).problem == "administrators-only"
        assert manager.call("GET", path, token=manager.admin).status == 200
    # A job's token is for that job.
    other = manager.register(alice, name="other")
    assert manager.call("GET", f"/v1/jobs/{other['id']}", token=job["token"]).problem == "unknown-job"
    another = {"name": "x", "datasource": {"bucket": "b"}}
    assert manager.call("POST", "/v1/jobs", another, job["token"]).problem == "sessions-only"
    assert len(manager.call("GET", "/v1/jobs", token=manager.admin).json["jobs"]) == 2


BAD_BODIES = [
    (b"{", "malformed-json"),
    (b"\xff\xfe", "malformed-json"),
    (b"[" * 100_000, "malformed-json"),
    (b'{"name": 1e999}', "malformed-json"),
    (b"[]", "invalid-field"),
    (b'{"name": 5}', "invalid-field"),
    (b'{"name": "a\\u0000b", "datasource": {"bucket": "b"}}', "invalid-field"),
    (b'{"name": "a\\nb", "datasource": {"bucket": "b"}}', "invalid-field"),
    (b'{"name": "a", "datasource": {"bucket": "b/c"}}', "invalid-field"),
    (b'{"name": "a"}', "missing-field"),
    (b'{"name": "a", "datasource": {"bucket": "b"}, "colour": 1}', "unknown-field"),
    (b'{"name": "a", "datasource": {"bucket": "b"}, "qos": {"maxmemory": -1}}', "invalid-field"),
    (b'{"name": "a", "datasource": {"bucket": "b"}, "qos": {"usecache": "yes"}}', "invalid-field"),
    (b'{"x": "' + b"y" * (1 << 20) + b'"}', "body-too-large"),
]


def test_bad_bodies_are_problems(manager, s3_auth):
    token = manager.connect(s3_auth)
    for raw, problem in BAD_BODIES:
        answer = manager.call("POST", "/v1/jobs", raw=raw, token=token)
        assert 400 <= answer.status < 500 and answer.problem == problem, raw[:60]
    assert manager.call("GET", "/v1/jobs", token=token).json == {"jobs": []}


def test_whole_numbers_may_have_a_point_and_null_is_as_if_absent(manager, s3_auth):
    token = manager.connect(s3_auth)
    dataset = manager.ended(manager.register(token))["dataset"]
    pin = lambda minutes: manager.call("POST", f"/v1/datasets/{dataset}/pin", {"minutes": minutes}, token)  # noqa: E731
    assert pin(5).status == pin(5.0).status == 200
    for wrong in (5.5, -1.0, 1e300, True, "5"):
        assert (pin(wrong).status, pin(wrong).problem) == (422, "invalid-field"), wrong
    assert pin(None).problem == "missing-field"
    assert manager.call("POST", "/v1/clients", {"name": "bob", "password": "a-password-of-bob", "domain": None}, manager.admin).status == 201
    nothing = {"password": None, "enabled": None, "quota": None}
    assert manager.call("POST", "/v1/clients/bob", nothing, manager.admin).status == 204
    nulls = {name: None for name in ("node", "qos", "single_pass", "resources", "again")}
    assert manager.call("POST", "/v1/jobs", {"name": "j", "datasource": {"bucket": "pets", "keys": None}, **nulls}, token).status == 202


@pytest.mark.parametrize(
    "change, detail",
    [
        ({"name": "a\u009b2Jb"}, "name: expected a text without control characters"),
        ({"datasource": {"bucket": "pets", "endpoint_url": "ftp://x"}}, "datasource.endpoint_url 'ftp://x' is no endpoint"),
        ({"datasource": {"bucket": "pets", "endpoint_url": "http://u:sesame@x"}}, "contains an '@'"),
        ({"datasource": {"bucket": "pets", "region": "a b/.."}}, "datasource.region: expected the name of a region"),
    ],
)
def test_what_can_never_be_read_is_refused_at_once(manager, s3_auth, change, detail):
    answer = manager.call("POST", "/v1/jobs", {"name": "x", "datasource": {"bucket": "pets"}, **change}, manager.connect(s3_auth))
    assert (answer.status, answer.problem) == (422, "invalid-field") and detail in answer.json["detail"], answer.json
    assert "sesame" not in answer.json["detail"]


def test_misspelt_parameters_do_nothing_else(manager, s3_auth):
    job = manager.register(manager.connect(s3_auth))
    manager.ended(job)
    answer = manager.call("DELETE", f"/v1/jobs/{job['id']}?delete_datset=true", token=job["token"])
    assert (answer.status, answer.problem) == (422, "unknown-field") and "did you mean delete_dataset?" in answer.json["detail"]
    assert manager.call("GET", f"/v1/jobs/{job['id']}", token=job["token"]).status == 200
    answer = manager.call("POST", f"/v1/datasets/{manager.ended(job)['dataset']}/cancel", {"now": True}, manager.admin)
    assert answer.problem == "unknown-field"
    assert manager.call("GET", "/healthz?verbose=1").status == 200


def test_bad_requests_are_problems(manager):
    for method, path, token, status, problem in (
        ("GET", "/v1/nothing", None, 404, "unknown-path"),
        ("GET", "/v1/../etc/passwd", None, 400, "malformed-target"),
        ("GET", "/v1/%2e%2e/x", None, 400, "malformed-target"),
        ("GET", "/v1/jobs/%00", None, 400, "malformed-target"),
        ("PUT", "/v1/jobs", None, 405, "unknown-method"),
        ("GET", "/v1/jobs", None, 401, "no-token"),
        ("GET", "/v1/jobs", "forged" * 10, 401, "invalid-token"),
        ("POST", "/v1/jobs", manager.admin, 403, "clients-only"),
        ("GET", "/v1/jobs/none", manager.admin, 404, "unknown-job"),
    ):
        answer = manager.call(method, path, token=token)
        assert (answer.status, answer.problem) == (status, problem), path
    answer = manager.call("POST", "/v1/connect", {"name": ALICE, "password": "wrong"})
    assert (answer.status, answer.problem) == (401, "wrong-password")


def test_nothing_acknowledged_is_lost_by_a_kill(manager, s3_auth):
    token = manager.connect(s3_auth)
    jobs = []
    for round_number in range(3):
        jobs.append(manager.register(token, name=f"job{round_number}"))
        manager.kill()
        manager.start()
    for job in jobs:
        assert manager.ended(job)["state"] == "ready"
        assert manager.call("POST", f"/v1/jobs/{job['id']}/heartbeat", {}, job["token"]).status == 200
    manager.call("DELETE", f"/v1/jobs/{jobs[0]['id']}", token=token)
    manager.kill()
    manager.start()
    assert {job["id"] for job in manager.call("GET", "/v1/jobs", token=token).json["jobs"]} == {job["id"] for job in jobs[1:]}


def test_sigterm_ends_it_within_its_deadline(manager, s3_auth):
    manager.register(manager.connect(s3_auth))
    with socket.create_connection(("127.0.0.1", int(manager.url.rpartition(":")[2]))) as idle:
        idle.sendall(b"GET /healthz HT")  # half a request holds nothing up
        assert manager.stop() == 0
    manager.start()


def test_jobs_without_heartbeats_end(tmp_path, s3_auth):
    manager = ManagerProcess(tmp_path / "state", token_life=1, grace=0)
    try:
        manager.add_client()
        job = manager.register(manager.connect(s3_auth))
        wait_for(lambda: manager.call("GET", f"/v1/jobs/{job['id']}", token=manager.admin).status == 404, "the job's end")
        assert manager.call("GET", f"/v1/jobs/{job['id']}", token=job["token"]).problem == "invalid-token"
    finally:
        manager.kill()


def test_clients_are_made_on_first_sight_only_where_that_is_allowed(tmp_path, manager):
    assert manager.call("POST", "/v1/connect", {"name": "new", "password": "long enough"}).problem == "wrong-password"
    open_manager = ManagerProcess(tmp_path / "open", create_clients="true")
    try:
        assert open_manager.call("POST", "/v1/connect", {"name": "new", "password": "long enough"}).status == 200
        assert open_manager.call("POST", "/v1/connect", {"name": "new", "password": "another"}).problem == "wrong-password"
    finally:
        open_manager.kill()


def test_a_client_made_on_first_sight_needs_a_password_of_some_length(tmp_path):
    manager = ManagerProcess(tmp_path / "open", create_clients="true")
    try:
        short = manager.call("POST", "/v1/connect", {"name": "eve", "password": "1234567"})
        assert (short.status, short.problem) == (422, "invalid-field") and "at least 8 characters" in short.json["detail"]
        assert manager.call("GET", "/v1/clients", token=manager.admin).json == {"clients": []}
        assert manager.call("POST", "/v1/connect", {"name": "eve", "password": "12345678"}).status == 200
    finally:
        manager.kill()


def test_health_and_metrics(manager, s3_auth):
    assert manager.call("GET", "/healthz").json == {"status": "ok"}
    assert manager.call("GET", "/readyz").json == {"status": "ready"}
    manager.ended(manager.register(manager.connect(s3_auth)))
    text = manager.call("GET", "/metrics").body.decode()
    assert 'alnair_manager_jobs{state="ready"} 1' in text
    assert 'alnair_manager_http_requests_total{route="POST /v1/jobs",code="2xx"} 1' in text
    assert re.search(r"^alnair_s3_list_objects_total [1-9]", text, re.MULTILINE)
    for line in text.splitlines():
        assert line.startswith("# ") or re.fullmatch(r'[a-z_0-9]+({[a-z]+="[^"]*"(,[a-z]+="[^"]*")*})? [0-9.e+-]+', line), line


def test_secrets_are_nowhere(manager, s3_auth):
    token = manager.connect(s3_auth)
    job = manager.register(token)
    manager.ended(job)
    answers = b""
    for path in ("/v1/jobs", "/v1/datasets", "/v1/clients", "/v1/config", "/v1/status", "/metrics", f"/v1/jobs/{job['id']}"):
        answers += manager.call("GET", path, token=manager.admin).body
    secrets = [SECRET_KEY.encode(), PASSWORD.encode(), token.encode(), job["token"].encode()]
    places = {"answers": answers, "log": manager.log.read_bytes()}
    places["arguments"] = open(f"/proc/{manager.process.pid}/cmdline", "rb").read()
    for path in manager.directory.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.parent != manager.directory or path.suffix != ".token"
            if path.name != "admin.token":
                places[str(path)] = path.read_bytes()
    for place, content in places.items():
        for secret in [*secrets, manager.admin.encode()]:
            assert secret not in content, place
    assert stat.S_IMODE((manager.directory / "admin.token").stat().st_mode) == 0o600
    assert stat.S_IMODE((manager.directory / "seal.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(manager.directory.stat().st_mode) == 0o700


def test_the_log_is_json_lines_with_request_ids(manager):
    answer = manager.call("GET", "/v1/jobs", token="forged")
    lines = [json.loads(line) for line in manager.log.read_text().splitlines()]
    [line] = [line for line in lines if line.get("request_id") == answer.headers["X-Request-Id"]]
    assert line["level"] == "warning" and "GET /v1/jobs" in line["message"] and line["request_id"] not in line["message"]
    assert "forged" not in line["message"] and any("request_id" not in line for line in lines)


def test_a_port_in_use_is_named(manager, tmp_path):
    port = manager.url.rpartition(":")[2]
    second = run("serve", ALNAIR_MANAGER_PORT=port, ALNAIR_MANAGER_STATE_DIR=str(tmp_path / "second"))
    assert second.returncode == 1 and f"cannot listen on 127.0.0.1 port {port}" in second.stderr


def test_listening_to_everybody_needs_a_word(manager, tmp_path):
    refused = run("serve", ALNAIR_MANAGER_BIND="0.0.0.0", ALNAIR_MANAGER_PORT="0", ALNAIR_MANAGER_STATE_DIR=str(tmp_path / "s"))
    assert refused.returncode == 1 and "in the clear" in refused.stderr and "insecure_bind" in refused.stderr


def test_two_managers_on_one_directory_are_refused(manager):
    second = run("serve", ALNAIR_MANAGER_PORT="0", ALNAIR_MANAGER_STATE_DIR=str(manager.directory))
    assert second.returncode == 1 and "Another manager uses this state directory" in second.stderr


def test_a_secret_that_others_can_read_is_refused(manager):
    manager.kill()
    (manager.directory / "admin.token").chmod(0o644)
    refused = run("serve", ALNAIR_MANAGER_PORT="0", ALNAIR_MANAGER_STATE_DIR=str(manager.directory))
    assert refused.returncode == 1 and "has mode 644; expected 600" in refused.stderr
    (manager.directory / "admin.token").chmod(0o600)
    manager.start()


def test_config_check(manager, tmp_path):
    config = tmp_path / "manager.conf"
    config.write_text("[manager]\nport = 7001\n[limits]\nmax_body = 4096\n")
    assert run("config", "check", "--config", str(config)).returncode == 0
    shown = run("config", "show", "--config", str(config), ALNAIR_MANAGER_SEAL_KEY="a" * 64).stdout
    assert "port = 7001" in shown and "a" * 64 not in shown
    shown = json.loads(run("config", "show", "--config", str(config), "--json", ALNAIR_MANAGER_SEAL_KEY="a" * 64).stdout)
    assert shown["manager"]["port"] == "7001" and shown["manager"]["seal_key"] == "(hidden)"
    assert json.loads(run("config", "check", "--config", str(config), "--json").stdout) == {}
    config.write_text("[manager]\nflush_frequency = 5\nflush_amount = 2 GiB\n")
    assert "flush_frequency = 5\nflush_amount = 2147483648\n" in run("config", "show", "--config", str(config)).stdout
    config.write_text("[manager]\ntoken_live = 5\n")
    wrong = run("config", "check", "--config", str(config))
    assert wrong.returncode == 1 and "line 2, token_live: unknown key in [manager]; did you mean token_life?" in wrong.stderr


def test_unknown_commands_and_options_suggest_near_ones(manager):
    wrong = run("sreve")
    assert wrong.returncode == 2 and 'did you mean serve?' in wrong.stderr
    wrong = run("serve", "--confg", "x")
    assert wrong.returncode == 2 and "did you mean --config?" in wrong.stderr
    assert "alnair-manager serve" in run("--help").stdout
    assert run("--version").stdout == run("version").stdout
    commands = ("serve", "client", "config", "status", "jobs", "datasets", "clients", "register", "deregister", "pin", "forget", "warm",
                "check", "evict", "cancel", "gc", "user", "token", "reseal")  # fmt: skip
    for command in commands:
        of_it = run(command, "--help")
        assert of_it.returncode == 0 and command in of_it.stdout and of_it.stdout.count("\n") < 9, of_it.stdout + of_it.stderr
    assert "config check" not in run("check", "-h").stdout and "--rate" in run("warm", "x", "--help").stdout


def test_a_wrong_administrators_token_says_where_it_is_from(manager):
    wrong = run("status", "--manager", manager.url, ALNAIR_MANAGER_ADMIN_TOKEN="wrong")
    assert wrong.returncode == 1 and "is that manager's the token of ALNAIR_MANAGER_ADMIN_TOKEN" in wrong.stderr
    wrong = run("status", "--manager", manager.url, ALNAIR_MANAGER_ADMIN_TOKEN="a\nb")
    assert wrong.returncode == 1 and "ALNAIR_MANAGER_ADMIN_TOKEN: expected a token without spaces" in wrong.stderr


def test_a_quota_that_is_left_out_stays(manager):
    assert admin(manager, "user", "quota", "alice", "--cached-bytes", "5000").returncode == 0
    assert admin(manager, "user", "quota", "alice", "--s3-requests", "7").returncode == 0
    [alice] = manager.call("GET", "/v1/clients", token=manager.admin).json["clients"]
    assert alice["quota"] == {"cached_bytes": 5000, "s3_requests_per_second": 7}
    nothing = admin(manager, "user", "quota", "alice")
    assert nothing.returncode == 2 and "expected --cached-bytes N, --s3-requests N, or both" in nothing.stderr


def admin(manager, *arguments, **options):
    return subprocess.run(
        [manager_process.binary(), *arguments, "--manager", manager.url],
        env=manager.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def test_the_administrators_commands(manager, s3_auth, tmp_path):
    assert admin(manager, "user", "add", "bob", input="a-password-of-bob\n").returncode == 0
    bob = manager.connect(s3_auth, "bob", "a-password-of-bob")
    job = manager.register(bob)
    ready = manager.ended(job)
    table = admin(manager, "jobs").stdout.splitlines()
    assert table[0].split()[:5] == ["ID", "NAME", "CLIENT", "NODE", "STATE"] and table[1].startswith(job["id"])
    assert [entry["id"] for entry in json.loads(admin(manager, "jobs", "--json").stdout)["jobs"]] == [job["id"]]
    assert "bob" in admin(manager, "clients").stdout and ready["dataset"] in admin(manager, "datasets").stdout
    assert re.search(r"^jobs ready +1$", admin(manager, "status").stdout, re.MULTILINE)
    assert admin(manager, "pin", ready["dataset"], "60").returncode == 0
    assert manager.call("GET", f"/v1/datasets/{ready['dataset']}", token=bob).json["pinned_until_ms"] > 0
    assert admin(manager, "deregister", job["id"]).returncode == 0
    unknown = admin(manager, "deregister", job["id"])
    assert unknown.returncode == 1 and "there is no job" in unknown.stderr
    assert admin(manager, "forget", ready["dataset"]).returncode == 0
    assert admin(manager, "user", "disable", "bob").returncode == 0
    assert manager.call("GET", "/v1/jobs", token=bob).problem == "invalid-token"
    assert admin(manager, "user", "remove", "bob").returncode == 0
    assert admin(manager, "token").stdout.strip() == manager.admin
    short = admin(manager, "user", "add", "carol", input="short\n")
    assert short.returncode == 1 and "at least 8 characters" in short.stderr


def test_every_command_speaks_json(manager, s3_auth):
    job = manager.ended(manager.register(manager.connect(s3_auth)))
    dataset = job["dataset"]

    def told(*arguments, status=0, **options):
        done = admin(manager, *arguments, "--json", **options)
        assert done.returncode == status, (arguments, done.stderr)
        return json.loads(done.stdout) if status == 0 else done.stderr

    assert told("status")["jobs"]["ready"] == 1 and told("jobs")["jobs"][0]["id"] == job["id"]
    assert told("datasets")["datasets"][0]["id"] == dataset and told("clients")["clients"][0]["name"] == "alice"
    assert told("pin", dataset, "5")["pinned_until_ms"] > 0 and told("pin", dataset, "0")["pinned_until_ms"] == 0
    for work in ("warm", "check", "evict"):
        refused = told(work, dataset, status=1)
        assert ("no cache" in refused) == (work != "evict"), refused  # an eviction: a job uses it
    assert told("cancel", dataset) == {} and told("gc") == {"datasets": []}
    assert told("user", "add", "bob", input="a-password-of-bob\n") == {"name": "bob"}
    assert told("user", "password", "bob", input="another-password\n") == {} and told("user", "disable", "bob") == {}
    assert told("user", "quota", "bob", "--cached-bytes", "5") == {} and told("user", "remove", "bob") == {}
    assert told("token") == {"token": manager.admin}
    assert told("deregister", job["id"]) == {} and told("forget", dataset) == {}
    assert "there is no dataset" in told("pin", "../jobs", "5", status=1), "what is no id is no path"


def test_register_lists_a_dataset_without_staying(manager, s3_auth, tmp_path):
    (tmp_path / "client.conf").write_text(
        f"[aws_s3]\naws_access_key_id = {s3_auth['access_key_id']}\naws_secret_access_key = {s3_auth['secret_access_key']}\n"
        f"endpoint_url = {s3_auth['endpoint_url']}\nregion_name = us-east-1\n[alnair_manager]\nserver_address = 127.0.0.1\n"
        f"server_port = {manager.url.rpartition(':')[2]}\nusername = {ALICE}\npassword = {PASSWORD}\n"
    )
    (tmp_path / "pets.json").write_text(json.dumps({"datasource": {"bucket": "pets"}}))
    done = run("register", str(tmp_path / "pets.json"), "--secret", str(tmp_path / "client.conf"), "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["objects"] == len(KEYS), done.stderr
    done = run("register", str(tmp_path / "pets.json"), "--secret", str(tmp_path / "client.conf"))
    assert done.returncode == 0 and re.search(r"^state +ready$", done.stdout, re.MULTILINE), done.stderr
    assert manager.call("GET", "/v1/jobs", token=manager.admin).json["jobs"] == []
    assert len(manager.call("GET", "/v1/datasets", token=manager.admin).json["datasets"]) == 1


def test_s3_secrets_are_sealed_again_under_a_new_key(manager, s3_auth, tmp_path):
    manager.connect(s3_auth)
    refused = admin(manager, "reseal", "--new-key-file", str(tmp_path / "new.key"))
    assert refused.returncode == 1 and "Another manager uses" in refused.stderr
    manager.stop()
    done = admin(manager, "reseal", "--new-key-file", str(tmp_path / "new.key"))
    assert done.returncode == 0 and "S3 credentials of 1 clients" in done.stdout, done.stderr
    manager.settings["seal_key_file"] = tmp_path / "new.key"
    manager.start()
    assert manager.ended(manager.register(manager.connect()))["state"] == "ready"


def test_wrong_passwords_are_slowed(manager):
    statuses = [manager.call("POST", "/v1/connect", {"name": ALICE, "password": f"wrong {n}"}) for n in range(8)]
    slowed = statuses[-1]
    assert statuses[0].problem == "wrong-password"
    assert slowed.problem == "too-many-failures" and int(slowed.headers["Retry-After"]) >= 1


def test_records_that_another_process_locks_are_a_503(manager):
    with sqlite3.connect(manager.directory / "records.sqlite", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = manager.call("POST", "/v1/clients", {"name": "bob", "password": PASSWORD}, manager.admin)
        assert (answer.status, answer.problem) == (503, "catalog-unavailable")
        assert "records.sqlite fails while a client is recorded: database is locked" in answer.json["detail"]
        assert manager.call("GET", "/v1/clients", token=manager.admin).status == 200  # what is known is served
        other.execute("ROLLBACK")
    manager.add_client("bob")


def test_systemd_is_told(manager, tmp_path):
    manager.stop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(manager_process.DEADLINE_S)
        os.environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        try:
            manager.start()
        finally:
            del os.environ["NOTIFY_SOCKET"]
        assert b"READY=1" in notify.recv(1000).splitlines()
        assert manager.stop() == 0
        assert notify.recv(1000) == b"STOPPING=1"
    manager.start()


def test_quotas_are_kept_and_slow_what_is_done_for_a_client(manager, s3_auth):
    quota = {"cached_bytes": 1 << 40, "s3_requests_per_second": 1}
    assert manager.call("POST", f"/v1/clients/{ALICE}", {"quota": quota}, manager.admin).status == 204
    manager.kill()
    manager.start()
    [client] = manager.call("GET", "/v1/clients", token=manager.admin).json["clients"]
    assert client["quota"] == quota
    assert "1.1 TB" in run("clients", "--manager", manager.url, ALNAIR_MANAGER_ADMIN_TOKEN=manager.admin).stdout
    token = manager.connect(s3_auth)
    started = time.monotonic()
    for name in "abc":  # a second's worth goes at once, and each listing is a request or more
        manager.ended(manager.register(token, name=name))
    assert time.monotonic() - started > 1
    changed = run("user", "quota", ALICE, "--s3-requests", "5", "--manager", manager.url, ALNAIR_MANAGER_ADMIN_TOKEN=manager.admin)
    assert changed.returncode == 0, changed.stderr
    [client] = manager.call("GET", "/v1/clients", token=manager.admin).json["clients"]
    assert client["quota"] == {**quota, "s3_requests_per_second": 5}


def test_a_quota_of_cached_bytes_ends_copies(tmp_path, manager, s3_auth):
    manager.stop()
    (tmp_path / "backup").mkdir()
    manager.settings["backup_dir"] = tmp_path / "backup"
    manager.start()

    def limit(cached_bytes):
        quota = {"quota": {"cached_bytes": cached_bytes}}
        assert manager.call("POST", f"/v1/clients/{ALICE}", quota, manager.admin).status == 204

    def copied(dataset):
        found = manager.call("GET", f"/v1/datasets/{dataset}", token=token).json["copy"]
        return found and not found["running"] and found

    limit(5000)
    token = manager.connect(s3_auth)
    pets = manager.ended(manager.register(token))["dataset"]
    assert manager.call("POST", f"/v1/datasets/{pets}/warm", {}, token).status == 202
    copy = wait_for(lambda: copied(pets), "the copy")
    assert copy["full"] and 0 < copy["cached_bytes"] <= 5000 < copy["total_bytes"]
    limit(copy["cached_bytes"])
    others = manager.ended(manager.register(token, name="other", keys=["test/"]))["dataset"]
    answer = manager.call("POST", f"/v1/datasets/{others}/warm", {}, token)
    assert (answer.status, answer.problem) == (429, "quota-exceeded")
    limit(0)
    assert manager.call("POST", f"/v1/datasets/{others}/warm", {}, token).status == 202
    assert not wait_for(lambda: copied(others), "the copy")["full"]


def test_a_backup_made_while_it_runs_restores(manager, s3_auth, tmp_path):
    token = manager.connect(s3_auth)
    job = manager.register(token)
    version = manager.ended(job)["version"]
    with sqlite3.connect(manager.directory / "records.sqlite") as live, sqlite3.connect(tmp_path / "backup") as copy:
        live.backup(copy)
    manager.call("DELETE", f"/v1/jobs/{job['id']}", token=token)
    manager.kill()
    for end in ("", "-wal", "-shm"):
        (manager.directory / f"records.sqlite{end}").unlink(missing_ok=True)
    (tmp_path / "backup").rename(manager.directory / "records.sqlite")
    shutil.rmtree(manager.directory / "catalog")  # can be lost
    manager.start()
    restored = manager.ended(job)
    assert restored["state"] == "ready" and restored["version"] == version
    assert manager.call("GET", f"/v1/jobs/{job['id']}/manifest", token=job["token"]).status == 200
