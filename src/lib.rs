//! Outrider: an IoT edge-to-cloud telemetry gateway. Modules stand in the order in which data flows.

pub mod core;
pub mod edge;
pub mod handoff;
pub mod ingest;
pub mod store;
