//! The life of alerts: raised once, updated at a bounded rate, acknowledged, cleared by good readings, gone a while later.
//!
//! Only readings show that all is well again: while none come, an alert stays raised and becomes stale. What clears and comes back within
//! ten minutes needs good readings for twice as long each time, so that a value that moves about its limit wakes nobody twice a minute; the
//! alert then says that it comes and goes.

mod entry;
mod heard;
pub(crate) mod snapshot;
mod times;

pub use heard::Heard;
pub use times::AlertTimes;

use entry::{Entry, Phase};
use hashbrown::{Equivalent, HashMap};

use super::hearing::{Hearing, Listener, Word, as_i64};
use super::shares::{Place, Shares};
use super::{
    Acknowledgement, Alert, AlertChange, AlertKey, ClearedReason, Company, Flag, GATEWAY_KIND, Holder, Moment,
    OVER_AFTER_MS, Report, Severity, State, Trouble, Weight, What,
};
use crate::detection::detectors::{Detector, Kinds};
use crate::detection::devices::DEVICE_METRIC;
use crate::detection::silence::Rhythm;
use crate::identity::RunId;

/// After a start, series that were silent before it are not forgotten for so long.
const FORGET_GRACE_MS: u64 = 3_600_000;

/// A key to look up, without a copy of its texts.
#[derive(Hash)]
struct KeyRef<'a> {
    device: &'a str,
    metric: &'a str,
    kind: &'a str,
}

impl Equivalent<AlertKey> for KeyRef<'_> {
    fn equivalent(&self, key: &AlertKey) -> bool {
        (self.device, self.metric, self.kind) == (&*key.device, &*key.metric, &*key.kind)
    }
}

/// All alerts that are raised, or were not long ago: at most one a series and kind, and [`super::ALERTS_MAX`] in all.
#[derive(Clone, Debug, Default)]
pub struct AlertBook {
    times: AlertTimes,
    gateway: String,
    entries: HashMap<AlertKey, Entry>,
    unraised: u64,
    shares: Shares,
    /// Since when we listen, by the steady clock: before that, hearing nothing does not count as silence.
    listening_ms: i64,
    /// What a snapshot says of alerts that are not restored yet.
    remembered: HashMap<AlertKey, Hearing>,
    remembered_at_ms: i64,
    company: Company,
}

impl AlertBook {
    /// A book without alerts; the gateway's name goes into the alerts' ids.
    pub fn new(gateway: &str, times: AlertTimes) -> AlertBook {
        AlertBook { times, gateway: gateway.to_owned(), listening_ms: i64::MIN, ..AlertBook::default() }
    }

    /// The listener was away until now: silence counts from here.
    pub fn listen_from(&mut self, now: Moment) {
        self.listening_ms = now.signed_steady_ms();
    }

    fn listener(&self) -> Listener {
        Listener { since_ms: self.listening_ms, stale_after_ms: self.times.stale_after_ms }
    }

    /// Takes over an alert from the store, with the rhythm of its series if that is known. What a snapshot says was heard of it counts.
    pub fn restore(&mut self, key: AlertKey, alert: Alert, rhythm: Option<Rhythm>, now: Moment) {
        let since_ms = now.steady_ms;
        let phase = match alert.state {
            State::Cleared => Phase::Cleared { since_ms },
            State::Raised if key.kind == GATEWAY_KIND => {
                let stays = [Trouble::Alerts, Trouble::Damage].iter().any(|trouble| trouble.name() == key.metric);
                Phase::reported(stays && alert.acknowledged_by.is_none(), now)
            }
            State::Raised => Phase::Raised,
        };
        // Whatever changed the alert after the snapshot was no good reading: the snapshot is out of date.
        let remembered = self.remembered.remove(&key).filter(|_| alert.updated_at_ms <= self.remembered_at_ms);
        let hearing = remembered.unwrap_or_else(|| {
            let heard_at_ms = alert.stale_since_ms.unwrap_or(alert.updated_at_ms);
            Hearing::restored(now, heard_at_ms, rhythm, self.times.silent_max_ms)
        });
        let holder = Holder::default();
        self.entries.insert(key, Entry { alert, phase, changed_ms: since_ms, hearing, holder });
    }

    /// Says whose share a restored alert belongs to.
    pub fn restore_holder(&mut self, key: &AlertKey, holder: Holder) {
        if let Some(entry) = self.entries.get_mut(key) {
            self.shares.take(&key.device, holder);
            entry.holder = holder;
        }
    }

    /// How many alerts are raised.
    pub fn raised(&self) -> usize {
        self.entries.values().filter(|entry| entry.is_raised()).count()
    }

    /// Whether an alert of this kind is raised.
    pub fn has_raised(&self, kind: &str) -> bool {
        self.entries.iter().any(|(key, entry)| key.kind == kind && entry.is_raised())
    }

    /// Flags that raised no alert, and alerts that were taken back for others, because there are too many.
    pub fn unraised(&self) -> u64 {
        self.unraised
    }

    /// Whether there is no alert, neither raised nor cleared nor remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An alert as it stands, unless it is gone.
    pub fn current(&self, key: &AlertKey) -> Option<&Alert> {
        self.entries.get(key).filter(|entry| !matches!(entry.phase, Phase::Gone { .. })).map(|entry| &entry.alert)
    }

    /// Raises the alert of a flag, or updates it. Changes are appended to `changes`.
    pub fn flag(&mut self, now: Moment, flag: &Flag<'_>, changes: &mut Vec<AlertChange>) {
        let wanted = KeyRef { device: flag.device, metric: flag.metric, kind: flag.kind };
        let is_raised = self.entries.get(&wanted).is_some_and(Entry::is_raised);
        if flag.is_pending && !is_raised {
            return;
        }
        let key =
            AlertKey { device: flag.device.to_owned(), metric: flag.metric.to_owned(), kind: flag.kind.to_owned() };
        if !self.entries.contains_key(&key) {
            if !self.has_place(now, flag, changes) {
                self.unraised += 1;
                return;
            }
            self.shares.take(flag.device, flag.holder);
        }
        let severity = self.severity(now, flag);
        let listener = self.listener();
        let heard = flag.rhythm.map_or(now.wall_ms, |rhythm| wall_of(now, rhythm.heard_ms));
        let known = self.entries.get_mut(&key);
        if let Some(entry) = known.filter(|entry| entry.is_raised()) {
            entry.hearing.hear(now, listener, flag.rhythm, Word::Bad);
            entry.hearing.limits |= flag.limits;
            entry.holder.is_stranger &= flag.holder.is_stranger;
            entry.hearing.heard_at_ms = heard;
            let before = entry.alert.severity;
            if entry.update(now, flag, severity, self.times.update_every_ms) {
                let what = if entry.alert.severity > before { What::Escalated } else { What::Updated };
                changes.push(AlertChange { key, what, alert: Some(entry.alert.clone()) });
            }
            return;
        }
        let returns = self.entries.get(&key).map_or(0, |entry| entry.alert.returns.saturating_add(1));
        let alert = Alert { returns, ..Alert::raised(&self.gateway, now, flag, severity) };
        changes.push(AlertChange { key: key.clone(), what: What::Raised, alert: Some(alert.clone()) });
        let hearing = Hearing::new(now, heard, flag.rhythm, flag.limits);
        let (changed_ms, holder) = (now.steady_ms, flag.holder);
        self.entries.insert(key, Entry { alert, phase: Phase::Raised, changed_ms, hearing, holder });
    }

    /// Clears an alert for another reason than good readings. Returns whether it was raised.
    pub fn clear(
        &mut self,
        now: Moment,
        key: &AlertKey,
        reason: ClearedReason,
        changes: &mut Vec<AlertChange>,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.is_raised()) else { return false };
        entry.clear(now, Some(reason));
        changes.push(AlertChange { key: key.clone(), what: What::Cleared, alert: Some(entry.alert.clone()) });
        true
    }

    /// Ends the restoring of alerts. Returns device and metric of each silence that is raised.
    pub fn restored(&mut self) -> impl Iterator<Item = (&str, &str)> {
        self.remembered = HashMap::new();
        let gaps = |key: &AlertKey| key.kind == Detector::Gap.alert_kind();
        let raised = self.entries.iter().filter(move |(key, entry)| gaps(key) && entry.is_raised());
        raised.map(|(key, _)| (key.device.as_str(), key.metric.as_str()))
    }

    /// Something is wrong with the gateway itself, or still is. The bound on alerts does not apply, because there are few such troubles.
    /// `identity` is the run and position that the alert's id is made from.
    pub fn report(&mut self, now: Moment, report: &Report, identity: (RunId, u64), changes: &mut Vec<AlertChange>) {
        let key = report.trouble.key();
        if let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.is_raised()) {
            entry.phase = Phase::reported(report.trouble.stays() && entry.alert.acknowledged_by.is_none(), now);
            entry.alert.count += 1;
            if entry.alert.text.as_deref() != Some(&report.text) && now.steady_ms >= entry.changed_ms + OVER_AFTER_MS {
                entry.alert.text = Some(report.text.clone());
                entry.change(now);
                changes.push(AlertChange { key, what: What::Updated, alert: Some(entry.alert.clone()) });
            }
            return;
        }
        let severity = report.trouble.severity();
        let flag = Flag {
            device: &key.device,
            metric: &key.metric,
            kind: &key.kind,
            detectors: &[],
            weight: Weight::just(severity),
            value: f64::NAN,
            text: None,
            expected: None,
            score: 1.0,
            run: identity.0,
            position: identity.1,
            is_held: true,
            rhythm: None,
            limits: 0,
            is_pending: false,
            maturity: None,
            holder: Holder::default(),
        };
        let returns = self.entries.get(&key).map_or(0, |entry| entry.alert.returns.saturating_add(1));
        let text = Some(report.text.clone());
        let alert = Alert { returns, text, ..Alert::raised(&self.gateway, now, &flag, severity) };
        changes.push(AlertChange { key: key.clone(), what: What::Raised, alert: Some(alert.clone()) });
        let phase = Phase::reported(report.trouble.stays(), now);
        let hearing = Hearing::new(now, now.wall_ms, None, 0);
        let (changed_ms, holder) = (now.steady_ms, Holder::default());
        self.entries.insert(key, Entry { alert, phase, changed_ms, hearing, holder });
    }

    /// Whether there is a place for another alert. If there is none, another one may give way.
    fn has_place(&mut self, now: Moment, flag: &Flag<'_>, changes: &mut Vec<AlertChange>) -> bool {
        let Some(full) = self.shares.full_for(flag, self.entries.len()) else { return true };
        if self.shares.is_look_due(now.steady_ms) {
            let others = self.entries.iter().filter(|(key, _)| key.kind != GATEWAY_KIND);
            self.shares.look(now.steady_ms, others.map(|(key, entry)| Place::of(key, entry)));
        }
        while let Some(key) = self.shares.next_for(flag, full) {
            // It may have been removed since it was noted.
            let Some(mut entry) = self.entries.remove(&key) else { continue };
            self.shares.leave(&key.device, entry.holder);
            let is_gone = matches!(entry.phase, Phase::Gone { .. });
            if entry.is_raised() {
                self.unraised += 1;
                entry.clear(now, Some(ClearedReason::Displaced));
                let what = What::Cleared;
                changes.push(AlertChange { key: key.clone(), what, alert: Some(entry.alert) });
            }
            if !is_gone {
                changes.push(AlertChange { key, what: What::Gone, alert: None });
            }
            return true;
        }
        false
    }

    fn severity(&mut self, now: Moment, flag: &Flag<'_>) -> Severity {
        let Flag { device, metric, kind, weight, is_held, .. } = *flag;
        match is_held {
            true => weight.alone(),
            false => self.company.severity(now.signed_steady_ms(), (device, metric), kind, weight),
        }
    }

    /// A person has seen an alert. The same name again changes nothing, unless it says something else of it. What one has said of it stays
    /// until somebody says otherwise. Returns whether there is such an alert.
    pub fn acknowledge(
        &mut self,
        now: Moment,
        key: &AlertKey,
        seen: &Acknowledgement,
        changes: &mut Vec<AlertChange>,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| !matches!(entry.phase, Phase::Gone { .. })) else {
            return false;
        };
        let normal = seen.normal.or(entry.alert.normal);
        if entry.alert.acknowledged_by.as_ref() != Some(&seen.by) || entry.alert.normal != normal {
            (entry.alert.acknowledged_by, entry.alert.normal) = (Some(seen.by.clone()), normal);
            if matches!(entry.phase, Phase::Reported { .. }) {
                entry.phase = Phase::reported(false, now);
            }
            entry.change(now);
            changes.push(AlertChange { key: key.clone(), what: What::Acknowledged, alert: Some(entry.alert.clone()) });
        }
        true
    }

    /// Clears all alerts for which `is_one` holds, for another reason than good readings. Returns how many of them were raised.
    pub fn clear_all(
        &mut self,
        now: Moment,
        is_one: impl Fn(&AlertKey) -> bool,
        reason: ClearedReason,
        changes: &mut Vec<AlertChange>,
    ) -> usize {
        let raised = self.entries.iter().filter(|(key, entry)| entry.is_raised() && is_one(key));
        let mut keys: Vec<AlertKey> = raised.map(|(key, _)| key.clone()).collect();
        keys.sort_unstable_by(|a, b| (&a.metric, &a.kind).cmp(&(&b.metric, &b.kind)));
        for key in &keys {
            let entry = self.entries.get_mut(key).expect("just found");
            entry.clear(now, Some(reason));
            changes.push(AlertChange { key: key.clone(), what: What::Cleared, alert: Some(entry.alert.clone()) });
        }
        keys.len()
    }

    /// Does what time alone brings: alerts become stale or forgotten, and cleared ones are removed. In a fixed order, so that the same
    /// events give the same records.
    pub fn tick(&mut self, now: Moment, changes: &mut Vec<AlertChange>) {
        self.company.tick(now.signed_steady_ms());
        let strangers = self.entries.values().filter(|entry| entry.holder.is_stranger).count();
        self.shares.tick(now.steady_ms, strangers);
        let now_ms = now.signed_steady_ms();
        let mut due: Vec<AlertKey> = self
            .entries
            .iter()
            .filter(|(key, entry)| now_ms >= self.due_ms(key, entry))
            .map(|(key, _)| key.clone())
            .collect();
        due.sort_by(|a, b| (&a.device, &a.metric, &a.kind).cmp(&(&b.device, &b.metric, &b.kind)));
        for key in due {
            let is_forgotten = now_ms >= self.forgotten_ms(&self.entries[&key]);
            let mut what = What::Cleared;
            let entry = self.entries.get_mut(&key).expect("just found");
            match entry.phase {
                Phase::Raised if is_forgotten => entry.clear(now, Some(ClearedReason::Forgotten)),
                Phase::Raised => {
                    what = What::Stale;
                    entry.alert.stale_since_ms = Some(entry.hearing.heard_at_ms);
                    entry.change(now);
                }
                Phase::Reported { .. } => entry.clear(now, None),
                Phase::Cleared { .. } => {
                    entry.phase = Phase::Gone { since_ms: now.steady_ms };
                    changes.push(AlertChange { key, what: What::Gone, alert: None });
                    continue;
                }
                Phase::Gone { .. } => {
                    self.entries.remove(&key);
                    continue;
                }
            }
            changes.push(AlertChange { key, what, alert: Some(entry.alert.clone()) });
        }
    }

    /// When an alert is due for its next phase, if nothing happens before.
    fn due_ms(&self, key: &AlertKey, entry: &Entry) -> i64 {
        let is_silence = key.kind == Detector::Gap.alert_kind();
        match entry.phase {
            Phase::Raised if is_silence || entry.alert.stale_since_ms.is_some() => self.forgotten_ms(entry),
            Phase::Raised => entry.hearing.stale_at_ms(self.listener()).min(self.forgotten_ms(entry)),
            Phase::Reported { until_ms } => as_i64(until_ms),
            Phase::Cleared { since_ms } => as_i64(since_ms + self.times.remove_after_ms),
            Phase::Gone { since_ms } => as_i64(since_ms + self.times.forget_after_ms),
        }
    }

    fn forgotten_ms(&self, entry: &Entry) -> i64 {
        let grace_ms = as_i64(FORGET_GRACE_MS.min(self.times.silent_max_ms));
        entry.hearing.forgotten_at_ms(self.times.silent_max_ms).max(self.listening_ms.saturating_add(grace_ms))
    }
}

impl<'a> Place<'a> {
    fn of(key: &'a AlertKey, entry: &Entry) -> Place<'a> {
        Place { key, holder: entry.holder, severity: entry.alert.severity, is_raised: entry.is_raised() }
    }
}

/// A time of the steady clock as wall-clock time.
fn wall_of(now: Moment, steady_ms: i64) -> i64 {
    now.wall_ms.saturating_sub(now.signed_steady_ms().saturating_sub(steady_ms).max(0))
}

#[cfg(test)]
mod tests;
