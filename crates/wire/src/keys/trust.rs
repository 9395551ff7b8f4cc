//! The CMA keys that a nanoprobe trusts, on disk: the `#CMA#*.pub` files of the key directory, and in the nanoprobe's own
//! directory a record of who introduced each ([`Succession`]).
//!
//! A change is written to the record first, marked as pending; then the key files follow, then the mark goes. Killed anywhere in
//! between, the next start does the rest. Where the key files cannot be changed (the directory is the CMA's, or read-only) the
//! mark stays, and the record counts. Without the mark, key files that differ from the record were put there, or taken away, by
//! hand, and count.

use super::directory::{KeyDirectory, KeyError};
use super::id::{KeyId, PUBLIC_SUFFIX};
use super::signed::signer;
use super::store::{Access, FileStore};
use super::succession::{Origin, Outcome, Refusal, Succession, TrustedKey};
use model::PublicKey;
use model::message::CmaKeys;
use std::path::{Path, PathBuf};

/// Name of the record.
const RECORD: &str = "cma-keys";

/// Why what a CMA wants is not done.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing is trusted that is not on disk.
    #[error("it cannot be kept: {0}")]
    Disk(#[from] KeyError),
}

/// An open record.
#[derive(Debug)]
pub struct CmaTrust {
    directory: KeyDirectory,
    /// Where the record is. Opened when it is needed: it may not be there at the start.
    state: PathBuf,
    succession: Succession,
}

impl CmaTrust {
    /// Reads the files of the key directory and the record in `state` (made with mode 0700 when it is missing); a change that was
    /// cut off is completed. Without a record, as without that directory, all keys count as put there by hand. The notes say
    /// what a person may want to know.
    ///
    /// # Errors
    /// What [`KeyDirectory::cma_publics`] finds wrong; no key at all is an error.
    pub fn open(directory: KeyDirectory, state: &Path) -> Result<(Self, Vec<String>), KeyError> {
        let mut notes = Vec::new();
        let state = state.to_owned();
        let text = FileStore::open_or_create(&state)
            .and_then(|records| records.read_text(RECORD, super::succession::MAX_RECORD_BYTES));
        let kept = match text {
            Ok(Some(text)) => Succession::from_text(&text).or_else(|| {
                notes.push(format!(
                    "{} is damaged: all CMA keys count as put there by hand",
                    state.join(RECORD).display()
                ));
                None
            }),
            Ok(None) => None,
            Err(error) => {
                notes.push(format!("all CMA keys count as put there by hand: {error}"));
                None
            }
        };
        match kept {
            Some((succession, false)) => {
                let trust = Self { directory, state, succession };
                match trust.follow() {
                    Ok(()) => {
                        notes.push("a change of the CMA's keys that was cut off is complete now".into())
                    }
                    Err(error) => notes.push(format!(
                        "the key files do not show which CMA keys are trusted, {} does: {error}",
                        trust.state.join(RECORD).display()
                    )),
                }
                Ok((trust, notes))
            }
            kept => {
                let mut found = publics(&directory)?;
                let retired = directory.cma_retired()?;
                found.retain(|(number, key)| {
                    let Some((id, _)) = retired.iter().find(|(id, known)| id.cma_number() == Some(*number) && known == key)
                    else {
                        return true;
                    };
                    notes.push(format!(
                        "{id} was retired and is not trusted though somebody put it here again: `rm '{0}'`, or `rm '{1}'` if \
                         it is to be trusted all the same",
                        directory.files.file(&id.public_file()).display(),
                        directory.files.file(&id.retired_file()).display()
                    ));
                    false
                });
                if found.is_empty() {
                    return Err(KeyError::NoCmaKey { path: directory.path().to_owned() });
                }
                let succession = match kept {
                    Some((kept, _)) => reconciled(&kept, &found),
                    None => Succession::by_hand(found),
                };
                Ok((Self { directory, state, succession }, notes))
            }
        }
    }

    pub fn succession(&self) -> &Succession {
        &self.succession
    }

    /// Does what the CMA wants that signed this list for the nanoprobe whose key is `own`, as far as it may. Whoever brought it does
    /// not matter. Kept when this returns; the error beside the outcome says that the key files do not show it yet.
    ///
    /// # Errors
    /// Nothing has changed then, as far as this process is concerned.
    pub fn take(
        &mut self,
        own: &PublicKey,
        wanted: &CmaKeys,
    ) -> Result<(Outcome, Option<KeyError>), TakeError> {
        let sender = signer(wanted, &self.succession.publics(), own)?;
        let outcome = self.succession.propose(&sender, wanted)?;
        if outcome.succession == self.succession {
            return Ok((outcome, None));
        }
        self.record(&outcome.succession, false)?;
        self.succession = outcome.succession.clone();
        Ok((outcome, self.follow().err()))
    }

    /// Keys that were retired here; none where that cannot be read.
    pub fn retired(&self) -> Vec<(KeyId, PublicKey)> {
        self.directory.cma_retired().unwrap_or_default()
    }

    /// The key files follow the record.
    fn follow(&self) -> Result<(), KeyError> {
        self.write_files()?;
        self.record(&self.succession, true)
    }

    fn record(&self, succession: &Succession, is_applied: bool) -> Result<(), KeyError> {
        let records = FileStore::open_or_create(&self.state)?;
        records.replace(RECORD, Access::Public, succession.to_text(is_applied).as_bytes())
    }

    fn write_files(&self) -> Result<(), KeyError> {
        let files = &self.directory.files;
        let first = self.succession.current().map_or(0, |current| current.number);
        let mut wanted = Vec::new();
        for TrustedKey { number, key, .. } in self.succession.keys() {
            let Some(id) = KeyId::cma(*number) else { continue };
            if self.directory.public(&id).ok() != Some(*key) {
                files.replace(&id.public_file(), Access::Public, &key.0)?;
            }
            wanted.push(id);
        }
        for id in self.directory.ids(PUBLIC_SUFFIX)? {
            let Some(number) = id.cma_number().filter(|_| !wanted.contains(&id)) else { continue };
            if self.directory.holds_secret(&id)? {
                // The CMA's own directory: what it signs with is its business.
                continue;
            }
            if number < first {
                files.set_aside(&id.public_file(), &id.retired_file())?;
            } else {
                files.remove(&id.public_file())?;
            }
        }
        Ok(())
    }
}

fn publics(directory: &KeyDirectory) -> Result<Vec<(u32, PublicKey)>, KeyError> {
    let found = directory.cma_publics()?;
    Ok(found.into_iter().filter_map(|(id, key)| Some((id.cma_number()?, key))).collect())
}

/// The files as they are, with the origins that are known of them.
fn reconciled(kept: &Succession, found: &[(u32, PublicKey)]) -> Succession {
    let origin = |number: u32, key: PublicKey| {
        let known = kept.keys().iter().find(|trusted| (trusted.number, trusted.key) == (number, key));
        known.map_or(Origin::ByHand, |trusted| trusted.origin)
    };
    let keys = found.iter().map(|(number, key)| TrustedKey {
        number: *number,
        key: *key,
        origin: origin(*number, *key),
    });
    Succession::of(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyPair, signed};
    use model::message::CmaKey;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    /// A nanoprobe's key directory with the public keys 0 and 1 of a CMA.
    struct Rig {
        home: tempfile::TempDir,
        pairs: Vec<KeyPair>,
    }

    impl Rig {
        fn new() -> Self {
            let rig = Self {
                home: tempfile::tempdir().unwrap(),
                pairs: (0..4).map(|_| KeyPair::generate().unwrap()).collect(),
            };
            KeyDirectory::open_or_create(rig.path()).unwrap();
            for number in 0..2 {
                rig.put(number);
            }
            rig
        }

        fn path(&self) -> PathBuf {
            self.home.path().join("crypto.d")
        }

        fn put(&self, number: usize) {
            let file = self.path().join(format!("#CMA#{number:05}.pub"));
            fs::write(&file, self.pairs[number].public().0).unwrap();
            fs::set_permissions(file, PermissionsExt::from_mode(0o644)).unwrap();
        }

        fn state(&self) -> PathBuf {
            self.home.path().join("state")
        }

        fn key(&self, number: usize) -> PublicKey {
            self.pairs[number].public()
        }

        fn open(&self) -> CmaTrust {
            CmaTrust::open(KeyDirectory::open(self.path()).unwrap(), &self.state()).unwrap().0
        }

        /// These keys, as the CMA that uses the key `sender` sends them.
        fn from(&self, sender: usize, numbers: &[usize]) -> CmaKeys {
            signed(&self.set(numbers), &self.pairs[sender], &OWN)
        }

        fn set(&self, numbers: &[usize]) -> CmaKeys {
            let key = |n: &usize| CmaKey { number: *n as u32, key: self.key(*n).0 };
            CmaKeys::unsigned(numbers.iter().map(key).collect())
        }
    }

    /// The nanoprobe that the rig belongs to.
    const OWN: PublicKey = PublicKey([99; 32]);

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(path)
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name().into_string().unwrap())
            .filter(|name| name.starts_with('#'))
            .collect();
        names.sort();
        names
    }

    fn copy(from: &Path, to: &Path) {
        fs::remove_dir_all(to).unwrap();
        fs::create_dir(to).unwrap();
        fs::set_permissions(to, PermissionsExt::from_mode(0o700)).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    #[test]
    fn a_take_over_is_kept_and_the_old_key_is_remembered() {
        let rig = Rig::new();
        let mut trust = rig.open();
        trust.take(&OWN, &rig.from(0, &[0, 1, 2])).unwrap();
        assert_eq!(rig.open().succession(), trust.succession());
        assert_eq!(trust.succession().keys()[2].origin, Origin::From(rig.key(0)));
        let refused = trust.take(&OWN, &rig.from(2, &[2]));
        assert!(matches!(refused, Err(TakeError::Refused(Refusal::NotEntitled))), "{refused:?}");
        assert!(trust.take(&OWN, &rig.from(1, &[1, 2])).unwrap().0.took_over);
        assert_eq!(names(&rig.path()), ["#CMA#00000.retired", "#CMA#00001.pub", "#CMA#00002.pub"]);
        assert_eq!(rig.open().succession(), trust.succession());
        assert_eq!(trust.retired(), [(KeyId::cma(0).unwrap(), rig.key(0))]);
        let refused = trust.take(&OWN, &rig.from(0, &[0, 1]));
        assert!(matches!(refused, Err(TakeError::Refused(Refusal::Unsigned))), "{refused:?}");
    }

    /// Every state of the disk that a kill can leave: each is the one before a file operation of the same change.
    #[test]
    fn a_change_that_is_cut_off_anywhere_is_whole_after_the_next_start() {
        let rig = Rig::new();
        let before = rig.open().succession().clone();
        let mut trust = rig.open();
        let after = trust.succession().propose(&rig.key(1), &rig.set(&[1, 2, 3])).unwrap().succession;
        trust.succession = after.clone();
        let saved = tempfile::tempdir().unwrap();
        let pending = trust.succession.to_text(false);
        let files = &trust.directory.files;
        let records = FileStore::open_or_create(&rig.state()).unwrap();
        let steps: [&dyn Fn(); 6] = [
            &|| records.create(".half.tmp", Access::Public, b"CMA ke").unwrap(),
            &|| records.replace(RECORD, Access::Public, pending.as_bytes()).unwrap(),
            &|| files.replace("#CMA#00002.pub", Access::Public, &rig.key(2).0).unwrap(),
            &|| files.replace("#CMA#00003.pub", Access::Public, &rig.key(3).0).unwrap(),
            &|| files.set_aside("#CMA#00000.pub", "#CMA#00000.retired").unwrap(),
            &|| records.replace(RECORD, Access::Public, after.to_text(true).as_bytes()).unwrap(),
        ];
        for (done, step) in steps.iter().enumerate() {
            step();
            let (copied, state) = (saved.path().join("copy"), saved.path().join("state"));
            for (from, to) in [(&rig.path(), &copied), (&rig.state(), &state)] {
                fs::create_dir_all(to).unwrap();
                copy(from, to);
            }
            let (found, notes) = CmaTrust::open(KeyDirectory::open(&copied).unwrap(), &state).unwrap();
            let wanted = if done == 0 { &before } else { &after };
            assert_eq!(found.succession(), wanted, "killed after step {done}");
            assert_eq!(notes.len(), usize::from((1..5).contains(&done)), "{done}: {notes:?}");
            // And once more: what was completed is complete.
            let (again, notes) = CmaTrust::open(KeyDirectory::open(&copied).unwrap(), &state).unwrap();
            assert_eq!((again.succession(), notes.len()), (wanted, 0), "{done}");
            if done > 0 {
                assert!(names(&copied).contains(&"#CMA#00000.retired".to_owned()), "{done}");
                assert!(!copied.join("#CMA#00000.pub").exists(), "{done}");
            }
        }
    }

    /// The process that hears the CMA may be in the hands of somebody else: what it brings has to prove itself.
    #[test]
    fn a_list_without_proof_changes_nothing() {
        let rig = Rig::new();
        let mut trust = rig.open();
        let (before, state) = (trust.succession().clone(), names(&rig.path()));
        let mut altered = rig.from(0, &[0, 1, 2]);
        altered.keys[2].key = rig.key(3).0;
        let mut moved = rig.set(&[0, 1, 2]);
        moved.signature = rig.from(0, &[0, 1]).signature;
        let forged = [
            ("unsigned", rig.set(&[0, 1, 2])),
            ("of a stranger", rig.from(3, &[0, 1, 2])),
            ("of a key that is only in the list itself", rig.from(2, &[0, 1, 2])),
            ("for another host", signed(&rig.set(&[0, 1, 2]), &rig.pairs[0], &PublicKey([98; 32]))),
            ("altered", altered),
            ("the signature of another list", moved),
        ];
        for (what, forged) in forged {
            let refused = trust.take(&OWN, &forged);
            assert!(matches!(refused, Err(TakeError::Refused(Refusal::Unsigned))), "{what}: {refused:?}");
            assert_eq!((trust.succession(), &names(&rig.path())), (&before, &state), "{what}");
            assert_eq!(rig.open().succession(), &before, "{what}");
        }
        trust.take(&OWN, &rig.from(0, &[0, 1, 2])).unwrap();
        assert_ne!(trust.succession(), &before);
    }

    #[test]
    fn an_old_list_that_is_brought_again_does_not_keep_the_successor_away() {
        let rig = Rig::new();
        let mut trust = rig.open();
        let old = rig.from(0, &[0, 1, 2]);
        trust.take(&OWN, &old).unwrap();
        trust.take(&OWN, &rig.from(0, &[0, 1, 2, 3])).unwrap();
        trust.take(&OWN, &old).unwrap();
        assert_eq!(
            trust.succession().to_message(),
            rig.set(&[0, 1, 2]),
            "as if the later one had been kept back"
        );
        let taken = rig.from(1, &[1, 2, 3]);
        assert!(trust.take(&OWN, &taken).unwrap().0.took_over);
        let refused = trust.take(&OWN, &old);
        assert!(matches!(refused, Err(TakeError::Refused(Refusal::Unsigned))), "{refused:?}");
        assert_eq!(trust.succession().to_message(), rig.set(&[1, 2, 3]));
    }

    #[test]
    fn what_was_done_by_hand_counts() {
        let rig = Rig::new();
        let mut trust = rig.open();
        trust.take(&OWN, &rig.from(0, &[0, 1, 2])).unwrap();
        rig.put(3);
        fs::remove_file(rig.path().join("#CMA#00002.pub")).unwrap();
        let trust = rig.open();
        let numbers: Vec<u32> = trust.succession().keys().iter().map(|trusted| trusted.number).collect();
        assert_eq!(numbers, [0, 1, 3]);
        assert_eq!(trust.succession().keys()[2].origin, Origin::ByHand);
        fs::write(rig.state().join(RECORD), "rubbish").unwrap();
        let (trust, notes) = CmaTrust::open(KeyDirectory::open(rig.path()).unwrap(), &rig.state()).unwrap();
        assert!(notes[0].contains("damaged"), "{notes:?}");
        assert!(trust.succession().keys().iter().all(|trusted| trusted.origin == Origin::ByHand));
    }

    #[test]
    fn a_retired_key_that_is_copied_again_is_not_trusted_until_its_record_is_removed() {
        let rig = Rig::new();
        rig.open().take(&OWN, &rig.from(1, &[1, 2])).unwrap();
        rig.put(0);
        let (trust, notes) = CmaTrust::open(KeyDirectory::open(rig.path()).unwrap(), &rig.state()).unwrap();
        assert_eq!(trust.succession().to_message(), rig.set(&[1, 2]));
        assert!(notes[0].starts_with("#CMA#00000 was retired"), "{notes:?}");
        fs::remove_file(rig.path().join("#CMA#00000.retired")).unwrap();
        assert_eq!(rig.open().succession().to_message(), rig.set(&[0, 1, 2]));
        // Another key of that number is no old acquaintance.
        rig.open().take(&OWN, &rig.from(1, &[1, 2])).unwrap();
        fs::write(rig.path().join("#CMA#00000.pub"), rig.key(3).0).unwrap();
        assert_eq!(rig.open().succession().keys()[0].key, rig.key(3));
    }

    #[test]
    fn nothing_is_trusted_that_cannot_be_written() {
        let rig = Rig::new();
        let mut trust = rig.open();
        // The name of the record is taken by something that cannot be replaced.
        fs::create_dir(rig.state().join(RECORD)).unwrap();
        let before = trust.succession().clone();
        let taken = trust.take(&OWN, &rig.from(1, &[1, 2]));
        assert!(matches!(taken, Err(TakeError::Disk(_))), "{taken:?}");
        assert_eq!(trust.succession(), &before);
    }

    #[test]
    fn key_files_that_cannot_be_changed_do_not_keep_a_take_over_away() {
        let rig = Rig::new();
        let mut trust = rig.open();
        // The name that the old key is to get is taken; root could do everything else.
        let obstacle = rig.path().join("#CMA#00000.retired");
        fs::create_dir(&obstacle).unwrap();
        let (outcome, problem) = trust.take(&OWN, &rig.from(1, &[1, 2])).unwrap();
        assert!(outcome.took_over && problem.is_some(), "{problem:?}");
        assert!(rig.path().join("#CMA#00000.pub").exists());
        let (trust, notes) = CmaTrust::open(KeyDirectory::open(rig.path()).unwrap(), &rig.state()).unwrap();
        assert_eq!(trust.succession().to_message(), rig.set(&[1, 2]), "also after the next start");
        assert!(notes[0].contains("do not show"), "{notes:?}");
        fs::remove_dir(obstacle).unwrap();
        rig.open();
        assert!(!rig.path().join("#CMA#00000.pub").exists());
    }

    #[test]
    fn the_secret_of_the_cma_keeps_its_public_key() {
        let rig = Rig::new();
        let secret = rig.path().join("#CMA#00000.secret");
        fs::write(&secret, rig.pairs[0].seed()).unwrap();
        fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
        rig.open().take(&OWN, &rig.from(1, &[1, 2])).unwrap();
        assert!(rig.path().join("#CMA#00000.pub").exists());
        assert!(KeyDirectory::open(rig.path()).unwrap().check().unwrap().is_empty());
    }
}
