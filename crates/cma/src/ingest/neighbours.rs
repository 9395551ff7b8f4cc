//! Machines without a nanoprobe that appear in a subnet or vanish from it, as the host that listens for address resolution
//! there tells (ARP, neighbour discovery): events about an IPaddrNode.
//!
//! What counts as known is what the graph knows, whoever said it: a host that is elected to listen in place of another
//! tells of nobody that was there before. A listener that just began, or was started again, has heard few of its
//! neighbours; for an hour it learns, and nothing is told. Its document being taken away says nothing about the neighbours
//! either. IPv6 addresses of a machine that is known come and go by themselves (RFC 8981) and are no news.

use super::Context;
use super::allowance::{Allowance, Allowed};
use super::document::Incoming;
use super::events::about_system;
use super::surroundings::is_said;
use model::graph::{EdgeKind, NodeKind};
use model::{Designation, EventType, GraphFacts, Timestamp};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use store::{HostRow, Result, Transaction};

/// Discovery type of the documents.
pub const ARP: &str = "ARP";
/// How long after it began a listener's neighbours are no news.
const LEARNING: Duration = Duration::from_secs(3600);
/// Neighbours that one document makes events of, in each direction; the last one counts the rest.
const MAX_TOLD: usize = 50;
/// And one listener within an hour.
const TOLD: Allowance = Allowance { most: 200, within: Duration::from_secs(3600) };

/// The instance that tells what is heard on an interface, and back.
const INSTANCE: &str = "_ARP_";

/// The interface that an instance listens on.
pub fn interface_of(instance: &str) -> Option<&str> {
    instance.strip_prefix(INSTANCE)
}

/// Who has which address, by the keys of IP address and link-layer address.
pub fn pairs(facts: &GraphFacts) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut pairs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for edge in &facts.edges {
        if edge.kind == EdgeKind::IpOwner && edge.source.0 == NodeKind::LinkAddress {
            pairs.entry(edge.target.key.as_str()).or_default().insert(edge.source.1.as_str());
        }
    }
    pairs
}

/// The address in a key such as `@global/10.0.0.1`.
pub fn ip_in(key: &str) -> Option<IpAddr> {
    key.split_once('/')?.1.parse().ok()
}

/// Whether an address means one machine to all others: no group of them, no link alone, not this very host.
pub fn is_unicast(ip: IpAddr) -> bool {
    if ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() {
        return false;
    }
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}

/// The neighbours of `after` that nobody knew before. To be asked before the graph has the document.
pub fn unknown(
    tx: &mut dyn Transaction,
    before: &GraphFacts,
    after: &GraphFacts,
) -> Result<BTreeSet<String>> {
    let old = pairs(before);
    let mut unknown = BTreeSet::new();
    for (key, addresses) in pairs(after) {
        if !old.contains_key(key) && tx.edges_at(NodeKind::IpaddrNode, key, EdgeKind::IpOwner)?.is_empty() {
            let mut is_known = false;
            for address in addresses {
                is_known |= knows(tx, key, address)?;
            }
            if !is_known {
                unknown.insert(key.to_owned());
            }
        }
    }
    Ok(unknown)
}

/// Tells who came and who went. The graph has `after` already; `unknown`: those it knew nothing of before.
pub fn changed(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    incoming: &Incoming,
    before: Option<&GraphFacts>,
    after: &GraphFacts,
    unknown: &BTreeSet<String>,
) -> Result<()> {
    if learns(tx, context.now, host, &incoming.instance, before.is_none())? {
        return Ok(());
    }
    let Some(before) = before else { return Ok(()) };
    let (old, new) = (pairs(before), pairs(after));
    let came: Vec<(&str, &str)> = new
        .iter()
        .filter(|(key, _)| unknown.contains(**key))
        .filter_map(|(key, addresses)| Some((*key, *addresses.first()?)))
        .collect();
    tell(tx, context, host, incoming, EventType::Create, &came)?;
    let mut went = Vec::new();
    for (key, addresses) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        let Some(address) = addresses.first() else { continue };
        if !is_said(tx, NodeKind::IpaddrNode, key, EdgeKind::IpOwner)? && !knows(tx, key, address)? {
            went.push((*key, *address));
        }
    }
    tell(tx, context, host, incoming, EventType::Delete, &went)
}

/// A listener ended: the next to listen there learns anew.
pub fn ended(tx: &mut dyn Transaction, host: &Designation, instance: &str) -> Result<()> {
    let setting = setting_of(host, instance);
    if tx.setting(&setting)?.is_some_and(|kept| !kept.is_empty()) {
        tx.set_setting(&setting, "")?;
    }
    Ok(())
}

/// Whether a machine is known by its link-layer address: as a host with a nanoprobe or a switch, or, with an IPv6 address,
/// at all.
fn knows(tx: &mut dyn Transaction, key: &str, address: &str) -> Result<bool> {
    let Some(ip) = ip_in(key).filter(|ip| is_unicast(*ip)) else { return Ok(true) };
    if !tx.edges_at(NodeKind::LinkAddress, address, EdgeKind::LinkAddr)?.is_empty() {
        return Ok(true);
    }
    Ok(ip.is_ipv6() && !tx.edges_at(NodeKind::LinkAddress, address, EdgeKind::IpOwner)?.is_empty())
}

fn learns(
    tx: &mut dyn Transaction,
    now: Timestamp,
    host: &HostRow,
    instance: &str,
    is_first: bool,
) -> Result<bool> {
    let setting = setting_of(&host.designation, instance);
    let kept = tx.setting(&setting)?.unwrap_or_default();
    let since = kept
        .split_once(' ')
        .filter(|(started, _)| !is_first && *started == host.started.0.to_string())
        .and_then(|(_, since)| since.parse().ok().map(Timestamp));
    let Some(since) = since else {
        tx.set_setting(&setting, &format!("{} {}", host.started.0, now.0))?;
        return Ok(true);
    };
    Ok(now.since(since) < LEARNING)
}

fn tell(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    incoming: &Incoming,
    kind: EventType,
    who: &[(&str, &str)],
) -> Result<()> {
    for (number, (key, address)) in who.iter().take(MAX_TOLD).enumerate() {
        let allowed = TOLD.take(tx, context.now, &format!("neighbours by {}", host.designation))?;
        if allowed == Allowed::No {
            break;
        }
        let (network, ip) = key.split_once('/').unwrap_or(("", key));
        let macaddr = address.split_once('/').map_or(*address, |(_, macaddr)| macaddr);
        let (status, reason) =
            if kind == EventType::Create { ("up", "appeared") } else { ("gone", "vanished") };
        let mut text = match kind {
            EventType::Create => {
                format!("{ip} ({macaddr}) appeared near {}, without a nanoprobe", host.designation)
            }
            _ => format!("{ip} ({macaddr}) is not heard any more near {}", host.designation),
        };
        let further = if number + 1 == MAX_TOLD { who.len() - MAX_TOLD } else { 0 };
        if further > 0 {
            text.push_str(&format!("; so are {further} further addresses"));
        } else if allowed == Allowed::Last {
            text.push_str("; of further addresses nothing is told for some time");
        }
        context.inform(text.clone());
        let mut extrainfo = json!({
            "reason": reason,
            "seen_by": host.designation.as_str(),
            "instance": incoming.instance,
            "seen": incoming.seen.to_utc_text(),
            "committed": context.now.to_utc_text(),
            "further": further,
            "text": text,
        });
        if incoming.changed_after > Timestamp(0) {
            extrainfo["changed_after"] = incoming.changed_after.to_utc_text().into();
        }
        let object = json!({
            "nodetype": "IPaddrNode",
            "designation": ip,
            "status": status,
            "reason": reason,
            "domain": host.domain,
            "ipaddr": ip,
            "macaddr": macaddr,
            "network": network.trim_start_matches('@'),
        });
        let event = about_system(context, kind, object, extrainfo);
        context.emit(tx, event)?;
    }
    Ok(())
}

fn setting_of(host: &Designation, instance: &str) -> String {
    format!("listening of {host} {instance}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_told_from_groups_and_links() {
        let unicast = |text: &str| is_unicast(text.parse().unwrap());
        for ip in ["10.0.0.1", "192.0.2.7", "2001:db8::1", "fd00::1"] {
            assert!(unicast(ip), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "0.0.0.0",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!unicast(ip), "{ip}");
        }
        assert_eq!(ip_in("@global/10.0.0.1"), Some("10.0.0.1".parse().unwrap()));
        assert_eq!((ip_in("@global"), interface_of("_ARP_eth0")), (None, Some("eth0")));
    }
}
