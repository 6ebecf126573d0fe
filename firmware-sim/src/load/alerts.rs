//! Receives the alerts of spikes on a connection of its own, and pairs them with the spikes.
//!
//! Alerts are rare and small, so an ordinary client library receives them; only publishes are framed by hand.

use super::clock::Clock;
use super::histogram::Histogram;
use super::report::SpikeReport;
use super::{AnomalyMade, LoadError, LoadSettings};
use crate::access::Handshakes;
use crate::client::{Client, Connecting, Happened};
use serde::Deserialize;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const TOPIC_FILTER: &str = "alerts/#";
const SUBSCRIBE_MAX: Duration = Duration::from_secs(5);
const RECONNECT_WAIT: Duration = Duration::from_millis(100);

/// A raised alert as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AlertSeen {
    pub device: String,
    pub centidegrees: i64,
    pub seen_at_us: u64,
}

#[derive(Deserialize)]
struct Alert {
    device: String,
    metric: String,
    state: String,
    value: Option<f64>,
}

pub(super) struct Listener {
    connecting: Connecting,
    client: Client,
    clock: Clock,
}

impl Listener {
    /// Connects and subscribes: every alert from now on is received.
    pub async fn subscribe(settings: &LoadSettings, handshakes: Handshakes, clock: Clock) -> Result<Self, LoadError> {
        let connecting = Connecting {
            broker: settings.broker,
            access: settings.access.clone(),
            // The process id keeps two runs against one broker from taking over each other's connection.
            client_id: format!("load-alerts-{}", std::process::id()),
            window: 4,
            requests_max: 4,
            handshakes,
        };
        let mut listener = Listener { client: Client::connect(connecting.clone()), connecting, clock };
        match timeout(SUBSCRIBE_MAX, listener.subscribed()).await {
            Ok(Ok(())) => Ok(listener),
            Ok(Err(reason)) => Err(LoadError::Alerts { reason }),
            Err(_) => Err(LoadError::Alerts { reason: format!("no answer in {} s", SUBSCRIBE_MAX.as_secs()) }),
        }
    }

    async fn subscribed(&mut self) -> Result<(), String> {
        loop {
            match self.client.next().await {
                Happened::Connected { .. } => self.client.subscribe(TOPIC_FILTER).await,
                Happened::Subscribed { is_granted: true } => return Ok(()),
                Happened::Subscribed { is_granted: false } => return Err("the broker refused".to_owned()),
                Happened::Lost { reason } => return Err(reason),
                _ => {}
            }
        }
    }

    /// Receives alerts until the receiver of `seen` is gone, reconnecting as needed.
    pub async fn run(mut self, seen: mpsc::Sender<AlertSeen>) {
        loop {
            match self.client.next().await {
                Happened::Message { payload, is_retained } => {
                    // A retained alert was raised in the past, at an unknown time.
                    let alert = (!is_retained).then(|| alert_of(&payload, self.now_us())).flatten();
                    if let Some(alert) = alert
                        && seen.send(alert).await.is_err()
                    {
                        return;
                    }
                }
                Happened::Connected { .. } => self.client.subscribe(TOPIC_FILTER).await,
                Happened::Lost { .. } => {
                    sleep(RECONNECT_WAIT).await;
                    self.client = Client::connect(self.connecting.clone());
                }
                _ => {}
            }
        }
    }

    fn now_us(&self) -> u64 {
        let (now_us, epoch_offset_us) = self.clock.now_us();
        now_us + epoch_offset_us
    }
}

fn alert_of(payload: &[u8], seen_at_us: u64) -> Option<AlertSeen> {
    let alert: Alert = serde_json::from_slice(payload).ok()?;
    if alert.metric != "temperature" || alert.state != "raised" {
        return None;
    }
    Some(AlertSeen { device: alert.device, centidegrees: (alert.value? * 100.0).round() as i64, seen_at_us })
}

/// Pairs alerts with the spikes that caused them: the same device and value, and not before its publish.
#[derive(Debug, Default)]
pub(super) struct Pairing {
    seen_us: HashMap<(String, i64), Vec<u64>>,
    seen: u64,
}

impl Pairing {
    pub fn see(&mut self, alert: AlertSeen) {
        self.seen += 1;
        self.seen_us.entry((alert.device, alert.centidegrees)).or_default().push(alert.seen_at_us);
    }

    pub fn report(&self, made: &[AnomalyMade]) -> SpikeReport {
        let mut latency_us = Histogram::default();
        for spike in made {
            let seen_us = self.seen_us.get(&(spike.device.clone(), spike.centidegrees));
            let first = seen_us.into_iter().flatten().find(|seen_us| **seen_us >= spike.ts_us);
            if let Some(seen_us) = first {
                latency_us.record(seen_us - spike.ts_us);
            }
        }
        SpikeReport { made: made.len() as u64, alerted: latency_us.count(), alerts_seen: self.seen, latency_us }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spike(device: &str, centidegrees: i64, ts_us: u64) -> AnomalyMade {
        AnomalyMade { device: device.to_owned(), seq: 1, ts_us, centidegrees }
    }

    #[test]
    fn an_alert_counts_for_its_own_spike_only() {
        let made = [spike("d00", 6_012, 1_000), spike("d01", 6_012, 2_000), spike("d00", 6_012, 9_000)];
        let mut pairing = Pairing::default();
        for (device, centidegrees, seen_at_us) in [
            ("d00", 6_012, 900),
            ("d00", 6_012, 1_500),
            ("d00", 5_000, 1_600),
            ("d02", 6_012, 2_100),
            ("d00", 6_012, 9_040),
        ] {
            pairing.see(AlertSeen { device: device.to_owned(), centidegrees, seen_at_us });
        }
        let report = pairing.report(&made);
        assert_eq!((report.made, report.alerted, report.alerts_seen), (3, 2, 5));
        assert_eq!((report.latency_us.quantile(0.5), report.latency_us.max()), (40, 500));
    }

    #[test]
    fn only_raised_alerts_about_our_metric_are_taken() {
        let alert = |metric: &str, state: &str, value: &str| {
            let text =
                format!(r#"{{"v":1,"device":"d00","metric":"{metric}","state":"{state}","value":{value},"x":1}}"#);
            alert_of(text.as_bytes(), 7)
        };
        let expected = AlertSeen { device: "d00".to_owned(), centidegrees: 6_257, seen_at_us: 7 };
        assert_eq!(alert("temperature", "raised", "62.57"), Some(expected));
        assert_eq!(alert("temperature", "cleared", "62.57"), None);
        assert_eq!(alert("_device", "raised", "62.57"), None);
        assert_eq!(alert("temperature", "raised", "null"), None);
        assert_eq!(alert_of(b"", 7), None);
    }
}
