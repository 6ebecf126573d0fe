"""Who the job is to OpenSearch, and which OpenSearch it trusts."""

import base64
import re
import ssl
import subprocess
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest import mock

import bulk
from bulk import Client, Halt, Reply, Target
from programs import binary


class Server:
    """Answers all with 200, and keeps what it was asked."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[str, str | None]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append((self.path, self.headers.get("Authorization")))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(HTTPServer):
            def handle_error(self, *_: object) -> None:
                """A client that does not trust us hangs up."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Connection(unittest.TestCase):
    def test_user_and_password_go_along_and_so_does_a_path(self) -> None:
        server = Server()
        self.addCleanup(server.end)
        client = Client(Target(f"http://{server.address}/search/", "job", "p:w"))
        self.assertEqual(client.request("GET", "/_index_template/x"), Reply(200, b""))
        client.close()
        Client(Target(f"http://{server.address}")).request("GET", "/y")
        self.assertEqual(server.asked, [("/search/_index_template/x", "Basic " + base64.b64encode(b"job:p:w").decode()), ("/y", None)])

    def test_only_a_certificate_of_the_given_ca_is_trusted(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        subprocess.run([binary("outrider"), "cert", "init", folder, "--host", "127.0.0.1"], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        server = Server(context)
        self.addCleanup(server.end)
        url = f"https://{server.address}"
        self.assertEqual(Client(Target(url, ca=(folder / "ca.pem").read_text())).request("GET", "/x"), Reply(200, b""))
        with self.assertRaisesRegex(Halt, "certificate of OpenSearch is not to be trusted"):
            Client(Target(url)).request("GET", "/x")
        self.assertEqual(len(server.asked), 1)

    def test_what_is_no_address_says_so(self) -> None:
        for url in ("search.example.com:9200", "ftp://search.example.com", "https://"):
            with self.assertRaisesRegex(Halt, "no address of OpenSearch"):
                Client(Target(url))


class Signing(unittest.TestCase):
    def test_requests_to_amazon_are_signed_for_their_region(self) -> None:
        keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}
        with mock.patch.dict("os.environ", keys):
            headers = Client(Target("https://search.example.com", aws_region="eu-central-1"))._signed(
                "POST", bulk.BULK, b"body", {"Content-Type": "x"}
            )
        self.assertTrue(re.match(r"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/\d{8}/eu-central-1/es/aws4_request, ", headers["Authorization"]))
        self.assertEqual((headers["X-Amz-Security-Token"], headers["Content-Type"]), ("token", "x"))

    def test_without_credentials_it_says_so(self) -> None:
        with mock.patch.dict(
            "os.environ", {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
        ):
            with self.assertRaisesRegex(Halt, "no AWS credentials"):
                Client(Target("https://search.example.com", aws_region="eu-central-1"))._signed("GET", "/", None, {})


if __name__ == "__main__":
    unittest.main()
