"""The Kinesis Client Library's daemon, with the consumer of cloud/consumers as its program."""

import os
import sys
from pathlib import Path

from programs import ENVIRONMENT, REGION, ROOT, Program

CONSUMERS = ROOT / "cloud" / "consumers"
# What waits for other workers would take minutes. How far a shard is read is known twenty reads late.
QUICKLY = {
    "failoverTimeMillis": "3000",
    "shardSyncIntervalMillis": "2000",
    "parentShardPollIntervalMillis": "1000",
    "idleTimeBetweenReadsInMillis": "250",
    "metricsLevel": "NONE",
}


class Daemon(Program):
    """Reads one stream, by the properties of a file as they are but for names and waiting times."""

    def __init__(self, folder: Path, emulator: str, kinesis: str, stream: str, properties: str, seen: str, **more: str) -> None:
        program = f"{sys.executable} {CONSUMERS / 'consumer.py'} --stream {stream} --seen {seen} --every 0.5 --endpoint {emulator}"
        own = QUICKLY | {"streamName": stream, "applicationName": f"{stream}-consumer", "regionName": REGION, "kinesisEndpoint": kinesis, "executableName": program} | more
        self.settings = folder / f"{stream}.properties"
        lines = (CONSUMERS / properties).read_text().splitlines()
        kept = [line for line in lines if line.partition("=")[0].strip() not in own]
        self.settings.write_text("\n".join([*kept, *(f"{name} = {value}" for name, value in own.items())]) + "\n")
        self.log = folder / f"{stream}.log"
        # What lives for a minute on a small machine is not worth the better compiler. The emulator does not know CBOR.
        java = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Daws.cborEnabled=false", "-cp", f"{os.environ['KCL_JARS']}/*"]
        command = [*java, "software.amazon.kinesis.multilang.MultiLangDaemon", "--properties-file", str(self.settings)]
        environment = ENVIRONMENT | {"AWS_ENDPOINT_URL": emulator, "AWS_CBOR_DISABLE": "1"}
        # The daemon logs to standard output, which nobody reads.
        super().__init__(["/bin/sh", "-c", 'exec "$@" >&2', "sh", *command], self.log, environment)
