"""What users of paho-mqtt do, against the gateway on the given port. Exits 0 if all of it works."""

import queue
import socket
import struct
import sys

import paho.mqtt.client as mqtt

PORT = int(sys.argv[1])
DEADLINE_S = 30


class Client:
    """A paho client whose events can be waited for."""

    def __init__(self, client_id, clean=True, keepalive=60, will=None, protocol=mqtt.MQTTv311):
        clean_session = clean if protocol == mqtt.MQTTv311 else None
        self.mqtt = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=clean_session, protocol=protocol
        )
        self.keepalive = keepalive
        self.connected, self.messages, self.granted, self.gone = (queue.Queue() for _ in range(4))
        self.removed = queue.Queue()
        self.mqtt.on_connect = lambda _c, _u, flags, code, _p: self.connected.put((flags.session_present, code))
        self.mqtt.on_message = lambda _c, _u, message: self.messages.put(message)
        self.mqtt.on_subscribe = lambda _c, _u, _mid, codes, _p: self.granted.put([code.value for code in codes])
        self.mqtt.on_unsubscribe = lambda _c, _u, _mid, _codes, _p: self.removed.put(True)
        self.mqtt.on_disconnect = lambda _c, _u, _flags, code, _p: self.gone.put(code)
        if will is not None:
            self.mqtt.will_set(*will)

    def start(self):
        """Connects once: paho must not reconnect by itself during the test."""
        self.mqtt.connect("127.0.0.1", PORT, self.keepalive)
        self.mqtt.loop_start()
        session_present, code = self.connected.get(timeout=DEADLINE_S)
        assert not code.is_failure, code
        return session_present

    def subscribe(self, *filters):
        self.mqtt.subscribe(list(filters))
        return self.granted.get(timeout=DEADLINE_S)

    def publish(self, topic, payload, qos=1, retain=False):
        self.mqtt.publish(topic, payload, qos, retain).wait_for_publish(DEADLINE_S)

    def receive(self):
        message = self.messages.get(timeout=DEADLINE_S)
        return message.topic, message.payload, message.qos, bool(message.retain)

    def end(self):
        self.mqtt.disconnect()
        self.mqtt.loop_stop()

    def drop(self):
        """Closes the socket without a DISCONNECT."""
        self.mqtt.loop_stop()
        self.mqtt.socket().shutdown(socket.SHUT_RDWR)
        self.mqtt.socket().close()


def expect(got, wanted):
    assert got == wanted, f"got {got}, wanted {wanted}"


def both_qualities_and_unsubscribe():
    subscriber, publisher = Client("subscriber", keepalive=0), Client("publisher")
    expect(subscriber.start(), False)
    publisher.start()
    expect(subscriber.subscribe(("devices/+/t", 1), ("other/#", 0), ("two", 2), ("$SYS/#", 0)), [1, 0, 1, 128])
    publisher.publish("devices/a/t", b"1.0")
    expect(subscriber.receive(), ("devices/a/t", b"1.0", 1, False))
    publisher.publish("devices/a/t", b"2.0", qos=0)
    expect(subscriber.receive(), ("devices/a/t", b"2.0", 0, False))
    publisher.publish("other/x", b"3.0")
    expect(subscriber.receive(), ("other/x", b"3.0", 0, False))
    subscriber.mqtt.unsubscribe("devices/+/t")
    subscriber.removed.get(timeout=DEADLINE_S)
    publisher.publish("devices/a/t", b"4.0")
    publisher.publish("two", b"5.0")
    expect(subscriber.receive(), ("two", b"5.0", 1, False))
    # {"temperature": 21.5, "fw": "1.2"} in CBOR.
    cbor = b"\xa2\x6btemperature\xf9" + struct.pack(">e", 21.5) + b"\x62fw\x631.2"
    publisher.publish("devices/cbor", cbor)
    for client in (subscriber, publisher):
        client.end()


def retained_and_its_removal():
    publisher = Client("publisher")
    publisher.start()
    publisher.publish("state/a", b"on", retain=True)
    for wanted in ([("state/a", b"on", 1, True)], []):
        late = Client("late")
        late.start()
        late.subscribe(("state/#", 1), ("end", 0))
        publisher.publish("end", b"")
        expect([late.receive() for _ in range(len(wanted) + 1)], [*wanted, ("end", b"", 0, False)])
        late.end()
        publisher.publish("state/a", b"", retain=True)
    publisher.end()


def will_and_keepalive():
    watcher = Client("watcher")
    watcher.start()
    watcher.subscribe(("wills/#", 1))
    rude = Client("rude", will=("wills/rude", b"gone", 1, True))
    rude.start()
    rude.drop()
    expect(watcher.receive(), ("wills/rude", b"gone", 1, False))
    polite = Client("polite", will=("wills/polite", b"gone", 1, False))
    polite.start()
    polite.end()
    silent = Client("silent", keepalive=1, will=("wills/silent", b"gone", 1, False))
    silent.start()
    # Its loop is stopped, so it sends no more pings.
    silent.mqtt.loop_stop()
    expect(watcher.receive(), ("wills/silent", b"gone", 1, False))
    lively = Client("lively", keepalive=1)
    lively.start()
    # Longer than its own keep-alive: another client's has expired meanwhile.
    silent = Client("silent", keepalive=2, will=("wills/silent", b"again", 1, False))
    silent.start()
    silent.mqtt.loop_stop()
    expect(watcher.receive(), ("wills/silent", b"again", 1, False))
    assert lively.mqtt.is_connected(), "pings keep a connection"
    for client in (watcher, lively):
        client.end()


def takeover():
    first, second = Client("same"), Client("same")
    first.start()
    # It would reconnect at once, and take over the client id again.
    first.mqtt.on_disconnect = lambda client, _u, _flags, code, _p: (client.disconnect(), first.gone.put(code))
    second.start()
    first.gone.get(timeout=DEADLINE_S)
    second.publish("devices/a/t", b"1.0")
    second.end()


def session_across_a_reconnect():
    keeper, publisher = Client("keeper", clean=False), Client("publisher")
    expect(keeper.start(), False)
    keeper.subscribe(("queued/#", 1))
    keeper.end()
    publisher.start()
    for n in range(200):
        publisher.publish("queued/t", str(n).encode())
    publisher.publish("queued/t", b"not kept", qos=0)
    keeper = Client("keeper", clean=False)
    expect(keeper.start(), True)
    for n in range(200):
        expect(keeper.receive(), ("queued/t", str(n).encode(), 1, False))
    keeper.end()
    expect(Client("keeper", clean=True).start(), False)
    publisher.end()


def what_is_not_served():
    exactly_once = Client("exactly-once")
    exactly_once.mqtt.on_disconnect = lambda client, _u, _f, code, _p: (client.disconnect(), exactly_once.gone.put(code))
    exactly_once.start()
    exactly_once.mqtt.publish("devices/a/t", b"1.0", 2)
    exactly_once.gone.get(timeout=DEADLINE_S)
    five = Client("five", protocol=mqtt.MQTTv5)
    five.mqtt.connect("127.0.0.1", PORT)
    while five.connected.empty():
        five.mqtt.loop(1)
    _, code = five.connected.get()
    expect(str(code), "Unsupported protocol version")


for scenario in (
    both_qualities_and_unsubscribe,
    retained_and_its_removal,
    will_and_keepalive,
    takeover,
    session_across_a_reconnect,
    what_is_not_served,
):
    print(scenario.__name__, flush=True)
    scenario()
