//! After a bad day somebody asks what happened: the questions of the command line, over what a real nanoprobe reported.

use crate::rig::{PARAMETER, Scene};
use serde_json::Value;

fn ask(scene: &Scene, arguments: &[&str]) -> Vec<Value> {
    scene.site.ask(arguments).unwrap().as_array().unwrap().clone()
}

#[test]
fn what_changed_and_what_depends_on_it_can_be_asked() {
    let scene = Scene::new(&["picard"]);
    let _cma = scene.site.start_cma(&[]).unwrap();
    let _nanoprobe = scene.start("picard");
    scene.wait_until_judged("picard", "pass");
    scene.prove_that_changes_arrive("picard");

    // The parameter went to 0 and back to 1: both are told, each with its value.
    let table = scene.assimcli(&["--language", "en", "history", "picard", "--since", "1h", "--diff"]);
    assert_eq!(table.0, 0, "{}", table.1);
    let changed = |text: &str, old: &str, new: &str| {
        text.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.contains(&PARAMETER) && words.ends_with(&[old, new])
        })
    };
    assert!(changed(&table.1, "1", "0") && changed(&table.1, "0", "1"), "{}", table.1);
    let rows = ask(&scene, &["history", "picard", "--since", "1h"]);
    let transitions =
        rows.iter().filter(|row| row["kind"] == "rule" && row["what"] == "nist_V-38528").count();
    assert_eq!(transitions, 2, "{rows:?}");
    let before = scene.assimcli(&["changes", "--before", "last", "picard", "--within", "1h"]);
    assert!(
        before.0 == 0 && before.1.contains("the host itself") && before.1.contains(PARAMETER),
        "{}",
        before.1
    );

    // The same rows in every format. A document may arrive between one question and the other, but not for ever.
    scene.wait("the same documents in both formats", || {
        let (code, csv) = scene.assimcli(&["-o", "csv", "history", "picard", "--at", "0s"]);
        let documents = ask(&scene, &["history", "picard", "--at", "0s"]);
        let is_there = |row: &Value| row["instance"] == "_auto_proc_sys" && row["now"] == "same";
        (code == 0 && csv.lines().count() == documents.len() + 1 && documents.iter().any(is_there))
            .then_some(())
    });

    let (code, text) = scene.assimcli(&["impact", "picard"]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = scene.assimcli(&["impact", "pickard"]);
    assert!(code == 1 && text.contains("did you mean picard?"), "{code} {text}");

    // A test host lacks much that rules look at, and that is said.
    let (code, text) = scene.assimcli(&["coverage"]);
    assert!(code == 2 && text.contains("1 host; gaps: "), "{code} {text}");
    let (code, text) = scene.assimcli(&["coverage", "--gap", "key mismatch"]);
    assert_eq!(code, 0, "{text}");
}
