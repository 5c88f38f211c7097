"""JPEG images in S3 as a training loop sees them.

Images are made here (median near 110 KB). Each competitor reads two epochs, shuffled, in a process of its own with an empty cache:
once with decoding (decode, resize to 224 x 224, collate), once without (the content in memory, and its length). `waiting` is the share
of time that a loop with batches of 8 and steps of 50 ms waits for data in each epoch, decoding excluded; "nothing to read" is what
PyTorch's own loader costs it, whose workers have nothing to read. The server is nginx on this machine,
bare and behind a proxy with a first byte after 20 ms (median; 200 ms at the 99th percentile) and 1 % of answers 503. Rounds are
interleaved; the table has medians. A competitor that fails is reported with its error.
"""

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import peers
import servers

STEP_S = 0.05


def make_images(folder: Path, count: int) -> int:
    """Smooth shapes under noise, whose strength sets the size. Returns the median in bytes."""
    import numpy
    from PIL import Image

    draw, sizes = numpy.random.default_rng(1), []
    for number in range(count):
        small = draw.integers(0, 255, (12, 16, 3), dtype=numpy.uint8)
        image = numpy.asarray(Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC), dtype=numpy.float32)
        image = image + draw.normal(0, 21 * draw.lognormal(0, 0.5), image.shape)
        stream = io.BytesIO()
        Image.fromarray(image.clip(0, 255).astype(numpy.uint8)).save(stream, "JPEG", quality=90)
        (folder / f"{number:07d}.jpg").write_bytes(stream.getvalue())
        sizes.append(len(stream.getvalue()))
    return int(statistics.median(sizes))


def decode(content):
    import torch
    from PIL import Image

    image = Image.open(io.BytesIO(content)).convert("RGB").resize((224, 224))
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)


def size_of(content):
    return len(content)  # of bytes, or of a view: nobody copies


def one(options: argparse.Namespace) -> dict:
    """What one competitor measures, in a process of its own."""
    import torch

    torch.set_num_threads(1)
    random.seed(options.round)
    torch.manual_seed(options.round)
    read, _ = peers.COMPETITORS[options.one]
    batch_size = 8 if options.what == "step" else 32
    start = time.perf_counter()
    loader = read(options.endpoint, Path(options.cache), decode if options.what == "decode" else size_of, batch_size, options.workers)
    first, epochs, waiting = None, [], []
    for _ in range(2):
        count, waited, begin = 0, 0.0, time.perf_counter()
        iterator = iter(loader)
        while True:
            before = time.perf_counter()
            batch = next(iterator, None)
            now = time.perf_counter()
            if batch is None:
                break
            first = now - start if first is None else first
            waited += now - before
            count += len(batch)
            batch = None  # freeing it is no waiting
            if options.what == "step":
                time.sleep(STEP_S)
        epochs.append(time.perf_counter() - begin)
        waiting.append(waited / epochs[-1])
        assert count == options.images, f"{count} of {options.images} images"
    return {"first": first, "epochs": epochs, "waiting": waiting}


def run(name: str, what: str, endpoint: str, number: int, home: Path, options: argparse.Namespace) -> dict:
    cache = Path(tempfile.mkdtemp(dir=home))
    memory = tempfile.mkdtemp(prefix="alnair-bench-", dir="/dev/shm")
    command = [sys.executable, __file__, "--one", name, "--what", what, "--endpoint", endpoint, "--cache", str(cache)]
    command += ["--images", str(options.images), "--workers", str(options.workers), "--round", str(number)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=options.timeout, env={**os.environ, "BENCH_MEMORY": f"{memory}/memory"})  # fmt: skip
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
        lines = done.stderr.strip().splitlines()
        return {"error": next((line for line in reversed(lines) if "Error" in line), (lines or ["it failed"])[-1])}
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {options.timeout} s"}
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        shutil.rmtree(memory, ignore_errors=True)


def rows_of(results: dict, options: argparse.Namespace) -> list:
    rows = []
    for (where, what, name), rounds in results.items():
        good = [each for each in rounds if "error" not in each]
        if not good:
            rows.append([where, what, name, "failed", rounds[-1]["error"][:100], "", ""])
            continue
        rates = [[options.images / each["epochs"][epoch] for each in good] for epoch in (0, 1)]
        shown = [f"{statistics.median(rate):,.0f} ({min(rate):,.0f}–{max(rate):,.0f})" for rate in rates]
        waits = [statistics.median(each["waiting"][epoch] for each in good) for epoch in (0, 1)]
        wait = " / ".join(f"{100 * share:.1f} %" for share in waits) if what == "step" else ""
        rows.append([where, what, name, *shown, f"{statistics.median(each['first'] for each in good):.2f}", wait])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(peers.COMPETITORS), choices=list(peers.COMPETITORS), metavar="COMPETITOR")
    parser.add_argument("--where", nargs="*", default=["bare", "proxy"], choices=["bare", "proxy"])
    parser.add_argument("--what", nargs="*", default=["decode", "bytes", "step"], choices=["decode", "bytes", "step"])
    parser.add_argument("--timeout", type=int, default=600, help="seconds for two epochs of one competitor (600)")
    for name in ("--one", "--endpoint", "--cache"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--round", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        options.what = options.what[0]
        print(json.dumps(one(options)))
        return

    home = Path(tempfile.mkdtemp(prefix="alnair-bench-"))
    os.environ.update(
        AWS_ACCESS_KEY_ID=servers.ACCESS_KEY, AWS_SECRET_ACCESS_KEY=servers.SECRET_KEY, AWS_DEFAULT_REGION=peers.REGION)  # fmt: skip
    results: dict = {}
    try:
        root = home / "buckets"
        raw = root / "raw"
        raw.mkdir(parents=True)
        median = make_images(raw, options.images)
        os.environ["BENCH_RAW"] = str(raw)
        for name in {peers.COMPETITORS[each][1] for each in options.only} - {None}:
            (root / name).mkdir()
            with contextlib.redirect_stdout(sys.stderr):
                peers.CONVERSIONS[name](raw, root / name)
        with servers.nginx(root) as bare, servers.delayed(bare, 0.02, 0.2, 0.01) as proxy:
            for number in range(options.rounds):
                for where in options.where:
                    for what in options.what:
                        for name in options.only:
                            if name == "nothing to read" and what != "step":
                                continue
                            found = run(name, what, bare if where == "bare" else proxy, number, home, options)
                            results.setdefault((where, what, name), []).append(found)
                            print(number, where, what, name, found, file=sys.stderr)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(f"{options.images:,} JPEG images of {median:,} bytes (median), {options.workers} workers, {options.rounds} rounds; {measure.machine()}\n")
    header = ["server", "what", "who", "epoch 1, images/s (range)", "epoch 2", "first batch, s", "waiting, epochs 1 / 2"]
    print(measure.table(header, rows_of(results, options)))


if __name__ == "__main__":
    main()
