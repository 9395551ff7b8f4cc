//! Command lines: lists of words, by default `$argv`.

use super::super::operand::{as_text, known, scalar_text, text};
use super::super::pattern::Pattern;
use super::super::{Call, Operand, Prepared};
use super::{Check, Function, example};
use serde_json::Value;
use std::borrow::Cow;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "argequals",
        minimum_arguments: 1,
        maximum_arguments: Some(2),
        summary: "the rest of the first word that starts with name=; of $argv, or of the list given",
        examples: &[example("argequals(size)", r#"{"argv": ["prog", "size=3"]}"#, "\"3\"")],
        check: Check::Nothing,
        run: argument_equals,
    },
    Function {
        name: "argmatch",
        minimum_arguments: 1,
        maximum_arguments: Some(3),
        summary: "the first word that matches the regular expression at its start: its first group, or what matched; list and flags may follow",
        examples: &[example("argmatch(\"thing-(.*)\")", r#"{"argv": ["prog", "thing-one"]}"#, "\"one\"")],
        check: Check::Pattern { pattern: 0, flags: 2, anchored: true },
        run: argument_matches,
    },
    Function {
        name: "flagvalue",
        minimum_arguments: 1,
        maximum_arguments: Some(2),
        summary: "the word after the flag, or for a flag of one letter what follows it in the same word",
        examples: &[
            example("flagvalue(-p)", r#"{"argv": ["prog", "-p", "80"]}"#, "\"80\""),
            example("flagvalue(-v)", r#"{"argv": ["prog", "-v9"]}"#, "\"9\""),
        ],
        check: Check::Nothing,
        run: flag_value,
    },
];

/// The list of words: argument 1, else `$argv`.
fn list<'a>(call: &mut Call<'_, 'a>) -> Option<&'a Vec<Value>> {
    let list = if call.arguments.len() > 1 { call.arguments[1].clone() } else { call.evaluator.name("argv") };
    match list {
        Some(Cow::Borrowed(Value::Array(list))) => Some(list),
        _ => None,
    }
}

fn argument_equals<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let words = list(call)?;
    let name = scalar_text(call.argument(0)?)?;
    let rest = |word: &'a str| word.strip_prefix(name.as_ref())?.strip_prefix('=');
    words.iter().filter_map(Value::as_str).find_map(rest).and_then(text)
}

fn argument_matches<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let words = list(call)?;
    let built;
    let pattern = match call.prepared {
        Prepared::Pattern(pattern) => pattern,
        _ => {
            let flags = if call.arguments.len() > 2 { as_text(call.argument(2)?) } else { "".into() };
            built = Pattern::new(&scalar_text(call.argument(0)?)?, &flags, true).ok()?;
            &built
        }
    };
    words.iter().filter_map(Value::as_str).find_map(|word| pattern.first_group(word)).flatten().and_then(text)
}

fn flag_value<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let words = list(call)?;
    let flag = scalar_text(call.argument(0)?)?;
    let one_letter = flag.starts_with('-') && flag.chars().count() == 2;
    for (position, word) in words.iter().enumerate() {
        let Some(word) = word.as_str() else { continue };
        if word == flag {
            return words.get(position + 1).and_then(known);
        }
        if one_letter && let Some(rest) = word.strip_prefix(flag.as_ref()) {
            return text(rest);
        }
    }
    None
}
