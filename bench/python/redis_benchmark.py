"""redis-benchmark as a competitor."""

import csv
import io
import os
import subprocess

from measure import cpu_seconds


class RedisBenchmark:
    """redis-benchmark --cluster over `count` values of that size, of its own: it counts what arrives, and throws it away."""

    def __init__(self, cluster, size, count):
        self._depth = 64 if size < 10_000 else 8 if size < 500_000 else 2
        self._base = ["redis-benchmark", "--cluster", "-h", "127.0.0.1", "-p", str(cluster.servers[0].port), "-c", "6", "--csv"]
        self._keys = count // len(cluster.servers)
        self._rate = 5e8 / size
        # It marks a node's keys by a tag, and does not set them all: have it set one, and set the others. Of few requests a node may
        # get none.
        while not all(self._name(server) for server in cluster.servers):
            subprocess.run([*self._base, "-t", "set", "-n", "600", "-d", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                           check=True)  # fmt: skip
        value = os.urandom(size)
        for server in cluster.servers:
            name = self._name(server)
            for i in range(self._keys):
                server.command("SET", name.replace(b"__rand_int__", b"%012d" % i), value)

    @staticmethod
    def _name(server):
        """The key that redis-benchmark has set on this node; None: it has not."""
        return next(iter(server.command("KEYS", "key:{*__rand_int__")), None)

    def run(self, seconds):
        """Values a second, and CPU seconds a value."""
        requests = max(100, int(self._rate * seconds))
        cpu = cpu_seconds()
        run = subprocess.run([*self._base, "-P", str(self._depth), "-t", "get", "-r", str(self._keys), "-n", str(requests)],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)  # fmt: skip
        cpu = cpu_seconds() - cpu
        row = next(row for row in csv.reader(io.StringIO(run.stdout)) if row and row[0] == "GET")
        self._rate = float(row[1])
        return self._rate, cpu / requests
