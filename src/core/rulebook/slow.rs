//! Names rules that take too much of the processor.

use std::collections::HashMap;
use std::sync::Arc;

use super::Rulebook;

/// Nanoseconds over which a rule's share is measured: a burst of messages is no slow rule.
const SPAN_NS: u64 = 10_000_000_000;
/// Percent of a core that a rule may take.
const SHARE_MAX: u64 = 10;

/// What each rule has taken, and which of them take too much.
#[derive(Debug, Default)]
pub struct SlowRules {
    /// When it was looked at last, and what each rule had taken then.
    looked_ns: Option<u64>,
    taken_ns: HashMap<Arc<str>, u64>,
    /// By name, each with its percents of a core.
    slow: Vec<(Arc<str>, u64)>,
}

impl SlowRules {
    /// Looks at what the rules have taken since the last look, unless that was just now. Returns whether others are slow than before.
    pub fn look(&mut self, book: &Rulebook, now_ns: u64) -> bool {
        let Some(looked_ns) = self.looked_ns else {
            self.looked_ns = Some(now_ns);
            return false;
        };
        let span_ns = now_ns.saturating_sub(looked_ns);
        if span_ns < SPAN_NS {
            return false;
        }
        let before = std::mem::take(&mut self.taken_ns);
        let slow_before = std::mem::take(&mut self.slow);
        for rule in book.rules() {
            let taken_ns = rule.tally.counts().nanoseconds;
            let known_ns = before.get(&rule.name).copied().unwrap_or(0);
            let share = taken_ns.saturating_sub(known_ns).saturating_mul(100) / span_ns;
            if share > SHARE_MAX {
                self.slow.push((Arc::clone(&rule.name), share));
            }
            self.taken_ns.insert(Arc::clone(&rule.name), taken_ns);
        }
        self.looked_ns = Some(now_ns);
        !self.slow.iter().map(|(name, _)| name).eq(slow_before.iter().map(|(name, _)| name))
    }

    /// Those that are slow, in words; `None` if none is.
    pub fn text(&self) -> Option<String> {
        let each = |(name, share): &(Arc<str>, u64)| format!("{name} ({share} % of a core)");
        let slow: Vec<String> = self.slow.iter().map(each).collect();
        (!slow.is_empty()).then(|| format!("slow: {}", slow.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ActionDefinition, Definition, Rule, Surroundings};
    use super::*;

    #[test]
    fn a_rule_that_takes_much_of_a_core_is_named_until_it_does_not() {
        let rule = |name: &str| {
            let definition = Definition {
                name: name.to_owned(),
                when: Some("t > 1".to_owned()),
                actions: vec![ActionDefinition::Count],
                ..Definition::default()
            };
            Rule::compile(&definition, &Surroundings::default()).expect("a rule")
        };
        let book = Rulebook::new(vec![rule("quick"), rule("slow")], Surroundings::default());
        let takes = |name: &str, nanoseconds: u64| book.named(name).expect("a rule").tally.evaluated(nanoseconds);
        let mut watch = SlowRules::default();
        assert!(!watch.look(&book, 5));
        takes("quick", SPAN_NS / 10);
        takes("slow", SPAN_NS / 4);
        assert!(!watch.look(&book, SPAN_NS), "it is looked at over a span");
        assert_eq!(watch.text(), None);
        assert!(watch.look(&book, SPAN_NS + 5));
        assert_eq!(watch.text().as_deref(), Some("slow: slow (25 % of a core)"));
        takes("slow", SPAN_NS / 5);
        assert!(!watch.look(&book, 2 * SPAN_NS + 5), "it is known");
        assert_eq!(watch.text().as_deref(), Some("slow: slow (20 % of a core)"));
        takes("slow", SPAN_NS / 20);
        assert!(watch.look(&book, 3 * SPAN_NS + 5));
        assert_eq!(watch.text(), None);
    }
}
