//! Prints how many reports a second the store takes: `cargo run --release -p store --example ingest_rate [DIRECTORY]`.
//!
//! First reports: one is what the CMA writes for one changed document: a new 2 KB document, two rule results, a small graph
//! and the queue's cursor, in a savepoint; 100 reports share a commit. Every report changes something. Then the graphs of
//! whole hosts: 2,000 packages, 30 services, 40 dependencies, 30 monitors; told first, told again, and changed a little.

use model::graph::{EdgeFact, EdgeKind, GraphFacts, NodeFact, NodeKind};
use model::message::Incarnation;
use model::{Designation, DocumentHash, PublicKey, Timestamp};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::Instant;
use store::sqlite::SqliteStore;
use store::{DocumentRow, RuleResultRow, Store, Transaction};

const HOSTS: usize = 500;
const REPORTS: usize = 20_000;
const PER_COMMIT: usize = 100;
/// Hosts of which the whole graph is written.
const GRAPHS: usize = 100;

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
    drop(store);
    let path = directory.path().join("graph.sqlite");
    let mut store = SqliteStore::open(&path)?;
    for (what, round) in [("new", 0), ("the same again", 0), ("one package and one dependency changed", 1)] {
        let start = Instant::now();
        for (number, host) in hosts.iter().take(GRAPHS).enumerate() {
            let mut transaction = store.begin()?;
            for (instance, facts) in whole_host(host.as_str(), number, round) {
                transaction.replace_graph(
                    host,
                    instance,
                    &facts,
                    Timestamp(1_795_000_000_000_000 + round as i64),
                )?;
            }
            transaction.commit()?;
        }
        let milliseconds = start.elapsed().as_secs_f64() * 1e3 / GRAPHS as f64;
        println!("graph of a host, {what}: {milliseconds:.1} ms");
    }
    // What the journal holds belongs to the file.
    drop(store);
    println!("{GRAPHS} graphs: {:.1} MB", std::fs::metadata(&path)?.len() as f64 / 1e6);
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
                    key: format!("@global/10.0.{}.{}", n % 250, n % 7),
                    properties,
                },
            },
        ],
        ..GraphFacts::default()
    };
    transaction.replace_graph(host, &row.instance, &facts, now)?;
    transaction.set_cursor(&PublicKey([1; 32]), Incarnation([2; 16]), n as u64)
}

fn node(kind: NodeKind, key: String, properties: Value) -> NodeFact {
    NodeFact { kind, key, properties: properties.as_object().cloned().unwrap_or_default() }
}

fn edge(source: (NodeKind, &str), kind: EdgeKind, target: NodeFact) -> EdgeFact {
    EdgeFact { source: (source.0, source.1.to_owned()), kind, target }
}

/// What the discoveries of one host say about the graph.
fn whole_host(host: &str, number: usize, round: usize) -> Vec<(&'static str, GraphFacts)> {
    let drone = (NodeKind::Drone, host);
    let ip = |number: usize| format!("10.{}.{}.{}", number / 62_500, number / 250 % 250, number % 250);
    let mut tcp = Vec::new();
    let mut process = |name: String, kind: EdgeKind, port: usize, address: String| {
        let key = format!("{host}/{name}:0123456789abcdef0123456789abcdef");
        let service = format!("@global/{port}_tcp_{address}");
        let properties = json!({"processname": name, "pathname": format!("/usr/sbin/{name}"), "uid": "daemon",
            "gid": "daemon", "cwd": "/", "roles": ["server"], "cmdline": [format!("/usr/sbin/{name}"), "--config",
            format!("/etc/{name}/{name}.conf"), "--foreground", "--user=daemon"]});
        tcp.push(edge(drone, EdgeKind::Hosting, node(NodeKind::ProcessNode, key.clone(), properties)));
        let properties = json!({"ipaddr": address, "port": port, "protocol": "tcp"});
        let target = node(NodeKind::IpTcpPortNode, service.clone(), properties);
        tcp.push(edge((NodeKind::ProcessNode, &key), kind, target));
        let target = node(NodeKind::IpaddrNode, format!("@global/{address}"), json!({"ipaddr": address}));
        tcp.push(edge((NodeKind::IpTcpPortNode, &service), EdgeKind::BaseIp, target));
    };
    for n in 0..30 {
        process(format!("server{n}"), EdgeKind::TcpService, 1000 + n, ip(number));
    }
    for n in 0..40 {
        let server = (number * 7 + n * 13 + if n == 0 { round } else { 0 }) % GRAPHS;
        process(format!("client{n}"), EdgeKind::TcpClient, 1000 + n % 30, ip(server));
    }
    let packages = (0..2000).map(|n| {
        let version = 1 + (number + n) % 3 + if n == 0 { 10 * round } else { 0 };
        let properties =
            json!({"name": format!("package{n}"), "arch": "amd64", "version": format!("1.{version}"), "type": "deb"});
        edge(drone, EdgeKind::Installed, node(NodeKind::Package, format!("deb/package{n}/amd64/1.{version}"), properties))
    });
    let nic = format!("{host}/eth0");
    let properties = json!({"ifname": "eth0", "mtu": 1500, "speed": 1000, "duplex": "full", "carrier": true, "macaddr": "00-16-3e-00-00-01"});
    let netconfig = vec![
        edge(drone, EdgeKind::NicOwner, node(NodeKind::NicNode, nic.clone(), properties)),
        edge(
            (NodeKind::NicNode, &nic),
            EdgeKind::IpOwner,
            node(
                NodeKind::IpaddrNode,
                format!("@global/{}", ip(number)),
                json!({"ipaddr": ip(number), "cidrmask": 16}),
            ),
        ),
    ];
    let monitors = (0..30).map(|n| {
        let name = format!("{host}:tcp:server{n}::0123456789abcdef");
        edge(
            drone,
            EdgeKind::Hosting,
            node(NodeKind::MonitorAction, name, json!({"class": "tcp", "state": "up", "isactive": true})),
        )
    });
    let said = |properties: Value, edges: Vec<EdgeFact>| GraphFacts {
        host_properties: properties.as_object().cloned().unwrap_or_default(),
        edges,
        ..GraphFacts::default()
    };
    vec![
        ("_init_os", said(json!({"os_name": "Debian", "os_release": "12"}), Vec::new())),
        ("netconfig", said(json!({"primary_ip_addr": ip(number)}), netconfig)),
        ("_init_packages", said(json!({}), packages.collect())),
        ("_init_tcpdiscovery", said(json!({"roles": ["drone", "host", "server", "client"]}), tcp)),
        ("_monitors", said(json!({}), monitors.collect())),
    ]
}
