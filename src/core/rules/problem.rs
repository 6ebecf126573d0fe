//! What is wrong with a statement, and where.

/// Why a statement, an expression or a template is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {fault}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// Characters before it in its line, and one.
    pub column: usize,
    /// What is wrong there.
    pub fault: ParseFault,
}

/// A place in a text, counted from 1.
pub(super) struct Place {
    pub line: usize,
    pub column: usize,
}

impl Place {
    /// Of the character that so many bytes stand before.
    pub(super) fn of(text: &str, offset: usize) -> Place {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Place { line: before.matches('\n').count() + 1, column }
    }
}

impl ParseError {
    /// With the place given by the bytes of the text before it.
    pub(super) fn at(text: &str, offset: usize, fault: ParseFault) -> ParseError {
        let Place { line, column } = Place::of(text, offset);
        ParseError { line, column, fault }
    }

    /// What is written instead, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match &self.fault {
            ParseFault::Unsupported { hint, .. } => Some(hint),
            ParseFault::Network { .. } => {
                Some("rules at the edge ask nothing of the network: republish the message, or use a lookup table")
            }
            ParseFault::Expected { found, .. } if is_digits_then_word(found) => {
                Some("a key that begins with a digit or holds a hyphen is read with get(*, 'the-key')")
            }
            ParseFault::ReservedWord { .. } => Some("a key that is a word of the language is read with get(*, 'key')"),
            ParseFault::UnknownVariable { .. } => Some("a variable is set before SELECT: SET @name = expression"),
            ParseFault::UnknownType { .. } => Some("the types are String, Int, Decimal and Boolean"),
            ParseFault::Key { .. } => Some("the key is a text: {'name': value}"),
            _ => None,
        }
    }
}

fn is_digits_then_word(found: &str) -> bool {
    found.trim_matches(['\'', '.']).starts_with(|c: char| c.is_ascii_digit())
}

/// What may be wrong with a statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseFault {
    /// It has too many bytes.
    #[error("longer than {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// It is nested too deeply.
    #[error("nested more than {max} deep")]
    TooDeep {
        /// The limit.
        max: usize,
    },
    /// There are too many of something.
    #[error("more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// Something else should stand here.
    #[error("{expected} is expected, not {found}")]
    Expected {
        /// What may stand here.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// The end of a text is missing.
    #[error("the text has no closing {quote}")]
    OpenText {
        /// The mark that it began with.
        quote: char,
    },
    /// Something that other dialects of SQL have and this language does not.
    #[error("{what} is not part of AWS IoT SQL")]
    Unsupported {
        /// What it is.
        what: &'static str,
        /// What is written instead.
        hint: &'static str,
    },
    /// A function that needs a service of the cloud.
    #[error("{name}() asks a service on the network, which rules at the edge do not")]
    Network {
        /// The function.
        name: &'static str,
    },
    /// There is no function of this name.
    #[error("there is no function {name}()")]
    UnknownFunction {
        /// As it is written.
        name: String,
    },
    /// A word of the language stands where a value or a name should.
    #[error("{word} is a word of the language")]
    ReservedWord {
        /// As it is written.
        word: String,
    },
    /// A variable is used that no SET before it names.
    #[error("@{name} is not set")]
    UnknownVariable {
        /// Without the @.
        name: String,
    },
    /// A variable is set twice.
    #[error("@{name} is set twice")]
    VariableSetTwice {
        /// Without the @.
        name: String,
    },
    /// The name of a variable has no or too many characters.
    #[error("a variable is @ and 1 to {max} letters, digits or _")]
    VariableName {
        /// The limit.
        max: usize,
    },
    /// A type of `cast` that there is not.
    #[error("there is no type {name}")]
    UnknownType {
        /// As it is written.
        name: String,
    },
    /// A key of an object is no text.
    #[error("a key of an object is expected, not {found}")]
    Key {
        /// What stands there.
        found: String,
    },
    /// The number is beyond what numbers can be.
    #[error("{text} is beyond 9.99E999")]
    NumberTooLarge {
        /// As it is written.
        text: String,
    },
    /// The topic filter breaks a rule of MQTT.
    #[error("the topic filter {reason}")]
    TopicFilter {
        /// Why.
        reason: &'static str,
    },
    /// A template's expression has no end.
    #[error("the expression has no closing brace")]
    OpenTemplate,
}

/// Something that is allowed, and probably not meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {text}")]
pub struct Warning {
    /// Counted from 1.
    pub line: usize,
    /// Characters before it in its line, and one.
    pub column: usize,
    /// What is to be said about it.
    pub text: String,
}

/// Why an evaluation was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// It takes too long.
    #[error("the rule takes more than {max} steps")]
    TooManySteps {
        /// The limit.
        max: u32,
    },
    /// All rules that look at one message take too long.
    #[error("all rules together take more than {max} steps for one message")]
    TooManyStepsTogether {
        /// The limit.
        max: u32,
    },
    /// A text or a result would become too large.
    #[error("a text or the result is larger than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
}
