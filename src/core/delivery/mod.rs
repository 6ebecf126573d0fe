//! How one sink gets one stream: a state machine without I/O, driven by a forwarder.
//!
//! It is offered the committed lines in the order of their local sequences, groups them into records, asks for requests to be sent,
//! and says how far the cursor is. Its rules:
//!
//! - A *record* holds lines of one partition key, which is a device or the whole gateway. At most one record of a key is in a request or in
//!   flight, because a cloud stream promises no order within a request or between two: this alone keeps the order across partial failures.
//! - Only what failed is sent again, as the same bytes. Nothing is tried a last time: a record ends accepted or rejected.
//! - Memory is bounded by bytes read ahead and by the ranges that lie done beyond the cursor; at either bound it wants no more.
//! - A throttled shard slows its own keys only. What fails a whole request slows the sink; what needs a person halts it, and both
//!   are tried again, with full jitter.
//! - A request refused as a whole is halved until the line is found that is to blame: first between its records, then within one. That
//!   line alone is given up, at once. So it is with a request that is too large, and the next ones are made smaller.
//! - A refusal that meets one line after the other, and nothing is accepted in between, is no line's fault: it halts the sink.
//!
//! Times are microseconds of a monotonic clock; the seed of the jitter is an argument. Deliberately absent: regrouping of a record that
//! was sent once and not refused (a resent record is byte for byte the first, so that a consumer can tell a repeat), and any time to live.

mod backoff;
mod machine;
mod pacing;
mod progress;
mod queue;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::cursor::CursorState;

pub use machine::{Delivery, PARTITION_KEY_BYTES_MAX};

/// What a service takes, what may be held for it, and how patient its delivery is.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliverySettings {
    pub grouping: Grouping,
    pub partition: Partition,
    /// A record takes no further line once it holds as much. One line alone may be longer.
    pub record_bytes_soft: usize,
    /// A line beyond this, with its partition key, can never be sent.
    pub record_bytes_max: usize,
    pub request_records_max: usize,
    /// Records and partition keys of one request together.
    pub request_bytes_max: usize,
    pub requests_in_flight_max: usize,
    /// Lines read ahead, with what it takes to keep track of them.
    pub held_bytes_max: usize,
    /// How long a line waits for others while the forwarder keeps up; when it is behind nothing waits.
    pub linger_us: u64,
    pub patience: Patience,
}

/// Pauses after failures, and when a cursor is saved: the same for all sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Ranges done with beyond the cursor, and runs of sequences that may yet become ones.
    pub ranges_max: usize,
    /// The first pause of a key whose record failed; it doubles.
    pub key_backoff_base_us: u64,
    /// The first pause of the sink after a request that failed as a whole; it doubles.
    pub sink_backoff_base_us: u64,
    pub backoff_max_us: u64,
    /// The longest pause after no connection was made: such an attempt costs nobody much, and the link may be back.
    pub connection_backoff_max_us: u64,
    pub halt_backoff_base_us: u64,
    pub halt_backoff_max_us: u64,
    /// How old an unsaved cursor becomes.
    pub persist_interval_us: u64,
    /// So many sequences done with are reason to save sooner, though not more often than ten times a second.
    pub persist_sequences: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            ranges_max: 16_384,
            key_backoff_base_us: 10_000,
            sink_backoff_base_us: 100_000,
            backoff_max_us: 10_000_000,
            connection_backoff_max_us: 2_000_000,
            halt_backoff_base_us: 1_000_000,
            halt_backoff_max_us: 30_000_000,
            persist_interval_us: 1_000_000,
            persist_sequences: 4_096,
        }
    }
}

#[cfg(test)]
impl Default for DeliverySettings {
    /// Limits for tests, of the size that cloud streams have.
    fn default() -> Self {
        DeliverySettings {
            grouping: Grouping::Lines,
            partition: Partition::Device,
            record_bytes_soft: 64 << 10,
            record_bytes_max: 1 << 20,
            request_records_max: 500,
            request_bytes_max: 1 << 20,
            requests_in_flight_max: 4,
            held_bytes_max: 2 << 20,
            linger_us: 2_000,
            patience: Patience::default(),
        }
    }
}

/// What becomes one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// Lines of one partition key, as many as are at hand.
    Lines,
    /// One line.
    Single,
}

/// What shares a partition key, and so is kept in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// Each device has one.
    Device,
    /// All devices have one: records hold lines of any of them, and one record is under way at a time.
    Gateway,
}

/// Names a request until its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Records to be sent at once, each of another partition key.
#[derive(Clone, Debug)]
pub struct Request {
    pub id: RequestId,
    pub records: Vec<OutgoingRecord>,
}

#[derive(Clone, Debug)]
pub struct OutgoingRecord {
    /// Empty where the whole gateway is one partition key.
    pub device: Arc<str>,
    pub data: Bytes,
}

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored by the sink, which may name the shard that took it.
    Accepted {
        shard: Option<String>,
    },
    Retry(RetryReason),
    /// Not now: what the sink says, and how long it asks to be left alone.
    Later {
        reason: String,
        after_us: Option<u64>,
    },
    /// Refused for good: sending it again would not change that.
    Reject(String),
    /// The request is larger than something on the way takes.
    TooLarge(String),
    /// Somebody has to do something before anything can be delivered; the text says what.
    Halt(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    Throttled,
    Internal,
    TimedOut,
    Connection,
    Credentials,
    Clock,
}

impl fmt::Display for RetryReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RetryReason::Throttled => "throttled",
            RetryReason::Internal => "an internal failure of the service",
            RetryReason::TimedOut => "no reply in time",
            RetryReason::Connection => "no connection",
            RetryReason::Credentials => "the credentials have expired",
            RetryReason::Clock => "the clock here and the service's differ",
        })
    }
}

/// What a sink answers: the request as a whole, or each of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub scope: Scope,
    /// One for each record of the request, in its order.
    pub outcomes: Vec<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Records,
    /// The service said one thing about the whole request; every outcome is the same.
    Request,
}

impl Reply {
    pub fn whole(outcome: Outcome, records: usize) -> Reply {
        Reply { scope: Scope::Request, outcomes: vec![outcome; records] }
    }
}

/// A line that the sink will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub sequence: u64,
    pub reason: String,
    pub line: Vec<u8>,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Time has passed, or lines were offered; `behind` says whether more is committed than was offered.
    Tick {
        behind: bool,
    },
    Replied {
        id: RequestId,
        reply: Reply,
    },
    /// The way is known to be free again: pauses end at once.
    LinkUp,
    /// The process is about to end: wait for no further lines.
    Flush,
}

/// What to do now.
#[derive(Clone, Debug, Default)]
pub struct Actions {
    pub send: Vec<Request>,
    pub persist: Option<Persist>,
    /// When to come back with a tick, if nothing happens before.
    pub wait_until_us: Option<u64>,
}

/// To be saved together: a refused line is done with, and must not be lost without its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    pub state: CursorState,
    pub refused: Vec<Refused>,
}

/// Where it stands, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryStatus {
    pub records_sent: u64,
    pub records_retried: u64,
    pub records_rejected: u64,
    pub requests_in_flight: usize,
    pub held_bytes: usize,
    /// Set as long as the sink is halted: what somebody has to mend.
    pub halted: Option<String>,
    /// The last failure of a whole request; `None` once one has come through.
    pub failing: Option<String>,
}
