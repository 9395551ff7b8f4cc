//! Retiring the CMA's key and bringing its successor into use, one file operation after the other.
//!
//! [`next_step`] is pure: what the files say decides what is next. So a rotation that was cut off anywhere, by a kill or by
//! the power, goes on where it stood. A file `rotation` says that one is under way, and from which key to which.

use super::directory::{KeyDirectory, KeyError};
use super::id::{ASIDE_SUFFIX, KeyId, PUBLIC_SUFFIX, RETIRED_SUFFIX, SECRET_SUFFIX};
use super::store::Access;
use model::PublicKey;

/// Name of the file that says which rotation is under way.
const JOURNAL: &str = "rotation";
const MAX_JOURNAL_BYTES: usize = 64;

/// From one key to its successor, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    pub from: u32,
    pub to: u32,
}

/// What the key directory of a CMA holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Public keys by number, ascending: those that hosts are to trust, and lower ones that wait to be retired.
    pub publics: Vec<(u32, PublicKey)>,
    /// Numbers of the secrets that are here, ascending; the CMA signs with the first that is not retired.
    pub secrets: Vec<u32>,
    pub retired: Vec<(u32, PublicKey)>,
    /// Secrets of retired keys that are still to be wiped.
    pub aside: Vec<u32>,
    /// Under way.
    pub rotation: Option<Rotation>,
}

impl Standing {
    /// The number that the CMA signs with. The secret of a retired key, which an old backup may bring back, is not used as long
    /// as there is another: no host trusts it.
    pub fn in_use(&self) -> Option<u32> {
        let is_retired = |number: &&u32| self.retired.iter().any(|(retired, _)| retired == *number);
        self.secrets.iter().find(|number| !is_retired(number)).or(self.secrets.first()).copied()
    }

    /// What hosts are to trust: the key in use, and those after it.
    pub fn trusted(&self) -> Vec<(u32, PublicKey)> {
        let first = self.in_use().unwrap_or(0);
        self.publics.iter().filter(|(number, _)| *number >= first).copied().collect()
    }

    /// The key that takes over next.
    pub fn successor(&self) -> Option<(u32, PublicKey)> {
        self.trusted().get(1).copied()
    }
}

/// The next thing to do for a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make a pair that will be the successor of the successor: a take-over without a spare would leave only one key.
    MakeSpare,
    /// The secret in use gets a name that nothing takes for a key: from here on a CMA that starts uses the successor.
    SetSecretAside(u32),
    /// A CMA that runs is told to use this key.
    Switch(u32),
    WipeSecret(u32),
    /// The public key is kept as a record only.
    RetirePublic(u32),
    /// The rotation is no longer under way.
    End,
}

/// What is next; `None` when no rotation is under way. `is_switched`: a running CMA uses the new key, or none runs.
pub fn next_step(standing: &Standing, is_switched: bool) -> Option<Step> {
    let Rotation { from, to } = standing.rotation?;
    let has = |keys: &[(u32, PublicKey)], number: u32| keys.iter().any(|(known, _)| *known == number);
    let step = if !standing.publics.iter().any(|(number, _)| *number > to) {
        Step::MakeSpare
    } else if standing.secrets.contains(&from) {
        Step::SetSecretAside(from)
    } else if !is_switched {
        Step::Switch(to)
    } else if standing.aside.contains(&from) {
        Step::WipeSecret(from)
    } else if has(&standing.publics, from) {
        Step::RetirePublic(from)
    } else {
        Step::End
    };
    Some(step)
}

impl KeyDirectory {
    /// What is here. Key files that are damaged are errors.
    pub fn cma_standing(&self) -> Result<Standing, KeyError> {
        let numbers = |ids: Vec<KeyId>| ids.iter().filter_map(KeyId::cma_number).collect::<Vec<_>>();
        let mut publics = Vec::new();
        for id in self.ids(PUBLIC_SUFFIX)? {
            if let Some(number) = id.cma_number() {
                publics.push((number, self.public(&id)?));
            }
        }
        let retired = self.cma_retired()?;
        let retired = retired.into_iter().filter_map(|(id, key)| Some((id.cma_number()?, key))).collect();
        let names = self.files.names()?;
        let aside = names.iter().filter_map(|name| {
            KeyId::new(name.strip_prefix('.')?.strip_suffix(ASIDE_SUFFIX)?).ok()?.cma_number()
        });
        Ok(Standing {
            publics,
            secrets: numbers(self.ids(SECRET_SUFFIX)?),
            retired,
            aside: aside.collect(),
            rotation: self.rotation()?,
        })
    }

    /// Public keys that were retired here, by number.
    pub fn cma_retired(&self) -> Result<Vec<(KeyId, PublicKey)>, KeyError> {
        let mut found = Vec::new();
        for id in self.retired_ids()? {
            if let Some(bytes) = self.files.read::<32>(&id.retired_file(), Access::Public)? {
                found.push((id, PublicKey(*bytes)));
            }
        }
        Ok(found)
    }

    /// When the secret of this number, or else its public key, was written; seconds since 1970.
    pub fn made_at(&self, number: u32) -> Option<i64> {
        let id = KeyId::cma(number)?;
        self.files
            .modified(&id.secret_file())
            .or_else(|| self.files.modified(&id.public_file()))
            .or_else(|| self.files.modified(&id.retired_file()))
    }

    /// When a key was retired last, in seconds since 1970; a copy of the directory makes it later, never earlier.
    pub fn last_retired_at(&self) -> Option<i64> {
        let ids = self.retired_ids().ok()?;
        ids.iter().filter_map(|id| self.files.changed(&id.retired_file())).max()
    }

    /// Whether the secret of this id is here and fits its public key.
    ///
    /// # Errors
    /// What is wrong with one that is here.
    pub fn holds_pair(&self, number: u32) -> Result<bool, KeyError> {
        KeyId::cma(number).map_or(Ok(false), |id| Ok(self.pair(&id)?.is_some()))
    }

    /// Notes that a rotation begins.
    pub fn begin_rotation(&self, rotation: Rotation) -> Result<(), KeyError> {
        let text = format!("{:05} {:05}\n", rotation.from, rotation.to);
        self.files.replace(JOURNAL, Access::Public, text.as_bytes())
    }

    /// Does one step; what concerns a running CMA is the caller's business. Returns a pair that was made.
    pub fn take_step(&self, step: Step) -> Result<Option<KeyId>, KeyError> {
        let id = |number| {
            KeyId::cma(number).ok_or_else(|| KeyError::NumbersUsedUp { path: self.path().to_owned() })
        };
        match step {
            Step::MakeSpare => {
                // A pair of which only the secret was written is the spare already.
                let mut made = self.mend()?;
                if made.is_empty() {
                    made = self.generate_cma()?;
                }
                return Ok(made.into_iter().rfind(|id| id.cma_number().is_some()));
            }
            Step::SetSecretAside(number) => {
                let id = id(number)?;
                self.files.set_aside(&id.secret_file(), &id.aside_file())?;
            }
            Step::Switch(_) => {}
            Step::WipeSecret(number) => self.files.wipe(&id(number)?.aside_file())?,
            Step::RetirePublic(number) => {
                let id = id(number)?;
                self.files.set_aside(&id.public_file(), &id.retired_file())?;
            }
            Step::End => self.files.remove(JOURNAL)?,
        }
        Ok(None)
    }

    pub(super) fn retired_ids(&self) -> Result<Vec<KeyId>, KeyError> {
        let mut ids = self.ids(RETIRED_SUFFIX)?;
        ids.retain(|id| id.cma_number().is_some());
        Ok(ids)
    }

    /// Whether there is a file with the secret of this id, whatever is in it.
    pub(super) fn holds_secret(&self, id: &KeyId) -> Result<bool, KeyError> {
        Ok(self.ids(SECRET_SUFFIX)?.contains(id))
    }

    fn rotation(&self) -> Result<Option<Rotation>, KeyError> {
        let Some(text) = self.files.read_text(JOURNAL, MAX_JOURNAL_BYTES)? else { return Ok(None) };
        let mut numbers = text.split_whitespace().map(str::parse::<u32>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(from)), Some(Ok(to)), None) if from < to => Ok(Some(Rotation { from, to })),
            _ => Err(KeyError::DamagedJournal { path: self.files.file(JOURNAL) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::{Path, PathBuf};

    fn fresh(home: &Path) -> KeyDirectory {
        let keys = KeyDirectory::open_or_create(home.join("crypto.d")).unwrap();
        keys.generate_cma().unwrap();
        keys
    }

    fn names(keys: &KeyDirectory) -> Vec<String> {
        keys.files.names().unwrap()
    }

    /// Goes on to the end, as a CMA that does what it is told; returns the steps.
    fn complete(keys: &KeyDirectory) -> Vec<Step> {
        let (mut steps, mut is_switched) = (Vec::new(), false);
        while let Some(step) = next_step(&keys.cma_standing().unwrap(), is_switched) {
            is_switched |= matches!(step, Step::Switch(_));
            keys.take_step(step).unwrap();
            steps.push(step);
            assert!(steps.len() < 20, "{steps:?}");
        }
        steps
    }

    #[test]
    fn when_a_key_was_retired_is_known_without_a_cma() {
        let home = tempfile::tempdir().unwrap();
        let keys = fresh(home.path());
        assert_eq!(keys.last_retired_at(), None);
        complete(&keys);
        assert!(
            keys.last_retired_at() >= keys.made_at(2),
            "{:?} {:?}",
            keys.last_retired_at(),
            keys.made_at(0)
        );
    }

    const ROTATED: [&str; 6] = [
        "#CMA#00000.retired",
        "#CMA#00001.pub",
        "#CMA#00001.secret",
        "#CMA#00002.pub",
        "#CMA#00002.secret",
        "",
    ];

    #[test]
    fn a_rotation_leaves_the_new_key_a_spare_and_a_record_of_the_old() {
        let home = tempfile::tempdir().unwrap();
        let keys = fresh(home.path());
        let (old, _) = keys.cma_pair().unwrap();
        keys.begin_rotation(Rotation { from: 0, to: 1 }).unwrap();
        let steps = complete(&keys);
        assert_eq!(
            steps,
            [
                Step::MakeSpare,
                Step::SetSecretAside(0),
                Step::Switch(1),
                Step::WipeSecret(0),
                Step::RetirePublic(0),
                Step::End
            ]
        );
        assert_eq!(names(&keys), ROTATED[..5]);
        assert_eq!(keys.cma_pair().unwrap().0.as_str(), "#CMA#00001");
        let standing = keys.cma_standing().unwrap();
        assert_eq!(standing.retired[0].0, old.cma_number().unwrap());
        assert_eq!(standing.successor().map(|(number, _)| number), Some(2));
        assert_eq!(next_step(&standing, false), None, "a finished rotation does not begin another");
        // The number of a retired key is never used again, also when all others are gone.
        for name in &ROTATED[1..5] {
            fs::remove_file(keys.path().join(name)).unwrap();
        }
        assert_eq!(keys.generate_cma().unwrap()[0].as_str(), "#CMA#00001");
    }

    #[test]
    fn the_secret_of_a_retired_key_that_comes_back_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let keys = fresh(home.path());
        let old = copy(keys.path(), home.path().join("backup"));
        keys.begin_rotation(Rotation { from: 0, to: 1 }).unwrap();
        complete(&keys);
        let back = |name: &str| fs::copy(old.path().join(name), keys.path().join(name)).unwrap();
        back("#CMA#00000.pub");
        back("#CMA#00000.secret");
        let standing = keys.cma_standing().unwrap();
        assert_eq!((standing.secrets.as_slice(), standing.in_use()), (&[0, 1, 2][..], Some(1)));
        assert_eq!(standing.trusted().first().map(|(number, _)| *number), Some(1));
        assert_eq!(keys.cma_pair().unwrap().0.as_str(), "#CMA#00001");
        // Better than none: the CMA runs, and can say what is wrong.
        for name in ["#CMA#00001.secret", "#CMA#00002.secret"] {
            fs::remove_file(keys.path().join(name)).unwrap();
        }
        assert_eq!(keys.cma_pair().unwrap().0.as_str(), "#CMA#00000");
        assert_eq!(keys.cma_standing().unwrap().in_use(), Some(0));
    }

    fn copy(from: &Path, to: PathBuf) -> KeyDirectory {
        let copied = KeyDirectory::open_or_create(&to).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        copied
    }

    #[test]
    fn a_rotation_that_is_cut_off_between_any_two_steps_is_resumed() {
        let home = tempfile::tempdir().unwrap();
        let keys = fresh(home.path());
        let publics = keys.cma_publics().unwrap();
        keys.begin_rotation(Rotation { from: 0, to: 1 }).unwrap();
        let mut is_switched = false;
        let mut number = 0;
        while let Some(step) = next_step(&keys.cma_standing().unwrap(), is_switched) {
            keys.take_step(step).unwrap();
            is_switched |= matches!(step, Step::Switch(_));
            number += 1;
            let cut = copy(keys.path(), home.path().join(format!("cut-{number}")));
            // A CMA that starts here has a key that hosts trust, and a spare for them.
            let (id, pair) = cut.cma_pair().unwrap();
            assert!(publics.contains(&(id.clone(), pair.public())), "after {step:?}: {id}");
            assert!(cut.check().unwrap().is_empty(), "after {step:?}");
            assert!(cut.cma_standing().unwrap().trusted().len() >= 2, "after {step:?}");
            complete(&cut);
            assert_eq!(names(&cut), ROTATED[..5], "after {step:?}");
        }
        assert_eq!(number, 6);
    }

    #[test]
    fn a_spare_of_which_only_the_secret_was_written_is_not_made_twice() {
        let home = tempfile::tempdir().unwrap();
        let keys = fresh(home.path());
        keys.begin_rotation(Rotation { from: 0, to: 1 }).unwrap();
        keys.take_step(Step::MakeSpare).unwrap();
        fs::remove_file(keys.path().join("#CMA#00002.pub")).unwrap();
        complete(&keys);
        assert_eq!(names(&keys), ROTATED[..5]);
    }

    #[test]
    fn a_secret_that_was_wiped_in_part_is_still_no_key() {
        let home = tempfile::tempdir().unwrap();
        let keys = fresh(home.path());
        keys.begin_rotation(Rotation { from: 0, to: 1 }).unwrap();
        for step in [Step::MakeSpare, Step::SetSecretAside(0)] {
            keys.take_step(step).unwrap();
        }
        // Killed within the overwriting.
        let aside = keys.path().join(".#CMA#00000.aside");
        let mut bytes = fs::read(&aside).unwrap();
        bytes[..16].fill(0);
        fs::write(&aside, bytes).unwrap();
        complete(&keys);
        assert_eq!(names(&keys), ROTATED[..5]);
    }

    #[test]
    fn a_journal_that_is_none_is_told() {
        let home = tempfile::tempdir().unwrap();
        let keys = fresh(home.path());
        for text in ["", "0", "1 0", "0 1 2", "a b", "\u{fffd}"] {
            fs::write(keys.path().join(JOURNAL), text).unwrap();
            let error = keys.cma_standing().unwrap_err().to_string();
            assert!(error.contains("rotation") && error.contains("rm "), "{text:?}: {error}");
        }
    }
}
