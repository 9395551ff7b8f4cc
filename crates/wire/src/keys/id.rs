//! Names of keys: `#CMA#00000` for a CMA's, `<designation>@@<fingerprint>` for a nanoprobe's. Pure.

use model::{Designation, PublicKey};
use std::fmt;

/// Longest key id, in bytes.
pub const MAX_ID_BYTES: usize = 128;

const CMA_PREFIX: &str = "#CMA#";
const CMA_DIGITS: usize = 5;
const SEPARATOR: &str = "@@";
const FINGERPRINT_DIGITS: usize = 32;
/// Longest designation that fits before `@@` and the fingerprint.
const MAX_HOST_BYTES: usize = MAX_ID_BYTES - SEPARATOR.len() - FINGERPRINT_DIGITS;

/// Why a text is no key id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a key id has 1 to 128 letters, digits, '-', '_', '.', '+', '@' or '#', not {0:?}")]
pub struct KeyIdError(pub String);

/// Whether a file of this name in the key directory is the secret of a nanoprobe, which root keeps for itself.
pub fn is_host_secret(file: &str) -> bool {
    let id = file.strip_suffix(SECRET_SUFFIX).and_then(|stem| KeyId::new(stem).ok());
    id.is_some_and(|id| id.fingerprint().is_some())
}

/// A key's name without the suffix `.pub` or `.secret`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, KeyIdError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '@' | '#');
        if text.is_empty() || text.len() > MAX_ID_BYTES || !text.chars().all(legal) {
            return Err(KeyIdError(text.chars().take(MAX_ID_BYTES).collect()));
        }
        Ok(Self(text.to_owned()))
    }

    /// `#CMA#` and five digits; `None` above 99999.
    pub fn cma(number: u32) -> Option<Self> {
        (number <= 99_999).then(|| Self(format!("{CMA_PREFIX}{number:05}")))
    }

    /// `<designation>@@<fingerprint>`. A designation of more than 94 characters is shortened to its beginning,
    /// `+` and a hash: no designation contains a `+`, so that two hosts never share a name.
    pub fn host(designation: &Designation, key: &PublicKey) -> Self {
        Self(format!("{}{}", host_prefix(designation), key.fingerprint()))
    }

    /// The number of a CMA's key.
    pub fn cma_number(&self) -> Option<u32> {
        let digits = self.0.strip_prefix(CMA_PREFIX)?;
        let plain = digits.len() == CMA_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    }

    /// The fingerprint that the name of a nanoprobe's key promises.
    pub fn fingerprint(&self) -> Option<&str> {
        let (_, fingerprint) = self.0.rsplit_once(SEPARATOR)?;
        let plain = fingerprint.len() == FINGERPRINT_DIGITS
            && fingerprint.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        plain.then_some(fingerprint)
    }

    /// Whether this names a key of `designation`.
    pub fn is_of(&self, designation: &Designation) -> bool {
        self.fingerprint().is_some_and(|found| {
            self.0.len() == host_prefix(designation).len() + found.len()
                && self.0.starts_with(&host_prefix(designation))
        })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of the file with the public key.
    pub fn public_file(&self) -> String {
        format!("{}{PUBLIC_SUFFIX}", self.0)
    }

    /// Name of the file that the public key of a CMA has once it is retired: kept so that its number is never used again.
    pub fn retired_file(&self) -> String {
        format!("{}{RETIRED_SUFFIX}", self.0)
    }

    /// Name that the secret of a retired key has until it is wiped. It starts with a dot: nothing takes it for a key.
    pub(super) fn aside_file(&self) -> String {
        format!(".{}{ASIDE_SUFFIX}", self.0)
    }

    /// Name of the file with the secret key.
    pub fn secret_file(&self) -> String {
        format!("{}{SECRET_SUFFIX}", self.0)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// End of the name of a public key's file.
pub const PUBLIC_SUFFIX: &str = ".pub";
/// End of the name of a secret key's file.
pub const SECRET_SUFFIX: &str = ".secret";
/// End of the name of a retired public key's file.
pub const RETIRED_SUFFIX: &str = ".retired";
/// End of the name of a secret that is to be wiped.
pub(super) const ASIDE_SUFFIX: &str = ".aside";

pub(super) fn host_prefix(designation: &Designation) -> String {
    let name = designation.as_str();
    if name.len() <= MAX_HOST_BYTES {
        return format!("{name}{SEPARATOR}");
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    let hash: String = digest.as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect();
    // Designations are ASCII, so every byte is a character.
    let start: String = name.chars().take(MAX_HOST_BYTES - 1 - hash.len()).collect();
    format!("{start}+{hash}{SEPARATOR}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PublicKey = PublicKey([7; 32]);

    fn designation(name: &str) -> Designation {
        Designation::new(name).unwrap()
    }

    #[test]
    fn legal_characters_and_lengths() {
        for good in ["#CMA#00000", "a", "host.example@@00", "A-Z_z.+@#9", &"x".repeat(128)] {
            assert_eq!(KeyId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "../x", "a b", "a\0", "naïve", "a\n", &"x".repeat(129)] {
            assert!(KeyId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn cma_numbers_have_five_digits() {
        assert_eq!(KeyId::cma(1).unwrap().as_str(), "#CMA#00001");
        assert_eq!(KeyId::cma(99_999).unwrap().cma_number(), Some(99_999));
        assert_eq!(KeyId::cma(100_000), None);
        for (text, number) in
            [("#CMA#00042", Some(42)), ("#CMA#0042", None), ("#CMA#+0042", None), ("x", None)]
        {
            assert_eq!(KeyId::new(text).unwrap().cma_number(), number, "{text}");
        }
    }

    #[test]
    fn host_names_carry_designation_and_fingerprint() {
        let id = KeyId::host(&designation("picard"), &KEY);
        assert_eq!(id.as_str(), format!("picard@@{}", KEY.fingerprint()));
        assert!(id.is_of(&designation("picard")));
        assert!(!id.is_of(&designation("pic")));
        assert_eq!(id.fingerprint(), Some(KEY.fingerprint().as_str()));
        assert_eq!(KeyId::new("picard@@short").unwrap().fingerprint(), None);
    }

    #[test]
    fn secrets_of_hosts_are_known_by_their_names() {
        let id = KeyId::host(&designation("picard"), &KEY);
        assert!(is_host_secret(&id.secret_file()));
        for other in [&id.public_file(), "#CMA#00000.secret", "picard@@short.secret", "a/b.secret", ".secret"]
        {
            assert!(!is_host_secret(other), "{other}");
        }
    }

    #[test]
    fn long_designations_stay_apart() {
        let one = designation(&format!("{}1", "x".repeat(150)));
        let two = designation(&format!("{}2", "x".repeat(150)));
        let (a, b) = (KeyId::host(&one, &KEY), KeyId::host(&two, &KEY));
        assert_eq!(a.as_str().len(), MAX_ID_BYTES);
        assert!(KeyId::new(a.as_str()).is_ok());
        assert_ne!(a, b);
        assert!(a.is_of(&one) && !a.is_of(&two));
    }
}
