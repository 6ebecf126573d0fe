//! Kinds of publishes that cannot be decoded, with what would take them: those of this run, and those of which the store has a sample from
//! an earlier one. For these the present routes are tried on the sample, once for each.

use std::collections::HashMap;

use super::ledger::RejectedSample;
use crate::ingest::Route;
use crate::ingest::explain::hint_of_sample;
use crate::ingest::undecodable::{SAMPLE_CHARS, UndecodableKind};

/// The routes that are tried, and what came of it.
#[derive(Debug, Default)]
pub struct SampleHints {
    routes: Vec<Route>,
    /// By the id of the sample and its time, because a store that is begun anew gives ids again.
    hints: HashMap<(i64, i64), String>,
}

impl SampleHints {
    pub fn new(routes: Vec<Route>) -> SampleHints {
        SampleHints { routes, hints: HashMap::new() }
    }

    /// Those of this run, and then the others, the newest first.
    pub(super) fn with_stored(
        &mut self,
        of_this_run: Vec<UndecodableKind>,
        samples: &[RejectedSample],
    ) -> Vec<UndecodableKind> {
        self.hints.retain(|key, _| samples.iter().any(|sample| sample.key() == *key));
        let is_known = |sample: &&RejectedSample| {
            of_this_run.iter().any(|kind| kind.reason == sample.reason && kind.topic == sample.topic)
        };
        let stored: Vec<UndecodableKind> =
            samples.iter().filter(|sample| !is_known(sample)).map(|sample| self.kind(sample)).collect();
        of_this_run.into_iter().chain(stored).collect()
    }

    fn kind(&mut self, sample: &RejectedSample) -> UndecodableKind {
        let RejectedSample { reason, topic, bytes, .. } = sample;
        let routes = &self.routes;
        let hint = self.hints.entry(sample.key()).or_insert_with(|| hint_of_sample(routes, topic, bytes, reason));
        UndecodableKind {
            reason: reason.clone().into(),
            topic: topic.clone(),
            count: 0,
            sample: sample.sample.chars().take(SAMPLE_CHARS).collect(),
            hint: hint.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::{Format, Ingest, SAMPLE_BYTES_MAX};

    fn sample(id: i64, topic: &str, payload: &str) -> RejectedSample {
        RejectedSample {
            id,
            received_at_ms: 5,
            reason: "no_number".to_owned(),
            topic: topic.to_owned(),
            sample: payload.to_owned(),
            bytes: payload.as_bytes().to_vec(),
        }
    }

    #[test]
    fn what_an_earlier_run_refused_is_shown_with_what_would_take_it() {
        let mut hints = SampleHints::new(Ingest::default_routes());
        let text = "{\"value\":\"22.5\"}";
        let of_this_run = UndecodableKind {
            reason: "no_number".into(),
            topic: "devices/a/t".to_owned(),
            count: 3,
            sample: text.to_owned(),
            hint: "known".to_owned(),
        };
        let cut = format!("{{\"value\":\"22.5\",\"x\":\"{}", "x".repeat(SAMPLE_BYTES_MAX));
        let samples = [
            sample(1, "devices/a/t", text),
            sample(2, "devices/b/t", text),
            sample(3, "devices/c/t", &cut[..SAMPLE_BYTES_MAX]),
            sample(4, "devices/d/t", "22.5"),
            sample(5, "plant/e/t", "22.5"),
        ];
        let kinds = hints.with_stored(vec![of_this_run], &samples);
        let shown: Vec<_> = kinds.iter().map(|kind| (kind.topic.as_str(), kind.count, kind.hint.as_str())).collect();
        let expected = [
            ("devices/a/t", 3, "known"),
            (
                "devices/b/t",
                0,
                "it holds no number; add to the configuration:\n[[route]]\ntopic = \"devices/{device}/{metric...}\"\nnumbers = \"lenient\"",
            ),
            ("devices/c/t", 0, "it holds no number"),
            ("devices/d/t", 0, "the present configuration takes it"),
            (
                "plant/e/t",
                0,
                "no route takes this topic; add to the configuration:\n[[route]]\ntopic = \"plant/{device}/{metric...}\"",
            ),
        ];
        assert_eq!(shown, expected);
        assert!(kinds.iter().all(|kind| kind.sample.chars().count() <= SAMPLE_CHARS));
    }

    #[test]
    fn each_sample_is_tried_once_and_forgotten_with_it() {
        let mut hints = SampleHints::new(vec![
            Route::parse("devices/{device}/{metric...}", Format::Json, None, None).expect("a route"),
        ]);
        let samples = [sample(1, "devices/a/t", "x"), sample(2, "devices/b/t", "x")];
        hints.with_stored(Vec::new(), &samples);
        hints.hints.insert((1, 5), "kept".to_owned());
        assert_eq!(hints.with_stored(Vec::new(), &samples)[0].hint, "kept");
        hints.with_stored(Vec::new(), &samples[1..]);
        assert_eq!(hints.hints.len(), 1);
    }
}
