"""Whatever Redis answers, a sample is the object's bytes, and no epoch waits for long."""

import alnair
import pytest
from alnair import AlnairJobDataLoader, AlnairJobDataset
from lying_redis import LyingRedis


class Samples(AlnairJobDataset):
    def __getitem__(self, index):
        return bytes(self.get_data(index))


@pytest.mark.parametrize("servers", [1, 2], ids=["alone", "cluster"])
@pytest.mark.parametrize("share", [0.02, 0.3])
def test_no_lie_of_redis_changes_a_sample(tmp_path, servers, share):
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(150):
        (folder / f"{i:03d}").write_bytes(i.to_bytes(2, "big") * (10_000 + i))
    expected = sorted(path.read_bytes() for path in folder.iterdir())
    with LyingRedis(servers, share) as redis:
        read = 0
        for attempt in range(4):
            spill = {"spill": tmp_path / "nfs", "flush_frequency": 1} if attempt % 2 else {}
            try:
                samples = Samples(source=f"file://{folder}", redis=f"{redis.url}?timeout_ms=500&deadline_ms={1500 + attempt}",
                                  memory_limit="64MiB", cache_dir=tmp_path / f"cache{attempt}", memory_dir=tmp_path / f"memory{attempt}", **spill)  # fmt: skip
            except (alnair.ConfigError, alnair.AccessError):
                continue  # what no waiting mends, by what it was told
            loader = AlnairJobDataLoader(samples, batch_size=16, shuffle=True, collate_fn=list)
            assert sorted(sum(loader, [])) == expected
            samples._alnair.source.core.flush()
            read += 1
        assert read > 0
