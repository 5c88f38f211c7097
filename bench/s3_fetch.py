"""Compares Alnair's S3 source with other clients, each at its best concurrency, in interleaved rounds.

Servers: nginx over plain files (path-style URLs, signatures ignored: the client is the limit), versitygw (signatures checked), and
nginx behind a proxy of this script's own that adds 30 ms to the first byte. Started with `--client NAME ...` it is one peer, measured
in a process of its own.
"""

import argparse
import asyncio
import concurrent.futures
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALNAIR = ROOT / "build/bench-cpp/bench/bench_s3_fetch"
BUCKET = "bucket"
PART = 8 << 20
SIZES = {"4 KB": (4096, 1000, 0), "110 KB": (110_000, 500, 0), "64 MB": (64 << 20, 4, PART)}
KEYS = {"AWS_ACCESS_KEY_ID": "benchkey", "AWS_SECRET_ACCESS_KEY": "benchsecret0123", "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true"}
PEERS = {"alnair": (16, 64), "obstore": (16, 64), "s3torchconnector": (8, 32), "boto3": (4, 16)}


# ---- clients: read(key, offset, length), called from `workers` threads

def boto3_reader(endpoint, workers):
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", endpoint_url=endpoint, config=Config(max_pool_connections=workers, s3={"addressing_style": "path"}))

    def read(key, offset, length):
        extra = {"Range": f"bytes={offset}-{offset + length - 1}"} if length else {}
        return len(client.get_object(Bucket=BUCKET, Key=key, **extra)["Body"].read())

    return read


def s3torchconnector_reader(endpoint, workers):
    from s3torchconnector._s3client import S3Client, S3ClientConfig

    local = threading.local()

    def read(key, offset, length):
        if not hasattr(local, "client"):
            local.client = S3Client("us-east-1", endpoint=endpoint, s3client_config=S3ClientConfig(force_path_style=True))
        reader = local.client.get_object(BUCKET, key)
        if not length:
            return len(reader.read())
        reader.seek(offset)
        return len(reader.read(length))

    return read


def obstore_read_all(endpoint, workers, reads, seconds):
    import obstore

    store = obstore.store.S3Store(BUCKET, endpoint=endpoint, region="us-east-1", virtual_hosted_style_request=False,
                                  client_options={"allow_http": True})
    total = [0, 0]

    async def work(end):
        while time.perf_counter() < end:
            key, offset, length = next(reads)
            if length:
                body = await obstore.get_range_async(store, key, start=offset, length=length)
            else:
                body = await (await obstore.get_async(store, key)).bytes_async()
            total[0] += 1
            total[1] += len(body)

    async def run():
        end = time.perf_counter() + seconds
        await asyncio.gather(*(work(end) for _ in range(workers)))

    asyncio.run(run())
    return total


def client_main(name, endpoint, size, workers, seconds):
    object_size, count, part = SIZES[size]
    offsets = range(0, object_size, part) if part else [0]
    reads = itertools.cycle([(f"{object_size}/{i}", offset, part) for i in range(count) for offset in offsets])
    begin, cpu = time.perf_counter(), time.process_time()
    if name == "obstore":
        done, size_read = obstore_read_all(endpoint, workers, reads, seconds)
    else:
        read = {"boto3": boto3_reader, "s3torchconnector": s3torchconnector_reader}[name](endpoint, workers)
        lock = threading.Lock()

        def work(end):
            done = bytes_read = 0
            while time.perf_counter() < end:
                with lock:
                    job = next(reads)
                bytes_read += read(*job)
                done += 1
            return done, bytes_read

        end = time.perf_counter() + seconds
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            results = list(pool.map(work, [end] * workers))
        done, size_read = (sum(column) for column in zip(*results))
    print(json.dumps({"reads": done, "bytes": size_read, "errors": 0, "wall": time.perf_counter() - begin,
                      "cpu": time.process_time() - cpu}))


def measure(name, endpoint, size, workers, seconds):
    object_size, count, part = SIZES[size]
    if name == "alnair":
        command = [ALNAIR, endpoint, BUCKET, f"{object_size}/:{count}", str(seconds), str(workers), str(part)]
    else:
        command = [sys.executable, __file__, "--client", name, endpoint, size, str(workers), str(seconds)]
    run = subprocess.run(command, env={**os.environ, **KEYS}, capture_output=True, text=True, timeout=120)
    if run.returncode != 0:
        print(f"{name}: {run.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return json.loads(run.stdout)


def wrk_rate(endpoint, size, seconds, folder):
    object_size, count, _ = SIZES[size]
    script = folder / "wrk.lua"
    script.write_text(f'local i=0\nrequest=function() i=(i+1)%{count}; return wrk.format("GET","/{BUCKET}/{object_size}/"..i) end\n')
    text = subprocess.run(["wrk", "-t1", "-c16", f"-d{max(1, round(seconds))}s", "-s", script, endpoint], capture_output=True, text=True).stdout
    return next((float(line.split()[1]) for line in text.splitlines() if line.startswith("Requests/sec")), None)


# ---- servers

def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def start_nginx(folder):
    port = free_port()
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"worker_processes auto; daemon off; pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\n"
        f"http {{ access_log off; sendfile on; keepalive_requests 100000000; open_file_cache max=10000;\n{temporary}"
        f"server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n")
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    process = subprocess.Popen([nginx, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"])
    wait_for(port)
    return process, port


def start_versitygw(folder, program):
    port = free_port()
    process = subprocess.Popen(
        [program, "--quiet", "--keep-alive", "--port", f"127.0.0.1:{port}", "posix", folder], stdout=subprocess.DEVNULL,
        env={**os.environ, "ROOT_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY": KEYS["AWS_SECRET_ACCESS_KEY"]})
    wait_for(port)
    return process, port


class DelayingProxy(asyncio.Protocol):
    """Passes bytes on; what a server sends after a request arrives `delay` later."""

    def __init__(self, target, delay):
        self.target, self.delay, self.server, self.waiting = target, delay, None, []

    def connection_made(self, transport):
        self.client = transport
        asyncio.ensure_future(self.connect())

    async def connect(self):
        outer = self
        loop = asyncio.get_running_loop()

        class Back(asyncio.Protocol):
            def data_received(self, data):
                loop.call_later(outer.delay, outer.client.write, data)

            def connection_lost(self, error):
                loop.call_later(outer.delay, outer.client.close)

        self.server, _ = await loop.create_connection(Back, "127.0.0.1", self.target)
        for data in self.waiting:
            self.server.write(data)

    def data_received(self, data):
        if self.server is None:
            self.waiting.append(data)
        else:
            self.server.write(data)

    def connection_lost(self, error):
        if self.server is not None:
            self.server.close()


def start_proxy(target, delay=0.030):
    port = free_port()

    def run():
        async def serve():
            server = await asyncio.get_running_loop().create_server(lambda: DelayingProxy(target, delay), "127.0.0.1", port, backlog=512)
            await server.serve_forever()

        asyncio.run(serve())

    pid = os.fork()
    if pid == 0:
        run()
        os._exit(0)
    wait_for(port)
    return pid, port


# ---- the table

def row(name, workers, results, part, best):
    rates = [r["reads"] / r["wall"] for r in results]
    rate = statistics.median(rates)
    total = sum(r["bytes"] for r in results)
    cpu = sum(r["cpu"] for r in results) / (total / 1e9) if total else float("nan")
    cores = sum(r["cpu"] for r in results) / sum(r["wall"] for r in results)
    unit = f"{rate * part / 1e9:8.2f} GB/s" if part else f"{rate:8.0f} /s  "
    print(f"  {name:18} {workers:4} in flight {unit} {rate / best if best else float('nan'):6.2f}x best peer"
          f"  {cpu:7.2f} CPU s/GB  {cores:4.2f} cores  {min(rates):.0f}..{max(rates):.0f}")


def compare(title, endpoint, size, options, limit):
    print(f"{title}, {size}" + (f"   (wrk: {limit:.0f} /s)" if limit else ""), flush=True)
    chosen = {}
    for name, choices in PEERS.items():  # each at its best concurrency
        tries = {workers: measure(name, endpoint, size, workers, options.seconds / 2) for workers in choices}
        tries = {workers: result for workers, result in tries.items() if result}
        if tries:
            chosen[name] = max(tries, key=lambda workers: tries[workers]["reads"] / tries[workers]["wall"])
    results = {name: [] for name in chosen}
    for _ in range(options.rounds):
        for name, workers in chosen.items():
            result = measure(name, endpoint, size, workers, options.seconds)
            if result:
                results[name].append(result)
    peers = [statistics.median(r["reads"] / r["wall"] for r in rows) for name, rows in results.items() if rows and name != "alnair"]
    for name, rows in results.items():
        if rows:
            row(name, chosen[name], rows, SIZES[size][2], max(peers, default=0))
    if limit and results.get("alnair"):
        rate = statistics.median(r["reads"] / r["wall"] for r in results["alnair"])
        print(f"  alnair reaches {100 * rate / limit:.0f} % of wrk's rate")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--servers", default="nginx,versitygw,proxy")
    parser.add_argument("--sizes", default=",".join(SIZES))
    options = parser.parse_args()
    servers = options.servers.split(",")
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="alnair-bench-", dir=base) as name:
        folder = pathlib.Path(name)
        for size in options.sizes.split(","):
            object_size, count, _ = SIZES[size]
            (folder / BUCKET / str(object_size)).mkdir(parents=True)
            for i in range(count):
                (folder / BUCKET / str(object_size) / str(i)).write_bytes(os.urandom(object_size))
        os.chmod(folder, 0o755)
        processes = []
        try:
            nginx, port = start_nginx(folder)
            processes.append(nginx.pid)
            for size in options.sizes.split(","):
                if "nginx" in servers:
                    limit = wrk_rate(f"http://127.0.0.1:{port}", size, options.seconds, folder) if not SIZES[size][2] and shutil.which("wrk") else None
                    compare("nginx", f"http://127.0.0.1:{port}", size, options, limit)
            program = os.environ.get("ALNAIR_TEST_VERSITYGW")
            if "versitygw" in servers and program:
                process, gateway = start_versitygw(folder, program)
                processes.append(process.pid)
                for size in options.sizes.split(","):
                    compare("versitygw", f"http://127.0.0.1:{gateway}", size, options, None)
            if "proxy" in servers:
                pid, proxy = start_proxy(port)
                processes.append(pid)
                for size in options.sizes.split(","):
                    if not SIZES[size][2]:
                        compare("nginx behind 30 ms", f"http://127.0.0.1:{proxy}", size, options, None)
        finally:
            for pid in processes:
                os.kill(pid, signal.SIGTERM)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--client":
        client_main(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), float(sys.argv[6]))
    else:
        main()
