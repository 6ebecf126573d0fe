"""Which changes of items a model is asked about, what it is asked, and what its answer is. Pure."""

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

PREFIX = "metric:"


@dataclass(frozen=True)
class Question:
    """One vehicle, as it was at a time."""

    source: str
    measured_at_ms: int
    body: str


def question(record: dict[str, Any]) -> Question | None:
    """None of an item that is gone, and of a change that is nothing but the answer to what was asked before."""
    image = record.get("dynamodb", {}).get("NewImage")
    if record.get("eventName") not in ("INSERT", "MODIFY") or not image:
        return None
    item = {name: _plain(value) for name, value in image.items()}
    if item.get("predicted_for") == item["measured_at_ms"]:
        return None
    metrics = {name.removeprefix(PREFIX): value for name, value in sorted(item.items()) if name.startswith(PREFIX)}
    asked = {"source": item["source"], "measured_at_ms": item["measured_at_ms"], "vehicle": item.get("vehicle", {}), "metrics": metrics}
    return Question(item["source"], item["measured_at_ms"], json.dumps({"instances": [asked]}))


def answer(body: bytes) -> dict[str, Any]:
    """The first prediction. Raises ValueError if there is none."""
    found = json.loads(body, parse_float=Decimal, parse_constant=_refuse)
    predictions = found.get("predictions") if isinstance(found, dict) else None
    if not isinstance(predictions, list) or not predictions or not isinstance(predictions[0], dict):
        raise ValueError("the model's answer has no predictions")
    return predictions[0]


def _refuse(name: str) -> None:
    raise ValueError(f"the model's answer has {name}, which is no number of JSON")


def _plain(value: dict[str, Any]) -> Any:
    """An attribute of DynamoDB as JSON has it."""
    ((kind, content),) = value.items()
    if kind == "N":
        number = Decimal(content)
        return int(number) if number == number.to_integral_value() and abs(number) < 2**63 else float(number)
    if kind == "M":
        return {name: _plain(each) for name, each in content.items()}
    if kind == "L":
        return [_plain(each) for each in content]
    return None if kind == "NULL" else content
