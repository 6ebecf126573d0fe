"""The entry of the function: a batch of records of a stream with positions, of one shard, in order; what it makes of them goes to another stream."""

import base64
import csv
import json
import os
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from enrich.decisions import Offers, enriched
from enrich.places import Zones

# Of one request of Kinesis.
RECORDS_MAX = 500
FOLDER = Path(__file__).parent


class Sender(Protocol):
    """What the handler needs of the world; the tests have their own."""

    def send(self, records: list[tuple[str, bytes]]) -> None:
        """Sends all of these, or raises."""


class Failed(Exception):
    """Kinesis did not take everything."""


class Kinesis:
    def __init__(self, client: Any, stream: str) -> None:
        self._client, self._stream = client, stream

    def send(self, records: list[tuple[str, bytes]]) -> None:
        entries = [{"PartitionKey": key, "Data": data} for key, data in records]
        for at in range(0, len(entries), RECORDS_MAX):
            told = self._client.put_records(StreamName=self._stream, Records=entries[at : at + RECORDS_MAX])
            if told["FailedRecordCount"]:
                # The whole batch comes again: a record may then be there twice, and its identity tells.
                raise Failed(f"{told['FailedRecordCount']} records were not taken")


def handle(event: dict[str, Any], _context: object) -> None:
    """Called by Lambda, which tries a batch again that fails."""
    process(event["Records"], _offers(), _kinesis())


def process(records: list[dict[str, Any]], offers: Offers, sender: Sender) -> None:
    made = [each for record in records for each in enriched(base64.b64decode(record["kinesis"]["data"]), offers)]
    if made:
        sender.send(made)


@cache
def _offers() -> Offers:
    return load(FOLDER / "zones.geojson", FOLDER / "offers.csv")


def load(zones: Path, offers: Path) -> Offers:
    """The files that the gateway has as well."""
    with offers.open(newline="") as file:
        rows = [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(file)]
    return Offers(Zones(json.loads(zones.read_text())), rows)


def _value(text: str) -> int | float | bool | str:
    """What reads as a number or a truth value of JSON is one, as in the gateway's tables."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, int | float | bool) else text


@cache
def _kinesis() -> Kinesis:
    import boto3

    return Kinesis(boto3.client("kinesis"), os.environ["STREAM"])
