//! Topic templates such as `devices/{device}/{metric...}`: literal levels and placeholders.

use std::fmt;

use super::places::Places;
use crate::core::mqtt::topic::{self, TOPIC_BYTES_MAX};

/// How a payload is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Decided by the first byte: what can begin a JSON text is JSON. Bare numbers that could be either wait for what their topic sends.
    Auto,
    Json,
    Cbor,
    /// A bare number, perhaps with its unit.
    Number,
    Csv,
    SenmlJson,
    SenmlCbor,
    /// The line protocol of InfluxDB.
    Influx,
    /// Sparkplug B.
    Sparkplug,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Literal(String),
    Device,
    Metric,
    /// All remaining levels, joined with dots.
    MetricRest,
    /// Becomes an attribute of this name.
    Attribute(String),
}

/// One route: the topics that it takes, and how they are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    levels: Vec<Level>,
    pub format: Format,
    device: Option<String>,
    metric: Option<String>,
    /// `None` if the payload is read as on the built-in routes.
    pub places: Option<Box<Places>>,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("a template is empty; write for example devices/{{device}}/{{metric...}}")]
    Empty,
    /// No topic that is accepted is this long.
    #[error("a template is longer than {TOPIC_BYTES_MAX} bytes")]
    TooLong,
    #[error("a template holds a control character")]
    ControlCharacter,
    #[error("a template takes no + and no #; a level that varies is written {{name}}")]
    Wildcard,
    /// Clients may not publish there.
    #[error("topics that start with $ are never taken from a client")]
    Dollar,
    #[error("topics below alerts/ and outrider/ belong to the gateway")]
    Reserved,
    #[error("the level `{level}` is neither plain text nor one placeholder {{name}}")]
    Unclosed { level: String },
    #[error("{{metric...}} takes all that remains, so it has to be the last level")]
    RestNotLast,
    #[error("{{{placeholder}}} appears twice")]
    Repeated { placeholder: String },
    #[error("{{metric}} and {{metric...}} exclude each other")]
    TwoMetrics,
    #[error("no level is {{device}}; give the route a fixed `device` instead")]
    NoDevice,
}

/// What was found in a topic.
#[derive(Debug, PartialEq, Eq)]
pub struct Matched<'a> {
    pub device: &'a str,
    /// Levels of the metric, still joined with slashes.
    pub metric: Option<&'a str>,
    pub attributes: Vec<(&'a str, &'a str)>,
}

impl Route {
    /// `device` and `metric` are used if the template has no such level.
    pub fn parse(
        template: &str,
        format: Format,
        device: Option<String>,
        metric: Option<String>,
    ) -> Result<Route, TemplateError> {
        check_as_topic(template)?;
        let mut levels = Vec::new();
        for text in template.split('/') {
            let level = parse_level(text)?;
            if !matches!(level, Level::Literal(_)) && levels.contains(&level) {
                return Err(TemplateError::Repeated { placeholder: text.trim_matches(['{', '}']).to_owned() });
            }
            if levels.contains(&Level::MetricRest) {
                return Err(TemplateError::RestNotLast);
            }
            levels.push(level);
        }
        if levels.contains(&Level::Metric) && levels.contains(&Level::MetricRest) {
            return Err(TemplateError::TwoMetrics);
        }
        if device.is_none() && !levels.contains(&Level::Device) {
            return Err(TemplateError::NoDevice);
        }
        Ok(Route { levels, format, device, metric, places: None })
    }

    /// The same route, for payloads in which things are in these places.
    pub fn with_places(self, places: Places) -> Route {
        Route { places: Some(Box::new(places)), ..self }
    }

    /// Whether a level of the topic has this name, as `{level}` in texts uses it.
    pub fn has_level(&self, name: &str) -> bool {
        self.levels.iter().any(|level| match level {
            Level::Literal(_) => false,
            Level::Device => name == "device",
            Level::Metric | Level::MetricRest => name == "metric",
            Level::Attribute(known) => known == name,
        })
    }

    /// Whether the topic itself says which device it is.
    pub fn names_device(&self) -> bool {
        self.levels.contains(&Level::Device)
    }

    /// Whether the topic itself says which metric it is.
    pub fn names_metric(&self) -> bool {
        self.levels.iter().any(|level| matches!(level, Level::Metric | Level::MetricRest))
    }

    /// Whether some topic is taken by this route and matches the filter, too.
    pub fn may_meet(&self, filter: &str) -> bool {
        let mut rest = Some(filter);
        for level in &self.levels {
            let Some(text) = rest else { return false };
            let (wanted, after) = topic::split_level(text);
            match (wanted, level) {
                ("#", _) => return true,
                (_, Level::MetricRest) => return true,
                ("+", _) => {}
                (text, Level::Literal(literal)) if literal != text => return false,
                _ => {}
            }
            rest = after;
        }
        rest.is_none_or(|rest| rest == "#")
    }

    /// What the levels of a topic are; `None` if it is not of this route.
    pub fn matches<'a>(&'a self, topic: &'a str) -> Option<Matched<'a>> {
        let mut matched = Matched {
            device: self.device.as_deref().unwrap_or_default(),
            metric: self.metric.as_deref(),
            attributes: Vec::new(),
        };
        let mut rest = Some(topic);
        for level in &self.levels {
            let whole = rest?;
            let text;
            (text, rest) = topic::split_level(whole);
            match level {
                Level::Literal(literal) if literal == text => {}
                Level::Literal(_) => return None,
                _ if text.is_empty() || is_mark(text) => return None,
                Level::Device => matched.device = text,
                Level::Metric => matched.metric = Some(text),
                Level::MetricRest => {
                    if topic::levels(whole).any(|level| level.is_empty() || is_mark(level)) {
                        return None;
                    }
                    matched.metric = Some(whole);
                    rest = None;
                }
                Level::Attribute(name) => matched.attributes.push((name, text)),
            }
        }
        rest.is_none().then_some(matched)
    }
}

/// Prints the template.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, level) in self.levels.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "/" })?;
            match level {
                Level::Literal(text) => f.write_str(text)?,
                Level::Device => f.write_str("{device}")?,
                Level::Metric => f.write_str("{metric}")?,
                Level::MetricRest => f.write_str("{metric...}")?,
                Level::Attribute(name) => write!(f, "{{{name}}}")?,
            }
        }
        Ok(())
    }
}

/// Checks that a client could publish to such a topic, whatever its placeholders stand for.
fn check_as_topic(template: &str) -> Result<(), TemplateError> {
    if template.is_empty() {
        return Err(TemplateError::Empty);
    }
    if template.len() > TOPIC_BYTES_MAX {
        return Err(TemplateError::TooLong);
    }
    if template.chars().any(char::is_control) {
        return Err(TemplateError::ControlCharacter);
    }
    if template.contains(['+', '#']) {
        return Err(TemplateError::Wildcard);
    }
    if template.starts_with('$') {
        return Err(TemplateError::Dollar);
    }
    if topic::is_reserved(template) {
        return Err(TemplateError::Reserved);
    }
    Ok(())
}

/// Whether a template can hold this level of a topic literally.
pub(super) fn is_literal(level: &str) -> bool {
    !level.contains(['{', '}']) && !level.chars().any(char::is_control)
}

/// Whether a level is taken only where a template has it: with a `$` at the beginning, conventions mark what describes a device and is no
/// reading.
fn is_mark(level: &str) -> bool {
    level.starts_with('$') && is_literal(level)
}

fn parse_level(text: &str) -> Result<Level, TemplateError> {
    let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return if text.contains(['{', '}']) {
            Err(TemplateError::Unclosed { level: text.to_owned() })
        } else {
            Ok(Level::Literal(text.to_owned()))
        };
    };
    match name {
        "device" => Ok(Level::Device),
        "metric" => Ok(Level::Metric),
        "metric..." => Ok(Level::MetricRest),
        name if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
            Ok(Level::Attribute(name.to_owned()))
        }
        _ => Err(TemplateError::Unclosed { level: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(template: &str) -> Result<Route, TemplateError> {
        Route::parse(template, Format::Auto, None, None)
    }

    #[test]
    fn placeholders_take_levels() {
        let route = parse("sites/{site}/{device}/{metric...}").expect("a template");
        let matched = route.matches("sites/berlin/pump/a/b").expect("a match");
        assert_eq!((matched.device, matched.metric), ("pump", Some("a/b")));
        assert_eq!(route.to_string(), "sites/{site}/{device}/{metric...}");
        assert_eq!(matched.attributes, [("site", "berlin")]);
        assert_eq!(route.matches("sites/berlin/pump"), None);
        let fixed = Route::parse("hall/temp", Format::Json, Some("hall".into()), Some("t".into())).expect("a template");
        let matched = fixed.matches("hall/temp").expect("a match");
        assert_eq!((matched.device, matched.metric), ("hall", Some("t")));
        assert_eq!(fixed.matches("hall/temp/x"), None);
        let rooted = parse("/plant/{device}/").expect("a template with empty levels");
        assert_eq!(rooted.matches("/plant/pump/").map(|matched| matched.device), Some("pump"));
        assert_eq!((rooted.matches("plant/pump/"), rooted.matches("/plant/pump")), (None, None));
        assert_eq!(rooted.matches("/plant//"), None, "no device has an empty name");
        assert_eq!(rooted.matches("/plant/$stats/"), None);
        assert_eq!(route.matches("sites/berlin/pump/a/$name"), None);
        assert!(parse("plant/{device}/$stats/{metric}").expect("a template").matches("plant/a/$stats/up").is_some());
    }

    #[test]
    fn templates_are_checked() {
        assert_eq!(parse(""), Err(TemplateError::Empty));
        assert_eq!(parse("a/+/{device}"), Err(TemplateError::Wildcard));
        assert_eq!(parse("a/x{device}"), Err(TemplateError::Unclosed { level: "x{device}".into() }));
        assert_eq!(parse("{device}/{metric...}/x"), Err(TemplateError::RestNotLast));
        assert_eq!(parse("{device}/{device}"), Err(TemplateError::Repeated { placeholder: "device".into() }));
        assert_eq!(parse("a/b"), Err(TemplateError::NoDevice));
        assert_eq!(parse("alerts/{device}"), Err(TemplateError::Reserved));
        assert_eq!(parse("$SYS/{device}"), Err(TemplateError::Dollar));
        assert_eq!(parse("{device}/{metric}/{metric...}"), Err(TemplateError::TwoMetrics));
        assert_eq!(parse("{device}\n"), Err(TemplateError::ControlCharacter));
        assert_eq!(parse(&"x/".repeat(600)), Err(TemplateError::TooLong));
    }
}
