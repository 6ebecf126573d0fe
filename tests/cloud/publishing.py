"""A device that publishes what no simulated one would: a client of MQTT 3.1.1 in a page."""

import socket
from collections.abc import Iterable


def publish(address: str, messages: Iterable[tuple[str, bytes]]) -> None:
    """Each at QoS 1, and the next one once it is acknowledged."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        replies = connection.makefile("rb")
        connection.sendall(packet(0x10, text("MQTT") + b"\x04\x02\x00\x3c" + text("publishing")))
        assert replies.read(4) == b"\x20\x02\x00\x00", "the connection is refused"
        for number, (topic, payload) in enumerate(messages):
            identifier = (number % 65_535 + 1).to_bytes(2, "big")
            connection.sendall(packet(0x32, text(topic) + identifier + payload))
            assert replies.read(4) == b"\x40\x02" + identifier, f"not acknowledged: {topic}"
        connection.sendall(b"\xe0\x00")


def text(content: str) -> bytes:
    encoded = content.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def packet(kind: int, body: bytes) -> bytes:
    length, left = bytearray(), len(body)
    while True:
        left, seven = left >> 7, left & 0x7F
        length.append(seven | (0x80 if left else 0))
        if not left:
            return bytes([kind]) + bytes(length) + body
