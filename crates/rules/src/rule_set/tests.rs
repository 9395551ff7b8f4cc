use super::*;
use std::fs;

fn json(set: &str, layer: &str, discovery: &str, text: &str) -> SourceFile {
    SourceFile {
        set: set.into(),
        file: format!("{layer}/{set}/{discovery}.json"),
        layer: layer.into(),
        text: text.into(),
    }
}

fn set_toml(set: &str, text: &str) -> SourceFile {
    SourceFile {
        set: set.into(),
        file: format!("built-in/{set}/set.toml"),
        layer: "built-in".into(),
        text: text.into(),
    }
}

const A: &str = r#"{"a": {"category": "security", "rule": "EQ($x,1)"}, "b": {"category": "security", "rule": "EQ($x,1)"}}"#;

fn ids(rules: &[Arc<Rule>]) -> Vec<&str> {
    rules.iter().map(|rule| rule.id.as_str()).collect()
}

#[test]
fn instance_name_beats_discovery_type_and_types_are_inherited() {
    let one = |id: &str| format!(r#"{{"{id}": {{"category": "security", "rule": "EQ($x,1)"}}}}"#);
    let (sets, problems) = RuleSets::from_files(&[
        json("BASE", "built-in", "fileattrs", A),
        json("BASE", "built-in", "auditd_fileattrs", &one("c")),
        set_toml("LAB", "based_on = \"BASE\"\ndescription = \"lab\""),
        json("LAB", "built-in", "sshd", &one("d")),
    ]);
    assert_eq!(problems, []);
    let lab = sets.effective("LAB").unwrap();
    assert_eq!(ids(lab.rules_for("x", "fileattrs")), ["a", "b"]);
    assert_eq!(ids(lab.rules_for("auditd_fileattrs", "fileattrs")), ["c"]);
    assert_eq!(ids(lab.rules_for("_init_sshd", "sshd")), ["d"]);
    assert!(lab.rules_for("x", "y").is_empty());
    assert_eq!(lab.chain(), ["LAB", "BASE"]);
    assert!(sets.effective("BASE").unwrap().rule("d").is_none());
    assert!(sets.effective("NONE").is_none());
    assert!(Arc::ptr_eq(&sets.effective("LAB").unwrap(), &lab), "merged once");
}

#[test]
fn later_layers_win_by_id_and_twice_in_one_layer_is_told() {
    let site = r#"{"a": {"category": "security", "rule": "EQ($x,2)"}}"#;
    let (sets, problems) =
        RuleSets::from_files(&[json("BASE", "built-in", "t", A), json("BASE", "/etc", "t", site)]);
    assert_eq!(problems, []);
    let base = sets.effective("BASE").unwrap();
    assert_eq!(base.rule("a").unwrap().expression.text, "EQ($x,2)");
    assert_eq!(base.rule("b").unwrap().expression.text, "EQ($x,1)");
    let (_, problems) =
        RuleSets::from_files(&[json("BASE", "built-in", "t", A), json("BASE", "built-in", "u", site)]);
    assert!(
        problems[0].to_string().contains("rule a: the id is also used in built-in/BASE/t.json"),
        "{problems:?}"
    );
}

#[test]
fn ignore_switches_off_for_this_set_and_those_based_on_it() {
    let (sets, problems) = RuleSets::from_files(&[
        json("BASE", "built-in", "t", A),
        set_toml("LAB", "based_on = \"BASE\"\n[ignore]\na = \" noisy \"\nzz = \"typo\""),
        set_toml("DEEP", "based_on = \"LAB\""),
        json("DEEP", "built-in", "t", r#"{"b": {"category": "security", "rule": "IGNORE(not here)"}}"#),
        set_toml("BACK", "based_on = \"LAB\""),
        json("BACK", "built-in", "t", r#"{"a": {"category": "security", "rule": "EQ($x,3)"}}"#),
    ]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].to_string().contains("\"zz\""));
    let rule = |set: &str, id: &str| sets.effective(set).unwrap().rule(id).unwrap().clone();
    assert_eq!(rule("LAB", "a").ignored.as_deref(), Some("noisy"));
    assert!(rule("DEEP", "a").is_ignored() && rule("DEEP", "b").is_ignored());
    assert!(!rule("BACK", "a").is_ignored(), "the nearer definition wins");
    assert!(!rule("BASE", "a").is_ignored());
    let fingerprint = |set: &str| sets.effective(set).unwrap().fingerprint();
    assert_ne!(fingerprint("LAB"), fingerprint("BASE"));
}

#[test]
fn circles_and_missing_bases_are_told_and_end() {
    let (sets, problems) = RuleSets::from_files(&[
        json("ONE", "built-in", "t", A),
        set_toml("ONE", "based_on = \"TWO\""),
        set_toml("TWO", "based_on = \"ONE\""),
        set_toml("SELF", "based_on = \"SELF\""),
        set_toml("LOST", "based_on = \"GONE\""),
        set_toml("ODD", "basedon = \"ONE\""),
    ]);
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(told.iter().filter(|text| text.contains("circle")).count(), 3, "{told:?}");
    assert!(told.iter().any(|text| text.contains("\"GONE\"")), "{told:?}");
    assert!(
        told.iter().any(|text| text.starts_with("built-in/ODD/set.toml:1") && text.contains("basedon")),
        "{told:?}"
    );
    assert_eq!(sets.effective("TWO").unwrap().rules().count(), 2);
}

#[test]
fn a_bad_file_or_rule_affects_nothing_else() {
    let bad = r#"{"c": {"category": "security", "rule": "EQQ($x,1)"}}"#;
    let (sets, problems) = RuleSets::from_files(&[
        json("BASE", "built-in", "t", A),
        json("BASE", "built-in", "u", bad),
        json("BASE", "/etc", "t", "{\"a\": [}"),
    ]);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!((problems[0].rule.as_deref(), problems[0].line), (Some("c"), Some(1)));
    let base = sets.effective("BASE").unwrap();
    assert_eq!(base.rule("a").unwrap().source, "built-in/BASE/t.json", "the built-in one stays in force");
    let results = crate::evaluate(base.rules_for("", "u"), &serde_json::json!({"x": 1}), &Default::default());
    assert_eq!(results[0].status, crate::Status::NotApplicable);
    assert!(results[0].note.contains("did you mean EQ?"), "{}", results[0].note);
}

#[test]
fn directories_are_read_and_win_over_built_in_rules() {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &str| directory.path().join(path);
    fs::create_dir_all(at("BASE/proc_sys")).unwrap();
    fs::create_dir_all(at("bad name")).unwrap();
    fs::write(
        at("BASE/proc_sys.json"),
        r#"{"nist_V-38528": {"category": "security", "severity": "high", "rule": "EQ($y, 1)"}}"#,
    )
    .unwrap();
    fs::write(at("BASE/proc_sys/x.toml.dpkg-old"), "not read").unwrap();
    fs::write(at("BASE/proc_sys/broken.toml"), "id = 5").unwrap();
    fs::write(at("BASE/binary.json"), [0xff, 0xfe]).unwrap();
    fs::create_dir(at("BASE/proc_sys/directory.toml")).unwrap();
    let (sets, problems) = RuleSets::load(&[directory.path().to_path_buf(), at("absent")]);
    let own: Vec<&RuleProblem> =
        problems.iter().filter(|problem| !problem.file.starts_with("built-in")).collect();
    assert_eq!(own.len(), 4, "{own:?}");
    assert_eq!(sets.effective("BASE").unwrap().rule("nist_V-38528").unwrap().expression.text, "EQ($y, 1)");

    let (files, problems) = read_set(&at("BASE"), "SITE");
    assert!(files.iter().all(|file| file.set == "SITE") && files.len() == 2, "{files:?} {problems:?}");
    assert_eq!(read_set(&at("absent"), "SITE").1.len(), 1);
}

fn toml(set: &str, id: &str, expression: &str, more: &str) -> SourceFile {
    let text = format!(
        "id = \"{id}\"\ntitle = \"t\"\nseverity = \"low\"\ncategory = \"security\"\ndiscovery = \"d\"\n\
         expression = '{expression}'\nwhy = \"w\"\ncheck = \"c\"\nfix_now = \"f\"\nfix_permanently = \"p\"\n{more}"
    );
    SourceFile {
        set: set.into(),
        file: format!("built-in/{set}/d/{id}.toml"),
        layer: "built-in".into(),
        text,
    }
}

/// A catalogue with two values for one subject, sets that select one each, and a set that picks.
fn picking() -> RuleSets {
    let (sets, problems) = RuleSets::from_files(&[
        toml("catalogue", "loose", "LE($x, 90)", "subject = \"d x\"\n[references]\none = [\"1.1\"]\n"),
        toml("catalogue", "strict", "LE($x, 10)", "subject = \"d x\"\n[references]\ntwo = [\"V-2\"]\n"),
        toml("catalogue", "both", "EQ($y, 1)", "[references]\none = [\"1.2\"]\ntwo = [\"V-3\"]\n"),
        toml("catalogue", "old", "EQ($z, 1)", ""),
        set_toml("one", "select = [\"one\"]"),
        set_toml("two", "select = [\"two\"]"),
        set_toml("old", "rules = [\"old\", \"strict\"]"),
        set_toml(
            "BASE",
            "based_on = \"old\"\n[[pick]]\nos = \"debian\"\nversions = [\"12\"]\nset = \"one\"\n[[pick]]\nos = \"rhel\"\nset = \"two\"",
        ),
        set_toml("SITE", "based_on = \"BASE\"\n[ignore]\nboth = \"not here\""),
    ]);
    assert_eq!(problems, []);
    sets
}

fn os(id: &str, version: &str) -> OperatingSystem {
    OperatingSystem { id: id.into(), like: vec!["rhel".into()], version: version.into() }
}

#[test]
fn a_set_selects_by_benchmark_and_by_id() {
    let sets = picking();
    assert_eq!(ids(sets.effective("one").unwrap().rules_for("d", "d")), ["both", "loose"]);
    assert_eq!(ids(sets.effective("two").unwrap().rules_for("d", "d")), ["both", "strict"]);
    assert_eq!(ids(sets.effective("old").unwrap().rules_for("d", "d")), ["old", "strict"]);
    let (_, problems) = RuleSets::from_files(&[set_toml("x", "rules = [\"nowhere\"]")]);
    assert!(problems[0].to_string().contains("\"nowhere\""), "{problems:?}");
    assert_eq!(
        sets.find("V-3").len(),
        1,
        "a rule is found where it is defined, not in each set that selects it"
    );
}

#[test]
fn the_operating_system_picks_and_the_nearest_rule_of_a_subject_stays() {
    let sets = picking();
    let chosen = |set: &str, system: Option<&OperatingSystem>| {
        let set = sets.effective_for(set, system).unwrap();
        ids(set.rules_for("d", "d")).join(" ")
    };
    assert_eq!(chosen("BASE", None), "old strict");
    assert_eq!(chosen("BASE", Some(&os("debian", "12.5"))), "both loose old", "strict gives way to loose");
    let relative = os("rocky", "9");
    assert_eq!(chosen("BASE", Some(&relative)), "both old strict");
    assert_eq!(chosen("one", Some(&relative)), "both loose", "only sets that pick differ by host");
    let site = sets.effective_for("SITE", Some(&relative)).unwrap();
    assert_eq!(site.chain(), ["SITE", "BASE", "two", "old"]);
    assert!(site.rule("both").unwrap().is_ignored() && !site.rule("old").unwrap().is_ignored());
    let (_, problems) = RuleSets::from_files(&[set_toml("x", "[[pick]]\nos = \"a\"\nset = \"lost\"")]);
    assert!(problems.iter().any(|problem| problem.to_string().contains("\"lost\"")), "{problems:?}");
}

#[test]
fn a_change_in_a_picked_set_changes_the_fingerprint() {
    let print = |value: u32| {
        let (sets, _) = RuleSets::from_files(&[
            toml("one", "a", &format!("EQ($x, {value})"), ""),
            set_toml("BASE", "[[pick]]\nos = \"debian\"\nset = \"one\""),
        ]);
        sets.effective("BASE").unwrap().fingerprint()
    };
    assert_eq!(print(1), print(1));
    assert_ne!(print(1), print(2));
}

#[test]
fn where_a_rule_does_not_apply_it_is_not_judged_and_says_why() {
    use serde_json::json;
    let applies = "[applies]\nexpression = 'PRESENT($program)'\nreason = \"the program is not in use\"\n";
    let elsewhere =
        "[applies]\ndiscovery = \"os\"\nexpression = 'ABSENT($container)'\nreason = \"in a container\"\n";
    let (sets, problems) = RuleSets::from_files(&[
        toml("S", "own", "MUST(EQ($x, 1))", applies),
        toml("S", "other", "MUST(EQ($x, 1))", elsewhere),
        toml("S", "broken", "EQ($x, 1)", "[applies]\nexpression = 'XYZ($x)'\nreason = \"r\"\n"),
    ]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let set = sets.effective("S").unwrap();
    assert_eq!(set.depending_on("os"), ["d"]);
    assert!(set.depending_on("d").is_empty());
    let judged = |data: serde_json::Value, os: Option<serde_json::Value>| {
        let os = os.map(Arc::new);
        let results =
            crate::evaluate::evaluate_with(set.rules_for("d", "d"), &data, &Default::default(), &|name| {
                os.clone().filter(|_| name == "os")
            });
        results.into_iter().map(|r| format!("{} {} {}", r.id, r.status, r.note)).collect::<Vec<_>>()
    };
    let told = judged(json!({"x": 2}), Some(json!({"container": "docker"})));
    assert!(told[0].starts_with("broken NA the rule itself is wrong"), "{told:?}");
    assert_eq!(told[1..], ["other NA in a container", "own NA the program is not in use"]);
    let told = judged(json!({"x": 2, "program": 1}), Some(json!({})));
    assert_eq!(told[1..], ["other fail ", "own fail "]);
    let told = judged(json!({"x": 2, "program": 1}), None);
    assert!(told[1].starts_with("other NA not known yet") && told[1].contains("os"), "{told:?}");
    let told = judged(json!({"NODATA": "ERROR: Cannot read /etc/d"}), None);
    assert_eq!(told[1..], ["other NA Cannot read /etc/d", "own NA Cannot read /etc/d"]);
}
