//! The program as its users meet it.

use std::process::{Command, Output};

fn nanoprobe(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nanoprobe")).args(words).env_remove("NANOPROBE_TTL").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_and_version_go_to_standard_output() {
    let help = nanoprobe(&["--help"]);
    assert_eq!((help.status.code(), text(&help.stderr).as_str()), (Some(0), ""));
    let help = text(&help.stdout);
    for option in [
        "-c, --cmaaddr <ADDR>",
        "-b, --bind <ADDR>",
        "-D, --dynamic",
        "-t, --ttl <N>",
        "--name <NAME>",
        "-f, --foreground",
        "-p, --pidfile <FILE>",
        "-s, --status",
        "-k, --kill",
        "-d, --debug <N>",
        "--root <DIR>",
        "discover",
    ] {
        assert!(help.contains(option), "{option} is missing:\n{help}");
    }
    assert!(text(&nanoprobe(&["--version"]).stdout).starts_with("nanoprobe 0."));
}

#[test]
fn mistakes_end_with_one_and_name_the_word() {
    for (words, word) in [
        (&["--cmaadr", "x"][..], "--cmaadr"),
        (&["--ttl", "many"], "many"),
        (&["-c", "1.2"], "1.2"),
        (&["discover", "shsd"], "shsd"),
        (&["discover"], "TYPE"),
    ] {
        let output = nanoprobe(words);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""), "{words:?}");
        assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr));
    }
}

#[test]
fn status_and_kill_without_a_nanoprobe() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().to_str().unwrap();
    assert_eq!(nanoprobe(&["--root", root, "--status"]).status.code(), Some(3));
    let killed = nanoprobe(&["--root", root, "--kill"]);
    assert_eq!(killed.status.code(), Some(1));
    assert!(text(&killed.stderr).contains("not running"));
}

#[test]
fn without_a_cma_key_it_says_what_to_copy() {
    let root = tempfile::tempdir().unwrap();
    let output = nanoprobe(&["--root", root.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("usr/share/assimilation/crypto.d") && message.contains("scp"), "{message}");
    assert!(!root.path().join("var/run/nanoprobe").exists());
}

#[test]
fn a_wrong_configuration_file_is_named_with_its_line() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("etc/assimilation")).unwrap();
    std::fs::write(root.path().join("etc/assimilation/nanoprobe.toml"), "ttl = 3\ncolour = 1\n").unwrap();
    let output = nanoprobe(&["--root", root.path().to_str().unwrap()]);
    let message = text(&output.stderr);
    assert!(
        output.status.code() == Some(1) && message.contains("line 2") && message.contains("colour"),
        "{message}"
    );
}

#[test]
fn one_discovery_prints_one_envelope() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    std::fs::write(root.path().join("etc/login.defs"), "PASS_MAX_DAYS 77\n").unwrap();
    let output = nanoprobe(&["discover", "login_defs", "--host-root", root.path().to_str().unwrap()]);
    let envelope: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &envelope["data"]["PASS_MAX_DAYS"]), (Some(0), &serde_json::json!(77)));
    assert!(text(&nanoprobe(&["discover", "--list"]).stdout).contains("login_defs"));
}

#[test]
fn what_would_look_after_a_host_is_listed_without_asking_anything() {
    use std::os::unix::fs::PermissionsExt;
    let tree = tempfile::tempdir().unwrap();
    let plugins = tree.path().join("usr/lib/nagios/plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    std::fs::write(plugins.join("check_load"), "x").unwrap();
    std::fs::set_permissions(plugins.join("check_load"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = |words: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_nanoprobe"))
            .args(["--root", "/nonexistent", "--host-root"])
            .arg(tree.path())
            .args(words)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, listed, _) = run(&["monitors", "-o", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let expected = serde_json::json!([{
        "state": "-", "class": "nagios", "agent": "check_load", "target": "host", "listen": "",
        "rule": "check_load.mrule", "reason": "",
    }]);
    assert_eq!((code, listed), (Some(0), expected));
    let (code, listed, said) = run(&["monitors", "--check"]);
    assert_eq!((code, listed.as_str()), (Some(1), ""));
    assert!(said.contains("running system"), "{said}");
    let (code, _, said) = run(&["monitors", "--chek"]);
    assert!(code == Some(1) && said.contains("--chek"), "{said}");
}
