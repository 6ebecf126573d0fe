//! The one durable log: every reading is here before its device hears that it was received.

pub mod ballast;
pub mod commit;
pub mod cursors;
pub mod lock;
pub mod log;
pub mod opening;
pub mod reader;
pub mod recovery;
pub mod retention;
mod rows;
pub mod salvage;
pub mod schema;
pub mod set_aside;
pub mod writer;
