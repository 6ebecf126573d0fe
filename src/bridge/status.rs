//! What is known of a bridge, for the administration interface.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::mqtt::bridging::BridgeCounters;

/// One `[[bridge]]`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BridgeSource {
    pub name: String,
    pub url: String,
    pub counters: Arc<BridgeCounters>,
    state: Arc<Mutex<BridgeState>>,
}

/// Its connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeState {
    /// Since when there is a connection.
    pub connected_at_ms: Option<i64>,
    /// Connections since the start.
    pub connections: u64,
    /// What was wrong last, and is not known to be over.
    pub last_error: Option<String>,
    /// Nothing goes out until somebody gives it the right to.
    pub is_held: bool,
    /// Filters that the other broker does not grant.
    pub filters_refused: u64,
}

impl BridgeSource {
    pub fn new(name: String, url: String) -> BridgeSource {
        BridgeSource { name, url, counters: Arc::default(), state: Arc::default() }
    }

    /// How it is now.
    pub fn state(&self) -> BridgeState {
        self.lock().clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut BridgeState)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, BridgeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
