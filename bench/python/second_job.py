"""A second job on a fresh node: the first one has left the dataset in a Redis Cluster of three masters on this machine.

Against the same loop over a cold cache from nginx and from versitygw, and against PyTorch's DataLoader over local files in the page
cache. And beside what redis-benchmark gets from the same servers, which throws every value away: what the two cores can bring at most,
whatever the client does with it. Decoding excluded, num_workers 0, listing not in the time. That the second job asks S3 for nothing is checked. CPU is the
client's, in microseconds an object.

What no client can do without is measured by itself (bench_landing_floor): one thread that receives, hashes and keeps, and does nothing else. Its
sum, and what the server needs, say what two cores allow at most.

Then the nodes' links are the limit (capped_link.py): four nodes at once, 1 Gbit/s each.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict

import servers
import torch
from cold_epoch import cold_epoch, make_buckets
from measure import Measured, interleaved, machine, table, targets
from peers import Files
from redis_benchmark import RedisBenchmark
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parents[2] / "tests/support"))
from redis_servers import RedisCluster, RedisServer  # noqa: E402

FLOOR = Path(__file__).parents[2] / "build/bench/bench/bench_landing_floor"

CONNECTIONS = 16
HEADER = 16  # bytes before a chunk in Redis
THROWN_AWAY = 120_000_000  # bytes of values that redis-benchmark reads again and again
OBJECTS: Dict[int, int] = {4096: 40_000, 110_000: 8_000}
OF_VERSITYGW: Dict[int, int] = {4096: 5_000, 110_000: 3_000}  # it takes seconds for these


def local_files(folder: Path, size: int, batch_size: int) -> None:
    loader = DataLoader(Files(folder, len), batch_size, shuffle=True, collate_fn=list)
    assert sum(sum(batch) for batch in loader) == size * len(loader.dataset)


def thrown_away(benchmark: RedisBenchmark, count: int) -> Measured:
    rate, cpu = benchmark.run(2.0)
    return Measured(count / rate, count * cpu)


def floor(size: int, rounds: int) -> str:
    """What each step that a client cannot do without costs, and the rates that follow."""
    with RedisServer("--maxmemory", "1gb") as redis, tempfile.TemporaryDirectory(prefix="alnair-bench-", dir="/dev/shm") as directory:
        arguments = [str(redis.port), str(redis.pid), directory, str(size), str(300_000_000 // size), str(rounds)]
        cost = json.loads(subprocess.run([FLOOR, *arguments], check=True, capture_output=True, text=True).stdout)
    steps = {"receive": "receiving into memory that is used again", "hash": "BLAKE3 of it",
             "checksum": "its checksum, which node memory's records have", "reserve": "pages of node memory",
             "write": "writing into them", "read_back": "checking it once more where it is mapped"}  # fmt: skip
    rows = [[what, f"{cost[name]:.1f}"] for name, what in steps.items()]
    rows += [["**client**", f"**{cost['client']:.1f}**"], ["server", f"{cost['server']:.1f}"],
             ["at most, two cores for both", f"{2e6 / (cost['client'] + cost['server']):,.0f}/s"],
             ["at most, two cores for the client", f"{2e6 / cost['client']:,.0f}/s"]]  # fmt: skip
    return table([f"step, of {size:,} bytes", "CPU µs"], rows)


def measure_size(size: int, root: Path, options: argparse.Namespace, nginx: str, versitygw) -> tuple:
    """Rows of the table, and targets."""
    count, few = (int(options.scale * of[size]) for of in (OBJECTS, OF_VERSITYGW))
    bucket = f"objects-{size}-{count}"
    with RedisCluster(3, 0, "--maxmemory", "4gb", node_timeout_ms=60_000) as redis:
        shared = {"endpoint_url": nginx, "redis": redis.url}
        cold_epoch(bucket, size, count, CONNECTIONS, **shared)  # the first job
        competitors = {
            "second job, from Redis": lambda: cold_epoch(bucket, size, count, CONNECTIONS, 0, **shared),
            "first job, from nginx": lambda: cold_epoch(bucket, size, count, CONNECTIONS, endpoint_url=nginx),
            "local files": lambda: local_files(root / bucket, size, 256 if size < 10_000 else 32),
        }
        if versitygw:
            competitors["first job, from versitygw"] = lambda: cold_epoch(
                f"objects-{size}-{few}", size, few, CONNECTIONS, endpoint_url=versitygw)  # fmt: skip
        benchmark = RedisBenchmark(redis, size + HEADER, THROWN_AWAY // size)
        competitors["redis-benchmark, values thrown away"] = lambda: thrown_away(benchmark, count)
        series = interleaved(competitors, options.rounds)
    counts = {name: few if "versitygw" in name else count for name in series}
    rates = {name: each.rate(counts[name]) for name, each in series.items()}
    ours = rates["second job, from Redis"]
    most = rates["redis-benchmark, values thrown away"]
    wanted = [(f"{size:,} B: times a first job {source} (redis-benchmark: {most / rates[f'first job, {source}']:.1f})", ours / rates[f"first job, {source}"], "≥", times)
              for source, times in (("from nginx", 1), ("from versitygw", 10)) if f"first job, {source}" in rates]  # fmt: skip
    rows = [[name, f"{size:,}", f"{rates[name]:,.0f} ±{100 * each.spread():.0f} %", f"{rates[name] * size / 1e6:,.0f}",
             f"{ours / rates[name]:.2f}", f"{1e6 * each.cpu() / counts[name]:.0f}"] for name, each in series.items()]  # fmt: skip
    return rows, wanted


def on_this_machine(options: argparse.Namespace) -> None:
    root = Path(tempfile.mkdtemp(prefix="alnair-bench-s3-"))
    root.chmod(0o755)
    rows, wanted_rates = [], []
    try:
        wanted = {size: {int(options.scale * of[size]) for of in (OBJECTS, OF_VERSITYGW)} for size in options.sizes}
        make_buckets(root, wanted)
        gateway = os.environ.get("ALNAIR_TEST_VERSITYGW")
        with servers.nginx(root) as nginx, servers.versitygw(root) if gateway else contextlib.nullcontext() as versitygw:
            for size in options.sizes:
                more, wanted_of_size = measure_size(size, root, options, nginx, versitygw)
                rows += more
                wanted_rates += wanted_of_size
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"An epoch of a fresh node, medians of {options.rounds}; {machine()}\n")
    print(table(["", "bytes", "objects/s", "MB/s", "second job is so many times it", "CPU µs/object"], rows))
    print("\n" + targets(wanted_rates), flush=True)
    print("\nWhat a client cannot do without, one thread:\n\n" + floor(options.sizes[-1], options.rounds), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of objects (1)")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(OBJECTS), choices=list(OBJECTS), help="bytes of an object")
    parser.add_argument("--no-links", action="store_true", help="without the part about capped links")
    options = parser.parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID=servers.ACCESS_KEY, AWS_SECRET_ACCESS_KEY=servers.SECRET_KEY, AWS_REGION="us-east-1")
    torch.set_num_threads(1)
    if options.sizes:
        on_this_machine(options)
    if options.no_links:
        return
    if subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        print("\nCapped links: left out, because this system allows no network namespaces (they need root).")
        return
    print(flush=True)
    link = [sys.executable, str(Path(__file__).with_name("capped_link.py")), "--rounds", str(options.rounds)]
    sys.exit(subprocess.run(["unshare", "--net", *link]).returncode)


if __name__ == "__main__":
    main()
