//! A simulated fleet, and a load generator, for a telemetry gateway that speaks MQTT 3.1.1 or 5; and days of readings for its detectors.
//!
//! Constraints:
//! - What a vehicle measures is a pure function of seed, vehicle and sample number ([`vehicle`], [`fault`]): the same
//!   seed gives the same readings, and a buffer of past readings needs no memory.
//! - What was acknowledged is counted here, on the devices' side ([`ledger`], [`sequences`]), so that a gateway's own counters need not be
//!   trusted.
//! - [`record`] has physics, and therefore a course: it is simulated second by second, much faster than real time, and never connects.
//! - Everything in flight is bounded by a window; a vehicle whose window is full makes no new publish.
//!
//! Deliberately absent: subscriptions but for alerts, and any dependency on the gateway's code.

pub mod access;
pub mod cli;
mod client;
pub mod duration;
pub mod fault;
pub mod fleet;
pub mod ground_truth;
pub mod ledger;
pub mod load;
pub mod payload;
mod random;
pub mod record;
pub mod sequences;
pub mod timeline;
pub mod tls;
pub mod vehicle;
