//! What a gateway is made from, and what its parts leave each other of what the machine has.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{ConfigurationSource, GatewayError};
use crate::admin::access::CurrentAccess;
use crate::bridge::BridgeSettings;
use crate::core::detection::alert::AlertTimes;
use crate::core::detection::monitor::MonitorSettings;
use crate::core::identity::NamedStream;
use crate::descriptors;
use crate::files::FileSettings;
use crate::handoff::rules::CurrentRules;
use crate::ingest::Route;
use crate::mqtt::EdgeSettings;
use crate::mqtt::listener::{CurrentPolicies, ListenerSettings};
use crate::pipeline::CommitPacing;
use crate::sinks::kind::SinkSettings;
use crate::sinks::links::LinkConfiguration;
use crate::store::retention::{Capacity, WhenFull};
use crate::store::schema::Synchronous;
use crate::systemd::Notifier;

#[derive(Clone, Debug)]
pub struct GatewaySettings {
    pub gateway_id: String,
    pub state_folder: PathBuf,
    /// At least one.
    pub listeners: Vec<ListenerSettings>,
    /// Who may do what on each.
    pub policies: CurrentPolicies,
    pub admin_listen: Option<SocketAddr>,
    /// Names under which the administration interface answers, besides addresses.
    pub admin_hosts: Vec<String>,
    /// Who may use it, and for what.
    pub admin_access: CurrentAccess,
    pub edge: EdgeSettings,
    pub routes: Vec<Route>,
    /// Files that are read.
    pub files: Vec<FileSettings>,
    /// The rules that it begins with, and those that take their place.
    pub rules: CurrentRules,
    /// Where rules and policies come from; `None` if they never change.
    pub source: Option<ConfigurationSource>,
    /// Tells systemd how the gateway is doing.
    pub notifier: Notifier,
    pub capacity: Capacity,
    pub synchronous: Synchronous,
    /// Name of the SQLite VFS; the default one unless a test inserts its own.
    pub vfs: Option<String>,
    /// If the store takes longer to open, the gateway watches without it until it is open.
    pub open_within: Duration,
    pub pacing: CommitPacing,
    pub monitor: MonitorSettings,
    pub alerts: AlertTimes,
    /// Whether the system clock is synchronised.
    pub is_synchronised: fn() -> bool,
    /// Most bytes that may wait for their commit, over all connections.
    pub uncommitted_bytes_max: u32,
    /// Streams besides the built-in ones.
    pub streams: Vec<NamedStream>,
    /// Links that are counted.
    pub links: Vec<LinkConfiguration>,
    pub sinks: Vec<SinkSettings>,
    /// Other brokers.
    pub bridges: Vec<BridgeSettings>,
    /// How long sinks may take to flush when the process ends.
    pub grace: Duration,
}

impl GatewaySettings {
    /// Bounds what the MQTT side may take by what the store and the process need.
    pub(super) fn leave_room(&mut self) -> Result<(), GatewayError> {
        self.edge.stored_bytes_max = stored_bytes_max(&self.capacity);
        self.leave_descriptors().map_err(GatewayError::system("find out how many files may be open"))
    }

    /// Connections must not use up the descriptors that the gateway needs for itself.
    fn leave_descriptors(&mut self) -> std::io::Result<()> {
        let files = self.files.iter().map(FileSettings::descriptors).sum();
        let room = descriptors::Room::make(self.sinks.len(), self.streams.len())?.besides(files);
        let wanted = self.edge.connections_max;
        if let Some(shortage) = room.shortage(wanted) {
            tracing::warn!("{shortage}");
            self.edge.connections_max = room.connections(wanted);
        }
        Ok(())
    }
}

/// What clients leave with the gateway takes a part of the store: an eighth, or what readings that are refused leave free anyway.
fn stored_bytes_max(capacity: &Capacity) -> usize {
    let bytes = match capacity.when_full {
        WhenFull::DropOldest => capacity.bytes_max / 8,
        WhenFull::Refuse => (capacity.bytes_max / 8).min(capacity.reserve_bytes / 2),
    };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_an_eighth_or_half_of_what_is_kept_free() {
        let capacity = |reserve_bytes, when_full| Capacity { reserve_bytes, when_full, ..Capacity::new(800) };
        assert_eq!(stored_bytes_max(&capacity(20, WhenFull::DropOldest)), 100);
        assert_eq!(stored_bytes_max(&capacity(20, WhenFull::Refuse)), 10);
        assert_eq!(stored_bytes_max(&capacity(400, WhenFull::Refuse)), 100);
    }
}
