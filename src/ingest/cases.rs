//! Payloads of real device families, and kinds that public reports show, each with what comes of it. The cases are data: `payloads.toml`.

use std::path::Path;

use crate::config::host::Host;
use crate::config::{Configuration, Sources};
use crate::core::reading::Readings;
use crate::ingest::{ClockState, Decoded, Ingest, Route};

/// In each case, when the publish is received.
const RECEIVED_AT_MS: i64 = 1_795_465_865_131;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    about: String,
    topic: String,
    #[serde(default)]
    payload: String,
    /// Instead of `payload`, for bytes.
    #[serde(default)]
    hex: String,
    /// Keys of a `[[route]]`; without them only the built-in routes apply.
    #[serde(default)]
    route: String,
    /// Device, metric, value, time (`-` is that of receipt), and what else there is.
    #[serde(default)]
    readings: Vec<String>,
    #[serde(default)]
    refused: Option<String>,
}

impl Case {
    fn payload(&self) -> Vec<u8> {
        let digits: Vec<u8> = self.hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("hex");
        if digits.is_empty() { self.payload.clone().into_bytes() } else { digits.chunks(2).map(byte).collect() }
    }
}

fn cases() -> Vec<Case> {
    toml::from_str::<Cases>(include_str!("cases/payloads.toml")).expect("cases").case
}

/// The routes of a configuration with this `[[route]]`.
pub fn routes(route: &str) -> Result<Vec<Route>, String> {
    let text = if route.is_empty() { String::new() } else { format!("[[route]]\n{route}\n") };
    let sources = Sources { variables: vec![("OUTRIDER__STORE__PATH".into(), "/state".into())], ..Sources::default() };
    let configuration = Configuration::parse(Path::new("file"), &text, &sources, &Host::read());
    configuration.map(|configuration| configuration.routes).map_err(|problems| problems.to_string())
}

fn lines(readings: &Readings) -> Vec<String> {
    let line = |reading: crate::core::reading::Reading<'_>| {
        let exact = reading.rounding.map_or(String::new(), |rounding| format!("={}", rounding.exact(reading.value)));
        let at = match reading.measured_at_ms {
            RECEIVED_AT_MS => "-".to_owned(),
            at_ms => at_ms.to_string(),
        };
        let sequence = reading.sequence.map(|sequence| format!(" seq={sequence}")).unwrap_or_default();
        let attributes: String = reading.attributes.iter().map(|(name, text)| format!(" {name}={text}")).collect();
        format!("{} {} {}{exact} {at}{sequence}{attributes}", reading.device, reading.metric, reading.value)
    };
    readings.iter().map(line).collect()
}

#[test]
fn each_payload_gives_its_readings_or_its_refusal() {
    let mut wrong = Vec::new();
    for case in cases() {
        let name = format!("{}: {} {:?}", case.about, case.topic, String::from_utf8_lossy(&case.payload()));
        let routes = match routes(&case.route) {
            Ok(routes) => routes,
            Err(problems) => {
                wrong.push(format!("{name}\n  {problems}"));
                continue;
            }
        };
        let mut readings = Readings::default();
        let decoded = Ingest::new(routes, ClockState::new(true)).decode(
            &case.topic,
            &case.payload(),
            RECEIVED_AT_MS,
            &mut readings,
        );
        let (found, refused) = match decoded {
            Decoded::Stored { .. } => (lines(&readings), None),
            Decoded::Undecodable { reason } => (Vec::new(), Some(reason.to_owned())),
            Decoded::Unrouted => (Vec::new(), Some("unrouted".to_owned())),
        };
        if (&found, &refused) != (&case.readings, &case.refused) {
            wrong.push(format!("{name}\n  gives {found:?} {refused:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_case_is_of_its_own_kind() {
    let cases = cases();
    for (at, case) in cases.iter().enumerate() {
        assert!(case.readings.is_empty() || case.refused.is_none(), "{}: either readings or a refusal", case.about);
        let is_same =
            |other: &Case| other.topic == case.topic && other.payload() == case.payload() && other.route == case.route;
        assert!(!cases[..at].iter().any(is_same), "{}: twice", case.about);
    }
}
