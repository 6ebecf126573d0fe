"""Where the stack is: its name, and the clients for the region or the emulator."""

import argparse
import os
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config

from stack.errors import Failed

# It becomes part of the name of a bucket, which has at most 63 characters with the account and the region.
NAME = re.compile(r"[a-z][a-z0-9-]{0,19}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stack", default="outrider", metavar="NAME", help="name of the stack, of which all names are made (default: outrider)")
    parser.add_argument("--region", metavar="REGION", help="AWS region (default: AWS_REGION, else the profile's)")
    parser.add_argument("--endpoint", metavar="URL", help="an emulator instead of AWS")


@dataclass(frozen=True)
class Place:
    """A stack in a region of an account, or in an emulator."""

    stack: str
    region: str | None
    endpoint: str | None

    @staticmethod
    def of(arguments: argparse.Namespace) -> "Place":
        if not NAME.fullmatch(arguments.stack):
            raise Failed(f"--stack {arguments.stack}: a name has 1 to 20 characters of a-z, 0-9 and -, and begins with a letter")
        return Place(arguments.stack, arguments.region or os.environ.get("AWS_REGION"), arguments.endpoint)

    @cached_property
    def session(self) -> Any:
        return boto3.session.Session(region_name=self.region)

    def client(self, service: str) -> Any:
        config = Config(connect_timeout=10, retries={"max_attempts": 4, "mode": "standard"}, s3={"addressing_style": "path"} if self.endpoint else {})
        return self.session.client(service, endpoint_url=self.endpoint, config=config)

    @property
    def engine_stack(self) -> str:
        return f"{self.stack}-engine"

    @property
    def prediction_stack(self) -> str:
        return f"{self.stack}-predict"

    @cached_property
    def code_bucket(self) -> str:
        account = self.client("sts").get_caller_identity()["Account"]
        return f"{self.stack}-code-{account}-{self.session.region_name}"
