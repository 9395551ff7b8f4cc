//! Sets of objects: choosing members by name, and how many of several conditions hold.

use super::super::operand::{as_text, is_true, truth};
use super::super::pattern::Pattern;
use super::super::{Call, Operand, Prepared};
use super::{Check, Function, example};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashSet;

/// Members that GLOB hands on; an answer over more could not be explained.
const MAXIMUM_MEMBERS: usize = 10_000;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "GLOB",
        minimum_arguments: 1,
        maximum_arguments: None,
        summary: "the members of the data whose names match one of the patterns (? and * within a part of a path, ** over parts, {a,b} either); unknown when there is none",
        examples: &[
            example(
                r#"FOREACH(GLOB("/etc/ssh/*_key"), "EQ($owner, root)")"#,
                r#"{"/etc/ssh/a_key": {"owner": "joe"}, "/etc/passwd": {"owner": "root"}}"#,
                "false",
            ),
            example(
                r#"GLOB("/etc/{a,b}")"#,
                r#"{"/etc/b": {"n": 1}, "/etc/c": {}}"#,
                r#"{"/etc/b": {"n": 1}}"#,
            ),
            example(r#"GLOB("/var/log/**")"#, r#"{"/etc/b": {}}"#, "null"),
        ],
        check: Check::Globs,
        run: glob,
    },
    Function {
        name: "PRESENT_ANY",
        minimum_arguments: 1,
        maximum_arguments: None,
        summary: "true if one is known, else false; never unknown",
        examples: &[
            example("PRESENT_ANY($a, $b)", r#"{"b": 0}"#, "true"),
            example("PRESENT_ANY($a, $b)", "{}", "false"),
        ],
        check: Check::Nothing,
        run: |call| truth(call.arguments.iter().any(Option::is_some)),
    },
    Function {
        name: "AT_LEAST_ONE",
        minimum_arguments: 1,
        maximum_arguments: None,
        summary: "true if one or more are true, else false; unknown counts as false",
        examples: &[
            example("AT_LEAST_ONE($a, $b)", r#"{"b": true}"#, "true"),
            example("AT_LEAST_ONE($a, $b)", r#"{"b": false}"#, "false"),
        ],
        check: Check::Nothing,
        run: |call| truth(count_true(call) > 0),
    },
    Function {
        name: "EXACTLY_ONE",
        minimum_arguments: 1,
        maximum_arguments: None,
        summary: "true if one is true and no other, else false; unknown counts as false",
        examples: &[
            example("EXACTLY_ONE($a, $b)", r#"{"b": true}"#, "true"),
            example("EXACTLY_ONE($a, $b)", r#"{"a": true, "b": true}"#, "false"),
        ],
        check: Check::Nothing,
        run: |call| truth(count_true(call) == 1),
    },
    Function {
        name: "DEFINED_IN",
        minimum_arguments: 4,
        maximum_arguments: Some(4),
        summary: "objects, name, others, name: every value that the objects have under the first name is one that the others have under the second",
        examples: &[
            example(
                "DEFINED_IN($users, gid, $groups, gid)",
                r#"{"users": [{"gid": 0}, {"gid": 7}], "groups": {"root": {"gid": 0}}}"#,
                "false",
            ),
            example(
                "DEFINED_IN($users, gid, $groups, gid)",
                r#"{"users": [{"gid": 0}], "groups": {"root": {"gid": 0}}}"#,
                "true",
            ),
            example("DEFINED_IN($users, gid, $groups, gid)", r#"{"users": []}"#, "null"),
        ],
        check: Check::Nothing,
        run: defined_in,
    },
    Function {
        name: "SITE",
        minimum_arguments: 0,
        maximum_arguments: None,
        summary: "always unknown: only the site knows the right value; the free text says which. Replace such a rule in a set of your own",
        examples: &[example("SITE(\"the time servers of this site\")", "{}", "null")],
        check: Check::Nothing,
        run: |_| None,
    },
];

fn glob<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let built;
    let pattern = match call.prepared {
        Prepared::Pattern(pattern) => pattern,
        _ => {
            let patterns: Vec<Cow<'_, str>> = call
                .arguments
                .iter()
                .map(|argument| argument.as_deref().map(as_text))
                .collect::<Option<_>>()?;
            built = Pattern::globs(&patterns).ok()?;
            &built
        }
    };
    let members = call.evaluator.objects.iter().filter_map(|object| object.as_object()).flatten();
    let chosen: Map<String, Value> = members
        .filter(|(name, _)| pattern.is_match(name))
        .take(MAXIMUM_MEMBERS)
        .map(|(name, member)| (name.clone(), member.clone()))
        .collect();
    if !chosen.is_empty() {
        return Some(Cow::Owned(Value::Object(chosen)));
    }
    // So that people are told what was looked for.
    for pattern in call.arguments.iter().flatten() {
        call.evaluator.record(&as_text(pattern), None);
    }
    None
}

fn count_true(call: &Call<'_, '_>) -> usize {
    call.arguments.iter().filter(|argument| argument.as_deref().is_some_and(is_true)).count()
}

fn defined_in<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let values = |objects: usize, name: usize| -> Option<Vec<&Value>> {
        let name = as_text(call.argument(name)?);
        let members: Vec<&Value> = match call.argument(objects)? {
            Value::Array(list) => list.iter().collect(),
            Value::Object(map) => map.values().collect(),
            _ => return None,
        };
        Some(
            members
                .into_iter()
                .filter_map(|member| member.get(name.as_ref()))
                .filter(|v| !v.is_null())
                .collect(),
        )
    };
    let defined: HashSet<Cow<'_, str>> = values(2, 3)?.into_iter().map(as_text).collect();
    truth(values(0, 1)?.into_iter().all(|value| defined.contains(&as_text(value))))
}
