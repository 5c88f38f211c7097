"""Fetching from S3: Alnair's client beside others, each at its best concurrency, in interleaved rounds.

Servers: nginx over plain files (signatures ignored: the client is the limit), versitygw (signatures checked), and nginx behind a proxy
that holds back the first byte of each answer for 30 ms. Beside the clients, for scale: a loop of one thread over libcurl, and wrk, which
throws away what it reads. Every client runs in a process of its own; CPU is the client's.
"""

import argparse
import asyncio
import concurrent.futures
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional

import servers
from measure import machine, table, targets

PROGRAMS = Path(__file__).parents[2] / "build/bench-cpp/bench"
DELAY = 0.030
WARM_UP = 0.5  # seconds


class Size(NamedTuple):
    bytes: int
    objects: int
    part: int = 0  # bytes that are asked for at once; 0: the whole object

    @property
    def bucket(self) -> str:
        return f"objects-{self.bytes}"

    @property
    def read(self) -> int:
        return self.part or self.bytes


SIZES = {"4 KB": Size(4096, 1000), "110 KB": Size(110_000, 500), "64 MB": Size(64 << 20, 4, 8 << 20)}
SERVERS = ["nginx", "versitygw", "nginx + 30 ms"]
PEERS = {"obstore": (16, 64), "s3torchconnector": (8, 32), "boto3": (4, 16)}  # what each is tried with in flight
CLIENTS = {"Alnair": (16, 64), **PEERS, "plain libcurl": (16,)}


# The peers: read(key, offset, length), called from `workers` threads.


def boto3_client(endpoint: str, workers: int = 10):
    import boto3
    from botocore.config import Config

    return boto3.client("s3", endpoint_url=endpoint, config=Config(max_pool_connections=workers, s3={"addressing_style": "path"}))


def boto3_reader(endpoint: str, bucket: str, workers: int):
    client = boto3_client(endpoint, workers)

    def read(key, offset, length):
        extra = {"Range": f"bytes={offset}-{offset + length - 1}"} if length else {}
        return len(client.get_object(Bucket=bucket, Key=key, **extra)["Body"].read())

    return read


def s3torchconnector_reader(endpoint: str, bucket: str, _: int):
    from s3torchconnector._s3client import S3Client, S3ClientConfig

    local = threading.local()

    def read(key, offset, length):
        if not hasattr(local, "client"):
            local.client = S3Client("us-east-1", endpoint=endpoint, s3client_config=S3ClientConfig(force_path_style=True))
        reader = local.client.get_object(bucket, key)
        if not length:
            return len(reader.read())
        reader.seek(offset)
        return len(reader.read(length))

    return read


def obstore_phases(endpoint: str, bucket: str, workers: int, reads) -> Callable[[float], list]:
    import obstore

    store = obstore.store.S3Store(bucket, endpoint=endpoint, region="us-east-1", virtual_hosted_style_request=False,
                                  client_options={"allow_http": True})  # fmt: skip
    loop = asyncio.new_event_loop()

    async def work(end):
        done = received = 0
        while time.perf_counter() < end:
            key, offset, length = next(reads)
            if length:
                body = await obstore.get_range_async(store, key, start=offset, length=length)
            else:
                body = await (await obstore.get_async(store, key)).bytes_async()
            done += 1
            received += len(body)
        return done, received

    async def all_work(end):
        return await asyncio.gather(*(work(end) for _ in range(workers)))

    return lambda seconds: loop.run_until_complete(all_work(time.perf_counter() + seconds))


def threaded_phases(read, workers: int, reads) -> Callable[[float], list]:
    lock, pool = threading.Lock(), concurrent.futures.ThreadPoolExecutor(workers)

    def work(end):
        done = received = 0
        while time.perf_counter() < end:
            with lock:
                which = next(reads)
            received += read(*which)
            done += 1
        return done, received

    return lambda seconds: list(pool.map(work, [time.perf_counter() + seconds] * workers))


def peer(name: str, endpoint: str, size: Size, workers: int, seconds: float) -> None:
    """One peer, in a process of its own: prints a line of JSON. Imports, threads and first connections are not in it."""
    offsets = range(0, size.bytes, size.part) if size.part else [0]
    reads = itertools.cycle([(str(i), offset, size.part) for i in range(size.objects) for offset in offsets])
    if name == "obstore":
        phase = obstore_phases(endpoint, size.bucket, workers, reads)
    else:
        reader = {"boto3": boto3_reader, "s3torchconnector": s3torchconnector_reader}[name]
        phase = threaded_phases(reader(endpoint, size.bucket, workers), workers, reads)
    phase(WARM_UP)
    begin, cpu = time.perf_counter(), time.process_time()
    done, received = map(sum, zip(*phase(seconds)))
    result = {"reads": done, "bytes": received, "errors": 0, "wall": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
    print(json.dumps(result), flush=True)
    os._exit(0)  # obstore's threads abort at times when the interpreter ends


# What is measured.


class Run(NamedTuple):
    rate: float  # reads a second
    cpu: float  # seconds a gigabyte
    cores: float


def measure(name: str, endpoint: str, size: Size, workers: int, seconds: float) -> Optional[Run]:
    last = [str(seconds), str(workers), str(size.part)]
    if name == "Alnair":
        command = [PROGRAMS / "bench_s3_fetch", endpoint, size.bucket, f":{size.objects}", *last]
    elif name == "plain libcurl":
        command = [PROGRAMS / "bench_plain_curl", f"{endpoint}/{size.bucket}/", str(size.objects), str(size.bytes), *last]
    else:
        label = next(label for label, each in SIZES.items() if each == size)
        command = [sys.executable, __file__, "--peer", name, endpoint, label, str(workers), str(seconds)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if run.returncode != 0:
        print(f"{name}, {workers} in flight, ended with {run.returncode}: {run.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    result = json.loads(run.stdout)
    assert result["errors"] == 0 and result["bytes"] == result["reads"] * size.read
    return Run(result["reads"] / result["wall"], result["cpu"] / (result["bytes"] / 1e9), result["cpu"] / result["wall"])


def wrk_rate(endpoint: str, size: Size, seconds: float) -> Optional[float]:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f"local i = 0\nrequest = function()\n  i = (i + 1) % {size.objects}\n"
            f'  return wrk.format("GET", "/{size.bucket}/" .. i)\nend\n'
        )
        script.flush()
        command = ["wrk", "-t1", "-c16", f"-d{max(1, round(seconds))}s", "-s", script.name, endpoint]
        text = subprocess.run(command, capture_output=True, text=True).stdout
    return next((float(line.split()[1]) for line in text.splitlines() if line.startswith("Requests/sec")), None)


def compare(server: str, endpoint: str, label: str, options: argparse.Namespace) -> tuple:
    """Rows of the table, and of the targets."""
    size = SIZES[label]
    clients = {name: tries for name, tries in CLIENTS.items() if name != "plain libcurl" or server == "nginx"}
    chosen: Dict[str, int] = {}
    for name, tries in clients.items():
        rates = {workers: run.rate for workers in tries if (run := measure(name, endpoint, size, workers, options.seconds / 2))}
        if rates:
            chosen[name] = max(rates, key=lambda workers: rates[workers])
    runs: Dict[str, List[Run]] = {name: [] for name in chosen}
    wrk: List[float] = []
    for _ in range(options.rounds):
        for name, workers in chosen.items():
            if run := measure(name, endpoint, size, workers, options.seconds):
                runs[name].append(run)
        if server == "nginx" and not size.part and (rate := wrk_rate(endpoint, size, options.seconds)):
            wrk.append(rate)
    rate = {name: statistics.median(run.rate for run in each) for name, each in runs.items() if each}
    cpu = {name: statistics.median(run.cpu for run in runs[name]) for name in rate}
    best = max((rate[name] for name in PEERS if name in rate), default=float("nan"))
    rows = []
    for name in rate:
        low, high = (each([run.rate for run in runs[name]]) for each in (min, max))
        shown = f"{rate[name] * size.part / 1e9:.2f} GB/s" if size.part else f"{rate[name]:,.0f} ({low:,.0f} to {high:,.0f})"
        cores = statistics.median(run.cores for run in runs[name])
        rows.append([server, label, name, chosen[name], shown, f"{rate[name] / best:.2f}", f"{cpu[name]:.2f}", f"{cores:.2f}"])
    if wrk:
        rows.append([server, label, "wrk", 16, f"{statistics.median(wrk):,.0f}", f"{statistics.median(wrk) / best:.2f}", "", ""])
    wanted = []
    where = f"{server}, {label}: "
    if server == "nginx" and not size.part:
        wanted.append([where + "times the best peer", rate["Alnair"] / best, "≥", 4])
        if wrk:
            wanted.append([where + "of wrk's rate", rate["Alnair"] / statistics.median(wrk), "≥", 0.7])
    elif server == "nginx + 30 ms":
        alone = measure("Alnair", endpoint, size, 1, options.seconds)
        assert alone is not None
        wanted.append([where + f"of in flight / latency ({1e3 / alone.rate:.1f} ms with one in flight)",
                       rate["Alnair"] / (chosen["Alnair"] * alone.rate), "≥", 0.95])  # fmt: skip
    if server != "nginx" or size.part:
        wanted.append([where + "times the best peer", rate["Alnair"] / best, "≥", 0.95])
    least = min((cpu[name] for name in PEERS if name in cpu), default=float("nan"))
    wanted.append([where + "CPU s/GB, of the peer that takes least", cpu["Alnair"] / least, "≤", 1])
    return rows, wanted


def write_files(root: Path, sizes: List[str]) -> None:
    for size in (SIZES[label] for label in sizes):
        (root / size.bucket).mkdir()
        for number in range(size.objects):
            (root / size.bucket / str(number)).write_bytes(os.urandom(size.bytes))


def upload(endpoint: str, files: Path, sizes: List[str]) -> None:
    """Puts the files: laid into versitygw's folder they would have no ETag, without which one of the peers refuses them."""
    client = boto3_client(endpoint)
    for size in (SIZES[label] for label in sizes):
        client.create_bucket(Bucket=size.bucket)
        for path in (files / size.bucket).iterdir():
            client.put_object(Bucket=size.bucket, Key=path.name, Body=path.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--servers", nargs="*", default=SERVERS, choices=SERVERS)
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=list(SIZES))
    options = parser.parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID=servers.ACCESS_KEY, AWS_SECRET_ACCESS_KEY=servers.SECRET_KEY, AWS_REGION="us-east-1",
                      AWS_EC2_METADATA_DISABLED="true")  # fmt: skip
    names = [name for name in options.servers if name != "versitygw" or os.environ.get("ALNAIR_TEST_VERSITYGW")]
    rows, wanted = [], []
    with tempfile.TemporaryDirectory(prefix="alnair-bench-s3-") as home:
        files, empty = Path(home) / "files", Path(home) / "versitygw"
        for folder in (Path(home), files, empty):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        write_files(files, options.sizes)
        for name in names:
            with servers.versitygw(empty) if name == "versitygw" else servers.nginx(files) as plain:
                if name == "versitygw":
                    upload(plain, files, options.sizes)
                late = name.endswith("30 ms")
                with servers.delayed(plain, DELAY) if late else servers.contextlib.nullcontext(plain) as url:
                    for label in options.sizes:
                        if late and SIZES[label].part:
                            continue  # how long ranges take does not hang on latency
                        measured, against = compare(name, url, label, options)
                        rows += measured
                        wanted += against
    print(f"Fetching from S3, reads/s, medians of {options.rounds}; {machine()}\n")
    print(table(["server", "objects", "client", "in flight", "reads/s", "times the best peer", "CPU s/GB", "cores"], rows))
    print("\n" + targets(wanted))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        peer(sys.argv[2], sys.argv[3], SIZES[sys.argv[4]], int(sys.argv[5]), float(sys.argv[6]))
    else:
        main()
