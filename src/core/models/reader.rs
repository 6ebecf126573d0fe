//! A strict reader of JSON that goes forward only and knows where it is.
//!
//! A model is mostly long lists of numbers. They are read into flat lists of doubles at once, so that a file needs no more memory than what
//! becomes of it. Unlike most readers of JSON, this one takes no member twice and none that it does not know.

use super::{ModelError, ModelFault};

/// Longest name or text, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

pub(super) type Read<T> = Result<T, ModelError>;

pub(super) struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    /// Where the value stands that is read, as in `$.estimator.trees[3].left`.
    path: String,
}

impl<'t> Reader<'t> {
    pub fn new(text: &'t str) -> Reader<'t> {
        Reader { text: text.as_bytes(), at: 0, path: "$".to_owned() }
    }

    /// That something is wrong with the value that is read.
    pub fn blame<T>(&self, fault: ModelFault) -> Read<T> {
        Err(ModelError { path: self.path.clone(), fault })
    }

    /// That what stands here is not what a model has here.
    pub fn expected<T>(&self, what: impl Into<String>) -> Read<T> {
        self.blame(ModelFault::Expected(what.into()))
    }

    fn not_json<T>(&self, what: &'static str) -> Read<T> {
        self.blame(ModelFault::NotJson { byte: self.at, what })
    }

    fn peek(&mut self) -> Option<u8> {
        while matches!(self.text.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Takes the next character if it is this one.
    fn take(&mut self, wanted: u8) -> bool {
        let is_there = self.peek() == Some(wanted);
        self.at += usize::from(is_there);
        is_there
    }

    /// Nothing but blanks follows.
    pub fn end(&mut self) -> Read<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.not_json("the file goes on behind its value"),
        }
    }

    /// Reads an object: `member` is called at the value of each of its members with the place of its name among `names`, and reads it.
    pub fn object(&mut self, names: &[&str], mut member: impl FnMut(&mut Self, usize) -> Read<()>) -> Read<()> {
        if !self.take(b'{') {
            return self.expected("an object");
        }
        let len = self.path.len();
        let mut seen = 0_u32;
        let mut is_first = true;
        while !self.take(b'}') {
            if !is_first && !self.take(b',') {
                return self.not_json("a comma or } is missing");
            }
            is_first = false;
            if self.peek() != Some(b'"') {
                return self.not_json("the name of a member is missing");
            }
            let name = self.text()?;
            let Some(place) = names.iter().position(|known| *known == name) else {
                return self.expected(format!("no member \"{}\"; there may be {}", shown(&name), names.join(", ")));
            };
            if !self.take(b':') {
                return self.not_json("a colon is missing");
            }
            self.path.push('.');
            self.path.push_str(&name);
            if seen & (1 << place) != 0 {
                return self.expected("this member once");
            }
            seen |= 1 << place;
            member(self, place)?;
            self.path.truncate(len);
        }
        Ok(())
    }

    /// Reads an array of at most so many elements: `element` reads each of them.
    pub fn array(&mut self, count_max: usize, mut element: impl FnMut(&mut Self, usize) -> Read<()>) -> Read<()> {
        if !self.take(b'[') {
            return self.expected("a list");
        }
        let len = self.path.len();
        let mut count = 0;
        while !self.take(b']') {
            if count > 0 && !self.take(b',') {
                return self.not_json("a comma or ] is missing");
            }
            if count >= count_max {
                return self.expected(format!("at most {count_max} elements"));
            }
            self.path.push_str(&format!("[{count}]"));
            element(self, count)?;
            self.path.truncate(len);
            count += 1;
        }
        Ok(())
    }

    /// Reads a list of numbers.
    pub fn numbers(&mut self, count_max: usize) -> Read<Vec<f64>> {
        if !self.take(b'[') {
            return self.expected("a list of numbers");
        }
        let mut numbers = Vec::new();
        while !self.take(b']') {
            if !numbers.is_empty() && !self.take(b',') {
                return self.not_json("a comma or ] is missing");
            }
            if numbers.len() >= count_max {
                return self.expected(format!("at most {count_max} numbers"));
            }
            match self.number() {
                Ok(number) => numbers.push(number),
                Err(mut error) => {
                    error.path.push_str(&format!("[{}]", numbers.len()));
                    return Err(error);
                }
            }
        }
        Ok(numbers)
    }

    /// Reads a number, which is finite.
    pub fn number(&mut self) -> Read<f64> {
        let first = self.peek();
        let from = self.at;
        while matches!(self.text.get(self.at), Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        let text = std::str::from_utf8(self.text.get(from..self.at).unwrap_or_default()).unwrap_or_default();
        let is_number = matches!(first, Some(b'-' | b'0'..=b'9')) && is_json_number(text.as_bytes());
        match text.parse::<f64>() {
            Ok(number) if is_number && number.is_finite() => Ok(number),
            Ok(_) if is_number => self.expected("a number that a double can hold"),
            _ => self.expected("a number"),
        }
    }

    /// Reads a text.
    pub fn text(&mut self) -> Read<String> {
        if !self.take(b'"') {
            return self.expected("a text in quotes");
        }
        let from = self.at;
        loop {
            match self.text.get(self.at) {
                None | Some(..0x20) => return self.not_json("a text has no end"),
                Some(b'"') => break,
                // Whatever is escaped is one character at least.
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
        let quoted = self.text.get(from - 1..=self.at).unwrap_or_default();
        self.at += 1;
        if quoted.len() > TEXT_BYTES_MAX {
            return self.expected(format!("a text of at most {TEXT_BYTES_MAX} bytes"));
        }
        serde_json::from_slice(quoted).or_else(|_| self.not_json("an escape in a text means nothing"))
    }
}

/// A name as it is shown to people.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(64).map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// Whether digits, point and exponent stand as JSON has them.
fn is_json_number(text: &[u8]) -> bool {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, rest) = digits(unsigned);
    if whole == 0 || whole > 1 && unsigned.first() == Some(&b'0') {
        return false;
    }
    let rest = match rest.strip_prefix(b".") {
        Some(rest) => match digits(rest) {
            (0, _) => return false,
            (_, rest) => rest,
        },
        None => rest,
    };
    match rest {
        [] => true,
        [b'e' | b'E', b'+' | b'-', rest @ ..] | [b'e' | b'E', rest @ ..] => {
            let (count, rest) = digits(rest);
            count > 0 && rest.is_empty()
        }
        _ => false,
    }
}

fn digits(text: &[u8]) -> (usize, &[u8]) {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count, text.get(count..).unwrap_or_default())
}
