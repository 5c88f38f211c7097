"""Guaranteed mode under twice the writes that the directory takes. Run by bench/guaranteed; bench/cpp/guaranteed.cc does the work."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import machine, table, targets

sys.path.insert(0, str(Path(__file__).parents[2] / "tests/support"))
from redis_servers import RedisCluster  # noqa: E402

PROGRAM = Path(__file__).parents[2] / "build/bench-cpp/bench/bench_guaranteed"
CHUNK = 110_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180, help="of writing (180)")
    parser.add_argument("--mb-per-s", type=float, default=20, help="what the directory takes (20)")
    parser.add_argument("--directory", help="where the shared directory is made (the system's temporary one)")
    options = parser.parse_args()
    limits = ("--maxmemory", "64mb", "--maxmemory-policy", "volatile-ttl")
    with RedisCluster(3, 0, *limits, node_timeout_ms=60_000) as cluster, tempfile.TemporaryDirectory(dir=options.directory) as folder:
        run = subprocess.run([PROGRAM, cluster.url, folder + "/spill", str(options.seconds), str(options.mb_per_s)],
                             stdout=subprocess.PIPE, text=True)  # fmt: skip
    if not run.stdout:
        sys.exit(f"{PROGRAM} failed with {run.returncode}")
    result = json.loads(run.stdout)
    per_second = CHUNK / 1e6 / result["seconds"]
    print(f"Three masters of 64 MB each, volatile-ttl; a directory that takes {options.mb_per_s:g} MB/s; {machine()}\n")
    print(table(["", "chunks", "MB/s"], [
        ["offered to Redis", f"{result['offered']:,}", f"{result['offered'] * per_second:.1f}"],
        ["stored", f"{result['stored']:,}", f"{result['stored'] * per_second:.1f}"],
        ["refused for want of room", f"{result['refused']:,}", f"{result['refused'] * per_second:.1f}"],
        ["evicted by Redis", f"{result['evicted_keys']:,}", ""],
        ["only in the directory, in the end", f"{result['only_in_directory']:,}", ""],
        ["**evicted before they were durable**", f"**{result['lost']}**", ""],
        ["read meanwhile", f"{result['reads']:,}", ""],
        ["**failed reads**", f"**{result['failed_reads']}**", ""],
    ]))  # fmt: skip
    print(f"\nWriting went on for {result['seconds']:.0f} s; the client used {result['cpu_seconds']:.0f} CPU seconds, to make "
          f"chunks and hash them too.\n")  # fmt: skip
    print(targets([("evicted before they were durable", result["lost"], "≤", 0), ("failed reads", result["failed_reads"], "≤", 0),
                   ("offered, of what the directory takes", result["offered"] * per_second / options.mb_per_s, "≥", 1.95),
                   ("seconds of writing", result["seconds"], "≥", 120)]))  # fmt: skip
    sys.exit(run.returncode)


if __name__ == "__main__":
    main()
