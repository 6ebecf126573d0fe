//! What became of publishes and their readings.

use std::collections::BTreeMap;

use super::text::Text;
use crate::admin::status::Status;
use crate::ingest::REASONS;

pub fn write(text: &mut Text, status: &Status) {
    text.counter("readings_accepted_total", "readings stored, over all runs", status.received.accepted);
    text.counter(
        "readings_refused_total",
        "readings that could not be stored and were not acknowledged, over all runs",
        status.received.refused,
    );
    text.counter(
        "readings_duplicate_total",
        "readings that came again, were acknowledged, and were stored once, over all runs",
        status.received.duplicate,
    );
    text.family("publishes_undecodable_total", "counter", "publishes that could not be decoded, over all runs");
    // What grows from zero is noticed, and what appears is not.
    let counted = &status.received.undecodable_by_reason;
    let known: BTreeMap<&str, u64> = REASONS.iter().map(|(reason, _)| (*reason, 0)).collect();
    let by_reason = known.into_iter().chain(counted.iter().map(|(reason, count)| (reason.as_str(), *count)));
    for (reason, count) in by_reason.collect::<BTreeMap<_, _>>() {
        text.sample("publishes_undecodable_total", &[("reason", reason)], count as f64);
    }
    text.counter("publishes_unrouted_total", "publishes that no route takes, since the start", status.unrouted.count);
}
