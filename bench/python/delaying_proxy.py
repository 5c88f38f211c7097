"""A TCP proxy that delays each answer of a keep-alive HTTP server: delaying_proxy.py PORT http://HOST:PORT SECONDS

A connection carries one request at a time (no pipelining), so the first bytes after bytes from the client are an answer's.
"""

import asyncio
import sys
from urllib.parse import urlsplit

PORT, UPSTREAM, DELAY = int(sys.argv[1]), urlsplit(sys.argv[2]), float(sys.argv[3])


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
            asyncio.get_running_loop().call_later(DELAY, self.let_go)
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
        if self.peer is None:
            self.early.append(content)
        else:
            super().data_received(content)


async def main():
    server = await asyncio.get_running_loop().create_server(Client, "127.0.0.1", PORT, backlog=1024)
    await server.serve_forever()


asyncio.run(main())
