//! Looking for something inside text, maps and lists.

use super::super::operand::{as_text, equal, scalar_text, truth};
use super::super::pattern::Pattern;
use super::super::{Call, Operand, Prepared};
use super::{Check, Function, example};
use serde_json::Value;
use std::borrow::Cow;

/// Deeper maps and lists are not searched.
const MAXIMUM_DATA_DEPTH: usize = 128;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "FINDATTRVALUE",
        minimum_arguments: 2,
        maximum_arguments: Some(3),
        summary: "the value of the first member of this name (and value) anywhere in the object; true if it is null",
        examples: &[
            example("FINDATTRVALUE($o, b)", r#"{"o": {"a": [{"b": 1}]}}"#, "1"),
            example("FINDATTRVALUE($o, c)", r#"{"o": {"a": {"b": 1}}}"#, "null"),
        ],
        check: Check::Nothing,
        run: find_value,
    },
    Function {
        name: "ATTRSEARCH",
        minimum_arguments: 2,
        maximum_arguments: Some(3),
        summary: "whether a member of this name (and value) is anywhere in the object",
        examples: &[
            example("ATTRSEARCH($o, b)", r#"{"o": {"a": [{"b": false}]}}"#, "true"),
            example("ATTRSEARCH($o, b, 1)", r#"{"o": {"b": 2}}"#, "false"),
        ],
        check: Check::Nothing,
        run: |call| search(call).and_then(|found| truth(found.is_some())),
    },
    Function {
        name: "PAMMODARGS",
        minimum_arguments: 4,
        maximum_arguments: Some(4),
        summary: "stack, phase, module (or ANY), argument: the value of that argument in the first PAM line of the module",
        examples: &[example(
            "PAMMODARGS($common-password, password, pam_unix, remember)",
            r#"{"common-password": [{"service": "password", "module": {"path": "pam_unix.so", "remember": 5}}]}"#,
            "5",
        )],
        check: Check::Nothing,
        run: pam_argument,
    },
    Function {
        name: "match",
        minimum_arguments: 2,
        maximum_arguments: Some(3),
        summary: "whether the regular expression is found anywhere in the text; flags A I L M S U X",
        examples: &[
            example("match($a, \"^fr(e|i)\")", r#"{"a": "fred"}"#, "true"),
            example("match(FRED, fre, I)", "{}", "true"),
        ],
        check: Check::Pattern { pattern: 1, flags: 2, anchored: false },
        run: matches,
    },
];

fn find_value<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    match search(call)?? {
        Value::Null => truth(true),
        value => Some(Cow::Borrowed(value)),
    }
}

/// `None`: unknown, the object or what to look for is missing or has the wrong shape. `Some(None)`: not there.
fn search<'a>(call: &Call<'_, 'a>) -> Option<Option<&'a Value>> {
    // Maps and lists are always borrowed.
    let Some(Some(Cow::Borrowed(object))) = call.arguments.first() else { return None };
    let name = scalar_text(call.argument(1)?)?;
    let wanted = match call.arguments.get(2) {
        Some(wanted) => Some(wanted.as_deref()?),
        None => None,
    };
    (object.is_object() || object.is_array()).then(|| find(object, &name, wanted, MAXIMUM_DATA_DEPTH))
}

/// The own members first, then what is inside them.
fn find<'a>(object: &'a Value, name: &str, wanted: Option<&Value>, depth: usize) -> Option<&'a Value> {
    let depth = depth.checked_sub(1)?;
    match object {
        Value::Object(map) => map
            .get(name)
            .filter(|value| wanted.is_none_or(|wanted| !value.is_null() && equal(value, wanted)))
            .or_else(|| map.values().find_map(|value| find(value, name, wanted, depth))),
        Value::Array(list) => list.iter().find_map(|value| find(value, name, wanted, depth)),
        _ => None,
    }
}

fn pam_argument<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let Some(Some(Cow::Borrowed(Value::Array(stack)))) = call.arguments.first() else { return None };
    let (phase, module) = (scalar_text(call.argument(1)?)?, scalar_text(call.argument(2)?)?);
    let argument = scalar_text(call.argument(3)?)?;
    let mut modules = stack
        .iter()
        .filter(|line| line.get("service").and_then(Value::as_str) == Some(&phase))
        .filter_map(|line| line.get("module"));
    let found = if module == "ANY" {
        modules.find_map(|line| line.get(argument.as_ref()).filter(|value| !value.is_null()))
    } else {
        modules
            .find(|line| {
                let path = line.get("path").and_then(Value::as_str).unwrap_or_default();
                path == module || path.strip_suffix(".so") == Some(&module)
            })
            .and_then(|line| line.get(argument.as_ref()))
    };
    found.and_then(super::super::operand::known)
}

fn matches<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let text = scalar_text(call.argument(0)?)?;
    if let Prepared::Pattern(pattern) = call.prepared {
        return truth(pattern.is_match(&text));
    }
    let flags = if call.arguments.len() > 2 { as_text(call.argument(2)?) } else { "".into() };
    let pattern = Pattern::new(&scalar_text(call.argument(1)?)?, &flags, false).ok()?;
    truth(pattern.is_match(&text))
}
