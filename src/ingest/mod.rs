//! Turns a publish into readings: finds the route for its topic and decodes its payload.
//!
//! A publish is taken whole or not at all. One that cannot be decoded is acknowledged all the same, because sending it again would not
//! help; it is counted by reason, and a sample is kept.

mod advice;
mod bare;
mod document;
pub mod explain;
mod flatten;
pub mod formats;
mod hints;
mod located;
mod meaning;
mod mend;
mod numbers;
pub mod places;
mod readings;
mod repeats;
mod roles;
mod route;
pub mod route_test;
mod time;
mod time_format;
pub mod undecodable;
mod value;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use advice::route_for;
pub use hints::{NO_MATCH, REASONS, UNROUTED};
pub use numbers::Numbers;
pub use readings::ATTRIBUTES_BYTES_MAX;
use route::Matched;
pub use route::{Format, Route, TemplateError};
pub use time_format::{TimeFormat, parse_zone};

pub use crate::core::reading::NAME_BYTES_MAX;
use crate::core::reading::{Readings, TimeQuality};
use bare::BareNumbers;
use flatten::FlatPayload;
use formats::{Births, Source};
use located::{Locator, Publish};
use readings::Scratch;

/// This much of a payload that cannot be decoded is kept.
pub const SAMPLE_BYTES_MAX: usize = 4 * 1024;

/// Payloads up to this size are decoded again to find what would take them.
const TRIED_BYTES_MAX: usize = 16 * 1024;

/// Whether the gateway's clock is synchronised now; shared with the thread that finds out.
#[derive(Clone, Debug)]
pub struct ClockState(Arc<AtomicBool>);

impl ClockState {
    pub fn new(synchronised: bool) -> ClockState {
        ClockState(Arc::new(AtomicBool::new(synchronised)))
    }

    pub fn set(&self, synchronised: bool) {
        self.0.store(synchronised, Ordering::Relaxed);
    }

    pub fn time_quality(&self) -> TimeQuality {
        if self.0.load(Ordering::Relaxed) { TimeQuality::Synced } else { TimeQuality::Unsynced }
    }
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// This many readings were appended.
    Stored {
        readings: usize,
    },
    /// No route takes the topic.
    Unrouted,
    Undecodable {
        reason: &'static str,
    },
}

/// The routes, and buffers that are reused for every publish.
#[derive(Debug)]
pub struct Ingest {
    routes: Vec<Route>,
    clock: ClockState,
    flat: FlatPayload,
    scratch: Scratch,
    bare_numbers: BareNumbers,
    locator: Locator,
    births: Births,
}

impl Ingest {
    pub fn new(routes: Vec<Route>, clock: ClockState) -> Ingest {
        Ingest {
            routes,
            clock,
            flat: FlatPayload::default(),
            scratch: Scratch::default(),
            bare_numbers: BareNumbers::default(),
            locator: Locator::default(),
            births: Births::default(),
        }
    }

    /// The built-in routes; those of the configuration come before them.
    pub fn default_routes() -> Vec<Route> {
        ["devices", "vehicles"]
            .iter()
            .flat_map(|root| [format!("{root}/{{device}}"), format!("{root}/{{device}}/{{metric...}}")])
            .map(|template| Route::parse(&template, Format::Auto, None, None).expect("a valid template"))
            .collect()
    }

    /// Appends the readings of one publish.
    pub fn decode(&mut self, topic: &str, payload: &[u8], received_at_ms: i64, readings: &mut Readings) -> Decoded {
        let Some((route, matched)) =
            self.routes.iter().find_map(|route| route.matches(topic).map(|matched| (route, matched)))
        else {
            return Decoded::Unrouted;
        };
        let (before, mark) = (readings.len(), readings.mark());
        let format = match self.bare_numbers.format(route.format, topic, payload) {
            Ok(format) => format,
            Err(reason) => return Decoded::Undecodable { reason },
        };
        let time_quality = self.clock.time_quality();
        let result = match &route.places {
            Some(places) => {
                let source = Source { topic, payload, format, places, received_at_ms };
                let publish = Publish { source, topic: &matched, time_quality };
                formats::read(&source, &mut self.births, &mut self.locator.document)
                    .and_then(|()| self.locator.make(&publish, readings))
            }
            None => flatten::flatten(payload, format, &mut self.flat).and_then(|()| {
                let mut maker =
                    readings::Maker { route: &matched, received_at_ms, time_quality, scratch: &mut self.scratch };
                maker.make(&self.flat, payload.len(), readings)
            }),
        };
        match result {
            Ok(()) => Decoded::Stored { readings: readings.len() - before },
            Err(reason) => {
                readings.drop_from(mark);
                Decoded::Undecodable { reason }
            }
        }
    }

    /// Appends the readings of a payload that names no route: they are of this device.
    pub fn decode_of(&mut self, device: &str, payload: &[u8], received_at_ms: i64, readings: &mut Readings) -> Decoded {
        let (before, mark) = (readings.len(), readings.mark());
        let matched = Matched { device, metric: None, attributes: Vec::new() };
        let time_quality = self.clock.time_quality();
        let made = flatten::flatten(payload, Format::Json, &mut self.flat).and_then(|()| {
            let scratch = &mut self.scratch;
            let mut maker = readings::Maker { route: &matched, received_at_ms, time_quality, scratch };
            maker.make(&self.flat, payload.len(), readings)
        });
        match made {
            Ok(()) => Decoded::Stored { readings: readings.len() - before },
            Err(reason) => {
                readings.drop_from(mark);
                Decoded::Undecodable { reason }
            }
        }
    }

    /// For people: why a publish was refused for this reason, and what would take it. For a large one that is not tried: whoever is served
    /// by this thread would wait for it.
    pub fn hint(&self, topic: &str, payload: &[u8], reason: &str) -> String {
        match reason {
            UNROUTED => hints::hint_unrouted(topic),
            NO_MATCH => hints::why(reason).to_owned(),
            _ if payload.len() > TRIED_BYTES_MAX => hints::why(reason).to_owned(),
            _ => hints::hint(&self.routes, topic, payload, reason),
        }
    }

    /// Whether a payload that no route takes holds a number to store.
    pub fn carries_number(&mut self, payload: &[u8]) -> bool {
        let flat = &mut self.flat;
        flatten::flatten(payload, Format::Auto, flat).is_ok()
            && flat.items().flatten().any(|field| readings::is_measured(flat, field))
    }
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ingest() -> Ingest {
        Ingest::new(Ingest::default_routes(), ClockState::new(true))
    }

    /// One line per reading: `device metric value measured_at sequence attributes`.
    fn decode(topic: &str, payload: &[u8]) -> Result<Vec<String>, Decoded> {
        let mut readings = Readings::default();
        match ingest().decode(topic, payload, 5_000, &mut readings) {
            Decoded::Stored { .. } => Ok(readings
                .iter()
                .map(|r| {
                    let attributes: Vec<_> = r.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
                    let sequence = r.sequence.map_or("-".to_owned(), |s| s.to_string());
                    let line = format!(
                        "{} {} {} {} {sequence} {}",
                        r.device,
                        r.metric,
                        r.value,
                        r.measured_at_ms,
                        attributes.join(",")
                    );
                    line.trim_end().to_owned()
                })
                .collect()),
            other => Err(other),
        }
    }

    fn one(topic: &str, payload: &str) -> String {
        decode(topic, payload.as_bytes()).expect("readings").join(" | ")
    }

    #[test]
    fn every_documented_shape_is_taken() {
        assert_eq!(one("devices/a/temp", "22.5"), "a temp 22.5 5000 -");
        assert_eq!(one("devices/a", " 7 "), "a value 7 5000 -");
        assert_eq!(one("vehicles/a/engine/temp", "true"), "a engine.temp 1 5000 -");
        assert_eq!(
            one("devices/a/temp", r#"{"value":1,"ts_ms":77,"seq":9,"unit":"C","quality":192}"#),
            "a temp 1 77 9 unit=C | a temp.quality 192 77 9 unit=C"
        );
        assert_eq!(
            one(
                "devices/d01/temperature",
                r#"{"device":"d01","seq":3,"ts_us":1795465865120000,"temperature":20.5,"fw":"xx"}"#
            ),
            "d01 temperature 20.5 1795465865120 3 fw=xx"
        );
        assert_eq!(
            one("devices/a", r#"{"time":"1970-01-01T00:00:01Z","t":{"in":1,"out":2.5},"door":false,"road":"dry"}"#),
            "a t.in 1 1000 - road=dry | a t.out 2.5 1000 - road=dry | a door 0 1000 - road=dry"
        );
        assert_eq!(one("devices/a/front", r#"{"temp":1}"#), "a front.temp 1 5000 -");
        assert_eq!(one("devices/a/engine/temp", r#"{"temp":1}"#), "a engine.temp 1 5000 -");
        assert_eq!(one("devices/a", r#"[{"t":1,"ts_s":1},{"t":2,"ts_s":2.5}]"#), "a t 1 1000 - | a t 2 2500 -");
        assert_eq!(one("devices/a/x", "[1,2]"), "a x 1 5000 - | a x 2 5000 -");
        assert_eq!(one("devices/_a/_b", "12"), "_a _b 12 5000 -", "only names of the gateway's own are refused");
        assert_eq!(one("devices/a", r#"{"_device":"a","t":{"_device":1}}"#), "a t._device 1 5000 - _device=a");
        assert_eq!(one("devices/a", r#"{"at":[52.5,13.4]}"#), "a at.0 52.5 5000 - | a at.1 13.4 5000 -");
    }

    #[test]
    fn cbor_says_the_same_as_json() {
        let deep = ciborium::Value::Map(vec![("deep".into(), (-3).into())]);
        let value = ciborium::Value::Map(vec![
            ("temp".into(), 21.5.into()),
            ("n".into(), deep),
            ("ok".into(), true.into()),
            ("fw".into(), "1.2".into()),
            ("seq".into(), 4.into()),
            ("ts_ms".into(), 1_795_465_865_120_u64.into()),
        ]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&value, &mut bytes).expect("written");
        assert_eq!(
            decode("devices/a", &bytes).expect("readings").join(" | "),
            "a temp 21.5 1795465865120 4 fw=1.2 | a n.deep -3 1795465865120 4 fw=1.2 | a ok 1 1795465865120 4 fw=1.2"
        );
        let mut nan = Vec::new();
        ciborium::into_writer(&f64::NAN, &mut nan).expect("written");
        assert_eq!(decode("devices/a/t", &nan).expect("readings"), ["a t NaN 5000 -"]);
        let tagged = ciborium::Value::Map(vec![
            ("time".into(), ciborium::Value::Tag(1, Box::new(1_795_465_865_u64.into()))),
            ("t".into(), 1.into()),
        ]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&tagged, &mut bytes).expect("written");
        assert_eq!(decode("devices/a", &bytes).expect("readings"), ["a t 1 1795465865000 -"]);
    }

    #[test]
    fn what_is_no_number_is_a_reading_all_the_same() {
        for text in ["nan", "NaN", "-inf", "+Infinity", "inf\n"] {
            let found = decode("devices/a/t", text.as_bytes()).expect("a reading");
            assert!(found.len() == 1 && (found[0].contains("NaN") || found[0].contains("inf")), "{text}: {found:?}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_says_why() {
        let reason = |topic: &str, payload: &str| match decode(topic, payload.as_bytes()) {
            Err(Decoded::Undecodable { reason }) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason("devices/a/t", ""), "empty");
        assert_eq!(reason("devices/a/t", "{\"value\":"), "not_json");
        assert_eq!(reason("devices/a/t", "{\"value\":1} x"), "not_json");
        assert_eq!(reason("devices/a/t", "{\"value\":1e999}"), "not_json");
        assert_eq!(reason("devices/a/t", "\"on\""), "no_number");
        assert_eq!(reason("devices/a/t", "{\"state\":\"on\"}"), "no_number");
        assert_eq!(reason("devices/a/t", "[]"), "no_number");
        assert_eq!(reason("devices/a/t", "[{\"value\":1},{\"value\":\"x\"}]"), "no_number");
        assert_eq!(reason("devices/a/t", "[[1]]"), "nested_array");
        assert_eq!(reason("devices/a", &format!("{{\"{}\":1}}", "n".repeat(200))), "name_too_long");
        assert_eq!(reason(&format!("devices/{}", "n".repeat(200)), "12"), "name_too_long");
        assert_eq!(reason("devices/_gateway/series", "12"), "reserved_name");
        assert_eq!(reason("devices/_gateway", "{\"series\":1}"), "reserved_name");
        assert_eq!(reason("devices/a/_device", "nan"), "reserved_name");
        assert_eq!(reason("devices/a", "[{\"t\":1},{\"_device\":1}]"), "reserved_name");
        assert_eq!(reason("devices/a/_rule", "{\"value\":1}"), "reserved_name");
        assert_eq!(reason("devices/a", &"{\"a\":".repeat(40)), "too_deep");
        for words in ["offline", "+21.5", "21,5 °C", "Online\r\n", "\u{ff}"] {
            assert_eq!(reason("devices/a/t", words), "not_json", "{words}");
        }
        assert_eq!(decode("devices/a/t", &[0xa1, 0x61]), Err(Decoded::Undecodable { reason: "not_cbor" }));
        assert_eq!(decode("other/a/t", b"1"), Err(Decoded::Unrouted));
        assert_eq!(decode("devices//t", b"1"), Err(Decoded::Unrouted));
        assert_eq!(decode("devices/a/t/", b"1"), Err(Decoded::Unrouted));
    }

    #[test]
    fn what_would_take_a_large_payload_is_not_tried() {
        let hint = |texts: usize| {
            let payload = format!("{{\"value\":\"22.5\"{}}}", ",\"a\":\"b\"".repeat(texts));
            ingest().hint("devices/a/t", payload.as_bytes(), "no_number")
        };
        assert!(hint(0).ends_with("numbers = \"lenient\""));
        assert_eq!(hint(3_000), "it holds no number");
    }

    #[test]
    fn numbers_are_seen_also_where_no_route_leads() {
        let mut ingest = ingest();
        for payload in ["1", "{\"a\":{\"b\":2},\"ts\":5}", "[true]", "nan"] {
            assert!(ingest.carries_number(payload.as_bytes()), "{payload}");
        }
        for payload in ["", "offline", "{\"state\":\"on\",\"ts\":5,\"seq\":7}", "{\"a\":"] {
            assert!(!ingest.carries_number(payload.as_bytes()), "{payload}");
        }
    }

    #[test]
    fn attributes_are_not_multiplied_without_bound() {
        let publish = |attribute: &str, metrics: usize| {
            let metrics: String = (0..metrics).map(|n| format!(",\"m{n}\":1")).collect();
            let payload = format!("{{\"a\":{}{metrics}}}", serde_json::to_string(attribute).expect("JSON"));
            decode("devices/a", payload.as_bytes()).map(|readings| readings.len())
        };
        let expands = Err(Decoded::Undecodable { reason: "expands" });
        let plain = "x".repeat(10_000);
        assert_eq!(publish(&plain, 15), Ok(15), "no more than 256 KiB");
        assert_eq!(publish(&plain, 26), Ok(26), "just under it");
        assert_eq!(publish(&plain, 27), expands, "more, and 27 times its size");
        assert_eq!(publish(&"x".repeat(110), 3_000), Ok(3_000), "more, and not 16 times its size");
        assert_eq!(publish(&"x".repeat(20_000), 1), Err(Decoded::Undecodable { reason: "attributes_too_long" }));
        let item = format!("{{\"v\":1,\"a\":\"{}\"}}", "x".repeat(15_000));
        let list = format!("[{}]", vec![item; 80].join(","));
        assert_eq!(decode("devices/a", list.as_bytes()).map(|readings| readings.len()), Ok(80), "nothing is repeated");
    }

    #[test]
    fn attributes_are_counted_as_they_are_written() {
        // Control characters take six bytes in JSON and one in CBOR; a value that is not finite causes an anomaly record as well.
        let publish = |text: &str, value: f64, metrics: usize| {
            let mut fields: Vec<(ciborium::Value, ciborium::Value)> = vec![("a".into(), text.into())];
            fields.extend((0..metrics).map(|n| (format!("m{n}").into(), value.into())));
            let mut bytes = Vec::new();
            ciborium::into_writer(&ciborium::Value::Map(fields), &mut bytes).expect("written");
            decode("devices/a", &bytes).map(|readings| readings.len())
        };
        let expands = Err(Decoded::Undecodable { reason: "expands" });
        assert_eq!(publish(&"\"".repeat(16_000), f64::NAN, 60), expands);
        assert_eq!(publish(&"x".repeat(5_000), 1.0, 50), Ok(50));
        assert_eq!(publish(&"\u{1}".repeat(5_000), 1.0, 50), expands);
        assert_eq!(publish(&"x".repeat(5_000), f64::NAN, 50), expands);
    }

    #[test]
    fn cbor_of_indefinite_length_is_read() {
        // {_ "t": 1.5 (half), (_ "s", "eq"): 7}
        let bytes = [0xbf, 0x61, b't', 0xf9, 0x3e, 0x00, 0x7f, 0x61, b's', 0x62, b'e', b'q', 0xff, 0x07, 0xff];
        assert_eq!(decode("devices/a", &bytes).expect("readings"), ["a t 1.5 5000 7"]);
    }

    #[test]
    fn a_time_that_makes_no_sense_is_kept_as_an_attribute() {
        assert_eq!(one("devices/a", r#"{"t":1,"ts":"yesterday"}"#), "a t 1 5000 - ts=yesterday");
        assert_eq!(one("devices/a", r#"{"t":1,"ts":-5,"seq":-1}"#), "a t 1 5000 - ts=-5,seq=-1");
    }

    proptest! {
        #[test]
        fn no_payload_panics_and_a_failure_leaves_nothing(payload in prop::collection::vec(any::<u8>(), 0..60), json in "[\\[{}\\]\",:0-9a-z. e-]{0,40}") {
            for payload in [&payload[..], json.as_bytes()] {
                let mut readings = Readings::default();
                let decoded = ingest().decode("devices/a/t", payload, 0, &mut readings);
                match decoded {
                    Decoded::Stored { readings: count } => prop_assert_eq!(count, readings.len()),
                    _ => prop_assert!(readings.is_empty()),
                }
            }
        }
    }
}
