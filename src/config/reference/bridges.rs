//! Other brokers.

use crate::keys::key::Fallback::{Literal, Otherwise, Required};
use crate::keys::key::{Group, Key, key_of, seconds, size};
use crate::keys::kind::{Kind, Shape};
use crate::keys::units::{KIB, MIB};

#[rustfmt::skip]
pub(super) const BRIDGE: &[Key] = &[
    key_of(Group::Bridge, "name", Kind::Text(Shape::SinkName), Required { example: "\"cloud\"" },
        "What waits for the other broker, and the ids of commands, are stored under this name."),
    key_of(Group::Bridge, "url", Kind::Text(Shape::BrokerUrl), Required { example: "\"mqtts://broker.example.com\"" },
        "The other broker: mqtt://, or mqtts:// for TLS; without a port 1883 or 8883."),
    key_of(Group::Bridge, "version", Kind::Choice(&["5", "3.1.1"]), Literal("\"5\""),
        "The version of MQTT that the other broker is spoken to in."),
    key_of(Group::Bridge, "topics", Kind::Texts { shape: Shape::Rule, count_max: 64 }, Required { example: "[\"commands/# in 1\", \"status/# out 1\"]" },
        "What passes, a text each: PATTERN DIRECTION QOS LOCAL-PREFIX REMOTE-PREFIX, the prefixes may be left out; two quotes are an empty word. DIRECTION is in, out or both, as seen from here."),
    key_of(Group::Bridge, "client_id", Kind::Text(Shape::Name), Otherwise { meaning: "the gateway's id and the name", example: "\"truck-0042-cloud\"" },
        "Who connects. Two clients of one id throw each other out, so each gateway needs its own."),
    key_of(Group::Bridge, "username", Kind::Text(Shape::Name), Otherwise { meaning: "no login", example: "\"gateway\"" },
        "Who logs in."),
    key_of(Group::Bridge, "password", Kind::Text(Shape::Secret), Otherwise { meaning: "none", example: "\"correct horse\"" },
        "The password; \"env:NAME\" takes it from an environment variable."),
    key_of(Group::Bridge, "ca", Kind::Text(Shape::Path), Otherwise { meaning: "the CAs that the system trusts", example: "\"certificates/ca.pem\"" },
        "The CAs that the other broker's certificate is of. Relative paths are beside this file."),
    key_of(Group::Bridge, "certificate", Kind::Text(Shape::Path), Otherwise { meaning: "none is shown", example: "\"certificates/device.pem\"" },
        "The gateway's certificate, where the other broker asks for one. It is read anew for each connection, as ca and key are."),
    key_of(Group::Bridge, "key", Kind::Text(Shape::Path), Otherwise { meaning: "none; certificate needs one", example: "\"certificates/device.key\"" },
        "The key of the certificate."),
    key_of(Group::Bridge, "alpn", Kind::Texts { shape: Shape::Name, count_max: 4 }, Otherwise { meaning: "x-amzn-mqtt-ca for AWS at port 443, else none", example: "[\"x-amzn-mqtt-ca\"]" },
        "Protocols that are offered in the TLS handshake."),
    key_of(Group::Bridge, "connect_timeout", seconds(1, 300), Literal("\"10s\""),
        "Time limit for a connection, with the TLS handshake."),
    key_of(Group::Bridge, "keep_alive", seconds(5, 65_535), Literal("\"60s\""),
        "How often something is heard of each other at least: a link that is dead is noticed after about one and a half of it."),
    key_of(Group::Bridge, "limits", Kind::Choice(&["none", "aws-iot"]), Otherwise { meaning: "aws-iot for hosts of amazonaws.com, else none", example: "\"aws-iot\"" },
        "What the service takes and does not say by itself: messages of 128 KiB, topics of 256 bytes and 7 slashes, 100 messages a second. What is larger is left out and counted."),
    key_of(Group::Bridge, "queue_size_max", size(64 * KIB, 256 * MIB), Literal("\"8MiB\""),
        "The most that may wait for the other broker. What finds no room is dropped and counted."),
    key_of(Group::Bridge, "commands", Kind::Texts { shape: Shape::Rule, count_max: 16 }, Otherwise { meaning: "nothing is a command", example: "[\"commands/#\"]" },
        "Filters of our topics: what comes in there is a command, published once by its id and never after its expiry."),
    key_of(Group::Bridge, "command_id", Kind::Text(Shape::Name), Literal("\"$.id\""),
        "Where the id is in a command's payload: a text or a number. One without an id is a message as any other."),
    key_of(Group::Bridge, "command_expiry", Kind::Text(Shape::Name), Literal("\"$.expires_at_ms\""),
        "Where the time is after which a command is void: milliseconds of the epoch, or RFC 3339. It may be missing. The expiry of MQTT 5 counts beside it."),
    key_of(Group::Bridge, "command_clock", Kind::Choice(&["synced", "system"]), Literal("\"synced\""),
        "When the system's clock is believed in judging that: once it is synchronised, commands that say when they expire wait for that; or always."),
];
