//! What a client asks for with a filter.

use serde::{Deserialize, Serialize};

/// What a client wants of the messages that match a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wants {
    /// Highest quality of service.
    pub qos: u8,
    /// Not those that it has published itself.
    pub no_local: bool,
    /// Messages keep their RETAIN flag.
    pub retain_as_published: bool,
    /// Sent along; 0 if there is none.
    pub identifier: u32,
}
