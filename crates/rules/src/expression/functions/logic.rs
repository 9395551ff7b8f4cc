//! Truth: unknown is neither true nor false.

use super::super::operand::{is_true, truth};
use super::super::{Call, Operand, Prepared};
use super::{Check, Function, example};
use serde_json::Value;
use std::borrow::Cow;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "IGNORE",
        minimum_arguments: 0,
        maximum_arguments: None,
        summary: "always true; switches a rule off, the free text inside says why",
        examples: &[example("IGNORE(we don't (yet) need this)", "{}", "true")],
        check: Check::Nothing,
        run: |_| truth(true),
    },
    Function {
        name: "NOT",
        minimum_arguments: 1,
        maximum_arguments: None,
        summary: "the opposite; unknown stays unknown; further arguments are not looked at",
        examples: &[example("NOT($a)", r#"{"a": false}"#, "true"), example("NOT($a)", "{}", "null")],
        check: Check::Nothing,
        run: |call| truth(!is_true(call.argument(0)?)),
    },
    Function {
        name: "AND",
        minimum_arguments: 0,
        maximum_arguments: None,
        summary: "false if one is false, else unknown if one is unknown, else true",
        examples: &[
            example("AND($a, $b)", r#"{"a": false}"#, "false"),
            example("AND($a, $b)", r#"{"a": true}"#, "null"),
        ],
        check: Check::Nothing,
        run: and,
    },
    Function {
        name: "OR",
        minimum_arguments: 0,
        maximum_arguments: None,
        summary: "the first true argument itself, else false if one is known, else unknown",
        examples: &[
            example("OR($a, $b)", r#"{"b": [1, 2]}"#, "[1, 2]"),
            example("OR($a, $b)", r#"{"a": 0}"#, "false"),
        ],
        check: Check::Nothing,
        run: or,
    },
    Function {
        name: "MUST",
        minimum_arguments: 0,
        maximum_arguments: None,
        summary: "true if all are true; unknown counts as false",
        examples: &[
            example("MUST(EQ($a, 1))", "{}", "false"),
            example("MUST(EQ($a, 1))", r#"{"a": 1}"#, "true"),
        ],
        check: Check::Nothing,
        run: |call| truth(call.arguments.iter().all(|argument| argument.as_deref().is_some_and(is_true))),
    },
    Function {
        name: "NONEOK",
        minimum_arguments: 0,
        maximum_arguments: None,
        summary: "false if one is false, else true; unknown counts as true",
        examples: &[
            example("NONEOK(EQ($a, 1))", "{}", "true"),
            example("NONEOK(EQ($a, 1))", r#"{"a": 2}"#, "false"),
        ],
        check: Check::Nothing,
        run: |call| truth(call.arguments.iter().all(|argument| argument.as_deref().is_none_or(is_true))),
    },
    Function {
        name: "FOREACH",
        minimum_arguments: 1,
        maximum_arguments: None,
        summary: "the quoted predicate for each member of the objects before it (default: of all data); false at the first false one, unknown if one is unknown, else true",
        examples: &[
            example(
                r#"FOREACH("EQ($owner, root)")"#,
                r#"{"/etc/a": {"owner": "root"}, "/etc/b": {"owner": "joe"}}"#,
                "false",
            ),
            example(r#"FOREACH($rules, "GE($n, 2)")"#, r#"{"rules": [{"n": 2}, {"n": 3}]}"#, "true"),
        ],
        check: Check::Predicate,
        run: for_each,
    },
];

fn and<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let mut unknown = call.arguments.is_empty();
    for argument in call.arguments {
        match argument.as_deref() {
            Some(value) if !is_true(value) => return truth(false),
            Some(_) => {}
            None => unknown = true,
        }
    }
    if unknown { None } else { truth(true) }
}

fn or<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let mut known = call.arguments.iter().flatten();
    match known.clone().find(|value| is_true(value)) {
        Some(value) => Some(value.clone()),
        None => known.next().and_then(|_| truth(false)),
    }
}

fn for_each<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let Prepared::Predicate(predicate) = call.prepared else { return None };
    let mut unknown = false;
    let start = call.evaluator.recorder.mark();
    let subjects: Vec<Option<Cow<'a, Value>>> = match call.arguments.split_last()?.1 {
        [] => call.evaluator.objects.iter().map(|object| Some(Cow::Borrowed(*object))).collect(),
        given => given.to_vec(),
    };
    for subject in &subjects {
        let members: Vec<(&str, &Value)> = match subject.as_deref() {
            Some(Value::Object(map)) => map.iter().map(|(key, value)| (key.as_str(), value)).collect(),
            Some(list @ Value::Array(_)) => vec![("", list)],
            _ => {
                unknown = true;
                continue;
            }
        };
        for (key, member) in members {
            for (number, object) in walked(member) {
                let before = call.evaluator.recorder.mark();
                let key = number.map_or_else(|| key.to_string(), |number| format!("{key}[{number}]"));
                match call.evaluator.within(&key, object, predicate) {
                    Some(true) => {
                        // Good members are of little interest: keep a few, so that a bad one finds room.
                        let recorded = call.evaluator.recorder.mark();
                        call.evaluator.recorder.forget((start + 8).max(before), recorded);
                    }
                    Some(false) => {
                        // This member decides; the others before it do not matter.
                        call.evaluator.recorder.forget(start, before);
                        return truth(false);
                    }
                    None => {
                        unknown = true;
                        let recorded = call.evaluator.recorder.mark();
                        call.evaluator.recorder.forget((start + 16).max(before), recorded);
                    }
                }
            }
        }
    }
    if unknown { None } else { truth(true) }
}

/// The objects that a member stands for: itself if it is a map, the elements if it is a list (with their numbers),
/// nothing if it is a scalar.
fn walked(member: &Value) -> Vec<(Option<usize>, &Value)> {
    match member {
        Value::Object(_) => vec![(None, member)],
        Value::Array(list) => {
            list.iter().enumerate().filter(|(_, e)| e.is_object()).map(|(n, e)| (Some(n), e)).collect()
        }
        _ => Vec::new(),
    }
}
