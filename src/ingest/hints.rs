//! What a refused publish needs: why it was refused, and the line of configuration that would take it, which is tried before it is shown.

mod either;

use super::bare::JSON_OR_CBOR;
use super::places::Places;
use super::{ClockState, Decoded, Format, Ingest, Numbers, Route, advice};
use crate::core::reading::Readings;

/// A change of a route, as it is written, and what it does.
struct Trial {
    line: &'static str,
    change: fn(&mut Route),
}

/// From the most likely to the least.
const TRIALS: [Trial; 7] = [
    Trial { line: "format = \"json\"", change: |route| route.format = Format::Json },
    Trial { line: "format = \"cbor\"", change: |route| route.format = Format::Cbor },
    Trial { line: "numbers = \"lenient\"", change: |route| lenient(route, false) },
    Trial { line: "numbers = \"lenient\"\ndecimal_separator = \",\"", change: |route| lenient(route, true) },
    Trial { line: "time_zone = \"UTC\"", change: |route| places(route).zone_s = Some(0) },
    Trial {
        line: "numbers = \"lenient\"\ntime_zone = \"UTC\"",
        change: |route| {
            lenient(route, false);
            places(route).zone_s = Some(0);
        },
    },
    Trial {
        line: "numbers = \"lenient\"\nformat = \"json\"",
        change: |route| {
            lenient(route, false);
            route.format = Format::Json;
        },
    },
];

fn places(route: &mut Route) -> &mut Places {
    route.places.get_or_insert_default()
}

fn lenient(route: &mut Route, has_comma: bool) {
    places(route).numbers = Some(Numbers::Lenient { has_comma });
}

/// For people: why `reason` is given, and what would help. `routes` are those that refused it.
pub fn hint(routes: &[Route], topic: &str, payload: &[u8], reason: &str) -> String {
    let why = why(reason);
    let lines = match reason {
        JSON_OR_CBOR => either::lines_that_settle(routes, topic, payload),
        _ => lines_that_take(routes, topic, payload),
    };
    match lines {
        Some(lines) => format!("{why}; {lines}"),
        None => why.to_owned(),
    }
}

/// For a topic that no route takes.
pub fn hint_unrouted(topic: &str) -> String {
    match advice::route_for(topic) {
        Some(route) => format!("no route takes this topic; add to the configuration:\n{route}"),
        None => "no route can take this topic; publish to another one".to_owned(),
    }
}

fn lines_that_take(routes: &[Route], topic: &str, payload: &[u8]) -> Option<String> {
    let route = routes.iter().find(|route| route.matches(topic).is_some())?;
    let trial = TRIALS.iter().find(|trial| {
        let mut changed = route.clone();
        (trial.change)(&mut changed);
        changed != *route && takes(changed, topic, payload)
    })?;
    Some(match Ingest::default_routes().contains(route) {
        true => format!("add to the configuration:\n[[route]]\ntopic = \"{route}\"\n{}", trial.line),
        false => format!("add to the route \"{route}\":\n{}", trial.line),
    })
}

fn takes(route: Route, topic: &str, payload: &[u8]) -> bool {
    let mut readings = Readings::default();
    let decoded = Ingest::new(vec![route], ClockState::new(true)).decode(topic, payload, 0, &mut readings);
    matches!(decoded, Decoded::Stored { .. }) && readings.iter().all(|reading| reading.value.is_finite())
}

/// What a `[[file]]` says of a line before any route is asked.
pub const NO_MATCH: &str = "no_match";
/// No route takes the topic.
pub const UNROUTED: &str = "unrouted";

/// Why a payload cannot be decoded: the word that counts it, and what that means.
pub const REASONS: &[(&str, &str)] = &[
    ("empty", "the payload is empty"),
    ("not_json", "it is neither a number nor JSON"),
    ("not_cbor", "it is not CBOR"),
    (JSON_OR_CBOR, "text and CBOR both claim it, and bare numbers on this topic have not shown which the device sends"),
    ("no_number", "it holds no number"),
    ("key_twice", "one name stands for two different values, of which one cannot be chosen"),
    ("integer_too_long", "an integer has more than 64 bits, so digits of it would be lost"),
    ("name_too_long", "a name of a device or a metric, with the levels above it, is longer than 128 bytes"),
    ("reserved_name", "the gateway keeps this name for its own alerts"),
    ("nested_array", "a list stands directly in another one; a route with `each` says which of them are readings"),
    ("too_deep", "it is nested more deeply than 16 levels"),
    ("too_many_fields", "it has more than 20,000 values"),
    (
        "attributes_too_long",
        "the texts beside its numbers take more than 16 KiB; `attributes` or `ignore` can leave some out",
    ),
    ("expands", "its texts would be repeated in so many readings that they take more than 16 times its size"),
    ("not_csv", "it is not CSV, or a line has not as many cells as there are columns"),
    ("no_header", "the first line of CSV does not name the columns; `columns` can"),
    ("not_senml", "it is not SenML, or has a field that must be understood and is not known"),
    ("not_influx", "it is not the line protocol of InfluxDB"),
    ("not_sparkplug", "it is not Sparkplug B, or its topic has no type of message such as DDATA"),
    (
        "no_birth",
        "it leaves to a birth what a metric is called or of which type it is; ask the edge node for a rebirth",
    ),
    ("compressed", "its body is compressed; switch that off in the edge node"),
    ("too_many_aliases", "births name more than 50,000 metrics"),
    ("no_element", "there is nothing where the route's `each` leads"),
    ("no_device", "there is nothing where the route's `device` leads, or no text"),
    ("no_metric", "there is nothing where the route's `metric` leads, or no text"),
    ("no_value", "there is nothing where the route's `value` leads"),
    ("not_a_number", "what the route's `value` leads to is no number"),
    ("no_time", "what the route's `time` leads to is no time, or not one of its `time_format`"),
    ("no_zone", "its time has no zone, nor has the route"),
    (NO_MATCH, "the line of a file does not match the `pattern` of its [[file]]"),
    (UNROUTED, "no route takes the topic of the file that the line is from"),
];

/// The reason in words.
pub fn why(reason: &str) -> &'static str {
    REASONS.iter().find(|(known, _)| *known == reason).map_or("it cannot be read", |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(routes: &[Route], topic: &str, payload: &str) -> String {
        let decoded = Ingest::new(routes.to_vec(), ClockState::new(true)).decode(
            topic,
            payload.as_bytes(),
            0,
            &mut Readings::default(),
        );
        let Decoded::Undecodable { reason } = decoded else { panic!("{payload}: {decoded:?}") };
        hint(routes, topic, payload.as_bytes(), reason)
    }

    #[test]
    fn the_hint_is_a_route_that_takes_the_payload() {
        let routes = Ingest::default_routes();
        let expected = "it holds no number; add to the configuration:\n[[route]]\ntopic = \"devices/{device}/{metric...}\"\n\
                        numbers = \"lenient\"";
        assert_eq!(of(&routes, "devices/a/t", "{\"value\":\"22.5\"}"), expected);
        assert!(of(&routes, "devices/a/t", "22,5").ends_with("numbers = \"lenient\"\ndecimal_separator = \",\""));
        assert_eq!(of(&routes, "devices/a/t", "offline"), "it is neither a number nor JSON");
        let own = Route::parse("cold/{device}", Format::Json, None, None).expect("a template");
        let decoded = hint(&[own], "cold/a", &[0x38, 0x63], "not_json");
        assert_eq!(decoded, "it is neither a number nor JSON; add to the route \"cold/{device}\":\nformat = \"cbor\"");
        assert!(hint_unrouted("plant/pump/t").ends_with("topic = \"plant/{device}/{metric...}\""));
    }

    #[test]
    fn every_reason_has_words() {
        let sources = [
            "bare.rs",
            "located.rs",
            "located/naming.rs",
            "located/metrics.rs",
            "flatten.rs",
            "readings.rs",
            "document.rs",
            "document/read.rs",
            "value.rs",
            "formats/mod.rs",
            "formats/csv.rs",
            "formats/influx.rs",
            "formats/senml.rs",
            "formats/sparkplug.rs",
        ];
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ingest/");
        for source in sources {
            let text = std::fs::read_to_string(format!("{folder}{source}")).expect("a source");
            let reasons = text.split("Err(\"").skip(1).chain(text.split("ok_or(\"").skip(1));
            for reason in reasons.filter_map(|rest| rest.split('"').next()) {
                assert_ne!(why(reason), why(""), "{source}: {reason}");
            }
        }
    }
}
