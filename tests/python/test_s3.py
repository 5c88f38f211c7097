"""Datasets on a real S3 server."""

import re
import socket

import alnair
import pytest
from alnair import AlnairJobDataset
from conftest import ACCESS_KEY, KEYS, content_of

EXPECTED = [(content_of(key), key) for key in KEYS]


def gets():
    return alnair.stats()["s3_get_object"]


def test_a_dataset_is_fetched_once(s3):
    before = gets()
    dataset = AlnairJobDataset(source="s3://pets")
    for _ in range(3):
        assert dataset.__getitems__(range(len(dataset))) == EXPECTED
    assert gets() - before == len(KEYS)
    assert list(AlnairJobDataset(source="s3://pets")) == EXPECTED
    assert gets() - before == len(KEYS)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_of_the_loader_makes_one_get_an_object_and_the_next_none(s3, workers):
    torch = pytest.importorskip("torch")
    from alnair import AlnairJobDataLoader

    torch.manual_seed(0)
    before, counts = gets(), []
    dataset = AlnairJobDataset(source="s3://pets")
    loader = AlnairJobDataLoader(dataset, batch_size=8, shuffle=True, collate_fn=list, num_workers=workers)
    for _ in range(3):
        assert sorted((sample for batch in loader for sample in batch), key=lambda sample: sample[1]) == EXPECTED
        counts.append(gets() - before)
    assert counts == [len(KEYS)] * 3


def test_the_path_of_the_source_is_an_entry_that_keys_narrow(s3):
    assert AlnairJobDataset(source="s3://pets/train/cat").keys == [key for key in KEYS if key.startswith("train/cat/")]
    assert AlnairJobDataset(["train/cat"], source="s3://pets/train").keys == [k for k in KEYS if k.startswith("train/cat/")]


def test_a_bucket_is_no_part_of_a_numeric_address_whatever_the_profile_says(s3, tmp_path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\ns3 =\n    addressing_style = virtual\n")
    assert list(AlnairJobDataset(source="s3://pets").keys) == KEYS


def test_with_refresh_never_a_known_dataset_needs_no_server(s3, monkeypatch):
    assert list(AlnairJobDataset(source="s3://pets")) == EXPECTED
    before = alnair.stats()
    again = AlnairJobDataset(source="s3://pets", refresh="never")
    assert list(again) == EXPECTED
    after = alnair.stats()
    assert after["s3_list_objects"] == before["s3_list_objects"]
    assert after["s3_get_object"] == before["s3_get_object"]


# Bad input.


def refusal(kind, **arguments):
    with pytest.raises(kind) as caught:
        AlnairJobDataset(**{"source": "s3://pets", **arguments})
    assert "not-a-secret" not in str(caught.value)
    return str(caught.value)


def test_no_such_bucket(s3):
    assert "nonesuch" in refusal(alnair.NotFoundError, source="s3://nonesuch")


def test_a_wrong_key_id_and_a_wrong_secret(s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    message = refusal(alnair.AccessError)
    assert ACCESS_KEY in message
    assert "pets" in message
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert "nobody" in refusal(PermissionError)


def test_no_credentials(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    message = refusal(alnair.ConfigError)
    for place in ("AWS_ACCESS_KEY_ID", "/.aws/credentials", "web identity", "container", "EC2"):
        assert place in message


def test_an_unreachable_endpoint(s3):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{closed.getsockname()[1]}"
        assert endpoint in refusal(OSError, endpoint_url=f"http://{endpoint}")


def test_a_prefix_that_matches_nothing_names_near_ones(s3):
    message = refusal(alnair.NotFoundError, keys=["trian"])
    assert "'trian'" in message
    assert re.search(r"near .*'train/'", message)


def test_an_object_deleted_after_registration(s3):
    s3.add_bucket("deleted", ["a.txt", "b.txt"])
    dataset = AlnairJobDataset(source="s3://deleted")
    (s3.root / "deleted" / "a.txt").unlink()
    with pytest.raises((alnair.NotFoundError, alnair.ChangedError), match="a.txt"):
        dataset[0]
    assert dataset[1] == (content_of("b.txt"), "b.txt")


def test_an_object_changed_after_registration(s3):
    s3.add_bucket("changed", ["a.txt", "b.txt"])
    dataset = AlnairJobDataset(source="s3://changed")
    (s3.root / "changed" / "a.txt").write_bytes(b"another")
    with pytest.raises(alnair.ChangedError, match="a.txt"):
        dataset[0]
    assert AlnairJobDataset(source="s3://changed")[0] == (b"another", "a.txt")
