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

/// A stream of the log: a row of the store's table `stream`, and a destination of each sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum Stream {
    Raw = 1,
    Anomalies = 2,
}

/// Which streams give way when the store has no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The oldest goes first.
    Bulk,
    /// Kept as long as there is anything in bulk, in a part of the store of its own.
    Reserve,
}

impl Keep {
    pub fn name(self) -> &'static str {
        match self {
            Keep::Bulk => "bulk",
            Keep::Reserve => "reserve",
        }
    }
}

impl Stream {
    /// The streams that every gateway has.
    pub const ALL: [Stream; 2] = [Stream::Raw, Stream::Anomalies];

    /// Its number in the store; 0 is none.
    pub const fn id(self) -> u16 {
        self as u16
    }

    pub fn name(self) -> &'static str {
        match self {
            Stream::Raw => "raw",
            Stream::Anomalies => "anomalies",
        }
    }

    pub fn from_name(name: &str) -> Option<Stream> {
        Stream::ALL.into_iter().find(|stream| stream.name() == name)
    }

    pub fn keep(self) -> Keep {
        match self {
            Stream::Raw => Keep::Bulk,
            Stream::Anomalies => Keep::Reserve,
        }
    }

    /// Whether the detectors see it: such a batch is held until a snapshot of them covers it.
    pub fn is_watched(self) -> bool {
        self == Stream::Raw
    }
}
