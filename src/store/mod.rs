//! The durable log: every reading is stored here before its device gets an acknowledgement.

pub mod ballast;
mod cell;
pub mod commit;
pub mod cursors;
mod entries;
mod header;
pub mod held;
pub mod held_keys;
pub mod history;
mod kept;
pub mod letters;
pub mod links;
pub mod lock;
pub mod log;
mod migration;
pub mod opening;
mod pages;
pub mod reader;
pub mod recovery;
mod rejected;
pub mod retention;
mod rows;
pub mod runs;
pub mod salvage;
mod scan;
pub mod schema;
pub mod set_aside;
mod space;
pub mod streams;
pub mod totals;
pub mod unreadable;
mod version_1;
mod witness;
pub mod writer;

pub use scan::pages_of_batches;
