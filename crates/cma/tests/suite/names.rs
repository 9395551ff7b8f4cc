//! Names of addresses: who is asked, what is kept, and that nobody is asked where it is off.

use crate::site::{runtime, wait_for};
use cma::commit::{Committer, Outlets, Writer};
use cma::health::Health;
use cma::knowledge::{Knowledge, SharedKnowledge};
use cma::readers::Readers;
use cma::reverse_dns::{self, Answer};
use model::config::{CmaConfig, parse_toml};
use model::graph::{EdgeFact, EdgeKind, NodeFact, NodeKind};
use model::{Designation, GraphFacts, Timestamp};
use rules::RuleSets;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use store::sqlite::SqliteStore;
use store::{SqlLimits, Store};
use tokio::sync::{Notify, mpsc, watch};

/// A database in which one host has an interface with these addresses, by their keys.
fn database(path: &Path, keys: &[&str]) -> SqliteStore {
    let mut store = SqliteStore::open(path).unwrap();
    let host = Designation::new("web1").unwrap();
    let nic = NodeFact { kind: NodeKind::NicNode, key: "web1/eth0".into(), properties: Default::default() };
    let owner = EdgeFact { source: (NodeKind::Drone, "web1".into()), kind: EdgeKind::NicOwner, target: nic };
    let address = |key: &&str| EdgeFact {
        source: (NodeKind::NicNode, "web1/eth0".into()),
        kind: EdgeKind::IpOwner,
        target: NodeFact {
            kind: NodeKind::IpaddrNode,
            key: (*key).to_owned(),
            properties: json!({"ipaddr": key.split_once('/').unwrap().1}).as_object().unwrap().clone(),
        },
    };
    let edges = std::iter::once(owner).chain(keys.iter().map(address)).collect();
    let facts = GraphFacts { edges, ..GraphFacts::default() };
    let mut tx = store.begin().unwrap();
    tx.replace_graph(&host, "netconfig", &facts, Timestamp(1)).unwrap();
    tx.commit().unwrap();
    store
}

struct Rig {
    readers: Arc<Readers>,
    knowledge: SharedKnowledge,
    asked: Arc<Mutex<Vec<IpAddr>>>,
    stop: watch::Sender<bool>,
}

/// Starts the task in the runtime of the caller; the addresses have names, but for those that end in 9 (none) and 8 (the name
/// server does not answer).
fn start(store: SqliteStore, config: &str, by_default: bool) -> Rig {
    let readers = Arc::new(Readers::open(&store, 2).unwrap());
    let (sets, problems) = RuleSets::load(&[]);
    let config: CmaConfig = parse_toml("cma.toml", config).unwrap();
    let knowledge = SharedKnowledge::new(Knowledge::new(config, sets, problems));
    let (queue, requests) = mpsc::channel(100);
    let committer = Committer {
        store: Box::new(store),
        knowledge: knowledge.clone(),
        health: Arc::new(Health::default()),
        metrics: Default::default(),
        outlets: Outlets {
            outbox: mpsc::unbounded_channel().0,
            newest_event: watch::channel(0).0,
            changes: mpsc::unbounded_channel().0,
            look_at: mpsc::unbounded_channel().0,
            addresses: Arc::default(),
            facts: Default::default(),
            key_files: Box::new(|_| {}),
        },
        pinned: HashMap::new(),
        started: Timestamp(1),
    };
    std::thread::spawn(move || committer.run(requests));
    let asked: Arc<Mutex<Vec<IpAddr>>> = Arc::default();
    let noted = asked.clone();
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(reverse_dns::run(reverse_dns::Parts {
        writer: Writer::new(queue),
        readers: readers.clone(),
        knowledge: knowledge.clone(),
        by_default,
        news: Arc::new(Notify::new()),
        stop: stopping,
        resolver: move |address: IpAddr| {
            noted.lock().unwrap().push(address);
            match address.to_string().chars().last() {
                Some('9') => Answer::NoName,
                Some('8') => Answer::Failed,
                _ => {
                    Answer::Name(format!("host-{}.example.org", address.to_string().replace([':', '.'], "-")))
                }
            }
        },
    }));
    Rig { readers, knowledge, asked, stop }
}

impl Rig {
    async fn names(&self) -> BTreeMap<String, Value> {
        let limits = SqlLimits { rows: 100, milliseconds: 10_000, bytes: 100_000 };
        let table = self
            .readers
            .read(move |reader| reader.sql("SELECT ipaddr, hostname FROM addresses", &[], limits))
            .await
            .unwrap();
        table.rows.into_iter().map(|row| (row[0].as_str().unwrap().to_owned(), row[1].clone())).collect()
    }

    fn asked(&self) -> Vec<String> {
        let mut asked: Vec<String> = self.asked.lock().unwrap().iter().map(ToString::to_string).collect();
        asked.sort();
        asked
    }
}

#[test]
fn addresses_of_the_site_get_names_and_others_are_not_asked_about() {
    let directory = tempfile::tempdir().unwrap();
    let keys = [
        "@global/10.0.0.1",
        "@global/10.0.0.9",
        "@global/10.0.0.8",
        "@global/2001:db8::1",
        "@berlin/10.0.0.2",
        "web1/127.0.0.1",
        "@global/fe80::1",
        "@global/169.254.1.1",
        "@global/224.0.0.1",
    ];
    let store = database(&directory.path().join("db"), &keys);
    let runtime = runtime();
    let _inside = runtime.enter();
    let rig = start(store, "", true);
    wait_for("the names", 60, || {
        let names = runtime.block_on(rig.names());
        (names["10.0.0.1"] == "host-10-0-0-1.example.org" && names["2001:db8::1"] != Value::Null)
            .then_some(())
    });
    let names = runtime.block_on(rig.names());
    assert_eq!((&names["10.0.0.9"], &names["10.0.0.2"]), (&Value::Null, &Value::Null));
    assert_eq!(rig.asked(), ["10.0.0.1", "10.0.0.8", "10.0.0.9", "2001:db8::1"], "each once");
    // Of what was answered nothing is asked again, also not that there is no name; only of what failed.
    let older_than = Timestamp(Timestamp::now().0 - 3_600_000_000);
    let left = runtime.block_on(rig.readers.read(move |reader| reader.addresses_to_look_up(10, older_than)));
    assert_eq!(left.unwrap(), ["10.0.0.8".parse::<IpAddr>().unwrap()]);
    rig.stop.send_replace(true);
}

#[test]
fn nobody_is_asked_below_a_root_of_its_own_unless_the_configuration_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let _inside = runtime.enter();
    let store = database(&directory.path().join("a"), &["@global/10.0.0.1"]);
    let off = start(store, "", false);
    let store = database(&directory.path().join("b"), &["@global/10.0.0.1"]);
    let forbidden = start(store, "[dns]\nreverse = false\n", true);
    let store = database(&directory.path().join("c"), &["@global/10.0.0.1"]);
    let on = start(store, "[dns]\nreverse = true\n", false);
    let turn = || runtime.block_on(tokio::time::sleep(std::time::Duration::from_millis(50)));
    wait_for("the question", 20, || {
        turn();
        (!on.asked().is_empty()).then_some(())
    });
    assert_eq!((off.asked(), forbidden.asked()), (vec![], vec![]));
    // Switched on while it runs.
    let (sets, problems) = RuleSets::load(&[]);
    let config = parse_toml("cma.toml", "[dns]\nreverse = true\n").unwrap();
    off.knowledge.set(Knowledge::new(config, sets, problems));
    wait_for("the question", 20, || {
        turn();
        (!off.asked().is_empty()).then_some(())
    });
    assert_eq!(forbidden.asked(), Vec::<String>::new());
    for rig in [off, forbidden, on] {
        rig.stop.send_replace(true);
    }
}
