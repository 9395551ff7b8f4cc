//! The messages of the version before, frozen: never to be changed with the code. Only what this version has changed is
//! here; nested values that are the same are taken from the code.

use minicbor::{Decode, Encode};
use model::liveness::{Ask, Heard, Session, Watch};
use model::message::{Ack, Configure, Goodbye, Incarnation, KnownDocument, Listen, Report, Welcome};
use model::{DocumentHash, Timestamp};

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum ToCma {
    #[n(1)]
    Register(#[n(0)] Register),
    #[n(2)]
    Report(#[n(0)] Report),
    #[n(3)]
    Goodbye(#[n(0)] Goodbye),
    #[n(4)]
    Heard(#[n(0)] Heard),
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Register {
    #[n(0)]
    pub protocol: u32,
    #[n(1)]
    pub designation: String,
    #[n(2)]
    pub incarnation: Incarnation,
    #[n(3)]
    pub software: String,
    #[n(4)]
    pub clock: Timestamp,
    #[n(5)]
    pub started: Timestamp,
    #[n(6)]
    pub port: u16,
    #[n(7)]
    pub config: Option<DocumentHash>,
    #[n(8)]
    pub documents: Vec<KnownDocument>,
    #[n(9)]
    pub session: Option<Session>,
    #[n(10)]
    pub watch: Option<u64>,
    #[n(11)]
    pub listen: Option<Listen>,
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum FromCma {
    #[n(1)]
    Welcome(#[n(0)] Welcome),
    #[n(2)]
    Refused(#[n(0)] Refused),
    #[n(3)]
    Ack(#[n(0)] Ack),
    #[n(4)]
    Farewell,
    #[n(5)]
    Configure(#[n(0)] Configure),
    #[n(6)]
    Watch(#[n(0)] Watch),
    #[n(7)]
    Ask(#[n(0)] Ask),
    #[n(8)]
    Listen(#[n(0)] Listen),
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Refused {
    #[n(0)]
    pub reason: RefusedReason,
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
    #[n(3)]
    KeyMismatch,
    #[n(4)]
    Busy,
    #[n(5)]
    Malformed,
}
