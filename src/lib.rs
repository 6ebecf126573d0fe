//! Outrider: an IoT edge-to-cloud telemetry gateway. Modules stand in the order in which data flows.

pub mod core;
pub mod edge;
pub mod handoff;
pub mod ingest;
pub mod store;
pub mod forward {
    pub mod archive;
    pub mod archive_folder;
    pub mod status;
}
pub mod admin;
pub mod gateway;

pub mod clock;
pub mod commands;
pub mod counter;
pub mod disk;
