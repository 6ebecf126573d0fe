//! What operators make of values.

use crate::rules::context::Budget;
use crate::rules::functions::Answer;
use crate::rules::number::{Number, Rounding};
use crate::rules::problem::EvaluationError;
use crate::rules::syntax::{Arithmetic, Comparison, Type};
use crate::rules::value::{TEXT_BYTES_MAX, Value};

/// Sum, difference, product, quotient or remainder; with a text on a side, `+` joins texts.
pub(super) fn arithmetic<'v>(
    operator: Arithmetic,
    left: &Value<'v>,
    right: &Value<'v>,
    budget: &mut Budget,
) -> Answer<'v> {
    let has_text = matches!(left, Value::Text(_)) || matches!(right, Value::Text(_));
    if operator == Arithmetic::Plus && has_text {
        return joined(left, right, budget);
    }
    let (Some(a), Some(b)) = (left.to_number(), right.to_number()) else { return Ok(Value::Undefined) };
    let result = match operator {
        Arithmetic::Plus => a.plus(b),
        Arithmetic::Minus => a.minus(b),
        Arithmetic::Times => a.times(b),
        // A text that is a number counts as a Decimal, also if it is whole.
        Arithmetic::Divide if a.is_int() && b.is_int() && !has_text => a.divided_as_int(b),
        Arithmetic::Divide => a.divided_by(b),
        Arithmetic::Remainder => a.remainder(b),
    };
    Ok(result.into())
}

fn joined<'v>(left: &Value<'v>, right: &Value<'v>, budget: &mut Budget) -> Answer<'v> {
    let (Some(left), Some(right)) = (left.to_text()?, right.to_text()?) else { return Ok(Value::Undefined) };
    budget.take_bytes(left.len() + right.len())?;
    if left.len() + right.len() > TEXT_BYTES_MAX {
        return Err(EvaluationError::TooLarge { max: TEXT_BYTES_MAX });
    }
    Ok((left.into_owned() + &right).into())
}

/// The order of two numbers; texts that are numbers count as such, and nothing else has an order.
pub(super) fn compare(comparison: Comparison, left: &Value<'_>, right: &Value<'_>) -> Option<bool> {
    let order = left.to_number()?.cmp(&right.to_number()?);
    Some(match comparison {
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
        Comparison::Equal => order.is_eq(),
        Comparison::Unequal => order.is_ne(),
    })
}

/// Whether two values are the same. Values of different types are not; with Undefined on a side it is Undefined.
pub(super) fn equal(left: &Value<'_>, right: &Value<'_>, budget: &mut Budget) -> Result<Option<bool>, EvaluationError> {
    budget.take(1)?;
    Ok(Some(match (left, right) {
        (Value::Undefined, _) | (_, Value::Undefined) => return Ok(None),
        (Value::Null, Value::Null) => true,
        (Value::Boolean(a), Value::Boolean(b)) => a == b,
        (Value::Number(a), Value::Number(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => {
            budget.take_bytes(a.len())?;
            a == b
        }
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (a, b) if a.is_array() && b.is_array() => a.count() == b.count() && are_elements_equal(a, b, budget)?,
        (a, b) if a.is_object() && b.is_object() => a.count() == b.count() && are_members_equal(a, b, budget)?,
        _ => false,
    }))
}

fn are_elements_equal(left: &Value<'_>, right: &Value<'_>, budget: &mut Budget) -> Result<bool, EvaluationError> {
    for (a, b) in left.elements().zip(right.elements()) {
        if equal(&a, &b, budget)? != Some(true) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn are_members_equal(left: &Value<'_>, right: &Value<'_>, budget: &mut Budget) -> Result<bool, EvaluationError> {
    for (name, a) in left.members() {
        budget.take_names(right.count())?;
        if equal(&a, &right.member(&name), budget)? != Some(true) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A conversion that is asked for: the usual one, and between numbers and Booleans. Null becomes Undefined.
pub(super) fn cast<'v>(value: &Value<'v>, to: Type) -> Answer<'v> {
    let number = || match value {
        Value::Boolean(is_true) => Some(Number::from(i64::from(*is_true))),
        other => other.to_number(),
    };
    Ok(match to {
        Type::Text => value.to_text()?.into(),
        Type::Decimal => number().into(),
        Type::Int => number().map(|number| number.to_whole(Rounding::Floor)).into(),
        Type::Boolean => match value {
            Value::Number(number) => Value::Boolean(!number.is_zero()),
            other => other.to_boolean().into(),
        },
    })
}
