"""Compares the signatures of requests with those that botocore, the SDK for Python, makes of them.

Reads a JSON array of heads of requests from standard input; prints how many are right, and fails at the first that is not."""

import json
import sys

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

access_key, secret_key, token = sys.argv[1:4]
heads = json.load(sys.stdin)
for head in heads:
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    sent = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    authorization = sent["authorization"]
    fields = dict(field.strip().split("=", 1) for field in authorization.split(" ", 1)[1].split(","))
    scope = fields["Credential"].split("/")
    signed = fields["SignedHeaders"].split(";")
    for needed in ["host", "x-amz-content-sha256", "x-amz-date"] + (["x-amz-security-token"] if token else []):
        assert needed in signed, f"{needed} is not signed"
    auth = S3SigV4Auth(Credentials(access_key, secret_key, token or None), scope[3], scope[2])
    request = AWSRequest(method, f"http://{sent['host']}{path}", headers={name: sent[name] for name in signed})
    request.context["timestamp"] = sent["x-amz-date"]
    request.context["payload_signing_enabled"] = True
    expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert expected == fields["Signature"], f"{first}: {fields['Signature']} is not {expected}"
print(len(heads))
