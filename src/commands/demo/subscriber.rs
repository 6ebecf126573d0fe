//! The driver's display: an ordinary MQTT client subscribed to the alerts.

use std::net::SocketAddr;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::matching::AlertHeard;

const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(10);
const RECONNECT_WAIT: Duration = Duration::from_millis(100);
/// Capacity of the client library's request queue: one subscription.
const REQUESTS_MAX: usize = 8;
const PACKET_BYTES_MAX: usize = 256 * 1024;

pub struct Subscriber {
    client: AsyncClient,
    events: EventLoop,
}

impl Subscriber {
    /// Connects and subscribes; everything published from then on is received.
    pub async fn subscribe(broker: SocketAddr) -> Result<Subscriber, String> {
        let mut options = MqttOptions::new("driver-display", broker.ip().to_string(), broker.port());
        options.set_keep_alive(Duration::from_secs(30)).set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        let (client, events) = AsyncClient::new(options, REQUESTS_MAX);
        let mut subscriber = Subscriber { client, events };
        let subscribed = async {
            loop {
                match subscriber.events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => subscriber.ask().await,
                    Ok(Event::Incoming(Packet::SubAck(_))) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        timeout(SUBSCRIBED_WITHIN, subscribed).await.unwrap_or_else(|_| Err("no answer".to_owned()))?;
        Ok(subscriber)
    }

    async fn ask(&self) {
        // Fails only if the event loop is gone, which this type owns.
        let _ = self.client.subscribe("alerts/#", QoS::AtLeastOnce).await;
    }

    /// Passes on raised alerts until the receiver is gone.
    pub async fn run(mut self, heard: mpsc::Sender<AlertHeard>) {
        loop {
            match self.events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => self.ask().await,
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    if let Some(alert) = raised(&publish.payload)
                        && heard.send(alert).await.is_err()
                    {
                        return;
                    }
                }
                Ok(_) => {}
                Err(_) => sleep(RECONNECT_WAIT).await,
            }
        }
    }
}

/// `None` for an alert that is cleared or removed, and for other payloads.
fn raised(payload: &[u8]) -> Option<AlertHeard> {
    serde_json::from_slice(payload).ok().filter(|alert: &AlertHeard| alert.state == "raised")
}
