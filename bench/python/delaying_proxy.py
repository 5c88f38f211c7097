"""A TCP proxy that delays each answer of a keep-alive HTTP server, and may answer some requests with 503 itself:

    delaying_proxy.py PORT http://HOST:PORT SECONDS [P99_SECONDS SHARE_OF_503]

With P99_SECONDS delays are drawn from the log-normal distribution of that median and 99th percentile. A connection carries one request at a time (no pipelining), so the first bytes after bytes from the client are an answer's.
"""

import asyncio
import math
import random
import sys
from urllib.parse import urlsplit

PORT, UPSTREAM, DELAY = int(sys.argv[1]), urlsplit(sys.argv[2]), float(sys.argv[3])
P99, REFUSED = (float(sys.argv[4]), float(sys.argv[5])) if len(sys.argv) > 4 else (DELAY, 0.0)
SIGMA = math.log(P99 / DELAY) / 2.326 if P99 > DELAY else 0.0
BODY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
REFUSAL = b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(BODY)


def delay() -> float:
    return DELAY * math.exp(SIGMA * random.gauss(0, 1)) if SIGMA else DELAY


class Pipe(asyncio.Protocol):
    """One side of a connection: what it receives goes to the other side."""

    def __init__(self, delays: bool):
        self.delays, self.fresh, self.peer, self.held = delays, True, None, []
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, content):
        if not self.delays:
            self.peer.fresh = True  # a request: the next bytes from the server begin an answer
            self.peer.client_sends(content)
        elif self.fresh:
            self.fresh = False
            self.held.append(content)
            asyncio.get_running_loop().call_later(delay(), self.let_go)
        elif self.held:
            self.held.append(content)
        else:
            self.peer.transport.write(content)

    def let_go(self):
        for content in self.held:
            self.peer.transport.write(content)
        self.held.clear()

    def client_sends(self, content):
        self.transport.write(content)

    def connection_lost(self, _):
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()


class Client(Pipe):
    """The client's side; connects to the server when it is made."""

    def __init__(self):
        super().__init__(delays=False)
        self.early = []

    def connection_made(self, transport):
        super().connection_made(transport)
        asyncio.get_running_loop().create_task(self.connect())

    async def connect(self):
        server = Pipe(delays=True)
        server.peer = self
        await asyncio.get_running_loop().create_connection(lambda: server, UPSTREAM.hostname, UPSTREAM.port)
        self.peer = server
        for content in self.early:
            super().data_received(content)
        self.early.clear()

    def data_received(self, content):
        if REFUSED and content.startswith((b"GET ", b"HEAD ")) and content.endswith(b"\r\n\r\n") and random.random() < REFUSED:
            answer = REFUSAL + (b"" if content.startswith(b"HEAD ") else BODY)
            asyncio.get_running_loop().call_later(delay(), self.transport.write, answer)
        elif self.peer is None:
            self.early.append(content)
        else:
            super().data_received(content)


async def main():
    server = await asyncio.get_running_loop().create_server(Client, "127.0.0.1", PORT, backlog=1024)
    await server.serve_forever()


asyncio.run(main())
