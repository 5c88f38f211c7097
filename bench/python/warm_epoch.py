"""Warm epochs: what reading costs when the data is on this node already.

Decoding is excluded: without workers a batch is a list of the samples' bytes, as a decoder takes them; with workers it is one uint8
tensor, as batches cross processes. All read in a shuffled order, through a DataLoader with the same arguments:

    alnair   AlnairJobDataLoader over node memory
    files    PyTorch's DataLoader over the same files in the page cache (open, read, close)
    dict     PyTorch's DataLoader over a dict of bytes in memory: no loader can do better
"""

import argparse
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
from measure import interleaved, machine, private_bytes, table
from torch.utils.data import DataLoader, Dataset

import alnair
from alnair import AlnairJobDataLoader, AlnairJobDataset

warnings.filterwarnings("ignore", message="The given buffer is not writable")
warnings.filterwarnings("ignore", message="This DataLoader will create")


def stacked(samples) -> torch.Tensor:
    return torch.stack([torch.frombuffer(content, dtype=torch.uint8) for content in samples])


class Cached(AlnairJobDataset):
    def __getitem__(self, index):
        return self.get_data(index, view=True)


class Files(Dataset):
    def __init__(self, paths):
        self.paths = paths

    def __getitem__(self, index):
        with open(self.paths[index], "rb") as file:
            return file.read()

    def __len__(self):
        return len(self.paths)


class InMemory(Dataset):
    def __init__(self, contents):
        self.contents = contents

    def __getitem__(self, index):
        return self.contents[index]

    def __len__(self):
        return len(self.contents)


def epoch(loader) -> int:
    return sum(len(batch) for batch in loader)


def worker_memory(loader) -> float:
    """MB that a worker holds for itself, in the middle of an epoch; 0 without workers."""
    iterator = iter(loader)
    for _ in range(max(1, len(loader) // 2)):
        next(iterator)
    sizes = [private_bytes(worker.pid) for worker in getattr(iterator, "_workers", [])]
    del iterator
    return sum(sizes) / len(sizes) / 1e6 if sizes else 0.0


def measure(size: int, count: int, batch_size: int, workers: list, rounds: int, home: Path) -> list:
    folder = home / f"{size}"
    folder.mkdir()
    paths = [folder / f"{number:06d}.bin" for number in range(count)]
    for path in paths:
        path.write_bytes(os.urandom(size))
    datasets = {
        "alnair": Cached(source=f"file://{folder}", memory_limit=4 * size * count + (64 << 20)),
        "files": Files([str(path) for path in paths]),
        "dict": InMemory({number: path.read_bytes() for number, path in enumerate(paths)}),
    }
    rows = []
    for number_of_workers in workers:

        loaders = {
            name: (AlnairJobDataLoader if name == "alnair" else DataLoader)(
                dataset, batch_size, shuffle=True, num_workers=number_of_workers, persistent_workers=number_of_workers > 0,
                collate_fn=stacked if number_of_workers else list,
            )
            for name, dataset in datasets.items()
        }
        for loader in loaders.values():
            assert epoch(loader) == count  # warm: caches filled, workers started
        before = alnair.stats()
        series = interleaved({name: lambda loader=loader: epoch(loader) for name, loader in loaders.items()}, rounds)
        fetched = alnair.stats()["source_hits"] - before["source_hits"]
        memory = {name: worker_memory(loader) for name, loader in loaders.items()}
        del loaders
        datasets["alnair"]._alnair.source.finish()
        rate = {name: each.rate(count) for name, each in series.items()}
        rows.append([
            f"{size:,}", number_of_workers, *(f"{rate[name]:,.0f} ±{100 * series[name].spread():.0f} %" for name in datasets),
            f"{rate['alnair'] / rate['files']:.2f}×", f"{100 * rate['alnair'] / rate['dict']:.0f} %",
            " / ".join(f"{memory[name]:.0f}" for name in datasets), fetched,
        ])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each (7)")
    parser.add_argument("--megabytes", type=int, default=128, help="size of each dataset (128)")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2, 8])
    options = parser.parse_args()

    home = Path(tempfile.mkdtemp(prefix="alnair-bench-"))
    memory = Path(tempfile.mkdtemp(prefix="alnair-bench-", dir="/dev/shm"))
    os.environ["ALNAIR_CACHE_DIR"] = str(home / "cache")
    os.environ["ALNAIR_MEMORY_DIR"] = str(memory / "memory")
    torch.set_num_threads(1)
    try:
        rows = []
        for size, batch_size in (4096, 256), (110_000, 64):
            count = options.megabytes * 1_000_000 // size
            rows += measure(size, count, batch_size, options.workers, options.rounds, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(memory, ignore_errors=True)
    print(f"Warm epochs, samples/s, medians of {options.rounds}; {machine()}; PyTorch {torch.__version__}\n")
    print(table(["bytes", "workers", "alnair", "files", "dict", "÷ files", "of dict", "MB a worker (each)", "fetched"], rows))


if __name__ == "__main__":
    main()
