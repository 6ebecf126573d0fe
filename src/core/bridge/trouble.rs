//! When a bridge is a trouble that somebody should know of, and in which words.

/// A vehicle loses its link all the time: a bridge without a connection is reported after this, and so is everything else that may pass.
pub const REPORT_AFTER_MS: u64 = 60_000;

/// How a bridge is at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// There is a connection.
    pub is_connected: bool,
    /// Nothing goes out although there is one.
    pub is_held: bool,
    /// What was wrong last.
    pub last_error: Option<String>,
    /// Commands that wait until the clock is set.
    pub commands_waiting: u64,
    /// Commands for which there was no room to wait: the other broker keeps them, and what comes behind them is not acknowledged.
    pub commands_without_room: u64,
}

/// Since when a bridge is well.
#[derive(Debug, Default)]
pub struct Troubles {
    passed_ms: u64,
    taken_ms: u64,
}

impl Troubles {
    /// What is to be reported of the bridge of this name; `None` if it is well, or not bad for long enough. By a clock that does not go back,
    /// from its start on.
    pub fn look(&mut self, name: &str, now: &Situation, now_ms: u64) -> Option<String> {
        if now.is_connected && !now.is_held {
            self.passed_ms = now_ms;
        }
        if now.commands_without_room == 0 {
            self.taken_ms = now_ms;
        }
        let lasts = |since_ms: u64| now_ms.saturating_sub(since_ms) >= REPORT_AFTER_MS;
        let mut texts = Vec::new();
        if lasts(self.passed_ms) {
            let why = now.last_error.as_deref().unwrap_or("no answer yet");
            let what = match now.is_connected {
                true => "what is to go out waits",
                false => "what is to go out waits, and commands do not come in",
            };
            texts.push(format!("the bridge {name} does not work: {why}; {what}"));
        }
        if lasts(self.taken_ms) {
            texts.push(format!(
                "the bridge {name} has no room for more commands: {} wait because the clock is not synchronised, and nobody can tell whether \
                 they have expired; have the clock set, or write command_clock = \"system\" if it is right",
                now.commands_waiting
            ));
        }
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_for_a_minute_is_said_with_its_cause() {
        let well = Situation { is_connected: true, ..Situation::default() };
        let away = Situation { last_error: Some("no route".to_owned()), ..Situation::default() };
        let held = Situation { is_held: true, last_error: Some("a quota is used up".to_owned()), ..well.clone() };
        let full = Situation { commands_waiting: 256, commands_without_room: 3, ..well.clone() };
        let full_and_away = Situation { commands_waiting: 256, commands_without_room: 3, ..away.clone() };
        for (situation, expected) in [
            (well.clone(), &[][..]),
            (away, &["no route", "commands do not come in"]),
            (Situation::default(), &["no answer yet"]),
            (held, &["a quota is used up; what is to go out waits"]),
            (full, &["no room for more commands: 256 wait because the clock is not synchronised"]),
            (full_and_away, &["no route", "no room for more commands"]),
            // They wait, and hold up nothing.
            (Situation { commands_waiting: 256, ..well.clone() }, &[]),
        ] {
            let mut troubles = Troubles::default();
            assert_eq!(troubles.look("plant", &well, 100_000), None);
            assert_eq!(troubles.look("plant", &situation, 159_999), None, "it may pass");
            let text = troubles.look("plant", &situation, 160_000).unwrap_or_default();
            assert_eq!(text.is_empty(), expected.is_empty(), "{situation:?}: {text}");
            assert!(expected.iter().all(|part| text.contains(part)), "{text}");
            assert_eq!(troubles.look("plant", &well, 170_000), None);
            assert_eq!(troubles.look("plant", &situation, 170_001), None, "it begins anew");
        }
    }
}
