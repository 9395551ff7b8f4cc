//! The short form of a drawing: a card for each host, switch and stranger, with what is on it as lines, and links between
//! cards in place of the many edges between their parts. Pictures for people are made of this.

use crate::Kind;
use crate::drawing::{Drawing, GroupKind, Node, beyond, natural};
use crate::facts::{property, state, vlan};
use crate::looks::{Found, Look, found, security_score};
use model::graph::NodeKind;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Lines on a card; the last one counts the rest.
const MAX_ROWS: usize = 12;
/// Links that are drawn from card to card. More of them are bundled from panel to panel, and each host then names whom it uses.
const MAX_LINKS: usize = 30;
/// Words on a link.
const MAX_WORDS: usize = 3;

/// Panels, cards and links refer to each other by their positions.
#[derive(Debug, Default)]
pub struct Sheet {
    pub panels: Vec<Panel>,
    pub cards: Vec<Card>,
    pub links: Vec<Link>,
    /// Links are bundled from panel to panel.
    pub is_bundled: bool,
}

/// A switch with what is connected to it, a subnet, or a ring.
#[derive(Debug)]
pub struct Panel {
    pub kind: GroupKind,
    pub title: String,
    /// Of a switch that is drawn: its card.
    pub switch: Option<usize>,
    pub sections: Vec<Section>,
    /// How many links begin and end inside and are not drawn.
    pub links_inside: usize,
}

#[derive(Debug)]
pub struct Section {
    /// `None`: the title of the panel says it.
    pub title: Option<String>,
    pub cards: Vec<usize>,
}

#[derive(Debug)]
pub struct Card {
    /// Position of the node in the drawing.
    pub node: usize,
    pub kind: NodeKind,
    pub title: String,
    pub subtitle: Vec<String>,
    pub rows: Vec<Row>,
    /// All that is known, a line each.
    pub tooltip: Vec<String>,
    pub look: Look,
    pub panel: usize,
    /// The cable to the switch of its own panel is drawn as a bus.
    pub is_wired: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub mark: Mark,
    pub text: String,
    /// Printed quietly at the right.
    pub aside: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    None,
    Interface { is_up: bool },
    Container,
    Service { is_monitored: bool },
    Monitor(Found),
    Uses,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Card(usize),
    Panel(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// A cable.
    Wire,
    /// Client to server.
    Uses,
    /// From one of a ring to the next.
    Ring,
}

#[derive(Debug)]
pub struct Link {
    pub from: End,
    pub to: End,
    pub kind: LinkKind,
    /// A few words: services, ports, or how many edges this stands for.
    pub label: String,
    pub tooltip: Vec<String>,
}

/// Cards of a drawing.
pub fn count_cards(drawing: &Drawing) -> usize {
    let cards = drawing.nodes.iter().enumerate().filter(|(_, node)| node.inside.is_none());
    cards.map(|(position, node)| elsewhere(node).ok_or(position)).collect::<BTreeSet<_>>().len()
}

/// What cards of services without their host stand for: context and address where nobody has a nanoprobe, else the host.
/// Those of one share a card.
fn elsewhere(node: &Node) -> Option<(&str, &str)> {
    if let Some((host, _)) = beyond(node) {
        return Some(("", host));
    }
    let context = node.source.key.split_once('/')?.0;
    let is_address = matches!(node.kind, NodeKind::IpTcpPortNode | NodeKind::IpaddrNode);
    let address = node.source.properties.get("ipaddr")?.as_str()?;
    is_address.then_some((context, address))
}

impl Sheet {
    pub fn new(drawing: &Drawing) -> Sheet {
        let parts = Parts::of(drawing);
        let mut sheet = Sheet::default();
        let mut card_of: HashMap<usize, usize> = HashMap::new();
        let mut panel_of: HashMap<usize, usize> = HashMap::new();
        let mut shared: HashMap<(&str, &str), usize> = HashMap::new();
        for (position, node) in drawing.nodes.iter().enumerate() {
            let (None, Some(group)) = (node.inside, node.group) else { continue };
            if let Some(card) = elsewhere(node).and_then(|address| shared.get(&address)) {
                card_of.insert(position, *card);
                sheet.cards[*card].rows.extend(parts.rows_of_stranger(node));
                continue;
            }
            let top = drawing.groups[group].parent.unwrap_or(group);
            let panel = *panel_of.entry(top).or_insert_with(|| {
                let group = &drawing.groups[top];
                sheet.panels.push(Panel {
                    kind: group.kind,
                    title: group.title.clone(),
                    switch: None,
                    sections: Vec::new(),
                    links_inside: 0,
                });
                sheet.panels.len() - 1
            });
            let card = sheet.cards.len();
            card_of.insert(position, card);
            if let Some(address) = elsewhere(node) {
                shared.insert(address, card);
            }
            sheet.cards.push(parts.card(position, panel));
            let panel = &mut sheet.panels[panel];
            if node.kind == NodeKind::SystemNode && panel.kind == GroupKind::Switch {
                panel.switch = Some(card);
                continue;
            }
            let title = drawing.groups[group].parent.map(|_| drawing.groups[group].title.clone());
            match panel.sections.iter_mut().find(|section| section.title == title) {
                Some(section) => section.cards.push(card),
                None => panel.sections.push(Section { title, cards: vec![card] }),
            }
        }
        for card in sheet.cards.iter_mut().filter(|card| card.kind == NodeKind::IpTcpPortNode) {
            shorten(&mut card.rows, MAX_ROWS / 2);
        }
        sheet.sort_panels();
        sheet.link(&parts, &card_of);
        sheet
    }

    /// Switches first, then subnets, strangers last; each in natural order.
    fn sort_panels(&mut self) {
        let mut order: Vec<usize> = (0..self.panels.len()).collect();
        order.sort_by_cached_key(|panel| (self.panels[*panel].kind, natural(&self.panels[*panel].title)));
        let mut new = vec![0; order.len()];
        for (now, before) in order.iter().enumerate() {
            new[*before] = now;
        }
        let mut panels: Vec<Option<Panel>> = std::mem::take(&mut self.panels).into_iter().map(Some).collect();
        self.panels = order.iter().filter_map(|before| panels[*before].take()).collect();
        for panel in &mut self.panels {
            panel.sections.sort_by_cached_key(|section| natural(section.title.as_deref().unwrap_or("")));
        }
        for card in &mut self.cards {
            card.panel = new[card.panel];
        }
    }

    /// Draws what leads from card to card.
    fn link(&mut self, parts: &Parts<'_>, card_of: &HashMap<usize, usize>) {
        let mut bundles: BTreeMap<(LinkKind, usize, usize), Vec<Strand>> = BTreeMap::new();
        for strand in parts.strands() {
            let (Some(from), Some(to)) = (card_of.get(&strand.from), card_of.get(&strand.to)) else {
                continue;
            };
            if from == to {
                continue;
            }
            if strand.kind == LinkKind::Wire && self.panels[self.cards[*to].panel].switch == Some(*from) {
                self.cards[*to].is_wired = true;
                continue;
            }
            bundles.entry((strand.kind, *from, *to)).or_default().push(strand);
        }
        let rings = bundles.keys().any(|(kind, ..)| *kind == LinkKind::Ring);
        self.is_bundled = bundles.len() > MAX_LINKS && !rings;
        if !self.is_bundled {
            for ((kind, from, to), strands) in bundles {
                let words: BTreeSet<&str> = strands.iter().map(|strand| strand.word.as_str()).collect();
                self.links.push(Link {
                    from: End::Card(from),
                    to: End::Card(to),
                    kind,
                    label: few(&words),
                    tooltip: told(&strands),
                });
            }
            return;
        }
        let mut between: BTreeMap<(LinkKind, usize, usize), Vec<Strand>> = BTreeMap::new();
        let mut used: BTreeMap<usize, BTreeMap<usize, BTreeSet<String>>> = BTreeMap::new();
        for ((kind, from, to), strands) in bundles {
            if kind == LinkKind::Uses {
                let words = strands.iter().map(|strand| strand.word.clone());
                used.entry(from).or_default().entry(to).or_default().extend(words);
            }
            let (a, b) = (self.cards[from].panel, self.cards[to].panel);
            match a == b {
                true => self.panels[a].links_inside += strands.len(),
                false => between.entry((kind, a, b)).or_default().extend(strands),
            }
        }
        for (card, servers) in used {
            let mut rows: Vec<Row> = Vec::new();
            for (server, words) in servers {
                let words: BTreeSet<&str> = words.iter().map(String::as_str).collect();
                rows.push(Row {
                    mark: Mark::Uses,
                    text: self.cards[server].title.clone(),
                    aside: few(&words),
                });
            }
            shorten(&mut rows, MAX_ROWS / 2);
            self.cards[card].rows.extend(rows);
        }
        for ((kind, from, to), strands) in between {
            let label = match kind {
                LinkKind::Uses => counted(&strands),
                _ => format!("{} cables", strands.len()),
            };
            self.links.push(Link {
                from: End::Panel(from),
                to: End::Panel(to),
                kind,
                label,
                tooltip: told(&strands),
            });
        }
    }
}

/// One edge from a part of a card to a part of another one.
struct Strand {
    kind: LinkKind,
    from: usize,
    to: usize,
    word: String,
    line: String,
}

/// The drawing with what is inside of what.
struct Parts<'d> {
    drawing: &'d Drawing,
    /// Parts of each node, at any depth.
    inside: HashMap<usize, Vec<usize>>,
    /// Targets by source and kind.
    out: HashMap<(usize, &'d str), Vec<usize>>,
    /// Sources by target and kind.
    back: HashMap<(usize, &'d str), Vec<usize>>,
}

impl<'d> Parts<'d> {
    fn of(drawing: &'d Drawing) -> Self {
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

    fn card(&self, position: usize, panel: usize) -> Card {
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

    fn rows_of_stranger(&self, node: &Node) -> Vec<Row> {
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
    fn strands(&self) -> Vec<Strand> {
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

fn row(mark: Mark, text: &str, aside: String) -> Row {
    Row { mark, text: text.to_owned(), aside }
}

/// Cuts rows to `max`, the last of which counts the rest.
fn shorten(rows: &mut Vec<Row>, max: usize) {
    if rows.len() > max {
        let rest = rows.len() - (max - 1);
        rows.truncate(max - 1);
        rows.push(row(Mark::None, &format!("and {rest} more"), String::new()));
    }
}

fn few(words: &BTreeSet<&str>) -> String {
    let shown: Vec<&str> = words.iter().take(MAX_WORDS).copied().collect();
    let rest = words.len() - shown.len();
    if rest > 0 { format!("{}, +{rest}", shown.join(", ")) } else { shown.join(", ") }
}

/// The services that are used most, with how often.
fn counted(strands: &[Strand]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for strand in strands {
        *counts.entry(&strand.word).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(word, count)| (std::cmp::Reverse(*count), *word));
    let words: Vec<String> =
        counts.iter().take(MAX_WORDS).map(|(word, count)| format!("{word} ×{count}")).collect();
    let rest = counts.len() - words.len();
    if rest > 0 { format!("{}, +{rest}", words.join(", ")) } else { words.join(", ") }
}

fn numbers(ports: &BTreeSet<u64>) -> String {
    let shown: Vec<String> = ports.iter().take(MAX_WORDS).map(|port| format!(":{port}")).collect();
    let rest = ports.len() - shown.len();
    if rest > 0 { format!("{} +{rest}", shown.join(" ")) } else { shown.join(" ") }
}

/// Lines for a tooltip, which is no place for hundreds.
fn told(strands: &[Strand]) -> Vec<String> {
    const MAX_LINES: usize = 30;
    let lines: BTreeSet<&str> = strands.iter().map(|strand| strand.line.as_str()).collect();
    let mut told: Vec<String> = lines.iter().take(MAX_LINES).map(|line| (*line).to_owned()).collect();
    if lines.len() > MAX_LINES {
        told.push(format!("and {} more", lines.len() - MAX_LINES));
    }
    told
}
