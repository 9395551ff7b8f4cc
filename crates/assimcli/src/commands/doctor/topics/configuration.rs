//! cma.toml and nanoprobe.toml.

use super::{Check, Look, Topic};
use model::config::check::{Checked, Finding, Grade, check as check_text};
use model::config::{NanoprobeConfig, check_cma};
use std::path::Path;

const NAME: &str = "configuration";
/// Findings of one file that are shown; `config check` shows all.
const MAX_SHOWN: usize = 10;

pub static TOPIC: Topic = Topic { name: NAME, check };

fn check(look: &Look) -> Vec<Check> {
    let findings = |text: &str| check_cma(text).findings;
    let mut checks = of_file(&look.paths().cma_config(), "cma", findings);
    let findings = |text: &str| {
        let checked: Checked<NanoprobeConfig> = check_text(text);
        checked.findings
    };
    checks.extend(of_file(&look.paths().nanoprobe_config(), "nanoprobe", findings));
    if checks.is_empty() {
        let text = "cma.toml and nanoprobe.toml can be read, or are absent (defaults); `cma config check` also looks whether rule \
                    sets, groups and queries are there";
        checks.push(Check::good(NAME, text));
    }
    checks
}

/// What is wrong with the file at `path`, which `program` checks in full.
fn of_file(path: &Path, program: &str, findings: impl Fn(&str) -> Vec<Finding>) -> Vec<Check> {
    let text = match daemon::settings::text(path) {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => return vec![Check::bad(NAME, error.to_string())],
    };
    let command = format!("{program} config check '{}'", path.display());
    let findings = findings(&text);
    let mut checks: Vec<Check> =
        findings.iter().take(MAX_SHOWN).map(|finding| shown(path, finding, &command)).collect();
    if let Some(more) = findings.len().checked_sub(MAX_SHOWN).filter(|more| *more > 0) {
        checks.push(Check::bad(NAME, format!("{}: {more} more", path.display())).fix(command));
    }
    checks
}

fn shown(path: &Path, finding: &Finding, command: &str) -> Check {
    let text = format!("{}: {finding}", path.display());
    match finding.grade {
        Grade::Refused | Grade::Wrong => Check::bad(NAME, text).fix(command),
        Grade::Warning => Check::good(NAME, text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::look::Rig;
    use super::*;

    #[test]
    fn everything_that_is_wrong_is_told_with_its_line() {
        let rig = Rig::new();
        let found = check(&rig.look());
        assert!(found.len() == 1 && !found[0].is_bad(), "{found:?}");
        let lines = "bindd = 1\n[heartbeats]\nprobez = 0\n[enrolment]\nmax_pendin = 0\n";
        rig.file("/etc/assimilation/cma.toml", lines);
        rig.file("/etc/assimilation/nanoprobe.toml", "ttl = \"x\"\n");
        let found = check(&rig.look());
        for part in [
            "line 1: bindd: ",
            "line 3: heartbeats.probez: ",
            "line 5: enrolment.max_pendin: ",
            "line 1: ttl: ",
        ] {
            assert!(found.iter().any(|c| c.is_bad() && c.text.contains(part)), "{part}: {found:?}");
        }
        assert!(
            found[0].fix.starts_with("cma config check '") && found[3].fix.starts_with("nanoprobe config"),
            "{found:?}"
        );
    }

    #[test]
    fn numbers_that_cannot_work_are_problems_and_odd_ones_are_not() {
        let rig = Rig::new();
        rig.file("/etc/assimilation/cma.toml", "[enrolment]\nmax_pending = 0\n[monitoring]\nwarn = 90\n");
        let found = check(&rig.look());
        assert!(found[0].is_bad() && found[0].text.contains("line 2: enrolment.max_pending: 0"), "{found:?}");
        assert!(
            !found[1].is_bad() && found[1].text.contains("line 4: warning: monitoring.warn"),
            "{found:?}"
        );
    }

    #[test]
    fn a_file_that_is_something_else_does_not_fill_the_screen() {
        let rig = Rig::new();
        let lines: String = (0..50).map(|n| format!("x{n} = 1\n")).collect();
        rig.file("/etc/assimilation/cma.toml", &lines);
        let found = check(&rig.look());
        assert_eq!(found.len(), MAX_SHOWN + 1, "{found:?}");
        assert!(found[MAX_SHOWN].text.ends_with("40 more"), "{found:?}");
        std::fs::remove_file(rig.paths().cma_config()).unwrap();
        std::fs::create_dir(rig.paths().cma_config()).unwrap();
        assert!(check(&rig.look())[0].text.contains("regular file"));
    }
}
