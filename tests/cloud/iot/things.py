"""The AWS IoT broker of the emulator, certificates of things, a client that collects messages, and the link before the broker."""

import json
import shlex
import socket
import ssl
import threading
import urllib.request
from pathlib import Path
from typing import Any

from emulated import Emulator
from programs import free_ports, wait_for
from publishing import packet, text

ALPN = "x-amzn-mqtt-ca"
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}


class Cloud:
    """The emulator with its broker at a fixed port. What it knows of things outlives it, sessions of clients do not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.port,) = free_ports(1)
        self.start()
        self.iot = self.emulator.client("iot")
        self.iot.create_policy(policyName="gateways", policyDocument=json.dumps(EVERYTHING))
        self.ca = folder / "ca.pem"
        with urllib.request.urlopen(f"{self.emulator.url}/_ministack/iot/ca.pem", timeout=30) as answer:
            self.ca.write_bytes(answer.read())

    def start(self) -> None:
        self.emulator = Emulator(
            self.folder,
            shlex.quote(str(Path(__file__).parent / "on_loopback.py")),
            IOT_MTLS_ENABLED="1",
            IOT_MTLS_PORT=str(self.port),
            PERSIST_STATE="1",
            STATE_DIR=str(self.folder / "state-of-aws"),
        )
        wait_for("the broker", self._listens)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True

    def end(self) -> None:
        self.emulator.end()

    def thing(self, name: str) -> "Thing":
        """With a certificate of its own that a policy is attached to."""
        made = self.iot.create_keys_and_certificate(setAsActive=True)
        self.iot.create_thing(thingName=name)
        self.iot.attach_policy(policyName="gateways", target=made["certificateArn"])
        self.iot.attach_thing_principal(thingName=name, principal=made["certificateArn"])
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_text(made["certificatePem"])
        key.write_text(made["keyPair"]["PrivateKey"])
        key.chmod(0o600)
        return Thing(name, self.ca, certificate, key, made["certificateId"])

    def publish(self, topic: str, payload: dict[str, Any]) -> None:
        """As a program in the cloud does it."""
        self.emulator.client("iot-data").publish(topic=topic, qos=1, payload=json.dumps(payload).encode())


class Thing:
    def __init__(self, name: str, ca: Path, certificate: Path, key: Path, certificate_id: str) -> None:
        self.name, self.ca, self.certificate, self.key, self.certificate_id = name, ca, certificate, key, certificate_id

    def login(self, port: int, version: str) -> str:
        """The keys of a sink or a bridge that connects as this thing."""
        return (
            f'url = "mqtts://127.0.0.1:{port}"\nversion = "{version}"\nclient_id = "{self.name}"\nlimits = "aws-iot"\nalpn = ["{ALPN}"]\n'
            f'ca = "{self.ca}"\ncertificate = "{self.certificate}"\nkey = "{self.key}"\n'
        )

    def connection(self, port: int) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.certificate, self.key)
        context.set_alpn_protocols([ALPN])
        return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=60), server_hostname="127.0.0.1")


class Subscriber:
    """A client of MQTT 3.1.1 that takes everything of a filter at QoS 1, until its connection ends."""

    def __init__(self, connection: socket.socket, name: str, topics: str) -> None:
        self.connection, self.replies = connection, connection.makefile("rb")
        self.messages: list[tuple[str, bytes]] = []
        self.pings = 0
        self.connection.sendall(packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text(name)))
        assert self._read() == (0x20, b"\x00\x00"), "the connection is refused"
        self.connection.sendall(packet(0x82, b"\x00\x01" + text(topics) + b"\x01"))
        assert self._read() == (0x90, b"\x00\x01\x01"), "the filter is refused"
        self.connection.settimeout(None)
        threading.Thread(target=self._collect, daemon=True).start()

    def _read(self) -> tuple[int, bytes]:
        kind, length, shift = self._exactly(1)[0], 0, 0
        while True:
            byte = self._exactly(1)[0]
            length, shift = length | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        read = self.replies.read(count)
        if len(read) < count:
            raise EOFError
        return read

    def _collect(self) -> None:
        try:
            while True:
                kind, body = self._read()
                if kind == 0xD0:
                    self.pings += 1
                if kind & 0xF0 != 0x30:
                    continue
                end = 2 + int.from_bytes(body[:2], "big")
                topic, rest = body[2:end].decode(), body[end:]
                if kind & 0x06:
                    self.connection.sendall(packet(0x40, rest[:2]))
                    rest = rest[2:]
                self.messages.append((topic, rest))
        except (OSError, EOFError, ValueError):
            pass

    def has_all(self) -> None:
        """What the broker had for it before is there."""
        before = self.pings
        self.connection.sendall(b"\xc0\x00")
        wait_for("the answer to a ping", lambda: self.pings > before)

    def end(self) -> None:
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.connection.close()


class Link:
    """What lies between the gateway and the broker: it is there or not, and has seen how the last connection began."""

    def __init__(self, target: int) -> None:
        self.target, self.is_up, self.hello = target, True, b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def down(self) -> None:
        self.is_up = False
        while self.open:
            _end(self.open.pop())

    def up(self) -> None:
        self.is_up = True

    def close(self) -> None:
        self.down()
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                _end(client)
                continue
            self.open += [client, server]
            if not self.is_up:
                self.down()
                continue
            for source, to, is_first in [(client, server, True), (server, client, False)]:
                threading.Thread(target=self._pass_on, args=(source, to, is_first), daemon=True).start()

    def _pass_on(self, source: socket.socket, to: socket.socket, is_first: bool) -> None:
        try:
            while some := source.recv(1 << 16):
                if is_first:
                    self.hello, is_first = some, False
                to.sendall(some)
        except OSError:
            pass
        _end(source)
        _end(to)


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()
