"""Fresh nodes read a dataset from Redis, each behind a link of its own that is capped, all at once. Run by second_job.py, in a
network of its own: each node is a network namespace, its link a veth pair with a token bucket (tc-tbf) towards the node.

What one plain TCP stream to each node gets on these links at the same time is the reference. Both count payload: bytes of samples,
and bytes of the stream.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Optional

from measure import machine, table, targets

sys.path.insert(0, str(Path(__file__).parents[2] / "tests/support"))
from redis_servers import RedisCluster, die_with_parent, eventually  # noqa: E402

HOST = "10.77.0.1"
SIZE = 110_000
BLOCK = bytes(1 << 20)


def run(*command: str) -> None:
    subprocess.run(command, check=True)


class Nodes:
    """Namespaces, each behind a link of so many Mbit/s; gone with this object."""

    def __init__(self, count: int, mbit: int):
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "bridge", "type", "bridge")
        run("ip", "address", "add", f"{HOST}/24", "dev", "bridge")
        run("ip", "link", "set", "bridge", "up")
        self._holders, self._enter = [], []
        ours = os.readlink("/proc/self/ns/net")
        for i in range(count):
            holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], preexec_fn=die_with_parent)
            self._holders.append(holder)
            eventually(lambda pid=holder.pid: os.readlink(f"/proc/{pid}/ns/net") != ours)
            enter = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
            run("ip", "link", "add", f"link{i}", "type", "veth", "peer", "name", "uplink", "netns", str(holder.pid))
            run("ip", "link", "set", f"link{i}", "master", "bridge", "up")
            run("tc", "qdisc", "add", "dev", f"link{i}", "root", "tbf", "rate", f"{mbit}mbit", "burst", "256kb", "latency", "20ms")
            run(*enter, "ip", "link", "set", "lo", "up")
            run(*enter, "ip", "address", "add", f"10.77.0.{10 + i}/24", "dev", "uplink")
            run(*enter, "ip", "link", "set", "uplink", "up")
            self._enter.append(enter)

    def close(self) -> None:
        for holder in self._holders:
            holder.kill()
            holder.wait()

    def run(self, *arguments: str, nodes: Optional[int] = None) -> list:
        """Runs this file on the first `nodes` nodes (all); what each says at the end. They begin together."""
        processes = [
            subprocess.Popen([*enter, sys.executable, __file__, *arguments], text=True, preexec_fn=die_with_parent,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for enter in self._enter[:nodes]
        ]  # fmt: skip
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        results = [json.loads(process.stdout.readline()) for process in processes]
        assert all(process.wait() == 0 for process in processes)
        return results


# ---- on a node


def wait_for_go() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def plain_stream(port: int, size: int) -> dict:
    buffer = bytearray(len(BLOCK))
    with socket.create_connection((HOST, port)) as stream:
        wait_for_go()
        start, left = time.perf_counter(), size
        stream.sendall(b"go")
        while left > 0:
            left -= stream.recv_into(buffer)
        return {"bytes": size, "seconds": time.perf_counter() - start}


def read_epoch(folder: str, redis: str) -> dict:
    """A fresh node; listing is not in the time."""
    import torch
    from cold_epoch import Bytes

    import alnair
    from alnair import AlnairJobDataLoader

    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        home = tempfile.mkdtemp(prefix="alnair-bench-")
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        memory = tempfile.mkdtemp(prefix="alnair-bench-", dir="/dev/shm")
        stack.callback(shutil.rmtree, memory, ignore_errors=True)
        dataset = Bytes(source=f"file://{folder}", redis=redis, cache_dir=home, memory_dir=memory + "/memory")
        loader = AlnairJobDataLoader(dataset, batch_size=32, shuffle=True, collate_fn=list)
        wait_for_go()
        cpu, start = time.process_time(), time.perf_counter()
        total = sum(sum(batch) for batch in loader)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        dataset._alnair.source.finish()  # before its directories go
        return {"bytes": total, "seconds": seconds, "cpu": cpu, "source_hits": alnair.stats()["source_hits"]}


# ---- around them


def serve_streams(listener: socket.socket, size: int) -> None:
    def serve(stream: socket.socket) -> None:
        with stream:
            stream.recv(2)
            for _ in range(size // len(BLOCK)):
                stream.sendall(BLOCK)

    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--mbit", type=int, default=1_000)
    parser.add_argument("--objects", type=int, default=4_000)
    parser.add_argument("--stream", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--epoch", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stream or options.epoch:
        result = plain_stream(*options.stream) if options.stream else read_epoch(*options.epoch)
        print(json.dumps(result), flush=True)
        return

    size = options.objects * SIZE // len(BLOCK) * len(BLOCK)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alnair-bench-files-")))
        for i in range(options.objects):
            (folder / f"{i:06d}.bin").write_bytes(os.urandom(SIZE))
        nodes = Nodes(options.nodes, options.mbit)
        stack.callback(nodes.close)
        redis = stack.enter_context(RedisCluster(3, 0, "--maxmemory", "4gb", node_timeout_ms=60_000, host=HOST))
        listener = stack.enter_context(socket.create_server((HOST, 0)))
        threading.Thread(target=serve_streams, args=(listener, size), daemon=True).start()
        nodes.run("--epoch", str(folder), redis.url, nodes=1)  # the first job
        rounds: dict = {"plain TCP stream": [], "second job": []}
        for _ in range(options.rounds):
            rounds["plain TCP stream"].append(nodes.run("--stream", str(listener.getsockname()[1]), str(size)))
            rounds["second job"].append(nodes.run("--epoch", str(folder), redis.url))
    assert all(node["source_hits"] == 0 for each in rounds["second job"] for node in each)
    rate = {name: statistics.median(node["bytes"] / node["seconds"] for each in results for node in each)
            for name, results in rounds.items()}  # fmt: skip
    slowest = {name: statistics.median(min(node["bytes"] / node["seconds"] for node in each) for each in results)
               for name, results in rounds.items()}  # fmt: skip
    cpu = statistics.median(node["cpu"] / node["bytes"] * 1e9 for each in rounds["second job"] for node in each)
    print(f"{options.nodes} nodes at once, a link of {options.mbit:,} Mbit/s each, {options.objects:,} objects of {SIZE:,} bytes, "
          f"medians of {options.rounds}; {machine()}\n")  # fmt: skip
    print(table(["", "MB/s of a node", "of the slowest node"],
                [[name, f"{rate[name] / 1e6:.1f}", f"{slowest[name] / 1e6:.1f}"] for name in rounds]))  # fmt: skip
    print(f"\nThe second job gets {100 * rate['second job'] / rate['plain TCP stream']:.1f} % of a plain stream "
          f"(the slowest node: {100 * slowest['second job'] / slowest['plain TCP stream']:.1f} %), "
          f"with {cpu:.2f} CPU seconds of a node for a GB.\n")  # fmt: skip
    print(targets([("second job behind the link, % of a plain stream", 100 * rate["second job"] / rate["plain TCP stream"], "≥", 95)]))


if __name__ == "__main__":
    main()
