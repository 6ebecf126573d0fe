//! Alerts: raised by a flagged reading, updated, cleared after quiet, and gone a while later.
//!
//! The book decides; that its changes are stored, sent on the second stream and published is the pipeline's work. An alert's id comes
//! from what raised it, so a repeat is recognisable.

use std::collections::HashMap;

use super::identity::RunId;
use super::record;

/// A moment on two clocks: the wall's for people, the steady one for durations, which no clock setting changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    pub wall_ms: i64,
    pub steady_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Warning,
    Minor,
    Major,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 4] = [Severity::Warning, Severity::Minor, Severity::Major, Severity::Critical];

    pub fn name(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Minor => "minor",
            Severity::Major => "major",
            Severity::Critical => "critical",
        }
    }

    /// By how far over its line a statistic is.
    pub fn of_score(score: f64) -> Severity {
        match score {
            s if s < 1.2 => Severity::Warning,
            s if s < 1.5 => Severity::Minor,
            s if s < 4.0 => Severity::Major,
            _ => Severity::Critical,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Raised,
    Cleared,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Raised => "raised",
            State::Cleared => "cleared",
        }
    }
}

/// Which alert: its topic is `alerts/{device}/{metric}/{kind}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AlertKey {
    pub device: String,
    pub metric: String,
    pub kind: String,
}

/// An alert as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub id: String,
    pub revision: u32,
    pub state: State,
    pub severity: Severity,
    pub detectors: Vec<String>,
    pub value: f64,
    pub expected: Option<f64>,
    pub score: f64,
    pub raised_at_ms: i64,
    pub updated_at_ms: i64,
    pub cleared_at_ms: Option<i64>,
    pub count: u64,
    pub acknowledged_by: Option<String>,
}

/// A reading that an alert is about.
#[derive(Clone, Copy, Debug)]
pub struct Flag<'a> {
    pub device: &'a str,
    pub metric: &'a str,
    pub kind: &'a str,
    pub detectors: &'a [&'a str],
    pub severity: Severity,
    pub value: f64,
    pub expected: Option<f64>,
    pub score: f64,
    /// Identity of the raw reading.
    pub run: RunId,
    pub raw_position: u64,
}

/// What became of an alert; without one it is gone, and its retained message with it.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertChange {
    pub key: AlertKey,
    pub alert: Option<Alert>,
}

/// Durations of an alert's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertTimes {
    /// Quiet for so long, it clears.
    pub clear_after_ms: u64,
    /// Cleared for so long, it is gone.
    pub remove_after_ms: u64,
    /// An alert that only goes on is not updated more often.
    pub update_every_ms: u64,
}

impl Default for AlertTimes {
    fn default() -> Self {
        AlertTimes { clear_after_ms: 30_000, remove_after_ms: 60_000, update_every_ms: 5_000 }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    alert: Alert,
    /// Steady times: the last flagged reading, or when it was cleared; and the last change.
    since_ms: u64,
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
}

impl AlertBook {
    pub fn new(gateway: &str, times: AlertTimes) -> AlertBook {
        AlertBook { times, gateway: gateway.to_owned(), entries: HashMap::new(), unraised: 0 }
    }

    /// Takes up an alert that the store holds. Its quiet counts from now: time that the gateway did not listen is no quiet.
    pub fn restore(&mut self, key: AlertKey, alert: Alert, now: Moment) {
        let entry = Entry { alert, since_ms: now.steady_ms, changed_ms: now.steady_ms };
        self.entries.insert(key, entry);
    }

    pub fn raised(&self) -> usize {
        self.entries.values().filter(|entry| entry.alert.state == State::Raised).count()
    }

    /// Flagged readings that raised no alert because there are too many.
    pub fn unraised(&self) -> u64 {
        self.unraised
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A reading was flagged.
    pub fn flag(&mut self, now: Moment, flag: &Flag<'_>, changes: &mut Vec<AlertChange>) {
        let key =
            AlertKey { device: flag.device.to_owned(), metric: flag.metric.to_owned(), kind: flag.kind.to_owned() };
        let is_full = self.entries.len() >= ALERTS_MAX;
        match self.entries.get_mut(&key) {
            Some(entry) if entry.alert.state == State::Raised => {
                let update = entry.update(now, flag, self.times.update_every_ms);
                if update {
                    changes.push(AlertChange { key, alert: Some(entry.alert.clone()) });
                }
            }
            None if is_full => self.unraised += 1,
            _ => {
                let alert = self.raise(now, flag);
                changes.push(AlertChange { key: key.clone(), alert: Some(alert.clone()) });
                self.entries.insert(key, Entry { alert, since_ms: now.steady_ms, changed_ms: now.steady_ms });
            }
        }
    }

    fn raise(&self, now: Moment, flag: &Flag<'_>) -> Alert {
        Alert {
            id: self.id(flag),
            revision: 1,
            state: State::Raised,
            severity: flag.severity,
            detectors: flag.detectors.iter().map(|name| (*name).to_owned()).collect(),
            value: flag.value,
            expected: flag.expected,
            score: flag.score,
            raised_at_ms: now.wall_ms,
            updated_at_ms: now.wall_ms,
            cleared_at_ms: None,
            count: 1,
            acknowledged_by: None,
        }
    }

    /// The same for the same reading, whoever computes it: FNV-1a over what raised it.
    fn id(&self, flag: &Flag<'_>) -> String {
        let position = flag.raw_position.to_le_bytes();
        let parts: [&[u8]; 6] = [
            self.gateway.as_bytes(),
            &flag.run.0,
            flag.device.as_bytes(),
            flag.metric.as_bytes(),
            flag.kind.as_bytes(),
            &position,
        ];
        let hash = |basis: u64| {
            let bytes = parts.iter().flat_map(|part| part.iter().chain(&[0xff]));
            bytes.fold(basis, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
        };
        format!("{:016x}{:016x}", hash(0xcbf2_9ce4_8422_2325), hash(0x8422_2325_cbf2_9ce4))
    }

    /// A person has seen it.
    pub fn acknowledge(&mut self, now: Moment, key: &AlertKey, by: &str, changes: &mut Vec<AlertChange>) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.alert.acknowledged_by = Some(by.to_owned());
            entry.change(now);
            changes.push(AlertChange { key: key.clone(), alert: Some(entry.alert.clone()) });
        }
    }

    /// Time has gone by: what was quiet clears, what was cleared goes. Sorted, so that the same events give the same records.
    pub fn tick(&mut self, now: Moment, changes: &mut Vec<AlertChange>) {
        let mut due: Vec<AlertKey> = self
            .entries
            .iter()
            .filter(|(_, entry)| now.steady_ms >= entry.since_ms + self.times.of(entry.alert.state))
            .map(|(key, _)| key.clone())
            .collect();
        due.sort_by(|a, b| (&a.device, &a.metric, &a.kind).cmp(&(&b.device, &b.metric, &b.kind)));
        for key in due {
            let entry = self.entries.get_mut(&key).expect("just found");
            if entry.alert.state == State::Raised {
                entry.alert.state = State::Cleared;
                entry.alert.cleared_at_ms = Some(now.wall_ms);
                entry.since_ms = now.steady_ms;
                entry.change(now);
                changes.push(AlertChange { key, alert: Some(entry.alert.clone()) });
            } else {
                self.entries.remove(&key);
                changes.push(AlertChange { key, alert: None });
            }
        }
    }
}

impl AlertTimes {
    fn of(&self, state: State) -> u64 {
        match state {
            State::Raised => self.clear_after_ms,
            State::Cleared => self.remove_after_ms,
        }
    }
}

impl Entry {
    /// Another flagged reading; whether that is worth a revision now.
    fn update(&mut self, now: Moment, flag: &Flag<'_>, every_ms: u64) -> bool {
        let alert = &mut self.alert;
        self.since_ms = now.steady_ms;
        alert.count += 1;
        let mut news = false;
        for name in flag.detectors {
            if alert.detectors.iter().all(|known| known != name) {
                alert.detectors.push((*name).to_owned());
                news = true;
            }
        }
        if flag.severity > alert.severity {
            alert.severity = flag.severity;
            news = true;
        }
        if !news && now.steady_ms < self.changed_ms + every_ms {
            return false;
        }
        (alert.value, alert.expected, alert.score) = (flag.value, flag.expected, flag.score);
        self.change(now);
        true
    }

    fn change(&mut self, now: Moment) {
        self.alert.revision += 1;
        self.alert.updated_at_ms = now.wall_ms;
        self.changed_ms = now.steady_ms;
    }
}

/// What an alert is about, in words.
pub fn message(key: &AlertKey, alert: &Alert) -> String {
    let AlertKey { device, metric, .. } = key;
    let value = if alert.value.is_finite() { round(alert.value) } else { "no number".to_owned() };
    match (alert.state, alert.expected) {
        (State::Cleared, _) => format!("{metric} of {device} has been normal again"),
        (State::Raised, Some(expected)) => format!("{metric} of {device} is {value}; {} was normal", round(expected)),
        (State::Raised, None) => format!("{metric} of {device} is {value}"),
    }
}

/// To a thousandth, without zeros at the end: enough for people.
fn round(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Ends of a line: an alert that is not stored yet says so.
pub const STORED: &[u8] = b",\"stored\":true}\n";
pub const UNSTORED: &[u8] = b",\"stored\":false}\n";

/// Appends an alert as a record of the second stream, which is its retained message too.
pub fn write_alert(out: &mut Vec<u8>, gateway: &str, run: RunId, position: u64, key: &AlertKey, alert: &Alert) {
    record::write_start(out, "alert", gateway, run, position);
    let text = |out: &mut Vec<u8>, name: &str, value: &str| {
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        record::write_text(out, value);
    };
    let number = |out: &mut Vec<u8>, name: &str, value: f64| {
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        record::write_f64(out, value);
    };
    text(out, "id", &alert.id);
    out.extend_from_slice(format!(",\"revision\":{}", alert.revision).as_bytes());
    text(out, "device", &key.device);
    text(out, "metric", &key.metric);
    text(out, "kind", &key.kind);
    text(out, "state", alert.state.name());
    text(out, "severity", alert.severity.name());
    out.extend_from_slice(b",\"detectors\":[");
    for (at, name) in alert.detectors.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        record::write_text(out, name);
    }
    out.push(b']');
    number(out, "value", alert.value);
    number(out, "expected", alert.expected.unwrap_or(f64::NAN));
    number(out, "score", alert.score);
    let cleared = alert.cleared_at_ms.map_or("null".to_owned(), |ms| ms.to_string());
    out.extend_from_slice(
        format!(
            ",\"raised_at_ms\":{},\"updated_at_ms\":{},\"cleared_at_ms\":{cleared},\"count\":{}",
            alert.raised_at_ms, alert.updated_at_ms, alert.count
        )
        .as_bytes(),
    );
    if let Some(by) = &alert.acknowledged_by {
        text(out, "acknowledged_by", by);
    }
    text(out, "message", &message(key, alert));
    out.extend_from_slice(STORED);
}

/// Reads back what [`write_alert`] wrote. `None` if it is something else.
pub fn read_alert(line: &[u8]) -> Option<(AlertKey, Alert)> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
    let key = AlertKey { device: text("device")?, metric: text("metric")?, kind: text("kind")? };
    let state = if text("state")? == "raised" { State::Raised } else { State::Cleared };
    let severity = text("severity")?;
    let detectors = value.get("detectors")?.as_array()?;
    let alert = Alert {
        id: text("id")?,
        revision: u32::try_from(value.get("revision")?.as_u64()?).ok()?,
        state,
        severity: Severity::ALL.into_iter().find(|known| known.name() == severity)?,
        detectors: detectors.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        value: value.get("value")?.as_f64().unwrap_or(f64::NAN),
        expected: value.get("expected")?.as_f64(),
        score: value.get("score")?.as_f64().unwrap_or(f64::NAN),
        raised_at_ms: value.get("raised_at_ms")?.as_i64()?,
        updated_at_ms: value.get("updated_at_ms")?.as_i64()?,
        cleared_at_ms: value.get("cleared_at_ms")?.as_i64(),
        count: value.get("count")?.as_u64()?,
        acknowledged_by: text("acknowledged_by"),
    };
    Some((key, alert))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId([3; 8]);

    fn at(seconds: u64) -> Moment {
        Moment { wall_ms: 1_000_000 + seconds as i64 * 1000, steady_ms: seconds * 1000 }
    }

    fn flag(position: u64, severity: Severity, detectors: &'static [&'static str]) -> Flag<'static> {
        Flag {
            device: "tank",
            metric: "temp",
            kind: "anomaly",
            detectors,
            severity,
            value: 25.8,
            expected: Some(22.1),
            score: 1.8,
            run: RUN,
            raw_position: position,
        }
    }

    fn summary(changes: &mut Vec<AlertChange>) -> Vec<String> {
        changes
            .drain(..)
            .map(|change| match change.alert {
                Some(alert) => {
                    format!("{} {} {} x{}", alert.revision, alert.state.name(), alert.severity.name(), alert.count)
                }
                None => "gone".to_owned(),
            })
            .collect()
    }

    #[test]
    fn an_alert_lives_from_raised_to_gone() {
        let mut book = AlertBook::new("g", AlertTimes::default());
        let mut changes = Vec::new();
        book.flag(at(0), &flag(1, Severity::Major, &["shift"]), &mut changes);
        assert_eq!(summary(&mut changes), ["1 raised major x1"]);
        book.flag(at(1), &flag(2, Severity::Major, &["shift"]), &mut changes);
        assert_eq!(summary(&mut changes), Vec::<String>::new(), "nothing new, and too soon to repeat");
        book.flag(at(2), &flag(3, Severity::Major, &["spike"]), &mut changes);
        assert_eq!(summary(&mut changes), ["2 raised major x3"], "a detector joins");
        book.flag(at(3), &flag(4, Severity::Critical, &["spike"]), &mut changes);
        assert_eq!(summary(&mut changes), ["3 raised critical x4"], "it gets worse");
        book.flag(at(8), &flag(5, Severity::Warning, &["spike"]), &mut changes);
        assert_eq!(summary(&mut changes), ["4 raised critical x5"], "it goes on");
        book.tick(at(37), &mut changes);
        assert_eq!(summary(&mut changes), Vec::<String>::new());
        book.tick(at(38), &mut changes);
        assert_eq!(summary(&mut changes), ["5 cleared critical x5"]);
        book.tick(at(97), &mut changes);
        assert_eq!(summary(&mut changes), Vec::<String>::new());
        book.tick(at(98), &mut changes);
        assert_eq!(summary(&mut changes), ["gone"]);
        assert!(book.is_empty());
    }

    #[test]
    fn there_are_only_so_many_alerts_and_the_rest_is_counted() {
        let mut book = AlertBook::new("g", AlertTimes::default());
        let mut changes = Vec::new();
        for number in 0..ALERTS_MAX + 5 {
            let device = format!("d{number}");
            let flag = Flag { device: &device, ..flag(1, Severity::Major, &["limit"]) };
            book.flag(at(0), &flag, &mut changes);
        }
        assert_eq!((changes.len(), book.raised(), book.unraised()), (ALERTS_MAX, ALERTS_MAX, 5));
        book.flag(at(9), &Flag { device: "d0", ..flag(2, Severity::Major, &["limit"]) }, &mut changes);
        assert_eq!(changes.len(), ALERTS_MAX + 1, "one that is there goes on");
        book.tick(at(200), &mut changes);
        book.tick(at(300), &mut changes);
        book.flag(at(301), &Flag { device: "new", ..flag(3, Severity::Major, &["limit"]) }, &mut changes);
        assert_eq!((book.raised(), book.unraised()), (1, 5), "there is room again");
    }

    #[test]
    fn the_id_is_that_of_the_reading_that_raised_it() {
        let raise = |position| {
            let mut changes = Vec::new();
            AlertBook::new("g", AlertTimes::default()).flag(
                at(0),
                &flag(position, Severity::Minor, &["spike"]),
                &mut changes,
            );
            changes.remove(0).alert.expect("raised").id
        };
        assert_eq!(raise(1), raise(1));
        assert_ne!(raise(1), raise(2));
    }

    #[test]
    fn an_alert_is_read_back_and_goes_on_where_it_was() {
        let mut book = AlertBook::new("g", AlertTimes::default());
        let mut changes = Vec::new();
        book.flag(at(0), &flag(1, Severity::Major, &["shift"]), &mut changes);
        let change = changes.remove(0);
        book.acknowledge(at(1), &change.key, "anna", &mut changes);
        let change = changes.remove(0);
        let (key, alert) = (change.key, change.alert.expect("acknowledged"));
        let mut line = Vec::new();
        write_alert(&mut line, "g", RUN, 9, &key, &alert);
        assert_eq!(read_alert(&line), Some((key.clone(), alert.clone())));
        let text = String::from_utf8(line).expect("text");
        assert!(text.contains("\"message\":\"temp of tank is 25.8; 22.1 was normal\",\"stored\":true}\n"), "{text}");

        let mut restored = AlertBook::new("g", AlertTimes::default());
        restored.restore(key, alert.clone(), at(1000));
        restored.tick(at(1029), &mut changes);
        assert!(changes.is_empty(), "the gateway's own absence clears nothing");
        restored.flag(at(1029), &flag(7, Severity::Major, &["shift"]), &mut changes);
        let again = changes.remove(0).alert.expect("updated");
        assert_eq!((again.id, again.revision, again.raised_at_ms), (alert.id, 3, alert.raised_at_ms));
    }
}
