"""Searchable readings: from topics of Kafka, to which gateways send, to indices of OpenSearch, in Spark.

Each batch of records is done when each of its lines is stored or among the failed documents; only then Spark's checkpoint goes on. What is read again after an
end of any kind is known by its id. See README.md.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import lag
import options
import records
from bulk import Client, Counts, Halt, Store, Target
from consumer import Consumer
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

REQUEST_TIMEOUT_SECONDS = 10
PAUSE_SECONDS = 2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT,...", help="brokers to begin with")
    parser.add_argument(
        "--kafka-properties", type=Path, metavar="FILE", help="settings of a client of Kafka, such as security.protocol, a NAME=VALUE a line"
    )
    parser.add_argument("--topics", required=True, metavar="TOPIC,...", help="what the gateways send to: readings, anomalies or both")
    options.add_target(parser)
    parser.add_argument(
        "--checkpoint", required=True, metavar="URI", help="where Spark keeps how far it is; must outlive the machine: s3://, hdfs://"
    )
    parser.add_argument("--group", default="outrider-search", help="consumer group whose offsets tell the lag (%(default)s)")
    parser.add_argument("--every", type=float, default=5, metavar="SECONDS", help="a batch, at most (%(default)s)")
    parser.add_argument("--records-max", type=int, default=5_000, metavar="N", help="records of Kafka in a batch (%(default)s)")
    parser.add_argument("--metrics", metavar="HOST:PORT", help="serve metrics for Prometheus at /metrics")
    parser.add_argument("--look-every", type=float, default=10, metavar="SECONDS", help="how often the lag is looked at (%(default)s)")
    parser.add_argument("--skip-lost", action="store_true", help="go on where records are gone from Kafka before they were read, instead of ending")
    return parser.parse_args()


def kafka_settings(given: argparse.Namespace) -> dict[str, str]:
    settings = {"bootstrap.servers": given.kafka}
    lines = given.kafka_properties.read_text().splitlines() if given.kafka_properties else []
    for line in lines:
        if line.strip() and not line.lstrip().startswith(("#", "!")):
            name, _, value = line.partition("=")
            settings[name.strip()] = value.strip()
    return settings


def read(spark: SparkSession, given: argparse.Namespace, settings: dict[str, str]) -> DataFrame:
    stream = spark.readStream.format("kafka").option("subscribe", given.topics).option("startingOffsets", "earliest")
    stream = stream.option("maxOffsetsPerTrigger", given.records_max).option("failOnDataLoss", not given.skip_lost)
    for name, value in settings.items():
        stream = stream.option(f"kafka.{name}", value)
    return stream.load().selectExpr("topic", "partition", "offset", "CAST(unix_millis(timestamp) AS BIGINT) AS time_ms", "value")


def store(target: Target, rows: Iterable[Any]) -> Iterator[Counts]:
    """A part of a batch, in a process of an executor."""
    yield Store(Client(target), say).store(
        document
        for row in rows
        for document in records.documents(row.topic, row.partition, row.offset, row.time_ms, None if row.value is None else bytes(row.value))
    )


class Templates:
    """Looks whether they are there, once, and before anything is stored: without them OpenSearch would guess what fields are."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._found = False

    def wait(self) -> None:
        """While OpenSearch cannot be asked, this waits."""
        while not self._found:
            try:
                lacking = [name for name in records.TEMPLATES if not self._is_there(name)]
            except (OSError, HTTPException) as error:
                say(f"OpenSearch cannot be asked for its templates now: {error}")
                time.sleep(PAUSE_SECONDS)
                continue
            if lacking:
                raise Halt(f"OpenSearch has no template for {', '.join(lacking)}; run prepare.py first")
            self._found = True

    def _is_there(self, name: str) -> bool:
        status, body = self._client.request("GET", f"/_index_template/{name}")
        said = f"{status}: {body[:300].decode(errors='replace')}"
        if status == 429 or status >= 500:
            raise OSError(said)
        if status not in (200, 404):
            raise Halt(f"OpenSearch does not show its templates, {said}")
        return status == 200


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(given: argparse.Namespace) -> None:
    target = options.target(given)
    templates = Templates(Client(target, REQUEST_TIMEOUT_SECONDS))
    spark = SparkSession.builder.appName("outrider-search").getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    settings = kafka_settings(given)

    def store_batch(batch: DataFrame, _: int) -> None:
        templates.wait()
        for counts in batch.rdd.mapPartitions(lambda rows: store(target, rows)).collect():
            monitor.count(counts)

    def progress() -> str | None:
        newest = query.lastProgress
        return newest["sources"][0]["endOffset"] if newest else None

    writer = read(spark, given, settings).writeStream.foreachBatch(store_batch)
    writer = writer.option("checkpointLocation", given.checkpoint).trigger(processingTime=f"{given.every} seconds")
    consumer = Consumer(spark._jvm, given.topics.split(","), given.group, settings)
    monitor = lag.Monitor(consumer, Client(target, REQUEST_TIMEOUT_SECONDS), given.group, given.look_every, progress)
    query = writer.start()
    monitor.start()
    metrics = lag.serve(given.metrics, monitor.metrics) if given.metrics else None
    print(json.dumps({"event": "ready", "metrics": metrics}), flush=True)
    query.awaitTermination()


def sentence(error: BaseException) -> str:
    """What a process of an executor had to say comes within a trace of several languages."""
    said = re.search(r"bulk\.Halt: (.*)", str(error))
    return said.group(1) if said else str(error)


if __name__ == "__main__":
    try:
        run(arguments())
    except (Halt, PySparkException) as error:
        sys.exit(f"the job ends: {sentence(error)}")
