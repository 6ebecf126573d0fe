//! A payload as a flat list of values: parsed once for a message, and borrowed by all of its rules.
//!
//! Numbers stay as they are written, with all of their digits, until a rule calculates with them. Texts without escapes are slices of the
//! payload. A payload that is nested more deeply than [`DEPTH_MAX`] or has more than [`NODES_MAX`] values is not read.

mod cbor;
mod json;

/// How deeply arrays and objects may be nested.
pub const DEPTH_MAX: usize = 64;
/// Values of a payload at most, names of members included: 3 MiB of memory while a message is handled.
pub const NODES_MAX: usize = 131_072;

/// A value, in the order of the payload. A name of a member stands before its value.
#[derive(Clone, Debug, PartialEq)]
enum Node<'p> {
    Null,
    Boolean(bool),
    /// As JSON writes it.
    Number(&'p str),
    /// Of a payload that is not text.
    BinaryNumber(Box<str>),
    Text(&'p str),
    /// A text that stands in the payload in another form.
    Unescaped(Box<str>),
    Array(Group),
    Object(Group),
}

/// What stands in an array or an object.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Group {
    /// Elements, or members.
    count: u32,
    /// The node behind the last one in it.
    end: u32,
}

/// A payload that was read; its first node is the whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Document<'p> {
    nodes: Vec<Node<'p>>,
    raw: &'p [u8],
}

/// What a value of a document is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Content<'v> {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean(bool),
    /// A number, as JSON writes it.
    Number(&'v str),
    /// A text, without escapes.
    Text(&'v str),
    /// An array.
    Array,
    /// An object.
    Object,
}

/// A value of a document.
#[derive(Clone, Copy)]
pub struct NodeRef<'v> {
    document: &'v Document<'v>,
    at: u32,
}

const NULL: Node<'static> = Node::Null;

impl<'p> Document<'p> {
    /// Reads a payload that is a JSON object, or a CBOR map. Neither can be taken for the other: no text begins as a CBOR map does.
    pub fn read_object(payload: &'p [u8]) -> Option<Document<'p>> {
        match payload.trim_ascii_start() {
            [b'{', ..] => json::read(payload),
            // A map, or the tag that says that this is CBOR: neither byte may begin a character of UTF-8 so.
            [0xa0..=0xbf, ..] | [0xd9, 0xd9, 0xf7, ..] => cbor::read(payload),
            _ => None,
        }
        .filter(|document| document.root().content() == Content::Object)
    }

    /// Reads JSON of any kind.
    pub fn read_json(payload: &'p [u8]) -> Option<Document<'p>> {
        json::read(payload)
    }

    /// The whole.
    pub fn root<'v>(&'v self) -> NodeRef<'v> {
        NodeRef { document: self, at: 0 }
    }
}

impl<'v> NodeRef<'v> {
    fn node(self) -> &'v Node<'v> {
        self.document.nodes.get(self.at as usize).unwrap_or(&NULL)
    }

    /// What it is.
    pub fn content(self) -> Content<'v> {
        match self.node() {
            Node::Null => Content::Null,
            Node::Boolean(is_true) => Content::Boolean(*is_true),
            Node::Number(text) => Content::Number(text),
            Node::BinaryNumber(text) => Content::Number(text),
            Node::Text(text) => Content::Text(text),
            Node::Unescaped(text) => Content::Text(text),
            Node::Array(_) => Content::Array,
            Node::Object(_) => Content::Object,
        }
    }

    /// The payload, if this is the whole of it.
    pub fn raw(self) -> Option<&'v [u8]> {
        (self.at == 0).then_some(self.document.raw)
    }

    /// Elements of an array, or members of an object.
    pub fn count(self) -> usize {
        match self.node() {
            Node::Array(group) | Node::Object(group) => group.count as usize,
            _ => 0,
        }
    }

    fn end(self) -> u32 {
        match self.node() {
            Node::Array(group) | Node::Object(group) => group.end,
            _ => self.at + 1,
        }
    }

    fn is_text(self, wanted: &str) -> bool {
        match self.node() {
            Node::Text(text) => *text == wanted,
            Node::Unescaped(text) => **text == *wanted,
            _ => false,
        }
    }

    /// The value of the member of this name; of several, the last.
    pub fn member(self, name: &str) -> Option<NodeRef<'v>> {
        let Node::Object(group) = self.node() else { return None };
        let mut found = None;
        let mut at = self.at + 1;
        while at < group.end {
            let (key, value) = (NodeRef { at, ..self }, NodeRef { at: at + 1, ..self });
            if key.is_text(name) {
                found = Some(value);
            }
            at = value.end();
        }
        found
    }

    /// The elements of an array; none of anything else.
    pub fn elements(self) -> impl Iterator<Item = NodeRef<'v>> {
        let end = if let Node::Array(group) = self.node() { group.end } else { 0 };
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            let element = NodeRef { at, ..self };
            (at < end).then(|| {
                at = element.end();
                element
            })
        })
    }

    /// The members of an object with their names; none of anything else.
    pub fn members(self) -> impl Iterator<Item = (&'v str, NodeRef<'v>)> {
        let end = if let Node::Object(group) = self.node() { group.end } else { 0 };
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let (key, value) = (NodeRef { at, ..self }, NodeRef { at: at + 1, ..self });
            at = value.end();
            match key.content() {
                Content::Text(name) => Some((name, value)),
                _ => None,
            }
        })
    }
}

impl std::fmt::Debug for NodeRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} in {:?}", self.content(), self.at)
    }
}

/// Arrays and objects that are not closed yet.
#[derive(Debug)]
struct Open {
    groups: [u32; DEPTH_MAX],
    depth: usize,
}

impl Open {
    fn new() -> Open {
        Open { groups: [0; DEPTH_MAX], depth: 0 }
    }

    fn push(&mut self, at: u32) -> Option<()> {
        *self.groups.get_mut(self.depth)? = at;
        self.depth += 1;
        Some(())
    }

    fn last(&self) -> Option<u32> {
        self.groups.get(self.depth.checked_sub(1)?).copied()
    }

    fn pop(&mut self) -> Option<u32> {
        let last = self.last()?;
        self.depth -= 1;
        Some(last)
    }
}

/// A document that grows.
#[derive(Debug)]
struct Builder<'p> {
    nodes: Vec<Node<'p>>,
    open: Open,
}

impl<'p> Builder<'p> {
    fn new(payload: &[u8]) -> Builder<'p> {
        // Usual telemetry has a value or a name in eight bytes.
        Builder { nodes: Vec::with_capacity((payload.len() / 8 + 4).min(NODES_MAX)), open: Open::new() }
    }

    fn push(&mut self, node: Node<'p>) -> Option<()> {
        (self.nodes.len() < NODES_MAX).then(|| self.nodes.push(node))
    }

    fn group(&mut self, at: u32) -> Option<&mut Group> {
        match self.nodes.get_mut(at as usize)? {
            Node::Array(group) | Node::Object(group) => Some(group),
            _ => None,
        }
    }

    /// Counts one more in the innermost group.
    fn count(&mut self) -> Option<()> {
        let at = self.open.last()?;
        self.group(at)?.count += 1;
        Some(())
    }

    fn is_in_object(&self) -> bool {
        let at = self.open.last().map(|at| at as usize);
        matches!(at.and_then(|at| self.nodes.get(at)), Some(Node::Object(_)))
    }

    fn open(&mut self, node: Node<'p>) -> Option<()> {
        self.open.push(self.nodes.len() as u32)?;
        self.push(node)
    }

    fn close(&mut self) -> Option<()> {
        let end = self.nodes.len() as u32;
        let at = self.open.pop()?;
        self.group(at)?.end = end;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(value: NodeRef<'_>) -> serde_json::Value {
        match value.content() {
            Content::Null => serde_json::Value::Null,
            Content::Boolean(is_true) => is_true.into(),
            Content::Number(text) => serde_json::from_str(text).expect("a number of JSON"),
            Content::Text(text) => text.into(),
            Content::Array => value.elements().map(json).collect(),
            Content::Object => value.members().map(|(name, value)| (name.to_owned(), json(value))).collect(),
        }
    }

    #[test]
    fn members_are_found_and_the_last_of_one_name_counts() {
        let payload = br#" {"a":[1,{"b":2},"c"],"d":{},"e":1.50,"e":2,"\u0066":"\ud83d\ude00"} "#;
        let document = Document::read_object(payload).expect("an object");
        let root = document.root();
        assert_eq!(root.count(), 5);
        assert_eq!(root.member("e").map(NodeRef::content), Some(Content::Number("2")));
        assert_eq!(root.member("f").map(NodeRef::content), Some(Content::Text("😀")));
        let list = root.member("a").expect("a list");
        assert_eq!(list.elements().map(NodeRef::content).collect::<Vec<_>>()[2], Content::Text("c"));
        assert!(root.member("b").is_none() && root.member("d").is_some_and(|empty| empty.count() == 0));
        assert_eq!(root.raw(), Some(&payload[..]));
    }

    #[test]
    fn what_is_no_object_is_not_read() {
        for payload in
            [&b"80"[..], b"[1]", b"hi", b"", b" ", b"{", b"{}}", b"{\"a\":01}", b"{\"a\"}", b"{a:1}", b"{\"a\":1,}"]
        {
            assert!(Document::read_object(payload).is_none(), "{payload:?}");
        }
        assert!(Document::read_json(b"80").is_some() && Document::read_json(b"[1] x").is_none());
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Document::read_json(nested(DEPTH_MAX).as_bytes()).is_some());
        assert!(Document::read_json(nested(DEPTH_MAX + 1).as_bytes()).is_none());
        let many = format!("[{}1]", "1,".repeat(NODES_MAX));
        assert!(Document::read_json(many.as_bytes()).is_none());
    }

    proptest! {
        #[test]
        fn json_is_read_as_others_read_it(text in r#"[\[\]{}:,"a0-9.eE\\u\-tn ]{0,24}"#) {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            let ours = Document::read_json(text.as_bytes());
            match theirs {
                Ok(theirs) => prop_assert_eq!(json(ours.as_ref().expect("read by others").root()), theirs),
                // A number of JSON may be too large for a double, and half of a surrogate pair is replaced.
                Err(error) => prop_assert!(
                    ours.is_none() || error.to_string().contains("range") || error.to_string().contains("surrogate")
                        || error.to_string().contains("hex escape"),
                    "{text}: {error}"
                ),
            }
        }

        #[test]
        fn documents_of_any_shape_are_kept(seed in any::<u64>()) {
            let value = arbitrary(seed, 0);
            let text = value.to_string();
            let document = Document::read_json(text.as_bytes()).expect("JSON");
            prop_assert_eq!(json(document.root()), value.clone());
            let mut bytes = Vec::new();
            ciborium::into_writer(&serde_json::json!({"v": value.clone()}), &mut bytes).expect("CBOR");
            let document = Document::read_object(&bytes).expect("CBOR");
            prop_assert_eq!(json(document.root().member("v").expect("a member")), value);
        }

        #[test]
        fn no_payload_is_too_odd(payload in prop::collection::vec(any::<u8>(), 0..40), first in 0xa0_u8..0xc0) {
            let _ = (Document::read_object(&payload), Document::read_json(&payload));
            let map = [&[first][..], &payload].concat();
            let _ = Document::read_object(&map);
        }
    }

    /// A value whose shape is decided by the bits of the seed.
    fn arbitrary(seed: u64, depth: u32) -> serde_json::Value {
        let next = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(depth) | 1);
        match (seed >> 33) % if depth < 4 { 8 } else { 6 } {
            0 => serde_json::Value::Null,
            1 => seed.is_multiple_of(2).into(),
            2 => (seed as i64).into(),
            3 => ((seed as i32) as f64 / 8.0 + 0.0625).into(),
            4 => format!("a\"\n\\ü{}", seed % 100).into(),
            5 => seed.into(),
            6 => (0..seed % 4).map(|n| arbitrary(next ^ (n << 40), depth + 1)).collect(),
            _ => (0..seed % 4).map(|n| (format!("k{n}\t"), arbitrary(next ^ (n << 41), depth + 1))).collect(),
        }
    }
}
