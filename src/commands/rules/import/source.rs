//! Where the rules are in a file.

use serde_json::Value;

use super::{intrinsic, yaml};

const RESOURCE_TYPE: &str = "AWS::IoT::TopicRule";

/// A rule as the file has it.
pub struct Source {
    pub name: String,
    /// With `sql`, `actions` and so on; in a template their names begin with capital letters.
    pub payload: Value,
    pub comments: Vec<String>,
}

/// Why a file has no rules that can be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("the file is no JSON: {0}")]
    Json(serde_json::Error),
    #[error("the file is no YAML that is understood: {0}")]
    Yaml(yaml::YamlError),
    #[error(
        "there is no rule in the file: what `aws iot get-topic-rule` prints is expected, or a template of CloudFormation with resources of \
         type {RESOURCE_TYPE}"
    )]
    NoRules,
    #[error("the rule has no ruleName")]
    NoName,
    #[error("resource {resource} has no Properties.TopicRulePayload")]
    NoPayload { resource: String },
    #[error("{resource} makes rules that are not in the template as it is: write them out")]
    Generated { resource: String },
}

/// The rules of a file, which is JSON if it begins with a brace, and YAML otherwise.
pub fn rules(text: &str) -> Result<Vec<Source>, SourceError> {
    let text = text.trim_start_matches('\u{feff}');
    let root = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).map_err(SourceError::Json)?,
        false => yaml::read(text).map_err(SourceError::Yaml)?,
    };
    if let Some(rule) = root.get("rule").filter(|rule| rule.is_object()) {
        let name = rule.get("ruleName").and_then(Value::as_str).ok_or(SourceError::NoName)?;
        return Ok(vec![Source { name: name.to_owned(), payload: rule.clone(), comments: Vec::new() }]);
    }
    let resources = root.get("Resources").and_then(Value::as_object).ok_or(SourceError::NoRules)?;
    let mut rules = Vec::new();
    for (id, resource) in resources {
        if id.starts_with("Fn::") && resource.to_string().contains(RESOURCE_TYPE) {
            return Err(SourceError::Generated { resource: id.clone() });
        }
        if resource.get("Type").and_then(Value::as_str) == Some(RESOURCE_TYPE) {
            rules.push(of_template(id, resource)?);
        }
    }
    if rules.is_empty() { Err(SourceError::NoRules) } else { Ok(rules) }
}

fn of_template(id: &str, resource: &Value) -> Result<Source, SourceError> {
    let payload = resource.pointer("/Properties/TopicRulePayload").filter(|payload| payload.is_object());
    let payload = payload.ok_or_else(|| SourceError::NoPayload { resource: id.to_owned() })?.clone();
    // A name that is made of parameters is not known here.
    let name = resource.pointer("/Properties/RuleName").and_then(intrinsic::plain).unwrap_or_else(|| id.to_owned());
    let condition = resource.get("Condition").and_then(Value::as_str);
    let comments = condition.map(|condition| format!("in the template only under the condition {condition}"));
    Ok(Source { name, payload, comments: comments.into_iter().collect() })
}

/// A member by its name in any case: `sql` of the API is `Sql` in a template. A member that is null is none.
pub fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let members = object.as_object()?;
    let found = members.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value).filter(|value| !value.is_null())
}
