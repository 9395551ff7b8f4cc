//! A small site that several tests look at.

use super::{at, commit, document, host, result};
use model::graph::{EdgeFact, EdgeKind, NodeFact, NodeKind};
use model::{Event, EventType, GraphFacts, PublicKey};
use serde_json::{Value, json};
use std::sync::Arc;
use store::{HostRow, Store};

/// After everything in [`fill`].
pub const LATER: i64 = 10_000;

pub fn host_row(name: &str, status: &str, reason: &str) -> HostRow {
    HostRow {
        designation: host(name),
        domain: "global".into(),
        status: status.into(),
        reason: reason.into(),
        status_since: at(100),
        first_seen: at(50),
        last_seen: at(150),
        key: PublicKey([7; 32]),
        rejected_key: None,
        address: "10.0.0.7:1984".into(),
        started: at(40),
        software: "0.1.0".into(),
    }
}

pub fn event(id: &str, name: &str, time: i64) -> Event {
    let object =
        json!({"nodetype": "Drone", "designation": name, "status": "up", "reason": "r", "domain": "global"});
    Event {
        eventid: id.into(),
        time: at(time),
        eventtype: EventType::Warn,
        associatedobject: object.as_object().unwrap().clone(),
        extrainfo: json!({"ruleid": "nist_V-1"}).as_object().unwrap().clone(),
    }
}

pub fn edge(source: (NodeKind, &str), kind: NodeKind, key: &str, properties: Value) -> EdgeFact {
    let edge = match kind {
        NodeKind::IpaddrNode => EdgeKind::IpOwner,
        NodeKind::Package => EdgeKind::Installed,
        NodeKind::MonitorAction => EdgeKind::Hosting,
        _ => EdgeKind::NicOwner,
    };
    let properties = properties.as_object().unwrap().clone();
    EdgeFact {
        source: (source.0, source.1.into()),
        kind: edge,
        target: NodeFact { kind, key: key.into(), properties },
    }
}

pub fn node(kind: NodeKind, key: &str, properties: Value) -> NodeFact {
    NodeFact { kind, key: key.into(), properties: properties.as_object().unwrap().clone() }
}

pub fn link(source: (NodeKind, &str), kind: EdgeKind, target: NodeFact) -> EdgeFact {
    EdgeFact { source: (source.0, source.1.into()), kind, target }
}

pub fn nic_and_address(name: &str, ifname: &str, mac: &str, ip: &str) -> GraphFacts {
    let nic = format!("{name}/{ifname}");
    let address = json!({"ipaddr": ip, "cidrmask": 24});
    let link_address = node(NodeKind::LinkAddress, &format!("@global/{mac}"), json!({"macaddr": mac}));
    GraphFacts {
        edges: vec![
            edge((NodeKind::NicNode, &nic), NodeKind::IpaddrNode, &format!("@global/{ip}"), address),
            edge((NodeKind::Drone, name), NodeKind::NicNode, &nic, json!({"ifname": ifname, "macaddr": mac})),
            link((NodeKind::NicNode, &nic), EdgeKind::LinkAddr, link_address),
        ],
        ..GraphFacts::default()
    }
}

pub fn packages(name: &str, list: &[(&str, &str)]) -> GraphFacts {
    let one = |(package, version): &(&str, &str)| {
        let properties = json!({"name": package, "arch": "amd64", "version": version, "type": "deb"});
        edge(
            (NodeKind::Drone, name),
            NodeKind::Package,
            &format!("deb/{package}/amd64/{version}"),
            properties,
        )
    };
    GraphFacts { edges: list.iter().map(one).collect(), ..GraphFacts::default() }
}

/// One vendor, the same for every test of the process.
pub fn name_vendors() {
    store::sqlite::set_vendors(Arc::new(|mac| mac.starts_with("00-16-3e").then(|| "Xensource".to_owned())));
}

/// A service of web1 that is looked after, and one that is not.
pub fn fill_monitors(store: &mut dyn Store) {
    commit(store, |t| {
        let drone = (NodeKind::Drone, "web1");
        let state = json!({"class": "tcp", "agent": "backup", "target": "service", "listen": ["10.0.0.7:9102"],
            "state": "up", "isworking": 1, "isactive": 1, "reason": "is now operational"});
        let monitor = edge(drone, NodeKind::MonitorAction, "web1:tcp:backup::0011223344556677", state);
        let facts = GraphFacts { edges: vec![monitor], ..GraphFacts::default() };
        t.replace_graph(&host("web1"), "_monitor_tcp:backup", &facts, at(100))?;
        let unmonitored =
            json!({"unmonitored": {"p1": {"pathname": "/opt/p", "listen": [":::7"], "why": "w"}}});
        let (row, body) = document("_monitors", unmonitored, 100);
        t.put_document(&host("web1"), &row, &body)?;
        Ok(())
    });
}

/// web1 up, web2 shut down, db1 crashed; each with a network interface and packages, web1 and web2 with rule results.
pub fn fill(store: &mut dyn Store) {
    name_vendors();
    commit(store, |t| {
        t.put_host(&host_row("web1", "up", "STARTUP"))?;
        t.put_host(&host_row("web2", "dead", "HBSHUTDOWN"))?;
        t.put_host(&HostRow { domain: "lab".into(), ..host_row("db1", "dead", "HBDEAD") })?;
        let nics = [
            ("web1", "00-16-3e-00-00-01", "10.0.0.7"),
            ("web2", "00-16-3e-00-00-02", "10.0.0.8"),
            ("db1", "00-16-3e-00-00-03", "2001:db8::1"),
        ];
        for (name, mac, ip) in nics {
            t.replace_graph(&host(name), "netconfig", &nic_and_address(name, "eth0", mac, ip), at(100))?;
            let openssl = if name == "db1" { "1.1.1" } else { "3.0.2" };
            let list = packages(name, &[("bash", "5.1"), ("openssl", openssl), ("openssh-server", "9.6")]);
            t.replace_graph(&host(name), "_init_packages", &list, at(100))?;
            for instance in ["_init_sshd", "_init_pam"] {
                let (row, body) = document(instance, json!({"host": name}), 100);
                t.put_document(&host(name), &row, &body)?;
            }
        }
        t.put_rule_results(
            &host("web1"),
            "_init_sshd",
            &[result("nist_V-1", "fail", 3.0, 100), result("nist_V-2", "pass", 0.0, 100)],
        )?;
        t.put_rule_results(&host("web1"), "_init_pam", &[result("nist_V-3", "fail", 1.0, 100)])?;
        let mut network = result("itbp-00001", "fail", 2.0, 100);
        network.category = "networking".into();
        t.put_rule_results(&host("web2"), "_init_sshd", &[result("nist_V-1", "fail", 3.0, 100), network])?;
        t.append_event(&event("e1", "web1", 100), &["scripts"])?;
        Ok(())
    });
}
