//! Whole databases: a consistent copy while others write, a look whether a copy is sound, and putting one in the place of
//! another.
//!
//! A copy is one file (no journal beside it), private, and on the disk when the call returns.

use super::migration::{self, Stop};
use super::{failure, open, schema};
use crate::{Result, StoreError};
use model::Timestamp;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Pages of one step; between steps progress is told.
const STEP_PAGES: i32 = 1024;
/// How long to wait for whoever holds the database.
const BUSY: Duration = Duration::from_secs(5);
/// Setting of a database that [`replace`] put in the place of another: when that was, RFC 3339.
pub const RESTORED: &str = "store.restored";
/// What SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What a database says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Version of its tables, 0 for one without tables.
    pub schema: i64,
    /// Size of its pages together, in bytes.
    pub bytes: u64,
}

/// Copies the database at `source` to the new file `target`, as it is at this moment: writers go on meanwhile, and what they
/// commit is not in the copy. `progress` is told bytes done and bytes in all.
///
/// While it runs the write-ahead log of the source cannot start over, so it grows by what is written meanwhile.
///
/// # Errors
/// As [`super::SqliteStore::open`]; the file `target` exists already or cannot be written. Nothing stays at `target` then.
pub fn copy(source: &Path, target: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Identity> {
    let from = connect(source, false)?;
    copy_from(&from, source, target, progress, &migration::never())
}

/// As [`copy`], over a connection that is open already and in no transaction, and only until `stop` says otherwise
/// ([`StoreError::Stopped`]).
pub(super) fn copy_from(
    from: &Connection,
    source: &Path,
    target: &Path,
    progress: &mut dyn FnMut(u64, u64),
    stop: &Stop,
) -> Result<Identity> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
        .map_err(|error| unwritable(target, &error))?;
    let mut progress = |done, all| {
        progress(done, all);
        if stop() { Err(StoreError::Stopped { path: source.display().to_string() }) } else { Ok(()) }
    };
    let copied = copy_into(from, source, target, &mut progress);
    if copied.is_err() {
        let _ = fs::remove_file(target);
    }
    copied
}

fn copy_into(
    from: &Connection,
    source: &Path,
    target: &Path,
    progress: &mut dyn FnMut(u64, u64) -> Result<()>,
) -> Result<Identity> {
    schema::identify(from, source)?;
    // The copy sees this one snapshot; without the transaction every commit of somebody else would start it over.
    from.execute_batch("BEGIN").map_err(failure)?;
    let result = (|| {
        let identity = schema::identify(from, source)?;
        let mut to = connect(target, true)?;
        // Synced as a whole below; nobody reads it before.
        to.execute_batch("PRAGMA synchronous = OFF").map_err(failure)?;
        run_steps(&Backup::new(from, &mut to).map_err(failure)?, identity.bytes, progress)?;
        single_file(&to, target)?;
        to.close().map_err(|(_, error)| failure(error))?;
        File::open(target).and_then(|file| file.sync_all()).map_err(|error| unwritable(target, &error))?;
        sync_directory(target)?;
        Ok(identity)
    })();
    let ended = from.execute_batch("ROLLBACK").map_err(failure);
    result.and_then(|identity| ended.map(|()| identity))
}

fn run_steps(
    backup: &Backup<'_, '_>,
    bytes: u64,
    progress: &mut dyn FnMut(u64, u64) -> Result<()>,
) -> Result<()> {
    let mut waiting = Instant::now();
    loop {
        match backup.step(STEP_PAGES).map_err(failure)? {
            StepResult::Done => return Ok(()),
            StepResult::More => {
                let state = backup.progress();
                let (all, left) = (whole(state.pagecount), whole(state.remaining));
                progress(bytes.saturating_mul(all - left.min(all)) / all.max(1), bytes)?;
                waiting = Instant::now();
            }
            _ if waiting.elapsed() > BUSY => {
                return Err(StoreError::Unwritable("another process keeps the database locked".into()));
            }
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn whole(pages: i32) -> u64 {
    u64::try_from(pages).unwrap_or(0)
}

/// Reads every page of a database that nobody writes, and says what it is.
///
/// # Errors
/// [`StoreError::Corrupt`] with the first thing found, [`StoreError::Foreign`], [`StoreError::TooNew`].
pub fn verify(path: &Path) -> Result<Identity> {
    let connection = connect(path, false)?;
    schema::refuse_strangers(&connection, path)?;
    let identity = schema::identify(&connection, path)?;
    let answer: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failure)?;
    if answer != "ok" {
        return Err(StoreError::Corrupt(format!("{}: {answer}", path.display())));
    }
    Ok(identity)
}

/// What a database says of itself, without reading all of it.
///
/// # Errors
/// As [`verify`], as far as the first page tells.
pub fn identify(path: &Path) -> Result<Identity> {
    let connection = connect(path, false)?;
    schema::refuse_strangers(&connection, path)?;
    schema::identify(&connection, path)
}

/// Where the database lies that a running CMA is asked to take over.
pub fn staged(path: &Path) -> PathBuf {
    beside(path, ".restore")
}

/// Where [`replace`] keeps the database that was there before.
pub fn aside(path: &Path, now: Timestamp) -> PathBuf {
    // To the microsecond: two restores of one second must not have one name.
    let time: String = now.to_utc_text().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    beside(path, &format!(".before-restore-{time}"))
}

/// Puts the database `staged` (of the same directory, in one file) in the place of the one at `path`, which stays under the name
/// that [`aside`] gives, if there is one. No other process may use either. Killed at any point, `path` is wholly the old or
/// wholly the new one.
///
/// Alerts that wait in `staged` and that the old one knows to be delivered since are not delivered again. The time of the
/// replacement is noted in `staged`, see [`restored`].
///
/// # Errors
/// Somebody uses the old database, or a file cannot be written: the old one is still in its place.
pub fn replace(path: &Path, staged: &Path, now: Timestamp) -> Result<Option<PathBuf>> {
    let old = match fs::symlink_metadata(path) {
        Ok(_) => Some(aside(path, now)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(unwritable(path, &error)),
    };
    let mut damaged = false;
    if old.is_some() {
        match retire(path) {
            Ok(()) => {}
            // A damaged database is a reason to restore. It has nothing more to tell.
            Err(StoreError::Corrupt(_) | StoreError::Foreign { .. }) => damaged = true,
            Err(error) => return Err(error),
        }
    }
    prepare(staged, old.as_ref().filter(|_| !damaged).map(|_| path), now)?;
    if let Some(old) = &old {
        match fs::hard_link(path, old) {
            // Interrupted here, and tried again with the same time.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_same_file(path, old) => {}
            linked => linked.map_err(|error| unwritable(old, &error))?,
        }
        // A journal of the old database would be played into the new one.
        for companion in COMPANIONS {
            let journal = beside(path, companion);
            if journal.exists() {
                fs::rename(&journal, beside(old, companion)).map_err(|error| unwritable(&journal, &error))?;
            }
        }
    }
    sync_directory(path)?;
    fs::rename(staged, path).map_err(|error| unwritable(path, &error))?;
    sync_directory(path)?;
    Ok(old)
}

/// Takes a [`replace`] back: the database `old` comes to `path` again, in one step. What was there is gone; it came from a backup.
///
/// # Errors
/// A file cannot be written.
pub fn undo(path: &Path, old: &Path) -> Result<()> {
    for companion in COMPANIONS {
        let _ = fs::remove_file(beside(path, companion));
    }
    fs::rename(old, path).map_err(|error| unwritable(path, &error))?;
    sync_directory(path)
}

/// When the database at the end of `connection` was put in the place of another one: RFC 3339, as noted by [`replace`].
pub(super) fn restored(connection: &Connection) -> Result<Option<Timestamp>> {
    let text: Option<String> = connection
        .query_row("SELECT value FROM setting WHERE name = ?1", [RESTORED], |row| row.get(0))
        .optional()
        .map_err(failure)?;
    Ok(text.as_deref().and_then(Timestamp::parse))
}

/// Everything into the main file, so that it can be moved; refused while anybody else has the database open.
fn retire(path: &Path) -> Result<()> {
    let connection = connect(path, true)?;
    single_file(&connection, path)?;
    connection.close().map_err(|(_, error)| failure(error))
}

fn single_file(connection: &Connection, path: &Path) -> Result<()> {
    let mode: String =
        connection.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0)).map_err(failure)?;
    if mode == "delete" {
        return Ok(());
    }
    Err(StoreError::Unwritable(format!(
        "{}: another process uses it; stop the CMA and whatever else has it open",
        path.display()
    )))
}

fn prepare(staged: &Path, old: Option<&Path>, now: Timestamp) -> Result<()> {
    let mut connection = connect(staged, true)?;
    single_file(&connection, staged)?;
    connection
        .execute(
            "INSERT INTO setting(name, value) VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET value = excluded.value",
            (RESTORED, now.to_utc_text()),
        )
        .map_err(failure)?;
    if let Some(old) = old
        && let Err(error) = forget_delivered(&mut connection, old)
    {
        tracing::warn!(%error, "alerts that waited when the backup was made may be delivered a second time");
    }
    connection.close().map_err(|(_, error)| failure(error))?;
    File::open(staged).and_then(|file| file.sync_all()).map_err(|error| unwritable(staged, &error))
}

/// Takes over what became of deliveries that were still waiting when the copy was made.
fn forget_delivered(connection: &mut Connection, old: &Path) -> rusqlite::Result<()> {
    connection.execute("ATTACH ?1 AS former", [old.to_string_lossy()])?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "INSERT OR IGNORE INTO main.delivery(sequence, channel, attempts, finished, failure)
           SELECT o.sequence, o.channel, d.attempts, d.finished, d.failure
           FROM main.outbox o JOIN main.event e ON e.sequence = o.sequence
           JOIN former.event f ON f.eventid = e.eventid
           JOIN former.delivery d ON d.sequence = f.sequence AND d.channel = o.channel;
         DELETE FROM main.outbox WHERE EXISTS
           (SELECT 1 FROM main.delivery d WHERE d.sequence = outbox.sequence AND d.channel = outbox.channel);",
    )?;
    transaction.commit()?;
    connection.execute_batch("DETACH former")
}

/// A connection to an existing file, with nothing of it read yet.
fn connect(path: &Path, writes: bool) -> Result<Connection> {
    let path = open::absolute(path)?;
    open::refuse_odd(&path)?;
    let access = if writes { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    let connection = Connection::open_with_flags(&path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| open::opening(&path, error))?;
    connection.busy_timeout(BUSY).map_err(failure)?;
    connection.execute_batch("PRAGMA trusted_schema = OFF").map_err(|error| open::opening(&path, error))?;
    Ok(connection)
}

/// `20261123T164500Z`, for names of files.
pub(super) fn file_time(now: Timestamp) -> String {
    let text = now.to_utc_text();
    let whole_seconds = text.split('.').next().unwrap_or_default();
    whole_seconds.chars().filter(char::is_ascii_alphanumeric).chain(['Z']).collect()
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    name.into()
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| fs::symlink_metadata(path).map(|file| (file.dev(), file.ino())).ok();
    file(one).is_some_and(|found| file(other) == Some(found))
}

/// Makes renamed, linked and removed names of the directory of `path` last.
pub(super) fn sync_directory(path: &Path) -> Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(directory).and_then(|file| file.sync_all()).map_err(|error| unwritable(directory, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unwritable(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_names_sort_as_times() {
        let name = |seconds: i64| file_time(Timestamp(seconds * 1_000_000));
        assert_eq!(name(0), "19700101T000000Z");
        assert!(name(1_700_000_000) < name(1_800_000_000));
        // A clock that is years off still gives a name of a file.
        for odd in [i64::MIN, -1, i64::MAX] {
            assert!(!file_time(Timestamp(odd)).contains(['/', ' ', ':']), "{}", file_time(Timestamp(odd)));
        }
    }
}
