//! The sample notification script, with a mail program that shows what it was given.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Subject and text of the mail for an event; `None` when there is none.
fn mail(event: &str, nodetype: &str, variables: &[(&str, &str)]) -> Option<(String, String)> {
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("mail");
    let kept = home.path().join("kept");
    let text = format!(
        "#!/bin/sh\n[ \"$1\" != --version ] || exit 0\n{{ echo \"$2\"; cat; }} > '{}'\n",
        kept.display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../notification.d/samples/sendemail.sh");
    let mut command = Command::new("sh");
    command.arg(script).args([event, nodetype]).env_clear().stdin(Stdio::null());
    command.env("PATH", format!("{}:/usr/bin:/bin", home.path().display()));
    command.env("EMAILDESTS", "somebody@example.com");
    command.envs(variables.iter().map(|(name, value)| (format!("ASSIM_{name}"), value)));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mail = fs::read_to_string(kept).ok()?;
    mail.split_once('\n').map(|(subject, text)| (subject.to_owned(), text.to_owned()))
}

#[test]
fn a_death_is_explained_in_words() {
    let variables = [
        ("designation", "web1"),
        ("reason", "HBDEAD"),
        ("verdict", "host dead"),
        ("evidence", "riker heard nothing for 2.1 s\n~!rm is no command"),
        ("explains_text", "service /usr/sbin/nginx on port 80, used by web2"),
        ("text", "the host answers nobody"),
    ];
    let (subject, text) = mail("down", "Drone", &variables).unwrap();
    assert_eq!(subject, "WARNING: System web1 is down [HBDEAD]");
    let told = "How that is known:\n    riker heard nothing for 2.1 s\n    ~!rm is no command\n";
    assert!(text.contains(told), "{text}");
    assert!(
        text.contains("What this explains:\n    service /usr/sbin/nginx on port 80, used by web2\n"),
        "{text}"
    );
    assert!(!text.contains("What changed:"), "{text}");

    let died = [("designation", "web1"), ("reason", "HBDEAD"), ("verdict", "nanoprobe died")];
    let (subject, text) = mail("down", "Drone", &died).unwrap();
    assert_eq!(subject, "WARNING: System web1 is down [HBDEAD]");
    assert!(text.starts_with("The nanoprobe of web1 no longer runs."), "{text}");

    let (subject, _) = mail("down", "Drone", &[("designation", "web1"), ("reason", "HBSHUTDOWN")]).unwrap();
    assert_eq!(subject, "WARNING: System web1 was gracefully shut down");
}

#[test]
fn an_outage_of_many_is_one_mail_and_its_end_another() {
    let variables = [
        ("designation", "subnet 10.9.0.0/16"),
        ("reason", "HBDEAD"),
        ("verdict", "subnet gone"),
        ("hosts", "3"),
        ("explains_text", "a1\na2\na3"),
        ("still_down", "1"),
    ];
    let (subject, text) = mail("down", "SystemNode", &variables).unwrap();
    assert_eq!(subject, "WARNING: 3 systems are down together: subnet 10.9.0.0/16 [HBDEAD]");
    assert!(text.contains("What this explains:\n    a1\n    a2\n    a3\n"), "{text}");
    let (subject, text) = mail("up", "SystemNode", &variables).unwrap();
    assert_eq!(subject, "HURRAY: 3 systems are back up: subnet 10.9.0.0/16");
    assert!(text.contains("Still down: 1.") && text.contains("Which ones:\n    a1\n"), "{text}");
    let cut_off = [("designation", "the CMA"), ("reason", "CMA cut off"), ("hosts", "7")];
    let (subject, text) = mail("warn", "SystemNode", &cut_off).unwrap();
    assert_eq!(subject, "WARNING: the CMA: CMA cut off");
    assert!(text.contains("None of them is called dead."), "{text}");
    assert_eq!(mail("create", "SystemNode", &cut_off), None);
}
