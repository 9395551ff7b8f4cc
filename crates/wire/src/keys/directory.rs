//! The key directory of a CMA or a nanoprobe, `/usr/share/assimilation/crypto.d`.

use super::id::{KeyId, PUBLIC_SUFFIX, SECRET_SUFFIX};
use super::pair::KeyPair;
use super::store::{Access, FileStore};
use model::{Designation, PublicKey};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

/// What is wrong with keys, which file it is, and the command that mends it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("there is no key directory {path}; make it with `assimcli genkeys`, or copy the CMA's *.pub files into it and `chmod 700 {path}`", path = .path.display())]
    NoDirectory { path: PathBuf },
    #[error("key directory {path} has mode {mode:04o}: others can look into it; run `chmod 700 '{path}'`", path = .path.display())]
    OpenDirectory { path: PathBuf, mode: u32 },
    #[error("key file {path} has mode {mode:04o}: others can read or change it; if nobody did, run `chmod {wanted:o} '{path}'`", path = .path.display())]
    OpenFile { path: PathBuf, mode: u32, wanted: u32 },
    #[error("{path} belongs to user number {owner}, not to us or root; run `chown` to give it to the user that this program runs as", path = .path.display())]
    ForeignOwner { path: PathBuf, owner: u32 },
    #[error("key file {path} is no regular file (links are not followed); replace it: `cp --remove-destination \"$(readlink -f '{path}')\" '{path}'`", path = .path.display())]
    NotRegular { path: PathBuf },
    #[error("key file {path} has {bytes} bytes instead of {expected}; copy it again from its origin, or remove it: `rm '{path}'`", path = .path.display())]
    WrongLength { path: PathBuf, bytes: u64, expected: usize },
    #[error("{path} is missing though its secret is there; `assimcli genkeys` writes it again (and makes one further pair)", path = .path.display())]
    NoPublic { path: PathBuf },
    #[error("public key {path} does not belong to the secret of the same name; copy the right one, or remove both: `rm '{path}' '{secret}'`", path = .path.display(), secret = .secret.display())]
    Mismatch { path: PathBuf, secret: PathBuf },
    #[error("the name of {path} promises another key than is in it; remove it: `rm '{path}'`", path = .path.display())]
    WrongName { path: PathBuf },
    #[error("{path} is no legal key file name (letters, digits and -_.+@#, at most 128; a CMA's is #CMA# and 5 digits); remove it: `rm '{path}'`", path = .path.display())]
    IllegalName { path: PathBuf },
    #[error("there is no CMA key in {path}; run `assimcli genkeys` on the CMA's host and copy the *.pub files here", path = .path.display())]
    NoCmaKey { path: PathBuf },
    #[error("there is no CMA secret in {path}; run `assimcli genkeys`, or bring the secret back from where it is kept off-line", path = .path.display())]
    NoCmaSecret { path: PathBuf },
    #[error("all CMA key numbers up to 99999 are taken in {path}; remove old ones", path = .path.display())]
    NumbersUsedUp { path: PathBuf },
    #[error("{path} does not say which rotation of keys is under way; if none is, remove it: `rm '{path}'`", path = .path.display())]
    DamagedJournal { path: PathBuf },
    #[error("key file {path} exists already and is not replaced", path = .path.display())]
    Exists { path: PathBuf },
    #[error("the system gave no random numbers: {error}")]
    NoRandom { error: getrandom::Error },
    #[error("user number {user} may not use {path}: run this with sudo; a daemon whose key directory has the wrong owner needs a `chown` of it and its files to the user that the daemon runs as", path = .path.display())]
    NotAllowed { path: PathBuf, user: u32 },
    #[error("{path}: {error}", path = .path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// What became of a nanoprobe's key that was to be pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinned {
    /// The first key of this designation: now on disk.
    New(KeyId),
    /// Known already.
    Known(KeyId),
    /// Another key is pinned; nothing was changed.
    Conflict { pinned: PublicKey },
}

/// Hosts of which there was a key when the directory was listed.
#[derive(Debug, Clone)]
pub struct HostsWithKeys(HashSet<String>);

impl HostsWithKeys {
    pub fn contains(&self, designation: &Designation) -> bool {
        self.0.contains(&super::id::host_prefix(designation))
    }
}

/// An open key directory.
#[derive(Debug)]
pub struct KeyDirectory {
    pub(super) files: FileStore,
}

impl KeyDirectory {
    /// Opens an existing directory; refuses one that others can look into.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        Ok(Self { files: FileStore::open(path.as_ref())? })
    }

    /// Opens the directory, making it with mode 0700 when it is missing.
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        Ok(Self { files: FileStore::open_or_create(path.as_ref())? })
    }

    pub fn path(&self) -> &Path {
        self.files.path()
    }

    /// The CMA's public keys by number: what a nanoprobe pins. An empty list is an error.
    pub fn cma_publics(&self) -> Result<Vec<(KeyId, PublicKey)>, KeyError> {
        let mut found = Vec::new();
        for id in self.ids(PUBLIC_SUFFIX)? {
            if id.cma_number().is_some() {
                let key = self.public(&id)?;
                found.push((id, key));
            }
        }
        if found.is_empty() {
            return Err(KeyError::NoCmaKey { path: self.path().to_owned() });
        }
        Ok(found)
    }

    /// Ids of the CMA secrets that are here. More than one is worth a warning: one of them should be off-line.
    pub fn cma_secrets(&self) -> Result<Vec<KeyId>, KeyError> {
        let mut ids = self.ids(SECRET_SUFFIX)?;
        ids.retain(|id| id.cma_number().is_some());
        Ok(ids)
    }

    /// The pair that the CMA signs with: the lowest-numbered secret present, but one of a retired key only when there is no other.
    pub fn cma_pair(&self) -> Result<(KeyId, KeyPair), KeyError> {
        let none = || KeyError::NoCmaSecret { path: self.path().to_owned() };
        let (secrets, retired) = (self.cma_secrets()?, self.retired_ids()?);
        let id = secrets.iter().find(|id| !retired.contains(id)).or(secrets.first()).ok_or_else(none)?;
        let pair = self.pair(id)?.ok_or_else(none)?;
        Ok((id.clone(), pair))
    }

    /// Makes CMA pairs and returns their ids: 00000 and 00001 when there is no CMA key yet, otherwise one more.
    ///
    /// Missing public files are written first ([`Self::mend`]). Numbers are never used again while a public, secret or retired file of that number exists.
    pub fn generate_cma(&self) -> Result<Vec<KeyId>, KeyError> {
        self.mend()?;
        let mut taken: Vec<u32> = self.ids(PUBLIC_SUFFIX)?.iter().filter_map(KeyId::cma_number).collect();
        taken.extend(self.ids(SECRET_SUFFIX)?.iter().filter_map(KeyId::cma_number));
        taken.extend(self.retired_ids()?.iter().filter_map(KeyId::cma_number));
        let count = if taken.is_empty() { 2 } else { 1 };
        let mut made = Vec::new();
        for _ in 0..count {
            let next = taken.iter().max().map_or(0, |highest| highest + 1);
            let id =
                KeyId::cma(next).ok_or_else(|| KeyError::NumbersUsedUp { path: self.path().to_owned() })?;
            let pair = KeyPair::generate().map_err(|error| KeyError::NoRandom { error })?;
            self.save(&id, &pair, Access::Secret)?;
            taken.push(next);
            made.push(id);
        }
        Ok(made)
    }

    /// A nanoprobe's own pair: the one of this designation whose secret is here, or a new one.
    ///
    /// On the CMA's machine the directory belongs to the account that the CMA runs as, and the nanoprobe is root's. So is its
    /// secret: whoever captures the CMA can put another one in its place, but not carry this one away and use it when
    /// the CMA was mended. One that was given to that account is taken back.
    ///
    /// Of several (a mistake) the first by name is taken, so that every start takes the same.
    pub fn own_pair(&self, designation: &Designation) -> Result<(KeyId, KeyPair), KeyError> {
        for id in self.ids(SECRET_SUFFIX)? {
            if !id.is_of(designation) {
                continue;
            }
            match self.pair(&id) {
                Ok(Some(pair)) => {
                    self.files.keep_from_owner(&id.secret_file());
                    return Ok((id, pair));
                }
                Ok(None) => {}
                // A crash came between the two files when the pair was made.
                Err(KeyError::NoPublic { .. }) => {
                    self.mend()?;
                    if let Some(pair) = self.pair(&id)? {
                        self.files.keep_from_owner(&id.secret_file());
                        return Ok((id, pair));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let pair = KeyPair::generate().map_err(|error| KeyError::NoRandom { error })?;
        let id = KeyId::host(designation, &pair.public());
        self.save(&id, &pair, Access::OwnSecret)?;
        Ok((id, pair))
    }

    /// Pins a nanoprobe's key at its first use.
    pub fn pin(&self, designation: &Designation, key: &PublicKey) -> Result<Pinned, KeyError> {
        let pinned = self.pinned(designation)?;
        if let Some((id, _)) = pinned.iter().find(|(_, pinned)| pinned == key) {
            return Ok(Pinned::Known(id.clone()));
        }
        if let Some((_, pinned)) = pinned.into_iter().next() {
            return Ok(Pinned::Conflict { pinned });
        }
        self.pin_first(designation, key)
    }

    /// Of which hosts there are keys here, for those who pin many: [`Self::pin`] lists the directory each time.
    pub fn hosts_with_keys(&self) -> Result<HostsWithKeys, KeyError> {
        let ids = self.ids(PUBLIC_SUFFIX)?;
        let prefix = |id: &KeyId| Some(id.as_str().strip_suffix(id.fingerprint()?)?.to_owned());
        Ok(HostsWithKeys(ids.iter().filter_map(prefix).collect()))
    }

    /// Pins the key of a host that has none here, as [`Self::hosts_with_keys`] says.
    pub fn pin_first(&self, designation: &Designation, key: &PublicKey) -> Result<Pinned, KeyError> {
        let id = KeyId::host(designation, key);
        match self.files.create(&id.public_file(), Access::Public, &key.0) {
            Ok(()) | Err(KeyError::Exists { .. }) => Ok(Pinned::New(id)),
            Err(error) => Err(error),
        }
    }

    /// Public keys pinned for a designation; more than one only after a copy by hand.
    pub fn pinned(&self, designation: &Designation) -> Result<Vec<(KeyId, PublicKey)>, KeyError> {
        let mut found = Vec::new();
        for id in self.ids(PUBLIC_SUFFIX)? {
            if id.is_of(designation) {
                let key = self.public(&id)?;
                found.push((id, key));
            }
        }
        Ok(found)
    }

    /// Forgets the pinned keys of a designation, so that the next one offered is accepted. A key whose secret is
    /// here too (the CMA host's own nanoprobe) stays. Returns the ids removed.
    pub fn unpin(&self, designation: &Designation) -> Result<Vec<KeyId>, KeyError> {
        let secrets = self.ids(SECRET_SUFFIX)?;
        let mut removed = Vec::new();
        for id in self.ids(PUBLIC_SUFFIX)? {
            if id.is_of(designation) && !secrets.contains(&id) {
                self.files.remove(&id.public_file())?;
                removed.push(id);
            }
        }
        Ok(removed)
    }

    /// Writes the public file of every secret that lacks one (a crash between the two writes); returns their ids.
    pub fn mend(&self) -> Result<Vec<KeyId>, KeyError> {
        let publics = self.ids(PUBLIC_SUFFIX)?;
        let mut mended = Vec::new();
        for id in self.ids(SECRET_SUFFIX)? {
            if publics.contains(&id) {
                continue;
            }
            let seed = match self.files.read::<32>(&id.secret_file(), Access::Secret) {
                // The nanoprobe's, which completes its pair itself.
                Err(KeyError::NotAllowed { .. }) if id.fingerprint().is_some() => continue,
                other => other?,
            };
            if let Some(seed) = seed {
                let pair = KeyPair::from_seed(seed);
                self.files.create(&id.public_file(), Access::Public, &pair.public().0)?;
                mended.push(id);
            }
        }
        Ok(mended)
    }

    /// Everything that is wrong here, file by file; empty is good. Other programs' files are left alone.
    pub fn check(&self) -> Result<Vec<KeyError>, KeyError> {
        let mut problems = Vec::new();
        for name in self.files.names()? {
            let stem = name.strip_suffix(PUBLIC_SUFFIX).or_else(|| name.strip_suffix(SECRET_SUFFIX));
            let Some(stem) = stem else { continue };
            let id = match KeyId::new(stem) {
                Ok(id) if !stem.starts_with("#CMA#") || id.cma_number().is_some() => id,
                _ => {
                    problems.push(KeyError::IllegalName { path: self.files.file(&name) });
                    continue;
                }
            };
            let result = if name.ends_with(SECRET_SUFFIX) {
                match self.pair(&id) {
                    // A nanoprobe's, and root's: who else looks has nothing to say about it.
                    Err(KeyError::NotAllowed { .. }) if id.fingerprint().is_some() => Ok(()),
                    other => other.map(|_| ()),
                }
            } else {
                self.public(&id).map(|_| ())
            };
            problems.extend(result.err());
        }
        Ok(problems)
    }

    /// Ids of all files that end in `suffix`; names that are no key ids are left out (see [`Self::check`]).
    pub(super) fn ids(&self, suffix: &str) -> Result<Vec<KeyId>, KeyError> {
        let names = self.files.names()?;
        Ok(names.iter().filter_map(|name| KeyId::new(name.strip_suffix(suffix)?).ok()).collect())
    }

    pub(super) fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        let path = self.files.file(&id.public_file());
        let Some(bytes) = self.files.read::<32>(&id.public_file(), Access::Public)? else {
            return Err(KeyError::NoPublic { path });
        };
        let key = PublicKey(*bytes);
        if id.fingerprint().is_some_and(|promised| promised != key.fingerprint()) {
            return Err(KeyError::WrongName { path });
        }
        Ok(key)
    }

    pub(super) fn pair(&self, id: &KeyId) -> Result<Option<KeyPair>, KeyError> {
        let Some(seed) = self.files.read::<32>(&id.secret_file(), Access::Secret)? else { return Ok(None) };
        let pair = KeyPair::from_seed(seed);
        if self.public(id)? != pair.public() {
            return Err(KeyError::Mismatch {
                path: self.files.file(&id.public_file()),
                secret: self.files.file(&id.secret_file()),
            });
        }
        Ok(Some(pair))
    }

    /// The secret first: a crash in between leaves what [`Self::mend`] completes, not a public key nobody can use.
    fn save(&self, id: &KeyId, pair: &KeyPair, secret: Access) -> Result<(), KeyError> {
        self.files.create(&id.secret_file(), secret, pair.seed())?;
        self.files.create(&id.public_file(), Access::Public, &pair.public().0)
    }
}
