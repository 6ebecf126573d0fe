"""The services that the function talks to: the table, the topics, and the queue of what failed."""

import base64
import json
from typing import Any, Protocol

from alerts.decisions import Kept
from alerts.records import Alert, Key, Severity, Unreadable

# SNS allows fewer than 100 characters of ASCII.
SUBJECT_LENGTH_MAX = 99
# SQS takes 256 KiB of text, and base64 makes it a third longer.
LINE_BYTES_MAX = 128 * 1024


class Services(Protocol):
    """What the handler needs of the world; the tests have their own."""

    def kept(self, key: Key) -> Kept | None: ...

    def notify(self, alert: Alert) -> None: ...

    def keep(self, alert: Alert) -> None: ...

    def set_aside(self, sequence_number: str, unreadable: Unreadable) -> None: ...


class Aws:
    """The same on AWS. Any error means that nothing is known of what happened: the record is tried again."""

    def __init__(self, session: Any, table: str, topics: list[str], failures: str) -> None:
        self._table = session.resource("dynamodb").Table(table)
        self._sns = session.client("sns")
        self._sqs = session.client("sqs")
        self._topics = topics
        self._failures = failures

    def kept(self, key: Key) -> Kept | None:
        item = self._table.get_item(Key={"source": key.source, "alert": key.alert}, ConsistentRead=True).get("Item")
        if item is None:
            return None
        return Kept(
            id=item["id"],
            revision=int(item["revision"]),
            raised=item["state"] == "raised",
            severity=Severity[item["severity"].upper()],
            raised_at_ms=int(item["raised_at_ms"]),
        )

    def notify(self, alert: Alert) -> None:
        severity = alert.severity.name.lower()
        people = f"{severity.upper()}: {alert.message}\n{alert.device} of {alert.gateway}, {alert.metric} ({alert.kind})"
        attributes = {"gateway": alert.gateway, "device": alert.device, "severity": severity}
        for topic in self._topics:
            self._sns.publish(
                TopicArn=topic,
                Subject=subject(alert),
                MessageStructure="json",
                Message=json.dumps({"default": alert.text, "email": people, "sms": people}),
                MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()},
            )

    def keep(self, alert: Alert) -> None:
        """Writes it unless what is there is newer, which an invocation that was given up may have written since."""
        severity = alert.severity.name.lower()
        try:
            self._table.put_item(
                Item={
                    "source": alert.key.source,
                    "alert": alert.key.alert,
                    "gateway": alert.gateway,
                    "device": alert.device,
                    "id": alert.id,
                    "revision": alert.revision,
                    "state": "raised" if alert.raised else "cleared",
                    "severity": severity,
                    "raised_at_ms": alert.raised_at_ms,
                    "message": alert.message,
                    "record": alert.text,
                },
                ConditionExpression="attribute_not_exists(#source) OR #raised < :raised OR (#id = :id AND #revision < :revision)",
                ExpressionAttributeNames={
                    "#source": "source",
                    "#raised": "raised_at_ms",
                    "#id": "id",
                    "#revision": "revision",
                },
                ExpressionAttributeValues={
                    ":raised": alert.raised_at_ms,
                    ":id": alert.id,
                    ":revision": alert.revision,
                },
            )
        except self._table.meta.client.exceptions.ConditionalCheckFailedException:
            pass

    def set_aside(self, sequence_number: str, unreadable: Unreadable) -> None:
        body = {
            "sequence_number": sequence_number,
            "reason": unreadable.reason,
            "bytes": len(unreadable.line),
            "line_base64": base64.b64encode(unreadable.line[:LINE_BYTES_MAX]).decode("ascii"),
        }
        self._sqs.send_message(QueueUrl=self._failures, MessageBody=json.dumps(body))


def subject(alert: Alert) -> str:
    """One line of ASCII, as SNS demands."""
    text = f"{alert.severity.name}: {alert.device} {alert.metric} ({alert.kind})"
    printable = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
    return printable[:SUBJECT_LENGTH_MAX].rstrip()
