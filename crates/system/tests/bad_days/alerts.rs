//! Notification scripts that hang, fail, shout, or cannot be run.

use crate::rig::{PARAMETER, RULE, Scene, memory_bytes, texts, write_script};
use std::collections::BTreeMap;
use std::fs;

/// Each kind of trouble for another host, so that one shows whether it holds up others.
fn scripts(scene: &Scene) {
    let folder = scene.site.paths.shared("notification.d");
    let notes = scene.folder.path().display();
    let about = format!("[ \"$ASSIM_ruleid\" = {RULE} ] || exit 0\ncat > /dev/null\n");
    write_script(
        &folder.join("10-hang"),
        &format!(
            "{about}echo \"$1 $ASSIM_eventid\" >> {notes}/hang-$ASSIM_designation\n\
             [ \"$ASSIM_designation $1\" = 'picard warn' ] || exit 0\nsleep 600 & echo $! >> {notes}/children\nwait"
        ),
    );
    write_script(
        &folder.join("20-fail-twice"),
        &format!(
            "{about}[ $ASSIM_designation = riker ] || exit 0\necho x >> {notes}/tries-$ASSIM_eventid\n\
             [ $(wc -l < {notes}/tries-$ASSIM_eventid) -ge 3 ] || {{ echo 'no mail server' >&2; exit 3; }}"
        ),
    );
    write_script(
        &folder.join("30-shout"),
        &format!("{about}[ $ASSIM_designation = worf ] && head -c 100000000 /dev/zero | tr '\\0' x\nexit 0"),
    );
    write_script(
        &folder.join("90-record"),
        &format!("{about}echo \"$1 $ASSIM_eventid\" >> {notes}/record-$ASSIM_designation"),
    );
    fs::write(folder.join("95-not-executable"), "#!/bin/sh\ntouch /tmp/never\n").unwrap();
    let config = "[notify]\nscript_timeout_seconds = 2\nattempts = 3\nsyslog = false\n";
    fs::write(scene.site.paths.cma_config(), config).unwrap();
}

/// First word of each line that a script wrote about a host.
fn noted(scene: &Scene, what: &str, host: &str) -> Vec<String> {
    let text = fs::read_to_string(scene.folder.path().join(format!("{what}-{host}"))).unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn bad_scripts_hold_up_only_their_own_host_and_are_given_up_loudly() {
    let hosts = ["picard", "riker", "worf"];
    let scene = Scene::new(&hosts);
    scripts(&scene);
    let mut cma = scene.site.start_cma(&[]).unwrap();
    let nanoprobes: Vec<_> = hosts.iter().map(|host| scene.start(host)).collect();
    hosts.iter().for_each(|host| scene.wait_until_judged(host, "pass"));
    // Alerts about the start of the hosts are not what is measured here.
    scene.wait("the outbox to be empty", || {
        (scene.site.count("SELECT 1 FROM alerts WHERE state = 'waiting'") == 0
            && scene.site.count("SELECT 1 FROM alerts") > 0)
            .then_some(())
    });
    let before = (memory_bytes(&cma), scene.log("cma").len());

    for (value, status) in [("0", "fail"), ("1", "pass")] {
        hosts.iter().for_each(|host| scene.host(host).sysctl(PARAMETER, value).unwrap());
        hosts.iter().for_each(|host| scene.wait_until_judged(host, status));
    }
    for host in hosts {
        scene.wait(&format!("both alerts of {host}"), || {
            (noted(&scene, "record", host).len() == 2).then_some(())
        });
        assert_eq!(noted(&scene, "record", host), ["warn", "unwarn"], "in order, each once");
    }

    let statement = format!(
        "SELECT a.host || ' ' || a.eventtype AS what, a.state, a.finished, a.failure FROM alerts a JOIN events e \
         ON e.sequence = a.sequence WHERE e.rule_id = '{RULE}' AND a.channel = 'scripts'"
    );
    let rows = scene.wait("all deliveries to be finished", || {
        let rows = scene.site.ask(&["sql", &statement]).ok()?;
        (texts(&rows, "finished").len() == 6).then_some(rows)
    });
    // For the script that hangs, the next event waits until the first one is given up.
    assert_eq!(noted(&scene, "hang", "picard"), ["warn", "warn", "warn", "unwarn"]);
    assert_eq!(noted(&scene, "hang", "worf"), ["warn", "unwarn"]);
    let by: BTreeMap<&str, &serde_json::Value> =
        rows.as_array().unwrap().iter().map(|row| (row["what"].as_str().unwrap(), row)).collect();
    let finished = |what: &str| by[what]["finished"].as_str().unwrap();
    // Six seconds and the pauses for picard; had worf's waited behind it, they would have come later.
    assert!(finished("worf warn") < finished("picard warn"), "{rows}");
    assert!(finished("riker warn") < finished("picard warn"), "{rows}");
    for (what, row) in &by {
        assert_eq!(row["state"] == "failed", *what == "picard warn", "{row}");
    }
    let failure = by["picard warn"]["failure"].as_str().unwrap();
    assert!(failure.contains("given up after 3 attempts") && failure.contains("10-hang"), "{failure}");
    assert!(failure.contains("within 2 s and was killed"), "{failure}");

    let (code, text) = scene.assimcli(&["doctor"]);
    assert_eq!(code, 2, "{text}");
    for part in ["given up after 3 attempts", "10-hang", "95-not-executable is not executable", "chmod 755"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let children = fs::read_to_string(scene.folder.path().join("children")).unwrap();
    assert_eq!(children.lines().count(), 3);
    for child in children.lines() {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        assert!(
            !stat.contains("(sleep)") || stat.contains(") Z "),
            "a child of the killed script lives: {stat}"
        );
    }
    cma.still_running().unwrap();
    let grown = memory_bytes(&cma).saturating_sub(before.0);
    // Each of worf's scripts shouted more than that.
    assert!(grown < 60_000_000, "the CMA grew by {grown} bytes");
    let logged = scene.log("cma").len() - before.1;
    assert!(logged < 100_000, "the scripts' output filled the log with {logged} bytes");
    assert!(scene.log("cma").contains("no mail server"), "what a failing script says is told");
    drop(nanoprobes);
}
