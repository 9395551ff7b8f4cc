//! The built-in monitor rules in words: docs/monitor-rules.md.

use crate::rule::{MonitorRule, Role, Subject, Worth};
use crate::{Class, MonitorRules};

/// docs/monitor-rules.md for these rules.
pub fn reference_text(rules: &MonitorRules) -> String {
    let mut text = INTRODUCTION.to_owned();
    let of_services = rules.iter().filter(|rule| rule.subject == Subject::Service);
    let (never, services): (Vec<_>, Vec<_>) = of_services.partition(|rule| rule.class == Class::NeverMon);
    let hosts: Vec<_> = rules.iter().filter(|rule| rule.subject == Subject::Host).collect();
    text += &format!("There are {} rules.\n", rules.iter().count());
    for (title, rules) in
        [("Services", services), ("The host itself", hosts), ("Deliberately not looked after", never)]
    {
        text += &format!("\n## {title}\n\n{HEADER}");
        rules.into_iter().for_each(|rule| text += &row(rule));
    }
    text
}

fn row(rule: &MonitorRule) -> String {
    let agent = match &rule.provider {
        Some(provider) => format!("{provider}/{}", rule.agent),
        None => rule.agent.clone(),
    };
    let worth = match (rule.class, rule.worth) {
        (Class::NeverMon, _) => "",
        (_, Worth::Low) => "low",
        (_, Worth::Medium) => "med",
        (_, Worth::High) => "high",
    };
    let values: Vec<String> = rule
        .tuples
        .iter()
        .filter(|tuple| tuple.role != Role::Match)
        .map(|tuple| format!("`{}{}`", if tuple.is_optional { "?" } else { "" }, tuple.role.name()))
        .collect();
    let words: Vec<String> =
        (!rule.initargs.is_empty()).then(|| format!("`{}`", rule.initargs.join(" "))).into_iter().collect();
    format!(
        "| `{}` | {} | `{agent}` | {worth} | {} | {} |\n",
        rule.file,
        rule.class.as_str(),
        words.into_iter().chain(values).collect::<Vec<_>>().join(" ").replace('|', "\\|"),
        rule.description.replace('|', "\\|"),
    )
}

const HEADER: &str = "| file | class | agent | worth | parameters | what |\n|---|---|---|---|---|---|\n";

const INTRODUCTION: &str = "# Monitor rules

What each rule in `monrules/` looks after. The best rule that fits a process and whose agent the host has is used; how it is chosen and
how to write one: [add-a-monitor-rule.md](add-a-monitor-rule.md).

<!-- Made from monrules: UPDATE=1 cargo test -p monitors reference -->

";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_documentation_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/monitor-rules.md");
        let (rules, problems) = MonitorRules::load(&[], &BTreeMap::new());
        assert!(problems.is_empty(), "{problems:?}");
        let text = reference_text(&rules);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == text,
            "docs/monitor-rules.md is not current; write it with UPDATE=1 cargo test -p monitors reference"
        );
    }
}
