"""What may stand between the job and OpenSearch: passes requests on, and does to those of _bulk what it is told."""

import itertools
import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

# A fault answers a request of _bulk, or hangs up with None. `forward` gives OpenSearch's answer to a body.
Answer = tuple[int, bytes]
Fault = Callable[[bytes, Callable[[bytes], Answer]], Answer | None]


def passing(body: bytes, forward: Callable[[bytes], Answer]) -> Answer | None:
    return forward(body)


def busy(body: bytes, forward: Callable[[bytes], Answer]) -> Answer | None:
    return 503, b"busy"


def forbidden(body: bytes, forward: Callable[[bytes], Answer]) -> Answer | None:
    return 403, b'{"error":"no permissions for [indices:data/write/bulk]"}'


def lost(body: bytes, forward: Callable[[bytes], Answer]) -> Answer | None:
    """Stored, and nobody hears of it."""
    forward(body)
    return None


def throttled(body: bytes, forward: Callable[[bytes], Answer]) -> Answer | None:
    """Some of the documents are told to come again."""
    lines = body.splitlines(keepends=True)
    documents = [lines[number] + lines[number + 1] for number in range(0, len(lines), 2)]
    taken = [random.random() < 0.6 for _ in documents]
    items: list[Any] = []
    if any(taken):
        status, answer = forward(b"".join(document for document, take in zip(documents, taken, strict=True) if take))
        if status != 200:
            return status, answer
        items = json.loads(answer)["items"]
    refusal = {"create": {"status": 429, "error": {"type": "rejected_execution_exception", "reason": "queue is full"}}}
    answered = [items.pop(0) if take else refusal for take in taken]
    return 200, json.dumps({"errors": True, "items": answered}).encode()


class Trouble:
    """Each of these in turn, and a request that passes between two of them."""

    def __init__(self) -> None:
        self._turns = itertools.cycle([busy, passing, lost, passing, throttled, passing])
        self._lock = threading.Lock()
        self.seen: Counter[str] = Counter()

    def __call__(self, body: bytes, forward: Callable[[bytes], Answer]) -> Answer | None:
        with self._lock:
            fault = next(self._turns)
            self.seen[fault.__name__] += 1
        return fault(body, forward)


class Holding:
    """Passes on some requests, and lets the next one wait, stored and unanswered, until it is let go."""

    def __init__(self, passes: int) -> None:
        self._passes = passes
        self._lock = threading.Lock()
        self.held = threading.Event()
        self.released = threading.Event()

    def __call__(self, body: bytes, forward: Callable[[bytes], Answer]) -> Answer | None:
        with self._lock:
            self._passes -= 1
            passes = self._passes >= 0
        answer = forward(body)
        if passes:
            return answer
        self.held.set()
        self.released.wait()
        return None


class Proxy:
    def __init__(self, url: str) -> None:
        self.fault: Fault = passing
        self.statuses: Counter[int] = Counter()
        self.bytes_max = 0
        parts = urlsplit(url)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                # What the job says of itself is not what faults are about.
                bulk = self.path.startswith("/_bulk") and b'"_index": "outrider-status-' not in body[:60]
                answer = (proxy.fault if bulk else passing)(body, self.forward)
                if answer is None:
                    self.close_connection = True
                    return
                if bulk:
                    proxy.note(body, answer)
                self.send_response(answer[0])
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer[1])))
                self.end_headers()
                self.wfile.write(answer[1])

            do_GET = do_PUT = do_POST = handle_any

            def forward(self, body: bytes) -> Answer:
                connection = HTTPConnection(parts.hostname or "", parts.port, timeout=60)
                try:
                    connection.request(self.command, self.path, body, {"Content-Type": self.headers.get("Content-Type") or "application/json"})
                    response = connection.getresponse()
                    return response.status, response.read()
                except OSError as error:
                    return 502, str(error).encode()
                finally:
                    connection.close()

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A job that was killed has hung up."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def note(self, body: bytes, answer: Answer) -> None:
        self.bytes_max = max(self.bytes_max, len(body))
        if answer[0] == 200:
            self.statuses.update(next(iter(item.values()))["status"] for item in json.loads(answer[1])["items"])

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
