//! A running CMA goes on with another database.

use crate::site::{Agent, Running, Site, runtime, wait_for};
use model::message::{FromCma, Incarnation};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use store::sqlite;

const MARTIANS: &str = "net.ipv4.conf.all.log_martians";

pub fn staged(site: &Site) -> PathBuf {
    sqlite::staged(&site.paths.database())
}

/// As `assimcli backup` does it, beside the running CMA.
pub fn back_up(site: &Site) -> PathBuf {
    let copy = site.paths.root().join("copy");
    sqlite::copy(&site.paths.database(), &copy, &mut |_, _| {}).unwrap();
    copy
}

pub fn restore(site: &Site) -> Value {
    let before = site.get("/v1/status");
    let (code, answer) = site.request("POST", "/v1/restore", Some(json!({})));
    assert_eq!(code, 200, "{answer}");
    wait_for("the CMA to come back", 60, || {
        let (_, status) = site.try_request("GET", "/v1/status", None).ok()?;
        (status["started"] != before["started"]).then_some(status)
    })
}

fn quiet(site: &Site) {
    wait_for("the outbox to be empty", 60, || (site.get("/v1/status")["outbox"] == 0).then_some(()));
}

fn alerts(site: &Site) -> Vec<String> {
    site.read("alerts").lines().map(str::to_owned).collect()
}

fn welcome(agent: &Agent) -> model::message::Welcome {
    match runtime().block_on(agent.dial()).map(|(_, _, _, answer)| answer).unwrap() {
        FromCma::Welcome(welcome) => welcome,
        other => panic!("{other:?}"),
    }
}

fn other_files(site: &Site) -> Vec<String> {
    let names = fs::read_dir(site.paths.state()).unwrap().flatten();
    let mut names: Vec<String> = names.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("cma.sqlite.") && !name.contains(".v"));
    names
}

#[test]
fn hosts_send_what_the_backup_does_not_know_and_nothing_is_told_twice() {
    let site = Site::create();
    site.script("log", "echo \"$1 ${ASSIM_ruleid:-none}\" >> @/alerts");
    let cma: Running = site.start(&[]);
    let mut agent = Agent::new(&site, "web1");
    agent.queue(json!({MARTIANS: 0}));
    agent.queue_of("known", "os", json!({"n": 1}));
    agent.queue_of("ended", "os", json!({"n": 1}));
    runtime().block_on(agent.deliver(1));
    quiet(&site);
    let copy = back_up(&site);
    let at_backup = site.get("/v1/events?after=0").as_array().unwrap().len();
    let told_at_backup = alerts(&site).len();
    // After the backup: the rule passes, a document comes that the backup has not, and one that it has ends.
    agent.queue(json!({MARTIANS: 1}));
    agent.queue_of("later", "os", json!({"n": 2}));
    runtime().block_on(agent.deliver(1));
    quiet(&site);
    assert_eq!(welcome(&agent).last_sequence, 5);
    fs::rename(&copy, staged(&site)).unwrap();

    let status = restore(&site);
    assert!(status["restored"].is_string() && status["pid"] == cma.0.id(), "{status}");
    assert_eq!(other_files(&site).len(), 1, "the database from before is kept, nothing stays staged");
    assert!(status["notes"]["restore"].as_str().unwrap().contains(&other_files(&site)[0]), "{status}");
    let events = site.get("/v1/events?after=0");
    assert_eq!(events.as_array().unwrap().len(), at_backup, "{events}");
    // The CMA says what it has; a nanoprobe whose numbers are ahead of that begins a new count, as ours does here.
    agent.list(&["_auto_proc_sys", "known", "later"]);
    let seen = welcome(&agent);
    assert_eq!(seen.last_sequence, 3);
    agent.renew(Incarnation([9; 16]));
    let seen = welcome(&agent);
    assert_eq!((seen.last_sequence, seen.wanted), (0, vec!["_auto_proc_sys".to_owned(), "later".into()]));
    agent.reports.clear();
    agent.queue(json!({MARTIANS: 1}));
    agent.queue_of("later", "os", json!({"n": 2}));
    runtime().block_on(agent.deliver(1));
    quiet(&site);
    let events = site.get("/v1/events?after=0");
    let new: Vec<(&str, &str)> = events.as_array().unwrap()[at_backup..]
        .iter()
        .map(|e| {
            (
                e["event"]["eventtype"].as_str().unwrap(),
                e["event"]["extrainfo"]["ruleid"].as_str().unwrap_or(""),
            )
        })
        .collect();
    assert!(new.contains(&("unwarn", "nist_V-38528")), "{new:?}");
    assert!(!new.iter().any(|(kind, _)| *kind == "up"), "the host was up all the time: {new:?}");
    let history = site.get("/v1/history?host=web1&rule=nist_V-38528");
    assert_eq!(history.as_array().unwrap().len(), 2, "fail, then pass: {history}");
    let documents = site.get("/v1/history?host=web1");
    let mut instances: Vec<&str> =
        documents.as_array().unwrap().iter().map(|row| row["instance"].as_str().unwrap()).collect();
    instances.sort_unstable();
    assert_eq!(instances, ["_auto_proc_sys", "known", "later"], "what ended after the backup is gone");
    let told = alerts(&site);
    let again = told[told_at_backup..].iter().filter(|line| line.starts_with("warn nist_V-38528")).count();
    assert_eq!(again, 0, "what was told before the backup is not told again: {told:?}");
}

#[test]
fn an_alert_that_was_delivered_after_the_backup_is_not_delivered_again() {
    let site = Site::create();
    site.script("log", "test -e @/works || exit 1; echo \"$ASSIM_eventid\" >> @/alerts");
    let _cma = site.start(&[]);
    let mut agent = Agent::new(&site, "web1");
    agent.queue(json!({MARTIANS: 0}));
    runtime().block_on(agent.deliver(1));
    wait_for("alerts to wait", 30, || (site.get("/v1/status")["outbox"] != 0).then_some(()));
    let copy = back_up(&site);
    fs::write(site.paths.root().join("works"), "").unwrap();
    quiet(&site);
    let told = alerts(&site);
    assert!(!told.is_empty());
    fs::rename(&copy, staged(&site)).unwrap();
    assert_eq!(restore(&site)["outbox"], 0);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(alerts(&site), told);
}

#[test]
fn without_a_sound_database_everything_stays_as_it_is() {
    let site = Site::create();
    let _cma = site.start(&[]);
    let agent = Agent::new(&site, "web1");
    runtime().block_on(agent.deliver(1));
    let (code, answer) = site.request("POST", "/v1/restore", Some(json!({})));
    assert_eq!(
        (code, answer["hint"].as_str().unwrap().contains("assimcli restore")),
        (409, true),
        "{answer}"
    );
    fs::write(staged(&site), vec![9; 5000]).unwrap();
    assert_eq!(site.request("POST", "/v1/restore", Some(json!({}))).0, 409);
    // Of a version that this program does not know: byte 60 is user_version (SQLite file format, section 1.3).
    let copy = back_up(&site);
    let mut bytes = fs::read(&copy).unwrap();
    bytes[60..64].copy_from_slice(&9999u32.to_be_bytes());
    fs::write(staged(&site), bytes).unwrap();
    let (code, answer) = site.request("POST", "/v1/restore", Some(json!({})));
    assert!(code == 409 && answer["error"].as_str().unwrap().contains("newer version"), "{answer}");
    let status = site.get("/v1/status");
    assert_eq!((&status["restored"], &status["hosts"]), (&Value::Null, &json!(1)), "{status}");
}

#[test]
fn who_tells_it_to_stop_between_two_databases_is_heard() {
    let site = Site::create();
    // A script that takes its time keeps the CMA between its two lives.
    site.script("slow", "touch @/running; sleep 4");
    let mut cma = site.start(&[]);
    let mut agent = Agent::new(&site, "web1");
    agent.queue(json!({"n": 1}));
    runtime().block_on(agent.deliver(1));
    wait_for("the script to run", 30, || site.paths.root().join("running").exists().then_some(()));
    fs::rename(back_up(&site), staged(&site)).unwrap();
    let ready = site.paths.run().join("cma.json");
    assert_eq!(site.request("POST", "/v1/restore", Some(json!({}))).0, 200);
    wait_for("the first life to end", 30, || (!ready.exists()).then_some(()));
    kill_process(Pid::from_raw(cma.0.id() as i32).unwrap(), Signal::TERM).unwrap();
    let ended = wait_for("the CMA to stop", 60, || cma.0.try_wait().unwrap());
    assert!(ended.success(), "{ended}: {}", site.read("log"));
    assert!(!staged(&site).exists(), "the restore that was promised is done");
    assert!(!site.paths.cma_socket().exists() && !ready.exists());
}

#[test]
fn settings_that_were_read_again_count_after_a_restore_and_a_bad_file_changes_nothing() {
    let site = Site::create();
    let _cma = site.start(&[]);
    let groups = || site.get("/v1/groups")["groups"].to_string();
    let copy = back_up(&site);
    fs::write(site.paths.cma_config(), "[groups]\nweb = [\"web*\"]\n").unwrap();
    assert_eq!(site.request("POST", "/v1/rules/reload", None).0, 200);
    assert!(groups().contains("\"web\""), "{}", groups());
    fs::write(site.paths.cma_config(), "[groupss]\n").unwrap();
    fs::rename(&copy, staged(&site)).unwrap();
    let status = restore(&site);
    assert!(status["problems"].to_string().contains("groupss"), "{status}");
    assert!(groups().contains("\"web\""), "{}", groups());
    // What lies there when it takes over counts, as at a start.
    fs::write(site.paths.cma_config(), "[groups]\ndb = [\"db*\"]\n").unwrap();
    fs::rename(back_up(&site), staged(&site)).unwrap();
    let status = restore(&site);
    assert!(!status["problems"].to_string().contains("groupss"), "{status}");
    assert!(groups().contains("\"db\"") && !groups().contains("\"web\""), "{}", groups());
}
