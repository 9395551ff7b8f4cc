//! What connects the site of [`super::site::fill`]: services and clients, a container, a switch, neighbours.

use super::site::{link, node};
use super::{at, commit, document, host};
use model::GraphFacts;
use model::graph::{EdgeFact, EdgeKind, NodeFact, NodeKind};
use serde_json::json;
use store::Store;

const DRONE: NodeKind = NodeKind::Drone;
const PROCESS: NodeKind = NodeKind::ProcessNode;

/// A process below `holder`, with what it offers or uses: network, address, port.
pub fn process(
    holder: (NodeKind, &str),
    key: &str,
    program: Option<&str>,
    kind: EdgeKind,
    services: &[(&str, &str, u16)],
) -> Vec<EdgeFact> {
    let name = key.split_once('/').map_or(key, |(_, name)| name);
    let mut properties = json!({"processname": name});
    if let Some(program) = program {
        properties["pathname"] = json!(program);
    }
    let mut edges = vec![link(holder, EdgeKind::Hosting, node(PROCESS, key, properties))];
    for (context, ip, port) in services {
        let service = format!("{context}/{port}_tcp_{ip}");
        let named = json!({"ipaddr": ip, "port": port, "protocol": "tcp"});
        let address = node(NodeKind::IpaddrNode, &format!("{context}/{ip}"), json!({"ipaddr": ip}));
        edges.push(link((PROCESS, key), kind, node(NodeKind::IpTcpPortNode, &service, named)));
        edges.push(link((NodeKind::IpTcpPortNode, &service), EdgeKind::BaseIp, address));
    }
    edges
}

fn facts(sources: Vec<NodeFact>, edges: Vec<EdgeFact>) -> GraphFacts {
    GraphFacts { sources, edges, ..GraphFacts::default() }
}

fn of_web1() -> Vec<EdgeFact> {
    let (web1, child) = ((DRONE, "web1"), "web1/docker/0123");
    let shop = node(NodeKind::ChildSystem, child, json!({"kind": "docker", "id": "0123", "name": "shop"}));
    let mut edges = process(
        web1,
        "web1/sshd:1",
        Some("/usr/sbin/sshd"),
        EdgeKind::TcpService,
        &[("@global", "10.0.0.7", 22), ("web1", "127.0.0.1", 22)],
    );
    edges.extend(process(
        web1,
        "web1/app:1",
        Some("/opt/app"),
        EdgeKind::TcpClient,
        &[("@global", "2001:db8::1", 5432), ("@global", "10.0.0.8", 8080)],
    ));
    edges.push(link(web1, EdgeKind::Hosting, shop));
    edges.push(link((NodeKind::ChildSystem, child), EdgeKind::ParentSys, node(DRONE, "web1", json!({}))));
    edges.extend(process(
        (NodeKind::ChildSystem, child),
        "web1/nginx:1",
        Some("/usr/sbin/nginx"),
        EdgeKind::TcpService,
        &[("web1:docker/0123", "172.17.0.2", 80)],
    ));
    edges
}

/// A cable from web1 to port g7 of sw1, which is managed at 10.0.0.254.
fn cable() -> GraphFacts {
    let chassis = "@global/02-00-00-00-00-01";
    let (port, own) = (format!("{chassis}/g7"), format!("{chassis}/(management)"));
    let system = json!({"SystemName": "sw1", "SystemDescription": "Acme OS", "roles": ["bridge"]});
    let of_port = json!({"ifname": "g7", "PortId": "g7", "PortDescription": "rack 3", "pvid": 7, "speed": 1000, "duplex": "full"});
    let switch = (NodeKind::SystemNode, chassis);
    facts(
        vec![node(NodeKind::SystemNode, chassis, system)],
        vec![
            link(switch, EdgeKind::NicOwner, node(NodeKind::NicNode, &port, of_port)),
            link(
                (NodeKind::NicNode, &port),
                EdgeKind::WiredTo,
                node(NodeKind::NicNode, "web1/eth0", json!({})),
            ),
            link(
                switch,
                EdgeKind::NicOwner,
                node(NodeKind::NicNode, &own, json!({"ifname": "(management)"})),
            ),
            link(
                (NodeKind::NicNode, &own),
                EdgeKind::IpOwner,
                node(NodeKind::IpaddrNode, "@global/10.0.0.254", json!({"ipaddr": "10.0.0.254"})),
            ),
        ],
    )
}

/// web2, the switch, and a stranger, as web1 hears them.
fn neighbours() -> GraphFacts {
    let heard = [
        ("10.0.0.8", "00-16-3e-00-00-02"),
        ("10.0.0.254", "02-00-00-00-00-01"),
        ("10.0.0.99", "02-00-00-00-00-99"),
    ];
    let link_address =
        |mac: &str| node(NodeKind::LinkAddress, &format!("@global/{mac}"), json!({"macaddr": mac}));
    let edges = heard.iter().map(|(ip, mac)| {
        let address = node(NodeKind::IpaddrNode, &format!("@global/{ip}"), json!({"ipaddr": ip}));
        link((NodeKind::LinkAddress, &format!("@global/{mac}")), EdgeKind::IpOwner, address)
    });
    facts(heard.iter().map(|(_, mac)| link_address(mac)).collect(), edges.collect())
}

pub fn fill(store: &mut dyn Store) {
    let tcp = |edges| facts(Vec::new(), edges);
    let postgres = process(
        (DRONE, "db1"),
        "db1/postgres:1",
        None,
        EdgeKind::TcpService,
        &[("@global", "2001:db8::1", 5432)],
    );
    let curl = process(
        (DRONE, "web2"),
        "web2/curl:1",
        Some("/usr/bin/curl"),
        EdgeKind::TcpClient,
        &[("@global", "10.0.0.99", 443)],
    );
    commit(store, |t| {
        t.replace_graph(&host("web1"), "_init_tcpdiscovery", &tcp(of_web1()), at(200))?;
        t.replace_graph(&host("db1"), "_init_tcpdiscovery", &tcp(postgres), at(200))?;
        t.replace_graph(&host("web2"), "_init_tcpdiscovery", &tcp(curl), at(200))?;
        t.replace_graph(&host("web1"), "#SWITCH_eth0", &cable(), at(200))?;
        t.replace_graph(&host("web1"), "_ARP_eth0", &neighbours(), at(200))?;
        t.put_reverse_name("10.0.0.8".parse().expect("an address"), Some("web2.example"), at(200))?;
        for (name, data) in [("web1", json!({"/bin/sh": "5d41"})), ("web2", json!({"NODATA": "not yet"}))] {
            let (mut row, body) = document("_auto_checksumdiscovery", data, 200);
            row.discovertype = "checksums".into();
            t.put_document(&host(name), &row, &body)?;
        }
        Ok(())
    });
}
