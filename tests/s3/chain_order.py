"""Says which link of botocore's credential chain wins: reads a JSON list of environments from a file, writes one access
key id (or "NONE") a line. What needs a network answers at once: a role is ROLE, web identity WEB, and so on."""

import json
import os
import sys

import botocore.credentials
import botocore.session
from botocore.utils import ContainerMetadataFetcher, InstanceMetadataFetcher

EXPIRES = "2099-01-01T00:00:00Z"


def role(key_id):
    return lambda self: {"Credentials": {"AccessKeyId": key_id, "SecretAccessKey": "s", "SessionToken": "t", "Expiration": EXPIRES}}


botocore.credentials.AssumeRoleCredentialFetcher._get_credentials = role("ROLE")
botocore.credentials.AssumeRoleWithWebIdentityCredentialFetcher._get_credentials = role("WEB")
ContainerMetadataFetcher.retrieve_full_uri = lambda self, *_, **__: {
    "AccessKeyId": "CONTAINER", "SecretAccessKey": "s", "Token": "t", "Expiration": EXPIRES}
InstanceMetadataFetcher.retrieve_iam_role_credentials = lambda self: {} if "NO_INSTANCE" in os.environ else {
    "role_name": "r", "access_key": "INSTANCE", "secret_key": "s", "token": "t", "expiry_time": EXPIRES}

with open(sys.argv[1]) as file:
    environments = json.load(file)
for environment in environments:
    os.environ.clear()
    os.environ.update(environment)
    credentials = botocore.session.Session().get_credentials()
    print("NONE" if credentials is None else credentials.get_frozen_credentials().access_key)
