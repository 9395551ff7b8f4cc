//! `doctor`: what is wrong with this installation, and what to do. Works without a running CMA, and for users who may not see
//! everything: they are told what could not be seen.
//!
//! Each file in `doctor/topics` is one topic, found by a folder scan (build.rs): it turns what [`Look`] finds into [`Check`]s.

mod look;
mod ruleset;

pub use look::Look;

use crate::{Context, Failure, Finding};
use output::Rows;
use serde_json::json;

#[derive(clap::Args)]
pub struct Options {
    /// Look at these topics only, for instance `keys ports`
    topics: Vec<String>,
}

/// One topic of the doctor.
pub struct Topic {
    pub name: &'static str,
    pub check: fn(&Look) -> Vec<Check>,
}

include!(concat!(env!("OUT_DIR"), "/topics.rs"));

/// What one look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Ok,
    Problem,
    /// It could not be seen, so nobody knows.
    Unknown,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Problem => "PROBLEM",
            Self::Unknown => "unknown",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub topic: &'static str,
    pub state: State,
    /// What is so, for people.
    pub text: String,
    /// The command to type, or empty.
    pub fix: String,
}

impl Check {
    fn new(topic: &'static str, state: State, text: impl Into<String>) -> Self {
        Self { topic, state, text: text.into(), fix: String::new() }
    }

    pub fn good(topic: &'static str, text: impl Into<String>) -> Self {
        Self::new(topic, State::Ok, text)
    }

    pub fn bad(topic: &'static str, text: impl Into<String>) -> Self {
        Self::new(topic, State::Problem, text)
    }

    pub fn unknown(topic: &'static str, text: impl Into<String>) -> Self {
        Self::new(topic, State::Unknown, text)
    }

    /// With the command that mends it.
    pub fn fix(mut self, command: impl Into<String>) -> Self {
        self.fix = command.into();
        self
    }

    #[cfg(test)]
    pub fn is_bad(&self) -> bool {
        self.state == State::Problem
    }
}

/// `1 host`, `2 hosts`: for nouns that take an s.
fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    let is_wanted =
        |topic: &&&Topic| options.topics.is_empty() || options.topics.iter().any(|name| name == topic.name);
    if let Some(odd) = options.topics.iter().find(|name| TOPICS.iter().all(|topic| topic.name != **name)) {
        let names: Vec<&str> = TOPICS.iter().map(|topic| topic.name).collect();
        return Err(Failure::new(format!("there is no topic {odd:?}"))
            .hint(format!("There are {}.", names.join(", "))));
    }
    let look = Look::new(context);
    let wanted = TOPICS.iter().filter(is_wanted);
    let checks: Vec<Check> = wanted.flat_map(|topic| (topic.check)(&look)).collect();
    let mut rows = Rows::new(&["topic", "state", "detail", "fix"]);
    let row = |c: &Check| vec![json!(c.topic), json!(c.state.as_str()), json!(c.text), json!(c.fix)];
    rows.rows = checks.iter().map(row).collect();
    rows.print(context.format)?;
    let is_well = checks.iter().all(|check| check.state != State::Problem);
    Ok(if is_well { Finding::Nothing } else { Finding::Something })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_is_a_topic_of_its_own_and_survives_an_empty_machine() {
        let rig = look::Rig::new();
        let names: BTreeSet<&str> = TOPICS.iter().map(|topic| topic.name).collect();
        assert_eq!(names.len(), TOPICS.len(), "two topics have one name");
        for expected in
            ["keys", "ports", "multicast", "clock", "disk", "queue", "versions", "units", "backups"]
        {
            assert!(names.contains(expected), "{expected} is missing in {names:?}");
        }
        let look = rig.look();
        for topic in TOPICS {
            for check in (topic.check)(&look) {
                assert_eq!(check.topic, topic.name);
                assert!(!check.text.is_empty());
                assert!(check.state != State::Ok || check.fix.is_empty(), "{check:?}");
            }
        }
    }
}
