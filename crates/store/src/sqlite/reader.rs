//! Reads of what is committed, now or at a past time.

use super::functions::unpack;
use super::rows::{self, DOCUMENT_COLUMNS, HOST_COLUMNS, MEMBER_COLUMNS, RULE_COLUMNS};
use super::sql::BoundedConnection;
use super::{failure, host_keys, names, open, walk};
use crate::{
    Direction, DocumentRow, GraphEdge, GraphLink, GraphNode, HostKeysRow, HostRow, MemberRow, OutboxRow,
    Reader, Result, RuleResultRow, SqlLimits, StoreError, Table,
};
use model::{Designation, Event, Timestamp};
use rusqlite::{Connection, OptionalExtension, Params, Row};
use serde_json::Value;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub struct SqliteReader {
    pub(super) connection: Connection,
    path: PathBuf,
    /// A connection of its own, made when the first statement of a person arrives.
    typed: Option<BoundedConnection>,
}

impl SqliteReader {
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { connection: open::reader(path)?, path: path.to_owned(), typed: None })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    fn one<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut s| s.query_row(parameters, read).optional())
            .map_err(failure)
    }

    fn all<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut s| s.query_map(parameters, read)?.collect())
            .map_err(failure)
    }
}

/// Periods in force at `?1`; the current ones when it is null.
const IN_FORCE: &str =
    "iif(?1 IS NULL, p.until IS NULL, p.since <= ?1 AND (p.until IS NULL OR p.until > ?1))";

impl Reader for SqliteReader {
    fn hosts(&mut self) -> Result<Vec<HostRow>> {
        self.all(&format!("SELECT {HOST_COLUMNS} ORDER BY n.designation"), [], rows::host)
    }

    fn members(&mut self) -> Result<Vec<MemberRow>> {
        self.all(&format!("SELECT {MEMBER_COLUMNS} ORDER BY m.number"), [], rows::member)
    }

    fn all_host_keys(&mut self) -> Result<Vec<HostKeysRow>> {
        host_keys::all(&self.connection)
    }

    fn outbox(&mut self, limit: usize) -> Result<Vec<OutboxRow>> {
        self.all(
            "SELECT o.sequence, o.channel, e.event, o.attempts, o.due, o.progress
             FROM outbox o CROSS JOIN event e ON e.sequence = o.sequence ORDER BY o.sequence, o.channel LIMIT ?1",
            [sql_limit(limit)],
            rows::outbox,
        )
    }

    fn failed_deliveries(&mut self, since: Timestamp) -> Result<Vec<(Event, String, String)>> {
        self.all(
            "SELECT e.event, d.channel, d.failure FROM delivery d CROSS JOIN event e ON e.sequence = d.sequence
             WHERE d.failure IS NOT NULL AND d.finished >= ?1 ORDER BY d.sequence, d.channel",
            [since.0],
            |row| Ok((rows::event(row, 0)?, row.get(1)?, row.get(2)?)),
        )
    }

    fn events(&mut self, after: i64, since: Timestamp, limit: usize) -> Result<Vec<(i64, Event)>> {
        // The first event in time bounds the walk, so that asking for today does not read all years.
        self.all(
            "SELECT sequence, event FROM event
             WHERE sequence > max(?1, (SELECT coalesce(min(sequence) - 1, ?1) FROM event WHERE time >= ?2))
               AND time >= ?2 ORDER BY sequence LIMIT ?3",
            (after, since.0, sql_limit(limit)),
            |row| Ok((row.get(0)?, rows::event(row, 1)?)),
        )
    }

    fn documents_at(&mut self, host: &Designation, at: Option<Timestamp>) -> Result<Vec<DocumentRow>> {
        let sql = format!(
            "SELECT {DOCUMENT_COLUMNS} FROM document_period p JOIN document d ON d.id = p.document
             WHERE p.host = (SELECT id FROM host_name WHERE designation = ?2) AND {IN_FORCE} ORDER BY p.instance"
        );
        self.all(&sql, (at.map(|time| time.0), host.as_str()), rows::document)
    }

    fn document_at(
        &mut self,
        host: &Designation,
        instance: &str,
        at: Option<Timestamp>,
    ) -> Result<Option<(DocumentRow, String)>> {
        let sql = format!(
            "SELECT {DOCUMENT_COLUMNS}, d.body FROM document_period p JOIN document d ON d.id = p.document
             WHERE p.host = (SELECT id FROM host_name WHERE designation = ?2) AND p.instance = ?3 AND {IN_FORCE}"
        );
        let found = self.one(&sql, (at.map(|time| time.0), host.as_str(), instance), |row| {
            Ok((rows::document(row)?, row.get::<_, Vec<u8>>(7)?))
        })?;
        found.map(|(row, body)| Ok((row, unpack(&body).map_err(StoreError::Corrupt)?))).transpose()
    }

    fn fact_at(
        &mut self,
        host: &Designation,
        instance: &str,
        path: &str,
        at: Option<Timestamp>,
    ) -> Result<Option<Value>> {
        let Some((row, body)) = self.document_at(host, instance, at)? else {
            return Ok(None);
        };
        let mut envelope: Value = serde_json::from_str(&body)
            .map_err(|e| StoreError::Corrupt(format!("the document {} is not JSON: {e}", row.hash)))?;
        let data = envelope.get_mut("data").map(Value::take).unwrap_or(Value::Null);
        Ok(fact(&data, path).cloned())
    }

    fn rule_history(&mut self, host: &Designation, rule_id: &str) -> Result<Vec<RuleResultRow>> {
        let sql = format!(
            "SELECT {RULE_COLUMNS} FROM rule_period r
             WHERE r.host = (SELECT id FROM host_name WHERE designation = ?1) AND r.rule_id = ?2 ORDER BY r.since, r.id"
        );
        self.all(&sql, (host.as_str(), rule_id), rows::rule_result)
    }

    fn rule_result_at(
        &mut self,
        host: &Designation,
        rule_id: &str,
        at: Timestamp,
    ) -> Result<Option<RuleResultRow>> {
        let sql = format!(
            "SELECT {RULE_COLUMNS} FROM rule_period r
             WHERE r.host = (SELECT id FROM host_name WHERE designation = ?1) AND r.rule_id = ?2
               AND r.since <= ?3 AND (r.until IS NULL OR r.until > ?3) ORDER BY r.since DESC, r.id DESC LIMIT 1"
        );
        self.one(&sql, (host.as_str(), rule_id, at.0), rows::rule_result)
    }

    fn graph_nodes(&mut self, ids: &[i64]) -> Result<Vec<GraphNode>> {
        walk::nodes(&self.connection, ids)
    }

    fn graph_find(&mut self, kind: Option<&str>, key: &str) -> Result<Vec<GraphNode>> {
        walk::find(&self.connection, kind, key)
    }

    fn graph_of_kind(&mut self, kind: &str, limit: usize) -> Result<Vec<GraphNode>> {
        walk::of_kind(&self.connection, kind, limit)
    }

    fn graph_edges(&mut self, ids: &[i64], direction: Direction, kinds: &[&str]) -> Result<Vec<GraphEdge>> {
        walk::edges(&self.connection, ids, direction, kinds)
    }

    fn graph_links(&mut self, ids: &[i64], direction: Direction, kinds: &[&str]) -> Result<Vec<GraphLink>> {
        walk::links(&self.connection, ids, direction, kinds)
    }

    fn sql(&mut self, statement: &str, parameters: &[(String, Value)], limits: SqlLimits) -> Result<Table> {
        let typed = match &mut self.typed {
            Some(typed) => typed,
            none => none.insert(BoundedConnection::open(&self.path)?),
        };
        typed.query(statement, parameters, limits)
    }

    fn addresses_to_look_up(&mut self, limit: usize, older_than: Timestamp) -> Result<Vec<IpAddr>> {
        names::to_look_up(&self.connection, limit, older_than).map_err(failure)
    }

    fn waiting(&mut self) -> Result<Vec<(String, u64)>> {
        self.all("SELECT channel, count(*) FROM outbox GROUP BY channel ORDER BY channel", [], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
        })
    }

    fn health(&mut self) -> Result<(u64, u64)> {
        let waiting: Option<i64> = self.one("SELECT count(*) FROM outbox", [], |row| row.get(0))?;
        let bytes = ["", "-wal"].iter().map(|suffix| {
            let mut name = self.path.clone().into_os_string();
            name.push(suffix);
            fs::metadata(PathBuf::from(name)).map_or(0, |file| file.len())
        });
        Ok((waiting.and_then(|count| u64::try_from(count).ok()).unwrap_or(0), bytes.sum()))
    }
}

/// The value at `path` as rules find it: the whole text as a key first, then ever shorter keys with the rest of the
/// path below them. `net.ipv4.ip_forward` is found as one key and as three.
fn fact<'v>(data: &'v Value, path: &str) -> Option<&'v Value> {
    let mut end = path.len();
    loop {
        if let Some(value) = step(data, &path[..end]) {
            let rest = if end == path.len() { Some(value) } else { fact(value, &path[end + 1..]) };
            if rest.is_some() {
                return rest;
            }
        }
        end = path[..end].rfind('.')?;
    }
}

fn step<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    match value {
        Value::Object(map) => map.get(key),
        Value::Array(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
        _ => None,
    }
}

fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_fact_is_found_by_its_longest_key() {
        let data = json!({"a.b": {"c": 1}, "a": {"b": {"c": 2, "d": 3}}, "list": [{"x": 7}], "a.b.e": null});
        assert_eq!(fact(&data, "a.b.c"), Some(&json!(1)));
        assert_eq!(fact(&data, "a.b.d"), Some(&json!(3)), "falls back to the nested one");
        assert_eq!(fact(&data, "a.b.e"), Some(&json!(null)));
        assert_eq!(fact(&data, "list.0.x"), Some(&json!(7)));
        for missing in ["", ".", "a.", "a..b", "x", "list.1", "a.b.c.d", "é.ü"] {
            assert_eq!(fact(&data, missing), None, "{missing:?}");
        }
    }
}
