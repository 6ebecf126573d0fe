"""What lies between a gateway and a broker: it counts Produce requests, keeps their answers back, and cuts connections."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

PRODUCE = 0
# The first in which the pause is followed by tagged fields.
FLEXIBLE_PRODUCE = 9


@dataclass
class Produced:
    """One Produce request."""

    at: float
    bytes: int
    answered_at: float = 0.0
    # What the broker asks for.
    throttle_ms: int = 0


class Link:
    """Listens on a port of its own, which the broker advertises as its own."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.produced: list[Produced] = []
        self.answers_pass = threading.Event()
        self.answers_pass.set()
        # An answer has come that is kept back: what was asked is done.
        self.kept_back = threading.Event()
        self.open: list[socket.socket] = []

    def lead_to(self, port: int) -> None:
        threading.Thread(target=self._accept, args=(port,), daemon=True).start()

    def keep_answers_back(self) -> None:
        self.kept_back.clear()
        self.answers_pass.clear()

    def cut(self) -> None:
        """Ends all connections, with the answers that are kept back; new ones are as usual."""
        while self.open:
            end(self.open.pop())
        self.answers_pass.set()

    def _accept(self, port: int) -> None:
        while True:
            client, _ = self.listener.accept()
            try:
                broker = socket.create_connection(("127.0.0.1", port))
            except OSError:
                end(client)
                continue
            self.open += [client, broker]
            asked: dict[int, tuple[Produced, int]] = {}
            for target, ends in [(self._requests, (client, broker)), (self._answers, (broker, client))]:
                threading.Thread(target=target, args=(*ends, asked), daemon=True).start()

    def _requests(self, client: socket.socket, broker: socket.socket, asked: dict[int, tuple[Produced, int]]) -> None:
        for frame in frames(client, broker):
            key, version, number = (int.from_bytes(frame[at : at + size]) for at, size in ((0, 2), (2, 2), (4, 4)))
            if key == PRODUCE:
                produced = Produced(time.monotonic(), len(frame))
                asked[number] = (produced, version)
                self.produced.append(produced)
            pass_on(frame, broker, client)

    def _answers(self, broker: socket.socket, client: socket.socket, asked: dict[int, tuple[Produced, int]]) -> None:
        for frame in frames(broker, client):
            produced, version = asked.pop(int.from_bytes(frame[:4]), (None, 0))
            if produced:
                # Behind it are the tagged fields, of which there are none as long as the leader stays.
                last = len(frame) - (1 if version >= FLEXIBLE_PRODUCE else 0)
                produced.throttle_ms = int.from_bytes(frame[last - 4 : last])
                if not self.answers_pass.is_set():
                    self.kept_back.set()
                    self.answers_pass.wait()
                produced.answered_at = time.monotonic()
            pass_on(frame, client, broker)


def frames(source: socket.socket, other: socket.socket) -> Iterator[bytes]:
    """Messages of Kafka's protocol, without their length, until the connection ends; then the other one ends, too."""
    while (head := read(source, 4)) and (frame := read(source, int.from_bytes(head))):
        yield frame
    end(source)
    end(other)


def read(source: socket.socket, count: int) -> bytes:
    found = b""
    try:
        while len(found) < count and (more := source.recv(count - len(found))):
            found += more
    except OSError:
        pass
    return found if len(found) == count else b""


def pass_on(frame: bytes, to: socket.socket, source: socket.socket) -> None:
    try:
        to.sendall(len(frame).to_bytes(4) + frame)
    except OSError:
        end(source)


def end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()
