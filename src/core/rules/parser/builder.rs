//! Adds nodes, and folds those that consist of constants.

use super::Parser;
use crate::rules::context::{Context, Names};
use crate::rules::evaluate::Evaluation;
use crate::rules::functions::{Function, Prepared};
use crate::rules::problem::{ParseError, ParseFault};
use crate::rules::syntax::{Call, Item, Node, NodeId, Selection, Syntax};
use crate::rules::value::Value;

use super::EXPRESSION_DEPTH_MAX;

/// A constant that is larger than this, as JSON, is calculated for each message: a short statement shall not take much memory.
const FOLDED_BYTES_MAX: usize = 4096;

/// What constants see of a message: nothing.
struct Nothing;

impl Names for Nothing {
    fn name<'v>(&'v self, _: &str) -> Value<'v> {
        Value::Undefined
    }

    fn whole(&self) -> Value<'_> {
        Value::Undefined
    }
}

impl Parser<'_> {
    pub(super) fn constant(&mut self, value: Value<'static>) -> Result<NodeId, ParseError> {
        self.add(Node::Constant(value))
    }

    /// Adds a node whose children are there already.
    pub(super) fn add(&mut self, node: Node) -> Result<NodeId, ParseError> {
        let (mut depth, mut are_constant) = (0, true);
        for_each_child(&node, &mut |child| {
            depth = depth.max(self.depths.get(child.0 as usize).copied().unwrap_or(0));
            are_constant &= self.syntax.constant(child).is_some();
        });
        if let Node::Variable(index) = &node {
            depth = self.variable_depths(*index);
        }
        if usize::from(depth) >= EXPRESSION_DEPTH_MAX {
            return Err(self.fault(ParseFault::TooDeep { max: EXPRESSION_DEPTH_MAX }));
        }
        let is_folded = are_constant && may_be_folded(&node);
        let id = NodeId(self.syntax.nodes.len() as u32);
        self.syntax.nodes.push(node);
        self.depths.push(depth + 1);
        if let Some(value) = if is_folded { folded(&self.syntax, id) } else { None }
            && let Some(node) = self.syntax.nodes.last_mut()
        {
            *node = Node::Constant(value);
        }
        Ok(id)
    }

    /// A value may be as deep as the variables that it is made of.
    fn variable_depths(&self, index: u16) -> u16 {
        self.set_values.get(usize::from(index)).and_then(|id| self.depths.get(id.0 as usize)).copied().unwrap_or(0)
    }

    /// Looks at a constant argument once; the warning says why it means nothing.
    pub(super) fn prepared(
        &mut self,
        function: &'static Function,
        arguments: &[NodeId],
        start: usize,
    ) -> Option<Prepared> {
        let preparation = function.prepare.as_ref()?;
        let argument = self.syntax.constant(*arguments.get(preparation.argument)?)?;
        let text = argument.to_text().ok()??;
        Some((preparation.prepare)(&text).unwrap_or_else(|problem| {
            self.warn(start, format!("{}() is always Undefined: {problem}", function.name));
            Prepared::Invalid
        }))
    }
}

fn folded(syntax: &Syntax, id: NodeId) -> Option<Value<'static>> {
    let (nothing, context) = (Nothing, Context::default());
    let value = Evaluation::new(syntax, &nothing, &context).value(id).ok()?;
    value.write_json(&mut Vec::new(), FOLDED_BYTES_MAX).ok()?;
    Some(value.into_static())
}

fn may_be_folded(node: &Node) -> bool {
    match node {
        Node::Call(call) => call.function.is_constant,
        Node::Member { .. }
        | Node::Object(_)
        | Node::Array(_)
        | Node::Negated(_)
        | Node::Not(_)
        | Node::Arithmetic(..)
        | Node::Comparison(..)
        | Node::Logic(..)
        | Node::In(..)
        | Node::Case(_)
        | Node::Cast { .. } => true,
        _ => false,
    }
}

fn for_each_child(node: &Node, visit: &mut impl FnMut(NodeId)) {
    match node {
        Node::Constant(_) | Node::Whole(_) | Node::Name { .. } | Node::Variable(_) => {}
        Node::Member { of, .. } | Node::Negated(of) | Node::Not(of) | Node::Exists(of) | Node::Cast { of, .. } => {
            visit(*of)
        }
        Node::Object(members) => members.iter().for_each(|(_, value)| visit(*value)),
        Node::Array(nodes) | Node::Extra { arguments: nodes, .. } => nodes.iter().for_each(|node| visit(*node)),
        Node::Call(call) => {
            let Call { arguments, .. } = &**call;
            arguments.iter().for_each(|argument| visit(*argument));
        }
        Node::Arithmetic(_, left, right)
        | Node::Comparison(_, left, right)
        | Node::Logic(_, left, right)
        | Node::In(left, right) => {
            visit(*left);
            visit(*right);
        }
        Node::Case(case) => {
            visit(case.subject);
            case.branches.iter().for_each(|(when, then)| {
                visit(*when);
                visit(*then);
            });
            case.otherwise.into_iter().for_each(visit);
        }
        Node::Query(query) => {
            visit(query.source);
            match &query.selection {
                Selection::Value(value) => visit(*value),
                Selection::Items(items) => items.iter().for_each(|Item { value, .. }| visit(*value)),
            }
            query.condition.into_iter().for_each(visit);
        }
    }
}
