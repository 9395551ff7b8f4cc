//! Ed25519 keys (RFC 8032) in files: raw 32 bytes, `<id>.pub` 0644 and `<id>.secret` 0600 (the seed), in a directory 0700.
//!
//! [`id`] knows the names, [`pair`] the keys, [`directory`] the files. [`succession`] decides which CMA keys a nanoprobe trusts,
//! [`signed`] proves who says so, [`trust`] keeps that; [`rotation`] brings a CMA from one key to the next.

pub mod directory;
pub mod id;
pub mod pair;
pub mod rotation;
pub mod signed;
pub(crate) mod store;
pub mod succession;
pub mod trust;

pub use directory::{HostsWithKeys, KeyDirectory, KeyError, Pinned};
pub use id::{KeyId, KeyIdError};
pub use pair::KeyPair;
pub use rotation::{Rotation, Standing, Step, next_step};
pub use signed::{signed, signer};
pub use succession::{Origin, Outcome, Refusal, Succession, TrustedKey};
pub use trust::{CmaTrust, TakeError};
