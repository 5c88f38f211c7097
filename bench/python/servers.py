"""S3 servers on this machine, and a proxy that adds latency. All end with the program, however that ends."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

ACCESS_KEY, SECRET_KEY = "alnair-bench", "not-a-secret-outside-this-machine"

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what a benchmark has made is removed, as at Ctrl-C


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command: list, port: int, **environment: str):
    """A server, once it takes connections."""
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()  # not SIGKILL: nginx's workers would outlive their master
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def versitygw(root: Path):
    """versitygw over a folder of buckets: checks signatures."""
    port = free_port()
    return running(
        [os.environ["ALNAIR_TEST_VERSITYGW"], "--port", f"127.0.0.1:{port}", "--quiet", "posix", str(root)],
        port, ROOT_ACCESS_KEY=ACCESS_KEY, ROOT_SECRET_KEY=SECRET_KEY)  # fmt: skip


@contextlib.contextmanager
def nginx(root: Path):
    """nginx over a folder of buckets: ignores signatures, so the client is the limit. Listings are fixed files."""
    port, home = free_port(), Path(tempfile.mkdtemp(prefix="alnair-nginx-"))
    for bucket in root.iterdir():
        (home / f"{bucket.name}.xml").write_text(_listing(bucket))
    (home / "nginx.conf").write_text(f"""
daemon off; worker_processes 2; pid {home}/pid; error_log {home}/error.log crit;
{"user root;" if os.geteuid() == 0 else ""}
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type application/octet-stream;
  client_body_temp_path {home}/1; proxy_temp_path {home}/2; fastcgi_temp_path {home}/3; uwsgi_temp_path {home}/4; scgi_temp_path {home}/5;
  server {{
    listen 127.0.0.1:{port} backlog=1024; root {root};
    location ~ ^/([^/]+)/?$ {{ default_type application/xml; root {home}; try_files /$1.xml =404; }}
  }}
}}""")
    try:
        with running([shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(home / "nginx.conf")], port) as url:
            yield url
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _listing(bucket: Path) -> str:
    # One page whatever max-keys says, with the ETags that nginx sends.
    entries = []
    for path in sorted(bucket.iterdir()):
        status = path.stat()
        modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(status.st_mtime))
        entries.append(
            f"<Contents><Key>{path.name}</Key><LastModified>{modified}</LastModified>"
            f"<ETag>&quot;{int(status.st_mtime):x}-{status.st_size:x}&quot;</ETag><Size>{status.st_size}</Size></Contents>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<IsTruncated>false</IsTruncated>{''.join(entries)}</ListBucketResult>"
    )


def delaying_proxy() -> Path:
    """The program, as bench/with-cpp or bench/with-python builds it."""
    build = Path(__file__).parents[2] / "build"
    programs = [build / folder / "bench/bench_delaying_proxy" for folder in ("bench", "bench-cpp")]
    return max((program for program in programs if program.exists()), key=lambda program: program.stat().st_mtime)


@contextlib.contextmanager
def delayed(upstream: str, seconds: float, *tail: float):
    """A proxy in a process of its own that holds back the first byte of each answer; `tail`: the 99th percentile of that, and the
    share of requests that it answers with 503."""
    port = free_port()
    command = [delaying_proxy(), str(port), str(urlsplit(upstream).port), str(seconds), *map(str, tail)]
    with running(command, port) as url:
        yield url
