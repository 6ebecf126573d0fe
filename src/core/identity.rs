//! What identifies a record: `(gateway, run, position)`.

use std::fmt;

/// Identifies one run of the process: drawn at random at its start. Positions count from 1 within it.
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
    /// Readings, as they came.
    Raw = 1,
    /// Anomalies, changes of alerts, and the gateway's own records.
    Anomalies = 2,
}

/// Which streams lose records when the store has no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The oldest records are dropped first.
    Bulk,
    /// Kept as long as there is anything in bulk, in a reserved part of the store.
    Reserve,
}

impl Keep {
    /// As it stands in the store.
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

    /// As in the store and in the status.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Raw => "raw",
            Stream::Anomalies => "anomalies",
        }
    }

    /// Reverses [`Self::name`]; `None` for any other text.
    pub fn from_name(name: &str) -> Option<Stream> {
        Stream::ALL.into_iter().find(|stream| stream.name() == name)
    }

    /// Which part of the store it lies in.
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
