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
