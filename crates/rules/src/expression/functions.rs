//! All functions, one file for each family. A function is a declaration: name, argument counts, one line of
//! documentation, examples that the tests run, and what it does with its evaluated arguments.

mod arguments;
mod bits;
mod compare;
mod host;
mod lists;
mod logic;
mod modes;
mod packages;
mod search;
mod sets;

use super::Call;
use super::operand::Operand;
use std::fmt;

/// One function of the language.
pub struct Function {
    pub name: &'static str,
    pub minimum_arguments: usize,
    /// `None`: any number.
    pub maximum_arguments: Option<usize>,
    /// What it gives, in one line.
    pub summary: &'static str,
    pub examples: &'static [FunctionExample],
    pub(crate) check: Check,
    pub(crate) run: Run,
}

pub struct FunctionExample {
    pub expression: &'static str,
    /// JSON: the object that names are looked up in.
    pub data: &'static str,
    /// JSON; `null` = unknown.
    pub result: &'static str,
}

pub(crate) type Run = for<'c, 'a> fn(&mut Call<'c, 'a>) -> Operand<'a>;

/// What the load-time check does with literal arguments.
pub(crate) enum Check {
    Nothing,
    /// Argument indexes of a regular expression and its flags.
    Pattern {
        pattern: usize,
        flags: usize,
        anchored: bool,
    },
    /// The last argument is an expression of its own.
    Predicate,
    /// All arguments are patterns of names.
    Globs,
    /// Argument index of a file mode.
    OctalMode(usize),
}

/// All functions, family by family.
pub fn functions() -> impl Iterator<Item = &'static Function> {
    [
        logic::FUNCTIONS,
        compare::FUNCTIONS,
        lists::FUNCTIONS,
        search::FUNCTIONS,
        sets::FUNCTIONS,
        arguments::FUNCTIONS,
        bits::FUNCTIONS,
        modes::FUNCTIONS,
        host::FUNCTIONS,
        packages::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
}

/// The function of this name; names are case sensitive.
pub fn function(name: &str) -> Option<&'static Function> {
    functions().find(|function| function.name == name)
}

impl Function {
    /// `2 or 3 arguments`, `at least 1 argument`.
    pub fn arguments_text(&self) -> String {
        let noun = |count: usize| if count == 1 { "argument" } else { "arguments" };
        match (self.minimum_arguments, self.maximum_arguments) {
            (minimum, None) => format!("at least {minimum} {}", noun(minimum)),
            (minimum, Some(maximum)) if minimum == maximum => format!("{minimum} {}", noun(minimum)),
            (minimum, Some(maximum)) => format!("{minimum} to {maximum} {}", noun(maximum)),
        }
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Short form for the tables.
const fn example(expression: &'static str, data: &'static str, result: &'static str) -> FunctionExample {
    FunctionExample { expression, data, result }
}
