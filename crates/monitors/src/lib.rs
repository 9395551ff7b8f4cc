//! Which monitors look after what a host offers: monitor rules (`*.mrule`) and the choice among them. Pure, except that
//! [`MonitorRules::load`] reads directories; the nanoprobe runs what is chosen.
//!
//! In the order in which a rule is met: [`rule`] reads it, [`context`] is what its expressions see, `matching` judges,
//! `choose` prefers the best, `settings` are those of the site.

mod choose;
pub mod context;
mod example;
mod files;
mod matching;
pub mod reference;
pub mod rule;
mod settings;

pub use files::builtin_files;
pub use rule::{MonitorRule, MonitorRuleProblem};

use model::Designation;
use model::config::MonitoringConfig;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How a service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Resource agent of the Open Cluster Framework.
    Ocf,
    /// Nagios plug-in.
    Nagios,
    /// Init script.
    Lsb,
    /// State of a systemd unit, over D-Bus.
    Systemd,
    /// Built in: a connection to the port.
    Tcp,
    /// Built in: the answer to `GET`.
    Http,
    /// Built in: TLS handshake and expiry of the certificate.
    Tls,
    /// Known, and deliberately not looked after.
    NeverMon,
}

impl Class {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ocf => "ocf",
            Self::Nagios => "nagios",
            Self::Lsb => "lsb",
            Self::Systemd => "systemd",
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Tls => "tls",
            Self::NeverMon => "NEVERMON",
        }
    }
}

/// What is looked after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Host,
    Service {
        /// Key of its process, as in the data of `tcpdiscovery`.
        process: String,
        pathname: String,
        /// `address:port` where it listens.
        listen: Vec<String>,
    },
}

/// One monitor of one host, ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitor {
    /// `<host>:<class>:<type>::<16 hexadecimal digits>`, the same whenever it is found again.
    pub name: String,
    pub class: Class,
    /// Agent, plug-in, script, unit; for `tcp`, `http`, `tls` the service's name.
    pub agent: String,
    /// OCF only.
    pub provider: Option<String>,
    pub argv: Vec<String>,
    /// OCF: parameters without `OCF_RESKEY_`; built-in classes: `ip`, `port`, `path`, `host`, ...
    pub env: BTreeMap<String, String>,
    pub target: Target,
    /// The rule's file that chose it.
    pub rule: String,
    pub repeat_seconds: u64,
    pub warn_seconds: u64,
    pub timeout_seconds: u64,
    pub failures: u32,
    /// Empty: the nanoprobe's own.
    pub user: String,
}

/// What the choice depends on.
#[derive(Debug, Clone, Copy)]
pub struct Findings<'a> {
    /// `data` of `tcpdiscovery`.
    pub tcpdiscovery: &'a Value,
    /// `data` of `monitoringagents`.
    pub monitoringagents: &'a Value,
    /// `data` of `commands`, for `hascmd()`.
    pub commands: &'a Value,
    /// `data` of `services`: which unit a process belongs to, and what is enabled.
    pub services: &'a Value,
}

/// All that was chosen, sorted by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    pub monitors: Vec<Monitor>,
    /// Listening processes that no rule covers, or whose rules miss something: process key and why, for people.
    pub unmonitored: Vec<(String, String)>,
}

impl Monitor {
    /// Name of its document: `_monitor_<class>:<agent>::<16 hexadecimal digits>`, with `_` for characters that names of
    /// documents do not have.
    pub fn instance(&self) -> String {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
        let agent: String = self.agent.chars().map(|c| if legal(c) { c } else { '_' }).take(120).collect();
        let hash = self.name.rsplit("::").next().unwrap_or_default();
        format!("_monitor_{}:{agent}::{hash}", self.class.as_str())
    }
}

/// Rules that were read.
#[derive(Debug, Default)]
pub struct MonitorRules {
    /// By file name.
    rules: BTreeMap<String, MonitorRule>,
}

impl MonitorRules {
    /// The rules inside the program, those below `directories` (later ones win) and those that the CMA sent, by file
    /// name. A file that is wrong is told and changes nothing: the one before it stays.
    pub fn load(
        directories: &[PathBuf],
        from_cma: &BTreeMap<String, String>,
    ) -> (Self, Vec<MonitorRuleProblem>) {
        let mut rules = Self::default();
        let mut problems = Vec::new();
        for (name, text) in builtin_files() {
            rules.add(text, &format!("built-in/{name}"), &mut problems);
        }
        for directory in directories {
            for (path, text) in files::read_directory(directory, &mut problems).into_values() {
                rules.add(&text, &path, &mut problems);
            }
        }
        for (name, text) in from_cma {
            let shown = model::text::printable(model::text::shortened(name, 100).as_ref()).into_owned();
            rules.add(text, &format!("CMA/{shown}"), &mut problems);
        }
        (rules, problems)
    }

    fn add(&mut self, text: &str, file: &str, problems: &mut Vec<MonitorRuleProblem>) {
        match rule::parse(text, file) {
            Ok(rule) => {
                self.rules.insert(rule.file.clone(), rule);
            }
            Err(problem) => problems.push(problem),
        }
    }

    /// In order of file names.
    pub fn iter(&self) -> impl Iterator<Item = &MonitorRule> {
        self.rules.values()
    }

    /// Runs the examples in the rules' files: what comes out otherwise than they say.
    pub fn check_examples(&self) -> Vec<MonitorRuleProblem> {
        self.iter().flat_map(example::check).collect()
    }

    /// Chooses for one host. Deterministic; names stay the same as long as what is looked after does.
    pub fn choose(&self, host: &Designation, config: &MonitoringConfig, findings: Findings<'_>) -> Choice {
        choose::choose(&self.rules, host, config, findings)
    }
}

/// The `*.mrule` files below directories as the CMA sends them: file name → text. Of those that the program has inside with
/// the same text there is no need to send any; they are left out.
pub fn site_files(directories: &[PathBuf]) -> (BTreeMap<String, String>, Vec<MonitorRuleProblem>) {
    let mut texts = BTreeMap::new();
    let mut problems = Vec::new();
    for directory in directories {
        for (name, (path, text)) in files::read_directory(directory, &mut problems) {
            match rule::parse(&text, &path) {
                Ok(rule) => {
                    problems.extend(example::check(&rule));
                    texts.insert(name, text);
                }
                Err(problem) => problems.push(problem),
            }
        }
    }
    texts.retain(|name, text| !builtin_files().iter().any(|(known, inside)| known == name && inside == text));
    (texts, problems)
}
