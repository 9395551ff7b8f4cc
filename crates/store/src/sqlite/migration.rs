//! A copy of the database before its tables are changed, so that the version before can be had back.
//!
//! Only a database of an older version is copied. One copy for each version is kept, and of these the newest few.

use super::{copy, failure, schema};
use crate::{Result, StoreError};
use model::Timestamp;
use rusqlite::Connection;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Says whether to give up, because the program is to end. Asked every few milliseconds, so it must not wait.
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// How many instructions of a statement (about a microsecond each at most) lie between two questions whether to stop.
const ASK_EVERY: i32 = 10_000;

/// Copies that stay, each of another version of the tables.
const KEPT: usize = 3;
/// Room beside the copy that the change itself may need, as a share of the database, and at least so much.
const SLACK_BYTES: u64 = 16 * 1024 * 1024;

/// Nobody asks to stop.
pub fn never() -> Stop {
    Arc::new(|| false)
}

/// Brings the tables up to date, after a copy was made if there is something to lose.
///
/// # Errors
/// [`StoreError::NoRoom`] before anything was done, [`StoreError::Migration`] and [`StoreError::Stopped`] with the database as it was.
pub fn run(connection: &mut Connection, path: &Path, now: Timestamp, stop: &Stop) -> Result<()> {
    let identity = schema::identify(connection, path)?;
    if identity.schema == 0 || identity.schema >= schema::SCHEMA_VERSION {
        return schema::bring_up_to_date(connection, path);
    }
    let needed = identity.bytes.saturating_mul(2).saturating_add(SLACK_BYTES);
    if let Some(free) = free_bytes(path)
        && free < needed
    {
        return Err(StoreError::NoRoom {
            path: path.display().to_string(),
            needed_mb: needed.div_ceil(1_048_576),
            free_mb: free / 1_048_576,
        });
    }
    let stopped = || StoreError::Stopped { path: path.display().to_string() };
    let kept = keep_copy(connection, path, identity.schema, now, stop)?;
    let (from, to) = (identity.schema, schema::SCHEMA_VERSION);
    tracing::warn!(from, to, copy = %kept.display(), "the tables of the database are changed; a copy of it as it was is kept");
    let ask = stop.clone();
    connection.progress_handler(ASK_EVERY, Some(move || ask())).map_err(failure)?;
    let changed = schema::bring_up_to_date(connection, path);
    connection.progress_handler(0, None::<fn() -> bool>).map_err(failure)?;
    match changed {
        Ok(()) => {
            thin_out(path);
            Ok(())
        }
        // The next start needs the copy, or makes another in its place: it is the only one of this version in any case.
        Err(_) if stop() => Err(stopped()),
        Err(error) => {
            // The database is as it was, so that the copy is one too many: with a service manager that tries again and
            // again they would fill the disk.
            let _ = fs::remove_file(&kept);
            Err(StoreError::Migration {
                path: path.display().to_string(),
                from,
                to,
                reason: error.to_string(),
            })
        }
    }
}

/// The copies of the database at `path` that were made before migrations: version of the tables and file, the newest version
/// first.
pub fn copies(path: &Path) -> Vec<(i64, PathBuf)> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let directory = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let mut found: Vec<(i64, PathBuf)> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((version_in(entry.file_name().to_str()?, name)?, entry.path())))
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

/// `cma.sqlite.v3-20261123T164500Z` is of version 3; other names are none of ours.
fn version_in(file: &str, database: &str) -> Option<i64> {
    let (version, time) = file.strip_prefix(database)?.strip_prefix(".v")?.split_once('-')?;
    let plain = time.ends_with('Z') && time.chars().all(|c| c.is_ascii_alphanumeric());
    version.parse().ok().filter(|version| *version > 0 && plain)
}

fn keep_copy(
    connection: &Connection,
    path: &Path,
    version: i64,
    now: Timestamp,
    stop: &Stop,
) -> Result<PathBuf> {
    let kept = copy::beside(path, &format!(".v{version}-{}", copy::file_time(now)));
    let unfinished = copy::beside(path, ".copying");
    let failed = |error: std::io::Error| StoreError::Unwritable(format!("{}: {error}", kept.display()));
    // What an interrupted start left.
    for companion in ["", "-journal"] {
        let _ = fs::remove_file(copy::beside(&unfinished, companion));
    }
    copy::copy_from(connection, path, &unfinished, &mut |_, _| {}, stop)?;
    fs::rename(&unfinished, &kept).map_err(failed)?;
    copy::sync_directory(path)?;
    // An interrupted start made this one before, and nothing was changed since.
    for (_, former) in copies(path).into_iter().filter(|(other, file)| *other == version && *file != kept) {
        let _ = fs::remove_file(former);
    }
    Ok(kept)
}

fn thin_out(path: &Path) {
    for (_, old) in copies(path).into_iter().skip(KEPT) {
        let _ = fs::remove_file(old);
    }
}

/// Room for this user on the file system of a file; `None` when the system does not say.
fn free_bytes(path: &Path) -> Option<u64> {
    let status = rustix::fs::statvfs(path).ok()?;
    Some(status.f_bavail.saturating_mul(status.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_copies_made_here_are_taken_for_copies() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cma.sqlite");
        for name in [
            "cma.sqlite.v3-20261123T164500Z",
            "cma.sqlite.v10-20261124T164500Z",
            "cma.sqlite.v4-20271124T164500Z",
            "cma.sqlite.v3-mine",
            "cma.sqlite.v3-20261123T164500Z.gz",
            "cma.sqlite.v-20261123T164500Z",
            "cma.sqlite.before-restore-20261123T164500Z",
            "other.sqlite.v3-20261123T164500Z",
            "cma.sqlite",
        ] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let versions: Vec<i64> = copies(&path).into_iter().map(|(version, _)| version).collect();
        assert_eq!(versions, [10, 4, 3], "as numbers, not as text");
        for version in 11..14 {
            fs::write(copy::beside(&path, &format!(".v{version}-20281124T164500Z")), "").unwrap();
        }
        thin_out(&path);
        let versions: Vec<i64> = copies(&path).into_iter().map(|(version, _)| version).collect();
        assert_eq!(versions, [13, 12, 11]);
        assert!(directory.path().join("cma.sqlite.v3-mine").exists(), "what people keep stays");
    }
}
