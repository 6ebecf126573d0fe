//! A fleet of vehicles: each first empties its buffered history, then publishes live; faults follow their schedule.
//!
//! One task per vehicle and one that coordinates; all run on the tokio runtime that calls [`Fleet::run`].

mod outbox;
mod schedule;
mod vehicle_client;

pub use crate::access::Qos;

use crate::access::{Access, Handshakes};
use crate::fault::Fault;
use crate::ground_truth::{GroundTruth, GroundTruthFile};
use crate::ledger::Acknowledged;
use crate::payload::{Format, Shape};
use crate::timeline::Timeline;
use crate::vehicle::Vehicle;
use schedule::Schedule;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use vehicle_client::VehicleClient;

#[derive(Clone, Debug, PartialEq)]
pub struct FleetSettings {
    pub broker: SocketAddr,
    pub access: Access,
    /// They are named truck-01, truck-02, ...; 1 to 10,000.
    pub vehicles: u16,
    pub seed: u64,
    /// Time between two samples of a vehicle; whole milliseconds, at least 1.
    pub interval: Duration,
    /// How much buffered history each vehicle sends first.
    pub history: Duration,
    pub format: Format,
    pub shape: Shape,
    pub qos: Qos,
    pub faults: Vec<Fault>,
    /// Where to write the faults that were made.
    pub ground_truth: Option<PathBuf>,
    /// Sequence number of each vehicle's first sample.
    pub first_sequence: u64,
    /// Publishes a vehicle may have unacknowledged; 1 to 1,000.
    pub window: u16,
    /// How many overdue samples go into one publish; 1 to 1,000.
    pub samples_per_publish_max: u16,
    /// How long the end of the run waits for outstanding acknowledgements.
    pub drain_max: Duration,
}

impl FleetSettings {
    pub fn new(broker: SocketAddr) -> Self {
        FleetSettings {
            broker,
            access: Access::default(),
            vehicles: 20,
            seed: 1,
            interval: Duration::from_secs(1),
            history: Duration::ZERO,
            format: Format::default(),
            shape: Shape::default(),
            qos: Qos::default(),
            faults: Vec::new(),
            ground_truth: None,
            first_sequence: 1,
            window: 16,
            samples_per_publish_max: 50,
            drain_max: Duration::from_secs(10),
        }
    }
}

/// Events for a listener. Fault and phase events wait for room in the channel; those of connections do not.
#[derive(Clone, Debug, PartialEq)]
pub enum FleetEvent {
    Connected {
        device: String,
    },
    Disconnected {
        device: String,
    },
    /// A connection was not accepted. Told again only for another reason.
    NotConnected {
        device: String,
        reason: String,
    },
    /// Every vehicle's history is acknowledged (with QoS 0: sent).
    HistoryDone {
        readings_acknowledged: u64,
    },
    /// Times of faults count from here.
    LiveStarted {
        at_ms: i64,
    },
    FaultStarted(GroundTruth),
    FaultEnded(GroundTruth),
}

#[derive(Clone, Debug, PartialEq)]
pub struct FleetReport {
    pub readings_made: u64,
    pub publishes_acknowledged: u64,
    pub readings_acknowledged: u64,
    /// Neither acknowledged nor refused; with QoS 0: not sent.
    pub readings_unacknowledged: u64,
    /// With QoS 0 only: what left in publishes that nobody acknowledges.
    pub readings_sent: u64,
    /// Only version 5 refuses.
    pub publishes_refused: u64,
    pub readings_refused: u64,
    /// Also those that were never accepted.
    pub connections_lost: u64,
    /// Why a connection was lost, or a publish refused.
    pub last_error: Option<String>,
    /// By vehicle: the sequence number of the last sample that it measured; 0 if it measured none.
    pub last_sequences: Vec<u64>,
    /// Faults that were made, ordered by their end; the end of the run also ends those still active.
    pub faults: Vec<GroundTruth>,
}

#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("{name} must be {allowed}")]
    Setting { name: &'static str, allowed: &'static str },
    #[error("a fault names {device}, but the fleet is truck-01 to {}", Vehicle::name(*vehicles))]
    UnknownDevice { device: String, vehicles: u16 },
    #[error("cannot write the ground truth {}", path.display())]
    GroundTruth { path: PathBuf, source: io::Error },
    #[error("a vehicle's task failed")]
    Vehicle(#[source] JoinError),
}

/// Wall-clock time that never goes back: read once, then advanced by the monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Clock {
    start: Instant,
    start_ms: i64,
}

impl Clock {
    fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start_ms = i64::try_from(since_epoch.as_millis()).expect("this age fits 63 bits of milliseconds");
        Clock { start: Instant::now(), start_ms }
    }

    fn now_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.start.elapsed().as_millis()).expect("a run is shorter than 63 bits of ms");
        self.start_ms + elapsed
    }

    fn instant_of(&self, time_ms: i64) -> Instant {
        self.start + Duration::from_millis(u64::try_from(time_ms - self.start_ms).unwrap_or(0))
    }
}

/// What all vehicles of a run share.
struct Shared {
    clock: Clock,
    history_done: mpsc::Sender<()>,
    live_start: watch::Receiver<Option<i64>>,
    stop: watch::Receiver<bool>,
    handshakes: Handshakes,
}

#[derive(Debug)]
pub struct Fleet {
    settings: Arc<FleetSettings>,
    ledger: Acknowledged,
    truth_file: Option<(PathBuf, GroundTruthFile)>,
    events: Option<mpsc::Sender<FleetEvent>>,
}

impl Fleet {
    /// Checks the settings and creates the ground truth file.
    pub fn new(settings: FleetSettings, events: Option<mpsc::Sender<FleetEvent>>) -> Result<Self, FleetError> {
        check(&settings)?;
        let create = |path: &PathBuf| match GroundTruthFile::create(path) {
            Ok(file) => Ok((path.clone(), file)),
            Err(source) => Err(FleetError::GroundTruth { path: path.clone(), source }),
        };
        let truth_file = settings.ground_truth.as_ref().map(create).transpose()?;
        let ledger = Acknowledged::new((1..=settings.vehicles).map(Vehicle::name));
        Ok(Fleet { settings: Arc::new(settings), ledger, truth_file, events })
    }

    /// The ledger that this fleet fills; it can be read at any time.
    pub fn acknowledged(&self) -> Acknowledged {
        self.ledger.clone()
    }

    /// Runs until `stop` is true (or its sender is gone), then waits for outstanding acknowledgements.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<FleetReport, FleetError> {
        let clock = Clock::start();
        let vehicles = self.settings.vehicles;
        let (history_done, mut histories) = mpsc::channel(vehicles.into());
        let (live, live_start) = watch::channel(None);
        let handshakes = Handshakes::new(&self.settings.access);
        let shared = Shared { clock, history_done, live_start, stop: stop.clone(), handshakes };
        let mut clients = JoinSet::new();
        for number in 1..=vehicles {
            clients.spawn(self.vehicle_client(number, &shared).run());
        }
        drop(shared);
        let mut made = Vec::new();
        let history = async {
            for _ in 0..vehicles {
                histories.recv().await;
            }
        };
        let stopped_early = tokio::select! {
            () = history => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        if !stopped_early {
            let live_start_ms = clock.now_ms();
            live.send_replace(Some(live_start_ms));
            self.tell(FleetEvent::HistoryDone { readings_acknowledged: self.ledger.readings() }).await;
            self.tell(FleetEvent::LiveStarted { at_ms: live_start_ms }).await;
            made = self.follow_schedule(clock, live_start_ms, &mut stop).await?;
        }
        let mut report = FleetReport {
            readings_made: 0,
            publishes_acknowledged: 0,
            readings_acknowledged: 0,
            readings_unacknowledged: 0,
            readings_sent: 0,
            publishes_refused: 0,
            readings_refused: 0,
            connections_lost: 0,
            last_error: None,
            last_sequences: vec![0; vehicles.into()],
            faults: made,
        };
        while let Some(ended) = clients.join_next().await {
            let vehicle = ended.map_err(FleetError::Vehicle)?;
            report.last_sequences[vehicle.place] = vehicle.last_sequence;
            report.readings_made += vehicle.readings_made;
            report.readings_unacknowledged += vehicle.readings_unacknowledged;
            report.readings_sent += vehicle.readings_sent;
            report.publishes_refused += vehicle.publishes_refused;
            report.readings_refused += vehicle.readings_refused;
            report.connections_lost += vehicle.connections_lost;
            report.last_error = vehicle.last_error.or(report.last_error);
        }
        report.publishes_acknowledged = self.ledger.publishes();
        report.readings_acknowledged = self.ledger.readings();
        Ok(report)
    }

    fn vehicle_client(&self, number: u16, shared: &Shared) -> VehicleClient {
        let timeline = self.timeline(number, shared.clock.start_ms);
        VehicleClient {
            settings: Arc::clone(&self.settings),
            clock: shared.clock,
            place: usize::from(number) - 1,
            device: Vehicle::name(number),
            vehicle: Vehicle::new(self.settings.seed, number, self.settings.interval.as_secs_f64()),
            timeline,
            history_end: timeline.first_at_or_after(shared.clock.start_ms),
            history_done: shared.history_done.clone(),
            live_start: shared.live_start.clone(),
            stop: shared.stop.clone(),
            handshakes: shared.handshakes.clone(),
            ledger: self.ledger.clone(),
            events: self.events.clone(),
        }
    }

    /// Vehicles measure one after the other within an interval, as in reality, not all at once.
    fn timeline(&self, number: u16, start_ms: i64) -> Timeline {
        let interval_ms = milliseconds(self.settings.interval);
        let turn_ms = interval_ms * i64::from(number - 1) / i64::from(self.settings.vehicles);
        Timeline { origin_ms: start_ms - milliseconds(self.settings.history) + turn_ms, interval_ms }
    }

    /// Reports each fault when it starts and ends, and writes it to the ground truth when it or the run is over.
    async fn follow_schedule(
        &mut self,
        clock: Clock,
        live_start_ms: i64,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Vec<GroundTruth>, FleetError> {
        let mut schedule = Schedule::new(&self.settings, live_start_ms, |fault| {
            let number = number_of(&fault.device, self.settings.vehicles);
            self.timeline(number.expect("checked when the fleet was made"), clock.start_ms)
        });
        let mut made = Vec::new();
        while let Some(next) = schedule.next() {
            tokio::select! {
                () = sleep_until(clock.instant_of(next.at_ms)) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
            let moment = schedule.take().expect("it is the next one");
            if moment.starts {
                self.tell(FleetEvent::FaultStarted(moment.truth)).await;
            } else {
                self.write_truth(&moment.truth)?;
                made.push(moment.truth.clone());
                self.tell(FleetEvent::FaultEnded(moment.truth)).await;
            }
        }
        let _ = stop.wait_for(|stop| *stop).await;
        for truth in schedule.cut_short(clock.now_ms()) {
            self.write_truth(&truth)?;
            made.push(truth);
        }
        Ok(made)
    }

    fn write_truth(&mut self, truth: &GroundTruth) -> Result<(), FleetError> {
        let Some((path, file)) = &mut self.truth_file else {
            return Ok(());
        };
        file.append(truth).map_err(|source| FleetError::GroundTruth { path: path.clone(), source })
    }

    async fn tell(&self, event: FleetEvent) {
        if let Some(events) = &self.events {
            // If the listener is gone, the fleet goes on.
            let _ = events.send(event).await;
        }
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("checked to be at most a year")
}

fn number_of(device: &str, vehicles: u16) -> Option<u16> {
    (1..=vehicles).find(|number| Vehicle::name(*number) == device)
}

fn check(settings: &FleetSettings) -> Result<(), FleetError> {
    const YEAR: Duration = Duration::from_secs(366 * 86_400);
    let whole_ms = settings.interval.subsec_nanos().is_multiple_of(1_000_000);
    let repeats_fit = settings.faults.iter().all(|fault| {
        fault
            .every_ms
            .is_none_or(|every_ms| u128::try_from(every_ms).is_ok_and(|ms| ms >= settings.interval.as_millis()))
    });
    let rules = [
        ((1..=10_000).contains(&settings.vehicles), "the number of vehicles", "between 1 and 10,000"),
        (!settings.interval.is_zero() && settings.interval <= YEAR && whole_ms, "the interval", "whole milliseconds"),
        (settings.history <= YEAR, "the history", "at most a year"),
        ((1..=1_000).contains(&settings.window), "the window", "between 1 and 1,000"),
        ((1..=1_000).contains(&settings.samples_per_publish_max), "samples a publish", "between 1 and 1,000"),
        (settings.first_sequence <= u64::MAX / 2, "the first sequence number", "below 2^63"),
        (settings.drain_max <= YEAR, "the wait at the end", "at most a year"),
        (repeats_fit, "the time until a fault repeats", "at least the interval"),
    ];
    if let Some((_, name, allowed)) = rules.into_iter().find(|(holds, ..)| !holds) {
        return Err(FleetError::Setting { name, allowed });
    }
    let known = |fault: &&Fault| number_of(&fault.device, settings.vehicles).is_none();
    match settings.faults.iter().find(known) {
        Some(fault) => Err(FleetError::UnknownDevice { device: fault.device.clone(), vehicles: settings.vehicles }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_may_not_come_again_before_the_next_sample() {
        let fleet = |fault: &str, interval_ms| {
            let settings = FleetSettings {
                faults: vec![fault.parse().expect("a good fault")],
                interval: Duration::from_millis(interval_ms),
                ..FleetSettings::new(([127, 0, 0, 1], 1883).into())
            };
            Fleet::new(settings, None).map(drop)
        };
        fleet("spike:truck-01:speed:+40@1s/500ms", 500).expect("every sample is a spike");
        let refused = fleet("spike:truck-01:speed:+40@1s/500ms", 501).expect_err("no sample between two spikes");
        assert_eq!(refused.to_string(), "the time until a fault repeats must be at least the interval");
        assert!(matches!(fleet("spike:truck-21:speed:+40@1s", 500), Err(FleetError::UnknownDevice { .. })));
    }
}
