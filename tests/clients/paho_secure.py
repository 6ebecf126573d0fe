"""Clients of paho-mqtt with certificates, passwords and WebSocket. The argument is JSON: folder, and the ports of the listeners."""

import json
import queue
import ssl
import sys

import paho.mqtt.client as mqtt

GIVEN = json.loads(sys.argv[1])
FOLDER = GIVEN["folder"]
DEADLINE_S = 30
LARGE = bytes(range(256)) * 800


class Client:
    def __init__(self, client_id, port, transport="tcp", device=None, login=None, is_encrypted=True):
        self.mqtt = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5, transport=transport
        )
        if is_encrypted:
            key = f"{FOLDER}/devices/{device}" if device else None
            self.mqtt.tls_set(f"{FOLDER}/ca.pem", key and key + ".pem", key and key + ".key")
        if login:
            self.mqtt.username_pw_set(*login)
        self.port = port
        self.connected, self.messages, self.granted = queue.Queue(), queue.Queue(), queue.Queue()
        self.acknowledged, self.gone = queue.Queue(), queue.Queue()
        self.mqtt.on_connect = lambda _c, _u, _f, code, _p: self.connected.put(code.value)
        self.mqtt.on_message = lambda _c, _u, message: self.messages.put((message.topic, message.payload))
        self.mqtt.on_subscribe = lambda _c, _u, _mid, codes, _p: self.granted.put([code.value for code in codes])
        self.mqtt.on_disconnect = lambda _c, _u, _f, code, _p: self.gone.put(code)
        self.mqtt.on_publish = lambda _c, _u, _mid, code, _p: self.acknowledged.put(code.value)

    def connect(self):
        """The reason code of the answer."""
        self.mqtt.connect("localhost", self.port)
        self.mqtt.loop_start()
        return self.connected.get(timeout=DEADLINE_S)

    def publish(self, topic, payload):
        self.mqtt.publish(topic, payload, 1)
        return self.acknowledged.get(timeout=DEADLINE_S)

    def subscribe(self, topic):
        self.mqtt.subscribe(topic, 1)
        return self.granted.get(timeout=DEADLINE_S)

    def end(self):
        self.mqtt.disconnect()
        self.mqtt.loop_stop()


def equal(found, expected):
    assert found == expected, f"{found!r}, not {expected!r}"


def a_certificate_says_who_a_device_is():
    truck = Client("truck-7", GIVEN["certificates"], device="truck-7")
    equal(truck.connect(), 0)
    equal(truck.publish("devices/truck-7/temperature", "21.5"), 0)
    equal(truck.publish("devices/truck-8/temperature", "21.5"), 0x87)
    equal(truck.subscribe("devices/truck-7/#"), [1])
    equal(truck.subscribe("devices/#"), [0x87])
    equal(truck.publish("devices/truck-7/note", LARGE), 0)
    equal(truck.messages.get(timeout=DEADLINE_S), ("devices/truck-7/note", LARGE))
    other = Client("truck-7", GIVEN["certificates"], device="truck-8")
    equal(other.connect(), 0x85)
    truck.end()
    other.end()
    stranger = Client("stranger", GIVEN["certificates"])
    try:
        stranger.mqtt.connect("localhost", GIVEN["certificates"])
        stranger.mqtt.loop_start()
        # With TLS 1.3 a client learns it when it reads.
        stranger.gone.get(timeout=DEADLINE_S)
    except (ssl.SSLError, ConnectionError):
        pass
    stranger.mqtt.loop_stop()
    assert stranger.connected.empty(), "a client without a certificate is let in"


def a_password_says_who_a_person_is():
    alice = Client("desk", GIVEN["passwords"], login=("alice", "correct horse"))
    equal(alice.connect(), 0)
    equal(alice.subscribe("alerts/#"), [1])
    alice.end()
    for login, code in [(("alice", "wrong horse"), 0x86), (("bob", "correct horse"), 0x86), (None, 0x87)]:
        client = Client("thief", GIVEN["passwords"], login=login)
        equal(client.connect(), code)
        client.end()


def websocket_carries_mqtt(port, is_encrypted):
    page = Client("page", port, transport="websockets", is_encrypted=is_encrypted)
    equal(page.connect(), 0)
    equal(page.subscribe("note/#"), [1])
    for payload in (b"x", LARGE, b""):
        equal(page.publish("note/a", payload), 0)
        equal(page.messages.get(timeout=DEADLINE_S), ("note/a", payload))
    page.end()


a_certificate_says_who_a_device_is()
a_password_says_who_a_person_is()
websocket_carries_mqtt(GIVEN["websocket"], False)
websocket_carries_mqtt(GIVEN["websocket_tls"], True)
