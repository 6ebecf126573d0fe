//! How a link stands.

use super::Class;
use super::forecast::Forecast;
use super::permit::Waiting;

/// How a link stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Whether it counts as metered now.
    pub is_metered: bool,
    /// Spent today and this month.
    pub bytes_today: u64,
    /// Spent in this month.
    pub bytes_of_month: u64,
    /// Of all time, while it was metered.
    pub metered_bytes: u64,
    /// Of all time, while it was not.
    pub free_bytes: u64,
    /// Spent while it was metered, by class.
    pub by_class: [u64; Class::ALL.len()],
    /// When the present month is over, in milliseconds since 1970; `None` while the clock is not set.
    pub month_end_ms: Option<i64>,
    /// `None` if there is not enough to tell, or the clock is not set.
    pub forecast: Option<Forecast>,
    /// What others than alerts wait for, if anything.
    pub waiting: Option<Waiting>,
    /// What even alerts wait for, if anything.
    pub alerts_waiting: Option<Waiting>,
}
