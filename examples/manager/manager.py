"""A manager, a Redis Cluster and S3; two jobs train through client daemons. See `run --help`, which sets up what this needs."""
import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "quickstart"), str(HERE.parent / "cluster")]

import object_store  # noqa: E402
from counting_proxy import CountingProxy  # noqa: E402
from redis_cluster import RedisCluster  # noqa: E402

ALL_IMAGES = 70_000
USER, PASSWORD = "alice", "not-a-secret-outside-this-machine"
PATIENCE = 600  # seconds


class Manager:
    """`alnair-manager serve`, and its commands. A context manager."""

    def __init__(self, program: Path, home: Path, environment: Dict[str, str], redis_url: str):
        self.program, self.state = program, home / "manager"
        self.environment = {**environment, "ALNAIR_MANAGER_STATE_DIR": str(self.state)}
        self._settings = {"ALNAIR_MANAGER_PORT": "0", "ALNAIR_MANAGER_REDIS_URL": redis_url}
        self._log = home / "manager.log"

    def __enter__(self) -> "Manager":
        with open(self._log, "w") as log:
            self._server = object_store.start([self.program, "serve"], env={**self.environment, **self._settings}, text=True,
                                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        line = self._server.stdout.readline()
        if "ready at " not in line:
            sys.exit(f"alnair-manager did not start:\n{self._log.read_text()}")
        self.url = line.split()[-1]
        self.environment["ALNAIR_MANAGER"] = self.url
        return self

    def __exit__(self, *_) -> None:
        self._server.terminate()
        self._server.wait()

    def command(self, *words: str, password: str = "") -> str:
        return subprocess.run([self.program, *words], env=self.environment, input=password, check=True, text=True,
                              stdout=subprocess.PIPE).stdout

    def job(self, name: str) -> Dict[str, Any]:
        jobs = json.loads(self.command("jobs", "--json"))["jobs"]
        return next((job for job in jobs if job["name"] == name), {"state": "unknown"})


class Pod:
    """What a container of a training job has: a secret, a job file, and a client daemon beside the script."""

    def __init__(self, name: str, home: Path, memory: Path, manager: Manager, bucket: str, endpoint_url: str):
        self.name, self._home, self._memory, self._manager = name, home / name, memory / name, manager
        for folder in ("secret", "jobs", "share"):
            (self._home / folder).mkdir(parents=True)
        (self._home / "secret" / "client.conf").write_text(
            f"[aws_s3]\naws_access_key_id = {object_store.ACCESS_KEY}\naws_secret_access_key = {object_store.SECRET_KEY}\n"
            f"endpoint_url = {endpoint_url}\nregion_name = us-east-1\n"
            f"[alnair_manager]\nserver_address = 127.0.0.1\nserver_port = {manager.url.rpartition(':')[2]}\n"
            f"username = {USER}\npassword = {PASSWORD}\n")
        job = {"name": name, "datasource": {"bucket": bucket, "keys": ["train"]}, "qos": {"lazyloading": False}}
        (self._home / "jobs" / f"{name}.json").write_text(json.dumps(job))
        self._environment = {**manager.environment, "JOBNAME": name,
                             **{f"ALNAIR_{what}_DIR": str(self._home / what.lower()) for what in ("SECRET", "JOBS", "SHARE")}}
        with open(self._home / "daemon.log", "w") as log:
            self._daemon = object_store.start([manager.program, "client"], env=self._environment, stdin=subprocess.DEVNULL,
                                              stderr=log)

    def wait_ready(self) -> None:
        """Shows how the copy into Redis goes on."""
        shown, deadline = "", time.monotonic() + PATIENCE
        while (job := self._manager.job(self.name))["state"] != "ready":
            if job["state"] == "failed" or time.monotonic() > deadline or self._daemon.poll() is not None:
                sys.exit(f"{self.name} did not become ready: {job}\n{(self._home / 'daemon.log').read_text()}")
            copy = job.get("copy") or {}
            line = f"  {job['state']}"
            if job["state"] == "warming" and copy.get("total_objects"):
                line += f": {copy['objects']:,} of {copy['total_objects']:,} objects, {copy['cached_bytes'] / 1e6:.1f} MB"
                line += f", {copy['eta_s']:.0f} s to go" if copy["eta_s"] else ""
            if line != shown:
                print(line, flush=True)
            shown = line
            time.sleep(0.1)
        copy = job["copy"]
        print(f"  ready: {copy['cached_bytes'] / 1e6:.1f} of {copy['total_bytes'] / 1e6:.1f} MB are in Redis, "
              f"{copy['copied_bytes'] / 1e6:.1f} MB were copied for this job")

    def train(self) -> str:
        """An epoch of a script that knows nothing but JOBNAME. Returns the sum of the samples that it read."""
        search = os.pathsep.join([str(HERE.parent / "quickstart"), os.environ.get("PYTHONPATH", "")])
        environment = {**self._environment, "ALNAIR_CACHE_DIR": str(self._home / "cache"), "PYTHONPATH": search,
                       "ALNAIR_MEMORY_DIR": str(self._memory), "ALNAIR_MEMORY_LIMIT": "64MiB", "ALNAIR_DISK_LIMIT": "64MiB"}
        what = {"source": None, "epochs": 1, "lookahead": None, "seed": 0}
        with object_store.start([sys.executable, HERE.parent / "cluster" / "node.py", json.dumps(what)], env=environment, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as script:
            messages: List[Dict[str, Any]] = [json.loads(line) for line in script.stdout]
        if script.returncode != 0:
            sys.exit(f"{self.name} failed (its message is above)")
        [end] = [message for message in messages if "sum" in message]
        counts = messages[-1]["counts"]
        print(f"  {self.name}: {counts['reads']:,} samples, loss {end['loss']:.2f}; {counts['redis_hit_bytes'] / 1e6:.1f} MB from "
              f"Redis, {counts['source_hit_bytes'] / 1e6:.1f} MB and {counts['s3_get_object']:,} GETs from S3")
        return end["sum"]

    def stop(self) -> None:
        self._daemon.terminate()  # deregisters the job
        self._daemon.wait()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="examples/manager/run")
    parser.add_argument("--images", type=int, default=1_000)
    parser.add_argument("--manager", type=Path, required=True)
    parser.add_argument("--stay", action="store_true")
    options = parser.parse_args()
    if not 100 <= options.images <= ALL_IMAGES:
        parser.error(f"expected 100 to {ALL_IMAGES:,} images")
    if not os.access(options.manager, os.X_OK):
        parser.error(f"--manager: {options.manager} is no program")
    return options


def main() -> int:
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, as Ctrl-C does
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alnair-manager-")))
        memory = Path(tempfile.mkdtemp(prefix="alnair-manager-", dir="/dev/shm"))
        stack.callback(shutil.rmtree, memory, ignore_errors=True)
        store = stack.enter_context(object_store.ObjectStore(home))
        bucket = store.upload_fashion_mnist(options.images / ALL_IMAGES, memory, lambda *_: None)
        images = sum(1 for _ in (store.buckets / bucket).rglob("train/**/*.png"))
        proxy = stack.enter_context(CountingProxy(store.endpoint_url))
        redis = stack.enter_context(RedisCluster())
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("ALNAIR_", "AWS_"))}
        environment.update(no_proxy="127.0.0.1", NO_PROXY="127.0.0.1")
        manager = stack.enter_context(Manager(options.manager.resolve(), home, environment, redis.url))
        manager.command("user", "add", USER, password=PASSWORD + "\n")
        print(f"{images:,} images to train on, in s3://{bucket}; a Redis Cluster of six servers; a manager.")
        print(f"The manager's dashboard: {manager.url}/ (the administrator's token is in {manager.state}/admin.token)\n")

        def start(name: str) -> Pod:
            print(f"A pod with the job {name}:")
            pod = Pod(name, home, memory, manager, bucket, proxy.endpoint_url)
            stack.callback(pod.stop)
            pod.wait_ready()
            return pod

        first = start("first-job")
        copied = proxy.get_object
        print(f"  The S3 server was asked for {copied:,} objects, by the manager.")
        sums = [first.train(), start("second-job").train()]
        print(f"\nWhile the two trained, the S3 server was asked for {proxy.get_object - copied:,} objects: "
              + ("the second read nothing from S3." if proxy.get_object == copied else "SOME WERE READ FROM S3."))
        if sums[0] != sums[1]:
            sys.exit(f"THE SAMPLES DIFFER: {sums}")
        print("Both had the very same samples.")
        if options.stay:
            print(f"\nEverything is still running: look at {manager.url}/. Ctrl-C ends it.", flush=True)
            signal.pause()
        return 0 if copied == proxy.get_object == images else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
