"""A Kafka broker (KRaft) on free ports, what puts a gateway's lines into its topics, and what these hold."""

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError
from kafka.partitioner.default import murmur2
from programs import Program, free_ports, wait_for

# The same for all nodes of a cluster.
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"


@dataclass
class Record:
    partition: int
    offset: int
    at_ms: int
    key: str
    value: bytes


def read(address: str, topic: str) -> list[Record]:
    """All of a topic, each partition in its order."""
    consumer = KafkaConsumer(bootstrap_servers=address, enable_auto_commit=False, group_id=None, max_poll_records=10_000)
    partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or [])]
    ends = consumer.end_offsets(partitions)
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    found: list[Record] = []

    def is_at_end() -> bool:
        found.extend(polled(consumer))
        return all(consumer.position(place) >= end for place, end in ends.items())

    wait_for(f"the end of {topic}", is_at_end)
    consumer.close()
    return sorted(found, key=lambda record: (record.partition, record.offset))


def partition_of(record: Record, partitions: int) -> int:
    """Where other clients would put it."""
    return int(murmur2(record.key.encode()) & 0x7FFFFFFF) % partitions


def polled(consumer: KafkaConsumer) -> Iterator[Record]:
    for records in consumer.poll(timeout_ms=200).values():
        for record in records:
            yield Record(record.partition, record.offset, record.timestamp, record.key.decode(), record.value)


def java(heap: str, *arguments: str) -> list[str]:
    # What lives for a minute on a small machine is not worth the better compiler.
    return ["java", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{os.environ['KAFKA_JARS']}/*", *arguments]


class Node:
    """One process of Kafka with its folder, which may be killed and started again."""

    program: Program

    def __init__(self, folder: Path, heap: str, settings: dict[str, object], *format_options: str) -> None:
        self.heap, self.log, self.settings = heap, folder / "kafka.log", folder / "server.properties"
        properties = settings | {
            "log.dirs": folder / "kafka",
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
        }
        self.settings.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        format_storage = java(heap, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(self.settings), *format_options)
        with self.log.open("wb") as output:
            subprocess.run(format_storage, stdout=output, stderr=output, check=True, timeout=60)
        self.start()

    def start(self) -> None:
        command = java(self.heap, "kafka.Kafka", str(self.settings))
        self.program = Program(["/bin/sh", "-c", 'exec "$@" >&2', "sh", *command], self.log, {})

    def is_up(self, address: str) -> bool:
        assert self.program.process.poll() is None, f"Kafka ended: {self.log.read_text()[-3000:]}"
        try:
            KafkaAdminClient(bootstrap_servers=address).close()
            return True
        except KafkaError:
            return False

    def kill(self) -> None:
        self.program.process.kill()
        self.program.end()
        self.program.process.wait()

    def end(self) -> None:
        self.program.end()


class Broker(Node):
    """One node, which is broker and controller."""

    def __init__(self, folder: Path) -> None:
        port, controller = free_ports(2)
        self.address = f"127.0.0.1:{port}"
        settings: dict[str, object] = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
        }
        super().__init__(folder, "512m", settings, "--standalone")
        wait_for("Kafka", lambda: self.is_up(self.address))

    def create_topics(self, *names: str, partitions: int = 1) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self.address)
        # With one partition, what is sent later is read later: a backlog is behind the live readings.
        admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1) for name in names])
        admin.close()

    def send(self, topic: str, keyed_lines: Iterable[tuple[str, bytes]], lines_max: int) -> None:
        """Records of many lines by key, as the sinks of the gateway make them; lines of one key stay in their order."""
        producer = KafkaProducer(bootstrap_servers=self.address, acks="all")
        waiting: dict[str, list[bytes]] = {}
        for key, line in keyed_lines:
            waiting.setdefault(key, []).append(line)
            if len(waiting[key]) == lines_max:
                producer.send(topic, key=key.encode(), value=b"".join(waiting.pop(key)))
        for key, lines in waiting.items():
            producer.send(topic, key=key.encode(), value=b"".join(lines))
        producer.flush()
        producer.close()
