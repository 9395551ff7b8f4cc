//! The built-in rule sets in words: docs/rules.md.

use crate::rule_set::CATALOGUE;
use crate::{EffectiveSet, OperatingSystem, RuleSets, Severity};

/// docs/rules.md for these sets.
pub fn reference_text(sets: &RuleSets) -> String {
    let mut text = INTRODUCTION.to_owned();
    for set in sets.iter().filter(|set| set.name() != CATALOGUE) {
        text += &format!("| `{}` | {} | {} |\n", set.name(), set.description(), counts(set));
    }
    text += PICKS;
    for pick in sets.picks("BASE") {
        let os = OperatingSystem {
            id: pick.os.clone(),
            version: pick.versions.first().cloned().unwrap_or_default(),
            ..OperatingSystem::default()
        };
        let versions =
            if pick.versions.is_empty() { "any other".to_owned() } else { pick.versions.join(", ") };
        let all = sets.effective_for("BASE", Some(&os)).map(|set| counts(&set)).unwrap_or_default();
        text += &format!("| `{}` | {versions} | `{}` | {all} |\n", pick.os, pick.set);
    }
    if let Some(all) = sets.effective("BASE") {
        text += &format!("| anything else | | `original` | {} |\n", counts(&all));
    }
    if let Some(catalogue) = sets.effective(CATALOGUE) {
        let mut discoveries: Vec<&str> = catalogue.rules().map(|rule| rule.discovery.as_str()).collect();
        discoveries.sort_unstable();
        discoveries.dedup();
        text += &format!(
            "\nThe catalogue has {} rules about {} discoveries.\n",
            catalogue.rules().count(),
            discoveries.len()
        );
    }
    text
}

/// All, high, medium and low, as cells of a table. What a set switches off is not counted.
fn counts(set: &EffectiveSet) -> String {
    let of = |severity: Option<Severity>| {
        let counted = set.rules().filter(|rule| !rule.is_ignored());
        counted.filter(|rule| severity.is_none_or(|severity| rule.severity == severity)).count().to_string()
    };
    [None, Some(Severity::High), Some(Severity::Medium), Some(Severity::Low)].map(of).join(" | ")
}

const INTRODUCTION: &str = r#"# Rule sets

A rule is one file below `best_practices/catalogue/<discovery>/`, with what must be so, why, how to check it by hand, how to mend it
now and for good. Most sets select from that catalogue by benchmark.

```sh
nanoprobe audit                       # this host, without a CMA, by BASE
nanoprobe audit --set stig-rhel9      # by another set
assimcli rules list cis-debian12       # the rules of a set
assimcli rules show V-257801          # one rule, by its id here or in a benchmark (DISA, CIS, CCE)
```

How to write a rule, or to switch one off: [add-a-rule.md](add-a-rule.md).

<!-- Made from best_practices: UPDATE=1 cargo test -p rules reference -->

| set | what for | rules | high | medium | low |
|---|---|---|---|---|---|
"#;

const PICKS: &str = r#"
## What BASE is on which system

The first row that fits `ID` (or `ID_LIKE`) and `VERSION_ID` of os-release(5) counts. The numbers are those of the benchmark together with
what the original project's rules say beyond it.

| system | version | set | rules | high | medium | low |
|---|---|---|---|---|---|---|
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule_set::builtin_files;

    #[test]
    fn the_documentation_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rules.md");
        let (sets, problems) = RuleSets::from_files(&builtin_files());
        assert!(problems.is_empty(), "{problems:?}");
        let text = reference_text(&sets);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == text,
            "docs/rules.md is not current; write it with UPDATE=1 cargo test -p rules reference"
        );
    }

    #[test]
    fn sets_and_picks_are_counted() {
        let (sets, _) = RuleSets::from_files(&builtin_files());
        let text = reference_text(&sets);
        assert!(text.contains("| `original` | ") && !text.contains("| `catalogue` |"), "{text}");
        assert!(text.contains("| `debian` | 12 | `cis-debian12` | "), "{text}");
    }
}
