//! The rules inside the program are good.

use rules::rule_set::CATALOGUE;
use rules::{OperatingSystem, Points, RuleSets, Status, evaluate};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

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
    let original = sets.effective("original").expect("the set of the original");
    let ids: Vec<&str> = include_str!("data/original-rule-ids.txt").lines().collect();
    assert_eq!(ids.len(), 74);
    let missing: Vec<&&str> = ids.iter().filter(|id| original.rule(id).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(original.rules().count(), 74);
}

#[test]
fn every_benchmark_has_its_set_and_base_picks_by_operating_system() {
    let (sets, _) = RuleSets::load(&[]);
    let size =
        |set: &str| sets.effective(set).unwrap_or_else(|| panic!("there is no set {set}")).rules().count();
    assert!(size("catalogue") > 1000, "{}", size("catalogue"));
    for (set, at_least) in [
        ("stig-rhel8", 340),
        ("stig-rhel9", 420),
        ("stig-rhel10", 400),
        ("stig-ubuntu2204", 200),
        ("stig-ubuntu2404", 200),
        ("cis-debian12", 480),
        ("cis-rhel9", 380),
        ("cis-ubuntu2204", 480),
        ("cis-ubuntu2404", 480),
    ] {
        assert!(size(set) >= at_least, "{set} has {} rules", size(set));
    }
    for (id, like, version, set) in [
        ("debian", "", "12", "cis-debian12"),
        ("debian", "", "13", "cis-debian12"),
        ("ubuntu", "debian", "22.04", "cis-ubuntu2204"),
        ("ubuntu", "debian", "24.04", "cis-ubuntu2404"),
        ("linuxmint", "ubuntu debian", "21.3", "cis-ubuntu2404"),
        ("rhel", "fedora", "9.4", "cis-rhel9"),
        ("rocky", "rhel centos fedora", "8.10", "stig-rhel8"),
        ("ol", "fedora", "9.3", "cis-rhel9"),
        ("almalinux", "rhel centos fedora", "10.0", "stig-rhel10"),
    ] {
        let os = OperatingSystem::of(&json!({"id": id, "id_like": like, "version_id": version})).unwrap();
        let base = sets.effective_for("BASE", Some(&os)).unwrap();
        assert_eq!(base.chain(), ["BASE", set, "original"], "{id} {version}");
        assert!(base.rule("nist_V-38528").is_some(), "{id} {version}");
    }
    let other = OperatingSystem::of(&json!({"id": "alpine", "version_id": "3.20"})).unwrap();
    assert_eq!(sets.effective_for("BASE", Some(&other)).unwrap().chain(), ["BASE", "original"]);
}

/// A benchmark that leaves a choice (this firewall or that) has rules that contradict each other; then it must depend
/// on the host which of them is judged.
#[test]
fn alternatives_within_a_set_depend_on_the_host() {
    let (sets, _) = RuleSets::load(&[]);
    let mut wrong = Vec::new();
    for set in sets.iter().filter(|set| set.name() != CATALOGUE) {
        let mut unconditional: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for rule in set.rules().filter(|rule| rule.applies.is_none()) {
            if let Some(subject) = &rule.subject {
                unconditional.entry(subject).or_default().push(&rule.id);
            }
        }
        for (subject, rules) in unconditional.into_iter().filter(|(_, rules)| rules.len() > 1) {
            wrong.push(format!("{}: {subject}: {}", set.name(), rules.join(", ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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

/// What the benchmarks ask of a kernel setting holds after the next boot, too: a set that judges the running value of
/// one also judges what is written down, in the same rule or in one beside it.
#[test]
fn benchmarks_ask_for_the_running_value_and_the_written_one() {
    let (sets, _) = RuleSets::load(&[]);
    let mut wrong = Vec::new();
    let mut judged = 0;
    for set in sets.iter().filter(|set| set.name().starts_with("cis-") || set.name().starts_with("stig-")) {
        let rules = || set.rules().filter(|rule| rule.discovery == "proc_sys");
        let names: BTreeSet<&str> = rules().flat_map(|rule| names_in(&rule.expression.text)).collect();
        for name in names.iter().filter(|name| !name.starts_with("_configured.")) {
            // Read-only, and not there in today's kernels: no file can set them.
            if ["crypto.fips_enabled", "kernel.exec-shield"].contains(name) {
                continue;
            }
            judged += 1;
            if !names.contains(format!("_configured.{name}").as_str()) {
                wrong.push(format!("{}: {name}", set.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "nothing asks for what is written down about\n{}", wrong.join("\n"));
    assert!(judged > 150, "{judged}");
}

/// The names of an expression without the `$` and what is behind them in brackets.
fn names_in(expression: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || "._-/".contains(c));
    expression.split('$').skip(1).map(move |rest| rest.split(ends).next().unwrap_or(rest))
}

#[test]
fn a_failure_tells_which_half_is_missing() {
    let (sets, _) = RuleSets::load(&[]);
    let set = sets.effective("cis-debian12").expect("the set");
    let key = "net.ipv4.conf.default.log_martians";
    let rules = set.rules_for("_auto_proc_sys", "proc_sys");
    let judge = |data: Value| {
        let results = evaluate(rules, &data, &Points::new());
        let result = results.into_iter().find(|r| r.id == "sysctl_net_ipv4_conf_default_log_martians");
        let result = result.expect("the rule");
        let of = |name: String| result.values.get(&name).cloned().unwrap_or_default();
        (result.status, of(key.to_owned()), of(format!("_configured.{key}")))
    };
    assert_eq!(judge(json!({key: 1, "_configured": {key: 1}})), (Status::Pass, json!(1), json!(1)));
    assert_eq!(judge(json!({key: 1, "_configured": {}})), (Status::Fail, json!(1), Value::Null));
    assert_eq!(judge(json!({key: 0, "_configured": {key: 1}})), (Status::Fail, json!(0), json!(1)));
    assert_eq!(judge(json!({key: 1, "_configured": {key: 0}})), (Status::Fail, json!(1), json!(0)));
    // Written down, but closed to whoever looks: nothing is said.
    assert_eq!(judge(json!({"_configured": {key: 1}})).0, Status::NotApplicable);
    // A container that nothing boots has no files that would be read.
    assert_eq!(judge(json!({key: 1})).0, Status::NotApplicable);
}

/// A kernel without IPv6 has no such settings, and an image has no kernel at all.
#[test]
fn settings_of_ipv6_are_not_asked_of_a_kernel_without_it() {
    let (sets, _) = RuleSets::load(&[]);
    let set = sets.effective("cis-debian12").expect("the set");
    let judge = |data: Value| -> BTreeSet<Status> {
        let results = evaluate(set.rules_for("_auto_proc_sys", "proc_sys"), &data, &Points::new());
        let of_ipv6: Vec<_> = results.iter().filter(|r| r.id.starts_with("sysctl_net_ipv6")).collect();
        assert!(of_ipv6.len() >= 7, "{of_ipv6:?}");
        of_ipv6.iter().map(|result| result.status).collect()
    };
    let without = json!({"kernel.osrelease": "6.1", "net.ipv4.ip_forward": 0, "_configured": {}});
    assert_eq!(judge(without), BTreeSet::from([Status::NotApplicable]));
    let with = json!({"kernel.osrelease": "6.1", "net.ipv6.conf.all.forwarding": 0, "_configured": {}});
    assert_eq!(judge(with), BTreeSet::from([Status::Fail]));
    assert_eq!(judge(json!({"_configured": {}})), BTreeSet::from([Status::Fail]), "an image");
}
