//! What changed between two documents about the neighbours of an interface (LLDP, CDP), as events: devices that appear and
//! vanish, and cables that were moved.
//!
//! | what happens | event |
//! |---|---|
//! | a device that nobody saw before | SystemNode create, once for the device, whoever sees it next |
//! | a device that nobody who is up sees any more | SystemNode delete |
//! | an interface is connected to another switch or port than it was | NICNode update |
//! | an interface no longer hears a switch that others still hear | NICNode update |
//! | the first link of an interface, and the same link again after a silence | none |
//!
//! A cable that is pulled and plugged in elsewhere is one move, however long it takes: the link that was lost is remembered.
//! Speed, VLAN and whatever else a port tells of itself are in the graph and its history, and no event. Of one switch, and of
//! the devices that one host sees, only so many are told within some time: one that renumbers its ports moves every cable.

use super::allowance::{Allowance, Allowed};
use super::document::Incoming;
use super::events::about_system;
use super::surroundings::is_said;
use super::{Context, report};
use model::graph::{EdgeKind, NodeKind};
use model::text::{printable, shortened};
use model::{Designation, EventType, GraphFacts, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use store::{HostRow, Result, Transaction};

/// Discovery type of the documents.
pub const LINK_DISCOVERY: &str = "__LinkDiscovery";
/// `reason` in events about an interface that is connected elsewhere now.
pub const MOVED: &str = "connected to another port";
/// `reason` in events about an interface that hears its switch no more.
pub const LOST: &str = "no longer connected";

/// Cables of one switch.
const MOVES: Allowance = Allowance { most: 10, within: Duration::from_secs(600) };
/// Devices that one host tells of.
const DEVICES: Allowance = Allowance { most: 50, within: Duration::from_secs(3600) };
/// Interfaces of one host whose lost links are remembered.
const MAX_REMEMBERED: usize = 64;
/// Of any text from the network in an event.
const MAX_TEXT: usize = 255;
/// Capabilities of what connects hosts to each other (IEEE 802.1AB-2016 8.5.8.1, and as CDP names them).
const BRIDGES: [&str; 3] = ["bridge", "tb_bridge", "srcbridge"];

/// The instance that tells what an interface hears.
pub fn instance_of(interface: &str) -> String {
    format!("#SWITCH_{interface}")
}

/// The devices that an interface is connected to and that connect hosts, by key: phones and other hosts do not.
pub fn bridges(facts: &GraphFacts) -> BTreeSet<String> {
    let is_bridge = |roles: &Value| match roles {
        Value::Array(roles) => {
            roles.iter().filter_map(Value::as_str).any(|role| BRIDGES.contains(&role.trim()))
        }
        Value::String(roles) => roles.split([' ', ',']).any(|role| BRIDGES.contains(&role)),
        _ => false,
    };
    let systems = facts.sources.iter().chain(facts.edges.iter().map(|edge| &edge.target));
    systems
        .filter(|node| node.kind == NodeKind::SystemNode)
        .filter(|node| node.properties.get("roles").is_some_and(is_bridge))
        .map(|node| node.key.clone())
        .collect()
}

/// The devices that a document tells of, by key.
pub fn devices(facts: &GraphFacts) -> BTreeSet<&str> {
    let systems = facts.sources.iter().chain(facts.edges.iter().map(|edge| &edge.target));
    systems.filter(|node| node.kind == NodeKind::SystemNode).map(|node| node.key.as_str()).collect()
}

/// One end of a cable that is no host's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Port {
    /// Key of the device.
    switch: String,
    port: String,
    /// What the device calls itself; may be empty.
    name: String,
}

impl Port {
    fn shown(&self) -> String {
        let device = if self.name.is_empty() { chassis(&self.switch) } else { &self.name };
        short(&format!("port {} of {device}", self.port))
    }
}

/// What a document tells, by interface of the host.
fn ports(facts: &GraphFacts) -> BTreeMap<String, BTreeSet<Port>> {
    let owner_of: BTreeMap<&str, &str> = facts
        .edges
        .iter()
        .filter(|edge| edge.kind == EdgeKind::NicOwner && edge.source.0 == NodeKind::SystemNode)
        .map(|edge| (edge.target.key.as_str(), edge.source.1.as_str()))
        .collect();
    let nodes = || facts.sources.iter().chain(facts.edges.iter().map(|edge| &edge.target));
    let mut ports: BTreeMap<String, BTreeSet<Port>> = BTreeMap::new();
    for edge in facts.edges.iter().filter(|edge| edge.kind == EdgeKind::WiredTo) {
        let Some(switch) = owner_of.get(edge.source.1.as_str()) else { continue };
        let Some((_, interface)) = edge.target.key.split_once('/') else { continue };
        let of_port = nodes().find(|node| node.kind == NodeKind::NicNode && node.key == edge.source.1);
        let ifname = of_port.and_then(|node| node.properties.get("ifname")).and_then(Value::as_str);
        let from_key = edge.source.1.strip_prefix(*switch).and_then(|rest| rest.strip_prefix('/'));
        let port = Port {
            switch: (*switch).to_owned(),
            port: short(ifname.or(from_key).unwrap_or_default()),
            name: short(text_of(facts, switch, "SystemName")),
        };
        ports.entry(interface.to_owned()).or_default().insert(port);
    }
    ports
}

/// What became of an interface's links.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Move {
    To(Port, Port),
    Lost(Port),
}

/// `lost`: the links that interfaces had before they had none; brought up to date.
fn moves(before: &GraphFacts, after: &GraphFacts, lost: &mut BTreeMap<String, Port>) -> Vec<(String, Move)> {
    let (before, after) = (ports(before), ports(after));
    let none = BTreeSet::new();
    let same = |a: &Port, b: &Port| (&a.switch, &a.port) == (&b.switch, &b.port);
    let mut moves = Vec::new();
    let interfaces: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for interface in interfaces {
        let (old, new) = (before.get(interface).unwrap_or(&none), after.get(interface).unwrap_or(&none));
        // The wire is the same, only one of several at its other end came or went.
        if old.iter().any(|port| new.iter().any(|other| same(port, other))) {
            continue;
        }
        let gone = old.iter().find(|port| !new.iter().any(|other| same(port, other)));
        let came = new.iter().find(|port| !old.iter().any(|other| same(port, other)));
        match (gone, came) {
            (Some(gone), Some(came)) => moves.push((interface.clone(), Move::To(gone.clone(), came.clone()))),
            (Some(gone), None) => {
                moves.push((interface.clone(), Move::Lost(gone.clone())));
                if lost.len() < MAX_REMEMBERED || lost.contains_key(interface) {
                    lost.insert(interface.clone(), gone.clone());
                }
            }
            (None, Some(came)) => {
                if let Some(gone) =
                    lost.remove(interface).filter(|gone| !new.iter().any(|port| same(gone, port)))
                {
                    moves.push((interface.clone(), Move::To(gone, came.clone())));
                }
            }
            (None, None) => {}
        }
    }
    moves
}

/// The devices of a document that nobody told of before. To be asked before the graph has the document.
pub fn unknown(tx: &mut dyn Transaction, facts: &GraphFacts) -> Result<BTreeSet<String>> {
    let mut unknown = BTreeSet::new();
    for key in devices(facts) {
        if tx.edges_at(NodeKind::SystemNode, key, EdgeKind::NicOwner)?.is_empty() {
            unknown.insert(key.to_owned());
        }
    }
    Ok(unknown)
}

/// Tells what changed. The graph has `after` already; `unknown`: the devices it had not before.
pub fn changed(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    incoming: &Incoming,
    before: &GraphFacts,
    after: &GraphFacts,
    unknown: &BTreeSet<String>,
) -> Result<()> {
    let told = format!("devices by {}", host.designation);
    for key in unknown {
        let allowed = DEVICES.take(tx, context.now, &told)?;
        if allowed != Allowed::No {
            device(tx, context, host, incoming, after, key, EventType::Create, allowed)?;
        }
    }
    let mut vanished = BTreeSet::new();
    for key in devices(before).difference(&devices(after)) {
        if !is_said(tx, NodeKind::SystemNode, key, EdgeKind::NicOwner)? {
            vanished.insert((*key).to_owned());
            let allowed = DEVICES.take(tx, context.now, &told)?;
            if allowed != Allowed::No {
                device(tx, context, host, incoming, before, key, EventType::Delete, allowed)?;
            }
        }
    }
    let kept = remembered(tx, &host.designation)?;
    let mut lost = kept.clone();
    for (interface, moved) in moves(before, after, &mut lost) {
        let switch = match &moved {
            // What is told of the device says it of all its ports.
            Move::Lost(port) if vanished.contains(&port.switch) => continue,
            Move::Lost(port) | Move::To(_, port) => port.switch.clone(),
        };
        let allowed = MOVES.take(tx, context.now, &format!("cables at {switch}"))?;
        if allowed != Allowed::No {
            cable(tx, context, host, incoming, &interface, &moved, allowed)?;
        }
    }
    if lost != kept {
        remember(tx, &host.designation, &lost)?;
    }
    Ok(())
}

/// A host that is removed starts with a clean slate.
pub fn forget(tx: &mut dyn Transaction, host: &Designation) -> Result<()> {
    if remembered(tx, host)?.is_empty() { Ok(()) } else { remember(tx, host, &BTreeMap::new()) }
}

/// The devices that only this host tells of: they go with it.
pub fn seen_only_by(
    tx: &mut dyn Transaction,
    context: &Context<'_>,
    host: &Designation,
) -> Result<BTreeMap<String, String>> {
    let mut only = BTreeMap::new();
    for row in tx.documents(host)?.into_iter().filter(|row| row.discovertype == LINK_DISCOVERY) {
        let Some((_, facts)) = report::stored_meaning(tx, context.knowledge, host, &row)? else { continue };
        for key in devices(&facts) {
            if tx
                .edges_at(NodeKind::SystemNode, key, EdgeKind::NicOwner)?
                .iter()
                .all(|edge| edge.host == *host)
            {
                only.insert(key.to_owned(), short(text_of(&facts, key, "SystemName")));
            }
        }
    }
    Ok(only)
}

/// A host was removed, and with it all that is known of these devices.
pub fn gone_with(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    devices: BTreeMap<String, String>,
) -> Result<()> {
    for (key, name) in devices {
        let shown = if name.is_empty() { short(chassis(&key)) } else { name.clone() };
        let text = format!("nobody else sees the device {shown}; {} was removed", host.designation);
        let extrainfo = json!({"seen_by": host.designation.as_str(), "reason": "vanished", "text": text});
        let object = device_object(&key, &name, "gone", &host.domain);
        let event = about_system(context, EventType::Delete, object, extrainfo);
        context.emit(tx, event)?;
    }
    Ok(())
}

fn text_of<'f>(facts: &'f GraphFacts, key: &str, property: &str) -> &'f str {
    let nodes = facts.sources.iter().chain(facts.edges.iter().map(|edge| &edge.target));
    let mut of_key = nodes.filter(|node| node.kind == NodeKind::SystemNode && node.key == key);
    of_key.find_map(|node| node.properties.get(property)?.as_str()).unwrap_or_default()
}

/// The chassis id in the key of a device.
pub fn chassis(key: &str) -> &str {
    key.split_once('/').map_or(key, |(_, chassis)| chassis)
}

fn short(text: &str) -> String {
    shortened(&printable(text), MAX_TEXT).into_owned()
}

/// The object of an event about a device.
pub fn device_object(key: &str, name: &str, status: &str, domain: &str) -> Value {
    json!({
        "nodetype": "SystemNode",
        "designation": short(chassis(key)),
        "status": status,
        "reason": if status == "up" { "appeared" } else { "vanished" },
        "domain": domain,
        "systemname": name,
        "network": key.split_once('/').map_or("", |(network, _)| network.trim_start_matches('@')),
    })
}

#[allow(clippy::too_many_arguments)] // everything that one event says
fn device(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    incoming: &Incoming,
    facts: &GraphFacts,
    key: &str,
    kind: EventType,
    allowed: Allowed,
) -> Result<()> {
    let name = short(text_of(facts, key, "SystemName"));
    let shown =
        if name.is_empty() { short(chassis(key)) } else { format!("{name} ({})", short(chassis(key))) };
    let (status, text) = match kind {
        EventType::Create => {
            ("up", format!("{} sees a new device at its network: {shown}", host.designation))
        }
        _ => ("gone", format!("nobody sees the device {shown} any more; the last was {}", host.designation)),
    };
    let mut extrainfo = json!({"seen_by": host.designation.as_str(), "reason": if status == "up" { "appeared" } else { "vanished" }});
    for (field, property) in [
        ("system_description", "SystemDescription"),
        ("management_address", "ManagementAddress"),
        ("platform", "SystemPlatform"),
    ] {
        let value = text_of(facts, key, property);
        if !value.is_empty() {
            extrainfo[field] = short(value).into();
        }
    }
    complete(context, incoming, &mut extrainfo, text, allowed, "devices");
    let object = device_object(key, &name, status, &host.domain);
    let event = about_system(context, kind, object, extrainfo);
    context.emit(tx, event)
}

fn cable(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    incoming: &Incoming,
    interface: &str,
    moved: &Move,
    allowed: Allowed,
) -> Result<()> {
    let (old, new, reason) = match moved {
        Move::To(old, new) => (old, Some(new), MOVED),
        Move::Lost(old) => (old, None, LOST),
    };
    let interface = short(interface);
    let text = match new {
        Some(new) => format!(
            "{interface} of {} is connected to {}, it was connected to {}",
            host.designation,
            new.shown(),
            old.shown()
        ),
        None => format!("{interface} of {} no longer hears {}", host.designation, old.shown()),
    };
    let mut extrainfo = Map::new();
    for (which, port) in [("old", Some(old)), ("new", new)] {
        for (what, value) in [
            ("switch", port.map(|port| short(chassis(&port.switch)))),
            ("switch_name", port.map(|port| port.name.clone())),
            ("port", port.map(|port| port.port.clone())),
        ] {
            extrainfo.insert(format!("{which}_{what}"), value.unwrap_or_default().into());
        }
    }
    let mut extrainfo = Value::Object(extrainfo);
    complete(context, incoming, &mut extrainfo, text, allowed, "cables of this switch");
    let object = json!({
        "nodetype": "NICNode",
        "designation": host.designation.as_str(),
        "status": host.status,
        "reason": reason,
        "domain": host.domain,
        "ifname": interface,
        "address": host.address,
    });
    let event = about_system(context, EventType::Update, object, extrainfo);
    context.emit(tx, event)
}

/// What all of these events say.
fn complete(
    context: &mut Context<'_>,
    incoming: &Incoming,
    extrainfo: &mut Value,
    mut text: String,
    allowed: Allowed,
    what: &str,
) {
    if allowed == Allowed::Last {
        text.push_str(&format!("; of further {what} nothing is told for some time"));
    }
    context.inform(text.clone());
    extrainfo["text"] = text.into();
    extrainfo["instance"] = incoming.instance.clone().into();
    if incoming.changed_after > Timestamp(0) {
        extrainfo["changed_after"] = incoming.changed_after.to_utc_text().into();
    }
    extrainfo["seen"] = incoming.seen.to_utc_text().into();
    extrainfo["committed"] = context.now.to_utc_text().into();
}

fn remembered(tx: &mut dyn Transaction, host: &Designation) -> Result<BTreeMap<String, Port>> {
    let text = tx.setting(&setting_of(host))?.unwrap_or_default();
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

fn remember(tx: &mut dyn Transaction, host: &Designation, lost: &BTreeMap<String, Port>) -> Result<()> {
    let text = if lost.is_empty() { String::new() } else { json!(lost).to_string() };
    tx.set_setting(&setting_of(host), &text)
}

fn setting_of(host: &Designation) -> String {
    format!("lost links of {host}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::graph::{EdgeFact, NodeFact};

    /// Of `eth0=sw1:7` for every link.
    fn facts(links: &str) -> GraphFacts {
        let mut facts = GraphFacts::default();
        for link in links.split_whitespace() {
            let (interface, at) = link.split_once('=').unwrap();
            let (switch, port) = at.split_once(':').unwrap();
            let key = format!("@global/{switch}");
            let properties = json!({"SystemName": switch, "roles": ["bridge", "router"]});
            let node = |kind, key: &str| NodeFact { kind, key: key.into(), properties: Map::new() };
            facts.sources.push(NodeFact {
                properties: properties.as_object().unwrap().clone(),
                ..node(NodeKind::SystemNode, &key)
            });
            let nic = format!("{key}/{port}");
            facts.edges.push(EdgeFact {
                source: (NodeKind::SystemNode, key),
                kind: EdgeKind::NicOwner,
                target: node(NodeKind::NicNode, &nic),
            });
            facts.edges.push(EdgeFact {
                source: (NodeKind::NicNode, nic),
                kind: EdgeKind::WiredTo,
                target: node(NodeKind::NicNode, &format!("web1/{interface}")),
            });
        }
        facts
    }

    fn told(history: &[&str]) -> Vec<String> {
        let mut lost = BTreeMap::new();
        let mut told = Vec::new();
        for step in history.windows(2) {
            for (interface, moved) in moves(&facts(step[0]), &facts(step[1]), &mut lost) {
                told.push(match moved {
                    Move::To(old, new) => format!("{interface} {} -> {}", old.shown(), new.shown()),
                    Move::Lost(old) => format!("{interface} lost {}", old.shown()),
                });
            }
        }
        told
    }

    #[test]
    fn a_moved_cable_is_told_once_also_after_a_while_without_one() {
        assert_eq!(told(&["", "eth0=sw1:7", "eth0=sw1:7"]), [""; 0], "the first link is no move");
        assert_eq!(told(&["eth0=sw1:7", "eth0=sw1:8"]), ["eth0 port 7 of sw1 -> port 8 of sw1"]);
        assert_eq!(
            told(&["eth0=sw1:7", "", "eth0=sw2:7", "", "eth0=sw2:7"]),
            ["eth0 lost port 7 of sw1", "eth0 port 7 of sw1 -> port 7 of sw2", "eth0 lost port 7 of sw2"]
        );
        // Two cables swapped, and a second neighbour on the same wire.
        assert_eq!(
            told(&["eth0=sw1:1 eth1=sw1:2", "eth0=sw1:2 eth1=sw1:1"]),
            ["eth0 port 1 of sw1 -> port 2 of sw1", "eth1 port 2 of sw1 -> port 1 of sw1"]
        );
        assert_eq!(
            told(&["eth0=sw1:1", "eth0=sw1:1 eth0=phone:0", "eth0=sw1:1 eth0=other:0", "eth0=sw1:1"]),
            [""; 0]
        );
    }

    #[test]
    fn only_what_connects_hosts_is_a_place() {
        let mut facts = facts("eth0=sw1:7 eth0=phone:0");
        assert_eq!(bridges(&facts).len(), 2);
        facts.sources[1].properties.insert("roles".into(), json!(["phone"]));
        assert_eq!(bridges(&facts), BTreeSet::from(["@global/sw1".to_owned()]));
        facts.sources[0].properties.remove("roles");
        assert!(bridges(&facts).is_empty());
    }
}
