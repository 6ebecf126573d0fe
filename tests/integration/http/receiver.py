"""Accepts what is posted to it, and misbehaves as told on its standard input: a fault and a count per line.

Prints its port first, and a second one with TLS if it is given a file with a key and a certificate. GET / answers with what it has accepted, GET /seen with all requests in their order.
"""

import gzip
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock = threading.Lock()
accepted, seen, faults = [], [], []
body_max = None


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        with lock:
            self.answer(200, json.dumps(accepted if self.path == "/" else seen).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.headers.get("Content-Encoding") == "zstd":
            # The standard library cannot decompress it; the test does.
            with lock:
                accepted.append({"zstd": list(body)})
            self.answer(200)
            return
        text = body.decode()
        array = self.headers["Content-Type"] == "application/json"
        records = json.loads(text) if array else [json.loads(line) for line in text.splitlines()]
        with lock:
            fault = faults.pop(0) if faults else "none"
            if body_max is not None and len(body) > body_max:
                fault = "413"
            entry = {"fault": fault, "at": time.monotonic(), "bytes": len(body), "token": self.headers.get("X-Token")}
            seen.append(entry)
            if fault in ("none", "lost"):
                accepted.append({"path": self.path, "body": records})
        if fault == "none":
            self.answer(200)
        elif fault == "lost":
            self.close_connection = True
        elif fault == "hang":
            time.sleep(4)
            self.close_connection = True
        elif fault == "429":
            self.answer(429, b"slow down", [("Retry-After", "2")])
        else:
            token = self.headers.get("X-Token")
            self.answer(int(fault), f"no\nroom for {token}".encode() if token else b"no\nroom")

    def log_message(self, *arguments):
        pass


def obey():
    global body_max
    for line in sys.stdin:
        word, count = line.split()
        with lock:
            if word == "body_max":
                body_max = int(count)
            else:
                faults.extend([word] * int(count))
        print("ok", flush=True)
    # The test is over.
    server.shutdown()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        # Whoever goes away, or does not trust the certificate, is part of the tests.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, address)


server = Server(("127.0.0.1", 0), Receiver)
ports = [server.server_address[1]]
if len(sys.argv) > 1:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    with_tls = Server(("127.0.0.1", 0), Receiver)
    # Each handshake on the thread of its connection.
    with_tls.socket = context.wrap_socket(with_tls.socket, server_side=True, do_handshake_on_connect=False)
    ports.append(with_tls.server_address[1])
    threading.Thread(target=with_tls.serve_forever, daemon=True).start()
print(*ports, flush=True)
threading.Thread(target=obey, daemon=True).start()
server.serve_forever()
