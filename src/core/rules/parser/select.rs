//! The clauses of a statement, and nested queries.

use super::Parser;
use crate::mqtt::topic;
use crate::rules::lexer::Kind;
use crate::rules::problem::{ParseError, ParseFault};
use crate::rules::syntax::{Item, Node, NodeId, Query, Selection};

/// Longest name of a variable, in characters.
const VARIABLE_CHARS_MAX: usize = 64;
/// Variables of a statement at most.
const VARIABLES_MAX: usize = 64;
/// Names in an alias at most: `AS a.b.c` has three.
const ALIAS_NAMES_MAX: usize = 16;

impl<'s> Parser<'s> {
    pub(super) fn set_clause(&mut self) -> Result<Vec<(String, NodeId)>, ParseError> {
        let mut set = Vec::new();
        if !self.token.kind.is_word("SET") {
            return Ok(set);
        }
        self.advance()?;
        loop {
            let Kind::Variable(name) = self.token.kind else { return Err(self.unexpected("@name")) };
            let is_right = |c: char| c.is_alphanumeric() || c == '_';
            if name.is_empty() || name.chars().count() > VARIABLE_CHARS_MAX || !name.chars().all(is_right) {
                return Err(self.fault(ParseFault::VariableName { max: VARIABLE_CHARS_MAX }));
            }
            if self.variables.iter().any(|known| known == name) {
                return Err(self.fault(ParseFault::VariableSetTwice { name: name.to_owned() }));
            }
            if set.len() == VARIABLES_MAX {
                return Err(self.fault(ParseFault::TooMany { what: "variables", max: VARIABLES_MAX }));
            }
            self.advance()?;
            self.expect_sign("=", "=")?;
            let value = self.expression(0)?;
            self.variables.push(name.to_owned());
            self.set_values.push(value);
            set.push((name.to_owned(), value));
            if !self.skip_sign(",")? {
                return Ok(set);
            }
        }
    }

    /// What stands between SELECT and FROM.
    pub(super) fn selection(&mut self) -> Result<Selection, ParseError> {
        let next = self.peek()?.kind;
        if self.token.kind.is_word("DISTINCT") && !matches!(next, Kind::Sign(_) | Kind::End) && !next.is_word("FROM") {
            let (what, hint) = ("DISTINCT", "each message is looked at by itself");
            return Err(self.fault(ParseFault::Unsupported { what, hint }));
        }
        if self.is_value_clause()? {
            self.advance()?;
            return Ok(Selection::Value(self.expression(0)?));
        }
        let mut items = vec![self.item()?];
        while self.skip_sign(",")? {
            items.push(self.item()?);
        }
        Ok(Selection::Items(items))
    }

    fn item(&mut self) -> Result<Item, ParseError> {
        let (start, first) = (self.token.start, self.token.kind.clone());
        if first == Kind::Sign("*") {
            self.advance()?;
            let value = self.add(Node::Whole(self.scope))?;
            let path = if self.skip_word("AS")? { Some(self.alias()?) } else { None };
            return Ok(Item { value, path });
        }
        let value = self.expression(0)?;
        if self.skip_word("AS")? {
            return Ok(Item { value, path: Some(self.alias()?) });
        }
        let name = match self.syntax.node(value) {
            Node::Name { name, .. } | Node::Member { name, .. } => name.clone(),
            Node::Variable(index) => {
                self.variables.get(usize::from(*index)).map(String::as_str).unwrap_or_default().into()
            }
            // The reference does not say how such a value is called.
            _ => self.lexer.slice(start, self.before_end).into(),
        };
        Ok(Item { value, path: Some(vec![name]) })
    }

    fn alias(&mut self) -> Result<Vec<Box<str>>, ParseError> {
        let mut names = Vec::new();
        loop {
            let Kind::Word(name) = self.token.kind else { return Err(self.unexpected("a name")) };
            if names.len() == ALIAS_NAMES_MAX {
                return Err(self.fault(ParseFault::TooMany { what: "names in an alias", max: ALIAS_NAMES_MAX }));
            }
            self.advance()?;
            names.push(name.into());
            if !self.skip_sign(".")? {
                return Ok(names);
            }
        }
    }

    /// The topic filter, in quotes or without them, and the alias of the payload.
    pub(super) fn topic_source(&mut self) -> Result<(Option<String>, Option<&'s str>), ParseError> {
        if !self.token.kind.is_word("FROM") {
            // Only what names a rule in its topic, as Basic Ingest does, needs no FROM.
            let is_over = self.token.kind == Kind::End || self.token.kind.is_word("WHERE");
            return if is_over { Ok((None, None)) } else { Err(self.unexpected("an operator, a comma or FROM")) };
        }
        let behind_from = self.token.end;
        let is_quoted = self.text.get(behind_from..).is_some_and(|rest| rest.trim_start().starts_with(['\'', '"']));
        let (filter, start) = if is_quoted {
            self.advance()?;
            let Kind::Text(filter) = self.token.kind.clone() else { return Err(self.unexpected("a topic filter")) };
            (filter.into_owned(), self.token.start)
        } else {
            self.lexer.back_to(behind_from);
            let (filter, start) = self.lexer.bare();
            (filter.to_owned(), start)
        };
        check_filter(&filter).map_err(|reason| ParseError::at(self.text, start, ParseFault::TopicFilter { reason }))?;
        self.before_end = self.token.end;
        self.token = self.lexer.next()?;
        Ok((Some(filter), self.source_alias()?))
    }

    fn source_alias(&mut self) -> Result<Option<&'s str>, ParseError> {
        if !self.skip_word("AS")? {
            return Ok(None);
        }
        let Kind::Word(name) = self.token.kind else { return Err(self.unexpected("a name")) };
        self.advance()?;
        Ok(Some(name))
    }

    pub(super) fn condition(&mut self) -> Result<Option<NodeId>, ParseError> {
        if self.skip_word("WHERE")? { Ok(Some(self.expression(0)?)) } else { Ok(None) }
    }

    /// A query over an array or an object, from SELECT on.
    pub(super) fn query(&mut self) -> Result<NodeId, ParseError> {
        self.nested(|parser| {
            parser.expect_word("SELECT")?;
            let first = parser.syntax.nodes.len();
            parser.scope += 1;
            let selection = parser.selection()?;
            parser.scope -= 1;
            parser.expect_word("FROM")?;
            let source_first = parser.syntax.nodes.len();
            let source = parser.operand()?;
            let source_end = parser.syntax.nodes.len();
            let alias = parser.source_alias()?;
            parser.scope += 1;
            let condition = parser.condition()?;
            if let Some(alias) = alias {
                parser.resolve(first..source_first, alias);
                parser.resolve(source_end..parser.syntax.nodes.len(), alias);
            }
            parser.scope -= 1;
            parser.add(Node::Query(Box::new(Query { source, selection, condition })))
        })
    }

    /// Names that are the alias of the present scope stand for its element. The alias stands behind them in the text.
    pub(super) fn resolve(&mut self, nodes: std::ops::Range<usize>, alias: &str) {
        let scope = self.scope;
        for node in self.syntax.nodes.get_mut(nodes).unwrap_or_default() {
            if matches!(node, Node::Name { name, .. } if **name == *alias) {
                *node = Node::Whole(scope);
            }
        }
    }
}

/// A filter of MQTT; besides, one of topics that a cloud reserves for itself, to which nobody publishes here.
fn check_filter(filter: &str) -> Result<(), &'static str> {
    let filter = filter.strip_prefix('$').filter(|_| filter.starts_with("$aws/")).unwrap_or(filter);
    topic::check_filter(filter).map_err(|error| error.reason())
}
