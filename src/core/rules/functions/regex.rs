//! Regular expressions, written as in Java. They match in linear time, so backreferences and lookaround are not supported: an expression
//! with them is invalid, and its result Undefined.

use regex::{Captures, Regex, RegexBuilder};

use super::text::{bounded, text};
use super::{Answer, Frame, Function, Prepared, argument, prepared};
use crate::rules::problem::EvaluationError;
use crate::rules::value::{TEXT_BYTES_MAX, Value};

/// Longest regular expression, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;
/// Memory of a compiled one, in bytes.
const COMPILED_BYTES_MAX: usize = 64 * 1024;
/// How deeply groups may be nested.
const NEST_MAX: u32 = 32;
/// Steps for compiling an expression that is not constant.
const COMPILE_STEPS: u32 = 5_000;
/// Matching may take a microsecond for a byte: so many times the steps of a text.
const MATCH_FACTOR: usize = 256;

pub(super) static FUNCTIONS: [Function; 3] = [
    prepared("regexp_matches", (2, 2), matches, 1, prepare),
    prepared("regexp_replace", (3, 3), replace, 1, prepare),
    prepared("regexp_substr", (2, 2), substr, 1, prepare),
];

fn prepare(pattern: &str) -> Result<Prepared, String> {
    compiled(pattern).map(Prepared::Regex)
}

fn compiled(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("longer than {PATTERN_BYTES_MAX} bytes"));
    }
    let translated = translated(pattern)?;
    let mut builder = RegexBuilder::new(&translated);
    builder.size_limit(COMPILED_BYTES_MAX).nest_limit(NEST_MAX);
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("compiled it has more than {COMPILED_BYTES_MAX} bytes"),
        error => error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    })
}

/// Java's classes of characters mean ASCII. What is written in another way there is rewritten, what only Java has is refused.
fn translated(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    let mut is_after_quantifier = false;
    let mut is_in_class = false;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        let is_quantifier = !is_in_class && matches!(c, '*' | '+' | '?' | '}');
        match c {
            '\\' => rest = escape(rest, &mut out)?,
            '+' if is_after_quantifier && !is_in_class => {
                return Err("possessive quantifiers are not supported".to_owned());
            }
            _ => out.push(c),
        }
        match c {
            '[' => is_in_class = true,
            ']' => is_in_class = false,
            _ => {}
        }
        is_after_quantifier = is_quantifier;
    }
    Ok(out)
}

/// What a backslash and what follows it mean. Returns what is left.
fn escape<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    let Some(c) = rest.chars().next() else { return Err("a backslash at the end".to_owned()) };
    let after = rest.get(c.len_utf8()..).unwrap_or_default();
    let class = match c {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        's' => r"[ \t\n\x0B\f\r]",
        'S' => r"[^ \t\n\x0B\f\r]",
        'h' => r"[ \t\x{A0}]",
        'b' => r"(?-u:\b)",
        'Z' => r"\n?\z",
        'e' => r"\x1B",
        'Q' => {
            let (quoted, after) = after.split_once("\\E").unwrap_or((after, ""));
            out.push_str(&regex::escape(quoted));
            return Ok(after);
        }
        'u' => {
            let digits = after.get(..4).ok_or("\\u has four digits")?;
            out.push_str(&format!("\\u{digits}"));
            return Ok(after.get(4..).unwrap_or_default());
        }
        'p' => return property(after, out),
        '1'..='9' | 'k' => return Err("backreferences are not supported".to_owned()),
        _ => {
            out.push('\\');
            out.push(c);
            return Ok(after);
        }
    };
    out.push_str(class);
    Ok(after)
}

/// `\p{Alpha}` and the other classes of POSIX.
fn property<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    let inside = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
    let Some((name, after)) = inside else { return Err("\\p stands before a name in braces".to_owned()) };
    let known =
        ["Lower", "Upper", "Alpha", "Digit", "Alnum", "Punct", "Graph", "Print", "Blank", "Cntrl", "XDigit", "Space"];
    if !known.contains(&name) {
        return Err(format!("there is no class \\p{{{name}}} here"));
    }
    out.push_str(&format!("[[:{}:]]", name.to_ascii_lowercase()));
    Ok(after)
}

/// The expression, whether it was compiled before or is compiled now.
fn with_regex<'v>(
    frame: &mut Frame<'_, 'v>,
    arguments: &[Value<'v>],
    apply: impl FnOnce(&Regex, &str) -> Answer<'v>,
) -> Answer<'v> {
    let Some(whole) = text(frame, arguments, 0)? else { return Ok(Value::Undefined) };
    frame.budget.take_bytes(whole.len().saturating_mul(MATCH_FACTOR))?;
    match frame.prepared {
        Some(Prepared::Regex(regex)) => return apply(regex, &whole),
        Some(_) => return Ok(Value::Undefined),
        None => {}
    }
    let Some(pattern) = text(frame, arguments, 1)? else { return Ok(Value::Undefined) };
    frame.budget.take(COMPILE_STEPS)?;
    compiled(&pattern).map_or(Ok(Value::Undefined), |regex| apply(&regex, &whole))
}

fn matches<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    with_regex(frame, arguments, |regex, text| Ok(Value::Boolean(regex.is_match(text))))
}

fn substr<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    with_regex(frame, arguments, |regex, text| {
        Ok(regex.find(text).map(|found| Value::from(found.as_str().to_owned())).unwrap_or_default())
    })
}

fn replace<'v>(frame: &mut Frame<'_, 'v>, arguments: &[Value<'v>]) -> Answer<'v> {
    let Some(replacement) = argument(arguments, 2).to_text()? else { return Ok(Value::Undefined) };
    with_regex(frame, arguments, |regex, text| {
        let Some(parts) = replacement_parts(&replacement, regex) else { return Ok(Value::Undefined) };
        let mut out = String::new();
        let mut from = 0;
        for captures in regex.captures_iter(text) {
            let Some(all) = captures.get(0) else { break };
            out.push_str(text.get(from..all.start()).unwrap_or_default());
            parts.iter().for_each(|part| part.push(&captures, &mut out));
            from = all.end();
            if out.len() > TEXT_BYTES_MAX {
                return Err(EvaluationError::TooLarge { max: TEXT_BYTES_MAX });
            }
        }
        out.push_str(text.get(from..).unwrap_or_default());
        bounded(out)
    })
}

enum Part {
    Literal(char),
    Group(usize),
    Name(String),
}

impl Part {
    fn push(&self, captures: &Captures<'_>, out: &mut String) {
        let group = match self {
            Part::Literal(c) => return out.push(*c),
            Part::Group(group) => captures.get(*group),
            Part::Name(name) => captures.name(name),
        };
        out.push_str(group.map_or("", |group| group.as_str()));
    }
}

/// A replacement as in Java: `$1` is a group, with as many digits as there is a group for, `${name}` one with a name, and a backslash takes
/// the meaning from what follows. `None` if it names a group that there is not.
fn replacement_parts(text: &str, regex: &Regex) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek().copied()) {
            ('\\', _) => parts.push(Part::Literal(chars.next()?)),
            ('$', Some('{')) => {
                chars.next();
                let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                regex.capture_names().flatten().find(|known| *known == name)?;
                parts.push(Part::Name(name));
            }
            ('$', digit) => {
                let mut group = digit?.to_digit(10)? as usize;
                chars.next();
                if group >= regex.captures_len() {
                    return None;
                }
                while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                    let longer = group * 10 + digit as usize;
                    if longer >= regex.captures_len() {
                        break;
                    }
                    group = longer;
                    chars.next();
                }
                parts.push(Part::Group(group));
            }
            (c, _) => parts.push(Part::Literal(c)),
        }
    }
    Some(parts)
}
