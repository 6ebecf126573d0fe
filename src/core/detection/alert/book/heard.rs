//! What readings say of alerts: the book hears of each reading of a series that may have one.

use super::super::hearing::Word;
use super::super::{is_of_rule, new_normal};
use super::{AlertBook, AlertChange, AlertKey, DEVICE_METRIC, Detector, KeyRef, Kinds, Moment, Rhythm, What};

/// A reading of a series that may have alerts, and what it says of them.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// Its device, not percent-encoded.
    pub device: &'a str,
    /// Its metric, not percent-encoded.
    pub metric: &'a str,
    /// Its value; it may be infinite or `NaN`.
    pub value: f64,
    /// When the series was last heard and how often it usually is; `None` if it is not watched.
    pub rhythm: Option<Rhythm>,
    /// Kinds of alerts that the reading was flagged for.
    pub flagged: Kinds,
    /// It was measured long before it was received, so it says nothing of the present.
    pub is_late: bool,
    /// The value is possible, see [`Findings::is_usable`](crate::detection::detectors::Findings::is_usable).
    pub is_usable: bool,
    /// The value was compared with what is usual.
    pub is_judged: bool,
    /// There was a learned level to compare the value with.
    pub has_level: bool,
    /// Limits within whose clearing bounds the value is not, a bit each.
    pub uncleared_limits: u64,
}

impl Heard<'_> {
    fn word(&self, kind: Detector, limits: u64) -> Word {
        match kind {
            // Any reading ends a silence.
            Detector::Gap => Word::Good,
            _ if self.is_late || self.flagged.has(kind) => Word::Nothing,
            _ if !self.is_usable => Word::Bad,
            Detector::Limit if self.uncleared_limits & limits != 0 => Word::Bad,
            Detector::Limit => Word::Good,
            _ if !self.is_judged => Word::Present,
            Detector::Spike | Detector::Shift | Detector::Burst | Detector::Stay if !self.has_level => Word::Present,
            _ => Word::Good,
        }
    }
}

impl AlertBook {
    /// Takes note of a reading. Returns whether its series has an alert that is raised.
    pub fn hear(&mut self, now: Moment, heard: &Heard<'_>, changes: &mut Vec<AlertChange>) -> bool {
        let kinds = [Detector::Limit, Detector::Spike, Detector::Stuck, Detector::Gap];
        let mut has_alert = false;
        for kind in kinds {
            let key = KeyRef { device: heard.device, metric: heard.metric, kind: kind.alert_kind() };
            let word = |limits| heard.word(kind, limits);
            has_alert |= self.hear_of(now, &key, (heard.rhythm, heard.value), word, changes);
        }
        has_alert
    }

    /// Takes note of what a rule says of its alert, unless it raises it. Returns whether the alert is raised.
    pub fn hear_rule(&mut self, now: Moment, key: &AlertKey, is_good: bool, changes: &mut Vec<AlertChange>) -> bool {
        let wanted = KeyRef { device: &key.device, metric: &key.metric, kind: &key.kind };
        let word = if is_good { Word::Good } else { Word::Bad };
        self.hear_of(now, &wanted, (None, f64::NAN), |_| word, changes)
    }

    /// The same for a reading that came before the start: it counts as it did then, and nothing is told.
    pub fn hear_rule_again(&mut self, received: Moment, key: &AlertKey, is_good: bool) {
        let listener = self.listener();
        if let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.is_raised())
            && received.wall_ms >= entry.alert.raised_at_ms
        {
            entry.hearing.hear(received, listener, None, if is_good { Word::Good } else { Word::Bad });
        }
    }

    /// Takes note that a reading of a device has come. Returns whether the device as a whole still has an alert for its silence.
    pub fn hear_device(&mut self, now: Moment, device: &str, changes: &mut Vec<AlertChange>) -> bool {
        let key = KeyRef { device, metric: DEVICE_METRIC, kind: Detector::Gap.alert_kind() };
        self.hear_of(now, &key, (None, f64::NAN), |_| Word::Good, changes)
    }

    fn hear_of(
        &mut self,
        now: Moment,
        key: &KeyRef<'_>,
        (rhythm, value): (Option<Rhythm>, f64),
        word: impl FnOnce(u64) -> Word,
        changes: &mut Vec<AlertChange>,
    ) -> bool {
        let listener = self.listener();
        let Some((key, entry)) = self.entries.get_key_value_mut(key).filter(|(_, entry)| entry.is_raised()) else {
            return false;
        };
        let word = word(entry.hearing.limits);
        entry.hearing.hear(now, listener, rhythm, word);
        let is_over = word == Word::Good && entry.hearing.is_good_for(self.times.clear_after_ms(&entry.alert));
        if is_over {
            if !is_of_rule(&key.kind) {
                entry.alert.text = new_normal(key, &entry.alert, value);
            }
            entry.clear(now, None);
        } else if word != Word::Nothing && entry.alert.stale_since_ms.take().is_some() {
            entry.change(now);
        } else {
            return true;
        }
        changes.push(AlertChange {
            key: key.clone(),
            what: if is_over { What::Cleared } else { What::Updated },
            alert: Some(entry.alert.clone()),
        });
        !is_over
    }

    /// Shows a reading again that came before the start: it counts as it did then, and nothing is told.
    pub fn hear_again(&mut self, received: Moment, heard: &Heard<'_>) {
        let listener = self.listener();
        for kind in [Detector::Limit, Detector::Spike, Detector::Stuck, Detector::Gap] {
            let key = KeyRef { device: heard.device, metric: heard.metric, kind: kind.alert_kind() };
            let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.is_raised()) else { continue };
            if received.wall_ms >= entry.alert.raised_at_ms {
                let word = if heard.flagged.has(kind) { Word::Bad } else { heard.word(kind, entry.hearing.limits) };
                entry.hearing.hear(received, listener, heard.rhythm, word);
            }
        }
    }
}
