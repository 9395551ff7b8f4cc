//! A key pair in memory; the secret part is wiped when it is dropped and never printed.

use model::PublicKey;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use std::fmt;
use zeroize::Zeroizing;

/// An Ed25519 seed and its public key.
#[derive(Clone)]
pub struct KeyPair {
    seed: Zeroizing<[u8; 32]>,
    public: PublicKey,
}

impl KeyPair {
    /// A new pair from the system's random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed)?;
        Ok(Self::from_seed(seed))
    }

    /// The pair of a seed; every 32 bytes are one.
    pub fn from_seed(seed: Zeroizing<[u8; 32]>) -> Self {
        let mut public = [0; 32];
        // ring refuses a seed for its length only, and prints 32 bytes of public key.
        if let Ok(pair) = Ed25519KeyPair::from_seed_unchecked(&*seed)
            && let Some(bytes) = pair.public_key().as_ref().first_chunk()
        {
            public = *bytes;
        }
        Self { seed, public: PublicKey(public) }
    }

    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The seed, as in a `.secret` file: for another process of the same program. Whoever copies it wipes the copy.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// Ed25519 signature of a text, which has to begin with words that tell for what it is: the same key signs for TLS.
    pub(crate) fn sign(&self, text: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        // As above: it is always a seed, and the signature always 64 bytes. Zeros would be no valid signature.
        if let Ok(pair) = Ed25519KeyPair::from_seed_unchecked(&*self.seed)
            && let Some(bytes) = pair.sign(text).as_ref().first_chunk()
        {
            signature = *bytes;
        }
        signature
    }

    /// PKCS #8 version 1 (RFC 8410 §7), the form that TLS takes.
    pub(crate) fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        const PREFIX: [u8; 16] =
            [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        let mut der = Zeroizing::new(Vec::with_capacity(PREFIX.len() + 32));
        der.extend_from_slice(&PREFIX);
        der.extend_from_slice(&*self.seed);
        der
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.public.fingerprint())
    }
}

/// Whether the holder of `key` signed this text. Bytes that are no key of the curve signed nothing.
pub(crate) fn verify(key: &PublicKey, text: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, key.0).verify(text, signature).is_ok()
}

/// SubjectPublicKeyInfo of an Ed25519 key (RFC 8410 §4): this and 32 bytes.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The key as SubjectPublicKeyInfo, what raw public keys (RFC 7250) look like in TLS.
pub(crate) fn to_spki(key: &PublicKey) -> Vec<u8> {
    [&SPKI_PREFIX[..], &key.0].concat()
}

/// Reads a SubjectPublicKeyInfo; anything but a plain Ed25519 key is `None`.
pub(crate) fn from_spki(der: &[u8]) -> Option<PublicKey> {
    der.strip_prefix(&SPKI_PREFIX)?.try_into().ok().map(PublicKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 §7.1, test 1.
    #[test]
    fn public_key_of_a_known_seed() {
        let seed = PublicKey::from_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
            .unwrap()
            .0;
        let pair = KeyPair::from_seed(Zeroizing::new(seed));
        assert_eq!(
            pair.public().to_hex(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert!(!format!("{pair:?}").contains("9d61b19d"));
    }

    /// RFC 8032 §7.1, test 2.
    #[test]
    fn signature_of_a_known_seed() {
        let seed = PublicKey::from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
            .unwrap()
            .0;
        let pair = KeyPair::from_seed(Zeroizing::new(seed));
        let signature = pair.sign(&[0x72]);
        let half = |bytes: &[u8]| PublicKey(*bytes.first_chunk().unwrap()).to_hex();
        assert_eq!(
            half(&signature[..32]),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        );
        assert_eq!(
            half(&signature[32..]),
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
        assert!(verify(&pair.public(), &[0x72], &signature));
        assert!(!verify(&pair.public(), &[0x73], &signature));
        assert!(!verify(&KeyPair::generate().unwrap().public(), &[0x72], &signature));
        // y = 2 is on no point of the curve; zeros are what `sign` gives for what is no seed.
        let mut none = [0; 32];
        none[0] = 2;
        assert!(!verify(&PublicKey(none), &[0x72], &signature));
        assert!(!verify(&pair.public(), &[0x72], &[0; 64]));
    }

    #[test]
    fn spki_round_trip_and_nothing_else() {
        let key = KeyPair::generate().unwrap().public();
        let der = to_spki(&key);
        assert_eq!(from_spki(&der), Some(key));
        assert_eq!(from_spki(&der[..43]), None);
        assert_eq!(from_spki(&[der.clone(), vec![0]].concat()), None);
        assert_eq!(from_spki(&[]), None);
        let mut other = der;
        other[8] = 0x71;
        assert_eq!(from_spki(&other), None);
    }

    #[test]
    fn two_pairs_differ() {
        assert_ne!(KeyPair::generate().unwrap().public(), KeyPair::generate().unwrap().public());
    }
}
