//! What hosts are told about watching each other, and what they tell: the bodies of `message::Watch`, `Ask`, `Heard`.
//!
//! The CMA gives every host at most four partners and a key for each. Heartbeats go straight between partners; the CMA
//! hears of them only when one stays away.

use minicbor::{Decode, Encode};

/// Names one life of a nanoprobe process for the heartbeat keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Session(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

/// Key of one pair of partners: ChaCha20-Poly1305. Held in memory only.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct PairKey(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl std::fmt::Debug for PairKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PairKey(..)")
    }
}

/// Number of a host in heartbeats, given by the CMA and kept for the life of its database. 0 is the CMA itself.
pub type HostNumber = u32;

/// All partners of a host.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Watch {
    /// Counts up with every change for this host; told again at registration, so that both know what the other has.
    #[n(0)]
    pub generation: u64,
    /// Under which this host sends.
    #[n(1)]
    pub own_number: HostNumber,
    /// Between two heartbeats to one partner.
    #[n(2)]
    pub interval_milliseconds: u32,
    /// Silence after which a partner is probed.
    #[n(3)]
    pub suspect_milliseconds: u32,
    /// Length of the burst of probes; without an answer the CMA is told at its end.
    #[n(4)]
    pub probe_milliseconds: u32,
    /// Probes in a burst.
    #[n(5)]
    pub probes: u32,
    /// At most four of them; none for a host that nobody is to watch.
    #[n(6)]
    pub partners: Vec<Partner>,
}

/// One host to exchange heartbeats with.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Partner {
    #[n(0)]
    pub number: HostNumber,
    /// For people.
    #[n(1)]
    pub designation: String,
    /// `address:port` to send to, as the CMA saw the host.
    #[n(2)]
    pub address: String,
    /// Differs whenever either side has a new session.
    #[n(3)]
    pub key: PairKey,
}

/// Please look whether this partner is alive, now.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ask {
    #[n(0)]
    pub question: u64,
    #[n(1)]
    pub about: HostNumber,
}

/// What one host has to tell about its partners.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Heard {
    /// Of the [`Watch`] under which this was observed.
    #[n(0)]
    pub generation: u64,
    #[n(1)]
    pub observations: Vec<Observation>,
}

/// What is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Sight {
    /// Silent through a whole burst of probes.
    #[n(1)]
    Silent,
    /// Heard just now: after it was told silent, or in answer to a question.
    #[n(2)]
    Alive,
    /// Somebody who is no partner any more sends valid heartbeats with the key of before: it does not know that it
    /// was given up.
    #[n(3)]
    Martian,
    /// A heartbeat came late, but before the partner was told silent.
    #[n(4)]
    Late,
    /// The partner said with its last heartbeat that it stops.
    #[n(5)]
    Stopping,
}

/// What came back when the partner's port was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum PortState {
    /// Nothing came back, or it was not tried.
    #[n(0)]
    Silent,
    /// The host says that nobody listens on the port (ICMP port unreachable, RFC 792, 4443).
    #[n(1)]
    Refused,
    /// A router, or our own kernel, says that there is no way to the host.
    #[n(2)]
    Unreachable,
}

/// One observation about one partner, with its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Observation {
    #[n(0)]
    pub about: HostNumber,
    #[n(1)]
    pub sight: Sight,
    /// Since the last heartbeat (for `Late`: how long it was silent).
    #[n(2)]
    pub silent_milliseconds: u32,
    /// Probes sent without an answer.
    #[n(3)]
    pub probes: u32,
    #[n(4)]
    pub port: PortState,
    /// Whether the host answered an ICMP echo request; absent when none could be sent.
    #[n(5)]
    pub echo: Option<bool>,
    /// How far the observer doubts itself: 0 fine, up to 8; it waited that much longer.
    #[n(6)]
    pub doubt: u32,
    /// The question this answers.
    #[n(7)]
    pub question: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{FromCma, ToCma, decode, encode};

    #[test]
    fn a_watch_and_what_is_heard_round_trip() {
        let partner = Partner {
            number: 7,
            designation: "web1".into(),
            address: "[::ffff:10.0.0.7]:1984".into(),
            key: PairKey([3; 32]),
        };
        let watch = FromCma::Watch(Watch {
            generation: 5,
            own_number: 9,
            interval_milliseconds: 1000,
            suspect_milliseconds: 1400,
            probe_milliseconds: 700,
            probes: 6,
            partners: vec![partner],
        });
        assert_eq!(decode::<FromCma>(&encode(&watch)).unwrap(), watch);
        assert!(!format!("{watch:?}").contains("3, 3"), "a key must not be printed");
        let observation = Observation {
            about: 7,
            sight: Sight::Silent,
            silent_milliseconds: 2100,
            probes: 6,
            port: PortState::Refused,
            echo: Some(true),
            doubt: 0,
            question: None,
        };
        let heard = ToCma::Heard(Heard { generation: 5, observations: vec![observation] });
        assert_eq!(decode::<ToCma>(&encode(&heard)).unwrap(), heard);
    }
}
