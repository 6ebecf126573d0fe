//! The life of alerts: raised once, updated at a bounded rate, acknowledged, cleared after quiet, gone a while later.
//!
//! What clears and comes back within ten minutes has to be quiet for twice as long each time, so that a value that wanders about its
//! line wakes nobody twice a minute; the alert says that it does.

use std::collections::HashMap;

use super::{
    Alert, AlertChange, AlertKey, ClearedReason, Flag, GATEWAY_KIND, Moment, OVER_AFTER_MS, Report, Severity, State,
    Trouble,
};
use crate::core::detector::Detector;
use crate::core::identity::RunId;

/// Durations of an alert's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertTimes {
    /// Quiet for so long, it clears.
    pub clear_after_ms: u64,
    /// Cleared for so long, it is gone.
    pub remove_after_ms: u64,
    /// An alert that only goes on is not updated more often.
    pub update_every_ms: u64,
    /// Nothing heard for so long, a silence is no news any more.
    pub expire_after_ms: u64,
    /// Gone for so long, it is forgotten that it was there.
    pub forget_after_ms: u64,
}

impl Default for AlertTimes {
    fn default() -> Self {
        AlertTimes {
            clear_after_ms: 30_000,
            remove_after_ms: 60_000,
            update_every_ms: 5_000,
            expire_after_ms: 24 * 3_600_000,
            forget_after_ms: 600_000,
        }
    }
}

/// The kind of an alert whose expected value is a bound.
const LIMIT: &str = Detector::Limit.alert_kind();
/// Series of one device that are in trouble within so long of each other are one trouble, and a worse one.
const COMPANY_MS: u64 = 10_000;
/// Metrics of a device that are remembered for that.
const COMPANY_MAX: usize = 8;
/// Each return doubles the quiet that clears an alert, so often at the most.
const DOUBLINGS_MAX: u32 = 4;

/// Where an alert is in its life; steady times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Raised; quiet since.
    Quiet {
        since_ms: u64,
    },
    /// Raised, and true until it is released, or no news any more: a silence.
    Held {
        until_ms: u64,
    },
    /// Raised by the gateway itself, and over when it has not been reported again by then; [`u64::MAX`] until a person has seen it.
    Reported {
        until_ms: u64,
    },
    Cleared {
        since_ms: u64,
    },
    /// Its message is removed; that it was there is remembered.
    Gone {
        since_ms: u64,
    },
}

impl Phase {
    fn reported(stays: bool, now: Moment) -> Phase {
        Phase::Reported { until_ms: if stays { u64::MAX } else { now.steady_ms + OVER_AFTER_MS } }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    alert: Alert,
    phase: Phase,
    changed_ms: u64,
}

/// Alerts that there may be at one time. Devices can have any names, so nothing else bounds how many of them are in trouble; beyond it
/// readings are still flagged, and the alerts that were not raised are counted.
pub const ALERTS_MAX: usize = 10_000;

/// All alerts that are raised, or were not long ago: at most one a series and kind, and [`ALERTS_MAX`] in all.
#[derive(Clone, Debug, Default)]
pub struct AlertBook {
    times: AlertTimes,
    gateway: String,
    entries: HashMap<AlertKey, Entry>,
    unraised: u64,
    /// Metrics of each device that were flagged within [`COMPANY_MS`], and when.
    company: HashMap<String, Vec<(String, u64)>>,
}

impl AlertBook {
    pub fn new(gateway: &str, times: AlertTimes) -> AlertBook {
        AlertBook { times, gateway: gateway.to_owned(), ..AlertBook::default() }
    }

    /// Takes up an alert that the store holds. Its quiet counts from now: time that the gateway did not listen is no quiet. `held_ms`: it is
    /// true until it is released, and has been for so long.
    pub fn restore(&mut self, key: AlertKey, alert: Alert, held_ms: Option<u64>, now: Moment) {
        let since_ms = now.steady_ms;
        let phase = match (alert.state, held_ms) {
            (State::Cleared, _) => Phase::Cleared { since_ms },
            (State::Raised, _) if key.kind == GATEWAY_KIND => {
                let stays = [Trouble::Alerts, Trouble::Damage].iter().any(|trouble| trouble.name() == key.metric);
                Phase::reported(stays && alert.acknowledged_by.is_none(), now)
            }
            (State::Raised, Some(held_ms)) => {
                Phase::Held { until_ms: since_ms + self.times.expire_after_ms.saturating_sub(held_ms) }
            }
            (State::Raised, None) => Phase::Quiet { since_ms },
        };
        self.entries.insert(key, Entry { alert, phase, changed_ms: since_ms });
    }

    pub fn raised(&self) -> usize {
        self.entries.values().filter(|entry| entry.is_raised()).count()
    }

    /// What was flagged and raised no alert because there are too many.
    pub fn unraised(&self) -> u64 {
        self.unraised
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Something was flagged.
    pub fn flag(&mut self, now: Moment, flag: &Flag<'_>, changes: &mut Vec<AlertChange>) {
        let key =
            AlertKey { device: flag.device.to_owned(), metric: flag.metric.to_owned(), kind: flag.kind.to_owned() };
        if self.entries.len() >= ALERTS_MAX && !self.entries.contains_key(&key) {
            self.unraised += 1;
            return;
        }
        let severity = self.severity(now, flag);
        let known = self.entries.get_mut(&key);
        if let Some(entry) = known.filter(|entry| entry.is_raised()) {
            entry.phase = self.times.raised(now, flag);
            if entry.update(now, flag, severity, self.times.update_every_ms) {
                changes.push(AlertChange { key, alert: Some(entry.alert.clone()) });
            }
            return;
        }
        let returns = self.entries.get(&key).map_or(0, |entry| entry.alert.returns.saturating_add(1));
        let alert = Alert { returns, ..Alert::raised(&self.gateway, now, flag, severity) };
        changes.push(AlertChange { key: key.clone(), alert: Some(alert.clone()) });
        self.entries.insert(key, Entry { alert, phase: self.times.raised(now, flag), changed_ms: now.steady_ms });
    }

    /// Something is wrong with the gateway itself, or still is. Never one too many: what there can be is known.
    pub fn report(&mut self, now: Moment, report: &Report, identity: (RunId, u64), changes: &mut Vec<AlertChange>) {
        let key = report.trouble.key();
        if let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.is_raised()) {
            entry.phase = Phase::reported(report.trouble.stays() && entry.alert.acknowledged_by.is_none(), now);
            entry.alert.count += 1;
            if entry.alert.text.as_deref() != Some(&report.text) && now.steady_ms >= entry.changed_ms + OVER_AFTER_MS {
                entry.alert.text = Some(report.text.clone());
                entry.change(now);
                changes.push(AlertChange { key, alert: Some(entry.alert.clone()) });
            }
            return;
        }
        let severity = report.trouble.severity();
        let flag = Flag {
            device: &key.device,
            metric: &key.metric,
            kind: &key.kind,
            detectors: &[],
            severity,
            severity_max: severity,
            value: f64::NAN,
            expected: None,
            score: 1.0,
            run: identity.0,
            position: identity.1,
            is_held: true,
        };
        let returns = self.entries.get(&key).map_or(0, |entry| entry.alert.returns.saturating_add(1));
        let text = Some(report.text.clone());
        let alert = Alert { returns, text, ..Alert::raised(&self.gateway, now, &flag, severity) };
        changes.push(AlertChange { key: key.clone(), alert: Some(alert.clone()) });
        let phase = Phase::reported(report.trouble.stays(), now);
        self.entries.insert(key, Entry { alert, phase, changed_ms: now.steady_ms });
    }

    /// By its score; one more if another series of the device is in trouble too; never more than the series may have.
    fn severity(&mut self, now: Moment, flag: &Flag<'_>) -> Severity {
        if flag.is_held {
            return flag.severity.min(flag.severity_max);
        }
        let company = self.company.entry(flag.device.to_owned()).or_default();
        company.retain(|(metric, at_ms)| metric != flag.metric && now.steady_ms <= at_ms + COMPANY_MS);
        let severity = if company.is_empty() { flag.severity } else { flag.severity.worse() };
        company.truncate(COMPANY_MAX - 1);
        company.push((flag.metric.to_owned(), now.steady_ms));
        severity.min(flag.severity_max)
    }

    /// A person has seen it. Said twice, it is news once.
    pub fn acknowledge(&mut self, now: Moment, key: &AlertKey, by: &str, changes: &mut Vec<AlertChange>) -> bool {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| !matches!(entry.phase, Phase::Gone { .. })) else {
            return false;
        };
        if entry.alert.acknowledged_by.as_deref() != Some(by) {
            entry.alert.acknowledged_by = Some(by.to_owned());
            if matches!(entry.phase, Phase::Reported { .. }) {
                entry.phase = Phase::reported(false, now);
            }
            entry.change(now);
            changes.push(AlertChange { key: key.clone(), alert: Some(entry.alert.clone()) });
        }
        true
    }

    /// What held it is over: from now on it is quiet.
    pub fn release(&mut self, now: Moment, key: &AlertKey) {
        if let Some(entry) = self.entries.get_mut(key)
            && matches!(entry.phase, Phase::Held { .. })
        {
            entry.phase = Phase::Quiet { since_ms: now.steady_ms };
        }
    }

    /// It is over for all of these, and not because of readings. Returns how many of them were raised.
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
            entry.alert.cleared_reason = Some(reason);
            entry.alert.state = State::Cleared;
            entry.alert.cleared_at_ms = Some(now.wall_ms);
            entry.change(now);
            entry.phase = Phase::Cleared { since_ms: now.steady_ms };
            changes.push(AlertChange { key: key.clone(), alert: Some(entry.alert.clone()) });
        }
        keys.len()
    }

    /// Time has gone by: what was quiet clears, what was cleared goes. Sorted, so that the same events give the same records.
    pub fn tick(&mut self, now: Moment, changes: &mut Vec<AlertChange>) {
        self.company.retain(|_, metrics| metrics.iter().any(|(_, at_ms)| now.steady_ms <= at_ms + COMPANY_MS));
        if self.entries.len() >= ALERTS_MAX {
            // What is gone is remembered for comfort only; what is wrong now needs its room.
            self.entries.retain(|_, entry| !matches!(entry.phase, Phase::Gone { .. }));
        }
        let mut due: Vec<AlertKey> = self
            .entries
            .iter()
            .filter(|(_, entry)| now.steady_ms >= self.times.due_ms(entry))
            .map(|(key, _)| key.clone())
            .collect();
        due.sort_by(|a, b| (&a.device, &a.metric, &a.kind).cmp(&(&b.device, &b.metric, &b.kind)));
        for key in due {
            let entry = self.entries.get_mut(&key).expect("just found");
            let since_ms = now.steady_ms;
            match entry.phase {
                Phase::Quiet { .. } | Phase::Held { .. } | Phase::Reported { .. } => {
                    let expires = matches!(entry.phase, Phase::Held { .. });
                    entry.alert.cleared_reason = expires.then_some(ClearedReason::Expired);
                    entry.alert.state = State::Cleared;
                    entry.alert.cleared_at_ms = Some(now.wall_ms);
                    entry.change(now);
                    entry.phase = Phase::Cleared { since_ms };
                    changes.push(AlertChange { key, alert: Some(entry.alert.clone()) });
                }
                Phase::Cleared { .. } => {
                    entry.phase = Phase::Gone { since_ms };
                    changes.push(AlertChange { key, alert: None });
                }
                Phase::Gone { .. } => _ = self.entries.remove(&key),
            }
        }
    }
}

impl AlertTimes {
    fn raised(&self, now: Moment, flag: &Flag<'_>) -> Phase {
        match flag.is_held {
            true => Phase::Held { until_ms: now.steady_ms + self.expire_after_ms },
            false => Phase::Quiet { since_ms: now.steady_ms },
        }
    }

    /// When the next phase of an alert begins, if nothing happens.
    fn due_ms(&self, entry: &Entry) -> u64 {
        match entry.phase {
            Phase::Quiet { since_ms } => since_ms + (self.clear_after_ms << entry.alert.returns.min(DOUBLINGS_MAX)),
            Phase::Held { until_ms } | Phase::Reported { until_ms } => until_ms,
            Phase::Cleared { since_ms } => since_ms + self.remove_after_ms,
            Phase::Gone { since_ms } => since_ms + self.forget_after_ms,
        }
    }
}

impl Entry {
    fn is_raised(&self) -> bool {
        matches!(self.phase, Phase::Quiet { .. } | Phase::Held { .. } | Phase::Reported { .. })
    }

    /// Flagged again; whether that is worth a revision now.
    fn update(&mut self, now: Moment, flag: &Flag<'_>, severity: Severity, every_ms: u64) -> bool {
        let alert = &mut self.alert;
        alert.count += 1;
        if is_graver(alert, flag) {
            alert.value = flag.value;
            alert.expected = if flag.kind == LIMIT { flag.expected } else { alert.expected.or(flag.expected) };
        }
        alert.score = alert.score.max(flag.score);
        let mut news = false;
        for name in flag.detectors {
            if alert.detectors.iter().all(|known| known != name) {
                alert.detectors.push((*name).to_owned());
                news = true;
            }
        }
        if severity > alert.severity {
            alert.severity = severity;
            news = true;
        }
        if !news && now.steady_ms < self.changed_ms + every_ms {
            return false;
        }
        self.change(now);
        true
    }

    fn change(&mut self, now: Moment) {
        self.alert.revision += 1;
        self.alert.updated_at_ms = now.wall_ms;
        self.changed_ms = now.steady_ms;
    }
}

/// Whether the alert should tell of this reading rather than of the one that it tells of: the farthest from what was normal before the
/// trouble, or, beyond a limit, the farthest beyond. On the way back the trouble itself would seem to have been normal.
fn is_graver(alert: &Alert, flag: &Flag<'_>) -> bool {
    match alert.expected {
        _ if flag.kind == LIMIT => flag.score >= alert.score,
        Some(expected) => (flag.value - expected).abs() >= (alert.value - expected).abs(),
        None => true,
    }
}

#[cfg(test)]
mod tests;
