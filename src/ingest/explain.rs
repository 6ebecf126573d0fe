//! What becomes of one publish, as lines of JSON for people and scripts.

use super::{ClockState, Decoded, Ingest, NO_MATCH, Route, SAMPLE_BYTES_MAX, UNROUTED, hints};
use crate::core::detection::detectors::profile::{ProfileChoice, Profiles};
use crate::core::json::write_text;
use crate::core::reading::{Reading, Readings};
use crate::core::record::{write_attributes, write_i64, write_series_and_value};

/// What became of a publish.
#[derive(Debug)]
pub enum Explained {
    Readings(Readings),
    Refused { reason: &'static str, hint: String },
}

/// Decodes a publish that is received at this time, or says why that is not possible.
pub fn explain(routes: &[Route], topic: &str, payload: &[u8], received_at_ms: i64) -> Explained {
    let mut readings = Readings::default();
    let decoded =
        Ingest::new(routes.to_vec(), ClockState::new(true)).decode(topic, payload, received_at_ms, &mut readings);
    match decoded {
        Decoded::Stored { .. } => Explained::Readings(readings),
        Decoded::Unrouted => Explained::Refused { reason: UNROUTED, hint: hints::hint_unrouted(topic) },
        Decoded::Undecodable { reason } => {
            Explained::Refused { reason, hint: hints::hint(routes, topic, payload, reason) }
        }
    }
}

/// For people: what would take a publish, or a line of a file, of which a sample is kept. The routes are tried on the sample, unless it is only
/// the beginning of the payload, or no payload was made of the line. Of a line of which one was made they may say something else than of that.
pub fn hint_of_sample(routes: &[Route], topic: &str, sample: &[u8], reason: &str) -> String {
    if sample.len() >= SAMPLE_BYTES_MAX || reason == NO_MATCH {
        return hints::why(reason).to_owned();
    }
    match explain(routes, topic, sample, 0) {
        Explained::Readings(_) => "the present configuration takes it".to_owned(),
        Explained::Refused { reason: now, hint } if now == reason || now == UNROUTED => hint,
        Explained::Refused { .. } => hints::why(reason).to_owned(),
    }
}

impl Explained {
    /// A line for each reading, with the profile by which it would be watched and the word that decides so, or one for the refusal.
    pub fn lines(&self, profiles: &Profiles) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Explained::Readings(readings) => {
                readings.iter().for_each(|reading| write_reading(&mut out, &reading, profiles));
            }
            Explained::Refused { reason, hint } => {
                out.extend_from_slice(b"{\"refused\":");
                write_text(&mut out, reason);
                out.extend_from_slice(b",\"hint\":");
                write_text(&mut out, hint);
                out.extend_from_slice(b"}\n");
            }
        }
        out
    }
}

fn write_reading(out: &mut Vec<u8>, reading: &Reading<'_>, profiles: &Profiles) {
    out.push(b'{');
    write_series_and_value(out, reading);
    out.extend_from_slice(b",\"measured_at_ms\":");
    // Without a time of its own, that of receipt would be taken.
    match reading.measured_at_ms == reading.received_at_ms {
        true => out.extend_from_slice(b"null"),
        false => write_i64(out, reading.measured_at_ms),
    }
    write_attributes(out, reading.attributes);
    let ProfileChoice { profile, word, .. } = profiles.choice(reading.metric);
    out.extend_from_slice(b",\"profile\":");
    write_text(out, profile);
    if let Some(word) = word {
        out.extend_from_slice(b",\"profile_word\":");
        write_text(out, word);
    }
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_reading_or_for_the_refusal() {
        let lines = |topic: &str, payload: &str| {
            let explained = explain(&Ingest::default_routes(), topic, payload.as_bytes(), 1_795_465_865_131);
            String::from_utf8(explained.lines(&Profiles::default())).expect("text")
        };
        assert_eq!(
            lines("devices/a", "{\"t\":22.5,\"n\":9007199254740993,\"ts\":1769610760,\"fw\":\"2\"}"),
            "{\"device\":\"a\",\"metric\":\"t\",\"value\":22.5,\"measured_at_ms\":1769610760000,\"attributes\":{\"fw\":\"2\"},\
             \"profile\":\"generic\"}\n\
             {\"device\":\"a\",\"metric\":\"n\",\"value\":9007199254740992.0,\"value_exact\":\"9007199254740993\",\
             \"measured_at_ms\":1769610760000,\"attributes\":{\"fw\":\"2\"},\"profile\":\"generic\"}\n"
        );
        assert_eq!(
            lines("devices/a/temp", "nan"),
            "{\"device\":\"a\",\"metric\":\"temp\",\"value\":null,\"measured_at_ms\":null,\"attributes\":{},\
             \"profile\":\"temperature\",\"profile_word\":\"temp\"}\n"
        );
        assert_eq!(
            lines("devices/a/t", "on"),
            "{\"refused\":\"not_json\",\"hint\":\"it is neither a number nor JSON\"}\n"
        );
        assert!(lines("x/a/t", "1").starts_with("{\"refused\":\"unrouted\",\"hint\":\"no route takes this topic; "));
    }

    #[test]
    fn of_a_line_of_a_file_the_reason_stays_that_for_which_it_was_refused() {
        let hint = |sample: &str, reason: &str| {
            hint_of_sample(&Ingest::default_routes(), "devices/a", sample.as_bytes(), reason)
        };
        // A route would take the line, but never gets it; what it gets of another one is something else than the line.
        assert_eq!(hint("21.5", NO_MATCH), "the line of a file does not match the `pattern` of its [[file]]");
        assert_eq!(hint("at 12:00 C ok", "no_number"), "it holds no number");
        assert_eq!(hint("at 12:00 C ok", "not_json"), "it is neither a number nor JSON");
        assert_eq!(hint("{\"t\":21.5}", "no_number"), "the present configuration takes it");
    }
}
