//! JSON into a document, without recursion.

use super::{Builder, Document, Group, Node};

/// Reads the payload; `None` if it is no JSON, or too deep or too large.
pub(super) fn read(payload: &[u8]) -> Option<Document<'_>> {
    let text = std::str::from_utf8(payload).ok()?;
    let mut reader = Reader { text, at: 0, builder: Builder::new(payload) };
    reader.values()?;
    reader.skip_blanks();
    (reader.at == text.len()).then_some(Document { nodes: reader.builder.nodes, raw: payload })
}

struct Reader<'p> {
    text: &'p str,
    at: usize,
    builder: Builder<'p>,
}

impl<'p> Reader<'p> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn skip(&mut self, wanted: &str) -> Option<()> {
        let follows = self.text.get(self.at..)?.starts_with(wanted);
        self.at += wanted.len();
        follows.then_some(())
    }

    /// The whole: values, until every array and object is closed.
    fn values(&mut self) -> Option<()> {
        loop {
            self.skip_blanks();
            let is_open = match self.peek()? {
                b'{' => self.group(Node::Object(Group::default()), b'}')?,
                b'[' => self.group(Node::Array(Group::default()), b']')?,
                b'"' => self.quoted().map(|()| false)?,
                b't' => self.word("true", Node::Boolean(true))?,
                b'f' => self.word("false", Node::Boolean(false))?,
                b'n' => self.word("null", Node::Null)?,
                _ => self.number().map(|()| false)?,
            };
            if !is_open && !self.after_value()? {
                return Some(());
            }
        }
    }

    fn word(&mut self, word: &str, node: Node<'p>) -> Option<bool> {
        self.skip(word)?;
        self.builder.push(node)?;
        Some(false)
    }

    /// Opens an array or an object. Whether it has something in it, which then follows.
    fn group(&mut self, node: Node<'p>, close: u8) -> Option<bool> {
        self.at += 1;
        self.builder.open(node)?;
        self.skip_blanks();
        if self.peek() == Some(close) {
            self.at += 1;
            self.builder.close()?;
            return Some(false);
        }
        self.before_value()?;
        Some(true)
    }

    /// The name, in an object.
    fn before_value(&mut self) -> Option<()> {
        self.builder.count()?;
        if self.builder.is_in_object() {
            self.skip_blanks();
            self.quoted()?;
            self.skip_blanks();
            self.skip(":")?;
        }
        Some(())
    }

    /// Closes what ends here. Whether another value follows.
    fn after_value(&mut self) -> Option<bool> {
        while self.builder.open.depth > 0 {
            self.skip_blanks();
            let close = if self.builder.is_in_object() { b'}' } else { b']' };
            let found = self.peek()?;
            self.at += 1;
            match found {
                b',' => return self.before_value().map(|()| true),
                found if found == close => self.builder.close()?,
                _ => return None,
            }
        }
        Some(false)
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = self.text.get(start..self.at)?;
        self.builder.push(Node::Number(text))
    }

    fn quoted(&mut self) -> Option<()> {
        self.skip("\"")?;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => return self.escaped(start),
                ..0x20 => return None,
                _ => self.at += 1,
            }
        }
        let text = self.text.get(start..self.at)?;
        self.at += 1;
        self.builder.push(Node::Text(text))
    }

    /// A text from its first escape on.
    fn escaped(&mut self, start: usize) -> Option<()> {
        let mut text = self.text.get(start..self.at)?.to_owned();
        loop {
            let from = self.at;
            while !matches!(self.peek()?, b'"' | b'\\' | ..0x20) {
                self.at += 1;
            }
            text.push_str(self.text.get(from..self.at)?);
            self.at += 1;
            match self.text.as_bytes().get(self.at - 1)? {
                b'"' => return self.builder.push(Node::Unescaped(text.into())),
                b'\\' => text.push(self.escape()?),
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let kind = self.peek()?;
        self.at += 1;
        Some(match kind {
            b'"' | b'\\' | b'/' => kind.into(),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits =
            self.text.get(self.at..self.at + 4).filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()))?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    /// One character of UTF-16. Half of a pair stands for nothing, and is replaced.
    fn unicode(&mut self) -> Option<char> {
        let first = self.hex()?;
        let mut code = first;
        if (0xd800..0xdc00).contains(&first) && self.text.get(self.at..).is_some_and(|rest| rest.starts_with("\\u")) {
            let before = self.at;
            self.at += 2;
            match self.hex()? {
                second @ 0xdc00..0xe000 => code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                _ => self.at = before,
            }
        }
        Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}
