//! Settings of both daemons, with their defaults: one structure for each file and section.
//!
//! The doc comment of a setting is all the documentation it has: `--print-config`, `config check` and the table in
//! docs/configuration.md take it from there ([`shape`]). Unknown keys are errors that name key and line (contract §2).

mod agent;
pub mod check;
mod cma;
mod discovery;
mod enrolment;
mod keys;
mod liveness;
mod monitoring;
mod nanoprobe;
mod numbers;
pub mod print;
pub mod selection;
pub mod shape;

pub use agent::AgentConfig;
pub use cma::{CmaConfig, DnsConfig, GLOBAL, NotifyConfig, RulesConfig};
pub use discovery::{DiscoveryConfig, ResolvedSchedule, Schedule, ScheduleOverride};
pub use enrolment::{EnrolmentConfig, EnrolmentPolicy};
pub use keys::KeysConfig;
pub use liveness::{HeartbeatConfig, NeighboursConfig};
pub use monitoring::{MonitorOverride, MonitoringConfig};
pub use nanoprobe::NanoprobeConfig;
pub use numbers::check_cma;
pub use selection::Selection;

use serde::Deserialize;
use shape::Setting;

/// A configuration file that cannot be used; the text names file, line and key.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConfigError {
    pub path: String,
    pub message: String,
}

/// Reads the text of a configuration file. The error names the first thing that is wrong, and how many others there are.
pub fn parse_toml<T: Setting + for<'de> Deserialize<'de>>(path: &str, text: &str) -> Result<T, ConfigError> {
    let checked = check::check(text);
    checked.config.ok_or_else(|| ConfigError { path: path.into(), message: first_of(&checked.findings) })
}

/// The first finding, with the number of the others.
pub fn first_of(findings: &[check::Finding]) -> String {
    let first = findings.first().map(ToString::to_string).unwrap_or_default();
    match findings.len() {
        0 | 1 => first,
        all => format!("{first} (and {} more: `config check` shows all)", all - 1),
    }
}

/// `*` stands for any run of characters.
pub fn matches_pattern(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_exact_override_wins() {
        let config: CmaConfig = parse_toml(
            "cma.toml",
            "[discovery]\nrepeat = 30\n[discovery.agents.sshd]\nrepeat = 20\n[discovery.agents.\"sshd/web1\"]\nenabled = false\n",
        )
        .unwrap();
        let resolve =
            |kind, host| config.discovery.resolve(Schedule::DEFAULT, kind, &format!("_init_{kind}"), host);
        assert_eq!(resolve("pam", "web1").schedule.repeat_seconds, 30);
        assert_eq!(resolve("sshd", "web2").schedule.repeat_seconds, 20);
        assert!(resolve("sshd", "web2").enabled);
        assert!(!resolve("sshd", "web1").enabled);
        let own = Schedule { repeat_seconds: 0, warn_seconds: 5, timeout_seconds: 60 };
        assert_eq!(config.discovery.resolve(own, "os", "_init_os", "x").schedule, own);
    }

    #[test]
    fn heartbeats_that_cannot_work_are_named() {
        let problem = |text: &str| {
            let config: CmaConfig = parse_toml("cma.toml", &format!("[heartbeats]\n{text}\n")).unwrap();
            config.heartbeats.problem().unwrap_or_default()
        };
        assert_eq!(problem(""), "");
        assert_eq!(
            problem("interval_milliseconds = 5000\nsuspect_milliseconds = 12000\nprobe_milliseconds = 3000"),
            ""
        );
        assert!(
            problem("interval_milliseconds = 0").contains("interval_milliseconds = 0: it must be from 100")
        );
        assert!(problem("interval_milliseconds = 1400").contains("suspect_milliseconds = 1400"));
        assert!(problem("probes = 0").contains("probes = 0"));
        assert!(problem("gather_milliseconds = 4000000000").contains("to 10000"));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error =
            parse_toml::<CmaConfig>("/etc/assimilation/cma.toml", "bind = \"x\"\n[notify]\nsyslogg = true\n")
                .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("cma.toml") && text.contains("line 3") && text.contains("syslogg"), "{text}");
    }

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("lab-*", "lab-1", true),
            ("*", "x", true),
            ("web*.example.org", "web1.example.org", true),
            ("a*a", "a", false),
            ("web", "web1", false),
            ("*b*c", "abcbc", true),
        ] {
            assert_eq!(matches_pattern(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn domains_and_sets() {
        let config: CmaConfig = parse_toml(
            "cma.toml",
            "[domains]\nlab = [\"lab-*\"]\n[networks]\nberlin = [\"*-b\"]\n[rules.by_domain]\nglobal = \"BASE\"\nlab = \"LABSET\"\n",
        )
        .unwrap();
        assert_eq!(config.domain_by_name("lab-7"), "lab");
        assert_eq!(config.domain_by_name("web1"), "global");
        assert_eq!((config.network_of("lab-b"), config.network_of("lab-7")), ("berlin", "global"));
        assert_eq!(config.rules.set_of("lab"), "LABSET");
        assert_eq!(config.rules.set_of("prod"), "BASE");
    }

    #[test]
    fn the_documented_settings_are_legal() {
        let page = include_str!("../../../docs/configuration.md");
        let blocks: Vec<&str> =
            page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let [cma, nanoprobe] = blocks.as_slice() else {
            panic!("two examples expected, found {}", blocks.len())
        };
        let cma: CmaConfig = parse_toml("cma.toml", cma).unwrap();
        assert_eq!(cma.domain_by_name("lab-1"), "lab");
        assert_eq!(cma.discovery.settle_milliseconds, DiscoveryConfig::default().settle_milliseconds);
        assert_eq!(cma.heartbeats, HeartbeatConfig::default());
        assert_eq!((cma.dns.reverse, cma.oui["56-84-7a"].as_str()), (Some(true), "linux bridge"));
        let nanoprobe: NanoprobeConfig = parse_toml("nanoprobe.toml", nanoprobe).unwrap();
        assert_eq!(nanoprobe.queue_bytes, NanoprobeConfig::default().queue_bytes);
    }
}
