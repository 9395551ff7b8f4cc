//! Runs one discovery and puts what it found into an envelope.

use crate::{Collected, Discovery, Host, Parameters};
use model::Envelope;
use model::text::{printable, shortened};
use serde_json::{Map, Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};

const MAX_ERROR_CHARS: usize = 1000;

/// Runs `discovery` on `host` under the name `instance`.
///
/// `parameters` win over those of the instance, and these over the defaults. Never fails: what goes wrong is in
/// the envelope's `errors`. A panic in a collector is a bug, but must not take the agent down with it.
pub fn run(discovery: &Discovery, instance: &str, host: &Host, parameters: &Parameters) -> Envelope {
    let parameters = complete(discovery, instance, parameters);
    host.begin_run();
    // A collector shares nothing with us but the host, and a host's records stay usable after a panic.
    let collected = catch_unwind(AssertUnwindSafe(|| (discovery.collect)(host, &parameters)))
        .unwrap_or_else(|cause| panicked(discovery, cause.as_ref()));
    let data = match collected.data {
        data @ Value::Object(_) => data,
        other => json!({"value": other}),
    };
    Envelope {
        discovertype: crate::discovertype(discovery).into(),
        description: discovery.description.into(),
        host: host.name(),
        source: "nanoprobe".into(),
        instance: instance.into(),
        proxy: "local/local".into(),
        data,
        errors: collected.errors.iter().map(|error| harmless(error)).collect(),
        extras: collected.extras,
    }
}

/// Errors name files, whose names may be long and hold anything but `/`.
fn harmless(error: &str) -> String {
    shortened(&printable(error), MAX_ERROR_CHARS).into_owned()
}

fn complete(discovery: &Discovery, instance: &str, given: &Parameters) -> Parameters {
    let text = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let mut parameters: Parameters =
        discovery.parameters.iter().map(|p| (p.name.to_owned(), p.default.to_owned())).collect();
    if let Some(instance) = discovery.instances.iter().find(|i| i.name == instance) {
        parameters.extend(instance.parameters.iter().map(text));
    }
    parameters.extend(given.iter().map(|(name, value)| (name.clone(), value.clone())));
    parameters
}

fn panicked(discovery: &Discovery, cause: &(dyn std::any::Any + Send)) -> Collected {
    let text = cause
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| cause.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into());
    Collected {
        data: Value::Object(Map::new()),
        errors: vec![format!(
            "the collector of {} stopped by a defect of its own ({text}): report it to the project",
            discovery.name
        )],
        extras: Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Instance, Parameter, Schedule, Trigger, no_graph};

    const EXAMPLE: Discovery = Discovery {
        name: "example",
        description: "an example",
        documentation: "",
        parameters: &[
            Parameter { name: "a", meaning: "", default: "1" },
            Parameter { name: "b", meaning: "", default: "1" },
            Parameter { name: "c", meaning: "", default: "1" },
        ],
        instances: &[Instance {
            name: "_init_example",
            parameters: &[("b", "2"), ("c", "2")],
            schedule: None,
        }],
        schedule: Schedule::DEFAULT,
        trigger: Trigger::None,
        collect: |_, parameters| Collected::new(json!(parameters)),
        graph: no_graph,
    };

    #[test]
    fn the_caller_wins_over_the_instance_and_it_over_the_default() {
        let given = Parameters::from([("c".to_owned(), "3".to_owned())]);
        let envelope = run(&EXAMPLE, "_init_example", &Host::running(), &given);
        assert_eq!(envelope.data, json!({"a": "1", "b": "2", "c": "3"}));
        assert_eq!(
            (envelope.discovertype.as_str(), envelope.instance.as_str()),
            ("example", "_init_example")
        );
        assert_eq!(envelope.proxy, "local/local");
        assert_eq!(run(&EXAMPLE, "other", &Host::running(), &given).data["b"], "1");
    }

    #[test]
    fn a_panic_becomes_an_error_of_the_document() {
        let broken = Discovery { collect: |_, _| panic!("index {}", 7), ..EXAMPLE };
        let envelope = run(&broken, "x", &Host::running(), &Parameters::new());
        assert_eq!(envelope.data, json!({}));
        assert!(envelope.errors[0].contains("index 7"), "{:?}", envelope.errors);
    }

    #[test]
    fn errors_are_short_and_harmless() {
        let noisy = Discovery {
            collect: |_, _| {
                let errors = vec![format!("/x\u{1b}[2J{}", "y".repeat(100_000))];
                Collected { data: json!({}), errors, extras: Map::new() }
            },
            ..EXAMPLE
        };
        let envelope = run(&noisy, "x", &Host::running(), &Parameters::new());
        assert_eq!(envelope.errors[0].chars().count(), MAX_ERROR_CHARS);
        assert!(envelope.errors[0].starts_with("/x\\u{1b}[2Jyyy"));
    }

    #[test]
    fn the_name_is_that_of_the_tree() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("etc")).unwrap();
        std::fs::write(tree.path().join("etc/hostname"), "# comment\n\n Web7 \n").unwrap();
        let envelope = run(&EXAMPLE, "x", &Host::at(tree.path()), &Parameters::new());
        assert_eq!(envelope.host, "Web7");
    }
}
