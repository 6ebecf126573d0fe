//! A statement after parsing: nodes in one list, of which each stands behind those that it consists of.

use super::functions::{Function, Prepared};
use super::value::Value;

/// A node's place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(pub u32);

/// Which elements a name may be looked for in: 0 is the message, the others are nested queries, from the outermost on.
pub(super) type Scope = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Plus,
    Minus,
    Times,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logic {
    And,
    Or,
}

/// A type that `cast` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Int,
    Decimal,
    Boolean,
}

#[derive(Debug)]
pub(super) enum Node {
    Constant(Value<'static>),
    /// `*`: the payload, or the element that a nested query is at.
    Whole(Scope),
    /// A member of the payload, or of the element that a nested query is at.
    Name {
        name: Box<str>,
        scope: Scope,
    },
    /// `@name`, by its place.
    Variable(u16),
    Member {
        of: NodeId,
        name: Box<str>,
    },
    Object(Box<[(Box<str>, NodeId)]>),
    Array(Box<[NodeId]>),
    Negated(NodeId),
    Not(NodeId),
    Arithmetic(Arithmetic, NodeId, NodeId),
    Comparison(Comparison, NodeId, NodeId),
    Logic(Logic, NodeId, NodeId),
    In(NodeId, NodeId),
    Exists(NodeId),
    Case(Box<Case>),
    Cast {
        of: NodeId,
        to: Type,
    },
    Call(Box<Call>),
    /// A function that is not of the language, by its place among those that were given.
    Extra {
        function: u16,
        arguments: Box<[NodeId]>,
    },
    Query(Box<Query>),
}

#[derive(Debug)]
pub(super) struct Case {
    pub subject: NodeId,
    pub branches: Vec<(NodeId, NodeId)>,
    pub otherwise: Option<NodeId>,
}

#[derive(Debug)]
pub(super) struct Call {
    pub function: &'static Function,
    pub arguments: Vec<NodeId>,
    pub prepared: Option<Prepared>,
}

/// A nested query.
#[derive(Debug)]
pub(super) struct Query {
    pub source: NodeId,
    pub selection: Selection,
    pub condition: Option<NodeId>,
}

/// What stands behind SELECT.
#[derive(Debug)]
pub(super) enum Selection {
    Value(NodeId),
    Items(Vec<Item>),
}

#[derive(Debug)]
pub(super) struct Item {
    pub value: NodeId,
    /// Under which name it stands in the result; several are objects in each other. `None` for the members of `*`.
    pub path: Option<Vec<Box<str>>>,
}

/// A call of a function that is not of the language.
#[derive(Clone, Debug)]
pub struct ExtraCall<'s> {
    /// Its place among those that were given.
    pub function: usize,
    /// `None` for an argument that is not the same for every message.
    pub arguments: Vec<Option<&'s Value<'static>>>,
}

/// All nodes of a statement.
#[derive(Debug, Default)]
pub(super) struct Syntax {
    pub nodes: Vec<Node>,
}

const UNDEFINED: Node = Node::Constant(Value::Undefined);

impl Syntax {
    pub(super) fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id.0 as usize).unwrap_or(&UNDEFINED)
    }

    /// The names that are looked up in the message, in the order of the text, each once.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for node in &self.nodes {
            if let Node::Name { name, scope: 0 } = node
                && !names.contains(&&**name)
            {
                names.push(&**name);
            }
        }
        names
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = ExtraCall<'_>> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Extra { function, arguments } => Some(ExtraCall {
                function: usize::from(*function),
                arguments: arguments.iter().map(|argument| self.constant(*argument)).collect(),
            }),
            _ => None,
        })
    }

    pub(super) fn constant(&self, id: NodeId) -> Option<&Value<'static>> {
        match self.node(id) {
            Node::Constant(value) => Some(value),
            _ => None,
        }
    }
}
