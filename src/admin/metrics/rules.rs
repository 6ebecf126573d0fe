//! Of each `[[rule]]`, and of all together.

use super::text::Text;
use crate::admin::rules::RuleStatus;
use crate::admin::status::Status;

pub fn write(text: &mut Text, status: &Status) {
    type Of = fn(&RuleStatus) -> u64;
    let families: [(&str, &str, Of); 4] = [
        ("rule_evaluations_total", "messages or readings that a rule was evaluated for", |rule| rule.evaluations),
        ("rule_matches_total", "those for which it held", |rule| rule.matches),
        ("rule_errors_total", "evaluations and actions of a rule that failed", |rule| rule.errors),
        ("rule_loops_cut_total", "messages that a rule did not see because it had made them", |rule| rule.loops_cut),
    ];
    for (name, help, of) in families.into_iter().filter(|_| !status.rules.running.is_empty()) {
        text.family(name, "counter", help);
        for rule in &status.rules.running {
            text.sample(name, &[("rule", &rule.name)], of(rule) as f64);
        }
    }
    text.counter(
        "rules_readings_left_out_total",
        "readings that no rule saw because there are too many devices, since the start",
        status.rules.readings_left_out,
    );
    text.flag(
        "rules_refused",
        "1 while what was loaded last is wrong, and the rules before stay in force",
        status.rules.error.is_some(),
    );
    for (name, help, value) in [
        (
            "readings_dropped_by_rule_total",
            "readings that rules kept out of the raw stream",
            status.received.dropped_by_rule,
        ),
        (
            "readings_summarised_by_rule_total",
            "readings in whose place rules stored one for each span of time",
            status.received.summarised_by_rule,
        ),
        ("readings_derived_total", "readings that rules made", status.received.derived),
    ] {
        text.counter(name, &format!("{help}, over all runs"), value);
    }
}
