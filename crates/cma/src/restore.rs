//! Going on with a database from a backup, in the place of the one that was served until now.
//!
//! Between two lives of the CMA in one process: nothing is open. Killed here, the next start finds the old or the new one whole.

use crate::health::Health;
use model::Timestamp;
use std::fs;
use std::path::Path;
use store::sqlite::{self, SqliteStore, Stop};
use store::{Result, StoreError};

/// Puts the staged database in the place of the one at `path` and opens it. When that fails the old one is served again, and
/// `health` says why. `stop` is asked while tables are changed, which may take minutes.
///
/// # Errors
/// Neither can be opened; [`StoreError::Stopped`] with the staged database in its place, whose tables the next start changes.
pub fn take_over(path: &Path, health: &Health, stop: &Stop) -> Result<SqliteStore> {
    let staged = sqlite::staged(path);
    let old = match sqlite::replace(path, &staged, Timestamp::now()) {
        Ok(old) => old,
        Err(error) => {
            failed(health, &error);
            let _ = fs::remove_file(&staged);
            return SqliteStore::open(path);
        }
    };
    match SqliteStore::open_until(path, stop) {
        // Who asked for this database gets it, a start later.
        Ok(_) | Err(StoreError::Stopped { .. }) if stop() => {
            Err(StoreError::Stopped { path: path.display().to_string() })
        }
        Ok(store) => Ok(store),
        Err(error) => {
            let Some(old) = old else { return Err(error) };
            failed(health, &error);
            sqlite::undo(path, &old)?;
            SqliteStore::open(path)
        }
    }
}

/// Says, as long as the database lives, that it comes from a backup; returns since when.
///
/// # Errors
/// Those of the store.
pub fn tell(store: &SqliteStore, health: &Health) -> Result<Option<Timestamp>> {
    let restored = store.restored()?;
    if let Some(time) = restored {
        let old = sqlite::aside(store.path(), time);
        let kept = if old.exists() {
            format!("; the one before is {}, remove it when it is not needed any more", old.display())
        } else {
            String::new()
        };
        health.note("restore", format!("this database was restored at {}{kept}", time.to_local_text()));
    }
    Ok(restored)
}

fn failed(health: &Health, error: &StoreError) {
    tracing::error!(%error, "the staged database could not be taken over; the old one is served again");
    let text = format!("the backup could not be restored, and nothing was changed: {error}");
    health.set("restore", Some(text));
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Store;

    fn database(path: &Path, word: &str) {
        let mut store = SqliteStore::open(path).unwrap();
        let mut transaction = store.begin().unwrap();
        transaction.set_setting("word", word).unwrap();
        transaction.commit().unwrap();
    }

    fn go_on() -> Stop {
        std::sync::Arc::new(|| false)
    }

    fn word(store: &mut SqliteStore) -> Option<String> {
        store.begin().unwrap().setting("word").unwrap()
    }

    #[test]
    fn the_staged_database_is_served_and_the_old_one_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cma.sqlite");
        database(&path, "old");
        database(&sqlite::staged(&path), "new");
        let health = Health::default();
        let mut store = take_over(&path, &health, &go_on()).unwrap();
        assert_eq!(word(&mut store).as_deref(), Some("new"));
        let time = tell(&store, &health).unwrap().unwrap();
        assert!(health.problems().is_empty() && health.notes()["restore"].contains("before-restore"));
        assert!(!sqlite::staged(&path).exists());
        let old = sqlite::aside(&path, time);
        assert_eq!(word(&mut SqliteStore::open(&old).unwrap()).as_deref(), Some("old"));
    }

    #[test]
    fn what_cannot_be_served_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cma.sqlite");
        let staged = sqlite::staged(&path);
        for break_it in [
            (|staged: &Path| fs::write(staged, vec![7; 9000]).unwrap()) as fn(&Path),
            // Of ours, sound, and of a version that this program does not know: byte 60 is user_version.
            |staged| {
                database(staged, "new");
                let mut bytes = fs::read(staged).unwrap();
                bytes[60..64].copy_from_slice(&9999u32.to_be_bytes());
                fs::write(staged, bytes).unwrap();
            },
        ] {
            let _ = SqliteStore::erase(&path);
            database(&path, "old");
            break_it(&staged);
            let health = Health::default();
            let mut store = take_over(&path, &health, &go_on()).unwrap();
            assert_eq!(word(&mut store).as_deref(), Some("old"));
            assert!(health.problems()[0].contains("nothing was changed"), "{:?}", health.problems());
            assert_eq!(tell(&store, &health).unwrap(), None);
        }
    }
}
