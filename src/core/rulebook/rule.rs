//! A rule, compiled: its texts are parsed, and what it names is known to be there.

use std::sync::Arc;

use super::definition::Keep;
use super::tally::Tally;
use crate::detection::severity::Severity;
use crate::rules::{Expression, ExtraCall, Statement, Template};

/// A rule, compiled.
#[derive(Debug)]
pub struct Rule {
    /// Unique in its book.
    pub name: Arc<str>,
    /// Of its definition.
    pub fingerprint: u64,
    /// What it has done so far.
    pub tally: Arc<Tally>,
    /// What is allowed and probably not meant, each with the key that says it.
    pub warnings: Vec<RuleProblem>,
    pub(super) trigger: Trigger,
    pub(super) actions: Vec<Action>,
    pub(super) on_error: Vec<Action>,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleProblem {
    /// The key that says it, such as `when` or `republish.topic`.
    pub key: &'static str,
    /// What is wrong, and what would be right.
    pub message: String,
}

#[derive(Debug)]
pub(super) enum Trigger {
    Message(Box<Statement>),
    Readings(Box<Condition>),
}

/// A condition on the readings of a device.
#[derive(Debug)]
pub(super) struct Condition {
    pub from: Option<Box<str>>,
    pub when: Expression,
    pub until: Option<Expression>,
    pub hold_ms: i64,
    pub repeats: bool,
    /// What its alert is about: the first metric that it names.
    pub metric: Option<Box<str>>,
}

#[derive(Debug)]
pub(super) enum Action {
    Alert { severity: Severity, message: Option<Template>, device: Option<Template> },
    Republish { topic: Template, payload: Option<Template>, qos: u8, retain: bool },
    Record { stream: Arc<str> },
    Payload { device: Template },
    Value { device: Option<Template>, metric: Box<str>, value: Expression },
    Count,
    Drop,
    Downsample { every_ms: i64, keep: Vec<Keep> },
}

impl Rule {
    /// The topic filter of a rule that sees messages.
    pub fn filter(&self) -> Option<&str> {
        match &self.trigger {
            Trigger::Message(statement) => statement.filter(),
            Trigger::Readings(_) => None,
        }
    }

    /// Whether it sees messages, and not readings.
    pub fn sees_messages(&self) -> bool {
        matches!(self.trigger, Trigger::Message(_))
    }

    /// Whether it raises alerts.
    pub fn has_alert(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Alert { .. }))
    }

    /// Whether it raises alerts about a device that only a route can name.
    pub fn needs_route(&self) -> bool {
        let of_route = |action: &Action| matches!(action, Action::Alert { device: None, .. });
        self.sees_messages() && self.actions.iter().any(of_route)
    }

    /// The streams that it writes to.
    pub fn streams(&self) -> impl Iterator<Item = &str> {
        self.actions.iter().chain(&self.on_error).filter_map(|action| match action {
            Action::Record { stream } => Some(&**stream),
            _ => None,
        })
    }

    /// What it does, in words.
    pub fn does(&self) -> Vec<String> {
        let of = |action: &Action| match action {
            Action::Alert { severity, .. } => format!("raises alerts ({})", severity.name()),
            Action::Republish { .. } => "publishes".to_owned(),
            Action::Record { stream } => format!("records into {stream}"),
            Action::Payload { .. } | Action::Value { .. } => "makes readings".to_owned(),
            Action::Count => "counts".to_owned(),
            Action::Drop => "keeps readings out of the raw stream".to_owned(),
            Action::Downsample { .. } => "samples down".to_owned(),
        };
        self.actions.iter().map(of).collect()
    }

    pub(super) fn condition(&self) -> Option<&Condition> {
        match &self.trigger {
            Trigger::Readings(condition) => Some(condition),
            Trigger::Message(_) => None,
        }
    }

    /// What a rule with a condition asks: a reading of it may change the answer.
    pub(super) fn asks(&self) -> LookedUp<'_> {
        let Some(Condition { when, until, .. }) = self.condition() else { return LookedUp::default() };
        LookedUp::of([Some(when), until.as_ref()].into_iter().flatten(), [].into_iter())
    }

    /// What its actions fill in, for which the latest readings are kept.
    pub(super) fn fills_in(&self) -> LookedUp<'_> {
        let (mut expressions, mut templates): (Vec<&Expression>, Vec<&Template>) = (Vec::new(), Vec::new());
        for action in self.actions.iter().chain(&self.on_error) {
            match action {
                Action::Alert { message, device, .. } => templates.extend([message, device].into_iter().flatten()),
                Action::Republish { topic, payload, .. } => {
                    templates.extend([Some(topic), payload.as_ref()].into_iter().flatten());
                }
                Action::Value { device, value, .. } => {
                    templates.extend(device);
                    expressions.push(value);
                }
                Action::Payload { device } => templates.push(device),
                Action::Record { .. } | Action::Count | Action::Drop | Action::Downsample { .. } => {}
            }
        }
        LookedUp::of(expressions.into_iter(), templates.into_iter())
    }
}

/// Names and calls of functions in the texts of a rule.
#[derive(Debug, Default)]
pub(super) struct LookedUp<'r> {
    pub names: Vec<&'r str>,
    pub calls: Vec<ExtraCall<'r>>,
}

impl<'r> LookedUp<'r> {
    fn of(
        expressions: impl Iterator<Item = &'r Expression>,
        templates: impl Iterator<Item = &'r Template>,
    ) -> LookedUp<'r> {
        let mut found = LookedUp::default();
        for expression in expressions {
            found.names.extend(expression.names());
            found.calls.extend(expression.calls());
        }
        for template in templates {
            found.names.extend(template.names());
            found.calls.extend(template.calls());
        }
        found
    }
}
