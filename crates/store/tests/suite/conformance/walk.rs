//! Reading the graph step by step.

use super::*;
use model::GraphFacts;
use model::graph::{EdgeFact, EdgeKind, NodeFact, NodeKind};
use site::{nic_and_address, packages};
use store::{Direction, GraphEdge};

fn say(store: &mut dyn Store, name: &str, instance: &str, facts: &GraphFacts, now: i64) {
    commit(store, |t| t.replace_graph(&host(name), instance, facts, at(now)));
}

/// Two hosts with an interface each, and a package that both have.
fn fill(store: &mut dyn Store) {
    for (name, ip, time) in [("web1", "10.0.0.1", 100), ("web2", "10.0.0.2", 200)] {
        say(store, name, "netconfig", &nic_and_address(name, "eth0", "00-16-3e-00-00-01", ip), time);
        say(store, name, "packages", &packages(name, &[("bash", "5.1")]), time + 1);
    }
}

fn number(store: &dyn Store, kind: &str, key: &str) -> i64 {
    let found = store.reader().unwrap().graph_find(Some(kind), key).unwrap();
    assert_eq!(found.len(), 1, "{kind} {key}");
    found[0].id
}

pub fn nodes_are_found_by_number_key_and_kind(store: &mut dyn Store) {
    fill(store);
    let mut reader = store.reader().unwrap();
    let web1 = reader.graph_find(None, "web1").unwrap();
    assert_eq!((web1.len(), web1[0].kind.as_str()), (1, "Drone"));
    let nic = reader.graph_find(Some("NICNode"), "web1/eth0").unwrap().remove(0);
    assert_eq!(nic.properties, json!({"ifname": "eth0", "macaddr": "00-16-3e-00-00-01"}));
    assert_eq!(reader.graph_find(Some("Drone"), "web1/eth0").unwrap(), [], "of another kind");
    assert_eq!(reader.graph_find(None, "web").unwrap(), [], "no part of a key");

    let asked = [nic.id, web1[0].id, nic.id, i64::MAX];
    let keys: Vec<String> = reader.graph_nodes(&asked).unwrap().into_iter().map(|node| node.key).collect();
    let mut expected = [(nic.id, "web1/eth0"), (web1[0].id, "web1")];
    expected.sort_unstable();
    assert_eq!(keys, expected.map(|(_, key)| key), "each once, missing ones left out");
    assert_eq!(reader.graph_nodes(&[]).unwrap(), []);

    let hosts = |reader: &mut dyn store::Reader, limit| -> Vec<String> {
        let found = reader.graph_of_kind("Drone", limit).unwrap();
        found.into_iter().map(|node| node.key).collect()
    };
    assert_eq!(hosts(&mut *reader, 9), ["web1", "web2"]);
    assert_eq!(hosts(&mut *reader, 1), ["web1"]);
    assert_eq!(reader.graph_of_kind("Nothing", 9).unwrap(), []);
}

pub fn edges_are_read_in_both_directions_and_by_kind(store: &mut dyn Store) {
    fill(store);
    let (web1, web2) = (number(store, "Drone", "web1"), number(store, "Drone", "web2"));
    let nic = number(store, "NICNode", "web1/eth0");
    let bash = number(store, "Package", "deb/bash/amd64/5.1");
    let mut reader = store.reader().unwrap();
    let mut kinds = |ids: &[i64], direction, kinds: &[&str]| -> Vec<String> {
        let found = reader.graph_edges(ids, direction, kinds).unwrap();
        let links = found.iter().map(|edge| (edge.source, edge.target, edge.host.clone()));
        let less = reader.graph_links(ids, direction, kinds).unwrap();
        let less = less.into_iter().map(|link| (link.source, link.target, link.host));
        assert_eq!(links.collect::<Vec<_>>(), less.collect::<Vec<_>>(), "the same edges");
        let mut kinds: Vec<String> =
            found.into_iter().map(|edge| format!("{} {}", edge.host, edge.kind)).collect();
        kinds.sort_unstable();
        kinds
    };
    assert_eq!(kinds(&[web1], Direction::Out, &[]), ["web1 installed", "web1 nicowner"]);
    assert_eq!(kinds(&[web1], Direction::In, &[]), [""; 0]);
    assert_eq!(kinds(&[bash], Direction::In, &[]), ["web1 installed", "web2 installed"]);
    assert_eq!(kinds(&[web1, web2], Direction::Out, &["nicowner"]), ["web1 nicowner", "web2 nicowner"]);
    assert_eq!(
        kinds(&[web1], Direction::Out, &["nicowner", "installed", "x"]),
        ["web1 installed", "web1 nicowner"]
    );
    assert_eq!(kinds(&[nic], Direction::Both, &[]), ["web1 ipowner", "web1 linkaddr", "web1 nicowner"]);
    // Between two of the nodes asked for: once.
    assert_eq!(kinds(&[web1, nic], Direction::Both, &["nicowner"]), ["web1 nicowner"]);
    assert_eq!(kinds(&[], Direction::Both, &[]), [""; 0]);

    let found = reader.graph_edges(&[web2], Direction::Out, &["installed"]).unwrap();
    let expected = GraphEdge {
        source: web2,
        kind: "installed".into(),
        target: bash,
        host: "web2".into(),
        instance: "packages".into(),
        since: at(201),
    };
    assert_eq!(found, [expected]);
    // Two instances that state the same are two statements.
    say(store, "web2", "packages again", &packages("web2", &[("bash", "5.1")]), 300);
    let twice = store.reader().unwrap().graph_edges(&[web2], Direction::Out, &["installed"]).unwrap();
    assert_eq!(twice.len(), 2, "{twice:?}");
}

pub fn more_nodes_than_one_statement_takes(store: &mut dyn Store) {
    const MANY: usize = 10_050;
    let edge = |number: usize| EdgeFact {
        source: (NodeKind::Drone, "web1".into()),
        kind: EdgeKind::Installed,
        target: NodeFact {
            kind: NodeKind::Package,
            key: format!("deb/p{number:05}"),
            properties: serde_json::Map::new(),
        },
    };
    let facts = GraphFacts { edges: (0..MANY).map(edge).collect(), ..GraphFacts::default() };
    say(store, "web1", "packages", &facts, 100);
    let web1 = number(store, "Drone", "web1");
    let mut reader = store.reader().unwrap();
    let edges = reader.graph_edges(&[web1], Direction::Out, &["installed"]).unwrap();
    let targets: Vec<i64> = edges.iter().map(|edge| edge.target).collect();
    assert_eq!(targets.len(), MANY);
    assert_eq!(reader.graph_nodes(&targets).unwrap().len(), MANY);
    assert_eq!(reader.graph_edges(&targets, Direction::In, &[]).unwrap().len(), MANY);
    assert_eq!(reader.graph_edges(&targets, Direction::Both, &["installed"]).unwrap().len(), MANY);
}
