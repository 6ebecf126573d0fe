"""Asks Kafka by the client that Spark has in its JVM, so that nothing more has to be installed. Used by one thread."""

from collections.abc import Iterable
from typing import Any

from lag import Place

POLL_MS = 2_000


class Consumer:
    """Implements `lag.Kafka`. Takes no part in the balancing of its group: it reads single records, and commits what Spark has done."""

    def __init__(self, jvm: Any, topics: list[str], group: str, settings: dict[str, str]) -> None:
        clients = jvm.org.apache.kafka
        self._jvm = jvm
        self._clients = clients
        self._topics = topics
        properties = jvm.java.util.Properties()
        # One record, however large, tells how old it is.
        own = {"enable.auto.commit": "false", "auto.offset.reset": "earliest", "max.poll.records": "1", "max.partition.fetch.bytes": "1"}
        bytes_as_they_are = "org.apache.kafka.common.serialization.ByteArrayDeserializer"
        for name, value in {**settings, **own, "group.id": group, "default.api.timeout.ms": "10000"}.items():
            properties.setProperty(name, value)
        properties.setProperty("key.deserializer", bytes_as_they_are)
        properties.setProperty("value.deserializer", bytes_as_they_are)
        self._consumer = clients.clients.consumer.KafkaConsumer(properties)

    def ends(self) -> dict[Place, int]:
        return self._offsets(self._consumer.endOffsets(self._partitions()))

    def beginnings(self) -> dict[Place, int]:
        return self._offsets(self._consumer.beginningOffsets(self._partitions()))

    def committed(self) -> dict[Place, int]:
        found = self._consumer.committed(self._jvm.java.util.HashSet(self._partitions())).entrySet()
        return {self._place(entry.getKey()): entry.getValue().offset() for entry in found if entry.getValue() is not None}

    def commit(self, offsets: dict[Place, int]) -> None:
        these = self._jvm.java.util.HashMap()
        for place, offset in offsets.items():
            these.put(self._partition(place), self._clients.clients.consumer.OffsetAndMetadata(offset))
        self._consumer.commitSync(these)

    def time_ms(self, place: Place, offset: int) -> int | None:
        partition = self._partition(place)
        self._consumer.assign(self._list([partition]))
        self._consumer.seek(partition, offset)
        records = self._consumer.poll(self._jvm.java.time.Duration.ofMillis(POLL_MS)).records(partition)
        return None if records.isEmpty() else records.get(0).timestamp()

    def _partitions(self) -> Any:
        found = [self._consumer.partitionsFor(topic) for topic in self._topics]
        return self._list(self._partition(Place(each.topic(), each.partition())) for infos in found for each in infos)

    def _partition(self, place: Place) -> Any:
        return self._clients.common.TopicPartition(place.topic, place.partition)

    def _list(self, items: Iterable[Any]) -> Any:
        found = self._jvm.java.util.ArrayList()
        for item in items:
            found.add(item)
        return found

    def _offsets(self, found: Any) -> dict[Place, int]:
        return {self._place(entry.getKey()): entry.getValue() for entry in found.entrySet()}

    @staticmethod
    def _place(partition: Any) -> Place:
        return Place(partition.topic(), partition.partition())
