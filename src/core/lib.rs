//! Decisions, and nothing else: no tokio, no SQLite, no router, no SDK, no clock, no randomness.
//! Time and seeds are arguments. A test reads this folder's source and holds it to that.

#![deny(missing_docs)]

pub mod aggregate;
pub mod batch;
pub mod bridge;
pub mod cursor;
pub mod delivery;
pub mod detection;
pub mod device_clock;
pub mod digest;
pub mod files;
pub mod fnv;
pub mod identity;
pub mod json;
pub mod link;
pub mod models;
pub mod mqtt;
pub mod path;
pub mod pattern;
pub mod pipeline;
pub mod ranges;
pub mod reading;
pub mod record;
pub mod rulebook;
pub mod rules;
