"""Redis as the tier that all nodes share, as a dataset's user sees it, and how its password is kept."""

import ctypes
import json
import logging
import os
import pickle
import re
import shutil
import signal
import subprocess
import time

import alnair
import pytest
from alnair import AlnairJobDataset, AlnairJobDataLoader, _cli, _config, _values
from conftest import KEYS, content_of

EXPECTED = [(content_of(key), key) for key in KEYS]
PASSWORD = "hunter2"


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@pytest.fixture
def redis_url(tmp_path):
    """The URL of a server of the test's own, at a Unix socket, behind a password."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("needs redis-server")
    socket = tmp_path / "redis.sock"
    server = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(tmp_path), "--maxmemory", "64mb",
         "--requirepass", PASSWORD],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=_die_with_parent,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not socket.exists():
        assert server.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    yield f"unix://:{PASSWORD}@{socket}"
    server.kill()
    server.wait()


def node(source, tmp_path, number, **options):
    """A dataset as another node has it: with a catalog, a directory and node memory of its own."""
    return AlnairJobDataset(source=source, cache_dir=tmp_path / f"cache{number}", memory_dir=tmp_path / f"memory{number}", **options)


def gained(before, name):
    return alnair.stats()[name] - before[name]


def test_a_second_node_reads_from_redis_what_the_first_one_fetched(source, folder, tmp_path, redis_url):
    before = alnair.stats()
    first = node(source, tmp_path, 1, redis=redis_url)
    assert list(first) == EXPECTED
    first._alnair.source.core.flush()
    assert gained(before, "redis_puts") == gained(before, "source_hits") == len(KEYS)

    for key in KEYS:  # same size and time, so the same version; but the source is not asked
        path = folder / key
        times = path.stat().st_mtime_ns
        path.write_bytes(b"x" * path.stat().st_size)
        os.utime(path, ns=(times, times))
    before = alnair.stats()
    assert list(node(source, tmp_path, 2, redis=redis_url)) == EXPECTED
    assert (gained(before, "source_hits"), gained(before, "redis_hits")) == (0, len(KEYS))


def test_workers_of_both_kinds_find_it(source, tmp_path, redis_url, monkeypatch):
    monkeypatch.setenv("ALNAIR_REDIS", redis_url)
    first = node(source, tmp_path, 1)
    assert list(first) == EXPECTED
    first._alnair.source.core.flush()
    for method in "fork", "spawn":
        before = alnair.stats()
        dataset = node(source, tmp_path, method, redis=redis_url)
        loader = AlnairJobDataLoader(dataset, num_workers=2, multiprocessing_context=method, collate_fn=list, lookahead=0)
        assert sum(loader, []) == EXPECTED
        assert gained(before, "source_hits") == 0


def test_the_password_is_not_shown_and_not_written_down(source, tmp_path, redis_url, monkeypatch, caplog):
    with caplog.at_level(logging.DEBUG, logger="alnair"):
        dataset = node(source, tmp_path, 1, redis=redis_url)
        assert list(dataset) == EXPECTED
    pickled = pickle.dumps(dataset)
    assert PASSWORD.encode() not in pickled
    assert PASSWORD not in repr(dataset._alnair.source.config) + repr(vars(dataset)) + str(dataset.qos) + caplog.text
    # Who unpickles it elsewhere has the password in the environment, or reads without Redis.
    monkeypatch.setenv("ALNAIR_REDIS", redis_url)
    assert pickle.loads(pickled)._alnair.source.config.redis == redis_url
    monkeypatch.setenv("ALNAIR_REDIS", "redis://:other@elsewhere")
    assert pickle.loads(pickled)._alnair.source.config.redis == redis_url.replace(f":{PASSWORD}@", "")


def test_a_wrong_password_is_an_error_without_it(source, tmp_path, redis_url):
    with pytest.raises(alnair.AccessError) as error:
        node(source, tmp_path, 1, redis=redis_url.replace(PASSWORD, "wrong-secret"))
    assert "wrong-secret" not in str(error.value) and "redis.sock" in str(error.value)


@pytest.mark.parametrize(
    ("maxmemory", "message"),
    [
        ("0", "redis: maxmemory is not set"),
        ("1mb", "redis: maxmemory is 1.0 MiB on 1 server\\(s\\), of which [0-9.]+ MiB are in use: hardly any chunk fits"),
    ],
)
def test_a_maxmemory_that_cannot_be_meant_is_a_warning(source, tmp_path, redis_url, caplog, maxmemory, message):
    subprocess.run(
        ["redis-cli", "-s", redis_url.split("@")[1], "-a", PASSWORD, "config", "set", "maxmemory", maxmemory],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert list(node(source, tmp_path, 1, redis=redis_url)) == EXPECTED
    alnair._core.deliver_log_messages()
    assert re.search(message, caplog.text)


def test_on_every_policy_a_second_node_finds_what_the_first_one_fetched(source, tmp_path, redis_url):
    for policy in "volatile-ttl", "volatile-lru", "allkeys-lru":
        subprocess.run(
            ["redis-cli", "-s", redis_url.split("@")[1], "-a", PASSWORD, "config", "set", "maxmemory-policy", policy],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        url, spill = f"{redis_url}?domain={policy}", tmp_path / policy
        before = alnair.stats()
        first = node(source, tmp_path, policy + "1", redis=url, spill=spill, spill_limit="64MiB")
        assert list(first) == EXPECTED
        first._alnair.source.core.flush()
        assert gained(before, "source_hits") == len(KEYS)
        second = node(source, tmp_path, policy + "2", redis=url, spill=spill, spill_limit="64MiB")
        assert list(second) == EXPECTED
        assert gained(before, "source_hits") == len(KEYS)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("u:secret@host", "redis: expected a URL such as redis://host:6379,host:6379; also rediss:// and unix:/path"),
        ("http://u:secret@host", "redis: expected a URL such as redis://host:6379,host:6379; also rediss:// and unix:/path"),
        (5, "redis: expected a URL such as redis://host:6379,host:6379, not int"),
        (b"redis://u:secret@host", "redis: expected a URL such as redis://host:6379,host:6379, not bytes"),
    ],
)
def test_a_malformed_url_is_named_and_not_shown(source, value, message):
    with pytest.raises(alnair.ConfigError) as error:
        AlnairJobDataset(source=source, redis=value)
    assert str(error.value) == message


@pytest.mark.parametrize("value", ["redis://u:secret@host:port", "redis://u:secret@h?color=red", "redis://u:secret@h?mode=fast"])
def test_what_is_wrong_in_a_url_is_named(source, value):
    with pytest.raises(alnair.ConfigError, match="^redis: ") as error:
        AlnairJobDataset(source=source, redis=value)
    assert "secret" not in str(error.value)


def test_a_secret_text_is_a_text():
    secret = _values.SecretText("redis://user:p/ss?w@rd@host:6379/?domain=a@b")
    assert str.__eq__(secret, "redis://user:p/ss?w@rd@host:6379/?domain=a@b")
    assert "p/ss" not in repr(secret) and "p/ss" not in repr(_config.Config({"redis": secret}, (), "", ""))
    assert repr(_values.SecretText("redis://host:6379")) == "'redis://host:6379'"


def test_a_server_that_is_gone_costs_no_sample(source, tmp_path, redis_url):
    dataset = node(source, tmp_path, 1, redis="redis://127.0.0.1:1?timeout_ms=1000&deadline_ms=2000")
    assert list(dataset) == EXPECTED


def test_the_doctor_looks_at_what_nodes_share(source, tmp_path, redis_url, monkeypatch, capfd):
    def checks(redis, spill, code):
        monkeypatch.setenv("ALNAIR_REDIS", redis)
        monkeypatch.setenv("ALNAIR_SPILL", str(spill))
        assert _cli.main(["doctor", source, "--json"]) == code
        output = capfd.readouterr().out
        assert PASSWORD not in output
        found = {check["what"]: check for check in json.loads(output)}
        return lambda what: [found[what][name] for name in ("verdict", "found", "advice")]

    well = checks(redis_url, tmp_path / "spill", 0)
    verdict, text, advice = well("Redis")
    assert (verdict, advice) == ("ok", "")
    assert re.fullmatch(r"1 x redis [0-9.]+, [0-9.]+ [KM]B used of 67.1 MB, noeviction", text)
    assert well("shared directory")[0] == "ok"
    assert well("shared directory")[1].startswith(f"{tmp_path}/spill: 0 B used of ")
    gone = checks(f"unix://{tmp_path}/nothing.sock", tmp_path / "spill", 1)
    assert gone("Redis")[0] == "FAILED"
    assert "nothing.sock" in gone("Redis")[1]
    assert "jobs go on without them" in gone("Redis")[2]
    shut_out = checks(redis_url.replace(f":{PASSWORD}@", ""), tmp_path / "spill", 1)
    assert "asks for a password" in shut_out("tiers")[1]
    assert shut_out("tiers")[2] == "correct the setting that the message names"
