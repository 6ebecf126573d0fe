//! Outrider: an IoT edge-to-cloud telemetry gateway. Modules are listed in the order in which data flows.

pub mod admin;
pub mod bridge;
pub use outrider_core as core;
pub mod files;
pub mod gateway;
pub mod handoff;
pub mod ingest;
pub mod keys;
pub mod mqtt;
pub mod pipeline;
pub mod sinks;
pub mod store;

pub mod clock;
pub mod commands;
pub mod config;
pub mod counter;
pub mod descriptors;
pub mod disk;
pub mod errors;
pub mod finding;
pub mod heartbeat;
mod limits;
pub mod program_pages;
#[cfg(test)]
mod simulation;
pub mod systemd;
pub mod tls;
pub mod uplink;
