//! What people are told when a service stops, and what is in the graph meanwhile.

use crate::ingest::{Rig, incoming, name, removal, rig};
use cma::ingest::Sender;
use cma::ingest::report::Outcome;
use model::{Event, EventType};
use serde_json::{Value, json};
use store::query::Queries;
use store::{SqlLimits, Store};

const INSTANCE: &str = "_monitor_nagios:check_ssh::00f1e2d3c4b5a697";
const LIMITS: SqlLimits = SqlLimits { rows: 1000, milliseconds: 60_000, bytes: 1024 * 1024 };
const MONITOR: &str = "web1:nagios:check_ssh::00f1e2d3c4b5a697";

fn data(state: &str, reason: &str) -> Value {
    json!({"monitorname": MONITOR, "class": "nagios", "agent": "check_ssh", "target": "service", "process": "sshd:1",
        "pathname": "/usr/sbin/sshd", "listen": ["0.0.0.0:22", ":::22"], "state": state, "reason": reason,
        "since": "2026-11-23T10:00:00Z", "active": true, "rule": "check_ssh.mrule"})
}

/// Sends a document of a monitor; the next sequence.
fn send(rig: &mut Rig, sender: &Sender, data: &Value) -> Vec<Event> {
    let text = json!({"discovertype": "monitor", "description": "d", "host": "web1", "source": "nanoprobe",
        "instance": INSTANCE, "proxy": "local/local", "data": data})
    .to_string();
    rig.sequence += 1;
    let (outcome, events) = rig.take(sender, &incoming(rig.sequence, INSTANCE, &text));
    assert_eq!(outcome, Outcome::Durable { last: rig.sequence });
    events
}

fn kinds(events: &[Event]) -> Vec<EventType> {
    events.iter().map(|event| event.eventtype).collect()
}

fn lines(rig: &mut Rig, query: &str) -> Vec<String> {
    let (queries, _) = Queries::load(&[]);
    let query = queries.get(query).unwrap();
    let mut reader = rig.store.reader().unwrap();
    let table = reader.sql(&query.sql, &[], LIMITS).unwrap();
    query.human.lines(&table.columns, &table.rows, "-").unwrap()
}

#[test]
fn a_service_that_is_down_when_first_seen_is_news_and_one_that_is_up_is_not() {
    let mut rig = rig();
    let sender = rig.registered();
    assert_eq!(kinds(&send(&mut rig, &sender, &data("up", "is now operational"))), []);
    let mut other = self::rig();
    let sender = other.registered();
    let told = send(&mut other, &sender, &data("down", "monitoring failed with return code 2: refused"));
    assert_eq!(kinds(&told), [EventType::Down]);
}

#[test]
fn an_event_tells_scripts_what_they_need() {
    let mut rig = rig();
    let sender = rig.registered();
    send(&mut rig, &sender, &data("up", "is now operational"));
    let mut down = data("down", "monitoring failed with return code 3: text");
    down["rc"] = 3.into();
    down["output"] = "text\nand more".into();
    down["perfdata"] = "time=3".into();
    let told = send(&mut rig, &sender, &down);
    let [event] = told.as_slice() else { panic!("{told:?}") };
    let object = &event.associatedobject;
    assert_eq!((event.nodetype(), event.designation()), ("MonitorAction", "web1"));
    for (name, value) in [
        ("monitorname", json!(MONITOR)),
        ("class", json!("nagios")),
        ("type", json!("check_ssh")),
        ("status", json!("down")),
        ("reason", json!("monitoring failed with return code 3: text")),
        ("domain", json!("global")),
        ("isworking", json!(false)),
        ("isactive", json!(true)),
    ] {
        assert_eq!(object[name], value, "{name}");
    }
    for (name, value) in [
        ("comment", json!(format!("Service {MONITOR} monitoring failed with return code 3: text"))),
        ("origaddr", json!("192.0.2.7:1984")),
        ("resourcename", json!(MONITOR)),
        ("monmsg", json!("text\nand more")),
        ("listen", json!("0.0.0.0:22 :::22")),
        ("pathname", json!("/usr/sbin/sshd")),
        ("rc", json!(3)),
    ] {
        assert_eq!(event.extrainfo[name], value, "{name}");
    }
    // Delivered once: the same document again, or only other words, is nothing new.
    assert_eq!(kinds(&send(&mut rig, &sender, &down)), []);
    assert_eq!(kinds(&send(&mut rig, &sender, &data("down", "timed out"))), []);
    assert_eq!(lines(&mut rig, "downservices"), ["web1:/usr/sbin/sshd [timed out]"]);
    let up = send(&mut rig, &sender, &data("up", "is now operational"));
    assert_eq!(kinds(&up), [EventType::Up]);
    assert_eq!(up[0].extrainfo["comment"], format!("Service {MONITOR} is now operational"));
    assert_eq!(lines(&mut rig, "downservices"), [""; 0]);
    assert_eq!(
        lines(&mut rig, "allservicestatus"),
        ["web1(up) /usr/sbin/sshd Working:true [is now operational]"]
    );
}

#[test]
fn a_monitor_that_goes_while_down_ends_its_alert_and_leaves_nothing() {
    for (state, expected) in
        [("down", vec![EventType::Delete]), ("warn", vec![EventType::Delete]), ("up", vec![])]
    {
        let mut rig = rig();
        let sender = rig.registered();
        send(&mut rig, &sender, &data(state, "because"));
        rig.sequence += 1;
        let (_, told) = rig.take(&sender, &removal(rig.sequence, INSTANCE));
        assert_eq!(kinds(&told), expected, "{state}");
        if let [event] = told.as_slice() {
            assert_eq!(event.associatedobject["monitorname"], MONITOR);
            assert_eq!(
                (&event.associatedobject["status"], &event.associatedobject["isactive"]),
                (&json!("gone"), &json!(false))
            );
        }
        assert_eq!(lines(&mut rig, "allservicestatus"), [""; 0], "{state}");
        let mut reader = rig.store.reader().unwrap();
        let nodes = reader
            .sql("SELECT key FROM nodes WHERE kind IN ('MonitorAction', 'ProcessNode')", &[], LIMITS)
            .unwrap();
        assert!(nodes.rows.is_empty(), "{:?}", nodes.rows);
    }
}

#[test]
fn what_is_no_document_of_a_monitor_is_stored_and_tells_nothing() {
    let mut rig = rig();
    let sender = rig.registered();
    let mut foreign = data("down", "x");
    foreign["monitorname"] = "db1:nagios:check_ssh::1".into();
    for data in [
        foreign,
        json!({"monitorname": MONITOR}),
        json!({"monitorname": MONITOR, "state": "odd"}),
        json!({"monitorname": 7, "state": "down"}),
        json!([]),
        json!(null),
    ] {
        assert_eq!(kinds(&send(&mut rig, &sender, &data)), [], "{data}");
    }
    // What came before it is not known to be up.
    let mut odd = data("down", &"x".repeat(100_000));
    odd["listen"] = json!([7, "y".repeat(500)]);
    odd["rc"] = json!({"a": 1});
    let told = send(&mut rig, &sender, &odd);
    assert_eq!(kinds(&told), [EventType::Down]);
    assert!(told[0].associatedobject["reason"].as_str().unwrap().len() <= 4200);
    assert!(!told[0].extrainfo.contains_key("listen") && !told[0].extrainfo.contains_key("rc"));
    let mut tx = rig.store.begin().unwrap();
    assert!(tx.document(&name("web1"), INSTANCE).unwrap().is_some());
}
