//! Identifiers that arrive from outside: checked once here, trusted afterwards.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// Why a text was refused as an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("a host name has 1 to 253 letters, digits, '.', '_' or '-', not {0:?}")]
    Designation(String),
    #[error("an instance name has 1 to 200 printable characters without '/' at the start, not {0:?}")]
    Instance(String),
    #[error("expected {expected} hexadecimal digits, found {found:?}")]
    Hex { expected: usize, found: String },
}

/// The name a host is known by: its host name in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Designation(String);

impl Designation {
    /// Lower-cases and checks `name`.
    pub fn new(name: &str) -> Result<Self, IdError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 253 || !name.chars().all(legal) || name.starts_with(['-', '.']) {
            return Err(IdError::Designation(name.chars().take(260).collect()));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Designation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Designation {
    type Error = IdError;
    fn try_from(name: String) -> Result<Self, IdError> {
        Self::new(&name)
    }
}

impl From<Designation> for String {
    fn from(name: Designation) -> String {
        name.0
    }
}

/// Checks the name of one discovery on one host, such as `_init_sshd` or `sysfile_fileattrs`.
///
/// Instance names become file names and database keys, so they are kept short and plain.
pub fn check_instance(name: &str) -> Result<(), IdError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '#' | ':' | '@');
    if name.is_empty() || name.len() > 200 || !name.chars().all(legal) || name.starts_with('.') {
        return Err(IdError::Instance(name.chars().take(200).collect()));
    }
    Ok(())
}

/// SHA-256 of the canonical JSON text of a document: the same text has the same hash on every host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct DocumentHash(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl DocumentHash {
    pub fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    pub fn from_hex(text: &str) -> Result<Self, IdError> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Display for DocumentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for DocumentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DocumentHash({self})")
    }
}

/// An Ed25519 public key (RFC 8032), 32 bytes, as stored in a `.pub` file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// First 16 bytes of the SHA-256 of the key as 32 hexadecimal digits: the part after `@@` in a key id.
    pub fn fingerprint(&self) -> String {
        let digest: [u8; 32] = Sha256::digest(self.0).into();
        digest[..16].iter().map(|b| format!("{b:02x}")).collect()
    }

    /// First 8 bytes of the SHA-256 of the key: how a key is named in hello packets, without telling which it is.
    pub fn short_hash(&self) -> [u8; 8] {
        let digest: [u8; 32] = Sha256::digest(self.0).into();
        let mut short = [0; 8];
        short.copy_from_slice(&digest[..8]);
        short
    }

    pub fn to_hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }

    pub fn from_hex(text: &str) -> Result<Self, IdError> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    let wrong = || IdError::Hex { expected: N * 2, found: text.chars().take(N * 2 + 8).collect() };
    if text.len() != N * 2 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut bytes = [0; N];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[i * 2..i * 2 + 2], 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn designation_is_lower_case_and_plain() {
        assert_eq!(Designation::new("Picard.Example.ORG").unwrap().as_str(), "picard.example.org");
        for bad in ["", "-x", ".x", "a b", "a/b", "naïve", "x\u{1b}[2J", &"x".repeat(254)] {
            assert!(Designation::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn instance_names_cannot_leave_their_directory() {
        for good in ["_init_sshd", "#SWITCH_eth0", "sysfile_fileattrs", "_ARP_eth0:1"] {
            check_instance(good).unwrap();
        }
        for bad in ["", "..", "../x", "a/b", "a\0b", "a b"] {
            assert!(check_instance(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hexadecimal_round_trip() {
        let hash = DocumentHash::of(b"x");
        assert_eq!(DocumentHash::from_hex(&hash.to_string()).unwrap(), hash);
        assert!(DocumentHash::from_hex("é".repeat(32).as_str()).is_err());
        assert!(DocumentHash::from_hex("00").is_err());
    }
}
