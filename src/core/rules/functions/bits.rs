//! Functions of the bits of Ints. A Decimal is rounded down.

use super::{Answer, Frame, Function, argument, constant};
use crate::rules::number::{Number, Rounding};
use crate::rules::value::Value;

pub(super) static FUNCTIONS: [Function; 4] = [
    constant("bitand", 2, 2, |_, arguments| of_two(arguments, |a, b| a & b)),
    constant("bitor", 2, 2, |_, arguments| of_two(arguments, |a, b| a | b)),
    constant("bitxor", 2, 2, |_, arguments| of_two(arguments, |a, b| a ^ b)),
    constant("bitnot", 1, 1, bitnot),
];

fn int(value: &Value<'_>) -> Option<i128> {
    value.to_number()?.to_whole(Rounding::Floor).as_int()
}

fn of_two<'v>(arguments: &[Value<'v>], function: fn(i128, i128) -> i128) -> Answer<'v> {
    let both = int(argument(arguments, 0)).zip(int(argument(arguments, 1)));
    Ok(both.and_then(|(a, b)| Number::from_int(function(a, b))).into())
}

/// Inverts the bits that the number has, so that 13 (1101) gives 2 (0010), as in the reference's example; of a number below 0 those of its
/// two's complement. What is no number is passed on.
fn bitnot<'v>(_: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let value = argument(arguments, 0);
    if !matches!(value, Value::Number(_) | Value::Text(_)) {
        return Ok(value.clone());
    }
    let inverted = int(value).map(|int| match int {
        ..0 => !int,
        0 => 1,
        _ => int ^ (i128::MAX >> (int.leading_zeros() - 1)),
    });
    Ok(inverted.and_then(Number::from_int).into())
}
