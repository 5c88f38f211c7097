"""Batch GET from a Redis Cluster on this machine, and what a dead node in a batch costs. Run by bench/redis_get.

Each competitor reads the same values for some seconds, in turn, round after round. CPU seconds are the client's alone.
redis-benchmark only counts what arrives: it allocates no values. redis-py pipelines to each node, by its C parser (hiredis).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from measure import machine, targets
from redis.cluster import RedisCluster as RedisPy
from redis_benchmark import RedisBenchmark

sys.path.insert(0, str(Path(__file__).parents[2] / "tests/support"))
from redis_servers import RedisCluster  # noqa: E402

PROGRAM = Path(__file__).parents[2] / "build/bench-cpp/bench/bench_redis_get"
TOTAL = 120_000_000  # bytes of values of a size, about
BATCH = {4_000: 2_000, 110_000: 256, 1_000_000: 48}  # keys


def key_of(i: int) -> str:
    return f"alnair:bench:{i * 0x9E3779B97F4A7C15 % 2**64:016x}"


def alnair(cluster, size, count, seconds, *, check, in_flight):
    run = subprocess.run([PROGRAM, cluster.url, "get", str(count), str(seconds), str(BATCH[size]), str(in_flight), str(int(check))],
                         stdout=subprocess.PIPE, text=True, check=True)  # fmt: skip
    result = json.loads(run.stdout)
    assert result["failures"] == 0, result
    return result["values"] / result["seconds"], result["cpu_seconds"] / result["values"]


def redis_py(client, size, count, seconds):
    """Batches through a pipeline for each node."""
    values, at = 0, 0
    cpu, start = time.process_time(), time.perf_counter()
    while time.perf_counter() - start < seconds:
        pipeline = client.pipeline()
        for i in range(BATCH[size]):
            pipeline.get(key_of((at + i) % count))
        at += BATCH[size]
        for value in pipeline.execute():
            assert len(value) == size
            values += 1
    return values / (time.perf_counter() - start), (time.process_time() - cpu) / values


def batches(cluster, options, count, batches_):
    run = subprocess.run([PROGRAM, cluster.url + options, "batches", str(count), str(batches_)],
                         stdout=subprocess.PIPE, text=True, check=True)  # fmt: skip
    return json.loads(run.stdout)


def targets_of(size: int, rates: dict, cpus: dict) -> list:
    """What is wanted of a size."""
    rows = []
    if size >= 110_000:
        rows.append((f"{size:,} B: rate, of redis-benchmark's", rates["alnair"] / rates["redis-benchmark"], "≥", 0.9))
    if size in (4_000, 110_000):
        rows.append((f"{size:,} B: values per CPU second, of redis-py's", cpus["redis-py"] / cpus["alnair"], "≥",
                     5 if size == 4_000 else 2))  # fmt: skip
    for name in ("redis-benchmark", "redis-py"):
        rows.append((f"{size:,} B: CPU s/GB, of {name}'s", cpus["alnair"] / cpus[name], "≤", 1))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each competitor in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="4000,110000,1000000")
    options = parser.parse_args()
    if not os.access(PROGRAM, os.X_OK):
        sys.exit(f"{PROGRAM} is not built")
    print(machine())
    wanted = []
    with RedisCluster(3, 0, "--io-threads", "1", node_timeout_ms=60_000) as cluster:
        for size in map(int, options.sizes.split(",")):
            count = TOTAL // size
            subprocess.run([PROGRAM, cluster.url, "fill", str(count), str(size)], check=True)
            benchmark = RedisBenchmark(cluster, size, count)
            client = RedisPy(host="127.0.0.1", port=cluster.servers[0].port)
            competitors = {
                "alnair": lambda: alnair(cluster, size, count, options.seconds, check=False, in_flight=1),
                "alnair, 2 batches": lambda: alnair(cluster, size, count, options.seconds, check=False, in_flight=2),
                "alnair, hash check": lambda: alnair(cluster, size, count, options.seconds, check=True, in_flight=1),
                "redis-benchmark": lambda: benchmark.run(options.seconds),
                "redis-py": lambda: redis_py(client, size, count, options.seconds),
            }
            rounds = defaultdict(list)
            for _ in range(options.rounds):
                for name, run in competitors.items():
                    rounds[name].append(run())
            reference = statistics.median(rate for rate, _ in rounds["redis-benchmark"])
            print(f"\n{size} bytes, batches of {BATCH[size]}, medians of {options.rounds} rounds of {options.seconds} s")
            print(f"{'':20} {'values/s':>10} {'GB/s':>6} {'of benchmark':>12} {'values/CPU s':>13} {'CPU s/GB':>9}")
            rates, cpus = ({name: statistics.median(each[i] for each in results) for name, results in rounds.items()} for i in (0, 1))
            for name, rate in rates.items():
                cpu = cpus[name]
                print(f"{name:20} {rate:10,.0f} {rate * size / 1e9:6.2f} {rate / reference:12.2f} {1 / cpu:13,.0f} "
                      f"{cpu / size * 1e9:9.2f}")  # fmt: skip
            wanted += targets_of(size, rates, cpus)
            client.close()
            for server in cluster.servers:
                server.command("FLUSHALL")

        timeout = 500
        subprocess.run([PROGRAM, cluster.url, "fill", "10000", "4000"], check=True)
        healthy = batches(cluster, f"?timeout_ms={timeout}", 10_000, 5)
        cluster.servers[2].freeze()
        dead = batches(cluster, f"?timeout_ms={timeout}&deadline_ms=60000", 10_000, 5)
        cluster.servers[2].thaw()
        print(f"\nbatches of 10,000 GETs of 4,000 bytes, a node frozen, timeout_ms={timeout}")
        for name, result in (("healthy", healthy), ("one of three frozen", dead)):
            print(f"{name:20} ms: {result['milliseconds']}   failed: {result['failures']}")
        slow = sum(each > timeout for each in dead["milliseconds"])
        wanted.append(("batches with a dead node that took longer than timeout_ms", slow, "≤", 1))
        wanted.append(("the longest of them, ms", max(dead["milliseconds"]), "≤",
                       timeout + 2 * max(healthy["milliseconds"])))  # fmt: skip
    print("\n" + targets(wanted))


if __name__ == "__main__":
    main()
