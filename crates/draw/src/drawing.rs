//! What is drawn: nodes with their looks and where they belong, and the edges between them.

use crate::Kind;
use crate::escape::line;
use crate::facts::{details, is_in, is_local_address, name};
use crate::looks::{Look, look};
use model::graph::NodeKind;
use model::subgraph::{PlaceInNetwork, RING_OF_RINGS, Subgraph, SubgraphNode};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Nodes and groups refer to each other by their positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    pub kind: Kind,
    /// One line: what this is a picture of.
    pub heading: String,
    /// In natural order of their names within a kind.
    pub nodes: Vec<Node>,
    /// Parents before their children.
    pub groups: Vec<Group>,
    pub edges: Vec<Edge>,
    /// Nodes are missing, because there were too many.
    pub is_cut: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub kind: NodeKind,
    /// One harmless line.
    pub name: String,
    /// Harmless lines below the name.
    pub details: Vec<String>,
    pub look: Look,
    /// The node that this one is a part of: of an interface its host, of a process its host or container.
    pub inside: Option<usize>,
    /// Where it is drawn; what is inside of another node is drawn there.
    pub group: Option<usize>,
    /// As the CMA told.
    pub source: SubgraphNode,
}

/// Nodes that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub kind: GroupKind,
    /// One harmless line.
    pub title: String,
    pub parent: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupKind {
    /// A switch and what is connected to it.
    Switch,
    Subnet,
    Ring,
    /// Hosts of which nothing is known.
    Unplaced,
    /// Services of hosts that are too far away to be drawn.
    Beyond,
    /// What has no nanoprobe and lies in no known subnet.
    Elsewhere,
}

/// `source` –kind→ `target`
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    pub source: usize,
    pub target: usize,
    pub kind: String,
    /// Which ring, as the CMA names it.
    pub ring: Option<String>,
}

impl Drawing {
    pub fn new(kind: Kind, subgraph: &Subgraph) -> Drawing {
        let owned: BTreeSet<i64> = subgraph
            .relationships
            .iter()
            .filter(|edge| edge.kind == "ipowner")
            .map(|edge| edge.target)
            .collect();
        let mut nodes: Vec<Node> = subgraph
            .nodes
            .iter()
            .filter_map(|node| {
                let of = NodeKind::ALL.into_iter().find(|of| of.as_str() == node.kind)?;
                // Whom clients talk to is a matter of services, not of the network.
                let is_here = of != NodeKind::IpaddrNode
                    || owned.contains(&node.id)
                    || (kind != Kind::Network && node.owner.is_none());
                (kind.nodes().contains(&of) && is_drawn(of, node) && is_here).then(|| Node {
                    kind: of,
                    name: name(of, node),
                    details: details(of, node),
                    look: look(of, node),
                    inside: None,
                    group: None,
                    source: node.clone(),
                })
            })
            .collect();
        nodes.sort_by_cached_key(|node| (node.kind, natural(&node.name), node.source.key.clone()));
        let edges = edges(kind, subgraph, &nodes);
        put_inside(&mut nodes, &edges);
        let groups = Grouping::of(&mut nodes, &edges).groups;
        let heading = heading(kind, &nodes);
        Drawing { kind, heading, nodes, groups, edges, is_cut: subgraph.cut }
    }

    /// The node that is drawn for this one when parts are drawn inside of what they belong to.
    pub fn outermost(&self, node: usize) -> usize {
        outermost(&self.nodes, node)
    }
}

/// The host that offers a service, and the program, when neither is drawn.
pub fn beyond(node: &Node) -> Option<(&str, &str)> {
    let is_alone = node.kind == NodeKind::IpTcpPortNode && node.inside.is_none();
    node.source.owner.as_deref().filter(|_| is_alone)?.split_once('/')
}

/// Leaves out services of hosts that are no part of it: what those who are far away use is nobody's question.
pub fn without_far_services(mut subgraph: Subgraph) -> Subgraph {
    let kind = |wanted: NodeKind| move |node: &&SubgraphNode| node.kind == wanted.as_str();
    let here: BTreeSet<String> =
        subgraph.nodes.iter().filter(kind(NodeKind::Drone)).map(|node| node.key.clone()).collect();
    let is_far = |node: &SubgraphNode| {
        let host = node.owner.as_deref().and_then(|owner| owner.split_once('/')).map(|(host, _)| host);
        node.kind == NodeKind::IpTcpPortNode.as_str() && host.is_some_and(|host| !here.contains(host))
    };
    subgraph.nodes.retain(|node| !is_far(node));
    subgraph
}

/// Everybody has a loopback interface, and addresses that begin with `fe80`; known link-layer addresses stand with their interfaces.
fn is_drawn(kind: NodeKind, node: &SubgraphNode) -> bool {
    match kind {
        NodeKind::NicNode => !node.key.ends_with("/lo") || node.key.starts_with('@'),
        NodeKind::IpaddrNode => !is_local_address(node),
        NodeKind::LinkAddress => node.owner.is_none(),
        _ => true,
    }
}

fn edges(kind: Kind, subgraph: &Subgraph, nodes: &[Node]) -> Vec<Edge> {
    let position: HashMap<i64, usize> =
        nodes.iter().enumerate().map(|(position, node)| (node.source.id, position)).collect();
    let wanted = kind.edges();
    let edges: BTreeSet<Edge> = subgraph
        .relationships
        .iter()
        .filter(|edge| wanted.contains(&edge.kind.as_str()))
        .filter_map(|edge| {
            let (source, target) = (*position.get(&edge.source)?, *position.get(&edge.target)?);
            Some(Edge { source, target, kind: edge.kind.clone(), ring: edge.ring.clone() })
        })
        .collect();
    edges.into_iter().collect()
}

/// Tells what is a part of what.
fn put_inside(nodes: &mut [Node], edges: &[Edge]) {
    // A container comes after the host that hosts the same process: the later one wins.
    for edge in edges {
        let (source, target) = (&nodes[edge.source], &nodes[edge.target]);
        let (part, whole) = match (edge.kind.as_str(), source.kind, target.kind) {
            ("nicowner", ..) | ("hosting", NodeKind::Drone | NodeKind::ChildSystem, _) => {
                (edge.target, edge.source)
            }
            ("ipowner", NodeKind::NicNode | NodeKind::LinkAddress, _) => (edge.target, edge.source),
            ("parentsys", ..) => (edge.source, edge.target),
            ("tcpservice", ..) => (edge.target, edge.source),
            _ => continue,
        };
        let known = nodes[part].inside.map(|whole| nodes[whole].kind);
        let is_better = match known {
            None => true,
            Some(NodeKind::LinkAddress) => nodes[whole].kind == NodeKind::NicNode,
            Some(NodeKind::Drone) => {
                nodes[whole].kind == NodeKind::ChildSystem && nodes[part].kind == NodeKind::ProcessNode
            }
            Some(_) => false,
        };
        let is_part = !matches!(nodes[part].kind, NodeKind::Drone | NodeKind::SystemNode);
        if is_part && is_better && part != whole && outermost(nodes, whole) != part {
            nodes[part].inside = Some(whole);
        }
    }
}

fn outermost(nodes: &[Node], mut node: usize) -> usize {
    // Deeper than containers in containers go; a circle cannot be made, but costs nothing to survive.
    for _ in 0..16 {
        match nodes[node].inside {
            Some(whole) => node = whole,
            None => break,
        }
    }
    node
}

/// The groups of each subnet, by network and subnet: one for each switch that it is behind.
type Subnets = BTreeMap<(String, String), Vec<usize>>;

/// Makes the groups while nodes are put into them.
#[derive(Default)]
struct Grouping {
    groups: Vec<Group>,
    known: BTreeMap<(GroupKind, Option<usize>, String), usize>,
}

impl Grouping {
    fn of(nodes: &mut [Node], edges: &[Edge]) -> Grouping {
        let mut grouping = Grouping::default();
        if edges.iter().any(|edge| edge.ring.is_some()) {
            grouping.by_rings(nodes, edges);
            return grouping;
        }
        // Switches first, so that their groups have their names.
        let mut switches: BTreeMap<String, usize> = BTreeMap::new();
        for node in nodes.iter_mut().filter(|node| node.kind == NodeKind::SystemNode) {
            let group = grouping.group(GroupKind::Switch, None, &node.source.key, &node.name);
            switches.insert(node.source.key.clone(), group);
            node.group = Some(group);
        }
        for node in nodes.iter_mut().filter(|node| node.kind == NodeKind::Drone) {
            node.group = Some(grouping.of_host(node.source.place.as_ref(), &switches));
        }
        let subnets = grouping.subnets();
        let mut parts: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        for (part, node) in nodes.iter().enumerate() {
            if let Some(whole) = node.inside {
                parts[whole].push(part);
            }
        }
        for position in 0..nodes.len() {
            if nodes[position].inside.is_none() && nodes[position].group.is_none() {
                if beyond(&nodes[position]).is_some() {
                    nodes[position].group =
                        Some(grouping.group(GroupKind::Beyond, None, "", "on other hosts"));
                    continue;
                }
                let own = std::iter::once(&position).chain(&parts[position]).map(|part| &nodes[*part].source);
                nodes[position].group = Some(grouping.of_stranger(own, &subnets));
            }
        }
        grouping
    }

    fn group(&mut self, kind: GroupKind, parent: Option<usize>, identity: &str, title: &str) -> usize {
        let key = (kind, parent, identity.to_owned());
        *self.known.entry(key).or_insert_with(|| {
            self.groups.push(Group { kind, title: line(title), parent });
            self.groups.len() - 1
        })
    }

    /// Switch and subnet of a host, as far as they are known.
    fn of_host(&mut self, place: Option<&PlaceInNetwork>, switches: &BTreeMap<String, usize>) -> usize {
        let none = PlaceInNetwork::default();
        let place = place.unwrap_or(&none);
        let switch = place.switch.as_deref().map(|key| match switches.get(key) {
            Some(group) => *group,
            None => {
                let last = key.split_once('/').map_or(key, |(_, chassis)| chassis);
                self.group(GroupKind::Switch, None, key, place.switch_name.as_deref().unwrap_or(last))
            }
        });
        match &place.subnet {
            Some(subnet) => {
                let network = place.network.as_deref().unwrap_or("global");
                self.subnet(switch, network, subnet)
            }
            None => switch.unwrap_or_else(|| {
                self.group(GroupKind::Unplaced, None, "", "place in the network not known")
            }),
        }
    }

    fn subnet(&mut self, parent: Option<usize>, network: &str, subnet: &str) -> usize {
        let title = if network == "global" { subnet.to_owned() } else { format!("{subnet} · {network}") };
        self.group(GroupKind::Subnet, parent, &format!("{network}\n{subnet}"), &title)
    }

    /// The subnets of hosts, with the groups that they are.
    fn subnets(&self) -> Subnets {
        let mut subnets = Subnets::new();
        for ((kind, _, name), group) in &self.known {
            if let (GroupKind::Subnet, Some((network, subnet))) = (kind, name.split_once('\n')) {
                subnets.entry((network.to_owned(), subnet.to_owned())).or_default().push(*group);
            }
        }
        subnets
    }

    /// A neighbour without a nanoprobe, or a service elsewhere, is drawn with the subnet that its address lies in.
    fn of_stranger<'n>(
        &mut self,
        mut parts: impl Iterator<Item = &'n SubgraphNode>,
        subnets: &Subnets,
    ) -> usize {
        let known = parts.find_map(|node| {
            let address = node.properties.get("ipaddr")?.as_str()?;
            let network = node.key.strip_prefix('@')?.split_once('/')?.0;
            subnets.iter().find(|((of, subnet), _)| of == network && is_in(address, subnet))
        });
        match known {
            // Of a subnet behind several switches, nobody knows which of them it is.
            Some((_, groups)) if groups.len() == 1 => groups[0],
            Some(((network, subnet), _)) => self.subnet(None, network, subnet),
            None => self.group(GroupKind::Elsewhere, None, "", "elsewhere: no nanoprobe"),
        }
    }

    fn by_rings(&mut self, nodes: &mut [Node], edges: &[Edge]) {
        for edge in edges {
            let Some(ring) = edge.ring.as_deref().filter(|ring| *ring != RING_OF_RINGS) else { continue };
            let title = if ring.is_empty() { "place in the network not known" } else { ring };
            let group = self.group(GroupKind::Ring, None, ring, title);
            nodes[edge.source].group = Some(group);
            nodes[edge.target].group = Some(group);
        }
        for node in nodes.iter_mut().filter(|node| node.group.is_none()) {
            node.group = Some(self.group(GroupKind::Unplaced, None, "", "alone in its place, or in no ring"));
        }
    }
}

fn heading(kind: Kind, nodes: &[Node]) -> String {
    let count = |of: NodeKind| nodes.iter().filter(|node| node.kind == of).count();
    let counted = [
        (count(NodeKind::Drone), "host", "hosts"),
        (count(NodeKind::SystemNode), "switch", "switches"),
        (count(NodeKind::ChildSystem), "container", "containers"),
        (count(NodeKind::LinkAddress), "unknown neighbour", "unknown neighbours"),
    ];
    let words = counted
        .iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, many)| format!("{count} {}", if *count == 1 { one } else { many }));
    let words: Vec<String> = words.collect();
    let words = if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
    let title = match kind {
        Kind::Network => "Network",
        Kind::Service => "Services",
        Kind::Monitoring => "Monitoring",
        Kind::Rings => "Rings",
        Kind::Everything => "Everything",
    };
    format!("{title}: {words}")
}

/// A key that sorts `web2` before `web10`.
pub fn natural(text: &str) -> Vec<(bool, u64, String)> {
    let mut parts: Vec<(bool, u64, String)> = Vec::new();
    for c in text.chars() {
        match (c.to_digit(10), parts.last_mut()) {
            (Some(digit), Some((true, number, _))) => {
                *number = number.saturating_mul(10).saturating_add(u64::from(digit));
            }
            (Some(digit), _) => parts.push((true, u64::from(digit), String::new())),
            (None, Some((false, _, word))) => word.push(c),
            (None, _) => parts.push((false, 0, c.to_string())),
        }
    }
    parts
}
