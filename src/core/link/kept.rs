//! What is stored of a budget.

use serde::{Deserialize, Serialize};

use super::Class;
use super::periods::Periods;

/// What is stored of a budget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    pub(super) days: Periods,
    pub(super) months: Periods,
    /// Of all time: while it was metered, and while it was not.
    pub(super) metered_bytes: u64,
    pub(super) free_bytes: u64,
    /// Of the former, by class.
    #[serde(with = "by_name")]
    pub(super) by_class: [u64; Class::ALL.len()],
    /// What may have been spent since this was stored.
    pub(super) advance: u64,
}

/// Classes by their names, so that others may be added.
mod by_name {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::link::Class;

    pub fn serialize<S: Serializer>(bytes: &[u64; Class::ALL.len()], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Class::ALL.into_iter().map(|class| (class.name(), bytes[class.index()])))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u64; Class::ALL.len()], D::Error> {
        let named: BTreeMap<String, u64> = BTreeMap::deserialize(deserializer)?;
        Ok(Class::ALL.map(|class| named.get(class.name()).copied().unwrap_or(0)))
    }
}

impl Kept {
    /// All that is known is how much was counted.
    pub fn of_total(counted: u64) -> Kept {
        Kept { metered_bytes: counted, ..Kept::default() }
    }

    /// Everything that was ever counted. Of two states, the one that has more is the later one.
    pub fn counted(&self) -> u64 {
        self.metered_bytes.saturating_add(self.free_bytes)
    }

    pub(super) fn spend(&mut self, bytes: u64) {
        self.metered_bytes = self.metered_bytes.saturating_add(bytes);
        self.days.spend(bytes);
        self.months.spend(bytes);
    }
}
