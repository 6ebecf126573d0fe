//! The durable log: every reading is stored here before its device gets an acknowledgement.

pub mod ballast;
pub mod commit;
pub mod cursors;
mod header;
pub mod held;
pub mod lock;
pub mod log;
mod migration;
pub mod opening;
pub mod reader;
pub mod recovery;
pub mod retention;
mod rows;
pub mod runs;
pub mod salvage;
pub mod schema;
pub mod set_aside;
pub mod totals;
mod version_1;
pub mod writer;
