"""What one shard has shown since it was last written down: which records, and what gateways said of themselves. Pure.

A *section* is one such piece, with the places in the shard where it begins and ends. Sections of a shard follow each other without overlapping, so a record that
is in two of them is in the stream twice.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lines import Line, Unreadable, read
from spans import Spans

# Whatever comes, a section is no larger than some megabytes.
SPANS_MAX = 20_000
LEDGERS_MAX = 2_000
UNREADABLE_NAMED = 20


class Place(NamedTuple):
    """A record within a shard; those that were aggregated in one have the same sequence number."""

    sequence: int
    subsequence: int

    @classmethod
    def parse(cls, sequence: str, subsequence: int) -> "Place | None":
        """None for the names that Kinesis has for the beginning and the end."""
        return cls(int(sequence), subsequence) if sequence.isdecimal() else None

    def text(self) -> str:
        """In the order of places, as texts are ordered."""
        return f"{self.sequence:060}-{self.subsequence:010}"

    @classmethod
    def of_text(cls, text: str) -> "Place":
        sequence, _, subsequence = text.partition("-")
        return cls(int(sequence), int(subsequence))


@dataclass
class Run:
    """Records of one run of a gateway in one of its streams."""

    positions: Spans = field(default_factory=Spans)
    repeats: int = 0
    first_ms: int = 0


class Section:
    """Fills up until it is written down."""

    def __init__(self, after: Place | None) -> None:
        self.after = after
        self.through: Place | None = None
        self.first_ms: int | None = None
        self.last_ms = 0
        self.records = 0
        self._runs: dict[tuple[str, str, str], Run] = {}
        self._spans = 0
        self._ledgers: list[dict[str, Any]] = []
        self._unreadable = 0
        self._named: list[dict[str, str]] = []

    def take(self, place: Place, arrived_ms: int, data: bytes) -> None:
        """A record, which comes after all that were taken before."""
        self.through = place
        self.first_ms = arrived_ms if self.first_ms is None else self.first_ms
        self.last_ms = max(self.last_ms, arrived_ms)
        self.records += 1
        for line in read(data):
            if isinstance(line, Unreadable):
                self._unreadable += 1
                if len(self._named) < UNREADABLE_NAMED:
                    self._named.append({"at": place.text(), "reason": line.reason})
            else:
                self._take_line(line, arrived_ms)

    def _take_line(self, line: Line, arrived_ms: int) -> None:
        gateway, stream, run, position = line.identity
        seen = self._runs.setdefault((gateway, stream, run), Run(first_ms=arrived_ms))
        before = len(seen.positions)
        seen.repeats += 1 - seen.positions.add(position, position)
        self._spans += len(seen.positions) - before
        if line.ledger is not None:
            self._ledgers.append({"gateway": gateway, "run": run, "position": position, "arrived_ms": arrived_ms} | line.ledger)

    @property
    def is_empty(self) -> bool:
        return self.through is None

    @property
    def is_full(self) -> bool:
        return len(self._ledgers) >= LEDGERS_MAX or self._spans + len(self._runs) >= SPANS_MAX

    def written(self) -> dict[str, Any]:
        """As it is kept."""
        assert self.through is not None
        return {
            "v": 1,
            "after": self.after and self.after.text(),
            "through": self.through.text(),
            "first_ms": self.first_ms,
            "last_ms": self.last_ms,
            "records": self.records,
            "runs": [
                {"gateway": gateway, "stream": stream, "run": run, "first_ms": seen.first_ms, "repeats": seen.repeats, "positions": seen.positions.listed()}
                for (gateway, stream, run), seen in self._runs.items()
            ],
            "ledgers": self._ledgers,
            "unreadable": self._unreadable,
            "unreadable_named": self._named,
        }

