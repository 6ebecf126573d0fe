//! One vehicle's connection: measures what is due, publishes it, and notes what the broker acknowledged.
//!
//! Each connection has a new client and a clean session: the outbox takes care of redelivery, and a reading is identified by device and
//! sequence number, not by packet id. Samples that fell due without a connection are sent as arrays, like the buffered history; they are
//! computed when they are sent, so a long outage costs no memory.

use super::outbox::{Outbox, Publish};
use super::{Clock, FleetEvent, FleetSettings};
use crate::access::{Handshakes, Qos};
use crate::client::{Client, Connecting, Happened};
use crate::fault::{BoundFault, Fault, reported_value};
use crate::ledger::{Acknowledged, MetricSet};
use crate::payload::{Sample, Shape, encode_metric, encode_samples};
use crate::timeline::Timeline;
use crate::vehicle::{Metric, Vehicle};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

const RECONNECT_WAIT: Duration = Duration::from_millis(100);
/// After a connection that the broker did not accept: it would not accept the next one either.
const REFUSED_WAIT: Duration = Duration::from_secs(1);
const GOODBYE_MAX: Duration = Duration::from_millis(500);

pub(super) struct VehicleClient {
    pub settings: Arc<FleetSettings>,
    pub clock: Clock,
    /// From 0; the vehicle's number is one more.
    pub place: usize,
    pub device: String,
    pub vehicle: Vehicle,
    pub timeline: Timeline,
    /// Samples below this one are buffered history.
    pub history_end: u64,
    pub history_done: mpsc::Sender<()>,
    /// The start of the live phase in epoch milliseconds, once known.
    pub live_start: watch::Receiver<Option<i64>>,
    pub stop: watch::Receiver<bool>,
    pub handshakes: Handshakes,
    pub ledger: Acknowledged,
    pub events: Option<mpsc::Sender<FleetEvent>>,
}

/// What one vehicle did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VehicleReport {
    pub place: usize,
    pub last_sequence: u64,
    pub readings_made: u64,
    /// With QoS 0.
    pub readings_sent: u64,
    pub readings_unacknowledged: u64,
    pub publishes_refused: u64,
    pub readings_refused: u64,
    pub connections_lost: u64,
    pub last_error: Option<String>,
}

struct Journey {
    client: VehicleClient,
    outbox: Outbox,
    next_index: u64,
    faults: Option<Vec<BoundFault>>,
    history_told: bool,
    /// Publishes in flight that the broker takes; 0 until it has accepted the connection.
    in_flight_max: u16,
    /// Set once the vehicle stops measuring; until then it waits for outstanding acknowledgements.
    deadline: Option<Instant>,
    report: VehicleReport,
}

enum Ended {
    Finished,
    Lost,
    /// There was no connection.
    NotConnected,
}

impl VehicleClient {
    pub(super) async fn run(self) -> VehicleReport {
        let report = VehicleReport { place: self.place, ..VehicleReport::default() };
        let mut journey = Journey {
            client: self,
            outbox: Outbox::default(),
            next_index: 0,
            faults: None,
            history_told: false,
            in_flight_max: 0,
            deadline: None,
            report,
        };
        loop {
            let wait = match journey.connection().await {
                Ended::Finished => break,
                Ended::Lost => RECONNECT_WAIT,
                Ended::NotConnected => REFUSED_WAIT,
            };
            journey.report.connections_lost += 1;
            journey.wait(wait).await;
        }
        while let Some(publish) = journey.outbox.pop() {
            journey.report.readings_unacknowledged += publish.reading_count();
        }
        if journey.next_index > 0 {
            journey.report.last_sequence = journey.client.settings.first_sequence + journey.next_index - 1;
        }
        journey.report
    }
}

impl Journey {
    async fn connection(&mut self) -> Ended {
        let mut client = Client::connect(self.connecting());
        let ended = loop {
            if self.is_connected() {
                self.measure();
                self.hand_over(&client).await;
            }
            let finished = self.outbox.is_empty() || self.deadline.is_some_and(|deadline| deadline <= Instant::now());
            if self.deadline.is_some() && finished {
                client.goodbye(GOODBYE_MAX).await;
                break Ended::Finished;
            }
            let due = self.next_due();
            tokio::select! {
                happened = client.next() => match happened {
                    Happened::Lost { reason } => break self.lost(reason),
                    happened => self.take(happened),
                },
                () = sleep_until(due), if self.is_connected() && self.has_room() => {}
                () = stopped(&mut self.client.stop), if self.deadline.is_none() => self.set_deadline(),
                () = sleep_until(self.deadline.unwrap_or(due)), if self.deadline.is_some() => {}
            }
        };
        self.outbox.connection_lost();
        self.in_flight_max = 0;
        ended
    }

    fn connecting(&self) -> Connecting {
        let settings = &self.client.settings;
        Connecting {
            broker: settings.broker,
            access: settings.access.clone(),
            client_id: self.client.device.clone(),
            window: settings.window,
            // Room for everything in the outbox, so handing over never waits.
            requests_max: outbox_max(settings),
            handshakes: self.client.handshakes.clone(),
        }
    }

    fn is_connected(&self) -> bool {
        self.in_flight_max > 0
    }

    fn lost(&mut self, reason: String) -> Ended {
        let is_new = self.report.last_error.as_ref() != Some(&reason);
        self.report.last_error = Some(reason.clone());
        if self.is_connected() {
            self.tell(|device| FleetEvent::Disconnected { device });
            return Ended::Lost;
        }
        if is_new {
            self.tell(|device| FleetEvent::NotConnected { device, reason });
        }
        Ended::NotConnected
    }

    fn set_deadline(&mut self) {
        self.deadline = Some(Instant::now() + self.client.settings.drain_max);
    }

    /// Waits, but not beyond the end of the run.
    async fn wait(&mut self, time: Duration) {
        let end = Instant::now() + time;
        if self.deadline.is_none() {
            tokio::select! {
                () = sleep_until(end) => return,
                () = stopped(&mut self.client.stop) => self.set_deadline(),
            }
        }
        sleep_until(self.deadline.map_or(end, |deadline| deadline.min(end))).await;
    }

    fn has_room(&self) -> bool {
        self.deadline.is_none() && self.outbox.len() < usize::from(self.client.settings.window)
    }

    fn next_due(&self) -> Instant {
        self.client.clock.instant_of(self.client.timeline.measured_at_ms(self.next_index))
    }

    /// Puts due samples into the outbox, as far as there is room.
    fn measure(&mut self) {
        while self.has_room() {
            let due = self.client.timeline.measured_by(self.client.clock.now_ms()).saturating_sub(self.next_index);
            if due == 0 {
                break;
            }
            let count = due.min(self.client.settings.samples_per_publish_max.into());
            let samples: Vec<_> = (self.next_index..self.next_index + count).map(|index| self.sample(index)).collect();
            self.next_index += count;
            self.enqueue(samples);
        }
        self.tell_history();
    }

    fn sample(&mut self, index: u64) -> Sample {
        let client = &self.client;
        let faults = match (&self.faults, *client.live_start.borrow()) {
            (None, Some(live_start_ms)) => {
                let own = client.settings.faults.iter().filter(|fault| fault.device == client.device);
                let bind = |fault: &Fault| BoundFault::new(fault, live_start_ms, client.timeline);
                self.faults.insert(own.map(bind).collect())
            }
            (Some(faults), _) => faults,
            (None, None) => &[][..],
        };
        Sample {
            measured_at_ms: client.timeline.measured_at_ms(index),
            sequence: client.settings.first_sequence + index,
            values: Metric::ALL.map(|metric| reported_value(&client.vehicle, faults, metric, index)),
            road: client.vehicle.road(index),
        }
    }

    fn enqueue(&mut self, mut samples: Vec<Sample>) {
        // A vehicle whose sensors are all silent publishes nothing.
        samples.retain(|sample| sample.reading_count() > 0);
        if samples.is_empty() {
            return;
        }
        self.report.readings_made += samples.iter().map(|sample| sample.reading_count() as u64).sum::<u64>();
        let settings = &self.client.settings;
        let last_index = self.next_index - 1;
        let device_topic = format!("vehicles/{}", self.client.device);
        let carried = |only: Option<Metric>| {
            let has = |sample: &Sample, metric: Metric| {
                sample.values[metric.index()].is_some() && only.is_none_or(|only| only == metric)
            };
            let set = |sample: &Sample| MetricSet::of(Metric::ALL.into_iter().filter(|metric| has(sample, *metric)));
            samples.iter().map(|sample| (sample.sequence, set(sample))).collect()
        };
        match settings.shape {
            Shape::Object => {
                let payload = encode_samples(settings.format, &samples);
                self.outbox.push(Publish { topic: device_topic, payload, readings: carried(None), last_index });
            }
            Shape::Metric => {
                for metric in Metric::ALL {
                    if let Some(payload) = encode_metric(settings.format, &samples, metric) {
                        let topic = format!("{device_topic}/{metric}");
                        self.outbox.push(Publish { topic, payload, readings: carried(Some(metric)), last_index });
                    }
                }
            }
        }
    }

    async fn hand_over(&mut self, client: &Client) {
        let qos = self.client.settings.qos;
        // What is not acknowledged is not in flight.
        let in_flight_max = if qos == Qos::AtMostOnce { u16::MAX } else { self.in_flight_max };
        while let Some(publish) = self.outbox.hand_next(in_flight_max) {
            client.publish(&publish.topic, qos, publish.payload.clone()).await;
        }
    }

    fn take(&mut self, happened: Happened) {
        let acknowledged = match (self.client.settings.qos, happened) {
            (_, Happened::Connected { in_flight_max }) => {
                self.in_flight_max = in_flight_max;
                self.tell(|device| FleetEvent::Connected { device });
                return;
            }
            (qos, Happened::Sent { packet_id }) => {
                self.outbox.sent(packet_id);
                if qos == Qos::AtMostOnce
                    && let Some(publish) = self.outbox.settled(packet_id)
                {
                    // It is done when it is sent, and the ledger does not count it.
                    self.report.readings_sent += publish.reading_count();
                }
                None
            }
            (Qos::AtLeastOnce, Happened::Acknowledged { packet_id }) => self.outbox.settled(packet_id),
            (Qos::ExactlyOnce, Happened::Received { packet_id }) => {
                self.outbox.received(packet_id);
                None
            }
            (Qos::ExactlyOnce, Happened::Completed { packet_id }) => self.outbox.completed(packet_id),
            (Qos::AtLeastOnce | Qos::ExactlyOnce, Happened::Refused { packet_id, reason }) => {
                if let Some(publish) = self.outbox.settled(packet_id) {
                    self.report.publishes_refused += 1;
                    self.report.readings_refused += publish.reading_count();
                    self.report.last_error = Some(format!("a publish was refused: {reason}"));
                }
                None
            }
            _ => return,
        };
        if let Some(publish) = acknowledged {
            self.client.ledger.note(self.client.place, &publish.readings);
        }
        self.tell_history();
    }

    fn tell_history(&mut self) {
        let end = self.client.history_end;
        // Acknowledgements come in order, and entries are kept oldest first.
        let delivered = self.next_index >= end && self.outbox.oldest().is_none_or(|oldest| oldest.last_index >= end);
        if delivered && !self.history_told {
            self.history_told = true;
            // The channel has room for every vehicle. If the coordinator is gone, nobody needs to know.
            let _ = self.client.history_done.try_send(());
        }
    }

    fn tell(&self, event: impl FnOnce(String) -> FleetEvent) {
        if let Some(events) = &self.client.events {
            // Events of connections are dropped if the listener is too slow; a vehicle does not wait for it.
            let _ = events.try_send(event(self.client.device.clone()));
        }
    }
}

fn outbox_max(settings: &FleetSettings) -> usize {
    usize::from(settings.window) + Metric::ALL.len()
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone can never stop us, so it counts as a stop.
    let _ = stop.wait_for(|stop| *stop).await;
}
