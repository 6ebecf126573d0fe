//! Who may have how many alerts, and which of them give way when there are too many.
//!
//! Devices can have any names, so nothing else bounds how many of them are in trouble. Strangers, which are devices without a history, may
//! have half of the places, and fewer for silences: however many come, the other places are left to devices that are known. The last eighth
//! is for configured limits. When there is no place left, cleared alerts give way first; then alerts of a device or client that has more of
//! them than the newcomer, the least severe first. As long as there are places, anybody gets them: when the power of a whole site fails,
//! its many alerts are genuine.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::{AlertKey, Flag, Severity};
use crate::detection::detectors::Detector;
use crate::detection::devices::Publisher;

/// Most alerts at one time, those that are cleared and not yet forgotten included.
pub const ALERTS_MAX: usize = 10_000;
/// Of these, so many are kept for configured limits of devices with a history.
const LIMITS_RESERVE: usize = ALERTS_MAX / 8;
/// Strangers may have at most so many, and so many of them for silences.
const STRANGERS_MAX: usize = ALERTS_MAX / 2;
const STRANGERS_SILENT_MAX: usize = ALERTS_MAX / 4;
/// So many alerts of a device with a history, or of its client, never give way to others.
const SHARE: usize = ALERTS_MAX / 8;
/// How often it is worked out which alerts give way, and how many of them are noted: these bound the work that a flood makes.
const LOOK_EVERY_MS: u64 = 1_000;
const NOTED_MAX: usize = 1_024;
const FORGET_AFTER_MS: u64 = 10_000;

/// Whose alert it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The client that published for the device; 0 if none is known, as after a start.
    pub client: Publisher,
    /// The device has no history yet, see [`Rhythm::has_history`](crate::detection::silence::Rhythm::has_history).
    pub is_stranger: bool,
    /// It is an alert of a configured limit.
    pub is_limit_set: bool,
}

/// An alert as it counts here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub key: &'a AlertKey,
    pub holder: Holder,
    pub severity: Severity,
    pub is_raised: bool,
}

#[derive(Clone, Debug)]
struct Noted {
    key: AlertKey,
    holder: Holder,
    load: usize,
    severity: Severity,
    is_raised: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    /// Alerts of strangers; counted anew with each tick.
    pub strangers: usize,
    looked_ms: Option<u64>,
    /// Alerts that may give way, the next one last.
    noted_strangers: Vec<Noted>,
    noted_known: Vec<Noted>,
    /// Number of alerts of each device and client at the last look, and of those that came since.
    devices: HashMap<String, usize>,
    clients: HashMap<Publisher, usize>,
}

/// Why there is no place for a further alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    All,
    /// There are too many of strangers.
    Strangers,
}

impl Shares {
    pub fn full_for(&self, flag: &Flag<'_>, count: usize) -> Option<Full> {
        let Holder { is_stranger, is_limit_set, .. } = flag.holder;
        let is_silence = flag.kind == Detector::Gap.alert_kind();
        let strangers_max = if is_silence { STRANGERS_SILENT_MAX } else { STRANGERS_MAX };
        let max = if is_limit_set && !is_stranger { ALERTS_MAX } else { ALERTS_MAX - LIMITS_RESERVE };
        match count >= max {
            _ if is_stranger && self.strangers >= strangers_max => Some(Full::Strangers),
            true => Some(Full::All),
            false => None,
        }
    }

    pub fn is_look_due(&self, now_ms: u64) -> bool {
        self.looked_ms.is_none_or(|looked_ms| now_ms >= looked_ms + LOOK_EVERY_MS)
    }

    pub fn look<'a>(&mut self, now_ms: u64, places: impl Iterator<Item = Place<'a>> + Clone) {
        self.looked_ms = Some(now_ms);
        (self.devices, self.clients) = (HashMap::new(), HashMap::new());
        for Place { key, holder, .. } in places.clone().filter(|place| place.is_raised) {
            *self.devices.entry(key.device.clone()).or_default() += 1;
            *self.clients.entry(holder.client).or_default() += 1;
        }
        let noted = |is_stranger: bool| {
            let of_kind = places.clone().filter(|place| place.holder.is_stranger == is_stranger);
            let mut noted: Vec<Noted> = of_kind
                .map(|Place { key, holder, severity, is_raised }| {
                    let load = self.load(&key.device, holder);
                    Noted { key: key.clone(), holder, load, severity, is_raised }
                })
                .filter(|noted| is_stranger || !noted.is_raised || noted.load > SHARE)
                .collect();
            noted.sort_by(|a, b| {
                let rank = |noted: &Noted| (noted.is_raised, Reverse(noted.load), noted.severity);
                rank(a).cmp(&rank(b)).then_with(|| (&a.key.device, &a.key.metric).cmp(&(&b.key.device, &b.key.metric)))
            });
            noted.truncate(NOTED_MAX);
            noted.reverse();
            noted
        };
        (self.noted_strangers, self.noted_known) = (noted(true), noted(false));
    }

    /// How many alerts the device or its client has, whichever is more. After a start a device without a known client counts alone;
    /// strangers without one count as one crowd.
    fn load(&self, device: &str, holder: Holder) -> usize {
        let of_device = self.devices.get(device).copied().unwrap_or(0);
        let is_counted = holder.client != 0 || holder.is_stranger;
        let of_client = if is_counted { self.clients.get(&holder.client).copied().unwrap_or(0) } else { 0 };
        of_device.max(of_client)
    }

    /// Takes the next alert that gives way to this flag. It may have changed since it was noted, so the caller checks it and asks again.
    pub fn next_for(&mut self, flag: &Flag<'_>, full: Full) -> Option<AlertKey> {
        let load = self.load(flag.device, flag.holder);
        let load_of = |noted: &Noted| self.load(&noted.key.device, noted.holder);
        let has_more = |noted: &Noted| load_of(noted) > load + 1;
        let is_lent = |noted: &Noted| noted.severity <= flag.weight.alone() && load_of(noted) > SHARE;
        let is_known = !flag.holder.is_stranger;
        let (known, stranger) = (self.noted_known.last(), self.noted_strangers.last());
        let known_gives_way = is_known && full == Full::All;
        if known.is_some_and(|noted| known_gives_way && !noted.is_raised) {
            return self.noted_known.pop().map(|noted| noted.key);
        }
        if stranger.is_some_and(|noted| !noted.is_raised || is_known || has_more(noted)) {
            return self.noted_strangers.pop().map(|noted| noted.key);
        }
        if known.is_some_and(|noted| known_gives_way && is_lent(noted) && has_more(noted)) {
            return self.noted_known.pop().map(|noted| noted.key);
        }
        None
    }

    /// A new alert has found a place.
    pub fn take(&mut self, device: &str, holder: Holder) {
        self.strangers += usize::from(holder.is_stranger);
        if self.looked_ms.is_some() {
            *self.devices.entry(device.to_owned()).or_default() += 1;
            *self.clients.entry(holder.client).or_default() += 1;
        }
    }

    /// An alert gave way.
    pub fn leave(&mut self, device: &str, holder: Holder) {
        self.strangers -= usize::from(holder.is_stranger).min(self.strangers);
        if let Some(count) = self.devices.get_mut(device) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.clients.get_mut(&holder.client) {
            *count = count.saturating_sub(1);
        }
    }

    /// Counts the strangers anew, and drops what was noted once nobody has asked for some time.
    pub fn tick(&mut self, now_ms: u64, strangers: usize) {
        let is_old = self.looked_ms.is_some_and(|looked_ms| now_ms >= looked_ms + FORGET_AFTER_MS);
        match is_old {
            true => *self = Shares { strangers, ..Shares::default() },
            false => self.strangers = strangers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Weight;
    use super::super::{Alert, AlertBook, AlertChange, AlertTimes, ClearedReason, Moment, State};
    use super::*;
    use crate::identity::RunId;

    const KNOWN: Holder = Holder { client: 0, is_stranger: false, is_limit_set: false };
    const STRANGER: Holder = Holder { client: 0, is_stranger: true, is_limit_set: false };

    struct Life {
        book: AlertBook,
        changes: Vec<AlertChange>,
        second: u64,
    }

    impl Life {
        fn new() -> Life {
            Life { book: AlertBook::new("g", AlertTimes::default()), changes: Vec::new(), second: 1 }
        }

        fn now(&self) -> Moment {
            Moment { wall_ms: self.second as i64 * 1000, steady_ms: self.second * 1000 }
        }

        /// Whether it is raised.
        fn flag(&mut self, device: &str, kind: &str, severity: Severity, holder: Holder) -> bool {
            let flag = flag_of(device, kind, severity, holder);
            let before = self.book.unraised();
            self.changes.clear();
            self.book.flag(self.now(), &flag, &mut self.changes);
            let raised = |change: &AlertChange| change.alert.as_ref().is_some_and(|alert| alert.state == State::Raised);
            let is_raised = self.changes.iter().any(raised);
            assert!(is_raised || self.book.unraised() > before, "suppressed and not counted");
            is_raised
        }

        /// One alert of each of so many devices of a client; how many are raised.
        fn flood(&mut self, name: &str, kind: &str, count: usize, holder: Holder) -> usize {
            (0..count).filter(|n| self.flag(&format!("{name}{n}"), kind, Severity::Minor, holder)).count()
        }
    }

    #[test]
    fn strangers_leave_half_of_the_places_to_devices_that_are_known() {
        let mut life = Life::new();
        assert_eq!(life.flood("s", "limit", ALERTS_MAX, Holder { client: 1, ..STRANGER }), STRANGERS_MAX);
        assert_eq!(life.book.unraised(), (ALERTS_MAX - STRANGERS_MAX) as u64);
        let known = ALERTS_MAX - LIMITS_RESERVE - STRANGERS_MAX;
        assert_eq!(life.flood("k", "anomaly", known, Holder { client: 2, ..KNOWN }), known);
        // And a limit of the configuration always has a place.
        let limit = Holder { client: 3, is_limit_set: true, ..KNOWN };
        assert!(life.flag("freezer", "limit", Severity::Major, limit));
    }

    #[test]
    fn silences_of_strangers_leave_room_for_what_they_say() {
        let mut life = Life::new();
        assert_eq!(life.flood("s", "gap", ALERTS_MAX, Holder { client: 1, ..STRANGER }), STRANGERS_SILENT_MAX);
        assert_eq!(life.flood("n", "limit", 100, Holder { client: 1, ..STRANGER }), 100);
    }

    #[test]
    fn a_flood_of_one_client_gives_way_to_another_stranger() {
        let mut life = Life::new();
        life.flood("s", "limit", ALERTS_MAX, Holder { client: 1, ..STRANGER });
        life.second += 1;
        assert!(life.flag("new", "limit", Severity::Minor, Holder { client: 2, ..STRANGER }));
        let cleared =
            life.changes.iter().filter_map(|change| change.alert.as_ref()).find(|alert| alert.state == State::Cleared);
        assert_eq!(cleared.map(|alert| alert.cleared_reason), Some(Some(ClearedReason::Displaced)), "not an all-clear");
        assert!(life.changes.iter().any(|change| change.alert.is_none()), "and its message is removed");
        assert!(!life.flag("s-again", "limit", Severity::Critical, Holder { client: 1, ..STRANGER }), "no more of it");
        assert_eq!(life.book.raised(), STRANGERS_MAX);
    }

    #[test]
    fn after_a_restart_it_is_the_same() {
        let mut life = Life::new();
        life.flood("s", "limit", ALERTS_MAX, Holder { client: 1, ..STRANGER });
        let mut next = Life::new();
        // More than there are places now, as an older version may have stored them.
        for n in 0..ALERTS_MAX + 10 {
            let key = AlertKey { device: format!("s{n}"), metric: "m".into(), kind: "gap".into() };
            let alert = Alert::raised(
                "g",
                life.now(),
                &flag_of(&key.device, &key.kind, Severity::Major, STRANGER),
                Severity::Major,
            );
            next.book.restore(key.clone(), alert, None, next.now());
            next.book.restore_holder(&key, STRANGER);
        }
        assert!(next.flag("new", "limit", Severity::Minor, Holder { client: 2, ..STRANGER }));
        assert!(next.flag("known", "anomaly", Severity::Warning, Holder { client: 3, ..KNOWN }));
    }

    fn flag_of<'a>(device: &'a str, kind: &'a str, severity: Severity, holder: Holder) -> Flag<'a> {
        Flag {
            device,
            metric: "m",
            kind,
            detectors: &["limit"],
            weight: Weight::just(severity),
            value: 1.0,
            text: None,
            expected: None,
            score: 1.0,
            run: RunId([1; 8]),
            position: 1,
            is_held: true,
            rhythm: None,
            limits: 0,
            is_pending: false,
            maturity: None,
            holder,
        }
    }

    #[test]
    fn of_known_ones_the_least_of_whoever_has_most_give_way_and_nobody_loses_his_share() {
        let mut life = Life::new();
        let site = Holder { client: 1, ..KNOWN };
        let places = ALERTS_MAX - LIMITS_RESERVE;
        assert!(life.flag("site-grave", "anomaly", Severity::Critical, site));
        assert_eq!(life.flood("site", "anomaly", places, site), places - 1, "a site whose power fails is no flood");
        let other = Holder { client: 2, ..KNOWN };
        life.second += 1;
        assert!(!life.flag("o", "anomaly", Severity::Warning, other), "it matters less than all of them");
        assert!(life.flag("o", "anomaly", Severity::Minor, other));
        for n in 0..places {
            // Looking is what takes time.
            life.second += u64::from(n % 1_000 == 0);
            life.flag(&format!("o{n}"), "anomaly", Severity::Critical, Holder { client: 3 + n as u64, ..KNOWN });
        }
        let mut told = Vec::new();
        let of_site =
            life.book.clear_all(life.now(), |key| key.device.starts_with("site"), ClearedReason::Operator, &mut told);
        assert_eq!(of_site, SHARE);
        assert!(told.iter().any(|change| change.key.device == "site-grave"), "the gravest went last");
    }
}
