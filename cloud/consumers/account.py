"""What was seen of one stream of one gateway, and how many of its records have not been, as far as its ledgers tell. Pure.

A gateway's store numbers the records of a stream by *sequences*, through all runs, without a hole. A record says its run and its position in that, so a run's
*offset* (the sequence before its first position) leads from one to the other. A ledger says, for each sink, up to which sequence everything is settled, and how
many were lost on the way and why. What is neither seen nor among these is missing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lines import LOST
from spans import Spans

# More holes of a run are counted and no longer told one by one.
SPANS_MAX = 10_000
# Older runs are counted together.
RUNS_MAX = 100
# A run that comes again after it was counted is known by its name.
FORGOTTEN_MAX = 1_000


@dataclass
class Run:
    """A run that was seen, or that a ledger has spoken of."""

    positions: Spans = field(default_factory=Spans)
    repeats: int = 0
    first_ms: int = 0
    # None as long as no two ledgers have told it.
    offset: int | None = None
    # A sequence that had been given by its first ledger, so that all before it are of earlier runs, or of this one.
    floor: int | None = None
    # How many records of holes are no longer listed.
    unlisted: int = 0


@dataclass
class Verdict:
    """What became of everything up to a ledger's cursor, for one sink."""

    sink: str
    at_ms: int
    cursor: int
    # Neither seen nor below the sequence from which on everything was to be seen.
    missing: int = 0
    # How many the ledger says were lost, by reason, since its store was created.
    lost_by_reason: dict[str, int] = field(default_factory=dict)
    # Of these, so many were seen all the same, or belong to what came before.
    set_off: int = 0
    # Missing, and held by the gateway for keys that are set aside.
    waiting: int = 0
    # Missing, and nothing explains it.
    lost: int = 0
    # Records up to the cursor of which all this is told; 0 as long as nothing is known of where runs begin.
    checked: int = 0
    # Accepted is not delivered + buffered + lost.
    unbalanced: bool = False

    @property
    def explained(self) -> int:
        return self.missing - self.waiting - self.lost


@dataclass
class Account:
    """Runs are in the order in which they were first seen, or heard of."""

    runs: dict[str, Run] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)
    # Everything beyond this sequence is to be seen. None until it is known.
    base: int | None = None
    # Records of runs that are no longer listed, missing.
    missing_before: int = 0
    repeats_before: int = 0
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def see(self, run: str, positions: list[list[int]], repeats: int, first_ms: int, overlapping: bool) -> None:
        """Records of a section. If that overlaps another one, what is known is no repeat."""
        if run in self.forgotten:
            return
        seen = self.runs.setdefault(run, Run(first_ms=first_ms))
        seen.first_ms = min(seen.first_ms, first_ms)
        for first, last in positions:
            known = last - first + 1 - seen.positions.add(first, last)
            seen.repeats += 0 if overlapping else known
        seen.repeats += repeats
        seen.unlisted += seen.positions.forget_holes(SPANS_MAX)

    def hear(self, run: str, last_sequence: int, offset: int | None, arrived_ms: int) -> None:
        """What a ledger of this run tells: how far the stream was, and the run's offset if it is certain."""
        if run in self.forgotten:
            return
        known = self.runs.setdefault(run, Run(first_ms=arrived_ms))
        known.floor = last_sequence if known.floor is None else known.floor
        known.offset = offset if known.offset is None else known.offset
        self._forget_runs()

    @property
    def repeats(self) -> int:
        return self.repeats_before + sum(run.repeats for run in self.runs.values())

    def begin(self, cursor: int | None, last_sequence: int, whole: set[str]) -> None:
        """Fixes from where on everything is to be seen: from the beginning of the store, if a ledger of then was seen; of a run that was seen from its beginning; or
        from a ledger's cursor on, if that may be. Does nothing as long as no offset is known."""
        offsets = [(run.offset, name) for name, run in self.runs.items() if run.offset is not None]
        if self.base is None and last_sequence == 0:
            self.base = 0
        if self.base is None and offsets:
            possible = [offset for offset, name in offsets if name in whole]
            possible += [] if cursor is None else [max(cursor, min(offsets)[0])]
            self.base = min(possible, default=None)

    def judge(self, told: dict[str, Any], at_ms: int, last_sequence: int) -> Verdict:
        """Compares a ledger with what was seen. All that was delivered before it must have been read."""
        before = self.verdicts.get(told["sink"], Verdict(told["sink"], 0, 0))
        cursor, by_reason = told["cursor"], {name: told[name] for name in LOST}
        missing = self.missing_through(cursor)
        told_lost, told_before = sum(by_reason.values()), sum(before.lost_by_reason.values())
        # Dead letters that were sent again count as delivered from then on.
        set_off = max(before.set_off - max(told_before - told_lost, 0), 0)
        checked = sum(checked for _, _, _, checked in self._stretches(cursor))
        # What is counted as lost and is not missing may be among what is not looked at yet, but no more than that; the rest must not hide a later loss.
        surplus = max(told_lost - set_off - missing, 0)
        set_off += max(surplus - max(last_sequence - (self.base or 0) - checked, 0), 0)
        rest = max(missing - (told_lost - set_off), 0)
        waiting = min(rest, told["buffered"]) if told["aside"] else 0
        settled = told["delivered"] - told["passed_over"] + told_lost + told["buffered"]
        verdict = Verdict(
            sink=told["sink"],
            at_ms=at_ms,
            cursor=cursor,
            missing=missing,
            lost_by_reason=by_reason,
            set_off=set_off,
            waiting=waiting,
            lost=rest - waiting,
            checked=checked,
            unbalanced=settled != told["accepted"],
        )
        self.verdicts[told["sink"]] = verdict
        return verdict

    def missing_through(self, sequence: int) -> int:
        """How many records up to this sequence were not seen."""
        return self.missing_before + sum(missing for _, missing, _, _ in self._stretches(sequence))

    def holes_through(self, sequence: int) -> Iterator[tuple[str, int, int]]:
        """What was not seen, as far as it is known by its positions: run, first, last."""
        for name, missing, through, _ in self._stretches(sequence):
            run = self.runs.get(name)
            if missing and run is not None and run.offset is not None:
                for first, last in run.positions.holes(max((self.base or 0) - run.offset, 0) + 1, through):
                    yield name, first, last

    def _stretches(self, sequence: int) -> Iterator[tuple[str, int, int, int]]:
        """From each run of a known offset to the next one: its name, how many records of it were not seen, up to which position it was looked at, and how many
        records these are.

        Runs between the two are counted with it: of each of them it is known how many were seen, and of all together how many there were.
        """
        if self.base is None:
            return
        parts = self._parts()
        for at, (name, run, between) in enumerate(parts):
            assert run.offset is not None
            end = parts[at + 1][1].offset if at + 1 < len(parts) else None
            begin, through = max(run.offset, self.base), sequence if end is None else min(sequence, end)
            if between and (end is None or sequence < end):
                # Which of them has the sequences up to there is not known yet.
                through = min(through, run.offset + (run.positions.last or 0))
            if through <= begin:
                continue
            seen = run.positions.count(begin - run.offset + 1, through - run.offset) - run.unlisted
            if through == end:
                seen += sum(other.positions.count(1, through) - other.unlisted for other in between)
            yield name, max(through - begin - seen, 0), through - run.offset, through - begin

    def _parts(self) -> list[tuple[str, Run, list[Run]]]:
        """Runs of a known offset in their order, each with the runs after it whose offset is not known. The beginning of the store is as a run without records."""
        known = sorted(((name, run) for name, run in self.runs.items() if run.offset is not None), key=lambda entry: entry[1].offset or 0)
        if self.base == 0 and (not known or known[0][1].offset != 0):
            known.insert(0, ("", Run(offset=0)))
        parts: list[tuple[str, Run, list[Run]]] = [(name, run, []) for name, run in known]
        for run in self.runs.values():
            if run.offset is None and len(run.positions):
                before = [part for part in parts if self._precedes(part[1], run)]
                if before:
                    before[-1][2].append(run)
        return parts

    def _precedes(self, known: Run, other: Run) -> bool:
        """Whether a run of a known offset comes before one of which that is not known."""
        assert known.offset is not None
        return known.offset <= other.floor if other.floor is not None else known.first_ms < other.first_ms

    def _forget_runs(self) -> None:
        """Counts the oldest runs together once there are too many."""
        while len(self.runs) > RUNS_MAX:
            parts = self._parts()
            settled = min((verdict.cursor for verdict in self.verdicts.values()), default=0)
            if self.base is None or len(parts) < 2 or (parts[1][1].offset or 0) > settled:
                break
            next_offset = parts[1][1].offset or 0
            self.missing_before = self.missing_through(next_offset)
            self.base = max(self.base, next_offset)
            oldest = [name for name, run in self.runs.items() if run is parts[0][1] or any(run is other for other in parts[0][2])]
            self._forget(oldest)
        if len(self.runs) > 10 * RUNS_MAX:
            # None of them lives for two ledgers. What is forgotten here counts as missing.
            by_age = sorted(self.runs, key=lambda name: self.runs[name].first_ms)
            self._forget(by_age[: len(self.runs) - 10 * RUNS_MAX])

    def _forget(self, names: list[str]) -> None:
        for name in names:
            self.repeats_before += self.runs.pop(name).repeats
            self.forgotten.append(name)
        del self.forgotten[:-FORGOTTEN_MAX]
