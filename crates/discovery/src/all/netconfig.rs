//! Network interfaces and their addresses (rtnetlink(7), sysfs(5)).
//!
//! `data` = interface name → object; what the kernel does not tell about an interface is left out.
//!
//! | field | value |
//! |---|---|
//! | `address` | hardware address, lower case with dashes: `"00-16-3e-00-00-01"` |
//! | `carrier`, `virtual` | boolean; `carrier` only while the interface is up |
//! | `operstate` | as in sysfs: `up`, `down`, `unknown`, `lowerlayerdown`, ... |
//! | `mtu`, `type` | integer; `type` is the ARPHRD number, 1 for Ethernet |
//! | `duplex`, `speed` | text; integer in Mbit/s, -1 if unknown |
//! | `default_gw` | `true` on the interface of the default route (IPv4, without one IPv6), absent elsewhere |
//! | `kind`, `parent` | driver of a virtual interface (`bridge`, `vlan`, `veth`, ...); the interface a VLAN sits on |
//! | `bridge_id`, `brport_bridge` | of a bridge; of a port the bridge it belongs to |
//! | `bonding_slaves`, `bonding_mode` | of a bond: list of interface names; text |
//! | `ipaddrs` | `"<ip>/<length>"` → `{scope, name, brd?, peer?, secondary?}`; `name` is the label, `secondary` also marks temporary IPv6 addresses |
//!
//! Counters and lifetimes are left out, since they change by themselves. The network belongs to the running system:
//! a file tree has none.
//! ```json
//! {"eth0":{"address":"00-16-3e-00-00-01","carrier":true,"default_gw":true,"duplex":"full","ipaddrs":{"10.0.0.7/24":
//!  {"brd":"10.0.0.255","name":"eth0","scope":"global"}},"mtu":1500,"operstate":"up","speed":1000,"type":1,"virtual":false}}
//! ```

use crate::rtnetlink::{self, Address, Link};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation};
use model::Envelope;
use model::graph::{EdgeFact, EdgeKind, GLOBAL, GraphFacts, NodeFact, NodeKind};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

pub static DISCOVERY: Discovery = Discovery {
    name: "netconfig",
    description: "Network interfaces and addresses",
    documentation: documentation::NETCONFIG,
    parameters: &[],
    instances: &[Instance { name: "netconfig", parameters: &[], schedule: None }],
    schedule: Schedule::DEFAULT,
    trigger: Trigger::Netlink,
    collect,
    graph,
};

const SYSFS: &str = "/sys/class/net";
/// The kernel's own list of IPv4 routes; the default route is among the first lines, however long it is.
const ROUTES: &str = "/proc/net/route";
const ROUTES_V6: &str = "/proc/net/ipv6_route";
const MAX_SYSFS_BYTES: u64 = 4096;
const ARPHRD_LOOPBACK: u16 = 772;

/// For the fuzzer: the bytes are a piece of the kernel's answer, one message of it, or a table of /proc/net.
pub(crate) fn any_answer(bytes: &[u8]) {
    rtnetlink::any_answer(bytes);
    let text = String::from_utf8_lossy(bytes);
    default_of_v4(&text);
    default_of_v6(&text);
}

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut collected = Collected::new(json!({}));
    if !host.is_running_system() {
        collected.errors.push(
            "netconfig needs the running system: a file tree has no network, run nanoprobe in it".into(),
        );
        return collected;
    }
    let links = rtnetlink::links().unwrap_or_else(|error| {
        collected.errors.push(error);
        Vec::new()
    });
    let addresses = rtnetlink::addresses().unwrap_or_else(|error| {
        collected.errors.push(error);
        Vec::new()
    });
    let gateway = default_interface(host);
    let more = links.iter().map(|link| (link.name.clone(), from_sysfs(host, link))).collect();
    collected.data = Value::Object(interfaces(&links, &addresses, gateway.as_deref(), more));
    collected
}

/// Puts the pieces together; `more` are further fields by interface name.
fn interfaces(
    links: &[Link],
    addresses: &[Address],
    gateway: Option<&str>,
    mut more: BTreeMap<String, Map<String, Value>>,
) -> Map<String, Value> {
    let name_of = |index: u32| links.iter().find(|link| link.index == index).map(|link| link.name.as_str());
    let mut data = Map::new();
    for link in links {
        let mut fields = more.remove(&link.name).unwrap_or_default();
        if fields.get("virtual").is_none() {
            // Without a sysfs for this network namespace: hardware has no kind.
            fields.insert(
                "virtual".into(),
                (link.kind.is_some() || link.hardware_type == ARPHRD_LOOPBACK).into(),
            );
        }
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(name.into(), value);
            }
        };
        put("type", Some(link.hardware_type.into()));
        put("address", (!link.address.is_empty()).then(|| dashed(&link.address).into()));
        put("mtu", link.mtu.map(Value::from));
        put("operstate", link.operstate.map(|state| operstate(state).into()));
        put("carrier", link.carrier.filter(|_| link.is_up).map(Value::from));
        put("kind", link.kind.as_deref().map(Value::from));
        // The peer of a veth is no parent, and its index may mean another interface in another namespace.
        let has_parent = matches!(link.kind.as_deref(), Some("vlan" | "macvlan" | "macvtap" | "ipvlan"));
        put("parent", link.parent.filter(|_| has_parent).and_then(name_of).map(Value::from));
        put("default_gw", (gateway == Some(link.name.as_str())).then_some(Value::Bool(true)));
        let of_link = addresses.iter().filter(|address| address.link == link.index);
        let ipaddrs: Map<String, Value> = of_link.map(|address| ipaddr(address, &link.name)).collect();
        put("ipaddrs", (!ipaddrs.is_empty()).then_some(Value::Object(ipaddrs)));
        data.insert(link.name.clone(), Value::Object(fields));
    }
    data
}

fn ipaddr(address: &Address, interface: &str) -> (String, Value) {
    let mut fields = Map::new();
    fields.insert("scope".into(), scope(address.scope).into());
    fields.insert("name".into(), address.label.as_deref().unwrap_or(interface).into());
    if let Some(broadcast) = address.broadcast {
        fields.insert("brd".into(), broadcast.to_string().into());
    }
    if let Some(peer) = address.peer {
        fields.insert("peer".into(), peer.to_string().into());
    }
    if address.is_secondary {
        fields.insert("secondary".into(), true.into());
    }
    (format!("{}/{}", address.ip, address.prefix_length), Value::Object(fields))
}

fn dashed(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join("-")
}

/// RFC 2863 as sysfs words it.
fn operstate(state: u8) -> String {
    let names = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"];
    names.get(usize::from(state)).map_or_else(|| state.to_string(), |name| (*name).to_owned())
}

fn scope(scope: u8) -> String {
    match scope {
        0 => "global".into(),
        200 => "site".into(),
        253 => "link".into(),
        254 => "host".into(),
        255 => "nowhere".into(),
        other => other.to_string(),
    }
}

/// What only sysfs knows. A sysfs of another network namespace (seen in containers) has other interfaces under the
/// same names: then the index differs and nothing of it is taken.
fn from_sysfs(host: &Host, link: &Link) -> Map<String, Value> {
    let mut fields = Map::new();
    let path = format!("{SYSFS}/{}", link.name);
    let text = |file: &str| -> Option<String> {
        let bytes = host.read_at_most(&format!("{path}/{file}"), MAX_SYSFS_BYTES).ok()?;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    if text("ifindex").and_then(|index| index.parse().ok()) != Some(link.index) {
        return fields;
    }
    if let Ok(target) = host.read_link(&path) {
        fields.insert("virtual".into(), target.split('/').any(|part| part == "virtual").into());
    }
    if link.is_up {
        if let Some(duplex) = text("duplex") {
            fields.insert("duplex".into(), duplex.into());
        }
        if let Some(speed) = text("speed").and_then(|speed| speed.parse::<i64>().ok()) {
            fields.insert("speed".into(), speed.into());
        }
    }
    match link.kind.as_deref() {
        Some("bridge") => {
            fields.extend(text("bridge/bridge_id").map(|id| ("bridge_id".to_owned(), id.into())))
        }
        Some("bond") => {
            let mode = text("bonding/mode").and_then(|mode| Some(mode.split_whitespace().next()?.to_owned()));
            fields.extend(mode.map(|mode| ("bonding_mode".to_owned(), mode.into())));
            let mut slaves: Vec<String> =
                text("bonding/slaves").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
            slaves.sort();
            fields.insert("bonding_slaves".into(), slaves.into());
        }
        _ => {}
    }
    if link.has_controller
        && let Ok(target) = host.read_link(&format!("{path}/brport/bridge"))
        && let Some(bridge) = target.rsplit('/').next()
    {
        fields.insert("brport_bridge".into(), bridge.into());
    }
    fields
}

fn default_interface(host: &Host) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    let routes = host.open(ROUTES).ok().map(|file| file.take(64 * 1024).read_to_string(&mut text));
    let of_v4 = routes.and_then(|_| default_of_v4(&text));
    of_v4.or_else(|| default_of_v6(&host.read_text(ROUTES_V6).ok()?))
}

/// Columns: interface, destination, gateway, flags, references, use, metric, mask, ...; hexadecimal.
fn default_of_v4(text: &str) -> Option<String> {
    text.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_default = columns.get(1) == Some(&"00000000") && columns.get(7) == Some(&"00000000");
        let flags = u32::from_str_radix(columns.get(3)?, 16).ok()?;
        (is_default && is_usable(flags)).then(|| columns[0].to_owned())
    })
}

/// Columns: destination, length, source, length, next hop, metric, references, use, flags, interface.
fn default_of_v6(text: &str) -> Option<String> {
    let routes = text.lines().filter_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_default = columns.get(1) == Some(&"00") && columns[0].bytes().all(|b| b == b'0');
        let flags = u32::from_str_radix(columns.get(8)?, 16).ok()?;
        let metric = u32::from_str_radix(columns.get(5)?, 16).ok()?;
        let interface = *columns.get(9)?;
        (is_default && is_usable(flags) && interface != "lo").then(|| (metric, interface.to_owned()))
    });
    routes.min().map(|(_, interface)| interface)
}

/// RTF_UP without RTF_REJECT (route(8)).
fn is_usable(flags: u32) -> bool {
    flags & 0x0001 != 0 && flags & 0x0200 == 0
}

fn graph(host: &str, envelope: &Envelope) -> GraphFacts {
    let mut facts = GraphFacts::default();
    let Some(interfaces) = envelope.data.as_object() else { return facts };
    let mut seen = BTreeSet::new();
    for (name, fields) in interfaces {
        let nic = format!("{host}/{name}");
        facts.edges.push(EdgeFact {
            source: (NodeKind::Drone, host.to_owned()),
            kind: EdgeKind::NicOwner,
            target: NodeFact {
                kind: NodeKind::NicNode,
                key: nic.clone(),
                properties: nic_properties(name, fields),
            },
        });
        let shares_addresses = is_physical_like(interfaces, name, 0);
        if let Some(address) = link_address(fields) {
            let context = if shares_addresses { GLOBAL } else { host };
            facts.edges.push(EdgeFact {
                source: (NodeKind::NicNode, nic.clone()),
                kind: EdgeKind::LinkAddr,
                target: NodeFact {
                    kind: NodeKind::LinkAddress,
                    key: format!("{context}/{address}"),
                    properties: Map::from_iter([("macaddr".to_owned(), Value::from(address))]),
                },
            });
        }
        for (address, details) in fields["ipaddrs"].as_object().into_iter().flatten() {
            let Some((ip, length)) = parse_address(address) else { continue };
            let is_global = shares_addresses && details["scope"] == "global" && is_routable(ip);
            let key = format!("{}/{ip}", if is_global { GLOBAL } else { host });
            if seen.insert((nic.clone(), key.clone())) {
                let properties = Map::from_iter([
                    ("ipaddr".to_owned(), Value::from(ip.to_string())),
                    ("cidrmask".to_owned(), Value::from(length)),
                ]);
                facts.edges.push(EdgeFact {
                    source: (NodeKind::NicNode, nic.clone()),
                    kind: EdgeKind::IpOwner,
                    target: NodeFact { kind: NodeKind::IpaddrNode, key, properties },
                });
            }
        }
    }
    if let Some(primary) = primary_address(interfaces) {
        facts.host_properties.insert("primary_ip_addr".into(), primary.to_string().into());
    }
    facts
}

fn nic_properties(name: &str, fields: &Value) -> Map<String, Value> {
    let mut properties = Map::from_iter([("ifname".to_owned(), Value::from(name))]);
    for field in [
        "carrier",
        "duplex",
        "operstate",
        "speed",
        "mtu",
        "type",
        "virtual",
        "kind",
        "bridge_id",
        "brport_bridge",
    ] {
        if let Some(value) = fields.get(field) {
            properties.insert(field.into(), value.clone());
        }
    }
    properties.extend(link_address(fields).map(|address| ("macaddr".to_owned(), Value::from(address))));
    properties
}

/// The link-layer address of an interface; the zero address of loopback identifies nothing.
fn link_address(fields: &Value) -> Option<&str> {
    fields["address"].as_str().filter(|address| address.bytes().any(|b| !matches!(b, b'0' | b'-')))
}

/// Addresses of an interface are the site's when the interface has hardware, itself or below it: a VLAN, a bond,
/// a bridge with a port of hardware. Those of container bridges and tunnels may exist on every host.
fn is_physical_like(interfaces: &Map<String, Value>, name: &str, depth: usize) -> bool {
    let Some(fields) = interfaces.get(name) else { return false };
    // Deeper than anyone stacks, so that no circle is followed.
    if depth > 8 || name == "lo" {
        return false;
    }
    if fields["virtual"] == false {
        return true;
    }
    let below = |name: &str| is_physical_like(interfaces, name, depth + 1);
    fields["parent"].as_str().is_some_and(below)
        || fields["bonding_slaves"].as_array().into_iter().flatten().filter_map(Value::as_str).any(below)
        || (fields["kind"] == "bridge"
            && interfaces.iter().any(|(port, fields)| fields["brport_bridge"] == name && below(port)))
}

fn is_routable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_link_local() || ip.is_unspecified()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unicast_link_local() || ip == Ipv6Addr::UNSPECIFIED),
    }
}

fn parse_address(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, length) = text.split_once('/')?;
    Some((ip.parse().ok()?, length.parse().ok()?))
}

/// The address that stands for the host: on the interface of the default route a global one under the interface's
/// own name; IPv4 before IPv6, permanent before secondary, then the lowest.
fn primary_address(interfaces: &Map<String, Value>) -> Option<IpAddr> {
    let (name, fields) = interfaces.iter().find(|(_, fields)| fields["default_gw"] == true)?;
    let candidates =
        fields["ipaddrs"].as_object()?.iter().filter(|(_, details)| details["scope"] == "global");
    candidates
        .filter_map(|(address, details)| {
            let (ip, _) = parse_address(address)?;
            Some((details["name"] != *name, ip.is_ipv6(), details["secondary"] == true, ip))
        })
        .min()
        .map(|(_, _, _, ip)| ip)
}

#[cfg(test)]
#[path = "netconfig/tests.rs"]
mod tests;
