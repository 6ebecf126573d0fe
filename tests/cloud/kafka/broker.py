"""A Kafka broker (KRaft) on free ports, and what puts a gateway's lines into its topics."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from kafka.errors import KafkaError
from programs import Program, free_ports, wait_for


class Broker(Program):
    """One node, which is broker and controller."""

    def __init__(self, folder: Path) -> None:
        port, controller = free_ports(2)
        self.address = f"127.0.0.1:{port}"
        settings = folder / "server.properties"
        settings.write_text(
            f"process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}\n"
            f"advertised.listeners=PLAINTEXT://{self.address}\ncontroller.listener.names=CONTROLLER\n"
            f"controller.quorum.bootstrap.servers=127.0.0.1:{controller}\nlog.dirs={folder / 'kafka'}\n"
            "offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n"
        )
        java = ["java", "-Xmx512m", "-cp", f"{os.environ['KAFKA_JARS']}/*"]
        log = folder / "kafka.log"
        with log.open("wb") as output:
            format_storage = [*java, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(settings), "--standalone"]
            subprocess.run(format_storage, stdout=output, stderr=output, check=True, timeout=60)
        super().__init__(["/bin/sh", "-c", 'exec "$@" >&2', "sh", *java, "kafka.Kafka", str(settings)], log, {})
        wait_for("Kafka", self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None, "Kafka ended"
        try:
            KafkaAdminClient(bootstrap_servers=self.address).close()
            return True
        except KafkaError:
            return False

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
