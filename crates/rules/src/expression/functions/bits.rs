//! Whole numbers as sets of bits.

use super::super::operand::{from_integer, integer};
use super::super::{Call, Operand};
use super::{Check, Function, example};

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "bitwiseOR",
        minimum_arguments: 2,
        maximum_arguments: None,
        summary: "the bits that are in any of the numbers",
        examples: &[
            example("bitwiseOR($a, 1)", r#"{"a": "4"}"#, "5"),
            example("bitwiseOR($a, 1)", "{}", "null"),
        ],
        check: Check::Nothing,
        run: |call| fold(call, |a, b| a | b),
    },
    Function {
        name: "bitwiseAND",
        minimum_arguments: 2,
        maximum_arguments: None,
        summary: "the bits that are in all of the numbers",
        examples: &[example("bitwiseAND($a, 0x0F)", r#"{"a": 255}"#, "15")],
        check: Check::Nothing,
        run: |call| fold(call, |a, b| a & b),
    },
];

fn fold<'a>(call: &Call<'_, 'a>, combine: fn(i128, i128) -> i128) -> Operand<'a> {
    let numbers: Vec<i128> =
        call.arguments.iter().map(|argument| argument.as_deref().and_then(integer)).collect::<Option<_>>()?;
    from_integer(numbers.into_iter().reduce(combine)?)
}
