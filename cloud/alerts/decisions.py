"""What an alert changes, judged by the one that is kept. Pure: nothing here talks to a service."""

from dataclasses import dataclass
from enum import Enum

from alerts.records import Alert, Severity


@dataclass(frozen=True)
class Kept:
    """What the table says of an alert."""

    id: str
    revision: int
    raised: bool
    severity: Severity
    raised_at_ms: int


class Decision(Enum):
    """What to do with an alert that has arrived."""

    SKIP = "it is known, or a newer one is"
    KEEP = "write it"
    NOTIFY = "tell people, then write it"


def decide(alert: Alert, kept: Kept | None) -> Decision:
    """Skips what is known already, and has people told of what is raised anew or has become more severe."""
    if kept is None:
        return Decision.NOTIFY if alert.raised else Decision.KEEP
    same = alert.id == kept.id
    if not (alert.raised_at_ms > kept.raised_at_ms or (same and alert.revision > kept.revision)):
        return Decision.SKIP
    anew = not same or not kept.raised
    if alert.raised and (anew or alert.severity > kept.severity):
        return Decision.NOTIFY
    return Decision.KEEP
