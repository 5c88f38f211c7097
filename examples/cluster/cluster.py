"""Four training processes that share a Redis Cluster in front of S3. See `run --help`, which sets up what this needs."""
import argparse
import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Dict, List

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "quickstart"))

import object_store  # noqa: E402
from counting_proxy import CountingProxy  # noqa: E402
from redis_cluster import RedisCluster  # noqa: E402

ALL_IMAGES = 70_000
PATIENCE = 600  # seconds without a word from any node


class Node:
    """A process that poses as a node: its node memory and its directory are its own."""

    def __init__(self, name: str, home: Path, memory: Path, messages: "queue.Queue", environment: Dict[str, str], options: dict):
        self.name = name
        environment = {**environment, "ALNAIR_CACHE_DIR": str(home / name), "ALNAIR_MEMORY_DIR": str(memory / name),
                       "ALNAIR_MEMORY_LIMIT": "64MiB", "ALNAIR_DISK_LIMIT": "64MiB",
                       "PYTHONPATH": os.pathsep.join([str(HERE.parent / "quickstart"), os.environ.get("PYTHONPATH", "")])}
        self.process = object_store.start([sys.executable, HERE / "node.py", json.dumps(options)], env=environment, text=True,
                                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        threading.Thread(target=self._listen, args=(messages,), daemon=True).start()

    def begin(self) -> None:
        self.process.stdin.write("begin\n")
        self.process.stdin.flush()

    def _listen(self, messages: "queue.Queue") -> None:
        for line in self.process.stdout:
            messages.put((self, json.loads(line)))
        messages.put((self, None))


def train(title: str, nodes: List[Node], messages: "queue.Queue", in_the_middle=None) -> List[str]:
    """Waits for the nodes, and says what became of them. Returns the sums of the samples of each epoch of each node."""
    print(f"\n{title}")
    sums, counts, started, ready, running = [], {}, set(), 0, len(nodes)
    while running:
        node, message = messages.get(timeout=PATIENCE)
        if message is None:
            if node.process.wait() != 0:
                sys.exit(f"{node.name} failed (its message is above)")
            running -= 1
        elif "ready" in message:
            ready += 1
            if ready == len(nodes):
                for each in nodes:
                    each.begin()
        elif "batch" in message:
            if message["batch"] == 2:
                started.add(node.name)
            if in_the_middle is not None and len(started) == len(nodes):
                in_the_middle()
                in_the_middle = None
        elif "sum" in message:
            sums.append(message["sum"])
            print(f"  {node.name}: epoch {message['epoch']}, loss {message['loss']:.2f}, samples {message['sum'][:8]}…")
        else:
            counts[node.name] = message["counts"]
    for name, count in sorted(counts.items()):
        parts = {"S3": count["source_hit_bytes"], "Redis": count["redis_hit_bytes"], "disk": count["disk_hit_bytes"]}
        parts["memory"] = max(0, count["read_bytes"] - sum(parts.values()))
        print(f"  {name}: {count['reads']:,} samples; bytes from "
              + ", ".join(f"{where} {size / 1e6:.2f} MB" for where, size in parts.items())
              + f"; {count['s3_get_object']:,} GETs")
    if in_the_middle is not None:
        sys.exit("the nodes were through before anything could be done in the middle")
    return sums


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="examples/cluster/run")
    parser.add_argument("--images", type=int, default=1_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=4)
    options = parser.parse_args()
    if not 100 <= options.images <= ALL_IMAGES or options.epochs < 1 or options.nodes < 1:
        parser.error(f"expected 100 to {ALL_IMAGES:,} images, and at least one epoch and one node")
    return options


def main() -> int:
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, as Ctrl-C does
    messages: "queue.Queue" = queue.Queue()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alnair-cluster-")))
        memory = Path(tempfile.mkdtemp(prefix="alnair-cluster-", dir="/dev/shm"))
        stack.callback(shutil.rmtree, memory, ignore_errors=True)
        store = stack.enter_context(object_store.ObjectStore(home))
        bucket = store.upload_fashion_mnist(options.images / ALL_IMAGES, memory, lambda *_: None)
        images = sum(1 for path in (store.buckets / bucket).rglob("train/**/*.png"))
        proxy = stack.enter_context(CountingProxy(store.endpoint_url))
        redis = stack.enter_context(RedisCluster())
        print(f"{images:,} images to train on, in s3://{bucket}; a Redis Cluster of six servers; {options.nodes} nodes.")
        nodes: List[Node] = []
        stack.callback(lambda: [node.process.kill() for node in nodes])
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("ALNAIR_", "AWS_"))}
        environment.update(ALNAIR_REDIS=redis.url + "?timeout_ms=1000", ALNAIR_ENDPOINT_URL=proxy.endpoint_url,
                           ALNAIR_HEDGING="false",  # a straggler is not asked for twice: the requests are counted
                           ALNAIR_REGION="us-east-1", AWS_ACCESS_KEY_ID=object_store.ACCESS_KEY,
                           AWS_SECRET_ACCESS_KEY=object_store.SECRET_KEY, no_proxy="127.0.0.1", NO_PROXY="127.0.0.1")

        def start(names: str, epochs: int, lookahead) -> List[Node]:
            what = {"source": f"s3://{bucket}", "epochs": epochs, "lookahead": lookahead}
            fresh = [Node(f"{names} {i + 1}", home, memory, messages, environment, {**what, "seed": i})
                     for i in range(options.nodes)]
            nodes.extend(fresh)
            return fresh

        sums = train("Nodes that start together, with nothing in any cache:", start("node", options.epochs, None), messages)
        asked = proxy.get_object
        print(f"The S3 server was asked for {asked:,} objects by {options.nodes} nodes; there are {images:,}.")

        def kill() -> None:
            print(f"  killing the master at port {redis.kill_a_master()}, a third of the cluster")

        sums += train("Fresh nodes, which find everything in Redis, and lose a master while they train:",
                      start("fresh node", 1, 0), messages, in_the_middle=kill)
        print(f"The S3 server was asked for {proxy.get_object - asked:,} objects more.")
        if len(set(sums)) != 1:
            sys.exit(f"THE SAMPLES DIFFER: {sorted(set(sums))}")
        print(f"\nAll {len(sums)} epochs had the very same samples.")
        return 0 if asked == images else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
