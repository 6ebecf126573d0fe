"""What becomes of a line of the stream. Pure."""

import json
from collections.abc import Iterator
from typing import Any

from enrich.places import Zones


class Offers:
    """What is offered where: rows by the name of their zone."""

    def __init__(self, zones: Zones, rows: list[dict[str, Any]]) -> None:
        self._zones = zones
        self._rows = {row["zone"]: row for row in rows}

    def at(self, latitude: Any, longitude: Any) -> dict[str, Any]:
        """What a record gets: the zone and its row, as far as there are any."""
        place = _number(latitude), _number(longitude)
        zone = None if None in place else self._zones.at(*place)
        if zone is None:
            return {}
        return {"zone": zone} | ({"offer": self._rows[zone]} if zone in self._rows else {})


def enriched(data: bytes, offers: Offers) -> Iterator[tuple[str, bytes]]:
    """Of each record with a position the device's key and the record with what is offered there. Lines without one are of no concern here."""
    for line in data.split(b"\n"):
        try:
            record = json.loads(line)
            payload = record["payload"]
            position = payload["latitude"], payload["longitude"]
            key = f"{record['gateway']}/{record['device']}"
        except (ValueError, KeyError, TypeError):
            continue
        made = record | {"payload": payload | offers.at(*position)}
        yield key, json.dumps(made, separators=(",", ":")).encode() + b"\n"


def _number(value: Any) -> float | None:
    """A text that reads as a number is one, as in rules."""
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
