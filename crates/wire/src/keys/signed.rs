//! Lists of CMA keys that prove by themselves who made them, and for whom. Pure; docs/decisions/0014-succession-of-keys.md has why.
//!
//! The Ed25519 signature (RFC 8032) is over this text, numbers big-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 37 | [`DOMAIN`]: no other signature of the same key is over a text that begins so (TLS 1.3 begins with 64 spaces, RFC 8446 §4.4.3) |
//! | 32 | public key of the nanoprobe that is to take the list |
//! | 4 | how many keys |
//! | 36 each | number (4) and key (32), in the order of the list |

use super::pair::{KeyPair, verify};
use super::succession::{MAX_KEYS, Refusal};
use model::PublicKey;
use model::message::{CmaKeys, Signature};

/// First bytes of the text that is signed. Another meaning of the rest has to get another number.
const DOMAIN: &[u8] = b"Assimilation: CMA keys to trust, v. 1";

/// This list, signed by `pair` for the nanoprobe whose key is `recipient`.
pub fn signed(keys: &CmaKeys, pair: &KeyPair, recipient: &PublicKey) -> CmaKeys {
    let signature = Signature(pair.sign(&text(keys, recipient)));
    CmaKeys { keys: keys.keys.clone(), signature: Some(Box::new(signature)) }
}

/// Which of the keys in `trusted` signed this list for `recipient`.
///
/// # Errors
/// [`Refusal::Unsigned`] when none did; [`Refusal::Malformed`], before anything is computed, of a list that is too long anyway.
pub fn signer(keys: &CmaKeys, trusted: &[PublicKey], recipient: &PublicKey) -> Result<PublicKey, Refusal> {
    if keys.keys.len() > MAX_KEYS {
        return Err(Refusal::Malformed);
    }
    let Signature(signature) = keys.signature.as_deref().ok_or(Refusal::Unsigned)?;
    let text = text(keys, recipient);
    let is_signer = |key: &&PublicKey| verify(key, &text, signature);
    trusted.iter().find(is_signer).copied().ok_or(Refusal::Unsigned)
}

fn text(keys: &CmaKeys, recipient: &PublicKey) -> Vec<u8> {
    let mut text = Vec::with_capacity(DOMAIN.len() + 32 + 4 + 36 * keys.keys.len());
    text.extend_from_slice(DOMAIN);
    text.extend_from_slice(&recipient.0);
    // A message with more keys than this counts is longer than any that is read.
    text.extend_from_slice(&u32::try_from(keys.keys.len()).unwrap_or(u32::MAX).to_be_bytes());
    for key in &keys.keys {
        text.extend_from_slice(&key.number.to_be_bytes());
        text.extend_from_slice(&key.key);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::message::CmaKey;
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    fn pair(name: u8) -> KeyPair {
        KeyPair::from_seed(Zeroizing::new([name; 32]))
    }

    fn list(numbers: &[u32]) -> CmaKeys {
        CmaKeys::unsigned(numbers.iter().map(|n| CmaKey { number: *n, key: [*n as u8; 32] }).collect())
    }

    const HOST: PublicKey = PublicKey([200; 32]);

    #[test]
    fn the_signer_is_found_among_those_that_are_trusted() {
        let trusted = [pair(1).public(), pair(2).public()];
        for name in [1, 2] {
            let list = signed(&list(&[0, 1, 2]), &pair(name), &HOST);
            assert_eq!(signer(&list, &trusted, &HOST), Ok(pair(name).public()));
        }
        let strange = signed(&list(&[0, 1, 2]), &pair(3), &HOST);
        assert_eq!(signer(&strange, &trusted, &HOST), Err(Refusal::Unsigned));
        assert_eq!(signer(&list(&[0, 1, 2]), &trusted, &HOST), Err(Refusal::Unsigned));
        assert_eq!(signer(&strange, &[], &HOST), Err(Refusal::Unsigned));
    }

    #[test]
    fn a_list_for_another_host_is_worth_nothing() {
        let other = PublicKey([201; 32]);
        let list = signed(&list(&[0, 1]), &pair(1), &other);
        let trusted = [pair(1).public()];
        assert_eq!(signer(&list, &trusted, &HOST), Err(Refusal::Unsigned));
        assert_eq!(signer(&list, &trusted, &other), Ok(pair(1).public()));
    }

    #[test]
    fn no_other_list_has_the_same_text() {
        let trusted = [pair(1).public()];
        let good = signed(&list(&[0, 1, 2]), &pair(1), &HOST);
        assert!(signer(&good, &trusted, &HOST).is_ok());
        let altered: [&dyn Fn(&mut CmaKeys); 7] = [
            &|list| list.keys[1].number = 7,
            &|list| list.keys[1].key[31] ^= 1,
            &|list| list.keys.swap(0, 1),
            &|list| list.keys.truncate(2),
            &|list| list.keys.push(CmaKey { number: 3, key: [3; 32] }),
            &|list| list.keys.clear(),
            &|list| list.signature = Some(Box::new(Signature([0; 64]))),
        ];
        for (number, alter) in altered.iter().enumerate() {
            let mut list = good.clone();
            alter(&mut list);
            assert_eq!(signer(&list, &trusted, &HOST), Err(Refusal::Unsigned), "{number}");
        }
    }

    #[test]
    fn a_signature_of_the_bare_list_is_none() {
        let list = list(&[0, 1]);
        let bare = &text(&list, &HOST)[DOMAIN.len()..];
        let forged = CmaKeys { signature: Some(Box::new(Signature(pair(1).sign(bare)))), ..list };
        assert_eq!(signer(&forged, &[pair(1).public()], &HOST), Err(Refusal::Unsigned));
    }

    /// What was signed yesterday is to be believed tomorrow: the text, byte for byte.
    #[test]
    fn the_text_is_as_it_is_written_up() {
        let mut expected = b"Assimilation: CMA keys to trust, v. 1".to_vec();
        assert_eq!(expected.len(), 37);
        expected.extend([200; 32]);
        expected.extend([0, 0, 0, 2, 0, 0, 0, 1]);
        expected.extend([1; 32]);
        expected.extend([0, 0, 1, 4]);
        expected.extend([4; 32]);
        assert_eq!(text(&list(&[1, 260]), &HOST), expected);
    }

    #[test]
    fn a_list_that_is_too_long_is_not_even_looked_at() {
        let long: Vec<u32> = (0..17).collect();
        let [long, longest] = [&long[..], &long[..16]].map(|n| signed(&list(n), &pair(1), &HOST));
        assert_eq!(signer(&long, &[pair(1).public()], &HOST), Err(Refusal::Malformed));
        assert_eq!(signer(&longest, &[pair(1).public()], &HOST), Ok(pair(1).public()));
    }

    proptest! {
        #[test]
        fn one_bit_elsewhere_and_nobody_signed_it(number in 0u32..100_000, key: [u8; 32], at in 0usize..800) {
            let list = CmaKeys::unsigned(vec![CmaKey { number, key }]);
            let mut list = signed(&list, &pair(1), &HOST);
            prop_assert_eq!(signer(&list, &[pair(1).public()], &HOST), Ok(pair(1).public()));
            let Some(Signature(signature)) = list.signature.as_deref_mut() else { unreachable!() };
            match at {
                0..512 => signature[at / 8] ^= 1 << (at % 8),
                512..544 => list.keys[0].number ^= 1 << (at - 512),
                _ => list.keys[0].key[(at - 544) / 8] ^= 1 << (at % 8),
            }
            prop_assert_eq!(signer(&list, &[pair(1).public()], &HOST), Err(Refusal::Unsigned));
        }
    }
}
