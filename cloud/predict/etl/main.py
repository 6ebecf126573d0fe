"""The streaming job. On Glue it reads a stream of Kinesis; elsewhere, with --kafka, topics of Kafka. What a batch becomes is in process.py, for both."""

import sys
from typing import Any

from process import Target, process

# For Glue, whose own parser of arguments wants to know the names.
NAMES = ["table", "region", "vehicles", "checkpoint"]


def arguments() -> dict[str, str]:
    """--name value, as Glue gives them."""
    given = dict(zip((name.removeprefix("--") for name in sys.argv[1::2]), sys.argv[2::2], strict=False))
    missing = [name for name in NAMES if name not in given]
    if missing:
        sys.exit(f"etl: {', '.join(f'--{name}' for name in missing)} is missing")
    return given


def on_kafka(given: dict[str, str], target: Target) -> None:
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.appName("outrider-predict").getOrCreate()
    vehicles = spark.read.json(given["vehicles"])
    stream = spark.readStream.format("kafka").option("kafka.bootstrap.servers", given["kafka"]).option("subscribe", given["topics"])
    rows = stream.option("startingOffsets", "earliest").load().selectExpr("key", "value AS data")

    def each(batch: Any, _: int) -> None:
        process(batch, vehicles, target)

    query = rows.writeStream.option("checkpointLocation", given["checkpoint"]).trigger(processingTime=given.get("every", "10 seconds"))
    query.foreachBatch(each).start().awaitTermination()


def on_glue(given: dict[str, str], target: Target) -> None:
    from awsglue.context import GlueContext
    from pyspark.context import SparkContext
    from pyspark.sql.functions import col, concat_ws

    glue = GlueContext(SparkContext.getOrCreate())
    vehicles = glue.spark_session.read.json(given["vehicles"])
    # A record of many lines of JSON is one text to it: with no delimiter that occurs in JSON there is one column.
    options = {"streamARN": given["stream"], "startingPosition": "TRIM_HORIZON", "classification": "csv", "delimiter": "\u0001", "inferSchema": "true"}
    frame = glue.create_data_frame.from_options(connection_type="kinesis", connection_options=options)

    def each(batch: Any, _: object) -> None:
        if batch.columns and batch.take(1):
            text = concat_ws("\n", *(col(f"`{name}`") for name in batch.columns))
            process(batch.select(text.alias("data"), text.alias("key")), vehicles, target)

    settings = {"windowSize": given.get("every", "10 seconds"), "checkpointLocation": given["checkpoint"]}
    glue.forEachBatch(frame=frame, batch_function=each, options=settings)


def main() -> None:
    given = arguments()
    target = Target(given["table"], given["region"], given.get("endpoint"), int(given.get("keep-days", "7")) * 86_400)
    on_kafka(given, target) if "kafka" in given else on_glue(given, target)


if __name__ == "__main__":
    main()
