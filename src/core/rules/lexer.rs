//! From the text of a statement to its words, numbers, texts and signs.

use std::borrow::Cow;

use super::problem::{ParseError, ParseFault};

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind<'s> {
    /// A name or a word of the language.
    Word(&'s str),
    /// `@name`, without the sign.
    Variable(&'s str),
    Number(&'s str),
    /// In single or double quotes; the mark twice stands for itself.
    Text(Cow<'s, str>),
    /// An operator or a bracket.
    Sign(&'static str),
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token<'s> {
    pub kind: Kind<'s>,
    /// In bytes from the beginning of the text.
    pub start: usize,
    pub end: usize,
}

/// Longer signs stand before those that they begin with.
const SIGNS: [&str; 23] = [
    "<>", "<=", ">=", "!=", "==", "||", "&&", "--", "/*", "(", ")", "[", "]", "{", "}", ",", ".", ":", "=", "<", ">",
    "+", "-",
];
const SIGNS_OF_ONE: [&str; 4] = ["*", "/", "%", ";"];

#[derive(Clone, Copy)]
pub(super) struct Lexer<'s> {
    text: &'s str,
    at: usize,
    /// Where the text ends for this lexer; a template's expression ends before its text does.
    end: usize,
}

impl<'s> Lexer<'s> {
    pub(super) fn new(text: &'s str, start: usize, end: usize) -> Lexer<'s> {
        Lexer { text, at: start, end }
    }

    fn rest(&self) -> &'s str {
        self.text.get(self.at..self.end).unwrap_or_default()
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Result<Token<'s>, ParseError> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        let (rest, start) = (self.rest(), self.at);
        let Some(first) = rest.chars().next() else { return Ok(Token { kind: Kind::End, start, end: start }) };
        let kind = match first {
            '\'' | '"' => return self.text_token(first),
            '0'..='9' => self.number(rest),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(rest),
            '@' => {
                let len = word_len(&rest[1..]);
                self.at += 1 + len;
                Kind::Variable(&rest[1..1 + len])
            }
            first if is_word(first) => {
                let len = word_len(rest);
                self.at += len;
                Kind::Word(&rest[..len])
            }
            _ => Kind::Sign(self.sign(rest)?),
        };
        Ok(Token { kind, start, end: self.at })
    }

    /// A number; letters that follow it belong to the token, so that `12abc` is refused as a whole.
    fn number(&mut self, rest: &'s str) -> Kind<'s> {
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let mut len = digits(rest);
        let fraction = rest[len..].strip_prefix('.').map_or(0, digits);
        len += if fraction > 0 { 1 + fraction } else { 0 };
        if let Some(exponent) = rest[len..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['-', '+']));
            let exponent = digits(&exponent[sign..]);
            len += if exponent > 0 { 1 + sign + exponent } else { 0 };
        }
        len += word_len(&rest[len..]);
        self.at += len;
        Kind::Number(&rest[..len])
    }

    fn text_token(&mut self, quote: char) -> Result<Token<'s>, ParseError> {
        let start = self.at;
        let inside = &self.rest()[1..];
        let mut from = 0;
        let mut is_doubled = false;
        loop {
            let Some(len) = inside[from..].find(quote) else {
                return Err(self.fault(start, ParseFault::OpenText { quote }));
            };
            from += len + 1;
            if !inside[from..].starts_with(quote) {
                break;
            }
            is_doubled = true;
            from += 1;
        }
        let raw = &inside[..from - 1];
        self.at += 1 + from;
        let one = quote.to_string();
        let text = if is_doubled { Cow::Owned(raw.replace(&quote.to_string().repeat(2), &one)) } else { raw.into() };
        Ok(Token { kind: Kind::Text(text), start, end: self.at })
    }

    fn sign(&mut self, rest: &str) -> Result<&'static str, ParseError> {
        let unsupported = |what, hint| self.fault(self.at, ParseFault::Unsupported { what, hint });
        let sign = SIGNS.iter().chain(&SIGNS_OF_ONE).find(|sign| rest.starts_with(**sign));
        let Some(sign) = sign else {
            let found = rest.chars().take(1).collect();
            let expected = "a value, an operator or a clause";
            return Err(self.fault(self.at, ParseFault::Expected { expected, found }));
        };
        match *sign {
            "==" => return Err(unsupported("==", "equality is written =")),
            "||" => return Err(unsupported("||", "texts are joined by + or concat(), conditions by OR")),
            "&&" => return Err(unsupported("&&", "conditions are joined by AND")),
            "/*" => return Err(unsupported("a comment", "say it in the rule's description")),
            // `5--3` is a difference; a comment has a blank or a word behind it.
            "--" if !rest[2..].trim_start().starts_with(|c: char| c.is_ascii_digit() || c == '(') => {
                return Err(unsupported(
                    "a comment",
                    "say it in the rule's description; between two minus signs stands a blank",
                ));
            }
            "--" => {
                self.at += 1;
                return Ok("-");
            }
            ";" => return Err(unsupported("a semicolon", "a rule is one statement, and ends without a sign")),
            _ => {}
        }
        self.at += sign.len();
        Ok(sign)
    }

    /// What stands up to the next blank: a topic filter without quotes.
    pub(super) fn bare(&mut self) -> (&'s str, usize) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        let (rest, start) = (self.rest(), self.at);
        let len = rest.find(char::is_whitespace).unwrap_or(rest.len());
        self.at += len;
        (&rest[..len], start)
    }

    pub(super) fn back_to(&mut self, at: usize) {
        self.at = at;
    }

    pub(super) fn fault(&self, offset: usize, fault: ParseFault) -> ParseError {
        ParseError::at(self.text, offset, fault)
    }

    pub(super) fn slice(&self, start: usize, end: usize) -> &'s str {
        self.text.get(start..end).unwrap_or_default().trim()
    }
}

impl Kind<'_> {
    /// As it is named in an error.
    pub(super) fn named(&self) -> String {
        match self {
            Kind::Word(word) => format!("'{word}'"),
            Kind::Variable(name) => format!("@{name}"),
            Kind::Number(number) => format!("'{number}'"),
            Kind::Text(_) => "a text".to_owned(),
            Kind::Sign(sign) => format!("'{sign}'"),
            Kind::End => "the end".to_owned(),
        }
    }

    /// Whether it is this word of the language, in any case.
    pub(super) fn is_word(&self, wanted: &str) -> bool {
        matches!(self, Kind::Word(word) if word.eq_ignore_ascii_case(wanted))
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word_len(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}
