"""A dataset of ten million objects in several ranks with worker processes each, against bare PyTorch.

    alnair   AlnairJobDataLoader over a dataset that is known on this node (refresh="never"), without __convert__
    bare     PyTorch's DataLoader over a dataset that returns its index

Each with the workers forked and spawned. Memory is what only the worker holds (private pages), after some batches; `over bare` is
what Alnair adds to it. The first start finds the manifest in the catalog only, the second finds it expanded in node memory. The first
batch is timed from the call of iter(), and needs its objects from a server on this machine; `start` is from the start of the program.
"""

import argparse
import json
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import servers

BATCH = 8


class Bare:
    """As little as a dataset can be."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        return index


def rank(kind: str, method: str, workers: int, objects: int) -> dict:
    """Runs in a process of its own: what one rank measures."""
    started = time.time()
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    if kind == "alnair":
        from alnair import AlnairJobDataLoader as Loader
        from alnair import AlnairJobDataset

        imported = time.time()
        dataset = AlnairJobDataset(source="s3://large", refresh="never", anonymous=True, region="us-east-1")
    else:
        Loader, imported, dataset = DataLoader, time.time(), Bare(objects)
    opened = time.time()
    assert len(dataset) == objects
    loader = Loader(dataset, BATCH, shuffle=True, num_workers=workers, multiprocessing_context=method, collate_fn=list)
    iterator = iter(loader)
    next(iterator)
    first = time.time()
    for _ in range(4 * workers):
        next(iterator)
    memory = [measure.private_bytes(worker.pid) for worker in iterator._workers]
    result = {
        "import_s": imported - started, "open_s": opened - imported, "first_batch_s": first - opened,
        "start_s": first - started, "pickle": len(pickle.dumps(dataset)), "memory": memory,
        "main": measure.private_bytes(os.getpid()),
    }  # fmt: skip
    del iterator
    return result


def ranks(kind: str, method: str, options: argparse.Namespace) -> list:
    command = [sys.executable, __file__, "--rank", kind, "--method", method]
    command += ["--objects", str(options.objects), "--workers", str(options.workers)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "LOCAL_RANK": str(number)})
        for number in range(options.ranks)
    ]
    results = [process.communicate()[0] for process in running]
    assert all(process.returncode == 0 for process in running), f"a rank of {kind}, {method} failed"
    return [json.loads(text) for text in results]


def register(objects: int) -> float:
    """Lists the bucket once, so that the dataset is known."""
    start = time.perf_counter()
    code = "import alnair; d = alnair.AlnairJobDataset(source='s3://large', anonymous=True, region='us-east-1'); print(len(d.all_keys))"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert int(done.stdout) == objects
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=10_000_000)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--workers", type=int, default=8, help="of each rank (8)")
    parser.add_argument("--methods", nargs="*", default=["fork", "spawn"])
    parser.add_argument("--rank", choices=["alnair", "bare"], help=argparse.SUPPRESS)
    parser.add_argument("--method", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        print(json.dumps(rank(options.rank, options.method, options.workers, options.objects)))
        return

    home = Path(tempfile.mkdtemp(prefix="alnair-bench-"))
    memory = Path(tempfile.mkdtemp(prefix="alnair-bench-", dir="/dev/shm"))
    os.environ["ALNAIR_CACHE_DIR"] = str(home / "cache")
    os.environ["ALNAIR_MEMORY_DIR"] = str(memory / "memory")
    os.environ["ALNAIR_MEMORY_LIMIT"] = "256MiB"
    port = servers.free_port()
    command = [sys.executable, str(Path(__file__).with_name("listing_server.py")), str(port), str(options.objects)]
    rows, targets = [], []
    try:
        with servers.running(command, port) as url:
            os.environ["AWS_ENDPOINT_URL"] = url
            listed = register(options.objects)
            for method in options.methods:
                shutil.rmtree(memory / "memory")  # what a node has after it was started anew
                found = {"bare": ranks("bare", method, options), "first": ranks("alnair", method, options)}
                found["second"] = ranks("alnair", method, options)
                bare = statistics.median(size for each in found["bare"] for size in each["memory"])
                bare_s = max(each["first_batch_s"] for each in found["bare"])
                for name, results in found.items():
                    sizes = [size for each in results for size in each["memory"]]
                    worst = {key: max(each[key] for each in results) for key in ("open_s", "first_batch_s", "start_s", "pickle")}
                    if name != "bare":
                        start = f"{method}, {name} start"
                        targets += [
                            (f"{start}: first batch, s (bare PyTorch's: {bare_s:.2f})", worst["first_batch_s"], "≤", 2),
                            (f"{start}: MB a worker, most over bare", (max(sizes) - bare) / 1e6, "≤", 30),
                            (f"{start}: pickle, bytes", worst["pickle"], "≤", 1024),
                        ]
                    rows.append([
                        method, name if name == "bare" else f"alnair, {name} start",
                        f"{statistics.median(sizes) / 1e6:.1f}", f"{(max(sizes) - bare) / 1e6:+.1f}",
                        f"{max(each['main'] for each in results) / 1e6:.0f}", worst["pickle"],
                        *(f"{worst[key]:.2f}" for key in ("open_s", "first_batch_s", "start_s")),
                    ])  # fmt: skip
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(memory, ignore_errors=True)
    processes = options.ranks * options.workers
    print(f"{options.objects:,} objects, {options.ranks} ranks with {options.workers} workers each ({processes} processes); {measure.machine()}")
    print(f"listed and registered in {listed:.0f} s (the server here makes pages of it meanwhile)\n")
    header = ["workers", "what", "MB a worker", "most over bare, MB", "MB the loop", "pickle, bytes", "open, s", "first batch, s", "start, s"]
    print(measure.table(header, rows))
    print()
    print(measure.targets(targets))


if __name__ == "__main__":
    main()
