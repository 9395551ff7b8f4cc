//! A made-up graph in memory, for tests.

use super::names::{Subject, resolve};
use super::{
    ADDRESS, CHILD, DRONE, Graph, LINK, NIC, PROCESS, SERVICE, SYSTEM, Trouble, Walker, port_of, program,
};
use model::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use store::{Direction, GraphEdge, GraphNode, Result};

#[derive(Default)]
pub struct Made {
    nodes: Vec<GraphNode>,
    edges: Vec<GraphEdge>,
    hosts: BTreeMap<String, String>,
    /// Reads so far, to see that a question asks by level and not by node.
    pub reads: usize,
}

impl Made {
    pub fn node(&mut self, kind: &str, key: &str, properties: Value) -> i64 {
        if let Some(known) = self.nodes.iter().find(|node| node.kind == kind && node.key == key) {
            return known.id;
        }
        let id = i64::try_from(self.nodes.len()).unwrap() + 1;
        self.nodes.push(GraphNode { id, kind: kind.into(), key: key.into(), properties });
        id
    }

    pub fn edge(&mut self, host: &str, source: i64, kind: &str, target: i64) {
        self.edges.push(GraphEdge {
            source,
            kind: kind.into(),
            target,
            host: host.into(),
            instance: "i".into(),
            since: Timestamp(1_000_000),
        });
    }

    /// A host that is up, with one interface and this address in `10.0.0.0/24` or whatever else is written.
    pub fn host(&mut self, name: &str, address: &str) -> i64 {
        let host = self.node(DRONE, name, json!({}));
        self.hosts.insert(name.into(), "up".into());
        let nic = self.nic(name, "eth0");
        let (context, ip) = address.split_once('/').unwrap_or(("@global", address));
        let address = self.node(ADDRESS, &format!("{context}/{ip}"), json!({"ipaddr": ip, "cidrmask": 24}));
        self.edge(name, nic, "ipowner", address);
        host
    }

    pub fn nic(&mut self, host: &str, ifname: &str) -> i64 {
        let owner = self.node(DRONE, host, json!({}));
        let nic = self.node(NIC, &format!("{host}/{ifname}"), json!({"ifname": ifname}));
        self.edge(host, owner, "nicowner", nic);
        nic
    }

    pub fn dead(&mut self, name: &str) {
        self.hosts.insert(name.into(), "dead".into());
    }

    fn process(&mut self, host: &str, name: &str) -> i64 {
        let owner = self.node(DRONE, host, json!({}));
        let properties = json!({"pathname": format!("/usr/bin/{name}"), "processname": format!("{name}:0123456789abcdef")});
        let key = format!("{host}/{name}:0123456789abcdef");
        let is_new = !self.nodes.iter().any(|node| node.key == key);
        let process = self.node(PROCESS, &key, properties);
        if is_new {
            self.edge(host, owner, "hosting", process);
        }
        process
    }

    fn port(&mut self, host: &str, place: &str) -> i64 {
        // `10.0.0.1:80` or `@berlin/10.0.0.1:80`.
        let (context, rest) = place.split_once('/').unwrap_or(("@global", place));
        let (ip, port) = rest.rsplit_once(':').unwrap();
        let key = format!("{context}/{port}_tcp_{ip}");
        let properties = json!({"ipaddr": ip, "port": port.parse::<u16>().unwrap(), "protocol": "tcp"});
        let port = self.node(SERVICE, &key, properties);
        let address = self.node(ADDRESS, &format!("{context}/{ip}"), json!({"ipaddr": ip}));
        self.edge(host, port, "baseip", address);
        port
    }

    /// A program of a host listens there.
    pub fn offers(&mut self, host: &str, program: &str, place: &str) {
        let (process, port) = (self.process(host, program), self.port(host, place));
        self.edge(host, process, "tcpservice", port);
    }

    /// A program of a host uses what is there.
    pub fn uses(&mut self, host: &str, program: &str, place: &str) {
        let (process, port) = (self.process(host, program), self.port(host, place));
        self.edge(host, process, "tcpclient", port);
    }

    /// A program in a container of a host listens there.
    pub fn contains(&mut self, host: &str, child: &str, program: &str, place: &str) {
        let owner = self.node(DRONE, host, json!({}));
        let child = self.node(CHILD, &format!("{host}/{child}"), json!({}));
        self.edge(host, owner, "hosting", child);
        self.edge(host, child, "parentsys", owner);
        let key = format!("{host}/{program}:inside");
        let process =
            self.node(PROCESS, &key, json!({"pathname": format!("/{program}"), "processname": "x:1"}));
        self.edge(host, child, "hosting", process);
        let port = self.port(host, place);
        self.edge(host, process, "tcpservice", port);
    }

    /// A cable from a port of a switch to an interface of a host.
    pub fn wired(&mut self, switch: &str, port: &str, host: &str, ifname: &str) {
        let key = format!("@global/{switch}");
        let device = self.node(SYSTEM, &key, json!({"SystemName": format!("name-of-{switch}")}));
        let end = self.node(NIC, &format!("{key}/{port}"), json!({"ifname": port}));
        let nic = self.nic(host, ifname);
        self.edge(host, device, "nicowner", end);
        self.edge(host, end, "wiredto", nic);
    }

    /// `host` sees in ARP that `mac` has this address.
    pub fn seen(&mut self, host: &str, mac: &str, ip: &str) {
        let link = self.node(LINK, &format!("@global/{mac}"), json!({"macaddr": mac}));
        let address = self.node(ADDRESS, &format!("@global/{ip}"), json!({"ipaddr": ip}));
        self.edge(host, link, "ipowner", address);
    }

    pub fn subject(&mut self, name: &str) -> std::result::Result<Subject, Trouble> {
        resolve(&mut Walker::new(self), name, &["berlin".to_owned()])
    }
}

impl Graph for Made {
    fn nodes(&mut self, ids: &[i64]) -> Result<Vec<GraphNode>> {
        self.reads += 1;
        Ok(self.nodes.iter().filter(|node| ids.contains(&node.id)).cloned().collect())
    }

    fn find(&mut self, kind: Option<&str>, key: &str) -> Result<Vec<GraphNode>> {
        let fits = |node: &&GraphNode| node.key == key && kind.is_none_or(|kind| node.kind == kind);
        Ok(self.nodes.iter().filter(fits).cloned().collect())
    }

    fn of_kind(&mut self, kind: &str, limit: usize) -> Result<Vec<GraphNode>> {
        let mut found: Vec<_> = self.nodes.iter().filter(|node| node.kind == kind).cloned().collect();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found.truncate(limit);
        Ok(found)
    }

    fn edges(&mut self, ids: &[i64], direction: Direction, kinds: &[&str]) -> Result<Vec<GraphEdge>> {
        self.reads += 1;
        let fits = |edge: &&GraphEdge| {
            let out = direction != Direction::In && ids.contains(&edge.source);
            let back = direction != Direction::Out && ids.contains(&edge.target);
            (out || back) && (kinds.is_empty() || kinds.contains(&edge.kind.as_str()))
        };
        Ok(self.edges.iter().filter(fits).cloned().collect())
    }

    fn addresses(&mut self, ip: IpAddr) -> Result<Vec<GraphNode>> {
        let ip = ip.to_string();
        let fits = |node: &&GraphNode| node.kind == ADDRESS && node.properties["ipaddr"] == ip.as_str();
        Ok(self.nodes.iter().filter(fits).cloned().collect())
    }

    fn programs(&mut self, name: &str, limit: usize) -> Result<Vec<GraphNode>> {
        let fits = |node: &&GraphNode| node.kind == PROCESS && program(node) == name;
        Ok(self.nodes.iter().filter(fits).take(limit).cloned().collect())
    }

    fn status(&mut self, hosts: &BTreeSet<String>) -> Result<BTreeMap<String, String>> {
        let known = self.hosts.iter().filter(|(host, _)| hosts.contains(*host));
        Ok(known.map(|(host, status)| (host.clone(), status.clone())).collect())
    }

    fn host_names(&mut self) -> Result<Vec<String>> {
        Ok(self.hosts.keys().cloned().collect())
    }
}

#[test]
fn what_is_made_reads_like_what_is_stored() {
    let mut made = Made::default();
    made.offers("db1", "postgres", "10.0.0.7:5432");
    let port = made.find(None, "@global/5432_tcp_10.0.0.7").unwrap().remove(0);
    assert_eq!((port.kind.as_str(), port_of(&port)), (SERVICE, Some((5432, "tcp"))));
    assert_eq!(made.edges(&[port.id], Direction::In, &["tcpservice"]).unwrap().len(), 1);
    assert_eq!(made.edges(&[port.id], Direction::Both, &[]).unwrap().len(), 2);
}
