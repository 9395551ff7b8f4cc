//! Rows of the tables as the types of this crate. What is stored was checked when it was written; what does not
//! read back is damage.

use crate::{DocumentRow, HostRow, MemberRow, OutboxRow, RuleResultRow};
use model::{Designation, DocumentHash, Event, PublicKey, Timestamp};
use rusqlite::Row;
use rusqlite::types::{FromSqlError, Type};

pub const HOST_COLUMNS: &str = "n.designation, h.domain, h.status, h.reason, h.status_since, h.first_seen, h.last_seen, h.key,
  h.rejected_key, h.rejected_at, h.address, h.started, h.software FROM host h JOIN host_name n ON n.id = h.id";

pub fn host(row: &Row<'_>) -> rusqlite::Result<HostRow> {
    let rejected = match (row.get::<_, Option<[u8; 32]>>(8)?, time_or_none(row, 9)?) {
        (Some(key), Some(time)) => Some((PublicKey(key), time)),
        _ => None,
    };
    Ok(HostRow {
        designation: Designation::new(&row.get::<_, String>(0)?).map_err(|e| damaged(0, e))?,
        domain: row.get(1)?,
        status: row.get(2)?,
        reason: row.get(3)?,
        status_since: time(row, 4)?,
        first_seen: time(row, 5)?,
        last_seen: time(row, 6)?,
        key: PublicKey(row.get(7)?),
        rejected_key: rejected,
        address: row.get(10)?,
        started: time(row, 11)?,
        software: row.get(12)?,
    })
}

pub const MEMBER_COLUMNS: &str =
    "n.designation, m.number, m.session, m.place, m.position, m.generation, m.address, m.present
  FROM heartbeat_member m JOIN host_name n ON n.id = m.host";

pub fn member(row: &Row<'_>) -> rusqlite::Result<MemberRow> {
    Ok(MemberRow {
        designation: Designation::new(&row.get::<_, String>(0)?).map_err(|e| damaged(0, e))?,
        number: row.get(1)?,
        session: row.get(2)?,
        place: row.get(3)?,
        position: whole(row, 4)?,
        generation: whole(row, 5)?,
        address: row.get(6)?,
        present: row.get(7)?,
    })
}

pub const DOCUMENT_COLUMNS: &str =
    "p.instance, p.discovertype, d.hash, p.changed_after, p.seen, p.since, p.until";

pub fn document(row: &Row<'_>) -> rusqlite::Result<DocumentRow> {
    Ok(DocumentRow {
        instance: row.get(0)?,
        discovertype: row.get(1)?,
        hash: DocumentHash(row.get(2)?),
        changed_after: time(row, 3)?,
        seen: time(row, 4)?,
        since: time(row, 5)?,
        until: time_or_none(row, 6)?,
    })
}

pub const RULE_COLUMNS: &str =
    "r.rule_id, r.status, r.category, r.severity, r.score, r.used_values, r.note, r.since, r.until";

pub fn rule_result(row: &Row<'_>) -> rusqlite::Result<RuleResultRow> {
    Ok(RuleResultRow {
        rule_id: row.get(0)?,
        status: row.get(1)?,
        category: row.get(2)?,
        severity: row.get(3)?,
        score: row.get(4)?,
        values: json(row, 5)?,
        note: row.get(6)?,
        since: time(row, 7)?,
        until: time_or_none(row, 8)?,
    })
}

/// Columns: sequence, channel, event, attempts, due, progress.
pub fn outbox(row: &Row<'_>) -> rusqlite::Result<OutboxRow> {
    Ok(OutboxRow {
        sequence: row.get(0)?,
        channel: row.get(1)?,
        event: event(row, 2)?,
        attempts: row.get(3)?,
        due: time(row, 4)?,
        progress: json(row, 5)?,
    })
}

pub fn event(row: &Row<'_>, column: usize) -> rusqlite::Result<Event> {
    json(row, column)
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp)
}

fn time_or_none(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp))
}

fn whole(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|e| damaged(column, e))
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str().map_err(|e: FromSqlError| damaged(column, e))?;
    serde_json::from_str(text).map_err(|e| damaged(column, e))
}

pub(super) fn damaged(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
