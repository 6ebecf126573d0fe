"""The bucket with code: it is there before the stack that runs the code, so the stack does not make it."""

import hashlib
import io
import zipfile
from pathlib import Path

import botocore.exceptions

from stack.aws import Place

# Zip files have no dates before this one; always the same, so that the same code is the same file.
DATE = (1980, 1, 1, 0, 0, 0)


def package(files: dict[str, Path]) -> bytes:
    """A zip of files by their names in it, the same for the same contents."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(files.items()):
            entry = zipfile.ZipInfo(name, DATE)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()


def upload(place: Place, name: str, body: bytes) -> str:
    """Puts code into the bucket, which is made if need be, and returns its key: another one for other code."""
    return _put(place, f"{name}-{_digest(body)}.zip", body)


def upload_file(place: Place, path: Path) -> str:
    """The same of a file that keeps its name; returns its address."""
    body = path.read_bytes()
    return f"s3://{place.code_bucket}/{_put(place, f'{_digest(body)}/{path.name}', body)}"


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


def _put(place: Place, key: str, body: bytes) -> str:
    s3 = place.client("s3")
    _make_bucket(place, s3)
    s3.put_object(Bucket=place.code_bucket, Key=key, Body=body)
    return key


def _make_bucket(place: Place, s3) -> None:
    try:
        s3.head_bucket(Bucket=place.code_bucket)
        return
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
    where = {} if s3.meta.region_name == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": s3.meta.region_name}}
    s3.create_bucket(Bucket=place.code_bucket, **where)
    closed = {name: True for name in ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")}
    s3.put_public_access_block(Bucket=place.code_bucket, PublicAccessBlockConfiguration=closed)


def remove_bucket(place: Place, bucket: str) -> bool:
    """Empties and removes a bucket; false if there is none."""
    s3 = place.client("s3")
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            objects = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
            if objects:
                s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
        s3.delete_bucket(Bucket=bucket)
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise
        return False
    return True
