//! Outages: what a verdict changes, once however often it is stored, and how hosts come back.

use crate::ingest::{Rig, applicant, envelope, events, incoming, name, rig};
use cma::ingest::register::{Registration, goodbye, remove};
use cma::ingest::verdict::{self, Decision, MAX_EXPLAINED};
use cma::ingest::{Change, Sender};
use liveness::center::{Cause, Verdict};
use liveness::rings::Place;
use model::graph::{EdgeFact, EdgeKind, NodeFact, NodeKind};
use model::{Designation, Event, EventType, GraphFacts, PublicKey, Timestamp};
use serde_json::{Value, json};
use store::{HostRow, Store};

fn verdict_on(cause: Cause, hosts: &[&str]) -> Verdict {
    Verdict {
        cause,
        hosts: hosts.iter().map(|host| name(host)).collect(),
        evidence: vec!["riker heard nothing for 2.1 s".into(), "the CMA got no answer".into()],
        silent_milliseconds: 2100,
    }
}

fn subnet() -> Cause {
    Cause::PlaceGone(Place::Subnet("10.9.0.0".parse().unwrap(), 16))
}

impl Rig {
    fn come(&mut self, host: &str, started: i64) -> (Sender, Vec<Event>, Vec<Change>) {
        let mut applicant = applicant(host, PublicKey([host.as_bytes()[host.len() - 1]; 32]));
        applicant.message.started = Timestamp(started);
        let (registration, produced) =
            self.step(|tx, context| cma::ingest::register::register(tx, context, &applicant, Timestamp(7)));
        let changes = produced.changes.clone();
        let Registration::Welcome { sender, .. } = registration else { panic!("{registration:?}") };
        (sender, events(produced), changes)
    }

    /// As if it had been given up now. Returns the hosts that are not concerned, and the events.
    fn judge(&mut self, verdict: Verdict) -> (Vec<Designation>, Vec<Event>) {
        let decision = Decision { verdict, decided: self.now, insist: false };
        let (alive, produced) = self.step(|tx, context| verdict::verdict(tx, context, &decision));
        (alive, events(produced))
    }

    fn back(&mut self, outage: &str) -> Vec<Event> {
        events(self.step(|tx, context| verdict::back(tx, context, outage)).1)
    }

    fn host(&mut self, host: &str) -> HostRow {
        self.store.begin().unwrap().host(&name(host)).unwrap().unwrap()
    }

    fn state(&mut self, host: &str) -> String {
        let host = self.host(host);
        format!("{} {}", host.status, host.reason)
    }
}

/// Hosts that registered a minute ago.
fn with(hosts: &[&str]) -> Rig {
    let mut rig = rig();
    for host in hosts {
        rig.come(host, 5);
    }
    rig.wait(60);
    rig
}

/// Event, node type, designation, status and reason.
fn headline(event: &Event) -> String {
    let text = |key: &str| event.associatedobject[key].as_str().unwrap().to_owned();
    let words =
        [event.eventtype.to_string(), text("nodetype"), text("designation"), text("status"), text("reason")];
    words.join(" ")
}

fn outage_of(changes: &[Change]) -> Option<String> {
    changes.iter().find_map(|change| match change {
        Change::Back { outage } => Some(outage.clone()),
        _ => None,
    })
}

#[test]
fn a_death_is_told_once_with_its_evidence() {
    let mut rig = with(&["web1", "web2"]);
    let (alive, told) = rig.judge(verdict_on(Cause::HostDead, &["web1"]));
    assert!(alive.is_empty());
    assert_eq!(told.iter().map(headline).collect::<Vec<_>>(), ["down Drone web1 dead HBDEAD"]);
    let extra = &told[0].extrainfo;
    assert_eq!(extra["verdict"], "host dead");
    assert_eq!(extra["evidence"], "riker heard nothing for 2.1 s\nthe CMA got no answer");
    assert_eq!((&extra["silent_milliseconds"], &extra["explains"]), (&json!(2100), &json!([])));
    assert_eq!(rig.host("web1").status_since, rig.now);
    // The CMA was killed before it knew that this was stored.
    rig.wait(1);
    let (alive, again) = rig.judge(verdict_on(Cause::HostDead, &["web1"]));
    assert_eq!((alive, again), (vec![], vec![]));
    assert_eq!(rig.state("web2"), "up STARTUP");
    // Nobody that is not known, and nobody who said goodbye.
    let sender = rig.come("web2", 5).0;
    rig.step(|tx, context| goodbye(tx, context, &sender, "HBSHUTDOWN"));
    rig.wait(60);
    assert_eq!(rig.judge(verdict_on(Cause::NanoprobeDied, &["web2", "nobody"])).1, []);
    assert_eq!(rig.state("web2"), "dead HBSHUTDOWN");
}

#[test]
fn who_was_heard_of_just_now_is_not_dead_unless_it_does_not_answer() {
    let mut rig = rig();
    rig.come("web1", 5);
    let (alive, told) = rig.judge(verdict_on(Cause::HostDead, &["web1"]));
    assert_eq!((alive, told.len()), (vec![name("web1")], 0));
    assert_eq!(rig.state("web1"), "up STARTUP");
    // A clock that was set back must not keep it alive: it was called, and did not answer.
    rig.wait(-3600);
    assert_eq!(rig.judge(verdict_on(Cause::HostDead, &["web1"])).0, [name("web1")]);
    let decision =
        Decision { verdict: verdict_on(Cause::HostDead, &["web1"]), decided: rig.now, insist: true };
    let (alive, produced) = rig.step(|tx, context| verdict::verdict(tx, context, &decision));
    assert_eq!((alive.len(), produced.events.len()), (0, 1));
}

#[test]
fn a_host_that_comes_back_says_whether_it_was_gone() {
    let mut rig = with(&["web1", "web2"]);
    rig.judge(verdict_on(Cause::NanoprobeDied, &["web1"]));
    rig.judge(verdict_on(Cause::HostDead, &["web2"]));
    rig.wait(20);
    let (_, told, changes) = rig.come("web1", 5);
    assert_eq!(told.iter().map(headline).collect::<Vec<_>>(), ["up Drone web1 up HBBACKALIVE"]);
    assert!(matches!(&changes[0], Change::Registered { host, .. } if *host == name("web1")), "{changes:?}");
    let (_, told, _) = rig.come("web2", 6);
    assert_eq!(told.iter().map(headline).collect::<Vec<_>>(), ["up Drone web2 up STARTUP"]);
    assert_eq!(rig.come("web2", 6).1, [], "once");
}

#[test]
fn many_nanoprobes_that_died_together_are_one_event() {
    let mut rig = with(&["a1", "a2", "a3"]);
    let told = rig.judge(verdict_on(Cause::NanoprobeDied, &["a1", "a2", "a3"])).1;
    let headlines: Vec<_> = told.iter().map(headline).collect();
    assert_eq!(headlines, ["down SystemNode nanoprobes of 3 hosts dead HBDEAD"]);
    let extrainfo = &told[0].extrainfo;
    assert_eq!((&extrainfo["verdict"], &extrainfo["hosts"]), (&json!("nanoprobe died"), &json!(3)));
    assert!(extrainfo["text"].as_str().unwrap().contains("the hosts answer"), "{extrainfo:?}");
    for host in ["a1", "a2", "a3"] {
        assert_eq!(rig.state(host), "dead HBDEAD");
    }
}

#[test]
fn what_a_dead_host_offered_is_part_of_its_event() {
    let mut rig = with(&["db1", "web1", "web2"]);
    let node = |kind, key: &str, properties: Value| NodeFact {
        kind,
        key: key.into(),
        properties: properties.as_object().unwrap().clone(),
    };
    for (host, program, kind, ports) in [
        ("db1", "postgres", EdgeKind::TcpService, &[5432, 22][..]),
        ("web1", "app", EdgeKind::TcpClient, &[5432]),
        ("web2", "app", EdgeKind::TcpClient, &[5432]),
    ] {
        let process = format!("{host}/{program}");
        let hosting = EdgeFact {
            source: (NodeKind::Drone, host.into()),
            kind: EdgeKind::Hosting,
            target: node(NodeKind::ProcessNode, &process, json!({"processname": program})),
        };
        let services = ports.iter().map(|port| EdgeFact {
            source: (NodeKind::ProcessNode, process.clone()),
            kind,
            target: node(
                NodeKind::IpTcpPortNode,
                &format!("@global/{port}_tcp_10.0.0.1"),
                json!({"ipaddr": "10.0.0.1", "port": port}),
            ),
        });
        let edges = std::iter::once(hosting).chain(services).collect();
        let facts = GraphFacts { edges, ..GraphFacts::default() };
        rig.step(|tx, context| tx.replace_graph(&name(host), "tcp", &facts, context.now));
    }
    let told = rig.judge(verdict_on(Cause::HostDead, &["db1"])).1;
    let lines = ["service postgres on port 5432, used by web1, web2", "service postgres on port 22"];
    assert_eq!(told[0].extrainfo["explains"], json!(lines));
    assert_eq!(told[0].extrainfo["explains_text"], lines.join("\n"));
    // The programs of a host whose nanoprobe died may well work.
    rig.wait(60);
    rig.come("db1", 5);
    rig.wait(60);
    let told = rig.judge(verdict_on(Cause::NanoprobeDied, &["db1"])).1;
    assert_eq!(told[0].extrainfo["explains"], json!([]));
}

#[test]
fn one_outage_of_many_hosts_is_one_event_and_so_is_its_end() {
    let names = ["a1", "a2", "a3", "a4"];
    let mut rig = with(&names);
    let told = rig.judge(verdict_on(subnet(), &names)).1;
    let headlines: Vec<_> = told.iter().map(headline).collect();
    assert_eq!(headlines, ["down SystemNode subnet 10.9.0.0/16 dead HBDEAD"]);
    assert_eq!(told[0].extrainfo["explains"], json!(names));
    assert_eq!(
        (&told[0].extrainfo["verdict"], &told[0].extrainfo["hosts"]),
        (&json!("subnet gone"), &json!(4))
    );
    for host in names {
        assert_eq!(rig.state(host), "dead HBDEAD");
    }
    assert_eq!(rig.judge(verdict_on(subnet(), &names)).1, [], "stored twice");
    // Three come back together.
    rig.wait(100);
    let mut outage = String::new();
    for host in &names[..3] {
        let (_, told, changes) = rig.come(host, 5);
        assert_eq!(told, [], "told together");
        assert_eq!(rig.state(host), "up HBBACKALIVE");
        outage = outage_of(&changes).unwrap();
    }
    // A restart of the CMA would find it.
    assert_eq!(verdict::outages_to_tell(rig.store.begin().unwrap().as_mut()).unwrap(), [outage.clone()]);
    // One of them dies at once: that is an event of its own, and it is not told as back.
    rig.wait(1);
    let told = rig.judge(verdict_on(Cause::HostDead, &["a3"])).1;
    assert_eq!(told.iter().map(headline).collect::<Vec<_>>(), ["down Drone a3 dead HBDEAD"]);
    let told = rig.back(&outage);
    assert_eq!(
        told.iter().map(headline).collect::<Vec<_>>(),
        ["up SystemNode subnet 10.9.0.0/16 up HBBACKALIVE"]
    );
    assert_eq!(told[0].extrainfo["explains"], json!(["a1", "a2"]));
    assert_eq!(told[0].extrainfo["still_down"], json!(1));
    assert_eq!(rig.back(&outage), [], "once");
    assert!(verdict::outages_to_tell(rig.store.begin().unwrap().as_mut()).unwrap().is_empty());
    // Who died on its own comes back on its own, also the last of the outage.
    assert_eq!(rig.come("a3", 5).1.len(), 1);
    assert_eq!(rig.come("a4", 5).1, []);
    assert_eq!(rig.back(&outage).iter().map(headline).collect::<Vec<_>>(), ["up Drone a4 up HBBACKALIVE"]);
    assert_eq!(rig.back(&outage), []);
    let (_, told, changes) = rig.come("a4", 9);
    assert_eq!((told.len(), outage_of(&changes)), (1, None), "a restart long after is its own affair");
}

#[test]
fn a_host_of_an_outage_may_be_removed_or_shut_down_before_it_is_told_of() {
    let mut rig = with(&["a1", "a2", "a3"]);
    rig.judge(verdict_on(Cause::Split, &["a1", "a2", "a3"]));
    rig.wait(60);
    let (sender, _, changes) = rig.come("a1", 5);
    rig.come("a2", 5);
    let outage = outage_of(&changes).unwrap();
    rig.step(|tx, context| goodbye(tx, context, &sender, "HBSHUTDOWN"));
    rig.step(|tx, context| remove(tx, context, &name("a2")));
    assert_eq!(rig.back(&outage), []);
    assert_eq!(rig.state("a1"), "dead HBSHUTDOWN");
    assert_eq!(rig.come("a1", 6).1.len(), 1);
    assert_eq!(rig.come("a2", 6).1.len(), 1);
    assert_eq!(rig.state("a3"), "dead HBDEAD");
}

#[test]
fn a_long_list_ends_with_how_many_more_there_are() {
    let names: Vec<String> = (0..120).map(|number| format!("h{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut rig = with(&[]);
    for host in &names {
        let key =
            PublicKey([host.bytes().fold(0, |sum: u8, byte| sum.wrapping_mul(31).wrapping_add(byte)); 32]);
        rig.register(applicant(host, key));
    }
    rig.wait(60);
    let told = rig.judge(verdict_on(Cause::Split, &names)).1;
    assert_eq!(headline(&told[0]), "down SystemNode network split dead HBDEAD");
    let lines = told[0].extrainfo["explains"].as_array().unwrap();
    assert_eq!((lines.len(), &lines[49]), (MAX_EXPLAINED, &json!("and 71 further hosts")));
    assert_eq!(told[0].extrainfo["hosts"], json!(120));
}

#[test]
fn a_switch_that_is_gone_is_named() {
    let mut rig = with(&["a1", "a2"]);
    let cause = Cause::PlaceGone(Place::Switch("00-11-22-33-44-55".into()));
    let verdict = verdict_on(cause, &["a1", "a2"]);
    let decision = Decision { verdict, decided: rig.now, insist: false };
    let (_, produced) = rig.step(|tx, context| verdict::verdict(tx, context, &decision));
    let died = |host: &str| produced.changes.contains(&Change::Died(name(host)));
    assert!(died("a1") && died("a2"), "others listen in their place: {:?}", produced.changes);
    let told = events(produced);
    assert_eq!(headline(&told[0]), "down SystemNode switch 00-11-22-33-44-55 dead HBDEAD");
    assert_eq!((told.len(), &told[0].extrainfo["verdict"]), (1, &json!("switch gone")));
}

#[test]
fn a_cma_that_is_cut_off_calls_nobody_dead() {
    let mut rig = with(&["a1", "a2"]);
    let told = rig.judge(verdict_on(Cause::CmaCutOff, &["a1", "a2"])).1;
    assert_eq!((told.len(), told[0].eventtype, told[0].nodetype()), (1, EventType::Warn, "SystemNode"));
    assert_eq!(told[0].extrainfo["reason"], "CMA cut off");
    assert_eq!(rig.judge(verdict_on(Cause::CmaCutOff, &["a1", "a2"])).1, [], "once");
    assert_eq!((rig.state("a1"), rig.state("a2")), ("up STARTUP".into(), "up STARTUP".into()));
    let again = |rig: &mut Rig| events(rig.step(|tx, context| verdict::connected_again(tx, context)).1);
    assert_eq!(again(&mut rig).iter().map(|event| event.eventtype).collect::<Vec<_>>(), [EventType::Unwarn]);
    assert_eq!(again(&mut rig), []);
}

#[test]
fn the_subnet_follows_netconfig_and_the_address() {
    let mut rig = rig();
    let (sender, _, changes) = rig.come("web1", 5);
    assert!(!changes.iter().any(|change| matches!(change, Change::Place { .. })), "nothing is known yet");
    let data = json!({"eth0": {"address": "00-16-3e-00-00-01", "carrier": true, "type": "ether", "operstate": "up",
        "mtu": 1500, "ipaddrs": {"192.0.2.7/24": {"brd": "192.0.2.255", "scope": "global", "name": "eth0"}}}});
    let text = envelope("_auto_netconfig", data).replace("proc_sys", "netconfig");
    let report = incoming(1, "_auto_netconfig", &text);
    let (_, produced) = rig.step(|tx, context| cma::ingest::report::report(tx, context, &sender, &report));
    let place = |changes: &[Change]| {
        changes.iter().find_map(|change| match change {
            Change::Place { place, .. } => Some(place.clone()),
            _ => None,
        })
    };
    let known = Place::Subnet("192.0.2.0".parse().unwrap(), 24);
    assert_eq!(place(&produced.changes), Some(known.clone()));
    assert_eq!(place(&rig.come("web1", 5).2), None, "the same address");
    let mut moved = applicant("web1", PublicKey([b'1'; 32]));
    moved.remote = "198.51.100.9:1984".parse().unwrap();
    let changes = rig.step(|tx, context| cma::ingest::register::register(tx, context, &moved, Timestamp(7)));
    assert_eq!(place(&changes.1.changes), Some(Place::Unknown), "no interface has it");
    assert_eq!(place(&rig.come("web1", 5).2), Some(known), "and back");
}

#[test]
fn a_host_that_was_copied_with_its_keys_is_told_of_once() {
    let mut rig = rig();
    let told = |events: &[Event]| {
        events
            .iter()
            .map(|event| format!("{} {}", event.eventtype, event.associatedobject["reason"]))
            .collect::<Vec<_>>()
    };
    rig.come("web1", 5);
    assert_eq!(told(&rig.come("web1", 8).1), ["up \"STARTUP\""], "a restart");
    assert_eq!(told(&rig.come("web1", 5).1), ["warn \"clone\""]);
    for start in [8, 5, 8, 5] {
        assert_eq!(rig.come("web1", start).1, [], "known");
    }
    assert_eq!(told(&rig.come("web1", 11).1), ["unwarn \"clone\"", "up \"STARTUP\""]);
    assert_eq!(told(&rig.come("web1", 12).1), ["up \"STARTUP\""]);
    assert_eq!(told(&rig.come("web1", 11).1), ["warn \"clone\""], "they are still two");
}
