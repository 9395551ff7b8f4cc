//! Which keys of its CMA a nanoprobe trusts, and who may change that. Pure; docs/decisions/0014-succession-of-keys.md has why.
//!
//! The keys are ordered by number, which is the order in which they were introduced: nobody can put a key before one that is
//! known. The first is the current key, which the CMA signs with; the next is its successor, whose secret is off-line. Only
//! these two may change the set:
//!
//! | who | may |
//! |---|---|
//! | the current key | append keys, and take back those that it appended after its successor |
//! | the successor | take over: the set it sends is trusted, and everything else is not any more |
//!
//! So whoever steals the current secret can neither remove the successor nor put anything in front of it, and what he added
//! goes when the successor takes over.

mod text;

pub(crate) use text::MAX_BYTES as MAX_RECORD_BYTES;

use model::PublicKey;
use model::message::{CmaKey, CmaKeys};

/// Keys that a nanoprobe trusts at most, of those that it is told of.
pub const MAX_KEYS: usize = 16;

/// Who said that a key is to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Whoever put the file into the key directory.
    ByHand,
    /// The CMA, with this key.
    From(PublicKey),
}

/// A CMA key that is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedKey {
    /// As in `#CMA#<number>.pub`.
    pub number: u32,
    pub key: PublicKey,
    pub origin: Origin,
}

/// The trusted keys in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Succession {
    /// Ascending, each number once.
    keys: Vec<TrustedKey>,
}

/// What is not done of what a CMA wants, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the list is empty, too long, or names a key twice")]
    Malformed,
    #[error("the key that signed it is neither the current one nor its successor")]
    NotEntitled,
    #[error("none of the keys that are trusted has signed it for this host")]
    Unsigned,
    #[error("the successor takes over only with a list that it is in itself")]
    WithoutSender,
    #[error("#CMA#{0:05} stays: the current key may not remove it")]
    Stays(u32),
    #[error("#CMA#{0:05} is known as another key")]
    NumberTaken(u32),
    #[error("#CMA#{0:05} does not come after all keys that are known")]
    NotLast(u32),
    #[error("#CMA#{0:05} comes before the key that is in use: it is retired")]
    Retired(u32),
    #[error("#CMA#{0:05} would be one key too many")]
    TooMany(u32),
}

/// What comes of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub succession: Succession,
    /// The successor is the current key from now on.
    pub took_over: bool,
    /// Parts of the proposal that are not done.
    pub refused: Vec<Refusal>,
}

impl Succession {
    /// Keys as found in a key directory, all by hand. Of several with one number the last counts.
    pub fn by_hand(keys: impl IntoIterator<Item = (u32, PublicKey)>) -> Self {
        Self::of(keys.into_iter().map(|(number, key)| TrustedKey { number, key, origin: Origin::ByHand }))
    }

    /// These keys. Of several with one number the last counts.
    pub fn of(keys: impl IntoIterator<Item = TrustedKey>) -> Self {
        let mut succession = Self::default();
        for trusted in keys {
            succession.put(trusted);
        }
        succession
    }

    /// All of them, in their order.
    pub fn keys(&self) -> &[TrustedKey] {
        &self.keys
    }

    /// The key that the CMA signs with, as far as is known here.
    pub fn current(&self) -> Option<&TrustedKey> {
        self.keys.first()
    }

    /// The key that takes over from the current one.
    pub fn successor(&self) -> Option<&TrustedKey> {
        self.keys.get(1)
    }

    pub fn publics(&self) -> Vec<PublicKey> {
        self.keys.iter().map(|trusted| trusted.key).collect()
    }

    /// As it is told to the CMA.
    pub fn to_message(&self) -> CmaKeys {
        let key = |trusted: &TrustedKey| CmaKey { number: trusted.number, key: trusted.key.0 };
        CmaKeys::unsigned(self.keys.iter().map(key).collect())
    }

    /// What is trusted after a CMA that proved to hold `sender` ([`super::signer`]) has sent `wanted`.
    ///
    /// # Errors
    /// Why nothing of it is done.
    pub fn propose(&self, sender: &PublicKey, wanted: &CmaKeys) -> Result<Outcome, Refusal> {
        let wanted = well_formed(wanted)?;
        match self.keys.iter().position(|trusted| trusted.key == *sender) {
            Some(0) => Ok(self.amended(sender, &wanted)),
            Some(1) => self.taken_over(sender, &wanted),
            _ => Err(Refusal::NotEntitled),
        }
    }

    /// What the current key may do.
    fn amended(&self, sender: &PublicKey, wanted: &[(u32, PublicKey)]) -> Outcome {
        let mut refused = Vec::new();
        let mut succession = Self::default();
        for (position, trusted) in self.keys.iter().enumerate() {
            let is_wanted = wanted.contains(&(trusted.number, trusted.key));
            if is_wanted || position < 2 || trusted.origin != Origin::From(*sender) {
                if !is_wanted {
                    refused.push(Refusal::Stays(trusted.number));
                }
                succession.keys.push(*trusted);
            }
        }
        for (number, key) in wanted {
            let named = self.keys.iter().find(|trusted| trusted.number == *number);
            let last = succession.keys.last().map_or(0, |trusted| trusted.number);
            let refusal = match named {
                Some(trusted) if trusted.key == *key => continue,
                Some(_) => Refusal::NumberTaken(*number),
                None if *number <= last || self.publics().contains(key) => Refusal::NotLast(*number),
                None if succession.keys.len() >= MAX_KEYS => Refusal::TooMany(*number),
                None => {
                    let origin = Origin::From(*sender);
                    succession.keys.push(TrustedKey { number: *number, key: *key, origin });
                    continue;
                }
            };
            refused.push(refusal);
        }
        Outcome { succession, took_over: false, refused }
    }

    /// What the successor may do.
    fn taken_over(&self, sender: &PublicKey, wanted: &[(u32, PublicKey)]) -> Result<Outcome, Refusal> {
        let own = self.keys.iter().find(|trusted| trusted.key == *sender).ok_or(Refusal::NotEntitled)?;
        if !wanted.contains(&(own.number, own.key)) {
            return Err(Refusal::WithoutSender);
        }
        let mut refused = Vec::new();
        let mut succession = Self::default();
        for (number, key) in wanted {
            if *number < own.number {
                refused.push(Refusal::Retired(*number));
                continue;
            }
            let known = self.keys.iter().find(|trusted| (trusted.number, trusted.key) == (*number, *key));
            let origin = match known.map(|trusted| trusted.origin) {
                Some(Origin::ByHand) => Origin::ByHand,
                // Its predecessor is not to be believed any more; the successor answers for what it keeps.
                _ => Origin::From(*sender),
            };
            succession.keys.push(TrustedKey { number: *number, key: *key, origin });
        }
        Ok(Outcome { succession, took_over: true, refused })
    }

    fn put(&mut self, trusted: TrustedKey) {
        match self.keys.binary_search_by_key(&trusted.number, |known| known.number) {
            Ok(at) => self.keys[at] = trusted,
            Err(at) => self.keys.insert(at, trusted),
        }
    }
}

/// The list in the order of numbers; neither empty nor too long, and no number and no key twice.
fn well_formed(wanted: &CmaKeys) -> Result<Vec<(u32, PublicKey)>, Refusal> {
    if wanted.keys.is_empty() || wanted.keys.len() > MAX_KEYS {
        return Err(Refusal::Malformed);
    }
    let mut keys: Vec<(u32, PublicKey)> =
        wanted.keys.iter().map(|key| (key.number, PublicKey(key.key))).collect();
    keys.sort_unstable();
    let is_twice =
        |at: usize| keys[..at].iter().any(|(number, key)| (*number == keys[at].0) || *key == keys[at].1);
    // Five digits are all that a file's name has.
    let is_wrong = (0..keys.len()).any(|at| is_twice(at) || super::KeyId::cma(keys[at].0).is_none());
    if is_wrong { Err(Refusal::Malformed) } else { Ok(keys) }
}

#[cfg(test)]
mod tests;
