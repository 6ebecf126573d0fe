#!/usr/bin/env python3
"""What the far side costs a month, by the number of trucks and the layout: prints the table of cloud/README.md.

Prices are list prices of us-east-1 in USD, without taxes, free tiers and discounts. Those of Kinesis are of May 2026 (Infracost's price list), the others
of 2025 (the price pages of AWS); look at the pages of your region before you decide. What a reading takes is measured: lines by tests/cloud with the
gateway's own records, files as in the table of README.md.
"""

from dataclasses import dataclass
from math import ceil

HOURS = 730
SECONDS = HOURS * 3600
GIB = 1024**3

# Kinesis, May 2026
SHARD_HOUR = 0.015
PUT_UNIT = 0.014 / 1e6  # of 25 KB
ON_DEMAND_HOUR = 0.04
ON_DEMAND_IN_GIB = 0.08
ON_DEMAND_OUT_GIB = 0.04
# Amazon Data Firehose, 2025: each record is rounded up to 5 KB
FIREHOSE_GIB = 0.029
CONVERSION_GIB = 0.018
# S3, Lambda, SNS, DynamoDB, CloudWatch, 2025
S3_STANDARD_GIB = 0.023
S3_COLD_GIB = 0.004
S3_DEEP_GIB = 0.00099
S3_PUT = 0.005 / 1e3
LAMBDA_CALL = 0.20 / 1e6
LAMBDA_GIB_SECOND = 0.0000133334  # arm64
NOTIFICATION = 0.50 / 1e6
TABLE_WRITE = 0.625 / 1e6
ALARM = 0.10

# A truck: eight metrics once a second, and an alert with four changes a day.
READINGS_SECOND = 8
ALERT_CHANGES_DAY = 4
# Bytes of a reading: as a line of the stream, and in Parquet files of five minutes of a whole fleet, or of fifteen minutes of one truck.
LINE_BYTES = 246
PARQUET_BYTES = 7
PARQUET_TRUCK_BYTES = 12.5
# What a gateway says of itself each minute.
STATE_BYTES = 2_500
ALARMS = 13
LAMBDA_SECONDS = 0.05
# Above this the raw stream is written to more shards.
SHARD_BYTES_SECOND = 1024 * 1024
SHARD_RECORDS_SECOND = 1000
SHARD_FILL = 0.7


@dataclass(frozen=True)
class Layout:
    """How readings get to S3."""

    name: str
    lines_a_record: int
    on_demand: bool = False
    raw_stream: bool = True


LAYOUTS = [
    Layout("shards, as the gateway sends by default (8 lines a record)", 8),
    Layout('shards, `batch_delay = "30s"` (240 lines a record)', 240),
    Layout('on demand, `batch_delay = "30s"`', 240, on_demand=True),
    Layout('readings by `type = "s3"` in Parquet, only anomalies by stream', 240, raw_stream=False),
]


def shards(layout: Layout, trucks: int) -> int:
    """How many the raw stream needs."""
    readings = trucks * READINGS_SECOND
    most = max(readings * LINE_BYTES / SHARD_BYTES_SECOND, readings / layout.lines_a_record / SHARD_RECORDS_SECOND)
    return ceil(most / SHARD_FILL)


def raw_stream(layout: Layout, trucks: int) -> float:
    """The stream of readings, and Firehose with its conversion behind it."""
    records = trucks * READINGS_SECOND * SECONDS / layout.lines_a_record
    record_bytes = layout.lines_a_record * LINE_BYTES
    gib = records * record_bytes / GIB
    firehose_gib = records * ceil(record_bytes / 5120) * 5120 / GIB
    delivery = firehose_gib * FIREHOSE_GIB + gib * CONVERSION_GIB
    if layout.on_demand:
        return ON_DEMAND_HOUR * HOURS + gib * (ON_DEMAND_IN_GIB + ON_DEMAND_OUT_GIB) + delivery
    return shards(layout, trucks) * SHARD_HOUR * HOURS + records * ceil(record_bytes / 25_600) * PUT_UNIT + delivery


def files(layout: Layout, trucks: int) -> float:
    """A month's files in the first three months' storage class, and how they got there."""
    readings = trucks * READINGS_SECOND * SECONDS
    puts, size = (SECONDS / 300, PARQUET_BYTES) if layout.raw_stream else (trucks * SECONDS / 900, PARQUET_TRUCK_BYTES)
    return puts * S3_PUT + 3 * readings * size / GIB * S3_STANDARD_GIB


def alerts(layout: Layout, trucks: int) -> float:
    """The stream of anomalies, its files, the function, the topics, the table and the alarms."""
    changes = trucks * ALERT_CHANGES_DAY * HOURS / 24
    stream = ON_DEMAND_HOUR * HOURS if layout.on_demand else SHARD_HOUR * HOURS
    # Gateways say once a minute how they are, so that is how often the function is called, or once a second at most.
    states = trucks * SECONDS / 60
    calls = min(states, SECONDS)
    function = calls * (LAMBDA_CALL + LAMBDA_SECONDS * 0.25 * LAMBDA_GIB_SECOND)
    delivery = states * (PUT_UNIT + (5120 * FIREHOSE_GIB + STATE_BYTES * CONVERSION_GIB) / GIB)
    return stream + delivery + function + changes * (2 * NOTIFICATION + TABLE_WRITE) + ALARMS * ALARM


def older(months: int, trucks: int, price: float) -> float:
    """Files that have grown cold."""
    return months * trucks * READINGS_SECOND * SECONDS * PARQUET_BYTES / GIB * price


def month(layout: Layout, trucks: int) -> float:
    raw = raw_stream(layout, trucks) if layout.raw_stream else 0
    return raw + files(layout, trucks) + alerts(layout, trucks)


def table() -> str:
    """As Markdown."""
    fleets = (1, 100, 10_000)
    rows = [(layout.name, [month(layout, fleet) for fleet in fleets]) for layout in LAYOUTS]
    rows += [
        ("of these: anomalies, alerts and alarms", [alerts(LAYOUTS[0], fleet) for fleet in fleets]),
        ("beside these: files of months 4 to 12, in Glacier Instant Retrieval", [older(9, fleet, S3_COLD_GIB) for fleet in fleets]),
        ("beside these: files of each further year, in Glacier Deep Archive", [older(12, fleet, S3_DEEP_GIB) for fleet in fleets]),
    ]
    head = ["USD a month", *(f"{fleet:,} truck{'s' * (fleet > 1)}" for fleet in fleets)]
    lines = [head, ["---"] * len(head), *([name, *(f"{cost:,.0f}" if cost >= 1 else f"{cost:.2f}" for cost in costs)] for name, costs in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(table())
