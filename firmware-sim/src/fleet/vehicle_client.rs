//! One vehicle's connection: measures what is due, publishes it, and notes what the broker acknowledged.
//!
//! Each connection has a new client and a clean session: the outbox takes care of redelivery, and a reading is identified by device and
//! sequence number, not by packet id. Samples that fell due without a connection are sent as arrays, like the buffered history; they are
//! computed when they are sent, so a long outage costs no memory.

use super::outbox::{Outbox, Publish};
use super::{Clock, FleetEvent, FleetSettings, Qos};
use crate::fault::{BoundFault, Fault, reported_value};
use crate::ledger::{Acknowledged, MetricSet};
use crate::payload::{Sample, Shape, encode_metric, encode_samples};
use crate::timeline::Timeline;
use crate::vehicle::{Metric, Vehicle};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

const RECONNECT_WAIT: Duration = Duration::from_millis(100);
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
    pub ledger: Acknowledged,
    pub events: Option<mpsc::Sender<FleetEvent>>,
}

/// What one vehicle did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VehicleReport {
    pub place: usize,
    pub last_sequence: u64,
    pub readings_made: u64,
    pub readings_unacknowledged: u64,
    pub connections_lost: u64,
}

struct Journey {
    client: VehicleClient,
    outbox: Outbox,
    next_index: u64,
    faults: Option<Vec<BoundFault>>,
    history_told: bool,
    /// Set once the vehicle stops measuring; until then it waits for outstanding acknowledgements.
    deadline: Option<Instant>,
    report: VehicleReport,
}

enum Ended {
    Finished,
    Lost,
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
            deadline: None,
            report,
        };
        while let Ended::Lost = journey.connection().await {
            journey.report.connections_lost += 1;
            sleep(RECONNECT_WAIT).await;
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
        let (client, mut eventloop) = self.client();
        let mut connected = false;
        let ended = loop {
            if connected {
                self.measure();
                self.hand_over(&client).await;
            }
            let finished = self.outbox.is_empty() || self.deadline.is_some_and(|deadline| deadline <= Instant::now());
            if self.deadline.is_some() && finished {
                goodbye(&client, &mut eventloop).await;
                break Ended::Finished;
            }
            let due = self.next_due();
            tokio::select! {
                event = eventloop.poll() => match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        connected = true;
                        self.tell(|device| FleetEvent::Connected { device });
                    }
                    Ok(event) => self.take(&event),
                    Err(_) => break Ended::Lost,
                },
                () = sleep_until(due), if connected && self.has_room() => {}
                () = stopped(&mut self.client.stop), if self.deadline.is_none() => {
                    self.deadline = Some(Instant::now() + self.client.settings.drain_max);
                }
                () = sleep_until(self.deadline.unwrap_or(due)), if self.deadline.is_some() => {}
            }
        };
        // Acknowledgements that were read before the connection broke still count.
        while let Some(event) = eventloop.state.events.pop_front() {
            self.take(&event);
        }
        self.outbox.connection_lost();
        if connected && matches!(ended, Ended::Lost) {
            self.tell(|device| FleetEvent::Disconnected { device });
        }
        ended
    }

    fn client(&self) -> (AsyncClient, EventLoop) {
        let settings = &self.client.settings;
        let broker = settings.broker;
        let mut options = MqttOptions::new(&self.client.device, broker.ip().to_string(), broker.port());
        options.set_keep_alive(Duration::from_secs(30)).set_inflight(settings.window);
        options.set_max_packet_size(64 * 1024, 1024 * 1024);
        // The channel has room for everything in the outbox, so handing over never waits.
        let (client, mut eventloop) = AsyncClient::new(options, outbox_max(settings));
        let mut network = eventloop.network_options();
        network.set_tcp_nodelay(true);
        eventloop.set_network_options(network);
        (client, eventloop)
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

    async fn hand_over(&mut self, client: &AsyncClient) {
        let qos = self.client.settings.qos.into();
        while let Some(publish) = self.outbox.hand_next() {
            let handed = client.publish_bytes(publish.topic.as_str(), qos, false, publish.payload.clone()).await;
            handed.expect("the event loop, which holds the other end, is alive");
        }
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::Outgoing(Outgoing::Publish(packet_id)) => {
                self.outbox.sent(*packet_id);
                if self.client.settings.qos == Qos::AtMostOnce {
                    // QoS 0 is never acknowledged: it is done when it is sent, and the ledger does not count it.
                    self.outbox.acknowledged(*packet_id);
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                if let Some(publish) = self.outbox.acknowledged(ack.pkid) {
                    self.client.ledger.note(self.client.place, &publish.readings);
                }
            }
            _ => return,
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

async fn goodbye(client: &AsyncClient, eventloop: &mut EventLoop) {
    let limit = Instant::now() + GOODBYE_MAX;
    if timeout_at(limit, client.disconnect()).await.is_ok_and(|sent| sent.is_ok()) {
        while let Ok(Ok(event)) = timeout_at(limit, eventloop.poll()).await {
            if event == Event::Outgoing(Outgoing::Disconnect) {
                break;
            }
        }
    }
}

impl From<Qos> for QoS {
    fn from(qos: Qos) -> Self {
        match qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
        }
    }
}
