//! Keys of pairs, derived and never stored.

use model::liveness::{HostNumber, PairKey, Session};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

/// The salt of HKDF (RFC 5869, section 2.2).
const SALT: &[u8] = b"assimilation heartbeats";
/// First part of HKDF's info; another layout gets another one.
const PURPOSE: &[u8] = b"pair key 2";

/// What all keys come from.
#[derive(Debug)]
pub(super) struct Keys(Prk);

/// One end of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    pub(super) number: HostNumber,
    pub(super) session: Session,
    /// Place in the order of its ring: another one with every join and every move.
    pub(super) position: u64,
}

struct PairKeyLength;

impl KeyType for PairKeyLength {
    fn len(&self) -> usize {
        32
    }
}

impl Keys {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        Self(Salt::new(HKDF_SHA256, SALT).extract(secret))
    }

    /// The key of two hosts for these lives of their nanoprobes. The info of HKDF is the purpose, then for the lower
    /// number and the higher one each: the number (4 bytes, big-endian), the session (16 bytes) and the position
    /// (8 bytes, big-endian).
    ///
    /// The position makes another key for a host that moves, in the same session too: a host whose memory went back (a
    /// virtual machine set back to a snapshot) counts from where it was, below what its partners have seen. They drop
    /// that as repeated, the CMA finds it alive, and moves it. A key may come back all the same when a host is told an
    /// old watch, so a host must never count its heartbeats anew under a key.
    pub(super) fn of_pair(&self, one: End, other: End) -> PairKey {
        let (low, high) = (one.min(other), one.max(other));
        let parts =
            [low, high].map(|end| (end.number.to_be_bytes(), end.session.0, end.position.to_be_bytes()));
        let [(low, low_session, low_position), (high, high_session, high_position)] = &parts;
        let info: [&[u8]; 7] = [PURPOSE, low, low_session, low_position, high, high_session, high_position];
        let mut key = [0; 32];
        let filled = self.0.expand(&info, PairKeyLength).and_then(|material| material.fill(&mut key));
        // HKDF fails for more than 255 times 32 bytes only, or when the length is not that of the buffer.
        filled.expect("32 bytes are wanted and 32 bytes are there");
        PairKey(key)
    }
}

/// The CMA's session towards the one host it watches: new with every watch of that host, also after a restart.
pub(super) fn cma_session(generation: u64) -> Session {
    let mut session = *b"the CMA.........";
    session[8..].copy_from_slice(&generation.to_be_bytes());
    Session(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(number: HostNumber, session: u8) -> End {
        End { number, session: Session([session; 16]), position: 9 }
    }

    #[test]
    fn both_ends_have_the_same_key_and_every_session_another() {
        let keys = Keys::new(&[5; 32]);
        let key = keys.of_pair(end(1, 1), end(2, 2));
        assert_eq!(keys.of_pair(end(2, 2), end(1, 1)), key);
        for (one, other) in
            [(end(1, 3), end(2, 2)), (end(1, 1), end(2, 3)), (end(1, 1), end(3, 2)), (end(1, 2), end(2, 1))]
        {
            assert_ne!(keys.of_pair(one, other), key);
        }
        assert_ne!(keys.of_pair(End { position: 10, ..end(1, 1) }, end(2, 2)), key);
        assert_ne!(Keys::new(&[6; 32]).of_pair(end(1, 1), end(2, 2)), key);
        assert_ne!(cma_session(1), cma_session(2));
    }

    /// Against HKDF-SHA256 computed by hand from HMAC (Python's hmac module), so that a later version cannot change
    /// the keys of a running site unnoticed.
    #[test]
    fn the_layout_is_as_documented() {
        let key = Keys::new(&[5; 32]).of_pair(end(1, 1), end(2, 2));
        let hex: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "d3aa9819ad6111cfe8eca01306c5e66357f6a5464337e9d0e12192e2ac61117e");
    }
}
