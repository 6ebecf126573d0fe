//! Functions of numbers. Those of the school's mathematics are calculated with doubles, as the reference says.

use super::{Answer, Frame, Function, argument, constant, varying};
use crate::rules::number::{Number, Rounding};
use crate::rules::value::Value;

/// Places behind the point that `trunc` knows.
const PLACES_MAX: i64 = 34;

pub(super) static FUNCTIONS: [Function; 25] = [
    constant("abs", 1, 1, |_, arguments| exact(arguments, |number| Some(number.abs()))),
    constant("ceil", 1, 1, |_, arguments| exact(arguments, |number| Some(number.to_whole(Rounding::Ceil)))),
    constant("floor", 1, 1, |_, arguments| exact(arguments, |number| Some(number.to_whole(Rounding::Floor)))),
    constant("round", 1, 1, |_, arguments| exact(arguments, |number| Some(number.to_whole(Rounding::Nearest)))),
    constant("sign", 1, 1, |_, arguments| exact(arguments, |number| Some(number.sign()))),
    constant("trunc", 2, 2, trunc),
    constant("mod", 2, 2, remainder),
    constant("remainder", 2, 2, remainder),
    constant("nanvl", 2, 2, nanvl),
    constant("acos", 1, 1, |_, arguments| double(arguments, f64::acos)),
    constant("asin", 1, 1, |_, arguments| double(arguments, f64::asin)),
    constant("atan", 1, 1, |_, arguments| double(arguments, f64::atan)),
    constant("cos", 1, 1, |_, arguments| double(arguments, f64::cos)),
    constant("cosh", 1, 1, |_, arguments| double(arguments, f64::cosh)),
    constant("exp", 1, 1, |_, arguments| double(arguments, f64::exp)),
    constant("ln", 1, 1, |_, arguments| double(arguments, f64::ln)),
    constant("log", 1, 1, |_, arguments| double(arguments, f64::log10)),
    constant("sin", 1, 1, |_, arguments| double(arguments, f64::sin)),
    constant("sinh", 1, 1, |_, arguments| double(arguments, f64::sinh)),
    constant("sqrt", 1, 1, |_, arguments| double(arguments, f64::sqrt)),
    constant("tan", 1, 1, |_, arguments| double(arguments, f64::tan)),
    constant("tanh", 1, 1, |_, arguments| double(arguments, f64::tanh)),
    constant("atan2", 2, 2, |_, arguments| double_of_two(arguments, f64::atan2)),
    constant("power", 2, 2, |_, arguments| double_of_two(arguments, f64::powf)),
    varying("rand", 0, 0, random),
];

fn exact<'v>(arguments: &[Value<'v>], function: fn(Number) -> Option<Number>) -> Answer<'v> {
    Ok(argument(arguments, 0).to_number().and_then(function).into())
}

fn double<'v>(arguments: &[Value<'v>], function: fn(f64) -> f64) -> Answer<'v> {
    let number = argument(arguments, 0).to_number();
    Ok(number.and_then(|number| Number::from_double(function(number.to_double()))).into())
}

fn double_of_two<'v>(arguments: &[Value<'v>], function: fn(f64, f64) -> f64) -> Answer<'v> {
    let (first, second) = (argument(arguments, 0).to_number(), argument(arguments, 1).to_number());
    let result = first
        .zip(second)
        .and_then(|(first, second)| Number::from_double(function(first.to_double(), second.to_double())));
    Ok(result.into())
}

fn trunc<'v>(_: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let places = match argument(arguments, 1) {
        places @ Value::Number(_) => places.to_int_down(),
        _ => None,
    };
    let number = argument(arguments, 0).to_number();
    let cut = number.zip(places).map(|(number, places)| number.cut_to_places(places.clamp(0, PLACES_MAX) as u32));
    Ok(cut.into())
}

fn remainder<'v>(_: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let (number, divisor) = (argument(arguments, 0).to_number(), argument(arguments, 1).to_number());
    Ok(number.zip(divisor).and_then(|(number, divisor)| number.remainder(divisor)).into())
}

fn nanvl<'v>(_: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let first = argument(arguments, 0);
    let is_missing = matches!(first, Value::Undefined | Value::Null);
    Ok(if is_missing { argument(arguments, 1) } else { first }.clone())
}

/// From 0 on, and below 1.
fn random<'v>(frame: &mut Frame<'_, 'v>, _: &[Value<'v>]) -> Answer<'v> {
    let bits = frame.budget.random() >> 11;
    Ok(Number::from_double(bits as f64 / (1_u64 << 53) as f64).into())
}
