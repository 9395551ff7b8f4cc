//! Best-practice rules: what is right on a host, why, how to check it and how to mend it.
//!
//! In the order in which a rule is met: [`rule_file`] reads rules from text, [`rule_set`] merges files into rule sets
//! with inheritance, [`evaluate()`] runs the rules of a discovery over its data, [`transitions()`] tells what changed.
//! [`expression`] is the language rules are written in. [`vectors`] and [`status`] serve `assimcli rules`.
//! Everything is pure except [`rule_set::read_sets`] and [`rule_set::read_set`], which read directories.

pub mod evaluate;
pub mod expression;
pub mod reference;
pub mod rule;
pub mod rule_file;
pub mod rule_set;
pub mod status;
pub mod transitions;
pub mod vectors;

pub use evaluate::{Documents, Points, RuleResult, Status, evaluate, evaluate_with, points_of, scores};
pub use expression::{Evaluation, Expression, ParseError};
pub use rule::{Applies, Rule, RuleExpression, RuleProblem, Severity};
pub use rule_set::{EffectiveSet, OperatingSystem, RuleSets};
pub use transitions::{Transition, transitions};
