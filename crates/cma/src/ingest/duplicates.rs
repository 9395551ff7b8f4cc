//! One address, two machines: warned of once with both owners, and unwarned when it is over.
//!
//! Who claims an address is read from the graph: interfaces of hosts that are up, by their own word, and link-layer
//! addresses, by the word of a host that listens in the subnet of that address. No duplicate are: an address that moves
//! (hosts tell of that in any order, and address resolution tells it last, so a conflict has to last); several interfaces
//! of one host; the link-layer addresses that routers share (VRRP, CARP, HSRP).
//!
//! Conflicts are kept in one setting until they are over. They are looked at when they are due, and whenever something
//! about addresses or hosts changed while there are any; with none of them nothing is ever looked at.

use super::Context;
use super::allowance::{Allowance, Allowed};
use super::events::about_system;
use super::neighbours::{interface_of, ip_in, is_unicast};
use super::places::masked;
use liveness::rings::Place;
use model::graph::{EdgeKind, NodeKind};
use model::{EventType, GraphFacts, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use store::{NodeEdge, Result, Transaction};

/// `reason` of these events.
pub const DUPLICATE: &str = "duplicate address";

/// How long a conflict has to last: longer than the documents about a move are apart.
const CONFIRMED_AFTER: Duration = Duration::from_secs(15);
/// And when address resolution said its part before the host did, so that it may only be late.
const STALE_AFTER: Duration = Duration::from_secs(300);
/// From a change to the next look.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// Conflicts that are kept at once.
const MAX_KEPT: usize = 500;
/// Owners that an event names.
const MAX_OWNERS: usize = 10;
/// Two sites with the same addresses are one mistake, and not a thousand.
const WARNINGS: Allowance = Allowance { most: 20, within: Duration::from_secs(3600) };
const SETTING: &str = "addresses in conflict";

/// One who says that the address is his.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    /// Designation of the host, or else the link-layer address.
    owner: String,
    macaddr: String,
    /// Not the owner's own word, but that of address resolution.
    is_heard: bool,
    since: Timestamp,
}

/// A conflict that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Doubt {
    since: Timestamp,
    /// It lasted; told, unless there were too many.
    confirmed: Option<bool>,
}

type Doubts = BTreeMap<String, Doubt>;

/// Addresses whose claims a document changes, by key.
pub fn concerned(before: &GraphFacts, after: &GraphFacts) -> BTreeSet<String> {
    let (old, new) = (said(before), said(after));
    let differ = old.symmetric_difference(&new).map(|(_, key)| *key);
    differ
        .filter(|key| key.starts_with('@') && ip_in(key).is_some_and(is_unicast))
        .map(str::to_owned)
        .collect()
}

/// Looks whether any of these addresses has two owners now. The graph has the document already.
pub fn changed(tx: &mut dyn Transaction, context: &mut Context<'_>, keys: &BTreeSet<String>) -> Result<()> {
    let mut doubts = read(tx)?;
    let mut is_new = false;
    for key in keys {
        if !doubts.contains_key(key) && doubts.len() < MAX_KEPT && conflict(tx, key)?.is_some() {
            doubts.insert(key.clone(), Doubt { since: context.now, confirmed: None });
            is_new = true;
        }
    }
    if is_new {
        write(tx, &doubts)?;
        context.look_at(context.now.plus(CONFIRMED_AFTER));
    }
    if keys.iter().any(|key| doubts.contains_key(key)) {
        context.look_at(context.now.plus(LOOK_AFTER));
    }
    Ok(())
}

/// A host that was down says again what it said before, or its addresses are in another network now.
pub fn said_again(tx: &mut dyn Transaction, context: &mut Context<'_>, facts: &GraphFacts) -> Result<()> {
    look_again(tx, context)?;
    changed(tx, context, &concerned(&GraphFacts::default(), facts))
}

/// Something that conflicts depend on changed: a host came, went or died, or the networks were named.
pub fn look_again(tx: &mut dyn Transaction, context: &mut Context<'_>) -> Result<()> {
    if tx.setting(SETTING)?.is_some_and(|kept| !kept.is_empty()) {
        context.look_at(context.now.plus(LOOK_AFTER));
    }
    Ok(())
}

/// Looks at every conflict: whether it lasts, and whether it is over.
pub fn check(tx: &mut dyn Transaction, context: &mut Context<'_>) -> Result<()> {
    let kept = read(tx)?;
    let mut doubts = Doubts::new();
    for (key, mut doubt) in kept.clone() {
        let Some(conflict) = conflict(tx, &key)? else {
            if doubt.confirmed == Some(true) {
                tell(tx, context, &key, &[], Allowed::Yes)?;
            }
            continue;
        };
        if doubt.confirmed.is_none() {
            let patience = if conflict.may_be_late { STALE_AFTER } else { CONFIRMED_AFTER };
            let due = doubt.since.plus(patience);
            if context.now >= due {
                let allowed = WARNINGS.take(tx, context.now, DUPLICATE)?;
                doubt.confirmed = Some(allowed != Allowed::No);
                if allowed != Allowed::No {
                    tell(tx, context, &key, &conflict.claims, allowed)?;
                }
            } else {
                context.look_at(due);
            }
        }
        doubts.insert(key, doubt);
    }
    if doubts != kept { write(tx, &doubts) } else { Ok(()) }
}

/// Edges that say whose an address is, as (owner, address).
fn said(facts: &GraphFacts) -> BTreeSet<(&str, &str)> {
    let edges = facts.edges.iter().filter(|edge| edge.kind == EdgeKind::IpOwner);
    edges.map(|edge| (edge.source.1.as_str(), edge.target.key.as_str())).collect()
}

struct Conflict {
    claims: Vec<Claim>,
    /// It rests on what address resolution said before.
    may_be_late: bool,
}

/// Whether an address has more than one owner at the moment.
fn conflict(tx: &mut dyn Transaction, key: &str) -> Result<Option<Conflict>> {
    let mut owners = tx.edges_at(NodeKind::IpaddrNode, key, EdgeKind::IpOwner)?;
    // What a switch tells of its management says nothing about the link-layer address that answers there.
    owners.retain(|edge| !edge.is_outgoing && !is_of_device(edge));
    if owners.len() < 2 {
        return Ok(None);
    }
    let mut claims = Vec::new();
    for edge in &owners {
        if tx.host(&edge.host)?.is_some_and(|host| host.status == "up") {
            claims.extend(if edge.other_kind == NodeKind::LinkAddress.as_str() {
                heard(tx, key, edge)?
            } else {
                own(tx, edge)?
            });
        }
    }
    Ok(judge(claims))
}

/// What a host says of its own interface.
fn own(tx: &mut dyn Transaction, edge: &NodeEdge) -> Result<Vec<Claim>> {
    let nic = tx.edges_at(NodeKind::NicNode, &edge.other_key, EdgeKind::LinkAddr)?;
    Ok(nic
        .iter()
        .map(|of| Claim {
            owner: edge.host.to_string(),
            macaddr: last_part(&of.other_key).to_owned(),
            is_heard: false,
            since: edge.since,
        })
        .collect())
}

/// What a listener heard, if the address is one of the subnets that it listens in: others are answered for by routers.
fn heard(tx: &mut dyn Transaction, key: &str, edge: &NodeEdge) -> Result<Vec<Claim>> {
    let Some(ip) = ip_in(key) else { return Ok(Vec::new()) };
    let Some(interface) = interface_of(&edge.instance) else { return Ok(Vec::new()) };
    let nic = format!("{}/{interface}", edge.host);
    let of_nic = tx.edges_at(NodeKind::NicNode, &nic, EdgeKind::IpOwner)?;
    let is_near = of_nic.iter().any(|of| is_in_subnet(of, ip));
    if !is_near {
        return Ok(Vec::new());
    }
    let macaddr = last_part(&edge.other_key).to_owned();
    let owners = tx.edges_at(NodeKind::LinkAddress, &edge.other_key, EdgeKind::LinkAddr)?;
    let mut hosts: BTreeSet<String> = owners.iter().map(|of| owner_of(&of.other_key).to_owned()).collect();
    if hosts.is_empty() {
        hosts.insert(macaddr.clone());
    }
    let claim = |owner| Claim { owner, macaddr: macaddr.clone(), is_heard: true, since: edge.since };
    Ok(hosts.into_iter().map(claim).collect())
}

/// Whether the other end is an interface of a device that has no nanoprobe.
fn is_of_device(edge: &NodeEdge) -> bool {
    edge.other_kind == NodeKind::NicNode.as_str() && edge.other_key.starts_with('@')
}

/// Host or device by the key of its interface: `web1/eth0`, `@global/<chassis id>/<port>`.
fn owner_of(nic: &str) -> &str {
    let key = if nic.starts_with('@') { last_part(nic) } else { nic };
    key.split('/').next().unwrap_or(key)
}

fn is_in_subnet(edge: &NodeEdge, ip: IpAddr) -> bool {
    let subnet = |ip: IpAddr, length: u8| match masked(ip.to_canonical(), length) {
        Some(Place::Subnet(network, _)) => Some(network),
        _ => None,
    };
    let length = edge.other_properties.get("cidrmask").and_then(Value::as_u64);
    let Some(length) = length.and_then(|length| u8::try_from(length).ok()) else { return false };
    let Some(own) = ip_in(&edge.other_key) else { return false };
    own.is_ipv4() == ip.is_ipv4()
        && subnet(own, length).is_some()
        && subnet(own, length) == subnet(ip, length)
}

/// Whether these claims contradict each other. Pure.
fn judge(mut claims: Vec<Claim>) -> Option<Conflict> {
    claims.retain(|claim| !is_shared_by_routers(&claim.macaddr));
    claims.sort();
    claims.dedup_by(|a, b| (&a.owner, &a.macaddr, a.is_heard) == (&b.owner, &b.macaddr, b.is_heard));
    let differ = |a: &Claim, b: &Claim| a.owner != b.owner && a.macaddr != b.macaddr;
    // Address resolution is told last; and two that listen may have heard at different times.
    let is_late =
        |heard: &Claim, other: &Claim| heard.is_heard && (other.is_heard || heard.since < other.since);
    let pairs = |late: bool| {
        claims.iter().enumerate().any(|(number, a)| {
            claims[number + 1..].iter().any(|b| differ(a, b) && (is_late(a, b) || is_late(b, a)) == late)
        })
    };
    let is_sure = pairs(false);
    (is_sure || pairs(true)).then(|| Conflict { may_be_late: !is_sure, claims: claims.clone() })
}

/// Link-layer addresses that stand for whichever router has them: VRRP and CARP (RFC 5798 7.3), HSRP (RFC 2281) and its
/// second version, and GLBP.
fn is_shared_by_routers(macaddr: &str) -> bool {
    ["00-00-5e-00-01-", "00-00-5e-00-02-", "00-00-0c-07-ac-", "00-00-0c-9f-f", "00-07-b4-00-"]
        .iter()
        .any(|prefix| macaddr.starts_with(prefix))
}

fn last_part(key: &str) -> &str {
    key.split_once('/').map_or(key, |(_, part)| part)
}

/// A warning; without claims the end of it.
fn tell(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    key: &str,
    claims: &[Claim],
    allowed: Allowed,
) -> Result<()> {
    let (network, ip) = key.split_once('/').unwrap_or(("", key));
    let mut owners: Vec<String> = claims
        .iter()
        .map(|claim| {
            if claim.owner == claim.macaddr {
                claim.macaddr.clone()
            } else {
                format!("{} ({})", claim.owner, claim.macaddr)
            }
        })
        .collect();
    owners.sort();
    owners.dedup();
    let count = owners.len();
    if count > MAX_OWNERS {
        owners.truncate(MAX_OWNERS);
        owners.push(format!("and {} more", count - MAX_OWNERS));
    }
    let mut domain = String::new();
    for claim in claims {
        if let Ok(designation) = model::Designation::new(&claim.owner)
            && let Some(host) = tx.host(&designation)?
        {
            domain = host.domain;
            break;
        }
    }
    let is_over = claims.is_empty();
    let mut text = if is_over {
        format!("{ip} has one owner again")
    } else {
        format!("{ip} belongs to several machines at the same time: {}", owners.join(", "))
    };
    if allowed == Allowed::Last {
        text.push_str("; of further addresses nothing is told for some time");
    }
    let mut extrainfo = json!({
        "reason": DUPLICATE,
        "owners_text": owners.join("\n"),
        "owners": owners,
        "owners_count": count,
        "committed": context.now.to_utc_text(),
        "text": text,
    });
    if is_over {
        context.inform(text);
    } else {
        context.warn(text);
        extrainfo["fix_now"] = format!(
            "give one of them another address; if they stand at two sites that use the same private addresses, name the \
             network of each site in cma.toml, such as [networks] berlin = [\"*-berlin\"], and reload the CMA. The network \
             of both is {:?} now",
            network.trim_start_matches('@')
        )
        .into();
    }
    let object = json!({
        "nodetype": "IPaddrNode",
        "designation": ip,
        "status": if is_over { "up" } else { "duplicate" },
        "reason": DUPLICATE,
        "domain": domain,
        "ipaddr": ip,
        "network": network.trim_start_matches('@'),
    });
    let kind = if is_over { EventType::Unwarn } else { EventType::Warn };
    let event = about_system(context, kind, object, extrainfo);
    context.emit(tx, event)
}

fn read(tx: &mut dyn Transaction) -> Result<Doubts> {
    let text = tx.setting(SETTING)?.unwrap_or_default();
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

fn write(tx: &mut dyn Transaction, doubts: &Doubts) -> Result<()> {
    let text = if doubts.is_empty() { String::new() } else { json!(doubts).to_string() };
    tx.set_setting(SETTING, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(owner: &str, macaddr: &str, is_heard: bool, since: i64) -> Claim {
        Claim { owner: owner.into(), macaddr: macaddr.into(), is_heard, since: Timestamp(since) }
    }

    #[test]
    fn what_is_a_conflict_and_what_is_not() {
        let is = |claims: &[Claim]| judge(claims.to_vec()).map(|conflict| conflict.may_be_late);
        let (web1, web2) = (claim("web1", "aa", false, 5), claim("web2", "bb", false, 6));
        assert_eq!(is(&[web1.clone(), web2.clone()]), Some(false));
        assert_eq!(is(&[web1.clone(), claim("web1", "bb", false, 9)]), None, "two interfaces of one host");
        assert_eq!(is(&[web1.clone(), claim("web2", "aa", false, 9)]), None, "a cluster that shares both");
        assert_eq!(is(&[web1.clone(), claim("web1", "aa", true, 9)]), None, "heard as it says itself");
        assert_eq!(is(&[web1.clone(), claim("cc", "cc", true, 9)]), Some(false), "somebody else answers");
        assert_eq!(is(&[web1.clone(), claim("cc", "cc", true, 2)]), Some(true), "and did so before");
        assert_eq!(is(&[claim("cc", "cc", true, 2), claim("dd", "dd", true, 9)]), Some(true));
        let virtual_router = claim("web2", "00-00-5e-00-01-07", false, 9);
        assert_eq!(is(&[web1.clone(), virtual_router]), None);
        assert_eq!(is(&[web1.clone(), web1]), None);
        assert_eq!(is(&[]), None);
    }

    #[test]
    fn interfaces_tell_whose_they_are() {
        assert_eq!(owner_of("web1/eth0"), "web1");
        assert_eq!(owner_of("@global/00-11-22-33-44-55/ge-0/0/1"), "00-11-22-33-44-55");
    }

    #[test]
    fn shared_addresses_of_routers_are_known() {
        for macaddr in ["00-00-5e-00-01-ff", "00-00-5e-00-02-01", "00-00-0c-07-ac-0a", "00-00-0c-9f-f0-01"] {
            assert!(is_shared_by_routers(macaddr), "{macaddr}");
        }
        for macaddr in ["00-00-5e-00-03-01", "00-00-0c-07-ad-0a", "00-16-3e-00-01-01"] {
            assert!(!is_shared_by_routers(macaddr), "{macaddr}");
        }
    }
}
