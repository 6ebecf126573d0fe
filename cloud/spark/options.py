"""Options that the job and `prepare.py` share."""

import argparse
import os
from pathlib import Path

from bulk import Target


def add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--opensearch", required=True, metavar="URL", help="with user and password in OPENSEARCH_USER and OPENSEARCH_PASSWORD, if it wants them"
    )
    parser.add_argument("--ca", type=Path, metavar="FILE", help="certificates to trust, in PEM, instead of the system's")
    parser.add_argument("--aws-region", metavar="REGION", help="sign requests for a domain of the Amazon OpenSearch Service; needs botocore")


def target(given: argparse.Namespace) -> Target:
    return Target(
        url=given.opensearch,
        user=os.environ.get("OPENSEARCH_USER"),
        password=os.environ.get("OPENSEARCH_PASSWORD"),
        ca=given.ca.read_text() if given.ca else None,
        aws_region=given.aws_region,
    )
