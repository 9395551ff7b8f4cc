//! Prints how many reports a second the store takes: `cargo run --release -p store --example ingest_rate [DIRECTORY]`.
//!
//! One report is what the CMA writes for one changed document: a new 2 KB document, two rule results, a small graph
//! and the queue's cursor, in a savepoint; 100 reports share a commit. Every report changes something.

use model::graph::{EdgeFact, EdgeKind, GraphFacts, NodeFact, NodeKind};
use model::message::Incarnation;
use model::{Designation, DocumentHash, PublicKey, Timestamp};
use serde_json::{Map, json};
use std::path::PathBuf;
use std::time::Instant;
use store::sqlite::SqliteStore;
use store::{DocumentRow, RuleResultRow, Store, Transaction};

const HOSTS: usize = 500;
const REPORTS: usize = 20_000;
const PER_COMMIT: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::TempDir::with_prefix_in("ingest-rate-", directory)?;
    let mut store = SqliteStore::open(&directory.path().join("store.sqlite"))?;
    let hosts = (0..HOSTS).map(|i| Designation::new(&format!("host{i}"))).collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    for group in 0..REPORTS / PER_COMMIT {
        let mut transaction = store.begin()?;
        for n in group * PER_COMMIT..(group + 1) * PER_COMMIT {
            transaction.savepoint(&mut |inner| report(inner, &hosts[n % HOSTS], n))?;
        }
        transaction.commit()?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let (_, bytes) = store.reader()?.health()?;
    println!(
        "{REPORTS} reports of {HOSTS} hosts in {seconds:.2} s: {:.0} a second, {PER_COMMIT} a commit; {:.1} MB",
        REPORTS as f64 / seconds,
        bytes as f64 / 1e6
    );
    Ok(())
}

fn report(transaction: &mut dyn Transaction, host: &Designation, n: usize) -> store::Result<()> {
    let now = Timestamp(1_795_000_000_000_000 + n as i64);
    let filler: Vec<String> =
        (0..60).map(|i| format!("setting_{i} value of {}", (n * 31 + i * 17) % 9973)).collect();
    let body = json!({"data": {"n": n, "lines": filler}, "discovertype": "sample", "host": host.as_str()})
        .to_string();
    let row = DocumentRow {
        instance: "_init_sample".into(),
        discovertype: "sample".into(),
        hash: DocumentHash::of(body.as_bytes()),
        changed_after: now,
        seen: now,
        since: now,
        until: None,
    };
    transaction.put_document(host, &row, &body)?;
    let result = |rule: usize| RuleResultRow {
        rule_id: format!("nist_V-{rule}"),
        status: if (n + rule).is_multiple_of(2) { "pass" } else { "fail" }.into(),
        category: "security".into(),
        severity: "low".into(),
        score: 1.0,
        values: json!({"n": n}),
        note: String::new(),
        since: now,
        until: None,
    };
    transaction.put_rule_results(host, &row.instance, &[result(1 + n % 10), result(20)])?;
    let mut properties = Map::new();
    properties.insert("ipaddr".into(), json!(format!("10.0.{}.{}", n % 250, n % 7)));
    let nic = (NodeKind::NicNode, format!("{host}/eth0"));
    let facts = GraphFacts {
        edges: vec![
            EdgeFact {
                source: (NodeKind::Drone, host.to_string()),
                kind: EdgeKind::NicOwner,
                target: NodeFact { kind: nic.0, key: nic.1.clone(), properties: Map::new() },
            },
            EdgeFact {
                source: nic,
                kind: EdgeKind::IpOwner,
                target: NodeFact {
                    kind: NodeKind::IpaddrNode,
                    key: format!("_GLOBAL_/10.0.{}.{}", n % 250, n % 7),
                    properties,
                },
            },
        ],
        ..GraphFacts::default()
    };
    transaction.replace_graph(host, &row.instance, &facts, now)?;
    transaction.set_cursor(&PublicKey([1; 32]), Incarnation([2; 16]), n as u64)
}
