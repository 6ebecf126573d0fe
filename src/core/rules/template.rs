//! Texts with expressions in them: `alerts/${topic(2)}`. They see the message and what SET says, and no aliases of SELECT.

use super::context::{Context, Names};
use super::evaluate::Evaluation;
use super::parser::{Parser, Vocabulary};
use super::problem::{EvaluationError, ParseError};
use super::syntax::{ExtraCall, NodeId, Syntax};
use super::value::{TEXT_BYTES_MAX, Value};

const OPEN: &str = "${";

#[derive(Debug)]
enum Part {
    Literal(Box<str>),
    Expression(NodeId),
}

/// A text that is filled in for each message.
#[derive(Debug)]
pub struct Template {
    syntax: Syntax,
    parts: Vec<Part>,
}

/// A text that was filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// With nothing where a value is Undefined or null.
    pub text: String,
    /// Whether every expression had a value. A topic in which one is missing is another topic than was meant.
    pub is_complete: bool,
}

impl Template {
    /// Reads a template that may use these variables, in the order of [`super::statement::Statement::variable_names`].
    ///
    /// # Errors
    ///
    /// If an expression in it is none, or beyond the bounds.
    pub fn parse(text: &str, variable_names: &[String], vocabulary: Vocabulary<'_>) -> Result<Template, ParseError> {
        let mut parts = Vec::new();
        // The first token is read again where an expression begins.
        let mut parser: Option<Parser<'_>> = None;
        let mut from = 0;
        while let Some((literal, _)) = text.get(from..).and_then(|rest| rest.split_once(OPEN)) {
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.into()));
            }
            let start = from + literal.len() + OPEN.len();
            let parser = match &mut parser {
                Some(parser) => {
                    parser.go_on(start)?;
                    parser
                }
                None => parser.insert(Parser::new(text, start, vocabulary)?.with_variables(variable_names)),
            };
            let (id, end) = parser.template_expression()?;
            parts.push(Part::Expression(id));
            from = end;
        }
        let rest = text.get(from..).unwrap_or_default();
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        let syntax = parser.map(|parser| parser.into_syntax().0).unwrap_or_default();
        Ok(Template { syntax, parts })
    }

    /// The text, if nothing in it is to be filled in.
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The names that it looks up, in the order of the text, each once.
    pub fn names(&self) -> Vec<&str> {
        self.syntax.names()
    }

    /// The calls of functions that it was parsed with in addition to those of the language.
    pub fn calls(&self) -> impl Iterator<Item = ExtraCall<'_>> {
        self.syntax.calls()
    }

    /// Fills in the text.
    ///
    /// # Errors
    ///
    /// If a bound is exceeded.
    pub fn render<'v>(
        &'v self,
        names: &'v dyn Names,
        context: &'v Context<'v>,
        variables: &[Value<'v>],
    ) -> Result<Rendered, EvaluationError> {
        let mut evaluation = Evaluation::new(&self.syntax, names, context);
        evaluation.variables = variables.to_vec();
        let mut rendered = Rendered { text: String::new(), is_complete: true };
        for part in &self.parts {
            match part {
                Part::Literal(text) => rendered.text.push_str(text),
                Part::Expression(id) => match evaluation.value(*id)?.to_text()? {
                    Some(text) => rendered.text.push_str(&text),
                    None => rendered.is_complete = false,
                },
            }
            if rendered.text.len() > TEXT_BYTES_MAX {
                return Err(EvaluationError::TooLarge { max: TEXT_BYTES_MAX });
            }
        }
        Ok(rendered)
    }
}
