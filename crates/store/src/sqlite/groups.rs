//! Membership of groups: see [`crate::groups`].

use super::failure;
use super::reader::SqliteReader;
use super::rows::damaged;
use super::transaction::SqliteTransaction;
use crate::Result;
use crate::groups::{GroupReader, GroupRow, GroupTransaction};
use model::{Designation, Timestamp};
use rusqlite::Row;

const ROWS: &str =
    "SELECT n.designation, g.name, g.why, g.since FROM host_group g JOIN host_name n ON n.id = g.host";

impl GroupTransaction for SqliteTransaction<'_> {
    fn groups(&mut self, host: &Designation) -> Result<Vec<GroupRow>> {
        self.all(&format!("{ROWS} WHERE n.designation = ?1 ORDER BY g.name"), [host.as_str()], group)
    }

    fn set_groups(&mut self, host: &Designation, groups: &[(String, String)], now: Timestamp) -> Result<()> {
        let id = self.host_id(host)?;
        let names = serde_json::Value::from_iter(groups.iter().map(|(name, _)| name.as_str())).to_string();
        self.run(
            "DELETE FROM host_group WHERE host = ?1 AND name NOT IN (SELECT value FROM json_each(?2))",
            (id, names),
        )?;
        for (name, why) in groups {
            self.run(
                "INSERT INTO host_group(host, name, why, since) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT(host, name) DO UPDATE SET why = excluded.why",
                (id, name, why, now.0),
            )?;
        }
        Ok(())
    }
}

impl GroupReader for SqliteReader {
    fn groups(&mut self) -> Result<Vec<GroupRow>> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("{ROWS} ORDER BY g.name, n.designation"))
            .map_err(failure)?;
        let rows = statement.query_map([], group).map_err(failure)?;
        rows.collect::<rusqlite::Result<_>>().map_err(failure)
    }
}

fn group(row: &Row<'_>) -> rusqlite::Result<GroupRow> {
    Ok(GroupRow {
        host: Designation::new(&row.get::<_, String>(0)?).map_err(|error| damaged(0, error))?,
        group: row.get(1)?,
        why: row.get(2)?,
        since: Timestamp(row.get(3)?),
    })
}
