"""Stores documents by `_bulk`, and does not come back before each of them is stored, known already, or among the failed documents.

Outcomes are per document. What OpenSearch cannot take now is sent again, and only that, for as long as it takes. What it refuses for good becomes a failed
document. What a person has to put right ends the job with a sentence. With the operation `create`, a document that is there already is answered by 409: a
reply that was lost costs nothing but a repetition.
"""

import base64
import http.client
import json
import random
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from records import Document, failed

# Domains of the Amazon OpenSearch Service take 10 MiB or 100 MiB, by their size.
REQUEST_BYTES_MAX = 5_000_000
TIMEOUT_SECONDS = 60
PAUSE_SECONDS_MAX = 30
BULK = "/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason"
# With status 400, though the document is not to blame: there may be no more shards, or somebody has closed the index.
BLAMELESS = {"validation_exception", "index_closed_exception", "cluster_block_exception"}


class Halt(Exception):
    """A person has to put something right; the text says what."""


class Target(NamedTuple):
    """An OpenSearch, and who we are to it."""

    url: str
    user: str | None = None
    password: str | None = None
    ca: str | None = None
    aws_region: str | None = None


class Reply(NamedTuple):
    status: int
    body: bytes


class Client:
    """One connection, opened when it is needed. Errors of the network are OSErrors or HTTPExceptions."""

    def __init__(self, target: Target, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._target = target
        self._parts = urlsplit(target.url)
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            raise Halt(f"{target.url} is no address of OpenSearch; it is like https://search.example.com:9200")
        self._timeout_seconds = timeout_seconds
        self._connection: http.client.HTTPConnection | None = None
        self._session: Any = None

    def request(self, method: str, path: str, body: bytes | None = None, content: str = "application/json") -> Reply:
        path = self._parts.path.rstrip("/") + path
        headers = {"Content-Type": content} if body is not None else {}
        if self._target.user is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(f"{self._target.user}:{self._target.password or ''}".encode()).decode()
        if self._target.aws_region is not None:
            headers = self._signed(method, path, body, headers)
        if self._connection is None:
            self._connection = self._open()
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            return Reply(response.status, response.read())
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise Halt(f"the certificate of OpenSearch is not to be trusted (--ca): {error}") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            context = ssl.create_default_context(cadata=self._target.ca)
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_seconds, context=context)
        return http.client.HTTPConnection(host, port, timeout=self._timeout_seconds)

    def _signed(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> dict[str, str]:
        """For a domain of the Amazon OpenSearch Service that asks for a role of IAM."""
        try:
            from botocore.auth import SigV4Auth
            from botocore.awsrequest import AWSRequest
            from botocore.session import Session
        except ImportError:
            raise Halt("--aws-region needs botocore in Python on each machine: pip install botocore") from None
        if self._session is None:
            self._session = Session()
        credentials = self._session.get_credentials()
        if credentials is None:
            raise Halt("no AWS credentials found; give the machines a role that may write to the domain")
        request = AWSRequest(method, f"{self._parts.scheme}://{self._parts.netloc}{path}", headers=headers, data=body)
        SigV4Auth(credentials.get_frozen_credentials(), "es", self._target.aws_region).add_auth(request)
        return dict(request.headers.items())


@dataclass
class Counts:
    """What has become of documents. `known` were there already; `failed` are among the failed documents."""

    stored: int = 0
    known: int = 0
    failed: int = 0

    def add(self, other: "Counts") -> None:
        self.stored += other.stored
        self.known += other.known
        self.failed += other.failed


@dataclass
class Verdict:
    """What a reply means for each document of a request."""

    counts: Counts = field(default_factory=Counts)
    refused: list[tuple[Document, str]] = field(default_factory=list)
    again: list[Document] = field(default_factory=list)
    halve: bool = False
    trouble: str = ""


def judge(sent: list[Document], reply: Reply) -> Verdict:
    """Pure, but for Halt."""
    status, body = reply
    if status in (400, 413):
        # Of one document of many, or of the request as a whole.
        if len(sent) > 1:
            return Verdict(again=sent, halve=True)
        return Verdict(refused=[(sent[0], f"{status}: {_readable(body)}")])
    if status == 429 or status == 408 or status >= 500:
        return Verdict(again=sent, trouble=f"{status}: {_readable(body)}")
    if status != 200:
        raise Halt(_words(status, _readable(body)))
    try:
        items = [next(iter(item.values())) for item in json.loads(body)["items"]]
        statuses = [int(item["status"]) for item in items]
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration):
        return Verdict(again=sent, trouble="a reply that is cut off or not of _bulk")
    if len(items) != len(sent):
        return Verdict(again=sent, trouble=f"a reply for {len(items)} documents to {len(sent)}")
    verdict = Verdict()
    for document, item_status, item in zip(sent, statuses, items, strict=True):
        _judge_item(verdict, document, item_status, item.get("error") or {})
    return verdict


def _judge_item(verdict: Verdict, document: Document, status: int, error: dict[str, Any]) -> None:
    if status in (200, 201):
        if document.origin is None:
            verdict.counts.failed += 1
        else:
            verdict.counts.stored += 1
    elif status == 409:
        verdict.counts.known += 1
    elif status == 400 and error.get("type") not in BLAMELESS:
        verdict.refused.append((document, _reason(error)))
    elif status in (401, 403, 404):
        raise Halt(_words(status, f"{document.index_name}: {_reason(error)}"))
    else:
        verdict.again.append(document)
        verdict.trouble = f"{status}: {_reason(error)}"


def _reason(error: dict[str, Any]) -> str:
    caused_by = (error.get("caused_by") or {}).get("reason")
    return ": ".join(str(part) for part in (error.get("type"), error.get("reason"), caused_by) if part)


def _readable(body: bytes) -> str:
    return body[:300].decode(errors="replace").strip()


def _words(status: int, said: str) -> str:
    hint = {
        401: "user and password, or the role, are wrong",
        403: "the user or the role may not write, or the index is blocked",
        404: "the index is not there and may not be made",
    }.get(status, "is this the address of OpenSearch?")
    return f"OpenSearch refuses with {status} ({hint}): {said}"


def requests(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """As many documents as fit into a request; one that does not fit is alone."""
    request: list[Document] = []
    size = 0
    for document in documents:
        bytes_more = len(_lines(document))
        if request and size + bytes_more > REQUEST_BYTES_MAX:
            yield request
            request, size = [], 0
        request.append(document)
        size += bytes_more
    if request:
        yield request


def _lines(document: Document) -> bytes:
    return b'{"create":{"_index":"%b","_id":%b}}\n%b\n' % (document.index_name.encode(), json.dumps(document.id).encode(), document.source)


class Store:
    """Sends, waits, and sends again."""

    def __init__(self, client: Client, say: Callable[[str], None] = print, pause: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._say = say
        self._pause = pause
        self._attempts = 0
        self._since = 0.0

    def store(self, documents: Iterable[Document]) -> Counts:
        counts = Counts()
        for request in requests(documents):
            waiting = [request]
            while waiting:
                sent = waiting.pop()
                verdict = self._attempt(sent)
                counts.add(verdict.counts)
                waiting += _rest(verdict)
                self._back_off(verdict, len(sent))
        return counts

    def _attempt(self, sent: list[Document]) -> Verdict:
        body = b"".join(map(_lines, sent))
        try:
            return judge(sent, self._client.request("POST", BULK, body, "application/x-ndjson"))
        except (OSError, http.client.HTTPException) as error:
            # Perhaps all of it is stored: then it is known next time.
            return Verdict(again=sent, trouble=f"{type(error).__name__}: {error}")

    def _back_off(self, verdict: Verdict, sent: int) -> None:
        if not verdict.trouble:
            if self._attempts:
                self._say(f"OpenSearch takes documents again, after {time.monotonic() - self._since:.0f} s")
            self._attempts = 0
            return
        if not self._attempts:
            self._since = time.monotonic()
            self._say(f"OpenSearch does not take {len(verdict.again)} of {sent} documents now, trying again: {verdict.trouble}")
        if len(verdict.again) < sent:
            # Some were taken, so the pause need not grow.
            self._attempts = 0
        self._attempts += 1
        self._pause(min(PAUSE_SECONDS_MAX, 0.25 * 2**self._attempts) * random.uniform(0.5, 1))


def _rest(verdict: Verdict) -> list[list[Document]]:
    """What is to be sent next."""
    rest = []
    if verdict.halve:
        middle = len(verdict.again) // 2
        rest += [verdict.again[middle:], verdict.again[:middle]]
    elif verdict.again:
        rest.append(verdict.again)
    if verdict.refused:
        rest += requests(_failed(document, reason) for document, reason in verdict.refused)
    return rest


def _failed(document: Document, reason: str) -> Document:
    if document.origin is None:
        raise Halt(f"OpenSearch refuses what stands for a failed document; is its template there? {reason}")
    return failed(document.source, document.origin, "opensearch", reason)
