//! How a series is watched, by the name of its metric.
//!
//! Thresholds are in usual sizes of each statistic. They were set so that a sensor raises less than one false alarm in two days on
//! simulated thermostats, tanks and their faults, and none on real coolant and intake temperatures. A driven signal needs higher ones,
//! because a driver moves it within a second.

use std::sync::Arc;

use super::habit::{Manner, Youth};
use crate::detection::alert::Severity;

/// Of all profiles, unless it is configured.
const FALSE_ALARMS_PER_WEEK: u8 = 3;

/// What the ten-second level is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// The last minutes.
    Rolling,
    /// The first readings: for stationary plant.
    Frozen,
}

/// How the series of a metric are watched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// As in the configuration.
    pub name: &'static str,
    /// Whether anything but configured limits is watched.
    pub is_watched: bool,
    /// Threshold of a spike, in usual sizes.
    pub spike: f64,
    /// Threshold of a shift, in usual sizes.
    pub shift: f64,
    /// Growing noise is trouble from so many times the usual on; `None` if it never is.
    pub burst: Option<f64>,
    /// Whether a value that stands still is trouble.
    pub stuck: bool,
    /// It rests at the ends of its range, where it may repeat its value for as long as it wants.
    pub rests_at_ends: bool,
    /// Whether the value stands still for hours and then moves. Nothing is learned while it rests, and a start is no trouble.
    pub rests: bool,
    /// Whether silence is trouble: not of metrics that report on change.
    pub gap: bool,
    /// What the ten-second level is compared with.
    pub baseline: Baseline,
    /// Values by which sensors report their own failure.
    pub sentinels: &'static [f64],
    /// Values that sensors give once after they have powered up, whatever they measure: a single one of them is no news.
    pub startup: &'static [f64],
    /// How many alarms of one kind that end by themselves a detector gives in a week of being heard, before it takes them for usual.
    pub false_alarms_per_week: u8,
    /// The highest severity of alerts, except of configured limits.
    pub severity_max: Severity,
    /// The highest severity of alerts of configured limits: whoever sets one means it, however little is known of the metric.
    pub set_limit_severity_max: Severity,
}

impl Profile {
    /// Positions, counters and states: nothing about them is a deviation.
    pub const OFF: Profile = Profile { name: "off", is_watched: false, gap: false, ..Profile::SLOW };
    /// Temperatures, which have a physical inertia.
    pub const TEMPERATURE: Profile =
        Profile { name: "temperature", sentinels: &[-127.0], startup: &[85.0], ..Profile::SLOW };
    /// What else has an inertia, and noise of its own: pressures, humidities, levels.
    pub const SLOW: Profile = Profile {
        name: "slow",
        is_watched: true,
        spike: 6.0,
        shift: 4.75,
        burst: Some(3.0),
        stuck: true,
        rests: false,
        rests_at_ends: false,
        gap: true,
        baseline: Baseline::Rolling,
        sentinels: &[],
        startup: &[],
        false_alarms_per_week: FALSE_ALARMS_PER_WEEK,
        severity_max: Severity::Critical,
        set_limit_severity_max: Severity::Critical,
    };
    /// Signals that a driver or a load moves within seconds, and that rest when nobody does.
    pub const DRIVEN: Profile = Profile {
        name: "driven",
        spike: 12.0,
        shift: 6.0,
        burst: Some(4.0),
        rests: true,
        rests_at_ends: true,
        ..Profile::SLOW
    };
    /// An unknown metric must not wake anybody.
    pub const GENERIC: Profile =
        Profile { name: "generic", severity_max: Severity::Warning, rests: false, ..Profile::DRIVEN };
    /// Stationary plant, which is meant to run as it did when it was first seen.
    pub const PLANT: Profile = Profile {
        name: "plant",
        baseline: Baseline::Frozen,
        shift: 6.5,
        burst: None,
        stuck: false,
        rests: false,
        ..Profile::DRIVEN
    };

    /// The profiles that the configuration can name.
    pub const ALL: [Profile; 6] =
        [Profile::OFF, Profile::TEMPERATURE, Profile::SLOW, Profile::DRIVEN, Profile::GENERIC, Profile::PLANT];

    pub(super) fn manner(&self, youth: Youth) -> Manner {
        Manner { youth, false_alarms_per_week: self.false_alarms_per_week }
    }

    /// `None` if there is no such profile.
    pub fn by_name(name: &str) -> Option<Profile> {
        Profile::ALL.into_iter().find(|profile| profile.name == name)
    }
}

const OFF: &[&str] = &[
    "lat",
    "lon",
    "latitude",
    "longitude",
    "position",
    "heading",
    "course",
    "altitude",
    "odometer",
    "total",
    "count",
    "counter",
    "seq",
    "id",
    "state",
    "status",
    "code",
    "road",
];
const TEMPERATURE: &[&str] = &["temp", "temperature", "coolant"];
const DRIVEN: &[&str] = &["speed", "rpm", "volt", "voltage", "current", "throttle", "load", "torque", "accel"];
const SLOW: &[&str] = &["pressure", "humidity", "level"];

/// Gives a profile to metrics: those whose name contains one of the words, or is one. Without words, to every metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Compared without regard to case.
    pub words: Vec<String>,
    /// How these metrics are watched.
    pub profile: Profile,
}

/// Which profile holds for a metric, and what decided so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileChoice<'a> {
    /// Its name, or that of the one which it is like.
    pub profile: &'static str,
    /// The word in the metric's name that decided; `None` if no word did.
    pub word: Option<&'a str>,
    /// Whether the configuration decided, and not the table that is built in.
    pub is_configured: bool,
}

impl ProfileChoice<'_> {
    /// What decided, in words.
    pub fn reason(&self) -> String {
        let is_off = self.profile == Profile::OFF.name;
        match (self.word, self.is_configured) {
            (Some(word), true) if is_off => format!("a [[profile]] with the word \"{word}\" of its name turns it off"),
            (None, true) if is_off => "a [[profile]] turns all metrics off".to_owned(),
            (Some(word), true) => format!("the word \"{word}\" of a [[profile]] is in its name"),
            (None, true) => "a [[profile]] holds for all metrics".to_owned(),
            (Some(word), false) if is_off => format!(
                "the word \"{word}\" in its name says that it is a position, a counter or a state; a [[profile]] can watch it"
            ),
            (Some(word), false) => format!("the word \"{word}\" is in its name"),
            (None, false) => {
                "no word in its name is known, so it raises warnings at most; a [[profile]] can say more".to_owned()
            }
        }
    }
}

/// Most rules of the configuration: a series keeps the number of its rule in a byte.
pub const PROFILES_MAX: usize = 200;
const BUILT_IN: usize = 5;

/// The table of profiles: the first rule with a word of the metric's name wins.
#[derive(Clone, Debug, PartialEq)]
pub struct Profiles(Arc<[Rule]>);

impl Default for Profiles {
    fn default() -> Self {
        Profiles::new(Vec::new())
    }
}

impl Profiles {
    /// The rules of the configuration, followed by those that are built in.
    ///
    /// # Panics
    ///
    /// If there are more than [`PROFILES_MAX`] rules in `own`.
    pub fn new(own: Vec<Rule>) -> Profiles {
        let built_in = [
            (OFF, Profile::OFF),
            (TEMPERATURE, Profile::TEMPERATURE),
            (DRIVEN, Profile::DRIVEN),
            (SLOW, Profile::SLOW),
            (&[], Profile::GENERIC),
        ];
        assert_eq!(built_in.len(), BUILT_IN);
        let rule = |(words, profile): (&[&str], Profile)| Rule {
            words: words.iter().map(|&word| word.to_owned()).collect(),
            profile,
        };
        let rules: Vec<Rule> = own.into_iter().chain(built_in.map(rule)).collect();
        assert!(rules.len() <= PROFILES_MAX + BUILT_IN, "a series keeps its rule in a byte");
        Profiles(rules.into())
    }

    /// The rules of the configuration.
    pub fn own(&self) -> &[Rule] {
        &self.0[..self.0.len() - BUILT_IN]
    }

    /// One profile for every metric.
    pub fn always(profile: Profile) -> Profiles {
        Profiles::new(vec![Rule { words: Vec::new(), profile }])
    }

    /// The same rules, with profiles that allow so many alarms of one kind in a week.
    pub fn with_false_alarms_per_week(self, false_alarms_per_week: u8) -> Profiles {
        let with = |rule: &Rule| Rule {
            words: rule.words.clone(),
            profile: Profile { false_alarms_per_week, ..rule.profile },
        };
        Profiles(self.0.iter().map(with).collect())
    }

    /// How many alarms of one kind a detector gives in a week before it takes them for usual.
    pub fn false_alarms_per_week(&self) -> u8 {
        self.0.first().map_or(FALSE_ALARMS_PER_WEEK, |rule| rule.profile.false_alarms_per_week)
    }

    /// Number of the first rule that holds for a metric, for [`Self::get`].
    pub fn of_metric(&self, metric: &str) -> u8 {
        let quantity = quantity(metric);
        let holds = |rule: &Rule| rule.words.is_empty() || rule.words.iter().any(|word| has(metric, quantity, word));
        self.0.iter().position(holds).expect("the last rule holds for every metric") as u8
    }

    /// Why a metric is watched as it is.
    pub fn choice(&self, metric: &str) -> ProfileChoice<'_> {
        let number = usize::from(self.of_metric(metric));
        let (rule, quantity) = (&self.0[number], quantity(metric));
        ProfileChoice {
            profile: rule.profile.name,
            word: rule.words.iter().find(|word| has(metric, quantity, word)).map(String::as_str),
            is_configured: number < self.own().len(),
        }
    }

    /// The profile of a rule that [`Self::of_metric`] gave.
    ///
    /// # Panics
    ///
    /// If there is no such rule.
    pub fn get(&self, rule: u8) -> &Profile {
        &self.0[usize::from(rule)].profile
    }
}

/// Whether a metric, whose name says this quantity, has a word or is called by it.
fn has(metric: &str, quantity: &str, word: &str) -> bool {
    metric.eq_ignore_ascii_case(word) || tokens(quantity).any(|token| token.eq_ignore_ascii_case(word))
}

/// The part of a dotted name that says what is measured: the last one, or the one before it where the last only says that it is a value. What
/// stands before names groups, whose words mean something else: in `state.reported.temperature` nothing is a state.
fn quantity(metric: &str) -> &str {
    const VALUE: [&str; 3] = ["value", "v", "val"];
    let mut parts = metric.rsplit('.');
    let last = parts.next().unwrap_or_default();
    if VALUE.iter().any(|value| last.eq_ignore_ascii_case(value)) { parts.next().unwrap_or(last) } else { last }
}

/// Splits at `_ . - /` and where camelCase starts a word (`engineTemp`, `GPSLat`).
fn tokens(metric: &str) -> impl Iterator<Item = &str> {
    metric.split(['_', '.', '-', '/']).flat_map(|part| {
        let mut rest = part;
        std::iter::from_fn(move || {
            let (word, tail) = rest.split_at_checked(word_len(rest)?)?;
            rest = tail;
            Some(word)
        })
    })
}

fn word_len(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    bytes.first()?;
    let starts_word = |i: usize| {
        bytes[i].is_ascii_uppercase()
            && (!bytes[i - 1].is_ascii_uppercase() || bytes.get(i + 1).is_some_and(u8::is_ascii_lowercase))
    };
    Some((1..bytes.len()).find(|&i| starts_word(i)).unwrap_or(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_any_spelling() {
        let words = |metric| tokens(metric).collect::<Vec<_>>();
        assert_eq!(words("engineTemp.GPSLat-x_y/RPM"), ["engine", "Temp", "GPS", "Lat", "x", "y", "RPM"]);
        assert_eq!(words("__"), Vec::<&str>::new());
        assert_eq!(words("öÄTemp"), ["öÄ", "Temp"]);
    }

    #[test]
    fn profiles_go_by_whole_tokens_and_the_first_row_that_matches() {
        let profiles = Profiles::default();
        for (metric, profile) in [
            ("container_temperature", "temperature"),
            ("engineTemp", "temperature"),
            ("COOLANT", "temperature"),
            ("temp_count", "off"),
            ("gps.lat", "off"),
            ("engine-load", "driven"),
            ("load_temp", "temperature"),
            ("template", "generic"),
            ("plate", "generic"),
            ("tank_pressure", "slow"),
            ("state.reported.temperature", "temperature"),
            ("status.engine.rpm", "driven"),
            ("temp.value", "temperature"),
            ("temp.Val", "temperature"),
            ("temperature.rate", "generic"),
            ("value", "generic"),
            ("", "generic"),
        ] {
            assert_eq!(profiles.get(profiles.of_metric(metric)).name, profile, "{metric}");
        }
        let choice = |metric| (profiles.choice(metric).profile, profiles.choice(metric).word);
        assert_eq!(choice("state.reported.oilTemp"), ("temperature", Some("temp")));
        assert_eq!(choice("temp_count"), ("off", Some("count")));
        assert_eq!(choice("plate"), ("generic", None));
    }

    #[test]
    fn own_rules_come_first() {
        let rule = Rule { words: vec!["Pump".to_owned(), "oil_temp".to_owned()], profile: Profile::PLANT };
        let profiles = Profiles::new(vec![rule]);
        let name = |metric| profiles.get(profiles.of_metric(metric)).name;
        assert_eq!((name("pump_temp"), name("pumps"), name("lat")), ("plant", "generic", "off"));
        assert_eq!((name("oil_temp"), name("engine.oil_temp")), ("plant", "temperature"), "or whole names");
        let is_configured = |metric| profiles.choice(metric).is_configured;
        assert_eq!((is_configured("pump_temp"), is_configured("temp"), is_configured("x")), (true, false, false));
        let strict = profiles.clone().with_false_alarms_per_week(1);
        let of_each = |profiles: &Profiles| ["pump_temp", "pumps"].map(|it| *profiles.get(profiles.of_metric(it)));
        assert_eq!(
            of_each(&strict).map(|profile| (profile.name, profile.false_alarms_per_week)),
            [("plant", 1), ("generic", 1)]
        );
        assert_eq!((profiles.false_alarms_per_week(), strict.false_alarms_per_week()), (3, 1));
        let all = Profiles::always(Profile::by_name("plant").expect("a profile"));
        assert_eq!(all.get(all.of_metric("lat")).name, "plant");
    }
}
