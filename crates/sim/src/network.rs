//! The wires: delay, loss, duplication, reordering, and everything that can be cut.

use crate::queue::Moment;
use crate::random::Random;
use std::collections::HashSet;

/// A machine by its index, or [`CMA`].
pub type Node = u32;

/// The machine that the CMA runs on.
pub const CMA: Node = u32::MAX;

/// What every packet is exposed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    pub delay_min_microseconds: u32,
    pub delay_max_microseconds: u32,
    /// Millionths, like the following.
    pub loss: u32,
    pub duplicate: u32,
    /// Arrives up to a tenth of a second late, so that later packets overtake it.
    pub reorder: u32,
}

impl Default for Weather {
    /// A quiet LAN.
    fn default() -> Self {
        Self { delay_min_microseconds: 80, delay_max_microseconds: 600, loss: 0, duplicate: 0, reorder: 0 }
    }
}

/// Who can send to whom.
#[derive(Debug)]
pub struct Network {
    pub weather: Weather,
    /// Place of each machine.
    places: Vec<u32>,
    /// Nodes on different sides do not reach each other.
    sides: Vec<u8>,
    cma_side: u8,
    unplugged: Vec<bool>,
    cma_unplugged: bool,
    dead_places: HashSet<u32>,
    /// From, to.
    blocked: HashSet<(Node, Node)>,
}

/// How often a packet arrives, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrivals {
    pub first: Option<Moment>,
    pub second: Option<Moment>,
}

impl Network {
    pub fn new(weather: Weather, places: Vec<u32>) -> Self {
        let machines = places.len();
        Self {
            weather,
            places,
            sides: vec![0; machines],
            cma_side: 0,
            unplugged: vec![false; machines],
            cma_unplugged: false,
            dead_places: HashSet::new(),
            blocked: HashSet::new(),
        }
    }

    /// Another machine, at the place.
    pub fn add(&mut self, place: u32) {
        self.places.push(place);
        self.sides.push(0);
        self.unplugged.push(false);
    }

    pub fn place(&self, machine: Node) -> u32 {
        self.places.get(machine as usize).copied().unwrap_or(u32::MAX)
    }

    pub fn set_side(&mut self, node: Node, side: u8) {
        match self.sides.get_mut(node as usize) {
            Some(known) => *known = side,
            None => self.cma_side = side,
        }
    }

    pub fn set_unplugged(&mut self, node: Node, unplugged: bool) {
        match self.unplugged.get_mut(node as usize) {
            Some(known) => *known = unplugged,
            None => self.cma_unplugged = unplugged,
        }
    }

    pub fn set_place_dead(&mut self, place: u32, dead: bool) {
        if dead {
            self.dead_places.insert(place);
        } else {
            self.dead_places.remove(&place);
        }
    }

    pub fn block(&mut self, from: Node, to: Node) {
        self.blocked.insert((from, to));
    }

    /// Everything is plugged, switched on and one net again; the weather stays.
    pub fn heal(&mut self) {
        self.sides.fill(0);
        self.unplugged.fill(false);
        self.cma_side = 0;
        self.cma_unplugged = false;
        self.dead_places.clear();
        self.blocked.clear();
    }

    /// The cable of this node is in, and what is at the other end works: its own kernel can tell.
    pub fn has_carrier(&self, node: Node) -> bool {
        let unplugged = self.unplugged.get(node as usize).copied().unwrap_or(self.cma_unplugged);
        !unplugged && !self.dead_places.contains(&self.place(node))
    }

    /// A packet from the one can arrive at the other.
    pub fn open(&self, from: Node, to: Node) -> bool {
        from == to
            || (self.side(from) == self.side(to)
                && self.has_carrier(from)
                && self.has_carrier(to)
                && (self.blocked.is_empty() || !self.blocked.contains(&(from, to))))
    }

    pub fn both_ways(&self, one: Node, other: Node) -> bool {
        self.open(one, other) && self.open(other, one)
    }

    /// One way of one packet.
    pub fn delay(&self, random: &mut Random) -> Moment {
        let usual = random
            .between(self.weather.delay_min_microseconds.into(), self.weather.delay_max_microseconds.into());
        if random.chance(self.weather.reorder) { usual + random.below(100_000) } else { usual }
    }

    /// One packet that is lost no more often than the weather says.
    pub fn survives(&self, random: &mut Random) -> bool {
        !random.chance(self.weather.loss)
    }

    /// The fate of one datagram.
    pub fn send(&self, random: &mut Random, from: Node, to: Node) -> Arrivals {
        if !self.open(from, to) || !self.survives(random) {
            return Arrivals { first: None, second: None };
        }
        let second = random.chance(self.weather.duplicate).then(|| self.delay(random));
        Arrivals { first: Some(self.delay(random)), second }
    }

    fn side(&self, node: Node) -> u8 {
        self.sides.get(node as usize).copied().unwrap_or(self.cma_side)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cut_separates_whom_it_should_and_healing_joins_them() {
        let mut network = Network::new(Weather::default(), vec![0, 0, 1]);
        let pairs = |network: &Network| {
            [(0, 1), (1, 0), (0, 2), (2, 0), (0, CMA), (CMA, 0), (2, CMA)]
                .map(|(from, to)| network.open(from, to))
        };
        assert_eq!(pairs(&network), [true; 7]);
        network.set_side(2, 1);
        assert_eq!(pairs(&network), [true, true, false, false, true, true, false]);
        network.heal();
        network.block(0, 1);
        assert_eq!(pairs(&network), [false, true, true, true, true, true, true]);
        network.heal();
        network.set_place_dead(0, true);
        assert_eq!(pairs(&network), [false, false, false, false, false, false, true]);
        assert!(!network.has_carrier(0) && network.has_carrier(2));
        network.heal();
        network.set_unplugged(CMA, true);
        assert_eq!(pairs(&network), [true, true, true, true, false, false, false]);
        network.heal();
        assert_eq!(pairs(&network), [true; 7]);
    }

    #[test]
    fn packets_are_lost_doubled_and_delayed_as_often_as_the_weather_says() {
        let weather = Weather { loss: 200_000, duplicate: 100_000, ..Weather::default() };
        let network = Network::new(weather, vec![0, 0]);
        let mut random = Random::new(3);
        let sent: Vec<Arrivals> = (0..10_000).map(|_| network.send(&mut random, 0, 1)).collect();
        let arrived = sent.iter().filter(|sent| sent.first.is_some()).count();
        let doubled = sent.iter().filter(|sent| sent.second.is_some()).count();
        assert!((7_700..8_300).contains(&arrived), "{arrived} of 10000 arrived, 8000 expected");
        assert!((650..950).contains(&doubled), "{doubled} arrived twice, 800 expected");
        assert!(sent.iter().filter_map(|sent| sent.first).all(|delay| (80..=600).contains(&delay)));
    }
}
