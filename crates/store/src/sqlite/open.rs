//! Opening and erasing the file, and telling what is wrong with it.

use super::migration::{self, Stop};
use super::{failure, functions, schema};
use crate::{Result, StoreError};
use model::Timestamp;
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to wait for a lock: checkpoints are short, a second writer is a mistake.
const BUSY: Duration = Duration::from_secs(5);
/// Distinct statements of one transaction, so that none is prepared twice.
const STATEMENT_CACHE: usize = 96;
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The writing connection, with the schema as this program knows it.
pub fn writer(path: &Path, stop: &Stop) -> Result<Connection> {
    let path = absolute(path)?;
    create(&path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&path, flags).map_err(|e| opening(&path, e))?;
    connection.busy_timeout(BUSY).map_err(failure)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    schema::refuse_strangers(&connection, &path).map_err(|e| with_path(&path, e))?;
    settle(&connection).map_err(|e| opening(&path, e))?;
    functions::register(&connection).map_err(failure)?;
    migration::run(&mut connection, &path, Timestamp::now(), stop).map_err(|e| with_path(&path, e))?;
    Ok(connection)
}

/// A connection that can never write.
pub fn reader(path: &Path) -> Result<Connection> {
    let path = absolute(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(|e| opening(&path, e))?;
    connection.busy_timeout(BUSY).map_err(failure)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    connection
        .execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -8192")
        .map_err(|e| opening(&path, e))?;
    functions::register(&connection).map_err(failure)?;
    schema::refuse_strangers(&connection, &path).map_err(|e| with_path(&path, e))?;
    Ok(connection)
}

/// Removes the database and what SQLite keeps beside it.
pub fn erase(path: &Path) -> Result<()> {
    let path = absolute(path)?;
    for suffix in ["-wal", "-shm", "-journal", ""] {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        match fs::remove_file(PathBuf::from(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Unwritable(format!("{} cannot be removed: {e}", path.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Durability, and limits on what the journal may keep on disk.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    // WAL survives in the file; changing the mode answers with the mode in force.
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::InvalidParameterName(format!(
            "the file system allows no WAL journal ({mode})"
        )));
    }
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;
         PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY;
         PRAGMA cell_size_check = ON",
    )
}

/// Relative names and names like `file:x` must mean a file of that name, never an SQLite URI.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|e| StoreError::Open { path: path.display().to_string(), reason: e.to_string() })
}

/// Makes an empty private file when there is none; refuses what cannot be a database.
fn create(path: &Path) -> Result<()> {
    let refused = |reason: String| StoreError::Open { path: path.display().to_string(), reason };
    match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(refused(hint(path, &e))),
    }
    refuse_odd(path)
}

/// Refuses what cannot be a database, before SQLite sees it.
pub(super) fn refuse_odd(path: &Path) -> Result<()> {
    let refused = |reason: String| StoreError::Open { path: path.display().to_string(), reason };
    let kind = fs::metadata(path).map_err(|e| refused(hint(path, &e)))?;
    if !kind.is_file() {
        return Err(refused("it is not a regular file; give the name of a file".into()));
    }
    let mut file = OpenOptions::new().read(true).open(path).map_err(|e| refused(hint(path, &e)))?;
    let mut start = [0; 16];
    let complete = match file.read_exact(&mut start) {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(e) => return Err(refused(hint(path, &e))),
    };
    if kind.len() > 0 && (!complete || &start != SQLITE_MAGIC) {
        return Err(StoreError::Foreign { path: path.display().to_string(), what: "no SQLite database" });
    }
    Ok(())
}

fn hint(path: &Path, error: &io::Error) -> String {
    let directory = path.parent().unwrap_or(Path::new("/")).display();
    let what_to_do = match error.kind() {
        io::ErrorKind::NotFound => format!("the directory {directory} must exist: create it"),
        io::ErrorKind::PermissionDenied => format!("make {directory} and the file writable for this user"),
        io::ErrorKind::ReadOnlyFilesystem => {
            format!(
                "{directory} is on a read-only file system: mount it writable, or use --store for another place"
            )
        }
        io::ErrorKind::StorageFull => format!("no room in {directory}: make room"),
        io::ErrorKind::NotADirectory => format!("{directory} is not a directory"),
        _ => return error.to_string(),
    };
    format!("{error}; {what_to_do}")
}

/// Opening errors carry the path, except damage, which is reported as such.
pub(super) fn opening(path: &Path, error: rusqlite::Error) -> StoreError {
    with_path(path, failure(error))
}

fn with_path(path: &Path, error: StoreError) -> StoreError {
    let name = path.display().to_string();
    match error {
        StoreError::Corrupt(text) if !text.contains(&name) => StoreError::Corrupt(format!("{name}: {text}")),
        StoreError::Unwritable(text) => StoreError::Unwritable(format!("{name}: {text}")),
        StoreError::Sql(reason) => StoreError::Open { path: name, reason },
        other => other,
    }
}
