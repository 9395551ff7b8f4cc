//! The expression language of rules: one expression, three-valued, evaluated over discovered JSON.
//!
//! A value is text, number, truth value, list or map; an unknown one is `None`, which is neither true nor false and
//! spreads through most functions. Text from a discovery is data: it is never parsed as an expression.
//! [`Expression::parse`] finds every mistake that can be found without data, so that a rule is right or refused when
//! it is loaded; [`Expression::evaluate`] cannot fail.

mod functions;
mod lookup;
mod operand;
mod parse;
mod pattern;
mod recorder;
mod reference;

pub use functions::{Function, FunctionExample, function, functions};
pub use pattern::Pattern;
pub use recorder::{MAXIMUM_RECORDED_NAMES, MAXIMUM_RECORDED_VALUE_BYTES};
pub use reference::reference_text;

use operand::Operand;
use recorder::Recorder;
use serde_json::Value;
use std::fmt;

/// Longer texts are refused, in bytes.
pub const MAXIMUM_EXPRESSION_BYTES: usize = 16 * 1024;
/// Calls inside calls, FOREACH predicates included; bounds the stack of parser and evaluator.
pub const MAXIMUM_DEPTH: usize = 64;

/// A checked expression.
#[derive(Debug, Clone)]
pub struct Expression {
    text: String,
    root: Node,
}

/// What an expression gave, and on which grounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// `None` = unknown. Anything but a truth value counts as a failure in a rule.
    pub value: Option<Value>,
    /// The `$names` it looked at, without the `$`, and what was found; `null` where nothing was. Inside FOREACH the
    /// name starts with the member's key. At most [`MAXIMUM_RECORDED_NAMES`] entries, long values are cut.
    pub used: Vec<(String, Value)>,
}

impl Evaluation {
    /// Names that were looked up and not found.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        self.used.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name.as_str())
    }
}

/// Why a text is not an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    /// Where, in characters, counted from 1.
    pub position: usize,
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.position, self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

impl Expression {
    /// Checks `text`: known functions, argument counts, numbers, quotes, parentheses, literal regular expressions,
    /// FOREACH predicates, length and depth.
    pub fn parse(text: &str) -> Result<Expression, ParseError> {
        Ok(Expression { text: text.trim().to_string(), root: parse::parse(text)? })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Evaluates over the objects, which are searched for names in their order.
    pub fn evaluate(&self, objects: &[&Value]) -> Evaluation {
        let mut evaluator =
            Evaluator { objects: objects.to_vec(), prefix: String::new(), recorder: Recorder::default() };
        let value = evaluator.evaluate(&self.root).map(|value| value.into_owned());
        Evaluation { value: value.filter(|value| !value.is_null()), used: evaluator.recorder.into_used() }
    }

    /// The outermost function is IGNORE: the rule is switched off, its text says why.
    pub fn is_ignore(&self) -> bool {
        matches!(self.root, Node::Ignore)
    }

    /// The expression looks at no data at all: a number, a text, a truth value.
    pub fn is_constant(&self) -> bool {
        matches!(self.root, Node::Constant(_))
    }
}

/// One part of a checked expression.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Constant(Value),
    Name(String),
    Ignore,
    Call { function: &'static Function, arguments: Vec<Node>, prepared: Prepared },
}

/// What the load-time check made of literal arguments.
#[derive(Debug, Clone)]
pub(crate) enum Prepared {
    Nothing,
    Pattern(Pattern),
    Predicate(Box<Node>),
}

/// The state of one evaluation: the objects that names are looked up in, and the names met so far.
pub(crate) struct Evaluator<'a> {
    objects: Vec<&'a Value>,
    /// What names are recorded under: inside FOREACH the key of the member and a dot.
    prefix: String,
    recorder: Recorder,
}

/// A function call under way: its arguments are evaluated.
pub(crate) struct Call<'c, 'a> {
    pub arguments: &'c [Operand<'a>],
    pub prepared: &'a Prepared,
    pub evaluator: &'c mut Evaluator<'a>,
}

impl<'a> Call<'_, 'a> {
    /// Argument `index`; unknown when it was not given.
    pub fn argument(&self, index: usize) -> Option<&Value> {
        self.arguments.get(index).and_then(|argument| argument.as_deref())
    }

    /// Everything after the first argument.
    pub fn others(&self) -> &[Operand<'a>] {
        self.arguments.get(1..).unwrap_or(&[])
    }
}

impl<'a> Evaluator<'a> {
    fn evaluate(&mut self, node: &'a Node) -> Operand<'a> {
        match node {
            Node::Constant(value) => operand::known(value),
            Node::Name(name) => self.name(name),
            Node::Ignore => operand::truth(true),
            Node::Call { function, arguments, prepared } => {
                // Nothing is lazy: all arguments first, so that all values that matter are recorded.
                let arguments: Vec<Operand<'a>> = arguments.iter().map(|node| self.evaluate(node)).collect();
                (function.run)(&mut Call { arguments: &arguments, prepared, evaluator: self })
            }
        }
    }

    /// `$name`, recorded.
    pub fn name(&mut self, name: &str) -> Operand<'a> {
        let found = self.peek(name);
        self.record(name, found);
        found.and_then(operand::known)
    }

    /// `$name` without recording it.
    pub fn peek(&self, name: &str) -> Option<&'a Value> {
        self.objects.iter().find_map(|object| lookup::lookup(object, name))
    }

    pub fn record(&mut self, name: &str, value: Option<&Value>) {
        self.recorder.record(&self.prefix, name, value);
    }

    /// Whether `predicate` holds with `member`, found under `key`, as the only object.
    pub fn within<'b>(&mut self, key: &str, member: &'b Value, predicate: &'b Node) -> Option<bool>
    where
        'a: 'b,
    {
        let mut prefix = std::mem::take(&mut self.prefix);
        let outer_length = prefix.len();
        if !key.is_empty() {
            prefix.push_str(key);
            prefix.push('.');
        }
        let recorder = std::mem::take(&mut self.recorder);
        let mut inner = Evaluator { objects: vec![member], prefix, recorder };
        let result = inner.evaluate(predicate).map(|value| operand::is_true(&value));
        self.recorder = inner.recorder;
        self.prefix = inner.prefix;
        self.prefix.truncate(outer_length);
        result
    }
}

#[cfg(test)]
mod tests;
