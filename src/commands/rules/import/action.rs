//! Actions of AWS IoT and what they are here.

use std::collections::BTreeMap;

use serde_json::Value;

use super::source::field;
use super::{RuleFault, intrinsic};
use crate::core::mqtt::topic;
use crate::core::rules::{Template, Vocabulary};

/// Longest name of a stream that is made here, in bytes.
const STREAM_NAME_BYTES_MAX: usize = 64;
/// Streams that are always there, and hold readings.
const OWN_STREAMS: [&str; 2] = ["raw", "anomalies"];

/// What a rule does.
#[derive(Debug, Default)]
pub struct Actions {
    pub republish: Vec<Republish>,
    pub streams: Vec<Stream>,
    pub alert: Option<Alert>,
}

#[derive(Debug)]
pub struct Republish {
    pub topic: String,
    pub qos: u8,
    pub comments: Vec<String>,
}

#[derive(Debug)]
pub struct Stream {
    pub name: String,
    pub comments: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Alert {
    pub comments: Vec<String>,
}

/// Why an action is not translated.
#[derive(Debug, thiserror::Error)]
pub enum ActionFault {
    #[error("one action is expected, by its name")]
    Shape,
    #[error("{kind} has no equivalent: {instead}")]
    NoEquivalent { kind: String, instead: &'static str },
    #[error("it depends on the template's parameters ({function}): write it out")]
    Conditional { function: String },
    #[error("{kind} is not known")]
    Unknown { kind: String },
    #[error("{kind} has no {member}, or one that depends on the template's parameters: write it out")]
    Missing { kind: &'static str, member: &'static str },
    #[error("republish: qos is 0 or 1")]
    Qos,
    #[error("republish: topic, {0}")]
    Topic(String),
}

/// Actions whose messages become records of a stream: their names, and where their target is called.
const STREAMS: [(&str, &[&str]); 13] = [
    ("kinesis", &["streamName"]),
    ("firehose", &["deliveryStreamName"]),
    ("kafka", &["topic"]),
    ("s3", &["bucketName"]),
    ("sqs", &["queueUrl"]),
    ("timestream", &["tableName"]),
    ("dynamoDB", &["tableName"]),
    ("dynamoDBv2", &["putItem", "tableName"]),
    ("openSearch", &["index"]),
    ("elasticsearch", &["index"]),
    ("iotSiteWise", &[]),
    ("iotAnalytics", &["channelName"]),
    ("iotEvents", &["inputName"]),
];

/// Actions that tell people something: their names, and where their target is called.
const ALERTS: [(&str, &str); 2] = [("sns", "targetArn"), ("cloudwatchAlarm", "alarmName")];

/// Actions that are refused, and what to do instead.
const WITHOUT_EQUIVALENT: [(&str, &str); 7] = [
    ("lambda", "republish the message, and have a program subscribe to that topic"),
    ("stepFunctions", "forward a stream, and start the state machine in the cloud"),
    ("salesforce", "forward a stream, and send its records on in the cloud"),
    ("http", "a [[sink]] of kind http posts the records of a stream, several at once: configure it by hand"),
    ("location", "a zone that the rule asks for"),
    ("cloudwatchLogs", "forward a stream, and read its records there"),
    ("cloudwatchMetric", "the gateway's own metrics are at /metrics; forward a stream for others"),
];

/// Names of streams that were given, and what for: two targets that are called alike are two streams, one target is one for all rules.
#[derive(Debug, Default)]
pub struct StreamNames(BTreeMap<String, (&'static str, String)>);

impl StreamNames {
    fn give(&mut self, kind: &'static str, target: &str) -> String {
        let last = target.rsplit(['/', ':']).find(|part| !part.is_empty()).unwrap_or_default();
        let mut name = String::new();
        for c in last.chars().map(|c| c.to_ascii_lowercase()) {
            match c {
                'a'..='z' | '0'..='9' | '_' => name.push(c),
                _ if name.ends_with('-') || name.is_empty() => {}
                _ => name.push('-'),
            }
        }
        name.truncate(STREAM_NAME_BYTES_MAX);
        let base = Some(name.trim_end_matches('-')).filter(|name| !name.is_empty()).unwrap_or(kind);
        let base = base.to_ascii_lowercase();
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        let mut names = [base.clone(), format!("{base}-{}", kind.to_ascii_lowercase())].into_iter().chain(numbered);
        let wanted = (kind, target.to_owned());
        let is_ours = |name: &String| {
            !OWN_STREAMS.contains(&name.as_str()) && self.0.get(name).is_none_or(|given| *given == wanted)
        };
        let name = names.find(is_ours).unwrap_or(base);
        self.0.insert(name.clone(), wanted);
        name
    }
}

/// Translates the actions of one rule.
pub struct Translator<'a> {
    pub streams: &'a mut StreamNames,
    /// Of the statement, for templates.
    pub variable_names: &'a [String],
    pub faults: Vec<RuleFault>,
}

impl Translator<'_> {
    /// The actions of a rule; what is in their way is in `faults` then.
    pub fn actions(&mut self, list: Option<&Value>) -> Actions {
        let mut actions = Actions::default();
        let Some(list) = list else { return actions };
        let Some(list) = list.as_array() else {
            self.faults.push(RuleFault::NotAList { member: "actions" });
            return actions;
        };
        for (number, action) in (1..).zip(list) {
            self.add(&mut actions, action, || format!("action {number}"));
        }
        actions
    }

    /// What is done if an action fails.
    pub fn error_action(&mut self, action: &Value) -> Actions {
        let mut actions = Actions::default();
        self.add(&mut actions, action, || "errorAction".to_owned());
        actions
    }

    fn add(&mut self, actions: &mut Actions, action: &Value, place: impl Fn() -> String) {
        if let Err(fault) = self.try_add(actions, action) {
            self.faults.push(RuleFault::Action { place: place(), fault });
        }
    }

    fn try_add(&mut self, actions: &mut Actions, action: &Value) -> Result<(), ActionFault> {
        let members = action.as_object().filter(|members| members.len() == 1).ok_or(ActionFault::Shape)?;
        let (kind, settings) = members.iter().next().ok_or(ActionFault::Shape)?;
        let is_kind = |name: &str| name.eq_ignore_ascii_case(kind);
        if is_kind("republish") {
            actions.republish.push(self.republish(settings)?);
        } else if let Some((kind, path)) = STREAMS.iter().find(|(name, _)| is_kind(name)) {
            self.stream(&mut actions.streams, kind, path, settings)?;
        } else if let Some((kind, member)) = ALERTS.iter().find(|(name, _)| is_kind(name)) {
            let target = field(settings, member).and_then(intrinsic::name).unwrap_or_default();
            let comment = format!(
                "{kind} {target:?}: whoever is to know subscribes to alerts/#, or a [[sink]] tells them; add device = \"...\" \
                 unless a route says the device"
            );
            actions.alert.get_or_insert_default().comments.push(comment);
        } else if let Some((name, instead)) = WITHOUT_EQUIVALENT.iter().find(|(name, _)| is_kind(name)) {
            return Err(ActionFault::NoEquivalent { kind: (*name).to_owned(), instead });
        } else if kind.starts_with("Fn::") || kind == "Ref" {
            return Err(ActionFault::Conditional { function: kind.chars().take(64).collect() });
        } else {
            return Err(ActionFault::Unknown { kind: kind.chars().take(64).collect() });
        }
        Ok(())
    }

    fn republish(&self, settings: &Value) -> Result<Republish, ActionFault> {
        let missing = |member| ActionFault::Missing { kind: "republish", member };
        let written = field(settings, "topic").and_then(intrinsic::plain).ok_or(missing("topic"))?;
        // There, a topic that is reserved begins with two of them. The second one may also begin an expression.
        let reserved = written.strip_prefix("$$").filter(|rest| !rest.starts_with('{'));
        let topic = reserved.map(|rest| format!("${rest}")).unwrap_or(written);
        let template = Template::parse(&topic, self.variable_names, Vocabulary::default());
        let template = template.map_err(|error| ActionFault::Topic(format!("{error}")))?;
        if let Some(literal) = template.literal() {
            topic::check_topic(literal).map_err(|error| ActionFault::Topic(error.reason().to_owned()))?;
        }
        let qos = match field(settings, "qos") {
            None => 0,
            Some(qos) => match intrinsic::plain(qos).ok_or(missing("qos"))?.as_str() {
                "0" => 0,
                "1" => 1,
                _ => return Err(ActionFault::Qos),
            },
        };
        let comments = left_out(settings, &["topic", "qos"]).map(|names| format!("republish: without {names}"));
        Ok(Republish { topic, qos, comments: comments.into_iter().collect() })
    }

    fn stream(
        &mut self,
        streams: &mut Vec<Stream>,
        kind: &'static str,
        path: &'static [&'static str],
        settings: &Value,
    ) -> Result<(), ActionFault> {
        let found = path.iter().try_fold(settings, |value, member| field(value, member));
        let target = match path.last() {
            Some(member) => found.and_then(intrinsic::name).ok_or(ActionFault::Missing { kind, member })?,
            None => kind.to_owned(),
        };
        let name = self.streams.give(kind, &target);
        let mut comment = format!("{kind} {target:?}: add [[stream]] name = \"{name}\" and a [[sink]] that takes it");
        let named = path.first().copied().unwrap_or_default();
        if let Some(names) = left_out(settings, &[named]) {
            comment += &format!("; its settings are left out: {names}");
        }
        match streams.iter_mut().find(|stream| stream.name == name) {
            Some(stream) => stream.comments.push(comment),
            None => streams.push(Stream { name, comments: vec![comment] }),
        }
        Ok(())
    }
}

/// Names of the members that are not taken over, but for the rights in the cloud.
fn left_out(settings: &Value, taken: &[&str]) -> Option<String> {
    let is_taken = |name: &str| taken.iter().chain(&["roleArn"]).any(|taken| taken.eq_ignore_ascii_case(name));
    let names = settings.as_object()?.iter().filter(|(name, value)| !is_taken(name) && !value.is_null());
    let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}
