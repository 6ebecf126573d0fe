"""A cluster that takes _bulk as OpenSearch does, is stricter than it, and misbehaves as told on its standard input: a word and a count per line.

Prints its port first. GET /docs answers with all documents, GET /seen with the requests in their order. Whatever OpenSearch would refuse as a whole, and what is
not as the gateway promises it, is answered by 400 and told by /seen as "wrong". Documents with POISON in them do not fit its mapping.

A document with RED in it is for a shard that is not there while "red" is on; with "most" on, one of ten fits; "forget" takes a stored document away; "ahead" is by how many seconds
its clock is ahead, against which it holds signatures; with "mute" on, nobody may ask who it is.

With the folder of a certificate in CLUSTER_CERTIFICATE, it speaks TLS. Its arguments: "basic USER PASSWORD", "key KEY", or "aws REGION SERVICE ACCESS_KEY SECRET", whose signature it computes by itself.
"""

import base64
import calendar
import gzip
import hashlib
import hmac
import json
import os
import re
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, urlsplit

lock = threading.Lock()
documents, seen, faults = {}, [], []
switches = {"body_max": 1 << 62, "refuse_all": 0, "most": 0, "blocked": 0, "red": 0, "ahead": 0, "mute": 0}
login = sys.argv[1:]


class Wrong(Exception):
    pass


def expect(condition, what):
    if not condition:
        raise Wrong(what)


def signature(method, target, headers, body, date, signed):
    """By the documentation of AWS."""
    region, service, _, secret = login[1:]
    url = urlsplit(target)
    query = "&".join(sorted(f"{quote(name, '-_.~')}={quote(value, '-_.~')}" for name, value in parse_qsl(url.query, True)))
    # Every service but S3 has the path encoded a second time.
    path = quote(url.path, "/-_.~")
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in signed)
    request = "\n".join([method, path, query, lines, ";".join(signed), hashlib.sha256(body).hexdigest()])
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def is_let_in(method, target, headers, body):
    said = headers.get("Authorization", "")
    if not login:
        return said == ""
    if login[0] == "basic":
        return said == "Basic " + base64.b64encode(f"{login[1]}:{login[2]}".encode()).decode()
    if login[0] == "key":
        return said == f"ApiKey {login[1]}"
    found = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d+)/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([^,]+), Signature=(\w+)", said)
    if not found or found.group(1) != login[3] or [found.group(3), found.group(4)] != login[1:3]:
        return False
    signed = found.group(5).split(";")
    if not {"host", "x-amz-date", "x-amz-content-sha256", "content-type"} <= set(signed):
        return False
    if headers["x-amz-content-sha256"] != hashlib.sha256(body).hexdigest():
        return False
    return hmac.compare_digest(found.group(6), signature(method, target, headers, body, headers["x-amz-date"], signed))


def parse(body):
    """Pairs of index, id and document. Raises what is wrong."""
    expect(body.endswith(b"\n"), "the body does not end with a line feed")
    lines = body.decode().split("\n")[:-1]
    expect(len(lines) % 2 == 0, "an action without a document")
    pairs = []
    for action, text in zip(lines[::2], lines[1::2]):
        found = json.loads(action)
        expect(list(found) == ["create"] and set(found["create"]) == {"_index", "_id"}, f"not a create: {action}")
        index, name = found["create"]["_index"], found["create"]["_id"]
        expect(re.fullmatch(r"[a-z0-9][a-z0-9._+-]{0,254}", index), f"not an index: {index}")
        expect(len(name.encode()) <= 512, "the id is too long")
        document = json.loads(text)
        time_at = document.pop("@timestamp")
        expect(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time_at), f"not a time: {time_at}")
        run = f"{document['gateway']}.{document['run']}"
        expect(name.startswith(run + ".") and name.endswith(f".{document['position']}"), f"not its id: {name}")
        received = document.get("received_at_ms", document.get("updated_at_ms", document.get("at_ms")))
        day = time.strftime("%Y.%m.%d", time.gmtime(received / 1000))
        expect(index.endswith(f"-{day}"), f"not its day: {index}")
        pairs.append((index, name, document, text))
    expect(pairs, "no requests added")
    return pairs


def error(kind, reason):
    return {"type": kind, "reason": reason}


def take(index, name, document, text, busy):
    if switches["blocked"]:
        return 403, error("cluster_block_exception", f"index [{index}] blocked by: [FORBIDDEN/8/index write (api)];")
    if switches["red"] and "RED" in text:
        return 503, error("unavailable_shards_exception", f"[{index}][0] primary shard is not active Timeout: [1m]")
    if busy:
        return 429, error("es_rejected_execution_exception", "rejected execution of primary operation")
    if (index, name) in documents:
        return 409, error("version_conflict_engine_exception", f"[{name}]: version conflict, document already exists (current version [1])")
    is_refused = switches["refuse_all"] or (switches["most"] and document["position"] % 10 != 0)
    if is_refused or "POISON" in text:
        return 400, error("mapper_parsing_exception", f"failed to parse field [attributes.note] of type [date] in document with id '{name}'. Preview of field's value: 'POISON'")
    documents[index, name] = document
    return 201, None


class Cluster(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def date_time_string(self, timestamp=None):
        return super().date_time_string((timestamp or time.time()) + switches["ahead"])

    def has_right_time(self):
        date = self.headers.get("x-amz-date")
        if date is None:
            return True
        signed = calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
        return abs(signed - time.time() - switches["ahead"]) < 300

    def answer(self, status, body, headers=(), cut=0):
        body = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) - cut])
        self.close_connection = self.close_connection or cut > 0

    def do_GET(self):
        with lock:
            if self.path == "/docs":
                self.answer(200, [[index, name, document] for (index, name), document in documents.items()])
            elif self.path == "/seen":
                self.answer(200, seen)
            elif not is_let_in("GET", self.path, self.headers, b""):
                self.answer(401, {"error": error("security_exception", "missing authentication credentials"), "status": 401})
            elif switches["mute"]:
                self.answer(403, {"error": error("security_exception", "no permissions for [cluster:monitor/main]"), "status": 403})
            else:
                self.answer(200, {"version": {"distribution": "opensearch", "number": "2.19.6"}})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        url = urlsplit(self.path)
        if not self.has_right_time():
            # As OpenSearch Serverless says it.
            reason = "Customer authentication failed: ... Code=InvalidSignature"
            with lock:
                seen.append({"fault": "late", "bytes": 0, "ids": [], "known": 0})
            self.answer(403, {"status": 403, "request-id": "x", "error": {"reason": reason, "type": "AccessDenied"}})
            return
        if not is_let_in("POST", self.path, self.headers, body):
            said = self.headers.get("Authorization", "").split(" ")[-1]
            self.answer(401, {"error": error("security_exception", f"unable to authenticate with {said}"), "status": 401})
            return
        if url.path.startswith("/_index_template/_simulate_index/"):
            self.answer(200, {})
            return
        if "require_alias" in url.query:
            refusal = {"_id": "doctor", "status": 404, "error": error("index_not_found_exception", "is not an alias")}
            self.answer(200, {"errors": True, "items": [{"create": refusal}]})
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with lock:
            fault = faults.pop(0) if faults else "none"
            if len(body) > switches["body_max"]:
                fault = "413"
        if fault == "hang":
            with lock:
                seen.append({"fault": fault, "bytes": len(body), "ids": [], "known": 0})
            time.sleep(4)
            self.close_connection = True
            return
        if switches["red"] and b"RED" in body:
            # For so long a cluster waits for a shard.
            wait = dict(parse_qsl(url.query)).get("timeout", "60000ms")
            time.sleep(int(wait.removesuffix("ms")) / 1000)
        with lock:
            self.bulk(body, fault)

    def bulk(self, body, fault):
        request = {"fault": fault, "bytes": len(body), "ids": [], "known": 0}
        seen.append(request)
        if fault.isdigit():
            self.answer(int(fault), {"error": error("never_heard_of", "busy"), "status": int(fault)}, [("Retry-After", "1")] if fault == "429" else ())
            return
        try:
            pairs = parse(body)
        except (Wrong, ValueError, KeyError, AttributeError, TypeError) as wrong:
            request["wrong"] = f"{type(wrong).__name__}: {wrong}"
            self.answer(400, {"error": error("illegal_argument_exception", str(wrong)), "status": 400})
            return
        request["ids"] = [name for _, name, _, _ in pairs]
        if fault == "html":
            self.answer(200, b"<html>Please log in to this network.</html>", [("Content-Type", "text/html")])
            return
        if fault == "page":
            self.answer(200, b"<html>" + b"x" * (2 << 20), [("Content-Type", "text/html")])
            return
        if fault == "foreign":
            # As if the answer to another request came, of which each document was stored.
            self.answer(200, {"errors": False, "items": [{"create": {"_id": name + "0", "status": 201}} for name in request["ids"]]})
            return
        items = []
        for at, (index, name, document, text) in enumerate(pairs):
            status, problem = take(index, name, document, text, fault == "throttle" and at % 2 == 1)
            request["known"] += status == 409
            items.append({"create": {"_id": name, "status": status} | ({"error": problem} if problem else {})})
        if fault == "lost":
            self.close_connection = True
            return
        if fault == "short":
            items.pop()
        if fault == "swapped":
            items.reverse()
        self.answer(200, {"errors": True, "items": items}, cut=20 if fault == "cut" else 0)

    def log_message(self, *arguments):
        pass


def obey():
    for line in sys.stdin:
        word, count = line.split()
        with lock:
            if word in switches:
                switches[word] = int(count)
            elif word == "forget":
                for key in [key for key in documents if key[0].startswith("outrider-raw-")][: int(count)]:
                    del documents[key]
            else:
                faults.extend([word] * int(count))
        print("ok", flush=True)
    # The test is over.
    server.shutdown()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        # Whoever goes away is part of the tests.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, address)


server = Server(("127.0.0.1", 0), Cluster)
if folder := os.environ.get("CLUSTER_CERTIFICATE"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/server.pem", f"{folder}/server.key")
    # Each handshake on the thread of its connection.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
threading.Thread(target=obey, daemon=True).start()
server.serve_forever()
