//! Who watches whom, as relationships: from one host of a ring to the next.

use crate::ingest::places;
use liveness::rings::Rings;
use model::Designation;
use model::subgraph::{RING_NEXT, RING_OF_RINGS, Relationship};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use store::MemberRow;

/// Hosts in the order in which they watch each other.
pub struct Ring {
    pub name: String,
    pub hosts: Vec<Designation>,
}

/// All rings of the members, that over all places last.
pub fn rings(members: &[MemberRow]) -> Vec<Ring> {
    let mut core = Rings::default();
    let mut names: HashMap<u32, &Designation> = HashMap::new();
    for member in members.iter().filter(|member| member.present) {
        core.join(member.number, member.position, &places::from_text(&member.place));
        names.insert(member.number, &member.designation);
    }
    let named = |hosts: Vec<u32>| {
        hosts.iter().filter_map(|host| names.get(host).map(|name| (*name).clone())).collect()
    };
    let mut rings: Vec<Ring> = core
        .rings()
        .map(|(place, hosts)| Ring { name: places::to_text(place), hosts: named(hosts) })
        .collect();
    if rings.len() > 1 {
        let first = rings.iter().filter_map(|ring| ring.hosts.first().cloned()).collect();
        rings.push(Ring { name: RING_OF_RINGS.into(), hosts: first });
    }
    rings
}

/// The hosts, and those that so many steps along rings lead to.
pub fn near(rings: &[Ring], hosts: &[Designation], hops: Option<usize>) -> Vec<Designation> {
    let mut partners: BTreeMap<&Designation, Vec<&Designation>> = BTreeMap::new();
    for (a, b) in rings.iter().flat_map(pairs) {
        partners.entry(a).or_default().push(b);
        partners.entry(b).or_default().push(a);
    }
    let mut near: BTreeSet<&Designation> = hosts.iter().collect();
    let mut frontier: Vec<&Designation> = near.iter().copied().collect();
    for _ in 0..hops.unwrap_or(usize::MAX) {
        let reached: Vec<&Designation> =
            frontier.iter().filter_map(|host| partners.get(*host)).flatten().copied().collect();
        frontier = reached.into_iter().filter(|host| near.insert(host)).collect();
        if frontier.is_empty() {
            break;
        }
    }
    near.into_iter().cloned().collect()
}

/// Relationships between those hosts that have a node.
pub fn relationships(rings: &[Ring], nodes: &HashMap<&str, i64>) -> Vec<Relationship> {
    let mut all = Vec::new();
    for ring in rings {
        for (from, to) in pairs(ring) {
            if let (Some(source), Some(target)) = (nodes.get(from.as_str()), nodes.get(to.as_str())) {
                all.push(Relationship {
                    kind: RING_NEXT.into(),
                    source: *source,
                    target: *target,
                    ring: Some(ring.name.clone()),
                    ..Relationship::default()
                });
            }
        }
    }
    all
}

/// Each host with the next; two hosts are one pair.
fn pairs(ring: &Ring) -> impl Iterator<Item = (&Designation, &Designation)> {
    let closing = ring.hosts.last().zip(ring.hosts.first()).filter(|_| ring.hosts.len() > 2);
    ring.hosts.iter().zip(ring.hosts.iter().skip(1)).chain(closing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(number: u32, name: &str, place: &str, present: bool) -> MemberRow {
        MemberRow {
            designation: Designation::new(name).unwrap(),
            number,
            session: None,
            place: place.into(),
            position: u64::from(number),
            generation: 1,
            address: "10.0.0.1:1984".into(),
            present,
        }
    }

    fn names(hosts: &[Designation]) -> Vec<&str> {
        hosts.iter().map(Designation::as_str).collect()
    }

    #[test]
    fn rings_are_those_of_the_members_that_are_there() {
        let (a, b) = ("subnet 10.0.0.0/24", "switch sw1");
        let members = [
            member(1, "a1", a, true),
            member(2, "b1", b, true),
            member(3, "a2", a, true),
            member(4, "gone", a, false),
            member(5, "a3", a, true),
        ];
        let rings = rings(&members);
        let told: Vec<(&str, Vec<&str>)> =
            rings.iter().map(|ring| (ring.name.as_str(), names(&ring.hosts))).collect();
        let mut sorted = told.clone();
        sorted.sort();
        assert_eq!(sorted[0], (RING_OF_RINGS, told.last().unwrap().1.clone()));
        assert_eq!(sorted[1..], [(a, vec!["a1", "a2", "a3"]), (b, vec!["b1"])]);
        assert_eq!(sorted[0].1.len(), 2);

        let nodes = HashMap::from([("a1", 1), ("a2", 2), ("a3", 3), ("b1", 4)]);
        let edges = relationships(&rings, &nodes);
        let mut told: Vec<(i64, i64)> = edges.iter().map(|edge| (edge.source, edge.target)).collect();
        told.sort_unstable();
        let over_all = told.iter().position(|pair| [(1, 4), (4, 1)].contains(pair)).unwrap();
        told.remove(over_all);
        assert_eq!(told, [(1, 2), (2, 3), (3, 1)]);

        let from = [Designation::new("b1").unwrap()];
        assert_eq!(names(&near(&rings, &from, Some(0))), ["b1"]);
        assert_eq!(names(&near(&rings, &from, Some(1))), ["a1", "b1"]);
        assert_eq!(near(&rings, &from, None).len(), 4);
    }
}
