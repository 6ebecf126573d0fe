//! The one durable log: every reading is here before its device hears that it was received.

pub mod lock;
pub mod schema;
