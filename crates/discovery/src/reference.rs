//! The discoveries in words, made from their declarations: one as `nanoprobe discover TYPE --explain` shows it, and all
//! as docs/discoveries.md.

use crate::{Discovery, Instance, Schedule, Trigger, all};
use std::fmt::Write as _;

/// All that is known about a discovery, as Markdown that reads well as plain text.
pub fn explanation(discovery: &Discovery) -> String {
    let mut text =
        format!("# {}: {}\n\n{}\n", discovery.name, discovery.description, discovery.documentation);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "Runs {}.", often(discovery));
    for instance in discovery.instances {
        let _ = writeln!(text, "Instance {}{}", instance.name, about_instance(discovery, instance));
    }
    for parameter in discovery.parameters {
        let _ = write!(text, "Parameter {}: {}", parameter.name, parameter.meaning.trim_end_matches('.'));
        let _ = match parameter.default {
            "" => writeln!(text, "."),
            default => writeln!(text, "; otherwise {default}."),
        };
    }
    text
}

/// docs/discoveries.md.
pub fn reference_text() -> String {
    let mut text = INTRODUCTION.to_owned();
    for discovery in all() {
        let instances: Vec<String> =
            discovery.instances.iter().map(|instance| format!("`{}`", instance.name)).collect();
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            discovery.name,
            cell(discovery.description),
            instances.join("<br>"),
            often(discovery),
            cell(&first_sentence(discovery.documentation)),
        );
    }
    text
}

fn about_instance(discovery: &Discovery, instance: &Instance) -> String {
    let mut text = String::new();
    if let Some(schedule) = instance.schedule {
        let _ = write!(text, ", {}", how_often(schedule, discovery.trigger));
    }
    for (name, value) in instance.parameters {
        let _ = write!(text, ", {name}={value}");
    }
    text
}

/// What has no instance and no rhythm is made by the nanoprobe when there is something to tell.
fn often(discovery: &Discovery) -> String {
    if discovery.instances.is_empty() && discovery.schedule.repeat_seconds == 0 {
        return "with each change".into();
    }
    how_often(discovery.schedule, discovery.trigger)
}

fn how_often(schedule: Schedule, trigger: Trigger) -> String {
    let repeated = match schedule.repeat_seconds {
        0 => "at the start".to_owned(),
        seconds if seconds % 3600 == 0 => format!("every {} h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("every {} min", seconds / 60),
        seconds => format!("every {seconds} s"),
    };
    match trigger {
        Trigger::Files => repeated + ", and when a file changes",
        Trigger::Netlink => repeated + ", and when the network changes",
        Trigger::None => repeated,
    }
}

/// Up to the first full stop that ends a sentence, or the first paragraph.
fn first_sentence(documentation: &str) -> String {
    let paragraph: Vec<&str> = documentation.lines().take_while(|line| !line.trim().is_empty()).collect();
    let paragraph = paragraph.join(" ");
    let end = paragraph.match_indices(". ").map(|(at, _)| at + 1).next().unwrap_or(paragraph.len());
    paragraph[..end].to_owned()
}

/// Text inside a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

const INTRODUCTION: &str = r#"# Discoveries

What a nanoprobe finds out about its host. Each row is one file, `crates/discovery/src/all/<type>.rs`.

```sh
nanoprobe discover --list                 # these, and the executables of your site
nanoprobe discover sshd --explain         # shape of the data, sources, parameters
nanoprobe discover sshd                   # what it finds on this host, as JSON
nanoprobe discover sshd --host-root DIR   # or in an image, a chroot, a container's files
```

A document whose `data` is `{"NODATA": "..."}` says in one sentence why there is nothing to tell; rules about it are NA with that
reason. Begins the sentence with `ERROR:`, something is there that cannot be read, and `errors` says why.
How often a discovery runs can be changed, see [configuration.md](configuration.md).
How to write one: [add-a-discovery.md](add-a-discovery.md).

<!-- Made from crates/discovery/src/all: UPDATE=1 cargo test -p discovery reference -->

| type | what | instances that run by themselves | how often | reads |
|---|---|---|---|---|
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/discoveries.md");
        let text = reference_text();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == text,
            "docs/discoveries.md is not current; write it with UPDATE=1 cargo test -p discovery reference"
        );
    }

    #[test]
    fn every_discovery_begins_with_a_sentence_about_itself() {
        for discovery in all() {
            let sentence = first_sentence(discovery.documentation);
            assert!(sentence.ends_with('.') && sentence.len() < 400, "{}: {sentence}", discovery.name);
            let capital = |text: &str| !text.starts_with(|c: char| c.is_ascii_lowercase());
            assert!(capital(&sentence) && capital(discovery.description), "{}", discovery.name);
            assert!(!discovery.description.ends_with('.'), "{}", discovery.name);
        }
    }

    #[test]
    fn times_and_sentences() {
        let every = |repeat_seconds| Schedule { repeat_seconds, ..Schedule::DEFAULT };
        assert_eq!(how_often(every(0), Trigger::None), "at the start");
        assert_eq!(how_often(every(86_400), Trigger::None), "every 24 h");
        assert_eq!(how_often(every(60), Trigger::Netlink), "every 1 min, and when the network changes");
        assert_eq!(how_often(every(45), Trigger::Files), "every 45 s, and when a file changes");
        assert_eq!(first_sentence("One, a.b(5)\ntwo. Three.\n\nFour.\n"), "One, a.b(5) two.");
        assert_eq!(first_sentence("One.\n\nTwo.\n"), "One.");
    }

    #[test]
    fn an_explanation_has_documentation_instances_and_parameters() {
        let text = explanation(crate::find("fileattrs").unwrap().0);
        for part in ["# fileattrs: ", "stat(1)", "Instance bin_fileattrs, ", "Parameter "] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
