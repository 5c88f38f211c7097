"""The API's description, docs/manager-openapi.json, against a real manager: the same routes, and answers of its shapes."""

import json
import re
from pathlib import Path

from manager_process import ALICE, PASSWORD

SPEC = json.loads((Path(__file__).parents[2] / "docs" / "manager-openapi.json").read_text())
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
