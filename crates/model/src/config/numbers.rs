//! Numbers of cma.toml that cannot work, or not as they are meant: what can be said of a file without knowing the site.

use super::CmaConfig;
use super::check::{Checked, Finding, Grade, Lines, check};

/// Looks through the text of cma.toml, its numbers included. Names of rule sets, groups, queries and agents are for those to check
/// who know which there are.
pub fn check_cma(text: &str) -> Checked<CmaConfig> {
    let mut checked = check::<CmaConfig>(text);
    if let Some(config) = &checked.config {
        checked.findings.extend(findings(config, &checked.lines));
        checked.findings.sort_by_key(|finding| finding.line);
    }
    checked
}

fn findings(config: &CmaConfig, lines: &Lines) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut push = |grade: Grade, key: String, problem: String| {
        found.push(Finding { line: lines.of(&key), key, problem, grade });
    };
    for (key, problem) in config.heartbeats.problems() {
        push(Grade::Refused, format!("heartbeats.{key}"), problem);
    }
    for (key, problem) in config.enrolment.problems() {
        push(Grade::Refused, format!("enrolment.{key}"), problem);
    }
    let minutes = config.neighbours.forget_minutes;
    if !(1..=10_080).contains(&minutes) {
        let problem = format!("{minutes} is not from 1 to 10080");
        push(Grade::Refused, "neighbours.forget_minutes".into(), problem);
    }
    let budget = config.discovery.cpu_budget_percent;
    if !(budget > 0.0 && budget <= 100.0) {
        let problem = format!("{budget} is not more than 0 and at most 100");
        push(Grade::Refused, "discovery.cpu_budget_percent".into(), problem);
    }
    let settle = config.discovery.settle_milliseconds;
    if settle > 60_000 {
        let problem = format!("{settle} is not from 0 to 60000");
        push(Grade::Refused, "discovery.settle_milliseconds".into(), problem);
    }
    let least_one = [
        ("monitoring.repeat", Some(config.monitoring.repeat)),
        ("monitoring.timeout", Some(config.monitoring.timeout)),
        ("monitoring.failures", Some(config.monitoring.failures.into())),
        ("notify.attempts", Some(config.notify.attempts.into())),
        ("notify.script_timeout_seconds", Some(config.notify.script_timeout_seconds)),
        ("discovery.timeout", config.discovery.timeout),
    ];
    for (key, _) in least_one.into_iter().filter(|(_, value)| *value == Some(0)) {
        push(Grade::Refused, key.into(), "0 cannot work: it must be 1 or more".into());
    }
    let pairs = [
        ("monitoring", Some(config.monitoring.warn), Some(config.monitoring.timeout)),
        ("discovery", config.discovery.warn, config.discovery.timeout),
    ];
    for (section, warn, timeout) in pairs {
        if let (Some(warn), Some(timeout)) = (warn, timeout)
            && warn > timeout
        {
            let problem = format!("{warn} is above timeout, {timeout}: nobody will be warned");
            push(Grade::Warning, format!("{section}.warn"), problem);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        check_cma(text).findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn each_number_that_cannot_work_is_told_by_key_and_line() {
        let found = told(
            "[heartbeats]\nprobes = 0\ninterval_milliseconds = 1\n[enrolment]\nmax_pending = 0\npolicy = \"token\"\n\
             forget_pending_days = 366\n[neighbours]\nforget_minutes = 0\n[discovery]\ncpu_budget_percent = 101\ntimeout = 0\n\
             settle_milliseconds = 60001\n[notify]\nattempts = 0\n",
        );
        let expected = [
            "line 2: heartbeats.probes: 0: it must be from 1 to 20",
            "line 3: heartbeats.interval_milliseconds: 1: it must be from 100 to 60000",
            "line 5: enrolment.max_pending: 0: it must be from 1 to 10000",
            "line 7: enrolment.forget_pending_days: 366: it must be from 1 to 365",
            "line 9: neighbours.forget_minutes: 0 is not from 1 to 10080",
            "line 11: discovery.cpu_budget_percent: 101 is not more than 0 and at most 100",
            "line 12: discovery.timeout: 0 cannot work: it must be 1 or more",
            "line 13: discovery.settle_milliseconds: 60001 is not from 0 to 60000",
            "line 15: notify.attempts: 0 cannot work: it must be 1 or more",
        ];
        assert_eq!(found, expected);
        assert_eq!(told(""), [""; 0]);
    }

    #[test]
    fn what_is_only_odd_is_a_warning() {
        let checked = check_cma("[monitoring]\nwarn = 90\ntimeout = 60\n");
        assert_eq!(checked.findings.iter().map(|found| found.grade).collect::<Vec<_>>(), [Grade::Warning]);
        assert!(checked.config.is_some());
    }
}
