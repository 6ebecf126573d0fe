"""The entry of the function: changes of the table, of one shard, in order.

What the model or the table cannot do now comes again with all that follow it in the shard. What the model refuses for good is written into the item as such, because it
would be refused again and keep all others waiting.
"""

import logging
import os
from functools import cache
from typing import Any, Protocol

from answers.decisions import Question, answer, question

log = logging.getLogger()


class Refused(Exception):
    """The model will never answer this."""


class Services(Protocol):
    """What the handler needs of the world; the tests have their own."""

    def ask(self, body: str) -> bytes: ...

    def keep(self, asked: Question, changes: dict[str, Any]) -> None: ...


class Aws:
    """An endpoint of SageMaker, and the table."""

    def __init__(self, session: Any, table: str, endpoint: str, url: str | None) -> None:
        self._model = session.client("sagemaker-runtime", endpoint_url=url)
        self._table = session.resource("dynamodb").Table(table)
        self._endpoint = endpoint

    def ask(self, body: str) -> bytes:
        import botocore.exceptions

        try:
            told = self._model.invoke_endpoint(EndpointName=self._endpoint, ContentType="application/json", Accept="application/json", Body=body)
            return told["Body"].read()
        except botocore.exceptions.ClientError as error:
            if is_final(error.response):
                raise Refused(str(error)) from error
            raise

    def keep(self, asked: Question, changes: dict[str, Any]) -> None:
        """Into the item, unless the vehicle was heard again since: then another question is on its way."""
        names = {f"#n{number}": name for number, name in enumerate(changes)}
        sets = ", ".join(f"#n{number} = :v{number}" for number in range(len(changes)))
        try:
            self._table.update_item(
                Key={"source": asked.source},
                UpdateExpression=f"SET {sets}",
                ConditionExpression="#at = :at",
                ExpressionAttributeNames=names | {"#at": "measured_at_ms"},
                ExpressionAttributeValues={f":v{number}": value for number, value in enumerate(changes.values())} | {":at": asked.measured_at_ms},
            )
        except self._table.meta.client.exceptions.ConditionalCheckFailedException:
            pass


def handle(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Called by Lambda."""
    return process(event["Records"], _aws())


@cache
def _aws() -> Aws:
    import boto3

    return Aws(boto3.session.Session(), os.environ["TABLE"], os.environ["ENDPOINT"], os.environ.get("MODEL_URL") or None)


def process(records: list[dict[str, Any]], services: Services) -> dict[str, Any]:
    """Asks about the latest state of each vehicle in a batch, and says from where on the batch has to come again."""
    latest: dict[str, Question] = {}
    places: dict[str, str] = {}
    for record in records:
        asked = question(record)
        if asked is not None:
            latest[asked.source] = asked
            # Where a vehicle's first question is, so that none is left out.
            places.setdefault(asked.source, record["dynamodb"]["SequenceNumber"])
    for asked in latest.values():
        try:
            services.keep(asked, _answered(asked, services))
        # Whatever the reason, this and all that follow come again.
        except Exception:
            log.exception("no answer about %s", asked.source)
            # Vehicles are in the order of their first questions, so all before this one are done.
            return {"batchItemFailures": [{"itemIdentifier": places[asked.source]}]}
    return {"batchItemFailures": []}


def _answered(asked: Question, services: Services) -> dict[str, Any]:
    try:
        return {"predicted_for": asked.measured_at_ms, "prediction": answer(services.ask(asked.body))}
    except (Refused, ValueError) as error:
        return {"predicted_for": asked.measured_at_ms, "prediction": {"error": str(error)[:500]}}


def is_final(response: dict[str, Any]) -> bool:
    """Whether asking the same again would be refused again. A ModelError is one of the model's own container, whose status says whose fault it is. All else, such as an
    endpoint that is not there, may be mended."""
    status = response.get("OriginalStatusCode", 0) if response["Error"]["Code"] == "ModelError" else 0
    return 400 <= status < 500 and status not in (408, 429)
