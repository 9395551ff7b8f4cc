//! The command line as a person meets it: no CMA runs here, and every command still says something useful.

use std::path::Path;
use std::process::{Command, Output};

fn assimcli(root: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_assimcli"))
        .arg("--root")
        .arg(root)
        .args(arguments)
        .env("COLUMNS", "100")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn usage_errors_exit_1_and_name_the_word() {
    let root = tempfile::tempdir().unwrap();
    for words in [&["quary"][..], &["rules", "list", "--colour"], &["-o", "xml", "hosts"], &["rules", "eval"]]
    {
        let output = assimcli(root.path(), words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
    }
    assert!(stderr(&assimcli(root.path(), &["quary"])).contains("quary"));
    assert_eq!(assimcli(root.path(), &["--help"]).status.code(), Some(0));
    assert_eq!(
        stdout(&assimcli(root.path(), &["--version"])),
        format!("assimcli {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_reader_of_the_messages_that_has_gone_away_breaks_nothing() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("set")).unwrap();
    std::fs::write(root.path().join("set/sshd.json"), "{}").unwrap();
    for (words, code) in [(&["hosts"][..], 1), (&["genkeys"], 0), (&["rules", "check", "set"], 0)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = Command::new(env!("CARGO_BIN_EXE_assimcli"))
            .current_dir(root.path())
            .args(["--root", "."])
            .args(words)
            .stderr(writer)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{words:?}");
    }
}

#[test]
fn new_keys_are_listed_in_every_format_and_every_spare_is_named() {
    let root = tempfile::tempdir().unwrap();
    let made: serde_json::Value =
        serde_json::from_str(&stdout(&assimcli(root.path(), &["-o", "json", "genkeys"]))).unwrap();
    assert_eq!(made.as_array().unwrap().len(), 4);
    assert!(made[0]["file"].as_str().unwrap().ends_with("#CMA#00000.pub"), "{made}");
    let output = assimcli(root.path(), &["genkeys"]);
    let advice = stderr(&output);
    assert!(advice.contains("#CMA#00001.secret\n") && advice.contains("#CMA#00002.secret\n"), "{advice}");
    assert!(!advice.contains("#CMA#00000.secret"), "{advice}");
}

#[test]
fn data_that_are_no_object_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("data.json");
    std::fs::write(&file, "[1]").unwrap();
    let output = assimcli(root.path(), &["rules", "eval", "EQ($a, 1)", "--data", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no JSON object"), "{}", stderr(&output));
}

#[test]
fn wrong_words_to_questions_are_named_before_anybody_is_asked() {
    let root = tempfile::tempdir().unwrap();
    for (words, told) in [
        (&["impact"][..], "NAME"),
        (&["impact", "web1", "--hops", "0"], "--hops"),
        (&["impact", "web1", "--hops", "many"], "many"),
        (&["impact", "web1", "--limit", "100001"], "--limit"),
        (&["path", "web1"], "TO"),
        (&["history", "web1", "--at", "soon"], "--at \"soon\" is no time"),
        (&["history", "web1", "--since", "-5m"], "'-5'"),
        (&["history", "web1", "--at", "2h", "--since", "3h"], "--since"),
        (&["changes"], "--before"),
        (&["changes", "--before", "1", "--within", "2"], "--within \"2\" is no length of time"),
        (&["changes", "--before", "1", "--hops", "9"], "--hops"),
        (&["coverage", "everything"], "everything"),
    ] {
        let output = assimcli(root.path(), words);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {text}");
        assert!(text.contains(told) && !text.contains("no CMA answers"), "{words:?}: {text}");
    }
    for command in ["impact", "path", "history", "changes", "coverage"] {
        let help = stdout(&assimcli(root.path(), &[command, "--help"]));
        assert!(help.contains("Examples:") && help.contains(&format!("assimcli {command}")), "{help}");
    }
}

#[test]
fn without_a_cma_the_command_that_starts_one_is_named() {
    let root = tempfile::tempdir().unwrap();
    for words in [
        &["hosts"][..],
        &["query", "allservers"],
        &["sql", "SELECT 1"],
        &["events"],
        &["score"],
        &["notify", "test"],
        &["impact", "web1"],
        &["path", "web1", "db1"],
        &["history", "web1", "--at", "2h"],
        &["changes", "--before", "last", "web1"],
        &["coverage"],
    ] {
        let output = assimcli(root.path(), words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let text = stderr(&output);
        assert!(text.contains("no CMA answers") && text.contains("cma --root"), "{words:?}: {text}");
    }
}

#[test]
fn keys_are_two_pairs_at_first_and_one_more_each_time() {
    let root = tempfile::tempdir().unwrap();
    let first = assimcli(root.path(), &["genkeys"]);
    assert!(first.status.success(), "{}", stderr(&first));
    assert_eq!(stdout(&first).lines().count(), 4);
    assert!(
        stderr(&first).contains("off-line") && stderr(&first).contains("#CMA#00001.secret"),
        "{}",
        stderr(&first)
    );
    let again = assimcli(root.path(), &["genkeys"]);
    assert_eq!(stdout(&again).lines().count(), 2);
    assert!(stdout(&again).contains("#CMA#00002.pub"));
    let secret = root.path().join("usr/share/assimilation/crypto.d/#CMA#00000.secret");
    let metadata = std::fs::metadata(secret).unwrap();
    assert_eq!(
        (metadata.len(), std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777),
        (32, 0o600)
    );
}

#[test]
fn a_rule_is_shown_by_any_of_its_ids_with_its_fixes() {
    let root = tempfile::tempdir().unwrap();
    for id in ["nist_V-38528", "RHEL-06-000088", "RHEL-08-040221"] {
        let page = stdout(&assimcli(root.path(), &["rules", "show", id]));
        for part in ["nist_V-38528", "Why", "Fix now", "Fix for good", "net.ipv4.conf.all.log_martians"] {
            assert!(page.contains(part), "{id} lacks {part}:\n{page}");
        }
    }
    let wrong = assimcli(root.path(), &["rules", "show", "nist_V-3852"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(stderr(&wrong).contains("Did you mean \"nist_V-3852"), "{}", stderr(&wrong));
}

#[test]
fn every_format_lists_the_same_74_rules() {
    let root = tempfile::tempdir().unwrap();
    let list = |format| stdout(&assimcli(root.path(), &["-o", format, "rules", "list"]));
    assert_eq!(list("script").lines().count(), 74);
    assert_eq!(list("jsonl").lines().count(), 74);
    assert_eq!(list("csv").lines().count(), 75);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&list("json")).unwrap().as_array().unwrap().len(),
        74
    );
}

#[test]
fn expressions_vectors_and_status() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = root.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let data = file("data.json", r#"{"net.ipv4.ip_forward": 1}"#);
    let result = assimcli(root.path(), &["rules", "eval", "EQ($net.ipv4.ip_forward, 0)", "--data", &data]);
    assert_eq!(stdout(&result), "{\"result\":false}\n");
    let unknown = assimcli(root.path(), &["rules", "eval", "EQ($nothing, 0)", "--data", &data]);
    assert_eq!(stdout(&unknown), "{\"result\":null}\n");
    let misspelt = assimcli(root.path(), &["rules", "eval", "EQUAL(1, 1)", "--data", &data]);
    assert_eq!(misspelt.status.code(), Some(1));
    assert!(stderr(&misspelt).contains("EQUAL"), "{}", stderr(&misspelt));

    let vectors = file(
        "vectors",
        "{\"id\":\"a\",\"expr\":\"EQ(1,1)\",\"context\":{}}\n{\"id\":\"b\",\"expr\":\"EQQ(1,1)\",\"context\":{}}\n",
    );
    let lines = stdout(&assimcli(root.path(), &["rules", "eval", "--vectors", &vectors]));
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], serde_json::json!({"id": "a", "result": true}));
    assert!(lines[1]["error"].as_str().unwrap().contains("EQQ"));

    let rules = file(
        "proc_sys.json",
        r#"{"a": {"category": "security", "severity": "high", "rule": "EQ($net.ipv4.ip_forward, 0)"}}"#,
    );
    let status = stdout(&assimcli(root.path(), &["rules", "status", "--rules", &rules, "--data", &data]));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(
        status,
        serde_json::json!({"status": {"pass": [], "fail": ["a"], "ignore": [], "NA": []}, "scores": {"security": 3.0}})
    );
}

#[test]
fn a_misspelt_function_is_found_before_anything_is_loaded() {
    let root = tempfile::tempdir().unwrap();
    let set = root.path().join("mine/proc_sys");
    std::fs::create_dir_all(&set).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../best_practices/catalogue/proc_sys/nist_V-38528.toml");
    let good = std::fs::read_to_string(shipped).unwrap();
    std::fs::write(set.join("nist_V-38528.toml"), good.replace("EQ(", "EQU(")).unwrap();
    let directory = root.path().join("mine");
    let directory = directory.to_str().unwrap();
    let check = assimcli(root.path(), &["rules", "check", directory]);
    assert_eq!(check.status.code(), Some(2), "{}", stderr(&check));
    assert!(stdout(&check).contains("EQU") && stdout(&check).contains("nist_V-38528"), "{}", stdout(&check));
    let load = assimcli(root.path(), &["rules", "load", directory, "MINE", "BASE"]);
    assert_eq!(load.status.code(), Some(1));
    assert!(!root.path().join("etc/assimilation/best_practices.d/MINE").exists());

    std::fs::write(set.join("nist_V-38528.toml"), good.replace("severity = \"low\"", "severity = \"high\""))
        .unwrap();
    assert_eq!(assimcli(root.path(), &["rules", "check", directory]).status.code(), Some(0));
    for _ in 0..2 {
        let load = assimcli(root.path(), &["rules", "load", directory, "MINE", "BASE"]);
        assert!(load.status.success(), "{}", stderr(&load));
    }
    let list = stdout(&assimcli(root.path(), &["-o", "script", "rules", "list", "MINE"]));
    assert_eq!(list.lines().count(), 74, "own rule and what is inherited");
    let own = list.lines().find(|line| line.starts_with("nist_V-38528\t")).unwrap();
    assert!(own.contains("high") && own.ends_with("MINE"), "{own}");
}

#[test]
fn the_sample_script_is_inside_and_is_posix_shell() {
    let root = tempfile::tempdir().unwrap();
    let script = stdout(&assimcli(root.path(), &["notify", "sample"]));
    assert!(
        script.starts_with("#!/bin/sh") && script.contains("EMAILDESTS=") && script.contains("mutt_email")
    );
}
