//! What a budget says to who wants to send.

/// Whether a request may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// It may, with so many bytes of records at most.
    Go {
        /// A single record may be longer.
        bytes_max: usize,
    },
    /// Others go first, or the rate is used up: to be asked again then, by the steady clock.
    Later {
        /// By the steady clock.
        at_us: u64,
    },
    /// There is no budget for it, or the link does not carry it. No fault: to be asked again then.
    Wait {
        /// What is waited for.
        waiting: Waiting,
        /// By the steady clock.
        at_us: u64,
    },
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The budget of the day is spent.
    Day,
    /// The budget of the month is spent.
    Month,
    /// What has waited may spend what an even pace would have spent by now: the rest is for what comes.
    Pace,
    /// The link carries nothing of this class while it is metered.
    Unmetered,
    /// So much was sent ahead of what waits that no more can be told apart from it.
    Between,
}

impl Waiting {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Waiting::Day => "waiting for the budget of the next day",
            Waiting::Month => "waiting for the budget of the next month",
            Waiting::Pace => "sent as slowly as the budget lasts",
            Waiting::Unmetered => "waiting for a link that is not metered",
            Waiting::Between => "waiting until less waits between what was sent first",
        }
    }
}
