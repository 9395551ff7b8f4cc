//! What the program makes of answers of a CMA: mistakes that are told instead of good news, and times of the reader's zone.

mod common;

use common::{assimcli, cma};
use serde_json::{Value, json};
use std::process::Command;

fn hosts() -> Value {
    json!([{"designation": "web1", "status": "up", "status_since": "2026-11-23T12:00:00Z", "identity": {}}])
}

/// The message of a command that has to be refused.
fn refused(answers: Vec<Value>, words: &[&str]) -> String {
    let root = tempfile::tempdir().unwrap();
    let _told = cma(root.path(), answers);
    let output = assimcli(root.path(), words);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {text}");
    text
}

#[test]
fn a_misspelt_choice_is_not_a_site_without_faults() {
    let groups = json!({"groups": [{"group": "web", "hosts": [], "uses": []}], "tags": {"prod": ["web1"]}});
    for words in
        [&["score", "--tag", "prodd"][..], &["events", "--tag", "prodd"], &["hosts", "--tag", "prodd"]]
    {
        let first = if words[0] == "score" { vec![json!([]), groups.clone()] } else { vec![groups.clone()] };
        let text = refused(first, words);
        assert!(
            text.contains("no host has the tag \"prodd\"") && text.contains("Did you mean \"prod\"?"),
            "{text}"
        );
    }
    let text = refused(vec![json!([]), groups], &["score", "--group", "webb"]);
    assert!(text.contains("Did you mean \"web\"?"), "{text}");
    let text = refused(vec![], &["coverage", "--gap", "no nanoprobes"]);
    assert!(text.contains("Did you mean \"no nanoprobe\"?"), "{text}");
    let text = refused(vec![json!([]), hosts()], &["score", "--host", "wbe1"]);
    assert!(text.contains("Did you mean \"web1\"?"), "{text}");
    let text = refused(vec![json!([]), hosts()], &["events", "--host", "wbe1"]);
    assert!(text.contains("Did you mean \"web1\"?"), "{text}");
    let text = refused(vec![hosts(), hosts(), json!([])], &["hosts", "machines", "wbe1"]);
    assert!(text.contains("there is no host wbe1") && text.contains("Did you mean \"web1\"?"), "{text}");
}

/// A zone of the system's list, two hours ahead of UTC (RFC 8536: an empty block of version 1, then one of version 2).
fn zone() -> Vec<u8> {
    let block = || {
        let mut bytes = b"TZif2".to_vec();
        bytes.extend([0; 15]);
        for count in [0_u32, 0, 0, 0, 1, 4] {
            bytes.extend(count.to_be_bytes());
        }
        bytes.extend(7200_i32.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(b"BRG\0");
        bytes
    };
    [block(), block(), b"\n<BRG>-2\n".to_vec()].concat()
}

#[test]
fn times_are_those_of_the_zone_that_the_reader_has_chosen() {
    let root = tempfile::tempdir().unwrap();
    let zones = root.path().join("zones");
    std::fs::create_dir_all(zones.join("Delta")).unwrap();
    std::fs::write(zones.join("Delta/Borg"), zone()).unwrap();
    let shown = |name: &str| {
        let _told = cma(root.path(), vec![hosts(), json!([])]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_assimcli"));
        command.arg("--root").arg(root.path()).args(["-o", "table", "hosts"]);
        let output = command.env("TZ", name).env("TZDIR", &zones).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(shown("Delta/Borg").contains("2026-11-23 14:00:00"), "{}", shown("Delta/Borg"));
    assert!(shown("UTC").contains("2026-11-23 12:00:00"), "{}", shown("UTC"));
}
