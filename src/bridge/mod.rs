//! Bridges to other MQTT brokers: topics that pass both ways, and commands from there.
//!
//! ```text
//! status, over, on_its_way <- receiving, sending <- link <- thread
//! ```
//!
//! One thread serves all bridges, a task each. It keeps nothing: a message that goes out stays in our broker's session of the bridge until the
//! other broker has acknowledged it, and one that comes in is acknowledged there once it is committed here ([`crate::mqtt::bridging`]). So
//! whenever a connection ends, whatever is in between is dropped, and comes again from one of the two. What is decided is in
//! [`crate::core::bridge`].

mod link;
mod on_its_way;
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
/// For how long the other broker is asked to keep the session. Who is away for longer gets no commands of that time: such old ones are rather a
/// danger, and a session that is kept for ever is a burden to the other broker when the gateway is gone for good.
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

    /// What is allowed and may surprise, on the gateway of this id.
    pub fn notes(&self, gateway: &str) -> Vec<String> {
        let (name, endpoint) = (self.name(), &self.broker.endpoint);
        let mut notes = Vec::new();
        if self.login.as_ref().is_some_and(|login| login.password.is_some())
            && !endpoint.is_tls
            && !endpoint.is_loopback()
        {
            notes.push(format!(
                "bridge {name}: the password is sent as it is, and readable by whoever is between; begin url with mqtts://"
            ));
        }
        for line in self.plan.lines.iter().filter(|line| line.direction.is_in() && line.local == "#") {
            notes.push(format!(
                "bridge {name}: \"{line}\" lets everything of the other broker come in under the topic that it has there, so its readings become readings here; \
                 a prefix keeps them apart, and topics of the gateway itself, such as alerts/, are left out"
            ));
        }
        if !self.client_id.contains(gateway) {
            notes.push(format!(
                "bridge {name}: client_id {} is the same on each gateway with this configuration: two of them would throw each other out; \
                 without it, it is {gateway}-{name}",
                self.client_id
            ));
        }
        notes
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

    /// Connects, logs in and leaves, under another client id: the session of the bridge, which may be running, is left alone. Where only the
    /// bridge's own id is let in, its session is taken up and left as it is: nothing that it has kept is acknowledged.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    pub async fn try_login(&self) -> Result<Welcome, crate::uplink::ConnectError> {
        crate::uplink::try_login(&self.broker, self.probe()).await
    }

    /// AWS IoT lets a thing in under its own id only.
    fn probe(&self) -> Settings {
        let session = self.session(Vec::new());
        if self.broker.endpoint.is_of_aws() {
            return session;
        }
        let client_id = format!("{}-probe", self.client_id);
        Settings { client_id, clean_start: true, session_expiry_s: 0, ..session }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::bridge::Line;
    use crate::tls::ClientFiles;
    use crate::uplink::Endpoint;

    pub fn bridge(url: &str) -> BridgeSettings {
        let endpoint = Endpoint::parse(url).unwrap();
        BridgeSettings {
            local: LocalBridge {
                name: "b".to_owned(),
                filters: Vec::new(),
                queue_bytes_max: 1,
                commands: None,
                trusts_clock: false,
            },
            broker: Broker {
                endpoint,
                files: ClientFiles::default(),
                alpn: Vec::new(),
                connect_timeout: Duration::from_secs(1),
                counts: None,
            },
            version: Version::V5,
            client_id: "truck".to_owned(),
            login: None,
            keep_alive_s: 60,
            limits: Limits::NONE,
            packet_bytes_max: 1 << 20,
            plan: Plan { lines: vec![Line::parse("commands/# in 1").unwrap()] },
        }
    }

    #[test]
    fn what_may_surprise_is_noted() {
        let login = |password: Option<&str>| {
            Some(Login { user_name: "me".to_owned(), password: password.map(|text| text.as_bytes().to_vec()) })
        };
        for (url, client_id, login, expected) in [
            ("mqtt://broker", "gw-b", login(Some("secret")), &["the password is sent as it is"][..]),
            ("mqtt://broker", "gw-b", login(None), &[]),
            ("mqtt://broker", "gw-b", None, &[]),
            ("mqtt://127.0.0.1", "gw-b", login(Some("secret")), &[]),
            ("mqtts://broker", "gw-b", login(Some("secret")), &[]),
            ("mqtts://broker", "truck", None, &["client_id truck is the same on each gateway"]),
            ("mqtt://broker", "truck", login(Some("secret")), &["the password", "client_id truck"]),
            // As AWS wants it: the thing's name alone.
            ("mqtts://x.iot.eu-central-1.amazonaws.com", "gw", None, &[]),
        ] {
            let notes = BridgeSettings { client_id: client_id.to_owned(), login, ..bridge(url) }.notes("gw");
            assert_eq!(notes.len(), expected.len(), "{url} {client_id}: {notes:?}");
            assert!(notes.iter().zip(expected).all(|(note, expected)| note.contains(expected)), "{notes:?}");
        }
    }

    #[test]
    fn a_login_that_is_tried_ends_no_session() {
        let probe = bridge("mqtt://broker").probe();
        assert_eq!((probe.client_id.as_str(), probe.clean_start, probe.session_expiry_s), ("truck-probe", true, 0));
        let probe = bridge("mqtts://x.iot.eu-central-1.amazonaws.com").probe();
        let expected = ("truck", false, SESSION_EXPIRY_S);
        assert_eq!((probe.client_id.as_str(), probe.clean_start, probe.session_expiry_s), expected);
    }
}
