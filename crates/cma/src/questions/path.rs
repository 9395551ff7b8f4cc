//! How two things are connected: by services that one uses of the other, by switches, by subnets.
//!
//! Each layer gives its shortest path or says that none is known; without any, what is known of each end is told, so that
//! one sees whether nothing is there or nobody has looked.

use super::impact::Step;
use super::names::Subject;
use super::switches::{self, Cable};
use super::{
    ADDRESS, DRONE, LINK, NIC, PROCESS, SERVICE, SYSTEM, Trouble, Walker, counted, host_of, label,
    network_of, program,
};
use serde::Serialize;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use store::{Direction, GraphNode, Result};

/// Dependencies in a row that are followed.
const MAX_HOPS: usize = 6;
/// Programs that are looked at in one direction.
const MAX_PROGRAMS: usize = 100_000;
/// Addresses and devices that are looked at for the layers of the network.
const MAX_NODES: usize = 200_000;
/// Services that both ends use, as they are listed.
const MAX_SHARED: usize = 5;

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// `dependency`, `shared service`, `switch`, `subnet`, `network` (switches and subnets together), or `known` for a
    /// fact about one of the ends.
    pub layer: &'static str,
    /// Links of the path; null for what is no path.
    pub length: Option<usize>,
    /// The path, or the fact.
    pub path: String,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    pub from: String,
    pub to: String,
    pub rows: Vec<Row>,
    /// Whether any path is known.
    pub connected: bool,
    pub summary: String,
}

/// The shortest paths between `a` and `b` in each layer.
pub fn path(walker: &mut Walker<'_>, a: &Subject, b: &Subject) -> std::result::Result<Answer, Trouble> {
    let (from, to) = (a.name(), b.name());
    let mut rows = Vec::new();
    let (end_a, end_b) = (End::of(walker, a)?, End::of(walker, b)?);
    for (from, to) in [(&end_a, &end_b), (&end_b, &end_a)] {
        rows.extend(dependency(walker, from, to)?);
    }
    if rows.is_empty() {
        rows.extend(shared(walker, &end_a, &end_b)?);
    }
    let map = Segments::read(walker)?;
    let (at_a, at_b) = (map.of_end(walker, a), map.of_end(walker, b));
    for layer in ["switch", "subnet"] {
        rows.extend(map.shortest(walker, &at_a, &at_b, layer));
    }
    if !rows.iter().any(|row| matches!(row.layer, "switch" | "subnet")) {
        rows.extend(map.shortest(walker, &at_a, &at_b, "network"));
    }
    let connected = !rows.is_empty();
    let summary = if connected {
        format!("{from} and {to} are connected: {} known.", counted(rows.len(), "way"))
    } else {
        format!("No connection between {from} and {to} is known; this is what is known of each.")
    };
    if !connected {
        for (subject, end) in [(a, &end_a), (b, &end_b)] {
            rows.extend(known(walker, subject, end, &map)?);
        }
    }
    Ok(Answer { from, to, rows, connected, summary })
}

/// What an end offers and uses.
struct End {
    /// Its processes.
    processes: BTreeSet<i64>,
    /// Ports of services that are the end itself, offered by somebody known or not.
    ports: BTreeSet<i64>,
}

impl End {
    fn of(walker: &mut Walker<'_>, subject: &Subject) -> Result<Self> {
        let mut end = Self { processes: BTreeSet::new(), ports: BTreeSet::new() };
        match subject {
            Subject::Host(node) => end.processes.extend(walker.processes(&[node.id])?),
            Subject::Service { ports, processes } => {
                walker.nodes.extend(ports.iter().chain(processes).map(|node| (node.id, node.clone())));
                end.processes.extend(processes.iter().map(|node| node.id));
                end.ports.extend(ports.iter().map(|node| node.id));
            }
            Subject::Address(node) => {
                let addresses = match node.kind.as_str() {
                    LINK => walker.step(&[node.id], Direction::Out, &["ipowner"], ADDRESS)?,
                    _ => vec![node.id],
                };
                end.ports.extend(walker.step(&addresses, Direction::In, &["baseip"], SERVICE)?);
            }
            Subject::Switch(_) => {}
        }
        Ok(end)
    }
}

/// The shortest chain of programs that use one another, from a program of `from` to one of `to`.
fn dependency(walker: &mut Walker<'_>, from: &End, to: &End) -> Result<Option<Row>> {
    // Of each program the port and the program through which it was reached first.
    let mut reached: HashMap<i64, Option<(i64, i64)>> =
        from.processes.iter().map(|process| (*process, None)).collect();
    let mut level: Vec<i64> = from.processes.iter().copied().collect();
    for _ in 0..MAX_HOPS {
        let uses = walker.edges(&level, Direction::Out, &["tcpclient"])?;
        let mut users: BTreeMap<i64, i64> = BTreeMap::new();
        for edge in &uses {
            users.entry(edge.target).or_insert(edge.source);
        }
        let ports: Vec<i64> = users.keys().copied().collect();
        let mut next = BTreeSet::new();
        for edge in walker.edges(&ports, Direction::In, &["tcpservice"])? {
            let Some(user) = users.get(&edge.target) else { continue };
            if to.processes.contains(&edge.source) && !from.processes.contains(&edge.source) {
                return chain(walker, &reached, *user, edge.target, Some(edge.source)).map(Some);
            }
            if let Entry::Vacant(first) = reached.entry(edge.source) {
                first.insert(Some((edge.target, *user)));
                next.insert(edge.source);
            }
        }
        // Nobody with a nanoprobe offers it, but it is what was asked for.
        if let Some((port, user)) = users.iter().find(|(port, _)| to.ports.contains(port)) {
            return chain(walker, &reached, *user, *port, None).map(Some);
        }
        if next.is_empty() || reached.len() > MAX_PROGRAMS {
            break;
        }
        level = next.into_iter().collect();
    }
    Ok(None)
}

fn chain(
    walker: &mut Walker<'_>,
    reached: &HashMap<i64, Option<(i64, i64)>>,
    user: i64,
    port: i64,
    server: Option<i64>,
) -> Result<Row> {
    let mut ids: Vec<(Option<&'static str>, i64)> = Vec::new();
    ids.extend(server.map(|server| (Some("tcpservice"), server)));
    ids.push((Some("tcpclient"), port));
    let mut process = user;
    while let Some(Some((port, before))) = reached.get(&process) {
        ids.push((Some("tcpservice"), process));
        ids.push((Some("tcpclient"), *port));
        process = *before;
    }
    ids.push((None, process));
    ids.reverse();
    walker.load(ids.iter().map(|(_, id)| *id))?;
    let mut text = String::new();
    let mut length = 0;
    for (edge, id) in &ids {
        let Some(node) = walker.node(*id) else { continue };
        match (edge, node.kind.as_str()) {
            (None, _) => text = format!("{} of {}", program(node), host_of(node)),
            (_, SERVICE) => {
                length += 1;
                text += &format!(" uses {}", label(node));
            }
            _ => text += &format!(" ({} of {}), which", program(node), host_of(node)),
        }
    }
    let text = text.strip_suffix(", which").unwrap_or(&text).to_owned();
    Ok(Row { layer: "dependency", length: Some(length), path: text, steps: steps(walker, &ids) })
}

fn steps(walker: &Walker<'_>, ids: &[(Option<&'static str>, i64)]) -> Vec<Step> {
    let step = |(edge, id): &(Option<&'static str>, i64)| {
        let node = walker.node(*id)?;
        Some(Step { edge: *edge, kind: node.kind.clone(), key: node.key.clone() })
    };
    ids.iter().filter_map(step).collect()
}

/// Services that both use.
fn shared(walker: &mut Walker<'_>, a: &End, b: &End) -> Result<Vec<Row>> {
    let mut users: Vec<BTreeMap<i64, i64>> = Vec::new();
    for end in [a, b] {
        let processes: Vec<i64> = end.processes.iter().copied().collect();
        let uses = walker.edges(&processes, Direction::Out, &["tcpclient"])?;
        users.push(uses.into_iter().map(|edge| (edge.target, edge.source)).collect());
    }
    let both: Vec<(i64, i64, i64)> = users[0]
        .iter()
        .filter_map(|(port, one)| Some((*port, *one, *users[1].get(port)?)))
        .filter(|(_, one, other)| one != other)
        .take(MAX_SHARED)
        .collect();
    walker.load(both.iter().flat_map(|(port, one, other)| [*port, *one, *other]))?;
    let row = |(port, one, other): &(i64, i64, i64)| {
        let user = |id: &i64| {
            walker.node(*id).map(|node| format!("{} of {}", program(node), host_of(node))).unwrap_or_default()
        };
        Row {
            layer: "shared service",
            length: Some(2),
            path: format!("{} and {} both use {}", user(one), user(other), walker.label(*port)),
            steps: steps(walker, &[(None, *one), (Some("tcpclient"), *port), (Some("tcpclient"), *other)]),
        }
    };
    Ok(both.iter().map(row).collect())
}

/// Something that hosts are attached to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Segment {
    Switch(i64),
    /// Network context, first address, length.
    Subnet(String, IpAddr, u8),
}

/// How a host is attached to a segment: its interface, and the port of the switch or the address in the subnet.
#[derive(Debug, Clone, Copy)]
struct Attachment {
    nic: i64,
    end: i64,
}

/// Which hosts are attached to which switches and subnets.
struct Segments {
    of_host: BTreeMap<i64, BTreeMap<Segment, Attachment>>,
    hosts: BTreeMap<Segment, BTreeSet<i64>>,
}

/// One end among the segments: a host, or a segment itself.
enum Place {
    Host(i64),
    Segment(Segment),
    Nowhere,
}

impl Segments {
    fn read(walker: &mut Walker<'_>) -> Result<Self> {
        let mut map = Self { of_host: BTreeMap::new(), hosts: BTreeMap::new() };
        let devices: Vec<i64> =
            walker.graph().of_kind(SYSTEM, MAX_NODES)?.iter().map(|node| node.id).collect();
        for Cable { host, nic, port, switch } in switches::of_switches(walker, &devices)? {
            map.add(host, Segment::Switch(switch), Attachment { nic, end: port });
        }
        let addresses = walker.graph().of_kind(ADDRESS, MAX_NODES)?;
        let subnets: BTreeMap<i64, Segment> =
            addresses.iter().filter_map(|node| Some((node.id, subnet_of(node)?))).collect();
        walker.nodes.extend(addresses.into_iter().map(|node| (node.id, node)));
        let ids: Vec<i64> = subnets.keys().copied().collect();
        let interfaces = walker.edges(&ids, Direction::In, &["ipowner"])?;
        let nics: Vec<i64> = interfaces.iter().map(|edge| edge.source).collect();
        walker.load(nics.iter().copied())?;
        let owners = walker.edges(&nics, Direction::In, &["nicowner"])?;
        walker.load(owners.iter().map(|edge| edge.source))?;
        let owner: HashMap<i64, i64> = owners.iter().map(|edge| (edge.target, edge.source)).collect();
        for edge in interfaces {
            if walker.is(edge.source, NIC)
                && let (Some(host), Some(subnet)) = (owner.get(&edge.source), subnets.get(&edge.target))
                && walker.is(*host, DRONE)
            {
                map.add(*host, subnet.clone(), Attachment { nic: edge.source, end: edge.target });
            }
        }
        Ok(map)
    }

    fn add(&mut self, host: i64, segment: Segment, attachment: Attachment) {
        self.hosts.entry(segment.clone()).or_default().insert(host);
        self.of_host.entry(host).or_default().entry(segment).or_insert(attachment);
    }

    /// Where a subject is: the host of a service, the switch itself, the subnet that an unowned address lies in.
    fn of_end(&self, walker: &Walker<'_>, subject: &Subject) -> Place {
        match subject {
            Subject::Host(node) => Place::Host(node.id),
            Subject::Switch(node) => Place::Segment(Segment::Switch(node.id)),
            Subject::Service { processes, .. } => {
                let name = processes.first().map(host_of).unwrap_or_default();
                let host =
                    self.of_host.keys().find(|id| walker.node(**id).is_some_and(|node| node.key == name));
                host.map_or(Place::Nowhere, |id| Place::Host(*id))
            }
            Subject::Address(node) => {
                let ip = super::text(node, "ipaddr").and_then(|ip| ip.parse::<IpAddr>().ok());
                let network = network_of(&node.key);
                let inside = |segment: &&Segment| match (segment, ip) {
                    (Segment::Subnet(context, first, length), Some(ip)) => {
                        context == network && masked(ip, *length) == Some(*first)
                    }
                    _ => false,
                };
                let found = self.hosts.keys().find(inside);
                found.map_or(Place::Nowhere, |segment| Place::Segment(segment.clone()))
            }
        }
    }

    /// The shortest way from one place to another through segments of the layer and hosts between them.
    fn shortest(&self, walker: &Walker<'_>, from: &Place, to: &Place, layer: &'static str) -> Option<Row> {
        let fits = |segment: &&Segment| match layer {
            "switch" => matches!(segment, Segment::Switch(_)),
            "subnet" => matches!(segment, Segment::Subnet(..)),
            _ => true,
        };
        let mut before: BTreeMap<Segment, Option<(i64, Segment)>> = BTreeMap::new();
        let mut queue: VecDeque<Segment> = VecDeque::new();
        let start: Vec<Segment> = match from {
            Place::Host(id) => self.of_host.get(id)?.keys().filter(fits).cloned().collect(),
            Place::Segment(segment) => {
                Some(segment.clone()).filter(|segment| fits(&segment)).into_iter().collect()
            }
            Place::Nowhere => return None,
        };
        for segment in start {
            before.insert(segment.clone(), None);
            queue.push_back(segment);
        }
        let is_goal = |segment: &Segment| match to {
            Place::Host(id) => self.hosts.get(segment).is_some_and(|hosts| hosts.contains(id)),
            Place::Segment(goal) => segment == goal,
            Place::Nowhere => false,
        };
        if let (Place::Host(a), Place::Host(b)) = (from, to)
            && a == b
        {
            return None;
        }
        while let Some(segment) = queue.pop_front() {
            if is_goal(&segment) {
                return Some(self.row(walker, from, to, layer, &before, segment));
            }
            for host in self.hosts.get(&segment).into_iter().flatten() {
                for next in self.of_host.get(host).into_iter().flat_map(|all| all.keys()).filter(fits) {
                    if !before.contains_key(next) {
                        before.insert(next.clone(), Some((*host, segment.clone())));
                        queue.push_back(next.clone());
                    }
                }
            }
        }
        None
    }

    fn row(
        &self,
        walker: &Walker<'_>,
        from: &Place,
        to: &Place,
        layer: &'static str,
        before: &BTreeMap<Segment, Option<(i64, Segment)>>,
        last: Segment,
    ) -> Row {
        // Hosts and segments in turn, from the start to the end.
        let mut segments = vec![last.clone()];
        let mut between = Vec::new();
        let mut segment = last;
        while let Some(Some((host, previous))) = before.get(&segment) {
            between.push(*host);
            segments.push(previous.clone());
            segment = previous.clone();
        }
        segments.reverse();
        between.reverse();
        let host = |place: &Place| match place {
            Place::Host(id) => Some(*id),
            _ => None,
        };
        let mut text = String::new();
        let mut ids: Vec<(Option<&'static str>, i64)> = Vec::new();
        let count = segments.len();
        for (place, segment) in segments.iter().enumerate() {
            let left = if place == 0 { host(from) } else { between.get(place - 1).copied() };
            let right = if place + 1 == count { host(to) } else { between.get(place).copied() };
            if let Some(left) = left {
                if place == 0 {
                    text += &walker.label(left);
                    ids.push((None, left));
                }
                text += &self.attached(walker, left, segment, true, &mut ids);
                text += " – ";
            }
            text += &name_of(walker, segment);
            if let Segment::Switch(id) = segment {
                ids.push((Some("nicowner").filter(|_| !ids.is_empty()), *id));
            }
            if let Some(right) = right {
                text += " – ";
                text += &walker.label(right);
                text += &self.attached(walker, right, segment, false, &mut ids);
                ids.push((Some("nicowner"), right));
            }
        }
        let ends = usize::from(host(from).is_some()) + usize::from(host(to).is_some());
        Row { layer, length: Some(2 * (count - 1) + ends), path: text, steps: steps(walker, &ids) }
    }

    /// ` eth0 10.0.0.7` or ` eth0, port g7`, and the nodes of it in the order of the walk.
    fn attached(
        &self,
        walker: &Walker<'_>,
        host: i64,
        segment: &Segment,
        is_leaving: bool,
        ids: &mut Vec<(Option<&'static str>, i64)>,
    ) -> String {
        let Some(Attachment { nic, end }) = self.of_host.get(&host).and_then(|all| all.get(segment)).copied()
        else {
            return String::new();
        };
        let (edge, words) = match segment {
            Segment::Switch(_) => ("wiredto", format!(" {} (port {})", walker.label(nic), walker.label(end))),
            Segment::Subnet(..) => ("ipowner", format!(" {} {}", walker.label(nic), walker.label(end))),
        };
        if is_leaving {
            ids.extend([(Some("nicowner"), nic), (Some(edge), end)]);
        } else {
            let first = if matches!(segment, Segment::Switch(_)) { Some("nicowner") } else { Some("subnet") };
            ids.extend([(first.filter(|_| !ids.is_empty()), end), (Some(edge), nic)]);
        }
        words
    }
}

fn name_of(walker: &Walker<'_>, segment: &Segment) -> String {
    match segment {
        Segment::Switch(id) => format!("switch {}", walker.label(*id)),
        Segment::Subnet(network, first, length) if network == "global" => format!("subnet {first}/{length}"),
        Segment::Subnet(network, first, length) => format!("subnet {first}/{length} of network {network}"),
    }
}

/// The subnet of an address that others reach; an address alone in its network has no neighbours.
pub(super) fn subnet_of(node: &GraphNode) -> Option<Segment> {
    let context = node.key.strip_prefix('@')?.split_once('/')?.0;
    let ip: IpAddr = super::text(node, "ipaddr")?.parse().ok()?;
    let length = u8::try_from(node.properties.get("cidrmask")?.as_u64()?).ok()?;
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    if length == 0 || length >= bits {
        return None;
    }
    Some(Segment::Subnet(context.to_owned(), masked(ip, length)?, length))
}

/// The first address of the network of this length that `ip` is in.
pub(super) fn masked(ip: IpAddr, length: u8) -> Option<IpAddr> {
    let length = u32::from(length);
    Some(match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32u32.checked_sub(length)?).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128u32.checked_sub(length)?).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    })
}

/// Facts about one end.
fn known(walker: &mut Walker<'_>, subject: &Subject, end: &End, map: &Segments) -> Result<Vec<Row>> {
    let name = subject.name();
    let mut facts = Vec::new();
    match subject {
        Subject::Host(node) => {
            let status = walker.graph().status(&BTreeSet::from([node.key.clone()]))?;
            facts.push(match status.get(&node.key) {
                Some(status) => format!("is a host with a nanoprobe, {status}"),
                None => "was a host with a nanoprobe and is not registered any more".to_owned(),
            });
            let segments = map.of_host.get(&node.id);
            let attached: Vec<String> = segments
                .into_iter()
                .flat_map(|all| all.keys())
                .map(|segment| name_of(walker, segment))
                .collect();
            facts.push(match attached.len() {
                0 => "no switch and no subnet of it is known".to_owned(),
                _ => format!("is attached to {}", attached.join(", ")),
            });
            facts.push(uses(walker, end)?);
        }
        Subject::Switch(node) => {
            let hosts = map.hosts.get(&Segment::Switch(node.id)).map_or(0, BTreeSet::len);
            facts.push(format!("is a device with {} wired to it", counted(hosts, "host")));
        }
        Subject::Service { processes, .. } => {
            facts.push(match processes.first() {
                Some(process) => format!("is offered by {} of {}", program(process), host_of(process)),
                None => "is used by somebody, and no nanoprobe runs where it is".to_owned(),
            });
            facts.push(uses(walker, end)?);
        }
        Subject::Address(node) => {
            facts.push("belongs to no host with a nanoprobe and to no device that told of itself".to_owned());
            let edges = walker.edges(&[node.id], Direction::Both, &["ipowner"])?;
            let seers: BTreeSet<String> = edges.into_iter().map(|edge| edge.host).collect();
            if !seers.is_empty() {
                facts.push(format!("was seen by {}", seers.into_iter().collect::<Vec<_>>().join(", ")));
            }
            let ports: Vec<i64> = end.ports.iter().copied().collect();
            let users = walker.step(&ports, Direction::In, &["tcpclient"], PROCESS)?;
            if !users.is_empty() {
                facts.push(format!("is used by {}", counted(users.len(), "program")));
            }
        }
    }
    let row = |fact: String| Row {
        layer: "known",
        length: None,
        path: format!("{name} {fact}"),
        steps: Vec::new(),
    };
    Ok(facts.into_iter().map(row).collect())
}

fn uses(walker: &mut Walker<'_>, end: &End) -> Result<String> {
    let processes: Vec<i64> = end.processes.iter().copied().collect();
    let used = walker.edges(&processes, Direction::Out, &["tcpclient"])?;
    let offered = walker.edges(&processes, Direction::Out, &["tcpservice"])?;
    let count =
        |edges: &[store::GraphEdge]| edges.iter().map(|edge| edge.target).collect::<BTreeSet<_>>().len();
    Ok(format!(
        "{} with sockets: offers {}, uses {}",
        counted(processes.len(), "program"),
        counted(count(&offered), "service"),
        counted(count(&used), "service")
    ))
}

#[cfg(test)]
#[path = "path/tests.rs"]
mod tests;
