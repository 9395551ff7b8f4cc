//! Where a host stands: behind the switch, else in the subnet, of the interface that has the address it talks from. By its
//! own `netconfig` and by what that interface hears of switches (LLDP, CDP).
//!
//! Documents of one host come in any order, so the place is worked out of all of them whenever one of them changes; whoever
//! is told the same place again does nothing.

use super::links::{self, LINK_DISCOVERY};
use super::report::stored_meaning;
use super::{Change, Context};
use crate::knowledge::Knowledge;
use crate::listeners::{Interfaces, Subnet};
use liveness::rings::Place;
use model::envelope::Envelope;
use model::graph::{EdgeKind, GLOBAL, NodeKind};
use model::{Designation, GraphFacts};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use store::{DocumentRow, HostRow, Result, Transaction};

pub(super) const NETCONFIG: &str = "netconfig";
const SUBNET: &str = "subnet ";
const SWITCH: &str = "switch ";
/// Interfaces below an interface that are looked at: deeper than anyone stacks, so that no circle is followed.
const MAX_DEPTH: usize = 8;

/// A document arrived, or went (`None`): where it is one of those that tell where the host stands, that is told, and with
/// `netconfig` which subnets the host has.
pub fn follow(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    row: &DocumentRow,
    present: Option<(&Envelope, &GraphFacts)>,
) -> Result<()> {
    let is_netconfig = row.discovertype == NETCONFIG;
    if !is_netconfig && row.discovertype != LINK_DISCOVERY {
        return Ok(());
    }
    if is_netconfig {
        let interfaces = present.map(|(_, facts)| interfaces(facts)).unwrap_or_default();
        context.produced.changes.push(Change::Interfaces { host: host.designation.clone(), interfaces });
    }
    let Some(ip) = ip_of(&host.address) else { return Ok(()) };
    let network = match present.filter(|_| is_netconfig) {
        Some((envelope, facts)) => Some((envelope.clone(), facts.clone())),
        None if is_netconfig => None,
        None => network_of(tx, context.knowledge, &host.designation)?,
    };
    tell(tx, context, &host.designation, ip, network)
}

/// A host talks from another address: its stored documents tell where that is, if there are any.
pub fn find(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &Designation,
    ip: IpAddr,
) -> Result<()> {
    match network_of(tx, context.knowledge, host)? {
        Some(network) => tell(tx, context, host, ip, Some(network)),
        None => Ok(()),
    }
}

/// What a host says of its interfaces and addresses.
pub fn network_of(
    tx: &mut dyn Transaction,
    knowledge: &Knowledge,
    host: &Designation,
) -> Result<Option<(Envelope, GraphFacts)>> {
    let row = match tx.document(host, NETCONFIG)? {
        Some(row) => Some(row),
        // Under another name than nanoprobes give it.
        None => tx.documents(host)?.into_iter().find(|row| row.discovertype == NETCONFIG),
    };
    match row {
        Some(row) => stored_meaning(tx, knowledge, host, &row),
        None => Ok(None),
    }
}

/// The interfaces that listening makes sense on, from a `netconfig`: those with addresses that others reach too, and with
/// a neighbourhood.
pub fn interfaces(facts: &GraphFacts) -> Interfaces {
    let has_carrier = |nic: &str| {
        let mut nics = facts.edges.iter().map(|edge| &edge.target);
        let of_nic = nics.find(|node| node.kind == NodeKind::NicNode && node.key == nic);
        of_nic.is_none_or(|node| node.properties.get("carrier") != Some(&Value::Bool(false)))
    };
    let mut interfaces = Interfaces::new();
    for edge in facts.edges.iter().filter(|edge| edge.kind == EdgeKind::IpOwner) {
        let Some((context, address)) = edge.target.key.split_once('/') else { continue };
        let (Some(network), Some((_, interface))) =
            (context.strip_prefix('@'), edge.source.1.split_once('/'))
        else {
            continue;
        };
        let length = edge.target.properties.get("cidrmask").and_then(Value::as_u64);
        let (Ok(ip), Some(Ok(length))) = (address.parse::<IpAddr>(), length.map(u8::try_from)) else {
            continue;
        };
        if let Some(Place::Subnet(address, prefix_length)) = masked(ip.to_canonical(), length)
            && has_carrier(&edge.source.1)
        {
            let subnet = Subnet { network: network.to_owned(), address, prefix_length };
            interfaces.entry(interface.to_owned()).or_default().insert(subnet);
        }
    }
    interfaces
}

/// The address in `address:port`.
pub fn ip_of(address: &str) -> Option<IpAddr> {
    address.parse::<SocketAddr>().ok().map(|address| address.ip().to_canonical())
}

/// The network of the interface that has this address; unknown where none has it, as behind address translation.
pub fn subnet(facts: &GraphFacts, ip: IpAddr) -> Place {
    let length = owner(facts, ip).map(|(_, length)| length);
    length.and_then(|length| masked(ip.to_canonical(), length)).unwrap_or(Place::Unknown)
}

/// As it is kept in the store; [`from_text`] reads it.
pub fn to_text(place: &Place) -> String {
    match place {
        Place::Switch(name) => format!("{SWITCH}{name}"),
        Place::Subnet(network, length) => format!("{SUBNET}{network}/{length}"),
        Place::Unknown => String::new(),
    }
}

pub fn from_text(text: &str) -> Place {
    if let Some(name) = text.strip_prefix(SWITCH) {
        return Place::Switch(name.to_owned());
    }
    let subnet = text.strip_prefix(SUBNET).and_then(|text| text.split_once('/'));
    let parsed = subnet.and_then(|(ip, length)| masked(ip.parse().ok()?, length.parse().ok()?));
    parsed.unwrap_or(Place::Unknown)
}

/// The network of an address. A host alone in its network (a point-to-point link, a loopback) has no neighbours there.
pub(super) fn masked(ip: IpAddr, length: u8) -> Option<Place> {
    let masked = match ip {
        IpAddr::V4(v4) if length < 32 => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::from((v4.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(v6) if length < 128 => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::from((v6.to_bits() & mask).to_be_bytes())
        }
        _ => return None,
    };
    Some(Place::Subnet(masked, length))
}

fn tell(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &Designation,
    ip: IpAddr,
    network: Option<(Envelope, GraphFacts)>,
) -> Result<()> {
    let place = match network {
        None => Place::Unknown,
        Some((envelope, facts)) => match behind(tx, context, host, ip, &envelope, &facts)? {
            Some(switch) => Place::Switch(switch),
            None => subnet(&facts, ip),
        },
    };
    context.produced.changes.push(Change::Place { host: host.clone(), place });
    Ok(())
}

/// The one switch that the interface with this address is connected to. A bond to two switches stands behind neither:
/// it outlives both.
fn behind(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &Designation,
    ip: IpAddr,
    envelope: &Envelope,
    facts: &GraphFacts,
) -> Result<Option<String>> {
    let Some((interface, _)) = owner(facts, ip) else { return Ok(None) };
    let mut switches = BTreeSet::new();
    for interface in hardware_of(&envelope.data, &interface) {
        let Some((_, facts)) = stored(tx, context, host, &links::instance_of(&interface))? else { continue };
        switches.extend(links::bridges(&facts));
    }
    let only = if switches.len() == 1 { switches.pop_first() } else { None };
    Ok(only.map(|key| name_of(&key).to_owned()))
}

/// A switch as the rings know it: its chassis, and the network too where that is a named one.
fn name_of(key: &str) -> &str {
    let global = key.strip_prefix(GLOBAL).and_then(|rest| rest.strip_prefix('/'));
    global.or_else(|| key.strip_prefix('@')).unwrap_or(key)
}

/// The interface that has this address, and the length of its prefix.
fn owner(facts: &GraphFacts, ip: IpAddr) -> Option<(String, u8)> {
    facts.edges.iter().filter(|edge| edge.target.kind == NodeKind::IpaddrNode).find_map(|edge| {
        let (_, text) = edge.target.key.split_once('/')?;
        let own: IpAddr = text.parse().ok()?;
        let length = edge.target.properties.get("cidrmask")?.as_u64()?;
        let (_, interface) = edge.source.1.split_once('/')?;
        (own.to_canonical() == ip.to_canonical())
            .then(|| Some((interface.to_owned(), u8::try_from(length).ok()?)))?
    })
}

/// An interface and those below it: the one that a VLAN sits on, the links of a bond, the ports of hardware of a bridge.
fn hardware_of(data: &Value, interface: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::from([interface.to_owned()]);
    let mut level = vec![interface.to_owned()];
    for _ in 0..MAX_DEPTH {
        let mut below = Vec::new();
        for name in &level {
            let fields = &data[name.as_str()];
            let slaves = fields["bonding_slaves"].as_array().into_iter().flatten();
            let named = fields["parent"].as_str().into_iter().chain(slaves.filter_map(Value::as_str));
            let ports = data.as_object().into_iter().flatten().filter(|(_, port)| {
                fields["kind"] == "bridge" && port["brport_bridge"] == **name && leads_out(port)
            });
            below.extend(named.chain(ports.map(|(port, _)| port.as_str())).map(str::to_owned));
        }
        level = below.into_iter().filter(|name| found.insert(name.clone())).collect();
    }
    found
}

/// Whether a port of a bridge is hardware, or made of it; others lead to virtual machines and containers.
fn leads_out(port: &Value) -> bool {
    port["kind"].as_str().is_none_or(|kind| matches!(kind, "bond" | "team" | "vlan"))
}

/// The current document of an instance, and what it means.
fn stored(
    tx: &mut dyn Transaction,
    context: &Context<'_>,
    host: &Designation,
    instance: &str,
) -> Result<Option<(Envelope, GraphFacts)>> {
    match tx.document(host, instance)? {
        Some(row) => stored_meaning(tx, context.knowledge, host, &row),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::graph::{EdgeFact, NodeFact};
    use serde_json::json;

    fn facts(addresses: &[(&str, u64)]) -> GraphFacts {
        let edge = |(ip, length): &(&str, u64)| EdgeFact {
            source: (NodeKind::NicNode, "web1/eth0".into()),
            kind: EdgeKind::IpOwner,
            target: NodeFact {
                kind: NodeKind::IpaddrNode,
                key: if ip.starts_with("127") { format!("web1/{ip}") } else { format!("@global/{ip}") },
                properties: json!({"ipaddr": ip, "cidrmask": length}).as_object().unwrap().clone(),
            },
        };
        GraphFacts { edges: addresses.iter().map(edge).collect(), ..GraphFacts::default() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_subnet_is_that_of_the_address_it_talks_from() {
        let facts = facts(&[("127.0.0.1", 8), ("10.3.2.1", 20), ("2001:db8:1:2::7", 64), ("192.0.2.9", 32)]);
        assert_eq!(subnet(&facts, ip("10.3.2.1")), Place::Subnet(ip("10.3.0.0"), 20));
        assert_eq!(subnet(&facts, ip("::ffff:10.3.2.1")), Place::Subnet(ip("10.3.0.0"), 20));
        assert_eq!(subnet(&facts, ip("2001:db8:1:2::7")), Place::Subnet(ip("2001:db8:1:2::"), 64));
        assert_eq!(subnet(&facts, ip("127.0.0.1")), Place::Subnet(ip("127.0.0.0"), 8));
        assert_eq!(subnet(&facts, ip("10.3.2.2")), Place::Unknown, "behind address translation");
        assert_eq!(subnet(&facts, ip("192.0.2.9")), Place::Unknown, "alone there");
        assert_eq!(masked(ip("10.1.2.3"), 0), Some(Place::Subnet(ip("0.0.0.0"), 0)));
        assert_eq!((masked(ip("10.1.2.3"), 200), masked(ip("::1"), 128)), (None, None));
    }

    #[test]
    fn a_host_can_listen_where_it_has_neighbours() {
        let mut facts = facts(&[
            ("127.0.0.1", 8),
            ("10.3.2.1", 20),
            ("10.3.2.2", 20),
            ("2001:db8:1:2::7", 64),
            ("192.0.2.9", 32),
        ]);
        let found: Vec<String> = interfaces(&facts)
            .into_iter()
            .flat_map(|(name, subnets)| subnets.into_iter().map(move |subnet| (name.clone(), subnet)))
            .map(|(name, subnet)| {
                format!("{name} {} {}/{}", subnet.network, subnet.address, subnet.prefix_length)
            })
            .collect();
        assert_eq!(found, ["eth0 global 10.3.0.0/20", "eth0 global 2001:db8:1:2::/64"]);
        facts.edges.push(EdgeFact {
            source: (NodeKind::Drone, "web1".into()),
            kind: EdgeKind::NicOwner,
            target: NodeFact {
                kind: NodeKind::NicNode,
                key: "web1/eth0".into(),
                properties: json!({"carrier": false}).as_object().unwrap().clone(),
            },
        });
        assert_eq!(interfaces(&facts), Interfaces::new(), "the cable is out");
    }

    #[test]
    fn the_hardware_below_an_interface_is_found_and_circles_end() {
        let data = json!({
            "br0": {"kind": "bridge"}, "bond0": {"kind": "bond", "bonding_slaves": ["eth0", "eth1"], "brport_bridge": "br0"},
            "vnet1": {"kind": "tun", "brport_bridge": "br0"}, "bond0.7": {"parent": "bond0"},
            "a": {"parent": "b"}, "b": {"parent": "a"}, "eth0": {}, "eth1": {}
        });
        let names = |interface: &str| hardware_of(&data, interface).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(names("br0"), "bond0 br0 eth0 eth1");
        assert_eq!(names("bond0.7"), "bond0 bond0.7 eth0 eth1");
        assert_eq!((names("a").as_str(), names("gone").as_str()), ("a b", "gone"));
    }

    #[test]
    fn what_is_kept_reads_back() {
        let places = [
            Place::Switch("00-16-3e-00-00-01 port/1".into()),
            Place::Subnet(ip("10.3.0.0"), 20),
            Place::Subnet(ip("2001:db8::"), 32),
            Place::Unknown,
        ];
        for place in places {
            assert_eq!(from_text(&to_text(&place)), place);
        }
        for rubbish in ["subnet", "subnet 10.0.0.0", "subnet x/8", "subnet 10.0.0.0/33", "moon"] {
            assert_eq!(from_text(rubbish), Place::Unknown, "{rubbish}");
        }
        assert_eq!(
            (name_of("@global/00-16-3e-00-00-01"), name_of("@berlin/sw/1")),
            ("00-16-3e-00-00-01", "berlin/sw/1")
        );
    }
}
