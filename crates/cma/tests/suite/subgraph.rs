//! Parts of the graph: how far they reach, what is told of each node, and how they are asked for.

use crate::site::{Agent, Site, host, runtime};
use cma::api::subgraph::{Wanted, find};
use model::graph::{EdgeFact, EdgeKind, GraphFacts, NodeFact, NodeKind};
use model::subgraph::{Subgraph, SubgraphNode};
use model::{PublicKey, Timestamp};
use serde_json::{Value, json};
use std::path::Path;
use store::sqlite::SqliteStore;
use store::{HostRow, MemberRow, RuleResultRow, Store};

fn node(kind: NodeKind, key: &str, properties: Value) -> NodeFact {
    let Value::Object(properties) = properties else { panic!("{properties}") };
    NodeFact { kind, key: key.into(), properties }
}

fn edge(source: (NodeKind, &str), kind: EdgeKind, target: NodeFact) -> EdgeFact {
    EdgeFact { source: (source.0, source.1.into()), kind, target }
}

fn row(name: &str, status: &str, reason: &str) -> HostRow {
    let at = Timestamp(1_000_000);
    HostRow {
        designation: host(name),
        domain: "global".into(),
        status: status.into(),
        reason: reason.into(),
        status_since: at,
        first_seen: at,
        last_seen: at,
        key: PublicKey([name.as_bytes()[0]; 32]),
        rejected_key: None,
        address: "10.0.0.1:1984".into(),
        started: at,
        software: "test".into(),
    }
}

/// What netconfig and the switch say about a host.
fn network(name: &str, ip: &str, mac: &str, port: &str) -> GraphFacts {
    use NodeKind::{Drone, IpaddrNode, LinkAddress, NicNode, SystemNode};
    let nic = format!("{name}/eth0");
    let switch = "@global/00-16-3e-00-00-01";
    let end = format!("{switch}/{port}");
    let mut facts = GraphFacts {
        sources: vec![node(SystemNode, switch, json!({"SystemName": "sw1"}))],
        edges: vec![
            edge((Drone, name), EdgeKind::NicOwner, node(NicNode, &nic, json!({"ifname": "eth0"}))),
            edge(
                (NicNode, &nic),
                EdgeKind::LinkAddr,
                node(LinkAddress, &format!("@global/{mac}"), json!({"macaddr": mac})),
            ),
            edge(
                (NicNode, &nic),
                EdgeKind::IpOwner,
                node(IpaddrNode, &format!("@global/{ip}"), json!({"ipaddr": ip, "cidrmask": 24})),
            ),
            edge(
                (SystemNode, switch),
                EdgeKind::NicOwner,
                node(NicNode, &end, json!({"ifname": port, "vlan": 7})),
            ),
            edge((NicNode, &end), EdgeKind::WiredTo, node(NicNode, &nic, json!({}))),
        ],
        ..GraphFacts::default()
    };
    facts.host_properties.insert("primary_ip_addr".into(), ip.into());
    facts
}

/// A service of a host at an address, and the one that it uses.
fn services(name: &str, ip: &str, uses: Option<&str>) -> GraphFacts {
    use NodeKind::{Drone, IpTcpPortNode, ProcessNode};
    let process = format!("{name}/postgres:1");
    let port = |ip: &str| {
        node(
            IpTcpPortNode,
            &format!("@global/5432_tcp_{ip}"),
            json!({"ipaddr": ip, "port": 5432, "protocol": "tcp"}),
        )
    };
    let mut edges = vec![
        edge((Drone, name), EdgeKind::Hosting, node(ProcessNode, &process, json!({"roles": ["server"]}))),
        edge((ProcessNode, &process), EdgeKind::TcpService, port(ip)),
    ];
    edges.extend(uses.map(|ip| edge((ProcessNode, &process), EdgeKind::TcpClient, port(ip))));
    GraphFacts { edges, ..GraphFacts::default() }
}

/// Three hosts on a switch, each of which uses the next; a monitor on one, and a stranger who was seen by ARP.
fn store() -> SqliteStore {
    use NodeKind::{Drone, IpaddrNode, LinkAddress, MonitorAction, ProcessNode};
    let mut store = SqliteStore::open(Path::new(":memory:")).unwrap();
    let mut transaction = store.begin().unwrap();
    let now = Timestamp(2_000_000);
    for (number, (name, status, reason)) in
        (1_u32..).zip([("a1", "up", "STARTUP"), ("b1", "dead", "HBDEAD"), ("c1", "up", "STARTUP")])
    {
        transaction.put_host(&row(name, status, reason)).unwrap();
        let ip = |number: u32| format!("10.0.0.{number}");
        let facts =
            network(name, &ip(number), &format!("00-16-3e-00-01-0{number}"), &format!("Gi1/0/{number}"));
        transaction.replace_graph(&host(name), "netconfig", &facts, now).unwrap();
        let uses = (number < 3).then(|| ip(number + 1));
        let facts = services(name, &ip(number), uses.as_deref());
        transaction.replace_graph(&host(name), "tcpdiscovery", &facts, now).unwrap();
        transaction
            .put_member(&MemberRow {
                designation: host(name),
                number,
                session: None,
                place: "subnet 10.0.0.0/24".into(),
                position: number.into(),
                generation: 1,
                address: "10.0.0.1:1984".into(),
                present: true,
            })
            .unwrap();
    }
    let monitor = GraphFacts {
        edges: vec![
            edge(
                (Drone, "a1"),
                EdgeKind::Hosting,
                node(MonitorAction, "a1:tcp:x::1", json!({"isactive": true})),
            ),
            edge(
                (MonitorAction, "a1:tcp:x::1"),
                EdgeKind::Monitoring,
                node(ProcessNode, "a1/postgres:1", json!({})),
            ),
        ],
        ..GraphFacts::default()
    };
    transaction.replace_graph(&host("a1"), "monitor", &monitor, now).unwrap();
    let stranger = "@global/b8-27-eb-00-00-07";
    let arp = GraphFacts {
        sources: vec![node(LinkAddress, stranger, json!({"macaddr": "b8-27-eb-00-00-07"}))],
        edges: vec![edge(
            (LinkAddress, stranger),
            EdgeKind::IpOwner,
            node(IpaddrNode, "@global/10.0.0.77", json!({"ipaddr": "10.0.0.77"})),
        )],
        ..GraphFacts::default()
    };
    transaction.replace_graph(&host("c1"), "_ARP_eth0", &arp, now).unwrap();
    let failed = RuleResultRow {
        rule_id: "r1".into(),
        status: "fail".into(),
        category: "security".into(),
        severity: "high".into(),
        score: 3.0,
        values: json!({}),
        note: String::new(),
        since: now,
        until: None,
    };
    transaction.put_rule_results(&host("b1"), "proc_sys", &[failed]).unwrap();
    transaction.commit().unwrap();
    store
}

fn found(wanted: Wanted) -> Subgraph {
    let store = store();
    find(store.reader().unwrap().as_mut(), &wanted).unwrap().unwrap()
}

fn keys<'s>(subgraph: &'s Subgraph, kind: &str) -> Vec<&'s str> {
    subgraph.nodes.iter().filter(|node| node.kind == kind).map(|node| node.key.as_str()).collect()
}

fn get<'s>(subgraph: &'s Subgraph, key: &str) -> &'s SubgraphNode {
    subgraph.nodes.iter().find(|node| node.key == key).unwrap_or_else(|| panic!("no {key}"))
}

fn around(name: &str, hops: usize, kinds: &[NodeKind]) -> Subgraph {
    found(Wanted { hosts: vec![host(name)], hops: Some(hops), kinds: kinds.to_vec(), ..Wanted::default() })
}

#[test]
fn each_hop_leads_to_the_next_host_or_switch() {
    let services = [NodeKind::Drone, NodeKind::ProcessNode, NodeKind::IpTcpPortNode];
    let here = around("a1", 0, &services);
    assert_eq!(keys(&here, "Drone"), ["a1"]);
    assert_eq!(keys(&here, "IPtcpportNode"), ["@global/5432_tcp_10.0.0.1", "@global/5432_tcp_10.0.0.2"]);
    let next = around("a1", 1, &services);
    assert_eq!(keys(&next, "Drone"), ["a1", "b1"]);
    assert_eq!(keys(&next, "ProcessNode"), ["a1/postgres:1", "b1/postgres:1"]);
    assert_eq!(keys(&around("a1", 2, &services), "Drone"), ["a1", "b1", "c1"]);
    assert_eq!(keys(&around("c1", 1, &services), "Drone"), ["b1", "c1"], "to those who use it, too");

    let network = [NodeKind::Drone, NodeKind::NicNode, NodeKind::SystemNode];
    let next = around("a1", 1, &network);
    assert_eq!((keys(&next, "Drone").len(), keys(&next, "SystemNode").len()), (1, 1));
    assert_eq!(keys(&around("a1", 2, &network), "Drone"), ["a1", "b1", "c1"]);
    assert_eq!(
        keys(&around("a1", 9, &[NodeKind::Drone, NodeKind::IpTcpPortNode]), "Drone"),
        ["a1"],
        "no way there"
    );

    let unlimited = found(Wanted { hosts: vec![host("a1")], ..Wanted::default() });
    assert_eq!(keys(&unlimited, "Drone"), ["a1", "b1", "c1"]);
    let only_cables =
        found(Wanted { hosts: vec![host("a1")], edges: vec![EdgeKind::WiredTo], ..Wanted::default() });
    assert_eq!(only_cables.nodes.len(), 1, "paths use relationships of the given kinds only");
}

#[test]
fn relationships_are_those_between_the_nodes() {
    let subgraph = around("a1", 0, &[NodeKind::Drone, NodeKind::ProcessNode]);
    let told: Vec<_> =
        subgraph.relationships.iter().map(|edge| (edge.kind.as_str(), edge.source, edge.target)).collect();
    let (drone, process) = (get(&subgraph, "a1").id, get(&subgraph, "a1/postgres:1").id);
    assert_eq!(told, [("hosting", drone, process)]);
    let edge = &subgraph.relationships[0];
    assert_eq!((edge.said_by.as_str(), edge.instance.as_str()), ("a1", "tcpdiscovery"));
    assert_eq!(edge.since, Some(Timestamp(2_000_000)));
}

#[test]
fn nodes_say_what_the_cma_knows_of_them() {
    let all = found(Wanted::default());
    assert!(!all.cut);
    let dead = get(&all, "b1");
    assert_eq!((dead.status.as_deref(), dead.reason.as_deref()), (Some("dead"), Some("HBDEAD")));
    assert_eq!(dead.scores.get("security"), Some(&3.0));
    assert!(get(&all, "a1").scores.is_empty());
    let place = get(&all, "a1").place.clone().unwrap();
    assert_eq!((place.network.as_deref(), place.subnet.as_deref()), (Some("global"), Some("10.0.0.0/24")));
    assert_eq!(place.switch.as_deref(), Some("@global/00-16-3e-00-00-01"));
    assert_eq!((place.switch_name.as_deref(), place.port.as_deref()), (Some("sw1"), Some("Gi1/0/1")));
    assert_eq!(get(&all, "a1/postgres:1").is_monitored, Some(true));
    assert_eq!(get(&all, "b1/postgres:1").is_monitored, Some(false));
    assert_eq!(get(&all, "@global/00-16-3e-00-01-01").owner.as_deref(), Some("a1/eth0"));
    assert_eq!(get(&all, "@global/b8-27-eb-00-00-07").owner, None);
    assert_eq!(get(&all, "@global/10.0.0.77").owner, None, "ARP tells of an address, not whose it is");
    // Also of what is too far away to be told.
    let here = around(
        "a1",
        0,
        &[NodeKind::Drone, NodeKind::ProcessNode, NodeKind::IpTcpPortNode, NodeKind::IpaddrNode],
    );
    assert_eq!(get(&here, "@global/5432_tcp_10.0.0.2").owner.as_deref(), Some("b1/postgres:1"));
    assert_eq!(get(&all, "@global/10.0.0.2").owner.as_deref(), Some("b1/eth0"));
}

#[test]
fn rings_are_drawn_as_far_as_hops_lead() {
    let rings = |hosts: &[&str], hops| {
        let hosts = hosts.iter().map(|name| host(name)).collect();
        found(Wanted { rings: true, hosts, hops, kinds: vec![NodeKind::Drone], ..Wanted::default() })
    };
    let all = rings(&[], None);
    assert_eq!((all.nodes.len(), all.relationships.len()), (3, 3));
    assert!(all.relationships.iter().all(|edge| edge.ring.as_deref() == Some("subnet 10.0.0.0/24")));
    assert_eq!(rings(&["a1"], Some(0)).nodes.len(), 1);
    assert_eq!(rings(&["a1"], Some(1)).nodes.len(), 3);
}

#[test]
fn a_host_that_nobody_knows_is_named() {
    let store = store();
    let wanted = Wanted { hosts: vec![host("a1"), host("nobody")], ..Wanted::default() };
    assert_eq!(find(store.reader().unwrap().as_mut(), &wanted).unwrap(), Err(host("nobody")));
}

#[test]
fn the_api_and_the_canned_queries_answer_the_same() {
    let site = Site::create();
    let _cma = site.start(&[]);
    let mut agent = Agent::new(&site, "web1");
    let data = json!({"eth0": {"address": "00-16-3e-00-00-01", "virtual": false, "default_gw": true,
        "ipaddrs": {"10.0.0.7/24": {"scope": "global", "name": "eth0"}}}});
    agent.queue_of("netconfig", "netconfig", data);
    let switch = json!({"ChassisId": "00-16-3e-aa-00-01", "SystemName": "sw-office", "SystemDescription": "a switch",
        "SystemCapabilities": {"bridge": true, "router": false}, "ManagementAddress": "10.0.0.250",
        "ports": {"Gi1/0/7": {"PortDescription": "desk 7", "pvid": 20, "sourceMAC": "00-16-3e-aa-00-07", "ConnectsToHost": "web1",
            "ConnectsToInterface": "eth0"}}});
    agent.queue_of("#SWITCH_eth0", "__LinkDiscovery", switch);
    runtime().block_on(agent.deliver(1));

    let answer =
        site.get("/v1/subgraph?host=WEB1&hops=0&kinds=drone,NICNode,IPaddrNode&edges=nicowner,ipowner");
    let subgraph: Subgraph = serde_json::from_value(answer.clone()).unwrap();
    assert_eq!(keys(&subgraph, "IPaddrNode"), ["@global/10.0.0.7"]);
    assert_eq!(get(&subgraph, "web1").place.as_ref().unwrap().subnet.as_deref(), Some("10.0.0.0/24"));
    // The switch stands one hop away, and the host at its port.
    let place = get(&subgraph, "web1").place.clone().unwrap();
    assert_eq!((place.switch_name.as_deref(), place.port.as_deref()), (Some("sw-office"), Some("Gi1/0/7")));
    let near: Subgraph = serde_json::from_value(site.get("/v1/subgraph?host=web1&hops=1")).unwrap();
    let switch = near.nodes.iter().find(|node| node.kind == "SystemNode").unwrap();
    assert_eq!(switch.properties["roles"], json!(["bridge"]));
    assert_eq!(get(&near, "@global/00-16-3e-aa-00-01/Gi1/0/7").properties["vlan"], json!(20));
    assert!(
        get(&near, "@global/10.0.0.250").owner.as_deref().unwrap().starts_with("@global/00-16-3e-aa-00-01/")
    );
    let types = json!({"nodetypes": "Drone,NICNode,IPaddrNode", "reltypes": ["nicowner", "ipowner"]});
    let mut of_host = types.clone();
    of_host["hostname"] = json!("web1");
    let whole = site.get("/v1/subgraph?kinds=drone,NICNode,IPaddrNode&edges=nicowner,ipowner");
    assert!(whole["nodes"].as_array().unwrap().len() > answer["nodes"].as_array().unwrap().len());
    for (query, parameters, answer) in
        [("allhostsubgraph", types, &whole), ("hostsubgraph", of_host, &answer)]
    {
        let (status, told) =
            site.request("POST", &format!("/v1/query/{query}"), Some(json!({"parameters": parameters})));
        assert_eq!((status, &told["object"]), (200, &json!(true)), "{told}");
        assert_eq!(told["columns"], json!(["nodes", "relationships"]));
        assert_eq!(told["rows"], json!([[answer["nodes"], answer["relationships"]]]), "{query}");
    }
    let (status, told) =
        site.request("POST", "/v1/query/hostsubgraph", Some(json!({"parameters": {"hostname": "web2"}})));
    assert_eq!((status, told["error"].as_str()), (404, Some("there is no host web2")));

    for (path, status, word) in [
        ("/v1/subgraph?host=nobody", 404, "nobody"),
        ("/v1/subgraph?host=a%20b", 400, "a b"),
        ("/v1/subgraph?kinds=Dron", 400, "Dron"),
        ("/v1/subgraph?edges=nicowner,wired", 400, "wired"),
        ("/v1/subgraph?hops=-1", 400, "hops"),
        ("/v1/subgraph?depth=1", 400, "depth"),
    ] {
        let (found, answer) = site.request("GET", path, None);
        assert_eq!(found, status, "{path}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(word), "{path}: {answer}");
    }
    let (_, answer) = site.request("GET", "/v1/subgraph?kinds=Dron", None);
    assert!(answer["hint"].as_str().unwrap().contains("did you mean Drone?"), "{answer}");
}
