//! Which keys of the CMA each host trusts.

use super::failure;
use super::rows::damaged;
use super::transaction::SqliteTransaction;
use crate::{HostKeysRow, Result};
use model::message::{self, CmaKeys};
use model::{Designation, DocumentHash, Timestamp};
use rusqlite::{Connection, Row};

const COLUMNS: &str = "n.designation, k.trusted, k.answered, k.is_warned, k.since
  FROM host_cma_keys k JOIN host_name n ON n.id = k.host";

/// See [`crate::Transaction::put_host_keys`].
pub fn put(transaction: &mut SqliteTransaction<'_>, row: &HostKeysRow) -> Result<()> {
    let host = transaction.host_id(&row.designation)?;
    let trusted = row.trusted.as_ref().map(message::encode);
    let answered = row.answered.map(|hash| hash.0);
    transaction.run(
        "INSERT INTO host_cma_keys(host, trusted, answered, is_warned, since) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT(host) DO UPDATE SET trusted = excluded.trusted, answered = excluded.answered,
           is_warned = excluded.is_warned, since = excluded.since",
        (host, trusted, answered, row.is_warned, row.since.0),
    )?;
    Ok(())
}

/// See [`crate::Transaction::host_keys`].
pub fn of(transaction: &SqliteTransaction<'_>, host: &Designation) -> Result<Option<HostKeysRow>> {
    transaction.one(&format!("SELECT {COLUMNS} WHERE n.designation = ?1"), [host.as_str()], read)
}

/// Of a host that is removed.
pub fn forget(transaction: &SqliteTransaction<'_>, host: i64) -> Result<()> {
    transaction.run("DELETE FROM host_cma_keys WHERE host = ?1", [host])?;
    Ok(())
}

/// See [`crate::Reader::all_host_keys`].
pub fn all(connection: &Connection) -> Result<Vec<HostKeysRow>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} ORDER BY n.designation"))
        .and_then(|mut statement| statement.query_map([], read)?.collect())
        .map_err(failure)
}

fn read(row: &Row<'_>) -> rusqlite::Result<HostKeysRow> {
    let trusted: Option<Vec<u8>> = row.get(1)?;
    let trusted = trusted.map(|bytes| message::decode::<CmaKeys>(&bytes).map_err(|e| damaged(1, e)));
    Ok(HostKeysRow {
        designation: Designation::new(&row.get::<_, String>(0)?).map_err(|e| damaged(0, e))?,
        trusted: trusted.transpose()?,
        answered: row.get::<_, Option<[u8; 32]>>(2)?.map(DocumentHash),
        is_warned: row.get(3)?,
        since: Timestamp(row.get(4)?),
    })
}
