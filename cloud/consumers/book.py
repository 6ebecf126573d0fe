"""The books over all that was seen, by gateway: sections of shards go in, ledgers are judged once everything that was sent before them has been read. Pure.

Memory is bounded by what is out of order between shards: sections are taken in the order of their arrival, and not before all shards have been read up to there.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from account import Account, Verdict

# Ledgers of a gateway that wait to be judged.
LEDGERS_MAX = 16
# Stores of a gateway that were given up and are not judged yet.
CLOSING_MAX = 4
UNREADABLE_NAMED = 20
# Where all shards are at their end, everything has been read.
END_MS = 253_402_300_799_999


@dataclass
class Shard:
    """How far one shard is in the books."""

    through: str | None = None
    # Everything that arrived before is written down.
    read_to_ms: int = 0
    ended: bool = False


@dataclass
class Closing:
    """The account of a store that the gateway no longer has. What it had and did not deliver will never come."""

    stream: str
    account: Account
    last_sequence: int
    due_ms: int


@dataclass
class Gateway:
    accounts: dict[str, Account] = field(default_factory=dict)
    # The last position of a ledger, by run, in the order in which runs were heard of.
    heard: dict[str, int] = field(default_factory=dict)
    # What the last ledger said.
    last: dict[str, Any] | None = None
    waiting: list[dict[str, Any]] = field(default_factory=list)
    closing: list[Closing] = field(default_factory=list)
    # Records of stores that are gone, by stream.
    lost_with_store: dict[str, int] = field(default_factory=dict)
    stores_begun_anew: int = 0
    # A run went on after a later one had begun.
    shares_its_id: bool = False


@dataclass
class Book:
    """`sink` says whose ledger counts where several sinks of a gateway send to Kinesis."""

    grace_ms: int = 60_000
    sink: str | None = None
    shards: dict[str, Shard] = field(default_factory=dict)
    gateways: dict[str, Gateway] = field(default_factory=dict)
    # When the first records came that were read at all.
    began_ms: int | None = None
    # Of which anything was seen of any gateway. Of others it is not known whether what Kinesis has of them is read at all.
    streams: list[str] = field(default_factory=list)
    sections_missing: int = 0
    unreadable: int = 0
    unreadable_named: list[dict[str, str]] = field(default_factory=list)
    accepted: dict[str, int] = field(default_factory=dict)

    def watermark_ms(self) -> int:
        """Everything that arrived before, on any shard, is written down."""
        return min((shard.read_to_ms for shard in self.shards.values() if not shard.ended), default=END_MS if self.shards else 0)

    def is_new(self, shard_name: str, through: str) -> bool:
        """Whether a section up to this place says anything that is not in the books."""
        known = self.shards[shard_name].through
        return known is None or through > known

    def fold(self, shard_name: str, section: dict[str, Any]) -> None:
        """Takes a section of a shard in."""
        shard = self.shards[shard_name]
        overlapping = shard.through is not None and (section["after"] or "") < shard.through
        if shard.through is not None and (section["after"] or "") > shard.through:
            self.sections_missing += 1
        shard.through = section["through"]
        for seen in section["runs"]:
            if seen["stream"] not in self.streams:
                self.streams.append(seen["stream"])
            account = self._account(seen["gateway"], seen["stream"], seen["run"])
            account.see(seen["run"], seen["positions"], seen["repeats"], seen["first_ms"], overlapping)
        for ledger in section["ledgers"]:
            self._hear(ledger)
        self.unreadable += section["unreadable"]
        named = [found | {"shard": shard_name} for found in section["unreadable_named"]]
        self.unreadable_named = (self.unreadable_named + named)[:UNREADABLE_NAMED]

    def _account(self, gateway_name: str, stream: str, run: str) -> Account:
        """The account of a store that is gone has its runs."""
        gateway = self.gateways.setdefault(gateway_name, Gateway())
        for closing in gateway.closing:
            if closing.stream == stream and run in closing.account.runs and run not in gateway.accounts[stream].runs:
                return closing.account
        return gateway.accounts.setdefault(stream, Account())

    def _hear(self, ledger: dict[str, Any]) -> None:
        """Learns from a ledger what it tells at once, and keeps it until it can be judged."""
        gateway = self.gateways.setdefault(ledger["gateway"], Gateway())
        run, position = ledger["run"], ledger["position"]
        if position <= gateway.heard.get(run, 0):
            return
        last = gateway.last
        if last is not None and last["run"] != run and run in gateway.heard:
            gateway.shares_its_id = True
            return
        gateway.heard.pop(run, None)
        gateway.heard[run] = position
        for old in list(gateway.heard)[:-100]:
            del gateway.heard[old]
        for stream, (sequence, held_position) in ledger["streams"].items():
            account = gateway.accounts.setdefault(stream, Account())
            before = (last or {"streams": {}})["streams"].get(stream, [0])[0]
            offset = sequence - held_position if held_position is not None else None
            # Only then it is this run that has stored the newest record.
            is_told = last is not None and last["run"] == run and sequence > before and offset is not None
            known = account.runs[run].offset if run in account.runs else None
            if sequence < before or (is_told and known is not None and known != offset):
                account = self._begin_anew(gateway, stream, run, before, ledger["arrived_ms"])
            account.hear(run, sequence, offset if is_told else None, ledger["arrived_ms"])
        gateway.last = ledger
        gateway.waiting.append(ledger)
        if len(gateway.waiting) > LEDGERS_MAX:
            del gateway.waiting[-2]

    def _begin_anew(self, gateway: Gateway, stream: str, run: str, last_sequence: int, arrived_ms: int) -> Account:
        """The gateway has another store, whose sequences are others."""
        old, new = gateway.accounts[stream], Account()
        first_ms = old.runs[run].first_ms if run in old.runs else arrived_ms
        later = [name for name, seen in old.runs.items() if seen.first_ms >= first_ms and seen.offset is None and seen.floor is None]
        new.runs = {name: old.runs.pop(name) for name in later}
        gateway.closing.append(Closing(stream, old, last_sequence, arrived_ms + self.grace_ms))
        del gateway.closing[:-CLOSING_MAX]
        gateway.accounts[stream] = new
        gateway.waiting.clear()
        gateway.stores_begun_anew += 1
        return new

    def judge(self) -> None:
        """Judges what can be: ledgers before which nothing is unread."""
        read_ms = self.watermark_ms() - self.grace_ms
        for gateway in self.gateways.values():
            while gateway.waiting and gateway.waiting[0]["arrived_ms"] <= read_ms:
                self._judge(gateway, gateway.waiting.pop(0))
            for closing in [each for each in gateway.closing if each.due_ms <= read_ms]:
                self._close(gateway, closing)
                gateway.closing.remove(closing)

    def _judge(self, gateway: Gateway, ledger: dict[str, Any]) -> None:
        whole = {name for account in gateway.accounts.values() for name, run in account.runs.items() if run.positions.first == 1}
        began_ms = ledger["arrived_ms"] if self.began_ms is None else self.began_ms
        is_early = ledger["arrived_ms"] < began_ms + self.grace_ms
        for stream, account in gateway.accounts.items():
            told, last_sequence = self.of_sink(ledger, stream), ledger["streams"].get(stream, [0])[0]
            if isinstance(told, str) or stream not in self.streams:
                continue
            # What had left the stream when it was first read, on one shard and not on another, is no loss.
            account.begin(None if is_early else told["cursor"], last_sequence, whole)
            if account.base is not None:
                account.judge(told, ledger["at_ms"], last_sequence)

    def _close(self, gateway: Gateway, closing: Closing) -> None:
        account = closing.account
        lost = max((sum(verdict.lost_by_reason.values()) - verdict.set_off for verdict in account.verdicts.values()), default=0)
        missing = max(account.missing_through(closing.last_sequence) - lost, 0)
        gateway.lost_with_store[closing.stream] = gateway.lost_with_store.get(closing.stream, 0) + missing

    def of_sink(self, ledger: dict[str, Any], stream: str) -> dict[str, Any] | str:
        """What a ledger says of the sink that sends this stream to Kinesis, or why that is not known."""
        of_stream = [told for told in ledger["sinks"] if told["stream"] == stream]
        if self.sink is not None:
            found = [told for told in of_stream if told["sink"] == self.sink]
            return found[0] if found else f"no sink {self.sink} sends it"
        found = [told for told in of_stream if told["kind"] == "kinesis"]
        if len(found) == 1:
            return found[0]
        names = ", ".join(told["sink"] for told in found)
        return f"{names} send it to Kinesis: name one by --sink" if found else "none of its sinks sends it to Kinesis: name one by --sink"

    def verdicts(self) -> Iterator[tuple[str, str, Account, Verdict | None]]:
        """Of each gateway and stream what is known; None as long as nothing is."""
        for name, gateway in sorted(self.gateways.items()):
            for stream, account in sorted(gateway.accounts.items()):
                told = self.of_sink(gateway.last, stream) if gateway.last else "none"
                verdict = None if isinstance(told, str) else account.verdicts.get(told["sink"])
                # A stream that nobody sends here is of no concern.
                has_any = any(len(run.positions) for run in account.runs.values()) or (isinstance(told, dict) and told["accepted"] > 0)
                if account.base is not None or has_any:
                    yield name, stream, account, verdict
