"""Writes signing cases as lines of JSON, with the stages of botocore's own signer as what is expected.

Usage: sigv4_cases.py COUNT SEED. Cases are GETs, LISTs and POSTs with odd keys, queries and headers, a quarter of them
presigned URLs.
"""

import datetime
import json
import random
import sys
from urllib.parse import urlsplit

import botocore.auth
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.utils import percent_encode

FRAGMENTS = ["a", "Z", "7", "-", "_", ".", "~", " ", "+", "%", "%20", "%2F", "/", "//", "..", "/../", "/./", "=", "&", "?", "#",
             ":", ";", "@", "!", "$", "'", '"', "(", ")", "*", ",", "[", "]", "{", "}", "|", "\\", "^", "`", "<", ">", "\t",
             "\n", "\x01", "\x7f", "ü", "é", "漢字", "🙂", "\u00a0", "\ufeff", "train/", ".png", "a b/ü+=.bin"]
REGIONS = ["us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1", "auto", "x"]
HOSTS = ["bucket.s3.amazonaws.com", "s3.eu-west-1.amazonaws.com", "127.0.0.1:9000", "[::1]:9000", "storage.example"]


def text(rng, most):
    return "".join(rng.choice(FRAGMENTS) for _ in range(rng.randint(0, most)))


def secret(rng, length):
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/+="
    return "".join(rng.choice(alphabet) for _ in range(length))


def make_case(rng):
    case = {
        "key_id": "AKIA" + secret(rng, 16).replace("=", "A"),
        "secret": secret(rng, rng.choice([1, 20, 40, 60, 61, 100])),
        "token": secret(rng, rng.choice([0, 0, 16, 500])),
        "region": rng.choice(REGIONS),
        "time": rng.randint(0, 4_000_000_000),
        "method": rng.choice(["GET", "GET", "HEAD", "PUT", "POST", "DELETE"]),
        "scheme": rng.choice(["http", "https"]),
        "host": rng.choice(HOSTS),
        "path": "/" + text(rng, rng.choice([0, 3, 12, 200])),
        "query": [[name or "q", text(rng, 6)] for name in (text(rng, 3) for _ in range(rng.choice([0, 0, 1, 2, 6])))],
        "headers": [],
        "payload": rng.choice(["", "", "body", "UNSIGNED-PAYLOAD"]),
        "presign": rng.random() < 0.25,
        "expires": rng.randint(1, 604800),
    }
    if rng.random() < 0.5:
        case["query"] += [["list-type", "2"], ["prefix", text(rng, 8)], ["continuation-token", secret(rng, 30)]]
    for name, value in [("Range", "bytes=0-9"), ("If-Match", '"d41d8cd98f00b204e9800998ecf8427e"'), ("x-amz-request-payer", "requester"),
                        ("X-Amz-Odd", "  spaces   and\ttabs  "), ("x-amz-EMPTY", ""), ("User-Agent", "alnair/1 (x; y)"),
                        ("Content-Type", "application/octet-stream"), ("x-amz-twice", "one"), ("X-Amz-Twice", "two,  three"),
                        ("Expect", "100-continue"), ("z", "last")]:
        if rng.random() < 0.3:
            case["headers"].append([name, value])
    if case["presign"]:
        case["headers"], case["payload"] = [], "UNSIGNED-PAYLOAD"
    rng.shuffle(case["headers"])
    return case


def add_expected(case):
    moment = datetime.datetime.fromtimestamp(case["time"], datetime.timezone.utc)
    botocore.auth.get_current_datetime = lambda *_, **__: moment
    request = AWSRequest(
        method=case["method"], url=f"{case['scheme']}://{case['host']}" + percent_encode(case["path"], safe="/~"),
        params=[tuple(parameter) for parameter in case["query"]], data=b"body" if case["payload"] == "body" else b"")
    for name, value in case["headers"]:
        request.headers.add_header(name, value)
    request.context["client_config"] = Config(s3={"payload_signing_enabled": case["payload"] != "UNSIGNED-PAYLOAD"})
    request.context["payload_signing_enabled"] = case["payload"] != "UNSIGNED-PAYLOAD"
    request.context["timestamp"] = moment.strftime("%Y%m%dT%H%M%SZ")
    credentials = Credentials(case["key_id"], case["secret"], case["token"] or None)
    if case["presign"]:
        signer = S3SigV4QueryAuth(credentials, "s3", case["region"], case["expires"])
        # botocore merges the parameters into the URL through a dict, so that of repeated names one is left.
        names = {name for name, _ in case["query"]}
        case["query"] = [[name, dict(map(tuple, case["query"]))[name]] for name in sorted(names)]
        request.params = dict(map(tuple, case["query"]))
        signer._modify_request_before_signing(request)
    else:
        signer = S3SigV4Auth(credentials, "s3", case["region"])
        signer._modify_request_before_signing(request)
    canonical = signer.canonical_request(request)
    to_sign = signer.string_to_sign(request, canonical)
    case["canonical_request"], case["string_to_sign"] = canonical, to_sign
    case["signature"] = signer.signature(to_sign, request)
    signer._inject_signature_to_request(request, case["signature"])
    if case["presign"]:
        case["url_query"] = urlsplit(request.url).query
    else:
        case["authorization"] = request.headers["Authorization"]
    return case


def main():
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(seed)
    for _ in range(count):
        print(json.dumps(add_expected(make_case(rng))))


main()
