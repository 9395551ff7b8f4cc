//! Keys of the CMA that a restore does not bring back: those that were retired since the backup was made.
//!
//! The CMA signs with the lowest-numbered secret that it does not know as retired: without that record, or beside a rotation that
//! is under way, the old one in its place would be used, and hosts that trust its successor would refuse it. A secret that
//! nobody trusts any more is better not lying about, either.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use wire::keys::KeyId;
use wire::keys::id::{RETIRED_SUFFIX, SECRET_SUFFIX};

/// Folder of a backup that holds keys.
const FOLDER: &str = "crypto.d/";
/// The file that says which rotation is under way (`wire::keys::rotation`).
const JOURNAL: &str = "rotation";

/// What a key directory says about keys that are over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retired {
    numbers: BTreeSet<u32>,
    in_use: Option<u32>,
}

impl Retired {
    /// Of the key directory at `crypto`; nothing is over in one that is not there or cannot be read.
    pub fn of(crypto: &Path) -> Self {
        let names = fs::read_dir(crypto).into_iter().flatten().flatten();
        let names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let with = |suffix: &str| -> BTreeSet<u32> {
            names.iter().filter_map(|name| number(name).filter(|_| name.ends_with(suffix))).collect()
        };
        let numbers = with(RETIRED_SUFFIX);
        let in_use = with(SECRET_SUFFIX).into_iter().find(|secret| !numbers.contains(secret));
        Self { numbers, in_use }
    }

    /// Whether a part of a backup is of a key that is over here. `text` is what is in it.
    pub fn concerns(&self, part: &str, text: &[u8]) -> bool {
        let Some(file) = part.strip_prefix(FOLDER) else { return false };
        let begun_with = || std::str::from_utf8(text).ok()?.split_whitespace().next()?.parse().ok();
        let of = if file == JOURNAL { begun_with() } else { number(file) };
        // The record that a key is retired brings nothing back.
        let is_record = file.ends_with(RETIRED_SUFFIX);
        of.is_some_and(|of: u32| {
            !is_record && (self.numbers.contains(&of) || self.in_use.is_some_and(|in_use| of < in_use))
        })
    }
}

/// The number of the CMA's key that a file is of, whatever of it: `#CMA#00000.secret`, `.#CMA#00000.aside`.
fn number(file: &str) -> Option<u32> {
    let (id, _) = file.strip_prefix('.').unwrap_or(file).split_once('.')?;
    KeyId::new(id).ok()?.cma_number()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(files: &[&str]) -> Retired {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(directory.path().join(file), "x").unwrap();
        }
        Retired::of(directory.path())
    }

    fn kept_out<'p>(retired: &Retired, parts: &[&'p str]) -> Vec<&'p str> {
        parts.iter().copied().filter(|part| retired.concerns(part, b"00000 00001\n")).collect()
    }

    #[test]
    fn what_is_older_than_the_key_in_use_stays_away() {
        let parts = [
            "crypto.d/#CMA#00000.pub",
            "crypto.d/#CMA#00000.retired",
            "crypto.d/#CMA#00000.secret",
            "crypto.d/#CMA#00001.pub",
            "crypto.d/#CMA#00001.secret",
            "crypto.d/.#CMA#00000.aside",
            "crypto.d/rotation",
            "crypto.d/web1@@00112233445566778899aabbccddeeff.pub",
            "etc/assimilation/#CMA#00000.secret",
        ];
        let over = [parts[0], parts[2], parts[5], parts[6]];
        let rotated = ["#CMA#00000.retired", "#CMA#00001.pub", "#CMA#00001.secret", "#CMA#00002.pub"];
        assert_eq!(kept_out(&here(&rotated), &parts), over);
        assert_eq!(kept_out(&here(&rotated[..1]), &parts), over, "also where no secret is left");
        assert_eq!(kept_out(&here(&["#CMA#00001.secret"]), &parts), over, "while the rotation is under way");
        let two = ["#CMA#00000.retired", "#CMA#00000.secret", "#CMA#00001.secret"];
        assert_eq!(kept_out(&here(&two), &parts), over, "a retired secret that is here is not in use");
        assert_eq!(kept_out(&here(&["#CMA#00000.secret", "#CMA#00001.pub"]), &parts), [""; 0]);
        assert_eq!(kept_out(&here(&[]), &parts), [""; 0], "a new machine takes everything");
        assert_eq!(Retired::of(Path::new("/nonexistent")), Retired::default());
    }

    #[test]
    fn a_journal_that_says_nothing_concerns_no_key() {
        let retired = here(&["#CMA#00000.retired"]);
        for text in [&b""[..], b"\xff\xfe", b"-1 0", b"99999999999 1"] {
            assert!(!retired.concerns("crypto.d/rotation", text), "{text:?}");
        }
    }
}
