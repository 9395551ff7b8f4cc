//! Messages between nanoprobe and CMA inside QUIC: CBOR maps with small integer keys (RFC 8949).
//!
//! Unknown keys are skipped, missing optional ones read as `None`, so either side may be one version ahead.
//! Every message travels as a 4-byte big-endian length and that many bytes; see `wire::framed` for the limits.

use crate::ids::DocumentHash;
use crate::liveness::{Ask, Heard, Session, Watch};
use crate::time::Timestamp;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

/// Version of the conversation. A CMA refuses what it does not know and says so.
pub const PROTOCOL_VERSION: u32 = 1;

/// Names one life of a nanoprobe's outgoing queue; sequence numbers count within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Incarnation(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

/// What a nanoprobe says.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum ToCma {
    /// First message on every connection.
    #[n(1)]
    Register(#[n(0)] Register),
    #[n(2)]
    Report(#[n(0)] Report),
    /// The nanoprobe stops on purpose; answered by `FromCma::Farewell` after commit.
    #[n(3)]
    Goodbye(#[n(0)] Goodbye),
    /// What the heartbeats of other hosts tell; said again until the CMA reacts, so nothing acknowledges it.
    #[n(4)]
    Heard(#[n(0)] Heard),
    /// The nanoprobe trusts these CMA keys from now on: answer to [`FromCma::Keys`] once they are on its disk.
    #[n(5)]
    Trusts(#[n(0)] CmaKeys),
}

/// Who connects, and which documents it has.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Register {
    #[n(0)]
    pub protocol: u32,
    /// Host name as configured or found; the CMA checks and lower-cases it.
    #[n(1)]
    pub designation: String,
    #[n(2)]
    pub incarnation: Incarnation,
    /// Version of the nanoprobe, for people.
    #[n(3)]
    pub software: String,
    /// The nanoprobe's clock.
    #[n(4)]
    pub clock: Timestamp,
    /// When this nanoprobe process started, by its clock; a new value means a restart.
    #[n(5)]
    pub started: Timestamp,
    /// UDP port on which the nanoprobe can be reached, host order.
    #[n(6)]
    pub port: u16,
    /// Hash of the `AgentConfig` text that the nanoprobe works with, if it has one.
    #[n(7)]
    pub config: Option<DocumentHash>,
    /// Instance and hash of every document that the CMA is supposed to have.
    #[n(8)]
    pub documents: Vec<KnownDocument>,
    /// Random, made at the start of the process: heartbeat keys hold for one session of either side. Absent from a
    /// nanoprobe that knows no heartbeats; it is not watched.
    #[n(9)]
    pub session: Option<Session>,
    /// Generation of the [`Watch`] that the nanoprobe works with, if it has one.
    #[n(10)]
    pub watch: Option<u64>,
    /// What it listens for at the moment, see [`Listen`]; absent when for nothing.
    #[n(11)]
    pub listen: Option<Listen>,
    /// Enrolment token, told only until the host is enrolled: the CMA knows its hash.
    #[n(12)]
    pub token: Option<String>,
    /// On which machine this is: tells a clone from a host that moved, and a re-installed one from an impostor.
    #[n(13)]
    pub machine: Option<Machine>,
    /// The CMA's public keys that the nanoprobe trusts; absent from one that cannot be told of new ones ([`FromCma::Keys`]).
    #[n(14)]
    pub cma_keys: Option<CmaKeys>,
}

/// Marks of a machine, hashed on the host so that no serial number travels. Each is absent where the system has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Machine {
    /// Of /etc/machine-id (machine-id(5)): one installation. A copied image brings it along.
    #[n(0)]
    pub installation: Option<MachineMark>,
    /// Of the firmware's product UUID (SMBIOS type 1): one piece of hardware, or one virtual machine.
    #[n(1)]
    pub hardware: Option<MachineMark>,
    /// Of /proc/sys/kernel/random/boot_id: one running kernel.
    #[n(2)]
    pub boot: Option<MachineMark>,
}

/// First 16 bytes of a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct MachineMark(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

/// The CMA's public keys: those in use and spare; what is not in it is retired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct CmaKeys {
    /// By number, ascending.
    #[n(0)]
    pub keys: Vec<CmaKey>,
    /// That the CMA wants the nanoprobe that it says this to, to trust these (`wire::keys::signed`); absent from what a
    /// nanoprobe says. In a box, so that other messages do not become as large.
    #[n(1)]
    pub signature: Option<Box<Signature>>,
}

impl CmaKeys {
    /// As they are compared, kept, and told by a nanoprobe.
    pub fn unsigned(keys: Vec<CmaKey>) -> Self {
        Self { keys, signature: None }
    }
}

/// Ed25519 (RFC 8032 §5.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Signature(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 64]);

/// `#CMA#<number>.pub`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct CmaKey {
    #[n(0)]
    pub number: u32,
    #[cbor(n(1), with = "minicbor::bytes")]
    pub key: [u8; 32],
}

/// Where a nanoprobe has to listen for address resolution (ARP, RFC 826; neighbour discovery, RFC 4861) on behalf of the
/// whole subnet; everybody else there does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Listen {
    /// Names of interfaces, sorted.
    #[n(0)]
    pub interfaces: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct KnownDocument {
    #[n(0)]
    pub instance: String,
    #[n(1)]
    pub hash: DocumentHash,
}

/// One changed document.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Report {
    /// Counts up from 1 without gaps within an incarnation.
    #[n(0)]
    pub sequence: u64,
    #[n(1)]
    pub instance: String,
    /// Of the canonical text; zero bytes when `body` is absent.
    #[n(2)]
    pub hash: DocumentHash,
    /// zstd of the canonical envelope; absent when the instance is gone from the host for good.
    #[n(3)]
    pub body: Option<ByteVec>,
    /// The last time the old value was seen: the change happened after this.
    #[n(4)]
    pub changed_after: Timestamp,
    /// When the new value was read.
    #[n(5)]
    pub seen: Timestamp,
    /// Older changes of this instance that a full queue made the nanoprobe drop, 0 normally.
    #[n(6)]
    pub superseded: u32,
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Goodbye {
    /// `HBSHUTDOWN` for a graceful stop.
    #[n(0)]
    pub reason: String,
}

/// What the CMA says.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum FromCma {
    /// The host is registered and the registration committed.
    #[n(1)]
    Welcome(#[n(0)] Welcome),
    /// The CMA will not take anything from this key; the nanoprobe logs it, backs off and tries again.
    #[n(2)]
    Refused(#[n(0)] Refused),
    /// Everything up to and including `sequence` is durable.
    #[n(3)]
    Ack(#[n(0)] Ack),
    #[n(4)]
    Farewell,
    /// The configuration changed while connected.
    #[n(5)]
    Configure(#[n(0)] Configure),
    /// Whom to exchange heartbeats with from now on, in place of all before.
    #[n(6)]
    Watch(#[n(0)] Watch),
    /// Asks for a probe of one partner; answered by an observation with the same number.
    #[n(7)]
    Ask(#[n(0)] Ask),
    /// Where to listen from now on, in place of all before.
    #[n(8)]
    Listen(#[n(0)] Listen),
    /// The CMA keys to trust from now on, in place of all before, signed. Only to a nanoprobe whose registration had `cma_keys`.
    #[n(9)]
    Keys(#[n(0)] CmaKeys),
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Welcome {
    /// Last sequence of this incarnation that is durable, 0 if none: resume after it.
    #[n(0)]
    pub last_sequence: u64,
    /// Instances whose document the CMA lacks or has in another version: send these again.
    #[n(1)]
    pub wanted: Vec<String>,
    /// Present when the nanoprobe's configuration hash differs.
    #[n(2)]
    pub configure: Option<Configure>,
    /// The CMA's clock, so that a nanoprobe can report a wrong one of its own.
    #[n(3)]
    pub clock: Timestamp,
    /// The CMA's boot: a new value tells that it was restarted.
    #[n(4)]
    pub started: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Configure {
    /// `config::AgentConfig` as JSON text.
    #[n(0)]
    pub json: String,
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Ack {
    #[n(0)]
    pub sequence: u64,
    /// Sequences at or below `sequence` that were refused for good (malformed, too large), with the reason; they
    /// are recorded as a collection error of the host and must not be sent again.
    #[n(1)]
    pub rejected: Vec<Rejection>,
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Rejection {
    #[n(0)]
    pub sequence: u64,
    #[n(1)]
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Refused {
    #[n(0)]
    pub reason: RefusedReason,
    /// What happened and what to do now, for the nanoprobe's log.
    #[n(1)]
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum RefusedReason {
    #[n(1)]
    Protocol,
    #[n(2)]
    Designation,
    /// The host is known with another key.
    #[n(3)]
    KeyMismatch,
    /// The CMA cannot take anything now (disk full, shutting down): try again later.
    #[n(4)]
    Busy,
    #[n(5)]
    Malformed,
    /// The host waits for an administrator's approval. Like the following, only for a nanoprobe that tells its `machine`;
    /// others know no more than `KeyMismatch`.
    #[n(6)]
    Pending,
    /// The enrolment token is unknown, expired or used up.
    #[n(7)]
    Token,
    /// The key was revoked.
    #[n(8)]
    Revoked,
}

/// CBOR text of a message.
pub fn encode<T: Encode<()>>(message: &T) -> Vec<u8> {
    // Writing to a Vec cannot fail, and none of our types has a failing encoder.
    minicbor::to_vec(message).unwrap_or_default()
}

/// Reads a message that came from outside. Trailing bytes are an error.
pub fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, minicbor::decode::Error> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let message = decoder.decode()?;
    if decoder.position() != bytes.len() {
        return Err(minicbor::decode::Error::message("trailing bytes"));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report() -> ToCma {
        ToCma::Report(Report {
            sequence: 7,
            instance: "_init_sshd".into(),
            hash: DocumentHash::of(b"x"),
            body: Some(vec![1, 2, 3].into()),
            changed_after: Timestamp(1),
            seen: Timestamp(2),
            superseded: 0,
        })
    }

    #[test]
    fn messages_round_trip() {
        assert_eq!(decode::<ToCma>(&encode(&report())).unwrap(), report());
        let ack =
            FromCma::Ack(Ack { sequence: 3, rejected: vec![Rejection { sequence: 2, reason: "r".into() }] });
        assert_eq!(decode::<FromCma>(&encode(&ack)).unwrap(), ack);
        assert_eq!(decode::<FromCma>(&encode(&FromCma::Farewell)).unwrap(), FromCma::Farewell);
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&report());
        bytes.push(0);
        assert!(decode::<ToCma>(&bytes).is_err());
    }

    #[test]
    fn a_forged_length_allocates_nothing() {
        // Array of 2^62 documents announced in 9 bytes.
        let mut bytes = vec![0x82, 0x01, 0x81, 0x89, 1, 0x61, b'a', 0x50];
        bytes.extend([0; 16]);
        bytes.extend([0x60, 0, 0, 0, 0xf6, 0x9b, 0x40, 0, 0, 0, 0, 0, 0, 0]);
        assert!(decode::<ToCma>(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<ToCma>(&bytes);
            let _ = decode::<FromCma>(&bytes);
        }

        #[test]
        fn truncated_messages_are_errors(cut in 0usize..60) {
            let bytes = encode(&report());
            prop_assume!(cut < bytes.len());
            prop_assert!(decode::<ToCma>(&bytes[..cut]).is_err());
        }
    }
}
