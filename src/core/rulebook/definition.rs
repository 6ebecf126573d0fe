//! A rule as it is configured: texts and numbers, not yet compiled.

use crate::detection::severity::Severity;
use crate::fnv;

/// A rule as it is configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Definition {
    /// Unique among all rules; also the kind of its alerts.
    pub name: String,
    /// `SELECT ... FROM ... WHERE ...`: the rule sees messages.
    pub sql: Option<String>,
    /// A condition: the rule sees readings. Exactly one of the two is there.
    pub when: Option<String>,
    /// Which devices a condition is for, with `*` for any text. `None` means all.
    pub from: Option<String>,
    /// For how long the condition has to hold, in milliseconds by the device's time.
    pub hold_ms: i64,
    /// What has to hold before an alert clears. `None` means that `when` does not.
    pub until: Option<String>,
    /// Whether actions run for each reading while the condition holds, and not only when it begins to.
    pub repeats: bool,
    /// What is done with what the rule finds.
    pub actions: Vec<ActionDefinition>,
    /// What is done about each of its errors.
    pub on_error: Vec<ActionDefinition>,
}

/// An action as it is configured. Texts are templates: `${...}` in them is filled in.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionDefinition {
    /// Raises an alert.
    Alert {
        /// How severe it is.
        severity: Severity,
        /// What it says.
        message: Option<String>,
        /// Which device it is about, where no route says so.
        device: Option<String>,
    },
    /// Publishes a message.
    Republish {
        /// Where to.
        topic: String,
        /// Of the message; without it, the result.
        payload: Option<String>,
        /// Quality of service, 0 or 1.
        qos: u8,
        /// Whether it is kept for later subscribers.
        retain: bool,
    },
    /// Puts a record into a stream.
    Record {
        /// The name of one that the configuration has.
        stream: String,
    },
    /// Makes readings.
    Readings {
        /// Their device; without it, that of the reading.
        device: Option<String>,
        /// Of a condition: the metric.
        metric: Option<String>,
        /// Of a condition: an expression.
        value: Option<String>,
    },
    /// Nothing but counting, which all rules do.
    Count,
    /// Keeps the readings out of the raw stream.
    Drop,
    /// Replaces the readings of each series by one for each span of time.
    Downsample {
        /// Milliseconds of the device's time.
        every_ms: i64,
        /// What is kept of each span.
        keep: Vec<Keep>,
    },
}

impl ActionDefinition {
    /// Whether it makes sense for every reading there is.
    pub(super) fn is_for_every_reading(&self) -> bool {
        matches!(self, ActionDefinition::Drop | ActionDefinition::Downsample { .. } | ActionDefinition::Record { .. })
    }
}

/// What is kept of a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The last value, under the metric's own name.
    Last,
    /// The mean, under `{metric}.mean`.
    Mean,
    /// The least value, under `{metric}.min`.
    Min,
    /// The greatest value, under `{metric}.max`.
    Max,
}

impl Keep {
    /// Each of them, by its name in the configuration.
    pub const ALL: [(&'static str, Keep); 4] =
        [("last", Keep::Last), ("mean", Keep::Mean), ("min", Keep::Min), ("max", Keep::Max)];

    /// What is appended to the metric's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Keep::Last => "",
            Keep::Mean => ".mean",
            Keep::Min => ".min",
            Keep::Max => ".max",
        }
    }
}

impl Definition {
    /// A number that is another one for each other definition: what was found out under one is nothing to another.
    pub fn fingerprint(&self) -> u64 {
        fnv::of_debug(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_changes_with_anything_that_the_rule_says() {
        let rule = Definition { name: "hot".to_owned(), when: Some("t > 1".to_owned()), ..Definition::default() };
        let others = [
            Definition { when: Some("t > 2".to_owned()), ..rule.clone() },
            Definition { hold_ms: 5_000, ..rule.clone() },
            Definition { actions: vec![ActionDefinition::Drop], ..rule.clone() },
            Definition { on_error: vec![ActionDefinition::Drop], ..rule.clone() },
        ];
        let mut fingerprints: Vec<u64> = others.iter().chain([&rule]).map(Definition::fingerprint).collect();
        assert_eq!(rule.clone().fingerprint(), rule.fingerprint());
        fingerprints.sort_unstable();
        fingerprints.dedup();
        assert_eq!(fingerprints.len(), 5);
    }
}
