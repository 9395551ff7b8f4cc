//! Membership.

use super::super::operand::{as_text, compare, equal, number, truth};
use super::super::{Call, Operand};
use super::{Check, Function, example};
use serde_json::Value;
use std::collections::HashSet;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "IN",
        minimum_arguments: 1,
        maximum_arguments: None,
        summary: "the first (each element of a list, each key of a map) is one of the others",
        examples: &[
            example("IN($a, 1, 2)", r#"{"a": 2}"#, "true"),
            example("IN($a, x, y)", r#"{"a": ["x", "z"]}"#, "false"),
            example("IN($a, x, y)", r#"{"a": []}"#, "null"),
        ],
        check: Check::Nothing,
        run: is_in,
    },
    Function {
        name: "NOTIN",
        minimum_arguments: 1,
        maximum_arguments: None,
        summary: "the first (each element of a list, each key of a map) is none of the others",
        examples: &[
            example("NOTIN($a, 1, 2)", r#"{"a": 3}"#, "true"),
            example("NOTIN($a, x)", r#"{"a": ["x", "z"]}"#, "false"),
        ],
        check: Check::Nothing,
        run: not_in,
    },
    Function {
        name: "CONTAINS",
        minimum_arguments: 2,
        maximum_arguments: None,
        summary: "the list (or the keys of the map) has each of the others; a scalar is a list of one",
        examples: &[
            example("CONTAINS($options, nodev)", r#"{"options": ["rw", "nodev"]}"#, "true"),
            example("CONTAINS($options, nodev, nosuid)", r#"{"options": ["rw", "nodev"]}"#, "false"),
        ],
        check: Check::Nothing,
        run: |call| contains(call, |found| found.iter().all(|found| *found)),
    },
    Function {
        name: "CONTAINS_ANY",
        minimum_arguments: 2,
        maximum_arguments: None,
        summary: "the list (or the keys of the map) has one of the others",
        examples: &[example("CONTAINS_ANY($options, ro, nodev)", r#"{"options": ["rw", "nodev"]}"#, "true")],
        check: Check::Nothing,
        run: |call| contains(call, |found| found.contains(&true)),
    },
    Function {
        name: "NOTCONTAINS",
        minimum_arguments: 2,
        maximum_arguments: None,
        summary: "the list (or the keys of the map) has none of the others",
        examples: &[
            example("NOTCONTAINS($passwd, nis)", r#"{"passwd": ["files"]}"#, "true"),
            example("NOTCONTAINS($passwd, nis)", r#"{"passwd": ["files", "nis"]}"#, "false"),
        ],
        check: Check::Nothing,
        run: |call| contains(call, |found| !found.contains(&true)),
    },
    Function {
        name: "LE_EACH",
        minimum_arguments: 2,
        maximum_arguments: Some(2),
        summary: "both are numbers separated by colons; each of the first is at most its counterpart; a missing one is unknown",
        examples: &[
            example("LE_EACH($MaxStartups, 10:30:60)", r#"{"MaxStartups": "10:30:60"}"#, "true"),
            example("LE_EACH($MaxStartups, 10:30:60)", r#"{"MaxStartups": "10:30:100"}"#, "false"),
        ],
        check: Check::Nothing,
        run: le_each,
    },
    Function {
        name: "UNIQUE",
        minimum_arguments: 1,
        maximum_arguments: Some(2),
        summary: "no two elements of the list are equal; with a name: no two members of the list or map have the same value under that name",
        examples: &[
            example("UNIQUE($l)", r#"{"l": [1, 2, 1]}"#, "false"),
            example(
                "UNIQUE($users, uid)",
                r#"{"users": {"root": {"uid": 0}, "joe": {"uid": 1000}}}"#,
                "true",
            ),
        ],
        check: Check::Nothing,
        run: unique,
    },
];

fn is_choice(value: &Value, call: &Call<'_, '_>) -> bool {
    call.others().iter().flatten().any(|choice| equal(value, choice))
}

/// Whether each known element of a list or key of a map is a choice; `None` for a scalar.
fn members(value: &Value, call: &Call<'_, '_>) -> Option<Vec<bool>> {
    match value {
        Value::Array(list) => {
            Some(list.iter().filter(|e| !e.is_null()).map(|e| is_choice(e, call)).collect())
        }
        Value::Object(map) => {
            Some(map.keys().map(|key| is_choice(&Value::String(key.clone()), call)).collect())
        }
        _ => None,
    }
}

fn is_in<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let value = call.argument(0)?;
    match members(value, call) {
        Some(members) if members.is_empty() => None,
        Some(members) => truth(members.into_iter().all(|member| member)),
        None => truth(is_choice(value, call)),
    }
}

fn not_in<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let value = call.argument(0)?;
    match members(value, call) {
        Some(members) => truth(!members.into_iter().any(|member| member)),
        None => truth(!is_choice(value, call)),
    }
}

/// Hands `decide` for each wanted member whether the list has it. An unknown wanted member makes it unknown.
fn contains<'a>(call: &Call<'_, 'a>, decide: impl Fn(&[bool]) -> bool) -> Operand<'a> {
    let list = call.argument(0)?;
    let wanted: Vec<&Value> = call.others().iter().map(Option::as_deref).collect::<Option<_>>()?;
    let has = |wanted: &Value| match list {
        Value::Array(list) => list.iter().any(|element| !element.is_null() && equal(element, wanted)),
        Value::Object(map) => map.contains_key(as_text(wanted).as_ref()),
        scalar => equal(scalar, wanted),
    };
    let found: Vec<bool> = wanted.into_iter().map(has).collect();
    truth(decide(&found))
}

fn le_each<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let parts = |index: usize| -> Option<Vec<Value>> {
        match call.argument(index)? {
            scalar @ (Value::String(_) | Value::Number(_)) => {
                Some(as_text(scalar).split(':').map(|part| Value::String(part.trim().to_string())).collect())
            }
            _ => None,
        }
    };
    let (values, limits) = (parts(0)?, parts(1)?);
    let is_number = |value: &Value| number(value).is_some();
    if values.len() > limits.len() || !values.iter().chain(&limits).all(is_number) {
        return None;
    }
    if values
        .iter()
        .zip(&limits)
        .any(|(value, limit)| compare(value, limit).is_some_and(std::cmp::Ordering::is_gt))
    {
        return truth(false);
    }
    if values.len() == limits.len() { truth(true) } else { None }
}

fn unique<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let members: Vec<&Value> = match call.argument(0)? {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) if call.arguments.len() == 2 => map.values().collect(),
        _ => return None,
    };
    let values: Vec<&Value> = match call.arguments.get(1) {
        None => members,
        Some(name) => {
            let name = as_text(name.as_deref()?).into_owned();
            members.into_iter().filter_map(|member| member.get(&name)).collect()
        }
    };
    let mut seen = HashSet::new();
    truth(values.into_iter().filter(|value| !value.is_null()).all(|value| seen.insert(as_text(value))))
}
