//! What a run is made from, and the faults that befall it.

use super::disk::{Call, Cut};
use super::random::Random;
use crate::core::identity::{Keep, NamedStream, Streams};
use crate::store::retention::{Capacity, WhenFull};

/// The sinks that a configuration may have.
pub(super) const SINKS: [&str; 3] = ["ample", "tight", "single"];

/// The stream that a rule writes to.
pub(super) const TRIPS: &str = "trips";

/// The streams of the configuration.
pub(super) fn named_streams() -> Vec<NamedStream> {
    vec![NamedStream { name: TRIPS.to_owned(), keep: Keep::Bulk }]
}

/// All streams.
pub(super) fn streams() -> Streams {
    Streams::default().with(&named_streams()).expect("few")
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub seed: u64,
    pub minutes: u64,
    /// What all devices together publish.
    pub readings: u64,
    pub sabotage: Option<Sabotage>,
}

/// A promise that is broken on purpose, so that the checks can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// The disk says that it has synced, and has not.
    DropsSyncs,
    /// A client gets its PUBACK before the commit.
    AcknowledgesEarly,
    /// A batch is deleted that a sink has not got.
    DeletesUndelivered,
    /// A record that failed is taken for one that was accepted.
    PassesOverFailures,
    /// A term of the ledger is one more than it is.
    BreaksCounter(&'static str),
}

/// The part of the configuration that restarts change.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// Places in [`SINKS`].
    pub sinks: Vec<usize>,
    pub capacity: Capacity,
}

impl Config {
    pub fn any(is_small: bool, random: &mut Random) -> Config {
        let mut sinks: Vec<usize> = (0..SINKS.len()).filter(|_| random.percent(60)).collect();
        if sinks.is_empty() {
            sinks.push(random.below(SINKS.len() as u64) as usize);
        }
        // The smallest has room for about half of what large readings take.
        let bytes_max = if is_small { random.within(4, 7) << 20 } else { 64 << 20 };
        let when_full = if random.percent(50) { WhenFull::Refuse } else { WhenFull::DropOldest };
        // With some, what is delivered stays; without, deletion follows delivery.
        let history_ms = if sinks.len().is_multiple_of(2) { 60_000 } else { 0 };
        Config { sinks, capacity: Capacity { when_full, history_ms, ..Capacity::new(bytes_max) } }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// At once, or with one of the writes and syncs that follow.
    PowerCut {
        cut: Cut,
        after_calls: Option<u64>,
    },
    Kill {
        after_calls: Option<u64>,
    },
    /// Others leave so much of the disk.
    DiskFull {
        bytes_left: u64,
        seconds: u64,
    },
    Refusals {
        call: Call,
        after: u64,
        count: u64,
    },
    SlowSyncs {
        ms_max: u64,
        seconds: u64,
    },
    ClockJump {
        ms: i64,
    },
    /// An orderly end, and a start with another configuration.
    Restart,
    /// The link is cut on purpose.
    LinkDown {
        sink: usize,
        seconds: u64,
    },
}

impl Fault {
    /// As it is counted.
    pub fn name(self) -> &'static str {
        match self {
            Fault::PowerCut { cut: Cut::Whole, .. } => "power cut",
            Fault::PowerCut { cut: Cut::Torn, .. } => "power cut, torn blocks",
            Fault::Kill { .. } => "kill",
            Fault::DiskFull { .. } => "disk full",
            Fault::Refusals { call: Call::Open, .. } => "errors of open",
            Fault::Refusals { call: Call::Read, .. } => "errors of read",
            Fault::Refusals { call: Call::Write, .. } => "errors of write",
            Fault::Refusals { call: Call::Sync, .. } => "errors of sync",
            Fault::Refusals { call: Call::Truncate, .. } => "errors of truncate",
            Fault::SlowSyncs { .. } => "slow syncs",
            Fault::ClockJump { .. } => "clock jump",
            Fault::Restart => "restart",
            Fault::LinkDown { .. } => "link down",
        }
    }

    pub fn any(random: &mut Random) -> Fault {
        let after_calls = random.percent(60).then(|| random.below(40));
        match random.below(20) {
            0..=2 => Fault::PowerCut { cut: Cut::Whole, after_calls },
            3..=5 => Fault::PowerCut { cut: Cut::Torn, after_calls },
            6..=8 => Fault::Kill { after_calls },
            9 | 10 => Fault::DiskFull { bytes_left: random.below(400_000), seconds: random.within(1, 60) },
            11..=13 => {
                let call = random.pick(&[Call::Write, Call::Write, Call::Sync, Call::Sync, Call::Open, Call::Truncate]);
                let call = if random.one_in(6) { Call::Read } else { call };
                Fault::Refusals { call, after: random.below(30), count: random.within(1, 12) }
            }
            14 => Fault::SlowSyncs { ms_max: random.within(50, 9_000), seconds: random.within(1, 60) },
            15 => {
                let ms = random.pick(&[1_000, 30_000, 600_000, 86_400_000]);
                Fault::ClockJump { ms: if random.percent(50) { ms } else { -ms } }
            }
            16 | 17 => Fault::Restart,
            _ => Fault::LinkDown { sink: random.below(SINKS.len() as u64) as usize, seconds: random.within(1, 90) },
        }
    }
}

/// All that can go wrong, as it is counted: a run of many seeds has met each of them.
pub(super) const FAULTS: [&str; 24] = [
    "power cut",
    "power cut, torn blocks",
    "kill",
    "disk full",
    "errors of open",
    "errors of read",
    "errors of write",
    "errors of sync",
    "errors of truncate",
    "slow syncs",
    "clock jump",
    "restart",
    "link down",
    "unreachable",
    "halted",
    "refused for now",
    "too large (413)",
    "lost replies",
    "time-outs with effect",
    "time-outs without effect",
    "refused for good",
    "failed records",
    "one key fails",
    "throttled records",
];
