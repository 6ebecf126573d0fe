//! The settings of a load run, and their validation.

use crate::access::{Access, Qos};
use std::net::SocketAddr;
use std::time::Duration;

/// A load run. Its devices are `d00`, `d01`, ..., one per connection, each on `devices/dNN/temperature`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadSettings {
    pub broker: SocketAddr,
    pub access: Access,
    pub qos: Qos,
    /// 1 to 1,000.
    pub connections: u16,
    /// The run ends after this many publishes over all connections; `None` means without a limit.
    pub count_max: Option<u64>,
    /// The run ends after this time; `None` means without a limit.
    pub duration: Option<Duration>,
    /// Publishes per second over all connections; `None` means as fast as they are acknowledged.
    pub rate_per_second: Option<f64>,
    /// Publishes a connection may have unacknowledged, with QoS 0 those that it writes at once; 1 to 10,000.
    pub window: u16,
    /// Size of a payload in bytes, reached by padding; up to 65,000. A longer payload stays as it is.
    pub payload_bytes: u16,
    pub seed: u64,
    /// Sequence number of each device's first reading.
    pub first_sequence: u64,
    /// Reconnect after a loss, with a persistent session, and send again what is unacknowledged. Without this, a connection ends its part
    /// of the run at the first loss.
    pub reconnect: bool,
    /// Publish spikes and measure the alerts that they raise.
    pub spikes: Option<SpikeSettings>,
    /// How long the end of the run waits for outstanding acknowledgements.
    pub drain_max: Duration,
}

/// Spikes of +40 degrees each, on the devices in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpikeSettings {
    /// Time from the start to the first one: detectors must have seen enough of a device.
    pub first_after: Duration,
    /// Time from one to the next, over all devices.
    pub every: Duration,
}

impl SpikeSettings {
    /// Outrider judges a series after 60 s.
    pub const FIRST_AFTER: Duration = Duration::from_secs(65);

    /// Outrider clears an alert after 30 quiet seconds; an earlier spike would only update it.
    pub const EVERY_PER_DEVICE: Duration = Duration::from_secs(35);

    /// One spike per second, or as many as still raise an alert of their own.
    pub fn for_connections(connections: u16) -> Self {
        let every = (Self::EVERY_PER_DEVICE / u32::from(connections.max(1))).max(Duration::from_secs(1));
        SpikeSettings { first_after: Self::FIRST_AFTER, every }
    }
}

impl LoadSettings {
    /// 10 seconds over 50 connections, as fast as acknowledged.
    pub fn new(broker: SocketAddr) -> Self {
        LoadSettings {
            broker,
            access: Access::default(),
            qos: Qos::default(),
            connections: 50,
            count_max: None,
            duration: Some(Duration::from_secs(10)),
            rate_per_second: None,
            window: 100,
            payload_bytes: 150,
            seed: 1,
            first_sequence: 1,
            reconnect: false,
            spikes: None,
            drain_max: Duration::from_secs(10),
        }
    }

    pub(super) fn check(&self) -> Result<(), LoadError> {
        const YEAR: Duration = Duration::from_secs(366 * 86_400);
        let rate_fits = self.rate_per_second.is_none_or(|rate| (0.001..=10_000_000.0).contains(&rate));
        let spikes = |holds: fn(&SpikeSettings) -> bool| self.spikes.as_ref().is_none_or(holds);
        let spikes_fit = self.spikes.zip(self.duration).is_none_or(|(spikes, duration)| spikes.first_after < duration);
        let rules = [
            ((1..=1_000).contains(&self.connections), "the number of connections", "between 1 and 1,000"),
            (self.count_max != Some(0), "the count", "at least 1"),
            (
                self.duration.is_none_or(|time| !time.is_zero() && time <= YEAR),
                "the duration",
                "above 0, at most a year",
            ),
            (rate_fits, "the rate", "between 0.001 and 10,000,000 a second"),
            ((1..=10_000).contains(&self.window), "the window", "between 1 and 10,000"),
            (self.payload_bytes <= 65_000, "the payload", "at most 65,000 bytes"),
            (self.first_sequence <= u64::MAX / 2, "the first sequence number", "below 2^63"),
            (spikes(|spikes| spikes.first_after <= YEAR), "the time before the first spike", "at most a year"),
            (spikes(|spikes| !spikes.every.is_zero() && spikes.every <= YEAR), "the time between spikes", "above 0"),
            (spikes_fit, "the duration", "longer than the time before the first spike"),
            (self.drain_max <= YEAR, "the wait at the end", "at most a year"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, name, allowed)) => Err(LoadError::Setting { name, allowed }),
            None => Ok(()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{name} must be {allowed}")]
    Setting { name: &'static str, allowed: &'static str },
    /// Subscribing to the alerts failed, so nothing was published.
    #[error("cannot subscribe to alerts/#: {reason}")]
    Alerts { reason: String },
    #[error("a connection's task failed")]
    Task(#[source] tokio::task::JoinError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> LoadSettings {
        LoadSettings::new(SocketAddr::from(([127, 0, 0, 1], 1883)))
    }

    #[test]
    fn settings_out_of_range_are_named() {
        assert!(settings().check().is_ok());
        let spikes = Some(SpikeSettings::for_connections(50));
        for (wrong, name) in [
            (LoadSettings { connections: 0, ..settings() }, "the number of connections"),
            (LoadSettings { count_max: Some(0), ..settings() }, "the count"),
            (LoadSettings { duration: Some(Duration::ZERO), ..settings() }, "the duration"),
            (LoadSettings { rate_per_second: Some(f64::NAN), ..settings() }, "the rate"),
            (LoadSettings { window: 0, ..settings() }, "the window"),
            (LoadSettings { spikes, ..settings() }, "the duration"),
        ] {
            match wrong.check() {
                Err(LoadError::Setting { name: found, .. }) => assert_eq!(found, name),
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(LoadSettings { spikes, duration: None, ..settings() }.check().is_ok());
    }

    #[test]
    fn spikes_are_rare_enough_to_raise_an_alert_each() {
        for connections in [1, 7, 35, 50, 1_000] {
            let per_device = SpikeSettings::for_connections(connections).every * u32::from(connections);
            assert!(per_device >= Duration::from_secs(34), "{connections}: {per_device:?}");
        }
        assert_eq!(SpikeSettings::for_connections(50).every, Duration::from_secs(1));
    }
}
