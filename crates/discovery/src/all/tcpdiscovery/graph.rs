//! What the document means for the graph: processes, the services they offer, and those they use.
//!
//! A service is a node `<context>/<port>_<protocol>_<address>`, the same whether its host or one of its clients speaks of
//! it, so a dependency shows as soon as both have reported. The context of addresses is that of netconfig.

use crate::all::netconfig;
use crate::{Host, Parameters};
use model::Envelope;
use model::graph::{EdgeFact, EdgeKind, GLOBAL, GraphFacts, NodeFact, NodeKind};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The addresses of the host with the length of their network, and whether they mean the same at other hosts:
/// `"10.0.0.7/24":"global"`, else `"host"`.
pub fn own_addresses(host: &Host) -> Map<String, Value> {
    let collected = (netconfig::DISCOVERY.collect)(host, &Parameters::new());
    let envelope = Envelope {
        discovertype: netconfig::DISCOVERY.name.into(),
        description: String::new(),
        host: String::new(),
        source: String::new(),
        instance: String::new(),
        proxy: String::new(),
        data: collected.data,
        errors: Vec::new(),
        extras: Map::new(),
    };
    let facts = (netconfig::DISCOVERY.graph)("host", &envelope);
    let addresses =
        facts.edges.iter().filter(|edge| edge.target.kind == NodeKind::IpaddrNode).filter_map(|edge| {
            let (context, ip) = edge.target.key.split_once('/')?;
            let ip: IpAddr = ip.parse().ok()?;
            let length = edge.target.properties.get("cidrmask")?;
            let context = if context == GLOBAL { "global" } else { "host" };
            (!ip.is_loopback()).then(|| (format!("{ip}/{length}"), Value::from(context)))
        });
    addresses.collect()
}

pub fn graph(host: &str, envelope: &Envelope) -> GraphFacts {
    let mut facts = Facts { host, own: own(&envelope.extras), edges: Vec::new(), seen: BTreeSet::new() };
    let Some(entries) = envelope.data.as_object() else { return GraphFacts::default() };
    // `::` takes IPv4 too, unless somebody else has the same port there.
    let four: BTreeSet<&str> = entries
        .values()
        .flat_map(|entry| addresses(entry, "listenaddrs"))
        .filter_map(|(address, _)| address.strip_prefix("0.0.0.0:"))
        .collect();
    let mut roles = BTreeSet::from(["drone", "host"]);
    for (name, entry) in entries.iter().filter(|(_, entry)| entry.is_object()) {
        let process = format!("{host}/{name}");
        let proxy = entry["proxy"].as_str().unwrap_or("local/local");
        let is_local = proxy == "local/local" && entry.get("netns").is_none();
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
        facts.edge(
            (NodeKind::Drone, host.to_owned()),
            EdgeKind::Hosting,
            (NodeKind::ProcessNode, process.clone()),
            properties,
        );
        let inside = if is_local { host.to_owned() } else { format!("{host}:{}", place(entry, proxy)) };
        for field in ["listenaddrs", "loopback_listenaddrs"] {
            for (address, protocols) in addresses(entry, field) {
                for (ip, port, protocol) in services(address, protocols) {
                    if !is_local {
                        facts.service(&process, EdgeKind::TcpService, &inside, ip, port, protocol);
                        continue;
                    }
                    for (context, ip) in facts.reached(ip, !four.contains(port.to_string().as_str())) {
                        facts.service(&process, EdgeKind::TcpService, &context, ip, port, protocol);
                    }
                }
            }
        }
        for field in ["clientaddrs", "loopback_clientaddrs"] {
            for (address, protocols) in addresses(entry, field) {
                for (ip, port, protocol) in services(address, protocols) {
                    let context = facts.context_of(ip, &inside);
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

struct Facts<'a> {
    host: &'a str,
    own: BTreeMap<IpAddr, (u8, bool)>,
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

    /// The addresses at which something that listens at `ip` is reached, with their contexts.
    fn reached(&self, ip: IpAddr, six_takes_four: bool) -> Vec<(String, IpAddr)> {
        if !ip.is_unspecified() {
            return vec![(self.context_of(ip, self.host), ip)];
        }
        let fits = |own: &IpAddr| own.is_ipv4() == ip.is_ipv4() || (ip.is_ipv6() && six_takes_four);
        let own = self.own.keys().filter(|own| fits(own));
        own.map(|own| (self.context_of(*own, self.host), *own)).collect()
    }

    /// `global`, or `inside` for an address that may exist on other hosts too: of this machine only, of a link, or in
    /// the network of an interface that has no hardware.
    fn context_of(&self, ip: IpAddr, inside: &str) -> String {
        let is_link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        if ip.is_loopback() || ip.is_unspecified() || is_link_local {
            return inside.to_owned();
        }
        let is_hosts = match self.own.get(&ip) {
            Some((_, is_global)) => !is_global,
            None => self
                .own
                .iter()
                .any(|(own, (length, is_global))| !is_global && same_network(ip, *own, *length)),
        };
        if is_hosts { self.host } else { GLOBAL }.to_owned()
    }
}

/// What tells a container or namespace from others of the host.
fn place(entry: &Value, proxy: &str) -> String {
    match entry["netns"].as_str() {
        Some(namespace) => format!("netns/{namespace}"),
        None => proxy.to_owned(),
    }
}

fn own(extras: &Map<String, Value>) -> BTreeMap<IpAddr, (u8, bool)> {
    let addresses = extras.get("addresses").and_then(Value::as_object);
    let parsed = addresses.into_iter().flatten().filter_map(|(address, context)| {
        let (ip, length) = address.split_once('/')?;
        Some((ip.parse().ok()?, (length.parse().ok()?, context == "global")))
    });
    parsed.collect()
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

fn same_network(a: IpAddr, b: IpAddr, length: u8) -> bool {
    let shift = |bits: u32| bits.saturating_sub(u32::from(length));
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}
