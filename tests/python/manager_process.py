"""A real alnair-manager in a process of its own, and calls to its API."""

import ctypes
import json
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import alnair

DEADLINE_S = 60
ALICE, PASSWORD = "alice", "a-password-of-alice"


def binary():
    """The program that was built beside the Python module; None: built without it."""
    path = Path(alnair.__file__).parents[2] / "alnair-manager"
    return path if path.exists() else None


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def problem(self):
        """The last part of a problem's type."""
        assert self.headers["Content-Type"] == "application/problem+json", self.body
        document = self.json
        assert document["status"] == self.status and document["request_id"] == self.headers["X-Request-Id"]
        assert document["title"] and document["detail"]
        return document["type"].rpartition("/")[2]


def wait_for(condition, what="the condition"):
    """What `condition` returns, as soon as that is true."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.05)
    return found


class ManagerProcess:
    """Runs until stop() or kill(); start() again goes on with the same state."""

    def __init__(self, directory, port=0, **settings):
        self.directory = Path(directory)
        self.settings = settings
        self.url = None
        self._tls = None
        self.log = self.directory.parent / (self.directory.name + ".log")
        self.start(port)

    def environment(self):
        environment = {"ALNAIR_MANAGER_STATE_DIR": str(self.directory), "ALNAIR_MANAGER_" + "LOG_FORMAT": "json"}
        environment.update({"ALNAIR_MANAGER_" + name.upper(): str(value) for name, value in self.settings.items()})
        return {**os.environ, **environment}

    def start(self, port=None):
        port = self.url.rpartition(":")[2] if port is None else port
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [binary(), "serve"],
                env={**self.environment(), "ALNAIR_MANAGER_PORT": str(port)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=die_with_parent,
            )
        line = self.process.stdout.readline()
        if line == "alnair-manager: standing by\n":
            return self
        assert line.startswith("alnair-manager: ready at http"), line + self.log.read_text()
        self.url = line.split()[-1]
        return self

    def trust(self, certificate, own=None):
        """Over TLS: who must have signed the manager's certificate, and the files of the one to show."""
        self._tls = ssl.create_default_context(cafile=certificate)
        if own is not None:
            self._tls.load_cert_chain(*own)

    def kill(self):
        self.process.kill()
        self.process.wait()
        assert not os.path.exists(f"/dev/shm/mongoc-{self.process.pid}"), "shared memory of the driver's was left behind"
        self.process.stdout.close()

    def stop(self):
        self.process.terminate()
        status = self.process.wait(DEADLINE_S)
        self.process.stdout.close()
        return status

    @property
    def admin(self):
        return (self.directory / "admin.token").read_text().strip()

    def call(self, method, path, body=None, token=None, raw=None, headers=()):
        """Any status is an Answer."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=dict(headers))
        if data is not None:
            request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", "Bearer " + token)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S, context=self._tls) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())

    def add_client(self, name=ALICE, password=PASSWORD):
        answer = self.call("POST", "/v1/clients", {"name": name, "password": password}, self.admin)
        assert answer.status == 201, answer.body

    def connect(self, s3=None, name=ALICE, password=PASSWORD):
        """A session's token. `s3`: a server with credentials, or the credentials."""
        body = {"name": name, "password": password}
        if s3 is not None:
            body["s3"] = s3
        answer = self.call("POST", "/v1/connect", body)
        assert answer.status == 200, answer.body
        return answer.json["token"]

    def register(self, token, bucket="pets", name="resnet", **fields):
        answer = self.call("POST", "/v1/jobs", {"name": name, "datasource": {"bucket": bucket, **fields}}, token)
        assert answer.status == 202, answer.body
        return answer.json

    def ended(self, job):
        """The job once its registration has ended."""
        return wait_for(
            lambda: (now := self.call("GET", f"/v1/jobs/{job['id']}", token=job["token"]).json)["state"] != "listing" and now,
            "a registration",
        )
