//! While nothing can be stored, readings are only judged: they get no position, and anomalies become no record. Changes of their alerts are
//! published at once, without being stored, and the alerts are stored as they then stand once that is possible. All of this is bounded,
//! however long it lasts.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::*;
use crate::detection::alert::ALERTS_MAX;

/// What can be stored at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storing {
    /// Readings, alerts and the gateway's own records.
    #[default]
    Everything,
    /// The store is full. Alerts and the gateway's own records have a reserve.
    AllButReadings,
    /// Neither readings nor alerts.
    Nothing,
}

/// Most readings that are remembered as judged.
const JUDGED_MAX: usize = 65_536;
/// Readings that are not sent again so long after storing became possible will not come any more.
const COME_AGAIN_MS: u64 = 600_000;
/// Most alerts that are known to differ from the store; beyond that, those that are gone are forgotten.
const ALERTS_DIFFERING_MAX: usize = 2 * ALERTS_MAX;

#[derive(Debug, Default)]
pub(super) struct Unstored {
    storing: Storing,
    /// The reading that is being judged is not stored.
    is_judging: bool,
    judged: Judged,
    /// Since when everything can be stored again, by the steady clock.
    resumed_ms: u64,
    /// Alerts that differ from what the store has of them.
    alerts: HashSet<AlertKey>,
    /// Alerts to be published now.
    rows: Vec<AlertRow>,
    identities: u64,
    raised: u64,
    raised_uncounted: u64,
    refused_uncounted: u64,
}

impl Unstored {
    pub fn stores_readings(&self) -> bool {
        self.storing == Storing::Everything
    }

    pub fn stores_nothing(&self) -> bool {
        self.storing == Storing::Nothing
    }

    /// Whether the reading that is looked at is not stored.
    pub fn judges_only(&self) -> bool {
        self.is_judging
    }

    /// Whether a change of this alert cannot be stored now, or only together with an earlier one that could not.
    pub fn concerns(&self, key: &AlertKey) -> bool {
        self.is_judging || self.stores_nothing() || self.alerts.contains(key)
    }

    /// Takes the place of a position where there is none; no real position is so high.
    pub fn next_identity(&mut self) -> u64 {
        self.identities += 1;
        u64::MAX - self.identities
    }

    /// Whether this reading was judged already, when it could not be stored. True only once for each: when it is stored, its window knows
    /// it.
    pub fn has_judged(&mut self, reading: &Reading<'_>) -> bool {
        !self.judged.known.is_empty() && identity(reading).is_some_and(|identity| self.judged.known.remove(&identity))
    }

    /// Takes the amounts to be added to the store's totals with the next commit.
    pub fn totals(&mut self) -> impl Iterator<Item = (&'static str, u64)> {
        let totals = [
            ("refused", std::mem::take(&mut self.refused_uncounted)),
            ("raised_unstored", std::mem::take(&mut self.raised_uncounted)),
        ];
        totals.into_iter()
    }

    pub fn tick(&mut self, now: Moment) {
        if self.storing == Storing::Everything && now.steady_ms >= self.resumed_ms + COME_AGAIN_MS {
            self.judged = Judged::default();
        }
    }
}

/// The last readings that were judged and not stored, which their devices will send again.
#[derive(Debug, Default)]
struct Judged {
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Judged {
    /// Returns whether it is new.
    fn note(&mut self, identity: u64) -> bool {
        if !self.known.insert(identity) {
            return false;
        }
        if self.order.len() == JUDGED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(identity);
        true
    }
}

/// Hash by which a reading is recognised when it comes again; `None` if it has neither a time nor a sequence of its device's own.
fn identity(reading: &Reading<'_>) -> Option<u64> {
    let measured_at_ms = (reading.measured_at_ms != reading.received_at_ms).then_some(reading.measured_at_ms);
    if measured_at_ms.is_none() && reading.sequence.is_none() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    (reading.device, reading.metric, reading.value.to_bits(), measured_at_ms, reading.sequence).hash(&mut hasher);
    Some(hasher.finish())
}

impl Pipeline {
    /// Judges readings of one client that cannot be stored. `comes_again`: they are not acknowledged, so the client will send them again.
    pub fn judge_unstored(&mut self, readings: &Readings, publisher: Publisher, comes_again: bool, now: Moment) {
        let arrival = Arrival { now_ms: now.signed_steady_ms(), publisher };
        self.unstored.is_judging = true;
        for mut reading in readings.iter() {
            let is_known = match identity(&reading) {
                Some(identity) if comes_again => !self.unstored.judged.note(identity),
                Some(identity) => self.unstored.judged.known.contains(&identity),
                None => false,
            };
            if is_known {
                continue;
            }
            let mut place = self.monitor.locate(reading.device, reading.metric);
            self.findings.late = self.judge_times(&mut place, &mut reading, arrival);
            let verdict = self.monitor.judge_at(place, &reading, arrival, &mut self.findings);
            if !self.ruling.book.sees_no_reading() {
                self.let_rules_see(&reading, verdict, &[], now);
            }
            if verdict == Verdict::Anomalous {
                self.flagged += 1;
                let findings = std::mem::take(&mut self.findings);
                if !findings.late {
                    let identity = self.unstored.next_identity();
                    let holder = self.monitor.holder_of(reading.device, reading.metric, publisher);
                    self.raise(&reading, identity, &findings, holder, now);
                }
                self.findings = findings;
            }
            if self.findings.series_may_have_alert || self.findings.device_may_have_alert {
                self.hear(&reading, now);
            }
        }
        self.unstored.is_judging = false;
        self.unstored.refused_uncounted += readings.len() as u64;
    }

    /// Tells the changes of alerts by what is not stored.
    pub(super) fn record_changes_unstored(&mut self, now: Moment) {
        self.unstored.is_judging = true;
        self.record_changes(now);
        self.unstored.is_judging = false;
    }

    /// Says what can be stored from now on. Once it is everything, alerts that changed meanwhile are stored as they stand.
    pub fn set_storing(&mut self, storing: Storing, now: Moment) {
        let before = std::mem::replace(&mut self.unstored.storing, storing);
        if before != Storing::Everything && storing == Storing::Everything {
            self.unstored.resumed_ms = now.steady_ms;
            self.store_alerts(now);
        }
    }

    /// Puts alerts that changed while they could not be stored into the open batch, as they stand.
    pub fn store_alerts(&mut self, now: Moment) {
        let mut keys: Vec<AlertKey> = std::mem::take(&mut self.unstored.alerts).into_iter().collect();
        keys.sort_unstable_by(|a, b| (&a.device, &a.metric, &a.kind).cmp(&(&b.device, &b.metric, &b.kind)));
        for key in keys {
            let alert = self.book.current(&key).cloned();
            self.changes.push(AlertChange { key, what: alert::What::Updated, alert });
        }
        self.record_changes(now);
    }

    /// Takes the alerts that are to be published at once, unstored.
    pub fn take_unstored_alerts(&mut self) -> Vec<AlertRow> {
        std::mem::take(&mut self.unstored.rows)
    }

    /// Whether an alert has changed and the change is neither stored nor in the open batch.
    pub fn differs_from_store(&self, key: &AlertKey) -> bool {
        self.unstored.alerts.contains(key)
    }

    /// How many alerts were raised without being stored, since the start.
    pub fn raised_unstored(&self) -> u64 {
        self.unstored.raised
    }

    pub(super) fn publish_unstored(&mut self, key: AlertKey, alert: Option<&alert::Alert>) {
        if alert.is_some_and(|alert| alert.revision == 1 && alert.state == alert::State::Raised) {
            self.unstored.raised += 1;
            self.unstored.raised_uncounted += 1;
        }
        let body = alert.map(|alert| {
            self.line.clear();
            alert::write_alert(&mut self.line, &self.gateway, self.run, record::NO_POSITION, &key, alert);
            self.line.clone()
        });
        let AlertKey { device, metric, kind } = key.clone();
        self.unstored.rows.push(AlertRow { device, metric, kind, body });
        if self.unstored.alerts.len() >= ALERTS_DIFFERING_MAX {
            let book = &self.book;
            self.unstored.alerts.retain(|key| book.current(key).is_some());
        }
        self.unstored.alerts.insert(key);
    }
}

#[cfg(test)]
mod tests;
