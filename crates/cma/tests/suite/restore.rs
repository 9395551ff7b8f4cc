//! A running CMA goes on with another database.

use crate::site::{Agent, Running, Site, runtime, wait_for};
use model::message::{FromCma, Incarnation};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
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

/// Made by the version with three steps of tables; this takes one of them back and adds so many rows that the way to the present
/// tables takes a while.
fn large_old_database(path: &Path) {
    let fixture = include_bytes!("../../../store/tests/fixtures/schema-3.sqlite.zst");
    fs::write(path, wire::body::decompress(fixture).unwrap()).unwrap();
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut find = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'view'").unwrap();
    let views: Vec<String> = find.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    for view in views {
        connection.execute_batch(&format!("DROP VIEW {view}")).unwrap();
    }
    let undo = "DROP TABLE claim; DROP TABLE claimant; DROP TABLE reverse_name; DROP INDEX node_link_address;
        DROP INDEX node_service; DROP INDEX node_system; DROP INDEX node_child; DROP INDEX edge_service;
        DROP INDEX edge_client; DROP INDEX edge_cable; ALTER TABLE node DROP COLUMN claimed; PRAGMA user_version = 2;";
    connection.execute_batch(undo).unwrap();
    let rows = format!(
        "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF;
         INSERT INTO node(id, kind, key, properties, changed) VALUES (1, 'NICNode', 'made-up', '{{}}', 1);
        WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {ROWS})
         INSERT INTO edge SELECT 1, 'made-up ' || n, 1, 'tcpclient', 1, 1 FROM n"
    );
    connection.execute_batch(&rows).unwrap();
}

const ROWS: i64 = 600_000;

fn made_up(path: &Path) -> i64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    let count = "SELECT count(*) FROM edge WHERE instance LIKE 'made-up %'";
    connection.query_row(count, [], |row| row.get(0)).unwrap()
}

#[test]
fn who_tells_it_to_stop_while_a_restored_database_is_migrated_need_not_wait_for_that() {
    let site = Site::create();
    let mut cma = site.start(&[]);
    runtime().block_on(Agent::new(&site, "web1").deliver(1));
    large_old_database(&staged(&site));
    let database = site.paths.database();
    assert_eq!(site.request("POST", "/v1/restore", Some(json!({}))).0, 200);
    wait_for("the copy before the migration", 120, || (!sqlite::copies(&database).is_empty()).then_some(()));
    kill_process(Pid::from_raw(cma.0.id() as i32).unwrap(), Signal::TERM).unwrap();
    let ended = wait_for("the CMA to stop", 120, || cma.0.try_wait().unwrap());
    assert!(ended.success(), "{ended}: {}", site.read("log"));
    // It did not come to the end first, and nothing is lost: not the restored one, not what was there before, not the copy.
    assert_eq!(sqlite::identify(&database).unwrap().schema, 2, "{}", site.read("log"));
    assert!(!staged(&site).exists());
    assert_eq!(other_files(&site).len(), 1, "{:?}", other_files(&site));
    let copy = sqlite::copies(&database).remove(0).1;
    assert_eq!([made_up(&database), made_up(&copy)], [ROWS, ROWS]);

    let _cma = site.start(&[]);
    let status = site.get("/v1/status");
    assert!(status["restored"].is_string(), "{status}");
    assert_eq!(made_up(&database), ROWS);
    assert_eq!(sqlite::identify(&database).unwrap().schema, sqlite::SCHEMA_VERSION);
    assert_eq!(sqlite::copies(&database).len(), 1);
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
