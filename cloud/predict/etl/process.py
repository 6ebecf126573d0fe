"""A batch of the stream: joined with what is known of each vehicle, and brought into DynamoDB. The same under Glue (`forEachBatch`) and under Spark (`foreachBatch`)."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from merging import merged, update


@dataclass(frozen=True)
class Target:
    """Where items go, and for how long they are kept after the last reading."""

    table: str
    region: str
    endpoint: str | None
    keep_seconds: int

    def client(self) -> Any:
        """One for each part of a batch: clients do not travel between processes."""
        import botocore.session

        return botocore.session.get_session().create_client("dynamodb", region_name=self.region, endpoint_url=self.endpoint)


def process(batch: Any, vehicles: Any, target: Target) -> int:
    """`batch` has the records of gateways in the column `data` and what they were sent under in `key`; `vehicles` has what is known of each `device`. Returns how many
    vehicles were heard. A batch that fails on the way is done again by Spark, to the same effect."""
    known = {row["device"]: {name: value for name, value in row.asDict().items() if name != "device"} for row in vehicles.collect()}
    # All records of a vehicle are in one part, so each item is written once.
    parts = batch.select("key", "data").repartition("key").rdd.mapPartitions(lambda rows: [store((row["data"] for row in rows), known, target)])
    return parts.sum()


def store(records: Iterable[bytes | str | None], vehicles: dict[str, dict[str, Any]], target: Target) -> int:
    """One part of a batch, in a process of an executor."""
    client, now_s = target.client(), int(time.time())
    states = merged(records)
    for change in changes(states, vehicles, target, now_s):
        try:
            client.update_item(**change)
        except client.exceptions.ConditionalCheckFailedException:
            # What is there is newer.
            pass
    return len(states)


def changes(states: list[Any], vehicles: dict[str, dict[str, Any]], target: Target, now_s: int) -> Iterator[dict[str, Any]]:
    for state in states:
        yield update(target.table, state, vehicles.get(state.device, {}), now_s, target.keep_seconds)
