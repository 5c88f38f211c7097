"""Epochs over a dataset four times as large as node memory and directory together, and as node memory alone.

In the first case each chunk that no tier had room for is fetched once an epoch, from nginx; the rate is compared with the raw
rate of the same client. In the second the directory tier has everything; the rate is compared with reading the same
objects as files, both from a disk whose page cache is dropped before each epoch. num_workers 0, decoding excluded.
"""

import argparse
import os
import random
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import servers
import torch
from cold_epoch import Bytes, raw
from measure import Measured, cpu_seconds, interleaved, machine, table

import alnair
from alnair import AlnairJobDataLoader

SIZE = 110_000
CONNECTIONS = 32  # the default


def drop_page_cache(folder: Path) -> None:
    """Makes the kernel forget the files' pages, so that reads reach the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fdatasync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Epochs:
    """A dataset in caches of its own; each run() is one epoch."""

    def __init__(self, memory_limit: int, disk_limit: int) -> None:
        self.cache = Path(tempfile.mkdtemp(prefix="alnair-bench-"))
        self.memory = Path(tempfile.mkdtemp(prefix="alnair-bench-", dir="/dev/shm"))
        self.dataset = Bytes(
            source="s3://objects",
            cache_dir=self.cache,
            memory_dir=self.memory / "memory",
            memory_limit=memory_limit,
            disk_limit=disk_limit,
            max_connections=CONNECTIONS,
        )
        self.gets: list = []

    def run(self, from_disk: bool) -> Measured:
        if from_disk:
            drop_page_cache(self.cache)
        before = alnair.stats()["s3_get_object"]
        loader = AlnairJobDataLoader(self.dataset, batch_size=32, shuffle=True, collate_fn=list)
        cpu, start = cpu_seconds(), time.perf_counter()
        total = sum(sum(batch) for batch in loader)
        measured = Measured(time.perf_counter() - start, cpu_seconds() - cpu)
        assert total == SIZE * len(self.dataset)
        self.gets.append(int(alnair.stats()["s3_get_object"] - before))
        return measured

    def close(self) -> None:
        self.dataset._alnair.source.finish()
        shutil.rmtree(self.cache, ignore_errors=True)
        shutil.rmtree(self.memory, ignore_errors=True)


def read_files(folder: Path) -> Measured:
    """Every file once, in random order, by 8 threads."""
    paths = [str(path) for path in folder.iterdir()]
    random.shuffle(paths)
    drop_page_cache(folder)

    def size_of(path: str) -> int:
        with open(path, "rb", buffering=0) as file:
            return len(file.read())

    cpu, start = cpu_seconds(), time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(size_of, paths, chunksize=16)) == SIZE * len(paths)
    return Measured(time.perf_counter() - start, cpu_seconds() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--objects", type=int, default=4000, help=f"of {SIZE:,} bytes (4000)")
    options = parser.parse_args()

    os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = servers.ACCESS_KEY, servers.SECRET_KEY
    os.environ["AWS_REGION"] = "us-east-1"
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="alnair-bench-s3-"))
    root.chmod(0o755)
    (root / "objects").mkdir()
    total = SIZE * options.objects
    for number in range(options.objects):
        (root / "objects" / f"{number:06d}.bin").write_bytes(os.urandom(SIZE))
    rows, runs = [], []
    try:
        with servers.nginx(root) as url:
            os.environ["AWS_ENDPOINT_URL"] = url
            for name, disk_limit, baseline in [
                ("4 x (memory + directory)", total // 8, partial(raw, "objects", CONNECTIONS)),
                ("4 x memory, all on disk", 4 * total, partial(read_files, root / "objects")),
            ]:
                from_disk = disk_limit > total
                runs.append(Epochs(total // 4 if from_disk else total // 8, disk_limit))
                epochs = runs[-1]
                epochs.run(False)  # the first epoch
                epochs.dataset._alnair.source.core.flush()
                first = epochs.gets[0]
                series = interleaved({"base": baseline, "epoch": partial(epochs.run, from_disk)}, options.rounds)
                base, rate = (series[which].rate(options.objects) for which in ("base", "epoch"))
                later = ", ".join(str(gets) for gets in epochs.gets[1:])
                rows.append([name, options.objects, first, later, f"{base:,.0f}", f"{rate:,.0f}", f"{100 * rate / base:.0f} %"])
    finally:
        for epochs in runs:
            epochs.close()
        shutil.rmtree(root, ignore_errors=True)
    print(f"Datasets larger than the cache, objects of {SIZE:,} bytes, medians of {options.rounds}; {machine()}\n")
    header = ["dataset", "objects", "GETs, epoch 1", "later epochs", "S3 or files, objects/s", "epoch, objects/s", "ratio"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
