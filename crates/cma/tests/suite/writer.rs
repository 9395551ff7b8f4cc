//! The writer thread: groups, one request's failure, a disk that is full for a while.

use crate::site::{host, runtime, wait_for};
use cma::commit::{Committer, Done, Outlets, Work, Writer};
use cma::health::Health;
use cma::ingest::Sender;
use cma::ingest::document::{self, Incoming};
use cma::ingest::register::Registration;
use cma::ingest::report::Outcome;
use cma::knowledge::{Knowledge, SharedKnowledge};
use model::config::CmaConfig;
use model::message::{Incarnation, PROTOCOL_VERSION, Register, Report};
use model::{DocumentHash, PublicKey, Timestamp};
use rules::RuleSets;
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use store::sqlite::SqliteStore;
use store::{OutboxRow, Reader, Result, Store, StoreError, Transaction};
use tokio::sync::{mpsc, watch};

/// A store whose disk is full while `full` is set, and that breaks off `panics` times.
struct Full {
    inner: SqliteStore,
    full: Arc<AtomicBool>,
    panics: Arc<AtomicUsize>,
}

impl Store for Full {
    fn begin(&mut self) -> Result<Box<dyn Transaction + '_>> {
        if self.full.load(Ordering::SeqCst) {
            return Err(StoreError::Unwritable("the disk is full".into()));
        }
        let left = self.panics.load(Ordering::SeqCst);
        if left > 0 {
            self.panics.store(left - 1, Ordering::SeqCst);
            panic!("a defect, made for this test");
        }
        self.inner.begin()
    }

    fn reader(&self) -> Result<Box<dyn Reader>> {
        self.inner.reader()
    }

    fn optimize(&mut self) -> Result<()> {
        self.inner.optimize()
    }
}

struct Rig {
    writer: Writer,
    health: Arc<Health>,
    full: Arc<AtomicBool>,
    panics: Arc<AtomicUsize>,
    outbox: mpsc::UnboundedReceiver<OutboxRow>,
    newest: watch::Receiver<i64>,
}

fn rig(path: &Path) -> Rig {
    let full = Arc::new(AtomicBool::new(false));
    let panics = Arc::new(AtomicUsize::new(0));
    let store = Full { inner: SqliteStore::open(path).unwrap(), full: full.clone(), panics: panics.clone() };
    let (sets, problems) = RuleSets::load(&[]);
    let (queue, requests) = mpsc::channel(1000);
    let (outbox_sender, outbox) = mpsc::unbounded_channel();
    let (event_sender, newest) = watch::channel(0);
    let (changes, _) = mpsc::unbounded_channel();
    let (look_at, _) = mpsc::unbounded_channel();
    let health = Arc::new(Health::default());
    let committer = Committer {
        store: Box::new(store),
        knowledge: SharedKnowledge::new(Knowledge::new(CmaConfig::default(), sets, problems)),
        health: health.clone(),
        metrics: Default::default(),
        outlets: Outlets {
            outbox: outbox_sender,
            newest_event: event_sender,
            changes,
            look_at,
            addresses: Arc::default(),
            facts: Default::default(),
            key_files: Box::new(|_| {}),
        },
        pinned: HashMap::new(),
        started: Timestamp(1),
    };
    std::thread::spawn(move || committer.run(requests));
    Rig { writer: Writer::new(queue), health, full, panics, outbox, newest }
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Rig {
    async fn register(&self, name: &str, key: PublicKey) -> Sender {
        let message = Register {
            protocol: PROTOCOL_VERSION,
            designation: name.into(),
            incarnation: Incarnation([1; 16]),
            software: String::new(),
            clock: Timestamp(1),
            started: Timestamp(1),
            port: 0,
            config: None,
            documents: vec![],
            session: None,
            watch: None,
            listen: None,
            token: None,
            machine: None,
            cma_keys: None,
        };
        let work = Work::Register { key, remote: "127.0.0.1:9".parse().unwrap(), message };
        match self.writer.ask(work, PATIENCE).await.unwrap() {
            Done::Registered(Registration::Welcome { sender, .. }) => sender,
            other => panic!("{other:?}"),
        }
    }
}

fn incoming(sequence: u64, instance: &str, data: serde_json::Value) -> Incoming {
    let text = json!({"discovertype": "proc_sys", "description": "d", "host": "x", "source": "s", "instance": instance,
        "proxy": "local/local", "data": data})
    .to_string();
    let report = Report {
        sequence,
        instance: instance.into(),
        hash: DocumentHash::of(text.as_bytes()),
        body: Some(wire::body::compress(text.as_bytes()).unwrap().into()),
        changed_after: Timestamp(1),
        seen: Timestamp(2),
        superseded: 0,
    };
    document::open(report, wire::body::decompress)
}

#[test]
fn while_the_disk_is_full_nothing_is_acknowledged_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = rig(&directory.path().join("db"));
    runtime().block_on(async {
        let sender = rig.register("web1", PublicKey([1; 32])).await;
        // The answer comes before the outlets are told of the event that the host is up.
        wait_for("the event of the registration", 20, || (*rig.newest.borrow() > 0).then_some(()));
        while rig.outbox.try_recv().is_ok() {}
        let before = *rig.newest.borrow();
        rig.full.store(true, Ordering::SeqCst);
        let work = Work::Report {
            sender: sender.clone(),
            incoming: incoming(1, "_auto_proc_sys", json!({"net.ipv4.conf.all.log_martians": 0})),
        };
        let mut answer = rig.writer.submit(work, None).await.unwrap();
        wait_for("the problem to be known", 20, || rig.health.store_problem());
        assert!(rig.health.problems()[0].contains("the disk is full"));
        assert!(
            tokio::time::timeout(Duration::from_millis(300), &mut answer).await.is_err(),
            "acknowledged on a full disk"
        );
        assert_eq!(*rig.newest.borrow(), before);
        assert!(rig.outbox.try_recv().is_err(), "nothing is signalled before it is committed");
        assert!(rig.writer.ask(Work::Ping, Duration::from_millis(300)).await.is_err());
        rig.full.store(false, Ordering::SeqCst);
        let done = tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap();
        assert_eq!(done, Done::Report(Outcome::Durable { last: 1 }));
        assert_eq!(rig.writer.ask(Work::Ping, PATIENCE).await, Ok(Done::Written));
        assert_eq!(rig.health.store_problem(), None);
        let mut rows = vec![];
        while let Ok(row) = rig.outbox.try_recv() {
            rows.push((row.channel, row.event.eventtype.as_str()));
        }
        let expected: Vec<(String, &str)> =
            ["scripts", "syslog"].repeat(2).into_iter().map(|channel| (channel.to_owned(), "warn")).collect();
        assert_eq!(rows, expected);
    });
}

#[test]
fn a_request_that_fails_for_good_affects_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    drop(SqliteStore::open(&path).unwrap());
    // The database itself refuses one instance, in the middle of a group.
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(
            "CREATE TRIGGER poison BEFORE INSERT ON document_period WHEN NEW.instance = 'poison' \
             BEGIN SELECT RAISE(ABORT, 'poisoned'); END",
        )
        .unwrap();
    let rig = rig(&path);
    runtime().block_on(async {
        let (a, b) =
            (rig.register("a", PublicKey([1; 32])).await, rig.register("b", PublicKey([2; 32])).await);
        rig.full.store(true, Ordering::SeqCst);
        let mut answers = vec![];
        // All in one group, because the disk is full until all wait.
        for (sender, sequence, instance) in
            [(&a, 1, "one"), (&a, 2, "poison"), (&b, 1, "one"), (&a, 3, "three")]
        {
            let work =
                Work::Report { sender: sender.clone(), incoming: incoming(sequence, instance, json!({})) };
            answers.push(rig.writer.submit(work, None).await.unwrap());
        }
        rig.full.store(false, Ordering::SeqCst);
        let mut outcomes = vec![];
        for answer in answers {
            match tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap() {
                Done::Report(Outcome::Durable { last }) => outcomes.push(format!("durable {last}")),
                Done::Report(Outcome::Rejected { last, reason }) if reason.contains("poisoned") => {
                    outcomes.push(format!("rejected {last}"));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(outcomes, ["durable 1", "rejected 2", "durable 1", "durable 3"]);
    });
    let mut reader = SqliteStore::open(&path).unwrap().reader().unwrap();
    let names: Vec<String> =
        reader.documents_at(&host("a"), None).unwrap().into_iter().map(|row| row.instance).collect();
    assert_eq!(names, ["one", "three"]);
}

#[test]
fn a_defect_costs_at_most_the_request_it_concerns() {
    let directory = tempfile::tempdir().unwrap();
    let rig = rig(&directory.path().join("db"));
    runtime().block_on(async {
        let (a, b) =
            (rig.register("a", PublicKey([1; 32])).await, rig.register("b", PublicKey([2; 32])).await);
        let report = |sender: &Sender, sequence| Work::Report {
            sender: sender.clone(),
            incoming: incoming(sequence, "one", json!({"n": sequence})),
        };
        rig.panics.store(1, Ordering::SeqCst);
        let done = rig.writer.ask(report(&a, 1), PATIENCE).await.unwrap();
        assert!(matches!(done, Done::Report(Outcome::Rejected { last: 1, .. })), "{done:?}");
        rig.full.store(true, Ordering::SeqCst);
        let first = rig.writer.submit(report(&a, 2), None).await.unwrap();
        let second = rig.writer.submit(report(&b, 1), None).await.unwrap();
        rig.panics.store(1, Ordering::SeqCst);
        rig.full.store(false, Ordering::SeqCst);
        for (answer, last) in [(first, 2), (second, 1)] {
            let done = tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap();
            match done {
                Done::Report(Outcome::Durable { last: found } | Outcome::Rejected { last: found, .. }) => {
                    assert_eq!(found, last);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(rig.writer.ask(Work::Ping, PATIENCE).await, Ok(Done::Written), "the writer lives on");
    });
}

/// Not a bound on time, only a figure: reports with one transition each, from 50 hosts, on this machine and build.
#[test]
fn many_reports_from_many_hosts_all_arrive() {
    const HOSTS: u8 = 50;
    const REPORTS: u64 = 40;
    let directory = tempfile::tempdir().unwrap();
    let mut rig = rig(&directory.path().join("db"));
    runtime().block_on(async {
        let mut senders = vec![];
        for number in 0..HOSTS {
            senders.push(rig.register(&format!("h{number}"), PublicKey([number; 32])).await);
        }
        let begun = Instant::now();
        let mut answers = vec![];
        for sequence in 1..=REPORTS {
            for sender in &senders {
                let data = json!({"net.ipv4.conf.all.log_martians": sequence % 2, "n": sequence});
                let work = Work::Report {
                    sender: sender.clone(),
                    incoming: incoming(sequence, "_auto_proc_sys", data),
                };
                answers.push((sequence, rig.writer.submit(work, None).await.unwrap()));
            }
        }
        for (sequence, answer) in answers {
            assert_eq!(answer.await.unwrap(), Done::Report(Outcome::Durable { last: sequence }));
        }
        let rate = f64::from(HOSTS) * REPORTS as f64 / begun.elapsed().as_secs_f64();
        println!("{rate:.0} reports a second, each with two events and four outbox rows");
    });
    let mut rows = 0;
    while rig.outbox.try_recv().is_ok() {
        rows += 1;
    }
    // The first report (1) passes; of the 39 others each turns the rule: two events for two channels.
    assert_eq!(rows, u64::from(HOSTS) * (2 + (REPORTS - 1) * 4));
}

#[test]
fn a_database_that_grows_is_looked_after() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let rig = rig(&path);
    let tables_with_statistics = || -> i64 {
        let connection = rusqlite::Connection::open(&path).unwrap();
        let count = |sql: &str| connection.query_row(sql, [], |row| row.get(0)).unwrap();
        match count("SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'") {
            0 => 0,
            _ => count("SELECT count(DISTINCT tbl) FROM sqlite_stat1"),
        }
    };
    runtime().block_on(async {
        rig.register("a", PublicKey([1; 32])).await;
        assert_eq!(tables_with_statistics(), 0, "not for every commit");
        let mut answers = vec![];
        for _ in 0..20_000 {
            answers.push(rig.writer.submit(Work::Ping, None).await.unwrap());
        }
        for answer in answers {
            assert_eq!(answer.await.unwrap(), Done::Written);
        }
        wait_for("statistics", 60, || (tables_with_statistics() > 0).then_some(()));
    });
}
