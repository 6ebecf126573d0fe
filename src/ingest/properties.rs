//! For any payload: each number that is stored stands in it, at a time that stands in it or that of receipt.

use proptest::prelude::*;
use serde_json::{Map, Number, Value};

use super::cases::routes;
use super::time::{self, Unit};
use super::{ClockState, Decoded, Ingest, Numbers, Route};
use crate::core::reading::Readings;

const RECEIVED_AT_MS: i64 = 1_795_465_865_131;

/// Routes of which each takes `devices/d` or `devices/d/m`.
const ROUTES: [&str; 9] = [
    "",
    "topic = 'devices/{device}'\nsequence = '$.seq'",
    "topic = 'devices/{device}/{metric}'\nnumbers = 'lenient'",
    "topic = 'devices/{device}'\ntime = '$.a'",
    "topic = 'devices/{x}'\ndevice = '{$.id}'\ntime = '$.ts'\ntime_zone = 'UTC'",
    "topic = 'devices/{device}'\neach = '$.*'\nmetric = '{@key}'\ntime = '$.ts'",
    "topic = 'devices/{device}'\neach = '$.list[*]'\nvalue = '@.value'\nmetric = '{@.id}'",
    "topic = 'devices/{device}/{metric}'\nmetrics = ['$.a', '$.*.value']\nattributes = []",
    "topic = 'devices/{device}'\nignore = ['$.a']\nnumbers = 'lenient'\ndecimal_separator = ','",
];

fn json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        (-1000..1000_i64).prop_map(Number::from),
        any::<i64>().prop_map(Number::from),
        any::<u64>().prop_map(Number::from),
        (1_420_070_400..1_800_000_000_i64).prop_map(Number::from),
        (1_420_070_400_000..1_800_000_000_000_i64).prop_map(Number::from),
        (-1e9..1e9_f64).prop_map(|number| Number::from_f64(number).expect("finite")),
    ];
    let text = prop_oneof![
        Just("22.5".to_owned()),
        Just("74,50%".to_owned()),
        Just("2026-01-28T14:32:40Z".to_owned()),
        Just("2026-01-28 14:32:40".to_owned()),
        "[a-c]{0,3}",
    ];
    let leaf = prop_oneof![
        number.prop_map(Value::Number),
        text.prop_map(Value::String),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
    ];
    let name = prop::sample::select(vec![
        "t", "ts", "time", "value", "seq", "a", "b.c", "d", "m", "device", "tst", "id", "x-y", "list", "ts_ms",
    ]);
    leaf.prop_recursive(4, 24, 5, move |inner| {
        let members = prop::collection::btree_map(name.clone(), inner.clone(), 0..5);
        prop_oneof![
            members.prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
            }),
            prop::collection::vec(inner, 0..4).prop_map(Value::Array),
        ]
    })
}

/// Every number of the payload, and every time that one of its values could be.
#[derive(Default)]
struct Standing {
    numbers: Vec<f64>,
    times_ms: Vec<i64>,
}

impl Standing {
    fn add(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(is_on) => self.numbers.push(f64::from(u8::from(*is_on))),
            Value::Number(number) => self.add_number(number.as_f64().expect("a double")),
            Value::String(text) => {
                self.times_ms.extend(time::from_rfc_3339(text).or(time::from_rfc_3339(&format!("{text}Z"))));
                let lenient = [false, true].map(|has_comma| Numbers::Lenient { has_comma }.read(text));
                lenient.into_iter().flatten().for_each(|number| self.add_number(number));
            }
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(members) => members.values().for_each(|member| self.add(member)),
        }
    }

    fn add_number(&mut self, number: f64) {
        self.numbers.push(number);
        let units = [Unit::Seconds, Unit::Milliseconds, Unit::Microseconds, Unit::Nanoseconds];
        self.times_ms.extend(units.into_iter().filter_map(|unit| time::from_number(number, Some(unit))));
    }
}

fn decode(routes: Vec<Route>, topic: &str, payload: &[u8]) -> (Decoded, Readings) {
    let mut readings = Readings::default();
    let decoded = Ingest::new(routes, ClockState::new(true)).decode(topic, payload, RECEIVED_AT_MS, &mut readings);
    (decoded, readings)
}

proptest! {
    #[test]
    fn what_is_stored_stands_in_the_payload(payload in json(), route in prop::sample::select(ROUTES.to_vec()), has_metric: bool) {
        let topic = if has_metric { "devices/d/m" } else { "devices/d" };
        let (decoded, readings) = decode(routes(route).expect("a route"), topic, payload.to_string().as_bytes());
        let mut standing = Standing::default();
        standing.add(&payload);
        match decoded {
            Decoded::Stored { readings: count } => prop_assert_eq!(count, readings.len()),
            _ => prop_assert!(readings.is_empty()),
        }
        for reading in readings.iter() {
            prop_assert!(standing.numbers.contains(&reading.value), "{:?}", reading);
            let is_known = reading.measured_at_ms == RECEIVED_AT_MS || standing.times_ms.contains(&reading.measured_at_ms);
            prop_assert!(is_known, "{:?}", reading);
        }
    }

    #[test]
    fn a_route_with_paths_finds_what_the_built_in_routes_find(payload in json()) {
        let text = payload.to_string();
        let (plain, expected) = decode(routes("").expect("routes"), "devices/d", text.as_bytes());
        let (_, found) = decode(routes(ROUTES[1]).expect("a route"), "devices/d", text.as_bytes());
        if matches!(plain, Decoded::Stored { .. }) {
            prop_assert_eq!(expected.iter().collect::<Vec<_>>(), found.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn cbor_says_what_json_says(payload in json(), route in prop::sample::select(ROUTES.to_vec())) {
        // Bare values are told apart by their first byte, which is another matter.
        prop_assume!(payload.is_object() || payload.is_array());
        let mut cbor = Vec::new();
        ciborium::into_writer(&payload, &mut cbor).expect("written");
        let routes = routes(route).expect("a route");
        let (from_json, expected) = decode(routes.clone(), "devices/d", payload.to_string().as_bytes());
        let (from_cbor, found) = decode(routes, "devices/d", &cbor);
        prop_assert_eq!(from_json, from_cbor);
        prop_assert_eq!(expected.iter().collect::<Vec<_>>(), found.iter().collect::<Vec<_>>());
    }

    #[test]
    fn no_bytes_are_too_odd_for_any_format(payload in prop::collection::vec(any::<u8>(), 0..60), text in "[\\[{}\\]\",:0-9a-z=\\\\.\n; e-]{0,40}") {
        for format in ["auto", "json", "cbor", "number", "csv", "senml_json", "senml_cbor", "influx", "sparkplug"] {
            let route = format!("topic = 'spBv1.0/g/{{type}}/{{device}}'\nformat = '{format}'\nnumbers = 'lenient'");
            for payload in [&payload[..], text.as_bytes()] {
                let (decoded, readings) = decode(routes(&route).expect("a route"), "spBv1.0/g/NBIRTH/d", payload);
                match decoded {
                    Decoded::Stored { readings: count } => prop_assert_eq!(count, readings.len()),
                    _ => prop_assert!(readings.is_empty()),
                }
            }
        }
    }
}
