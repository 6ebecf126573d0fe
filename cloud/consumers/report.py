"""What the books say, for people and for programs. Pure."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from account import Account, Verdict
from book import Book, Gateway
from lines import LOST

# Holes that are told one by one, of each stream of a gateway.
HOLES_NAMED = 20
COMPLETE, MISSING, UNKNOWN = 0, 1, 2
MEANING = {COMPLETE: "nothing is missing", MISSING: "SOMETHING IS MISSING", UNKNOWN: "nothing is known to be missing, and not everything is known"}
REASONS = {
    "expired": "expired for want of room",
    "dead_lettered": "refused by Kinesis for good",
    "quarantined": "lost to damage of the store",
    "passed_over": "not for this sink",
}


@dataclass
class Report:
    outcome: int = COMPLETE
    lines: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    # What is missing, by name, to be remembered when somebody has dealt with it.
    alarms: dict[str, int] = field(default_factory=dict)

    def say(self, line: str) -> None:
        self.lines.append(line)

    def alarm(self, book: Book, name: str, count: int) -> int:
        """Returns how many of these nobody knows of yet."""
        if count:
            self.alarms[name] = count
        fresh = max(count - book.accepted.get(name, 0), 0)
        if fresh:
            self.outcome = MISSING
        return fresh

    def doubt(self, line: str) -> None:
        """Something without which nothing can be proved."""
        self.say(line)
        if self.outcome == COMPLETE:
            self.outcome = UNKNOWN


def report(book: Book, now_ms: int, late_ms: int) -> Report:
    """What is known now; reading may be so far behind."""
    made = Report()
    _tell_reading(made, book, now_ms, late_ms)
    for name, gateway in sorted(book.gateways.items()):
        _tell_gateway(made, book, name, gateway)
    accounts = made.facts["gateways"] = {}
    for name, stream, account, verdict in book.verdicts():
        accounts.setdefault(name, {})[stream] = _tell_account(made, book, name, stream, account, verdict)
    if not accounts:
        made.doubt("No gateway has been heard of.")
    made.facts |= {"outcome": ["complete", "missing", "unknown"][made.outcome], "alarms": made.alarms}
    made.say(f"So far {MEANING[made.outcome]}.")
    return made


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _number(count: int, one: str, more: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def _tell_reading(made: Report, book: Book, now_ms: int, late_ms: int) -> None:
    watermark_ms = min(book.watermark_ms(), now_ms)
    unread = sorted(name for name, shard in book.shards.items() if not shard.ended and not shard.read_to_ms)
    made.facts |= {"read_to_ms": watermark_ms, "shards": len(book.shards), "shards_unread": unread, "unreadable": book.unreadable}
    shards = sorted((shard.read_to_ms, name) for name, shard in book.shards.items() if not shard.ended)
    if not book.shards:
        made.doubt("No consumer has written anything here, and no --streams says what has to be read.")
    elif unread:
        made.doubt(f"Nobody has begun to read {', '.join(unread)}: nothing can be judged.")
    elif now_ms - watermark_ms > late_ms:
        made.doubt(f"Read up to {_time(watermark_ms)} UTC, {(now_ms - watermark_ms) // 1000:,} s ago: what came since is not known. Farthest behind is {shards[0][1]}.")
    else:
        made.say(f"Read: {_number(len(shards), 'open shard')} up to {_time(watermark_ms)} UTC.")
    if fresh := made.alarm(book, "sections", book.sections_missing):
        made.say(f"  {_number(fresh, 'piece')} of what was read is no longer where it was written down.")
    if fresh := made.alarm(book, "unreadable", book.unreadable):
        first = book.unreadable_named[-1] if book.unreadable_named else {"shard": "?", "at": "?", "reason": "?"}
        made.say(f"  {_number(fresh, 'line')} cannot be read, for example at {first['at']} of {first['shard']}: {first['reason']}.")


def _tell_gateway(made: Report, book: Book, name: str, gateway: Gateway) -> None:
    if made.alarm(book, f"{name}/id", int(gateway.shares_its_id)):
        made.say(f"{name}: two gateways have this id: a run of it goes on after a later one began. Nothing can be proved of either.")
    for stream, count in gateway.lost_with_store.items():
        if fresh := made.alarm(book, f"{name}/{stream}/store", count):
            made.say(f"{name}, {stream}: {_number(fresh, 'record')} LOST with a store that it no longer has.")


def _tell_account(made: Report, book: Book, name: str, stream: str, account: Account, verdict: Verdict | None) -> dict[str, Any]:
    where = f"{name}, {stream}"
    seen = sum(run.positions.count(1, run.positions.last or 0) - run.unlisted for run in account.runs.values())
    facts: dict[str, Any] = {"seen": seen, "repeats": account.repeats, "judged": verdict is not None and verdict.checked > 0}
    repeats = f" {_number(account.repeats, 'came', 'came')} twice." if account.repeats else ""
    if verdict is None or not facts["judged"]:
        last = book.gateways[name].last
        told = book.of_sink(last, stream) if last else "it has not said anything of itself"
        if stream not in book.streams:
            told = "is what Kinesis has of it read by any consumer"
        why = told if isinstance(told, str) else "it takes two of its own records, a minute apart, and all that was sent before them"
        made.doubt(f"{where}: {_number(seen, 'record')} seen, which cannot be judged yet: {why}.{repeats}")
        return facts
    facts |= {
        "at_ms": verdict.at_ms,
        "base": account.base,
        "cursor": verdict.cursor,
        "checked": verdict.checked,
        "missing": verdict.missing,
        "explained": verdict.explained,
        "waiting": verdict.waiting,
        "lost": verdict.lost,
        "holes": [],
    }
    made.say(f"{where}: {_number(verdict.checked - verdict.missing, 'record')} of {verdict.checked:,} seen, by its own word of {_time(verdict.at_ms)}.{repeats}")
    if verdict.explained:
        reasons = [f"{verdict.lost_by_reason[reason]:,} {REASONS[reason]}" for reason in LOST if verdict.lost_by_reason[reason]]
        made.say(f"  {_number(verdict.explained, 'record')} not seen, as the gateway says: {'; '.join(reasons)}.")
    if verdict.waiting:
        made.say(f"  {_number(verdict.waiting, 'record')} held by the gateway, for devices whose records Kinesis does not take now.")
    if fresh := made.alarm(book, f"{name}/{stream}", verdict.lost):
        made.say(f"  {_number(fresh, 'record')} LOST: the gateway was told that Kinesis has them, or says nothing of them.")
    if made.alarm(book, f"{name}/{stream}/ledger", int(verdict.unbalanced)):
        made.say("  Its ledger does not add up.")
    if verdict.missing:
        _tell_holes(made, account, verdict, facts)
    return facts


def _tell_holes(made: Report, account: Account, verdict: Verdict, facts: dict[str, Any]) -> None:
    """Which of them is explained and which is lost, nobody can tell, unless all are one or the other."""
    for number, (run, first, last) in enumerate(account.holes_through(verdict.cursor)):
        if number == HOLES_NAMED:
            made.say("  ... and more.")
            break
        facts["holes"].append([run, first, last])
        positions = f"position {first:,}" if first == last else f"positions {first:,} to {last:,}"
        made.say(f"  Not seen: run {run}, {positions}.")
