//! Publishes a changed alert as a retained message: once it is stored or, if the disk takes too long, before, marked as unstored.

use std::time::{Duration, Instant};

use crate::core::detection::alert::{self, Acknowledgement, AlertKey};
use crate::core::json;
use crate::core::mqtt::topic;
use crate::core::pipeline::AlertRow;
use crate::mqtt::outbox::{Outbox, OwnMessage};

#[derive(Debug)]
struct Pending {
    since: Instant,
    key: AlertKey,
    message: OwnMessage,
    told: bool,
}

/// Alerts that are not stored yet: of the batch that is being committed, and of the open one after it.
#[derive(Debug)]
pub struct Announcer {
    outbox: Outbox,
    unstored_after: Duration,
    committing: Vec<Pending>,
    open: Vec<Pending>,
}

impl Announcer {
    /// An alert that has waited for `unstored_after` is published before it is stored.
    pub fn new(outbox: Outbox, unstored_after: Duration) -> Announcer {
        Announcer { outbox, unstored_after, committing: Vec::new(), open: Vec::new() }
    }

    /// Takes note of the alerts that are new in the open batch.
    ///
    /// # Panics
    ///
    /// If `open_alerts` is shorter than at the last call, and it was not sealed since.
    pub fn note(&mut self, open_alerts: &[AlertRow], now: Instant) {
        let known = self.open.len();
        self.open.extend(open_alerts[known..].iter().map(|row| Pending {
            since: now,
            key: AlertKey { device: row.device.clone(), metric: row.metric.clone(), kind: row.kind.clone() },
            message: message(row),
            told: false,
        }));
    }

    pub fn sealed(&mut self) {
        self.committing.append(&mut self.open);
    }

    /// Publishes what was committed, unless a newer state has been published unstored: an older one must not replace it. `is_outdated`
    /// tells whether that was a change that could not be stored; changes in the open batch are known here.
    pub fn committed(&mut self, is_outdated: impl Fn(&AlertKey) -> bool) {
        let Announcer { outbox, committing, open, .. } = self;
        let is_overtaken = |key: &AlertKey| open.iter().any(|later| later.told && later.key == *key);
        for pending in committing.drain(..).filter(|pending| !is_outdated(&pending.key) && !is_overtaken(&pending.key))
        {
            outbox.put(pending.message);
        }
    }

    /// Publishes at once what cannot be stored.
    pub fn publish_unstored(&self, alerts: &[AlertRow]) {
        for row in alerts {
            self.outbox.put(unstored(&message(row)));
        }
    }

    /// When the next one has waited too long for the disk.
    pub fn deadline(&self) -> Option<Instant> {
        let waiting = self.committing.iter().chain(&self.open).find(|pending| !pending.told);
        waiting.map(|pending| pending.since + self.unstored_after)
    }

    pub fn overdue(&mut self, now: Instant, is_outdated: impl Fn(&AlertKey) -> bool) {
        for pending in self.committing.iter_mut().chain(&mut self.open) {
            if !pending.told && now >= pending.since + self.unstored_after {
                pending.told = true;
                if !is_outdated(&pending.key) {
                    self.outbox.put(unstored(&pending.message));
                }
            }
        }
    }
}

/// The retained message of an alert; an empty payload removes it.
pub fn message(row: &AlertRow) -> OwnMessage {
    let payload = row.body.as_deref().unwrap_or_default();
    let payload = payload.strip_suffix(b"\n").unwrap_or(payload).to_vec();
    OwnMessage::state(alert_topic(&row.device, &row.metric, &row.kind), payload)
}

/// Tells subscribers who has acknowledged an alert, and what was said of it. The payload is the gateway's own: nothing else of the client's
/// is passed on.
pub fn acknowledgement(key: &AlertKey, seen: &Acknowledgement) -> OwnMessage {
    let mut payload = b"{\"by\":".to_vec();
    json::write_text(&mut payload, &seen.by);
    payload.extend_from_slice(match seen.normal {
        None => b"}",
        Some(true) => b",\"normal\":true}",
        Some(false) => b",\"normal\":false}",
    });
    OwnMessage::event(format!("{}/ack", alert_topic(&key.device, &key.metric, &key.kind)), payload)
}

fn alert_topic(device: &str, metric: &str, kind: &str) -> String {
    let level = topic::percent_encode;
    format!("alerts/{}/{}/{}", level(device), level(metric), level(kind))
}

fn unstored(message: &OwnMessage) -> OwnMessage {
    let (stored, unstored) = (alert::STORED.trim_ascii_end(), alert::UNSTORED.trim_ascii_end());
    let payload = match message.payload.strip_suffix(stored) {
        Some(head) => [head, unstored].concat(),
        None => message.payload.clone(),
    };
    OwnMessage::state(message.topic.clone(), payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNSTORED_AFTER: Duration = Duration::from_secs(1);

    fn row(body: Option<&[u8]>) -> AlertRow {
        AlertRow { device: "a/b".into(), metric: "t".into(), kind: "anomaly".into(), body: body.map(<[u8]>::to_vec) }
    }

    #[test]
    fn a_slow_disk_does_not_silence_an_alert() {
        let outbox = Outbox::default();
        let mut announcer = Announcer::new(outbox.clone(), UNSTORED_AFTER);
        let now = Instant::now();
        let body = [b"{\"x\":1".as_slice(), alert::STORED].concat();
        announcer.note(&[row(Some(&body))], now);
        announcer.sealed();
        announcer.overdue(now, |_| false);
        assert_eq!(outbox.take(), None, "a second is given to the disk");
        assert_eq!(announcer.deadline(), Some(now + UNSTORED_AFTER));
        announcer.overdue(now + UNSTORED_AFTER, |_| false);
        let told = outbox.take().expect("published unstored");
        assert_eq!(
            (told.topic.as_str(), told.payload.as_slice()),
            ("alerts/a%2Fb/t/anomaly", &b"{\"x\":1,\"stored\":false}"[..])
        );
        announcer.overdue(now + 2 * UNSTORED_AFTER, |_| false);
        assert_eq!((outbox.take(), announcer.deadline()), (None, None), "once is enough");
        announcer.committed(|_| false);
        assert_eq!(outbox.take().expect("again, stored").payload, b"{\"x\":1,\"stored\":true}");
    }

    #[test]
    fn what_was_published_later_is_not_undone_by_an_earlier_commit() {
        let outbox = Outbox::default();
        let mut announcer = Announcer::new(outbox.clone(), UNSTORED_AFTER);
        let body = |revision: u8| [format!("{{\"revision\":{revision}").as_bytes(), alert::STORED].concat();
        announcer.note(&[row(Some(&body(1)))], Instant::now());
        announcer.sealed();
        announcer.publish_unstored(&[row(Some(&body(2)))]);
        assert_eq!(outbox.take().expect("at once").payload, b"{\"revision\":2,\"stored\":false}");
        announcer.overdue(Instant::now() + UNSTORED_AFTER, |_| true);
        announcer.committed(|_| true);
        assert_eq!(outbox.take(), None);
    }

    #[test]
    fn a_commit_of_what_is_old_does_not_take_the_place_of_what_was_told_since() {
        let outbox = Outbox::default();
        let mut announcer = Announcer::new(outbox.clone(), UNSTORED_AFTER);
        let now = Instant::now();
        let body = |revision: u8| [format!("{{\"revision\":{revision}").as_bytes(), alert::STORED].concat();
        announcer.note(&[row(Some(&body(5)))], now);
        announcer.sealed();
        announcer.note(&[row(Some(&body(6)))], now);
        announcer.overdue(now + UNSTORED_AFTER, |_| false);
        while outbox.take().is_some() {}
        announcer.committed(|_| false);
        assert_eq!(outbox.take(), None, "revision 6 is what subscribers have");
        announcer.sealed();
        announcer.committed(|_| false);
        assert!(outbox.take().expect("stored").payload.starts_with(b"{\"revision\":6"));
    }

    #[test]
    fn an_alert_that_is_gone_has_an_empty_message() {
        assert!(message(&row(None)).payload.is_empty());
    }
}
