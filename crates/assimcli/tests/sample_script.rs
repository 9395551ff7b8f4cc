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
}

#[test]
fn what_changes_around_hosts_is_told_in_words() {
    let switch = [("designation", "00-11-22-33-44-55"), ("systemname", "sw1"), ("seen_by", "web1")];
    let (subject, text) = mail("create", "SystemNode", &switch).unwrap();
    assert_eq!(subject, "NOTE: New device at the network: sw1");
    assert!(
        text.starts_with("The device sw1 (00-11-22-33-44-55) was seen for the first time, by web1."),
        "{text}"
    );
    let (subject, _) = mail("delete", "SystemNode", &switch[..1]).unwrap();
    assert_eq!(subject, "WARNING: Device gone from the network: 00-11-22-33-44-55");
    let cable = [
        ("designation", "web1"),
        ("ifname", "eth0"),
        ("reason", "connected to another port"),
        ("text", "eth0 of web1 is connected to port 8 of sw1, it was connected to port 7 of sw1"),
    ];
    let (subject, text) = mail("update", "NICNode", &cable).unwrap();
    assert_eq!(subject, "NOTE: Cable of web1 eth0: connected to another port");
    assert!(text.contains("What changed:\n    eth0 of web1 is connected to port 8"), "{text}");
    let address = [
        ("designation", "10.0.0.5"),
        ("reason", "duplicate address"),
        ("owners_text", "web1 (aa)\nweb2 (bb)"),
        ("macaddr", "00-16-3e-00-00-05"),
        ("seen_by", "web1"),
    ];
    let subject = |event: &str, nodetype: &str| mail(event, nodetype, &address).map(|(subject, _)| subject);
    let (first, text) = mail("warn", "IPaddrNode", &address).unwrap();
    assert_eq!(first, "WARNING: 10.0.0.5 belongs to several systems [duplicate address]");
    assert!(text.contains("Who has it:\n    web1 (aa)\n    web2 (bb)\n"), "{text}");
    for (event, nodetype, expected) in [
        ("unwarn", "IPaddrNode", "HURRAY: 10.0.0.5 no longer in trouble [duplicate address]"),
        ("create", "IPaddrNode", "NOTE: Unknown system at the network: 10.0.0.5"),
        ("delete", "IPaddrNode", "NOTE: Gone from the network: 10.0.0.5"),
        ("warn", "NICNode", "WARNING: 10.0.0.5 [duplicate address]"),
        ("unwarn", "NICNode", "HURRAY: 10.0.0.5 no longer in trouble [duplicate address]"),
    ] {
        assert_eq!(subject(event, nodetype).as_deref(), Some(expected));
    }
    assert_eq!(subject("up", "IPaddrNode"), None);
}
