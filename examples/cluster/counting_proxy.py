"""Stands before the S3 server and counts what it is asked for, as nobody but the server could."""
import socket
import threading


class CountingProxy:
    """Passes on what comes to `endpoint_url` unchanged. A context manager."""

    def __init__(self, server_url: str):
        host, port = server_url.split("//")[1].split(":")
        self._server = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.endpoint_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self.get_object = 0

    def __enter__(self) -> "CountingProxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            threading.Thread(target=self._pass_on, args=(client, server, self._count_requests()), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, None), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket, look) -> None:
        try:
            while data := source.recv(1 << 16):
                if look is not None:
                    look(data)
                sink.sendall(data)
        except OSError:
            pass
        for end in source, sink:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _count_requests(self):
        """What a reader's requests are made of: heads, without bodies."""
        rest = b""

        def look(data: bytes) -> None:
            nonlocal rest
            *heads, rest = (rest + data).split(b"\r\n\r\n")
            for head in heads:
                line = head.partition(b"\r\n")[0]
                path = line.split(b" ")[1].split(b"?")[0]
                if not line.startswith(b"GET ") or path.count(b"/") < 2 or b"?list-type" in line:
                    continue
                with self._lock:
                    self.get_object += 1

        return look
