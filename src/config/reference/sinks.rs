//! Where records go, and over which links. The keys of each type of sink are in its own folder.

use crate::keys::key::Fallback::{Literal, Otherwise, Required};
use crate::keys::key::{Group, Key, count, key_of, seconds, size};
use crate::keys::kind::{Kind, Shape};
use crate::keys::units::{GIB, KIB, MIB};
use crate::sinks::registry;

#[rustfmt::skip]
pub(super) const AWS: &[Key] = &[
    key_of(Group::Aws, "credentials_endpoint", Kind::Text(Shape::HostAndPort),
        Otherwise { meaning: "environment, profile, container or instance, as for the tools of AWS", example: "\"c1a2b3c4d5e6f7.credentials.iot.eu-central-1.amazonaws.com\"" },
        "AWS IoT's endpoint for credentials, as `aws iot describe-endpoint --endpoint-type iot:CredentialProvider` says it."),
    key_of(Group::Aws, "role_alias", Kind::Text(Shape::RoleAlias),
        Otherwise { meaning: "none; credentials_endpoint needs one", example: "\"outrider\"" },
        "The role alias. Its role says what sinks may do."),
    key_of(Group::Aws, "thing", Kind::Text(Shape::ThingName),
        Otherwise { meaning: "not sent", example: "\"truck-0042\"" },
        "The name of the thing, for policies that have it as a variable."),
    key_of(Group::Aws, "certificate", Kind::Text(Shape::Path),
        Otherwise { meaning: "none; credentials_endpoint needs one", example: "\"certificates/device.pem\"" },
        "The certificate of this device, which AWS IoT knows. Relative paths are beside this file."),
    key_of(Group::Aws, "key", Kind::Text(Shape::Path),
        Otherwise { meaning: "none; credentials_endpoint needs one", example: "\"certificates/device.key\"" },
        "The private key that belongs to it."),
];

#[rustfmt::skip]
pub(super) const LINK: &[Key] = &[
    key_of(Group::Link, "name", Kind::Text(Shape::SinkName), Required { example: "\"lte\"" },
        "What [[sink]] sections name it by. What was spent is stored under this name."),
    key_of(Group::Link, "metered", Kind::Choice(&["auto", "yes", "no"]), Literal("\"auto\""),
        "Whether it costs money. auto looks at state_file or asks NetworkManager for interface; as long as nobody knows, a link is metered if anything is limited on it."),
    key_of(Group::Link, "interface", Kind::Text(Shape::Name), Otherwise { meaning: "NetworkManager is not asked", example: "\"wwan0\"" },
        "With metered = \"auto\": the network interface that NetworkManager is asked about, by nmcli."),
    key_of(Group::Link, "state_file", Kind::Text(Shape::Path), Otherwise { meaning: "no file is looked at", example: "\"/run/outrider/lte\"" },
        "With metered = \"auto\": a file that another program keeps, with the word yes or no; it comes before interface. A relative path is beside this file."),
    key_of(Group::Link, "bytes_per_day", size(100 * KIB, 1024 * GIB), Otherwise { meaning: "no limit", example: "\"64MiB\"" },
        "The most that goes over it in a day, UTC, both ways, while it is metered."),
    key_of(Group::Link, "bytes_per_month", size(MIB, 1024 * GIB), Otherwise { meaning: "no limit", example: "\"2GiB\"" },
        "The most in a month."),
    key_of(Group::Link, "reset_day", count(1, 31), Literal("1"),
        "The day that a month begins with, as the contract has it; in a shorter month, its last day."),
    key_of(Group::Link, "rate", size(KIB, GIB), Otherwise { meaning: "as fast as it goes", example: "\"32KiB\"" },
        "The most in a second; alerts do not wait for it. What is urgent goes first then, and a request is no longer than a second."),
    key_of(Group::Link, "alert_reserve", Kind::Text(Shape::Name), Literal("\"10%\""),
        "The part of each budget that is for alerts alone, at most 90%."),
    key_of(Group::Link, "carries", Kind::Texts { shape: Shape::Name, count_max: 5 },
        Otherwise { meaning: "everything", example: "[\"alerts\", \"state\", \"anomalies\"]" },
        "What goes over it while it is metered: alerts, state (the gateway's own), anomalies, live (readings and records of rules as they come), backlog (what has waited). The rest waits until it costs nothing."),
];

#[rustfmt::skip]
pub(super) const SINK: &[Key] = &[
    key_of(Group::Sink, "name", Kind::Text(Shape::SinkName), Required { example: "\"cloud\"" },
        "Its progress is stored under this name: under a new one, everything that is still held is sent again."),
    key_of(Group::Sink, "type", Kind::Choice(registry::NAMES), Required { example: "\"kinesis\"" },
        "Where records go. Each type has keys of its own."),
];

#[rustfmt::skip]
pub(super) const TRAVEL: &[Key] = &[
    key_of(Group::Travel, "link", Kind::Text(Shape::SinkName), Otherwise { meaning: "its bytes are not counted", example: "\"lte\"" },
        "The [[link]] that it uses."),
    key_of(Group::Travel, "order", Kind::Choice(&["oldest", "live-first"]), Literal("\"oldest\""),
        "What is sent first after an outage: the oldest record, or what comes now, with the backlog behind; each in the order of its device."),
    key_of(Group::Travel, "max_age", seconds(60, 366 * 86_400), Otherwise { meaning: "everything is sent", example: "\"7d\"" },
        "Records that were received longer ago are not sent to it any more, and counted as expired."),
];
