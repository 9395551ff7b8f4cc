//! Copies of whole databases, and putting them into place: while others write, across kills, over damage, from older versions.

use crate::conformance::{cell, commit, site};
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use store::sqlite::{self, SCHEMA_VERSION, SqliteStore};
use store::{Store, StoreError};
use tempfile::TempDir;

/// Made by the version with three steps of tables: one host with two instances, four documents and their rule results.
const SCHEMA_3: &[u8] = include_bytes!("../fixtures/schema-3.sqlite.zst");

fn old_database(directory: &Path) -> PathBuf {
    let path = directory.join("cma.sqlite");
    fs::write(&path, zstd::stream::decode_all(SCHEMA_3).unwrap()).unwrap();
    path
}

fn count(store: &SqliteStore, what: &str) -> i64 {
    cell(store, &format!("SELECT count(*) FROM {what}")).as_i64().unwrap()
}

fn with_word(path: &Path, word: &str) -> PathBuf {
    let mut store = SqliteStore::open(path).unwrap();
    commit(&mut store, |t| t.set_setting("word", word));
    path.to_owned()
}

fn word(path: &Path) -> String {
    let mut store = SqliteStore::open(path).unwrap();
    store.check().unwrap();
    store.begin().unwrap().setting("word").unwrap().unwrap()
}

#[test]
fn a_copy_is_one_moment_while_others_write() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("cma.sqlite");
    let mut store = SqliteStore::open(&path).unwrap();
    site::fill(&mut store);
    // Large enough that copying takes several steps.
    commit(&mut store, |t| t.set_setting("large", &"x".repeat(20_000_000)));
    let (written, stop) = (AtomicI64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (written, stop) = (&written, &stop);
        scope.spawn(move || {
            let mut n = 0;
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                // Both or neither are in any moment.
                commit(&mut store, |t| {
                    t.set_setting("one", &n.to_string())?;
                    t.set_setting("other", &n.to_string())
                });
                written.store(n, Ordering::SeqCst);
            }
        });
        for round in 0..5 {
            let copy = directory.path().join(format!("copy{round}"));
            while written.load(Ordering::SeqCst) < 5 * (round + 1) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let before = written.load(Ordering::SeqCst);
            let mut steps = Vec::new();
            let copied = sqlite::copy(&path, &copy, &mut |done, all| {
                // A writer gets on during the copy: this waits until it has.
                let now = written.load(Ordering::SeqCst);
                while steps.is_empty() && written.load(Ordering::SeqCst) < now + 2 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                steps.push((done, all));
            })
            .unwrap();
            assert!(written.load(Ordering::SeqCst) >= before + 2);
            assert!(
                steps.len() >= 3 && steps.is_sorted() && steps.iter().all(|(done, all)| done < all),
                "{steps:?}"
            );
            assert_eq!((copied.schema, copied), (SCHEMA_VERSION, sqlite::verify(&copy).unwrap()));
            assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::metadata(&copy).unwrap().len(), copied.bytes);
            let mut store = SqliteStore::open(&copy).unwrap();
            let mut transaction = store.begin().unwrap();
            let seen = |t: &mut dyn store::Transaction, name| {
                t.setting(name).unwrap().unwrap().parse::<i64>().unwrap()
            };
            let one = seen(transaction.as_mut(), "one");
            assert_eq!(one, seen(transaction.as_mut(), "other"));
            assert!(one >= before, "what was committed before the copy began is in it");
        }
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_copy_never_overwrites_and_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    let path = with_word(&directory.path().join("cma.sqlite"), "x");
    let target = directory.path().join("there");
    fs::write(&target, "mine").unwrap();
    let refused = sqlite::copy(&path, &target, &mut |_, _| {}).unwrap_err();
    assert!(refused.to_string().contains("there"), "{refused}");
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
    for bad in ["nothing", "there"] {
        let new = directory.path().join("new");
        assert!(sqlite::copy(&directory.path().join(bad), &new, &mut |_, _| {}).is_err());
        assert!(!new.exists(), "{bad}");
    }
    assert!(!directory.path().join("nothing").exists());
}

#[test]
fn the_old_database_is_kept_when_another_takes_its_place() {
    let directory = TempDir::new().unwrap();
    let path = with_word(&directory.path().join("cma.sqlite"), "old");
    let staged = with_word(&sqlite::staged(&path), "new");
    let now = model::Timestamp(1_700_000_000_000_000);
    let kept = sqlite::replace(&path, &staged, now).unwrap().unwrap();
    assert_eq!(kept, sqlite::aside(&path, now));
    assert!(kept.ends_with("cma.sqlite.before-restore-20231114T221320.000000Z"), "{}", kept.display());
    assert_eq!((word(&path), word(&kept), staged.exists()), ("new".into(), "old".into(), false));
    assert_eq!(SqliteStore::open(&path).unwrap().restored().unwrap(), Some(now));
    assert_eq!(SqliteStore::open(&kept).unwrap().restored().unwrap(), None);
    sqlite::undo(&path, &kept).unwrap();
    assert_eq!((word(&path), kept.exists()), ("old".into(), false));
    // Where there was none there is nothing to keep.
    let empty = directory.path().join("other.sqlite");
    let staged = with_word(&sqlite::staged(&empty), "first");
    assert_eq!(sqlite::replace(&empty, &staged, now).unwrap(), None);
    assert_eq!(word(&empty), "first");
}

#[test]
fn a_database_that_is_used_is_not_replaced() {
    let directory = TempDir::new().unwrap();
    let path = with_word(&directory.path().join("cma.sqlite"), "old");
    let staged = with_word(&sqlite::staged(&path), "new");
    let user = SqliteStore::open(&path).unwrap();
    let reader = user.reader().unwrap();
    let refused = sqlite::replace(&path, &staged, model::Timestamp(1)).unwrap_err();
    assert!(
        matches!(&refused, StoreError::Unwritable(text) if text.contains("another process")),
        "{refused}"
    );
    assert!(
        staged.exists()
            && fs::read_dir(directory.path())
                .unwrap()
                .flatten()
                .all(|entry| { !entry.file_name().to_string_lossy().contains("before-restore") })
    );
    drop((reader, user));
    assert_eq!(word(&path), "old");
}

#[test]
fn a_damaged_database_is_replaced_and_kept_with_its_journal() {
    let directory = TempDir::new().unwrap();
    let path = with_word(&directory.path().join("cma.sqlite"), "old");
    fs::write(&path, vec![0xa5; 20_000]).unwrap();
    fs::write(directory.path().join("cma.sqlite-wal"), "a journal that belongs to it").unwrap();
    let staged = with_word(&sqlite::staged(&path), "new");
    let kept = sqlite::replace(&path, &staged, model::Timestamp(1)).unwrap().unwrap();
    assert_eq!(word(&path), "new");
    assert_eq!(fs::read(&kept).unwrap(), vec![0xa5; 20_000]);
    let journal = PathBuf::from(format!("{}-wal", kept.display()));
    assert_eq!(fs::read_to_string(journal).unwrap(), "a journal that belongs to it");
}

#[test]
fn an_older_database_is_migrated_after_a_copy() {
    let directory = TempDir::new().unwrap();
    let path = old_database(directory.path());
    let before = fs::read(&path).unwrap();
    assert_eq!(sqlite::identify(&path).unwrap().schema, 3);
    let store = SqliteStore::open(&path).unwrap();
    store.check().unwrap();
    assert_eq!(cell(&store, "SELECT host FROM hosts"), json!("web1"));
    assert_eq!((count(&store, "changes"), count(&store, "rule_results WHERE status = 'fail'")), (4, 1));
    drop(store);
    assert_eq!(sqlite::identify(&path).unwrap().schema, SCHEMA_VERSION);
    let copies = sqlite::copies(&path);
    assert_eq!(copies.len(), 1, "{copies:?}");
    let (version, copy) = &copies[0];
    assert_eq!((*version, sqlite::verify(copy).unwrap().schema), (3, 3));
    assert_eq!(fs::metadata(copy).unwrap().permissions().mode() & 0o777, 0o600);
    // The copy goes back to what was, whatever was written since.
    let staged = sqlite::staged(&path);
    sqlite::copy(copy, &staged, &mut |_, _| {}).unwrap();
    sqlite::replace(&path, &staged, model::Timestamp(1)).unwrap();
    assert_eq!(sqlite::identify(&path).unwrap().schema, 3);
    assert_eq!(fs::metadata(&path).unwrap().len(), before.len() as u64);
    // Opening twice makes no second copy.
    drop(SqliteStore::open(&path).unwrap());
    drop(SqliteStore::open(&path).unwrap());
    assert_eq!(sqlite::copies(&path).len(), 1);
}

#[test]
fn a_migration_that_fails_leaves_the_database_as_it_was() {
    let directory = TempDir::new().unwrap();
    let path = old_database(directory.path());
    // Making the views fails where one of their names is taken, in the step after the tables.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("DROP VIEW hosts; CREATE TABLE hosts(x)").unwrap();
    drop(connection);
    let error = SqliteStore::open(&path).err().unwrap();
    let told = error.to_string();
    assert!(matches!(error, StoreError::Migration { from: 3, to: SCHEMA_VERSION, .. }), "{told}");
    assert!(told.contains("nothing was changed") && told.contains("cma.sqlite"), "{told}");
    assert_eq!(sqlite::identify(&path).unwrap().schema, 3);
    assert!(sqlite::copies(&path).is_empty(), "a service manager tries for ever");
}

/// Of the version with two steps of tables, and so large that the next steps take a while.
fn large_old_database(path: &Path) {
    fs::write(path, zstd::stream::decode_all(SCHEMA_3).unwrap()).unwrap();
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut find = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'view'").unwrap();
    let views: Vec<String> = find.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    for view in views {
        connection.execute_batch(&format!("DROP VIEW {view}")).unwrap();
    }
    let undo = "DROP TABLE claim; DROP TABLE claimant; DROP TABLE reverse_name; DROP INDEX node_link_address;
        DROP INDEX node_service; DROP INDEX node_system; DROP INDEX node_child; DROP INDEX edge_service;
        DROP INDEX edge_client; DROP INDEX edge_cable; ALTER TABLE node DROP COLUMN claimed; PRAGMA user_version = 2;";
    connection.execute_batch(undo).unwrap();
    let rows =
        "INSERT INTO node(id, kind, key, properties, changed) VALUES (1, 'NICNode', 'made-up', '{}', 1);
        WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 50000)
        INSERT INTO edge SELECT 1, 'made-up ' || n, 1, 'tcpclient', 1, 1 FROM n";
    connection.execute_batch(rows).unwrap();
}

#[test]
fn a_migration_that_is_told_to_stop_does_so_in_the_middle_and_the_next_one_comes_to_the_end() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("cma.sqlite");
    large_old_database(&path);
    let made_up = |path: &Path| -> i64 {
        let connection = rusqlite::Connection::open(path).unwrap();
        let count = "SELECT count(*) FROM edge WHERE instance LIKE 'made-up %'";
        connection.query_row(count, [], |row| row.get(0)).unwrap()
    };
    // While the copy is made: nothing is left of it.
    let begun = path.clone();
    let stop: sqlite::Stop = Arc::new(move || {
        fs::read_dir(begun.parent().unwrap())
            .unwrap()
            .flatten()
            .any(|entry| entry.path().extension() == Some("copying".as_ref()))
    });
    let stopped = SqliteStore::open_until(&path, &stop).err().unwrap();
    assert!(matches!(stopped, StoreError::Stopped { .. }), "{stopped}");
    assert_eq!((sqlite::identify(&path).unwrap().schema, sqlite::copies(&path).len()), (2, 0));
    // As soon as the copy is there, so while tables are changed: the copy stays, whole.
    let (asked, copied) = (Arc::new(AtomicI64::new(0)), path.clone());
    let times = asked.clone();
    let stop: sqlite::Stop =
        Arc::new(move || !sqlite::copies(&copied).is_empty() && times.fetch_add(1, Ordering::SeqCst) >= 20);
    let stopped = SqliteStore::open_until(&path, &stop).err().unwrap();
    assert!(matches!(stopped, StoreError::Stopped { .. }), "{stopped}");
    assert!(stopped.to_string().contains("nothing was changed"), "{stopped}");
    assert_eq!((sqlite::identify(&path).unwrap().schema, made_up(&path)), (2, 50_000));
    let copies = sqlite::copies(&path);
    assert_eq!((copies.len(), copies[0].0, sqlite::verify(&copies[0].1).unwrap().schema), (1, 2, 2));

    // The same once more without anybody who wants it to stop.
    let store = SqliteStore::open(&path).unwrap();
    store.check().unwrap();
    assert_eq!((count(&store, "changes"), made_up(&path)), (4, 50_000));
    drop(store);
    assert_eq!((sqlite::identify(&path).unwrap().schema, sqlite::copies(&path).len()), (SCHEMA_VERSION, 1));
    assert_eq!(made_up(&sqlite::copies(&path)[0].1), 50_000);
}

/// A small file system of its own; gone when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(place: &Path) -> Option<Small> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(place).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success()).then(|| Small(place.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn without_room_for_the_copy_nothing_is_begun() {
    // A file system of its own, of 4 MB; that takes root, as in CI.
    let directory = TempDir::new().unwrap();
    let Some(small) = Small::mount(directory.path()) else {
        eprintln!("skipped: mounting a file system takes root");
        return;
    };
    let path = old_database(directory.path());
    let error = SqliteStore::open(&path).err().map(|error| error.to_string());
    let schema = sqlite::identify(&path).map(|identity| identity.schema);
    let copies = sqlite::copies(&path).len();
    drop(small);
    let error = error.unwrap();
    assert!(error.contains("17 MB") && error.contains("make room"), "{error}");
    assert_eq!((schema.unwrap(), copies), (3, 0));
}

#[test]
fn a_newer_database_names_the_copy_to_go_back_to() {
    let directory = TempDir::new().unwrap();
    let path = old_database(directory.path());
    drop(SqliteStore::open(&path).unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(connection);
    let told = SqliteStore::open(&path).err().unwrap().to_string();
    let copy = sqlite::copies(&path).remove(0).1;
    assert!(told.contains(&format!("assimcli restore {}", copy.display())), "{told}");
}

const CHILD: &str = "STORE_TEST_COPIES";

/// Not a test by itself: the process that the next tests kill.
#[test]
fn killed_process() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let (what, path) = what.split_once(':').unwrap();
    println!("begun");
    if what == "migrate" {
        drop(SqliteStore::open(Path::new(path)).unwrap());
    } else {
        let path = Path::new(path);
        sqlite::replace(path, &sqlite::staged(path), model::Timestamp(7_000_000)).unwrap();
    }
}

/// When to kill, in microseconds: `rounds` times in equal steps, then ever later, until the caller has seen enough (a machine that
/// is busy may not have come to the end by then).
fn moments(rounds: u64, step: u64) -> impl Iterator<Item = u64> {
    let later = std::iter::successors(Some(rounds * step), |last| Some(last + last / 4)).take(30);
    (0..rounds).map(move |round| round * step).chain(later)
}

/// Runs the child and kills it some microseconds after it has begun; `true` when it was done before.
fn killed_after(what: &str, path: &Path, microseconds: u64) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["copies::killed_process", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{what}:{}", path.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    for line in lines {
        if line.contains("begun") {
            break;
        }
    }
    std::thread::sleep(Duration::from_micros(microseconds));
    let done = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    done
}

#[test]
fn killed_while_it_is_replaced_a_database_is_the_old_or_the_new_one() {
    let (mut old, mut new) = (0, 0);
    for (round, moment) in moments(60, 400).enumerate() {
        if round >= 60 && old > 0 && new > 0 {
            break;
        }
        let directory = TempDir::new().unwrap();
        let path = with_word(&directory.path().join("cma.sqlite"), "old");
        let staged = with_word(&sqlite::staged(&path), "new");
        killed_after("replace", &path, moment);
        match word(&path).as_str() {
            "old" => {
                // Doing it again comes to the end.
                old += 1;
                sqlite::replace(&path, &staged, model::Timestamp(7_000_000)).unwrap();
                assert_eq!(word(&path), "new");
            }
            _ => new += 1,
        }
        assert_eq!(word(&sqlite::aside(&path, model::Timestamp(7_000_000))), "old", "round {round}");
    }
    println!("old {old}, new {new}");
    assert!(old > 0 && new > 0, "killed always before or always after: old {old}, new {new}");
}

#[test]
fn killed_while_it_is_migrated_a_database_is_the_old_or_the_new_one() {
    let (mut old, mut new) = (0, 0);
    for (round, moment) in moments(60, 600).enumerate() {
        if round >= 60 && old > 0 && new > 0 {
            break;
        }
        let directory = TempDir::new().unwrap();
        let path = old_database(directory.path());
        killed_after("migrate", &path, moment);
        match sqlite::identify(&path).unwrap().schema {
            3 => old += 1,
            version => {
                assert_eq!(version, SCHEMA_VERSION);
                new += 1;
            }
        }
        let store = SqliteStore::open(&path).unwrap();
        store.check().unwrap();
        assert_eq!((count(&store, "changes"), count(&store, "rule_results WHERE status = 'fail'")), (4, 1));
        let copies = sqlite::copies(&path);
        assert_eq!(copies.len(), 1, "{copies:?}");
        assert_eq!(sqlite::verify(&copies[0].1).unwrap().schema, 3);
        let unfinished = fs::read_dir(directory.path()).unwrap().flatten();
        let unfinished: Vec<_> = unfinished
            .map(|entry| entry.file_name())
            .filter(|name| name.to_string_lossy().contains("copying"))
            .collect();
        assert!(unfinished.is_empty(), "{unfinished:?}");
    }
    println!("old {old}, new {new}");
    assert!(old > 0 && new > 0, "killed always before or always after: old {old}, new {new}");
}
