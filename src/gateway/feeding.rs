//! Feeds systemd's watchdog while readings get through, by the same verdict as `/healthz`, and tells it the state in a line.
//!
//! It runs on the edge's thread and reads nothing: if that thread stands still, nothing feeds the watchdog, and a disk that hangs does not
//! keep it from being fed.

use std::time::Duration;

use crate::clock;
use crate::heartbeat::{Heartbeat, Watcher};
use crate::pipeline::StoreCounters;
use crate::systemd::Notifier;

/// How often is looked, as the heartbeat demands.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// For as long as the gateway runs; never ends by itself.
pub(super) async fn feed(notifier: &Notifier, heartbeat: &Heartbeat, counters: &StoreCounters) {
    let started = clock::instant();
    let mut watcher = Watcher::new(heartbeat);
    let mut told = String::new();
    let mut fed: Option<Duration> = None;
    loop {
        let now = started.elapsed();
        let stalled = watcher.look(now);
        let state = state(stalled.as_deref(), counters);
        if state != told {
            notifier.status(&state);
            told = state;
        }
        // A watchdog that waits for less than a few seconds is fed more often than is looked.
        let every = notifier.feed_every();
        let is_due = every.is_some_and(|every| fed.is_none_or(|fed| now - fed + LOOK_EVERY > every));
        if is_due && stalled.is_none() {
            notifier.is_well();
            fed = Some(now);
        }
        tokio::time::sleep(every.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)).await;
    }
}

fn state(stalled: Option<&str>, counters: &StoreCounters) -> String {
    match (stalled, counters.unstorable()) {
        (Some(thread), _) => format!("the {thread} thread is stalled"),
        (None, Some(cause)) => format!("nothing can be stored: {}", cause.name()),
        (None, None) => "readings are taken and stored".to_owned(),
    }
}
