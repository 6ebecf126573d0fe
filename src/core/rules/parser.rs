//! From tokens to nodes, by precedence. Constants are folded on the way: what depends on no message is calculated once.

mod builder;
mod expression;
mod select;
mod value_word;

use super::lexer::{Kind, Lexer, Token};
use super::problem::{ParseError, ParseFault, Place, Warning};
use super::syntax::{NodeId, Scope, Selection, Syntax};

/// Longest statement, in bytes.
pub const STATEMENT_BYTES_MAX: usize = 32 * 1024;
/// How deeply brackets and queries may be nested.
pub const NESTING_MAX: usize = 64;
/// How deep an expression may be, operators that follow each other included.
pub const EXPRESSION_DEPTH_MAX: usize = 256;

/// A function that an expression may use besides those of the language. [`super::context::Names::call`] gives its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtraFunction {
    /// Written in any case.
    pub name: &'static str,
    /// Fewest arguments.
    pub arguments_min: usize,
    /// Most arguments.
    pub arguments_max: usize,
    /// How many of its arguments, from the first on, are names of metrics: of `avg(engine.temperature, 30)` one.
    pub names: usize,
}

/// What an expression may use besides the language itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vocabulary<'s> {
    /// Further functions.
    pub functions: &'s [ExtraFunction],
    /// A name may have dots: `engine.temperature` is a metric, and not a member of `engine`.
    pub has_dotted_names: bool,
}

pub(super) struct Parser<'s> {
    text: &'s str,
    lexer: Lexer<'s>,
    token: Token<'s>,
    /// Where the token before it ends.
    before_end: usize,
    syntax: Syntax,
    /// Of each node: how deep it is.
    depths: Vec<u16>,
    nesting: usize,
    scope: Scope,
    /// Names of variables that are set.
    variables: Vec<String>,
    /// What they are set to, if that is in this text.
    set_values: Vec<NodeId>,
    vocabulary: Vocabulary<'s>,
    warnings: Vec<Warning>,
}

/// A whole statement.
pub(super) struct Parsed {
    pub syntax: Syntax,
    pub variables: Vec<(String, NodeId)>,
    pub selection: Selection,
    pub filter: Option<String>,
    pub condition: Option<NodeId>,
    pub warnings: Vec<Warning>,
}

impl<'s> Parser<'s> {
    /// Of a text from a byte on.
    pub(super) fn new(text: &'s str, start: usize, vocabulary: Vocabulary<'s>) -> Result<Parser<'s>, ParseError> {
        if text.len() > STATEMENT_BYTES_MAX {
            return Err(ParseError::at(text, 0, ParseFault::TooLong { max: STATEMENT_BYTES_MAX }));
        }
        let mut lexer = Lexer::new(text, start, text.len());
        let token = lexer.next()?;
        let (syntax, depths) = (Syntax::default(), Vec::new());
        let (variables, warnings) = (Vec::new(), Vec::new());
        Ok(Parser {
            text,
            lexer,
            token,
            before_end: start,
            syntax,
            depths,
            nesting: 0,
            scope: 0,
            variables,
            set_values: Vec::new(),
            vocabulary,
            warnings,
        })
    }

    /// A parser that goes on with the nodes and variables of another one, elsewhere in the same text.
    pub(super) fn go_on(&mut self, start: usize) -> Result<(), ParseError> {
        self.lexer.back_to(start);
        self.before_end = start;
        self.token = self.lexer.next()?;
        Ok(())
    }

    /// With these variables set.
    pub(super) fn with_variables(mut self, names: &[String]) -> Parser<'s> {
        self.variables = names.to_vec();
        self
    }

    /// A statement, and nothing behind it.
    pub(super) fn statement(mut self) -> Result<Parsed, ParseError> {
        let variables = self.set_clause()?;
        self.expect_word("SELECT")?;
        let selection = self.selection()?;
        let (filter, alias) = self.topic_source()?;
        let condition = self.condition()?;
        self.expect_end()?;
        if let Some(alias) = alias {
            self.resolve(0..self.syntax.nodes.len(), alias);
        }
        let Parser { syntax, warnings, .. } = self;
        Ok(Parsed { syntax, variables, selection, filter, condition, warnings })
    }

    /// A lone expression, and nothing behind it.
    pub(super) fn lone_expression(mut self) -> Result<(Syntax, NodeId, Vec<Warning>), ParseError> {
        let id = self.expression(0)?;
        self.expect_end()?;
        Ok((self.syntax, id, self.warnings))
    }

    /// An expression within a template. Returns where the text behind its closing brace begins.
    pub(super) fn template_expression(&mut self) -> Result<(NodeId, usize), ParseError> {
        let id = self.expression(0)?;
        if self.token.kind == Kind::End {
            return Err(self.fault(ParseFault::OpenTemplate));
        }
        if self.token.kind != Kind::Sign("}") {
            return Err(self.unexpected("an operator or }"));
        }
        Ok((id, self.token.end))
    }

    pub(super) fn into_syntax(self) -> (Syntax, Vec<Warning>) {
        (self.syntax, self.warnings)
    }

    fn advance(&mut self) -> Result<Token<'s>, ParseError> {
        let next = self.lexer.next()?;
        self.before_end = self.token.end;
        Ok(std::mem::replace(&mut self.token, next))
    }

    /// The token behind the present one.
    fn peek(&self) -> Result<Token<'s>, ParseError> {
        let mut lexer = self.lexer;
        lexer.next()
    }

    fn skip_sign(&mut self, sign: &str) -> Result<bool, ParseError> {
        let is_there = matches!(self.token.kind, Kind::Sign(found) if found == sign);
        if is_there {
            self.advance()?;
        }
        Ok(is_there)
    }

    fn skip_word(&mut self, word: &str) -> Result<bool, ParseError> {
        let is_there = self.token.kind.is_word(word);
        if is_there {
            self.advance()?;
        }
        Ok(is_there)
    }

    fn expect_sign(&mut self, sign: &str, expected: &'static str) -> Result<(), ParseError> {
        if self.skip_sign(sign)? { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    fn expect_word(&mut self, word: &'static str) -> Result<(), ParseError> {
        if self.skip_word(word)? { Ok(()) } else { Err(self.unexpected(word)) }
    }

    fn expect_end(&mut self) -> Result<(), ParseError> {
        if self.token.kind == Kind::End { Ok(()) } else { Err(self.unexpected("an operator or the end")) }
    }

    fn fault(&self, fault: ParseFault) -> ParseError {
        ParseError::at(self.text, self.token.start, fault)
    }

    fn warn(&mut self, offset: usize, text: String) {
        let Place { line, column } = Place::of(self.text, offset);
        self.warnings.push(Warning { line, column, text });
    }

    /// The error for the present token, where other dialects have something that this language does not.
    fn unexpected(&self, expected: &'static str) -> ParseError {
        const OTHERS: [(&str, &str, &str); 13] = [
            ("LIKE", "LIKE", "use startswith(), endswith(), indexof() or regexp_matches()"),
            ("BETWEEN", "BETWEEN", "write x >= low AND x <= high"),
            ("IS", "IS", "use isNull() or isUndefined()"),
            ("NOT", "NOT behind its operand", "NOT stands before the condition: NOT x IN [1, 2]"),
            ("GROUP", "GROUP BY", "each message is looked at by itself"),
            ("ORDER", "ORDER BY", "each message is looked at by itself"),
            ("HAVING", "HAVING", "each message is looked at by itself"),
            ("LIMIT", "LIMIT", "each message is looked at by itself; get(array, 0) takes one element"),
            ("UNION", "UNION", "a second rule makes a second result"),
            ("JOIN", "JOIN", "each message is looked at by itself"),
            ("INNER", "JOIN", "each message is looked at by itself"),
            ("LEFT", "JOIN", "each message is looked at by itself"),
            ("SET", "SET behind SELECT", "variables are set before SELECT"),
        ];
        let found = OTHERS.iter().find(|(word, ..)| self.token.kind.is_word(word));
        self.fault(match found {
            Some((_, what, hint)) => ParseFault::Unsupported { what, hint },
            None => ParseFault::Expected { expected, found: self.token.kind.named() },
        })
    }

    /// Goes one level deeper, for as long as `parse` runs.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        if self.nesting == NESTING_MAX {
            return Err(self.fault(ParseFault::TooDeep { max: NESTING_MAX }));
        }
        self.nesting += 1;
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }
}
