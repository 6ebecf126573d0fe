"""Sets of whole numbers that are mostly without gaps, as spans: what is in order takes no more room, however much of it there is. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Spans:
    """Spans are inclusive, ascending, disjoint and not adjacent."""

    def __init__(self, spans: list[list[int]] | None = None) -> None:
        self._firsts = [first for first, _ in spans or []]
        self._lasts = [last for _, last in spans or []]

    def __len__(self) -> int:
        """How many spans there are, which is what they cost."""
        return len(self._firsts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)

    def listed(self) -> list[list[int]]:
        """As JSON has them."""
        return [[first, last] for first, last in self]

    @property
    def first(self) -> int | None:
        return self._firsts[0] if self._firsts else None

    @property
    def last(self) -> int | None:
        return self._lasts[-1] if self._lasts else None

    def add(self, first: int, last: int) -> int:
        """Adds first to last, and returns how many of these were not there."""
        # Most come in order.
        if self._lasts and first == self._lasts[-1] + 1:
            self._lasts[-1] = last
            return last - first + 1
        begin = bisect_left(self._lasts, first - 1)
        end = bisect_right(self._firsts, last + 1)
        known = sum(min(self._lasts[at], last) - max(self._firsts[at], first) + 1 for at in range(begin, end) if self._overlaps(at, first, last))
        if begin < end:
            self._firsts[begin:end] = [min(first, self._firsts[begin])]
            self._lasts[begin:end] = [max(last, self._lasts[end - 1])]
        else:
            self._firsts.insert(begin, first)
            self._lasts.insert(begin, last)
        return last - first + 1 - known

    def _overlaps(self, at: int, first: int, last: int) -> bool:
        """An adjacent span only touches."""
        return self._firsts[at] <= last and self._lasts[at] >= first

    def count(self, first: int, last: int) -> int:
        """How many of first to last are there."""
        begin, end = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        return sum(min(self._lasts[at], last) - max(self._firsts[at], first) + 1 for at in range(begin, end))

    def holes(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """What of first to last is not there."""
        at = first
        for begin, end in self._between(first, last):
            if begin > at:
                yield at, begin - 1
            at = end + 1
        if at <= last:
            yield at, last

    def _between(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        for at in range(bisect_left(self._lasts, first), bisect_right(self._firsts, last)):
            yield self._firsts[at], self._lasts[at]

    def forget_holes(self, most: int) -> int:
        """Closes the lowest holes until there are at most so many spans, and returns how many numbers these holes had."""
        excess = len(self) - max(most, 1)
        if excess <= 0:
            return 0
        closed = sum(self._firsts[at + 1] - self._lasts[at] - 1 for at in range(excess))
        del self._firsts[1 : excess + 1]
        del self._lasts[:excess]
        return closed
