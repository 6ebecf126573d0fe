//! A link that costs money: what may be sent over it, and when.
//!
//! A [`Budget`] is asked before each request and told what it took, in bytes on the socket. It knows days and months, a part that is kept for
//! alerts, and a rate. Whoever is refused waits in the store: nothing is dropped for want of a budget.
//!
//! - Days and months are UTC. A month begins on a day of its own, as contracts do.
//! - A clock that jumps gives no day's budget twice, and one that was years ahead blocks nothing for years: see `periods`.
//! - What has waited may spend what an even pace would have spent by now, so that it leaves the rest of a day, or of a month, to what comes.
//! - What is urgent goes first: a class waits as long as a more urgent one waits for the same link.
//! - A link of which nobody knows whether it is metered is metered if anything is limited on it.
//!
//! Deliberately absent: clocks and sockets. Times are arguments, the calendar's in milliseconds since 1970 and the steady one's in
//! microseconds.

mod ahead;
mod budget;
mod calendar;
mod forecast;
mod kept;
mod periods;
mod permit;
mod status;
#[cfg(test)]
mod tests;

pub use budget::Budget;
pub use forecast::Forecast;
pub use kept::Kept;
pub use permit::{Permit, Waiting};
pub use status::LinkStatus;

/// What a request takes beside its records, at most: a handshake of TLS, its head, the answer.
pub const REQUEST_OVERHEAD_BYTES: u64 = 6 << 10;

/// However little a link allows, lines share a record of so much.
const RECORD_BYTES_MIN: usize = 4 << 10;
/// Of what is stored before it is spent, a record is one part in so many.
const RECORDS_OF_ADVANCE: u64 = 4;

/// On a socket, so many bytes of records take no more than this: they may be encoded as base64, and are often compressed.
pub const fn on_socket(record_bytes: u64) -> u64 {
    record_bytes.saturating_add(record_bytes / 3).saturating_add(REQUEST_OVERHEAD_BYTES)
}

/// What is sent, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Changes of alerts.
    Alerts,
    /// What the gateway says of itself.
    State,
    /// Readings that stand out.
    Anomalies,
    /// Readings, and records of rules, as they come.
    Live,
    /// What waited while others could be sent.
    Backlog,
}

impl Class {
    /// All of them, the most urgent first.
    pub const ALL: [Class; 5] = [Class::Alerts, Class::State, Class::Anomalies, Class::Live, Class::Backlog];

    /// As the configuration has it.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Alerts => "alerts",
            Class::State => "state",
            Class::Anomalies => "anomalies",
            Class::Live => "live",
            Class::Backlog => "backlog",
        }
    }

    /// The class of a stored line that is kept in reserve: every record begins with its version and its type.
    pub fn of_line(line: &[u8]) -> Class {
        let kind = line.strip_prefix(b"{\"v\":1,\"type\":\"").unwrap_or_default();
        match kind {
            kind if kind.starts_with(b"alert\"") => Class::Alerts,
            kind if kind.starts_with(b"gateway\"") => Class::State,
            _ => Class::Anomalies,
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// A set of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes(u8);

impl Classes {
    /// Everything.
    pub const ALL: Classes = Classes((1 << Class::ALL.len()) - 1);

    /// Whether a class is in it.
    pub fn has(self, class: Class) -> bool {
        self.0 & (1 << class.index()) != 0
    }
}

impl FromIterator<Class> for Classes {
    fn from_iter<I: IntoIterator<Item = Class>>(classes: I) -> Classes {
        Classes(classes.into_iter().fold(0, |set, class| set | 1 << class.index()))
    }
}

/// What is allowed on a link while it is metered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSettings {
    /// Most bytes of a day. `None`: as many as there are.
    pub bytes_per_day: Option<u64>,
    /// Most bytes of a month.
    pub bytes_per_month: Option<u64>,
    /// The day that a month begins with; in a shorter one, its last day.
    pub reset_day: u8,
    /// Bytes a second.
    pub rate: Option<u64>,
    /// Of each budget, so much is for alerts alone.
    pub alert_reserve_percent: u8,
    /// What goes over it at all.
    pub carries: Classes,
}

impl Default for LinkSettings {
    fn default() -> LinkSettings {
        LinkSettings {
            bytes_per_day: None,
            bytes_per_month: None,
            reset_day: 1,
            rate: None,
            alert_reserve_percent: 10,
            carries: Classes::ALL,
        }
    }
}

impl LinkSettings {
    /// Whether anything is counted up.
    pub fn has_budget(&self) -> bool {
        self.bytes_per_day.is_some() || self.bytes_per_month.is_some()
    }

    /// Lines share a record of so many bytes at most. It cannot be divided, so none takes much longer than a second, and none is a large
    /// part of a budget.
    pub fn record_bytes_soft(&self) -> usize {
        let of_budget = self.has_budget().then(|| ahead::advance(self) / RECORDS_OF_ADVANCE);
        let least = self.rate.into_iter().chain(of_budget).min();
        least.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX).max(RECORD_BYTES_MIN))
    }

    /// Whether anything is not allowed.
    pub fn has_limit(&self) -> bool {
        self.has_budget() || self.rate.is_some() || self.carries != Classes::ALL
    }
}

/// Whether what is sent costs money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metered {
    /// It does.
    Yes,
    /// It does not: nothing is counted up, and everything may go.
    No,
    /// Nobody knows.
    #[default]
    Unknown,
}

/// Two clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// By the calendar, in milliseconds since 1970 (UTC). `None` while the clock is not set.
    pub wall_ms: Option<i64>,
    /// By a clock that never jumps.
    pub steady_us: u64,
    /// By one that goes on while the machine sleeps, too.
    pub passed_us: u64,
}
