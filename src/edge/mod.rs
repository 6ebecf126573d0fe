//! x
pub mod codec;
pub mod retained;
pub mod router;
