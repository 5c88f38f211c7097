"""The API's description, docs/manager-openapi.json, against a real manager: the same routes, and answers of its shapes."""

import json
import re
import subprocess
import sys
from pathlib import Path

from manager_process import ALICE, PASSWORD

ROOT = Path(__file__).parents[2]
SPEC = json.loads((ROOT / "docs" / "manager-openapi.json").read_text())
TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict, "array": list, "null": type(None)}


def check(value, schema, where="answer"):
    """Holds a value against the part of JSON Schema that the description uses."""
    if "$ref" in schema:
        schema = SPEC["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    bool_fits = "boolean" in types or not isinstance(value, bool)  # a bool is an int in Python
    fits = bool_fits and any(isinstance(value, TYPES[name]) for name in types)
    assert fits, f"{where}: {value!r} is no {types}"
    assert "enum" not in schema or value in schema["enum"], where
    assert "minimum" not in schema or value is None or value >= schema["minimum"], where
    if isinstance(value, dict) and "properties" in schema:
        assert set(schema["required"]) <= set(value) <= set(schema["properties"]), f"{where}: has {sorted(value)}"
        for name, item in value.items():
            check(item, schema["properties"][name], f"{where}.{name}")
    if isinstance(value, list):
        for item in value:
            check(item, schema["items"], f"{where}[]")


def test_the_description_and_the_server_have_the_same_routes(manager):
    described = {f"{method.upper()} {path}" for path, methods in SPEC["paths"].items() for method in methods}
    served = set(re.findall(r'route="([A-Z]+ [^"]+)"', manager.call("GET", "/metrics").body.decode()))
    assert described == served


def test_answers_have_the_shapes_that_are_described(manager, s3_auth):
    def call(method, path, body=None, token=None, **parameters):
        operation = SPEC["paths"][path][method.lower()]
        answer = manager.call(method, path.format(**parameters), body, token)
        described = operation["responses"].get(str(answer.status), operation["responses"]["default"])
        [(media, content)] = described["content"].items() if "content" in described else [("", None)]
        if content is None:
            assert answer.body == b""
            return None
        assert answer.headers["Content-Type"].startswith(media), path
        if "json" not in media:
            return answer.body
        check(answer.json, content["schema"], f"{method} {path}")
        return answer.json

    admin = manager.admin
    call("POST", "/v1/clients", {"name": "bob", "password": "a-password-of-bob"}, admin)
    call("POST", "/v1/clients/{name}", {"enabled": False}, admin, name="bob")
    call("DELETE", "/v1/clients/{name}", None, admin, name="bob")
    token = call("POST", "/v1/connect", {"name": ALICE, "password": PASSWORD, "s3": s3_auth})["token"]
    body = {"name": "j", "datasource": {"bucket": "pets"}, "qos": {"maxmemory": 5}, "resources": {"gpus": 2}}
    job = call("POST", "/v1/jobs", body, token)
    manager.ended(job)
    shown = call("GET", "/v1/jobs/{id}", None, job["token"], id=job["id"])
    assert shown["resources"] == {"gpus": 2} and shown["qos"]["maxmemory"] == 5
    call("POST", "/v1/jobs/{id}/misses", {"chunks": [{"key": "x", "chunk": 0}]}, job["token"], id=job["id"])  # 409
    call("POST", "/v1/jobs/{id}/heartbeat", {"report": {"epoch": 1}}, job["token"], id=job["id"])
    call("GET", "/v1/jobs/{id}/hashes", None, job["token"], id=job["id"])  # 409
    call("GET", "/v1/jobs/{id}/manifest", None, job["token"], id=job["id"])
    call("POST", "/v1/datasets/{id}/pin", {"minutes": 1}, token, id=shown["dataset"])
    call("POST", "/v1/gc", {}, admin)
    for path in ("/v1/jobs", "/v1/datasets", "/v1/clients", "/v1/status", "/v1/config", "/v1/overview", "/", "/healthz", "/readyz", "/metrics"):
        call("GET", path, None, admin)
    call("GET", "/v1/datasets/{id}", None, token, id=shown["dataset"])
    for work in ("warm", "check", "evict"):  # 409: there is no cache
        call("POST", f"/v1/datasets/{{id}}/{work}", {}, token, id=shown["dataset"])
    call("POST", "/v1/datasets/{id}/cancel", {}, token, id=shown["dataset"])
    call("DELETE", "/v1/datasets/{id}", None, token, id=shown["dataset"])  # 409: in use
    call("DELETE", "/v1/jobs/{id}", None, job["token"], id=job["id"])
    call("DELETE", "/v1/jobs/{id}", None, token, id=job["id"])  # 404
    call("DELETE", "/v1/datasets/{id}", None, token, id=shown["dataset"])
    call("POST", "/v1/disconnect", {}, token)


def test_every_described_request_without_a_token_is_refused(manager):
    for path, methods in SPEC["paths"].items():
        for method, operation in methods.items():
            answer = manager.call(method.upper(), re.sub(r"{\w+}", "x", path))
            expected = (200, 422) if operation["x-access"] == "anyone" else (401,)
            assert answer.status in expected, (method, path, answer.status)


def test_the_reference_is_made_of_the_description():
    made = subprocess.run([sys.executable, ROOT / "cmake" / "manager-reference", "--check"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


def test_every_parameter_and_field_is_described():
    def undescribed(node, where):
        if isinstance(node, list):
            for item in node:
                yield from undescribed(item, where)
        elif isinstance(node, dict):
            if {"in", "name"} <= set(node) and "description" not in node:
                yield f"{where}: {node['name']}"
            for name, item in node.items():
                if name == "properties":
                    yield from (f"{where}.{field}" for field, schema in item.items() if "description" not in schema)
                yield from undescribed(item, f"{where}.{name}")

    assert list(undescribed(SPEC, "")) == []


def test_the_described_problems_are_those_of_the_sources():
    described = {(problem["status"], word) for word, problem in SPEC["x-problems"].items()}
    sources = [path.read_text() for path in (ROOT / "src" / "manager").rglob("*.cc")]
    thrown = (found for text in sources for found in re.findall(r"""(?<!')\b([45]\d\d),\s*"([a-z0-9-]+)\"""", text))
    assert described == {(int(status), word) for status, word in thrown}
    for path, methods in SPEC["paths"].items():
        for method, operation in methods.items():
            assert set(operation["x-problems"]) <= set(SPEC["x-problems"]), (method, path)
