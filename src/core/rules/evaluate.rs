//! What an expression is worth for a message.

mod operators;

use std::borrow::Cow;
use std::sync::Arc;

use self::operators::{arithmetic, cast, compare, equal};
use super::context::{Budget, Context, Names};
use super::functions::{Answer, Frame};
use super::problem::EvaluationError;
use super::syntax::{Call, Case, Comparison, Item, Logic, Node, NodeId, Query, Scope, Selection, Syntax};
use super::value::Value;

/// Arguments that are kept without an allocation.
const FEW_ARGUMENTS: usize = 3;

type Members<'v> = Vec<(Cow<'v, str>, Value<'v>)>;

/// One evaluation of a statement, with what it has found out so far.
pub(super) struct Evaluation<'v> {
    syntax: &'v Syntax,
    names: &'v dyn Names,
    context: &'v Context<'v>,
    /// In the order of their SET.
    pub variables: Vec<Value<'v>>,
    /// The elements that nested queries are at, from the outermost query on.
    elements: Vec<Value<'v>>,
    budget: Budget,
}

impl Drop for Evaluation<'_> {
    fn drop(&mut self) {
        self.budget.settle(self.context);
    }
}

impl<'v> Evaluation<'v> {
    pub(super) fn new(syntax: &'v Syntax, names: &'v dyn Names, context: &'v Context<'v>) -> Evaluation<'v> {
        let budget = Budget::new(context);
        Evaluation { syntax, names, context, variables: Vec::new(), elements: Vec::new(), budget }
    }

    /// The value of a node.
    pub(super) fn value(&mut self, id: NodeId) -> Answer<'v> {
        self.budget.take(1)?;
        Ok(match self.syntax.node(id) {
            Node::Constant(value) => value.borrowed(),
            Node::Whole(scope) => self.whole(*scope),
            Node::Name { name, scope: 0 } => {
                let count = self.names.whole().count();
                self.budget.take_names(count)?;
                self.names.name(name)
            }
            Node::Name { name, scope } => {
                let whole = self.whole(*scope);
                self.budget.take_names(whole.count())?;
                whole.member(name)
            }
            Node::Variable(index) => self.variables.get(usize::from(*index)).cloned().unwrap_or_default(),
            Node::Member { of, name } => {
                let object = self.value(*of)?;
                self.budget.take_names(object.count())?;
                object.member(name)
            }
            Node::Object(members) => {
                let mut object = Vec::with_capacity(members.len());
                for (name, value) in members {
                    object.push((Cow::Borrowed(&**name), self.value(*value)?));
                }
                Value::Object(Arc::new(object))
            }
            Node::Array(elements) => {
                let mut array = Vec::with_capacity(elements.len());
                for element in elements {
                    array.push(self.value(*element)?);
                }
                Value::Array(Arc::new(array))
            }
            Node::Negated(of) => self.value(*of)?.to_number().map(|number| number.negated()).into(),
            Node::Not(of) => self.value(*of)?.to_boolean().map(|is_true| !is_true).into(),
            Node::Arithmetic(operator, left, right) => {
                let (left, right) = (self.value(*left)?, self.value(*right)?);
                arithmetic(*operator, &left, &right, &mut self.budget)?
            }
            Node::Comparison(comparison, left, right) => self.comparison(*comparison, *left, *right)?.into(),
            Node::Logic(logic, left, right) => self.logic(*logic, *left, *right)?.into(),
            Node::In(element, array) => self.is_in(*element, *array)?.into(),
            Node::Exists(query) => {
                let found = self.value(*query)?;
                Value::Boolean(found.is_object() || (found.is_array() && found.count() > 0))
            }
            Node::Case(case) => self.case(case)?,
            Node::Cast { of, to } => cast(&self.value(*of)?, *to)?,
            Node::Call(call) => self.call(call)?,
            Node::Extra { function, arguments } => {
                let mut values = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    values.push(self.value(*argument)?);
                }
                let function = usize::from(*function);
                self.budget.take(self.names.steps(function, &values))?;
                self.names.call(function, &values)
            }
            Node::Query(query) => self.query(query)?,
        })
    }

    /// Whether a condition lets the message pass: only what is true does.
    pub(super) fn is_true(&mut self, condition: Option<NodeId>) -> Result<bool, EvaluationError> {
        match condition {
            Some(condition) => Ok(self.value(condition)?.to_boolean() == Some(true)),
            None => Ok(true),
        }
    }

    fn whole(&self, scope: Scope) -> Value<'v> {
        match usize::from(scope).checked_sub(1) {
            None => self.names.whole(),
            Some(index) => self.elements.get(index).cloned().unwrap_or_default(),
        }
    }

    fn comparison(
        &mut self,
        comparison: Comparison,
        left: NodeId,
        right: NodeId,
    ) -> Result<Option<bool>, EvaluationError> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        match comparison {
            Comparison::Equal => equal(&left, &right, &mut self.budget),
            Comparison::Unequal => Ok(equal(&left, &right, &mut self.budget)?.map(|is_equal| !is_equal)),
            order => Ok(compare(order, &left, &right)),
        }
    }

    /// Both sides count: what is neither true nor false makes the whole Undefined, whatever the other side is.
    fn logic(&mut self, logic: Logic, left: NodeId, right: NodeId) -> Result<Option<bool>, EvaluationError> {
        let Some(left) = self.value(left)?.to_boolean() else { return Ok(None) };
        let Some(right) = self.value(right)?.to_boolean() else { return Ok(None) };
        Ok(Some(match logic {
            Logic::And => left && right,
            Logic::Or => left || right,
        }))
    }

    fn is_in(&mut self, element: NodeId, array: NodeId) -> Result<Option<bool>, EvaluationError> {
        let (wanted, array) = (self.value(element)?, self.value(array)?);
        if wanted.is_undefined() || !array.is_array() {
            return Ok(None);
        }
        for element in array.elements() {
            if equal(&wanted, &element, &mut self.budget)? == Some(true) {
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    }

    fn case(&mut self, case: &'v Case) -> Answer<'v> {
        let subject = self.value(case.subject)?;
        if subject.is_undefined() {
            return Ok(Value::Undefined);
        }
        for (when, then) in &case.branches {
            let when = self.value(*when)?;
            if equal(&subject, &when, &mut self.budget)? == Some(true) {
                return self.value(*then);
            }
        }
        case.otherwise.map_or(Ok(Value::Undefined), |otherwise| self.value(otherwise))
    }

    fn call(&mut self, call: &'v Call) -> Answer<'v> {
        let mut few: [Value<'v>; FEW_ARGUMENTS] = Default::default();
        let mut many = Vec::new();
        let arguments = match few.get_mut(..call.arguments.len()) {
            Some(few) => {
                for (place, argument) in few.iter_mut().zip(&call.arguments) {
                    *place = self.value(*argument)?;
                }
                &*few
            }
            None => {
                for argument in &call.arguments {
                    many.push(self.value(*argument)?);
                }
                &many
            }
        };
        let mut frame = Frame { context: self.context, prepared: call.prepared.as_ref(), budget: &mut self.budget };
        (call.function.call)(&mut frame, arguments)
    }

    /// A query over an array is an array of the elements that pass; over an object it is one result, if the object passes.
    fn query(&mut self, query: &'v Query) -> Answer<'v> {
        let source = self.value(query.source)?;
        if source.is_object() {
            let found = self.element(query, source)?;
            return Ok(found.unwrap_or_default());
        }
        if !source.is_array() {
            return Ok(Value::Undefined);
        }
        let mut found = Vec::new();
        for element in source.elements() {
            self.budget.take(1)?;
            found.extend(self.element(query, element)?.filter(|value| !value.is_undefined()));
        }
        Ok(Value::Array(Arc::new(found)))
    }

    /// The result for one element; `None` if it does not pass.
    fn element(&mut self, query: &'v Query, element: Value<'v>) -> Result<Option<Value<'v>>, EvaluationError> {
        self.elements.push(element);
        let scope = self.elements.len() as Scope;
        let passes = self.is_true(query.condition)?;
        let result = if passes { Some(self.selection(&query.selection, scope)?) } else { None };
        self.elements.pop();
        Ok(result)
    }

    /// What SELECT makes of the message, or of an element.
    pub(super) fn selection(&mut self, selection: &'v Selection, scope: Scope) -> Answer<'v> {
        let items = match selection {
            Selection::Value(value) => return self.value(*value),
            Selection::Items(items) => items.as_slice(),
        };
        if let [Item { path: None, .. }] = items {
            return Ok(self.whole(scope));
        }
        let mut members: Members<'v> = Vec::with_capacity(items.len());
        for item in items {
            let value = self.value(item.value)?;
            match &item.path {
                None => {
                    self.budget.take_names(value.count())?;
                    members.reserve(value.count() + items.len());
                    extend(&mut members, &value);
                }
                Some(_) if value.is_undefined() => {}
                Some(path) => {
                    self.budget.take_names(members.len())?;
                    insert(&mut members, path, value);
                }
            }
        }
        Ok(Value::Object(Arc::new(members)))
    }
}

fn extend<'v>(members: &mut Members<'v>, value: &Value<'v>) {
    match value {
        Value::Node(node) => members.extend(node.members().map(|(name, value)| (name.into(), value.into()))),
        other => members.extend(other.members()),
    }
}

/// Puts a value into an object, in place of one of the same name. A path of several names leads through objects, which are made where
/// there are none.
fn insert<'v>(members: &mut Members<'v>, path: &'v [Box<str>], value: Value<'v>) {
    let Some((first, rest)) = path.split_first() else { return };
    let place = match members.iter().rposition(|(name, _)| **name == **first) {
        Some(at) => at,
        None => {
            members.push((Cow::Borrowed(&**first), Value::Undefined));
            members.len() - 1
        }
    };
    let Some((_, present)) = members.get_mut(place) else { return };
    if rest.is_empty() {
        *present = value;
        return;
    }
    let mut inner = present.members();
    insert(&mut inner, rest, value);
    *present = Value::Object(Arc::new(inner));
}
