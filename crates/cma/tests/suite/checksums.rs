//! A replaced program wakes people, an upgraded one only tells them.

use cma::ingest::register::{Applicant, Registration, register};
use cma::ingest::report::{Outcome, report};
use cma::ingest::{Context, Produced, Sender, document};
use cma::knowledge::Knowledge;
use model::config::CmaConfig;
use model::message::{Incarnation, PROTOCOL_VERSION, Register, Report};
use model::{DocumentHash, Event, EventType, PublicKey, Timestamp};
use rules::RuleSets;
use serde_json::{Value, json};
use std::path::Path;
use store::sqlite::SqliteStore;
use store::{Result, Store, Transaction};

const INSTANCE: &str = "_auto_checksumdiscovery";
const SSHD: &str = "/usr/sbin/sshd";
const SSL: &str = "/usr/lib/libssl.so.3";

struct Rig {
    store: SqliteStore,
    knowledge: Knowledge,
    sequence: u64,
}

impl Rig {
    fn step<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction, &mut Context<'_>) -> Result<T>,
    ) -> (T, Vec<Event>) {
        self.sequence += 1;
        let now = Timestamp(1_795_000_000_000_000 + self.sequence as i64 * 1_000_000);
        let mut number = 0;
        let prefix = self.sequence;
        let mut event_ids = || {
            number += 1;
            format!("id-{prefix}-{number}")
        };
        let mut context = Context {
            now,
            knowledge: &self.knowledge,
            channels: &["scripts"],
            event_ids: &mut event_ids,
            produced: Produced::default(),
        };
        let mut tx = self.store.begin().unwrap();
        let result = work(tx.as_mut(), &mut context).unwrap();
        tx.commit().unwrap();
        (result, context.produced.events.into_iter().map(|(_, event)| event).collect())
    }

    fn send(&mut self, sender: &Sender, sequence: u64, sums: Value, packages: Value) -> Vec<Event> {
        let text = json!({"discovertype": "checksums", "description": "checksums", "host": "web1", "source": "nanoprobe",
            "instance": INSTANCE, "proxy": "local/local", "data": sums, "packages": packages,
            "sumcmd": "/usr/bin/sha256sum"})
        .to_string();
        let incoming = document::open(
            Report {
                sequence,
                instance: INSTANCE.into(),
                hash: DocumentHash::of(text.as_bytes()),
                body: Some(wire::body::compress(text.as_bytes()).unwrap().into()),
                changed_after: Timestamp(1),
                seen: Timestamp(2),
                superseded: 0,
            },
            wire::body::decompress,
        );
        let (outcome, events) = self.step(|tx, context| report(tx, context, sender, &incoming));
        assert_eq!(outcome, Outcome::Durable { last: sequence });
        events
    }
}

fn rig() -> (Rig, Sender) {
    let (sets, problems) = RuleSets::load(&[]);
    let knowledge = Knowledge::new(CmaConfig::default(), sets, problems);
    let store = SqliteStore::open(Path::new(":memory:")).unwrap();
    let mut rig = Rig { store, knowledge, sequence: 0 };
    let applicant = Applicant {
        key: PublicKey([1; 32]),
        remote: "192.0.2.7:4000".parse().unwrap(),
        pinned_to: None,
        message: Register {
            protocol: PROTOCOL_VERSION,
            designation: "web1".into(),
            incarnation: Incarnation([9; 16]),
            software: "0.1".into(),
            clock: Timestamp(1),
            started: Timestamp(5),
            port: 1984,
            config: None,
            documents: vec![],
            session: None,
            watch: None,
            listen: None,
            token: None,
            machine: None,
            cma_keys: None,
        },
    };
    match rig.step(|tx, context| register(tx, context, &applicant, Timestamp(7))).0 {
        Registration::Welcome { sender, .. } => (rig, sender),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_replaced_program_and_an_upgrade_are_told_apart() {
    let (mut rig, sender) = rig();
    let sums = |sshd: &str, ssl: &str| json!({SSHD: sshd, SSL: ssl});
    let packages = |ssl: &str| json!({SSHD: "openssh-server 1:9.2", SSL: format!("libssl3 {ssl}")});
    let first = rig.send(&sender, 1, sums("aa", "11"), packages("3.0.1"));
    assert!(first.is_empty(), "nothing is known before: {first:?}");

    let replaced = rig.send(&sender, 2, sums("bb", "11"), packages("3.0.1"));
    let [event] = replaced.as_slice() else { panic!("{replaced:?}") };
    assert_eq!(
        (event.eventtype, event.designation(), event.nodetype()),
        (EventType::Update, "web1", "Drone")
    );
    let extra = &event.extrainfo;
    assert_eq!(extra["CHANGETYPE"], "checksums");
    assert_eq!(extra["changes"], json!({SSHD: ["aa", "bb"]}));
    assert_eq!((&extra["unexplained"], &extra["explained"]), (&json!([SSHD]), &json!({})));
    assert_eq!((&extra["severity"], &extra["unexplained_count"]), (&json!("high"), &json!(1)));
    assert_eq!(extra["text"], format!("1 file changed although no package did: {SSHD}"));

    let upgraded = rig.send(&sender, 3, sums("bb", "22"), packages("3.0.2"));
    let [event] = upgraded.as_slice() else { panic!("{upgraded:?}") };
    let extra = &event.extrainfo;
    assert_eq!(extra["explained"], json!({SSL: "package libssl3 3.0.1 -> 3.0.2"}));
    assert_eq!((&extra["unexplained"], &extra["severity"]), (&json!([]), &json!("low")));

    let same_files = rig.send(&sender, 4, sums("bb", "22"), packages("3.0.3"));
    assert!(same_files.is_empty(), "no file changed: {same_files:?}");

    let fewer = rig.send(&sender, 5, json!({SSL: "22", "/usr/sbin/nginx": "77"}), packages("3.0.3"));
    let extra = &fewer[0].extrainfo;
    assert_eq!((&extra["removed"], &extra["added"]), (&json!([SSHD]), &json!(["/usr/sbin/nginx"])));
}
