//! The suite over SQLite, and what only a file can suffer: kills, damage, full disks, other people's files.

use crate::conformance::{self, cell, commit, site};
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use store::sqlite::{SCHEMA_VERSION, SqliteStore};
use store::{Store, StoreError};
use tempfile::TempDir;

#[test]
fn the_suite_passes() {
    conformance::run(&|| Box::new(SqliteStore::open(Path::new(":memory:")).unwrap()));
}

#[test]
fn a_database_is_private_and_survives_closing() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("file:odd?name.sqlite");
    let mut store = SqliteStore::open(&path).unwrap();
    site::fill(&mut store);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(cell(&store, "SELECT count(*) FROM hosts"), json!(3));
    store.check().unwrap();
    drop(store);
    SqliteStore::erase(&path).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing stays behind");
    SqliteStore::erase(&path).unwrap();
    let empty = SqliteStore::open(&path).unwrap();
    assert_eq!(cell(&empty, "SELECT count(*) FROM hosts"), json!(0));
}

#[test]
fn a_temporary_database_disappears() {
    let store = SqliteStore::open(Path::new(":memory:")).unwrap();
    let path = store.path().to_owned();
    assert!(path.exists() && store.is_temporary());
    drop(store);
    assert!(!path.exists());
}

fn header(path: &Path, offset: u64, value: u32) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&value.to_be_bytes()).unwrap();
}

/// A closed database with everything in its main file.
fn filled(directory: &TempDir) -> std::path::PathBuf {
    let path = directory.path().join("store.sqlite");
    let mut store = SqliteStore::open(&path).unwrap();
    site::fill(&mut store);
    drop(store);
    path
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = filled(&directory);
    // user_version is at byte 60 of the file (SQLite file format, section 1.3).
    header(&path, 60, SCHEMA_VERSION as u32 + 1);
    let before = fs::read(&path).unwrap();
    let error = SqliteStore::open(&path).err().unwrap();
    assert!(matches!(error, StoreError::TooNew { found, known, .. } if found == known + 1), "{error}");
    assert!(error.to_string().contains("store.sqlite"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_of_another_program_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = filled(&directory);
    // application_id is at byte 68.
    header(&path, 68, 0x1234);
    let error = SqliteStore::open(&path).err().unwrap();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    let told = error.to_string();
    assert!(
        told.contains("another program") && told.contains("--store") && !told.contains("--erasedb"),
        "{told}"
    );
    let text = directory.path().join("notes.txt");
    fs::write(&text, "not a database at all, but quite long enough to be one").unwrap();
    assert!(
        matches!(SqliteStore::open(&text), Err(StoreError::Foreign { path, .. }) if path.contains("notes.txt"))
    );
    assert!(fs::read_to_string(&text).unwrap().starts_with("not a database"), "it is left alone");
    fs::write(&text, "x").unwrap();
    assert!(matches!(SqliteStore::open(&text), Err(StoreError::Foreign { .. })));
}

#[test]
fn damage_is_told_as_damage() {
    let directory = TempDir::new().unwrap();
    let path = filled(&directory);
    let whole = fs::read(&path).unwrap();
    // Cut off in the middle.
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let seen = SqliteStore::open(&path).and_then(|store| store.check());
    assert!(matches!(seen, Err(StoreError::Corrupt(_))), "{seen:?}");
    // Every page but the first overwritten.
    let mut scribbled = whole.clone();
    scribbled[4096..].fill(0xa5);
    fs::write(&path, &scribbled).unwrap();
    let seen = SqliteStore::open(&path).and_then(|store| {
        store.reader()?.hosts()?;
        store.check()
    });
    assert!(matches!(seen, Err(StoreError::Corrupt(_))), "{seen:?}");
    assert!(seen.unwrap_err().to_string().contains("--erasedb"));
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let directory = TempDir::new().unwrap();
    let mut store = SqliteStore::open(&directory.path().join("store.sqlite")).unwrap();
    site::fill(&mut store);
    store.limit_size(600_000).unwrap();
    let mut written = 0;
    let error = loop {
        let mut transaction = store.begin().unwrap();
        // What zstd cannot shrink: digits of a congruential generator.
        let mut state = written as u64 + 1;
        let noise: Vec<u64> = (0..2000)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                state >> 11
            })
            .collect();
        let (row, body) = conformance::document("noise", json!([written, noise]), 200 + written);
        let done = transaction
            .savepoint(&mut |inner| inner.put_document(&conformance::host("web1"), &row, &body))
            .and_then(|()| transaction.commit());
        match done {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "the limit never came");
    };
    assert!(matches!(&error, StoreError::Unwritable(text) if text.contains("full")), "{error:?}");
    assert!(written > 2, "{written}");
    let stored = cell(&store, "SELECT count(*) FROM changes WHERE instance = 'noise'");
    assert_eq!(stored, json!(written), "what was committed is there, what failed is not");
    store.limit_size(u64::MAX).unwrap();
    commit(&mut store, |t| t.set_setting("room", "again"));
    store.check().unwrap();
}

#[test]
fn places_that_cannot_be_written_are_told_with_what_to_do() {
    let directory = TempDir::new().unwrap();
    let refusal = |path: &Path| SqliteStore::open(path).err().unwrap().to_string();
    let missing = refusal(&directory.path().join("missing/store.sqlite"));
    assert!(missing.contains("missing/store.sqlite") && missing.contains("create it"), "{missing}");
    let itself = refusal(directory.path());
    assert!(itself.contains("regular file"), "{itself}");
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    let below = refusal(&file.join("store.sqlite"));
    assert!(below.contains("not a directory"), "{below}");
    // /sys takes no files from anybody, not even root, to whom permissions mean nothing.
    let never = refusal(Path::new("/sys/store.sqlite"));
    assert!(never.contains("make /sys") || never.contains("read-only file system"), "{never}");
    // Nor does an existing file there become a database.
    assert!(SqliteStore::open(Path::new("/sys/kernel/uevent_seqnum")).is_err());
}

#[test]
fn a_second_writer_is_refused_without_harm() {
    let directory = TempDir::new().unwrap();
    let path = filled(&directory);
    let mut first = SqliteStore::open(&path).unwrap();
    let mut second = SqliteStore::open(&path).unwrap();
    let held = first.begin().unwrap();
    let start = Instant::now();
    assert!(
        matches!(second.begin().err(), Some(StoreError::Unwritable(text)) if text.contains("another process"))
    );
    assert!(start.elapsed() < Duration::from_secs(15));
    drop(held);
    commit(&mut second, |t| t.set_setting("a", "1"));
}

const WRITER: &str = "STORE_TEST_WRITER";

/// Not a test by itself: the process that the next test kills. It says each commit after it returned.
#[test]
fn writer_process() {
    let Some(path) = std::env::var_os(WRITER) else {
        return;
    };
    let mut store = SqliteStore::open(Path::new(&path)).unwrap();
    let start = Instant::now();
    let mut n = 0;
    while start.elapsed() < Duration::from_secs(20) {
        n += 1;
        let (row, body) = conformance::document("count", json!(n), n);
        commit(&mut store, |t| t.put_document(&conformance::host("web1"), &row, &body));
        println!("committed {n}");
    }
}

#[test]
fn a_killed_writer_loses_nothing_it_acknowledged() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store.sqlite");
    let mut acknowledged = 0;
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["sqlite::writer_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(WRITER, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut last = 0;
        for line in lines.by_ref() {
            if let Some((_, n)) = line.split_once("committed ") {
                last = n.trim().parse().unwrap();
                if last >= 40 * round {
                    break;
                }
            }
        }
        // SIGKILL: no destructor runs.
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            if let Some(n) = line.split_once("committed ").and_then(|(_, n)| n.trim().parse().ok()) {
                last = n;
            }
        }
        assert!(last >= 40 * round, "the writer of round {round} got no further than {last}");
        acknowledged = acknowledged.max(last);
        let store = SqliteStore::open(&path).unwrap();
        store.check().unwrap();
        let found = cell(&store, "SELECT max(document ->> '$.data') FROM changes").as_i64().unwrap();
        assert!(found >= acknowledged, "acknowledged {acknowledged}, found {found}");
    }
}
