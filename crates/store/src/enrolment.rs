//! What enrolment keeps: tags of hosts, tokens, keys that wait for approval, revoked keys, and on which machine a host was.

use crate::Result;
use model::{Designation, PublicKey, Timestamp};
use std::collections::BTreeMap;

/// An enrolment token. The token itself is nowhere: only its hash is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// By which people name it; given by the store, 0 in a row that is to be added.
    pub id: i64,
    /// SHA-256 of the token with the prefix of its purpose, see `model::enrolment`.
    pub hash: [u8; 32],
    /// What its hosts get.
    pub tags: Vec<String>,
    /// Pattern with `*` that the names of its hosts must fit.
    pub hosts: String,
    /// Hosts that it is good for; `None`: any number.
    pub uses: Option<u32>,
    /// Hosts that it enrolled.
    pub used: u32,
    pub created: Timestamp,
    /// From then on it is worth nothing; `None`: never.
    pub expires: Option<Timestamp>,
    pub revoked: Option<Timestamp>,
}

/// A key that registered and waits for somebody to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRow {
    pub key: PublicKey,
    /// The host it wants to be.
    pub designation: Designation,
    /// Whose share of the list it takes: an IPv4 address, or the /64 of an IPv6 address.
    pub source: String,
    /// `address:port` at which its nanoprobe can be called.
    pub address: String,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub software: String,
    /// Marks of its machine as the CMA writes them; empty: it told none.
    pub machine: String,
    /// Why a token that it showed did not count; empty otherwise.
    pub note: String,
    /// Somebody decided that it may come; it is enrolled when it does.
    pub approved: Option<Timestamp>,
}

/// A key that is refused for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedRow {
    pub key: PublicKey,
    /// The host it was, or wanted to be.
    pub designation: Designation,
    /// In the words of whoever revoked it; may be empty.
    pub reason: String,
    pub revoked: Timestamp,
    /// When it was last told that somebody tried it.
    pub tried: Option<Timestamp>,
}

/// The part of [`crate::Transaction`] that enrolment needs.
pub trait EnrolmentTransaction {
    /// The tags of a host, sorted; none of a host that nobody knows.
    fn tags(&mut self, host: &Designation) -> Result<Vec<String>>;
    /// Gives a host these tags instead of those it had.
    fn set_tags(&mut self, host: &Designation, tags: &[String]) -> Result<()>;

    /// All tokens, by id.
    fn tokens(&mut self) -> Result<Vec<TokenRow>>;
    /// Adds a token; returns its id.
    fn add_token(&mut self, token: &TokenRow) -> Result<i64>;
    /// `false`: there is no such token that is not revoked.
    fn revoke_token(&mut self, id: i64, now: Timestamp) -> Result<bool>;
    /// Forgets a token and who used it.
    fn remove_token(&mut self, id: i64) -> Result<()>;
    /// Whether a key was enrolled with this token.
    fn used_token(&mut self, id: i64, key: &PublicKey) -> Result<bool>;
    /// Counts a key for a token: once, however often this is called.
    fn use_token(&mut self, id: i64, key: &PublicKey, now: Timestamp) -> Result<()>;

    /// Keys that wait, in the order in which they came.
    fn pending(&mut self) -> Result<Vec<PendingRow>>;
    /// The one of them with this key.
    fn waiting(&mut self, key: &PublicKey) -> Result<Option<PendingRow>>;
    fn put_pending(&mut self, row: &PendingRow) -> Result<()>;
    fn remove_pending(&mut self, key: &PublicKey) -> Result<()>;

    fn revoked(&mut self, key: &PublicKey) -> Result<Option<RevokedRow>>;
    /// All revoked keys, the oldest first.
    fn revocations(&mut self) -> Result<Vec<RevokedRow>>;
    fn put_revoked(&mut self, row: &RevokedRow) -> Result<()>;
    fn remove_revoked(&mut self, key: &PublicKey) -> Result<()>;

    /// What the CMA remembers of a host's machine, in its own words.
    fn machine(&mut self, host: &Designation) -> Result<Option<String>>;
    fn set_machine(&mut self, host: &Designation, machine: &str) -> Result<()>;
}

/// The part of [`crate::Reader`] that enrolment needs.
pub trait EnrolmentReader {
    /// The tags of a host, sorted; none of a host that nobody knows.
    fn tags(&mut self, host: &Designation) -> Result<Vec<String>>;
    /// The tags of all hosts that have any, sorted.
    fn all_tags(&mut self) -> Result<BTreeMap<Designation, Vec<String>>>;
    fn tokens(&mut self) -> Result<Vec<TokenRow>>;
    fn pending(&mut self) -> Result<Vec<PendingRow>>;
    fn revocations(&mut self) -> Result<Vec<RevokedRow>>;
    /// See [`EnrolmentTransaction::machine`]; hosts without an entry are left out.
    fn machines(&mut self) -> Result<BTreeMap<Designation, String>>;
}
