//! Who watches whom.
//!
//! All hosts of one place form a ring, in the order in which they came, so a newcomer disturbs the two at the seam and
//! nobody else. The longest-standing host of each place stands for it in one ring over all places; these are ordered by
//! what names them, which needs no memory. That makes two partners for nearly every host and four at most.

use model::liveness::HostNumber;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

/// No host has more partners.
pub const MAX_PARTNERS: usize = 4;

/// The CMA among the partners of a host.
pub const CMA: HostNumber = 0;

/// Where a host stands, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// On this switch (LLDP, CDP): its identity.
    Switch(String),
    /// In this subnet: network address and prefix length.
    Subnet(IpAddr, u8),
    /// Nothing is known.
    Unknown,
}

/// All rings of a site. The order in a ring is that of `position`, which counts up with every join.
#[derive(Debug, Default)]
pub struct Rings {
    seats: BTreeMap<HostNumber, Seat>,
    /// The hosts of each place; no ring is empty.
    rings: BTreeMap<Arc<Place>, BTreeSet<(u64, HostNumber)>>,
}

#[derive(Debug, Clone)]
struct Seat {
    position: u64,
    place: Arc<Place>,
}

impl Rings {
    /// Takes a host in, or moves it to another place. Returns whose partners changed.
    pub fn join(&mut self, host: HostNumber, position: u64, place: &Place) -> Vec<HostNumber> {
        if host == CMA {
            return Vec::new();
        }
        let old = self.seats.get(&host).cloned();
        // A change reaches partners of before and of afterwards only. Who the latter are is seen by trying.
        let mut near: BTreeSet<HostNumber> = self.partners(host).into_iter().collect();
        let new = self.sit(host, position, place);
        near.extend(self.partners(host));
        near.remove(&CMA);
        near.insert(host);
        self.rise(host);
        if let Some(old) = &old {
            self.sit(host, old.position, &old.place);
        }
        let before: Vec<_> = near.iter().map(|near| (*near, self.partners(*near))).collect();
        self.sit(host, new.position, &new.place);
        self.changed_since(before)
    }

    /// Takes a host out and closes the gap. Returns whose partners changed, without the host itself.
    pub fn leave(&mut self, host: HostNumber) -> Vec<HostNumber> {
        let near = self.partners(host).into_iter().filter(|near| *near != CMA);
        let before = near.map(|near| (near, self.partners(near))).collect();
        self.rise(host);
        self.changed_since(before)
    }

    /// Partners of a host, at most four, each once, the lowest number first; 0 is the CMA, for a host that would have none. A host that is in no
    /// ring has none.
    pub fn partners(&self, host: HostNumber) -> Vec<HostNumber> {
        let Some(seat) = self.seats.get(&host) else { return Vec::new() };
        let mut partners = Vec::with_capacity(MAX_PARTNERS);
        if let Some(ring) = self.rings.get(&seat.place) {
            let own = (seat.position, host);
            let previous = ring.range(..own).next_back().or_else(|| ring.last());
            let next = ring.range((Bound::Excluded(own), Bound::Unbounded)).next().or_else(|| ring.first());
            partners.extend(previous.into_iter().chain(next).map(|(_, number)| *number));
            if ring.first() == Some(&own) {
                partners.extend(self.neighbours(&seat.place));
            }
        }
        partners.sort_unstable();
        partners.dedup();
        partners.retain(|partner| *partner != host);
        if partners.is_empty() {
            partners.push(CMA);
        }
        partners
    }

    /// The ring of each place, from its longest-standing host on, which stands for the place; in the order of the ring
    /// over all places.
    pub fn rings(&self) -> impl Iterator<Item = (&Place, Vec<HostNumber>)> {
        self.rings.iter().map(|(place, ring)| (&**place, ring.iter().map(|(_, number)| *number).collect()))
    }

    /// Hosts that are in a ring.
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// Hosts in rings from this number on, in order of their numbers.
    pub fn hosts_from(&self, number: HostNumber) -> impl Iterator<Item = HostNumber> + '_ {
        self.seats.range(number..).map(|(number, _)| *number)
    }

    /// The highest number in any ring, 0 for none.
    pub fn last_number(&self) -> HostNumber {
        self.seats.last_key_value().map_or(CMA, |(number, _)| *number)
    }

    /// How many hosts stand at a place.
    pub fn count_at(&self, place: &Place) -> usize {
        self.rings.get(place).map_or(0, BTreeSet::len)
    }

    /// Representatives of the places before and after this one.
    fn neighbours(&self, place: &Place) -> impl Iterator<Item = HostNumber> + '_ {
        let before = self.rings.range::<Place, _>((Bound::Unbounded, Bound::Excluded(place)));
        let mut after = self.rings.range::<Place, _>((Bound::Excluded(place), Bound::Unbounded));
        let previous = before.clone().next_back().or_else(|| self.rings.last_key_value());
        let next = after.next().or_else(|| self.rings.first_key_value());
        let first = |(_, ring): (_, &BTreeSet<(u64, HostNumber)>)| ring.first().map(|(_, number)| *number);
        previous.into_iter().chain(next).filter_map(first)
    }

    fn changed_since(&self, before: Vec<(HostNumber, Vec<HostNumber>)>) -> Vec<HostNumber> {
        let changed = |(host, before): &(HostNumber, Vec<HostNumber>)| self.partners(*host) != *before;
        before.into_iter().filter(changed).map(|(host, _)| host).collect()
    }

    /// Puts a host at a place, and takes it away from where it was.
    fn sit(&mut self, host: HostNumber, position: u64, place: &Place) -> Seat {
        self.rise(host);
        // One copy of the name for all hosts there.
        let place = match self.rings.get_key_value(place) {
            Some((place, _)) => place.clone(),
            None => Arc::new(place.clone()),
        };
        self.rings.entry(place.clone()).or_default().insert((position, host));
        let seat = Seat { position, place };
        self.seats.insert(host, seat.clone());
        seat
    }

    fn rise(&mut self, host: HostNumber) {
        let Some(seat) = self.seats.remove(&host) else { return };
        if let Some(ring) = self.rings.get_mut(&seat.place) {
            ring.remove(&(seat.position, host));
            if ring.is_empty() {
                self.rings.remove(&seat.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn switch(name: &str) -> Place {
        Place::Switch(name.into())
    }

    /// Hosts 1, 2, ... at the places given.
    fn site(places: &[&str]) -> Rings {
        let mut rings = Rings::default();
        for (number, place) in (1..).zip(places) {
            rings.join(number, number.into(), &switch(place));
        }
        rings
    }

    fn sorted(mut hosts: Vec<HostNumber>) -> Vec<HostNumber> {
        hosts.sort_unstable();
        hosts
    }

    #[test]
    fn a_lone_host_is_watched_by_the_cma() {
        let mut rings = Rings::default();
        assert_eq!(rings.join(7, 1, &Place::Unknown), [7]);
        assert_eq!(rings.partners(7), [CMA]);
        assert_eq!(sorted(rings.join(8, 2, &switch("a"))), [7, 8]);
        assert_eq!((rings.partners(7), rings.partners(8)), (vec![8], vec![7]));
        assert_eq!(rings.leave(8), [7]);
        assert_eq!((rings.partners(7), rings.partners(8)), (vec![CMA], vec![]));
    }

    #[test]
    fn a_newcomer_goes_between_the_last_and_the_first() {
        let mut rings = site(&["a", "a", "a", "a"]);
        assert_eq!(rings.partners(4), [1, 3]);
        assert_eq!(sorted(rings.join(5, 5, &switch("a"))), [1, 4, 5]);
        assert_eq!(rings.partners(5), [1, 4]);
        assert!(rings.join(5, 5, &switch("a")).is_empty(), "nothing changed");
    }

    #[test]
    fn the_longest_standing_of_each_place_stands_for_it() {
        let mut rings = site(&["a", "a", "a", "b", "b", "b", "c", "c", "c"]);
        assert_eq!(rings.partners(1), [2, 3, 4, 7]);
        assert_eq!(rings.partners(2), [1, 3]);
        // The next oldest takes over.
        assert_eq!(sorted(rings.leave(1)), [2, 3, 4, 7]);
        assert_eq!(rings.partners(2), [3, 4, 7]);
        assert_eq!(rings.partners(4), [2, 5, 6, 7]);
        // It comes back, and is the last of its ring.
        assert_eq!(sorted(rings.join(1, 10, &switch("a"))), [1, 2, 3]);
        assert_eq!(rings.partners(1), [2, 3]);
    }

    #[test]
    fn a_move_changes_both_rings() {
        let mut rings = site(&["a", "a", "a", "a", "b", "b", "b", "b"]);
        assert_eq!(sorted(rings.join(3, 9, &switch("b"))), [2, 3, 4, 5, 8]);
        assert_eq!(rings.partners(3), [5, 8]);
        assert_eq!(rings.partners(2), [1, 4]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Join(HostNumber, u64, Place),
        Leave(HostNumber),
    }

    fn step() -> impl Strategy<Value = Step> {
        let place = prop_oneof![
            Just(Place::Unknown),
            (0..3u8).prop_map(|subnet| Place::Subnet(IpAddr::from([10, 0, subnet, 0]), 24)),
            "[ab]".prop_map(Place::Switch),
        ];
        prop_oneof![
            2 => (1..14u32, 0..40u64, place).prop_map(|(host, position, place)| Step::Join(host, position, place)),
            1 => (1..14u32).prop_map(Step::Leave),
        ]
    }

    /// All pairs of partners, from sorted lists and nothing else.
    fn model(hosts: &BTreeMap<HostNumber, (u64, Place)>) -> BTreeMap<HostNumber, BTreeSet<HostNumber>> {
        let mut places: BTreeMap<&Place, Vec<(u64, HostNumber)>> = BTreeMap::new();
        for (host, (position, place)) in hosts {
            places.entry(place).or_default().push((*position, *host));
        }
        let mut circles: Vec<Vec<HostNumber>> = Vec::new();
        let mut over_all = Vec::new();
        for members in places.values_mut() {
            members.sort_unstable();
            over_all.push(members[0].1);
            circles.push(members.iter().map(|(_, host)| *host).collect());
        }
        circles.push(over_all);
        let mut partners: BTreeMap<HostNumber, BTreeSet<HostNumber>> =
            hosts.keys().map(|host| (*host, BTreeSet::new())).collect();
        for circle in circles {
            for (index, host) in circle.iter().enumerate() {
                let next = circle[(index + 1) % circle.len()];
                if next != *host {
                    partners.get_mut(host).unwrap().insert(next);
                    partners.get_mut(&next).unwrap().insert(*host);
                }
            }
        }
        if let [only] = hosts.keys().collect::<Vec<_>>()[..] {
            partners.get_mut(only).unwrap().insert(CMA);
        }
        partners
    }

    fn connected(partners: &BTreeMap<HostNumber, BTreeSet<HostNumber>>) -> bool {
        let Some(first) = partners.keys().next() else { return true };
        let mut reached = BTreeSet::from([*first]);
        let mut open = vec![*first];
        while let Some(host) = open.pop() {
            for next in partners.get(&host).into_iter().flatten() {
                if reached.insert(*next) {
                    open.push(*next);
                }
            }
        }
        partners.keys().all(|host| reached.contains(host))
    }

    proptest! {
        #[test]
        fn any_coming_and_going_leaves_whole_rings(steps in proptest::collection::vec(step(), 1..60)) {
            let mut rings = Rings::default();
            let mut hosts = BTreeMap::new();
            for step in steps {
                let before = model(&hosts);
                let (changed, left, limit) = match step {
                    Step::Join(host, position, place) => {
                        let changed = rings.join(host, position, &place);
                        // Three at the new seam and two places beside, two and two more where it left.
                        let moved = hosts.insert(host, (position, place)).is_some();
                        (changed, None, if moved { 9 } else { 5 })
                    }
                    Step::Leave(host) => {
                        hosts.remove(&host);
                        (rings.leave(host), Some(host), 4)
                    }
                };
                let after = model(&hosts);
                prop_assert!(changed.len() <= limit, "{changed:?}");
                let expected: BTreeSet<HostNumber> = before
                    .keys()
                    .chain(after.keys())
                    .filter(|host| Some(**host) != left && before.get(*host) != after.get(*host))
                    .copied()
                    .collect();
                prop_assert_eq!(changed.len(), expected.len(), "none twice");
                prop_assert_eq!(changed.into_iter().collect::<BTreeSet<_>>(), expected);
                prop_assert!(connected(&after));
                prop_assert_eq!(rings.len(), after.len());
                for (host, expected) in &after {
                    let partners = rings.partners(*host);
                    prop_assert!(partners.len() <= MAX_PARTNERS);
                    prop_assert_eq!(&partners.iter().copied().collect::<BTreeSet<_>>(), expected);
                    prop_assert_eq!(partners.len(), expected.len(), "none twice");
                    for partner in partners.into_iter().filter(|partner| *partner != CMA) {
                        prop_assert!(rings.partners(partner).contains(host), "{partner} does not watch {host}");
                    }
                }
                let seats: usize = rings.rings.values().map(BTreeSet::len).sum();
                prop_assert_eq!(seats, after.len());
                prop_assert!(rings.rings.values().all(|ring| !ring.is_empty()), "no empty ring is kept");
            }
        }
    }
}
