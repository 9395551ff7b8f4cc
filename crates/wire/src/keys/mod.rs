//! Ed25519 keys (RFC 8032) in files: raw 32 bytes, `<id>.pub` 0644 and `<id>.secret` 0600 (the seed), in a directory 0700.
//!
//! [`id`] knows the names, [`pair`] the keys, [`directory`] the files.

pub mod directory;
pub mod id;
pub mod pair;
pub(crate) mod store;

pub use directory::{KeyDirectory, KeyError, Pinned};
pub use id::{KeyId, KeyIdError};
pub use pair::KeyPair;
