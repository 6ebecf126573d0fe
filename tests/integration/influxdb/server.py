"""Takes points as InfluxDB 1, 2 and 3 and VictoriaMetrics do, and misbehaves as told on its standard input: a word and a number per line.

Prints its port first. It reads line protocol by a parser of its own, which takes nothing that is not by the rules. GET /points answers with what it has stored, GET /seen with
all writes in their order.
"""

import gzip
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

lock = threading.Lock()
points, seen, faults = {}, [], []
# Points before this are too old; those of this device are of another type, until that is mended.
limits = {"oldest_ms": None, "body_max": None, "mended": None}
POISONED = "poisoned"
TOKENS = {"/write": None, "/api/v2/write": "Token t0k3n-of-ours", "/api/v3/write_lp": "Bearer t0k3n-of-ours"}
PRECISIONS = {"ns": 1, "nanosecond": 1, "ms": 1_000_000}

NAME = r"(?:[^,= \\]|\\[,= ])+"
MEASUREMENT = r"(?:[^,# \\]|\\[, ])(?:[^, \\]|\\[, ])*"
NUMBER = r"-?[0-9]+\.[0-9]+(?:e[+-][0-9]+)?"
TEXT = r'"(?:[^"\\]|\\["\\])*"'
LINE = re.compile(rf"({MEASUREMENT})((?:,{NAME}={NAME})*) ({NAME}=(?:{NUMBER}|{TEXT})(?:,{NAME}=(?:{NUMBER}|{TEXT}))*) (-?[0-9]+)")


class BadLine(Exception):
    pass


def plain(name):
    return re.sub(r"\\([,= ])", r"\1", name)


def parsed(line, precision):
    match = LINE.fullmatch(line)
    if not match:
        raise BadLine(f"unable to parse '{line}'")
    measurement, tags, fields, at = match.groups()
    tags = [tuple(map(plain, pair)) for pair in re.findall(rf",({NAME})=({NAME})", tags)]
    fields = [(plain(key), value) for key, value in re.findall(rf"({NAME})=({NUMBER}|{TEXT})", fields)]
    if len(dict(tags)) < len(tags) or len(dict(fields)) < len(fields) or set(dict(tags)) & set(dict(fields)):
        raise BadLine(f"twice the same name in '{line}'")
    values = {key: json.loads(value) if value[0] == '"' else float(value) for key, value in fields}
    return {"measurement": plain(measurement), "tags": dict(tags), "fields": values, "time": int(at) * precision}


def refusal(line, precision):
    """Why a line is not stored; its point otherwise."""
    try:
        point = parsed(line, precision)
    except BadLine as error:
        return str(error), None
    if point["tags"].get("device") == POISONED and not limits["mended"]:
        return 'field type conflict: input field "value" is type float, already exists as type integer', None
    if limits["oldest_ms"] is not None and point["time"] < limits["oldest_ms"] * 1_000_000:
        return "old", None
    return None, point


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        with lock:
            if self.path.startswith("/api/v3/query_sql"):
                self.answer(200 if self.headers.get("Authorization") == TOKENS["/api/v3/write_lp"] else 401)
            else:
                self.answer(200, json.dumps(list(points.values()) if self.path == "/points" else seen).encode())

    def do_POST(self):
        url = urlsplit(self.path)
        query = {key: value for key, (value,) in parse_qs(url.query).items()}
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with lock:
            fault = faults.pop(0) if faults and body else "none"
            if limits["body_max"] is not None and len(body) > limits["body_max"]:
                fault = "413"
            lines = body.decode().split("\n")
            assert lines.pop() == "", "the last line has its end"
            seen.append({"fault": fault, "path": url.path, "query": query, "lines": len(lines), "at": time.monotonic()})
            if fault not in ("none", "lost"):
                answer = self.refused(fault)
            elif TOKENS[url.path] is not None and self.headers.get("Authorization") != TOKENS[url.path]:
                answer = (401, {"code": "unauthorized", "message": f"unauthorized access with {self.headers.get('Authorization')}"})
            elif query.get("db", "fleet") != "fleet":
                answer = (404, {"error": f"database not found: {query['db']!r}"})
            else:
                answer = self.written(url.path, lines, PRECISIONS[query["precision"]])
        if fault == "lost":
            self.close_connection = True
        elif fault == "hang":
            time.sleep(3)
            self.close_connection = True
        else:
            status, content = answer
            self.answer(status, json.dumps(content).encode() if content else b"", [("Retry-After", "1")] if status == 429 else [])

    def refused(self, fault):
        if fault == "hang":
            return None
        return int(fault), {"error": "no\nroom"}

    def written(self, path, lines, precision):
        judged = [refusal(line, precision) for line in lines]
        for reason, point in judged:
            if reason is None:
                # A series has one value a timestamp.
                points[point["measurement"], json.dumps(point["tags"], sort_keys=True), point["time"]] = point
        refused = [(number, reason) for number, (reason, _) in enumerate(judged, 1) if reason]
        if not refused:
            return 204, None
        if path == "/api/v3/write_lp":
            data = [{"original_line": lines[number - 1][:20], "line_number": number, "error_message": reason} for number, reason in refused]
            return 400, {"error": "partial write of line protocol occurred", "data": data}
        other = [reason for _, reason in refused if reason != "old"]
        if path == "/api/v2/write":
            if other:
                return 422, {"code": "unprocessable entity", "message": f"failure writing points to database: partial write: {other[0]} dropped={len(other)}"}
            message = f"partial write: dropped {len(refused)} points outside retention policy of duration 24h0m0s - oldest point x dropped={len(refused)} for database: 1"
            return 422, {"code": "unprocessable entity", "message": f"failure writing points to database: {message}"}
        return 400, {"error": f"partial write: {other[0] if other else 'points beyond retention policy'} dropped={len(other) or len(refused)}"}

    def log_message(self, *arguments):
        pass


def obey():
    for line in sys.stdin:
        word, number = line.split()
        with lock:
            if word in limits:
                limits[word] = int(number)
            else:
                faults.extend([word] * int(number))
        print("ok", flush=True)
    # The test is over.
    server.shutdown()


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        # Whoever goes away is part of the tests.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, address)


server = Quiet(("127.0.0.1", 0), Server)
print(server.server_address[1], flush=True)
threading.Thread(target=obey, daemon=True).start()
server.serve_forever()
