//! Logs changes of alerts and publishes that cannot be decoded: one line for each, few lines in a storm.
//!
//! Names come from devices: characters that could begin a new line or control a terminal are escaped. Payloads are never logged.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use crate::core::detection::alert::{AlertNews, Severity, What};
use crate::counter::many;
use crate::handoff::Undecodable;

/// Most lines at once, and how often one more is allowed.
const BURST: u32 = 20;
const LINE_EVERY_MS: u64 = 5_000;
/// Shortest and longest time between two summaries of the lines that were left out.
const SUMMARY_AFTER_MS: u64 = 30_000;
const SUMMARY_EVERY_MS_MAX: u64 = 3_600_000;
/// Most pairs of reason and topic that are remembered.
const FIRST_MAX: usize = 1_000;

/// Lets a burst of lines through, then few.
#[derive(Clone, Copy, Debug)]
struct Pacer {
    lines: u32,
    refilled_ms: u64,
    left_out: u64,
    /// Time of the last summary, or of the first line that was left out after a quiet time.
    summed_up_ms: Option<u64>,
    summary_every_ms: u64,
}

impl Pacer {
    const NEW: Pacer =
        Pacer { lines: BURST, refilled_ms: 0, left_out: 0, summed_up_ms: None, summary_every_ms: SUMMARY_AFTER_MS };

    fn permit(&mut self, now_ms: u64) -> bool {
        let more = now_ms.saturating_sub(self.refilled_ms) / LINE_EVERY_MS;
        self.refilled_ms += more * LINE_EVERY_MS;
        self.lines = u64::from(self.lines).saturating_add(more).min(u64::from(BURST)) as u32;
        if self.lines == 0 {
            self.leave_out(1, now_ms);
            return false;
        }
        self.lines -= 1;
        true
    }

    fn leave_out(&mut self, count: u64, now_ms: u64) {
        if self.left_out == 0 && self.is_due(now_ms) {
            // Nothing was left out for a while: this is a new storm.
            (self.summed_up_ms, self.summary_every_ms) = (Some(now_ms), SUMMARY_AFTER_MS);
        }
        self.left_out += count;
    }

    /// How many lines were left out since the last summary, if one is due. Each interval is twice the one before, if it goes on.
    fn summary(&mut self, now_ms: u64) -> Option<u64> {
        if self.left_out == 0 || !self.is_due(now_ms) {
            return None;
        }
        self.summed_up_ms = Some(now_ms);
        self.summary_every_ms = (2 * self.summary_every_ms).min(SUMMARY_EVERY_MS_MAX);
        Some(std::mem::take(&mut self.left_out))
    }

    fn is_due(&self, now_ms: u64) -> bool {
        self.summed_up_ms.is_none_or(|summed_up_ms| now_ms >= summed_up_ms.saturating_add(self.summary_every_ms))
    }
}

#[derive(Debug)]
pub(super) struct AlertLog {
    grave: Pacer,
    other: Pacer,
    undecodable: Pacer,
    /// Hashes of the reasons and topics that were logged.
    first: HashSet<u64>,
    hasher: RandomState,
}

impl AlertLog {
    pub fn new() -> AlertLog {
        let (first, hasher) = (HashSet::new(), RandomState::new());
        AlertLog { grave: Pacer::NEW, other: Pacer::NEW, undecodable: Pacer::NEW, first, hasher }
    }

    /// Logs changes of alerts; `more` is the number of those that were not kept.
    pub fn alerts(&mut self, news: &[AlertNews], more: u64, now_ms: u64) {
        for one in news {
            let is_grave = one.severity >= Severity::Major && matches!(one.what, What::Raised | What::Escalated);
            let pacer = if is_grave { &mut self.grave } else { &mut self.other };
            if !pacer.permit(now_ms) {
                continue;
            }
            let (severity, alert, text) = (one.severity.name(), escape(&one.name()), escape(&one.text));
            match is_grave {
                true => tracing::warn!(severity, alert = %alert, "alert {}: {text}", one.what.name()),
                false => tracing::info!(severity, alert = %alert, "alert {}: {text}", one.what.name()),
            }
        }
        if more > 0 {
            self.other.leave_out(more, now_ms);
        }
    }

    pub fn undecodable(&mut self, undecodable: &[Undecodable], now_ms: u64) {
        for Undecodable { reason, topic, file, .. } in undecodable {
            if self.first.len() >= FIRST_MAX {
                self.first.clear();
            }
            if !self.first.insert(self.hasher.hash_one((reason, topic))) {
                self.undecodable.leave_out(1, now_ms);
            } else if self.undecodable.permit(now_ms) {
                let topic = escape(topic);
                match file {
                    None => tracing::warn!(reason, topic = %topic, "a publish could not be decoded and is not stored"),
                    Some(file) => {
                        tracing::warn!(reason, topic = %topic, "a line of {file} could not be decoded and is not stored")
                    }
                }
            }
        }
    }

    /// Logs the first failure of each kind of a rule.
    pub fn rule_failed(&mut self, rule: &str, failure: &str, now_ms: u64) {
        if self.first.len() >= FIRST_MAX {
            self.first.clear();
        }
        let is_new = self.first.insert(self.hasher.hash_one((rule, failure)));
        if is_new && self.other.permit(now_ms) {
            tracing::warn!(rule, "a rule failed: {}", escape(failure));
        }
    }

    /// Logs the summaries that are due, or all of them when the process ends.
    pub fn tick(&mut self, now_ms: u64) {
        let of_alerts = [self.grave.summary(now_ms), self.other.summary(now_ms)];
        match of_alerts {
            [None, None] => {}
            [Some(grave), other] => {
                let other = other.unwrap_or(0);
                let (grave, other) = (many(grave, "more alert"), many(other, "other change"));
                tracing::warn!("{grave} raised that are major or critical, and {other}");
            }
            [None, Some(other)] => tracing::info!("{} of alerts, not logged one by one", many(other, "more change")),
        }
        if let Some(more) = self.undecodable.summary(now_ms) {
            tracing::warn!(
                "{} could not be decoded",
                if more == 1 { "1 more payload".to_owned() } else { format!("{more} more payloads") }
            );
        }
    }

    pub fn end(&mut self) {
        self.tick(u64::MAX);
    }
}

/// Escapes control characters, and others that end a line or change its direction.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(character.escape_unicode())
            }
            _ if character.is_control() => out.extend(character.escape_default()),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_a_burst_then_few_lines_and_the_rest_is_counted() {
        let mut pacer = Pacer::NEW;
        let permitted = (0..10_000u64).filter(|n| pacer.permit(n * 10)).count();
        assert_eq!(permitted, 20 + 19);
        assert_eq!(pacer.summary(100_000), Some(10_000 - 39));
        assert_eq!(pacer.summary(1_000_000), None);
        assert!(pacer.permit(1_000_000), "later there are lines again");
    }

    #[test]
    fn what_was_left_out_is_told_after_a_while_and_in_the_end() {
        let mut pacer = Pacer::NEW;
        pacer.leave_out(3, 7_000);
        assert_eq!((pacer.summary(36_999), pacer.summary(37_000), pacer.summary(90_000)), (None, Some(3), None));
        pacer.leave_out(1, 95_000);
        assert_eq!(pacer.summary(u64::MAX), Some(1));
    }

    #[test]
    fn what_goes_on_for_ever_is_told_ever_more_seldom() {
        let mut pacer = Pacer::NEW;
        let told = (0..86_400u64).filter(|second| {
            pacer.leave_out(1, 100_000 + second * 1000);
            pacer.summary(100_000 + second * 1000).is_some()
        });
        assert_eq!(told.count(), 29, "after a minute or two, then every hour");
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        assert_eq!(
            escape("tank\n2026 WARN x\u{1b}[2J\u{2028}\u{202e}é"),
            "tank\\n2026 WARN x\\u{1b}[2J\\u{2028}\\u{202e}é"
        );
    }

    #[test]
    fn topics_that_are_told_apart_are_bounded() {
        let mut log = AlertLog::new();
        let undecodable: Vec<_> = (0..5_000)
            .map(|n| Undecodable {
                reason: "not_json",
                topic: format!("t{n}"),
                file: None,
                sample: Vec::new(),
                received_at_ms: 0,
            })
            .collect();
        log.undecodable(&undecodable, 0);
        assert!(log.first.len() <= FIRST_MAX);
        assert_eq!(log.undecodable.left_out, 5_000 - u64::from(BURST));
    }
}
