"""Real Redis servers for Python tests and benchmarks, single and as a cluster, on free ports of 127.0.0.1 or another address.

    with RedisServer() as server: ...             server.url, server.command("SET", "x", "1")
    with RedisCluster(masters=3, replicas=1) as cluster: ...

They keep everything in memory and a throw-away directory, and end with the block, or with this process, even by kill
-9. Standard library only.
"""

import contextlib
import ctypes
import functools
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

_ATTEMPTS = 20  # a port that was free may be taken by the time it is used
_PATIENCE = 60  # seconds


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def server_port() -> int:
    """A port that is free now, below the range that the kernel gives to clients."""
    while True:
        port = random.randrange(10_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def eventually(holds) -> bool:
    """Polls until it holds; False after a minute."""
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class RedisError(Exception):
    """An error reply."""


def _read_reply(stream):
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("Redis ended the connection")
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise RedisError(rest.decode())
    if kind == b"+":
        return rest.decode()
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2]
    return None if rest == b"-1" else [_read_reply(stream) for _ in range(int(rest))]


@functools.lru_cache(maxsize=None)
def is_redis_6() -> bool:
    """There DEBUG is everybody's, and the port of a cluster's bus cannot be chosen: it is 10,000 above the other."""
    return " v=6." in subprocess.run(["redis-server", "--version"], capture_output=True, text=True).stdout


class RedisServer:
    """One server. `arguments` are more of its command line: "--maxmemory", "10mb"."""

    def __init__(self, *arguments: str, cluster: bool = False, host: str = "127.0.0.1"):
        self._arguments, self._cluster, self._host = arguments, cluster, host
        base = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self._directory = Path(tempfile.mkdtemp(prefix="alnair-test-redis-", dir=base))
        for _ in range(_ATTEMPTS):
            self.port = server_port()
            self.bus_port = self.port + 10_000 if is_redis_6() else server_port()
            if self._start():
                return
        log = (self._directory / "log").read_text()
        self.close()
        raise RuntimeError(f"redis-server does not start: {log}")

    @property
    def address(self) -> str:
        return f"{self._host}:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{self.address}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def _start(self) -> bool:
        command = ["redis-server", "--port", str(self.port), "--bind", self._host, "--dir", str(self._directory), "--protected-mode", "no",
                   "--save", "", "--appendonly", "no", "--loglevel", "warning",
                   "--repl-diskless-sync-delay", "0"]  # fmt: skip
        if not is_redis_6():
            command += ["--enable-debug-command", "yes"]
        if self._cluster:
            command += ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]
            command += [] if is_redis_6() else ["--cluster-port", str(self.bus_port)]
        with open(self._directory / "log", "ab") as log:
            self._process = subprocess.Popen([*command, *self._arguments], preexec_fn=die_with_parent,
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # fmt: skip

        def answers() -> bool:
            with contextlib.suppress(OSError, RedisError):
                return self.command("PING") == "PONG"
            return self._process.poll() is not None

        if not eventually(answers):
            raise RuntimeError("redis-server does not answer")
        # Someone else's server may have the port: ours would have ended.
        return self._process.poll() is None and self.command("CONFIG", "GET", "dir")[1].decode() == str(self._directory)

    def command(self, *arguments):
        """One command on a connection of its own. Bulk strings are bytes; error replies raise RedisError."""
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in arguments]
        request = b"".join([b"*%d\r\n" % len(parts), *(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)])
        with socket.create_connection((self._host, self.port), timeout=30) as connection:
            connection.sendall(request)
            with connection.makefile("rb") as stream:
                return _read_reply(stream)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def start_again(self) -> None:
        """On the same ports, with empty memory."""
        self.kill()
        if not self._start():
            raise RuntimeError("redis-server does not start again")

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class RedisCluster:
    """Masters, then their replicas, in `servers`."""

    def __init__(self, masters: int = 3, replicas: int = 0, *arguments: str, node_timeout_ms: int = 5000, host: str = "127.0.0.1"):
        self.servers: list = []
        try:
            for _ in range(masters * (1 + replicas)):
                timeout = ("--cluster-node-timeout", str(node_timeout_ms))
                self.servers.append(RedisServer(*timeout, *arguments, cluster=True, host=host))
            for i in range(masters):
                slots = range(16384 * i // masters, 16384 * (i + 1) // masters)
                self.servers[i].command("CLUSTER", "ADDSLOTS", *slots)  # Redis 6 has no ADDSLOTSRANGE
            for i, server in enumerate(self.servers):
                server.command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            for server in self.servers[1:]:
                self.servers[0].command("CLUSTER", "MEET", host, server.port, server.bus_port)
            for i in range(masters, len(self.servers)):
                master = self.servers[i % masters].command("CLUSTER", "MYID")
                if not eventually(lambda server=self.servers[i], master=master: self._follows(server, master)):
                    raise RuntimeError("a replica does not learn of its master")
            if not self.wait_until_well():
                raise RuntimeError("the cluster does not come together")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _follows(server: RedisServer, master: bytes) -> bool:
        with contextlib.suppress(RedisError):
            return server.command("CLUSTER", "REPLICATE", master) == "OK"
        return False

    @property
    def url(self) -> str:
        return "redis://" + ",".join(server.address for server in self.servers)

    def wait_until_well(self) -> bool:
        """Every server that runs says so; False after a minute."""

        def well(server: RedisServer) -> bool:
            with contextlib.suppress(OSError):
                info = server.command("CLUSTER", "INFO").decode()
                return ("cluster_state:ok" in info and f"cluster_known_nodes:{len(self.servers)}\r" in info
                        and "cluster_slots_ok:16384\r" in info
                        and b"master_link_status:down" not in server.command("INFO", "replication"))  # fmt: skip
            return True  # it does not run

        return eventually(lambda: all(well(server) for server in self.servers))

    def close(self) -> None:
        for server in self.servers:
            server.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
