//! What messages change, over a real store and without threads or network.

use cma::ingest::document::{self, Incoming};
use cma::ingest::register::{Applicant, KeyDecision, Registration, accept_key, goodbye, register, remove};
use cma::ingest::report::{Outcome, report};
use cma::ingest::{Context, Produced, Sender, evaluation};
use cma::knowledge::Knowledge;
use model::config::{CmaConfig, parse_toml};
use model::message::{Incarnation, KnownDocument, PROTOCOL_VERSION, RefusedReason, Register, Report};
use model::{Designation, DocumentHash, Event, PublicKey, Timestamp};
use rules::RuleSets;
use rules::rule_set::SourceFile;
use serde_json::{Value, json};
use std::path::Path;
use store::sqlite::SqliteStore;
use store::{Result, Store, Transaction};

const KEY: PublicKey = PublicKey([1; 32]);
const OTHER_KEY: PublicKey = PublicKey([2; 32]);
const INSTANCE: &str = "_auto_proc_sys";
const MARTIANS: &str = "net.ipv4.conf.all.log_martians";

pub struct Rig {
    pub store: SqliteStore,
    pub knowledge: Knowledge,
    pub now: Timestamp,
    ids: u32,
    pub sequence: u64,
}

pub fn name(text: &str) -> Designation {
    Designation::new(text).unwrap()
}

pub fn rig() -> Rig {
    let (sets, problems) = RuleSets::load(&[]);
    rig_with(Knowledge::new(CmaConfig::default(), sets, problems))
}

pub fn rig_with(knowledge: Knowledge) -> Rig {
    let store = SqliteStore::open(Path::new(":memory:")).unwrap();
    Rig { store, knowledge, now: Timestamp(1_795_000_000_000_000), ids: 0, sequence: 0 }
}

/// One rule set of our own: `(id, expression)`.
fn rules_of(rules: &[(&str, &str)]) -> RuleSets {
    let files: Vec<SourceFile> = rules
        .iter()
        .map(|(id, expression)| SourceFile {
            set: "BASE".into(),
            file: format!("test/BASE/proc_sys/{id}.toml"),
            layer: "test".into(),
            text: format!(
                "id = \"{id}\"\ntitle = \"t\"\nseverity = \"high\"\ncategory = \"security\"\ndiscovery = \"proc_sys\"\n\
                 expression = '{expression}'\nwhy = \"w\"\ncheck = \"c\"\nfix_now = \"n\"\nfix_permanently = \"p\"\n"
            ),
        })
        .collect();
    RuleSets::from_files(&files).0
}

impl Rig {
    pub fn step<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction, &mut Context<'_>) -> Result<T>,
    ) -> (T, Produced) {
        let ids = &mut self.ids;
        let mut event_ids = || {
            *ids += 1;
            format!("id-{ids}")
        };
        let mut context = Context {
            now: self.now,
            knowledge: &self.knowledge,
            channels: &["scripts"],
            event_ids: &mut event_ids,
            produced: Produced::default(),
        };
        let mut tx = self.store.begin().unwrap();
        let result = work(tx.as_mut(), &mut context).unwrap();
        tx.commit().unwrap();
        (result, context.produced)
    }

    pub fn wait(&mut self, seconds: i64) {
        self.now = Timestamp(self.now.0 + seconds * 1_000_000);
    }

    pub fn register(&mut self, applicant: Applicant) -> (Registration, Vec<Event>) {
        let (registration, produced) =
            self.step(|tx, context| register(tx, context, &applicant, Timestamp(7)));
        (registration, events(produced))
    }

    pub fn registered(&mut self) -> Sender {
        match self.register(applicant("web1", KEY)).0 {
            Registration::Welcome { sender, .. } => sender,
            other => panic!("{other:?}"),
        }
    }

    pub fn take(&mut self, sender: &Sender, incoming: &Incoming) -> (Outcome, Vec<Event>) {
        let (outcome, produced) = self.step(|tx, context| report(tx, context, sender, incoming));
        (outcome, events(produced))
    }

    /// Sends the next report with this `data`.
    fn send(&mut self, sender: &Sender, data: Value) -> (Outcome, Vec<Event>) {
        self.sequence += 1;
        let incoming = incoming(self.sequence, INSTANCE, &envelope(INSTANCE, data));
        self.take(sender, &incoming)
    }

    fn status_of(&mut self, rule: &str) -> Option<String> {
        let mut tx = self.store.begin().unwrap();
        tx.rule_results(&name("web1"), INSTANCE)
            .unwrap()
            .into_iter()
            .find(|row| row.rule_id == rule)
            .map(|row| row.status)
    }
}

pub fn events(produced: Produced) -> Vec<Event> {
    produced.events.into_iter().map(|(_, event)| event).collect()
}

/// Type and rule, category score or reason of each event.
pub fn told(events: &[Event]) -> Vec<String> {
    let what = |event: &Event| {
        let extra = &event.extrainfo;
        let name = ["ruleid", "newscore", "reason"].into_iter().find(|name| extra.contains_key(*name));
        name.map_or(String::new(), |name| format!(" {name}={}", extra[name].to_string().trim_matches('"')))
    };
    events.iter().map(|event| format!("{}{}", event.eventtype, what(event))).collect()
}

pub fn applicant(designation: &str, key: PublicKey) -> Applicant {
    Applicant {
        key,
        remote: "192.0.2.7:4000".parse().unwrap(),
        pinned_to: None,
        message: Register {
            protocol: PROTOCOL_VERSION,
            designation: designation.into(),
            incarnation: Incarnation([9; 16]),
            software: "0.1\u{1b}[2J".into(),
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
    }
}

pub fn envelope(instance: &str, data: Value) -> String {
    json!({"discovertype": "proc_sys", "description": "kernel settings", "host": "whatever", "source": "nanoprobe",
        "instance": instance, "proxy": "local/local", "data": data})
    .to_string()
}

pub fn incoming(sequence: u64, instance: &str, text: &str) -> Incoming {
    let report = Report {
        sequence,
        instance: instance.into(),
        hash: DocumentHash::of(text.as_bytes()),
        body: Some(wire::body::compress(text.as_bytes()).unwrap().into()),
        changed_after: Timestamp(1_794_999_999_000_000),
        seen: Timestamp(1_794_999_999_500_000),
        superseded: 0,
    };
    document::open(report, wire::body::decompress)
}

pub fn removal(sequence: u64, instance: &str) -> Incoming {
    let report = Report {
        sequence,
        instance: instance.into(),
        hash: DocumentHash([0; 32]),
        body: None,
        changed_after: Timestamp(1),
        seen: Timestamp(2),
        superseded: 0,
    };
    document::open(report, wire::body::decompress)
}

#[test]
fn a_rule_fails_and_is_mended() {
    let mut rig = rig();
    let sender = rig.registered();
    rig.send(&sender, json!({MARTIANS: 1}));
    assert_eq!(rig.status_of("nist_V-38528").as_deref(), Some("pass"));
    rig.wait(10);
    let (outcome, broken) = rig.send(&sender, json!({MARTIANS: 0}));
    assert_eq!(outcome, Outcome::Durable { last: 2 });
    assert_eq!(told(&broken), ["warn ruleid=nist_V-38528", "warn newscore=1.0"]);
    let event = &broken[0];
    assert_eq!(event.designation(), "web1");
    assert_eq!(event.associatedobject["status"], "up");
    for (field, value) in [
        ("category", "security"),
        ("severity", "low"),
        ("instance", INSTANCE),
        ("discovery_type", "proc_sys"),
    ] {
        assert_eq!(event.extrainfo[field], value, "{field}");
    }
    assert_eq!(event.extrainfo["values"][MARTIANS], 0);
    assert!(event.extrainfo["fix_now"].as_str().unwrap().contains("sysctl -w"));
    assert_eq!(event.extrainfo["committed"], rig.now.to_utc_text());
    assert_eq!(event.extrainfo["seen"], Timestamp(1_794_999_999_500_000).to_utc_text());
    let (_, mended) = rig.send(&sender, json!({MARTIANS: 1}));
    assert_eq!(told(&mended), ["unwarn ruleid=nist_V-38528", "unwarn newscore=0.0"]);
    let (_, again) = rig.send(&sender, json!({MARTIANS: 1, "other": 2}));
    assert!(again.is_empty(), "{again:?}");
}

#[test]
fn the_first_document_claims_no_time_of_change() {
    let mut rig = rig();
    let sender = rig.registered();
    let known = incoming(1, INSTANCE, &envelope(INSTANCE, json!({MARTIANS: 0})));
    let (_, events) = rig.take(&sender, &Incoming { changed_after: Timestamp(0), ..known });
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| !event.extrainfo.contains_key("changed_after")), "{events:?}");
    let later = incoming(2, INSTANCE, &envelope(INSTANCE, json!({MARTIANS: 1})));
    let (_, events) = rig.take(&sender, &later);
    assert!(events.iter().all(|event| event.extrainfo.contains_key("changed_after")) && !events.is_empty());
}

#[test]
fn failures_at_the_first_look_are_counted_in_the_event_of_the_score() {
    let mut rig = rig();
    let sender = rig.registered();
    let (_, first) = rig.send(&sender, json!({MARTIANS: 0}));
    assert!(!first[0].extrainfo.contains_key("oldstatus"), "{first:?}");
    assert_eq!(first[1].extrainfo["first_failures"], 1);
    rig.send(&sender, json!({MARTIANS: 1}));
    let (_, again) = rig.send(&sender, json!({MARTIANS: 0}));
    assert_eq!(again[0].extrainfo["oldstatus"], "pass");
    assert!(!again[1].extrainfo.contains_key("first_failures"), "{again:?}");
}

#[test]
fn a_rule_that_can_no_longer_judge_is_unwarned() {
    let mut rig = rig();
    let sender = rig.registered();
    rig.send(&sender, json!({MARTIANS: 0}));
    let (_, events) = rig.send(&sender, json!({"unrelated": 0}));
    assert_eq!(told(&events), ["unwarn ruleid=nist_V-38528", "unwarn newscore=0.0"]);
    assert_eq!(rig.status_of("nist_V-38528").as_deref(), Some("NA"));
}

#[test]
fn repeats_change_nothing_and_gaps_are_not_taken() {
    let mut rig = rig();
    let sender = rig.registered();
    let first = incoming(1, INSTANCE, &envelope(INSTANCE, json!({MARTIANS: 0})));
    let later = incoming(3, INSTANCE, &envelope(INSTANCE, json!({MARTIANS: 1})));
    assert_eq!(rig.take(&sender, &later).0, Outcome::Gap { last: 0 });
    let (outcome, events) = rig.take(&sender, &first);
    assert_eq!((outcome, events.len()), (Outcome::Durable { last: 1 }, 2));
    let (outcome, events) = rig.take(&sender, &first);
    assert_eq!((outcome, events.len()), (Outcome::Durable { last: 1 }, 0), "sent twice, stored once");
    assert_eq!(rig.take(&sender, &later).0, Outcome::Gap { last: 1 });
    let wrapped = Incoming { sequence: u64::MAX, ..later };
    assert_eq!(rig.take(&sender, &wrapped).0, Outcome::Gap { last: 1 });
    assert_eq!(rig.status_of("nist_V-38528").as_deref(), Some("fail"));
}

#[test]
fn refused_reports_are_told_once_and_do_not_block_the_queue() {
    let mut rig = rig();
    let sender = rig.registered();
    let bad = |sequence| incoming(sequence, INSTANCE, &envelope("another", json!({})));
    let (outcome, events) = rig.take(&sender, &bad(1));
    assert!(
        matches!(&outcome, Outcome::Rejected { last: 1, reason } if reason.contains("instance")),
        "{outcome:?}"
    );
    assert_eq!(told(&events), ["warn reason=report refused"]);
    let (outcome, events) = rig.take(&sender, &bad(2));
    assert!(matches!(outcome, Outcome::Rejected { last: 2, .. }) && events.is_empty());
    rig.sequence = 2;
    let (outcome, events) = rig.send(&sender, json!({}));
    assert_eq!(
        (outcome, told(&events)),
        (Outcome::Durable { last: 3 }, vec!["unwarn reason=report refused".to_owned()])
    );
    assert!(rig.send(&sender, json!({"x": 1})).1.is_empty());
}

#[test]
fn a_misspelt_rule_harms_only_itself() {
    let sets = rules_of(&[("good", "EQ($a, 1)"), ("misspelt", "EQQ($a, 1)")]);
    let mut rig = rig_with(Knowledge::new(CmaConfig::default(), sets, vec![]));
    let sender = rig.registered();
    let (outcome, events) = rig.send(&sender, json!({"a": 2}));
    assert_eq!(
        (outcome, told(&events)),
        (Outcome::Durable { last: 1 }, vec!["warn ruleid=good".to_owned(), "warn newscore=3.0".into()])
    );
    assert_eq!(rig.status_of("misspelt").as_deref(), Some("NA"));
}

#[test]
fn an_instance_that_is_gone_takes_its_warnings_with_it() {
    let mut rig = rig();
    let sender = rig.registered();
    rig.send(&sender, json!({MARTIANS: 0}));
    let (outcome, events) = rig.take(&sender, &removal(2, INSTANCE));
    assert_eq!(outcome, Outcome::Durable { last: 2 });
    assert_eq!(told(&events), ["unwarn ruleid=nist_V-38528", "unwarn newscore=0.0"]);
    assert_eq!(rig.status_of("nist_V-38528"), None);
    assert_eq!(rig.store.begin().unwrap().documents(&name("web1")).unwrap().len(), 0);
    assert_eq!(rig.take(&sender, &removal(3, "never_there")).0, Outcome::Durable { last: 3 });
}

#[test]
fn changed_rules_are_applied_to_what_is_there() {
    let mut rig = rig_with(Knowledge::new(
        CmaConfig::default(),
        rules_of(&[("r", "EQ($a, 1)"), ("s", "EQ($a, 2)")]),
        vec![],
    ));
    let sender = rig.registered();
    assert_eq!(told(&rig.send(&sender, json!({"a": 2})).1), ["warn ruleid=r", "warn newscore=3.0"]);
    let again = |rig: &mut Rig| {
        let (_, produced) = rig.step(|tx, context| evaluation::again(tx, context, &name("web1"), INSTANCE));
        told(&events(produced))
    };
    assert!(again(&mut rig).is_empty());
    rig.knowledge = Knowledge::new(CmaConfig::default(), rules_of(&[("s", "EQ($a, 3)")]), vec![]);
    assert_eq!(
        again(&mut rig),
        ["warn ruleid=s", "unwarn ruleid=r"],
        "the sum is the same, so no score event"
    );
    let config: CmaConfig = parse_toml("cma.toml", "[domains]\nlab = [\"web*\"]\n").unwrap();
    rig.knowledge = Knowledge::new(config, rules_of(&[("s", "EQ($a, 2)")]), vec![]);
    assert_eq!(again(&mut rig), ["unwarn ruleid=s", "unwarn newscore=0.0"]);
    assert_eq!(rig.store.begin().unwrap().host(&name("web1")).unwrap().unwrap().domain, "lab");
}

#[test]
fn a_clock_set_back_keeps_history_in_order() {
    let mut rig = rig();
    let sender = rig.registered();
    rig.send(&sender, json!({MARTIANS: 1}));
    rig.wait(-86_400);
    rig.send(&sender, json!({MARTIANS: 0}));
    rig.wait(-86_400);
    rig.send(&sender, json!({MARTIANS: 1}));
    let mut reader = rig.store.reader().unwrap();
    let history = reader.rule_history(&name("web1"), "nist_V-38528").unwrap();
    assert_eq!(history.iter().map(|row| row.status.as_str()).collect::<Vec<_>>(), ["pass", "fail", "pass"]);
    assert!(history.iter().all(|row| row.until.is_none_or(|until| until > row.since)), "{history:?}");
}

#[test]
fn registration_is_an_event_only_when_the_host_came_up() {
    let mut rig = rig();
    let (registration, up) = rig.register(applicant("Web1", KEY));
    let Registration::Welcome { sender, welcome, config } = registration else { panic!() };
    assert_eq!(
        (sender.designation.as_str(), welcome.last_sequence, welcome.started),
        ("web1", 0, Timestamp(7))
    );
    assert_eq!(told(&up), ["up"]);
    assert_eq!(up[0].associatedobject["reason"], "STARTUP");
    assert!(!up[0].extrainfo["software"].as_str().unwrap().contains('\u{1b}'));
    assert!(welcome.configure.is_some_and(|c| DocumentHash::of(c.json.as_bytes()) == config));
    let mut back = applicant("web1", KEY);
    back.message.config = Some(config);
    let (registration, none) = rig.register(back);
    assert!(none.is_empty(), "a reconnect is no news");
    assert!(matches!(registration, Registration::Welcome { welcome, .. } if welcome.configure.is_none()));
    let mut restarted = applicant("web1", KEY);
    restarted.message.started = Timestamp(6);
    assert_eq!(rig.register(restarted).1[0].extrainfo["restarted"], true);
    let (_, produced) = rig.step(|tx, context| goodbye(tx, context, &sender, "HBSHUTDOWN"));
    let down = events(produced);
    assert_eq!(told(&down), ["down"]);
    assert_eq!(
        (&down[0].associatedobject["status"], &down[0].associatedobject["reason"]),
        (&json!("dead"), &json!("HBSHUTDOWN"))
    );
    let (_, produced) = rig.step(|tx, context| goodbye(tx, context, &sender, "HBSHUTDOWN"));
    assert!(produced.events.is_empty());
    let mut started_again = applicant("web1", KEY);
    started_again.message.started = Timestamp(8);
    assert_eq!(told(&rig.register(started_again).1), ["up"]);
}

#[test]
fn another_key_is_refused_visible_and_can_be_accepted() {
    let mut rig = rig();
    let sender = rig.registered();
    for attempt in 0..3 {
        let (registration, told_now) = rig.register(applicant("web1", OTHER_KEY));
        let Registration::Refused(refused) = registration else { panic!() };
        assert_eq!(refused.reason, RefusedReason::KeyMismatch);
        assert!(refused.text.contains("accept-key web1"), "{}", refused.text);
        assert_eq!(told(&told_now), if attempt == 0 { vec!["warn reason=key mismatch"] } else { vec![] });
    }
    assert!(matches!(rig.send(&sender, json!({})).0, Outcome::Durable { .. }), "the pinned key goes on");
    assert!(
        rig.register(applicant("web1", PublicKey([3; 32]))).1.is_empty(),
        "made-up keys are not one event each"
    );
    let (decision, produced) = rig.step(|tx, context| accept_key(tx, context, &name("web1")));
    assert_eq!(decision, KeyDecision::Accepted);
    assert_eq!((produced.unpinned[0].1, produced.pinned[0].1), (KEY, OTHER_KEY));
    assert_eq!(told(&events(produced)), ["unwarn reason=key mismatch"]);
    assert_eq!(rig.send(&sender, json!({"x": 1})).0, Outcome::Unregistered, "the old key is out");
    assert!(matches!(rig.register(applicant("web1", OTHER_KEY)).0, Registration::Welcome { .. }));
    assert_eq!(
        rig.step(|tx, context| accept_key(tx, context, &name("web1"))).0,
        KeyDecision::NothingToAccept
    );
    assert_eq!(rig.step(|tx, context| accept_key(tx, context, &name("nobody"))).0, KeyDecision::UnknownHost);
}

#[test]
fn registrations_that_are_refused() {
    let mut rig = rig();
    rig.registered();
    let refusal = |rig: &mut Rig, applicant: Applicant| match rig.register(applicant).0 {
        Registration::Refused(refused) => (refused.reason, refused.text),
        other => panic!("{other:?}"),
    };
    let mut old = applicant("web2", OTHER_KEY);
    old.message.protocol = 99;
    assert_eq!(refusal(&mut rig, old).0, RefusedReason::Protocol);
    let (reason, text) = refusal(&mut rig, applicant("we b\u{1b}2", OTHER_KEY));
    assert_eq!(reason, RefusedReason::Designation);
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let cloned = Applicant { pinned_to: Some(name("web1")), ..applicant("web2", KEY) };
    let (reason, text) = refusal(&mut rig, cloned);
    assert_eq!(reason, RefusedReason::Designation);
    assert!(text.contains("web1") && text.contains("hosts remove"), "{text}");
}

#[test]
fn the_welcome_asks_for_documents_that_are_not_here() {
    let mut rig = rig();
    let sender = rig.registered();
    rig.send(&sender, json!({MARTIANS: 1}));
    let known = DocumentHash::of(envelope(INSTANCE, json!({MARTIANS: 1})).as_bytes());
    let mut back = applicant("web1", KEY);
    let document = |instance: &str, hash| KnownDocument { instance: instance.into(), hash };
    back.message.documents =
        vec![document(INSTANCE, known), document("gone", known), document(INSTANCE, DocumentHash([7; 32]))];
    let Registration::Welcome { welcome, .. } = rig.register(back).0 else { panic!() };
    assert_eq!((welcome.wanted, welcome.last_sequence), (vec!["gone".to_owned(), INSTANCE.to_owned()], 1));
}

#[test]
fn a_removed_host_is_forgotten_and_may_come_back() {
    let mut rig = rig();
    let sender = rig.registered();
    rig.send(&sender, json!({MARTIANS: 0}));
    let (removed, produced) = rig.step(|tx, context| remove(tx, context, &name("web1")));
    assert!(removed && produced.unpinned == [(name("web1"), KEY)]);
    assert_eq!(told(&events(produced)), ["delete reason=removed by an administrator"]);
    assert_eq!(rig.send(&sender, json!({})).0, Outcome::Unregistered);
    assert!(!rig.step(|tx, context| remove(tx, context, &name("web1"))).0);
    assert!(matches!(rig.register(applicant("web1", OTHER_KEY)).0, Registration::Welcome { .. }));
}
