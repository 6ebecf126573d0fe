//! The gateway's status, for `/api/status`, its page, its own records and `outrider/status`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::access::CurrentAccess;
use super::flow::{FlowLine, FlowMeter};
use super::history::HistorySource;
use super::ledger::{self, LedgerLine, RejectedSample, StoreView, StreamContent};
use super::origin::Hosts;
use super::rules::{self, RulesStatus};
use super::undecodable::SampleHints;
use crate::core::detection::alert::Severity;
use crate::core::identity::RunId;
use crate::counter::HistogramView;
use crate::disk::{self, DiskSpace};
use crate::handoff::rules::CurrentRules;
use crate::heartbeat::Watcher;
use crate::ingest::{self, ClockState};
use crate::mqtt::alert_feed::AlertFeed;
use crate::mqtt::listener::CurrentPolicies;
use crate::mqtt::{EdgeCounters, Phase, UndecodableKind};
use crate::pipeline::StoreCounters;
use crate::pipeline::overview::Overview;
use crate::sinks::status::{KeysSetAside, SinkSource};
use crate::store::reader::Reader;
use crate::store::totals::EXPIRED_WITH_SINK;
use crate::tls::Expiry;

/// Where the figures come from.
#[derive(Debug)]
pub struct Sources {
    pub gateway_id: String,
    pub run: RunId,
    /// Where clients connect.
    pub listeners: Vec<ListenerStatus>,
    /// Where the administration interface answers, if it does by TCP.
    pub admin_listen: Option<SocketAddr>,
    pub started: Instant,
    pub started_at_ms: i64,
    pub state_folder: std::path::PathBuf,
    pub store_bytes_max: u64,
    /// `None` as long as the store cannot be opened.
    pub reader: RefCell<Option<Reader>>,
    pub history: HistorySource,
    /// The last look into the store, and when it was taken.
    pub looked: RefCell<Option<(Instant, Arc<StoreView>)>>,
    pub flow: RefCell<FlowMeter>,
    /// What becomes of alerts.
    pub alerts: AlertFeed,
    /// One of the longer questions is with the pipeline at a time.
    pub questions: Arc<tokio::sync::Semaphore>,
    /// What would take samples of earlier runs.
    pub sample_hints: RefCell<SampleHints>,
    /// The host names that it answers to.
    pub hosts: Hosts,
    /// Who may ask for what.
    pub access: CurrentAccess,
    /// Of the listeners: their certificates.
    pub policies: CurrentPolicies,
    pub edge: Arc<EdgeCounters>,
    pub store: Arc<StoreCounters>,
    pub sinks: Vec<SinkSource>,
    pub clock: ClockState,
    pub rules: CurrentRules,
    pub phase: tokio::sync::watch::Receiver<Phase>,
    pub watcher: RefCell<Watcher>,
    /// The thread that was stalled at the last look.
    pub stalled: RefCell<Option<String>>,
    pub now_ms: fn() -> i64,
}

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
    pub dropped_sinks: Vec<DroppedSink>,
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

/// More frequent requests get the same look again if the store is large. Otherwise its write-ahead log would hardly ever be without a
/// reader, and grow.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The state that clients of events are told while the store cannot be read.
const UNREADABLE: &str = "store_unreadable";

impl Sources {
    fn look(&self) -> rusqlite::Result<Arc<StoreView>> {
        if let Some((at, view)) = &*self.looked.borrow()
            && view.is_large()
            && at.elapsed() < LOOK_EVERY
        {
            return Ok(Arc::clone(view));
        }
        self.look_anew()
    }

    /// What is stored now.
    pub(super) fn look_anew(&self) -> rusqlite::Result<Arc<StoreView>> {
        let view = match &mut *self.reader.borrow_mut() {
            Some(reader) => Arc::new(ledger::look(reader.connection())?),
            None => Arc::default(),
        };
        self.looked.replace(Some((Instant::now(), Arc::clone(&view))));
        Ok(view)
    }

    pub fn status(&self) -> rusqlite::Result<Status> {
        let view = self.look()?;
        Ok(self.status_of(&view))
    }

    /// With what was last read if the store cannot be read now; then its state says so.
    pub(super) fn status_in_any_case(&self) -> Status {
        self.status().unwrap_or_else(|_| {
            let known = self.looked.borrow().as_ref().map(|(_, view)| Arc::clone(view)).unwrap_or_default();
            let state = self.unready().unwrap_or(UNREADABLE.into());
            Status { state, ..self.status_of(&known) }
        })
    }

    fn status_of(&self, view: &StoreView) -> Status {
        let now_ms = (self.now_ms)();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            gateway: self.gateway_id.clone(),
            run: self.run.to_string(),
            state: self.state_name(),
            clock: match self.clock.time_quality() {
                crate::core::reading::TimeQuality::Synced => "synced",
                crate::core::reading::TimeQuality::Unsynced => "unsynced",
            },
            started_at_ms: self.started_at_ms,
            uptime_s: self.started.elapsed().as_secs(),
            now_ms,
            received: received(view),
            ledger_adds_up: view.ledger.iter().all(LedgerLine::adds_up),
            flow: self.flow(view, now_ms),
            store: self.store_status(view, now_ms),
            sinks: self.sinks.iter().map(sink_status).chain(self.left_sinks(view)).collect(),
            dropped_sinks: dropped_sinks(view),
            listeners: self.listeners.clone(),
            mqtt: mqtt_status(&self.edge),
            detection: DetectionStatus {
                series: self.store.series.get(),
                readings_unwatched: self.store.readings_unwatched.get(),
                anomalies: self.store.anomalies.get(),
                // Alerts that could not be stored are raised all the same.
                alerts_raised: match self.store.unstorable() {
                    Some(_) => self.store.alerts_raised.get(),
                    None => view.alerts_raised,
                },
                alerts_raised_unstored: self.store.raised_unstored.get(),
                alerts_unraised: self.store.alerts_unraised.get(),
                acknowledgements_unknown: self.store.acknowledgements_unknown.get(),
            },
            series: None,
            admin: AdminStatus { listen: self.admin_listen, logins_refused: self.access.logins_refused().get() },
            rules: rules::status(&self.rules, &self.store),
            unrouted: unrouted(&self.edge),
            undecodable: {
                let kinds = self.edge.undecodable_kinds();
                self.sample_hints.borrow_mut().with_stored(kinds, &view.rejected_samples)
            },
            disk: disk::space(&self.state_folder)
                .ok()
                .map(|DiskSpace { total_bytes, free_bytes }| DiskStatus { free_bytes, total_bytes }),
            cost: self.cost(),
            alerts_by_severity: view.alerts_by_severity,
            histograms: Histograms { commit: self.store.commit.view(), puback: self.edge.puback.view() },
            ledger: view.ledger.clone(),
            alerts: view.alerts.clone(),
            alerts_total: view.alerts_total,
            rejected_samples: view.rejected_samples.clone(),
        }
    }

    /// What expires of the listeners and of this interface, with their names.
    pub fn certificates(&self) -> Vec<(String, Expiry)> {
        let of_listeners = self
            .listeners
            .iter()
            .zip(self.policies.all())
            .map(|(listener, policy)| (format!("listener {}", listener.name), policy.tls.clone()));
        let own = ("administration interface".to_owned(), self.access.get().tls.clone());
        let all = of_listeners.chain([own]).filter_map(|(name, tls)| Some((name, tls?)));
        all.flat_map(|(name, tls)| tls.expiries.iter().map(|expiry| (name.clone(), expiry.clone())).collect::<Vec<_>>())
            .collect()
    }

    fn flow(&self, view: &StoreView, now_ms: i64) -> Vec<FlowLine> {
        let (now, mut meter) = (Instant::now(), self.flow.borrow_mut());
        meter.note(&view.ledger, now);
        meter.lines(&view.ledger, (now, now_ms), |line| {
            let is_it = |sink: &&SinkSource| sink.sink == line.sink && *sink.stream_name == *line.stream;
            self.sinks.iter().find(is_it)?.status.last_error()
        })
    }

    fn cost(&self) -> Cost {
        let readings = self.store.readings.get();
        let uptime_s = self.started.elapsed().max(Duration::from_secs(1)).as_secs_f64();
        let bytes = |bytes: u64| Bytes {
            bytes,
            a_reading: (readings > 0).then(|| (bytes as f64 / readings as f64 * 10.0).round() / 10.0),
            a_day: (bytes as f64 / uptime_s * 86_400.0).round(),
        };
        let is_link = |sink: &&SinkSource| sink.kind != crate::sinks::archive::sink::NAME;
        let sent = self.sinks.iter().filter(is_link).map(|sink| sink.status.sent_bytes.get()).sum();
        Cost { readings, written: disk::written_bytes().map(bytes), sent: bytes(sent) }
    }

    /// Sinks that have a cursor but are no longer configured.
    fn left_sinks(&self, view: &StoreView) -> Vec<SinkStatus> {
        let is_named = |line: &LedgerLine| {
            self.sinks.iter().any(|sink| sink.sink == line.sink && *sink.stream_name == *line.stream)
        };
        let left = view.ledger.iter().filter(|line| !is_named(line));
        let status = |line: &LedgerLine| SinkStatus {
            name: line.sink.clone(),
            stream: line.stream.clone(),
            kind: "unknown",
            configured: false,
            drop_with: Some(drop_command(&line.sink)),
            records_sent: 0,
            records_retried: 0,
            records_rejected: 0,
            sent_bytes: 0,
            files_removed: 0,
            keys_set_aside: KeysSetAside::default(),
            records_removed: 0,
            last_error: None,
        };
        left.map(status).collect()
    }

    /// Checks for stalled threads; call it about every second. Returns the thread that has newly stalled, if any.
    pub fn look_for_stalls(&self) -> Option<String> {
        let is_running = *self.phase.borrow() == Phase::Running;
        let found = self.watcher.borrow_mut().look(self.started.elapsed()).filter(|_| is_running);
        let before = self.stalled.replace(found.clone());
        found.filter(|found| before.as_ref() != Some(found))
    }

    /// Why the process does not work, in one word: a thread is stalled.
    pub fn unhealthy(&self) -> Option<String> {
        self.stalled.borrow().as_ref().map(|thread| format!("stalled:{thread}"))
    }

    /// Why it does not accept readings, or does not store what it accepts, in one word.
    pub fn unready(&self) -> Option<Cow<'static, str>> {
        if *self.phase.borrow() == Phase::Draining {
            return Some("stopping".into());
        }
        let unstorable = self.store.unstorable().map(|cause| cause.name().into());
        self.unhealthy().map(Cow::Owned).or(unstorable)
    }

    /// The state in one word, the worst first.
    pub fn state_name(&self) -> Cow<'static, str> {
        let is_sink_failing = || self.sinks.iter().any(|sink| sink.status.last_error().is_some());
        match self.unready() {
            Some(unready) => unready,
            None if self.store.is_expiring() => "expiring".into(),
            None if self.store.is_salvaging() => "salvaging".into(),
            None if is_sink_failing() => "sink_failing".into(),
            None => "running".into(),
        }
    }

    fn store_status(&self, view: &StoreView, now_ms: i64) -> StoreStatus {
        let oldest_ms = view.held.iter().filter_map(|held| held.oldest_ms).min();
        let payloads = self.store.payload_bytes.get() as f64;
        let written = view.bytes_a_reading().map_or(payloads, |bytes| bytes * self.store.readings.get() as f64);
        let uptime = self.started.elapsed().max(Duration::from_secs(1)).as_secs_f64();
        let free = self.store_bytes_max.saturating_sub(view.used_for_sinks()) as f64;
        StoreStatus {
            bytes: view.used_bytes,
            bytes_max: self.store_bytes_max,
            oldest_age_s: oldest_ms.map(|oldest| (now_ms - oldest).max(0) as u64 / 1000),
            holds_days: (written > 0.0 && uptime >= 10.0).then(|| free / (written / uptime) / 86_400.0),
            streams: view.held.clone(),
            dead_letters_held: view.dead_letters_held,
            commits: self.store.commits.get(),
            commit_ms_last: self.store.commit_us_last.get() as f64 / 1e3,
            commit_ms_max: self.store.commit_us_max.get() as f64 / 1e3,
            writing: !self.store.is_failing(),
            readings_refused: self.store.readings_refused.get(),
            damaged_stores: view.total("damaged_stores"),
            salvaging: self.store.is_salvaging(),
        }
    }
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

/// The command that drops a sink that is no longer configured.
pub fn drop_command(sink: &str) -> String {
    format!("outrider sinks drop {sink}")
}

fn dropped_sinks(view: &StoreView) -> Vec<DroppedSink> {
    let of = |(name, expired): &(String, u64)| {
        let (stream, sink) = name.strip_prefix(EXPIRED_WITH_SINK)?.strip_prefix(':')?.split_once(':')?;
        Some(DroppedSink { name: sink.to_owned(), stream: stream.to_owned(), expired: *expired })
    };
    view.totals.iter().filter_map(of).collect()
}

fn received(view: &StoreView) -> Received {
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

fn sink_status(source: &SinkSource) -> SinkStatus {
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
    }
}

fn unrouted(edge: &EdgeCounters) -> Unrouted {
    let topics = edge.unrouted_topics.lock().map(|topics| topics.iter().cloned().collect()).unwrap_or_default();
    let mut unrouted = Unrouted { count: edge.publishes_unrouted.get(), topics, routes: Vec::new() };
    for route in unrouted.topics.iter().filter_map(|topic| ingest::route_for(topic)) {
        if !unrouted.routes.contains(&route) {
            unrouted.routes.push(route);
        }
    }
    unrouted
}

fn mqtt_status(edge: &EdgeCounters) -> MqttStatus {
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
