"""Cold epochs: everything comes from S3, is hashed, cached and handed to the loop; decoding excluded, num_workers 0.

The raw rate is the same client's (bench_raw_fetch): all objects once, in random order, the bytes dropped.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

import servers
import torch
from measure import interleaved, machine, table

import alnair
from alnair import AlnairJobDataLoader, AlnairJobDataset

RAW = Path(__file__).parents[2] / "build/bench/bench/bench_raw_fetch"


class Bytes(AlnairJobDataset):
    def __getitem__(self, index):
        return len(self.get_data(index, view=True))


def cold_epoch(bucket: str, size: int, count: int, connections: int) -> float:
    """Seconds of the loop over a new cache; listing is not in it."""
    home = Path(tempfile.mkdtemp(prefix="alnair-bench-"))
    memory = Path(tempfile.mkdtemp(prefix="alnair-bench-", dir="/dev/shm"))
    before = alnair.stats()["s3_get_object"]
    try:
        dataset = Bytes(source=f"s3://{bucket}", cache_dir=home, memory_dir=memory / "memory", max_connections=connections)
        loader = AlnairJobDataLoader(dataset, batch_size=256 if size < 10_000 else 32, shuffle=True, collate_fn=list)
        start = time.perf_counter()
        total = sum(sum(batch) for batch in loader)
        seconds = time.perf_counter() - start
        dataset._alnair.source.finish()  # before its directories go
        assert total == size * count
        assert alnair.stats()["s3_get_object"] - before == count
        return seconds
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(memory, ignore_errors=True)


def raw(bucket: str, connections: int) -> float:
    """Seconds of the raw fetch, without listing."""
    output = subprocess.run([RAW, bucket, str(connections)], check=True, capture_output=True, text=True).stdout
    return float(output.split()[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--objects", type=int, default=4000, help="objects of 4 KB; a quarter as many of 110 KB (4000)")
    parser.add_argument("--servers", nargs="*", default=["nginx", "nginx + 30 ms", "versitygw"])
    options = parser.parse_args()

    os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = servers.ACCESS_KEY, servers.SECRET_KEY
    os.environ["AWS_REGION"] = "us-east-1"
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="alnair-bench-s3-"))
    root.chmod(0o755)
    rows = []
    try:
        sizes = {4096: options.objects, 110_000: options.objects // 4}
        for size, count in sizes.items():
            (root / f"objects-{size}").mkdir()
            for number in range(count):
                (root / f"objects-{size}" / f"{number:06d}.bin").write_bytes(os.urandom(size))
        for name in options.servers:
            if name.startswith("versitygw") and not os.environ.get("ALNAIR_TEST_VERSITYGW"):
                continue
            with servers.versitygw(root) if name.startswith("versitygw") else servers.nginx(root) as plain:
                late = name.endswith("30 ms")
                with servers.delayed(plain, 0.030) if late else servers.contextlib.nullcontext(plain) as url:
                    os.environ["AWS_ENDPOINT_URL"] = url
                    connections = 64 if late else 16
                    for size, count in sizes.items():
                        bucket = f"objects-{size}"
                        competitors = {
                            "raw": partial(raw, bucket, connections),
                            "epoch": partial(cold_epoch, bucket, size, count, connections),
                        }
                        series = interleaved(competitors, options.rounds)
                        rates = {which: each.rate(count) for which, each in series.items()}
                        share = f"{100 * rates['epoch'] / rates['raw']:.0f} %"
                        rows.append([name, f"{size:,}", f"{rates['raw']:,.0f}", f"{rates['epoch']:,.0f}", share])
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"Cold epochs, objects/s, medians of {options.rounds}; {machine()}\n")
    print(table(["server", "bytes", "raw", "epoch", "of raw"], rows))


if __name__ == "__main__":
    main()
