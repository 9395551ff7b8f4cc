//! SQL that people type, friendly and hostile.

use super::*;
use std::time::{Duration, Instant};
use store::StoreError;
use store::sqlite::documentation;

pub fn every_view_answers_with_its_documented_columns(store: &mut dyn Store) {
    site::fill(store);
    site::fill_monitors(store);
    network::fill(store);
    commit(store, |t| {
        t.set_tags(&host("web1"), &["dmz".into()])?;
        t.set_groups(&host("web1"), &[("web".into(), "tag dmz".into())], at(5))
    });
    for view in documentation() {
        let table = sql(store, &format!("SELECT * FROM {}", view.name));
        let names: Vec<&str> = view.columns.iter().map(|(name, _)| *name).collect();
        assert_eq!(table.columns, names, "{}", view.name);
        assert!(!table.rows.is_empty(), "{} is empty", view.name);
        assert!(view.columns.iter().all(|(_, meaning)| !meaning.is_empty()) && !view.meaning.is_empty());
    }
    assert_eq!(
        cell(
            store,
            "SELECT document ->> '$.data.host' FROM documents WHERE host = 'web1' AND instance = '_init_sshd'"
        ),
        json!("web1")
    );
    assert_eq!(
        cell(
            store,
            "SELECT value FROM documents, json_tree(document) WHERE host = 'db1' AND fullkey = '$.data.host'"
        ),
        json!("db1")
    );
    assert_eq!(cell(store, "SELECT min(since) FROM documents"), json!("1970-01-01T00:00:00.000100Z"));
    assert_eq!(
        json!(
            sql(
                store,
                "SELECT host, category, discovertype, score FROM scores WHERE score > 0 ORDER BY 1, 2, 3"
            )
            .rows
        ),
        json!([
            ["web1", "security", "pam", 1.0],
            ["web1", "security", "sshd", 3.0],
            ["web2", "networking", "sshd", 2.0],
            ["web2", "security", "sshd", 3.0]
        ])
    );
}

pub fn parameters_are_bound_by_name(store: &mut dyn Store) {
    site::fill(store);
    let mut reader = store.reader().unwrap();
    let mut ask = |statement: &str, parameters: Value| {
        let parameters: Vec<(String, Value)> = parameters
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        reader.sql(statement, &parameters, LIMITS).map(|table| json!(table.rows))
    };
    assert_eq!(
        ask("SELECT :n, :t, :b", json!({"n": 1, "t": "x", "b": true, "unused": 1})).unwrap(),
        json!([[1, "x", 1]])
    );
    assert_eq!(
        ask(
            "SELECT host FROM hosts WHERE host IN (SELECT value FROM json_each(:list)) ORDER BY 1",
            json!({"list": ["web2", "db1"]})
        )
        .unwrap(),
        json!([["db1"], ["web2"]])
    );
    assert_eq!(
        ask("SELECT :x", json!({"x": "'; DROP TABLE host --"})).unwrap(),
        json!([["'; DROP TABLE host --"]])
    );
    assert!(ask("SELECT :missing", json!({})).unwrap_err().to_string().contains(":missing"));
    assert_eq!(ask("SELECT 'openssl' REGEXP :p", json!({"p": "^open"})).unwrap(), json!([[1]]));
}

pub fn nothing_but_reading_is_possible(store: &mut dyn Store) {
    site::fill(store);
    let mut reader = store.reader().unwrap();
    for statement in [
        "DELETE FROM host",
        "UPDATE host SET status = 'up'",
        "DROP VIEW hosts",
        "CREATE TABLE x(y)",
        "CREATE TEMP TABLE x(y)",
        "WITH a AS (SELECT 1) DELETE FROM host",
        "WITH a AS (SELECT 1) INSERT INTO setting SELECT 'a', 'b'",
        "ATTACH '/tmp/x' AS y",
        "VACUUM",
        "VACUUM INTO '/tmp/x'",
        "PRAGMA query_only = OFF",
        "BEGIN",
        "COMMIT",
        "SAVEPOINT a",
        "SELECT load_extension('x')",
        "SELECT * FROM pragma_database_list",
        "SELECT * FROM pragma_table_info('host')",
        "SELECT count(*) FROM pragma_database_list",
        "SELECT value FROM setting",
        "SELECT properties FROM claim",
        "DELETE FROM reverse_name",
        "SELECT fts3_tokenizer('simple')",
        "SELECT writefile('/tmp/x', 'y')",
        "SELECT * FROM dbstat",
        "EXPLAIN DELETE FROM host",
        "ANALYZE",
        "REINDEX",
        "SELECT 1; DELETE FROM host",
        "SELECT nothing FROM hosts",
    ] {
        let answer = reader.sql(statement, &[], LIMITS);
        assert!(matches!(answer, Err(StoreError::Sql(_))), "{statement}: {answer:?}");
    }
    for statement in [
        "EXPLAIN QUERY PLAN SELECT * FROM hosts",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION SELECT x + 1 FROM n WHERE x < 9) SELECT count(*) FROM n",
        "SELECT count(*) FROM hosts -- all",
        "VALUES (1)",
        "SELECT json_object('a', 1) -> '$.a'",
        "SELECT host FROM hosts;",
        "SELECT row_number() OVER (ORDER BY host) FROM hosts",
    ] {
        let answer = reader.sql(statement, &[], LIMITS);
        assert!(answer.is_ok(), "{statement}: {answer:?}");
    }
    assert_eq!(reader.hosts().unwrap().len(), 3);
}

pub fn hostile_statements_are_stopped(store: &mut dyn Store) {
    site::fill(store);
    network::fill(store);
    let mut reader = store.reader().unwrap();
    let limits = SqlLimits { rows: 100, milliseconds: 300, bytes: 1_000_000 };
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)";
    let big = "printf('%.*c', 16000000, 'a')";
    let mut run = |statement: &str| {
        let start = Instant::now();
        let answer = reader.sql(statement, &[], limits);
        let took = start.elapsed();
        println!("  {:>6} ms {:.70}", took.as_millis(), statement);
        assert!(took < Duration::from_secs(10), "{statement:.70}: {took:?}");
        answer
    };
    for statement in [
        format!("{endless} SELECT count(*) FROM n"),
        format!("{endless} SELECT x FROM n ORDER BY x DESC"),
        format!("{endless} SELECT {big} || x AS r FROM n ORDER BY r"),
        format!(
            "SELECT count(*) FROM {}",
            (0..14).map(|n| format!("changes c{n}")).collect::<Vec<_>>().join(", ")
        ),
        format!("SELECT count(*) FROM {}", (0..9).map(|n| format!("edges e{n}")).collect::<Vec<_>>().join(", ")),
        format!("{endless} SELECT count(network_of({big}, x)) + count(oui({big})) + count(context_of({big})) FROM n"),
        format!("{endless} SELECT sum(network_of('10.0.0.' || x % 256, x % 40) IS NULL) FROM n"),
        format!("{endless} SELECT group_concat(context_of(x || '/' || {big}), x) FROM n"),
        format!("{endless} SELECT string_agg(x, {big}) FROM n"),
        "WITH RECURSIVE n(x) AS (SELECT printf('%.*c', 1000000, 'a') UNION SELECT x || 'b' FROM n) SELECT count(*) FROM n".into(),
        "SELECT length(printf('%2000000000d', 1))".into(),
        format!("SELECT {big}"),
        format!("SELECT hex({big})"),
        format!("{endless} SELECT group_concat({big}) FROM n"),
        format!("{endless} SELECT json_group_array(x) FROM n"),
        format!("SELECT {}", vec![big; 99].join(", ")),
        format!("SELECT {}", vec![format!("length({big})"); 90].join(" + ") + &format!(", {big}")),
    ] {
        let answer = run(&statement);
        assert!(matches!(answer, Err(StoreError::Limit(_))), "{statement:.70}: {answer:?}");
    }
    // Quadratic in SQLite, where they would take hours and could not be stopped; what they answer does not matter.
    for statement in [
        format!("SELECT instr({big}, printf('%.*c', 8000000, 'a') || 'b')"),
        format!("SELECT length(replace({big}, printf('%.*c', 8000000, 'a') || 'b', ''))"),
        format!("SELECT length(replace({big}, 'a', {big}))"),
        format!("SELECT length(trim({big}, printf('%.*c', 8000000, 'b')))"),
        format!("SELECT {big} LIKE '%a%a%a%a%a%a%a%a%a%a%a%b'"),
        format!("SELECT {big} LIKE '%{}b'", "_".repeat(100)),
        format!("SELECT {big} REGEXP '(a*)*(a*)*b'"),
        // Views within views within views: long to compile rather than long to run.
        format!(
            "SELECT count(*) FROM {}",
            (0..12).map(|n| format!("known_addresses k{n}")).collect::<Vec<_>>().join(", ")
        ),
        format!(
            "SELECT {} FROM hosts",
            vec!["(SELECT count(*) FROM known_addresses k JOIN dependencies d ON d.ipaddr = k.ipaddr)"; 80]
                .join(", ")
        ),
    ] {
        let _ = run(&statement);
    }
    for statement in ["SELECT zeroblob(2000000000)", "SELECT randomblob(16000000)"] {
        assert!(run(statement).is_err(), "{statement}");
    }
    let table = reader.sql(&format!("{endless} SELECT x FROM n"), &[], limits).unwrap();
    assert_eq!((table.rows.len(), table.truncated), (100, true));
    let exact = reader.sql("SELECT 1 FROM hosts", &[], SqlLimits { rows: 3, ..limits }).unwrap();
    assert_eq!((exact.rows.len(), exact.truncated), (3, false), "a limit that cuts nothing off is not told");
    let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(reader.sql(&deep, &[], limits).is_err());
    // The reader works on, and so does the writer.
    assert_eq!(reader.sql("SELECT count(*) FROM hosts", &[], limits).unwrap().rows[0][0], json!(3));
    commit(store, |t| t.set_setting("after", "1"));
}
