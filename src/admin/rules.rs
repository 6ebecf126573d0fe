//! What each rule has done so far, for the status, the metrics and `outrider rules list`.

use serde::Serialize;

use crate::core::rulebook::Counts;
use crate::handoff::rules::CurrentRules;
use crate::pipeline::StoreCounters;

/// The rules that are in force.
#[derive(Debug, Serialize)]
pub struct RulesStatus {
    /// In the order of the configuration.
    pub running: Vec<RuleStatus>,
    /// Readings that no rule with `when` saw, because there are too many devices; since the start.
    pub readings_left_out: u64,
    /// Why what was loaded last is not in force; `None` if it is.
    pub error: Option<String>,
}

/// One rule, since the start of the process.
#[derive(Debug, Serialize)]
pub struct RuleStatus {
    pub name: String,
    /// `messages` or `readings`.
    pub sees: &'static str,
    /// The topic filter of a rule that sees messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How often it was evaluated: for a message, for a reading, or because time has passed.
    pub evaluations: u64,
    pub matches: u64,
    pub errors: u64,
    /// Messages and readings that it did not see, because it had made them.
    pub loops_cut: u64,
    /// Time that it takes for each, on average; `None` before there was one.
    pub nanoseconds_a_message: Option<u64>,
    /// How it has failed last; `None` if it has not.
    pub last_error: Option<String>,
}

pub fn status(rules: &CurrentRules, counters: &StoreCounters) -> RulesStatus {
    let book = rules.book();
    let running = book.rules().iter().map(|rule| {
        let Counts { evaluations, matches, errors, loops, nanoseconds } = rule.tally.counts();
        RuleStatus {
            name: rule.name.to_string(),
            sees: if rule.sees_messages() { "messages" } else { "readings" },
            from: rule.filter().map(str::to_owned),
            evaluations,
            matches,
            errors,
            loops_cut: loops,
            nanoseconds_a_message: nanoseconds.checked_div(evaluations),
            last_error: counters.rule_failure(&rule.name),
        }
    });
    let readings_left_out = counters.readings_no_rule_saw.get();
    RulesStatus { running: running.collect(), readings_left_out, error: rules.error() }
}
