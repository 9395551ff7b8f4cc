//! The file in which a nanoprobe keeps its [`Succession`]: a line for each key. Pure.

use super::{Origin, Succession, TrustedKey};
use model::PublicKey;

/// First line, so that a later form can be told apart.
const HEADER: &str = "CMA keys 1";
/// Second line: whether the files of the key directory are as the rest says.
const APPLIED: &str = "applied";
const PENDING: &str = "pending";
const BY_HAND: &str = "hand";

/// Longest such file, in bytes.
pub(crate) const MAX_BYTES: usize = 64 * 1024;

impl Succession {
    /// As a file; `is_applied`: the key files are known to be the same.
    pub(crate) fn to_text(&self, is_applied: bool) -> String {
        let mut text = format!("{HEADER}\n{}\n", if is_applied { APPLIED } else { PENDING });
        for TrustedKey { number, key, origin } in &self.keys {
            let origin = match origin {
                Origin::ByHand => BY_HAND.to_owned(),
                Origin::From(key) => key.to_hex(),
            };
            text.push_str(&format!("{number:05} {} {origin}\n", key.to_hex()));
        }
        text
    }

    /// Reads [`Self::to_text`]; `None` for anything else.
    pub(crate) fn from_text(text: &str) -> Option<(Self, bool)> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        if lines.next()? != HEADER {
            return None;
        }
        let is_applied = match lines.next()? {
            APPLIED => true,
            PENDING => false,
            _ => return None,
        };
        let mut succession = Self::default();
        for line in lines {
            let mut words = line.split(' ');
            let number = words.next().filter(|digits| digits.len() == 5)?.parse().ok()?;
            let key = PublicKey::from_hex(words.next()?).ok()?;
            let origin = match words.next()? {
                BY_HAND => Origin::ByHand,
                hex => Origin::From(PublicKey::from_hex(hex).ok()?),
            };
            let is_next = succession.keys.last().is_none_or(|last| last.number < number);
            if words.next().is_some() || !is_next {
                return None;
            }
            succession.keys.push(TrustedKey { number, key, origin });
        }
        (!succession.keys.is_empty()).then_some((succession, is_applied))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn succession() -> Succession {
        let mut keys = Succession::by_hand([(0, PublicKey([1; 32])), (1, PublicKey([2; 32]))]);
        keys.put(TrustedKey { number: 7, key: PublicKey([3; 32]), origin: Origin::From(PublicKey([1; 32])) });
        keys
    }

    #[test]
    fn what_was_written_is_read() {
        for is_applied in [true, false] {
            let text = succession().to_text(is_applied);
            assert_eq!(Succession::from_text(&text), Some((succession(), is_applied)), "{text}");
        }
    }

    #[test]
    fn a_file_that_was_cut_or_changed_is_not_believed() {
        let text = succession().to_text(true);
        for cut in 0..text.len() {
            let read = Succession::from_text(&text[..cut]);
            // Whole lines less are a legal file; nothing else is.
            assert!(read.is_none() || text[..cut].ends_with('\n'), "{cut}");
        }
        for wrong in [
            text.replace("00007", "00001"),
            text.replace("00007", "7"),
            text.replace("hand", "foot"),
            text.replace("CMA keys 1", "CMA keys 2"),
            format!("{HEADER}\n{APPLIED}\n"),
        ] {
            assert_eq!(Succession::from_text(&wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(CMA keys 1\n)?(applied\n|pending\n)?[0-9a-f \n]{0,200}") {
            let _ = Succession::from_text(&text);
        }
    }
}
