//! Functions of texts. Other values become texts first; null and Undefined give Undefined.

use std::borrow::Cow;

use super::{Answer, Frame, Function, argument, constant};
use crate::rules::number::Number;
use crate::rules::problem::EvaluationError;
use crate::rules::value::{TEXT_BYTES_MAX, Value};

/// Blanks that `lpad` and `rpad` add at most.
const PAD_MAX: i64 = 1000;

pub(super) static FUNCTIONS: [Function; 15] = [
    constant("lower", 1, 1, |frame, arguments| changed(frame, arguments, |text| text.to_lowercase().into())),
    constant("upper", 1, 1, |frame, arguments| changed(frame, arguments, |text| text.to_uppercase().into())),
    constant("trim", 1, 1, |frame, arguments| changed(frame, arguments, |text| text.trim().into())),
    constant("ltrim", 1, 1, |frame, arguments| changed(frame, arguments, |text| text.trim_start().into())),
    constant("rtrim", 1, 1, |frame, arguments| changed(frame, arguments, |text| text.trim_end().into())),
    constant("length", 1, 1, |frame, arguments| measured(frame, arguments, |text| text.chars().count())),
    constant("numbytes", 1, 1, |frame, arguments| measured(frame, arguments, str::len)),
    constant("replace", 3, 3, replace),
    constant("indexof", 2, 2, indexof),
    constant("startswith", 2, 2, |frame, arguments| tested(frame, arguments, |text, part| text.starts_with(part))),
    constant("endswith", 2, 2, |frame, arguments| tested(frame, arguments, |text, part| text.ends_with(part))),
    constant("substring", 2, 3, substring),
    constant("lpad", 2, 2, |frame, arguments| padded(frame, arguments, true)),
    constant("rpad", 2, 2, |frame, arguments| padded(frame, arguments, false)),
    constant("chr", 1, 1, chr),
];

/// The argument as a text, and the steps for it taken.
pub(super) fn text<'v>(
    frame: &mut Frame<'_, 'v>,
    arguments: &[Value<'v>],
    index: usize,
) -> Result<Option<Cow<'v, str>>, EvaluationError> {
    let text = argument(arguments, index).to_text()?;
    frame.budget.take_bytes(text.as_ref().map_or(0, |text| text.len()))?;
    Ok(text)
}

/// A text that a function made, if it is not too long.
pub(super) fn bounded<'v>(text: String) -> Answer<'v> {
    if text.len() > TEXT_BYTES_MAX { Err(EvaluationError::TooLarge { max: TEXT_BYTES_MAX }) } else { Ok(text.into()) }
}

fn changed<'v>(
    frame: &mut Frame<'_, 'v>,
    arguments: &[Value<'v>],
    change: for<'a> fn(&'a str) -> Cow<'a, str>,
) -> Answer<'v> {
    match text(frame, arguments, 0)? {
        None => Ok(Value::Undefined),
        Some(Cow::Borrowed(text)) => Ok(Value::Text(change(text))),
        Some(Cow::Owned(text)) => bounded(change(&text).into_owned()),
    }
}

fn measured<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>], measure: fn(&str) -> usize) -> Answer<'v> {
    let text = text(frame, arguments, 0)?;
    Ok(text.map(|text| Number::from(measure(&text))).into())
}

fn tested<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>], test: fn(&str, &str) -> bool) -> Answer<'v> {
    let both = text(frame, arguments, 0)?.zip(text(frame, arguments, 1)?);
    Ok(both.map(|(text, part)| test(&text, &part)).into())
}

fn replace<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let from_and_to = text(frame, arguments, 1)?.zip(text(frame, arguments, 2)?);
    let Some((whole, (from, to))) = text(frame, arguments, 0)?.zip(from_and_to) else { return Ok(Value::Undefined) };
    // Without this the result would be as long as the product of two texts before it is looked at.
    let mut replaced = String::new();
    let mut rest_from = 0;
    for (at, _) in whole.match_indices(&*from) {
        replaced.push_str(whole.get(rest_from..at).unwrap_or_default());
        replaced.push_str(&to);
        rest_from = at + from.len();
        if replaced.len() > TEXT_BYTES_MAX {
            break;
        }
    }
    replaced.push_str(whole.get(rest_from..).unwrap_or_default());
    bounded(replaced)
}

fn indexof<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let both = text(frame, arguments, 0)?.zip(text(frame, arguments, 1)?);
    let index = both.map(|(text, part)| match text.find(&*part) {
        Some(at) => Number::from(text.get(..at).unwrap_or_default().chars().count()),
        None => Number::from(-1_i64),
    });
    Ok(index.into())
}

fn substring<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let first = argument(arguments, 1).to_int_down();
    let end = if arguments.len() < 3 { Some(i64::MAX) } else { argument(arguments, 2).to_int_down() };
    let Some((text, (first, end))) = text(frame, arguments, 0)?.zip(first.zip(end)) else {
        return Ok(Value::Undefined);
    };
    let place = |index: i64| usize::try_from(index.max(0)).unwrap_or(usize::MAX);
    let (first, end) = (place(first), place(end));
    let part = |text: &str| {
        let byte_at = |index: usize| text.char_indices().nth(index).map_or(text.len(), |(at, _)| at);
        (byte_at(first), byte_at(end))
    };
    Ok(match text {
        Cow::Borrowed(text) => {
            let (start, end) = part(text);
            Value::Text(Cow::Borrowed(text.get(start..end).unwrap_or_default()))
        }
        Cow::Owned(text) => {
            let (start, end) = part(&text);
            text.get(start..end).unwrap_or_default().to_owned().into()
        }
    })
}

fn padded<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>], is_left: bool) -> Answer<'v> {
    let count = argument(arguments, 1).to_int_down();
    let Some((text, count)) = text(frame, arguments, 0)?.zip(count) else { return Ok(Value::Undefined) };
    let blanks = " ".repeat(count.clamp(0, PAD_MAX) as usize);
    bounded(if is_left { blanks + &text } else { text.into_owned() + &blanks })
}

/// A character of ASCII.
fn chr<'v>(_: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let code = argument(arguments, 0).to_int_down().and_then(|code| u8::try_from(code).ok());
    let character = code.filter(u8::is_ascii).map(|code| Value::from(char::from(code).to_string()));
    Ok(character.unwrap_or_default())
}
