//! Heartbeats on the wire: 30 bytes that only the two partners can make or read. All but [`kept_secret`] is pure.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | type, 0x23 |
//! | 1 to 4 | number of the sender, big-endian |
//! | 5 to 12 | counter, big-endian: 1 for the first packet under a key, never the same twice |
//! | 13 | the sealed byte: what the heartbeat says |
//! | 14 to 29 | tag |
//!
//! ChaCha20-Poly1305 (RFC 8439); the nonce is sender and counter, the first 13 bytes are associated data. Both partners
//! have the same key, and no nonce in common because each sends under its own number. A packet that is not authentic, or
//! that came before, is counted and leads to nothing, not even an answer.

use crate::keys::KeyError;
use crate::keys::store::kept;
use model::liveness::{HostNumber, PairKey, Watch};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use zeroize::{Zeroize, Zeroizing};

/// First byte of a heartbeat.
pub const HEARTBEAT_TYPE: u8 = 0x23;
/// Length of every heartbeat.
pub const HEARTBEAT_BYTES: usize = 30;
/// Former partners whose heartbeats are still recognised; the ones that left first are forgotten first.
pub const MAX_FORMER: usize = 128;

const HEADER_BYTES: usize = 13;

/// File of the secret that a CMA derives the keys of pairs from.
const SECRET_FILE: &str = "heartbeat.secret";

/// The secret that a CMA derives the keys of pairs from: 32 random bytes in a file of mode 0600 in `directory`, made (with
/// the directory, 0700) at the first call. While it stays, a restarted CMA knows all keys without having stored one.
///
/// # Errors
/// The directory or the file is open to others, or cannot be read or made.
pub fn kept_secret(directory: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    kept::<32>(directory, SECRET_FILE)
}

/// What became of packets, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeartbeatStats {
    pub sealed: u64,
    pub opened: u64,
    /// Of another length or type, or with a counter that nobody sends.
    pub malformed: u64,
    /// From a number that is no partner, neither now nor before.
    pub unknown: u64,
    /// Came before, or is too old to tell.
    pub replayed: u64,
    /// The tag is wrong: another key, or changed on the way.
    pub forged: u64,
}

/// The keys of all partners, with the counters of what was sent and received under each.
#[derive(Debug, Default)]
pub struct Pairs {
    partners: HashMap<HostNumber, Pair>,
    /// In the order in which they ceased to be partners.
    former: VecDeque<(HostNumber, Pair)>,
    /// Highest counter under any key that was forgotten: where such a key comes back, counting goes on above it, so that
    /// no nonce is used twice.
    floor: u64,
    stats: HeartbeatStats,
}

impl Pairs {
    /// Takes the partners of `watch` in place of all before. Keys that stay go on counting where they were.
    pub fn handle_watch(&mut self, watch: &Watch) {
        let mut before = std::mem::take(&mut self.partners);
        for partner in &watch.partners {
            let same = |pair: &Pair| pair.own == watch.own_number && pair.key == partner.key;
            let known = match before.remove(&partner.number) {
                Some(pair) if same(&pair) => Some(pair),
                other => {
                    if let Some(pair) = other {
                        self.retire(partner.number, pair);
                    }
                    let place =
                        self.former.iter().position(|(number, pair)| *number == partner.number && same(pair));
                    place.and_then(|place| self.former.remove(place)).map(|(_, pair)| pair)
                }
            };
            let pair = known.unwrap_or_else(|| Pair::new(watch.own_number, &partner.key, self.floor));
            if let Some(twice) = self.partners.insert(partner.number, pair) {
                self.retire(partner.number, twice);
            }
        }
        for (number, pair) in before {
            self.retire(number, pair);
        }
    }

    /// The packet that tells `beat` to a partner, present or former; `None` for others.
    pub fn seal(&mut self, to: HostNumber, beat: u8) -> Option<[u8; HEARTBEAT_BYTES]> {
        let packet = find(&mut self.partners, &mut self.former, to)?.seal(beat)?;
        self.stats.sealed += 1;
        Some(packet)
    }

    /// Sender and sealed byte of a packet that is authentic and was not opened before.
    pub fn open(&mut self, bytes: &[u8]) -> Option<(HostNumber, u8)> {
        let Some((sender, counter)) = header(bytes) else {
            self.stats.malformed += 1;
            return None;
        };
        let Some(pair) = find(&mut self.partners, &mut self.former, sender) else {
            self.stats.unknown += 1;
            return None;
        };
        // Before the tag, because it costs less.
        if !pair.window.is_new(counter) {
            self.stats.replayed += 1;
            return None;
        }
        let Some(beat) = pair.open(bytes) else {
            self.stats.forged += 1;
            return None;
        };
        pair.window.mark(counter);
        self.stats.opened += 1;
        Some((sender, beat))
    }

    pub fn stats(&self) -> HeartbeatStats {
        self.stats
    }

    fn retire(&mut self, number: HostNumber, pair: Pair) {
        self.former.push_back((number, pair));
        while self.former.len() > MAX_FORMER {
            if let Some((_, forgotten)) = self.former.pop_front() {
                self.floor = self.floor.max(forgotten.sent);
            }
        }
    }
}

/// The partner of this number; else the former one that was a partner last, never one with an older key.
fn find<'a>(
    partners: &'a mut HashMap<HostNumber, Pair>,
    former: &'a mut VecDeque<(HostNumber, Pair)>,
    number: HostNumber,
) -> Option<&'a mut Pair> {
    match partners.get_mut(&number) {
        Some(pair) => Some(pair),
        None => former.iter_mut().rev().find(|(known, _)| *known == number).map(|(_, pair)| pair),
    }
}

/// One key.
struct Pair {
    /// Under which we send.
    own: HostNumber,
    key: PairKey,
    /// Counter of the last packet that was sealed.
    sent: u64,
    window: Window,
}

impl Pair {
    fn new(own: HostNumber, key: &PairKey, sent: u64) -> Self {
        Self { own, key: key.clone(), sent, window: Window::default() }
    }

    fn seal(&mut self, beat: u8) -> Option<[u8; HEARTBEAT_BYTES]> {
        let counter = self.sent.checked_add(1)?;
        let mut packet = [0; HEARTBEAT_BYTES];
        packet[0] = HEARTBEAT_TYPE;
        packet[1..5].copy_from_slice(&self.own.to_be_bytes());
        packet[5..HEADER_BYTES].copy_from_slice(&counter.to_be_bytes());
        packet[HEADER_BYTES] = beat;
        let (header, sealed) = packet.split_at_mut(HEADER_BYTES);
        let (beat, tag) = sealed.split_at_mut(1);
        let made = self.cipher()?.seal_in_place_separate_tag(nonce(header)?, Aad::from(&*header), beat);
        tag.copy_from_slice(made.ok()?.as_ref());
        self.sent = counter;
        Some(packet)
    }

    fn open(&self, bytes: &[u8]) -> Option<u8> {
        let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
        let mut sealed: [u8; HEARTBEAT_BYTES - HEADER_BYTES] = rest.try_into().ok()?;
        let opened = self.cipher()?.open_in_place(nonce(header)?, Aad::from(header), &mut sealed);
        opened.ok()?.first().copied()
    }

    /// Made anew for each packet, which costs nothing: what lies in memory is the 32 bytes that are wiped in the end.
    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&CHACHA20_POLY1305, &self.key.0).ok().map(LessSafeKey::new)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.key.0.zeroize();
    }
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pair(own {}, sent {}, received {})", self.own, self.sent, self.window.highest)
    }
}

/// Which counters have been received: the highest and 63 below it (RFC 4303 §3.4.3 has the idea).
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    highest: u64,
    /// Bit `n`: `highest - n` was received.
    seen: u64,
}

impl Window {
    fn is_new(&self, counter: u64) -> bool {
        match self.highest.checked_sub(counter) {
            None => true,
            Some(age) if age < 64 => self.seen & 1 << age == 0,
            Some(_) => false,
        }
    }

    fn mark(&mut self, counter: u64) {
        match self.highest.checked_sub(counter) {
            Some(age) if age < 64 => self.seen |= 1 << age,
            Some(_) => {}
            None => {
                let ahead = counter - self.highest;
                self.seen = if ahead < 64 { self.seen << ahead } else { 0 } | 1;
                self.highest = counter;
            }
        }
    }
}

/// Sender and counter, of a packet that may be one.
fn header(bytes: &[u8]) -> Option<(HostNumber, u64)> {
    if bytes.len() != HEARTBEAT_BYTES || bytes[0] != HEARTBEAT_TYPE {
        return None;
    }
    let sender = HostNumber::from_be_bytes(bytes[1..5].try_into().ok()?);
    let counter = u64::from_be_bytes(bytes[5..HEADER_BYTES].try_into().ok()?);
    (counter > 0).then_some((sender, counter))
}

/// Sender and counter are twelve bytes.
fn nonce(header: &[u8]) -> Option<Nonce> {
    Nonce::try_assume_unique_for_key(header.get(1..)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::liveness::Partner;
    use proptest::prelude::*;

    fn watch(own: HostNumber, partners: &[(HostNumber, u8)]) -> Watch {
        let partner = |&(number, key): &(HostNumber, u8)| Partner {
            number,
            designation: format!("host{number}"),
            address: "192.0.2.1:1984".into(),
            key: PairKey([key; 32]),
        };
        Watch {
            generation: 1,
            own_number: own,
            interval_milliseconds: 1000,
            suspect_milliseconds: 1400,
            probe_milliseconds: 700,
            probes: 6,
            partners: partners.iter().map(partner).collect(),
        }
    }

    fn pairs(own: HostNumber, partners: &[(HostNumber, u8)]) -> Pairs {
        let mut pairs = Pairs::default();
        pairs.handle_watch(&watch(own, partners));
        pairs
    }

    fn counter(packet: &[u8; HEARTBEAT_BYTES]) -> u64 {
        header(packet).unwrap().1
    }

    #[test]
    fn the_packet_is_the_documented_one() {
        // Made with another implementation (Python's cryptography 48.0) of RFC 8439.
        let known = [
            0x23, 0x01, 0x02, 0x03, 0x04, 0, 0, 0, 0, 0, 0, 0, 1, 0x47, 0xd0, 0x32, 0x84, 0x99, 0xf5, 0x1f,
            0x4a, 0xd1, 0x35, 0xe9, 0x52, 0x82, 0xa3, 0xc4, 0x77, 0xb1,
        ];
        let mut key = [0; 32];
        key.iter_mut().zip(0x80..).for_each(|(byte, value)| *byte = value);
        let with = |own, number| {
            let mut watch = watch(own, &[(number, 0)]);
            watch.partners[0].key = PairKey(key);
            let mut pairs = Pairs::default();
            pairs.handle_watch(&watch);
            pairs
        };
        assert_eq!(with(0x0102_0304, 7).seal(7, 1), Some(known));
        assert_eq!(with(7, 0x0102_0304).open(&known), Some((0x0102_0304, 1)));
    }

    #[test]
    fn each_side_reads_the_other_and_never_itself() {
        let (mut one, mut two) = (pairs(1, &[(2, 9)]), pairs(2, &[(1, 9)]));
        for beat in [0, 1, 2, 3, 255] {
            let packet = one.seal(2, beat).unwrap();
            assert_eq!(two.open(&packet), Some((1, beat)));
            assert_eq!(one.open(&packet), None, "sent back to its sender");
        }
        assert_eq!(one.stats(), HeartbeatStats { sealed: 5, unknown: 5, ..Default::default() });
        assert_eq!(two.stats(), HeartbeatStats { opened: 5, ..Default::default() });
        assert_eq!(one.seal(3, 0), None, "no partner");
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let packet = pairs(1, &[(2, 9)]).seal(2, 0).unwrap();
        let mut two = pairs(2, &[(1, 9)]);
        for bit in 0..HEARTBEAT_BYTES * 8 {
            let mut changed = packet;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(two.open(&changed), None, "bit {bit}");
        }
        let HeartbeatStats { malformed, unknown, forged, replayed, .. } = two.stats();
        // 8 bits of the type and the counter 0, 32 of the number, 63 of the counter, and what is sealed.
        assert_eq!((malformed, unknown, forged, replayed), (9, 32, 63 + 17 * 8, 0));
        assert_eq!(two.open(&packet), Some((1, 0)), "forged packets move no window");
        let mut other_key = pairs(2, &[(1, 8)]);
        assert_eq!((other_key.open(&packet), other_key.stats().forged), (None, 1));
    }

    #[test]
    fn other_lengths_are_no_heartbeats() {
        let packet = pairs(1, &[(2, 9)]).seal(2, 0).unwrap();
        let mut two = pairs(2, &[(1, 9)]);
        let long = [packet.as_slice(), &[0]].concat();
        for length in 0..=long.len() {
            let whole = length == HEARTBEAT_BYTES;
            assert_eq!(two.open(&long[..length]).is_some(), whole, "{length}");
        }
        assert_eq!(two.stats().malformed, HEARTBEAT_BYTES as u64 + 1);
    }

    #[test]
    fn packets_may_overtake_each_other_within_the_window() {
        let (mut one, mut two) = (pairs(1, &[(2, 9)]), pairs(2, &[(1, 9)]));
        let packets: Vec<_> = (0..200).map(|_| one.seal(2, 0).unwrap()).collect();
        assert!(two.open(&packets[99]).is_some());
        assert!(two.open(&packets[36]).is_some(), "63 older");
        assert!(two.open(&packets[35]).is_none(), "64 older");
        for index in (37..99).rev() {
            assert!(two.open(&packets[index]).is_some(), "{index}");
        }
        for (index, packet) in packets[..100].iter().enumerate() {
            assert!(two.open(packet).is_none(), "{index} again");
        }
        // A jump by more than the window, then the rest below it.
        assert!(two.open(&packets[199]).is_some());
        assert!(two.open(&packets[136]).is_some() && two.open(&packets[135]).is_none());
        assert_eq!(two.stats().replayed, 1 + 100 + 1);
    }

    #[test]
    fn a_key_that_stays_goes_on_counting_and_a_new_one_begins() {
        let (mut one, mut two) = (pairs(1, &[(2, 9), (3, 4)]), pairs(2, &[(1, 9)]));
        let first = one.seal(2, 0).unwrap();
        assert!(two.open(&first).is_some());
        one.handle_watch(&watch(1, &[(2, 9)]));
        assert_eq!(counter(&one.seal(2, 0).unwrap()), 2, "same key");
        two.handle_watch(&watch(2, &[(1, 9), (7, 7)]));
        assert!(two.open(&first).is_none(), "a new watch opens no door for what was heard");
        two.handle_watch(&watch(2, &[]));
        two.handle_watch(&watch(2, &[(1, 9)]));
        assert!(two.open(&first).is_none(), "neither does a pause");
        one.handle_watch(&watch(1, &[(2, 10)]));
        assert_eq!(counter(&one.seal(2, 0).unwrap()), 1, "another key");
    }

    #[test]
    fn a_former_partner_is_recognised_with_its_last_key_only() {
        let (mut one, mut two) = (pairs(1, &[(2, 9)]), pairs(2, &[(1, 9)]));
        let before = one.seal(2, 0).unwrap();
        two.handle_watch(&watch(2, &[(5, 5)]));
        assert_eq!(two.open(&before), Some((1, 0)), "gone from the ring, and does not know");
        // It came back with a new session; who still has the old key is not this partner.
        two.handle_watch(&watch(2, &[(1, 10)]));
        assert_eq!(two.open(&one.seal(2, 0).unwrap()), None);
        assert_eq!(two.stats().forged, 1);
        two.handle_watch(&watch(2, &[]));
        assert_eq!(two.open(&one.seal(2, 0).unwrap()), None, "two keys ago");
    }

    #[test]
    fn no_nonce_is_used_twice_though_the_former_are_bounded() {
        let mut one = pairs(1, &[(2, 9)]);
        for _ in 0..5 {
            one.seal(2, 0).unwrap();
        }
        for number in 0..MAX_FORMER as u32 + 20 {
            one.handle_watch(&watch(1, &[(1000 + number, 1)]));
            one.seal(1000 + number, 0).unwrap();
        }
        assert_eq!(one.former.len(), MAX_FORMER);
        one.handle_watch(&watch(1, &[(2, 9)]));
        assert_eq!(counter(&one.seal(2, 0).unwrap()), 6);
    }

    #[test]
    fn the_secret_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("keys");
        let secret = kept_secret(&directory).unwrap();
        assert_eq!(kept_secret(&directory).unwrap(), secret);
        assert_ne!(kept_secret(&home.path().join("other")).unwrap(), secret);
        let file = directory.join(SECRET_FILE);
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(kept_secret(&directory).is_err(), "others could read it");
    }

    #[test]
    fn keys_are_not_printed() {
        let printed = format!("{:?}", pairs(1, &[(2, 222)]));
        assert!(printed.contains("own 1") && !printed.contains("222"), "{printed}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), start in 0u8..3) {
            let mut two = pairs(2, &[(1, 9), (u32::MAX, 3), (0, 1)]);
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut()
                && start > 0
            {
                *first = HEARTBEAT_TYPE;
            }
            if start > 1 {
                bytes.resize(HEARTBEAT_BYTES, 0);
            }
            prop_assert_eq!(two.open(&bytes), None);
        }

        /// Against a model that remembers everything: nothing twice, nothing more than 63 below the highest.
        #[test]
        fn each_packet_is_taken_once(order in proptest::collection::vec(0usize..300, 0..400)) {
            let mut one = pairs(1, &[(2, 9)]);
            let packets: Vec<_> = (0..300).map(|_| one.seal(2, 1).unwrap()).collect();
            let mut two = pairs(2, &[(1, 9)]);
            let mut taken = std::collections::BTreeSet::new();
            for index in order {
                let in_window = taken.last().is_none_or(|highest| index + 64 > *highest);
                let expected = in_window && taken.insert(index);
                prop_assert_eq!(two.open(&packets[index]).is_some(), expected, "{}", index);
            }
        }
    }
}
