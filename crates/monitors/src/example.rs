//! Examples in a rule's file: what it makes of a process. They explain the rule and test it.

use crate::context::{self, Process};
use crate::matching::{Verdict, judge};
use crate::rule::{MonitorRule, MonitorRuleProblem, Subject, Worth};
use crate::{Class, Findings};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One example. `agents` is `monitoringagents` data and stands for a host that has the rule's agent when left out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// An entry of `tcpdiscovery`; none for a rule about the host.
    process: Option<Map<String, Value>>,
    agents: Option<Value>,
    /// Programs of the host, for `hascmd()`.
    #[serde(default)]
    commands: Vec<String>,
    /// `services` data.
    services: Option<Value>,
    expect: Expected,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    r#match: MatchName,
    /// All of them.
    #[serde(default)]
    argv: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Names of values that are not known, for `part`.
    #[serde(default)]
    missing: Vec<String>,
}

/// The values of a match by the names that the original has for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MatchName {
    None,
    Never,
    Part,
    Low,
    Med,
    High,
}

/// What is wrong with the examples of a rule: those that come out otherwise.
pub fn check(rule: &MonitorRule) -> Vec<MonitorRuleProblem> {
    let mut problems = Vec::new();
    for (position, example) in rule.examples.iter().enumerate() {
        let mut wrong = |message: String| {
            let message = format!("example {}: {message}", position + 1);
            problems.push(MonitorRuleProblem::new(&rule.file, message, "mend the rule, or the example"));
        };
        let is_of_host = rule.subject == Subject::Host;
        if is_of_host == example.process.is_some() {
            wrong("a rule about a service needs a process, one about the host has none".into());
            continue;
        }
        match example.run(rule) {
            Err(why) => wrong(why),
            Ok(found) if found != example.expect => {
                wrong(format!("gives {found:?} instead of {:?}", example.expect));
            }
            Ok(_) => {}
        }
    }
    problems
}

/// Whether there is an example that fits, and one that does not.
#[cfg(test)]
fn has_both(rule: &MonitorRule) -> bool {
    let fits = |example: &Example| example.expect.r#match != MatchName::None;
    rule.examples.iter().any(fits) && !rule.examples.iter().all(fits)
}

impl Example {
    fn run(&self, rule: &MonitorRule) -> Result<Expected, String> {
        let own_agent = || match rule.class {
            Class::Ocf => {
                json!({"ocf": [format!("{}/{}", rule.provider.as_deref().unwrap_or_default(), rule.agent)]})
            }
            class => json!({class.as_str(): [rule.agent]}),
        };
        let agents = self.agents.clone().unwrap_or_else(own_agent);
        let commands = self.commands.iter().map(|name| (name.clone(), Value::Null)).collect();
        let commands = Value::Object(commands);
        let services = self.services.clone().unwrap_or_else(|| json!({}));
        let findings = Findings {
            tcpdiscovery: &Value::Null,
            monitoringagents: &agents,
            commands: &commands,
            services: &services,
        };
        let host = context::host("example", &findings);
        let process = match &self.process {
            None => None,
            Some(entry) => {
                let process = Process::new("example:0", &Value::Object(entry.clone()));
                Some(process.ok_or("the process listens nowhere: give it listenaddrs")?)
            }
        };
        let views = process.as_ref().map_or(&[][..], Process::views);
        let found = |r#match, argv, env, missing| Expected { r#match, argv, env, missing };
        Ok(match judge(rule, views, &host, &agents, &BTreeMap::new()) {
            Verdict::No => found(MatchName::None, Vec::new(), BTreeMap::new(), Vec::new()),
            Verdict::Never => found(MatchName::Never, Vec::new(), BTreeMap::new(), Vec::new()),
            Verdict::Partly(names) => found(MatchName::Part, Vec::new(), BTreeMap::new(), names),
            Verdict::Fits { call, .. } => {
                let worth = match rule.worth {
                    Worth::Low => MatchName::Low,
                    Worth::Medium => MatchName::Med,
                    Worth::High => MatchName::High,
                };
                found(worth, call.argv, call.env, Vec::new())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MonitorRules;

    /// Every shipped rule explains itself, and does what its examples say.
    #[test]
    fn every_shipped_rule_is_good() {
        let (rules, problems) = MonitorRules::load(&[], &BTreeMap::new());
        assert!(problems.is_empty(), "{problems:#?}");
        let mut wrong: Vec<String> = rules.check_examples().iter().map(ToString::to_string).collect();
        for rule in rules.iter() {
            if rule.description.len() < 12 || !rule.description.ends_with('.') {
                wrong.push(format!("{}: write a sentence as its description", rule.file));
            }
            if !has_both(rule) {
                wrong.push(format!("{}: give an example that fits and one that does not", rule.file));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(rules.iter().count() >= 40);
        assert_eq!(rules.iter().count(), crate::builtin_files().len(), "two files have the same name");
    }

    #[test]
    fn the_documented_example_does_what_it_says() {
        let page = include_str!("../../../docs/add-a-monitor-rule.md");
        let text = page.split("```").find(|block| block.contains("classconfig")).unwrap();
        let rule = crate::rule::parse(text, "shop.mrule").unwrap();
        assert_eq!(check(&rule), []);
        assert!(has_both(&rule));
        // It is the examples that speak: with another path they do not hold.
        let other = crate::rule::parse(&text.replacen("/health", "/elsewhere", 1), "shop.mrule").unwrap();
        assert_eq!(check(&other).len(), 1);
    }

    #[test]
    fn an_example_that_comes_out_otherwise_is_told() {
        let text = r#"{"class": "lsb", "type": "x", "classconfig": [["@basename()", "x$"]], "examples": [
            {"process": {"exe": "/bin/y", "listenaddrs": {"0.0.0.0:1": "tcp"}}, "expect": {"match": "low"}},
            {"expect": {"match": "none"}},
            {"process": {"exe": "/bin/x"}, "expect": {"match": "low"}},
            {"process": {"exe": "/bin/x", "listenaddrs": {"0.0.0.0:1": "tcp"}}, "expect": {"match": "low"}}]}"#;
        let rule = crate::rule::parse(text, "x.mrule").unwrap();
        let told: Vec<String> = check(&rule).iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(
            told[0].starts_with("x.mrule: example 1: gives") && told[1].contains("example 2"),
            "{told:?}"
        );
    }
}
