//! Packages by name, whatever the package manager and the architecture: over the document of the discovery `packages`.

use super::super::operand::{Operand, scalar_text, truth};
use super::super::{Call, Evaluator};
use super::{Check, Function, example};
use serde_json::{Map, Value};

/// The managers of whole operating systems. What pip or npm install under the same name is another thing.
const MANAGERS: [&str; 3] = ["deb", "rpm", "apk"];

pub(super) const FUNCTIONS: &[Function] = &[Function {
    name: "HASPACKAGE",
    minimum_arguments: 1,
    maximum_arguments: None,
    summary: "whether deb, rpm or apk has one of these packages, of any architecture; unknown when the data list no packages of theirs",
    examples: &[
        example("HASPACKAGE(bash)", r#"{"deb": {"bash::amd64": "5.2-1"}}"#, "true"),
        example("HASPACKAGE(audit, auditd)", r#"{"rpm": {"bash::x86_64": "5.1-6"}}"#, "false"),
        example("HASPACKAGE(bash)", r#"{"pip": {"bash": "1"}}"#, "null"),
    ],
    check: Check::Nothing,
    run: has_package,
}];

fn has_package<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let mut names = Vec::new();
    for name in call.arguments {
        names.push(scalar_text(name.as_deref()?)?.into_owned());
    }
    let lists: Vec<(&str, &Map<String, Value>)> = MANAGERS
        .into_iter()
        .filter_map(|manager| Some((manager, packages(call.evaluator, manager)?)))
        .collect();
    // Nothing but the names asked for is recorded: a host has thousands of packages.
    let Some((first, _)) = lists.first() else {
        call.evaluator.record("deb", None);
        return None;
    };
    for name in &names {
        for (manager, list) in &lists {
            if let Some((key, version)) = find(list, name) {
                call.evaluator.record(&format!("{manager}.{key}"), Some(version));
                return truth(true);
            }
        }
        call.evaluator.record(&format!("{first}.{name}"), None);
    }
    truth(false)
}

/// An empty list says that nothing was found out, not that nothing is installed: no system works without packages.
fn packages<'a>(evaluator: &Evaluator<'a>, manager: &str) -> Option<&'a Map<String, Value>> {
    evaluator.peek(manager)?.as_object().filter(|list| !list.is_empty())
}

/// A key is `name` or `name::architecture`.
fn find<'a>(list: &'a Map<String, Value>, name: &str) -> Option<(&'a String, &'a Value)> {
    list.get_key_value(name).or_else(|| {
        list.iter().find(|(key, _)| key.strip_prefix(name).is_some_and(|rest| rest.starts_with("::")))
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::Expression;
    use serde_json::{Value, json};

    fn of(expression: &str, data: &Value) -> (Option<Value>, Vec<(String, Value)>) {
        let evaluation = Expression::parse(expression).unwrap().evaluate(&[data]);
        (evaluation.value, evaluation.used)
    }

    #[test]
    fn names_are_whole_and_any_architecture_will_do() {
        let data = json!({
            "deb": {"bash::amd64": "5.2", "libc6-dev::amd64": "2.36", "libc6::i386": "2.36", "x::amd64": "1", "x::amd64#2": "2"},
            "apk": {"musl": "1.2"}, "npm": {"left-pad": "1.3"},
        });
        for (name, expected) in [
            ("bash", true),
            ("bas", false),
            ("libc6", true),
            ("libc6-dev", true),
            ("libc", false),
            ("x", true),
            ("musl", true),
            ("left-pad", false),
            ("deb", false),
            ("\"\"", false),
            ("amd64", false),
        ] {
            assert_eq!(of(&format!("HASPACKAGE({name})"), &data).0, Some(json!(expected)), "{name}");
        }
        assert_eq!(of("HASPACKAGE(none, bash)", &data).0, Some(json!(true)));
    }

    #[test]
    fn only_what_was_asked_for_is_recorded() {
        let data = json!({"rpm": {"bash::x86_64": "5.1", "audit::x86_64": "3.0"}});
        let (_, used) = of("HASPACKAGE(auditd, audit)", &data);
        assert_eq!(
            used,
            [("rpm.auditd".to_owned(), Value::Null), ("rpm.audit::x86_64".to_owned(), json!("3.0"))]
        );
    }

    #[test]
    fn without_lists_nothing_is_known() {
        for data in [json!({}), json!({"deb": {}}), json!({"rpm": "text"}), json!({"NODATA": "no packages"})]
        {
            assert_eq!(of("HASPACKAGE(bash)", &data).0, None, "{data}");
        }
        assert_eq!(of("HASPACKAGE($unknown)", &json!({"deb": {"bash::amd64": "1"}})).0, None);
    }
}
