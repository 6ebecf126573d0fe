//! Turns a configuration into what the gateway runs with, including what depends on the disk.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::Configuration;
use crate::admin::access::CurrentAccess;
use crate::disk::{self, DiskSpace};
use crate::gateway::GatewaySettings;
use crate::handoff::rules::CurrentRules;
use crate::keys::units::{GIB, MIB};
use crate::mqtt::listener::CurrentPolicies;
use crate::store::ballast::ballast_path;
use crate::store::retention::Capacity;
use crate::store::schema::{Synchronous, store_path};
use crate::systemd::Notifier;

const STORE_BYTES_AUTO_MAX: u64 = 4 * GIB;
/// A service manager waits 90 s for a gateway to be ready.
const OPEN_WITHIN: Duration = Duration::from_secs(20);
/// The minimum that `store.size_max` allows.
const STORE_BYTES_AUTO_MIN: u64 = 16 * MIB;
const FREE_BYTES_AUTO_MAX: u64 = 512 * MIB;

impl Configuration {
    /// Decides what depends on the disk. The state folder need not exist yet.
    pub fn settings(self) -> io::Result<GatewaySettings> {
        let capacity = self.capacity()?;
        Ok(GatewaySettings {
            gateway_id: self.gateway_id,
            state_folder: self.store.folder,
            listeners: self.listeners.listeners,
            policies: CurrentPolicies::new(self.listeners.policies),
            admin_listen: self.admin.listen,
            admin_hosts: self.admin.hosts,
            admin_access: CurrentAccess::new(self.admin.access),
            edge: self.edge,
            routes: self.routes,
            files: self.inputs,
            rules: CurrentRules::new(self.rules.book),
            source: None,
            notifier: Notifier::default(),
            capacity,
            synchronous: Synchronous::Full,
            vfs: None,
            open_within: OPEN_WITHIN,
            pacing: self.store.pacing,
            monitor: self.monitor,
            alerts: self.alerts,
            is_synchronised: crate::clock::is_synchronised,
            uncommitted_bytes_max: self.uncommitted_bytes_max,
            streams: self.streams,
            links: self.links,
            sinks: self.sinks,
            bridges: self.bridges,
            grace: self.grace,
        })
    }

    pub fn capacity(&self) -> io::Result<Capacity> {
        let space = disk::space(disk::existing_part(&self.store.folder))?;
        let bytes_max = match self.store.bytes_max {
            Some(bytes_max) => bytes_max,
            None => automatic_size(space, self.store_bytes()?),
        };
        Ok(Capacity {
            free_bytes_min: self.store.free_bytes_min.unwrap_or(FREE_BYTES_AUTO_MAX.min(space.total_bytes / 10)),
            when_full: self.store.when_full,
            history_ms: u64::try_from(self.store.history.as_millis()).unwrap_or(u64::MAX),
            ..Capacity::new(bytes_max)
        })
    }

    fn store_bytes(&self) -> io::Result<StoreBytes> {
        let beside = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let log = store_path(&self.store.folder).with_extension("sqlite-wal");
        // A log that the last process left is in the file after the next checkpoint.
        let held = self.store_file_bytes()? + beside(&log);
        Ok(StoreBytes { held, ballast: beside(&ballast_path(&self.store.folder)) })
    }

    /// The size of the store on disk now; 0 before it is created.
    pub fn store_file_bytes(&self) -> io::Result<u64> {
        match std::fs::metadata(store_path(&self.store.folder)) {
            Ok(file) => Ok(file.len()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// What the store has of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct StoreBytes {
    /// Its file, and what is only in its log so far.
    held: u64,
    ballast: u64,
}

/// Half of what was free when the store was created, as far as can be determined later: what the store itself takes counts as free. What
/// others have written since makes it smaller, but never so small that data held would be lost; a quarter is for log, ballast and reserve.
fn automatic_size(space: DiskSpace, store: StoreBytes) -> u64 {
    let half = (space.free_bytes + store.held + store.ballast) / 2;
    // A sixteenth of the size is the ballast's. Were it smaller than the one that is there, the capacity would have shrunk.
    let least = (store.held + store.held / 3).max(16 * store.ballast);
    half.clamp(STORE_BYTES_AUTO_MIN, STORE_BYTES_AUTO_MAX).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_automatic_size_is_stable_while_the_store_grows_and_never_below_what_it_holds() {
        let space = |free_bytes| DiskSpace { total_bytes: 100 * GIB, free_bytes };
        let of = |held| StoreBytes { held, ballast: 0 };
        assert_eq!(automatic_size(space(50 * GIB), of(0)), 4 * GIB);
        assert_eq!(automatic_size(space(3 * GIB), of(0)), GIB + GIB / 2);
        assert_eq!(automatic_size(space(2 * GIB), of(GIB)), GIB + GIB / 2, "two thirds of it filled");
        let filled = automatic_size(space(MIB), of(700 * MIB));
        let room = Capacity::new(filled).room(700 * MIB, Some(0));
        assert!(room.all >= 700 * MIB && filled < GIB, "others have filled the disk: {filled}");
        assert_eq!(automatic_size(space(0), of(0)), 16 * MIB);
        for file_bytes in [12 * MIB, 15 * MIB, 300 * MIB, 5 * GIB] {
            let capacity = Capacity::new(automatic_size(space(0), of(file_bytes)));
            assert!(capacity.file_bytes_max() - capacity.reserve_bytes >= file_bytes, "{file_bytes}: {capacity:?}");
        }
        // Another program takes what was free: the ballast tells how large the store was.
        let before = automatic_size(space(86 * MIB), of(0));
        let ballast = Capacity::new(before).ballast_bytes();
        assert_eq!(automatic_size(space(0), StoreBytes { held: 100_000, ballast }), before);
    }
}
