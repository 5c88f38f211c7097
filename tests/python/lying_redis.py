"""A Redis that lies: a small server, alone or posing as a cluster of two, that answers a share of all commands wrongly.

With errors of every kind that Redis knows, with replies of other types, cut ones, late ones, garbage, and values with a bit turned round.
"""

import random
import socketserver
import threading
import time

ERRORS = [
    "MOVED 1234 127.0.0.1:{port}", "MOVED 99999 127.0.0.1:1", "MOVED 5 127.0.0.1:1", "MOVED 7 ?:{port}", "MOVED 7 :{port}", "MOVED x",
    "ASK 1234 127.0.0.1:{port}", "ASK 5 127.0.0.1:1", "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN The cluster is down", "CLUSTERDOWN Hash slot not served", "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.", "MASTERDOWN Link with MASTER is down", "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.", "NOPERM this user has no permissions to run the command",
    "OOM command not allowed when used memory > 'maxmemory'.", "BUSY Redis is busy running a script.", "NOSCRIPT No matching script.",
    "MISCONF Redis is configured to save RDB snapshots", "NOREPLICAS Not enough good replicas to write.", "WRONGTYPE Operation against a key",
    "ERR unknown command", "ERR max number of clients reached", "UNHEARDOF of", "",
]  # fmt: skip


def bulk(value):
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


def array(*elements):
    return b"*%d\r\n" % len(elements) + b"".join(elements)


class LyingRedis:
    """Keeps what is set, for all its ports together. A context manager."""

    def __init__(self, servers: int, share: float, seed: int = 1):
        self._store, self._lock, self._share, self._random = {}, threading.Lock(), share, random.Random(seed)
        lies = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                try:
                    lies._serve(self)
                except (OSError, ValueError):
                    pass  # the client has gone

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 64

        self._servers = [Server(("127.0.0.1", 0), Handler) for _ in range(servers)]
        self._ports = [server.server_address[1] for server in self._servers]
        self.url = "redis://" + ",".join(f"127.0.0.1:{port}" for port in self._ports)

    def __enter__(self):
        for server in self._servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _serve(self, connection) -> None:
        while line := connection.rfile.readline():
            arguments = []
            for _ in range(int(line[1:])):
                arguments.append(connection.rfile.read(int(connection.rfile.readline()[1:]) + 2)[:-2])
            reply = self._answer(arguments)
            if arguments[0] != b"HELLO" and self._random.random() < self._share:
                reply = self._lie(reply)
            if reply is None:
                return
            connection.wfile.write(reply)

    def _lie(self, reply: bytes):
        """Something else; None: the connection ends."""
        kind = self._random.random()
        if kind < 0.75:
            return f"-{self._random.choice(ERRORS).format(port=self._random.choice(self._ports))}\r\n".encode()
        if kind < 0.8:
            return None
        if kind < 0.9:
            return self._random.choice([b"$-2\r\n", b"$-1\r\n", b":5\r\n", b"+OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n", array(b":1\r\n", b"+x\r\n")])
        if kind < 0.97 and reply.startswith(b"$") and len(reply) > 100:
            at = self._random.randrange(60, len(reply) - 2)
            return reply[:at] + bytes([reply[at] ^ 1]) + reply[at + 1 :]
        time.sleep(self._random.random())
        return reply

    def _answer(self, arguments: list) -> bytes:
        name, rest = arguments[0].upper(), arguments[1:]
        with self._lock:
            return getattr(self, "_" + name.decode().lower(), lambda *_: b"-ERR unknown command\r\n")(*rest)

    def _hello(self, *_):
        fields = {b"server": b"redis", b"version": b"7.2.0", b"mode": b"cluster" if len(self._ports) > 1 else b"standalone", b"role": b"master"}
        return array(*(bulk(each) for field in fields.items() for each in field))

    def _info(self, *_):
        return bulk(b"used_memory:1000000\r\nmaxmemory:100000000\r\nmaxmemory_policy:volatile-ttl\r\nevicted_keys:0\r\n"
                    b"db0:keys=%d,expires=0,avg_ttl=0\r\n" % len(self._store))  # fmt: skip

    def _cluster(self, *_):
        shards, each = [], 16384 // len(self._ports)
        for i, port in enumerate(self._ports):
            node = array(bulk(b"id"), bulk(b"%040d" % i), bulk(b"port"), b":%d\r\n" % port, bulk(b"endpoint"), bulk(b"127.0.0.1"),
                         bulk(b"role"), bulk(b"master"), bulk(b"health"), bulk(b"online"))  # fmt: skip
            slots = array(b":%d\r\n" % (i * each), b":%d\r\n" % ((i + 1) * each - 1))
            shards.append(array(bulk(b"slots"), slots, bulk(b"nodes"), array(node)))
        return array(*shards)

    def _get(self, key):
        return bulk(self._store.get(key))

    def _set(self, key, value, *options):
        if b"NX" in options and key in self._store:
            return bulk(None)
        self._store[key] = value
        return b"+OK\r\n"

    def _getrange(self, key, first, last):
        return bulk(self._store.get(key, b"")[int(first) : int(last) + 1])

    def _del(self, key):
        return b":%d\r\n" % (self._store.pop(key, None) is not None)

    def _exists(self, key):
        return b":%d\r\n" % (key in self._store)

    def _hset(self, key, *fields):
        self._store.setdefault(key, {}).update(zip(fields[::2], fields[1::2]))
        return b":1\r\n"

    def _hmget(self, key, *fields):
        return array(*(bulk(self._store.get(key, {}).get(field)) for field in fields))

    def _eval(self, _, keys, *rest):
        return array(*(b":1\r\n" for _ in rest[int(keys) + 2 :]))  # every lease is granted

    _evalsha = _eval

    def _scan(self, *_):
        return array(bulk(b"0"), array(*(bulk(key) for key in self._store)))

    def _pttl(self, key):
        return b":-1\r\n" if key in self._store else b":-2\r\n"

    def _pexpireat(self, *_):
        return b":1\r\n"

    _persist = _pexpireat

    def _asking(self, *_):
        return b"+OK\r\n"

    _readonly = _auth = _asking
