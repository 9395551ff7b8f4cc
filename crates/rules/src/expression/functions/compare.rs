//! Equality and order.

use super::super::operand::{compare, equal, truth};
use super::super::{Call, Operand};
use super::{Check, Function, example};
use std::cmp::Ordering;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "EQ",
        minimum_arguments: 2,
        maximum_arguments: None,
        summary: "every other argument equals the first; different types are compared as text, but a truth value never equals a number",
        examples: &[example("EQ($a, 1)", r#"{"a": "1"}"#, "true"), example("EQ($a, 1)", "{}", "null")],
        check: Check::Nothing,
        run: |call| all_others(call, |first, other| Some(equal(first, other))),
    },
    Function {
        name: "NE",
        minimum_arguments: 2,
        maximum_arguments: None,
        summary: "no other argument equals the first",
        examples: &[
            example("NE($a, 1, 2)", r#"{"a": 3}"#, "true"),
            example("NE($a, 1, 2)", r#"{"a": 2}"#, "false"),
        ],
        check: Check::Nothing,
        run: |call| all_others(call, |first, other| Some(!equal(first, other))),
    },
    Function {
        name: "LT",
        minimum_arguments: 2,
        maximum_arguments: None,
        summary: "the first is less than each other one; numbers and numeric text as numbers, other texts by dictionary",
        examples: &[
            example("LT($a, 10)", r#"{"a": "9"}"#, "true"),
            example("LT($a, 10)", r#"{"a": "9%"}"#, "null"),
        ],
        check: Check::Nothing,
        run: |call| all_others(call, |first, other| Some(compare(first, other)?.is_lt())),
    },
    Function {
        name: "LE",
        minimum_arguments: 2,
        maximum_arguments: None,
        summary: "the first is at most each other one",
        examples: &[
            example("LE($a, 10)", r#"{"a": 10}"#, "true"),
            example("LE($a, 10)", r#"{"a": 11}"#, "false"),
        ],
        check: Check::Nothing,
        run: |call| all_others(call, |first, other| Some(compare(first, other)?.is_le())),
    },
    Function {
        name: "GT",
        minimum_arguments: 2,
        maximum_arguments: None,
        summary: "the first is greater than each other one",
        examples: &[example("GT($a, 10)", r#"{"a": 10}"#, "false"), example("GT(b, a)", "{}", "true")],
        check: Check::Nothing,
        run: |call| all_others(call, |first, other| Some(compare(first, other)?.is_gt())),
    },
    Function {
        name: "GE",
        minimum_arguments: 2,
        maximum_arguments: None,
        summary: "the first is at least each other one",
        examples: &[
            example("GE($a, 10)", r#"{"a": 10}"#, "true"),
            example("GE($a, 10)", r#"{"a": 9.5}"#, "false"),
        ],
        check: Check::Nothing,
        run: |call| all_others(call, |first, other| Some(compare(first, other)?.is_ge())),
    },
    Function {
        name: "BETWEEN",
        minimum_arguments: 3,
        maximum_arguments: Some(3),
        summary: "the first is at least the second and at most the third",
        examples: &[
            example("BETWEEN($a, 1, 60)", r#"{"a": 60}"#, "true"),
            example("BETWEEN($a, 1, 60)", r#"{"a": 0}"#, "false"),
        ],
        check: Check::Nothing,
        run: between,
    },
    Function {
        name: "PRESENT",
        minimum_arguments: 1,
        maximum_arguments: None,
        summary: "true if all are known, else false; never unknown",
        examples: &[example("PRESENT($a)", r#"{"a": false}"#, "true"), example("PRESENT($a)", "{}", "false")],
        check: Check::Nothing,
        run: |call| truth(call.arguments.iter().all(Option::is_some)),
    },
    Function {
        name: "ABSENT",
        minimum_arguments: 1,
        maximum_arguments: None,
        summary: "true if none is known, else false; never unknown",
        examples: &[example("ABSENT($a)", "{}", "true"), example("ABSENT($a)", r#"{"a": false}"#, "false")],
        check: Check::Nothing,
        run: |call| truth(call.arguments.iter().all(Option::is_none)),
    },
];

/// Unknown when the first is, or when nothing was compared; false at the first other argument that does not hold.
fn all_others<'a>(
    call: &Call<'_, 'a>,
    holds: impl Fn(&serde_json::Value, &serde_json::Value) -> Option<bool>,
) -> Operand<'a> {
    let first = call.argument(0)?;
    let mut compared = false;
    for other in call.others().iter().flatten() {
        if !holds(first, other)? {
            return truth(false);
        }
        compared = true;
    }
    if compared { truth(true) } else { None }
}

fn between<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let value = call.argument(0)?;
    let low = call.argument(1).and_then(|low| compare(value, low)).map(Ordering::is_ge);
    let high = call.argument(2).and_then(|high| compare(value, high)).map(Ordering::is_le);
    match (low, high) {
        (Some(false), _) | (_, Some(false)) => truth(false),
        (Some(true), Some(true)) => truth(true),
        _ => None,
    }
}
