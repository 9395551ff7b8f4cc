//! The rules inside the program are good.

use rules::{Points, RuleSets, Status, evaluate};
use serde_json::json;

#[test]
fn every_shipped_rule_is_good() {
    let (sets, problems) = RuleSets::load(&[]);
    let mut wrong: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let mut count = 0;
    for set in sets.iter() {
        for rule in set.rules().filter(|rule| rule.set == set.name()) {
            wrong.extend(rule.shortcomings().iter().map(ToString::to_string));
            if !rule.source.ends_with(&format!("/{}/{}.toml", rule.discovery, rule.id)) {
                wrong.push(format!("{}: belongs into {}/{}.toml", rule.source, rule.discovery, rule.id));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {count} rules:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 0, "there are no rules");
}

#[test]
fn all_ids_of_the_original_are_there() {
    let (sets, _) = RuleSets::load(&[]);
    let base = sets.effective("BASE").expect("the set BASE");
    let ids: Vec<&str> = include_str!("data/original-rule-ids.txt").lines().collect();
    assert_eq!(ids.len(), 74);
    let missing: Vec<&&str> = ids.iter().filter(|id| base.rule(id).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn martian_packets_fail_with_low_severity() {
    let (sets, _) = RuleSets::load(&[]);
    let base = sets.effective("BASE").expect("the set BASE");
    let rules = base.rules_for("_auto_proc_sys", "proc_sys");
    let results = evaluate(rules, &json!({"net.ipv4.conf.all.log_martians": 0}), &Points::new());
    let result = results.iter().find(|result| result.id == "nist_V-38528").expect("the rule");
    assert_eq!(
        (result.status, result.severity.as_str(), result.category.as_str()),
        (Status::Fail, "low", "security")
    );
    assert_eq!(result.score, 1.0);
    assert_eq!(result.values.get("net.ipv4.conf.all.log_martians"), Some(&json!(0)));
    for name in ["RHEL-08-040221", "v-38528", "nist_V-38528"] {
        assert!(base.find(name).iter().any(|rule| rule.id == "nist_V-38528"), "{name}");
        assert!(sets.find(name).iter().any(|rule| rule.id == "nist_V-38528"), "{name}");
    }
}
