//! The functions of the language, in one table. What a function makes of wrong types and of a wrong number of arguments is Undefined.

mod bits;
mod collections;
mod hash;
mod math;
mod message;
mod pattern;
mod regex;
mod text;
mod time;

use super::context::{Budget, Context};
use super::problem::EvaluationError;
use super::value::Value;

pub(super) use self::pattern::Pattern;

/// What a function's result is.
pub(super) type Answer<'v> = Result<Value<'v>, EvaluationError>;

/// What a function is called with, besides its arguments.
pub(super) struct Frame<'a, 'v> {
    pub context: &'a Context<'v>,
    pub prepared: Option<&'a Prepared>,
    pub budget: &'a mut Budget,
}

/// A constant argument that was looked at once, when the statement was parsed.
#[derive(Clone, Debug)]
pub(super) enum Prepared {
    Regex(::regex::Regex),
    Pattern(Pattern),
    /// It means nothing, so the result is Undefined.
    Invalid,
}

/// A function of the language.
pub(super) struct Function {
    /// In lower case.
    pub name: &'static str,
    pub arguments_min: u8,
    pub arguments_max: u8,
    /// Whether the result depends on nothing but the arguments.
    pub is_constant: bool,
    pub call: for<'v> fn(&mut Frame<'_, 'v>, &[Value<'v>]) -> Answer<'v>,
    pub prepare: Option<Preparation>,
}

/// Which argument is looked at once if it is constant, and how; an error says why it means nothing.
pub(super) struct Preparation {
    pub argument: usize,
    pub prepare: fn(&str) -> Result<Prepared, String>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Any number of arguments.
const MANY: u8 = u8::MAX;

type Call = for<'v> fn(&mut Frame<'_, 'v>, &[Value<'v>]) -> Answer<'v>;

const fn constant(name: &'static str, arguments_min: u8, arguments_max: u8, call: Call) -> Function {
    Function { name, arguments_min, arguments_max, is_constant: true, call, prepare: None }
}

/// One whose result is different for each message.
const fn varying(name: &'static str, arguments_min: u8, arguments_max: u8, call: Call) -> Function {
    Function { name, arguments_min, arguments_max, is_constant: false, call, prepare: None }
}

const fn prepared(
    name: &'static str,
    (arguments_min, arguments_max): (u8, u8),
    call: Call,
    argument: usize,
    prepare: fn(&str) -> Result<Prepared, String>,
) -> Function {
    Function {
        name,
        arguments_min,
        arguments_max,
        is_constant: true,
        call,
        prepare: Some(Preparation { argument, prepare }),
    }
}

static TABLE: [&[Function]; 8] = [
    &math::FUNCTIONS,
    &bits::FUNCTIONS,
    &text::FUNCTIONS,
    &regex::FUNCTIONS,
    &time::FUNCTIONS,
    &hash::FUNCTIONS,
    &collections::FUNCTIONS,
    &message::FUNCTIONS,
];

/// Functions of the reference that need a service of the cloud.
const NETWORK: [&str; 5] = ["aws_lambda", "get_dynamodb", "get_secret", "get_thing_shadow", "get_registry_data"];

/// The function of this name, in any case.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    all().find(|function| function.name.eq_ignore_ascii_case(name))
}

/// The function of this name that is refused because it needs the network.
pub(super) fn find_refused(name: &str) -> Option<&'static str> {
    NETWORK.into_iter().find(|refused| refused.eq_ignore_ascii_case(name))
}

pub(super) fn all() -> impl Iterator<Item = &'static Function> {
    TABLE.into_iter().flatten()
}

/// The argument in this place; Undefined if there is none.
fn argument<'a, 'v>(arguments: &'a [Value<'v>], index: usize) -> &'a Value<'v> {
    arguments.get(index).unwrap_or(&Value::Undefined)
}
