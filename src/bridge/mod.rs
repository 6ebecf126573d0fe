//! Bridges to other MQTT brokers: topics that pass both ways, and commands from there.
//!
//! ```text
//! status, over <- receiving, sending <- link <- thread
//! ```
//!
//! One thread serves all bridges, a task each. It keeps nothing: a message that goes out stays in our broker's session of the bridge until the
//! other broker has acknowledged it, and one that comes in is acknowledged there once it is committed here ([`crate::mqtt::bridging`]). So
//! whenever a connection ends, whatever is in between is dropped, and comes again from one of the two. What is decided is in
//! [`crate::core::bridge`].

mod link;
mod over;
mod receiving;
mod sending;
pub mod status;
mod thread;

use crate::core::bridge::Plan;
use crate::core::mqtt::client::{Limits, Login, Settings, Welcome};
use crate::core::mqtt::packet::Version;
use crate::mqtt::bridging::LocalBridge;
use crate::uplink::Broker;

pub use thread::{BridgeParts, BridgesThread, start};

/// Messages of QoS 1 and 2 on their way, in each direction.
const WINDOW: u16 = 64;
/// Before version 5 nobody can be told what is too large here: such a packet is read, and its message left out.
const PACKET_BYTES_MAX_V4: u32 = 16 << 20;
/// The session at the other broker, as long as MQTT can say without saying for ever.
const SESSION_EXPIRY_S: u32 = 30 * 86_400;

/// One `[[bridge]]`.
#[derive(Clone, Debug)]
pub struct BridgeSettings {
    pub local: LocalBridge,
    pub broker: Broker,
    pub version: Version,
    pub client_id: String,
    pub login: Option<Login>,
    pub keep_alive_s: u16,
    /// What the service takes, which it does not say by itself.
    pub limits: Limits,
    /// The largest message that our broker takes.
    pub packet_bytes_max: usize,
    pub plan: Plan,
}

impl BridgeSettings {
    pub fn name(&self) -> &str {
        &self.local.name
    }

    /// How a connection is begun.
    fn session(&self, unreleased: Vec<u16>) -> Settings {
        // Without anything that comes in, there is nothing that the other broker could keep.
        let is_kept = !self.plan.remote_filters().is_empty();
        let own_max = u32::try_from(self.packet_bytes_max).unwrap_or(u32::MAX);
        Settings {
            version: self.version,
            client_id: self.client_id.clone(),
            login: self.login.clone(),
            clean_start: !is_kept,
            session_expiry_s: if is_kept { SESSION_EXPIRY_S } else { 0 },
            unreleased,
            keep_alive_s: self.keep_alive_s,
            window: WINDOW,
            receive_maximum: WINDOW,
            packet_bytes_max: if self.version == Version::V5 { own_max } else { own_max.max(PACKET_BYTES_MAX_V4) },
            limits: self.limits,
            ..Settings::default()
        }
    }

    /// Connects, logs in and leaves, under another client id: the session of the bridge, which may be running, is left alone.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    pub async fn try_login(&self) -> Result<Welcome, crate::uplink::ConnectError> {
        let session =
            Settings { client_id: self.probe_id(), clean_start: true, session_expiry_s: 0, ..self.session(Vec::new()) };
        crate::uplink::try_login(&self.broker, session).await
    }

    /// AWS IoT lets a thing in under its own id only.
    fn probe_id(&self) -> String {
        if self.broker.endpoint.is_of_aws() { self.client_id.clone() } else { format!("{}-probe", self.client_id) }
    }
}
