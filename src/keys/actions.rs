//! What a `[[rule]]` does: `alert`, `republish`, `stream`, `webhook`, `readings`, `downsample`, and what is done about its errors. Each is a table, or
//! a list of tables.

use super::units::parse_duration;
use super::value::Value;
use crate::core::detection::severity::Severity;
use crate::core::rulebook::{ActionDefinition, Keep};

/// One kind of action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    Alert,
    Republish,
    Stream,
    /// A stream that is posted by HTTP.
    Webhook,
    Readings,
    Downsample,
    /// Those of errors.
    Error,
}

/// Shortest and longest span that readings are sampled down to, in milliseconds.
const SPAN_MS: std::ops::RangeInclusive<i64> = 100..=86_400_000;

impl ActionKind {
    /// What may be written.
    pub fn description(self) -> &'static str {
        match self {
            ActionKind::Alert => {
                "\"warning\", \"minor\", \"major\" or \"critical\", or a table of severity, message and device"
            }
            ActionKind::Republish => "a table of topic, payload, qos (0 or 1) and retain, or a list of them",
            ActionKind::Stream | ActionKind::Webhook => "the name of a [[stream]], a table of name, or a list of them",
            ActionKind::Readings => "a table of device, metric and value, or a list of them",
            ActionKind::Downsample => {
                "a table of every (a duration, \"100ms\" to \"1d\") and keep (a list of last, mean, min and max)"
            }
            ActionKind::Error => "a table of republish and stream",
        }
    }

    fn keys(self) -> &'static [&'static str] {
        match self {
            ActionKind::Alert => &["severity", "message", "device"],
            ActionKind::Republish => &["topic", "payload", "qos", "retain"],
            ActionKind::Stream | ActionKind::Webhook => &["name"],
            ActionKind::Readings => &["device", "metric", "value"],
            ActionKind::Downsample => &["every", "keep"],
            ActionKind::Error => &["republish", "stream"],
        }
    }
}

/// Reads the actions of one kind.
pub fn actions(kind: ActionKind, value: &Value) -> Result<Vec<ActionDefinition>, String> {
    match value {
        Value::List(items) => items.iter().map(|item| action(kind, item)).collect(),
        one if kind == ActionKind::Error => errors(one),
        one => action(kind, one).map(|action| vec![action]),
    }
}

fn errors(value: &Value) -> Result<Vec<ActionDefinition>, String> {
    let table = Fields::read(ActionKind::Error, value)?;
    let mut found = Vec::new();
    for (name, kind) in [("republish", ActionKind::Republish), ("stream", ActionKind::Stream)] {
        if let Some(value) = table.get(name) {
            found.extend(actions(kind, value).map_err(|message| format!("{name}: {message}"))?);
        }
    }
    Ok(found)
}

fn action(kind: ActionKind, value: &Value) -> Result<ActionDefinition, String> {
    match (kind, value) {
        (ActionKind::Alert, Value::Text(word) | Value::Variable(word)) => {
            Ok(ActionDefinition::Alert { severity: severity(word)?, message: None, device: None })
        }
        (ActionKind::Stream | ActionKind::Webhook, Value::Text(name) | Value::Variable(name)) => {
            Ok(ActionDefinition::Record { stream: name.clone() })
        }
        _ => of_table(kind, &Fields::read(kind, value)?),
    }
}

fn of_table(kind: ActionKind, table: &Fields) -> Result<ActionDefinition, String> {
    Ok(match kind {
        ActionKind::Alert => ActionDefinition::Alert {
            severity: severity(&table.required("severity", "\"major\"")?)?,
            message: table.text("message")?,
            device: table.text("device")?,
        },
        ActionKind::Republish => ActionDefinition::Republish {
            topic: table.required("topic", "\"hot/${device()}\"")?,
            payload: table.text("payload")?,
            qos: match table.get("qos").map(Value::integer) {
                None => 0,
                Some(Some(0)) => 0,
                Some(Some(1)) => 1,
                Some(_) => return Err("`qos` is 0 or 1".to_owned()),
            },
            retain: match table.get("retain").map(Value::boolean) {
                None => false,
                Some(Some(retain)) => retain,
                Some(None) => return Err("`retain` is true or false, without quotes".to_owned()),
            },
        },
        ActionKind::Stream | ActionKind::Webhook => {
            ActionDefinition::Record { stream: table.required("name", "\"trips\"")? }
        }
        ActionKind::Readings => ActionDefinition::Readings {
            device: table.text("device")?,
            metric: table.text("metric")?,
            value: table.text("value")?,
        },
        ActionKind::Downsample => ActionDefinition::Downsample {
            every_ms: every_ms(&table.required("every", "\"60s\"")?)?,
            keep: match table.get("keep") {
                Some(value) => keep(value)?,
                None => vec![Keep::Last],
            },
        },
        ActionKind::Error => return Err(format!("must be {}", kind.description())),
    })
}

fn severity(word: &str) -> Result<Severity, String> {
    let known = Severity::ALL.into_iter().find(|severity| severity.name() == word);
    known.ok_or_else(|| {
        format!("`{}` is no severity; there are warning, minor, major and critical", word.escape_debug())
    })
}

fn every_ms(text: &str) -> Result<i64, String> {
    let span_ms = parse_duration(text).and_then(|span| i64::try_from(span.as_millis()).ok());
    span_ms
        .filter(|span_ms| SPAN_MS.contains(span_ms))
        .ok_or_else(|| "`every` is a duration, \"100ms\" to \"1d\"".to_owned())
}

fn keep(value: &Value) -> Result<Vec<Keep>, String> {
    const KNOWN: &str = "`keep` is a list of last, mean, min and max, each once";
    let words = value.texts().filter(|words| !words.is_empty()).ok_or(KNOWN)?;
    let mut found = Vec::new();
    for word in words {
        let (_, keep) = Keep::ALL.into_iter().find(|(known, _)| *known == word).ok_or(KNOWN)?;
        if found.contains(&keep) {
            return Err(KNOWN.to_owned());
        }
        found.push(keep);
    }
    Ok(found)
}

/// A table with known names only.
struct Fields(Vec<(String, Value)>);

impl Fields {
    fn read(kind: ActionKind, value: &Value) -> Result<Fields, String> {
        let entries = value.tree().ok_or_else(|| format!("must be {}", kind.description()))?;
        match entries.iter().find(|(name, _)| !kind.keys().contains(name)) {
            Some((name, _)) => {
                Err(format!("`{}` is unknown; there are {}", name.escape_debug(), kind.keys().join(", ")))
            }
            None => Ok(Fields(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        match self.get(name).map(|value| value.text().map(str::to_owned)) {
            Some(None) => Err(format!("`{name}` is a text, in quotes")),
            Some(text) => Ok(text),
            None => Ok(None),
        }
    }

    fn required(&self, name: &str, example: &str) -> Result<String, String> {
        self.text(name)?.ok_or_else(|| format!("`{name}` is missing; for example {name} = {example}"))
    }
}
