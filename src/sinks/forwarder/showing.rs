//! Tells how a delivery is doing: in its status, and in the log.

use super::Forwarder;
use crate::core::delivery::DeliveryStatus;
use crate::core::link::Waiting;
use crate::sinks::status::KeysSetAside;

impl Forwarder {
    /// Publishes the machine's state: numbers every time, a log line only when the state changes.
    pub(super) fn show(&mut self) {
        let status = self.delivery.status();
        self.status.records_sent.add(status.records_sent - self.shown.records_sent);
        self.status.records_retried.add(status.records_retried - self.shown.records_retried);
        self.status.records_rejected.add(status.records_rejected - self.shown.records_rejected);
        let (sink, stream) = (&self.name, &*self.stream_name);
        match (&status.halted, &status.failing) {
            (Some(halted), _) if status.halted != self.shown.halted => {
                tracing::error!(sink, stream, "halted: {halted}; readings are buffered, and sending is retried");
            }
            (None, Some(failing)) if self.shown.failing.is_none() || self.shown.halted.is_some() => {
                tracing::warn!(
                    sink,
                    stream,
                    "not delivering: {failing}; readings are buffered, and sending is retried"
                );
            }
            (None, None) if self.shown.failing.is_some() => tracing::info!(sink, stream, "delivering again"),
            _ => {}
        }
        if status.records_rejected > self.shown.records_rejected && self.shown.records_rejected == 0 {
            tracing::error!(
                sink,
                stream,
                "a record was permanently refused and is kept as a dead letter; further ones are only counted"
            );
        }
        if status.waiting != self.shown.waiting {
            self.show_waiting(status.waiting);
        }
        self.show_keys_aside(&status);
        let error = status.halted.clone().or_else(|| status.failing.clone()).or_else(|| self.store_error.clone());
        let error = error.or_else(|| keys_aside_text(&status));
        if self.status.last_error() != error {
            self.status.set_error(error);
        }
        self.shown = status;
    }

    /// No fault: it is told, and is no error.
    fn show_waiting(&mut self, waiting: Option<Waiting>) {
        let (sink, stream) = (&self.name, &*self.stream_name);
        let is_news = |waiting: Option<Waiting>| waiting.filter(|waiting| *waiting != Waiting::Pace);
        match is_news(waiting) {
            Some(waiting) => tracing::info!(sink, stream, "{}", waiting.text()),
            None if is_news(self.shown.waiting).is_some() => tracing::info!(sink, stream, "sending again"),
            None => {}
        }
        self.status.set_waiting(waiting.map(Waiting::text));
    }

    fn show_keys_aside(&mut self, status: &DeliveryStatus) {
        let before = &self.shown;
        if status.keys_aside == before.keys_aside && status.is_crowded == before.is_crowded {
            return;
        }
        let (sink, stream, keys) = (&self.name, &*self.stream_name, status.keys_aside);
        let first = status.keys_aside_named.clone();
        if status.is_crowded && !before.is_crowded {
            tracing::error!(
                sink,
                stream,
                keys,
                "no more partition keys can be set aside: nothing more is read until one is accepted"
            );
        } else if keys > 0 && before.keys_aside == 0 {
            tracing::warn!(
                sink,
                stream,
                "records of {} fail while others are accepted: it is set aside and tried every few seconds; further ones are only counted",
                first.join(", ")
            );
        } else if keys == 0 {
            tracing::info!(sink, stream, "no partition key is set aside any more");
        }
        self.status.set_keys_aside(KeysSetAside { count: keys, first });
    }
}

/// What to say about keys that are set aside, if there are any.
fn keys_aside_text(status: &DeliveryStatus) -> Option<String> {
    let named = status.keys_aside_named.join(", ");
    let dots = if status.keys_aside > status.keys_aside_named.len() { ", ..." } else { "" };
    match status.keys_aside {
        0 => None,
        count if status.is_crowded => {
            Some(format!("paused: {count} partition keys are set aside, and no more can be ({named}{dots})"))
        }
        1 => Some(format!("1 partition key is set aside because its records fail: {named}")),
        count => Some(format!("{count} partition keys are set aside because their records fail: {named}{dots}")),
    }
}
