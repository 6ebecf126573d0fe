//! Every key: its allowed values, its default, and its purpose.
//!
//! The parser takes kinds, ranges and defaults from here only, and a test compares `config/outrider.toml` with this table.

use std::sync::LazyLock;

use crate::keys::key::{Fallback, Group, Key, count, key_of, milliseconds, seconds, size, size_or_auto};
use crate::keys::kind::{Kind, Shape};
use crate::keys::units::{GIB, KIB, MIB};
use crate::sinks::registry;

use Fallback::{Literal, Otherwise, Required};

/// The names in [`crate::core::detection::detectors::profile`]; a test compares them.
const PROFILE_NAMES: &[&str] = &["off", "temperature", "slow", "driven", "generic", "plant"];

/// All keys: those of the table, and those of each type of sink.
pub fn all() -> &'static [&'static Key] {
    static ALL: LazyLock<Vec<&'static Key>> =
        LazyLock::new(|| KEYS.iter().chain(registry::KINDS.iter().flat_map(|kind| kind.keys)).collect());
    &ALL
}

#[rustfmt::skip]
const KEYS: &[Key] = &[
    key_of(Group::Gateway, "id", Kind::Text(Shape::GatewayId), Literal("\"{hostname}-{machine_id_short}\""),
        "Names this gateway in every record; {machine_id_short} is the first 8 characters of {machine_id}."),
    key_of(Group::Gateway, "shutdown_grace", seconds(0, 600), Literal("\"10s\""),
        "How long sinks may go on sending after the signal to stop; what is left is sent after the next start."),

    key_of(Group::Store, "path", Kind::Text(Shape::Path),
        Otherwise { meaning: "$STATE_DIRECTORY, else ~/.local/state/outrider", example: "\"/var/lib/outrider\"" },
        "The state folder: the store, its lock and the local archive."),
    key_of(Group::Store, "size_max", size_or_auto(16 * MIB, 1024 * GIB), Literal("\"auto\""),
        "How much of the disk the store may use; auto is the smaller of 4 GiB and half of what was free when it was created."),
    key_of(Group::Store, "when_full", Kind::Choice(&["drop_oldest", "refuse"]), Literal("\"drop_oldest\""),
        "When size_max is reached: drop the oldest readings, counted, or acknowledge nothing more until there is room."),
    key_of(Group::Store, "free_space_min", size_or_auto(0, 1024 * GIB), Literal("\"auto\""),
        "How much of the disk the store leaves free; auto is the smaller of 512 MiB and a tenth of the disk."),
    key_of(Group::Store, "commit_delay", milliseconds(1, 1000), Literal("\"40ms\""),
        "How long a reading that somebody waits for may be held back, so that several are made durable together; a quarter of this while only one client is sending."),
    key_of(Group::Store, "commit_delay_max", milliseconds(1, 10_000), Literal("\"1s\""),
        "How long a reading may wait for its acknowledgement if its client keeps sending without it, no subscriber matches it, and no alert is due. Longer means fewer writes to the disk."),
    key_of(Group::Store, "commit_readings", count(1, 100_000), Literal("500"),
        "This many readings are made durable without waiting for more."),

    key_of(Group::Mqtt, "listen", Kind::Listen { off: false }, Literal("\"127.0.0.1:1883\""),
        "Where devices connect; 0.0.0.0:1883 opens it to the network, without passwords or encryption."),
    key_of(Group::Mqtt, "connections_max", count(1, 100_000), Literal("4096"),
        "The most connections at one time; further ones are refused."),
    key_of(Group::Mqtt, "connections_per_address_percent", count(1, 100), Literal("75"),
        "The share of connections_max that one address, or one /64 network of IPv6, may have; more are refused."),
    key_of(Group::Mqtt, "packet_size_max", size(KIB, 16 * MIB), Literal("\"256KiB\""),
        "The largest packet accepted; a larger one closes its connection."),
    key_of(Group::Mqtt, "connect_timeout", seconds(1, 300), Literal("\"10s\""),
        "Time limit for a new connection to send its CONNECT."),
    key_of(Group::Mqtt, "write_timeout", seconds(1, 600), Literal("\"30s\""),
        "How long a client may read nothing of what is sent to it before it is disconnected."),
    key_of(Group::Mqtt, "uncommitted_max", count(1, 65_535), Literal("256"),
        "Publishes of one connection that may wait to be made durable; beyond that nothing more is read from it."),
    key_of(Group::Mqtt, "uncommitted_size_max", size(64 * KIB, 256 * MIB), Literal("\"8MiB\""),
        "The most that may wait to be made durable, over all connections."),
    key_of(Group::Mqtt, "packet_timeout", seconds(1, 3600), Literal("\"60s\""),
        "Time limit for a packet of more than 4KiB to arrive completely."),
    key_of(Group::Mqtt, "packets_size_max", size(MIB, GIB), Literal("\"16MiB\""),
        "The most memory for such packets, all together, while they arrive; at least four times packet_size_max."),
    key_of(Group::Mqtt, "filter_levels_max", count(64, 10_000_000), Literal("65536"),
        "The most levels of all clients' topic filters together; one client may take a part of what is free."),
    key_of(Group::Mqtt, "filters_per_client_max", count(1, 10_000), Literal("64"),
        "The most topic filters of one client."),
    key_of(Group::Mqtt, "retained_max", count(0, 1_000_000), Literal("10000"),
        "The most retained messages that are kept."),
    key_of(Group::Mqtt, "retained_size_max", size(64 * KIB, GIB), Literal("\"16MiB\""),
        "The most memory for all retained messages together."),
    key_of(Group::Mqtt, "subscriber_size_max", size(16 * KIB, 256 * MIB), Literal("\"1MiB\""),
        "The most that may wait for one subscriber; one that falls further behind is disconnected."),
    key_of(Group::Mqtt, "subscribers_size_max", size(MIB, GIB), Literal("\"64MiB\""),
        "The most that may wait for all subscribers together; as it fills, each may have less."),
    key_of(Group::Mqtt, "sessions_max", count(0, 100_000), Literal("1024"),
        "The most sessions kept for clients that are away."),
    key_of(Group::Mqtt, "session_expiry_max", seconds(1, 365 * 86_400), Literal("\"1d\""),
        "How long the session of a client that is away is kept."),
    key_of(Group::Mqtt, "unrouted", Kind::Choice(&["pass", "reject"]), Literal("\"pass\""),
        "What to do with a publish that no route takes: pass it on as ordinary MQTT, or drop it. It is stored in neither case."),

    key_of(Group::Admin, "listen", Kind::Listen { off: true }, Literal("\"127.0.0.1:9464\""),
        "Where the status page, /api/status, /healthz, /readyz and /metrics are served."),

    key_of(Group::Admin, "hosts", Kind::Texts { shape: Shape::HostName, count_max: 32 }, Literal("[]"),
        "Further host names that it answers to, such as gateway.example.com; IP addresses, localhost, the machine's own name and names without \
         a dot always work."),

    key_of(Group::Ingest, "builtin_routes", Kind::Boolean, Literal("true"),
        "Whether devices/{device}, vehicles/{device} and the topics below them are stored as well; each [[route]] comes before them."),

    key_of(Group::Detection, "series_max", count(0, 1_000_000), Literal("10000"),
        "The most series that are watched; further ones are stored and sent but not watched, and counted. 0 watches none."),

    key_of(Group::Alert, "clear_after", seconds(1, 86_400), Literal("\"30s\""),
        "An alert clears when readings have been good for this time, at least two of them."),
    key_of(Group::Alert, "remove_after", seconds(1, 86_400), Literal("\"60s\""),
        "The retained message of a cleared alert is removed after this time."),

    key_of(Group::Route, "topic", Kind::Text(Shape::TopicTemplate), Required { example: "\"plant/{device}/{metric...}\"" },
        "Topics whose publishes are readings; {metric...} takes the remaining levels, another {name} becomes an attribute."),
    key_of(Group::Route, "format", Kind::Choice(&["auto", "json", "cbor"]), Literal("\"auto\""),
        "How payloads are encoded; auto decides for each payload."),
    key_of(Group::Route, "device", Kind::Text(Shape::PlaceText),
        Otherwise { meaning: "{device} in the topic", example: "\"boiler\"" },
        "The device: a fixed name, or for example \"{line}-{$.id}\" with a level of the topic and a place in the payload."),
    key_of(Group::Route, "metric", Kind::Text(Shape::PlaceText),
        Otherwise { meaning: "from the topic or the payload", example: "\"temperature\"" },
        "The metric of a bare number or of `value`; the names of all other numbers begin with it."),
    key_of(Group::Route, "each", Kind::Text(Shape::PayloadPath),
        Otherwise { meaning: "the payload, or each element if it is a list", example: "\"$.list[*]\"" },
        "What is a reading, or several of one time; * stands for all elements of a list or all members of an object. In the other keys @ is the element then, and {@key} its name."),
    key_of(Group::Route, "value", Kind::Text(Shape::PayloadPath),
        Otherwise { meaning: "all numbers are metrics", example: "\"@.value\"" },
        "Where the value is. Other numbers of the element are metrics too, unless `metrics` says which are."),
    key_of(Group::Route, "metrics", Kind::Measures,
        Otherwise { meaning: "all numbers are metrics", example: "{ speed = \"@.sp\", supply = { path = \"@.66\", factor = 0.001, offset = 0.0 } }" },
        "Which numbers are metrics, with a name of their own and calculated as value times factor plus offset. A path to an object stands for all numbers in it."),
    key_of(Group::Route, "numbers", Kind::Choice(&["strict", "lenient"]), Literal("\"strict\""),
        "Whether texts such as \"317.3988\", \"74.50%\" and \"82C\" are numbers, without their unit."),
    key_of(Group::Route, "decimal_separator", Kind::Choice(&[".", ","]), Literal("\".\""),
        "The decimal separator of numbers in texts, where `numbers` is \"lenient\"."),
    key_of(Group::Route, "time", Kind::Text(Shape::PayloadPath),
        Otherwise { meaning: "ts, time and other usual names", example: "\"$.at\"" },
        "Where the time is. If it is not there the time of receipt is taken; if it is no time, the publish is refused."),
    key_of(Group::Route, "time_format", Kind::Text(Shape::TimeFormat), Literal("\"auto\""),
        "How `time` is written; auto tells the unit of a number by its size, and takes RFC 3339."),
    key_of(Group::Route, "time_zone", Kind::Text(Shape::TimeZone),
        Otherwise { meaning: "such a time is refused", example: "\"+01:00\"" },
        "The zone of times that are written without one."),
    key_of(Group::Route, "sequence", Kind::Text(Shape::PayloadPath),
        Otherwise { meaning: "seq", example: "\"$.n\"" },
        "Where the device's own number of the reading is."),
    key_of(Group::Route, "attributes", Kind::Attributes,
        Otherwise { meaning: "all texts that have no other meaning", example: "[\"$.firmware\"]" },
        "Which values are attributes."),
    key_of(Group::Route, "ignore", Kind::Paths,
        Otherwise { meaning: "nothing", example: "[\"$.debug\"]" },
        "What is neither a metric nor an attribute, with everything below it."),

    key_of(Group::Limit, "metric", Kind::Text(Shape::Name), Required { example: "\"container_temperature\"" },
        "The metric that these bounds apply to; its whole name. Several may apply to one metric: there is one alert, as severe as the most severe of them."),
    key_of(Group::Limit, "device", Kind::Text(Shape::Name), Otherwise { meaning: "every device", example: "\"freezer-*\"" },
        "The devices that they apply to; * stands for anything."),
    key_of(Group::Limit, "min", Kind::Number, Otherwise { meaning: "no lower bound", example: "-25.0" },
        "A reading below this is an anomaly."),
    key_of(Group::Limit, "max", Kind::Number, Otherwise { meaning: "no upper bound", example: "40.0" },
        "A reading above this is an anomaly."),
    key_of(Group::Limit, "severity", Kind::Choice(&["warning", "minor", "major", "critical"]), Literal("\"major\""),
        "The severity of an alert when one of them is exceeded."),
    key_of(Group::Limit, "for", seconds(0, 86_400), Literal("\"0s\""),
        "How long a bound has to be exceeded, by the device's own times, before an alert is raised; a reading beyond it is an anomaly at once."),
    key_of(Group::Limit, "clear_min", Kind::Number, Otherwise { meaning: "as min", example: "-22.0" },
        "Readings are good again from this value up; above min, so that the alert does not flap when the value is near min."),
    key_of(Group::Limit, "clear_max", Kind::Number, Otherwise { meaning: "as max", example: "36.0" },
        "Readings are good again up to this value; below max, so that the alert does not flap when the value is near max."),
    key_of(Group::Limit, "sentinel", Kind::Numbers { count_max: 8 },
        Otherwise { meaning: "none, but -127 for temperatures", example: "[-127.0, 85.0]" },
        "Values that a broken sensor sends; each is an anomaly."),

    key_of(Group::Profile, "metrics", Kind::Text(Shape::Name), Required { example: "\"door hatch\"" },
        "Words, one of which is part of the metric's name, or whole names; the first [[profile]] that matches is used, before the built-in ones."),
    key_of(Group::Profile, "like", Kind::Choice(PROFILE_NAMES), Literal("\"generic\""),
        "The profile that the other keys change; plant is for stationary machines."),
    key_of(Group::Profile, "gap", Kind::Choice(&["on", "off"]),
        Otherwise { meaning: "as in that profile", example: "\"off\"" },
        "Whether silence raises an alert; off for metrics that report only on change."),
    key_of(Group::Profile, "stuck", Kind::Choice(&["on", "off"]),
        Otherwise { meaning: "as in that profile", example: "\"off\"" },
        "Whether a value that does not change raises an alert."),
    key_of(Group::Profile, "baseline", Kind::Choice(&["rolling", "frozen"]),
        Otherwise { meaning: "as in that profile", example: "\"frozen\"" },
        "What levels are compared with: the last minutes, or always the first 400 readings."),
    key_of(Group::Profile, "spike", Kind::Number, Otherwise { meaning: "as in that profile", example: "12.0" },
        "A reading that is off by this many times the usual distance is a spike."),
    key_of(Group::Profile, "shift", Kind::Number, Otherwise { meaning: "as in that profile", example: "6.0" },
        "A level that is off by this many times the usual departure is a shift."),
    key_of(Group::Profile, "burst", Kind::Number, Otherwise { meaning: "as in that profile", example: "3.0" },
        "This many times the usual noise is a burst; 0 for never."),
    key_of(Group::Profile, "severity_max", Kind::Choice(&["warning", "minor", "major", "critical"]),
        Otherwise { meaning: "as in that profile", example: "\"warning\"" },
        "No alert of these metrics is more severe than this; the built-in maximum of a profile does not apply to those of a [[limit]]."),

    key_of(Group::Sink, "name", Kind::Text(Shape::SinkName), Required { example: "\"cloud\"" },
        "Its progress is stored under this name: under a new one, everything that is still held is sent again."),
    key_of(Group::Sink, "type", Kind::Choice(registry::NAMES), Required { example: "\"kinesis\"" },
        "Where records go. Each type has keys of its own."),
];
