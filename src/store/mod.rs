//! The one durable log: every reading is here before its device hears that it was received.

mod alert_log;
pub mod announce;
pub mod ballast;
pub mod committer;
pub mod cursors;
mod intake;
pub mod lock;
pub mod opening;
pub mod operation;
pub mod quarantine;
pub mod reader;
pub mod recovery;
pub mod retention;
mod rows;
pub mod salvage;
pub mod schema;
pub mod threads;
mod unanswered;
pub mod writer;
