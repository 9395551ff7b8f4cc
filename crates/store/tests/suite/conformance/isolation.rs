//! What is durable, what is undone, and who sees what meanwhile.

use super::*;
use model::PublicKey;
use model::message::Incarnation;
use std::sync::atomic::{AtomicBool, Ordering};
use store::StoreError;

pub fn a_failed_savepoint_undoes_only_itself(store: &mut dyn Store) {
    let mut transaction = store.begin().unwrap();
    transaction.set_setting("before", "1").unwrap();
    let failed = transaction.savepoint(&mut |inner| {
        inner.set_setting("before", "changed")?;
        let (row, body) = document("a", json!(1), 100);
        inner.put_document(&host("lost"), &row, &body)?;
        Err(StoreError::Sql("on purpose".into()))
    });
    assert_eq!(failed.unwrap_err().to_string(), "on purpose");
    // The host's number was taken back too: writing for it again must not use it.
    let (row, body) = document("b", json!(1), 100);
    transaction.put_document(&host("other"), &row, &body).unwrap();
    transaction.put_document(&host("lost"), &row, &body).unwrap();
    transaction
        .savepoint(&mut |inner| {
            inner.set_setting("kept", "1")?;
            let nested = inner.savepoint(&mut |deeper| {
                deeper.set_setting("kept", "2")?;
                Err(StoreError::Sql("deeper".into()))
            });
            assert!(nested.is_err());
            Ok(())
        })
        .unwrap();
    assert_eq!(transaction.setting("before").unwrap().as_deref(), Some("1"));
    transaction.commit().unwrap();
    commit(store, |t| {
        assert_eq!(t.setting("before")?.as_deref(), Some("1"));
        assert_eq!(t.setting("kept")?.as_deref(), Some("1"));
        assert_eq!(t.document(&host("lost"), "a")?, None);
        assert_eq!(t.documents(&host("lost"))?.len(), 1);
        assert_eq!(t.documents(&host("other"))?.len(), 1);
        Ok(())
    });
}

pub fn dropping_without_commit_leaves_nothing(store: &mut dyn Store) {
    {
        let mut transaction = store.begin().unwrap();
        transaction.set_setting("a", "1").unwrap();
    }
    commit(store, |t| {
        assert_eq!(t.setting("a")?, None);
        t.set_setting("a", "2")
    });
    commit(store, |t| {
        assert_eq!(t.setting("a")?.as_deref(), Some("2"));
        Ok(())
    });
}

pub fn a_reader_sees_only_what_is_committed(store: &mut dyn Store) {
    let mut reader = store.reader().unwrap();
    let mut transaction = store.begin().unwrap();
    transaction.put_host(&site::host_row("web1", "up", "")).unwrap();
    assert_eq!(reader.hosts().unwrap(), vec![]);
    transaction.commit().unwrap();
    assert_eq!(reader.hosts().unwrap().len(), 1, "the same reader sees it after the commit");
}

pub fn readers_work_while_the_writer_writes(store: &mut dyn Store) {
    const ROUNDS: i64 = 60;
    let stop = AtomicBool::new(false);
    let mut reader = store.reader().unwrap();
    let seen = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut counts = vec![];
            while !stop.load(Ordering::SeqCst) {
                // Two rows are written by each commit: an odd number would be half a commit.
                let table = reader.sql("SELECT count(*) FROM changes", &[], LIMITS).unwrap();
                counts.push(table.rows[0][0].as_i64().unwrap());
                assert!(reader.hosts().is_ok());
            }
            counts
        });
        for round in 0..ROUNDS {
            commit(store, |t| {
                for name in ["web1", "web2"] {
                    let (row, body) = document("a", json!([round, name]), round + 1);
                    t.put_document(&host(name), &row, &body)?;
                }
                Ok(())
            });
        }
        stop.store(true, Ordering::SeqCst);
        watching.join().unwrap()
    });
    assert!(seen.iter().all(|count| count % 2 == 0), "{seen:?}");
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(cell(store, "SELECT count(*) FROM changes"), json!(2 * ROUNDS));
}

pub fn cursors_and_settings(store: &mut dyn Store) {
    let (key, life) = (PublicKey([1; 32]), Incarnation([2; 16]));
    commit(store, |t| {
        assert_eq!(t.cursor(&key, life)?, 0);
        t.set_cursor(&key, life, 5)?;
        t.set_cursor(&key, life, 9)
    });
    commit(store, |t| {
        assert_eq!(t.cursor(&key, life)?, 9);
        assert_eq!(t.cursor(&key, Incarnation([3; 16]))?, 0, "another life of the queue");
        assert_eq!(t.cursor(&PublicKey([4; 32]), life)?, 0, "another host");
        assert!(t.set_cursor(&key, life, u64::MAX).is_err());
        assert_eq!(t.setting("rules")?, None);
        t.set_setting("rules", "x")?;
        t.set_setting("rules", "y")?;
        assert_eq!(t.setting("rules")?.as_deref(), Some("y"));
        Ok(())
    });
}
