//! Functions of arrays and objects, and of what is missing.

use std::sync::Arc;

use super::text::bounded;
use super::{Answer, Frame, Function, MANY, argument, constant};
use crate::rules::problem::EvaluationError;
use crate::rules::value::{TEXT_BYTES_MAX, Value};

/// Largest result of `transform`, in bytes of JSON.
const TRANSFORMED_BYTES_MAX: usize = 128 * 1024;

pub(super) static FUNCTIONS: [Function; 6] = [
    constant("isnull", 1, 1, |_, arguments| Ok(Value::Boolean(matches!(argument(arguments, 0), Value::Null)))),
    constant("isundefined", 1, 1, |_, arguments| Ok(Value::Boolean(argument(arguments, 0).is_undefined()))),
    constant("get", 2, 2, get),
    constant("get_or_default", 2, 2, get_or_default),
    constant("concat", 0, MANY, concat),
    constant("transform", 3, 3, transform),
];

fn get<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let (collection, key) = (argument(arguments, 0), argument(arguments, 1));
    if collection.is_object() {
        frame.budget.take_names(collection.count())?;
        return Ok(match key {
            Value::Text(name) => collection.member(name),
            _ => Value::Undefined,
        });
    }
    let Some(index) = key.to_int().and_then(|index| usize::try_from(index).ok()) else { return Ok(Value::Undefined) };
    Ok(match collection {
        Value::Text(text) => {
            frame.budget.take_bytes(text.len().min(index))?;
            text.chars().nth(index).map(|c| Value::from(c.to_string())).unwrap_or_default()
        }
        array => {
            frame.budget.take_names(array.count().min(index))?;
            array.element(index)
        }
    })
}

/// The value, or the second one where the first is Undefined or null.
fn get_or_default<'v>(_: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let value = argument(arguments, 0);
    let is_missing = matches!(value, Value::Undefined | Value::Null);
    Ok(if is_missing { argument(arguments, 1) } else { value }.clone())
}

fn concat<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    match arguments {
        [] => Ok(Value::Undefined),
        [single] => Ok(single.clone()),
        _ if arguments.iter().any(Value::is_array) => {
            let mut all = Vec::new();
            for value in arguments {
                if value.is_array() {
                    frame.budget.take(u32::try_from(value.count()).unwrap_or(u32::MAX))?;
                    all.extend(value.elements());
                } else {
                    all.push(value.clone());
                }
            }
            Ok(Value::Array(Arc::new(all)))
        }
        _ if arguments.iter().any(|value| matches!(value, Value::Text(_))) => {
            let mut joined = String::new();
            for value in arguments {
                let Some(text) = value.to_text()? else { return Ok(Value::Undefined) };
                frame.budget.take_bytes(text.len())?;
                joined.push_str(&text);
                if joined.len() > TEXT_BYTES_MAX {
                    return Err(EvaluationError::TooLarge { max: TEXT_BYTES_MAX });
                }
            }
            bounded(joined)
        }
        _ => Ok(Value::Undefined),
    }
}

/// `enrichArray`: each object of the array, with the members of another object that it does not have itself.
fn transform<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let (mode, object, array) = (argument(arguments, 0), argument(arguments, 1), argument(arguments, 2));
    let is_enriching = matches!(mode, Value::Text(mode) if mode == "enrichArray");
    if !is_enriching || !object.is_object() || !array.is_array() {
        return Ok(Value::Undefined);
    }
    let added = object.members();
    let mut enriched = Vec::new();
    for element in array.elements() {
        if !element.is_object() {
            return Ok(Value::Undefined);
        }
        let mut members = element.members();
        frame.budget.take(u32::try_from(members.len().saturating_add(added.len())).unwrap_or(u32::MAX))?;
        let own_count = members.len();
        for (name, value) in &added {
            frame.budget.take_names(own_count)?;
            if !members.iter().take(own_count).any(|(own, _)| own == name) {
                members.push((name.clone(), value.clone()));
            }
        }
        enriched.push(Value::Object(Arc::new(members)));
    }
    let enriched = Value::Array(Arc::new(enriched));
    let is_too_large = enriched.write_json(&mut Vec::new(), TRANSFORMED_BYTES_MAX).is_err();
    Ok(if is_too_large { Value::Undefined } else { enriched })
}
