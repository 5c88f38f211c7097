"""Requests made up from the API's description, fit and unfit: none makes the manager fail, or answer what is not described."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DESCRIPTION = Path(__file__).parents[2] / "docs" / "manager-openapi.json"
CHECKS = "not_a_server_error,positive_data_acceptance,response_schema_conformance,content_type_conformance,status_code_conformance"
ENDING = ("/v1/disconnect", "/v1/connect")  # what would end the session, or be slowed after wrong passwords


@pytest.mark.parametrize("who", ["administrator", "client"])
def test_no_request_makes_it_fail(manager, s3_auth, tmp_path, who):
    token = manager.admin if who == "administrator" else manager.connect(s3_auth)
    command = [Path(sys.executable).with_name("schemathesis"), "run", DESCRIPTION, "--url", manager.url, "--checks", CHECKS,
               "--header", "Authorization: Bearer " + token, "--phases", "coverage,fuzzing", "--max-examples", "4", "--seed", "5",
               "--generation-database", "none", "--no-color"]  # fmt: skip
    for path in ENDING:
        command += ["--exclude-path", path]
    ended = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, timeout=240, env=os.environ)
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
    assert " 0 passed" not in ended.stdout
    assert manager.call("GET", "/healthz").status == 200
