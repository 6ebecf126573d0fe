"""Says whether anything is missing in the streams, from the streams alone: the identities of the records that consumers have seen, and what gateways say of
themselves. Prints a report; exit code 0 if nothing is missing, 1 if something is, 2 if that cannot be told, for whatever reason.
"""

import argparse
import json
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kept
from book import Book, Shard
from report import UNKNOWN, Report, report
from shelf import Shelf, shelf

BOOK = "book.json"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seen", required=True, metavar="PLACE", help="where the consumers write: a folder, or s3://bucket/prefix")
    parser.add_argument("--sink", metavar="NAME", help="the gateways' sink to these streams, if several of theirs send to Kinesis")
    parser.add_argument("--streams", metavar="NAME,...", help="streams that have to be read, beside those that are")
    parser.add_argument("--grace", type=float, default=60, metavar="SECONDS", help="by how much clocks may differ (%(default)s)")
    parser.add_argument("--late", type=float, default=900, metavar="SECONDS", help="reading may be so far behind (%(default)s)")
    parser.add_argument("--accept", action="store_true", help="what is missing so far is known: later reports tell what is missing beyond it")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--region", help="AWS region; default: AWS_REGION, or as the AWS tools find it")
    parser.add_argument("--endpoint", metavar="URL", help="of AWS, for emulators")
    return parser.parse_args()


def verify(seen: Shelf, given: argparse.Namespace, now_ms: int, listed: Callable[[set[str]], list[str]]) -> Report:
    """Takes in what consumers have written, judges, and keeps the books. What is in the books is removed from the shelf. `listed` names the shards that streams have."""
    found = seen.read(BOOK)
    book = kept.read(found) if found else Book()
    book.grace_ms, book.sink = int(given.grace * 1000), given.sink
    look(book, seen, listed)
    folded = fold(book, seen)
    book.judge()
    made = report(book, now_ms, int(given.late * 1000))
    if given.accept:
        book.accepted = made.alarms
    seen.write(BOOK, kept.written(book))
    for name in folded:
        seen.remove(name)
    return made


def look(book: Book, seen: Shelf, listed: Callable[[set[str]], list[str]]) -> None:
    """Looks how far each shard is read. Consumers write sections before they say how far they are, so this comes before the sections are looked for."""
    for name in seen.names(""):
        shard = name.split("/sections/")[0].removesuffix("/at.json")
        if shard != name:
            book.shards.setdefault(shard, Shard())
    for shard, state in book.shards.items():
        at = seen.read(f"{shard}/at.json")
        if at is not None:
            state.read_to_ms, state.ended = at["read_to_ms"], at["ended"]
    streams = {shard.rpartition("/")[0] for shard in book.shards}
    there = set(listed(streams))
    # Of a shard that nobody has begun to read, nothing is known: it holds the watermark back. One that Kinesis no longer has will not be read to its end.
    for shard in there - book.shards.keys():
        book.shards[shard] = Shard()
    for shard in book.shards.keys() - there:
        book.shards[shard].ended = True


def fold(book: Book, seen: Shelf) -> list[str]:
    """Takes in all sections up to where all shards are read, in the order of their arrival, and returns the names of those that are not needed any more."""
    sections = {shard: seen.names(f"{shard}/sections") for shard in book.shards}
    queues = {shard: deque(name for name in names if book.is_new(shard, _place(name))) for shard, names in sections.items()}
    heads = {shard: _next(seen, queue) for shard, queue in queues.items()}
    if book.began_ms is None:
        book.began_ms = max((head["first_ms"] for head in heads.values() if head), default=None)
    while ready := [(head["first_ms"], shard) for shard, head in heads.items() if head]:
        first_ms, shard = min(ready)
        if first_ms > book.watermark_ms():
            break
        book.fold(shard, heads[shard] or {})
        heads[shard] = _next(seen, queues[shard])
    # A consumer that starts again looks for the newest one.
    return [name for shard, names in sections.items() for name in names[:-1] if not book.is_new(shard, _place(name))]


def _place(name: str) -> str:
    return name.rsplit("/", 1)[1].removesuffix(".json")


def _next(seen: Shelf, queue: deque[str]) -> dict[str, Any] | None:
    return seen.read(queue.popleft()) if queue else None


def shards_of(streams: set[str], given: argparse.Namespace) -> list[str]:
    """The shards that Kinesis has of these streams and of those that were asked for."""
    import boto3

    kinesis = boto3.client("kinesis", region_name=given.region or os.environ.get("AWS_REGION"), endpoint_url=given.endpoint)
    wanted = set(given.streams.split(",") if given.streams else [])
    names = []
    for stream in streams | wanted:
        try:
            pages = kinesis.get_paginator("list_shards").paginate(StreamName=stream)
            names += [f"{stream}/{shard['ShardId']}" for page in pages for shard in page["Shards"]]
        except kinesis.exceptions.ResourceNotFoundException:
            # It may be made yet; until then nothing can be judged.
            names += [f"{stream}/none, because there is no such stream"] if stream in wanted else []
    return names


@contextmanager
def alone(where: str):
    """Two that keep the same books at once would spoil them. In a bucket, whoever runs this has to see to that."""
    if where.startswith("s3://"):
        yield
        return
    import fcntl

    Path(where).mkdir(parents=True, exist_ok=True)
    with (Path(where) / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    given = arguments()
    with alone(given.seen):
        made = verify(shelf(given.seen, given.endpoint), given, int(time.time() * 1000), lambda streams: shards_of(streams, given))
    print(json.dumps(made.facts | {"report": made.lines}) if given.json else "\n".join(made.lines))
    return made.outcome


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:
        # Python itself would exit with 1, which is the alarm that records are missing.
        traceback.print_exc()
        print(f"verify: nothing can be told: {error}", file=sys.stderr)
        sys.exit(UNKNOWN)
