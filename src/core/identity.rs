//! What a record is known by: `(gateway, run, position)`.

use std::fmt;

/// Drawn at random at each process start; positions count up within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub [u8; 8]);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The two streams that every gateway has. A stream is a table of the store and a destination of each sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    Raw,
    Anomalies,
}

impl Stream {
    pub const ALL: [Stream; 2] = [Stream::Raw, Stream::Anomalies];

    pub fn name(self) -> &'static str {
        match self {
            Stream::Raw => "raw",
            Stream::Anomalies => "anomalies",
        }
    }
}
