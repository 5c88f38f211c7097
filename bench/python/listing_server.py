"""An S3 server of a bucket with as many objects as one likes, none of which is stored: keys and contents are made up.

    listing_server.py PORT OBJECTS
"""

import http.server
import socketserver
import sys
import urllib.parse

PAGE = 1000
SIZE = 100  # bytes of an object
HEAD = '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'


def key_of(number: int) -> str:
    return f"train/{number // 1000:07d}/{number:09d}.jpg"


def number_of(key: str) -> int:
    return int(key[-13:-4])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects = 0

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if "list-type=2" in query:
            self._send(self._page(urllib.parse.parse_qs(query)), "application/xml")
        else:
            number = number_of(path)
            self._send(f"{number:0{SIZE}d}".encode(), "application/octet-stream", f'"{number:x}-1"')

    def _page(self, query: dict) -> bytes:
        after = query.get("continuation-token") or query.get("start-after")
        prefix = query.get("prefix", [""])[0]
        if not key_of(0).startswith(prefix) and prefix != "":
            return f"{HEAD}<IsTruncated>false</IsTruncated></ListBucketResult>".encode()
        start = number_of(after[0]) + 1 if after else 0
        stop = min(start + PAGE, self.objects)
        entries = "".join(
            f"<Contents><Key>{key_of(n)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;{n:x}-1&quot;</ETag>"
            f"<Size>{SIZE}</Size></Contents>"
            for n in range(start, stop)
        )
        more = stop < self.objects
        token = f"<NextContinuationToken>{key_of(stop - 1)}</NextContinuationToken>" if more else ""
        return f"{HEAD}<IsTruncated>{'true' if more else 'false'}</IsTruncated>{token}{entries}</ListBucketResult>".encode()

    def _send(self, body: bytes, kind: str, etag: str = "") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        if etag:
            self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256


if __name__ == "__main__":
    Handler.objects = int(sys.argv[2])
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
