"""TLS and proxies: the ways to an S3 server that are not a plain connection."""

import os
import selectors
import socket
import socketserver
import subprocess
import sys
import threading
from urllib.parse import urlsplit

import alnair
import pytest
from alnair import AlnairJobDataset
from conftest import ACCESS_KEY, KEYS, SECRET_KEY, S3Server, content_of

EXPECTED = [(content_of(key), key) for key in KEYS]


@pytest.fixture(scope="module")
def tls(rclone, tmp_path_factory):
    """A server with a certificate of its own, and the file of that certificate."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    server = S3Server(rclone, folder / "buckets", "--cert", str(certificate), "--key", str(key))
    server.add_bucket("pets", KEYS)
    yield server, certificate
    server.stop()


@pytest.fixture
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def refusal(**arguments):
    with pytest.raises(alnair.ConfigError) as caught:
        AlnairJobDataset(source="s3://pets", progress=False, **arguments)
    return str(caught.value)


@pytest.mark.parametrize("how", ["argument", "ALNAIR_CA_BUNDLE", "AWS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_an_authority_of_your_own_is_trusted_where_it_is_named(tls, credentials, monkeypatch, how):
    server, certificate = tls
    arguments = {"ca_bundle": certificate} if how == "argument" else {}
    if how != "argument":
        monkeypatch.setenv(how, str(certificate))
    assert list(AlnairJobDataset(source="s3://pets", endpoint_url=server.endpoint_url, **arguments)) == EXPECTED


def test_an_unknown_certificate_is_refused(tls, credentials):
    server, _ = tls
    message = refusal(endpoint_url=server.endpoint_url)
    assert message.startswith(f"The TLS certificate of {server.endpoint_url} is not trusted (")
    assert message.endswith("Set ca_bundle, or AWS_CA_BUNDLE, to a PEM file of the authority that signed it.")


@pytest.mark.parametrize("content", [None, "garbage"])
def test_a_file_of_certificates_that_cannot_be_used_is_named(tls, credentials, monkeypatch, tmp_path, content):
    server, _ = tls
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    message = refusal(endpoint_url=server.endpoint_url)
    assert message.startswith(f"The certificates to trust for {server.endpoint_url} cannot be used (")
    assert str(tmp_path / "ca.pem") in message
    if content is None:
        assert refusal(endpoint_url=server.endpoint_url, ca_bundle=tmp_path / "ca.pem") == (
            f"ca_bundle '{tmp_path / 'ca.pem'}' cannot be read: expected a PEM file of certificates."
        )


READ = """
import sys
sys.modules["torch"] = None  # not needed, and slow to import
from alnair import AlnairJobDataset
print(len(list(AlnairJobDataset(source="s3://pets", endpoint_url=sys.argv[1], progress=False))))
"""


def test_a_machine_without_certificates_uses_certifis(tls, credentials, tmp_path):
    server, certificate = tls
    (tmp_path / "certifi.py").write_text(f"def where(): return {str(certificate)!r}\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    for name in ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"):
        environment.pop(name, None)
    hide = "for d in /etc/ssl /etc/pki; do [ ! -d $d ] || mount -t tmpfs none $d || exit 77; done"
    command = ["unshare", "--mount", "sh", "-c", f'{hide}; exec "$@"', "-", sys.executable, "-c", READ, server.endpoint_url]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("needs the right to mount")
    assert (result.stdout.strip(), result.stderr) == (str(len(KEYS)), "")


def test_plain_http_to_a_server_that_speaks_tls_says_so(tls, credentials):
    server, _ = tls
    with pytest.raises(alnair.Error, match="TLS|HTTPS|400"):
        AlnairJobDataset(source="s3://pets", endpoint_url=server.endpoint_url.replace("https", "http"), progress=False)


class Proxy(socketserver.ThreadingTCPServer):
    """Forwards requests for any host to `target`: whole ones for http, tunnels for https."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, target):
        super().__init__(("127.0.0.1", 0), Connection)
        self.target = target
        self.asked = []  # "GET http://host:port", "CONNECT host:port"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Connection(socketserver.BaseRequestHandler):
    def handle(self):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.request.recv(65536)
            if not piece:
                return
            head += piece
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        parts = urlsplit(target)
        self.server.asked.append(f"{method} {target}" if method == "CONNECT" else f"{method} {parts.scheme}://{parts.netloc}")
        with socket.create_connection(self.server.target) as server:
            if method == "CONNECT":
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:  # one request a connection
                line, rest = head.split(b"\r\n", 1)
                path = target[len(f"{parts.scheme}://{parts.netloc}") :]
                server.sendall(f"{method} {path} HTTP/1.1\r\nConnection: close\r\n".encode() + rest)
            self.relay(server)

    def relay(self, server):
        with selectors.DefaultSelector() as selector:
            for source, target in (self.request, server), (server, self.request):
                selector.register(source, selectors.EVENT_READ, target)
            while True:
                for ready, _ in selector.select():
                    piece = ready.fileobj.recv(65536)
                    if not piece:
                        return
                    ready.data.sendall(piece)


def address(endpoint_url):
    parts = urlsplit(endpoint_url)
    return parts.hostname, parts.port


def test_http_goes_through_the_proxy_of_the_environment(s3, credentials, monkeypatch):
    port = address(s3.endpoint_url)[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://s3.example:{port}")  # a name that only the proxy knows
    with Proxy(address(s3.endpoint_url)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert list(AlnairJobDataset(source="s3://pets")) == EXPECTED
        assert set(proxy.asked) == {f"GET http://s3.example:{port}"}
        assert len(proxy.asked) > len(KEYS)  # and the listing


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_https_goes_through_a_tunnel_of_the_proxy(tls, credentials, monkeypatch, variable):
    server, certificate = tls
    with Proxy(address(server.endpoint_url)) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        dataset = AlnairJobDataset(source="s3://pets", endpoint_url=server.endpoint_url, ca_bundle=certificate)
        assert list(dataset) == EXPECTED
        assert set(proxy.asked) == {f"CONNECT 127.0.0.1:{address(server.endpoint_url)[1]}"}


@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
def test_what_no_proxy_names_is_reached_directly(s3, credentials, monkeypatch, variable):
    with Proxy(address(s3.endpoint_url)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv(variable, "localhost,127.0.0.1")
        assert list(AlnairJobDataset(source="s3://pets")) == EXPECTED
        assert proxy.asked == []


def test_a_proxy_that_does_not_answer_is_named(s3, credentials, monkeypatch):
    with socket.socket() as taken:  # and does not listen
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(alnair.SourceError, match=rf"127\.0\.0\.1 port {port}.* and proxies"):
            AlnairJobDataset(source="s3://pets", progress=False)
