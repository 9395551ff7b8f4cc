//! What the document means for the graph: containers as children of the host, their addresses, and the ports that the
//! host publishes for them.
//!
//! | edges | what |
//! |---|---|
//! | host –hosting→ container –parentsys→ host | the container, with `name`, `image`, `state`, `network_mode`, `addresses`, `ports` |
//! | container –nicowner→ interface –ipowner→ address, –linkaddr→ link-layer address | one interface for each network it is in |
//! | container –tcpservice→ service –baseip→ address | a published port: at the addresses of the host, and at those of the container |
//!
//! Addresses of a container mean something on its host only; those of macvlan and ipvlan networks are the site's. A port
//! that an image merely declares is none that anybody is known to offer, so it is left out.

use crate::child_system;
use crate::own_addresses::OwnAddresses;
use model::Envelope;
use model::graph::{EdgeFact, EdgeKind, GLOBAL, GraphFacts, NodeFact, NodeKind};
use model::text::{printable, shortened};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Characters of a text that becomes a property or part of a key.
const MAX_TEXT: usize = 300;
/// More networks or published ports of one container are left out.
const MAX_PARTS: usize = 1000;

pub fn graph(host: &str, envelope: &Envelope) -> GraphFacts {
    let own = OwnAddresses::of(&envelope.extras);
    let mut facts = GraphFacts::default();
    for (id, container) in envelope.data["containers"].as_object().into_iter().flatten() {
        let proxy = format!("docker/{id}");
        let child = (NodeKind::ChildSystem, child_system::key(host, &proxy));
        let interfaces = interfaces(host, container, &envelope.data["networks"]);
        let ports = ports(container);
        facts.edges.extend(child_system::edges(host, &proxy, properties(container, &interfaces, &ports)));
        for interface in &interfaces {
            facts.edges.extend(interface.edges(&child));
        }
        let mut seen = BTreeSet::new();
        for port in &ports {
            let at_host = port.host_ips.iter().flat_map(|ip| own.reached(host, *ip, false));
            let at_host = at_host.map(|(context, ip)| (context, ip, port.host_port));
            let at_container = interfaces.iter().flat_map(|interface| {
                let ips = interface.addresses.iter();
                ips.map(|(ip, _)| (interface.context.clone(), *ip, port.container_port))
            });
            for (context, ip, number) in at_host.chain(at_container) {
                if seen.insert((context.clone(), ip, number, port.protocol)) {
                    facts.edges.extend(service(&child, &context, ip, number, port.protocol));
                }
            }
        }
    }
    facts
}

/// A container in one of its networks.
struct Interface<'a> {
    network: &'a str,
    /// Where its addresses mean something.
    context: String,
    macaddr: Option<String>,
    addresses: Vec<(IpAddr, u64)>,
}

impl Interface<'_> {
    fn edges(&self, child: &(NodeKind, String)) -> Vec<EdgeFact> {
        let key = format!("{}/{}", child.1, text(self.network));
        let mut properties = Map::from_iter([("network".to_owned(), Value::from(text(self.network)))]);
        properties.extend(self.macaddr.as_deref().map(|address| ("macaddr".to_owned(), address.into())));
        let mut edges = vec![EdgeFact {
            source: child.clone(),
            kind: EdgeKind::NicOwner,
            target: NodeFact { kind: NodeKind::NicNode, key: key.clone(), properties },
        }];
        let mut leads_to = |kind, target_kind, identity: &str, properties: Value| {
            edges.push(EdgeFact {
                source: (NodeKind::NicNode, key.clone()),
                kind,
                target: NodeFact {
                    kind: target_kind,
                    key: format!("{}/{identity}", self.context),
                    properties: properties.as_object().cloned().unwrap_or_default(),
                },
            });
        };
        if let Some(address) = &self.macaddr {
            leads_to(EdgeKind::LinkAddr, NodeKind::LinkAddress, address, json!({ "macaddr": address }));
        }
        for (ip, length) in &self.addresses {
            let ip = ip.to_string();
            leads_to(
                EdgeKind::IpOwner,
                NodeKind::IpaddrNode,
                &ip,
                json!({ "ipaddr": ip, "cidrmask": length }),
            );
        }
        edges
    }
}

fn interfaces<'a>(host: &str, container: &'a Value, networks: &Value) -> Vec<Interface<'a>> {
    let attached = container["NetworkSettings"]["Networks"].as_object().into_iter().flatten();
    let interfaces = attached.take(MAX_PARTS).map(|(network, fields)| {
        let addresses = [("IPAddress", "IPPrefixLen"), ("GlobalIPv6Address", "GlobalIPv6PrefixLen")]
            .into_iter()
            .filter_map(|(address, length)| {
                let ip: IpAddr = fields[address].as_str()?.parse().ok()?;
                Some((ip, fields[length].as_u64().filter(|length| *length <= 128)?))
            });
        let is_sites = matches!(networks[network.as_str()]["Driver"].as_str(), Some("macvlan" | "ipvlan"));
        Interface {
            network,
            context: if is_sites { GLOBAL } else { host }.to_owned(),
            macaddr: fields["MacAddress"].as_str().and_then(link_address),
            addresses: addresses.filter(|(ip, _)| !ip.is_unspecified() && !ip.is_loopback()).collect(),
        }
    });
    interfaces.filter(|interface| interface.macaddr.is_some() || !interface.addresses.is_empty()).collect()
}

/// A port of a container that its host publishes.
struct Port {
    host_ips: Vec<IpAddr>,
    host_port: u16,
    container_port: u16,
    protocol: &'static str,
    /// As `docker ps` shows it, for people.
    shown: String,
}

fn ports(container: &Value) -> Vec<Port> {
    let listed = container["NetworkSettings"]["Ports"].as_object().into_iter().flatten();
    let ports = listed.filter_map(|(name, published)| {
        let (container_port, protocol) = name.split_once('/')?;
        let container_port: u16 = container_port.parse().ok()?;
        let protocol = ["tcp", "udp"].into_iter().find(|known| *known == protocol)?;
        // Null for a port that is declared and not published.
        Some(published.as_array()?.iter().filter_map(move |at| {
            let host_port: u16 = at["HostPort"].as_str()?.parse().ok().filter(|port| *port > 0)?;
            let host_ips = match at["HostIp"].as_str()? {
                "" => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
                ip => vec![ip.parse().ok()?],
            };
            let ip = at["HostIp"].as_str().filter(|ip| !ip.is_empty()).unwrap_or("*");
            let shown = format!("{ip}:{host_port}->{container_port}/{protocol}");
            Some(Port { host_ips, host_port, container_port, protocol, shown })
        }))
    });
    ports.flatten().take(MAX_PARTS).collect()
}

fn properties(container: &Value, interfaces: &[Interface<'_>], ports: &[Port]) -> Map<String, Value> {
    let addresses: BTreeSet<String> = interfaces
        .iter()
        .flat_map(|interface| interface.addresses.iter().map(|(ip, _)| ip.to_string()))
        .collect();
    // Lists are always there: an empty one takes the place of what was known before.
    let mut properties = Map::from_iter([
        ("addresses".to_owned(), json!(addresses)),
        ("ports".to_owned(), ports.iter().map(|port| Value::from(port.shown.as_str())).collect()),
    ]);
    for (property, pointer) in [
        ("name", "/Name"),
        ("image", "/Config/Image"),
        ("state", "/State/Status"),
        ("network_mode", "/HostConfig/NetworkMode"),
    ] {
        if let Some(found) = container.pointer(pointer).and_then(Value::as_str) {
            properties.insert(property.into(), text(found.trim_start_matches('/')).into());
        }
    }
    properties
}

fn service(
    child: &(NodeKind, String),
    context: &str,
    ip: IpAddr,
    port: u16,
    protocol: &str,
) -> [EdgeFact; 2] {
    let key = format!("{context}/{port}_{protocol}_{ip}");
    let ip = ip.to_string();
    let properties = json!({ "ipaddr": ip, "port": port, "protocol": protocol });
    [
        EdgeFact {
            source: child.clone(),
            kind: EdgeKind::TcpService,
            target: NodeFact {
                kind: NodeKind::IpTcpPortNode,
                key: key.clone(),
                properties: properties.as_object().cloned().unwrap_or_default(),
            },
        },
        EdgeFact {
            source: (NodeKind::IpTcpPortNode, key),
            kind: EdgeKind::BaseIp,
            target: NodeFact {
                kind: NodeKind::IpaddrNode,
                key: format!("{context}/{ip}"),
                properties: Map::from_iter([("ipaddr".to_owned(), Value::from(ip))]),
            },
        },
    ]
}

/// `02:42:AC:11:00:02` as the graph writes it; zeros identify nothing.
fn link_address(text: &str) -> Option<String> {
    let bytes: Vec<u8> = text
        .split([':', '-'])
        .map(|byte| {
            // `from_str_radix` would take a sign.
            let is_byte = byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_byte.then(|| u8::from_str_radix(byte, 16).ok()).flatten()
        })
        .collect::<Option<_>>()?;
    let is_address = matches!(bytes.len(), 6 | 8) && bytes.iter().any(|byte| *byte != 0);
    is_address.then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join("-"))
}

fn text(found: &str) -> String {
    shortened(&printable(found), MAX_TEXT).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::all::{docker, tcpdiscovery};

    const ID: &str = "ababababababababababababababababababababababababababababababab01";

    fn envelope(discovertype: &str, data: Value) -> Envelope {
        Envelope {
            discovertype: discovertype.into(),
            description: String::new(),
            host: String::new(),
            source: String::new(),
            instance: String::new(),
            proxy: "local/local".into(),
            data,
            errors: Vec::new(),
            extras: Map::from_iter([(
                "addresses".to_owned(),
                json!({"10.0.0.7/24": "global", "172.17.0.1/16": "host"}),
            )]),
        }
    }

    /// What `docker inspect` shows of a web server, as far as it matters here.
    fn web() -> Value {
        json!({"Name": "/shop", "State": {"Status": "running"}, "Config": {"Image": "nginx:1.25"},
            "HostConfig": {"NetworkMode": "bridge"},
            "NetworkSettings": {
                "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
                    "443/tcp": null, "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}]},
                "Networks": {"bridge": {"IPAddress": "172.17.0.2", "IPPrefixLen": 16, "GlobalIPv6Address": "",
                    "GlobalIPv6PrefixLen": 0, "MacAddress": "02:42:AC:11:00:02"},
                  "lan": {"IPAddress": "10.0.0.99", "IPPrefixLen": 24, "MacAddress": "02:42:0a:00:00:63"}}}})
    }

    fn facts(containers: Value) -> GraphFacts {
        let networks = json!({"bridge": {"Driver": "bridge"}, "lan": {"Driver": "macvlan"}});
        graph("web1", &envelope("docker", json!({"networks": networks, "containers": containers})))
    }

    fn told(facts: &GraphFacts, kind: EdgeKind) -> Vec<(&str, &str)> {
        let edges = facts.edges.iter().filter(|edge| edge.kind == kind);
        let mut told: Vec<_> = edges.map(|edge| (edge.source.1.as_str(), edge.target.key.as_str())).collect();
        told.sort_unstable();
        told
    }

    /// The store takes no other edges: each starts at the host or at the target of another.
    fn assert_connected(facts: &GraphFacts) {
        for edge in &facts.edges {
            let is_target = facts
                .edges
                .iter()
                .any(|other| (other.target.kind, &other.target.key) == (edge.source.0, &edge.source.1));
            assert!(is_target || edge.source == (NodeKind::Drone, "web1".to_owned()), "{edge:?}");
        }
    }

    #[test]
    fn a_container_has_addresses_and_published_ports() {
        let facts = facts(json!({ID: web()}));
        let child = format!("web1/docker/{ID}");
        assert_eq!(told(&facts, EdgeKind::Hosting), [("web1", child.as_str())]);
        assert_eq!(told(&facts, EdgeKind::ParentSys), [(child.as_str(), "web1")]);
        let properties = &facts.edges[0].target.properties;
        assert_eq!(
            Value::Object(properties.clone()),
            json!({"name": "shop", "image": "nginx:1.25", "state": "running", "kind": "docker", "id": ID,
                "network_mode": "bridge", "addresses": ["10.0.0.99", "172.17.0.2"],
                "ports": ["127.0.0.1:5353->53/udp", "0.0.0.0:8080->80/tcp", ":::8080->80/tcp"]})
        );
        let (bridge, lan) = (format!("{child}/bridge"), format!("{child}/lan"));
        assert_eq!(
            told(&facts, EdgeKind::IpOwner),
            [(bridge.as_str(), "web1/172.17.0.2"), (lan.as_str(), "@global/10.0.0.99")]
        );
        assert_eq!(
            told(&facts, EdgeKind::LinkAddr),
            [(bridge.as_str(), "web1/02-42-ac-11-00-02"), (lan.as_str(), "@global/02-42-0a-00-00-63")]
        );
        let services: Vec<&str> =
            told(&facts, EdgeKind::TcpService).into_iter().map(|(_, service)| service).collect();
        assert_eq!(
            services,
            [
                "@global/53_udp_10.0.0.99",
                "@global/8080_tcp_10.0.0.7",
                "@global/80_tcp_10.0.0.99",
                "web1/5353_udp_127.0.0.1",
                "web1/53_udp_172.17.0.2",
                "web1/8080_tcp_172.17.0.1",
                "web1/80_tcp_172.17.0.2",
            ],
            "443 is declared only"
        );
        assert_connected(&facts);
    }

    #[test]
    fn one_node_whoever_saw_it_first_and_processes_below_it() {
        let processes = json!({
            "nginx:1": {"exe": "/usr/sbin/nginx", "proxy": format!("docker/{ID}"), "listenaddrs": {"0.0.0.0:80": "tcp"}},
            "sshd:2": {"exe": "/usr/sbin/sshd", "proxy": "local/local", "listenaddrs": {"0.0.0.0:22": "tcp"}},
            "exporter:3": {"exe": "/exporter", "proxy": format!("docker/{ID}"), "host_network": true,
                "listenaddrs": {"0.0.0.0:9100": "tcp"}},
            "web:4": {"exe": "/web", "proxy": "lxc/blog", "listenaddrs": {":::80": "tcp6"}},
        });
        let seen = (tcpdiscovery::DISCOVERY.graph)("web1", &envelope("tcpdiscovery", processes));
        let inspected =
            (docker::DISCOVERY.graph)("web1", &envelope("docker", json!({"containers": {ID: web()}})));
        let child = format!("web1/docker/{ID}");
        assert_eq!(
            told(&seen, EdgeKind::Hosting),
            [
                ("web1", child.as_str()),
                ("web1", "web1/lxc/blog"),
                ("web1", "web1/sshd:2"),
                (child.as_str(), "web1/exporter:3"),
                (child.as_str(), "web1/nginx:1"),
                ("web1/lxc/blog", "web1/web:4"),
            ]
        );
        assert_eq!(told(&inspected, EdgeKind::Hosting), [("web1", child.as_str())], "the same node");
        let services: Vec<&str> =
            told(&seen, EdgeKind::TcpService).into_iter().map(|(_, service)| service).collect();
        assert!(
            services.contains(&"@global/9100_tcp_10.0.0.7"),
            "it shares the host's network: {services:?}"
        );
        assert!(services.contains(&format!("web1:docker/{ID}/80_tcp_0.0.0.0").as_str()), "{services:?}");
        assert!(
            !services.contains(&"@global/80_tcp_10.0.0.7"),
            "nothing on the host listens there: {services:?}"
        );
        let blog = seen.edges.iter().find(|edge| edge.target.key == "web1/lxc/blog").unwrap();
        assert_eq!(
            (&blog.target.properties["name"], &blog.target.properties["kind"]),
            (&json!("blog"), &json!("lxc"))
        );
        assert_connected(&seen);
    }

    #[test]
    fn without_networks_or_with_junk_the_container_stays() {
        let mut host_network = web();
        host_network["NetworkSettings"] =
            json!({"Ports": {}, "Networks": {"host": {"IPAddress": "", "MacAddress": ""}}});
        let junk = json!({"Name": 7, "NetworkSettings": {"Ports": {"x/tcp": [{}], "99999/tcp": [{"HostIp": "", "HostPort": "1"}],
            "1/sctp": [{"HostIp": "", "HostPort": "1"}], "2/tcp": [{"HostIp": "elsewhere", "HostPort": "2"}, 7],
            "3/tcp": [{"HostIp": "", "HostPort": "0"}]},
            "Networks": {"a": 1, "b": {"IPAddress": "x", "MacAddress": "00:00:00:00:00:00"},
            "c": {"IPAddress": "1.2.3.4", "IPPrefixLen": 999, "MacAddress": "+1:+2:+3:+4:+5:+6"}}}});
        let facts = facts(json!({"a": host_network, "b": junk, "c": 7}));
        assert_eq!(
            told(&facts, EdgeKind::Hosting),
            [("web1", "web1/docker/a"), ("web1", "web1/docker/b"), ("web1", "web1/docker/c")]
        );
        for kind in [EdgeKind::NicOwner, EdgeKind::IpOwner, EdgeKind::LinkAddr, EdgeKind::TcpService] {
            assert!(told(&facts, kind).is_empty(), "{kind:?}: {:?}", told(&facts, kind));
        }
        assert_eq!(graph("web1", &envelope("docker", json!({"NODATA": "no docker"}))), GraphFacts::default());
    }
}
