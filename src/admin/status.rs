//! The gateway's status, for `/api/status`, its page, its own records and `outrider/status`.

mod bridges;
mod fields;
mod inputs;

pub use bridges::BridgeStatus;
pub use fields::{
    AdminStatus, Bytes, Cost, DetectionStatus, DiskStatus, DroppedSink, Histograms, LinkLine, ListenerStatus,
    MqttStatus, Received, SinkStatus, Status, StoreStatus, Unrouted,
};
pub use inputs::{FileStatus, InputStatus};

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::access::CurrentAccess;
use super::flow::{FlowLine, FlowMeter};
use super::history::HistorySource;
use super::ledger::{self, LedgerLine, StoreView};
use super::origin::Hosts;
use super::rules;
use super::undecodable::SampleHints;
use crate::bridge::status::BridgeSource;
use crate::core::identity::RunId;
use crate::disk::{self, DiskSpace};
use crate::files::status::FilesSource;
use crate::handoff::rules::CurrentRules;
use crate::heartbeat::Watcher;
use crate::ingest::ClockState;
use crate::mqtt::alert_feed::AlertFeed;
use crate::mqtt::listener::CurrentPolicies;
use crate::mqtt::{EdgeCounters, Phase};
use crate::pipeline::StoreCounters;
use crate::sinks::links::SharedLink;
use crate::sinks::status::{KeysSetAside, SinkSource};
use crate::store::reader::Reader;
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
    pub files: Vec<FilesSource>,
    pub bridges: Vec<BridgeSource>,
    pub links: Vec<Arc<SharedLink>>,
    pub clock: ClockState,
    pub rules: CurrentRules,
    pub phase: tokio::sync::watch::Receiver<Phase>,
    pub watcher: RefCell<Watcher>,
    /// The thread that was stalled at the last look.
    pub stalled: RefCell<Option<String>>,
    pub now_ms: fn() -> i64,
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
            received: Received::of(view),
            ledger_adds_up: view.ledger.iter().all(LedgerLine::adds_up),
            flow: self.flow(view, now_ms),
            store: self.store_status(view, now_ms),
            sinks: self.sinks.iter().map(SinkStatus::of).chain(self.left_sinks(view)).collect(),
            links: self.links.iter().map(|link| LinkLine::of(link)).collect(),
            dropped_sinks: DroppedSink::all(view),
            files: self.files.iter().map(InputStatus::of).collect(),
            bridges: self.bridges.iter().map(BridgeStatus::of).collect(),
            listeners: self.listeners.clone(),
            mqtt: MqttStatus::of(&self.edge),
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
            unrouted: Unrouted::of(&self.edge),
            undecodable: {
                let kinds = self.edge.undecodable.list();
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
        let of = |sink: &str, stream: &str| {
            self.sinks
                .iter()
                .find(|known| known.sink == sink && *known.stream_name == *stream)
                .map(|known| &known.status)
        };
        let mut lines = meter
            .lines(&view.ledger, (now, now_ms), |line| of(&line.sink, &line.stream).and_then(|it| it.last_error()));
        for line in &mut lines {
            line.waiting = of(&line.sink, &line.stream).and_then(|it| it.waiting());
        }
        lines
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
            waiting: None,
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

/// The command that drops a sink that is no longer configured.
pub fn drop_command(sink: &str) -> String {
    format!("outrider sinks drop {sink}")
}
