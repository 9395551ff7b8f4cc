//! Nodes and edges and who keeps them alive.

use super::*;
use model::GraphFacts;
use model::graph::{EdgeFact, EdgeKind, NodeFact, NodeKind};
use site::{edge, nic_and_address, packages};

fn replace(store: &mut dyn Store, name: &str, instance: &str, facts: &GraphFacts, now: i64) {
    commit(store, |t| t.replace_graph(&host(name), instance, facts, at(now)));
}

fn count(store: &dyn Store, rest: &str) -> Value {
    cell(store, &format!("SELECT count(*) FROM {rest}"))
}

pub fn an_update_writes_only_the_difference(store: &mut dyn Store) {
    replace(store, "web1", "packages", &packages("web1", &[("bash", "5.1"), ("openssl", "3.0.1")]), 100);
    replace(store, "web1", "packages", &packages("web1", &[("bash", "5.1"), ("openssl", "3.0.2")]), 200);
    let rows = sql(store, "SELECT target, since FROM edges ORDER BY target").rows;
    assert_eq!(
        json!(rows),
        json!([
            ["deb/bash/amd64/5.1", at(100).to_utc_text()],
            ["deb/openssl/amd64/3.0.2", at(200).to_utc_text()]
        ])
    );
    assert_eq!(count(store, "nodes WHERE key LIKE 'deb/openssl%'"), json!(1), "the old version is gone");
    assert_eq!(
        cell(store, "SELECT changed FROM nodes WHERE key LIKE 'deb/bash%'"),
        json!(at(100).to_utc_text())
    );
    // Another instance of the same host has its own say.
    replace(
        store,
        "web1",
        "netconfig",
        &nic_and_address("web1", "eth0", "00-16-3e-00-00-01", "10.0.0.7"),
        300,
    );
    replace(store, "web1", "packages", &GraphFacts::default(), 400);
    assert_eq!(
        json!(sql(store, "SELECT kind, key FROM nodes ORDER BY kind").rows),
        json!([
            ["Drone", "web1"],
            ["IPaddrNode", "@global/10.0.0.7"],
            ["LinkAddress", "@global/00-16-3e-00-00-01"],
            ["NICNode", "web1/eth0"]
        ])
    );
}

pub fn shared_nodes_live_as_long_as_somebody_says_so(store: &mut dyn Store) {
    for (name, time) in [("web1", 100), ("web2", 200)] {
        replace(store, name, "packages", &packages(name, &[("bash", "5.1")]), time);
    }
    assert_eq!(count(store, "nodes WHERE kind = 'Package'"), json!(1));
    assert_eq!(count(store, "packages WHERE name = 'bash'"), json!(2));
    replace(store, "web1", "packages", &GraphFacts::default(), 300);
    assert_eq!(json!(sql(store, "SELECT host FROM packages").rows), json!([["web2"]]));
    replace(store, "web2", "packages", &GraphFacts::default(), 400);
    assert_eq!(count(store, "nodes WHERE kind = 'Package'"), json!(0));
    assert_eq!(count(store, "nodes WHERE kind = 'Drone'"), json!(2), "hosts stay");
}

pub fn edges_of_a_node_tell_who_says_so(store: &mut dyn Store) {
    for (name, mac, time) in [("web1", "00-16-3e-00-00-01", 100), ("web2", "00-16-3e-00-00-02", 200)] {
        replace(store, name, "netconfig", &nic_and_address(name, "eth0", mac, "10.0.0.7"), time);
    }
    let edges = |store: &mut dyn Store, kind, key: &str, edge| {
        let mut edges = store.begin().unwrap().edges_at(kind, key, edge).unwrap();
        edges.sort_by(|a, b| a.host.cmp(&b.host));
        edges
    };
    let owners = edges(store, NodeKind::IpaddrNode, "@global/10.0.0.7", EdgeKind::IpOwner);
    let told: Vec<_> = owners
        .iter()
        .map(|edge| {
            (edge.host.as_str(), edge.instance.as_str(), edge.other_kind.as_str(), edge.other_key.as_str())
        })
        .collect();
    assert_eq!(
        told,
        [("web1", "netconfig", "NICNode", "web1/eth0"), ("web2", "netconfig", "NICNode", "web2/eth0")]
    );
    assert!(owners.iter().all(|edge| !edge.is_outgoing));
    assert_eq!((owners[0].since, owners[1].since), (at(100), at(200)));
    assert_eq!(owners[0].other_properties["macaddr"], "00-16-3e-00-00-01");
    let own = edges(store, NodeKind::NicNode, "web1/eth0", EdgeKind::LinkAddr);
    assert_eq!((own.len(), own[0].is_outgoing), (1, true));
    assert_eq!(own[0].other_key, "@global/00-16-3e-00-00-01");
    assert_eq!(edges(store, NodeKind::NicNode, "web1/eth0", EdgeKind::WiredTo), []);
    assert_eq!(edges(store, NodeKind::NicNode, "@global/10.0.0.7", EdgeKind::IpOwner), [], "another kind");
    replace(store, "web1", "netconfig", &GraphFacts::default(), 300);
    let left = edges(store, NodeKind::IpaddrNode, "@global/10.0.0.7", EdgeKind::IpOwner);
    assert_eq!((left.len(), left[0].host.as_str()), (1, "web2"));
}

pub fn services_are_told_with_who_uses_them(store: &mut dyn Store) {
    let uses = |name: &str, program: &str, kind: EdgeKind, services: &[(&str, u16)]| {
        let process = format!("{name}/{program}");
        let properties = json!({"processname": program, "pathname": format!("/usr/sbin/{program}")});
        let mut edges = vec![EdgeFact {
            source: (NodeKind::Drone, name.into()),
            kind: EdgeKind::Hosting,
            target: NodeFact {
                kind: NodeKind::ProcessNode,
                key: process.clone(),
                properties: properties.as_object().unwrap().clone(),
            },
        }];
        edges.extend(services.iter().map(|(ip, port)| EdgeFact {
            source: (NodeKind::ProcessNode, process.clone()),
            kind,
            target: NodeFact {
                kind: NodeKind::IpTcpPortNode,
                key: format!("@global/{port}_tcp_{ip}"),
                properties: json!({"ipaddr": ip, "port": port}).as_object().unwrap().clone(),
            },
        }));
        GraphFacts { edges, ..GraphFacts::default() }
    };
    let offered = [("10.0.0.7", 22), ("10.0.0.7", 5432), ("127.0.0.1", 6010)];
    replace(store, "db1", "tcp", &uses("db1", "postgres", EdgeKind::TcpService, &offered), 100);
    for name in ["web2", "web1", "db1"] {
        let facts = uses(name, "app", EdgeKind::TcpClient, &[("10.0.0.7", 5432)]);
        replace(store, name, "clients", &facts, 200);
    }
    let told = |store: &mut dyn Store, limit| {
        let rows = store.begin().unwrap().services(&host("db1"), limit).unwrap();
        rows.into_iter().map(|row| (row.process, row.port, row.client)).collect::<Vec<_>>()
    };
    let row = |port, client: Option<&str>| ("/usr/sbin/postgres".to_owned(), port, client.map(String::from));
    let all = [row(5432, Some("web1")), row(5432, Some("web2")), row(22, None)];
    assert_eq!(told(store, 10), all, "used ones first, nothing of the loopback, not by the host itself");
    assert_eq!(told(store, 1), all[..1]);
    assert_eq!(store.begin().unwrap().services(&host("nobody"), 9).unwrap(), []);
}

pub fn the_newest_claim_wins_and_other_properties_stay(store: &mut dyn Store) {
    let with = |properties: Value, host_properties: Value| GraphFacts {
        host_properties: host_properties.as_object().unwrap().clone(),
        edges: vec![edge((NodeKind::Drone, "web1"), NodeKind::NicNode, "web1/eth0", properties)],
        ..GraphFacts::default()
    };
    replace(store, "web1", "a", &with(json!({"ifname": "eth0", "mtu": 1500}), json!({"os": "Debian"})), 100);
    replace(store, "web1", "b", &with(json!({"mtu": 9000, "speed": 10}), json!({"ip": "10.0.0.1"})), 200);
    let properties = |key: &str| {
        let text = cell(store, &format!("SELECT properties FROM nodes WHERE key = '{key}'"));
        serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap()
    };
    assert_eq!(properties("web1/eth0"), json!({"ifname": "eth0", "mtu": 9000, "speed": 10}));
    assert_eq!(properties("web1"), json!({"os": "Debian", "ip": "10.0.0.1"}));
    replace(store, "web1", "a", &GraphFacts::default(), 300);
    let properties = |key: &str| {
        let text = cell(store, &format!("SELECT properties FROM nodes WHERE key = '{key}'"));
        serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap()
    };
    let known = json!({"ifname": "eth0", "mtu": 9000, "speed": 10});
    assert_eq!(properties("web1/eth0"), known, "instance b still says so, and the key says its name");
    assert_eq!(properties("web1"), json!({"ip": "10.0.0.1"}));
}

pub fn an_edge_from_nowhere_is_refused(store: &mut dyn Store) {
    let facts = GraphFacts {
        edges: vec![edge(
            (NodeKind::NicNode, "web1/eth7"),
            NodeKind::IpaddrNode,
            "@global/10.0.0.7",
            json!({}),
        )],
        ..GraphFacts::default()
    };
    let mut transaction = store.begin().unwrap();
    let refused = transaction
        .savepoint(&mut |inner| inner.replace_graph(&host("web1"), "netconfig", &facts, at(1)))
        .unwrap_err();
    assert!(refused.to_string().contains("web1/eth7"), "{refused}");
    transaction.commit().unwrap();
    assert_eq!(count(store, "nodes"), json!(0));
}
