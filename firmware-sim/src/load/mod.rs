//! Load: many connections that publish as fast as they are acknowledged, or at a rate, and the measurements.
//!
//! Constraints:
//! - It measures a gateway on the same machine, so it must cost little itself: MQTT is framed by hand into one buffer per connection,
//!   acknowledgements are found by their position, and a runtime with one thread is enough.
//! - A latency begins when a publish is written into memory. With a rate it does not begin when the publish was due: a
//!   broker that falls behind shows in `acknowledged_per_second`, not in the latency.
//! - A run begins when all connections are made, a few at a time if the broker has more to do for each than to accept it.

mod alerts;
mod clock;
mod connection;
mod frame;
mod histogram;
mod link;
mod publisher;
mod report;
mod settings;

pub use histogram::Histogram;
pub use publisher::device_name;
pub use report::{DeviceSequences, LoadReport, SpikeReport, write_sequences};
pub use settings::{LoadError, LoadSettings, SpikeSettings};

use crate::access::Handshakes;
use alerts::{AlertSeen, Listener, Pairing};
use clock::Clock;
use connection::Connection;
use frame::Wire;
use publisher::{Plan, Publisher};
use report::cpu_seconds;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// After the last acknowledgement: the gateway takes a second to publish an alert that it could not store, plus a margin.
const ALERT_WAIT_MAX: Duration = Duration::from_secs(5);
/// Capacity for alerts on their way from the listener.
const ALERTS_WAITING_MAX: usize = 1_024;

/// A spike that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnomalyMade {
    pub device: String,
    pub seq: u64,
    /// When it was published, and its time in the payload: epoch microseconds.
    pub ts_us: u64,
    /// Hundredths of a degree.
    pub centidegrees: i64,
}

/// Counts of a running load.
#[derive(Debug, Default)]
pub struct LoadProgress {
    published: AtomicU64,
    acknowledged: AtomicU64,
}

impl LoadProgress {
    /// Publishes made so far.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Publishes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// What all connections of a run share.
struct Shared {
    settings: LoadSettings,
    progress: Arc<LoadProgress>,
    handshakes: Handshakes,
    start: OnceLock<Start>,
}

/// When publishing began.
#[derive(Clone, Copy)]
struct Start {
    clock: Clock,
    /// After this nothing new is published.
    end_at: Option<Instant>,
}

impl Shared {
    fn clock(&self) -> Clock {
        self.start.get().expect("connections run after the start").clock
    }

    /// Before the start there is no end.
    fn end_at(&self) -> Option<Instant> {
        self.start.get().and_then(|start| start.end_at)
    }
}

/// A load run, checked and ready.
#[derive(Debug)]
pub struct Load {
    settings: LoadSettings,
    progress: Arc<LoadProgress>,
}

/// Runs to the end given in the settings; without one it runs for ever.
pub async fn run(settings: LoadSettings) -> Result<LoadReport, LoadError> {
    let (_never, stop) = watch::channel(false);
    Load::new(settings)?.run(stop).await
}

impl Load {
    pub fn new(settings: LoadSettings) -> Result<Self, LoadError> {
        settings.check()?;
        Ok(Load { settings, progress: Arc::default() })
    }

    /// The counts of this run; they can be read at any time.
    pub fn progress(&self) -> Arc<LoadProgress> {
        Arc::clone(&self.progress)
    }

    /// Runs until its end, or until `stop` is true (or its sender is gone), then waits for outstanding acknowledgements.
    pub async fn run(self, stop: watch::Receiver<bool>) -> Result<LoadReport, LoadError> {
        let cpu_before_s = cpu_seconds();
        let handshakes = Handshakes::new(&self.settings.access);
        let shared =
            Arc::new(Shared { settings: self.settings, progress: self.progress, handshakes, start: OnceLock::new() });
        let mut connecting = JoinSet::new();
        for place in 0..usize::from(shared.settings.connections) {
            let publisher = Publisher::new(plan(&shared.settings, place));
            connecting.spawn(Connection::new(place, Arc::clone(&shared), publisher, stop.clone()).prepared());
        }
        let mut connections = Vec::new();
        while let Some(connection) = connecting.join_next().await {
            connections.push(connection.map_err(LoadError::Task)?);
        }
        let clock = Clock::start();
        let mut alerts = match shared.settings.spikes {
            Some(_) => {
                Some(Listener::subscribe(&shared.settings, shared.handshakes.clone(), clock).await.map(Alerts::of)?)
            }
            None => None,
        };
        let end_at = shared.settings.duration.map(|duration| Instant::now() + duration);
        shared.start.get_or_init(|| Start { clock, end_at });
        let mut running: JoinSet<_> = connections.into_iter().map(Connection::run).collect();
        let mut ended = Vec::new();
        loop {
            tokio::select! {
                connection = running.join_next() => match connection {
                    Some(connection) => ended.push(connection.map_err(LoadError::Task)?),
                    None => break,
                },
                () = hear(&mut alerts) => {}
            }
        }
        ended.sort_by_key(|connection| connection.place);
        let made: Vec<_> = ended.iter().flat_map(|connection| &connection.publisher.anomalies).cloned().collect();
        let mut report = summary(&shared.settings, ended);
        report.cpu_s = cpu_seconds().zip(cpu_before_s).map(|(after, before)| after - before);
        if let Some(alerts) = alerts {
            report.spikes = Some(alerts.wait_for(&made).await);
        }
        Ok(report)
    }
}

/// The listener's task, which ends when this is dropped, and what it received.
struct Alerts {
    seen: mpsc::Receiver<AlertSeen>,
    pairing: Pairing,
    _listening: JoinSet<()>,
}

impl Alerts {
    fn of(listener: Listener) -> Self {
        let (sender, seen) = mpsc::channel(ALERTS_WAITING_MAX);
        let mut listening = JoinSet::new();
        listening.spawn(listener.run(sender));
        Alerts { seen, pairing: Pairing::default(), _listening: listening }
    }

    /// Receives alerts until every spike has its own, or for long enough.
    async fn wait_for(mut self, made: &[AnomalyMade]) -> SpikeReport {
        let limit = Instant::now() + ALERT_WAIT_MAX;
        loop {
            let report = self.pairing.report(made);
            if report.alerted == report.made {
                return report;
            }
            match timeout_at(limit, self.seen.recv()).await {
                Ok(Some(alert)) => self.pairing.see(alert),
                Ok(None) | Err(_) => return report,
            }
        }
    }
}

/// Waits for ever if there are no alerts to receive.
async fn hear(alerts: &mut Option<Alerts>) {
    match alerts {
        Some(alerts) => match alerts.seen.recv().await {
            Some(alert) => alerts.pairing.see(alert),
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

fn plan(settings: &LoadSettings, place: usize) -> Plan {
    let places = usize::from(settings.connections);
    let share = |count: u64| count / places as u64 + u64::from((place as u64) < count % places as u64);
    let us = |duration: Duration| u64::try_from(duration.as_micros()).expect("checked to be at most a year");
    Plan {
        place,
        places,
        wire: Wire { version: settings.access.version, qos: settings.qos },
        seed: settings.seed,
        first_sequence: settings.first_sequence,
        count_max: settings.count_max.map(share),
        interval_us: settings.rate_per_second.map(|rate| places as f64 * 1e6 / rate),
        window: settings.window.into(),
        payload_bytes: settings.payload_bytes.into(),
        anomaly_first_us: settings.spikes.map(|spikes| us(spikes.first_after)),
        anomaly_every_us: settings.spikes.map(|spikes| us(spikes.every).max(1)),
    }
}

fn summary(settings: &LoadSettings, ended: Vec<Connection>) -> LoadReport {
    let (connections, version, qos) = (settings.connections, settings.access.version, settings.qos);
    let mut report = LoadReport { connections, version, qos, ..LoadReport::default() };
    let (mut first_us, mut last_us) = (u64::MAX, 0);
    for connection in ended {
        let publisher = connection.publisher;
        report.published += publisher.published;
        report.acknowledged += publisher.acknowledged.count();
        report.refused += publisher.refused;
        report.redelivered += publisher.redelivered;
        report.puback_latency_us.add(&publisher.latency_us);
        report.errors += connection.errors;
        report.last_error = connection.last_error.or(report.last_error);
        first_us = first_us.min(publisher.first_published_us.unwrap_or(u64::MAX));
        last_us = last_us.max(publisher.last_acknowledged_us);
        let device = device_name(connection.place);
        report.sequences.push(DeviceSequences { device, acknowledged: publisher.acknowledged });
    }
    report.elapsed_s = last_us.saturating_sub(first_us) as f64 / 1e6;
    report
}
