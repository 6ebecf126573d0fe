"""The entry of the function: a batch of records of the anomalies stream, of one shard, in order.

The alerts of one device have one partition key, so they come in order and one invocation at a time has them. Each is handled as: read what
is kept, notify, write. Dying in between repeats a notification and never loses one.

A record whose handling fails is tried again by Lambda with all that follow it in the batch. So the others are handled all the same, and
skipped the next time; only those about what has failed already wait, because a later state would hide the earlier one.
"""

import base64
import logging
import os
from functools import cache
from typing import Any

from alerts.decisions import Decision, decide
from alerts.records import Key, Unreadable, read
from alerts.services import Aws, Services

log = logging.getLogger()


def handle(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Called by Lambda."""
    return process(event["Records"], _aws())


@cache
def _aws() -> Aws:
    import boto3

    topics = [os.environ["DRIVER_TOPIC"], os.environ["FLEET_TOPIC"]]
    return Aws(boto3.session.Session(), os.environ["TABLE"], topics, os.environ["FAILURE_QUEUE"])


def process(records: list[dict[str, Any]], services: Services) -> dict[str, Any]:
    """Handles a batch, and says which of its records have to come again."""
    waiting: set[Key] = set()
    failed: list[str] = []
    for record in records:
        sequence_number = record["kinesis"]["sequenceNumber"]
        if not _handle_record(sequence_number, base64.b64decode(record["kinesis"]["data"]), services, waiting):
            failed.append(sequence_number)
    return {"batchItemFailures": [{"itemIdentifier": sequence_number} for sequence_number in failed]}


def _handle_record(sequence_number: str, data: bytes, services: Services, waiting: set[Key]) -> bool:
    """Handles all lines of a record that it can, and returns whether these were all. Adds what failed to `waiting`."""
    whole = True
    for line in read(data):
        key = None if isinstance(line, Unreadable) else line.key
        if key in waiting:
            whole = False
            continue
        try:
            if isinstance(line, Unreadable):
                services.set_aside(sequence_number, line)
            else:
                decision = decide(line, services.kept(line.key))
                if decision is Decision.NOTIFY:
                    services.notify(line)
                if decision is not Decision.SKIP:
                    services.keep(line)
        # Whatever the reason, the record comes again, and after a few times it is left to the failure queue.
        except Exception:
            log.exception("record %s failed at %s", sequence_number, key)
            whole = False
            if key is not None:
                waiting.add(key)
    return whole
