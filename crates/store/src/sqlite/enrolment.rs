//! Tags, tokens, waiting and revoked keys, machines of hosts: see [`crate::enrolment`].

use super::failure;
use super::reader::SqliteReader;
use super::rows::damaged;
use super::transaction::SqliteTransaction;
use crate::Result;
use crate::enrolment::{EnrolmentReader, EnrolmentTransaction, PendingRow, RevokedRow, TokenRow};
use model::{Designation, PublicKey, Timestamp};
use rusqlite::{Connection, Params, Row, params};
use std::collections::BTreeMap;

const TAGS: &str =
    "SELECT tag FROM host_tag t JOIN host_name n ON n.id = t.host WHERE n.designation = ?1 ORDER BY tag";
const TOKENS: &str = "SELECT id, hash, tags, hosts, uses, created, expires, revoked,
  (SELECT count(*) FROM token_use WHERE token = id) FROM enrolment_token ORDER BY id";
const PENDING: &str =
    "SELECT key, designation, source, address, first_seen, last_seen, software, machine, note, approved
  FROM pending_key";
const REVOKED: &str = "SELECT key, designation, reason, revoked, tried FROM revoked_key";

impl EnrolmentTransaction for SqliteTransaction<'_> {
    fn tags(&mut self, host: &Designation) -> Result<Vec<String>> {
        self.all(TAGS, [host.as_str()], |row| row.get(0))
    }

    fn set_tags(&mut self, host: &Designation, tags: &[String]) -> Result<()> {
        let id = self.host_id(host)?;
        self.run("DELETE FROM host_tag WHERE host = ?1", [id])?;
        for tag in tags {
            self.run("INSERT INTO host_tag(host, tag) VALUES (?1, ?2) ON CONFLICT DO NOTHING", (id, tag))?;
        }
        Ok(())
    }

    fn tokens(&mut self) -> Result<Vec<TokenRow>> {
        self.all(TOKENS, [], token)
    }

    fn add_token(&mut self, token: &TokenRow) -> Result<i64> {
        let tags = serde_json::Value::from(token.tags.clone()).to_string();
        self.run(
            "INSERT INTO enrolment_token(hash, tags, hosts, uses, created, expires, revoked)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                token.hash,
                tags,
                token.hosts,
                token.uses,
                token.created.0,
                token.expires.map(|time| time.0),
                token.revoked.map(|time| time.0)
            ],
        )?;
        Ok(self.connection.last_insert_rowid())
    }

    fn revoke_token(&mut self, id: i64, now: Timestamp) -> Result<bool> {
        let sql = "UPDATE enrolment_token SET revoked = ?2 WHERE id = ?1 AND revoked IS NULL";
        Ok(self.run(sql, (id, now.0))? > 0)
    }

    fn remove_token(&mut self, id: i64) -> Result<()> {
        self.run("DELETE FROM token_use WHERE token = ?1", [id])?;
        self.run("DELETE FROM enrolment_token WHERE id = ?1", [id])?;
        Ok(())
    }

    fn used_token(&mut self, id: i64, key: &PublicKey) -> Result<bool> {
        let sql = "SELECT 1 FROM token_use WHERE token = ?1 AND key = ?2";
        Ok(self.one(sql, (id, key.0), |_| Ok(()))?.is_some())
    }

    fn use_token(&mut self, id: i64, key: &PublicKey, now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO token_use(token, key, used) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        self.run(sql, (id, key.0, now.0))?;
        Ok(())
    }

    fn pending(&mut self) -> Result<Vec<PendingRow>> {
        self.all(&format!("{PENDING} ORDER BY first_seen, key"), [], pending)
    }

    fn waiting(&mut self, key: &PublicKey) -> Result<Option<PendingRow>> {
        self.one(&format!("{PENDING} WHERE key = ?1"), [key.0], pending)
    }

    fn put_pending(&mut self, row: &PendingRow) -> Result<()> {
        self.run(
            "INSERT INTO pending_key(key, designation, source, address, first_seen, last_seen, software, machine, note,
               approved) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT(key) DO UPDATE SET designation = excluded.designation, source = excluded.source,
               address = excluded.address, first_seen = excluded.first_seen, last_seen = excluded.last_seen,
               software = excluded.software, machine = excluded.machine, note = excluded.note,
               approved = excluded.approved",
            params![
                row.key.0,
                row.designation.as_str(),
                row.source,
                row.address,
                row.first_seen.0,
                row.last_seen.0,
                row.software,
                row.machine,
                row.note,
                row.approved.map(|time| time.0)
            ],
        )?;
        Ok(())
    }

    fn remove_pending(&mut self, key: &PublicKey) -> Result<()> {
        self.run("DELETE FROM pending_key WHERE key = ?1", [key.0])?;
        Ok(())
    }

    fn revoked(&mut self, key: &PublicKey) -> Result<Option<RevokedRow>> {
        self.one(&format!("{REVOKED} WHERE key = ?1"), [key.0], revoked)
    }

    fn revocations(&mut self) -> Result<Vec<RevokedRow>> {
        self.all(&format!("{REVOKED} ORDER BY revoked, key"), [], revoked)
    }

    fn put_revoked(&mut self, row: &RevokedRow) -> Result<()> {
        self.run(
            "INSERT INTO revoked_key(key, designation, reason, revoked, tried) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT(key) DO UPDATE SET designation = excluded.designation, reason = excluded.reason,
               revoked = excluded.revoked, tried = excluded.tried",
            params![
                row.key.0,
                row.designation.as_str(),
                row.reason,
                row.revoked.0,
                row.tried.map(|time| time.0)
            ],
        )?;
        Ok(())
    }

    fn remove_revoked(&mut self, key: &PublicKey) -> Result<()> {
        self.run("DELETE FROM revoked_key WHERE key = ?1", [key.0])?;
        Ok(())
    }

    fn machine(&mut self, host: &Designation) -> Result<Option<String>> {
        let sql =
            "SELECT machine FROM host_machine m JOIN host_name n ON n.id = m.host WHERE n.designation = ?1";
        self.one(sql, [host.as_str()], |row| row.get(0))
    }

    fn set_machine(&mut self, host: &Designation, machine: &str) -> Result<()> {
        let id = self.host_id(host)?;
        let sql = "INSERT INTO host_machine(host, machine) VALUES (?1, ?2)
             ON CONFLICT(host) DO UPDATE SET machine = excluded.machine";
        self.run(sql, (id, machine))?;
        Ok(())
    }
}

impl EnrolmentReader for SqliteReader {
    fn tags(&mut self, host: &Designation) -> Result<Vec<String>> {
        all(self.connection(), TAGS, [host.as_str()], |row| row.get(0))
    }

    fn all_tags(&mut self) -> Result<BTreeMap<Designation, Vec<String>>> {
        let sql =
            "SELECT n.designation, t.tag FROM host_tag t JOIN host_name n ON n.id = t.host ORDER BY 1, 2";
        let rows = all(self.connection(), sql, [], |row| Ok((name(row, 0)?, row.get(1)?)))?;
        let mut tags: BTreeMap<Designation, Vec<String>> = BTreeMap::new();
        for (host, tag) in rows {
            tags.entry(host).or_default().push(tag);
        }
        Ok(tags)
    }

    fn tokens(&mut self) -> Result<Vec<TokenRow>> {
        all(self.connection(), TOKENS, [], token)
    }

    fn pending(&mut self) -> Result<Vec<PendingRow>> {
        all(self.connection(), &format!("{PENDING} ORDER BY first_seen, key"), [], pending)
    }

    fn revocations(&mut self) -> Result<Vec<RevokedRow>> {
        all(self.connection(), &format!("{REVOKED} ORDER BY revoked, key"), [], revoked)
    }

    fn machines(&mut self) -> Result<BTreeMap<Designation, String>> {
        let sql = "SELECT n.designation, m.machine FROM host_machine m JOIN host_name n ON n.id = m.host";
        let rows = all(self.connection(), sql, [], |row| Ok((name(row, 0)?, row.get(1)?)))?;
        Ok(rows.into_iter().collect())
    }
}

/// A host that is removed leaves neither tags nor a machine behind.
pub fn forget_host(transaction: &SqliteTransaction<'_>, id: i64) -> Result<()> {
    transaction.run("DELETE FROM host_tag WHERE host = ?1", [id])?;
    transaction.run("DELETE FROM host_machine WHERE host = ?1", [id])?;
    Ok(())
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let rows = connection.prepare_cached(sql).and_then(|mut s| s.query_map(parameters, read)?.collect());
    rows.map_err(failure)
}

fn token(row: &Row<'_>) -> rusqlite::Result<TokenRow> {
    let tags: String = row.get(2)?;
    Ok(TokenRow {
        id: row.get(0)?,
        hash: row.get(1)?,
        tags: serde_json::from_str(&tags).map_err(|e| damaged(2, e))?,
        hosts: row.get(3)?,
        uses: row.get(4)?,
        created: Timestamp(row.get(5)?),
        expires: row.get::<_, Option<i64>>(6)?.map(Timestamp),
        revoked: row.get::<_, Option<i64>>(7)?.map(Timestamp),
        used: row.get(8)?,
    })
}

fn pending(row: &Row<'_>) -> rusqlite::Result<PendingRow> {
    Ok(PendingRow {
        key: PublicKey(row.get(0)?),
        designation: name(row, 1)?,
        source: row.get(2)?,
        address: row.get(3)?,
        first_seen: Timestamp(row.get(4)?),
        last_seen: Timestamp(row.get(5)?),
        software: row.get(6)?,
        machine: row.get(7)?,
        note: row.get(8)?,
        approved: row.get::<_, Option<i64>>(9)?.map(Timestamp),
    })
}

fn revoked(row: &Row<'_>) -> rusqlite::Result<RevokedRow> {
    Ok(RevokedRow {
        key: PublicKey(row.get(0)?),
        designation: name(row, 1)?,
        reason: row.get(2)?,
        revoked: Timestamp(row.get(3)?),
        tried: row.get::<_, Option<i64>>(4)?.map(Timestamp),
    })
}

fn name(row: &Row<'_>, column: usize) -> rusqlite::Result<Designation> {
    Designation::new(&row.get::<_, String>(column)?).map_err(|e| damaged(column, e))
}
