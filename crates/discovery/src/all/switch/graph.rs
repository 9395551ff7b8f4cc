//! What the neighbours of an interface mean for the graph.

use crate::link;
use model::Envelope;
use model::graph::{EdgeFact, EdgeKind, GLOBAL, GraphFacts, NodeFact, NodeKind};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What a document may hold at most of each, whoever made it.
const MAX_NEIGHBOURS: usize = 64;
const MAX_PORTS: usize = 4;
const MAX_ADDRESSES: usize = 16;
const MAX_ID_CHARS: usize = 512;
/// The interface of a switch that its management addresses belong to.
const MANAGEMENT: &str = "(management)";

/// SystemNode –nicowner→ NICNode of its port –wiredto→ NICNode of the host; SystemNode –nicowner→ NICNode `(management)`
/// –ipowner→ IPaddrNode; both NICNodes –linkaddr→ LinkAddress.
pub fn graph(host: &str, envelope: &Envelope) -> GraphFacts {
    let mut facts = GraphFacts::default();
    let Some(interface) = envelope.instance.strip_prefix("#SWITCH_").filter(|name| !name.is_empty()) else {
        return facts;
    };
    let nic = format!("{host}/{interface}");
    let others = envelope.data.get("neighbours").and_then(Value::as_array);
    let all = std::iter::once(&envelope.data).chain(others.into_iter().flatten());
    let mut seen = BTreeSet::new();
    for neighbour in all.take(MAX_NEIGHBOURS).filter_map(Value::as_object) {
        let Some(id) = neighbour.get("ChassisId").and_then(id) else { continue };
        // A slash would make a device and port of one name another one's.
        let key = format!("{GLOBAL}/{}", id.replace('/', "%2f"));
        if seen.insert(key.clone()) {
            facts.sources.push(NodeFact {
                kind: NodeKind::SystemNode,
                key: key.clone(),
                properties: of_device(neighbour),
            });
            management(&mut facts, &key, id, neighbour);
        }
        let ports = neighbour.get("ports").and_then(Value::as_object).into_iter().flatten();
        for (port, fields) in ports.take(MAX_PORTS) {
            let Some(port) = id_of(port) else { continue };
            let port_key = format!("{key}/{port}");
            if !seen.insert(port_key.clone()) {
                continue;
            }
            let address = fields.get("sourceMAC").and_then(Value::as_str).and_then(station);
            let source = (NodeKind::NicNode, port_key.clone());
            facts.edges.push(EdgeFact {
                source: (NodeKind::SystemNode, key.clone()),
                kind: EdgeKind::NicOwner,
                target: NodeFact {
                    kind: NodeKind::NicNode,
                    key: port_key,
                    properties: of_port(port, fields, address.as_deref()),
                },
            });
            facts.edges.push(EdgeFact {
                source: source.clone(),
                kind: EdgeKind::WiredTo,
                target: NodeFact {
                    kind: NodeKind::NicNode,
                    key: nic.clone(),
                    properties: Map::from_iter([("ifname".to_owned(), Value::from(interface))]),
                },
            });
            facts.edges.extend(address.map(|address| linked(source, &address)));
        }
    }
    facts
}

/// The interface `(management)` with all addresses that the device tells, and the link-layer address that stands for the device.
fn management(facts: &mut GraphFacts, key: &str, id: &str, neighbour: &Map<String, Value>) {
    let mut addresses: Vec<&str> = Vec::new();
    for name in ["ManagementAddress", "ManagementAddresses", "SystemAddress"] {
        match neighbour.get(name) {
            Some(Value::String(address)) => addresses.push(address),
            Some(Value::Array(list)) => {
                addresses
                    .extend(list.iter().filter_map(|entry| entry.get("address").unwrap_or(entry).as_str()));
            }
            _ => {}
        }
    }
    let ips: BTreeSet<IpAddr> = addresses
        .iter()
        .filter_map(|text| text.parse().ok())
        .filter(|ip| link::is_routable(*ip))
        .take(MAX_ADDRESSES)
        .collect();
    let address = addresses.iter().copied().find_map(station).or_else(|| station(id));
    if ips.is_empty() && address.is_none() {
        return;
    }
    let nic = (NodeKind::NicNode, format!("{key}/{MANAGEMENT}"));
    let mut properties = Map::from_iter([("ifname".to_owned(), Value::from(MANAGEMENT))]);
    properties.extend(address.clone().map(|address| ("macaddr".to_owned(), Value::from(address))));
    facts.edges.push(EdgeFact {
        source: (NodeKind::SystemNode, key.to_owned()),
        kind: EdgeKind::NicOwner,
        target: NodeFact { kind: nic.0, key: nic.1.clone(), properties },
    });
    facts.edges.extend(ips.into_iter().map(|ip| EdgeFact {
        source: nic.clone(),
        kind: EdgeKind::IpOwner,
        target: NodeFact {
            kind: NodeKind::IpaddrNode,
            key: format!("{GLOBAL}/{ip}"),
            properties: Map::from_iter([("ipaddr".to_owned(), Value::from(ip.to_string()))]),
        },
    }));
    facts.edges.extend(address.map(|address| linked(nic, &address)));
}

fn linked(source: (NodeKind, String), address: &str) -> EdgeFact {
    EdgeFact {
        source,
        kind: EdgeKind::LinkAddr,
        target: NodeFact {
            kind: NodeKind::LinkAddress,
            key: format!("{GLOBAL}/{address}"),
            properties: Map::from_iter([("macaddr".to_owned(), Value::from(address))]),
        },
    }
}

/// What stands alone, and the roles that are enabled. CDP's name of a device is its id.
fn of_device(neighbour: &Map<String, Value>) -> Map<String, Value> {
    let mut properties = scalars(neighbour);
    let roles: Vec<Value> = match neighbour.get("SystemCapabilities") {
        Some(Value::Object(roles)) => roles
            .iter()
            .filter(|(_, enabled)| **enabled == true)
            .map(|(role, _)| role.as_str().into())
            .collect(),
        Some(Value::Array(roles)) => roles.iter().filter(|role| role.is_string()).cloned().collect(),
        _ => Vec::new(),
    };
    properties.insert("roles".into(), roles.into());
    let is_cdp = neighbour.get("protocols") == Some(&json!(["cdp"]));
    for (name, other) in [("SystemName", "ChassisId"), ("SystemDescription", "SystemVersion")] {
        if let Some(value) =
            neighbour.get(other).filter(|_| is_cdp && !properties.contains_key(name)).cloned()
        {
            properties.insert(name.into(), value);
        }
    }
    properties
}

/// The fields that stand alone; `vlan` is the untagged one, whatever the protocol calls it. Where the cable ends is the edge.
fn of_port(port: &str, fields: &Value, address: Option<&str>) -> Map<String, Value> {
    let mut properties = fields.as_object().map(scalars).unwrap_or_default();
    properties.retain(|name, _| !name.starts_with("ConnectsTo") && name != "sourceMAC");
    properties.insert("ifname".into(), port.into());
    properties.extend(address.map(|address| ("macaddr".to_owned(), Value::from(address))));
    let vlan = fields.get("pvid").or(fields.get("VlanId")).cloned();
    properties.extend(vlan.map(|vlan| ("vlan".to_owned(), vlan)));
    properties
}

fn scalars(fields: &Map<String, Value>) -> Map<String, Value> {
    let alone = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
    fields
        .iter()
        .filter(|(_, value)| alone(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn id(value: &Value) -> Option<&str> {
    value.as_str().and_then(id_of)
}

/// Part of a key: as the decoders make it, whoever says it here.
fn id_of(text: &str) -> Option<&str> {
    let is_plain = !text.is_empty() && text.len() <= 4 * MAX_ID_CHARS && text.chars().count() <= MAX_ID_CHARS;
    (is_plain && model::text::printable(text) == text).then_some(text)
}

fn station(text: &str) -> Option<String> {
    let address = link::MacAddress::parse(text)?;
    address.is_station().then(|| address.to_string())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
