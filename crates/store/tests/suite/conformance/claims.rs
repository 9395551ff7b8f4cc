//! Who says what of a node, and what becomes of it when they say something else or nothing any more.

use super::*;
use model::GraphFacts;
use model::graph::{EdgeKind, NodeFact, NodeKind};
use site::{edge, link, nic_and_address, node};
use store::StoreError;

fn replace(store: &mut dyn Store, name: &str, instance: &str, facts: &GraphFacts, now: i64) {
    commit(store, |t| t.replace_graph(&host(name), instance, facts, at(now)));
}

fn nothing(store: &mut dyn Store, name: &str, instance: &str, now: i64) {
    replace(store, name, instance, &GraphFacts::default(), now);
}

fn properties(store: &dyn Store, key: &str) -> Value {
    let rows = sql(store, &format!("SELECT properties FROM nodes WHERE key = '{key}'")).rows;
    rows.first().map_or(Value::Null, |row| serde_json::from_str(row[0].as_str().unwrap()).unwrap())
}

/// `name` says of the interface web1/eth0.
fn nic(name: &str, said: Value) -> GraphFacts {
    GraphFacts {
        edges: vec![edge((NodeKind::Drone, name), NodeKind::NicNode, "web1/eth0", said)],
        ..GraphFacts::default()
    }
}

pub fn what_is_no_longer_said_goes(store: &mut dyn Store) {
    let key = "web1/eth0";
    replace(store, "web1", "a", &nic("web1", json!({"mtu": 1500, "speed": 10})), 100);
    replace(store, "web1", "a", &nic("web1", json!({"mtu": 1500})), 200);
    assert_eq!(properties(store, key), json!({"mtu": 1500}), "by the only one that speaks of it");
    replace(store, "web1", "b", &nic("web1", json!({"mtu": 9000, "duplex": "full"})), 300);
    assert_eq!(properties(store, key), json!({"mtu": 9000, "duplex": "full"}));
    replace(store, "web1", "b", &nic("web1", json!({"duplex": "half"})), 400);
    assert_eq!(
        properties(store, key),
        json!({"mtu": 1500, "duplex": "half"}),
        "the older claim counts again"
    );
    replace(store, "web1", "b", &nic("web1", json!({})), 500);
    assert_eq!(properties(store, key), json!({"mtu": 1500}));
    replace(store, "web1", "b", &nic("web1", json!({"vlan": 7})), 600);
    nothing(store, "web1", "a", 700);
    assert_eq!(properties(store, key), json!({"vlan": 7}), "a claim goes with its instance");
    nothing(store, "web1", "b", 800);
    assert_eq!(properties(store, key), Value::Null);
}

pub fn the_newest_claim_counts_whatever_came_last(store: &mut dyn Store) {
    let key = "web1/eth0";
    let says = |value: i64, other: i64| nic("web1", json!({"mtu": value, "other": other}));
    // As when the graph is made anew: in no order.
    replace(store, "web1", "b", &says(2, 0), 200);
    replace(store, "web1", "a", &says(1, 0), 100);
    replace(store, "web1", "c", &says(3, 0), 150);
    assert_eq!(properties(store, key), json!({"mtu": 2, "other": 0}));
    // Said again, nothing is newer.
    replace(store, "web1", "a", &says(1, 0), 300);
    assert_eq!(properties(store, key)["mtu"], json!(2));
    // Said anew, all of it is.
    replace(store, "web1", "a", &says(1, 1), 400);
    assert_eq!(properties(store, key), json!({"mtu": 1, "other": 1}));
    // Of equal times the order of the names decides, not that of the arrival.
    replace(store, "web1", "z", &says(26, 0), 500);
    replace(store, "web1", "y", &says(25, 0), 500);
    assert_eq!(properties(store, key)["mtu"], json!(26));
    nothing(store, "web1", "z", 600);
    replace(store, "web1", "z", &says(26, 0), 500);
    assert_eq!(properties(store, key)["mtu"], json!(26));
    replace(store, "web2", "a", &nic("web2", json!({"mtu": 99})), 500);
    assert_eq!(properties(store, key)["mtu"], json!(99), "web2 is behind web1");
    let changed = cell(store, "SELECT changed FROM nodes WHERE key = 'web1/eth0'");
    replace(store, "web2", "a", &nic("web2", json!({"mtu": 99})), 900);
    assert_eq!(cell(store, "SELECT changed FROM nodes WHERE key = 'web1/eth0'"), changed);
}

pub fn what_the_key_says_stays_with_the_node(store: &mut dyn Store) {
    let key = "@global/10.0.0.7";
    let uses = |name: &str| {
        let process = format!("{name}/app");
        let service = "@global/443_tcp_10.0.0.7";
        let named = json!({"ipaddr": "10.0.0.7", "port": 443, "protocol": "tcp"});
        GraphFacts {
            edges: vec![
                link(
                    (NodeKind::Drone, name),
                    EdgeKind::Hosting,
                    node(NodeKind::ProcessNode, &process, json!({"uid": 7})),
                ),
                link(
                    (NodeKind::ProcessNode, &process),
                    EdgeKind::TcpClient,
                    node(NodeKind::IpTcpPortNode, service, named),
                ),
                link(
                    (NodeKind::IpTcpPortNode, service),
                    EdgeKind::BaseIp,
                    node(NodeKind::IpaddrNode, key, json!({"ipaddr": "10.0.0.7"})),
                ),
            ],
            ..GraphFacts::default()
        }
    };
    let whole = json!({"ipaddr": "10.0.0.7", "cidrmask": 24});
    for owner_first in [true, false] {
        let netconfig = nic_and_address("web1", "eth0", "00-16-3e-00-00-01", "10.0.0.7");
        if owner_first {
            replace(store, "web1", "netconfig", &netconfig, 100);
        }
        replace(store, "web2", "tcp", &uses("web2"), 200);
        replace(store, "web3", "tcp", &uses("web3"), 200);
        if !owner_first {
            replace(store, "web1", "netconfig", &netconfig, 300);
        }
        assert_eq!(properties(store, key), whole);
        nothing(store, "web1", "netconfig", 400);
        assert_eq!(properties(store, key), json!({"ipaddr": "10.0.0.7"}), "as its clients know it");
        assert_eq!(properties(store, "@global/443_tcp_10.0.0.7")["port"], json!(443));
        nothing(store, "web2", "tcp", 500);
        assert_eq!(properties(store, key), json!({"ipaddr": "10.0.0.7"}));
        nothing(store, "web3", "tcp", 500);
        assert_eq!(properties(store, key), Value::Null);
    }
}

pub fn a_host_is_what_its_instances_say(store: &mut dyn Store) {
    let says = |said: Value| GraphFacts {
        host_properties: said.as_object().unwrap().clone(),
        ..GraphFacts::default()
    };
    replace(store, "web1", "os", &says(json!({"os_name": "Debian", "machine": "x86_64"})), 100);
    replace(store, "web1", "netconfig", &says(json!({"primary_ip_addr": "10.0.0.7"})), 200);
    // Instances that say nothing of the host change nothing of it, whatever hangs on it.
    replace(store, "web1", "packages", &site::packages("web1", &[("bash", "5.1")]), 300);
    replace(store, "web1", "os", &says(json!({"os_name": "Debian"})), 400);
    assert_eq!(properties(store, "web1"), json!({"os_name": "Debian", "primary_ip_addr": "10.0.0.7"}));
    nothing(store, "web1", "packages", 500);
    nothing(store, "web1", "netconfig", 500);
    assert_eq!(properties(store, "web1"), json!({"os_name": "Debian"}));
    nothing(store, "web1", "os", 600);
    assert_eq!(properties(store, "web1"), json!({}), "hosts stay");
    replace(store, "web1", "os", &says(json!({"os_name": "Fedora"})), 700);
    assert_eq!(properties(store, "web1"), json!({"os_name": "Fedora"}));
}

/// What `name` hears of a switch that calls itself `system_name`.
fn switch(name: &str, system_name: &str, port: &str) -> GraphFacts {
    let (chassis, port_key) = ("@global/00-00-5e-00-00-01", format!("@global/00-00-5e-00-00-01/{port}"));
    GraphFacts {
        sources: vec![
            node(NodeKind::SystemNode, chassis, json!({"SystemName": system_name})),
            node(NodeKind::SystemNode, "@global/nobody-wired-to-it", json!({"SystemName": "x"})),
        ],
        edges: vec![
            link(
                (NodeKind::SystemNode, chassis),
                EdgeKind::NicOwner,
                node(NodeKind::NicNode, &port_key, json!({"PortId": port})),
            ),
            link(
                (NodeKind::NicNode, &port_key),
                EdgeKind::WiredTo,
                node(NodeKind::NicNode, &format!("{name}/eth0"), json!({})),
            ),
        ],
        ..GraphFacts::default()
    }
}

pub fn nodes_that_edges_only_start_at(store: &mut dyn Store) {
    let key = "@global/00-00-5e-00-00-01";
    let count = |store: &dyn Store, rest: &str| cell(store, &format!("SELECT count(*) FROM {rest}"));
    replace(store, "web1", "#SWITCH_eth0", &switch("web1", "sw1", "g7"), 100);
    assert_eq!(
        properties(store, "@global/nobody-wired-to-it"),
        Value::Null,
        "nothing would ever take it away"
    );
    replace(store, "web2", "#SWITCH_eth0", &switch("web2", "sw1-renamed", "g8"), 200);
    assert_eq!(properties(store, key), json!({"SystemName": "sw1-renamed"}));
    assert_eq!(count(store, "switch_ports"), json!(2));
    assert_eq!(count(store, "systems"), json!(1));
    // A cable is moved: the port that nobody is wired to goes, the switch stays.
    replace(store, "web1", "#SWITCH_eth0", &switch("web1", "sw1-renamed", "g9"), 300);
    assert_eq!(
        json!(sql(store, "SELECT host, port_id FROM switch_ports ORDER BY host").rows),
        json!([["web1", "g9"], ["web2", "g8"]])
    );
    assert_eq!(properties(store, "@global/00-00-5e-00-00-01/g7"), Value::Null);
    nothing(store, "web1", "#SWITCH_eth0", 400);
    assert_eq!(properties(store, "web1/eth0"), Value::Null, "of the interface nobody else spoke");
    assert_eq!(properties(store, key), json!({"SystemName": "sw1-renamed"}));
    nothing(store, "web2", "#SWITCH_eth0", 500);
    assert_eq!(
        count(store, "nodes WHERE kind <> 'Drone'"),
        json!(0),
        "a node lives as long as an edge touches it"
    );
}

pub fn a_removed_host_leaves_what_others_say(store: &mut dyn Store) {
    for (name, mac, ip) in
        [("web1", "00-16-3e-00-00-01", "10.0.0.7"), ("web2", "00-16-3e-00-00-02", "10.0.0.8")]
    {
        commit(store, |t| t.put_host(&site::host_row(name, "up", "")));
        replace(store, name, "netconfig", &nic_and_address(name, "eth0", mac, ip), 100);
    }
    replace(store, "web1", "#SWITCH_eth0", &switch("web1", "sw1", "g7"), 100);
    replace(store, "web2", "#SWITCH_eth0", &switch("web2", "sw2", "g8"), 90);
    let heard = |ip: &str, mac: &str| {
        link(
            (NodeKind::LinkAddress, &format!("@global/{mac}")),
            EdgeKind::IpOwner,
            node(NodeKind::IpaddrNode, &format!("@global/{ip}"), json!({"ipaddr": ip})),
        )
    };
    let arp = GraphFacts {
        sources: vec![node(
            NodeKind::LinkAddress,
            "@global/00-16-3e-00-00-01",
            json!({"macaddr": "00-16-3e-00-00-01"}),
        )],
        edges: vec![heard("10.0.0.7", "00-16-3e-00-00-01")],
        ..GraphFacts::default()
    };
    replace(store, "web2", "_ARP_eth0", &arp, 200);
    let owners = "SELECT ipaddr, owner, said_by FROM neighbours";
    assert_eq!(json!(sql(store, owners).rows), json!([["10.0.0.7", "web1", "web2"]]));
    commit(store, |t| t.remove_host(&host("web1"), at(300)));
    assert_eq!(
        json!(sql(store, owners).rows),
        json!([["10.0.0.7", null, "web2"]]),
        "a neighbour nobody knows"
    );
    assert_eq!(
        properties(store, "@global/10.0.0.7"),
        json!({"ipaddr": "10.0.0.7"}),
        "the mask was web1's word"
    );
    assert_eq!(properties(store, "@global/00-00-5e-00-00-01"), json!({"SystemName": "sw2"}));
    for key in ["web1", "web1/eth0", "@global/00-00-5e-00-00-01/g7"] {
        assert_eq!(properties(store, key), Value::Null, "{key}");
    }
    assert_eq!(cell(store, "SELECT count(*) FROM edges WHERE host = 'web1'"), json!(0));
    assert_eq!(cell(store, "SELECT ipaddr FROM known_addresses WHERE system IS NULL"), json!("10.0.0.7"));
    // Registered again, it meets what was said of it meanwhile.
    commit(store, |t| t.put_host(&site::host_row("web1", "up", "")));
    let again = nic_and_address("web1", "eth0", "00-16-3e-00-00-01", "10.0.0.7");
    replace(store, "web1", "netconfig", &again, 400);
    assert_eq!(json!(sql(store, owners).rows), json!([["10.0.0.7", "web1", "web2"]]));
    assert_eq!(properties(store, "@global/10.0.0.7")["cidrmask"], json!(24));
}

pub fn one_address_in_two_networks(store: &mut dyn Store) {
    for (name, network) in [("web1", "global"), ("web1-b", "berlin")] {
        commit(store, |t| t.put_host(&site::host_row(name, "up", "")));
        let facts = nic_and_address(name, "eth0", "00-16-3e-00-00-01", "10.0.0.7").in_network(network);
        replace(store, name, "netconfig", &facts, 100);
    }
    assert_eq!(
        json!(
            sql(store, "SELECT host, network, subnet FROM addresses WHERE ipaddr = '10.0.0.7' ORDER BY host")
                .rows
        ),
        json!([["web1", "global", "10.0.0.0/24"], ["web1-b", "berlin", "10.0.0.0/24"]])
    );
    nothing(store, "web1-b", "netconfig", 200);
    assert_eq!(properties(store, "@berlin/10.0.0.7"), Value::Null);
    assert_eq!(properties(store, "@global/10.0.0.7")["cidrmask"], json!(24));
}

pub fn an_undone_claim_leaves_nothing(store: &mut dyn Store) {
    let key = "web1/eth0";
    replace(store, "web1", "a", &nic("web1", json!({"mtu": 1500})), 100);
    let mut transaction = store.begin().unwrap();
    let failed = transaction.savepoint(&mut |inner| {
        inner.replace_graph(&host("web2"), "b", &nic("web2", json!({"mtu": 1, "x": 1})), at(200))?;
        Err(StoreError::Sql("on purpose".into()))
    });
    assert!(failed.is_err());
    transaction.replace_graph(&host("web3"), "c", &nic("web3", json!({"y": 1})), at(300)).unwrap();
    transaction.commit().unwrap();
    assert_eq!(properties(store, key), json!({"mtu": 1500, "y": 1}));
    nothing(store, "web1", "a", 400);
    assert_eq!(properties(store, key), json!({"y": 1}));
}

/// The same node with other words: a fact whose target is described twice.
pub fn one_document_says_one_thing(store: &mut dyn Store) {
    let twice = |first: Value, second: Value| GraphFacts {
        sources: vec![NodeFact {
            kind: NodeKind::SystemNode,
            key: "@global/sw".into(),
            properties: first.as_object().unwrap().clone(),
        }],
        edges: vec![
            link(
                (NodeKind::SystemNode, "@global/sw"),
                EdgeKind::NicOwner,
                node(NodeKind::NicNode, "@global/sw/1", second.clone()),
            ),
            link(
                (NodeKind::Drone, "web1"),
                EdgeKind::NicOwner,
                node(NodeKind::NicNode, "@global/sw/1", first),
            ),
        ],
        ..GraphFacts::default()
    };
    replace(store, "web1", "x", &twice(json!({"a": 1, "b": 1}), json!({"b": 2, "c": 2})), 100);
    assert_eq!(properties(store, "@global/sw/1"), json!({"a": 1, "b": 1, "c": 2}), "later edges win");
    replace(store, "web1", "x", &twice(json!({}), json!({"c": 3})), 200);
    assert_eq!(properties(store, "@global/sw/1"), json!({"c": 3}));
    assert_eq!(properties(store, "@global/sw"), json!({}));
}
