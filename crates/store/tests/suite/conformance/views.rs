//! What the views of the graph say about the site of [`site::fill`] and [`network::fill`].

use super::*;
use model::graph::{EdgeKind, NodeKind};

fn filled(store: &mut dyn Store) {
    site::fill(store);
    network::fill(store);
}

fn rows(store: &dyn Store, statement: &str) -> Value {
    json!(sql(store, statement).rows)
}

pub fn links_lead_from_host_to_host(store: &mut dyn Store) {
    filled(store);
    assert_eq!(
        rows(
            store,
            "SELECT host, process, network, ipaddr, port, service, child, is_monitored FROM services ORDER BY service"
        ),
        json!([
            ["web1", "web1/sshd:1", "global", "10.0.0.7", 22, "@global/22_tcp_10.0.0.7", null, 0],
            ["db1", "db1/postgres:1", "global", "2001:db8::1", 5432, "@global/5432_tcp_2001:db8::1", null, 0],
            ["web1", "web1/sshd:1", "web1", "127.0.0.1", 22, "web1/22_tcp_127.0.0.1", null, 0],
            [
                "web1",
                "web1/nginx:1",
                "web1:docker/0123",
                "172.17.0.2",
                80,
                "web1:docker/0123/80_tcp_172.17.0.2",
                "web1/docker/0123",
                0
            ],
        ])
    );
    let monitored = "SELECT sum(is_monitored) FROM services WHERE host = 'web1'";
    for (active, count) in [(false, 0), (true, 2)] {
        let name = "web1:tcp:ssh::1";
        let monitor = site::node(NodeKind::MonitorAction, name, json!({"isactive": active}));
        let process = site::node(NodeKind::ProcessNode, "web1/sshd:1", json!({}));
        let edges = vec![
            site::link((NodeKind::Drone, "web1"), EdgeKind::Hosting, monitor),
            site::link((NodeKind::MonitorAction, name), EdgeKind::Monitoring, process),
        ];
        let facts = model::GraphFacts { edges, ..Default::default() };
        commit(store, |t| t.replace_graph(&host("web1"), "_monitor_1", &facts, at(300)));
        assert_eq!(rows(store, monitored), json!([[count]]), "both services of the process");
    }
    assert_eq!(
        rows(store, "SELECT host, pathname, service FROM clients ORDER BY service"),
        json!([
            ["web2", "/usr/bin/curl", "@global/443_tcp_10.0.0.99"],
            ["web1", "/opt/app", "@global/5432_tcp_2001:db8::1"],
            ["web1", "/opt/app", "@global/8080_tcp_10.0.0.8"],
        ])
    );
    assert_eq!(
        rows(
            store,
            "SELECT client_host, client_process, port, server_host, server_process, server_pathname, address_host
             FROM dependencies ORDER BY port"
        ),
        json!([
            ["web2", "web2/curl:1", 443, null, null, null, null],
            ["web1", "web1/app:1", 5432, "db1", "db1/postgres:1", null, "db1"],
            ["web1", "web1/app:1", 8080, null, null, null, "web2"],
        ])
    );
    assert_eq!(
        rows(store, "SELECT client_host FROM dependencies WHERE server_host = 'db1'"),
        json!([["web1"]]),
        "from the other end"
    );
    assert_eq!(
        rows(
            store,
            "SELECT host, ifname, switch, system_name, system_description, port_id, port_description, vlan, speed, duplex,
               network FROM switch_ports"
        ),
        json!([[
            "web1",
            "eth0",
            "@global/02-00-00-00-00-01",
            "sw1",
            "Acme OS",
            "g7",
            "rack 3",
            7,
            1000,
            "full",
            "global"
        ]])
    );
    assert_eq!(
        rows(store, "SELECT system, chassis_id, system_name, ipaddr, network FROM systems"),
        json!([["@global/02-00-00-00-00-01", "02-00-00-00-00-01", "sw1", "10.0.0.254", "global"]])
    );
    // Another discovery may speak of the same container.
    let shop =
        site::node(NodeKind::ChildSystem, "web1/docker/0123", json!({"kind": "docker", "name": "shop2"}));
    let facts = model::GraphFacts {
        edges: vec![site::link((NodeKind::Drone, "web1"), EdgeKind::Hosting, shop)],
        ..Default::default()
    };
    commit(store, |t| t.replace_graph(&host("web1"), "_init_docker", &facts, at(400)));
    assert_eq!(
        rows(store, "SELECT host, child, kind, name, instance FROM children"),
        json!([["web1", "web1/docker/0123", "docker", "shop2", "_init_docker"]])
    );
    assert_eq!(rows(store, "SELECT host, path, sum FROM checksums"), json!([["web1", "/bin/sh", "5d41"]]));
}

pub fn neighbours_are_told_with_whose_they_are(store: &mut dyn Store) {
    filled(store);
    assert_eq!(
        rows(
            store,
            "SELECT network, macaddr, oui, ipaddr, hostname, seen_by, owner, system FROM neighbours ORDER BY ipaddr"
        ),
        json!([
            [
                "global",
                "02-00-00-00-00-01",
                null,
                "10.0.0.254",
                null,
                "web1",
                null,
                "@global/02-00-00-00-00-01"
            ],
            ["global", "00-16-3e-00-00-02", "Xensource", "10.0.0.8", "web2.example", "web1", "web2", null],
            ["global", "02-00-00-00-00-99", null, "10.0.0.99", null, "web1", null, null],
        ])
    );
    assert_eq!(
        rows(store, "SELECT ipaddr, subnet, system, host, ifname FROM known_addresses ORDER BY ipaddr"),
        json!([
            ["10.0.0.254", null, "@global/02-00-00-00-00-01", null, "(management)"],
            ["10.0.0.7", "10.0.0.0/24", "web1", "web1", "eth0"],
            ["10.0.0.8", "10.0.0.0/24", "web2", "web2", "eth0"],
            ["10.0.0.99", null, null, null, null],
            ["2001:db8::1", "2001:d00::/24", "db1", "db1", "eth0"],
        ])
    );
    // Somebody else answers at the address of web1: both are told.
    let (mac, ip) = ("@global/02-00-00-00-00-66", "@global/10.0.0.7");
    let facts = model::GraphFacts {
        sources: vec![site::node(NodeKind::LinkAddress, mac, json!({"macaddr": "02-00-00-00-00-66"}))],
        edges: vec![site::link(
            (NodeKind::LinkAddress, mac),
            EdgeKind::IpOwner,
            site::node(NodeKind::IpaddrNode, ip, json!({"ipaddr": "10.0.0.7"})),
        )],
        ..Default::default()
    };
    for listener in ["web2", "db1"] {
        commit(store, |t| t.replace_graph(&host(listener), "_ARP_eth0", &facts, at(300)));
    }
    assert_eq!(
        rows(
            store,
            "SELECT macaddr, ifname, said_by FROM known_addresses WHERE ipaddr = '10.0.0.7' ORDER BY macaddr"
        ),
        json!([["00-16-3e-00-00-01", "eth0", "web1"], ["02-00-00-00-00-66", null, "web2"]]),
        "once, whoever heard it"
    );
}

pub fn facts_are_as_old_as_what_their_host_says(store: &mut dyn Store) {
    filled(store);
    let last_heard = at(150).to_utc_text();
    let dead = rows(store, "SELECT since, said_by, instance, last_seen FROM nics WHERE host = 'web2'");
    assert_eq!(dead, json!([[at(100).to_utc_text(), "web2", "netconfig", last_heard]]));
    let before = Timestamp::now().to_utc_text();
    let alive = cell(store, "SELECT last_seen FROM nics WHERE host = 'web1'");
    // The clock of SQL has milliseconds.
    assert!(alive.as_str() >= Some(&before[..before.len() - 4]), "{alive} is before {before}");
    assert_eq!(alive.as_str().map(str::len), Some(before.len()));
    commit(store, |t| t.put_host(&site::host_row("web1", "dead", "HBDEAD")));
    for view in [
        "nics",
        "addresses",
        "packages",
        "children",
        "services",
        "clients",
        "switch_ports",
        "neighbours",
        "systems",
    ] {
        let seen =
            rows(store, &format!("SELECT DISTINCT last_seen FROM {view} WHERE last_seen > '1970-01-02'"));
        assert_eq!(seen, json!([]), "{view}: nobody is alive to say so");
        assert_ne!(
            rows(store, &format!("SELECT 1 FROM {view} WHERE last_seen = '{last_heard}'")),
            json!([]),
            "{view}"
        );
    }
}

pub fn containers_belong_to_their_host(store: &mut dyn Store) {
    filled(store);
    let (child, nic) = ((NodeKind::ChildSystem, "web1/docker/0123"), "web1/docker/0123/lan");
    let (published, address) = ("@global/8081_tcp_10.0.0.7", "@global/10.0.0.50");
    let edges = vec![
        site::link(
            (NodeKind::Drone, "web1"),
            EdgeKind::Hosting,
            site::node(child.0, child.1, json!({"name": "shop", "kind": "docker"})),
        ),
        site::link(
            child,
            EdgeKind::NicOwner,
            site::node(NodeKind::NicNode, nic, json!({"network": "lan", "macaddr": "02-42-00-00-00-50"})),
        ),
        site::link(
            (NodeKind::NicNode, nic),
            EdgeKind::LinkAddr,
            site::node(
                NodeKind::LinkAddress,
                "@global/02-42-00-00-00-50",
                json!({"macaddr": "02-42-00-00-00-50"}),
            ),
        ),
        site::link(
            (NodeKind::NicNode, nic),
            EdgeKind::IpOwner,
            site::node(NodeKind::IpaddrNode, address, json!({"ipaddr": "10.0.0.50", "cidrmask": 24})),
        ),
        site::link(
            child,
            EdgeKind::TcpService,
            site::node(
                NodeKind::IpTcpPortNode,
                published,
                json!({"ipaddr": "10.0.0.7", "port": 8081, "protocol": "tcp"}),
            ),
        ),
    ];
    let docker = model::GraphFacts { edges, ..Default::default() };
    commit(store, |t| t.replace_graph(&host("web1"), "_init_docker", &docker, at(300)));
    let used = network::process(
        (NodeKind::Drone, "web2"),
        "web2/curl:1",
        Some("/usr/bin/curl"),
        EdgeKind::TcpClient,
        &[("@global", "10.0.0.7", 8081), ("@global", "10.0.0.50", 9999)],
    );
    let used = model::GraphFacts { edges: used, ..Default::default() };
    commit(store, |t| t.replace_graph(&host("web2"), "_init_tcpdiscovery", &used, at(300)));
    assert_eq!(
        rows(store, "SELECT host, process, child, offered_by, ipaddr FROM services WHERE port = 8081"),
        json!([["web1", null, "web1/docker/0123", "shop", "10.0.0.7"]])
    );
    assert_eq!(
        rows(
            store,
            "SELECT port, server_host, server_process, server_child, offered_by, address_host FROM dependencies
             WHERE client_host = 'web2' ORDER BY port"
        ),
        json!([
            [8081, "web1", null, "web1/docker/0123", "shop", "web1"],
            [9999, null, null, null, null, "web1"]
        ])
    );
    assert_eq!(
        rows(store, "SELECT host, child, ifname, ipaddr FROM addresses WHERE host = 'web1' ORDER BY ipaddr"),
        json!([["web1", "web1/docker/0123", "lan", "10.0.0.50"], ["web1", null, "eth0", "10.0.0.7"]])
    );
    assert_eq!(
        rows(store, "SELECT host, system, ifname FROM known_addresses WHERE ipaddr = '10.0.0.50'"),
        json!([["web1", "web1/docker/0123", "lan"]])
    );
}

pub fn a_host_that_speaks_lldp_is_no_other_device(store: &mut dyn Store) {
    filled(store);
    let (system, own) = ("@global/00-16-3e-00-00-02", "@global/00-16-3e-00-00-02/(management)");
    let nic = json!({"ifname": "(management)", "macaddr": "00-16-3e-00-00-02"});
    let facts = model::GraphFacts {
        sources: vec![site::node(NodeKind::SystemNode, system, json!({"SystemName": "web2.example"}))],
        edges: vec![
            site::link(
                (NodeKind::SystemNode, system),
                EdgeKind::NicOwner,
                site::node(NodeKind::NicNode, own, nic),
            ),
            site::link(
                (NodeKind::NicNode, own),
                EdgeKind::LinkAddr,
                site::node(NodeKind::LinkAddress, system, json!({"macaddr": "00-16-3e-00-00-02"})),
            ),
            site::link(
                (NodeKind::NicNode, own),
                EdgeKind::IpOwner,
                site::node(NodeKind::IpaddrNode, "@global/10.0.0.8", json!({"ipaddr": "10.0.0.8"})),
            ),
        ],
        ..Default::default()
    };
    commit(store, |t| t.replace_graph(&host("db1"), "#SWITCH_eth0", &facts, at(300)));
    assert_eq!(
        rows(store, "SELECT system_name, host FROM systems ORDER BY system_name"),
        json!([["sw1", null], ["web2.example", "web2"]])
    );
    assert_eq!(
        rows(store, "SELECT system FROM known_addresses WHERE ipaddr = '10.0.0.8'"),
        json!([["web2"]]),
        "listed once, as the host"
    );
    assert_eq!(
        rows(store, "SELECT owner, system FROM neighbours WHERE ipaddr = '10.0.0.8'"),
        json!([["web2", system]])
    );
    // Before the host has its nanoprobe it is what it says by LLDP.
    commit(store, |t| t.remove_host(&host("web2"), at(400)));
    assert_eq!(rows(store, "SELECT host FROM systems WHERE system_name = 'web2.example'"), json!([[null]]));
    assert_eq!(
        rows(store, "SELECT host, system FROM known_addresses WHERE ipaddr = '10.0.0.8'"),
        json!([[null, system]])
    );
}
