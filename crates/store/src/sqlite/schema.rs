//! The tables, and the way from one version of them to the next.
//!
//! Times are microseconds since 1970 (UTC). A period `[since, until)` without `until` is the current one; partial
//! indexes make "current" and "current and failing" as fast as small tables of their own.

use super::copy::Identity;
use super::{failure, migration, views};
use crate::{Result, StoreError};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use std::path::Path;

/// Version of the tables that this program writes.
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// `ASIM` in ASCII: tells our files from other people's SQLite databases.
const APPLICATION_ID: i64 = 0x4153_494d;

/// Step `n` leads from version `n` to `n + 1`. A released step never changes; a new one is added at the end.
const MIGRATIONS: &[&str] = &[V1, V2_MEMBERS, V3_CLAIMS, V4_ENROLMENT, V5_KEYS, V6_GROUPS];

const V1: &str = "
-- A host keeps its number for ever: history outlives the registration.
CREATE TABLE host_name(id INTEGER PRIMARY KEY, designation TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE host(
  id INTEGER PRIMARY KEY REFERENCES host_name,
  domain TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, status_since INTEGER NOT NULL,
  first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, key BLOB NOT NULL,
  rejected_key BLOB, rejected_at INTEGER, address TEXT NOT NULL, started INTEGER NOT NULL, software TEXT NOT NULL
) STRICT;

-- Bodies are zstd of the canonical text; equal documents of many hosts are stored once.
CREATE TABLE document(id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE document_period(
  id INTEGER PRIMARY KEY,
  host INTEGER NOT NULL REFERENCES host_name, instance TEXT NOT NULL, discovertype TEXT NOT NULL,
  document INTEGER NOT NULL REFERENCES document,
  changed_after INTEGER NOT NULL, seen INTEGER NOT NULL, since INTEGER NOT NULL, until INTEGER
) STRICT;
CREATE UNIQUE INDEX document_current ON document_period(host, instance) WHERE until IS NULL;
CREATE INDEX document_history ON document_period(host, instance, since);
CREATE INDEX document_use ON document_period(document);

CREATE TABLE rule_period(
  id INTEGER PRIMARY KEY,
  host INTEGER NOT NULL REFERENCES host_name, instance TEXT NOT NULL, rule_id TEXT NOT NULL,
  status TEXT NOT NULL, category TEXT NOT NULL, severity TEXT NOT NULL, score REAL NOT NULL,
  used_values TEXT NOT NULL, note TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER
) STRICT;
CREATE UNIQUE INDEX rule_current ON rule_period(host, instance, rule_id) WHERE until IS NULL;
CREATE INDEX rule_failing ON rule_period(category, rule_id, host) WHERE until IS NULL AND status = 'fail';
CREATE INDEX rule_history_of ON rule_period(host, rule_id, since);

CREATE TABLE node(
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, properties TEXT NOT NULL, changed INTEGER NOT NULL,
  -- The key first: kind alone selects too much, and SQLite would choose it over the partial indexes below.
  UNIQUE(key, kind)
) STRICT;
CREATE INDEX node_ipaddr ON node(properties ->> '$.ipaddr') WHERE kind = 'IPaddrNode';
CREATE INDEX node_macaddr ON node(properties ->> '$.macaddr') WHERE kind = 'NICNode';
CREATE INDEX node_package ON node(properties ->> '$.name') WHERE kind = 'Package';
-- (host, instance) owns the edge: what it no longer says goes.
CREATE TABLE edge(
  host INTEGER NOT NULL REFERENCES host_name, instance TEXT NOT NULL,
  source INTEGER NOT NULL REFERENCES node, kind TEXT NOT NULL, target INTEGER NOT NULL REFERENCES node,
  since INTEGER NOT NULL,
  PRIMARY KEY(host, instance, source, kind, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX edge_forward ON edge(source, kind, target);
CREATE INDEX edge_reverse ON edge(target, kind, source);

CREATE TABLE event(
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, eventid TEXT NOT NULL UNIQUE, time INTEGER NOT NULL,
  eventtype TEXT NOT NULL, nodetype TEXT NOT NULL, designation TEXT NOT NULL, event TEXT NOT NULL
) STRICT;
CREATE INDEX event_time ON event(time);
CREATE INDEX event_designation ON event(designation);
CREATE TABLE outbox(
  sequence INTEGER NOT NULL REFERENCES event, channel TEXT NOT NULL,
  attempts INTEGER NOT NULL, due INTEGER NOT NULL, progress TEXT NOT NULL,
  PRIMARY KEY(sequence, channel)
) STRICT, WITHOUT ROWID;
-- Finished deliveries; failure says why one was given up.
CREATE TABLE delivery(
  sequence INTEGER NOT NULL REFERENCES event, channel TEXT NOT NULL,
  attempts INTEGER NOT NULL, finished INTEGER NOT NULL, failure TEXT,
  PRIMARY KEY(sequence, channel)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_failed ON delivery(finished) WHERE failure IS NOT NULL;

-- Last durable sequence of each outgoing queue of a nanoprobe.
CREATE TABLE queue_cursor(
  key BLOB NOT NULL, incarnation BLOB NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY(key, incarnation)
) STRICT, WITHOUT ROWID;
CREATE TABLE setting(name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

const V2_MEMBERS: &str = "
-- Who watches whom: what the CMA has to remember of the heartbeat rings across a restart. Hosts that left keep their number.
CREATE TABLE heartbeat_member(
  host INTEGER PRIMARY KEY REFERENCES host_name, number INTEGER NOT NULL UNIQUE, session BLOB, place TEXT NOT NULL,
  position INTEGER NOT NULL, generation INTEGER NOT NULL, address TEXT NOT NULL, present INTEGER NOT NULL
) STRICT;
";

const V3_CLAIMS: &str = "
-- Who says what of a node; docs/decisions/0009-claims.md. claimed: 0 = nobody says more than the key does; else the number of
-- the only claimant, whose claim the properties are (changed: since when); -1 = several, each with a row in claim.
ALTER TABLE node ADD COLUMN claimed INTEGER NOT NULL DEFAULT 0;
CREATE TABLE claimant(
  id INTEGER PRIMARY KEY AUTOINCREMENT, host INTEGER NOT NULL REFERENCES host_name, instance TEXT NOT NULL,
  UNIQUE(host, instance)
) STRICT;
CREATE TABLE claim(
  node INTEGER NOT NULL REFERENCES node, claimant INTEGER NOT NULL, since INTEGER NOT NULL, properties TEXT NOT NULL,
  PRIMARY KEY(node, claimant)
) STRICT, WITHOUT ROWID;

-- Names from reverse DNS; a null name: there is none.
CREATE TABLE reverse_name(address TEXT NOT NULL PRIMARY KEY, name TEXT, looked_up INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE INDEX node_link_address ON node(properties ->> '$.macaddr') WHERE kind = 'LinkAddress';
CREATE INDEX node_service ON node(properties ->> '$.ipaddr') WHERE kind = 'IPtcpportNode';
CREATE INDEX node_system ON node(key) WHERE kind = 'SystemNode';
CREATE INDEX node_child ON node(key) WHERE kind = 'ChildSystem';
-- Of these kinds a site is asked for all, and a host for its own; other edges of a host are many.
CREATE INDEX edge_service ON edge(host) WHERE kind = 'tcpservice';
CREATE INDEX edge_client ON edge(host) WHERE kind = 'tcpclient';
CREATE INDEX edge_cable ON edge(host) WHERE kind = 'wiredto';
";

const V4_ENROLMENT: &str = "
-- What hosts are grouped by; from the token they were enrolled with, or from an administrator.
CREATE TABLE host_tag(
  host INTEGER NOT NULL REFERENCES host_name, tag TEXT NOT NULL, PRIMARY KEY(host, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX host_tag_hosts ON host_tag(tag);

-- Enrolment tokens by their hash, and which keys were enrolled with them: each counts once.
CREATE TABLE enrolment_token(
  id INTEGER PRIMARY KEY AUTOINCREMENT, hash BLOB NOT NULL UNIQUE, tags TEXT NOT NULL, hosts TEXT NOT NULL,
  uses INTEGER, created INTEGER NOT NULL, expires INTEGER, revoked INTEGER
) STRICT;
CREATE TABLE token_use(
  token INTEGER NOT NULL REFERENCES enrolment_token, key BLOB NOT NULL, used INTEGER NOT NULL, PRIMARY KEY(token, key)
) STRICT, WITHOUT ROWID;

-- Keys of hosts that wait for approval, and keys that are refused for ever.
CREATE TABLE pending_key(
  key BLOB NOT NULL PRIMARY KEY, designation TEXT NOT NULL, source TEXT NOT NULL, address TEXT NOT NULL,
  first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, software TEXT NOT NULL, machine TEXT NOT NULL,
  note TEXT NOT NULL, approved INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE revoked_key(
  key BLOB NOT NULL PRIMARY KEY, designation TEXT NOT NULL, reason TEXT NOT NULL, revoked INTEGER NOT NULL, tried INTEGER
) STRICT, WITHOUT ROWID;

-- On which machine each host was last seen, and what speaks for two of them.
CREATE TABLE host_machine(host INTEGER PRIMARY KEY REFERENCES host_name, machine TEXT NOT NULL) STRICT;
";

const V5_KEYS: &str = "
-- Which keys of the CMA a host trusts, as it said last; null: its nanoprobe cannot tell. answered: hash of the list that it was
-- told when it said so. is_warned: people were told that it did not take that list.
CREATE TABLE host_cma_keys(
  host INTEGER PRIMARY KEY REFERENCES host_name, trusted BLOB, answered BLOB, is_warned INTEGER NOT NULL, since INTEGER NOT NULL
) STRICT;
";

const V6_GROUPS: &str = "
-- Which hosts are in which groups of cma.toml, as last worked out; why: what the host fits, for people.
CREATE TABLE host_group(
  host INTEGER NOT NULL REFERENCES host_name, name TEXT NOT NULL, why TEXT NOT NULL, since INTEGER NOT NULL,
  PRIMARY KEY(host, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX host_group_hosts ON host_group(name);
";

/// Refuses a database of another program or of a newer version of this one, before anything is written.
pub fn refuse_strangers(connection: &Connection, path: &Path) -> Result<()> {
    let (application, version, tables) = identity(connection)?;
    if application != APPLICATION_ID && (application != 0 || version != 0 || tables > 0) {
        let path = path.display().to_string();
        return Err(StoreError::Foreign { path, what: "an SQLite database of another program" });
    }
    if version > SCHEMA_VERSION {
        return Err(too_new(path, version, SCHEMA_VERSION));
    }
    Ok(())
}

/// Version and size of a database of ours, whatever the version is.
pub fn identify(connection: &Connection, path: &Path) -> Result<Identity> {
    let (application, version, tables) = identity(connection)?;
    if application != APPLICATION_ID && (application != 0 || version != 0 || tables > 0) {
        return Err(StoreError::Foreign {
            path: path.display().to_string(),
            what: "an SQLite database of another program",
        });
    }
    let pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let bytes: i64 = connection.query_row(pages, [], |row| row.get(0)).map_err(failure)?;
    Ok(Identity { schema: version, bytes: u64::try_from(bytes).unwrap_or(0) })
}

/// With the copy that goes with this version, if there is one.
fn too_new(path: &Path, found: i64, known: i64) -> StoreError {
    let copy = migration::copies(path).into_iter().find(|(version, _)| *version <= known);
    let way_back = match copy {
        Some((_, copy)) => format!("go back to the copy from before: assimcli restore {}", copy.display()),
        None => "restore a backup".to_owned(),
    };
    StoreError::TooNew { path: path.display().to_string(), found, known, way_back }
}

/// Creates or migrates the tables, and the views when their text has changed, in one transaction.
pub fn bring_up_to_date(connection: &mut Connection, path: &Path) -> Result<()> {
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failure)?;
    migrate(&transaction, MIGRATIONS, path)?;
    refresh_views(&transaction).map_err(failure)?;
    transaction.commit().map_err(failure)
}

fn migrate(transaction: &Transaction<'_>, steps: &[&str], path: &Path) -> Result<()> {
    let (_, version, _) = identity(transaction)?;
    let done = usize::try_from(version).map_err(|_| {
        StoreError::Corrupt(format!("{} has the impossible schema version {version}", path.display()))
    })?;
    let Some(missing) = steps.get(done..) else {
        return Err(too_new(path, version, i64::try_from(steps.len()).unwrap_or(i64::MAX)));
    };
    if missing.is_empty() {
        return Ok(());
    }
    // Views name columns that a step may rename; they are made again afterwards.
    drop_views(transaction).map_err(failure)?;
    for step in missing {
        transaction.execute_batch(step).map_err(failure)?;
    }
    transaction
        .execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}",
            steps.len()
        ))
        .map_err(failure)
}

fn identity(connection: &Connection) -> Result<(i64, i64, i64)> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failure);
    Ok((
        number("PRAGMA application_id")?,
        number("PRAGMA user_version")?,
        number("SELECT count(*) FROM sqlite_schema")?,
    ))
}

fn refresh_views(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    const NAME: &str = "store.views";
    let wanted = views::all_sql();
    let present: Option<String> = transaction
        .query_row("SELECT value FROM setting WHERE name = ?1", [NAME], |row| row.get(0))
        .optional()?;
    if present.as_deref() == Some(&wanted) {
        return Ok(());
    }
    drop_views(transaction)?;
    transaction.execute_batch(&wanted)?;
    transaction.execute(
        "INSERT INTO setting(name, value) VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET value = excluded.value",
        [NAME, &wanted],
    )?;
    Ok(())
}

fn drop_views(connection: &Connection) -> rusqlite::Result<()> {
    let mut find = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'view'")?;
    let names = find.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    for name in names {
        connection.execute_batch(&format!("DROP VIEW \"{}\"", name.replace('"', "\"\"")))?;
    }
    // Gone views must be made again even when their text has not changed.
    let settings: i64 =
        connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'setting'", [], |row| row.get(0))?;
    if settings > 0 {
        connection.execute("DELETE FROM setting WHERE name = 'store.views'", [])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migrate(connection: &mut Connection, steps: &[&str], path: &Path) -> Result<()> {
        let transaction = connection.transaction().map_err(failure)?;
        super::migrate(&transaction, steps, path)?;
        transaction.commit().map_err(failure)
    }

    fn version(connection: &Connection) -> i64 {
        identity(connection).unwrap().1
    }

    #[test]
    fn an_older_database_is_migrated_and_keeps_its_rows() {
        let mut connection = Connection::open_in_memory().unwrap();
        let first =
            "CREATE TABLE a(x TEXT) STRICT; CREATE TABLE setting(name TEXT PRIMARY KEY, value TEXT) STRICT;";
        migrate(&mut connection, &[first], Path::new("p")).unwrap();
        connection.execute("INSERT INTO a VALUES ('kept')", []).unwrap();
        migrate(&mut connection, &[first, "ALTER TABLE a ADD COLUMN y TEXT"], Path::new("p")).unwrap();
        assert_eq!(version(&connection), 2);
        let row: (String, Option<String>) =
            connection.query_row("SELECT x, y FROM a", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(row, ("kept".into(), None));
    }

    #[test]
    fn a_database_of_the_first_version_gets_the_table_of_members() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &[V1], Path::new("p")).unwrap();
        connection.execute("INSERT INTO host_name(designation) VALUES ('kept')", []).unwrap();
        migrate(&mut connection, MIGRATIONS, Path::new("p")).unwrap();
        let insert = "INSERT INTO heartbeat_member SELECT id, 7, NULL, '', 1, 2, '', 1 FROM host_name";
        assert_eq!(connection.execute(insert, []).unwrap(), 1);
        let another = "INSERT INTO heartbeat_member VALUES (99, 7, NULL, '', 1, 2, '', 1)";
        assert!(connection.execute(another, []).is_err(), "a number belongs to one host");
    }

    #[test]
    fn a_graph_without_claims_stays_until_it_is_said_anew() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &[V1, V2_MEMBERS], Path::new("p")).unwrap();
        let rows = "INSERT INTO host_name(id, designation) VALUES (1, 'web1');
            INSERT INTO node(id, kind, key, properties, changed) VALUES
              (1, 'Drone', 'web1', '{\"os_name\":\"Debian\",\"gone\":1}', 5),
              (2, 'NICNode', 'web1/eth0', '{\"ifname\":\"eth0\",\"macaddr\":\"00-16-3e-00-00-01\"}', 5);
            INSERT INTO edge VALUES (1, 'netconfig', 1, 'nicowner', 2, 5);";
        connection.execute_batch(rows).unwrap();
        super::super::functions::register(&connection).unwrap();
        bring_up_to_date(&mut connection, Path::new("p")).unwrap();
        for view in views::documentation() {
            let sql = format!("SELECT count(*) FROM {}", view.name);
            connection.query_row(&sql, [], |_| Ok(())).unwrap_or_else(|e| panic!("{}: {e}", view.name));
        }
        let sql = "SELECT ifname || ' ' || since FROM nics WHERE host = 'web1'";
        let row: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(row, "eth0 1970-01-01T00:00:00.000005Z");
        let mut transaction: Box<dyn crate::Transaction> =
            Box::new(super::super::transaction::SqliteTransaction::begin(&connection).unwrap());
        let facts = model::GraphFacts {
            host_properties: serde_json::Map::from_iter([("os_name".to_owned(), "Debian".into())]),
            ..Default::default()
        };
        let web1 = model::Designation::new("web1").unwrap();
        transaction.replace_graph(&web1, "os", &facts, model::Timestamp(9)).unwrap();
        transaction.commit().unwrap();
        let sql = "SELECT properties FROM nodes WHERE key = 'web1'";
        let row: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(
            row, r#"{"os_name":"Debian"}"#,
            "what nobody says any more goes with the first that speaks"
        );
    }

    #[test]
    fn a_failing_migration_leaves_the_old_version_whole() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &["CREATE TABLE a(x TEXT) STRICT"], Path::new("p")).unwrap();
        let steps = ["CREATE TABLE a(x TEXT) STRICT", "CREATE TABLE b(x TEXT) STRICT; SELECT nothing_here"];
        assert!(migrate(&mut connection, &steps, Path::new("p")).is_err());
        assert_eq!(version(&connection), 1);
        assert!(connection.prepare("SELECT * FROM b").is_err(), "half a step must not stay");
    }

    #[test]
    fn a_newer_database_is_refused_by_both_paths() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(&format!(
                "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}",
                SCHEMA_VERSION + 1
            ))
            .unwrap();
        let refused = |e| matches!(e, Err(StoreError::TooNew { found, .. }) if found == SCHEMA_VERSION + 1);
        assert!(refused(refuse_strangers(&connection, Path::new("p"))));
        assert!(refused(migrate(&mut connection, MIGRATIONS, Path::new("p"))));
    }

    #[test]
    fn another_programs_database_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        refuse_strangers(&connection, Path::new("p")).unwrap();
        connection.execute_batch("CREATE TABLE bookmarks(x)").unwrap();
        let refused = refuse_strangers(&connection, Path::new("p"));
        assert!(matches!(refused, Err(StoreError::Foreign { .. })), "{refused:?}");
    }
}
