//! How one sink gets one stream: a state machine without I/O, driven by a forwarder.
//!
//! The forwarder offers it the committed lines in the order of their local sequences. It groups them into records, says which requests to
//! send, and keeps track of how far the sink has come. Its rules:
//!
//! - A *record* holds lines of one partition key, which is a device or the whole gateway. At most one record of a key is in a request or in
//!   flight, because a cloud stream promises no order within a request or between two: this alone keeps the order across partial failures.
//! - Only what failed is sent again, as the same bytes. Nothing is tried a last time: a record ends accepted or rejected.
//! - Memory is bounded by bytes read ahead and by the ranges that lie done beyond the cursor; at either bound it wants no more.
//! - A throttled shard slows its own keys only. What fails a whole request slows the sink; what needs a person halts it, and both
//!   are tried again, with full jitter.
//! - A request refused as a whole is halved until the line is found that is to blame: first between its records, then within one. That
//!   line alone is given up, at once. A request that is too large is halved as well, and the next ones are made smaller.
//! - A key whose records fail while others are accepted is set aside: its lines leave memory, the cursor goes on over them, and they are
//!   read again from a position of its own. Retrying ends in acceptance only, never in a dead letter.
//! - When line after line is refused and none is accepted in between, the lines are not to blame: the sink is halted.
//!
//! Times are microseconds of a monotonic clock; the seed of the jitter is an argument. Deliberately absent: regrouping of a record that
//! was sent once and not refused (a resent record is byte for byte the first, so that a consumer can tell a repeat).

mod backoff;
mod machine;
mod pacing;
mod parts;
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
use super::link::Waiting;

pub use backoff::Jitter;
pub use machine::{Delivery, PARTITION_KEY_BYTES_MAX};
pub use parts::{Gate, Offered, Open, Parts, Plan};

/// What a service takes, what may be held for it, and how patient its delivery is.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliverySettings {
    /// Whether lines share a record.
    pub grouping: Grouping,
    /// Which lines are kept in order among each other.
    pub partition: Partition,
    /// A record takes no further line once it holds so many bytes. A single line may be longer.
    pub record_bytes_soft: usize,
    /// Most bytes of a record with its partition key. A longer line can never be sent and is refused at once.
    pub record_bytes_max: usize,
    /// Most records of one request.
    pub request_records_max: usize,
    /// Most bytes of one request: data and partition keys of all its records.
    pub request_bytes_max: usize,
    /// Most requests that await their reply at one time. After a failure it is one, until a request comes through.
    pub requests_in_flight_max: usize,
    /// Memory, in bytes, for lines that are not done with and for the bookkeeping. At this bound no more lines are wanted.
    pub held_bytes_max: usize,
    /// How long a line waits for others to share its request. While more lines are committed than were offered, none waits.
    pub linger_us: u64,
    /// What is older is not sent any more, and counted as expired.
    pub age_us_max: Option<u64>,
    /// How long to pause after failures, and how often progress is saved.
    pub patience: Patience,
}

/// How long to pause after failures, how many refusals are believed, and how often a cursor is saved: mostly the same for all sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Most ranges of sequences beyond the cursor: those done with, and those held that may become such. At this bound no more lines are
    /// wanted, unless none is held.
    pub ranges_max: usize,
    /// Upper limit of the first pause of a key whose record failed; it doubles with each failure.
    pub key_backoff_base_us: u64,
    /// Upper limit of the first pause of the sink after a request failed as a whole; it doubles with each failure.
    pub sink_backoff_base_us: u64,
    /// Upper limit that the pauses of a key or of the sink double up to.
    pub backoff_max_us: u64,
    /// Upper limit of the pauses after no connection was made. It is lower because such an attempt costs little, and the network may be
    /// back at any time.
    pub connection_backoff_max_us: u64,
    /// A shard that takes nothing is asked again after a pause between half of this and this.
    pub throttled_pause_us: u64,
    /// A key that has failed for so long, while others are accepted, is set aside.
    pub key_fails_us: u64,
    /// Most keys that are set aside. If another one fails, nothing more is read until one of them has a place again. With 0, a key that
    /// fails stays in memory.
    pub keys_aside_max: usize,
    /// Shortest pause before a key that is set aside is tried again; it doubles with each failure.
    pub probe_pause_us_min: u64,
    /// Longest such pause.
    pub probe_pause_us_max: u64,
    /// Upper limit of the first pause of a halted sink, before it is tried again; it doubles with each failure.
    pub halt_backoff_base_us: u64,
    /// Upper limit that the pauses of a halted sink double up to.
    pub halt_backoff_max_us: u64,
    /// So many lines may be given up without one that is accepted. Beyond that the lines are not to blame.
    pub refused_in_a_row_max: u32,
    /// Progress is saved at the latest so long after it was made.
    pub persist_interval_us: u64,
    /// Progress is saved sooner once so many sequences are done with, but at most ten times a second.
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
            throttled_pause_us: 800_000,
            key_fails_us: 10_000_000,
            keys_aside_max: 1_000,
            probe_pause_us_min: 1_000_000,
            probe_pause_us_max: 10_000_000,
            halt_backoff_base_us: 1_000_000,
            halt_backoff_max_us: 30_000_000,
            refused_in_a_row_max: 100,
            persist_interval_us: 1_000_000,
            persist_sequences: 4_096,
        }
    }
}

impl Default for DeliverySettings {
    /// Limits of the size that cloud streams have.
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
            age_us_max: None,
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

/// Which lines share a partition key, and so are kept in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// Each device has one.
    Device,
    /// All devices have one: records hold lines of any of them, and one record is under way at a time.
    Gateway,
}

/// Identifies a request until its reply; never used twice by one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Records to be sent at once, each of another partition key.
#[derive(Clone, Debug)]
pub struct Request {
    /// To be given back with the reply.
    pub id: RequestId,
    /// At least one.
    pub records: Vec<OutgoingRecord>,
    /// Others of their keys may have been sent before, although they lie behind.
    pub is_late: bool,
}

/// Lines of one partition key that travel together. When it is sent again it is byte for byte the same.
#[derive(Clone, Debug)]
pub struct OutgoingRecord {
    /// Empty where the whole gateway is one partition key.
    pub device: Arc<str>,
    /// Complete lines, each with its line feed.
    pub data: Bytes,
}

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored by the sink, which may name the shard that took it.
    Accepted {
        /// `None` if the sink has no shards, or does not name them.
        shard: Option<String>,
    },
    /// Failed for now: to be sent again after a pause.
    Retry(RetryReason),
    /// No connection could be made, or it broke, as the text says for people: the same as [`RetryReason::Connection`].
    Unreachable(String),
    /// Failed for now, in the sink's own words; it counts as throttling.
    Later {
        /// For people.
        reason: String,
        /// How long the sink asks to be left alone, in microseconds. `None` leaves that to the usual pauses, and so does an outcome of one
        /// record only.
        after_us: Option<u64>,
    },
    /// Refused for good: sending it again would not change that.
    Reject(String),
    /// The same of every line of the record, as the sink has found out: it is given up as it is, and no line is looked for that is to blame.
    RejectLines(String),
    /// The request is larger than something on the way takes.
    TooLarge(String),
    /// Somebody has to do something before anything can be delivered; the text says what.
    Halt(String),
}

/// Why something failed that may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// More was sent than the service, or the shard, takes at present: what goes to that shard is slowed down.
    Throttled,
    /// A fault within the service.
    Internal,
    /// No reply came in time. The records may have been stored all the same.
    TimedOut,
    /// No connection could be made, or it broke.
    Connection,
    /// The credentials have expired; the sink looks for newer ones before the next attempt.
    Credentials,
    /// The service does not accept a signature of this time: its clock differs from ours.
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
    /// Whether the service judged the request or each record.
    pub scope: Scope,
    /// One for each record of the request, in its order.
    pub outcomes: Vec<Outcome>,
    /// Lines of the accepted records that the sink does not take: it did not send them.
    pub passed_over: u64,
}

/// What a reply is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each record has an outcome of its own.
    Records,
    /// The service said one thing about the whole request; every outcome is the same.
    Request,
}

impl Reply {
    /// The same outcome for all records of a request, of which there are `records`.
    pub fn whole(outcome: Outcome, records: usize) -> Reply {
        Reply { scope: Scope::Request, outcomes: vec![outcome; records], passed_over: 0 }
    }
}

/// A line that the sink will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Local sequence of the line in its stream.
    pub sequence: u64,
    /// What the sink said, or why the line cannot be sent; for people.
    pub reason: String,
    /// As it would have been sent, line feed included.
    pub line: Vec<u8>,
    /// Of a key that is set aside: the cursor has passed over it before.
    pub is_aside: bool,
}

/// What has changed of a key that is set aside, or is no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The device.
    pub key: String,
    /// Up to where its lines are done with; `None` when it takes part in the cursor again.
    pub state: Option<CursorState>,
    /// Its lines that the cursor has passed over since the last save, as runs of sequences: they are not done with.
    pub passed: Vec<(u64, u64)>,
    /// Its lines that were passed over and are done with since the last save, refused and expired ones included.
    pub taken: Vec<(u64, u64)>,
    /// Those of them that became too old.
    pub expired: Vec<(u64, u64)>,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Time has passed, or lines were offered.
    Tick {
        /// More lines are committed than were offered: none waits for company.
        behind: bool,
    },
    /// The sink has answered a request.
    Replied {
        /// A request in flight.
        id: RequestId,
        /// With one outcome for each record of the request.
        reply: Reply,
    },
    /// The network is known to be back: the sink's pause ends at once, except one that the sink itself asked for.
    LinkUp,
    /// The process is about to end: wait for no further lines.
    Flush,
}

/// What to do now.
#[derive(Clone, Debug, Default)]
pub struct Actions {
    /// To be sent now. Each is to be answered by an [`Event::Replied`].
    pub send: Vec<Request>,
    /// To be saved now, if a save is due.
    pub persist: Option<Persist>,
    /// When to come back with a tick, if nothing happens before. `None`: only another event changes anything.
    pub wait_until_us: Option<u64>,
}

/// To be saved in one transaction: a refused line counts as done with, so it would be lost if only the cursor were saved, and a line that
/// was passed over would be counted again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Sequences that are done with, those of `refused` included.
    pub state: CursorState,
    /// Lines given up since the last save.
    pub refused: Vec<Refused>,
    /// Lines that became too old since the last save, as runs of sequences, in no order. They are done with. Those of keys that are set aside
    /// are in [`KeyChange::expired`].
    pub expired: Vec<(u64, u64)>,
    /// Of the sequences done with since the delivery was created, so many the sink does not take.
    pub passed_over: u64,
    /// What has changed of keys that are set aside.
    pub keys: Vec<KeyChange>,
}

/// How a delivery stands, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryStatus {
    /// Records accepted since the start.
    pub records_sent: u64,
    /// Attempts to send a record that failed and are repeated, since the start.
    pub records_retried: u64,
    /// Lines given up since the start.
    pub records_rejected: u64,
    /// Requests that await their reply.
    pub requests_in_flight: usize,
    /// Memory taken by lines that are not done with, and by refused ones that are not saved yet.
    pub held_bytes: usize,
    /// Set as long as the sink is halted: what somebody has to mend.
    pub halted: Option<String>,
    /// The last failure of a whole request, or of every record for a while; `None` once one has come through.
    pub failing: Option<String>,
    /// Keys that are set aside.
    pub keys_aside: usize,
    /// Some of them, by name.
    pub keys_aside_named: Vec<String>,
    /// Nothing more is read, because no more keys can be set aside.
    pub is_crowded: bool,
    /// What is waited for, where a link has no budget for what is to be sent. No fault.
    pub waiting: Option<Waiting>,
}
