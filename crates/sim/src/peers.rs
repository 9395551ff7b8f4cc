//! The heartbeat keys of one process. Sealing is modelled: a packet opens if it names a key that the receiver holds and
//! a counter that its replay window has not seen (transport: 64 wide); nobody else can make one that names the key.

use crate::network::Node;
use crate::queue::Moment;
use model::liveness::{HostNumber, PairKey, Watch};

/// Former partners that are still recognised; the ones that left first are forgotten first.
const MAX_FORMER: usize = 128;

/// A heartbeat on the wire: 30 bytes in reality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    pub sender: HostNumber,
    /// Stands for the pair's key.
    pub key: u64,
    pub counter: u64,
    pub beat: u8,
}

/// One partner, or a former one.
#[derive(Debug, Clone)]
pub struct Peer {
    pub number: HostNumber,
    pub key: u64,
    pub address: Node,
    /// When an authentic heartbeat under this key came last.
    pub heard: Option<Moment>,
    sent: u64,
    highest: u64,
    seen: u64,
}

/// All partners of a process.
#[derive(Debug, Default)]
pub struct Peers {
    pub own_number: HostNumber,
    pub current: Vec<Peer>,
    former: Vec<Peer>,
}

impl Peers {
    /// Takes the partners of a watch. `address` finds the node of an address; the CMA, number 0, has none in it.
    pub fn adopt(&mut self, watch: &Watch, address: impl Fn(&str) -> Node) {
        self.own_number = watch.own_number;
        let mut old = std::mem::take(&mut self.current);
        for partner in &watch.partners {
            let key = fingerprint(&partner.key);
            let same = |peer: &Peer| peer.number == partner.number && peer.key == key;
            // A key that comes back goes on counting.
            let mut peer = if let Some(index) = old.iter().position(same) {
                old.swap_remove(index)
            } else if let Some(index) = self.former.iter().position(same) {
                self.former.remove(index)
            } else {
                Peer::new(partner.number, key)
            };
            peer.address = address(&partner.address);
            self.current.push(peer);
        }
        self.former.extend(old);
        let excess = self.former.len().saturating_sub(MAX_FORMER);
        self.former.drain(..excess);
    }

    /// The next packet to this partner, and where it goes.
    pub fn seal(&mut self, to: HostNumber, beat: u8) -> Option<(Node, Sealed)> {
        let sender = self.own_number;
        let peer =
            self.current.iter_mut().chain(self.former.iter_mut().rev()).find(|peer| peer.number == to)?;
        peer.sent += 1;
        Some((peer.address, Sealed { sender, key: peer.key, counter: peer.sent, beat }))
    }

    /// Whom a packet proves to be there; `None` for a forged or repeated one.
    pub fn open(&mut self, now: Moment, packet: &Sealed) -> Option<HostNumber> {
        // The last key of a number counts, as in the transport: of a partner never one from before.
        let peer = self.current.iter_mut().chain(self.former.iter_mut().rev());
        let peer = peer.into_iter().find(|peer| peer.number == packet.sender)?;
        if peer.key != packet.key || !peer.fresh(packet.counter) {
            return None;
        }
        peer.heard = Some(now);
        Some(peer.number)
    }
}

impl Peer {
    fn new(number: HostNumber, key: u64) -> Self {
        Self { number, key, address: 0, heard: None, sent: 0, highest: 0, seen: 0 }
    }

    fn fresh(&mut self, counter: u64) -> bool {
        if counter > self.highest {
            let ahead = counter - self.highest;
            self.seen = if ahead < 64 { self.seen << ahead } else { 0 };
            self.highest = counter;
        }
        let behind = self.highest - counter;
        if behind >= 64 || self.seen & (1 << behind) != 0 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}

/// What stands for a key in packets of the simulation.
pub fn fingerprint(key: &PairKey) -> u64 {
    key.0.chunks_exact(8).fold(0, |sum: u64, chunk| {
        let word = chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        sum.rotate_left(23) ^ word
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::liveness::Partner;

    fn watch(key: u8) -> Watch {
        let partner = |number| Partner {
            number,
            designation: String::new(),
            address: number.to_string(),
            key: PairKey([key; 32]),
        };
        Watch {
            generation: 1,
            own_number: 9,
            interval_milliseconds: 1000,
            suspect_milliseconds: 1400,
            probe_milliseconds: 700,
            probes: 6,
            partners: vec![partner(5), partner(6)],
        }
    }

    fn adopted(key: u8) -> Peers {
        let mut peers = Peers::default();
        peers.adopt(&watch(key), |text| text.parse().unwrap());
        peers
    }

    #[test]
    fn each_packet_opens_once_in_any_order_within_the_window() {
        let mut peers = adopted(1);
        let key = peers.current[0].key;
        let packet = |counter| Sealed { sender: 5, key, counter, beat: 0 };
        assert_eq!(peers.open(7, &packet(2)), Some(5));
        assert_eq!(peers.open(8, &packet(1)), Some(5));
        assert_eq!(peers.open(9, &packet(2)), None, "a repeat");
        assert_eq!(peers.open(9, &packet(100)), Some(5));
        assert_eq!(peers.open(9, &packet(36)), None, "behind the window");
        assert_eq!(peers.open(9, &packet(37)), Some(5));
        assert_eq!(peers.open(9, &Sealed { key: 3, ..packet(101) }), None, "another key");
        assert_eq!(peers.open(9, &Sealed { sender: 6, ..packet(101) }), Some(6), "a window for each partner");
        assert_eq!(peers.current[0].heard, Some(9));
    }

    #[test]
    fn a_former_partner_is_recognised_and_counting_starts_again_only_with_a_new_key() {
        let mut peers = adopted(1);
        let old = peers.seal(5, 0).unwrap();
        assert_eq!((old.0, old.1.counter, old.1.sender), (5, 1, 9));
        peers.adopt(&watch(1), |_| 0);
        assert_eq!(peers.seal(5, 0).unwrap().1.counter, 2);
        peers.adopt(&watch(2), |_| 0);
        assert_eq!(peers.seal(5, 0).unwrap().1.counter, 1);
        let packet = Sealed { sender: 5, key: old.1.key, counter: 1, beat: 0 };
        assert_eq!(peers.open(30, &packet), None, "the key of before, from a partner");
        peers.adopt(&Watch { partners: Vec::new(), ..watch(2) }, |_| 0);
        assert_eq!(peers.open(40, &packet), None, "not its last key");
        let key = peers.seal(5, 0).unwrap().1.key;
        assert_eq!(peers.open(50, &Sealed { key, ..packet }), Some(5));
        assert_eq!(peers.seal(44, 0), None);
        peers.adopt(&watch(2), |_| 0);
        assert_eq!(peers.seal(5, 0).unwrap().1.counter, 3, "a key that comes back goes on counting");
    }
}
