//! Bridges: between the real gateway and a real Mosquitto, or a broker that does what it is told to.

mod commands;
mod disk;
mod kills;
mod outages;
mod refused;
mod relay;
mod storm;
mod tls;
mod topics;

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::gateway::{Gateway, wait_until};
use crate::wire::{Connect, Version, Wire};

/// Long enough for a message that should not come to come all the same, behind one that comes.
const QUIET: Duration = Duration::from_millis(300);

pub fn config(port: u16, more: &str) -> String {
    format!("[[bridge]]\nname = 'cloud'\nurl = 'mqtt://127.0.0.1:{port}'\nkeep_alive = '5s'\n{more}\n")
}

pub fn bridge(gateway: &Gateway) -> Value {
    gateway.status()["bridges"][0].clone()
}

pub fn wait_connected(gateway: &Gateway) {
    wait_until("the bridge is connected", || bridge(gateway)["connected"] == true);
}

pub const TOPICS: &str = r#"topics = ['commands/# in 1 "" fleet/truck-1/', 'status/# out 1 "" fleet/truck-1/']"#;

pub const COMMANDS: &str = r#"topics = ['commands/# in 1 "" fleet/truck-1/', 'status/# out 1 "" fleet/truck-1/']
commands = ['commands/#']
command_clock = 'system'"#;

pub fn now_ms() -> i64 {
    i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A seed for what is left to chance. It is printed, for the test that fails; `OUTRIDER_BRIDGE_SEED` sets it.
pub fn seed() -> u64 {
    let given = std::env::var("OUTRIDER_BRIDGE_SEED").ok().map(|text| text.parse().unwrap());
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one(std::process::id())).max(1);
    println!("OUTRIDER_BRIDGE_SEED={seed}");
    seed
}

/// A device that is away: its session keeps what comes for it, each message as often as it was published.
const AWAY: Connect<'static> =
    Connect { version: Version::Five, client_id: "door", clean: true, expiry_s: 3_600, will: None, login: None };

pub fn begin_to_be_away(gateway: SocketAddr, filters: &[&str]) {
    let mut device = Wire::open_at(gateway, &AWAY);
    filters.iter().for_each(|filter| assert_eq!(device.subscribe(filter, 1), 1));
    device.disconnect();
}

/// It comes back. Topics and payloads in their order, until a message has come on each of so many topics whose payload holds `end`; nothing may
/// come behind them.
pub fn come_back(gateway: &Gateway, end: &str, ends: usize) -> Vec<(String, String)> {
    let (mut device, mut ended) = (Wire::resume(gateway, &AWAY), std::collections::BTreeSet::new());
    let mut got = Vec::new();
    while ended.len() < ends {
        let message = device.take();
        if message.payload.contains(end) {
            ended.insert(message.topic.clone());
        }
        got.push((message.topic, message.payload));
    }
    assert!(!device.client.wait_readable(QUIET), "{:?}", device.message());
    got
}
