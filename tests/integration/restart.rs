//! The gateway, killed and started again with the state that it had.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::gateway::{Gateway, wait_until};
use crate::wire::{Connect, Message, Version, Wire};

pub fn start() -> (TempDir, Gateway) {
    start_with("")
}

pub fn start_with(config: &str) -> (TempDir, Gateway) {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    (folder, gateway)
}

/// Kills the gateway and starts another one with the same state and configuration.
pub fn killed(folder: &TempDir, gateway: Gateway) -> Gateway {
    gateway.kill();
    start_again(folder)
}

pub fn start_again(folder: &TempDir) -> Gateway {
    let config = std::fs::read_to_string(folder.path().join("outrider.toml")).unwrap();
    Gateway::start_configured(folder.path(), &config, &[], &[])
}

/// Publishes this as the last message, by a client of its own.
pub fn publish_end(gateway: &Gateway, topic: &str) {
    Wire::open(gateway, &Connect::fleeting(Version::Four, "ends-it")).publish(&Message::new(topic, "end", 1, 1));
}

/// Waits until the gateway has noticed who is gone, and stores something after that.
pub fn settle(gateway: &Gateway, connections: u64) {
    wait_until("the gateway to notice", || gateway.status()["mqtt"]["connections"] == connections);
    publish_end(gateway, "settled");
    wait_until("the last client to leave", || gateway.status()["mqtt"]["connections"] == connections);
}

/// Waits until so much time has passed.
pub fn wait_past(since: Instant, time: Duration) {
    std::thread::sleep(time.saturating_sub(since.elapsed()));
}
