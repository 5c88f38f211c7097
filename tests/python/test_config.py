"""Where the datasource and the QoS come from, and what is said about malformed ones."""

import json
import re

import alnair
import pytest
from alnair import AlnairJobDataset, _config
from conftest import ACCESS_KEY, KEYS

SOURCE = "s3://pets"


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Writes a job file and a secret, and names the job in the environment."""

    def write(content=None, secret=None):
        for folder, variable in ("jobs", "ALNAIR_JOBS_DIR"), ("secret", "ALNAIR_SECRET_DIR"):
            (tmp_path / folder).mkdir(exist_ok=True)
            monkeypatch.setenv(variable, str(tmp_path / folder))
        monkeypatch.setenv("JOBNAME", "imagenet")
        if content is not None:
            text = content if isinstance(content, str) else json.dumps(content, indent=1)
            (tmp_path / "jobs" / "imagenet.json").write_text(text)
        if secret is not None:
            (tmp_path / "secret" / "client.conf").write_text(secret)
        return tmp_path

    return write


JOB = {
    "name": "imagenet",
    "datasource": {"name": "Pets", "bucket": "pets", "keys": ["train"]},
    "qos": {"UseCache": True, "MaxMemory": 5, "DurabilityInDisk": 60, "LazyLoading": False},
}
SECRET = """[aws_s3]
aws_access_key_id = AKIDEXAMPLE
aws_secret_access_key = 100%secret
region_name = eu-central-1
"""


# Precedence.


@pytest.mark.parametrize("variable, ranks", [(None, 1), ("LOCAL_WORLD_SIZE", 8), ("OMPI_COMM_WORLD_LOCAL_SIZE", 4)])
def test_the_limit_of_connections_grows_with_the_ranks_of_the_node(monkeypatch, variable, ranks):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if variable:
        monkeypatch.setenv(variable, str(ranks))
    assert _config.core_options(_config.resolve({"source": SOURCE}), "")["max_connections"] == 32 * ranks
    assert _config.core_options(_config.resolve({"source": SOURCE, "max_connections": 5}), "")["max_connections"] == 5


def test_an_argument_comes_before_the_environment_and_that_before_the_job(job, monkeypatch):
    job(JOB)
    assert _config.resolve({}).maxmemory == 5
    monkeypatch.setenv("ALNAIR_MAXMEMORY", "6")
    assert _config.resolve({}).maxmemory == 6
    assert _config.resolve({"maxmemory": 7}).maxmemory == 7
    assert _config.resolve({"maxmemory": 0}).maxmemory == 0


def test_without_any_of_them_there_are_defaults():
    config = _config.resolve({"source": SOURCE})
    assert (config.usecache, config.maxmemory, config.durabilityindisk, config.lazyloading) == (True, 0, 1440, True)
    assert set(config.values) == {"source", "cache_dir", "memory_dir"}  # the latter by the tests' environment


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("KEYS", "train,test/cat", ("train", "test/cat")),
        ("KEYS", '["a,b", "c"]', ("a,b", "c")),
        ("SOURCE", "file:///data", "file:///data"),
        ("ENDPOINT_URL", "http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("REGION", "eu-west-1", "eu-west-1"),
        ("PROFILE", "research", "research"),
        ("ANONYMOUS", "true", True),
        ("REQUESTER_PAYS", "1", True),
        ("ADDRESSING_STYLE", "Path", "path"),
        ("CA_BUNDLE", "/etc/ca.pem", "/etc/ca.pem"),
        ("MAX_CONNECTIONS", "64", 64),
        ("USECACHE", "False", False),
        ("MAXMEMORY", " 100 ", 100),
        ("LAZYLOADING", "no", False),
        ("DURABILITYINDISK", "0", 0),
        ("CACHE_DIR", "/var/cache", "/var/cache"),
        ("MEMORY_DIR", "/dev/shm/x", "/dev/shm/x"),
        ("MEMORY_LIMIT", "1.5GiB", 3 << 29),
        ("DISK_LIMIT", "8G", 8 << 30),
        ("REDIS", "redis://u:p@10.0.0.1:6379,10.0.0.2", "redis://u:p@10.0.0.1:6379,10.0.0.2"),
        ("SPILL", "/mnt/a, /mnt/b", ("/mnt/a", "/mnt/b")),
        ("SPILL_MODE", "2770", 0o2770),
        ("SPILL_LIMIT", "1T", 1 << 40),
        ("CHUNK_SIZE", "1000000", 1_000_000),
        ("EVICTION", "lru", "lru"),
        ("VERSION", "ab12", "ab12"),
        ("REFRESH", "never", "never"),
        ("PROGRESS", "off", False),
    ],
)
def test_every_parameter_has_a_twin_in_the_environment(monkeypatch, variable, text, expected):
    monkeypatch.setenv("ALNAIR_" + variable, text)
    config = _config.resolve({"source": SOURCE} if variable != "SOURCE" else {})
    assert getattr(config, variable.lower()) == expected


def test_the_twins_are_complete():
    import inspect

    parameters = set(inspect.signature(AlnairJobDataset.__init__).parameters) - {"self"}
    assert parameters == set(_config.PARAMETERS)


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("ALNAIR_MAXMEMORY", "")
    assert _config.resolve({"source": SOURCE}).maxmemory == 0


# Jobs.


def test_a_job_names_the_datasource_the_qos_and_the_credentials(job):
    job(JOB, SECRET)
    config = _config.resolve({"keys": ["train/cat"]})
    assert config.source == "s3://pets"
    assert config.scope == ("train",)
    assert (config.usecache, config.maxmemory, config.durabilityindisk, config.lazyloading) == (True, 5, 60, False)
    options = _config.core_options(config, "")
    assert options["credentials"] == ("AKIDEXAMPLE", "100%secret", "")
    assert options["region"] == "eu-central-1"
    assert (options["scope"], options["keys"]) == (("train",), ("train/cat",))
    assert "100%secret" not in repr(config)


def test_field_names_of_a_job_are_of_any_case_and_values_may_be_texts(job):
    job({"NAME": "x", "DataSource": {"BUCKET": "b"}, "QoS": {"usecache": "false", "MAXMEMORY": "12", "LazyLoading": "True"}})
    config = _config.resolve({})
    assert (config.source, config.scope) == ("s3://b", ())
    assert (config.usecache, config.maxmemory, config.lazyloading) == (False, 12, True)


def test_files_may_begin_with_a_byte_order_mark(job):
    path = job()
    (path / "jobs" / "imagenet.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(JOB).encode())
    (path / "secret" / "client.conf").write_bytes(b"\xef\xbb\xbf" + SECRET.replace("\n", "\r\n").encode())
    config = _config.resolve({})
    assert (config.source, config.maxmemory) == ("s3://pets", 5)
    assert _config.core_options(config, "")["credentials"] == ("AKIDEXAMPLE", "100%secret", "")


@pytest.mark.parametrize("section", ["[AWS_S3]", "[ aws_s3 ]", "; the secret of\n[other]\nx = 1\n[aws_s3]"])
def test_the_section_of_a_secret_is_found(job, section):
    job(JOB, SECRET.replace("[aws_s3]", section).replace("aws_access_key_id", "AWS_Access_Key_ID"))
    assert _config.core_options(_config.resolve({}), "")["credentials"] == ("AKIDEXAMPLE", "100%secret", "")


@pytest.mark.parametrize("keys", [None, []])
def test_a_job_without_keys_reads_everything(job, keys):
    job({"datasource": {"bucket": "pets", "keys": keys}, "qos": None})
    assert _config.resolve({}).scope == ()


def test_a_secret_may_hold_a_session_token_and_an_endpoint(job):
    job(JOB, SECRET + "aws_session_token = token\nendpoint_url = http://minio:9000\n")
    options = _config.core_options(_config.resolve({}), "")
    assert options["credentials"][2] == "token"
    assert options["endpoint_url"] == "http://minio:9000"
    options = _config.core_options(_config.resolve({"endpoint_url": "http://other:9000", "region": "us-east-1"}), "")
    assert (options["endpoint_url"], options["region"]) == ("http://other:9000", "us-east-1")


def test_without_a_secret_aws_own_chain_is_used(job):
    job(JOB)
    assert "credentials" not in _config.core_options(_config.resolve({}), "")


def test_anonymous_leaves_the_secret_alone(job):
    job(JOB, "garbage")
    assert "credentials" not in _config.core_options(_config.resolve({"anonymous": True}), "")


def test_another_source_is_not_narrowed_by_the_job(job, source):
    job(JOB)
    config = _config.resolve({"source": source})
    assert config.scope == ()
    assert config.secret_file == ""


def test_a_job_without_a_file_matters_only_if_it_is_needed(job, source):
    path = job() / "jobs" / "imagenet.json"
    assert len(AlnairJobDataset(source=source)) == len(KEYS)
    message = f"{path}: no such file; JOBNAME names the job 'imagenet', and neither source nor ALNAIR_SOURCE is given"
    with pytest.raises(alnair.ConfigError, match=re.escape(message)):
        AlnairJobDataset()


# Malformed input: the message says where and what.


def refusal(*args, **kwargs):
    with pytest.raises(alnair.ConfigError) as caught:
        AlnairJobDataset(*args, **kwargs)
    assert isinstance(caught.value, ValueError)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def test_no_datasource_at_all():
    assert refusal() == 'no datasource is named: give source="s3://bucket", or set ALNAIR_SOURCE or JOBNAME'


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("train", "not str; did you mean ['train']?"),
        (b"train", "not bytes"),
        (5, "not int"),
        ({"train": 1}, "not dict"),
        (["train", 5], "but item 1 is int"),
        ([None], "but item 0 is NoneType"),
    ],
)
def test_keys_of_the_wrong_type(source, keys, expected):
    assert refusal(keys, source=source) == f"keys: expected a list of key entries (texts), {expected}"
    with pytest.raises(TypeError):
        AlnairJobDataset(keys, source=source)


def test_keys_that_say_nothing(source):
    assert refusal([], source=source) == "keys: the list is empty; leave `keys` out to read everything"
    assert refusal(["a", ""], source=source) == "keys: item 1 is an empty text; leave `keys` out to read everything"
    message = r"keys: item 0 is '\ud800', which no key can be: it is not Unicode"
    assert refusal(["\ud800"], source=source) == message


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        ("maxmemory", -1, "a number of MiB (0: no limit) of at least 0, not -1"),
        ("maxmemory", "-3", "a number of MiB (0: no limit) of at least 0, not -3"),
        ("maxmemory", 1.5, "a number of MiB (0: no limit) of at least 0, not 1.5 (float)"),
        ("maxmemory", True, "a number of MiB (0: no limit) of at least 0, not True (bool)"),
        ("durabilityindisk", "soon", "a number of minutes of at least 0, not 'soon'"),
        ("maxmemory", 1 << 63, f"a number of MiB (0: no limit) of at most {(1 << 63) - 1}, not {1 << 63}"),
        ("memory_limit", "9999999TiB", f"a size in bytes of at most {(1 << 63) - 1}, not {9999999 << 40}"),
        ("max_connections", 10**12, "a number of connections of at most 65535, not 1000000000000"),
        ("usecache", "maybe", "true or false, not 'maybe'"),
        ("hedging", "sometimes", "true or false, not 'sometimes'"),
        ("flush_frequency", 0, "a number of seconds of at least 1, not 0"),
        ("flush_policy", "next-use", "one of recency, frequency, next_use, not 'next-use'"),
        ("flush_amount", "lots", "a size such as 1048576, 512MiB or 8G, not 'lots'"),
        ("usecache", 2, "true or false, not 2 (int)"),
        ("memory_limit", "3 elephants", "a size such as 1048576, 512MiB or 8G, not '3 elephants'"),
        ("memory_limit", -1, "a size in bytes of at least 0, not -1"),
        ("eviction", "fifo", "one of none, lru, s3fifo, not 'fifo'"),
        ("refresh", True, "one of start, never, not True (bool)"),
        ("endpoint_url", "127.0.0.1:9000", "a URL such as http://127.0.0.1:9000 or https://s3.example.com, not '127.0.0.1:9000'"),
        ("region", 5, "a text, not 5 (int)"),
        ("region", "eu central", "a region such as eu-central-1, not 'eu central'"),
        ("cache_dir", 5, "a path, not 5 (int)"),
        ("source", "pets", "s3://bucket, s3://bucket/path or file:///directory, not 'pets'"),
        ("source", "s3:///pets", "s3://bucket, s3://bucket/path or file:///directory, not 's3:///pets'"),
        ("source", "file:///\ud800", r"Unicode, not 'file:///\ud800'"),
        ("maxmemory", "9" * 5000, f"a number of MiB (0: no limit) of at least 0, not '{'9' * 200}'..."),
        ("memory_limit", "9" * 400 + ".5G", f"a size such as 1048576, 512MiB or 8G, not '{'9' * 200}'..."),
        ("source", "file://pets", "s3://bucket, s3://bucket/path or file:///directory, not 'file://pets'"),
    ],
)
def test_a_malformed_argument(source, argument, value, expected):
    assert refusal(**{"source": source, argument: value}) == f"{argument}: expected {expected}"


@pytest.mark.parametrize("mode", [-1, -64, 0o10777, 0o77])
def test_a_mode_that_is_none(source, mode):
    expected = "spill_mode: expected an octal mode that gives the owner all, such as 0700 or 2770 (as a number 0o2770)"
    assert refusal(source=source, spill_mode=mode) == f"{expected}, not {mode!r}"


@pytest.mark.parametrize(
    ("argument", "value"),
    [("version", "\udcff"), ("endpoint_url", "http://\udcff"), ("profile", "\udcff")],
    ids=["version", "endpoint_url", "profile"],
)
def test_bytes_of_the_environment_that_are_no_text_are_refused_as_any_other_value(monkeypatch, argument, value):
    monkeypatch.setenv(f"ALNAIR_{argument.upper()}", value)
    with pytest.raises(alnair.Error):
        AlnairJobDataset(source="s3://pets")


def test_a_malformed_variable_is_named(source, monkeypatch):
    monkeypatch.setenv("ALNAIR_MAXMEMORY", "lots")
    expected = "ALNAIR_MAXMEMORY: expected a number of MiB (0: no limit) of at least 0, not 'lots'"
    assert refusal(source=source) == expected
    monkeypatch.delenv("ALNAIR_MAXMEMORY")
    monkeypatch.setenv("ALNAIR_KEYS", '["a", ]')
    assert refusal(source=source).startswith("ALNAIR_KEYS: column ")
    monkeypatch.delenv("ALNAIR_KEYS")
    monkeypatch.setenv("ALNAIR_LOG", "loud")
    assert refusal(source=source) == "ALNAIR_LOG: expected one of debug, info, warning, error, off, not 'loud'"


def test_a_url_with_a_password_is_not_shown():
    assert "hunter2" not in refusal(source="https://user:hunter2@bucket")
    assert "hunter2" not in refusal(source="s3://pets", endpoint_url="user:hunter2@host")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ": the file is empty"),
        ("[" * 100_000, "line 1: nested too deeply"),
        ('{"name": "x",\n "datasource" {}}', "line 2, column 15: Expecting ':' delimiter"),
        ("[]", "line 1: expected an object with the fields name, datasource and qos"),
        ('{\n"name": "x"}', "line 1, field datasource: expected an object with the fields name, bucket and keys"),
        ('{\n"datasource": []}', "line 2, field datasource: expected an object with the fields name, bucket and keys"),
        *(
            ('{"datasource": {\n"Bucket": %s}}' % bucket, "line 2, field datasource.bucket: expected the name of a bucket")
            for bucket in ("5", '""', '"s3://pets"', '" pets"', r'"pets\n"', r'"\ud800"')
        ),
        ('{"datasource": {"bucket": "b"}, "qos": {"MaxMemory": %s}}' % ("9" * 5000), ": has a number of thousands of digits"),
        (
            '{"datasource": {"bucket": "b",\n\n"Keys": [1]}}',
            "line 3, field datasource.keys: expected a list of key entries (texts), but item 0 is int",
        ),
        ('{"datasource": {"bucket": "b"},\n"qos": 5}', "line 2, field qos: expected an object with the fields "),
        (
            '{"datasource": {"bucket": "b"},\n"qos": {\n"MaxMemory": "much"}}',
            "line 3, field qos.maxmemory: expected a number of MiB (0: no limit) of at least 0, not 'much'",
        ),
        (
            '{"datasource": {"bucket": "b",\n"Keys": {"a": 1}}}',
            "line 2, field datasource.keys: expected a list of key entries (texts), not dict",
        ),
        (
            '{"datasource": {"bucket": "b", "keys": false}}',
            "line 1, field datasource.keys: expected a list of key entries (texts), not bool",
        ),
        (
            '{"datasource": {"bucket": "b",\n"QoS": {"MaxMemory": 5}}}',
            "line 2, field datasource.qos: is in the wrong place; expected it as qos",
        ),
        (
            '{"datasource": {"bucket": "b"},\n"MaxMemory": 5}',
            "line 2, field maxmemory: is in the wrong place; expected it as qos.maxmemory",
        ),
        (
            '{"datasource": {"bucket": "b",\n"lazyloading": true}}',
            "line 2, field datasource.lazyloading: is in the wrong place; expected it as qos.lazyloading",
        ),
        (
            '{"datasource": {"bucket": "b"},\n"qos": {"UseCache": []}}',
            "line 2, field qos.usecache: expected true or false, not [] (list)",
        ),
    ],
)
def test_a_malformed_job_file(job, content, expected):
    path = job(content) / "jobs" / "imagenet.json"
    assert refusal().startswith(f"{path}{expected}" if expected.startswith(":") else f"{path}, {expected}")


@pytest.mark.parametrize(
    "field, meant",
    [("MaxMemoryMiB", "did you mean maxmemory?"), ("Priority", "expected usecache, maxmemory, durabilityindisk, lazyloading, single_pass")],
)
def test_an_unknown_field_of_the_qos_is_pointed_out(job, caplog, field, meant):
    path = job({"datasource": {"bucket": "pets"}, "qos": {field: 5}}) / "jobs" / "imagenet.json"
    assert _config.resolve({}).maxmemory == 0
    assert caplog.messages == [f"{path}, line 6, field qos.{field.lower()}: is unknown, and has no effect; {meant}"]


def test_a_job_file_or_secret_that_cannot_be_read_is_named(job, monkeypatch):
    path = job(JOB)
    (path / "secret" / "client.conf").mkdir()
    assert refusal() == f"{path}/secret/client.conf: cannot be read: is a directory"
    (path / "jobs" / "imagenet.json").unlink()
    (path / "jobs" / "imagenet.json").mkdir()
    assert refusal() == f"{path}/jobs/imagenet.json: cannot be read: is a directory"
    monkeypatch.setenv("JOBNAME", "x" * 300)
    assert refusal().endswith(".json: cannot be read: file name too long")


def test_paths_do_not_follow_the_working_directory(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = _config.resolve({"source": source, "cache_dir": "here/cache", "memory_dir": "~/memory"})
    assert config.cache_dir == str(tmp_path / "here" / "cache")
    assert config.memory_dir == str(tmp_path / "memory")


def test_a_job_name_is_no_path(job, monkeypatch):
    job(JOB)
    monkeypatch.setenv("JOBNAME", "../secret/client")
    assert refusal() == "JOBNAME: expected the name of a job, not '../secret/client'"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("aws_access_key_id = HUSH\n", ", line 1: expected a section, [aws_s3], before any field"),
        ("[other]\nx = HUSH\n", ": has no section [aws_s3]"),
        ("\n[aws_s3]\nHUSH\n", ", line 3: expected field = value"),
        ("# x\n[aws_s3]\naws_access_key_id = HUSH\n", ", line 2: section [aws_s3] has no value for the field aws_secret_access_key"),
        (SECRET + "endpoint_url = HUSH@x\n", ", field endpoint_url: expected a URL such as "),
        (SECRET.replace("eu-", "eu ; a comment"), ", field region_name: expected a region such as eu-central-1, not 'eu ; a "),
        (SECRET + "aws_session_token = HUSH\n  HUSH\n", ", line 5, field aws_session_token: expected one line without control "),
        ("# [aws_s3] is below\n[aws_s3]\naws_secret_access_key = HUSH\n", ", line 2: section [aws_s3] has no value for the "),
    ],
)
def test_a_malformed_secret_is_described_but_not_shown(job, content, expected):
    path = job(JOB, content) / "secret" / "client.conf"
    message = refusal()
    assert message.startswith(f"{path}{expected}")
    assert "HUSH" not in message


# End to end.


def test_a_job_is_read_with_the_secrets_credentials_before_awss_own(s3, job, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    from conftest import SECRET_KEY

    secret = f"[aws_s3]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\nregion_name=us-east-1\n"
    job({**JOB, "qos": {}}, secret)
    assert AlnairJobDataset().keys == [key for key in KEYS if key.startswith("train/")]
    assert AlnairJobDataset(["train/cat"]).keys == [key for key in KEYS if key.startswith("train/cat/")]
    with pytest.raises(alnair.NotFoundError):
        AlnairJobDataset(["test"])  # outside of what the job may read
