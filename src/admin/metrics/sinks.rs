//! Of each sink and stream: the terms of the ledger, and how sending goes.

use super::text::Text;
use crate::admin::ledger::LedgerLine;
use crate::admin::status::{SinkStatus, Status};

/// Name, kind, help and value of a metric of each sink and stream.
type OfSink = (&'static str, &'static str, &'static str, fn(&SinkStatus) -> f64);

const OF_SINKS: [OfSink; 8] = [
    ("sink_records_sent_total", "counter", "records sent since the start, repeats included", |sink| {
        sink.records_sent as f64
    }),
    ("sink_sent_bytes_total", "counter", "bytes of request bodies since the start, or of an archive's files", |sink| {
        sink.sent_bytes as f64
    }),
    ("sink_records_retried_total", "counter", "records that had to be sent again since the start", |sink| {
        sink.records_retried as f64
    }),
    ("sink_files_removed_total", "counter", "files of an archive removed to make room, since the start", |sink| {
        sink.files_removed as f64
    }),
    (
        "archive_removed_records_total",
        "counter",
        "records in the files of an archive that were removed to make room, since the start",
        |sink| sink.records_removed as f64,
    ),
    ("sink_keys_set_aside", "gauge", "partition keys whose records fail while others are accepted", |sink| {
        sink.keys_set_aside.count as f64
    }),
    ("sink_waiting", "gauge", "1 while records wait for the budget of a link, which is no failure", |sink| {
        f64::from(u8::from(sink.waiting.is_some()))
    }),
    ("sink_up", "gauge", "0 while the sink fails", |sink| f64::from(u8::from(sink.last_error.is_none()))),
];

pub fn write(text: &mut Text, status: &Status) {
    type Term = fn(&LedgerLine) -> u64;
    let terms: [(&str, &str, Term); 6] = [
        ("sink_records_accepted_total", "records that the sink is to get", |line| line.accepted),
        ("sink_records_delivered_total", "records that the sink has", |line| line.delivered),
        ("sink_records_expired_total", "records removed to make room before the sink had them", |line| line.expired),
        (
            "sink_records_dead_lettered_total",
            "records that the sink permanently refused, also those that it took later",
            |line| line.dead_lettered + line.letters_delivered,
        ),
        ("sink_records_quarantined_total", "records of damaged batches", |line| line.quarantined),
        (
            "sink_records_passed_over_total",
            "delivered records that the sink does not take, so they were not sent",
            |line| line.passed_over,
        ),
    ];
    for (name, help, term) in terms {
        text.family(name, "counter", help);
        for line in &status.ledger {
            text.sample(name, &[("stream", &line.stream), ("sink", &line.sink)], term(line) as f64);
        }
    }
    for (name, kind, help, value) in OF_SINKS {
        text.family(name, kind, help);
        for sink in &status.sinks {
            text.sample(name, &[("stream", &sink.stream), ("sink", &sink.name)], value(sink));
        }
    }
    text.family("sink_oldest_seconds", "gauge", "age of the oldest record that the sink has not got, 0 if it has all");
    for line in &status.ledger {
        let age_ms = line.oldest_ms.map_or(0, |oldest_ms| (status.now_ms - oldest_ms).max(0));
        text.sample("sink_oldest_seconds", &[("stream", &line.stream), ("sink", &line.sink)], age_ms as f64 / 1e3);
    }
    text.flag("ledger_adds_up", "1 while every term of the ledger is accounted for", status.ledger_adds_up);
}
