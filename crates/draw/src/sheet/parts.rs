//! What stands on a card, and what leads from one card to another.

use super::{Card, LinkKind, MAX_ROWS, MAX_WORDS, Mark, Row, elsewhere, shorten};
use crate::Kind;
use crate::drawing::{Drawing, Node, beyond};
use crate::facts::{property, state, vlan};
use crate::looks::{Found, found, security_score};
use model::graph::NodeKind;
use std::collections::{BTreeSet, HashMap};

/// One edge from a part of a card to a part of another one.
pub struct Strand {
    pub kind: LinkKind,
    pub from: usize,
    pub to: usize,
    pub word: String,
    pub line: String,
}

/// The drawing with what is inside of what.
pub struct Parts<'d> {
    drawing: &'d Drawing,
    /// Parts of each node, at any depth.
    inside: HashMap<usize, Vec<usize>>,
    /// Targets by source and kind.
    out: HashMap<(usize, &'d str), Vec<usize>>,
    /// Sources by target and kind.
    back: HashMap<(usize, &'d str), Vec<usize>>,
}

impl<'d> Parts<'d> {
    pub fn of(drawing: &'d Drawing) -> Self {
        let mut parts = Parts { drawing, inside: HashMap::new(), out: HashMap::new(), back: HashMap::new() };
        for position in 0..drawing.nodes.len() {
            let whole = drawing.outermost(position);
            if whole != position {
                parts.inside.entry(whole).or_default().push(position);
            }
        }
        for edge in &drawing.edges {
            parts.out.entry((edge.source, edge.kind.as_str())).or_default().push(edge.target);
            parts.back.entry((edge.target, edge.kind.as_str())).or_default().push(edge.source);
        }
        parts
    }

    fn node(&self, position: usize) -> &'d Node {
        &self.drawing.nodes[position]
    }

    fn out(&self, position: usize, kind: &'static str) -> impl Iterator<Item = usize> + '_ {
        self.out.get(&(position, kind)).into_iter().flatten().copied()
    }

    fn back(&self, position: usize, kind: &'static str) -> impl Iterator<Item = usize> + '_ {
        self.back.get(&(position, kind)).into_iter().flatten().copied()
    }

    fn inside(&self, position: usize, kind: NodeKind) -> impl Iterator<Item = usize> + '_ {
        let all = self.inside.get(&position).into_iter().flatten().copied();
        all.filter(move |part| self.node(*part).kind == kind)
    }

    pub fn card(&self, position: usize, panel: usize) -> Card {
        let node = self.node(position);
        let mut rows = match node.kind {
            NodeKind::Drone => self.rows_of_host(position),
            NodeKind::SystemNode => self.ports(position),
            NodeKind::LinkAddress => {
                let addresses = self.inside(position, NodeKind::IpaddrNode);
                addresses.map(|ip| row(Mark::None, &self.node(ip).name, self.hostname(ip))).collect()
            }
            _ => self.rows_of_stranger(node),
        };
        if node.kind != NodeKind::SystemNode {
            shorten(&mut rows, MAX_ROWS);
        }
        let parts = self.inside.get(&position).map_or(0, Vec::len);
        let mut tooltip = vec![format!("{} {}", node.kind.as_str(), node.name)];
        tooltip.extend(node.details.iter().cloned());
        if parts > 0 {
            tooltip.push(format!("{parts} parts in this drawing"));
        }
        Card {
            node: position,
            kind: node.kind,
            title: elsewhere(node)
                .map_or_else(|| node.name.clone(), |(_, address)| crate::escape::line(address)),
            subtitle: self.subtitle(node),
            rows,
            tooltip,
            look: node.look,
            panel,
            is_wired: false,
        }
    }

    pub fn rows_of_stranger(&self, node: &Node) -> Vec<Row> {
        let own = |name: &str| property(&node.source.properties, name);
        match (node.kind, own("port")) {
            (NodeKind::IpTcpPortNode, Some(port)) if beyond(node).is_some() => {
                vec![row(Mark::None, &far_program(node), format!(":{port}"))]
            }
            (NodeKind::IpTcpPortNode, Some(port)) => {
                vec![row(Mark::None, &format!("port {port}"), own("protocol").unwrap_or_default())]
            }
            _ => Vec::new(),
        }
    }

    fn subtitle(&self, node: &Node) -> Vec<String> {
        let score = security_score(&node.source);
        let lines = match node.kind {
            NodeKind::Drone => [
                state(&node.source),
                property(&node.source.properties, "os_description"),
                (score > 0.0).then(|| format!("security risk {score}")),
            ],
            NodeKind::SystemNode | NodeKind::LinkAddress => [node.details.first().cloned(), None, None],
            _ => [None, None, None],
        };
        lines.into_iter().flatten().collect()
    }

    fn rows_of_host(&self, host: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        let kind = self.drawing.kind;
        if matches!(kind, Kind::Network | Kind::Everything) {
            for nic in self.inside(host, NodeKind::NicNode) {
                let port = self
                    .back(nic, "wiredto")
                    .next()
                    .map(|port| self.port_name(host, port))
                    .unwrap_or_default();
                let own = self.node(nic);
                let is_up = own.look.line == crate::looks::Line::Solid;
                let mut addresses: Vec<&str> =
                    self.out(nic, "ipowner").map(|ip| self.node(ip).name.as_str()).collect();
                addresses.sort_by_key(|address| (address.contains(':'), *address));
                let (first, more) =
                    addresses.split_first().map_or(("", &[][..]), |(first, more)| (*first, more));
                // An interface with neither address nor cable is a bridge's or a container's.
                if first.is_empty()
                    && port.is_empty()
                    && own.source.properties.get("virtual") == Some(&true.into())
                {
                    continue;
                }
                let text = format!("{} {first}", own.name);
                rows.push(row(Mark::Interface { is_up }, text.trim_end(), port));
                rows.extend(more.iter().map(|address| row(Mark::None, address, String::new())));
            }
        }
        if kind != Kind::Rings {
            for child in self.inside(host, NodeKind::ChildSystem) {
                let own = self.node(child);
                let kind = own.source.key.split('/').nth(1).unwrap_or("");
                rows.push(row(Mark::Container, &own.name, crate::escape::line(kind)));
            }
        }
        if matches!(kind, Kind::Service | Kind::Everything) {
            for process in self.inside(host, NodeKind::ProcessNode) {
                let ports: BTreeSet<(u64, bool)> =
                    self.out(process, "tcpservice").map(|port| self.port_number(port)).collect();
                let reached: BTreeSet<u64> =
                    ports.iter().filter(|(_, local)| !local).map(|(port, _)| *port).collect();
                let aside = match (reached.is_empty(), ports.is_empty()) {
                    (_, true) => continue,
                    (true, false) => "local only".to_owned(),
                    (false, false) => numbers(&reached),
                };
                let is_monitored = self.node(process).source.is_monitored == Some(true);
                rows.push(row(Mark::Service { is_monitored }, &self.node(process).name, aside));
            }
        }
        if matches!(kind, Kind::Monitoring | Kind::Everything) {
            for monitor in self.inside(host, NodeKind::MonitorAction) {
                let own = self.node(monitor);
                let watched = self.out(monitor, "monitoring").next().map(|target| self.node(target));
                let class = property(&own.source.properties, "class").unwrap_or_default();
                let text = match watched {
                    Some(target) if target.kind == NodeKind::ProcessNode => target.name.clone(),
                    _ => own.name.clone(),
                };
                // The mark of the service says already whether it is looked after.
                let is_told = watched.is_some_and(|target| target.kind == NodeKind::ProcessNode);
                if kind == Kind::Everything
                    && is_told
                    && matches!(found(&own.source), Found::Up | Found::Inactive)
                {
                    continue;
                }
                let what = match found(&own.source) {
                    Found::Up => class,
                    _ => property(&own.source.properties, "state").unwrap_or(class),
                };
                rows.push(row(Mark::Monitor(found(&own.source)), &text, what));
            }
        }
        if kind == Kind::Monitoring {
            for process in self.inside(host, NodeKind::ProcessNode) {
                let own = self.node(process);
                let is_server = own.look.line == crate::looks::Line::Dashed;
                if is_server && self.back(process, "monitoring").next().is_none() {
                    rows.push(row(Mark::Service { is_monitored: false }, &own.name, "unmonitored".into()));
                }
            }
        }
        rows
    }

    /// The ports of a switch that lead somewhere, and where they lead.
    fn ports(&self, switch: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        for port in self.inside(switch, NodeKind::NicNode) {
            let own = self.node(port);
            let mut ends = self.out(port, "wiredto").peekable();
            let vlan = vlan(&own.source).map(|vlan| format!(" · VLAN {vlan}")).unwrap_or_default();
            if ends.peek().is_none() {
                let addresses: Vec<&str> =
                    self.out(port, "ipowner").map(|ip| self.node(ip).name.as_str()).collect();
                if !addresses.is_empty() {
                    rows.push(row(Mark::None, &own.name, addresses.join(", ")));
                }
            }
            for end in ends {
                let host = self.node(self.drawing.outermost(end));
                let there = format!("{} {}{vlan}", host.name, self.node(end).name);
                rows.push(row(Mark::Interface { is_up: true }, &own.name, there));
            }
        }
        rows
    }

    /// The port that an interface of a host is wired to, with the name of the switch unless the host is drawn below it.
    fn port_name(&self, host: usize, port: usize) -> String {
        let switch = self.drawing.outermost(port);
        let group = self.node(host).group.map(|group| self.drawing.groups[group].parent.unwrap_or(group));
        match switch == port || (group.is_some() && self.node(switch).group == group) {
            true => self.node(port).name.clone(),
            false => format!("{} {}", self.node(switch).name, self.node(port).name),
        }
    }

    fn port_number(&self, port: usize) -> (u64, bool) {
        let own = self.node(port);
        let number = own.source.properties.get("port").and_then(serde_json::Value::as_u64).unwrap_or(0);
        (number, crate::facts::is_local_address(&own.source))
    }

    fn hostname(&self, ip: usize) -> String {
        property(&self.node(ip).source.properties, "hostname").unwrap_or_default()
    }

    /// What leads from one card to another.
    pub fn strands(&self) -> Vec<Strand> {
        let mut strands = Vec::new();
        for edge in &self.drawing.edges {
            let (from, to) = (self.drawing.outermost(edge.source), self.drawing.outermost(edge.target));
            let (source, target) = (self.node(edge.source), self.node(edge.target));
            let kind = match edge.kind.as_str() {
                "wiredto" => LinkKind::Wire,
                "tcpclient" => LinkKind::Uses,
                model::subgraph::RING_NEXT => LinkKind::Ring,
                _ => continue,
            };
            let (word, line) = match kind {
                LinkKind::Uses => {
                    let server =
                        self.back(edge.target, "tcpservice").next().map(|process| self.node(process));
                    let port = self.port_number(edge.target).0;
                    let word = match server {
                        Some(server) => format!("{} {port}", server.name),
                        None if beyond(target).is_some() => format!("{} {port}", far_program(target)),
                        None => format!("port {port}"),
                    };
                    let line = format!(
                        "{} {} uses {word} on {}",
                        self.node(from).name,
                        source.name,
                        self.node(to).name
                    );
                    (word, line)
                }
                LinkKind::Wire => (
                    source.name.clone(),
                    format!(
                        "{} {} – {} {}",
                        self.node(from).name,
                        source.name,
                        self.node(to).name,
                        target.name
                    ),
                ),
                LinkKind::Ring => {
                    (String::new(), format!("{} and {} watch each other", source.name, target.name))
                }
            };
            strands.push(Strand { kind, from, to, word, line });
        }
        strands
    }
}

/// The program that offers a service on a host that is not drawn: `postgres` of `db1/postgres:<hash>`.
fn far_program(node: &Node) -> String {
    let name = beyond(node).map_or("", |(_, process)| process);
    crate::escape::line(name.rsplit_once(':').map_or(name, |(name, _)| name))
}

pub fn row(mark: Mark, text: &str, aside: String) -> Row {
    Row { mark, text: text.to_owned(), aside }
}

fn numbers(ports: &BTreeSet<u64>) -> String {
    let shown: Vec<String> = ports.iter().take(MAX_WORDS).map(|port| format!(":{port}")).collect();
    let rest = ports.len() - shown.len();
    if rest > 0 { format!("{} +{rest}", shown.join(" ")) } else { shown.join(" ") }
}
