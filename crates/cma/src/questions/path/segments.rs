//! What hosts are attached to, switches and subnets, and the ways that lead through them.

use super::{Row, steps};
use crate::questions::names::Subject;
use crate::questions::switches::{self, Cable};
use crate::questions::{ADDRESS, DRONE, SYSTEM, Walker, host_of, network_of, text};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use store::{Direction, GraphNode, Result};

/// Addresses and devices that are looked at.
const MAX_NODES: usize = 200_000;

/// Something that hosts are attached to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
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
#[derive(Default)]
pub struct Segments {
    of_host: BTreeMap<i64, BTreeMap<Segment, Attachment>>,
    hosts: BTreeMap<Segment, BTreeSet<i64>>,
}

/// One end among the segments: a host, or a segment itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    Host(i64),
    Segment(Segment),
    Nowhere,
}

/// Segments in turn, and the hosts between them: one less.
struct Way {
    segments: Vec<Segment>,
    between: Vec<i64>,
}

impl Segments {
    /// What the hosts of these ends are attached to.
    pub fn around(walker: &mut Walker<'_>, ends: &[&Subject]) -> Result<Self> {
        let mut map = Self::default();
        let mut hosts = Vec::new();
        for end in ends {
            hosts.extend(host_of_end(walker, end)?);
        }
        for Cable { host, nic, port, switch } in switches::of_hosts(walker, &hosts)? {
            map.add(host, Segment::Switch(switch), Attachment { nic, end: port });
        }
        let owners = walker.edges(&hosts, Direction::Out, &["nicowner"])?;
        let nics: Vec<i64> = owners.iter().map(|edge| edge.target).collect();
        let interfaces = walker.edges(&nics, Direction::Out, &["ipowner"])?;
        walker.load(interfaces.iter().map(|edge| edge.target))?;
        let owner: HashMap<i64, i64> = owners.iter().map(|edge| (edge.target, edge.source)).collect();
        for edge in interfaces {
            let subnet = walker.node(edge.target).and_then(subnet_of);
            if let (Some(host), Some(subnet)) = (owner.get(&edge.source), subnet) {
                map.add(*host, subnet, Attachment { nic: edge.source, end: edge.target });
            }
        }
        Ok(map)
    }

    /// What all hosts and devices are attached to. Reads every address, but neither interfaces nor hosts.
    pub fn whole(walker: &mut Walker<'_>) -> Result<Self> {
        let mut map = Self::default();
        let devices: Vec<i64> =
            walker.graph().of_kind(SYSTEM, MAX_NODES)?.iter().map(|node| node.id).collect();
        for Cable { host, nic, port, switch } in switches::by_numbers(walker, &devices)? {
            map.add(host, Segment::Switch(switch), Attachment { nic, end: port });
        }
        let addresses = walker.graph().of_kind(ADDRESS, MAX_NODES)?;
        let subnets: BTreeMap<i64, Segment> =
            addresses.iter().filter_map(|node| Some((node.id, subnet_of(node)?))).collect();
        let ids: Vec<i64> = subnets.keys().copied().collect();
        let interfaces = walker.edges(&ids, Direction::In, &["ipowner"])?;
        let nics: Vec<i64> = interfaces.iter().map(|edge| edge.source).collect();
        // What only a neighbour sees has no owner: link-layer addresses fall out here.
        let owners = walker.edges(&nics, Direction::In, &["nicowner"])?;
        let owner: HashMap<i64, i64> = owners.iter().map(|edge| (edge.target, edge.source)).collect();
        for edge in interfaces {
            if let (Some(host), Some(subnet)) = (owner.get(&edge.source), subnets.get(&edge.target)) {
                map.add(*host, subnet.clone(), Attachment { nic: edge.source, end: edge.target });
            }
        }
        Ok(map)
    }

    fn add(&mut self, host: i64, segment: Segment, attachment: Attachment) {
        self.hosts.entry(segment.clone()).or_default().insert(host);
        self.of_host.entry(host).or_default().entry(segment).or_insert(attachment);
    }

    /// Where a subject is: the host of a service, the switch itself, the known subnet that an unowned address lies in.
    pub fn place(&self, walker: &mut Walker<'_>, subject: &Subject) -> Result<Place> {
        Ok(match subject {
            Subject::Host(node) => Place::Host(node.id),
            Subject::Switch(node) => Place::Segment(Segment::Switch(node.id)),
            Subject::Service { .. } => host_of_end(walker, subject)?.map_or(Place::Nowhere, Place::Host),
            Subject::Address(node) => {
                let ip = text(node, "ipaddr").and_then(|ip| ip.parse::<IpAddr>().ok());
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
        })
    }

    /// Whether a way may begin or end there: a host that is attached to nothing has none.
    pub fn may_lead_on(&self, place: &Place) -> bool {
        match place {
            Place::Host(id) => self.of_host.contains_key(id),
            // The subnet of an address may be one that neither end is attached to.
            Place::Segment(_) | Place::Nowhere => true,
        }
    }

    /// Names of what a host is attached to.
    pub fn names(&self, walker: &Walker<'_>, host: i64) -> Vec<String> {
        let segments = self.of_host.get(&host);
        segments.into_iter().flat_map(|all| all.keys()).map(|segment| name_of(walker, segment)).collect()
    }

    /// What both are attached to, of one kind: `switch` or `subnet`.
    pub fn direct(
        &self,
        walker: &mut Walker<'_>,
        from: &Place,
        to: &Place,
        layer: &'static str,
    ) -> Result<Option<Row>> {
        let of = |place: &Place| -> BTreeSet<Segment> {
            match place {
                Place::Host(id) => {
                    self.of_host.get(id).into_iter().flat_map(|all| all.keys()).cloned().collect()
                }
                Place::Segment(segment) => BTreeSet::from([segment.clone()]),
                Place::Nowhere => BTreeSet::new(),
            }
        };
        if from == to {
            return Ok(None);
        }
        let both = &of(from) & &of(to);
        let fits = |segment: &Segment| matches!(segment, Segment::Switch(_)) == (layer == "switch");
        let Some(segment) = both.into_iter().find(fits) else { return Ok(None) };
        let way = Way { segments: vec![segment], between: Vec::new() };
        self.row(walker, from, to, layer, &way).map(Some)
    }

    /// The shortest way through segments and the hosts between them.
    pub fn shortest(&self, walker: &mut Walker<'_>, from: &Place, to: &Place) -> Result<Option<Row>> {
        match self.search(from, to) {
            Some(way) if from != to => self.row(walker, from, to, "network", &way).map(Some),
            _ => Ok(None),
        }
    }

    fn search(&self, from: &Place, to: &Place) -> Option<Way> {
        let mut before: BTreeMap<&Segment, Option<(i64, &Segment)>> = BTreeMap::new();
        let mut queue: VecDeque<&Segment> = VecDeque::new();
        match from {
            Place::Host(id) => queue.extend(self.of_host.get(id)?.keys()),
            Place::Segment(segment) => queue.extend([segment]),
            Place::Nowhere => return None,
        }
        before.extend(queue.iter().map(|segment| (*segment, None)));
        let is_goal = |segment: &Segment| match to {
            Place::Host(id) => self.hosts.get(segment).is_some_and(|hosts| hosts.contains(id)),
            Place::Segment(goal) => segment == goal,
            Place::Nowhere => false,
        };
        while let Some(segment) = queue.pop_front() {
            if is_goal(segment) {
                let mut way = Way { segments: vec![segment.clone()], between: Vec::new() };
                let mut last = segment;
                while let Some(Some((host, previous))) = before.get(last) {
                    way.between.push(*host);
                    way.segments.push((*previous).clone());
                    last = previous;
                }
                way.segments.reverse();
                way.between.reverse();
                return Some(way);
            }
            for host in self.hosts.get(segment).into_iter().flatten() {
                for next in self.of_host.get(host).into_iter().flat_map(|all| all.keys()) {
                    if !before.contains_key(next) {
                        before.insert(next, Some((*host, segment)));
                        queue.push_back(next);
                    }
                }
            }
        }
        None
    }

    fn row(
        &self,
        walker: &mut Walker<'_>,
        from: &Place,
        to: &Place,
        layer: &'static str,
        way: &Way,
    ) -> Result<Row> {
        let host = |place: &Place| match place {
            Place::Host(id) => Some(*id),
            _ => None,
        };
        let count = way.segments.len();
        let mut links = Vec::new();
        for (place, segment) in way.segments.iter().enumerate() {
            let left = if place == 0 { host(from) } else { way.between.get(place - 1).copied() };
            let right = if place + 1 == count { host(to) } else { way.between.get(place).copied() };
            links.push((left, segment, right));
        }
        let mut wanted = BTreeSet::new();
        for (left, segment, right) in &links {
            for host in [left, right].into_iter().flatten() {
                wanted.insert(*host);
                let attachment = self.of_host.get(host).and_then(|all| all.get(segment));
                wanted.extend(attachment.into_iter().flat_map(|known| [known.nic, known.end]));
            }
            wanted.extend(if let Segment::Switch(id) = segment { Some(*id) } else { None });
        }
        walker.load(wanted)?;
        let walker = &*walker;
        let mut text = String::new();
        let mut ids: Vec<(Option<&'static str>, i64)> = Vec::new();
        for (place, (left, segment, right)) in links.into_iter().enumerate() {
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
        Ok(Row { layer, length: Some(2 * (count - 1) + ends), path: text, steps: steps(walker, &ids) })
    }

    /// ` eth0 10.0.0.7` or ` eth0 (port g7)`, and the nodes of it in the order of the walk.
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
            // Subnets are no nodes: from one address the way leads to the other.
            let first = if matches!(segment, Segment::Switch(_)) { Some("nicowner") } else { Some("subnet") };
            ids.extend([(first.filter(|_| !ids.is_empty()), end), (Some(edge), nic)]);
        }
        words
    }
}

/// The host of an end that has one.
fn host_of_end(walker: &mut Walker<'_>, end: &Subject) -> Result<Option<i64>> {
    Ok(match end {
        Subject::Host(node) => Some(node.id),
        Subject::Service { processes, .. } => match processes.first().map(host_of) {
            Some(name) => walker.graph().find(Some(DRONE), name)?.first().map(|node| node.id),
            None => None,
        },
        Subject::Switch(_) | Subject::Address(_) => None,
    })
}

pub fn name_of(walker: &Walker<'_>, segment: &Segment) -> String {
    match segment {
        Segment::Switch(id) => format!("switch {}", walker.label(*id)),
        Segment::Subnet(network, first, length) if network == "global" => format!("subnet {first}/{length}"),
        Segment::Subnet(network, first, length) => format!("subnet {first}/{length} of network {network}"),
    }
}

/// The subnet of an address that others reach; an address alone in its network has no neighbours.
pub fn subnet_of(node: &GraphNode) -> Option<Segment> {
    let context = node.key.strip_prefix('@')?.split_once('/')?.0;
    let ip: IpAddr = text(node, "ipaddr")?.parse().ok()?;
    let length = u8::try_from(node.properties.get("cidrmask")?.as_u64()?).ok()?;
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    if length == 0 || length >= bits {
        return None;
    }
    Some(Segment::Subnet(context.to_owned(), masked(ip, length)?, length))
}

/// The first address of the network of this length that `ip` is in.
pub fn masked(ip: IpAddr, length: u8) -> Option<IpAddr> {
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
