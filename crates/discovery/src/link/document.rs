//! Documents from what was heard on an interface. The same set gives the same document, in whatever order it was heard.

use super::{Advertisement, MacAddress, Protocol};
use model::Envelope;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Discovery type of [`document`].
pub const LINK_TYPE: &str = "__LinkDiscovery";
/// Discovery type of [`neighbours_document`].
pub const NEIGHBOURS_TYPE: &str = "ARP";
/// Neighbours on one interface that a document tells; a port has one as a rule, radio and old hubs a few.
const MAX_NEIGHBOURS: usize = 64;
/// Roles that connect others.
const CONNECTING: [&str; 10] = [
    "bridge",
    "router",
    "repeater",
    "WLANAP",
    "CVLAN",
    "SVLAN",
    "TPMR",
    "tb_bridge",
    "srcbridge",
    "two-port-relay",
];

/// The document `#SWITCH_<interface>` of `host`: the neighbour that most likely is the switch on top, the others in
/// `neighbours`. What one device says by LLDP and by CDP is one neighbour. Without neighbours `data` is empty.
pub fn document(host: &str, interface: &str, neighbours: &[Advertisement]) -> Envelope {
    let mut all: BTreeMap<(&str, &str, Protocol), &Advertisement> = BTreeMap::new();
    for told in neighbours {
        let place = all.entry((&told.chassis, &told.port, told.protocol)).or_insert(told);
        // Twice the same identity in different words: any rule will do, if it is always the same one.
        if order(told) < order(place) {
            *place = told;
        }
    }
    let mut devices = merged(all.into_values());
    devices.sort_by_cached_key(|device| {
        let first = device.first;
        (!connects(&device.data), first.protocol, first.chassis.clone(), first.port.clone())
    });
    let mut errors: Vec<String> = devices
        .iter()
        .flat_map(|device| device.errors.iter().cloned())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    if devices.len() > MAX_NEIGHBOURS {
        errors.push(format!("{} further neighbours are left out", devices.len() - MAX_NEIGHBOURS));
        devices.truncate(MAX_NEIGHBOURS);
    }
    let protocol = devices.first().map_or(Protocol::Lldp, |device| device.first.protocol).as_str();
    let mut told = devices.into_iter().map(|device| connected(device.data, host, interface));
    let mut data = told.next().unwrap_or_default();
    let others: Vec<Value> = told.map(Value::Object).collect();
    if !others.is_empty() {
        data.insert("neighbours".into(), others.into());
    }
    Envelope {
        discovertype: LINK_TYPE.into(),
        description: format!("Link Level Switch Discovery ({protocol})"),
        host: host.into(),
        source: format!("_decode_{protocol}()"),
        instance: format!("#SWITCH_{interface}"),
        proxy: "local/local".into(),
        data: Value::Object(data),
        errors,
        extras: Map::new(),
    }
}

/// The document of one frame of a capture, with the time it was captured at (RFC 3339) as `localtime`.
pub fn captured_document(host: &str, interface: &str, told: &Advertisement, localtime: &str) -> Envelope {
    let mut envelope = document(host, interface, std::slice::from_ref(told));
    envelope.extras.insert("localtime".into(), localtime.into());
    if told.ttl_seconds == 0
        && let Some(data) = envelope.data.as_object_mut()
    {
        data.insert("goodbye".into(), true.into());
    }
    envelope
}

/// The document `_ARP_<interface>` of `host`: which IP address is at which link-layer address.
pub fn neighbours_document(host: &str, interface: &str, pairs: &BTreeMap<IpAddr, MacAddress>) -> Envelope {
    let data =
        pairs.iter().map(|(ip, mac)| (ip.to_canonical().to_string(), Value::from(mac.to_string()))).collect();
    Envelope {
        discovertype: NEIGHBOURS_TYPE.into(),
        description: "ARP map".into(),
        host: host.into(),
        source: "arpcache".into(),
        instance: format!("_ARP_{interface}"),
        proxy: "local/local".into(),
        data: Value::Object(data),
        errors: Vec::new(),
        extras: Map::from_iter([("device".to_owned(), Value::from(interface))]),
    }
}

/// A neighbour, perhaps from frames of both protocols.
struct Device<'a> {
    /// What gives it its identity.
    first: &'a Advertisement,
    data: Map<String, Value>,
    errors: Vec<String>,
}

fn order(told: &Advertisement) -> (MacAddress, String) {
    (told.source, Value::Object(told.data.clone()).to_string())
}

/// One for each LLDP neighbour, with what the same device says by CDP; and one for each that speaks CDP only.
fn merged<'a>(all: impl Iterator<Item = &'a Advertisement>) -> Vec<Device<'a>> {
    let (lldp, cdp): (Vec<_>, Vec<_>) = all.partition(|told| told.protocol == Protocol::Lldp);
    let device =
        |first: &'a Advertisement| Device { first, data: first.data.clone(), errors: first.errors.clone() };
    let mut devices: Vec<Device<'a>> = lldp.into_iter().map(device).collect();
    for told in cdp {
        let by_address = devices.iter().position(|device| is_from_same_address(device.first, told));
        let same = by_address.or_else(|| devices.iter().position(|device| has_same_name(device.first, told)));
        match same.and_then(|at| devices.get_mut(at)) {
            Some(device) => {
                add_other(&mut device.data, &device.first.port, told);
                device.errors.extend(told.errors.iter().cloned());
            }
            None => devices.push(device(told)),
        }
    }
    devices
}

/// A device sends both from the address of the port.
fn is_from_same_address(known: &Advertisement, cdp: &Advertisement) -> bool {
    known.protocol != cdp.protocol && known.source == cdp.source
}

/// Where a device has an address for each protocol, it has one name at least, which CDP may tell with its domain.
fn has_same_name(known: &Advertisement, cdp: &Advertisement) -> bool {
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let name = known.data.get("SystemName").and_then(Value::as_str).unwrap_or_default();
    known.protocol != cdp.protocol && !name.is_empty() && short(name) == short(&cdp.chassis)
}

/// What only CDP says, beside what LLDP says; CDP's names of device and port under names of their own.
fn add_other(data: &mut Map<String, Value>, port: &str, told: &Advertisement) {
    let mut other = told.data.clone();
    let of_port = other.remove("ports").and_then(|mut ports| ports.get_mut(&told.port).map(Value::take));
    other.remove("ChassisId");
    data.insert("CdpDeviceId".into(), told.chassis.clone().into());
    for (name, value) in other {
        match (data.get_mut(&name), value) {
            (Some(Value::Array(known)), Value::Array(more)) => {
                let new: Vec<Value> = more.into_iter().filter(|entry| !known.contains(entry)).collect();
                known.extend(new);
                if name == "protocols" {
                    known.sort_by_key(|entry| entry.as_str() != Some(Protocol::Lldp.as_str()));
                }
            }
            (Some(_), _) => {}
            (None, value) => drop(data.insert(name, value)),
        }
    }
    let known = data.get_mut("ports").and_then(|ports| ports.get_mut(port)).and_then(Value::as_object_mut);
    if let (Some(known), Some(Value::Object(of_port))) = (known, of_port) {
        known.insert("CdpPortId".into(), told.port.clone().into());
        for (name, value) in of_port {
            known.entry(name).or_insert(value);
        }
    }
}

/// Whether a device connects others, by the roles that it says are enabled.
fn connects(data: &Map<String, Value>) -> bool {
    match data.get("SystemCapabilities") {
        Some(Value::Object(roles)) => {
            roles.iter().any(|(role, enabled)| *enabled == true && CONNECTING.contains(&role.as_str()))
        }
        Some(Value::Array(roles)) => {
            roles.iter().filter_map(Value::as_str).any(|role| CONNECTING.contains(&role))
        }
        _ => false,
    }
}

/// With the end of the cable that heard it.
fn connected(mut data: Map<String, Value>, host: &str, interface: &str) -> Map<String, Value> {
    for port in
        data.get_mut("ports").and_then(Value::as_object_mut).into_iter().flat_map(|ports| ports.values_mut())
    {
        if let Some(port) = port.as_object_mut() {
            port.insert("ConnectsToHost".into(), host.into());
            port.insert("ConnectsToInterface".into(), interface.into());
        }
    }
    data
}

#[cfg(test)]
mod tests;
