//! The status in Prometheus' text format. The names of all metrics are in this file and its parts, and `docs/METRICS.md` is written from what it writes.

use std::collections::BTreeMap;

use super::rules::RuleStatus;
use super::status::{LinkLine, SinkStatus, Status};
use crate::core::detection::alert::Severity;
use crate::ingest::REASONS;
use crate::tls::Expiry;

mod bridges;
mod files;
mod process;
mod text;

use process::Process;
use text::Text;

pub fn write(status: &Status, certificates: &[(String, Expiry)]) -> String {
    let mut text = Text(String::with_capacity(8192));
    text.family("info", "gauge", "version and identity of this gateway");
    text.sample("info", &[("version", status.version), ("gateway", &status.gateway), ("run", &status.run)], 1.0);
    text.single("uptime_seconds", "gauge", "since the start of the process", status.uptime_s as f64);
    text.family("state", "gauge", "1 for the state that the gateway is in, in one word: running, or what is wrong");
    text.sample("state", &[("state", &status.state)], 1.0);
    text.single(
        "clock_synced",
        "gauge",
        "1 while the system clock is synchronised",
        f64::from(u8::from(status.clock == "synced")),
    );
    write_ingest(&mut text, status);
    write_store(&mut text, status);
    text.histogram("commit_seconds", "how long commits took, since the start", &status.histograms.commit);
    text.histogram(
        "puback_seconds",
        "from reading a publish to writing its PUBACK, since the start",
        &status.histograms.puback,
    );
    write_sinks(&mut text, status);
    write_links(&mut text, status);
    write_mqtt(&mut text, status);
    files::write(&mut text, status);
    bridges::write(&mut text, status);
    text.single(
        "admin_logins_refused_total",
        "counter",
        "requests to the administration interface with a wrong token, since the start",
        status.admin.logins_refused as f64,
    );
    write_certificates(&mut text, certificates);
    write_process(&mut text, status);
    write_rules(&mut text, status);
    text.single("detection_series", "gauge", "series that are watched", status.detection.series as f64);
    text.single(
        "detection_readings_unwatched_total",
        "counter",
        "readings of series above the cap, stored but not watched",
        status.detection.readings_unwatched as f64,
    );
    text.single(
        "detection_anomalies_total",
        "counter",
        "flagged readings since the start",
        status.detection.anomalies as f64,
    );
    text.single("alerts_raised", "gauge", "alerts that are raised now", status.detection.alerts_raised as f64);
    text.family("alerts_raised_by_severity", "gauge", "those of them that are stored, by severity");
    for severity in Severity::ALL {
        let count = status.alerts_by_severity[severity as usize];
        text.sample("alerts_raised_by_severity", &[("severity", severity.name())], count as f64);
    }
    text.single(
        "alerts_unraised_total",
        "counter",
        "flagged readings that raised no alert because there are too many alerts, over all runs",
        status.received.unraised as f64,
    );
    text.single(
        "alerts_raised_unstored_total",
        "counter",
        "alerts that were raised while nothing could be stored, over all runs",
        status.received.raised_unstored as f64,
    );
    text.single(
        "alert_acknowledgements_unknown_total",
        "counter",
        "acknowledgements of unknown alerts, since the start",
        status.detection.acknowledgements_unknown as f64,
    );
    text.0
}

fn write_certificates(text: &mut Text, certificates: &[(String, Expiry)]) {
    text.family(
        "certificate_expiry_timestamp_seconds",
        "gauge",
        "when a certificate or revocation list ends, since 1970",
    );
    for (interface, expiry) in certificates {
        let file = expiry.file.display().to_string();
        let labels = [("interface", interface.as_str()), ("file", &file), ("what", &expiry.what)];
        text.sample("certificate_expiry_timestamp_seconds", &labels, (expiry.not_after_ms / 1000) as f64);
    }
}

fn write_process(text: &mut Text, status: &Status) {
    let start = status.started_at_ms as f64 / 1e3;
    text.of_the_process("start_time_seconds", "gauge", "start of the process since 1970", start);
    let Some(process) = Process::look() else { return };
    text.of_the_process("cpu_seconds_total", "counter", "processor time of all threads", process.cpu_s);
    text.of_the_process("resident_memory_bytes", "gauge", "memory in use", process.resident_bytes as f64);
    text.of_the_process("open_fds", "gauge", "file descriptors in use", process.descriptors as f64);
    text.of_the_process("max_fds", "gauge", "most file descriptors", process.descriptors_max as f64);
}

fn write_rules(text: &mut Text, status: &Status) {
    type Of = fn(&RuleStatus) -> u64;
    let families: [(&str, &str, Of); 4] = [
        ("rule_evaluations_total", "messages or readings that a rule was evaluated for", |rule| rule.evaluations),
        ("rule_matches_total", "those for which it held", |rule| rule.matches),
        ("rule_errors_total", "evaluations and actions of a rule that failed", |rule| rule.errors),
        ("rule_loops_cut_total", "messages that a rule did not see because it had made them", |rule| rule.loops_cut),
    ];
    for (name, help, of) in families.into_iter().filter(|_| !status.rules.running.is_empty()) {
        text.family(name, "counter", help);
        for rule in &status.rules.running {
            text.sample(name, &[("rule", &rule.name)], of(rule) as f64);
        }
    }
    text.single(
        "rules_readings_left_out_total",
        "counter",
        "readings that no rule saw because there are too many devices, since the start",
        status.rules.readings_left_out as f64,
    );
    text.single(
        "rules_refused",
        "gauge",
        "1 while what was loaded last is wrong, and the rules before stay in force",
        f64::from(u8::from(status.rules.error.is_some())),
    );
    for (name, help, value) in [
        (
            "readings_dropped_by_rule_total",
            "readings that rules kept out of the raw stream",
            status.received.dropped_by_rule,
        ),
        (
            "readings_summarised_by_rule_total",
            "readings in whose place rules stored one for each span of time",
            status.received.summarised_by_rule,
        ),
        ("readings_derived_total", "readings that rules made", status.received.derived),
    ] {
        text.single(name, "counter", &format!("{help}, over all runs"), value as f64);
    }
}

fn write_ingest(text: &mut Text, status: &Status) {
    text.single(
        "readings_accepted_total",
        "counter",
        "readings stored, over all runs",
        status.received.accepted as f64,
    );
    text.single(
        "readings_refused_total",
        "counter",
        "readings that could not be stored and were not acknowledged, over all runs",
        status.received.refused as f64,
    );
    text.single(
        "readings_duplicate_total",
        "counter",
        "readings that came again, were acknowledged, and were stored once, over all runs",
        status.received.duplicate as f64,
    );
    text.family("publishes_undecodable_total", "counter", "publishes that could not be decoded, over all runs");
    // What grows from zero is noticed, and what appears is not.
    let counted = &status.received.undecodable_by_reason;
    let known: BTreeMap<&str, u64> = REASONS.iter().map(|(reason, _)| (*reason, 0)).collect();
    let by_reason = known.into_iter().chain(counted.iter().map(|(reason, count)| (reason.as_str(), *count)));
    for (reason, count) in by_reason.collect::<BTreeMap<_, _>>() {
        text.sample("publishes_undecodable_total", &[("reason", reason)], count as f64);
    }
    text.single(
        "publishes_unrouted_total",
        "counter",
        "publishes that no route takes, since the start",
        status.unrouted.count as f64,
    );
}

fn write_store(text: &mut Text, status: &Status) {
    if let Some(written) = &status.cost.written {
        text.single(
            "disk_written_bytes_total",
            "counter",
            "bytes that the process wrote to disks since the start, in whole pages",
            written.bytes as f64,
        );
    }
    text.single("buffer_bytes", "gauge", "bytes in use in the store", status.store.bytes as f64);
    text.single("buffer_bytes_max", "gauge", "capacity of the store", status.store.bytes_max as f64);
    text.single(
        "buffer_oldest_seconds",
        "gauge",
        "age of the oldest record that is held for a sink",
        status.store.oldest_age_s.unwrap_or(0) as f64,
    );
    text.family("buffer_events", "gauge", "records held and not delivered, by stream and sink");
    for line in &status.ledger {
        text.sample("buffer_events", &[("stream", &line.stream), ("sink", &line.sink)], line.buffered as f64);
    }
    text.family("history_events", "gauge", "records held though every sink has them, by stream");
    for stream in &status.store.streams {
        text.sample("history_events", &[("stream", &stream.stream)], stream.history_records as f64);
    }
    text.family("history_seconds", "gauge", "age of the oldest of these");
    for stream in &status.store.streams {
        let age_ms = stream.history_from_ms.map_or(0, |from_ms| (status.now_ms - from_ms).max(0));
        text.sample("history_seconds", &[("stream", &stream.stream)], age_ms as f64 / 1e3);
    }
    text.single(
        "dead_letters_held",
        "gauge",
        "refused records that are kept to be looked at",
        status.store.dead_letters_held as f64,
    );
    text.single(
        "store_salvaging",
        "gauge",
        "1 while records are taken over from a damaged store",
        f64::from(u8::from(status.store.salvaging)),
    );
    text.single("store_commits_total", "counter", "transactions since the start", status.store.commits as f64);
    text.single(
        "store_commit_seconds_last",
        "gauge",
        "duration of the last commit, fsync included",
        status.store.commit_ms_last / 1e3,
    );
    text.single(
        "store_commit_seconds_max",
        "gauge",
        "longest commit since the start",
        status.store.commit_ms_max / 1e3,
    );
    text.single(
        "store_writing",
        "gauge",
        "0 while the store cannot be written",
        f64::from(u8::from(status.store.writing)),
    );
    text.single(
        "store_readings_refused_total",
        "counter",
        "readings turned away since the start because they could not be stored",
        status.store.readings_refused as f64,
    );
    text.single(
        "store_damaged_total",
        "counter",
        "damaged stores that were set aside, over all runs",
        status.store.damaged_stores as f64,
    );
    if let Some(disk) = &status.disk {
        text.single("disk_free_bytes", "gauge", "free bytes of the state folder's disk", disk.free_bytes as f64);
        text.single("disk_size_bytes", "gauge", "size of the state folder's disk", disk.total_bytes as f64);
    }
}

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

fn write_links(text: &mut Text, status: &Status) {
    type Of = fn(&LinkLine) -> Option<f64>;
    let families: [(&str, &str, Of); 7] = [
        ("link_metered", "1 while the link counts as metered", |link| Some(f64::from(u8::from(link.metered)))),
        ("link_waiting", "1 while others than alerts wait for its budget", |link| {
            Some(f64::from(u8::from(link.waiting.is_some())))
        }),
        ("link_bytes_today", "bytes on sockets today (UTC), while it was metered", |link| {
            Some(link.bytes_today as f64)
        }),
        ("link_bytes_this_month", "the same in this month", |link| Some(link.bytes_this_month as f64)),
        ("link_bytes_per_day_max", "the budget of a day", |link| link.bytes_per_day.map(|bytes| bytes as f64)),
        ("link_bytes_per_month_max", "the budget of a month", |link| link.bytes_per_month.map(|bytes| bytes as f64)),
        ("link_forecast_bytes_this_month", "bytes of the whole month at the pace of the last seven days", |link| {
            link.forecast_bytes_this_month.map(|bytes| bytes as f64)
        }),
    ];
    for (name, help, of) in families.into_iter().filter(|_| !status.links.is_empty()) {
        text.family(name, "gauge", help);
        for link in &status.links {
            if let Some(value) = of(link) {
                text.sample(name, &[("link", &link.name)], value);
            }
        }
    }
    if status.links.is_empty() {
        return;
    }
    text.family(
        "link_metered_bytes_total",
        "counter",
        "bytes on sockets while the link was metered, over all runs, by class",
    );
    for link in &status.links {
        for (class, bytes) in &link.metered_bytes_by_class {
            text.sample("link_metered_bytes_total", &[("link", &link.name), ("class", class)], *bytes as f64);
        }
    }
    text.family("link_free_bytes_total", "counter", "bytes on sockets while the link was not metered, over all runs");
    for link in &status.links {
        text.sample("link_free_bytes_total", &[("link", &link.name)], link.free_bytes as f64);
    }
}

fn write_sinks(text: &mut Text, status: &Status) {
    type Term = fn(&super::ledger::LedgerLine) -> u64;
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
    text.single(
        "ledger_adds_up",
        "gauge",
        "1 while every term of the ledger is accounted for",
        f64::from(u8::from(status.ledger_adds_up)),
    );
}

fn write_mqtt(text: &mut Text, status: &Status) {
    let mqtt = &status.mqtt;
    text.single("mqtt_connections", "gauge", "clients connected now", mqtt.connections as f64);
    text.family("mqtt_publishes_total", "counter", "publishes received since the start");
    text.sample("mqtt_publishes_total", &[("qos", "0")], mqtt.publishes_qos_0 as f64);
    text.sample("mqtt_publishes_total", &[("qos", "1")], mqtt.publishes_qos_1 as f64);
    text.sample("mqtt_publishes_total", &[("qos", "2")], mqtt.publishes_qos_2 as f64);
    let counters = [
        ("mqtt_connections_total", "connections since the start", mqtt.connections_total),
        ("mqtt_connections_refused_total", "connections refused since the start", mqtt.connections_refused),
        (
            "mqtt_connections_delayed_total",
            "connections accepted later because too many came at once",
            mqtt.connections_delayed,
        ),
        (
            "mqtt_clients_slowed_total",
            "how often a client was not read for a while because it had sent more than it may",
            mqtt.clients_slowed,
        ),
        ("mqtt_logins_unchecked_total", "connections that sent a login, which is not checked", mqtt.logins_unchecked),
        (
            "mqtt_publishes_refused_total",
            "publishes to the gateway's own topics and those of brokers, and acknowledgements of alerts that do not say who acknowledges",
            mqtt.publishes_refused,
        ),
        (
            "mqtt_publishes_denied_total",
            "publishes that their clients had no right to: acknowledged and dropped",
            mqtt.publishes_denied,
        ),
        ("mqtt_filters_denied_total", "subscriptions that their clients had no right to", mqtt.filters_denied),
        ("mqtt_logins_refused_total", "logins that were wrong, or came too often", mqtt.logins_refused),
        ("mqtt_received_bytes_total", "bytes read from clients", mqtt.bytes_received),
        (
            "mqtt_subscribers_overrun_total",
            "subscribers disconnected because they read too slowly",
            mqtt.subscribers_overrun,
        ),
        (
            "mqtt_messages_dropped_total",
            "messages that found a subscriber's queue full, or whose bridge is no longer configured",
            mqtt.messages_dropped,
        ),
        (
            "mqtt_messages_unstored_total",
            "messages for sessions that are kept in memory only, for lack of room in the store",
            mqtt.messages_unstored,
        ),
        (
            "mqtt_messages_left_out_total",
            "messages that were too large for their subscriber, or had expired",
            mqtt.messages_left_out,
        ),
        (
            "mqtt_sessions_given_way_total",
            "sessions of clients that were away, ended to make room",
            mqtt.sessions_given_way,
        ),
        (
            "mqtt_sessions_expired_total",
            "sessions ended because their clients were away too long",
            mqtt.sessions_expired,
        ),
        ("mqtt_filters_refused_total", "subscriptions refused", mqtt.filters_refused),
        ("mqtt_retained_refused_total", "retained messages refused because there are too many", mqtt.retained_refused),
    ];
    for (name, help, value) in counters {
        text.single(name, "counter", help, value as f64);
    }
}
