"""What bench/manager measures. Numbers of the manager's process only: its CPU time and its resident memory."""

import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import servers

sys.path.insert(0, str(Path(__file__).parents[2] / "tests/support"))
from redis_servers import RedisServer  # noqa: E402

# What is measured, in the order in which it is shown, with its target where there is one.
TARGETS = {
    "start to ready, ms": ("< 200", lambda ms: ms < 200),
    "idle connections held": ("10,000", lambda held: held >= 10_000),
    "  they take, MB": ("", None),
    "heartbeats/s": ("", None),
    "  p50, ms": ("", None),
    "  p99, ms": ("< 20", lambda ms: ms < 20),
    "misses/s": ("1,000", lambda rate: rate > 990),
    "  p50, ms ": ("", None),
    "  p99, ms ": ("< 20", lambda ms: ms < 20),
    "  answered at once, %": ("", None),
    "  objects fetched": ("", None),
    "CPU, cores": ("", None),
    "RSS, MB": ("< 250", lambda mb: mb < 250),
    "100 at once, listings": ("1", lambda listings: listings == 1),
    "takeover after kill -9, s": ("", None),
    "  after SIGTERM, s": ("", None),
    "1 M objects, CPU s": ("", None),
    "  listing alone, CPU s": ("", None),
    "  over listing, CPU s": ("<= 2", lambda s: s <= 2),
    "  RSS, MB": ("< 400", lambda mb: mb < 400),
    "1 M chunks named, CPU s": ("", None),
    "  named again, ms": ("", None),
}  # fmt: skip
MISSES_A_SECOND = 1000
ASKING = 16  # jobs that do
CLIENTS = 10  # whose jobs live
OBJECT = 4000  # bytes of an object that is missed


class Manager:
    def __init__(self, build: Path, directory: Path, **settings: str):
        self.directory = directory
        environment = {**os.environ, "ALNAIR_MANAGER_PORT": "0", "ALNAIR_MANAGER_STATE_DIR": str(directory), "ALNAIR_LOG": "warning"}
        environment.update({f"ALNAIR_MANAGER_{name.upper()}": value for name, value in settings.items()})
        start = time.monotonic()
        command = [build / "alnair-manager", "serve"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=servers.die_with_parent)
        line = self.process.stdout.readline()
        self.ready_s = time.monotonic() - start
        if "ready at" not in line and "standing by" not in line:
            sys.exit(f"the manager does not start: {line}")
        self.port = int(settings.get("port") or line.rpartition(":")[2])
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


def request(kind: str, port: int, method: str, path: str, token: str, body: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
    content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    text = (head + content + "\r\n" + body).encode()
    return f"{len(text)} {kind}\n".encode() + text


def load(build: Path, manager: Manager, jobs: list, objects: int, seconds: float, directory: Path) -> dict:
    """Heartbeats of all jobs every 10 s, and misses of the first ASKING: each asks for one object, which nobody has asked for before."""
    beat = json.dumps({"report": {"counters": {"reads": 5000, "memory_hits": 4000, "source_hits": 1000, "wait_us": 1e6}}})
    heartbeats = len(jobs) / 10
    mix, missed = [], 0
    for second in range(round(seconds)):
        beating = jobs[round(second * heartbeats) % len(jobs) :][: round(heartbeats)]
        for number, job in enumerate(beating):
            mix.append(request("heartbeat", manager.port, "POST", f"/v1/jobs/{job['id']}/heartbeat", job["token"], beat))
            while missed < second * MISSES_A_SECOND + MISSES_A_SECOND * (number + 1) / len(beating):
                asking = jobs[missed % ASKING]
                body = json.dumps({"chunks": [{"key": f"{missed % objects:06}", "chunk": 0}]})
                mix.append(request("miss", manager.port, "POST", f"/v1/jobs/{asking['id']}/misses", asking["token"], body))
                missed += 1
    path = directory / "requests"
    path.write_bytes(b"".join(mix))
    before, fetched = manager.cpu_s(), manager.metric("alnair_s3_get_object_total")
    command = [build / "bench" / "bench_http_load", manager.port, 64, len(mix) / seconds, seconds, path]
    answer = json.loads(subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout)
    if set(answer["heartbeat"]["statuses"]) != {"200"} or not set(answer["miss"]["statuses"]) <= {"200", "202"}:
        sys.exit(f"not all were answered: {answer}")
    beats, misses = answer["heartbeat"], answer["miss"]
    return {
        "heartbeats/s": beats["per_s"], "  p50, ms": beats["p50_ms"], "  p99, ms": beats["p99_ms"],
        "misses/s": misses["per_s"], "  p50, ms ": misses["p50_ms"], "  p99, ms ": misses["p99_ms"],
        "  answered at once, %": 100 * misses["statuses"].get("200", 0) / misses["requests"],
        "  objects fetched": manager.metric("alnair_s3_get_object_total") - fetched,
        "CPU, cores": (manager.cpu_s() - before) / seconds, "RSS, MB": manager.rss_mb("VmHWM"),
    }  # fmt: skip


def bucket_of(root: Path, name: str, objects: int) -> None:
    (root / name).mkdir(parents=True)
    for number in range(objects):
        (root / name / f"{number:06}").write_bytes(os.urandom(OBJECT))


def listing_alone(build: Path, endpoint: str) -> float:
    """CPU seconds."""
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1"}
    done = subprocess.run([build / "bench" / "bench_raw_list", "pets"], env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[2])


def index_ids(database: Path) -> None:
    """FerretDB looks records up by an expression that its own index on _id is not of, and so reads the whole collection, which no MongoDB does."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\'").fetchall():
            connection.execute(f"""CREATE INDEX "{name}_by_id" ON "{name}" (_ferretdb_sjson->'$._id')""")


class Measurement:
    def __init__(self, build: Path, directory: Path, options, settings):
        self.build, self.directory, self.options, self.settings = build, directory, options, settings

    def start(self, name: str, **more: str) -> Manager:
        return Manager(self.build, self.directory / name, **self.settings(name), **more)

    def start_to_ready(self) -> dict:
        self.start("start").stop()
        times = []
        for _ in range(3):
            manager = self.start("start")
            times.append(1000 * manager.ready_s)
            manager.stop()
        return {"start to ready, ms": sorted(times)[1]}

    def idle(self) -> dict:
        manager, sockets = self.start("idle"), []
        before = manager.rss_mb()
        for _ in range(10_000):
            sockets.append(socket.create_connection(("127.0.0.1", manager.port)))
        while manager.metric("alnair_manager_connections") <= 10_000:  # the one that asks is one of them
            time.sleep(0.1)
        held = manager.metric("alnair_manager_connections") - 1
        result = {"idle connections held": held, "  they take, MB": manager.rss_mb() - before}
        for each in sockets:
            each.close()
        manager.stop()
        return result

    def load(self) -> dict:
        root = self.directory / "buckets"
        objects = round(MISSES_A_SECOND * self.options.seconds)
        bucket_of(root, "pets", 100)
        bucket_of(root, "missed", objects)
        with servers.nginx(root) as endpoint, RedisServer() as redis:
            manager = self.start("live", redis_url=redis.url)
            tokens = [manager.connect(endpoint, f"client{number}") for number in range(CLIENTS)]
            manager.wait(manager.call("POST", "/v1/jobs", manager.job("first"), tokens[0]))
            if self.settings("live"):
                index_ids(self.directory.parent / "bench_live.sqlite")
            buckets = ["missed"] * ASKING + ["pets"] * (self.options.jobs - ASKING)
            registered = [
                manager.call("POST", "/v1/jobs", manager.job(f"job{n}", bucket), tokens[max(0, n - ASKING) % CLIENTS])
                for n, bucket in enumerate(buckets)
            ]
            for job in registered:
                manager.wait(job)
            result = load(self.build, manager, registered, objects, self.options.seconds, self.directory)
            manager.stop()
        shutil.rmtree(root)
        return result

    def once(self) -> dict:
        with listing(self.options.objects) as endpoint:
            manager = self.start("at once")
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
            result = {"100 at once, listings": manager.metric("alnair_manager_listings_total") - begun}
            manager.stop()
        return result

    def takeover(self) -> dict:
        result = {}
        for name, end in (("takeover after kill -9, s", "kill"), ("  after SIGTERM, s", "terminate")):
            first = self.start("takeover")
            # With SQLite the other one waits for the same directory; with MongoDB it has one of its own.
            place = "takeover" if not self.settings("takeover") else "takeover by " + end
            second = Manager(self.build, self.directory / place, standby="true", port=str(servers.free_port()), **self.settings("takeover"))
            begun = time.monotonic()
            getattr(first.process, end)()
            while "ready at" not in second.process.stdout.readline():
                pass
            result[name] = time.monotonic() - begun
            first.process.wait()
            second.stop()
        return result

    def named(self) -> dict:
        if self.settings("named"):  # it is the directory's affair, not the records'
            return {"1 M chunks named, CPU s": float("nan"), "  named again, ms": float("nan")}
        done = subprocess.run([self.build / "bench" / "bench_naming", self.directory / "named", str(self.options.objects)],
                              check=True, capture_output=True, text=True).stdout.split()  # fmt: skip
        return {"1 M chunks named, CPU s": float(done[5]), "  named again, ms": 1000 * float(done[9])}

    def million(self) -> dict:
        with listing(self.options.objects) as endpoint:
            alone = listing_alone(self.build, endpoint)
            manager = self.start("million")
            token = manager.connect(endpoint)
            before = manager.cpu_s()
            state = manager.wait(manager.call("POST", "/v1/jobs", manager.job("million"), token))
            if state["state"] != "ready" or state["progress"]["objects"] != self.options.objects:
                sys.exit(f"{self.options.objects} objects: {state}")
            cpu = manager.cpu_s() - before
            result = {"1 M objects, CPU s": cpu, "  listing alone, CPU s": alone, "  over listing, CPU s": cpu - alone, "  RSS, MB": manager.rss_mb("VmHWM")}
            manager.stop()
        return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--records", default="sqlite,mongodb")
    parser.add_argument("--only", default="start,idle,load,once,takeover,million,named")
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
            measurement = Measurement(options.build, directory, options, settings)
            parts = {"start": measurement.start_to_ready, "idle": measurement.idle, "load": measurement.load, "once": measurement.once,
                     "takeover": measurement.takeover, "million": measurement.million, "named": measurement.named}  # fmt: skip
            columns[records] = {}
            for part in options.only.split(","):
                found = parts[part]()
                print(records, found, file=sys.stderr)
                columns[records].update(found)
    print(f"{options.jobs:,} jobs, {options.objects:,} objects, {options.seconds:.0f} s\n")
    print(f"{'':<26}" + "".join(f"{name:>18}" for name in columns) + "   target")
    for name, (target, meets) in TARGETS.items():
        if name not in next(iter(columns.values())):
            continue
        cells = (f"{column[name]:,.2f}" + ("" if meets is None else " met" if meets(column[name]) else " MISSED") for column in columns.values())
        print(f"{name:<26}" + "".join(f"{cell:>18}" for cell in cells) + f"   {target}")


if __name__ == "__main__":
    main()
