"""Where consumers write down what they see, and where the books are: a folder of one machine, or a bucket of S3 for consumers on several."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Protocol


class Taken(Exception):
    """Somebody else has written this meanwhile."""


class Shelf(Protocol):
    """Names are paths with slashes. What is written is there as a whole, or not at all."""

    def names(self, prefix: str) -> list[str]: ...

    def read(self, name: str) -> dict[str, Any] | None: ...

    def write(self, name: str, value: dict[str, Any]) -> None: ...

    def write_new(self, name: str, value: dict[str, Any]) -> None:
        """Raises Taken if it is there."""

    def remove(self, name: str) -> None: ...


def shelf(where: str, endpoint: str | None = None) -> Shelf:
    """A folder's path, or s3://bucket/prefix."""
    if not where.startswith("s3://"):
        return Folder(Path(where))
    bucket, _, prefix = where.removeprefix("s3://").partition("/")
    return Bucket(bucket, prefix.strip("/"), endpoint)


def _bytes(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class Folder:
    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def names(self, prefix: str) -> list[str]:
        found = (self._root / prefix).rglob("*.json") if (self._root / prefix).is_dir() else iter(())
        return sorted(str(path.relative_to(self._root)) for path in found)

    def read(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads((self._root / name).read_bytes())
        except FileNotFoundError:
            return None

    def write(self, name: str, value: dict[str, Any]) -> None:
        os.replace(self._beside(name, value), self._root / name)
        self._sync(name)

    def write_new(self, name: str, value: dict[str, Any]) -> None:
        written = self._beside(name, value)
        try:
            os.link(written, self._root / name)
        except FileExistsError:
            raise Taken(name) from None
        finally:
            os.unlink(written)
        self._sync(name)

    def remove(self, name: str) -> None:
        (self._root / name).unlink(missing_ok=True)

    def _beside(self, name: str, value: dict[str, Any]) -> str:
        folder = (self._root / name).parent
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".new", delete=False) as file:
            file.write(_bytes(value))
            file.flush()
            os.fsync(file.fileno())
        return file.name

    def _sync(self, name: str) -> None:
        """After a power cut the checkpoint must not say more than what is written here."""
        folder = os.open((self._root / name).parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Bucket:
    def __init__(self, bucket: str, prefix: str, endpoint: str | None) -> None:
        import boto3

        self._s3 = boto3.client("s3", endpoint_url=endpoint)
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""

    def names(self, prefix: str) -> list[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{self._prefix}{prefix}")
        keys = [entry["Key"].removeprefix(self._prefix) for page in pages for entry in page.get("Contents", [])]
        return sorted(key for key in keys if key.startswith(f"{prefix}/") or not prefix)

    def read(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads(self._s3.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read())
        except self._s3.exceptions.NoSuchKey:
            return None

    def write(self, name: str, value: dict[str, Any]) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=_bytes(value))

    def write_new(self, name: str, value: dict[str, Any]) -> None:
        import botocore.exceptions

        try:
            self._s3.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=_bytes(value), IfNoneMatch="*")
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise Taken(name) from None
            raise

    def remove(self, name: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=self._prefix + name)
