"""redis-benchmark as a competitor."""

import csv
import io
import os
import subprocess

from measure import cpu_seconds


class RedisBenchmark:
    """redis-benchmark --cluster over `count` values of that size, of its own: it counts what arrives, and throws it away."""

    def __init__(self, cluster, size, count):
        self._depth = {4_000: 64, 110_000: 8, 1_000_000: 2}[size]
        self._base = ["redis-benchmark", "--cluster", "-h", "127.0.0.1", "-p", str(cluster.servers[0].port), "-c", "6", "--csv"]
        self._keys = count // len(cluster.servers)
        self._rate = 5e8 / size
        # It marks a node's keys by a tag, and does not set them all: have it set one, and set the others.
        subprocess.run([*self._base, "-t", "set", "-n", "60", "-d", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       check=True)  # fmt: skip
        value = os.urandom(size)
        for server in cluster.servers:
            (name,) = server.command("KEYS", "key:{*")
            for i in range(self._keys):
                server.command("SET", name.replace(b"__rand_int__", b"%012d" % i), value)

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
