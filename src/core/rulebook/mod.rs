//! Rules at work: which of them a message or a reading concerns, what they find, and what they want done.
//!
//! A [`Rulebook`] is compiled once and never changes; another one takes its place as a whole. Rules with `sql` see messages and keep no
//! state. Rules with `when` see readings; where they stand with each device is in [`Conditions`], which is part of the detectors' snapshot.
//! Nothing is done here: [`Effects`] say what is to be done, and an error in one rule costs no other.
//!
//! ```text
//! definition -> compile -> rule -> index -> Rulebook
//!                          message -> messages \
//!                          reading -> conditions -> acting -> Effects
//! ```
//!
//! Deliberately absent: a clock (a stopwatch is an argument), the network, and files.

mod acting;
mod asking;
mod compile;
mod conditions;
mod definition;
mod detectors;
mod device;
mod effects;
mod functions;
mod index;
mod messages;
mod models;
mod rule;
mod rule_test;
mod slow;
mod snapshot;
mod surroundings;
mod tally;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use asking::ModelWord;
pub use compile::{ACTIONS_MAX, SPAN_MS_MAX};
pub use conditions::{Conditions, Seen, Summary};
pub use definition::{ActionDefinition, Definition, Keep};
pub use detectors::{ModelDetectors, Threshold};
pub use effects::{AlertVerdict, AlertWord, Derived, DerivedReadings, Effects, Failure, RecordDraft, RuleMessage};
pub use messages::Message;
pub use models::{MODELS_MAX, NamedModel};
pub use rule::{Rule, RuleProblem};
pub use rule_test::{Begin, Example, RuleTest, TestReading, is_same_payload};
pub use slow::SlowRules;
pub use surroundings::Surroundings;
pub use tally::{Counts, Tally};

use crate::mqtt::topic_tree::TopicTree;
use crate::pattern;
use index::ReadingIndex;

/// Most rules of a gateway.
pub const RULES_MAX: usize = 1_000;

/// Most rules that make something of what the one before has made.
const CHAIN_MAX: usize = 8;

/// All rules, compiled.
#[derive(Debug, Default)]
pub struct Rulebook {
    rules: Vec<Rule>,
    surroundings: Surroundings,
    /// Of the rules that see messages, by their places.
    by_topic: TopicTree<u16>,
    readings: ReadingIndex,
}

impl Rulebook {
    /// Puts rules together.
    ///
    /// # Panics
    ///
    /// If there are more than [`RULES_MAX`].
    pub fn new(rules: Vec<Rule>, surroundings: Surroundings) -> Rulebook {
        assert!(rules.len() <= RULES_MAX, "the configuration has been checked");
        let mut by_topic = TopicTree::default();
        for (place, rule) in (0..).zip(&rules) {
            if let Some(filter) = rule.filter() {
                by_topic.insert(filter, place, 0);
            }
        }
        let readings = ReadingIndex::new(&rules, &surroundings);
        Rulebook { rules, surroundings, by_topic, readings }
    }

    /// Takes the place of another book: what its rules have counted goes on.
    pub fn succeed(&mut self, before: &Rulebook) {
        for rule in &mut self.rules {
            if let Some(known) = before.named(&rule.name) {
                rule.tally = Arc::clone(&known.tally);
            }
        }
    }

    /// All rules, in the order of the configuration.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// A rule by its place.
    pub fn rule(&self, place: u16) -> Option<&Rule> {
        self.rules.get(usize::from(place))
    }

    /// A rule by its name.
    pub fn named(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| *rule.name == *name)
    }

    /// Whether no rule sees messages.
    pub fn sees_no_message(&self) -> bool {
        self.by_topic.levels() == 0 && !self.rules.iter().any(Rule::sees_messages)
    }

    /// Whether no rule sees readings.
    pub fn sees_no_reading(&self) -> bool {
        self.readings.conditions.is_empty()
    }

    /// Whether a rule of the book before raises its alerts here just as it did there.
    pub fn goes_on(&self, before: &Rulebook, name: &str) -> bool {
        let fingerprint =
            |book: &Rulebook| book.named(name).filter(|rule| rule.has_alert()).map(|rule| rule.fingerprint);
        fingerprint(before).is_some_and(|known| fingerprint(self) == Some(known))
    }

    /// Whether a rule of this name raises alerts.
    pub fn raises(&self, name: &str) -> bool {
        self.named(name).is_some_and(Rule::has_alert)
    }

    /// Whether a rule does not see what was made by these rules: it is one of them, or they are too many.
    fn cuts_loop(&self, place: u16, made_by: &[u16]) -> bool {
        let is_loop = made_by.contains(&place) || made_by.len() >= CHAIN_MAX;
        if let Some(rule) = self.rule(place).filter(|_| is_loop) {
            rule.tally.looped();
        }
        is_loop
    }

    /// The place of the rule that says the same as this one.
    fn place_like(&self, rule: &Rule) -> Option<u16> {
        let is_like = |known: &Rule| known.name == rule.name && known.fingerprint == rule.fingerprint;
        self.rules.iter().position(is_like).and_then(|place| u16::try_from(place).ok())
    }

    /// The number of the condition that says the same as this rule's.
    fn condition_like(&self, rule: &Rule) -> Option<u16> {
        let place = self.place_like(rule)?;
        let number = self.readings.conditions.iter().position(|known| *known == place)?;
        u16::try_from(number).ok()
    }

    fn is_condition_for(&self, number: u16, device: &str) -> bool {
        let rule = self.readings.place(number).and_then(|place| self.rule(place));
        let condition = rule.and_then(Rule::condition);
        condition.is_some_and(|condition| condition.from.as_deref().is_none_or(|from| pattern::is_like(device, from)))
    }
}
