use super::*;
use rules::rule_set::SourceFile;
use std::fs;
use std::path::PathBuf;

fn file(path: &str, text: &str) -> SourceFile {
    let set = path.split('/').next().unwrap().to_owned();
    SourceFile { set, file: format!("test/{path}"), layer: "test".into(), text: text.into() }
}

fn rule(set: &str, id: &str, discovery: &str, severity: &str, expression: &str) -> SourceFile {
    file(
        &format!("{set}/{discovery}/{id}.toml"),
        &format!(
            "id = \"{id}\"\ntitle = \"t\"\nseverity = \"{severity}\"\ncategory = \"security\"\ndiscovery = \"{discovery}\"\n\
             expression = '{expression}'\nwhy = \"w\"\ncheck = \"c\"\nfix_now = \"n\"\nfix_permanently = \"p\"\n"
        ),
    )
}

/// A tree of a Debian 12 with these login.defs.
fn tree(login_defs: &str) -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("etc")).unwrap();
    fs::write(tree.path().join("etc/os-release"), "ID=debian\nVERSION_ID=\"12\"\n").unwrap();
    fs::write(tree.path().join("etc/login.defs"), login_defs).unwrap();
    tree
}

fn ask(sets: &RuleSets, root: &Path, deep: bool) -> Audit {
    audit(sets, "BASE", root, deep, &SitePaths::new(PathBuf::from("/nonexistent"))).unwrap()
}

fn told(audit: &Audit) -> Vec<String> {
    audit.results.iter().map(|(_, r)| format!("{} {}", r.id, r.status)).collect()
}

#[test]
fn the_worst_comes_first_and_the_operating_system_chooses() {
    let (sets, problems) = RuleSets::from_files(&[
        rule("plain", "umask", "login_defs", "low", "MUST(EQ($UMASK, 63))"),
        rule("plain", "days", "login_defs", "high", "MUST(LE($PASS_MAX_DAYS, 60))"),
        rule("plain", "fine", "login_defs", "high", "MUST(EQ($UMASK, 18))"),
        rule("plain", "open", "login_defs", "high", "EQ($NOWHERE, 18)"),
        rule("twelve", "special", "login_defs", "medium", "MUST(EQ($UMASK, 63))"),
        file("BASE/set.toml", "based_on = \"plain\"\n[[pick]]\nos = \"debian\"\nset = \"twelve\"\n"),
    ]);
    assert_eq!(problems, []);
    let tree = tree("UMASK 022\nPASS_MAX_DAYS 99\n");
    let audit = ask(&sets, tree.path(), false);
    assert_eq!(audit.os.as_ref().map(|os| os.id.as_str()), Some("debian"));
    assert_eq!(told(&audit), ["days fail", "special fail", "umask fail", "fine pass", "open NA"]);
    assert_eq!(found(&audit.results[0].1), ": PASS_MAX_DAYS = 99");
    fs::write(tree.path().join("etc/os-release"), "ID=other\n").unwrap();
    assert_eq!(told(&ask(&sets, tree.path(), false)), ["days fail", "umask fail", "fine pass", "open NA"]);
}

#[test]
fn what_is_not_there_is_not_judged_and_says_so() {
    let (sets, _) = RuleSets::from_files(&[
        rule("BASE", "a", "auditd_conf", "low", "MUST(EQ($x, 1))"),
        rule("BASE", "b", "no_such_discovery", "low", "MUST(EQ($x, 1))"),
    ]);
    let tree = tree("");
    let audit = ask(&sets, tree.path(), false);
    assert_eq!(told(&audit), ["a NA", "b NA"]);
    assert!(audit.results[0].1.note.contains("/etc/audit/auditd.conf"), "{:?}", audit.results[0].1);
    assert!(audit.results[1].1.note.contains("no_such_discovery"));
}

#[test]
fn mistakes_are_told() {
    let (sets, _) = RuleSets::from_files(&[rule("BASE", "a", "login_defs", "low", "MUST(EQ($x, 1))")]);
    let tree = tree("");
    let site = SitePaths::new(PathBuf::from("/nonexistent"));
    let error = audit(&sets, "BAES", tree.path(), false, &site).unwrap_err();
    assert!(error.contains("BAES") && error.contains("BASE"), "{error}");
    let arguments =
        AuditArgs { set: "BASE".into(), rules: vec![], all: false, deep: false, output: Some(Format::Json) };
    let nowhere = tree.path().join("nowhere");
    assert!(prepared(&arguments, &site, &nowhere).unwrap_err().contains("nowhere"));
    let unknown = AuditArgs { rules: vec!["xyz".into()], ..arguments };
    assert!(prepared(&unknown, &site, tree.path()).unwrap_err().contains("xyz"));
}

#[test]
fn an_image_is_judged_by_the_files_that_set_the_kernel() {
    let (sets, _) = RuleSets::from_files(&[
        rule("BASE", "logged", "proc_sys", "low", "EQ($net.ipv4.conf.all.log_martians, 1)"),
        rule("BASE", "unset", "proc_sys", "low", "EQ($kernel.nowhere, 1)"),
        rule("BASE", "both", "proc_sys", "low", &asks_both("net.ipv4.conf.all.log_martians")),
        rule("BASE", "neither", "proc_sys", "low", &asks_both("kernel.nowhere")),
    ]);
    let tree = tree("");
    fs::create_dir_all(tree.path().join("etc/sysctl.d")).unwrap();
    let set = |value: &str| {
        let line = format!("net.ipv4.conf.all.log_martians = {value}\n");
        fs::write(tree.path().join("etc/sysctl.d/60-x.conf"), line).unwrap();
    };
    set("0");
    let statuses = ["both fail", "logged fail", "neither fail", "unset NA"];
    assert_eq!(told(&ask(&sets, tree.path(), false)), statuses);
    set("1");
    let statuses = ["neither fail", "both pass", "logged pass", "unset NA"];
    assert_eq!(told(&ask(&sets, tree.path(), false)), statuses);
    // Nothing there reads such files, so nothing can be said of them.
    fs::remove_file(tree.path().join("etc/sysctl.d/60-x.conf")).unwrap();
    assert_eq!(told(&ask(&sets, tree.path(), false)), ["both NA", "logged NA", "neither NA", "unset NA"]);
}

/// In effect and written down, as the benchmarks want it.
fn asks_both(name: &str) -> String {
    format!("AND(EQ(${name}, 1), MUST(EQ($_configured.{name}, 1)))")
}
