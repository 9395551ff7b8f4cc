//! Putting what a backup holds into its places. Killed at any point, every file is the old or the new one, whole, and doing it
//! again comes to the same end.

use super::archive::{self, Entry, Manifest};
use super::parts::{self, DATABASE};
use super::retired::Retired;
use super::{Progress, directory_of, need_room, scratch, temporary_directory};
use crate::Failure;
use daemon::privileges::{Identity, find_user};
use model::Timestamp;
use model::paths::SitePaths;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use store::sqlite;
use tempfile::TempDir;

/// The user that the CMA runs as (contract §1).
const CMA_USER: &str = "assimilation";
/// Largest configuration that is unpacked, in bytes.
const MAX_FILES_BYTES: u64 = 512 * 1024 * 1024;

/// A backup that was read and found whole: the database lies staged, the rest in a temporary directory.
pub struct Unpacked {
    /// `None` for a bare database.
    pub manifest: Option<Manifest>,
    pub schema: i64,
    pub database_bytes: u64,
    files: Vec<(Entry, PathBuf)>,
    _directory: TempDir,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was missing and is there now.
    Made,
    /// It was there with another content; that one was kept under another name.
    Replaced,
    /// It is there with this content.
    Same,
    /// It is there with another content and was left alone.
    Differs,
    /// It is of a key that was retired since, and was not brought back.
    Retired,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Made => "restored",
            Self::Replaced => "replaced",
            Self::Same => "same",
            Self::Differs => "left alone",
            Self::Retired => "retired, left out",
        }
    }
}

/// Reads and verifies `file`, and stages its database beside `database` (in its own name: [`sqlite::staged`]).
///
/// # Errors
/// The backup is damaged or of a newer version, or there is no room; nothing stays staged.
pub fn unpack(file: &Path, database: &Path) -> Result<Unpacked, Failure> {
    let state = directory_of(database);
    make_directory(state, 0o755, None)?;
    let unfinished = suffixed(database, ".restoring");
    for suffix in ["", "-journal", "-wal", "-shm"] {
        archive::remove(&suffixed(&unfinished, suffix));
    }
    let unpacked = unpack_to(file, &unfinished);
    match &unpacked {
        Ok(_) => {
            let staged = sqlite::staged(database);
            let settle = || -> io::Result<()> {
                if let Some(owner) = owner(database) {
                    chown(&unfinished, Some(owner.uid), Some(owner.gid))?;
                }
                File::open(&unfinished)?.sync_all()?;
                fs::rename(&unfinished, &staged)?;
                archive::sync_directory(&staged)
            };
            settle().map_err(|error| unwritable(&staged, &error))?;
        }
        Err(_) => archive::remove(&unfinished),
    }
    unpacked
}

/// Reads and verifies `file` with its database, and keeps nothing.
///
/// # Errors
/// The backup is damaged or of a newer version, or there is no room for its database under TMPDIR.
pub fn verify(file: &Path) -> Result<Unpacked, Failure> {
    let directory = temporary()?;
    unpack_to(file, &directory.path().join("cma.sqlite"))
}

fn unpack_to(file: &Path, database: &Path) -> Result<Unpacked, Failure> {
    let directory = temporary()?;
    let mut files = Vec::new();
    let manifest = if archive::is_database(file)? {
        let mut progress = Progress::new("copying the database");
        need_room(directory_of(database), file.metadata().map(|file| file.len()).unwrap_or(0))?;
        sqlite::copy(file, database, &mut |done, all| progress.at(done, all))
            .map_err(|error| Failure::new(error.to_string()))?;
        None
    } else {
        Some(read(file, database, directory.path(), &mut files)?)
    };
    let identity = sqlite::verify(database).map_err(|error| Failure::new(error.to_string()))?;
    if let Some(manifest) = &manifest
        && manifest.schema != identity.schema
    {
        return Err(Failure::new(format!(
            "{} says that its tables are of version {}, and they are of version {}",
            file.display(),
            manifest.schema,
            identity.schema
        )));
    }
    let (schema, database_bytes) = (identity.schema, identity.bytes);
    Ok(Unpacked { manifest, schema, database_bytes, files, _directory: directory })
}

fn read(
    file: &Path,
    database: &Path,
    directory: &Path,
    files: &mut Vec<(Entry, PathBuf)>,
) -> Result<Manifest, Failure> {
    let mut progress = Progress::new("reading the backup");
    let (mut done, mut files_bytes) = (0u64, 0u64);
    // Known as soon as the manifest is read.
    let all = std::cell::Cell::new(1);
    let mut tick = |piece: u64| {
        done = done.saturating_add(piece);
        progress.at(done, all.get());
    };
    archive::read(file, &mut tick, &mut |manifest, entry| {
        all.set(manifest.bytes());
        if entry.name == DATABASE {
            need_room(directory_of(database), entry.bytes)?;
            return created(database);
        }
        files_bytes = files_bytes.saturating_add(entry.bytes);
        if files_bytes > MAX_FILES_BYTES {
            return Err(Failure::new(format!("{} holds more than a configuration can be", file.display())));
        }
        let path = directory.join(files.len().to_string());
        let target = created(&path)?;
        files.push((entry.clone(), path));
        Ok(target)
    })
}

fn created(path: &Path) -> Result<Box<dyn Write>, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    Ok(Box::new(file.map_err(|error| unwritable(path, &error))?))
}

impl Unpacked {
    /// Puts configuration and keys into their places: missing ones always, others only with `replace`, and what was there is
    /// kept with `.before-restore-` and the time in its name. Keys of the CMA that are retired here stay away in any case.
    ///
    /// # Errors
    /// A file cannot be read or written; those before it are in their places.
    pub fn place_files(
        &self,
        site: &SitePaths,
        database: &Path,
        replace: bool,
        now: Timestamp,
    ) -> Result<Vec<(PathBuf, Outcome)>, Failure> {
        let owner = owner(database);
        // Before the first is put there, which might look like the key in use.
        let retired = Retired::of(&site.crypto());
        let mut outcomes = Vec::new();
        for (entry, unpacked) in &self.files {
            let Some(place) = parts::place(site, &entry.name) else { continue };
            let text = fs::read(unpacked).map_err(|error| unwritable(unpacked, &error))?;
            // A nanoprobe's secret is root's, like the settings.
            let is_roots = entry.name.starts_with("etc/") || parts::is_nanoprobe_secret(&entry.name);
            let owner = owner.filter(|_| !is_roots);
            let outcome = match fs::read(&place) {
                Ok(there) if there == text => Outcome::Same,
                _ if retired.concerns(&entry.name, &text) => Outcome::Retired,
                Ok(_) if !replace => Outcome::Differs,
                Ok(_) => {
                    let kept = suffixed(&place, &format!(".before-restore-{}", now.0 / 1_000_000));
                    fs::hard_link(&place, &kept).map_err(|error| unwritable(&kept, &error))?;
                    put(&place, &text, entry.mode, owner)?;
                    Outcome::Replaced
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let mode = if entry.name.starts_with("etc/") { 0o755 } else { 0o700 };
                    make_directory(directory_of(&place), mode, owner)?;
                    put(&place, &text, entry.mode, owner)?;
                    Outcome::Made
                }
                Err(error) => return Err(unwritable(&place, &error)),
            };
            outcomes.push((place, outcome));
        }
        Ok(outcomes)
    }
}

/// One file, whole or not at all.
fn put(place: &Path, text: &[u8], mode: u32, owner: Option<Identity>) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory_of(place))?;
        file.write_all(text)?;
        // Never with the bits that lend somebody's rights.
        file.as_file().set_permissions(Permissions::from_mode(mode & 0o777))?;
        if let Some(owner) = owner {
            std::os::unix::fs::fchown(file.as_file(), Some(owner.uid), Some(owner.gid))?;
        }
        file.as_file().sync_all()?;
        file.persist(place).map_err(|error| error.error)?;
        archive::sync_directory(place)
    };
    write().map_err(|error| unwritable(place, &error))
}

fn make_directory(path: &Path, mode: u32, owner: Option<Identity>) -> Result<(), Failure> {
    if path.is_dir() {
        return Ok(());
    }
    let make = || -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        DirBuilder::new().mode(mode).create(path)?;
        match owner {
            Some(owner) => chown(path, Some(owner.uid), Some(owner.gid)),
            None => Ok(()),
        }
    };
    make().map_err(|error| unwritable(path, &error))
}

/// Whom files of the CMA belong to: as root whoever owns its database, or the account that it will run as.
fn owner(database: &Path) -> Option<Identity> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    if let Ok(there) = fs::metadata(database) {
        return Some(Identity { uid: there.uid(), gid: there.gid() });
    }
    find_user(&fs::read_to_string("/etc/passwd").unwrap_or_default(), CMA_USER)
}

fn temporary() -> Result<TempDir, Failure> {
    let place = temporary_directory();
    scratch(&place).map_err(|error| unwritable(&place, &error))
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    name.into()
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(format!("{}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            failure.hint("Do this as root or as the user that the CMA runs as.")
        }
        io::ErrorKind::StorageFull => failure.hint("Make room there and do it again."),
        _ => failure,
    }
}
