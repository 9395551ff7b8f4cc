//! Hosts, documents, facts and rule results, now and at past times.

use super::*;
use model::PublicKey;
use site::host_row;

pub fn hosts_round_trip(store: &mut dyn Store) {
    let mut row = host_row("web1", "up", "STARTUP");
    row.rejected_key = Some((PublicKey([9; 32]), at(77)));
    commit(store, |t| t.put_host(&row));
    let offered = "SELECT rejected_key FROM hosts WHERE host = 'web1'";
    assert_eq!(cell(store, offered), json!("09".repeat(32)));
    commit(store, |t| {
        assert_eq!(t.host(&host("web1"))?, Some(row.clone()));
        assert_eq!(t.host(&host("web2"))?, None);
        let changed =
            store::HostRow { status: "dead".into(), rejected_key: None, last_seen: at(9), ..row.clone() };
        t.put_host(&changed)?;
        assert_eq!(t.host(&host("web1"))?, Some(changed));
        t.put_host(&host_row("aaa", "up", ""))
    });
    let hosts = store.reader().unwrap().hosts().unwrap();
    assert_eq!(hosts.iter().map(|h| h.designation.as_str()).collect::<Vec<_>>(), ["aaa", "web1"]);
    assert_eq!(hosts[1].status, "dead");
    assert_eq!(cell(store, offered), json!(null), "nobody offers another key");
}

pub fn members_of_rings_are_kept(store: &mut dyn Store) {
    let member = |name: &str, number: u32, present: bool| store::MemberRow {
        designation: host(name),
        number,
        session: present.then_some([number as u8; 16]),
        place: "subnet 10.0.0.0/24".into(),
        position: 1 << 40,
        generation: 3,
        address: "10.0.0.7:1984".into(),
        present,
    };
    let (one, two) = (member("web1", 9, true), member("web2", 2, true));
    commit(store, |t| {
        t.put_host(&host_row("web1", "up", ""))?;
        t.put_member(&one)?;
        t.put_member(&two)
    });
    assert_eq!(store.reader().unwrap().members().unwrap(), [two.clone(), one]);
    let left = store::MemberRow { generation: 4, ..member("web1", 9, false) };
    commit(store, |t| {
        t.put_member(&left)?;
        t.remove_host(&host("web1"), at(500))
    });
    assert_eq!(store.reader().unwrap().members().unwrap(), [two, left], "the number outlives the host");
    let mut transaction = store.begin().unwrap();
    assert!(transaction.put_member(&member("web3", 9, true)).is_err(), "a number is given to one host only");
}

pub fn documents_have_periods(store: &mut dyn Store) {
    let first = put(store, "web1", "_init_sshd", json!({"Port": 22}), 100);
    let second = put(store, "web1", "_init_sshd", json!({"Port": 2222}), 200);
    put(store, "web2", "_init_sshd", json!({"Port": 1}), 150);
    let mut reader = store.reader().unwrap();
    let mut at_time = |micros: Option<i64>| {
        reader
            .document_at(&host("web1"), "_init_sshd", micros.map(at))
            .unwrap()
            .map(|(row, body)| (row.hash, row.until, body))
    };
    assert_eq!(at_time(Some(99)), None);
    let (hash, until, body) = at_time(Some(100)).unwrap();
    assert_eq!((hash, until), (first.hash, Some(at(200))), "the start of a period belongs to it");
    assert!(body.contains(r#""Port":22}"#), "{body}");
    assert_eq!(at_time(Some(199)).unwrap().0, first.hash);
    assert_eq!(at_time(Some(200)).unwrap().0, second.hash, "the end of a period does not belong to it");
    assert_eq!(at_time(None).unwrap().0, second.hash);
    assert_eq!(reader.document_at(&host("web1"), "_init_pam", None).unwrap(), None);
    commit(store, |t| {
        assert_eq!(t.document(&host("web1"), "_init_sshd")?, Some(second.clone()));
        assert_eq!(t.body(&first.hash)?.map(|b| DocumentHash::of(b.as_bytes())), Some(first.hash));
        assert_eq!(t.body(&DocumentHash([7; 32]))?, None);
        t.remove_document(&host("web1"), "_init_sshd", at(300))?;
        assert_eq!(t.document(&host("web1"), "_init_sshd")?, None);
        assert_eq!(t.documents(&host("web1"))?, vec![]);
        Ok(())
    });
    let mut reader = store.reader().unwrap();
    assert_eq!(reader.documents_at(&host("web1"), Some(at(299))).unwrap().len(), 1);
    assert_eq!(reader.documents_at(&host("web1"), Some(at(300))).unwrap(), vec![]);
    assert_eq!(reader.documents_at(&host("web1"), None).unwrap(), vec![]);
    assert_eq!(reader.documents_at(&host("web2"), None).unwrap().len(), 1, "another host keeps its own");
}

pub fn a_clock_set_back_keeps_periods_in_order(store: &mut dyn Store) {
    put(store, "web1", "a", json!(1), 1000);
    let late = put(store, "web1", "a", json!(2), 400);
    let mut reader = store.reader().unwrap();
    let (row, _) = reader.document_at(&host("web1"), "a", None).unwrap().unwrap();
    assert_eq!((row.hash, row.since), (late.hash, at(1000)));
    assert_eq!(reader.document_at(&host("web1"), "a", Some(at(1000))).unwrap().unwrap().0.hash, late.hash);
    assert_eq!(reader.document_at(&host("web1"), "a", Some(at(400))).unwrap(), None);
}

pub fn equal_documents_start_no_period_and_are_stored_once(store: &mut dyn Store) {
    put(store, "web1", "a", json!({"x": 1}), 100);
    put(store, "web1", "a", json!({"x": 1}), 200);
    put(store, "web2", "a", json!({"x": 1}), 300);
    assert_eq!(cell(store, "SELECT count(*) FROM changes"), json!(2));
    assert_eq!(cell(store, "SELECT count(DISTINCT hash) FROM changes"), json!(1));
    assert_eq!(cell(store, "SELECT count(*) FROM document"), json!(1));
    commit(store, |t| {
        assert_eq!(t.document(&host("web1"), "a")?.unwrap().since, at(100));
        Ok(())
    });
}

pub fn a_wrong_hash_is_refused(store: &mut dyn Store) {
    let (row, _) = document("a", json!(1), 100);
    let mut transaction = store.begin().unwrap();
    let error = transaction.put_document(&host("web1"), &row, "{\"data\":2}").unwrap_err();
    assert!(error.to_string().contains("hash"), "{error}");
}

pub fn rule_results_have_periods(store: &mut dyn Store) {
    let name = host("web1");
    commit(store, |t| {
        t.put_rule_results(
            &name,
            "_init_sshd",
            &[result("r1", "pass", 0.0, 100), result("r2", "fail", 2.0, 100)],
        )
    });
    commit(store, |t| t.put_rule_results(&name, "_init_sshd", &[result("r1", "fail", 3.0, 200)]));
    commit(store, |t| {
        let current = t.rule_results(&name, "_init_sshd")?;
        assert_eq!(
            current.iter().map(|r| (r.rule_id.as_str(), r.score)).collect::<Vec<_>>(),
            [("r1", 3.0), ("r2", 2.0)]
        );
        assert_eq!(current[0], result("r1", "fail", 3.0, 200));
        assert_eq!(t.rule_results(&name, "_init_pam")?, vec![]);
        t.remove_rule_results(&name, "_init_sshd", &["r2", "never"], at(300))?;
        assert_eq!(t.rule_results(&name, "_init_sshd")?.len(), 1);
        Ok(())
    });
    let mut reader = store.reader().unwrap();
    let history = reader.rule_history(&name, "r1").unwrap();
    let periods: Vec<_> = history.iter().map(|r| (r.status.as_str(), r.since, r.until)).collect();
    assert_eq!(periods, [("pass", at(100), Some(at(200))), ("fail", at(200), None)]);
    let mut status =
        |rule: &str, micros| reader.rule_result_at(&name, rule, at(micros)).unwrap().map(|r| r.status);
    assert_eq!(status("r1", 99), None);
    assert_eq!(status("r1", 199).as_deref(), Some("pass"));
    assert_eq!(status("r1", 200).as_deref(), Some("fail"));
    assert_eq!(status("r2", 299).as_deref(), Some("fail"));
    assert_eq!(status("r2", 300), None);
}

pub fn facts_at_past_times(store: &mut dyn Store) {
    put(store, "web1", "p", json!({"net.ipv4.ip_forward": 0, "a": {"b": {"c": [5, 6]}}}), 100);
    put(store, "web1", "p", json!({"net.ipv4.ip_forward": 1}), 200);
    let mut reader = store.reader().unwrap();
    let mut fact =
        |path: &str, micros: Option<i64>| reader.fact_at(&host("web1"), "p", path, micros.map(at)).unwrap();
    assert_eq!(fact("net.ipv4.ip_forward", Some(150)), Some(json!(0)));
    assert_eq!(fact("net.ipv4.ip_forward", None), Some(json!(1)));
    assert_eq!(fact("a.b.c.1", Some(150)), Some(json!(6)));
    assert_eq!(fact("a.b.c", None), None);
    assert_eq!(fact("a", Some(50)), None);
}

pub fn a_removed_host_keeps_its_history(store: &mut dyn Store) {
    site::fill(store);
    let name = host("web1");
    commit(store, |t| t.remove_host(&name, at(site::LATER)));
    commit(store, |t| t.remove_host(&host("never-seen"), at(site::LATER)));
    assert_eq!(cell(store, "SELECT count(*) FROM hosts WHERE host = 'web1'"), json!(0));
    for view in ["documents", "rule_results", "nics", "packages", "scores"] {
        assert_eq!(
            cell(store, &format!("SELECT count(*) FROM {view} WHERE host = 'web1'")),
            json!(0),
            "{view}"
        );
        assert_ne!(
            cell(store, &format!("SELECT count(*) FROM {view} WHERE host = 'web2'")),
            json!(0),
            "{view}"
        );
    }
    assert_eq!(cell(store, "SELECT count(*) FROM nodes WHERE key = 'web1'"), json!(0));
    let mut reader = store.reader().unwrap();
    assert!(reader.document_at(&name, "_init_sshd", Some(at(site::LATER - 1))).unwrap().is_some());
    assert!(reader.document_at(&name, "_init_sshd", None).unwrap().is_none());
    assert_eq!(reader.rule_history(&name, "nist_V-1").unwrap()[0].until, Some(at(site::LATER)));
    // Registered again, it goes on where it was.
    commit(store, |t| t.put_host(&host_row("web1", "up", "STARTUP")));
    put(store, "web1", "_init_sshd", json!({"again": true}), site::LATER + 10);
    assert!(
        store
            .reader()
            .unwrap()
            .document_at(&name, "_init_sshd", Some(at(site::LATER - 1)))
            .unwrap()
            .is_some()
    );
}
