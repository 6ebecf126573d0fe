//! Into which parts a stream is divided.

use crate::link::Class;

/// Into which parts a stream is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// None: everything goes in its order.
    Whole {
        /// Of its lines; what is live is backlog while more is committed than was read.
        class: Class,
    },
    /// Alerts, the gateway's own state, and anomalies.
    ByClass,
    /// What comes now, and what has waited.
    LiveFirst,
}

pub(super) const CLASSES: [Class; 3] = [Class::Alerts, Class::State, Class::Anomalies];

impl Plan {
    /// How many parts it has.
    pub fn parts(self) -> usize {
        match self {
            Plan::Whole { .. } => 1,
            Plan::ByClass => CLASSES.len(),
            Plan::LiveFirst => 2,
        }
    }
}
