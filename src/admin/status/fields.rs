//! What the status says, field by field.

use std::borrow::Cow;
use std::net::SocketAddr;

use serde::Serialize;

use crate::admin::flow::FlowLine;
use crate::admin::ledger::{LedgerLine, RejectedSample, StoreView, StreamContent};
use crate::admin::rules::RulesStatus;
use crate::admin::status::bridges::BridgeStatus;
use crate::admin::status::inputs::InputStatus;
use crate::core::detection::alert::Severity;
use crate::core::link::{Class, Waiting};
use crate::counter::HistogramView;
use crate::ingest::{self, undecodable::UndecodableKind};
use crate::mqtt::EdgeCounters;
use crate::pipeline::overview::Overview;
use crate::sinks::links::SharedLink;
use crate::sinks::status::{KeysSetAside, SinkSource};
use crate::store::totals::EXPIRED_WITH_SINK;

#[derive(Debug, Serialize)]
pub struct Status {
    pub version: &'static str,
    pub gateway: String,
    pub run: String,
    pub state: Cow<'static, str>,
    pub clock: &'static str,
    pub started_at_ms: i64,
    pub uptime_s: u64,
    pub now_ms: i64,
    pub received: Received,
    pub ledger: Vec<LedgerLine>,
    pub ledger_adds_up: bool,
    /// Each line of the ledger as it flows now: rates, age and end of what is buffered.
    pub flow: Vec<FlowLine>,
    pub store: StoreStatus,
    pub sinks: Vec<SinkStatus>,
    /// Links whose bytes are counted; left out if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkLine>,
    pub dropped_sinks: Vec<DroppedSink>,
    /// Each `[[file]]`: how far it is read.
    pub files: Vec<InputStatus>,
    /// Each `[[bridge]]`; left out if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bridges: Vec<BridgeStatus>,
    pub listeners: Vec<ListenerStatus>,
    pub mqtt: MqttStatus,
    pub detection: DetectionStatus,
    /// What is watched, how and why, and what is not; `None` if it was not asked for, or the pipeline did not answer in time.
    pub series: Option<Overview>,
    /// The first hundred: raised before cleared, then the most severe, then the latest. `/api/alerts` has all.
    pub alerts: Vec<serde_json::Value>,
    pub alerts_total: u64,
    pub admin: AdminStatus,
    pub rules: RulesStatus,
    pub unrouted: Unrouted,
    /// A kind for each reason and topic, with the line of configuration that would take it: those since the start, and others of which the
    /// store still has a sample.
    pub undecodable: Vec<UndecodableKind>,
    pub rejected_samples: Vec<RejectedSample>,
    pub disk: Option<DiskStatus>,
    pub cost: Cost,
    /// The rest is for the metrics only. Alerts that are raised, by severity.
    #[serde(skip)]
    pub alerts_by_severity: [u64; Severity::ALL.len()],
    #[serde(skip)]
    pub histograms: Histograms,
}

#[derive(Debug)]
pub struct Histograms {
    pub commit: HistogramView,
    pub puback: HistogramView,
}

#[derive(Debug, Default, Serialize)]
pub struct Received {
    pub accepted: u64,
    /// Readings that were judged but not acknowledged, because nothing could be stored.
    pub refused: u64,
    pub undecodable: u64,
    pub undecodable_by_reason: std::collections::BTreeMap<String, u64>,
    pub duplicate: u64,
    /// Readings that rules kept out of the raw stream.
    pub dropped_by_rule: u64,
    /// Readings in whose place rules stored one for each span of time.
    pub summarised_by_rule: u64,
    /// Readings that rules made; they were not received.
    pub derived: u64,
    /// Alerts that were raised while nothing could be stored.
    pub raised_unstored: u64,
    /// Flagged readings that raised no alert because there are too many alerts.
    pub unraised: u64,
}

#[derive(Debug, Serialize)]
pub struct StoreStatus {
    pub bytes: u64,
    pub bytes_max: u64,
    pub oldest_age_s: Option<u64>,
    /// How long the free room lasts at the rate of this run; `None` before there is a rate.
    pub holds_days: Option<f64>,
    pub streams: Vec<StreamContent>,
    pub dead_letters_held: u64,
    pub commits: u64,
    pub commit_ms_last: f64,
    pub commit_ms_max: f64,
    pub writing: bool,
    /// Readings refused since the start because they could not be stored.
    pub readings_refused: u64,
    /// Damaged stores that were set aside, over all runs, and whether one is being salvaged.
    pub damaged_stores: u64,
    pub salvaging: bool,
}

#[derive(Debug, Serialize)]
pub struct SinkStatus {
    pub name: String,
    pub stream: String,
    pub kind: &'static str,
    /// Whether the configuration still names it; if not, its cursor and data are kept as long as there is room.
    pub configured: bool,
    /// The operator's command to drop it, if it is not configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_with: Option<String>,
    pub records_sent: u64,
    pub records_retried: u64,
    pub records_rejected: u64,
    /// Bytes of request bodies since the start, repeats included; for an archive, bytes written to its files.
    pub sent_bytes: u64,
    /// Files of an archive removed since the start, for its size limit or for free disk space.
    pub files_removed: u64,
    /// Partition keys whose records fail while others are accepted: they are delivered later, from positions of their own.
    pub keys_set_aside: KeysSetAside,
    /// Records in these files, as far as their names tell.
    pub records_removed: u64,
    pub last_error: Option<String>,
    /// What is waited for, such as the budget of a link. No fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<&'static str>,
}

/// A sink that an operator has dropped.
#[derive(Debug, Serialize)]
pub struct DroppedSink {
    pub name: String,
    pub stream: String,
    /// Records that were not delivered to it.
    pub expired: u64,
}

/// A listener, with the address that it has.
#[derive(Clone, Debug, Serialize)]
pub struct ListenerStatus {
    pub name: String,
    pub listen: SocketAddr,
}

#[derive(Debug, Serialize)]
pub struct MqttStatus {
    pub connections: u64,
    pub connections_total: u64,
    pub connections_refused: u64,
    pub connections_delayed: u64,
    /// How often a client was not read for a while, because it had sent more than it may.
    pub clients_slowed: u64,
    /// Connections since the start that sent a user name or a password, which is not checked.
    pub logins_unchecked: u64,
    pub publishes_qos_0: u64,
    pub publishes_qos_1: u64,
    /// Repeats of the same message included.
    pub publishes_qos_2: u64,
    pub publishes_refused: u64,
    pub publishes_denied: u64,
    pub filters_denied: u64,
    pub logins_refused: u64,
    pub bytes_received: u64,
    pub subscribers_overrun: u64,
    pub messages_dropped: u64,
    /// Messages for sessions that are kept in memory only, because there was no room in the store.
    pub messages_unstored: u64,
    /// Messages that their subscriber does not take, because they are too large for it, or that were of no use any more.
    pub messages_left_out: u64,
    pub sessions_given_way: u64,
    pub sessions_expired: u64,
    pub filters_refused: u64,
    pub retained_refused: u64,
}

#[derive(Debug, Serialize)]
pub struct AdminStatus {
    /// `None` without an interface by TCP.
    pub listen: Option<SocketAddr>,
    /// Requests with a wrong token since the start.
    pub logins_refused: u64,
}

#[derive(Debug, Serialize)]
pub struct DetectionStatus {
    pub series: u64,
    pub readings_unwatched: u64,
    pub anomalies: u64,
    pub alerts_raised: u64,
    /// Alerts that were published without being stored, since the start.
    pub alerts_raised_unstored: u64,
    /// Flagged readings that raised no alert because there are too many alerts.
    pub alerts_unraised: u64,
    /// Acknowledgements of unknown alerts.
    pub acknowledgements_unknown: u64,
}

#[derive(Debug, Serialize)]
pub struct Unrouted {
    pub count: u64,
    pub topics: Vec<String>,
    /// Routes that would store them, as TOML for the configuration, each once.
    pub routes: Vec<String>,
}

/// What this process has written to its disk and sent over its link since the start.
#[derive(Debug, Serialize)]
pub struct Cost {
    /// Readings that were stored.
    pub readings: u64,
    /// What the process wrote according to the operating system, in whole pages; `None` if the system does not say.
    pub written: Option<Bytes>,
    /// Bytes of request bodies of all sinks, repeats included. Files of an archive are not sent; they count as written.
    pub sent: Bytes,
}

#[derive(Debug, Serialize)]
pub struct Bytes {
    pub bytes: u64,
    /// `None` before there is a reading.
    pub a_reading: Option<f64>,
    pub a_day: f64,
}

#[derive(Debug, Serialize)]
pub struct DiskStatus {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

impl Status {
    /// The part of the gateway's own record after the fields that every record begins with.
    pub fn record_tail(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Record<'a> {
            version: &'a str,
            at_ms: i64,
            state: &'a str,
            clock: &'a str,
            uptime_s: u64,
            received: &'a Received,
            ledger: &'a [LedgerLine],
            streams: &'a [StreamContent],
            store_bytes: u64,
            damaged_stores: u64,
            store_oldest_age_s: Option<u64>,
            sinks: &'a [SinkStatus],
            dropped_sinks: &'a [DroppedSink],
            alerts_raised: u64,
            disk: &'a Option<DiskStatus>,
        }
        let record = Record {
            version: self.version,
            at_ms: self.now_ms,
            state: &self.state,
            clock: self.clock,
            uptime_s: self.uptime_s,
            received: &self.received,
            ledger: &self.ledger,
            streams: &self.store.streams,
            store_bytes: self.store.bytes,
            damaged_stores: self.store.damaged_stores,
            store_oldest_age_s: self.store.oldest_age_s,
            sinks: &self.sinks,
            dropped_sinks: &self.dropped_sinks,
            alerts_raised: self.detection.alerts_raised,
            disk: &self.disk,
        };
        let json = serde_json::to_vec(&record).expect("plain data");
        // `{...}` becomes `,...}` and a line feed.
        let mut tail = vec![b','];
        tail.extend_from_slice(&json[1..]);
        tail.push(b'\n');
        tail
    }
}

impl DroppedSink {
    pub fn all(view: &StoreView) -> Vec<DroppedSink> {
        let of = |(name, expired): &(String, u64)| {
            let (stream, sink) = name.strip_prefix(EXPIRED_WITH_SINK)?.strip_prefix(':')?.split_once(':')?;
            Some(DroppedSink { name: sink.to_owned(), stream: stream.to_owned(), expired: *expired })
        };
        view.totals.iter().filter_map(of).collect()
    }
}

impl Received {
    pub fn of(view: &StoreView) -> Received {
        let mut received = Received::default();
        for (name, value) in &view.totals {
            match name.split_once(':') {
                Some(("undecodable", reason)) => {
                    received.undecodable += value;
                    received.undecodable_by_reason.insert(reason.to_owned(), *value);
                }
                _ if name == "accepted" => received.accepted = *value,
                _ if name == "dropped_by_rule" => received.dropped_by_rule = *value,
                _ if name == "summarised_by_rule" => received.summarised_by_rule = *value,
                _ if name == "derived" => received.derived = *value,
                _ if name == "refused" => received.refused = *value,
                _ if name == "raised_unstored" => received.raised_unstored = *value,
                _ if name == "unraised" => received.unraised = *value,
                _ => {}
            }
        }
        received
    }
}

impl SinkStatus {
    pub fn of(source: &SinkSource) -> SinkStatus {
        SinkStatus {
            name: source.sink.clone(),
            stream: source.stream_name.to_string(),
            kind: source.kind,
            configured: true,
            drop_with: None,
            records_sent: source.status.records_sent.get(),
            records_retried: source.status.records_retried.get(),
            records_rejected: source.status.records_rejected.get(),
            sent_bytes: source.status.sent_bytes.get(),
            files_removed: source.status.files_removed.get(),
            keys_set_aside: source.status.keys_set_aside(),
            records_removed: source.status.records_removed.get(),
            last_error: source.status.last_error(),
            waiting: source.status.waiting(),
        }
    }
}

/// A link that costs money, and what it will cost.
#[derive(Debug, Serialize)]
pub struct LinkLine {
    pub name: String,
    pub metered: bool,
    pub bytes_today: u64,
    pub bytes_per_day: Option<u64>,
    pub bytes_this_month: u64,
    pub bytes_per_month: Option<u64>,
    /// `None` while the clock is not set.
    pub month_ends_at_ms: Option<i64>,
    /// Of a whole day and the whole month, if it goes on as in the last seven days; `None` if too little is known.
    pub forecast_bytes_per_day: Option<u64>,
    pub forecast_bytes_this_month: Option<u64>,
    /// When the month's budget is spent at this pace, if that is before its end.
    pub spent_at_ms: Option<i64>,
    /// What others than alerts wait for.
    pub waiting: Option<&'static str>,
    /// What even alerts wait for.
    pub alerts_waiting: Option<&'static str>,
    /// Of all time, while it was metered and while it was not.
    pub metered_bytes: u64,
    pub free_bytes: u64,
    /// Of the metered ones, by class.
    pub metered_bytes_by_class: std::collections::BTreeMap<&'static str, u64>,
}

impl LinkLine {
    pub fn of(link: &SharedLink) -> LinkLine {
        let status = link.status();
        let forecast = status.forecast;
        LinkLine {
            name: link.name.to_string(),
            metered: status.is_metered,
            bytes_today: status.bytes_today,
            bytes_per_day: link.settings.bytes_per_day,
            bytes_this_month: status.bytes_of_month,
            bytes_per_month: link.settings.bytes_per_month,
            month_ends_at_ms: status.month_end_ms,
            forecast_bytes_per_day: forecast.map(|forecast| forecast.bytes_per_day),
            forecast_bytes_this_month: forecast.map(|forecast| forecast.bytes_of_month),
            spent_at_ms: forecast.and_then(|forecast| forecast.spent_at_ms),
            waiting: status.waiting.map(Waiting::text),
            alerts_waiting: status.alerts_waiting.map(Waiting::text),
            metered_bytes: status.metered_bytes,
            free_bytes: status.free_bytes,
            metered_bytes_by_class: Class::ALL.map(Class::name).into_iter().zip(status.by_class).collect(),
        }
    }
}

impl Unrouted {
    pub fn of(edge: &EdgeCounters) -> Unrouted {
        let topics = edge.unrouted_topics.lock().map(|topics| topics.iter().cloned().collect()).unwrap_or_default();
        let mut unrouted = Unrouted { count: edge.publishes_unrouted.get(), topics, routes: Vec::new() };
        for route in unrouted.topics.iter().filter_map(|topic| ingest::route_for(topic)) {
            if !unrouted.routes.contains(&route) {
                unrouted.routes.push(route);
            }
        }
        unrouted
    }
}

impl MqttStatus {
    pub fn of(edge: &EdgeCounters) -> MqttStatus {
        MqttStatus {
            connections: edge.connections.get().saturating_sub(edge.disconnections.get()),
            connections_total: edge.connections.get(),
            connections_refused: edge.connections_refused.get(),
            connections_delayed: edge.connections_delayed.get(),
            clients_slowed: edge.clients_slowed.get(),
            logins_unchecked: edge.logins_unchecked.get(),
            publishes_qos_0: edge.publishes_qos_0.get(),
            publishes_qos_1: edge.publishes_qos_1.get(),
            publishes_qos_2: edge.publishes_qos_2.get(),
            publishes_refused: edge.publishes_refused.get(),
            publishes_denied: edge.publishes_denied.get(),
            filters_denied: edge.filters_denied.get(),
            logins_refused: edge.logins_refused.get(),
            bytes_received: edge.bytes_received.get(),
            subscribers_overrun: edge.subscribers_overrun.get(),
            messages_dropped: edge.messages_dropped.get(),
            messages_unstored: edge.messages_unstored.get(),
            messages_left_out: edge.messages_left_out.get(),
            sessions_given_way: edge.sessions_given_way.get(),
            sessions_expired: edge.sessions_expired.get(),
            filters_refused: edge.filters_refused.get(),
            retained_refused: edge.retained_refused.get(),
        }
    }
}
