//! Statements and lone expressions, parsed once and evaluated for each message.

use super::context::{Context, Names, is_basic_ingest};
use super::evaluate::Evaluation;
use super::parser::{Parsed, Parser, Vocabulary};
use super::problem::{EvaluationError, ParseError, Warning};
use super::syntax::{ExtraCall, NodeId, Selection, Syntax};
use super::value::{RESULT_BYTES_MAX, Value};
use crate::mqtt::topic;

/// `SELECT ... FROM ... WHERE ...`
#[derive(Debug)]
pub struct Statement {
    syntax: Syntax,
    variable_names: Vec<String>,
    variables: Vec<NodeId>,
    selection: Selection,
    filter: Option<String>,
    condition: Option<NodeId>,
    warnings: Vec<Warning>,
}

/// What a statement makes of a message that passes.
#[derive(Clone, Debug)]
pub struct Match<'v> {
    /// The result.
    pub value: Value<'v>,
    /// What SET says, for [`super::template::Template::render`].
    pub variables: Vec<Value<'v>>,
}

impl Statement {
    /// Reads a statement.
    ///
    /// # Errors
    ///
    /// If it is no statement of the language, or beyond its bounds.
    pub fn parse(text: &str) -> Result<Statement, ParseError> {
        Statement::parse_with(text, Vocabulary::default())
    }

    /// Reads a statement that may use other functions, too.
    ///
    /// # Errors
    ///
    /// If it is no statement of the language, or beyond its bounds.
    pub fn parse_with(text: &str, vocabulary: Vocabulary<'_>) -> Result<Statement, ParseError> {
        let Parsed { syntax, variables, selection, filter, condition, warnings } =
            Parser::new(text, 0, vocabulary)?.statement()?;
        let (variable_names, variables) = variables.into_iter().unzip();
        Ok(Statement { syntax, variable_names, variables, selection, filter, condition, warnings })
    }

    /// The topic filter behind FROM. A statement without one is only for messages whose topic names the rule.
    pub fn filter(&self) -> Option<&str> {
        self.filter.as_deref()
    }

    /// Whether a message of this topic is one of those that the statement is for.
    pub fn is_for(&self, topic: &str) -> bool {
        is_basic_ingest(topic) || self.filter.as_deref().is_some_and(|filter| topic::matches(filter, topic))
    }

    /// What is allowed and probably not meant.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Names of the variables that SET says.
    pub fn variable_names(&self) -> &[String] {
        &self.variable_names
    }

    /// The calls of functions that it was parsed with in addition to those of the language.
    pub fn calls(&self) -> impl Iterator<Item = ExtraCall<'_>> {
        self.syntax.calls()
    }

    /// What the statement makes of a message; `None` if its condition does not let it pass.
    ///
    /// # Errors
    ///
    /// If a bound is exceeded.
    pub fn evaluate<'v>(
        &'v self,
        names: &'v dyn Names,
        context: &'v Context<'v>,
    ) -> Result<Option<Match<'v>>, EvaluationError> {
        let mut evaluation = Evaluation::new(&self.syntax, names, context);
        for variable in &self.variables {
            let value = evaluation.value(*variable)?;
            evaluation.variables.push(value);
        }
        if !evaluation.is_true(self.condition)? {
            return Ok(None);
        }
        let value = evaluation.selection(&self.selection, 0)?;
        Ok(Some(Match { value, variables: std::mem::take(&mut evaluation.variables) }))
    }
}

impl Match<'_> {
    /// Appends the result: JSON, or the bytes of a payload that is no object. A result that is Undefined is empty.
    ///
    /// # Errors
    ///
    /// If it has more than [`RESULT_BYTES_MAX`] bytes.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), EvaluationError> {
        if let Value::Bytes(bytes) = &self.value {
            out.extend_from_slice(bytes);
            return Ok(());
        }
        let bytes_max = out.len().saturating_add(RESULT_BYTES_MAX);
        self.value.write_json(out, bytes_max)
    }
}

/// A lone expression, such as the condition of an alert.
#[derive(Debug)]
pub struct Expression {
    syntax: Syntax,
    root: NodeId,
    warnings: Vec<Warning>,
}

impl Expression {
    /// Reads an expression, which may use other functions, too.
    ///
    /// # Errors
    ///
    /// If it is no expression of the language, or beyond its bounds.
    pub fn parse(text: &str, vocabulary: Vocabulary<'_>) -> Result<Expression, ParseError> {
        let (syntax, root, warnings) = Parser::new(text, 0, vocabulary)?.lone_expression()?;
        Ok(Expression { syntax, root, warnings })
    }

    /// What is allowed and probably not meant.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Whether it is worth the same for every message.
    pub fn is_constant(&self) -> bool {
        self.syntax.constant(self.root).is_some()
    }

    /// The names that it looks up, in the order of the text, each once.
    pub fn names(&self) -> Vec<&str> {
        self.syntax.names()
    }

    /// The calls of functions that it was parsed with in addition to those of the language.
    pub fn calls(&self) -> impl Iterator<Item = ExtraCall<'_>> {
        self.syntax.calls()
    }

    /// What it is worth.
    ///
    /// # Errors
    ///
    /// If a bound is exceeded.
    pub fn evaluate<'v>(
        &'v self,
        names: &'v dyn Names,
        context: &'v Context<'v>,
    ) -> Result<Value<'v>, EvaluationError> {
        Evaluation::new(&self.syntax, names, context).value(self.root)
    }
}
