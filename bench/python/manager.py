"""What bench/manager measures. Numbers of the manager's process only: its CPU time and its resident memory."""

import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import servers

TARGETS = {
    "start to ready, ms": "< 200", "10,000 idle connections, MB": "held", "p50, ms": "", "p99, ms": "< 20", "RSS, MB": "< 250",
    "CPU, cores": "", "1 M objects, CPU s": "≤ 2 over listing", "1 M objects, RSS MB": "< 400", "100 at once, listings": "1",
}  # fmt: skip


class Manager:
    def __init__(self, build: Path, directory: Path, **settings: str):
        self.directory = directory
        environment = {**os.environ, "ALNAIR_MANAGER_PORT": "0", "ALNAIR_MANAGER_STATE_DIR": str(directory), "ALNAIR_LOG": "warning"}
        environment.update({f"ALNAIR_MANAGER_{name.upper()}": value for name, value in settings.items()})
        start = time.monotonic()
        self.process = subprocess.Popen([build / "alnair-manager", "serve"], env=environment, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.ready_s = time.monotonic() - start
        if "ready at" not in line:
            sys.exit(f"the manager does not start: {line}")
        self.port = int(line.rpartition(":")[2])
        self._http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)

    def call(self, method: str, path: str, body=None, token: str = ""):
        headers = {"Authorization": "Bearer " + (token or (self.directory / "admin.token").read_text().strip())}
        self._http.request(method, path, None if body is None else json.dumps(body), {**headers, "Content-Type": "application/json"})
        answer = self._http.getresponse()
        text = answer.read()
        if answer.status >= 400:
            sys.exit(f"{method} {path}: {answer.status} {text.decode()}")
        return json.loads(text) if text.startswith(b"{") else text

    def connect(self, endpoint: str, name: str = "alice") -> str:
        password = "a-password-of-" + name
        self.call("POST", "/v1/clients", {"name": name, "password": password})
        s3 = {"access_key_id": "bench", "secret_access_key": "bench", "endpoint_url": endpoint, "region": "us-east-1"}
        return self.call("POST", "/v1/connect", {"name": name, "password": password, "s3": s3})["token"]

    def job(self, name: str, bucket: str = "pets"):
        return {"name": name, "node": "n" + name[-2:], "datasource": {"bucket": bucket}}

    def wait(self, job) -> dict:
        while True:
            state = self.call("GET", f"/v1/jobs/{job['id']}", token=job["token"])
            if state["state"] in ("ready", "failed"):
                return state
            time.sleep(0.02)

    def rss_mb(self, field: str = "VmRSS") -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(field + ":")[1].split()[0]) / 1024

    def cpu_s(self) -> float:
        times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name: str) -> float:
        text = self.call("GET", "/metrics").decode()
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " "))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@contextlib.contextmanager
def listing(objects: int):
    port = servers.free_port()
    with servers.running([sys.executable, str(Path(__file__).parent / "listing_server.py"), str(port), str(objects)], port):
        yield f"http://127.0.0.1:{port}"


def request(port: int, method: str, path: str, token: str, body: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    text = (head + kind + "\r\n" + body).encode()
    return f"{len(text)}\n".encode() + text


def load(build: Path, manager: Manager, jobs: list, seconds: float, directory: Path) -> dict:
    """Heartbeats of all jobs every 10 s, and 1,000 looks at a job a second."""
    beat = json.dumps({"report": {"counters": {"reads": 5000, "memory_hits": 4000, "source_hits": 1000, "wait_us": 1e6}}})
    heartbeats, looks = len(jobs) / 10, 1000
    mix = []
    for number, job in enumerate(jobs):
        mix.append(request(manager.port, "POST", f"/v1/jobs/{job['id']}/heartbeat", job["token"], beat))
        for _ in range(round(looks / heartbeats * (number + 1)) - round(looks / heartbeats * number)):
            mix.append(request(manager.port, "GET", f"/v1/jobs/{job['id']}", job["token"]))
    path = directory / "requests"
    path.write_bytes(b"".join(mix))
    before = manager.cpu_s()
    command = [build / "bench" / "bench_http_load", manager.port, 64, heartbeats + looks, seconds, path]
    answer = json.loads(subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout)
    if set(answer["statuses"]) != {"200"}:
        sys.exit(f"not all were answered: {answer}")
    return {**answer, "cores": (manager.cpu_s() - before) / seconds}


def measure(build: Path, directory: Path, jobs: int, objects: int, seconds: float, settings) -> dict:
    result = {}

    def start(name: str) -> Manager:
        return Manager(build, directory / name, limits_max_jobs_per_client="100000", **settings(name))

    first = start("idle")
    first.stop()
    idle = start("idle")
    result["start to ready, ms"] = 1000 * idle.ready_s
    before, sockets = idle.rss_mb(), []
    for _ in range(10_000):
        sockets.append(socket.create_connection(("127.0.0.1", idle.port)))
    while idle.metric("alnair_manager_connections") < 10_000:
        time.sleep(0.1)
    result["10,000 idle connections, MB"] = idle.rss_mb() - before
    for each in sockets:
        each.close()
    idle.stop()

    with listing(100) as endpoint:
        manager = start("live")
        token = manager.connect(endpoint)
        registered = [manager.call("POST", "/v1/jobs", manager.job(f"job{n}"), token) for n in range(jobs)]
        manager.wait(registered[-1])
        answer = load(build, manager, registered, seconds, directory)
        result.update({"p50, ms": answer["p50_ms"], "p99, ms": answer["p99_ms"], "CPU, cores": answer["cores"], "RSS, MB": manager.rss_mb()})
        manager.stop()

    with listing(objects // 10) as endpoint:  # so many that all come while it is listed
        manager = start("at once")
        token = manager.connect(endpoint)
        manager.wait(manager.call("POST", "/v1/jobs", manager.job("first"), token))
        begun = manager.metric("alnair_manager_listings_total")

        def register(number: int):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", manager.port, timeout=600)) as connection:
                headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
                connection.request("POST", "/v1/jobs", json.dumps(manager.job(f"job{number}")), headers)
                return json.loads(connection.getresponse().read())

        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            for job in list(pool.map(register, range(100))):
                manager.wait(job)
        result["100 at once, listings"] = manager.metric("alnair_manager_listings_total") - begun
        manager.stop()

    with listing(objects) as endpoint:
        manager = start("million")
        token = manager.connect(endpoint)
        before = manager.cpu_s()
        state = manager.wait(manager.call("POST", "/v1/jobs", manager.job("million"), token))
        if state["state"] != "ready" or state["progress"]["objects"] != objects:
            sys.exit(f"{objects} objects: {state}")
        result["1 M objects, CPU s"] = manager.cpu_s() - before
        result["1 M objects, RSS MB"] = manager.rss_mb("VmHWM")
        manager.stop()
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--records", default="sqlite,mongodb")
    options = parser.parse_args()
    columns = {}
    with tempfile.TemporaryDirectory(prefix="alnair-bench-") as folder, contextlib.ExitStack() as stack:
        for records in options.records.split(","):
            directory = Path(folder, records)
            directory.mkdir()
            settings = lambda name: {}  # noqa: E731
            if records == "mongodb":
                server, port = os.environ.get("ALNAIR_TEST_FERRETDB"), servers.free_port()
                if not server:
                    sys.exit("FerretDB is not built; --records sqlite measures without it")
                stack.enter_context(servers.running([server, f"127.0.0.1:{port}", folder], port))
                settings = lambda name, port=port: {  # noqa: E731
                    "mongodb_uri": f"mongodb://127.0.0.1:{port}/bench_{name.replace(' ', '_')}"
                }
            columns[records] = measure(options.build, directory, options.jobs, options.objects, options.seconds, settings)
    print(f"{options.jobs:,} jobs, {options.objects:,} objects, {options.seconds:.0f} s\n")
    print(f"{'':<30}" + "".join(f"{name:>12}" for name in columns) + "   target")
    for name, target in TARGETS.items():
        print(f"{name:<30}" + "".join(f"{column[name]:>12.2f}" for column in columns.values()) + f"   {target}")


if __name__ == "__main__":
    main()
