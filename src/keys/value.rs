//! A value as written in the file or in a variable, not yet checked.

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    List(Vec<Value>),
    /// From a variable or an argument: text that its key may interpret as a number.
    Variable(String),
    /// Names and texts.
    Table(Vec<(String, String)>),
    /// Names and values of any kind.
    Tree(Vec<(String, Value)>),
    /// A kind that no key allows, such as a date.
    Other,
}

impl Value {
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) | Value::Variable(text) => Some(text),
            _ => None,
        }
    }

    pub fn integer(&self) -> Option<i128> {
        match self {
            Value::Integer(number) => Some(*number),
            Value::Variable(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    pub fn boolean(&self) -> Option<bool> {
        match self {
            Value::Boolean(boolean) => Some(*boolean),
            Value::Variable(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// Names and texts; in a variable, written as JSON.
    pub fn table(&self) -> Option<Vec<(String, String)>> {
        match self {
            Value::Table(entries) => Some(entries.clone()),
            Value::Variable(text) => {
                let entries: std::collections::BTreeMap<String, String> = serde_json::from_str(text).ok()?;
                Some(entries.into_iter().collect())
            }
            _ => None,
        }
    }

    /// Names and values.
    pub fn tree(&self) -> Option<Vec<(&str, Value)>> {
        match self {
            Value::Tree(entries) => Some(entries.iter().map(|(name, value)| (name.as_str(), value.clone())).collect()),
            Value::Table(entries) => {
                Some(entries.iter().map(|(name, text)| (name.as_str(), Value::Text(text.clone()))).collect())
            }
            _ => None,
        }
    }

    /// One text or a list of them; in a variable, separated by commas.
    pub fn texts(&self) -> Option<Vec<&str>> {
        match self {
            Value::Text(text) => Some(vec![text]),
            Value::Variable(text) => Some(text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()),
            Value::List(items) => items.iter().map(Value::text).collect(),
            _ => None,
        }
    }

    /// One number or a list of them; in a variable, separated by commas.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        match self {
            Value::Integer(number) => Some(vec![*number as f64]),
            Value::Float(number) => Some(vec![*number]),
            Value::Variable(text) => text.split(',').map(|part| part.trim().parse().ok()).collect(),
            Value::List(items) => items
                .iter()
                .map(|item| match item {
                    Value::Integer(number) => Some(*number as f64),
                    Value::Float(number) => Some(*number),
                    _ => None,
                })
                .collect(),
            Value::Text(_) | Value::Boolean(_) | Value::Table(_) | Value::Tree(_) | Value::Other => None,
        }
    }
}
