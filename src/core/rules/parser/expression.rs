//! Expressions. An operator that stands further down binds its operands more tightly:
//!
//! ```text
//! OR
//! AND
//! NOT
//! = <> < <= > >= IN
//! + -
//! * / %
//! - (of one operand)
//! .name [index]
//! ```

use super::Parser;
use crate::rules::functions;
use crate::rules::lexer::{Kind, Token};
use crate::rules::number::Number;
use crate::rules::problem::{ParseError, ParseFault};
use crate::rules::syntax::{Arithmetic, Call, Case, Comparison, Logic, Node, NodeId, Type};
use crate::rules::value::Value;

const OR: u8 = 1;
const AND: u8 = 2;
const COMPARISON: u8 = 4;
const SUM: u8 = 5;
const PRODUCT: u8 = 6;
const SIGNED: u8 = 7;

/// Words that cannot be the name of a field.
const RESERVED: [&str; 13] =
    ["SELECT", "FROM", "WHERE", "AS", "AND", "OR", "NOT", "IN", "CASE", "WHEN", "THEN", "ELSE", "END"];

const TYPES: [(&str, Type); 11] = [
    ("String", Type::Text),
    ("Nvarchar", Type::Text),
    ("Text", Type::Text),
    ("Ntext", Type::Text),
    ("Varchar", Type::Text),
    ("Int", Type::Int),
    ("Integer", Type::Int),
    ("Double", Type::Decimal),
    ("Decimal", Type::Decimal),
    ("Bool", Type::Boolean),
    ("Boolean", Type::Boolean),
];

/// An operator between two operands.
enum Binary {
    Arithmetic(Arithmetic),
    Comparison(Comparison),
    Logic(Logic),
    In,
}

fn binary(kind: &Kind<'_>) -> Option<(u8, Binary)> {
    Some(match kind {
        Kind::Sign("+") => (SUM, Binary::Arithmetic(Arithmetic::Plus)),
        Kind::Sign("-") => (SUM, Binary::Arithmetic(Arithmetic::Minus)),
        Kind::Sign("*") => (PRODUCT, Binary::Arithmetic(Arithmetic::Times)),
        Kind::Sign("/") => (PRODUCT, Binary::Arithmetic(Arithmetic::Divide)),
        Kind::Sign("%") => (PRODUCT, Binary::Arithmetic(Arithmetic::Remainder)),
        Kind::Sign("=") => (COMPARISON, Binary::Comparison(Comparison::Equal)),
        Kind::Sign("<>" | "!=") => (COMPARISON, Binary::Comparison(Comparison::Unequal)),
        Kind::Sign("<") => (COMPARISON, Binary::Comparison(Comparison::Less)),
        Kind::Sign("<=") => (COMPARISON, Binary::Comparison(Comparison::LessOrEqual)),
        Kind::Sign(">") => (COMPARISON, Binary::Comparison(Comparison::Greater)),
        Kind::Sign(">=") => (COMPARISON, Binary::Comparison(Comparison::GreaterOrEqual)),
        kind if kind.is_word("AND") => (AND, Binary::Logic(Logic::And)),
        kind if kind.is_word("OR") => (OR, Binary::Logic(Logic::Or)),
        kind if kind.is_word("IN") => (COMPARISON, Binary::In),
        _ => return None,
    })
}

impl<'s> Parser<'s> {
    /// An expression of operators that bind at least as tightly as `tightness`.
    pub(super) fn expression(&mut self, tightness: u8) -> Result<NodeId, ParseError> {
        self.nested(|parser| {
            let mut left = parser.operand()?;
            while let Some((level, operator)) = binary(&parser.token.kind).filter(|(level, _)| *level >= tightness) {
                let start = parser.advance()?.start;
                let right = parser.expression(level + 1)?;
                let node = match operator {
                    Binary::Arithmetic(operator) => {
                        parser.check_division(operator, left, right, start);
                        Node::Arithmetic(operator, left, right)
                    }
                    Binary::Comparison(comparison) => Node::Comparison(comparison, left, right),
                    Binary::Logic(logic) => Node::Logic(logic, left, right),
                    Binary::In => Node::In(left, right),
                };
                left = parser.add(node)?;
            }
            Ok(left)
        })
    }

    /// The quotient of two Ints is an Int, which whoever converts units does not expect.
    fn check_division(&mut self, operator: Arithmetic, left: NodeId, right: NodeId, start: usize) {
        let divisor = match self.syntax.constant(right) {
            Some(Value::Number(divisor)) if divisor.is_int() => *divisor,
            _ => return,
        };
        let may_be_int = !matches!(self.syntax.constant(left), Some(value) if !is_int(value));
        if operator == Arithmetic::Divide && may_be_int {
            let text =
                format!("an Int divided by an Int is an Int, its fraction cut off; / '{divisor}' keeps the fraction");
            self.warn(start, text);
        }
    }

    pub(super) fn operand(&mut self) -> Result<NodeId, ParseError> {
        if self.skip_word("NOT")? {
            let operand = self.expression(COMPARISON)?;
            return self.add(Node::Not(operand));
        }
        if self.skip_sign("-")? {
            let operand = self.expression(SIGNED)?;
            return self.add(Node::Negated(operand));
        }
        let mut node = self.primary()?;
        loop {
            if self.skip_sign(".")? {
                let name = self.member_name()?;
                node = self.add(Node::Member { of: node, name })?;
            } else if self.skip_sign("[")? {
                let index = self.expression(0)?;
                self.expect_sign("]", "]")?;
                let function = functions::find("get").expect("get is a function of the language");
                let call = Call { function, arguments: vec![node, index], prepared: None };
                node = self.add(Node::Call(Box::new(call)))?;
            } else {
                return Ok(node);
            }
        }
    }

    /// Any word is a name here, those of the language too.
    fn member_name(&mut self) -> Result<Box<str>, ParseError> {
        if let Kind::Word(name) = self.token.kind {
            self.advance()?;
            return Ok(name.into());
        }
        if self.token.kind == Kind::Sign("*") {
            let (what, hint) = (".*", "write the object itself, or name its members one by one");
            return Err(self.fault(ParseFault::Unsupported { what, hint }));
        }
        Err(self.unexpected("a name"))
    }

    fn primary(&mut self) -> Result<NodeId, ParseError> {
        match self.token.kind.clone() {
            Kind::Number(text) => {
                let number = self.number(text)?;
                self.advance()?;
                self.constant(Value::Number(number))
            }
            Kind::Text(text) => {
                self.advance()?;
                self.constant(Value::from(text.into_owned()))
            }
            Kind::Variable(name) => self.variable(name),
            Kind::Sign("*") => {
                self.advance()?;
                self.add(Node::Whole(self.scope))
            }
            Kind::Sign("(") => {
                self.advance()?;
                let inside = if self.token.kind.is_word("SELECT") { self.query()? } else { self.expression(0)? };
                self.expect_sign(")", "an operator or )")?;
                Ok(inside)
            }
            Kind::Sign("[") => self.array(),
            Kind::Sign("{") => self.object(),
            Kind::Word(word) => self.word(word),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn number(&self, text: &str) -> Result<Number, ParseError> {
        let is_written_well = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'-' | b'+'));
        Number::from_json(text).ok_or_else(|| {
            self.fault(match is_written_well && !text.starts_with('.') {
                true => ParseFault::NumberTooLarge { text: text.chars().take(40).collect() },
                false => ParseFault::Expected { expected: "a number", found: self.token.kind.named() },
            })
        })
    }

    fn variable(&mut self, name: &str) -> Result<NodeId, ParseError> {
        let Some(index) = self.variables.iter().position(|known| known == name) else {
            return Err(self.fault(ParseFault::UnknownVariable { name: name.to_owned() }));
        };
        self.advance()?;
        self.add(Node::Variable(u16::try_from(index).unwrap_or(u16::MAX)))
    }

    fn array(&mut self) -> Result<NodeId, ParseError> {
        self.advance()?;
        let mut elements = Vec::new();
        while !self.skip_sign("]")? {
            if !elements.is_empty() {
                self.expect_sign(",", ", or ]")?;
            }
            elements.push(self.expression(0)?);
        }
        self.add(Node::Array(elements.into()))
    }

    fn object(&mut self) -> Result<NodeId, ParseError> {
        self.advance()?;
        let mut members: Vec<(Box<str>, NodeId)> = Vec::new();
        while !self.skip_sign("}")? {
            if !members.is_empty() {
                self.expect_sign(",", ", or }")?;
            }
            let Kind::Text(name) = self.token.kind.clone() else {
                return Err(self.fault(ParseFault::Key { found: self.token.kind.named() }));
            };
            self.advance()?;
            self.expect_sign(":", ":")?;
            let value = self.expression(0)?;
            members.retain(|(known, _)| **known != *name);
            members.push((name.into(), value));
        }
        self.add(Node::Object(members.into()))
    }

    /// A name, a call, or an expression that begins with a word.
    fn word(&mut self, word: &'s str) -> Result<NodeId, ParseError> {
        let is_call = self.peek()?.kind == Kind::Sign("(");
        let is = |name: &str| word.eq_ignore_ascii_case(name);
        if is("CASE") {
            return self.case();
        }
        if RESERVED.iter().any(|reserved| is(reserved)) {
            return Err(self.fault(ParseFault::ReservedWord { word: word.to_owned() }));
        }
        let token = self.advance()?;
        if is_call {
            self.advance()?;
            return match () {
                () if is("CAST") => self.cast(),
                () if is("EXISTS") => self.exists(),
                () => self.call(&token, word),
            };
        }
        let literal = [("NULL", Value::Null), ("TRUE", Value::Boolean(true)), ("FALSE", Value::Boolean(false))];
        match literal.into_iter().find(|(name, _)| is(name)) {
            Some((_, value)) => self.constant(value),
            None => {
                let name = if self.vocabulary.has_dotted_names { self.dotted(word)? } else { word.into() };
                self.add(Node::Name { name, scope: self.scope })
            }
        }
    }

    /// The rest of a name with dots, behind its first part.
    fn dotted(&mut self, first: &str) -> Result<Box<str>, ParseError> {
        let mut name = first.to_owned();
        while self.skip_sign(".")? {
            name.push('.');
            name.push_str(&self.member_name()?);
        }
        Ok(name.into())
    }

    /// The name of a metric, bare or as a text.
    fn metric_name(&mut self) -> Result<NodeId, ParseError> {
        let name: Box<str> = match self.token.kind.clone() {
            Kind::Text(text) => {
                self.advance()?;
                text.into()
            }
            Kind::Word(word) => {
                self.advance()?;
                self.dotted(word)?
            }
            _ => return Err(self.unexpected("the name of a metric")),
        };
        if !matches!(self.token.kind, Kind::Sign("," | ")")) {
            return Err(self.unexpected(", or ) behind the name of a metric"));
        }
        self.constant(Value::from(String::from(name)))
    }

    fn case(&mut self) -> Result<NodeId, ParseError> {
        self.advance()?;
        if self.token.kind.is_word("WHEN") {
            let (what, hint) = ("CASE WHEN condition", "write CASE condition WHEN true THEN a ELSE b END");
            return Err(self.fault(ParseFault::Unsupported { what, hint }));
        }
        let subject = self.expression(0)?;
        let mut branches = Vec::new();
        while self.skip_word("WHEN")? {
            let when = self.expression(0)?;
            self.expect_word("THEN")?;
            branches.push((when, self.expression(0)?));
        }
        if branches.is_empty() {
            return Err(self.unexpected("WHEN"));
        }
        let otherwise = if self.skip_word("ELSE")? { Some(self.expression(0)?) } else { None };
        if !self.skip_word("END")? {
            return Err(self.unexpected("WHEN, ELSE or END"));
        }
        self.add(Node::Case(Box::new(Case { subject, branches, otherwise })))
    }

    fn cast(&mut self) -> Result<NodeId, ParseError> {
        let of = self.expression(0)?;
        self.expect_word("AS")?;
        let Kind::Word(name) = self.token.kind else { return Err(self.unexpected("a type")) };
        let Some((_, to)) = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            return Err(self.fault(ParseFault::UnknownType { name: name.to_owned() }));
        };
        self.advance()?;
        self.expect_sign(")", ")")?;
        self.add(Node::Cast { of, to: *to })
    }

    fn exists(&mut self) -> Result<NodeId, ParseError> {
        let query = if self.token.kind.is_word("SELECT") { self.query()? } else { self.expression(0)? };
        self.expect_sign(")", ")")?;
        self.add(Node::Exists(query))
    }

    /// Those of a call; the first `names` of them are names of metrics.
    fn arguments(&mut self, names: usize) -> Result<Vec<NodeId>, ParseError> {
        let mut arguments = Vec::new();
        while !self.skip_sign(")")? {
            if !arguments.is_empty() {
                self.expect_sign(",", ", or )")?;
            }
            arguments.push(match () {
                () if arguments.len() < names => self.metric_name()?,
                () if self.token.kind.is_word("SELECT") => self.query()?,
                () => self.expression(0)?,
            });
        }
        Ok(arguments)
    }

    fn call(&mut self, token: &Token<'s>, name: &str) -> Result<NodeId, ParseError> {
        let at_name = |fault| ParseError::at(self.text, token.start, fault);
        if let Some(name) = functions::find_refused(name) {
            return Err(at_name(ParseFault::Network { name }));
        }
        let mut extras = self.vocabulary.functions.iter().enumerate();
        if let Some((index, extra)) = extras.find(|(_, extra)| extra.name.eq_ignore_ascii_case(name)) {
            let arguments = self.arguments(extra.names)?;
            let is_right = (extra.arguments_min..=extra.arguments_max).contains(&arguments.len());
            let function = u16::try_from(index).unwrap_or(u16::MAX);
            let node = Node::Extra { function, arguments: arguments.into() };
            return if is_right { self.add(node) } else { self.wrong_count(token.start, extra.name) };
        }
        let Some(function) = functions::find(name) else {
            return Err(at_name(ParseFault::UnknownFunction { name: name.to_owned() }));
        };
        let arguments = self.arguments(0)?;
        let count = u8::try_from(arguments.len()).unwrap_or(u8::MAX);
        if !(function.arguments_min..=function.arguments_max).contains(&count) {
            return self.wrong_count(token.start, function.name);
        }
        let prepared = self.prepared(function, &arguments, token.start);
        self.add(Node::Call(Box::new(Call { function, arguments, prepared })))
    }

    /// As the reference has it, a wrong number of arguments is no error, and the result is Undefined.
    fn wrong_count(&mut self, start: usize, name: &str) -> Result<NodeId, ParseError> {
        self.warn(start, format!("{name}() is always Undefined: it takes another number of arguments"));
        self.constant(Value::Undefined)
    }
}

fn is_int(value: &Value<'_>) -> bool {
    matches!(value, Value::Number(number) if number.is_int())
}
