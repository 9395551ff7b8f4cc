//! Names of addresses from reverse DNS, and which addresses to ask about.

use super::transaction::SqliteTransaction;
use crate::Result;
use model::Timestamp;
use rusqlite::{Connection, Row};
use std::net::IpAddr;

/// See [`crate::Transaction::put_reverse_name`].
pub fn put(
    transaction: &SqliteTransaction<'_>,
    address: IpAddr,
    name: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    transaction.run(
        "INSERT INTO reverse_name(address, name, looked_up) VALUES (?1, ?2, ?3)
         ON CONFLICT(address) DO UPDATE SET name = excluded.name, looked_up = excluded.looked_up",
        (address.to_canonical().to_string(), name, now.0),
    )?;
    Ok(())
}

/// See [`crate::Transaction::forget_reverse_names`].
pub fn forget(transaction: &SqliteTransaction<'_>, older_than: Timestamp) -> Result<()> {
    transaction.run("DELETE FROM reverse_name WHERE looked_up < ?1", [older_than.0])?;
    Ok(())
}

/// See [`crate::Reader::addresses_to_look_up`].
pub fn to_look_up(
    connection: &Connection,
    limit: usize,
    older_than: Timestamp,
) -> rusqlite::Result<Vec<IpAddr>> {
    // Only what others can reach has a name that means the same everywhere, and a name server knows one site: those of
    // named networks may be another's.
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT a.properties ->> '$.ipaddr', r.looked_up
         FROM node a LEFT JOIN reverse_name r ON r.address = a.properties ->> '$.ipaddr'
         WHERE a.kind = 'IPaddrNode' AND a.properties ->> '$.ipaddr' IS NOT NULL
           AND coalesce(r.looked_up, ?1 - 1) < ?1 AND a.key LIKE '@global/%'
         ORDER BY r.looked_up, 1",
    )?;
    let texts = statement.query_map([older_than.0], |row: &Row<'_>| row.get::<_, String>(0))?;
    let mut addresses = Vec::new();
    for text in texts {
        if addresses.len() == limit {
            break;
        }
        // What a discovery said; what is no address cannot be asked about.
        addresses.extend(text?.parse::<IpAddr>().ok().filter(is_worth_asking));
    }
    Ok(addresses)
}

/// Multicast and unspecified addresses stand for nobody, and the others mean something on one host or link only.
fn is_worth_asking(ip: &IpAddr) -> bool {
    let is_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(is_local || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified())
}
