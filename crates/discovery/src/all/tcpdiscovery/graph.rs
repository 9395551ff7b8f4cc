//! What the document means for the graph: processes, the services they offer, and those they use.
//!
//! A service is a node `<context>/<port>_<protocol>_<address>`, the same whether its host or one of its clients speaks of
//! it, so a dependency shows as soon as both have reported. The context of addresses is that of netconfig. Processes in a
//! container hang under the container, which hangs under the host.

use crate::child_system;
use crate::own_addresses::OwnAddresses;
use model::Envelope;
use model::graph::{EdgeFact, EdgeKind, GraphFacts, NodeFact, NodeKind};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::net::IpAddr;

pub fn graph(host: &str, envelope: &Envelope) -> GraphFacts {
    let own = OwnAddresses::of(&envelope.extras);
    let mut facts = Facts { host, own, edges: Vec::new(), seen: BTreeSet::new() };
    let Some(entries) = envelope.data.as_object() else { return GraphFacts::default() };
    // `::` takes IPv4 too, unless somebody else in the same network namespace has the same port there.
    let four: BTreeSet<&str> = entries
        .values()
        .filter(|entry| is_in_hosts_network(entry))
        .flat_map(|entry| addresses(entry, "listenaddrs"))
        .filter_map(|(address, _)| address.strip_prefix("0.0.0.0:"))
        .collect();
    let mut roles = BTreeSet::from(["drone", "host"]);
    for (name, entry) in entries.iter().filter(|(_, entry)| entry.is_object()) {
        let process = format!("{host}/{name}");
        let proxy = entry["proxy"].as_str().unwrap_or(LOCAL);
        let is_local = is_in_hosts_network(entry);
        let mut own_roles = Vec::new();
        for (role, fields) in [
            ("server", ["listenaddrs", "loopback_listenaddrs"]),
            ("client", ["clientaddrs", "loopback_clientaddrs"]),
        ] {
            if fields.iter().any(|field| addresses(entry, field).next().is_some()) {
                own_roles.push(role);
                roles.insert(role);
            }
        }
        let mut properties = Map::new();
        for field in ["cmdline", "cwd", "uid", "gid", "proxy", "exe_deleted"] {
            properties.extend(entry.get(field).map(|value| (field.to_owned(), value.clone())));
        }
        properties.insert("processname".into(), name.as_str().into());
        properties.extend(entry.get("exe").map(|exe| ("pathname".to_owned(), exe.clone())));
        properties.insert("roles".into(), own_roles.into());
        let holder = if proxy == LOCAL { (NodeKind::Drone, host.to_owned()) } else { facts.child(proxy) };
        facts.edge(holder, EdgeKind::Hosting, (NodeKind::ProcessNode, process.clone()), properties);
        let inside = if is_local { host.to_owned() } else { format!("{host}:{}", place(entry, proxy)) };
        for field in ["listenaddrs", "loopback_listenaddrs"] {
            for (address, protocols) in addresses(entry, field) {
                for (ip, port, protocol) in services(address, protocols) {
                    if !is_local {
                        facts.service(&process, EdgeKind::TcpService, &inside, ip, port, protocol);
                        continue;
                    }
                    for (context, ip) in
                        facts.own.reached(host, ip, !four.contains(port.to_string().as_str()))
                    {
                        facts.service(&process, EdgeKind::TcpService, &context, ip, port, protocol);
                    }
                }
            }
        }
        for field in ["clientaddrs", "loopback_clientaddrs"] {
            for (address, protocols) in addresses(entry, field) {
                for (ip, port, protocol) in services(address, protocols) {
                    let context = facts.own.context_of(host, ip, &inside);
                    facts.service(&process, EdgeKind::TcpClient, &context, ip, port, protocol);
                }
            }
        }
    }
    let roles: Vec<Value> = roles.into_iter().map(Value::from).collect();
    GraphFacts {
        host_properties: Map::from_iter([("roles".to_owned(), roles.into())]),
        edges: facts.edges,
        ..GraphFacts::default()
    }
}

/// `proxy` of what runs on the host itself.
const LOCAL: &str = "local/local";

struct Facts<'a> {
    host: &'a str,
    own: OwnAddresses,
    edges: Vec<EdgeFact>,
    seen: BTreeSet<(String, &'static str, String)>,
}

impl Facts<'_> {
    fn edge(
        &mut self,
        source: (NodeKind, String),
        kind: EdgeKind,
        target: (NodeKind, String),
        properties: Map<String, Value>,
    ) {
        if self.seen.insert((source.1.clone(), kind.as_str(), target.1.clone())) {
            let target = NodeFact { kind: target.0, key: target.1, properties };
            self.edges.push(EdgeFact { source, kind, target });
        }
    }

    /// The container, said once however many processes are in it. Its engine's own discovery knows more of it.
    fn child(&mut self, proxy: &str) -> (NodeKind, String) {
        let mut properties = Map::new();
        // These engines have no other name for it.
        if let Some((_, name)) =
            proxy.split_once('/').filter(|(engine, _)| matches!(*engine, "lxc" | "nspawn"))
        {
            properties.insert("name".into(), name.into());
        }
        for edge in child_system::edges(self.host, proxy, properties) {
            if self.seen.insert((edge.source.1.clone(), edge.kind.as_str(), edge.target.key.clone())) {
                self.edges.push(edge);
            }
        }
        (NodeKind::ChildSystem, child_system::key(self.host, proxy))
    }

    fn service(
        &mut self,
        process: &str,
        kind: EdgeKind,
        context: &str,
        ip: IpAddr,
        port: u16,
        protocol: &str,
    ) {
        let key = format!("{context}/{port}_{protocol}_{ip}");
        let properties = Map::from_iter([
            ("ipaddr".to_owned(), Value::from(ip.to_string())),
            ("port".to_owned(), Value::from(port)),
            ("protocol".to_owned(), Value::from(protocol)),
        ]);
        let node = (NodeKind::IpTcpPortNode, key);
        self.edge((NodeKind::ProcessNode, process.to_owned()), kind, node.clone(), properties);
        if !ip.is_unspecified() {
            let properties = Map::from_iter([("ipaddr".to_owned(), Value::from(ip.to_string()))]);
            self.edge(node, EdgeKind::BaseIp, (NodeKind::IpaddrNode, format!("{context}/{ip}")), properties);
        }
    }
}

/// Whether the sockets of an entry are at addresses of the host: a container may have no network of its own.
fn is_in_hosts_network(entry: &Value) -> bool {
    let is_on_host = entry["proxy"].as_str().is_none_or(|proxy| proxy == LOCAL);
    entry.get("netns").is_none() && (is_on_host || entry["host_network"] == true)
}

/// What tells a container or namespace from others of the host.
fn place(entry: &Value, proxy: &str) -> String {
    match entry["netns"].as_str() {
        Some(namespace) => format!("netns/{namespace}"),
        None => proxy.to_owned(),
    }
}

fn addresses<'a>(entry: &'a Value, field: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let addresses = entry[field].as_object().into_iter().flatten();
    addresses.filter_map(|(address, protocols)| Some((address.as_str(), protocols.as_str()?)))
}

/// `("0.0.0.0:53", "tcp,udp")` as two services.
fn services<'a>(address: &str, protocols: &'a str) -> impl Iterator<Item = (IpAddr, u16, &'a str)> {
    let parsed = address.rsplit_once(':').and_then(|(ip, port)| Some((ip.parse().ok()?, port.parse().ok()?)));
    let protocols = protocols.split(',').map(|protocol| protocol.trim_end_matches('6'));
    let protocols = protocols.filter(|protocol| matches!(*protocol, "tcp" | "udp"));
    parsed.into_iter().flat_map(move |(ip, port)| protocols.clone().map(move |protocol| (ip, port, protocol)))
}
