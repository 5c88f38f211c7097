"""Cold epochs: everything comes from S3, is hashed, cached and handed to the loop; decoding excluded, num_workers 0.

The raw rate is the same client's (bench_raw_fetch): all objects once, in random order, the bytes dropped. Both read as many
objects as keep a server busy for seconds. CPU is the client's, in microseconds an object: of the raw fetch, of the epoch, and of
what the epoch left to be written to the directory tier after it.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Dict, Optional

import servers
import torch
from measure import Measured, cpu_seconds, interleaved, machine, table, touch_memory

import alnair
from alnair import AlnairJobDataLoader, AlnairJobDataset

RAW = Path(__file__).parents[2] / "build/bench/bench/bench_raw_fetch"

# Objects of each size that a server is asked for in an epoch.
OBJECTS: Dict[str, Dict[int, int]] = {
    "nginx": {4096: 60_000, 110_000: 8_000},
    "nginx + 30 ms": {4096: 6_000, 110_000: 5_000},
    "versitygw": {4096: 5_000, 110_000: 3_000},
}


class Bytes(AlnairJobDataset):
    def __getitem__(self, index):
        return len(self.get_data(index, view=True))


def cold_epoch(bucket: str, size: int, count: int, connections: int, gets: Optional[int] = None, **options) -> Measured:
    """The loop over a new cache; listing is not in it. It takes `gets` GetObjects: one an object, unless told otherwise."""
    home = Path(tempfile.mkdtemp(prefix="alnair-bench-"))
    memory = Path(tempfile.mkdtemp(prefix="alnair-bench-", dir="/dev/shm"))
    before = alnair.stats()["s3_get_object"]
    try:
        dataset = Bytes(source=f"s3://{bucket}", cache_dir=home, memory_dir=memory / "memory",
                        max_connections=connections, **options)  # fmt: skip
        loader = AlnairJobDataLoader(dataset, batch_size=256 if size < 10_000 else 32, shuffle=True, collate_fn=list)
        touch_memory(size * count)
        cpu, start = cpu_seconds(), time.perf_counter()
        total = sum(sum(batch) for batch in loader)
        seconds, looped = time.perf_counter() - start, cpu_seconds()
        dataset._alnair.source.finish()  # before its directories go
        assert total == size * count
        assert alnair.stats()["s3_get_object"] - before == (count if gets is None else gets)
        return Measured(seconds, looped - cpu, cpu_seconds() - looped)
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(memory, ignore_errors=True)


def raw(bucket: str, connections: int) -> Measured:
    """The raw fetch, without listing."""
    output = subprocess.run([RAW, bucket, str(connections)], check=True, capture_output=True, text=True).stdout
    return Measured(float(output.split()[2]), float(output.split()[3]))


def make_buckets(root: Path, wanted: Dict[int, set]) -> None:
    """A bucket for each size and number of objects. The smaller ones are links to the first files of the largest."""
    for size, counts in wanted.items():
        largest = root / f"objects-{size}-{max(counts)}"
        for count in sorted(counts, reverse=True):
            bucket = root / f"objects-{size}-{count}"
            bucket.mkdir()
            for number in range(count):
                path = bucket / f"{number:06d}.bin"
                if bucket == largest:
                    path.write_bytes(os.urandom(size))
                else:
                    os.link(largest / path.name, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of objects (1)")
    parser.add_argument("--sizes", type=int, nargs="*", default=[4096, 110_000], help="bytes of an object (4096 110000)")
    parser.add_argument("--servers", nargs="*", default=list(OBJECTS), choices=list(OBJECTS))
    options = parser.parse_args()

    os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = servers.ACCESS_KEY, servers.SECRET_KEY
    os.environ["AWS_REGION"] = "us-east-1"
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="alnair-bench-s3-"))
    root.chmod(0o755)
    names = [name for name in options.servers if name != "versitygw" or os.environ.get("ALNAIR_TEST_VERSITYGW")]
    counts = {name: {size: int(OBJECTS[name][size] * options.scale) for size in options.sizes} for name in names}
    rows = []
    try:
        make_buckets(root, {size: {counts[name][size] for name in names} for size in options.sizes})
        for name in names:
            with servers.versitygw(root) if name == "versitygw" else servers.nginx(root) as plain:
                late = name.endswith("30 ms")
                with servers.delayed(plain, 0.030) if late else servers.contextlib.nullcontext(plain) as url:
                    os.environ["AWS_ENDPOINT_URL"] = url
                    connections = 64 if late else 32  # the default, but where latency asks for more
                    for size, count in counts[name].items():
                        bucket = f"objects-{size}-{count}"
                        competitors = {
                            "raw": partial(raw, bucket, connections),
                            "epoch": partial(cold_epoch, bucket, size, count, connections),
                        }
                        series = interleaved(competitors, options.rounds)
                        rates = {which: each.rate(count) for which, each in series.items()}
                        cpu = {which: 1e6 * each.cpu() / count for which, each in series.items()}
                        rows.append([
                            name, f"{size:,}", f"{count:,}",
                            *(f"{rates[which]:,.0f} ±{100 * series[which].spread():.0f} %" for which in rates),
                            f"{100 * rates['epoch'] / rates['raw']:.0f} %", f"{cpu['raw']:.0f}", f"{cpu['epoch']:.0f}",
                            f"{1e6 * series['epoch'].cpu_after() / count:.0f}",
                        ])  # fmt: skip
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"Cold epochs, objects/s, medians of {options.rounds}; {machine()}\n")
    header = ["server", "bytes", "objects", "raw", "epoch", "of raw", "CPU µs/object, raw", "epoch", "after it"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
