"""A Redis Cluster on this machine: three masters, a replica of each. It dies with this process, however that ends."""
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import List

from object_store import start

MASTERS = 3


class RedisCluster:
    """Listens on 127.0.0.1 and keeps everything in memory. A context manager."""

    def __enter__(self) -> "RedisCluster":
        self._directory = Path(tempfile.mkdtemp(prefix="alnair-cluster-redis-"))
        try:
            for attempt in range(5):  # a port may be taken by the time that a server wants it
                if self._start() and self._join():
                    return self
                self._stop()
            raise OSError("no Redis Cluster could be started on free ports of 127.0.0.1")
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_) -> None:
        self._stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def url(self) -> str:
        return "redis://" + ",".join(f"127.0.0.1:{port}" for port in self._ports)

    def kill_a_master(self) -> int:
        """As a machine fails: at once, and with all that it had. Returns its port."""
        self._servers[0].kill()
        self._servers[0].wait()
        return self._ports[0]

    def _start(self) -> bool:
        # A server's bus is 10,000 above its port: below the ports that the kernel gives to clients.
        self._ports = random.sample(range(20_000, 22_000), 2 * MASTERS)
        self._servers: List[subprocess.Popen] = []
        for port in self._ports:
            folder = self._directory / str(port)
            folder.mkdir(parents=True, exist_ok=True)
            self._servers.append(start(
                ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes",
                 "--cluster-node-timeout", "2000", "--dir", str(folder), "--save", "", "--appendonly", "no",
                 "--maxmemory", "256mb", "--maxmemory-policy", "noeviction"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return all(self._eventually(lambda: self._ask(port, "PING") == "PONG") for port in self._ports)

    def _join(self) -> bool:
        seeds = [f"127.0.0.1:{port}" for port in self._ports]
        made = subprocess.run(["redis-cli", "--cluster", "create", *seeds, "--cluster-replicas", "1", "--cluster-yes"],
                              stdin=subprocess.DEVNULL, capture_output=True)
        return made.returncode == 0 and all(
            self._eventually(lambda: "cluster_state:ok" in self._ask(port, "CLUSTER", "INFO")) for port in self._ports)

    def _ask(self, port: int, *command: str) -> str:
        return subprocess.run(["redis-cli", "-p", str(port), *command], capture_output=True, text=True).stdout.strip()

    def _eventually(self, holds) -> bool:
        deadline = time.monotonic() + 60
        while not holds():
            if time.monotonic() > deadline or any(server.poll() is not None for server in self._servers):
                return False
            time.sleep(0.1)
        return True

    def _stop(self) -> None:
        for server in getattr(self, "_servers", []):
            server.kill()
            server.wait()
