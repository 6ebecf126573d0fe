//! A payload as a tree, whatever it was written in: what paths lead into.
//!
//! The nodes stand in one list, each before those below it, so a publish costs no allocation once the buffers have their size.

mod read;

pub use read::read;

use super::flatten::KEPT_BYTES_MAX;
use super::repeats::COMPARED_MAX;
use super::value::Value;
use crate::core::path::Step;

/// Most values of one publish.
const NODES_MAX: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Content {
    /// Null, or superseded by another one of its name.
    Nothing,
    List,
    Object,
    Scalar(Value),
}

#[derive(Clone, Copy, Debug)]
struct Node {
    name_start: usize,
    name_end: usize,
    content: Content,
    /// The first node that is not below this one.
    end: usize,
}

/// Place of a node.
pub type NodeId = usize;

#[derive(Debug, Default)]
pub struct Document {
    texts: String,
    nodes: Vec<Node>,
    has_marks: bool,
    has_huge: bool,
    fault: Option<&'static str>,
}

impl Document {
    pub const ROOT: NodeId = 0;

    pub fn clear(&mut self) {
        self.texts.clear();
        self.texts.shrink_to(KEPT_BYTES_MAX);
        self.nodes.clear();
        self.nodes.shrink_to(KEPT_BYTES_MAX / size_of::<Node>());
        (self.has_marks, self.has_huge, self.fault) = (false, false, None);
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn content(&self, node: NodeId) -> Content {
        self.nodes[node].content
    }

    pub fn name(&self, node: NodeId) -> &str {
        &self.texts[self.nodes[node].name_start..self.nodes[node].name_end]
    }

    pub fn text(&self, node: NodeId) -> Option<&str> {
        match self.content(node) {
            Content::Scalar(Value::Text { start, end }) => Some(&self.texts[start..end]),
            _ => None,
        }
    }

    /// A number or a boolean, as a double.
    pub fn number(&self, node: NodeId) -> Option<f64> {
        match self.content(node) {
            Content::Scalar(value) => value.number().map(|(number, _)| number),
            _ => None,
        }
    }

    pub fn children(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let end = self.nodes[node].end;
        let mut next = node + 1;
        std::iter::from_fn(move || {
            let child = next;
            next = self.nodes.get(child).map_or(end, |node| node.end);
            (child < end).then_some(child)
        })
    }

    /// Nodes below this one, at any depth.
    pub fn below(&self, node: NodeId) -> std::ops::Range<NodeId> {
        node + 1..self.nodes[node].end
    }

    /// What one step of a path leads to, if that is one node.
    fn step(&self, from: NodeId, step: &Step) -> Option<NodeId> {
        match (step, self.content(from)) {
            (Step::Name(name), Content::Object) => {
                let is_there = |child: &NodeId| self.content(*child) != Content::Nothing && self.name(*child) == name;
                self.children(from).find(is_there)
            }
            (Step::Index(index), Content::List) => self.children(from).nth(*index),
            _ => None,
        }
    }

    /// What a path without `*` leads to. Null is nothing.
    pub fn find(&self, from: NodeId, steps: &[Step]) -> Option<NodeId> {
        let node = steps.iter().try_fold(from, |node, step| self.step(node, step))?;
        Some(node).filter(|node| self.content(*node) != Content::Nothing)
    }

    /// Everything that a path leads to, with the node whose name tells it from the others: that of the last `*` that went through an object,
    /// or else of the last one at all.
    pub fn find_all(
        &self,
        from: NodeId,
        steps: &[Step],
        key: Option<NodeId>,
        found: &mut Vec<(NodeId, Option<NodeId>)>,
    ) {
        let Some((step, rest)) = steps.split_first() else {
            if self.content(from) != Content::Nothing {
                found.push((from, key));
            }
            return;
        };
        match (step, self.content(from)) {
            (Step::Members, Content::Object) => {
                self.children(from).for_each(|child| self.find_all(child, rest, Some(child), found));
            }
            (Step::Elements, Content::List) => {
                self.children(from).for_each(|child| self.find_all(child, rest, key.or(Some(child)), found));
            }
            _ => {
                if let Some(child) = self.step(from, step) {
                    self.find_all(child, rest, key, found);
                }
            }
        }
    }

    /// Begins an object or a list; what is added until [`Self::close`] is below it.
    pub fn open(&mut self, name: &str, content: Content) -> Result<NodeId, &'static str> {
        if self.nodes.len() == NODES_MAX {
            return Err("too_many_fields");
        }
        let name_start = self.texts.len();
        self.texts.push_str(name);
        let node = self.nodes.len();
        self.nodes.push(Node { name_start, name_end: self.texts.len(), content, end: node + 1 });
        Ok(node)
    }

    pub fn close(&mut self, node: NodeId) {
        self.nodes[node].end = self.nodes.len();
    }

    pub fn add(&mut self, name: &str, value: Value) -> Result<(), &'static str> {
        self.open(name, Content::Scalar(value)).map(|_| ())
    }

    pub fn add_text(&mut self, name: &str, text: &str) -> Result<(), &'static str> {
        let start = self.texts.len();
        self.texts.push_str(text);
        let end = self.texts.len();
        self.add(name, Value::Text { start, end })
    }

    /// Leaves each name once in each object, see [`super::repeats`].
    pub fn settle_repeats(&mut self) -> Result<(), &'static str> {
        let mut children: Vec<NodeId> = Vec::new();
        for node in 0..self.nodes.len() {
            if self.content(node) != Content::Object || self.has_few_and_distinct(node) {
                continue;
            }
            children.clear();
            children.extend(self.children(node));
            // Sorted, so that a hostile payload costs no more than that.
            children.sort_by(|a, b| self.name(*a).cmp(self.name(*b)).then(a.cmp(b)));
            for pair in children.windows(2) {
                if self.name(pair[0]) == self.name(pair[1]) {
                    self.supersede(pair[0], pair[1])?;
                }
            }
        }
        Ok(())
    }

    /// Whether an object has only a few members, each of another name: they are compared with each other, which needs no memory.
    fn has_few_and_distinct(&self, object: NodeId) -> bool {
        let mut names: [&str; COMPARED_MAX] = [""; COMPARED_MAX];
        for (at, child) in self.children(object).enumerate() {
            let name = self.name(child);
            if at == COMPARED_MAX || names[..at].contains(&name) {
                return false;
            }
            names[at] = name;
        }
        true
    }

    fn supersede(&mut self, earlier: NodeId, later: NodeId) -> Result<(), &'static str> {
        let is_same = match (self.content(earlier), self.content(later)) {
            (Content::Nothing, _) | (_, Content::Nothing) => return Ok(()),
            (Content::Scalar(Value::Text { .. }), Content::Scalar(Value::Text { .. })) => true,
            (Content::Scalar(a), Content::Scalar(b)) => a == b,
            _ => false,
        };
        self.nodes[earlier].content = Content::Nothing;
        if is_same { Ok(()) } else { Err("key_twice") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::path::Path;
    use crate::ingest::route::Format;

    fn document(json: &str) -> Document {
        let mut document = Document::default();
        read(json.as_bytes(), Format::Json, &mut document).expect("JSON");
        document
    }

    fn found(json: &str, path: &str) -> Vec<(String, String)> {
        let document = document(json);
        let mut found = Vec::new();
        document.find_all(Document::ROOT, &Path::parse(path).expect("a path").steps, None, &mut found);
        let name = |node: Option<NodeId>| node.map(|node| document.name(node).to_owned()).unwrap_or_default();
        found.into_iter().map(|(node, key)| (document.name(node).to_owned(), name(key))).collect()
    }

    #[test]
    fn paths_lead_into_a_document() {
        let json = r#"{"a":{"b-c":[1,{"x":2}]},"l":[{"k":1},{"k":2}],"n":null}"#;
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, key)| ((*name).to_owned(), (*key).to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(found(json, "$.a.\"b-c\"[1].x"), pairs(&[("x", "")]));
        assert_eq!(found(json, "$.l[*].k"), pairs(&[("k", "0"), ("k", "1")]));
        assert_eq!(found(json, "$.*"), pairs(&[("a", "a"), ("l", "l")]));
        assert_eq!(found(json, "$.*[*].k"), pairs(&[("k", "l"), ("k", "l")]));
        for nothing in ["$.n", "$.l.k", "$.a[0]", "$.l[2]", "$.x.y"] {
            assert_eq!(found(json, nothing), [], "{nothing}");
        }
    }

    #[test]
    fn a_name_stands_once() {
        assert_eq!(found(r#"{"a":"x","a":"y"}"#, "$.*"), [("a".to_owned(), "a".to_owned())]);
        let mut document = Document::default();
        assert_eq!(read(br#"{"a":1,"a":2}"#, Format::Json, &mut document), Err("key_twice"));
        document.clear();
        assert_eq!(read(br#"[{"a":{},"a":2}]"#, Format::Json, &mut document), Err("key_twice"));
    }
}
