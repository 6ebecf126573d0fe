//! Decisions, and nothing else: no tokio, no SQLite, no router, no SDK, no clock, no randomness.
//! Time and seeds are arguments. A test reads this folder's source and holds it to that.

pub mod alert;
pub mod batch;
pub mod cursor;
pub mod delivery;
pub mod detector;
pub mod device_clock;
pub mod devices;
pub mod identity;
mod past;
pub mod pipeline;
pub mod reading;
pub mod record;
pub mod session;
pub mod silence;
pub mod topic;
pub mod topic_tree;
pub mod watch;
pub mod window;
