//! A running CMA is set back to a backup: real nanoprobes make up for what it has forgotten, and nobody is told a thing twice.

use crate::rig::{PARAMETER, Scene, texts};
use serde_json::Value;

fn rows(scene: &Scene, statement: &str) -> Value {
    scene.site.ask(&["sql", statement]).unwrap()
}

fn documents(scene: &Scene) -> Vec<String> {
    let all = rows(scene, "SELECT host || ' ' || instance || ' ' || hash AS one FROM documents ORDER BY 1");
    texts(&all, "one")
}

#[test]
fn a_restored_cma_learns_what_it_missed_and_repeats_nothing() {
    let scene = Scene::new(&["picard", "riker"]);
    let mut cma = scene.site.start_cma(&[]).unwrap();
    let mut picard = scene.start("picard");
    let _riker = scene.start("riker");
    for host in ["picard", "riker"] {
        scene.wait_until_judged(host, "pass");
    }
    scene.prove_that_changes_arrive("picard");
    let file = scene.folder.path().join("backup.tar.zst").display().to_string();
    let (code, text) = scene.assimcli(&["backup", &file]);
    assert_eq!(code, 0, "{text}");

    // After the backup the rule fails on one host, and has failed and passes again on the other.
    scene.host("picard").sysctl(PARAMETER, "0").unwrap();
    scene.wait_until_judged("picard", "fail");
    scene.prove_that_changes_arrive("riker");
    assert_eq!(scene.transitions("picard"), ["warn", "unwarn", "warn"]);

    let (code, text) = scene.assimcli(&["restore", &file]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("before-restore"), "{text}");
    cma.still_running().unwrap();
    scene.wait_until_judged("picard", "fail");
    scene.prove_that_changes_arrive("riker");
    let seen = ["warn", "unwarn", "warn"];
    assert_eq!(scene.transitions("picard"), seen, "once, as if it had happened now");
    assert_eq!(scene.transitions("riker"), ["warn", "unwarn"], "what came and went in between is not told");
    let ups = texts(&rows(&scene, "SELECT host FROM events WHERE eventtype = 'up' ORDER BY host"), "host");
    assert_eq!(ups, ["picard", "riker"], "both were up all the time");
    scene.host("picard").sysctl(PARAMETER, "1").unwrap();
    scene.wait_until_judged("picard", "pass");
    assert_eq!(scene.transitions("picard"), ["warn", "unwarn", "warn", "unwarn"]);

    let before = documents(&scene);
    let doubled = "SELECT host FROM documents GROUP BY host, instance HAVING count(*) > 1";
    assert_eq!(texts(&rows(&scene, doubled), "host"), Vec::<String>::new());
    assert!(before.iter().filter(|line| line.starts_with("picard ")).count() > 10, "{before:?}");
    picard.still_running().unwrap();
    let (_, text) = scene.assimcli(&["doctor", "cma", "clock", "queue"]);
    assert!(text.contains("was restored at"), "{text}");
}
