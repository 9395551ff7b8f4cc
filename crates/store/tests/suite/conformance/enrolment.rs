//! Tags, tokens, keys that wait and keys that are revoked.

use super::*;
use model::PublicKey;
use std::collections::BTreeMap;
use store::enrolment::{PendingRow, RevokedRow, TokenRow};

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| word.to_string()).collect()
}

fn token(seed: u8) -> TokenRow {
    TokenRow {
        id: 0,
        hash: [seed; 32],
        tags: words(&["db", "lab"]),
        hosts: "db-*".into(),
        uses: Some(2),
        used: 0,
        created: at(5),
        expires: Some(at(50)),
        revoked: None,
    }
}

pub fn tags_belong_to_hosts(store: &mut dyn Store) {
    commit(store, |t| t.set_tags(&host("web1"), &words(&["prod", "db", "prod"])));
    commit(store, |t| t.set_tags(&host("web2"), &words(&["lab"])));
    let mut reader = store.reader().unwrap();
    assert_eq!(reader.tags(&host("web1")).unwrap(), words(&["db", "prod"]));
    assert_eq!(reader.tags(&host("nobody")).unwrap(), words(&[]));
    let all = BTreeMap::from([(host("web1"), words(&["db", "prod"])), (host("web2"), words(&["lab"]))]);
    assert_eq!(reader.all_tags().unwrap(), all);
    commit(store, |t| {
        assert_eq!(t.tags(&host("web1"))?, words(&["db", "prod"]));
        t.set_tags(&host("web1"), &words(&["prod"]))?;
        t.set_machine(&host("web2"), "{}")?;
        t.remove_host(&host("web2"), at(9))
    });
    let mut reader = store.reader().unwrap();
    assert_eq!(reader.all_tags().unwrap(), BTreeMap::from([(host("web1"), words(&["prod"]))]));
    assert_eq!(reader.machines().unwrap(), BTreeMap::new());
}

pub fn a_token_counts_each_key_once(store: &mut dyn Store) {
    let key = |seed| PublicKey([seed; 32]);
    let mut ids = Vec::new();
    commit(store, |t| {
        ids =
            vec![t.add_token(&token(1))?, t.add_token(&TokenRow { uses: None, expires: None, ..token(2) })?];
        Ok(())
    });
    commit(store, |t| {
        assert!(t.add_token(&token(1)).is_err(), "one hash, one token");
        for seed in [7, 7, 8] {
            t.use_token(ids[0], &key(seed), at(6))?;
        }
        assert!(t.used_token(ids[0], &key(7))? && !t.used_token(ids[1], &key(7))?);
        assert!(t.revoke_token(ids[1], at(8))? && !t.revoke_token(ids[1], at(9))?);
        assert!(!t.revoke_token(99, at(8))?);
        Ok(())
    });
    let first = TokenRow { id: ids[0], used: 2, ..token(1) };
    let second = TokenRow { id: ids[1], uses: None, expires: None, revoked: Some(at(8)), ..token(2) };
    assert_eq!(store.reader().unwrap().tokens().unwrap(), [first, second.clone()]);
    commit(store, |t| t.remove_token(ids[0]));
    assert_eq!(store.reader().unwrap().tokens().unwrap(), [second]);
    commit(store, |t| {
        let next = t.add_token(&token(1))?;
        assert!(next > ids[1], "an id is never given twice");
        assert!(!t.used_token(next, &key(7))?);
        Ok(())
    });
}

pub fn keys_wait_and_are_revoked(store: &mut dyn Store) {
    let waiting = |seed: u8, first: i64| PendingRow {
        key: PublicKey([seed; 32]),
        designation: host("new1"),
        source: "192.0.2.1".into(),
        address: "192.0.2.1:1984".into(),
        first_seen: at(first),
        last_seen: at(first),
        software: "nanoprobe 1".into(),
        machine: String::new(),
        note: String::new(),
        approved: None,
    };
    let later = PendingRow { last_seen: at(30), approved: Some(at(31)), note: "n".into(), ..waiting(1, 20) };
    let revoked = RevokedRow {
        key: PublicKey([9; 32]),
        designation: host("old1"),
        reason: "stolen".into(),
        revoked: at(3),
        tried: None,
    };
    commit(store, |t| {
        t.put_pending(&waiting(1, 20))?;
        t.put_pending(&waiting(2, 10))?;
        t.put_pending(&later)?;
        t.put_revoked(&revoked)?;
        t.put_revoked(&RevokedRow { tried: Some(at(4)), ..revoked.clone() })?;
        assert_eq!(t.pending()?, [waiting(2, 10), later.clone()]);
        assert_eq!(t.waiting(&later.key)?, Some(later.clone()));
        assert_eq!(t.waiting(&revoked.key)?, None);
        assert_eq!(t.revoked(&revoked.key)?.and_then(|row| row.tried), Some(at(4)));
        assert_eq!(t.revoked(&PublicKey([1; 32]))?, None);
        t.remove_pending(&later.key)
    });
    let mut reader = store.reader().unwrap();
    assert_eq!(reader.pending().unwrap(), [waiting(2, 10)]);
    assert_eq!(reader.revocations().unwrap().len(), 1);
    commit(store, |t| {
        assert_eq!(t.revocations()?.len(), 1);
        t.remove_revoked(&revoked.key)
    });
    assert_eq!(store.reader().unwrap().revocations().unwrap(), []);
}
