"""TLS between the manager and its clients: wrong, expired, missing and rotated certificates."""

import os
import shutil
import subprocess
import urllib.error

import manager_process
import pytest
from alnair import AlnairJobDataset
from conftest import ACCESS_KEY, SECRET_KEY
from manager_process import ALICE, DEADLINE_S, PASSWORD, ManagerProcess, wait_for


class Authority:
    """Signs certificates for the servers and clients of a test."""

    def __init__(self, directory, name):
        self.directory, self.name = directory, name
        self.certificate, self.key = directory / f"{name}.pem", directory / f"{name}.key"
        self._openssl("req", "-x509", *self._new_key(self.key), "-days", "2", "-subj", f"/CN={name}", "-out", self.certificate)

    @staticmethod
    def _new_key(path):
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path)

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, cwd=self.directory)

    def sign(self, name, expired=False):
        """The files of a certificate for 127.0.0.1 and of its key."""
        certificate, key, request = (self.directory / f"{name}.{end}" for end in ("pem", "key", "csr"))
        extensions = self.directory / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self._openssl("req", "-new", *self._new_key(key), "-subj", f"/CN={name}", "-out", request)
        self._openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial",
            "-extfile", extensions, "-days", "-1" if expired else "2", "-out", certificate,
        )  # fmt: skip
        return certificate, key


@pytest.fixture
def authority(tmp_path):
    if manager_process.binary() is None:
        pytest.skip("built without ALNAIR_MANAGER")
    return Authority(tmp_path, "authority")


@pytest.fixture
def start(tmp_path):
    """Starts a manager that speaks TLS with copies of the files given."""
    managers = []

    def start_manager(certificate, key, client_ca=None, **settings):
        folder = tmp_path / "tls"
        folder.mkdir(exist_ok=True)
        for source, name in ((certificate, "certificate"), (key, "key")):
            shutil.copy(source, folder / name)
        settings.update(tls_certificate=folder / "certificate", tls_key=folder / "key")
        if client_ca is not None:
            settings["tls_client_ca"] = client_ca
        managers.append(ManagerProcess(tmp_path / "manager", **settings))
        return managers[-1]

    yield start_manager
    for manager in managers:
        manager.kill()


def cli(manager, *arguments, ca=None, certificate=None):
    command = [manager_process.binary(), *arguments, "--manager", manager.url]
    if ca is not None:
        command += ["--ca", ca]
    if certificate is not None:
        command += ["--cert", certificate[0], "--key", certificate[1]]
    environment = {**os.environ, "ALNAIR_MANAGER_ADMIN_TOKEN": manager.admin}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S)


def test_a_script_trains_over_tls(authority, start, s3_server, s3_auth, monkeypatch):
    manager = start(*authority.sign("server"))
    manager.trust(authority.certificate)
    manager.add_client()
    for name, value in (
        ("ALNAIR_MANAGER_USERNAME", ALICE), ("ALNAIR_MANAGER_PASSWORD", PASSWORD), ("ALNAIR_MANAGER_TLS_CA", authority.certificate),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY), ("AWS_REGION", "us-east-1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, str(value))
    dataset = AlnairJobDataset(source="s3://pets", endpoint_url=s3_server.endpoint_url, manager=manager.url, progress=False)
    assert len(dataset) > 0
    assert len(manager.call("GET", "/v1/jobs", token=manager.admin).json["jobs"]) == 1


def test_wrong_and_expired_certificates_are_refused_by_clients(authority, start, tmp_path):
    manager = start(*authority.sign("server"))
    assert cli(manager, "status", ca=authority.certificate).returncode == 0
    stranger = Authority(tmp_path, "stranger")
    refused = cli(manager, "status", ca=stranger.certificate)
    assert refused.returncode == 1 and "certificate" in refused.stderr, refused.stderr
    manager.kill()
    expired = start(*authority.sign("server", expired=True))
    refused = cli(expired, "status", ca=authority.certificate)
    assert refused.returncode == 1 and "expired" in refused.stderr, refused.stderr


def test_clients_must_show_a_good_certificate_where_one_is_wanted(authority, start, tmp_path):
    manager = start(*authority.sign("server"), client_ca=authority.certificate)
    manager.trust(authority.certificate)
    assert manager.call("GET", "/healthz").status == 200  # a probe has no certificate
    answer = manager.call("GET", "/v1/status", token=manager.admin)
    assert (answer.status, answer.problem) == (403, "client-certificate") and "tls_cert" in answer.json["detail"]
    good, stranger = authority.sign("client"), Authority(tmp_path, "stranger").sign("other")
    assert cli(manager, "status", ca=authority.certificate, certificate=good).returncode == 0
    for certificate, why in ((stranger, "issuer is unknown"), (authority.sign("late", expired=True), "expired")):
        refused = cli(manager, "status", ca=authority.certificate, certificate=certificate)
        assert refused.returncode == 1 and why in refused.stderr, refused.stderr


def test_a_rotated_certificate_is_used_without_a_restart(authority, start, tmp_path):
    manager = start(*authority.sign("server"))
    manager.trust(authority.certificate)
    assert manager.call("GET", "/healthz").status == 200
    fresh = Authority(tmp_path, "fresh")
    certificate, key = fresh.sign("second")
    folder = tmp_path / "tls"
    os.replace(certificate, folder / "certificate")  # does not fit the key for now: the one before goes on
    wait_for(lambda: "what was there before is still used" in manager.log.read_text(), "a complaint")
    assert manager.call("GET", "/healthz").status == 200
    os.replace(key, folder / "key")
    wait_for(lambda: "is used from now on" in manager.log.read_text(), "the new certificate")
    with pytest.raises(urllib.error.URLError):
        manager.call("GET", "/healthz")
    manager.trust(fresh.certificate)
    assert manager.call("GET", "/healthz").status == 200


def test_files_that_are_no_certificate_are_named(authority, tmp_path):
    certificate, key = authority.sign("server")
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for files, message in (
        ((certificate, None, None), "[tls]: certificate and key belong together"),
        ((certificate, tmp_path / "none", None), f"[tls] key: {tmp_path}/none: No such file or directory"),
        ((certificate, empty, None), f"[tls] certificate {certificate} and key {empty}: expected"),
        ((certificate, authority.key, None), f"[tls] certificate {certificate} and key {authority.key}: expected"),
        ((certificate, key, empty), f"[tls] client_ca {empty}: expected certificates in PEM"),
    ):
        environment = {**os.environ, "ALNAIR_MANAGER_STATE_DIR": str(tmp_path / "state"), "ALNAIR_MANAGER_PORT": "0"}
        for name, path in zip(("CERTIFICATE", "KEY", "CLIENT_CA"), files):
            if path is not None:
                environment[f"ALNAIR_MANAGER_TLS_{name}"] = str(path)
        ended = subprocess.run([manager_process.binary(), "serve"], env=environment, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 1 and message in ended.stderr, ended.stderr
