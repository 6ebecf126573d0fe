//! What is known of a bridge, for the administration interface.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::bridge::trouble::Situation;
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
    /// Nothing goes out: until somebody gives it the right to, or until the other broker takes something again.
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

    /// What decides whether it is reported.
    pub(super) fn situation(&self) -> Situation {
        let BridgeState { connected_at_ms, is_held, last_error, .. } = self.state();
        Situation {
            is_connected: connected_at_ms.is_some(),
            is_held,
            last_error,
            commands_waiting: self.counters.commands_waiting.get(),
            commands_without_room: self.counters.commands_without_room.get(),
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut BridgeState)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, BridgeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
