//! Writes: hosts, queues, documents, rule results, events and the outbox. The graph has its own file.

use super::functions::unpack;
use super::rows::{self, DOCUMENT_COLUMNS, HOST_COLUMNS, RULE_COLUMNS};
use super::{enrolment, failure, graph, host_keys, names};
use crate::{
    DocumentRow, HostKeysRow, HostRow, MemberRow, NodeEdge, OutboxRow, Result, RuleResultRow, ServiceUse,
    StoreError, Transaction,
};
use model::envelope::MAX_DOCUMENT_BYTES;
use model::graph::{EdgeKind, NodeKind};
use model::message::Incarnation;
use model::{Designation, DocumentHash, Event, GraphFacts, PublicKey, Timestamp};
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Params, Row};
use std::collections::HashMap;
use std::net::IpAddr;

/// Level 3 is where zstd stops being free; documents are small and mostly text.
const COMPRESSION: i32 = 3;

pub struct SqliteTransaction<'c> {
    pub(super) connection: &'c Connection,
    open: bool,
    /// Numbers of hosts already looked up. A savepoint that fails may take numbers back, so it empties this.
    hosts: HashMap<Designation, i64>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
}

impl<'c> SqliteTransaction<'c> {
    pub fn begin(connection: &'c Connection) -> Result<Self> {
        connection.execute_batch("BEGIN IMMEDIATE").map_err(failure)?;
        Ok(Self { connection, open: true, hosts: HashMap::new(), compressor: None })
    }

    pub(super) fn run(&self, sql: &str, parameters: impl Params) -> Result<usize> {
        self.alive()?;
        self.connection.prepare_cached(sql).and_then(|mut s| s.execute(parameters)).map_err(failure)
    }

    pub(super) fn one<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        self.alive()?;
        self.connection
            .prepare_cached(sql)
            .and_then(|mut s| s.query_row(parameters, read).optional())
            .map_err(failure)
    }

    pub(super) fn all<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.alive()?;
        self.connection
            .prepare_cached(sql)
            .and_then(|mut s| s.query_map(parameters, read)?.collect())
            .map_err(failure)
    }

    /// The number of a host that was seen before.
    pub(super) fn known_host(&mut self, designation: &Designation) -> Result<Option<i64>> {
        if let Some(id) = self.hosts.get(designation) {
            return Ok(Some(*id));
        }
        let id =
            self.one("SELECT id FROM host_name WHERE designation = ?1", [designation.as_str()], |r| {
                r.get(0)
            })?;
        if let Some(id) = id {
            self.hosts.insert(designation.clone(), id);
        }
        Ok(id)
    }

    /// The number of a host, given now if it has none.
    pub(super) fn host_id(&mut self, designation: &Designation) -> Result<i64> {
        if let Some(id) = self.known_host(designation)? {
            return Ok(id);
        }
        self.run("INSERT INTO host_name(designation) VALUES (?1)", [designation.as_str()])?;
        let id = self.connection.last_insert_rowid();
        self.hosts.insert(designation.clone(), id);
        Ok(id)
    }

    /// A full disk makes SQLite roll back by itself; anything written after that would be committed alone.
    fn alive(&self) -> Result<()> {
        if self.connection.is_autocommit() {
            return Err(StoreError::Unwritable("the transaction was rolled back by an earlier error".into()));
        }
        Ok(())
    }

    fn store_body(&mut self, hash: &DocumentHash, body: &str) -> Result<i64> {
        let known = self.one("SELECT id FROM document WHERE hash = ?1", [hash.0], |row| row.get(0))?;
        if let Some(id) = known {
            return Ok(id);
        }
        if body.len() > MAX_DOCUMENT_BYTES {
            return Err(StoreError::Sql(format!(
                "a document of {} bytes is larger than the {MAX_DOCUMENT_BYTES} allowed",
                body.len()
            )));
        }
        if DocumentHash::of(body.as_bytes()) != *hash {
            return Err(StoreError::Sql(format!(
                "the document does not have the hash {hash} it is announced with"
            )));
        }
        let compressing = |e: std::io::Error| StoreError::Sql(format!("cannot compress a document: {e}"));
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(zstd::bulk::Compressor::new(COMPRESSION).map_err(compressing)?),
        };
        let packed = compressor.compress(body.as_bytes()).map_err(compressing)?;
        let size = i64::try_from(body.len()).unwrap_or(i64::MAX);
        self.run("INSERT INTO document(hash, size, body) VALUES (?1, ?2, ?3)", (&hash.0, size, packed))?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Ends current periods; never before their start, also when the clock was set back.
    fn end(&self, table: &str, condition: &str, parameters: &[&dyn ToSql]) -> Result<usize> {
        let sql = format!("UPDATE {table} SET until = max(since, ?1) WHERE until IS NULL AND {condition}");
        self.run(&sql, parameters)
    }
}

impl Drop for SqliteTransaction<'_> {
    fn drop(&mut self) {
        if self.open
            && !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }
}

impl Transaction for SqliteTransaction<'_> {
    fn commit(mut self: Box<Self>) -> Result<()> {
        self.alive()?;
        self.connection.execute_batch("COMMIT").map_err(failure)?;
        self.open = false;
        Ok(())
    }

    fn savepoint(&mut self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        // Equal names nest: ROLLBACK TO and RELEASE mean the innermost one.
        self.run("SAVEPOINT report", [])?;
        match work(self) {
            Ok(()) => self.run("RELEASE report", []).map(drop),
            Err(error) => {
                self.hosts.clear();
                // If SQLite rolled everything back, the first error is the one to tell.
                if !self.connection.is_autocommit() {
                    self.run("ROLLBACK TO report", [])?;
                    self.run("RELEASE report", [])?;
                }
                Err(error)
            }
        }
    }

    fn host(&mut self, designation: &Designation) -> Result<Option<HostRow>> {
        let sql = format!("SELECT {HOST_COLUMNS} WHERE n.designation = ?1");
        self.one(&sql, [designation.as_str()], rows::host)
    }

    fn put_host(&mut self, host: &HostRow) -> Result<()> {
        let id = self.host_id(&host.designation)?;
        self.run(
            "INSERT INTO host(id, domain, status, reason, status_since, first_seen, last_seen, key, rejected_key,
               rejected_at, address, started, software) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
             ON CONFLICT(id) DO UPDATE SET domain = excluded.domain, status = excluded.status,
               reason = excluded.reason, status_since = excluded.status_since, first_seen = excluded.first_seen,
               last_seen = excluded.last_seen, key = excluded.key, rejected_key = excluded.rejected_key,
               rejected_at = excluded.rejected_at, address = excluded.address, started = excluded.started,
               software = excluded.software",
            rusqlite::params![
                id,
                host.domain,
                host.status,
                host.reason,
                host.status_since.0,
                host.first_seen.0,
                host.last_seen.0,
                host.key.0,
                host.rejected_key.as_ref().map(|(key, _)| key.0),
                host.rejected_key.as_ref().map(|(_, time)| time.0),
                host.address,
                host.started.0,
                host.software,
            ],
        )?;
        Ok(())
    }

    fn remove_host(&mut self, designation: &Designation, now: Timestamp) -> Result<()> {
        let Some(id) = self.known_host(designation)? else {
            return Ok(());
        };
        graph::forget_host(self, id, designation, now)?;
        self.end("document_period", "host = ?2", &[&now.0, &id])?;
        self.end("rule_period", "host = ?2", &[&now.0, &id])?;
        enrolment::forget_host(self, id)?;
        self.run("DELETE FROM host_group WHERE host = ?1", [id])?;
        host_keys::forget(self, id)?;
        self.run("DELETE FROM host WHERE id = ?1", [id])?;
        Ok(())
    }

    fn put_host_keys(&mut self, row: &HostKeysRow) -> Result<()> {
        host_keys::put(self, row)
    }

    fn host_keys(&mut self, host: &Designation) -> Result<Option<HostKeysRow>> {
        host_keys::of(self, host)
    }

    fn put_member(&mut self, member: &MemberRow) -> Result<()> {
        let id = self.host_id(&member.designation)?;
        let number = |value: u64, what: &str| {
            i64::try_from(value).map_err(|_| StoreError::Sql(format!("the {what} {value} is too large")))
        };
        self.run(
            "INSERT INTO heartbeat_member(host, number, session, place, position, generation, address, present)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT(host) DO UPDATE SET number = excluded.number, session = excluded.session,
               place = excluded.place, position = excluded.position, generation = excluded.generation,
               address = excluded.address, present = excluded.present",
            rusqlite::params![
                id,
                member.number,
                member.session,
                member.place,
                number(member.position, "position")?,
                number(member.generation, "generation")?,
                member.address,
                member.present,
            ],
        )?;
        Ok(())
    }

    fn services(&mut self, host: &Designation, limit: usize) -> Result<Vec<ServiceUse>> {
        graph::services(self, host, limit)
    }

    fn cursor(&mut self, key: &PublicKey, incarnation: Incarnation) -> Result<u64> {
        let sequence = self.one(
            "SELECT sequence FROM queue_cursor WHERE key = ?1 AND incarnation = ?2",
            (&key.0, &incarnation.0),
            |row| row.get::<_, i64>(0),
        )?;
        Ok(sequence.map_or(0, |sequence| u64::try_from(sequence).unwrap_or(0)))
    }

    fn set_cursor(&mut self, key: &PublicKey, incarnation: Incarnation, sequence: u64) -> Result<()> {
        let sequence = i64::try_from(sequence).map_err(|_| {
            StoreError::Sql(format!("the sequence {sequence} is larger than any queue can reach"))
        })?;
        self.run(
            "INSERT INTO queue_cursor(key, incarnation, sequence) VALUES (?1, ?2, ?3)
             ON CONFLICT(key, incarnation) DO UPDATE SET sequence = excluded.sequence",
            (&key.0, &incarnation.0, sequence),
        )?;
        Ok(())
    }

    fn document(&mut self, host: &Designation, instance: &str) -> Result<Option<DocumentRow>> {
        let Some(id) = self.known_host(host)? else {
            return Ok(None);
        };
        let sql = format!(
            "SELECT {DOCUMENT_COLUMNS} FROM document_period p JOIN document d ON d.id = p.document
             WHERE p.host = ?1 AND p.instance = ?2 AND p.until IS NULL"
        );
        self.one(&sql, (id, instance), rows::document)
    }

    fn documents(&mut self, host: &Designation) -> Result<Vec<DocumentRow>> {
        let Some(id) = self.known_host(host)? else {
            return Ok(vec![]);
        };
        let sql = format!(
            "SELECT {DOCUMENT_COLUMNS} FROM document_period p JOIN document d ON d.id = p.document
             WHERE p.host = ?1 AND p.until IS NULL ORDER BY p.instance"
        );
        self.all(&sql, [id], rows::document)
    }

    fn put_document(&mut self, host: &Designation, row: &DocumentRow, body: &str) -> Result<()> {
        let id = self.host_id(host)?;
        let document = self.store_body(&row.hash, body)?;
        let current = self.one(
            "SELECT id, document, discovertype, since FROM document_period
             WHERE host = ?1 AND instance = ?2 AND until IS NULL",
            (id, &row.instance),
            |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?, r.get::<_, String>(2)?, r.get::<_, i64>(3)?)),
        )?;
        let mut since = row.since.0;
        if let Some((period, old_document, discovertype, old_since)) = current {
            if old_document == document && discovertype == row.discovertype {
                return Ok(());
            }
            // Periods follow each other even when the clock was set back.
            since = since.max(old_since);
            self.run("UPDATE document_period SET until = ?1 WHERE id = ?2", (since, period))?;
        }
        self.run(
            "INSERT INTO document_period(host, instance, discovertype, document, changed_after, seen, since)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            (id, &row.instance, &row.discovertype, document, row.changed_after.0, row.seen.0, since),
        )?;
        Ok(())
    }

    fn remove_document(&mut self, host: &Designation, instance: &str, now: Timestamp) -> Result<()> {
        if let Some(id) = self.known_host(host)? {
            self.end("document_period", "host = ?2 AND instance = ?3", &[&now.0, &id, &instance])?;
        }
        Ok(())
    }

    fn body(&mut self, hash: &DocumentHash) -> Result<Option<String>> {
        let packed =
            self.one("SELECT body FROM document WHERE hash = ?1", [hash.0], |row| row.get::<_, Vec<u8>>(0))?;
        packed.map(|bytes| unpack(&bytes).map_err(StoreError::Corrupt)).transpose()
    }

    fn edges_at(&mut self, kind: NodeKind, key: &str, edge: EdgeKind) -> Result<Vec<NodeEdge>> {
        graph::edges_at(self, kind, key, edge)
    }

    fn replace_graph(
        &mut self,
        host: &Designation,
        instance: &str,
        facts: &GraphFacts,
        now: Timestamp,
    ) -> Result<()> {
        graph::replace(self, host, instance, facts, now)
    }

    fn rule_results(&mut self, host: &Designation, instance: &str) -> Result<Vec<RuleResultRow>> {
        let Some(id) = self.known_host(host)? else {
            return Ok(vec![]);
        };
        let sql = format!(
            "SELECT {RULE_COLUMNS} FROM rule_period r
             WHERE r.host = ?1 AND r.instance = ?2 AND r.until IS NULL ORDER BY r.rule_id"
        );
        self.all(&sql, (id, instance), rows::rule_result)
    }

    fn put_rule_results(
        &mut self,
        host: &Designation,
        instance: &str,
        changed: &[RuleResultRow],
    ) -> Result<()> {
        let id = self.host_id(host)?;
        for row in changed {
            let current = self.one(
                "SELECT id, since FROM rule_period
                 WHERE host = ?1 AND instance = ?2 AND rule_id = ?3 AND until IS NULL",
                (id, instance, &row.rule_id),
                |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?)),
            )?;
            let mut since = row.since.0;
            if let Some((period, old_since)) = current {
                since = since.max(old_since);
                self.run("UPDATE rule_period SET until = ?1 WHERE id = ?2", (since, period))?;
            }
            self.run(
                "INSERT INTO rule_period(host, instance, rule_id, status, category, severity, score, used_values, note,
                   since) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                rusqlite::params![
                    id,
                    instance,
                    row.rule_id,
                    row.status,
                    row.category,
                    row.severity,
                    row.score,
                    row.values.to_string(),
                    row.note,
                    since
                ],
            )?;
        }
        Ok(())
    }

    fn remove_rule_results(
        &mut self,
        host: &Designation,
        instance: &str,
        rule_ids: &[&str],
        now: Timestamp,
    ) -> Result<()> {
        if let Some(id) = self.known_host(host)? {
            for rule_id in rule_ids {
                let condition = "host = ?2 AND instance = ?3 AND rule_id = ?4";
                self.end("rule_period", condition, &[&now.0, &id, &instance, rule_id])?;
            }
        }
        Ok(())
    }

    fn put_reverse_name(&mut self, address: IpAddr, name: Option<&str>, now: Timestamp) -> Result<()> {
        names::put(self, address, name, now)
    }

    fn forget_reverse_names(&mut self, older_than: Timestamp) -> Result<()> {
        names::forget(self, older_than)
    }

    fn append_event(&mut self, event: &Event, channels: &[&str]) -> Result<i64> {
        let text = serde_json::to_string(event).map_err(|e| {
            StoreError::Sql(format!("the event {} cannot be written as JSON: {e}", event.eventid))
        })?;
        self.run(
            "INSERT INTO event(eventid, time, eventtype, nodetype, designation, event) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (&event.eventid, event.time.0, event.eventtype.as_str(), event.nodetype(), event.designation(), text),
        )?;
        let sequence = self.connection.last_insert_rowid();
        for channel in channels {
            self.run(
                "INSERT INTO outbox(sequence, channel, attempts, due, progress) VALUES (?1, ?2, 0, ?3, '[]')
                 ON CONFLICT DO NOTHING",
                (sequence, channel, event.time.0),
            )?;
        }
        Ok(sequence)
    }

    fn finish_delivery(
        &mut self,
        sequence: i64,
        channel: &str,
        now: Timestamp,
        failure: Option<&str>,
    ) -> Result<()> {
        // Nothing happens for a row that is not waiting: a repeated call must not turn a failure into a delivery.
        self.run(
            "INSERT INTO delivery(sequence, channel, attempts, finished, failure)
             SELECT sequence, channel, attempts, ?3, ?4 FROM outbox WHERE sequence = ?1 AND channel = ?2
             ON CONFLICT DO NOTHING",
            (sequence, channel, now.0, failure),
        )?;
        self.run("DELETE FROM outbox WHERE sequence = ?1 AND channel = ?2", (sequence, channel))?;
        Ok(())
    }

    fn retry_delivery(&mut self, row: &OutboxRow) -> Result<()> {
        let progress = serde_json::Value::from(row.progress.clone()).to_string();
        self.run(
            "UPDATE outbox SET attempts = ?3, due = ?4, progress = ?5 WHERE sequence = ?1 AND channel = ?2",
            (row.sequence, &row.channel, row.attempts, row.due.0, progress),
        )?;
        Ok(())
    }

    fn setting(&mut self, name: &str) -> Result<Option<String>> {
        self.one("SELECT value FROM setting WHERE name = ?1", [name], |row| row.get(0))
    }

    fn set_setting(&mut self, name: &str, value: &str) -> Result<()> {
        self.run(
            "INSERT INTO setting(name, value) VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET value = excluded.value",
            (name, value),
        )?;
        Ok(())
    }
}
