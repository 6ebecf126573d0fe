//! The one durable log: every reading is here before its device hears that it was received.

pub mod cursors;
pub mod lock;
pub mod reader;
pub mod retention;
pub mod schema;
pub mod threads;
pub mod writer;
