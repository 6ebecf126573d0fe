//! What is usual for a series, in words behind what was found: so that whoever reads an alert can judge it.

use super::habit::PEAKS;
use super::maturity::{HeardTime, Maturity};
use super::short;

/// How often it went so far before, and what that is called.
#[derive(Clone, Copy)]
pub(super) struct Before {
    pub verb: &'static str,
    pub times: usize,
}

/// The end of a reason.
pub(super) fn usual(heard: &HeardTime, range: Option<(f64, f64)>, before: Option<Before>) -> String {
    if heard.maturity() == Maturity::New {
        return format!("; known for {} only", span(heard.minutes));
    }
    let known = span(heard.minutes);
    let level = match range {
        Some((low, high)) => format!("; in {known} it was usually {}", between(low, high)),
        None => format!("; known for {known}"),
    };
    match before {
        Some(Before { verb, times: 0 }) => format!("{level}, and never {verb}"),
        Some(Before { verb, times: 1 }) => format!("{level}, and {verb} once"),
        Some(Before { verb, times: PEAKS.. }) => format!("{level}, and {verb} {PEAKS} times or more"),
        Some(Before { verb, times }) => format!("{level}, and {verb} {times} times"),
        None => level,
    }
}

/// Two levels, in words.
pub(super) fn between(low: f64, high: f64) -> String {
    match (short(low), short(high)) {
        (low, high) if low == high => low,
        (low, high) => format!("{low} to {high}"),
    }
}

/// How long, in words.
pub(super) fn span(minutes: u32) -> String {
    match minutes {
        0 => "less than a minute".to_owned(),
        1 => "1 minute".to_owned(),
        2..120 => format!("{minutes} minutes"),
        120..2_880 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1_440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_is_said_in_a_few_words() {
        let went = |times| Some(Before { verb: "went so far", times });
        let levels = Some((78.1, 96.4));
        for (minutes, levels, before, expected) in [
            (0, levels, went(2), "; known for less than a minute only"),
            (4, levels, went(2), "; known for 4 minutes only"),
            (10, levels, went(0), "; in 10 minutes it was usually 78.1 to 96.4, and never went so far"),
            (300, levels, went(1), "; in 5 hours it was usually 78.1 to 96.4, and went so far once"),
            (4_400, levels, went(2), "; in 3 days it was usually 78.1 to 96.4, and went so far 2 times"),
            (30_300, levels, went(6), "; in 21 days it was usually 78.1 to 96.4, and went so far 6 times or more"),
            (300, Some((5.0, 5.00001)), went(2), "; in 5 hours it was usually 5, and went so far 2 times"),
            (300, levels, None, "; in 5 hours it was usually 78.1 to 96.4"),
            (300, None, went(0), "; known for 5 hours, and never went so far"),
        ] {
            let heard = HeardTime { minutes, ..HeardTime::NONE };
            assert_eq!(usual(&heard, levels, before), expected);
        }
        assert_eq!([1, 119, 120, 2_879, 2_880].map(span), ["1 minute", "119 minutes", "2 hours", "47 hours", "2 days"]);
    }
}
