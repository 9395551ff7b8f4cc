//! The default store: one SQLite file in WAL mode with `synchronous = FULL`, so that what was acknowledged
//! survives a kill and a power cut.
//!
//! In reading order: [`open`](SqliteStore::open) and its refusals, `schema` (tables and migrations), `views` (what
//! people query), `transaction` (documents, results, events), `graph` (nodes and edges), `claims` (who says what of a node),
//! `migration` (from one version of the tables to the next, after a copy), `copy` (backups, restoring), `names` (reverse DNS), `enrolment` (tags, tokens, keys that wait), `groups`, `host_keys` (which CMA keys hosts trust), `reader`, `walk` (the graph step by step), `sql` (queries typed by people, bounded), `functions`
//! and `address` (what SQL can call).

mod address;
mod claims;
mod copy;
mod enrolment;
pub(crate) mod functions;
mod graph;
mod groups;
mod host_keys;
mod migration;
mod names;
mod open;
mod reader;
mod rows;
mod schema;
mod sql;
mod transaction;
mod views;
mod walk;

use crate::{Reader, Result, Store, StoreError, Transaction};
use migration::never;
use rusqlite::{Connection, ErrorCode, ffi};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub use address::{Vendors, set_vendors};
pub use copy::{Identity, RESTORED, aside, copy, identify, replace, staged, undo, verify};
pub use migration::{Stop, copies};
pub use schema::SCHEMA_VERSION;
pub use sql::columns_of;
pub use views::{View, documentation, documentation_text};

/// A database file with its one writing connection.
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    /// Keeps the directory of a temporary database until the store is dropped.
    temporary: Option<TempDir>,
}

impl SqliteStore {
    /// Opens the database at `path`, creating it with mode 0600 when there is none (its directory must exist).
    /// `:memory:` gives a temporary database that disappears with the store.
    ///
    /// # Errors
    /// [`StoreError::TooNew`] for a newer schema, [`StoreError::Corrupt`] for a damaged file, [`StoreError::Foreign`]
    /// for one that is not ours, [`StoreError::Open`] and [`StoreError::Unwritable`] with the path and what to do for everything else.
    pub fn open(path: &Path) -> Result<SqliteStore> {
        Self::open_until(path, &never())
    }

    /// As [`SqliteStore::open`], but gives up soon after `stop` says so while tables are changed or copied, which may take minutes.
    ///
    /// # Errors
    /// [`StoreError::Stopped`], and then the database is as it was. A copy that was complete stays until the next try.
    pub fn open_until(path: &Path, stop: &Stop) -> Result<SqliteStore> {
        if path == Path::new(":memory:") {
            let directory = TempDir::with_prefix("assimilation-store-").map_err(|e| StoreError::Open {
                path: ":memory:".into(),
                reason: format!("no temporary directory: {e}"),
            })?;
            let path = directory.path().join("store.sqlite");
            let connection = open::writer(&path, stop)?;
            return Ok(SqliteStore { connection, path, temporary: Some(directory) });
        }
        Ok(SqliteStore { connection: open::writer(path, stop)?, path: path.to_owned(), temporary: None })
    }

    /// Removes the database at `path` with its journal files, for `--erasedb`. No database there is no error.
    pub fn erase(path: &Path) -> Result<()> {
        open::erase(path)
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When this database was put in the place of another one, by [`replace`].
    pub fn restored(&self) -> Result<Option<model::Timestamp>> {
        copy::restored(&self.connection)
    }

    /// Whether the database goes away with this value.
    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Reads every page and index and compares them; takes seconds for a gigabyte.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with the first thing found.
    pub fn check(&self) -> Result<()> {
        let answer: String =
            self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failure)?;
        if answer == "ok" { Ok(()) } else { Err(StoreError::Corrupt(answer)) }
    }

    /// Keeps the file from growing above `bytes`, as a full disk would: writes then give `Unwritable`.
    pub fn limit_size(&mut self, bytes: u64) -> Result<()> {
        let page_bytes: i64 =
            self.connection.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(failure)?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page_bytes.max(1);
        self.connection
            .query_row(
                &format!("PRAGMA max_page_count = {}", pages.clamp(1, i64::from(u32::MAX) - 2)),
                [],
                |_| Ok(()),
            )
            .map_err(failure)
    }
}

impl Store for SqliteStore {
    fn begin(&mut self) -> Result<Box<dyn Transaction + '_>> {
        Ok(Box::new(transaction::SqliteTransaction::begin(&self.connection)?))
    }

    fn reader(&self) -> Result<Box<dyn Reader>> {
        Ok(Box::new(reader::SqliteReader::open(&self.path)?))
    }

    /// Refreshes the statistics of tables that have grown by much since the last time, 1000 rows of each index looked at.
    /// 0x10000 looks at all tables: the connection that writes hardly asks those that people ask.
    fn optimize(&mut self) -> Result<()> {
        self.connection
            .execute_batch("PRAGMA analysis_limit = 1000; PRAGMA optimize = 0x10002")
            .map_err(failure)
    }
}

/// Sorts SQLite's errors by what the caller can do about them.
fn failure(error: rusqlite::Error) -> StoreError {
    let text = error.to_string();
    let Some(code) = error.sqlite_error() else {
        return StoreError::Sql(text);
    };
    match code.code {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Corrupt(text),
        // A page that ends early: the file was cut.
        _ if code.extended_code == ffi::SQLITE_IOERR_SHORT_READ => StoreError::Corrupt(text),
        ErrorCode::DiskFull => StoreError::Unwritable(
            "the disk (or the size allowed for the database) is full; make room".into(),
        ),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => StoreError::Unwritable(format!(
            "{text}; the file and its directory must be writable for this user"
        )),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreError::Unwritable(format!(
            "{text}: another process is writing to it; only one CMA may use a database"
        )),
        ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::OutOfMemory => {
            StoreError::Unwritable(text)
        }
        ErrorCode::OperationInterrupted => StoreError::Limit("an interruption".into()),
        _ => StoreError::Sql(text),
    }
}
