"""What users of paho-mqtt do, against the gateway on the given port: everything, or only what is named. Exits 0 if all of it works."""

import queue
import socket
import struct
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

PORT = int(sys.argv[1])
DEADLINE_S = 30


class Client:
    """A paho client whose events can be waited for."""

    def __init__(self, client_id, clean=True, keepalive=60, will=None, protocol=mqtt.MQTTv311, kept_s=None):
        clean_session = clean if protocol == mqtt.MQTTv311 else None
        self.mqtt = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=clean_session, protocol=protocol
        )
        self.keepalive, self.clean, self.properties = keepalive, clean, None
        if protocol == mqtt.MQTTv5:
            self.properties = properties(PacketTypes.CONNECT, SessionExpiryInterval=kept_s or 0)
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
        if self.properties is None:
            self.mqtt.connect("127.0.0.1", PORT, self.keepalive)
        else:
            self.mqtt.connect("127.0.0.1", PORT, self.keepalive, clean_start=self.clean, properties=self.properties)
        self.mqtt.loop_start()
        session_present, code = self.connected.get(timeout=DEADLINE_S)
        assert not code.is_failure, code
        return session_present

    def subscribe(self, *filters):
        self.mqtt.subscribe(list(filters))
        return self.granted.get(timeout=DEADLINE_S)

    def publish(self, topic, payload, qos=1, retain=False, **given):
        about = properties(PacketTypes.PUBLISH, **given) if given else None
        self.mqtt.publish(topic, payload, qos, retain, about).wait_for_publish(DEADLINE_S)

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


def properties(packet_type, **given):
    made = Properties(packet_type)
    for name, value in given.items():
        setattr(made, name, value)
    return made


def expect(got, wanted):
    assert got == wanted, f"got {got}, wanted {wanted}"


def both_qualities_and_unsubscribe():
    subscriber, publisher = Client("subscriber", keepalive=0), Client("publisher")
    expect(subscriber.start(), False)
    publisher.start()
    expect(subscriber.subscribe(("devices/+/t", 1), ("other/#", 0), ("two", 2), ("$share//x", 0)), [1, 0, 2, 128])
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


def exactly_once():
    subscriber, publisher = Client("subscriber"), Client("publisher")
    subscriber.start()
    publisher.start()
    subscriber.subscribe(("once/#", 2))
    for n in range(100):
        publisher.publish("once/t", str(n).encode(), qos=2)
    for n in range(100):
        expect(subscriber.receive(), ("once/t", str(n).encode(), 2, False))
    publisher.publish("once/t", b"lower", qos=1)
    expect(subscriber.receive(), ("once/t", b"lower", 1, False))
    for client in (subscriber, publisher):
        client.end()


def five(client_id, **options):
    return Client(client_id, protocol=mqtt.MQTTv5, **options)


def version_5_passes_on_what_the_publisher_says():
    subscriber, publisher, old = five("subscriber"), five("publisher"), Client("old")
    for client in (subscriber, publisher, old):
        client.start()
    subscriber.subscribe(("ask/#", SubscribeOptions(qos=2)))
    old.subscribe(("ask/#", 1))
    publisher.publish(
        "ask/a",
        b"?",
        qos=2,
        ResponseTopic="answers/me",
        CorrelationData=b"\x00\x07",
        ContentType="text/plain",
        PayloadFormatIndicator=1,
        MessageExpiryInterval=60,
        UserProperty=[("a", "1"), ("b", "2"), ("a", "3")],
    )
    message = subscriber.messages.get(timeout=DEADLINE_S)
    said = message.properties
    expect((said.ResponseTopic, said.CorrelationData, said.ContentType), ("answers/me", b"\x00\x07", "text/plain"))
    expect((said.PayloadFormatIndicator, said.UserProperty), (1, [("a", "1"), ("b", "2"), ("a", "3")]))
    assert 50 <= said.MessageExpiryInterval <= 60, said
    expect(old.receive(), ("ask/a", b"?", 1, False))
    for client in (subscriber, publisher, old):
        client.end()


def version_5_keeps_sessions_and_messages_as_long_as_it_is_told():
    keeper, publisher = five("keeper-5", clean=True, kept_s=60), five("publisher")
    expect(keeper.start(), False)
    publisher.start()
    keeper.subscribe(("kept/#", SubscribeOptions(qos=1)))
    keeper.end()
    publisher.publish("kept/t", b"soon useless", MessageExpiryInterval=1)
    publisher.publish("kept/t", b"of use", MessageExpiryInterval=600)
    time.sleep(1.1)
    keeper = five("keeper-5", clean=False)
    expect(keeper.start(), True)
    expect(keeper.receive(), ("kept/t", b"of use", 1, False))
    keeper.end()
    keeper = five("keeper-5", clean=False)
    expect(keeper.start(), False)
    keeper.end()
    publisher.end()


def version_5_subscribes_with_options():
    subscriber, publisher = five("subscriber"), five("publisher")
    subscriber.start()
    publisher.start()
    publisher.publish("opt/kept", b"old", retain=True)
    subscriber.subscribe(("opt/#", SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True, retainHandling=2)))
    subscriber.publish("opt/own", b"mine")
    publisher.publish("opt/new", b"theirs", retain=True)
    expect(subscriber.receive(), ("opt/new", b"theirs", 1, True))
    publisher.publish("opt/new", b"", retain=True)
    expect(subscriber.receive(), ("opt/new", b"", 1, True))
    publisher.publish("opt/kept", b"", retain=True)
    for client in (subscriber, publisher):
        client.end()


def version_5_shares_subscriptions():
    workers, publisher = [five(f"worker-{n}") for n in range(3)], five("publisher")
    for client in (*workers, publisher):
        client.start()
    for worker in workers:
        worker.subscribe(("$share/team/jobs/#", SubscribeOptions(qos=1)))
    for n in range(30):
        publisher.publish("jobs/a", str(n).encode())
    done = [[worker.receive()[1] for _ in range(10)] for worker in workers]
    expect(sorted(int(job) for jobs in done for job in jobs), list(range(30)))
    for client in (*workers, publisher):
        client.end()


def version_5_says_why():
    first, second = five("same"), five("same")
    first.mqtt.on_disconnect = lambda client, _u, _f, code, _p: (first.gone.put(code), client.disconnect())
    first.start()
    second.start()
    expect(str(first.gone.get(timeout=DEADLINE_S)), "Session taken over")
    reasons = queue.Queue()
    second.mqtt.on_publish = lambda _c, _u, _mid, code, _p: reasons.put(str(code))
    for topic in ("alerts/a/b/c", "$SYS/x", "devices/a/t"):
        second.publish(topic, b"1.0")
    expect([reasons.get(timeout=DEADLINE_S) for _ in range(3)], ["Not authorized", "Not authorized", "Success"])
    expect(second.subscribe(("$share//x", SubscribeOptions(qos=1))), [0x8F])
    second.end()


def version_5_waits_with_a_will():
    watcher = five("watcher")
    watcher.start()
    watcher.subscribe(("wills-5/#", SubscribeOptions(qos=1)))
    for payload, comes_back in ((b"never", True), (b"late", False)):
        mortal = five("mortal", clean=False, kept_s=60)
        about = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=1)
        mortal.mqtt.will_set("wills-5/mortal", payload, 1, False, about)
        mortal.start()
        mortal.drop()
        if comes_back:
            mortal = five("mortal", clean=False, kept_s=60)
            expect(mortal.start(), True)
            mortal.end()
    expect(watcher.receive(), ("wills-5/mortal", b"late", 1, False))
    leaving = five("leaving", will=("wills-5/leaving", b"on purpose", 1, False))
    leaving.start()
    leaving.mqtt.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
    leaving.mqtt.loop_stop()
    expect(watcher.receive(), ("wills-5/leaving", b"on purpose", 1, False))
    watcher.end()


def keepers():
    return Client("kept-4", clean=False), five("kept-5", clean=False, kept_s=300)


def before_a_kill():
    for keeper in keepers():
        expect(keeper.start(), False)
        keeper.subscribe(("kept/#", 2 if keeper.properties is None else SubscribeOptions(qos=2)))
        keeper.end()
    publisher = five("publisher")
    publisher.start()
    publisher.publish("state/kept", b"on", retain=True)
    for n in range(100):
        publisher.publish("kept/t", str(n).encode(), qos=1 + n % 2)


def after_a_kill():
    publisher, late, there = five("publisher"), Client("late"), keepers()
    for client, is_kept in ((publisher, False), (late, False), (there[0], True), (there[1], True)):
        expect(client.start(), is_kept)
    publisher.publish("kept/t", b"after")
    for keeper in there:
        # Paho shows a message of QoS 2 when it is released, which may be after later ones of QoS 1.
        got = [keeper.receive() for _ in range(101)]
        for qos in (1, 2):
            sent = [str(n).encode() for n in range(100) if 1 + n % 2 == qos] + [b"after"] * (qos == 1)
            expect([message for message in got if message[2] == qos], [("kept/t", p, qos, False) for p in sent])
    late.subscribe(("state/#", 1))
    expect(late.receive(), ("state/kept", b"on", 1, True))
    for client in (publisher, late, *there):
        client.end()


ALL = (
    both_qualities_and_unsubscribe,
    retained_and_its_removal,
    will_and_keepalive,
    takeover,
    session_across_a_reconnect,
    exactly_once,
    version_5_passes_on_what_the_publisher_says,
    version_5_keeps_sessions_and_messages_as_long_as_it_is_told,
    version_5_subscribes_with_options,
    version_5_shares_subscriptions,
    version_5_says_why,
    version_5_waits_with_a_will,
)

for scenario in [globals()[name] for name in sys.argv[2:]] or ALL:
    print(scenario.__name__, flush=True)
    scenario()
