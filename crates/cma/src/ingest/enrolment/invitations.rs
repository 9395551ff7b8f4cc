//! Who was let in and has not come yet. A nanoprobe that was refused asks again only after minutes, so it is called; a CMA
//! that was stopped after the decision and before the host came calls it when it starts.
//!
//! Of a host that was approved the approved row of `pending` is the memory, until it registers. A host that exists already
//! (a new key, a key that is no longer revoked) has a setting with the address to call, empty when there is nothing to do.

use super::super::{Change, Context};
use model::{Designation, PublicKey};
use std::net::SocketAddr;
use store::{HostRow, Result, Transaction};

/// Somebody to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    pub host: Designation,
    /// The key that is expected there.
    pub key: PublicKey,
    pub address: SocketAddr,
}

fn setting_of(host: &Designation) -> String {
    format!("invited {host}")
}

/// Has a nanoprobe called that would otherwise try again after minutes only, by this CMA or by the next one.
pub fn invite(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &Designation,
    key: PublicKey,
    address: &str,
) -> Result<()> {
    let Ok(known_address) = address.parse() else { return Ok(()) };
    if tx.host(host)?.is_some() {
        tx.set_setting(&setting_of(host), address)?;
    }
    context.produced.changes.push(Change::Invited { host: host.clone(), key, address: known_address });
    Ok(())
}

/// The host has come, or is not to come any more.
pub fn withdraw(tx: &mut dyn Transaction, host: &Designation) -> Result<()> {
    if tx.setting(&setting_of(host))?.is_some_and(|address| !address.is_empty()) {
        tx.set_setting(&setting_of(host), "")?;
    }
    Ok(())
}

/// Those who were invited and did not come; `hosts` are all there are.
///
/// # Errors
/// Those of the store.
pub fn open(tx: &mut dyn Transaction, hosts: &[HostRow]) -> Result<Vec<Invitation>> {
    let mut open = Vec::new();
    for row in tx.pending()?.into_iter().filter(|row| row.approved.is_some()) {
        if let Ok(address) = row.address.parse() {
            open.push(Invitation { host: row.designation, key: row.key, address });
        }
    }
    for host in hosts {
        if let Some(Ok(address)) = tx.setting(&setting_of(&host.designation))?.map(|text| text.parse()) {
            open.push(Invitation { host: host.designation.clone(), key: host.key, address });
        }
    }
    Ok(open)
}
