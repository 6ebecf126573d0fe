//! Functions of CloudFormation, as far as their value stands in the template.

use serde_json::Value;

/// The text that a value stands for; `None` if it depends on parameters or resources, or is no text.
pub fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is_true) => Some(is_true.to_string()),
        _ => match function(value)? {
            ("Fn::Sub", Value::String(text)) => substituted(text, None),
            ("Fn::Sub", Value::Array(arguments)) => match arguments.as_slice() {
                [Value::String(text), names] => substituted(text, Some(names)),
                _ => None,
            },
            ("Fn::Join", Value::Array(arguments)) => match arguments.as_slice() {
                [Value::String(separator), Value::Array(parts)] => {
                    let parts: Option<Vec<String>> = parts.iter().map(plain).collect();
                    parts.map(|parts| parts.join(separator))
                }
                _ => None,
            },
            _ => None,
        },
    }
}

/// What a target is called by: its text, or the resource that is referred to.
pub fn name(value: &Value) -> Option<String> {
    if let Some(text) = plain(value) {
        return Some(text);
    }
    match function(value)? {
        ("Ref", Value::String(id)) | ("Fn::Sub", Value::String(id)) => Some(id.clone()),
        ("Fn::GetAtt" | "Fn::Sub", Value::Array(arguments)) => arguments.first()?.as_str().map(str::to_owned),
        ("Fn::GetAtt", Value::String(path)) => path.split('.').next().map(str::to_owned),
        ("Fn::Join", Value::Array(arguments)) => {
            let parts: Vec<String> = arguments.get(1)?.as_array()?.iter().filter_map(name).collect();
            Some(parts.join(arguments.first()?.as_str()?))
        }
        _ => None,
    }
}

/// The only member of an object.
fn function(value: &Value) -> Option<(&str, &Value)> {
    let members = value.as_object().filter(|members| members.len() == 1)?;
    members.iter().next().map(|(name, argument)| (name.as_str(), argument))
}

/// The text with its variables filled in. `${!x}` stands for a literal `${x}`, which is how templates of rules are written.
fn substituted(text: &str, names: Option<&Value>) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        out.push_str(before);
        if let Some(literal) = behind.strip_prefix('!') {
            out.push_str("${");
            rest = literal;
            continue;
        }
        let (variable, behind) = behind.split_once('}')?;
        out.push_str(&plain(names?.get(variable.trim())?)?);
        rest = behind;
    }
    out.push_str(rest);
    Some(out)
}
