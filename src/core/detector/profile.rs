//! How a series is watched, by the name of its metric.

use crate::core::alert::Severity;

/// Rows of the table of profiles, in its order: the first with a token of the metric's name wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Positions, counters and states: nothing about them is a deviation.
    Off,
    /// Slow signals with a physical inertia.
    Temperature,
    /// Signals that a driver or a load moves within seconds.
    Driven,
    Generic,
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

/// Thresholds of the statistical detectors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    pub spike: f64,
    pub shift: f64,
}

impl Profile {
    pub fn of_metric(metric: &str) -> Profile {
        let rows = [(OFF, Profile::Off), (TEMPERATURE, Profile::Temperature), (DRIVEN, Profile::Driven)];
        rows.into_iter()
            .find(|(names, _)| tokens(metric).any(|token| names.iter().any(|name| token.eq_ignore_ascii_case(name))))
            .map_or(Profile::Generic, |(_, profile)| profile)
    }

    pub fn thresholds(self) -> Thresholds {
        match self {
            Profile::Off | Profile::Temperature => Thresholds { spike: 6.0, shift: 5.0 },
            Profile::Driven | Profile::Generic => Thresholds { spike: 10.0, shift: 8.0 },
        }
    }

    /// Values by which sensors report their own failure.
    pub fn sentinels(self) -> &'static [f64] {
        match self {
            Profile::Temperature => &[-127.0],
            _ => &[],
        }
    }

    /// A metric that we know nothing of must not wake anybody.
    pub fn severity_max(self) -> Severity {
        match self {
            Profile::Generic => Severity::Warning,
            _ => Severity::Critical,
        }
    }
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
        for (metric, profile) in [
            ("container_temperature", Profile::Temperature),
            ("engineTemp", Profile::Temperature),
            ("COOLANT", Profile::Temperature),
            ("temp_count", Profile::Off),
            ("gps.lat", Profile::Off),
            ("engine-load", Profile::Driven),
            ("load_temp", Profile::Temperature),
            ("template", Profile::Generic),
            ("plate", Profile::Generic),
            ("tank_pressure", Profile::Generic),
            ("", Profile::Generic),
        ] {
            assert_eq!(Profile::of_metric(metric), profile, "{metric}");
        }
    }
}
