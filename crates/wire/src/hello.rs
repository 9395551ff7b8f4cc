//! How a nanoprobe finds a CMA that nobody named: a small packet to a multicast group, a smaller answer. The same packet asks a
//! CMA that could not be reached whether it is there again. Pure.
//!
//! | first byte | what | layout |
//! |---|---|---|
//! | 0x21 | hello | type, version, nonce 16, two key hashes of 8, zeros up to 128 bytes |
//! | 0x22 | reply | type, version, nonce 16, key hash 8, port 2 (big-endian): 28 bytes |
//!
//! Neither proves anything: the nanoprobe dials the source of a reply, and only the pinned key tells who is there. The CMA
//! never dials because of a hello. A reply is a quarter of the hello's size, so that a forged source gains nothing.

use model::PublicKey;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// First byte of a hello.
pub const HELLO_TYPE: u8 = 0x21;
/// First byte of a reply.
pub const REPLY_TYPE: u8 = 0x22;
/// Length of a hello; a longer one is answered too, a shorter one is not.
pub const HELLO_BYTES: usize = 128;
/// Length of a reply.
pub const REPLY_BYTES: usize = 28;

const VERSION: u8 = 1;
const NO_KEY: [u8; 8] = [0; 8];

/// "Is a CMA here that has one of these keys?"
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Random, comes back in the reply.
    pub nonce: [u8; 16],
    /// `PublicKey::short_hash` of two pinned keys; zeros where there is only one.
    pub keys: [[u8; 8]; 2],
}

impl Hello {
    /// The hello of the `attempt`-th try: with more than two pinned keys the tries take turns.
    pub fn new(nonce: [u8; 16], pinned: &[PublicKey], attempt: usize) -> Self {
        let turns = pinned.len().div_ceil(2).max(1);
        let first = attempt % turns * 2;
        let hash = |index: usize| pinned.get(index).map_or(NO_KEY, PublicKey::short_hash);
        Self { nonce, keys: [hash(first), hash(first + 1)] }
    }

    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        (bytes[0], bytes[1]) = (HELLO_TYPE, VERSION);
        bytes[2..18].copy_from_slice(&self.nonce);
        bytes[18..26].copy_from_slice(&self.keys[0]);
        bytes[26..34].copy_from_slice(&self.keys[1]);
        bytes
    }

    /// `None` for anything that is no hello of our version and length. What follows the keys is not looked at.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HELLO_BYTES || bytes[0] != HELLO_TYPE || bytes[1] != VERSION {
            return None;
        }
        Some(Self { nonce: part(bytes, 2)?, keys: [part(bytes, 18)?, part(bytes, 26)?] })
    }
}

/// "A CMA with this key is here."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    pub nonce: [u8; 16],
    /// `PublicKey::short_hash` of the key that the CMA signs with.
    pub key: [u8; 8],
    /// UDP port to dial at the reply's source address, host order.
    pub port: u16,
}

impl Reply {
    pub fn encode(&self) -> [u8; REPLY_BYTES] {
        let mut bytes = [0; REPLY_BYTES];
        (bytes[0], bytes[1]) = (REPLY_TYPE, VERSION);
        bytes[2..18].copy_from_slice(&self.nonce);
        bytes[18..26].copy_from_slice(&self.key);
        bytes[26..28].copy_from_slice(&self.port.to_be_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != REPLY_BYTES || bytes[0] != REPLY_TYPE || bytes[1] != VERSION {
            return None;
        }
        let port = u16::from_be_bytes(part(bytes, 26)?);
        (port != 0).then_some(Self { nonce: part(bytes, 2)?, key: part(bytes, 18)?, port })
    }

    /// The address to dial when this answers `hello`: same nonce, one of the pinned keys, from a plausible address.
    pub fn target(&self, hello: &Hello, pinned: &[PublicKey], source: SocketAddr) -> Option<SocketAddr> {
        let known = pinned.iter().any(|key| key.short_hash() == self.key);
        (self.nonce == hello.nonce && known && is_unicast(source.ip())).then(|| {
            let mut target = source;
            target.set_port(self.port);
            target
        })
    }
}

/// What a CMA answers to a datagram: a reply for its source, or nothing.
///
/// `own` is the key that the CMA signs with, `port` the one it listens on, `now` any monotonic time.
pub fn answer(
    datagram: &[u8],
    source: SocketAddr,
    own: &PublicKey,
    port: u16,
    limiter: &mut ReplyLimiter,
    now: Duration,
) -> Option<[u8; REPLY_BYTES]> {
    let hello = Hello::decode(datagram)?;
    let key = own.short_hash();
    if !hello.keys.contains(&key) || source.port() == 0 || !is_unicast(source.ip()) {
        return None;
    }
    limiter.allow(source.ip(), now).then(|| Reply { nonce: hello.nonce, key, port }.encode())
}

/// Lets through `per_second` things a second on average, `burst` at once.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    capacity_micros: u64,
    per_second: u64,
    /// Millionths of a token.
    level_micros: u64,
    filled: Duration,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(burst: u32, per_second: u32) -> Self {
        let capacity_micros = u64::from(burst) * 1_000_000;
        Self {
            capacity_micros,
            per_second: per_second.into(),
            level_micros: capacity_micros,
            filled: Duration::ZERO,
        }
    }

    /// Takes a token if there is one. A `now` before an earlier one adds nothing.
    pub fn take(&mut self, now: Duration) -> bool {
        let elapsed = now.saturating_sub(self.filled).as_micros();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let gained = elapsed.saturating_mul(self.per_second);
        self.level_micros = self.level_micros.saturating_add(gained).min(self.capacity_micros);
        self.filled = self.filled.max(now);
        match self.level_micros.checked_sub(1_000_000) {
            Some(rest) => {
                self.level_micros = rest;
                true
            }
            None => false,
        }
    }
}

/// Limits replies: per source, so that one cannot use up everybody's, and altogether. Its size is fixed.
#[derive(Debug, Clone)]
pub struct ReplyLimiter {
    all: TokenBucket,
    /// Sources share a bucket by a hash that only this CMA knows.
    sources: Vec<TokenBucket>,
    seed: u64,
}

const SOURCE_BUCKETS: u64 = 1024;

impl ReplyLimiter {
    /// 1000 replies a second altogether (28 KB), 2 a second per source with 5 at once. `seed` is a random number.
    pub fn new(seed: u64) -> Self {
        Self {
            all: TokenBucket::new(2000, 1000),
            sources: vec![TokenBucket::new(5, 2); SOURCE_BUCKETS as usize],
            seed,
        }
    }

    /// Whether a reply may go to `source` now.
    pub fn allow(&mut self, source: IpAddr, now: Duration) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.seed, source.to_canonical()).hash(&mut hasher);
        let index = (hasher.finish() % SOURCE_BUCKETS) as usize;
        self.sources[index].take(now) && self.all.take(now)
    }
}

fn is_unicast(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast()),
    }
}

fn part<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: PublicKey = PublicKey([1; 32]);
    const OTHER: PublicKey = PublicKey([2; 32]);

    fn source() -> SocketAddr {
        "192.0.2.9:1984".parse().unwrap()
    }

    fn ask(bytes: &[u8], from: &str) -> Option<Reply> {
        let mut limiter = ReplyLimiter::new(1);
        let from = from.parse().unwrap();
        Reply::decode(&answer(bytes, from, &OWN, 1984, &mut limiter, Duration::ZERO)?)
    }

    #[test]
    fn layout_is_as_documented() {
        let bytes = Hello::new([9; 16], &[OWN, OTHER], 0).encode();
        assert_eq!((bytes.len(), bytes[0], bytes[1]), (128, 0x21, 1));
        assert_eq!(bytes[2..18], [9; 16]);
        assert_eq!(bytes[18..26], OWN.short_hash());
        assert_eq!(bytes[26..34], OTHER.short_hash());
        assert!(bytes[34..].iter().all(|byte| *byte == 0));
        let reply = Reply { nonce: [9; 16], key: [8; 8], port: 0x07c0 }.encode();
        assert_eq!((reply.len(), reply[0], reply[1]), (28, 0x22, 1));
        assert_eq!(reply[26..], [0x07, 0xc0]);
        // None of them may look like QUIC.
        assert_eq!(HELLO_TYPE & 0x40, 0);
        assert_eq!(REPLY_TYPE & 0x40, 0);
    }

    #[test]
    fn more_than_two_keys_take_turns() {
        let pinned: Vec<_> = (0..5).map(|n| PublicKey([n; 32])).collect();
        let named = |attempt| Hello::new([0; 16], &pinned, attempt).keys;
        assert_eq!(named(0), [pinned[0].short_hash(), pinned[1].short_hash()]);
        assert_eq!(named(2), [pinned[4].short_hash(), NO_KEY]);
        assert_eq!(named(3), named(0));
        assert_eq!(Hello::new([0; 16], &[], 7).keys, [NO_KEY; 2]);
    }

    #[test]
    fn a_cma_answers_only_to_its_own_keys_unicast_sources_and_full_length() {
        let hello = Hello::new([3; 16], &[OTHER, OWN], 0);
        let reply = ask(&hello.encode(), "192.0.2.9:1984").unwrap();
        assert_eq!(reply, Reply { nonce: [3; 16], key: OWN.short_hash(), port: 1984 });
        assert!(ask(&hello.encode()[..127], "192.0.2.9:1984").is_none());
        for bad in [
            "224.0.2.5:1984",
            "255.255.255.255:9",
            "0.0.0.0:9",
            "192.0.2.9:0",
            "[ff02::1]:9",
            "[::ffff:224.0.2.5]:9",
        ] {
            assert!(ask(&hello.encode(), bad).is_none(), "{bad}");
        }
        assert!(ask(&Hello::new([3; 16], &[OTHER], 0).encode(), "192.0.2.9:1984").is_none());
        let mut newer = hello.encode();
        newer[1] = 2;
        assert!(ask(&newer, "192.0.2.9:1984").is_none());
        // A reply is never answered: two CMAs cannot keep each other busy.
        assert!(ask(&reply.encode(), "192.0.2.9:1984").is_none());
    }

    #[test]
    fn a_reply_counts_only_with_our_nonce_and_a_pinned_key() {
        let hello = Hello::new([3; 16], &[OWN], 0);
        let reply = Reply { nonce: [3; 16], key: OWN.short_hash(), port: 2000 };
        assert_eq!(reply.target(&hello, &[OTHER, OWN], source()), Some("192.0.2.9:2000".parse().unwrap()));
        assert_eq!(reply.target(&hello, &[OTHER], source()), None);
        assert_eq!(Reply { nonce: [4; 16], ..reply }.target(&hello, &[OWN], source()), None);
        assert_eq!(reply.target(&hello, &[OWN], "224.0.0.1:9".parse().unwrap()), None);
        assert_eq!(Reply::decode(&Reply { port: 0, ..reply }.encode()), None);
    }

    #[test]
    fn the_bucket_refills_with_time_only() {
        let mut bucket = TokenBucket::new(2, 10);
        let at = Duration::from_millis;
        assert!(bucket.take(at(0)) && bucket.take(at(0)) && !bucket.take(at(0)));
        assert!(!bucket.take(at(99)));
        assert!(bucket.take(at(100)) && !bucket.take(at(100)));
        // Going back in time gains nothing, and much time no more than the burst.
        assert!(!bucket.take(at(50)));
        assert!(bucket.take(at(1 << 40)) && bucket.take(at(1 << 40)) && !bucket.take(at(1 << 40)));
    }

    #[test]
    fn replayed_hellos_run_dry_and_leave_others_their_share() {
        let hello = Hello::new([3; 16], &[OWN], 0).encode();
        let mut limiter = ReplyLimiter::new(7);
        let mut count = |from: &str, now_ms| {
            let from = from.parse().unwrap();
            answer(&hello, from, &OWN, 1984, &mut limiter, Duration::from_millis(now_ms)).is_some()
        };
        assert_eq!((0..10_000).filter(|_| count("192.0.2.9:7", 0)).count(), 5);
        assert!(count("192.0.2.10:7", 0));
        assert!(count("192.0.2.9:7", 500));
        assert!(!count("[::ffff:192.0.2.9]:8", 500));
    }

    #[test]
    fn forged_sources_cannot_exceed_the_total() {
        let mut limiter = ReplyLimiter::new(7);
        let allowed =
            (0..100_000u32).filter(|n| limiter.allow(IpAddr::V4((*n).into()), Duration::ZERO)).count();
        assert_eq!(allowed, 2000);
    }

    proptest! {
        #[test]
        fn decoders_take_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let hello = Hello::decode(&bytes);
            prop_assert!(hello.is_none() || bytes.len() >= HELLO_BYTES);
            let reply = Reply::decode(&bytes);
            prop_assert!(reply.is_none() || bytes.len() == REPLY_BYTES);
        }

        #[test]
        fn hello_and_reply_round_trip(nonce in any::<[u8; 16]>(), keys in any::<[[u8; 8]; 2]>(), port in 1u16..) {
            let hello = Hello { nonce, keys };
            prop_assert_eq!(Hello::decode(&hello.encode()), Some(hello));
            let reply = Reply { nonce, key: keys[0], port };
            prop_assert_eq!(Reply::decode(&reply.encode()), Some(reply));
        }
    }
}
