"""What the fakes of services share: a server on a free port, whose port is printed first, and orders on standard input, each answered by a line."""

import gzip
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        encoding = self.headers.get("Content-Encoding")
        if encoding not in (None, "gzip"):
            raise ValueError(f"Content-Encoding {encoding}")
        return gzip.decompress(body) if encoding else body

    def answer(self, status, body, headers=()):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        # Whoever goes away is part of the tests.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, address)


def serve(handler, obey):
    """Serves until standard input ends; `obey` gets the words of each order, under the lock."""
    server = Server(("127.0.0.1", 0), handler)

    def read_orders():
        for line in sys.stdin:
            with lock:
                obey(*line.split())
            print("ok", flush=True)
        server.shutdown()

    print(server.server_address[1], flush=True)
    threading.Thread(target=read_orders, daemon=True).start()
    server.serve_forever()
