//! Carries out the actions of a rule that holds: fills in their texts, and says what is to be done. An action that fails costs neither the
//! others of its rule nor other rules; all that failed is told by the rule's error actions, once.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::compile::topic_problem;
use super::effects::{AlertVerdict, AlertWord, Derived, DerivedReadings, Effects, Failure, RecordDraft, RuleMessage};
use super::rule::{Action, Rule};
use crate::detection::alert::{is_own_device, is_own_metric};
use crate::json::write_text;
use crate::reading::NAME_BYTES_MAX;
use crate::rules::{Context, EvaluationError, Expression, Names, Template, Value};

/// Longest message of an alert, in bytes.
const MESSAGE_BYTES_MAX: usize = 512;
/// Most bytes of a payload that an error action passes on.
const ORIGINAL_BYTES_MAX: usize = 64 * 1024;

/// Of a rule, and of what it holds for.
pub(super) struct Acting<'a> {
    pub place: u16,
    pub rule: &'a Rule,
    pub names: &'a dyn Names,
    pub context: &'a Context<'a>,
    /// What SET says.
    pub variables: &'a [Value<'a>],
    /// The device that it is about, where one is known.
    pub device: Option<&'a str>,
    /// The metric that an alert is about, and its value.
    pub subject: (&'a str, f64),
    /// What was published; nothing if it was a reading.
    pub original: &'a [u8],
    /// By the gateway's clock.
    pub received_at_ms: i64,
    /// Makes what is published and recorded; the second says whether it is JSON.
    pub result: &'a dyn Fn() -> Result<(Vec<u8>, bool), EvaluationError>,
}

/// Why an action failed.
struct Fault {
    action: &'static str,
    resource: String,
    message: String,
}

impl Fault {
    fn new(action: &'static str, message: impl ToString) -> Fault {
        Fault { action, resource: String::new(), message: message.to_string() }
    }
}

impl Acting<'_> {
    /// Carries out all actions for which `is_due` holds.
    pub fn act(&self, is_due: impl Fn(&Action) -> bool, effects: &mut Effects) {
        let mut faults = Vec::new();
        for action in self.rule.actions.iter().filter(|action| is_due(action)) {
            if let Err(fault) = self.one(action, effects) {
                faults.push(fault);
            }
        }
        self.tell(&faults, effects);
    }

    /// Says that all is well with what the rule's alerts are about, as far as that is known.
    pub fn say_good(&self, effects: &mut Effects) {
        for action in &self.rule.actions {
            if let Action::Alert { device, .. } = action
                && let Ok(device) = self.device_of(device.as_ref(), "alert")
            {
                self.say(device, AlertVerdict::Good, effects);
            }
        }
    }

    /// Says something of the rule's alert about a device.
    pub fn say(&self, device: Box<str>, verdict: AlertVerdict, effects: &mut Effects) {
        effects.words.push(AlertWord { rule: self.place, device, metric: self.subject.0.into(), verdict });
    }

    /// The rule itself failed.
    pub fn fail(&self, error: &EvaluationError, effects: &mut Effects) {
        self.tell(&[Fault::new("rule", error)], effects);
    }

    fn one(&self, action: &Action, effects: &mut Effects) -> Result<(), Fault> {
        match action {
            Action::Alert { severity, message, device } => {
                let device = self.device_of(device.as_ref(), "alert")?;
                let message = match message {
                    Some(message) => Some(cut(self.render(message, "alert")?.text)),
                    None => None,
                };
                self.say(device, AlertVerdict::Raised { severity: *severity, message, value: self.subject.1 }, effects);
            }
            Action::Republish { topic, payload, qos, retain } => {
                let topic = self.topic(topic)?;
                let payload = match payload {
                    Some(payload) => self.render(payload, "republish")?.text.into_bytes(),
                    None => self.made("republish")?.0,
                };
                let (qos, retain) = (*qos, *retain);
                effects.messages.push(RuleMessage { rule: self.place, topic, payload: payload.into(), qos, retain });
            }
            Action::Record { stream } => {
                let (payload, is_json) = self.made("stream")?;
                effects.records.push(self.record(stream, payload, is_json));
            }
            Action::Payload { device } => {
                let device = self.device_of(Some(device), "readings")?;
                let (payload, _) = self.made("readings")?;
                let what = Derived::Payload(payload.into());
                effects.readings.push(DerivedReadings { rule: self.place, device, what });
            }
            Action::Value { device, metric, value } => {
                let device = self.device_of(device.as_ref(), "readings")?;
                // A value that is not known yet makes no reading, as a condition that is not known yet does not hold.
                if let Some(value) = self.number(value)? {
                    let what = Derived::Value { metric: metric.clone(), value };
                    effects.readings.push(DerivedReadings { rule: self.place, device, what });
                }
            }
            Action::Count => {}
            Action::Drop => effects.drops = true,
            Action::Downsample { .. } => effects.downsampled_by = effects.downsampled_by.or(Some(self.place)),
        }
        Ok(())
    }

    /// The result, and whether it is JSON.
    fn made(&self, action: &'static str) -> Result<(Vec<u8>, bool), Fault> {
        let fault = |error| Fault::new(action, error);
        let (payload, is_json) = (self.result)().map_err(fault)?;
        if let Some(allowance) = self.context.allowance {
            allowance.take_bytes(payload.len()).map_err(fault)?;
        }
        Ok((payload, is_json))
    }

    fn number(&self, value: &Expression) -> Result<Option<f64>, Fault> {
        let value = value.evaluate(self.names, self.context).map_err(|error| Fault::new("readings", error))?;
        Ok(value.to_number().map(|number| number.to_double()).filter(|value| value.is_finite()))
    }

    fn record(&self, stream: &Arc<str>, payload: Vec<u8>, is_json: bool) -> RecordDraft {
        RecordDraft {
            rule: self.place,
            stream: Arc::clone(stream),
            device: self.device.map(Into::into),
            topic: self.context.topic.map(Into::into),
            received_at_ms: self.received_at_ms,
            payload: payload.into(),
            is_json,
        }
    }

    fn render(&self, template: &Template, action: &'static str) -> Result<crate::rules::Rendered, Fault> {
        template.render(self.names, self.context, self.variables).map_err(|error| Fault::new(action, error))
    }

    fn topic(&self, template: &Template) -> Result<Box<str>, Fault> {
        let rendered = self.render(template, "republish")?;
        let problem = match rendered.is_complete {
            true => topic_problem(&rendered.text),
            false => Some("a part of the topic is Undefined or null".to_owned()),
        };
        match problem {
            Some(message) => Err(Fault { action: "republish", resource: rendered.text, message }),
            None => Ok(rendered.text.into()),
        }
    }

    /// The name that a template says, or else that of the device that it is about.
    fn device_of(&self, template: Option<&Template>, action: &'static str) -> Result<Box<str>, Fault> {
        let fault = |resource: &str, message: &str| {
            Err(Fault { action, resource: resource.to_owned(), message: message.to_owned() })
        };
        let name: Box<str> = match (template, self.device) {
            (None, Some(device)) => return Ok(device.into()),
            (None, None) => return fault("", "no route says which device it is; name it with `device`"),
            (Some(template), _) => {
                let rendered = self.render(template, action)?;
                if !rendered.is_complete {
                    return fault(&rendered.text, "a part of the device's name is Undefined or null");
                }
                rendered.text.into()
            }
        };
        match () {
            () if name.is_empty() => fault(&name, "the device's name is empty"),
            () if name.len() > NAME_BYTES_MAX => fault(&name, "the device's name has more than 128 bytes"),
            () if is_own_device(&name) || name.chars().any(char::is_control) => {
                fault(&name, "no device may have this name")
            }
            () => Ok(name),
        }
    }

    /// Counts what failed and takes the error actions, once for all of it.
    fn tell(&self, faults: &[Fault], effects: &mut Effects) {
        let Some(first) = faults.first() else { return };
        self.rule.tally.failed();
        let message = format!("{}: {}", first.action, first.message);
        effects.failures.push(Failure { rule: self.place, message });
        for action in &self.rule.on_error {
            match action {
                Action::Republish { topic, qos, retain, .. } => match self.topic(topic) {
                    Ok(topic) => {
                        let (payload, qos, retain) = (self.error_payload(faults).into(), *qos, *retain);
                        effects.messages.push(RuleMessage { rule: self.place, topic, payload, qos, retain });
                    }
                    Err(_) => self.rule.tally.failed(),
                },
                Action::Record { stream } => {
                    effects.records.push(self.record(stream, self.error_payload(faults), true));
                }
                _ => {}
            }
        }
    }

    /// As an error action of AWS IoT gets it.
    fn error_payload(&self, faults: &[Fault]) -> Vec<u8> {
        let mut out = b"{\"ruleName\":".to_vec();
        let member = |out: &mut Vec<u8>, name: &str, value: Option<&str>| {
            out.extend_from_slice(name.as_bytes());
            match value {
                Some(value) => write_text(out, value),
                None => out.extend_from_slice(b"null"),
            }
        };
        member(&mut out, "", Some(&self.rule.name));
        member(&mut out, ",\"topic\":", self.context.topic);
        member(&mut out, ",\"cloudwatchTraceId\":", self.context.trace_id);
        member(&mut out, ",\"clientId\":", Some(self.context.client_id.unwrap_or("n/a")));
        let original = self.original.get(..self.original.len().min(ORIGINAL_BYTES_MAX)).unwrap_or_default();
        member(&mut out, ",\"base64OriginalPayload\":", Some(&STANDARD.encode(original)));
        out.extend_from_slice(b",\"failures\":[");
        for (at, fault) in faults.iter().enumerate() {
            out.extend_from_slice(if at == 0 { b"" } else { b"," });
            member(&mut out, "{\"failedAction\":", Some(fault.action));
            member(&mut out, ",\"failedResource\":", Some(&fault.resource));
            member(&mut out, ",\"errorMessage\":", Some(&fault.message));
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
        out
    }
}

/// The metric that an alert may be about.
pub(super) fn is_metric(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !is_own_metric(name)
}

fn cut(text: String) -> Box<str> {
    text.get(..text.floor_char_boundary(MESSAGE_BYTES_MAX)).unwrap_or_default().into()
}
