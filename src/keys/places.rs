//! Keys of a route that say where things are in a payload.

use super::value::Value;
use crate::core::path::Path;
use crate::ingest::places::{Attribute, Measure};

/// Most paths of one key.
const PATHS_MAX: usize = 256;
const METRIC_KEYS: &str = "path, factor, offset";

pub fn paths(value: &Value) -> Result<Vec<Path>, String> {
    let texts = value.texts().filter(|texts| texts.len() <= PATHS_MAX);
    let texts = texts.ok_or_else(|| format!("not a list of at most {PATHS_MAX} paths"))?;
    texts.into_iter().map(path).collect()
}

pub fn measures(value: &Value) -> Result<Vec<Measure>, String> {
    let Some(entries) = value.tree() else {
        let paths = paths(value)?.into_iter();
        return Ok(paths.map(|path| Measure { path, name: None, factor: 1.0, offset: 0.0 }).collect());
    };
    if entries.len() > PATHS_MAX {
        return Err(format!("more than {PATHS_MAX} metrics"));
    }
    entries.into_iter().map(|(name, value)| measure(name, &value)).collect()
}

pub fn attributes(value: &Value) -> Result<Vec<Attribute>, String> {
    let Some(entries) = value.tree() else {
        return Ok(paths(value)?.into_iter().map(|path| Attribute { path, name: None }).collect());
    };
    if entries.len() > PATHS_MAX {
        return Err(format!("more than {PATHS_MAX} attributes"));
    }
    let attribute = |(name, value): (&str, Value)| {
        let text = value.text().ok_or_else(|| format!("`{name}` is not a path"))?;
        Ok(Attribute { path: named_path(name, text)?, name: Some(name.to_owned()) })
    };
    entries.into_iter().map(attribute).collect()
}

fn measure(name: &str, value: &Value) -> Result<Measure, String> {
    if name.is_empty() || name.len() > crate::ingest::NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err("a metric has a name of 1 to 128 bytes without control characters".to_owned());
    }
    let named = |path: Path| Measure { path, name: Some(name.to_owned()), factor: 1.0, offset: 0.0 };
    if let Some(text) = value.text() {
        return named_path(name, text).map(named);
    }
    let entries = value.tree().ok_or_else(|| format!("`{name}` is neither a path nor a table of {METRIC_KEYS}"))?;
    let mut measure = None;
    let (mut factor, mut offset) = (1.0, 0.0);
    for (key, value) in entries {
        match (key, value.text(), value.numbers().as_deref()) {
            ("path", Some(text), _) => measure = Some(named(named_path(name, text)?)),
            ("factor", _, Some(&[number])) if number.is_finite() && number != 0.0 => factor = number,
            ("offset", _, Some(&[number])) if number.is_finite() => offset = number,
            ("path" | "factor" | "offset", ..) => return Err(format!("`{name}.{key}` has no such value")),
            _ => return Err(format!("`{name}.{key}` is unknown; there are {METRIC_KEYS}")),
        }
    }
    let measure = measure.ok_or_else(|| format!("`{name}` lacks its path"))?;
    Ok(Measure { factor, offset, ..measure })
}

fn named_path(name: &str, text: &str) -> Result<Path, String> {
    path(text).map_err(|error| format!("`{name}`: {error}"))
}

fn path(text: &str) -> Result<Path, String> {
    Path::parse(text).map_err(|error| format!("{text}: {error}"))
}
