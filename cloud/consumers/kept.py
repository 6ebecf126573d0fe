"""The books as JSON, and back."""

from dataclasses import fields, is_dataclass
from typing import Any

from account import Account, Run, Verdict
from book import Book, Closing, Gateway, Shard
from spans import Spans

VERSION = 1


def written(book: Book) -> dict[str, Any]:
    return {"v": VERSION} | _plain(book)


def _plain(value: Any) -> Any:
    if isinstance(value, Spans):
        return value.listed()
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def read(found: dict[str, Any]) -> Book:
    if found.get("v") != VERSION:
        raise ValueError(f"the books are of version {found.get('v')}, and not {VERSION}")
    rest = {name: value for name, value in found.items() if name != "v"}
    rest["shards"] = {name: Shard(**shard) for name, shard in found["shards"].items()}
    rest["gateways"] = {name: _gateway(gateway) for name, gateway in found["gateways"].items()}
    return Book(**rest)


def _gateway(found: dict[str, Any]) -> Gateway:
    accounts = {stream: _account(account) for stream, account in found["accounts"].items()}
    closing = [Closing(**each | {"account": _account(each["account"])}) for each in found["closing"]]
    return Gateway(**found | {"accounts": accounts, "closing": closing})


def _account(found: dict[str, Any]) -> Account:
    runs = {name: Run(**run | {"positions": Spans(run["positions"])}) for name, run in found["runs"].items()}
    return Account(**found | {"runs": runs, "verdicts": {name: Verdict(**verdict) for name, verdict in found["verdicts"].items()}})
