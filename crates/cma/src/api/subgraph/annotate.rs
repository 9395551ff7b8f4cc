//! What the CMA knows of nodes besides what discoveries say of them: state and scores of hosts and where they stand, which
//! services are looked after, and whose addresses and services are.

use crate::api::limits;
use model::Designation;
use model::graph::{EdgeKind, NodeKind};
use model::subgraph::{PlaceInNetwork, Subgraph, SubgraphNode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use store::{Direction, GraphNode, Reader, Result};

pub fn annotate(reader: &mut dyn Reader, subgraph: &mut Subgraph) -> Result<()> {
    hosts(reader, &mut subgraph.nodes)?;
    places(reader, &mut subgraph.nodes)?;
    processes(reader, &mut subgraph.nodes)?;
    for (kind, edge, owner) in [
        (NodeKind::LinkAddress, EdgeKind::LinkAddr, NodeKind::NicNode),
        (NodeKind::IpaddrNode, EdgeKind::IpOwner, NodeKind::NicNode),
        (NodeKind::IpTcpPortNode, EdgeKind::TcpService, NodeKind::ProcessNode),
    ] {
        owners(reader, &mut subgraph.nodes, kind, edge, owner)?;
    }
    neighbours(reader, &mut subgraph.nodes)
}

/// The state of hosts, by name.
const STATES: &str =
    "SELECT host, status, reason FROM hosts WHERE host IN (SELECT value FROM json_each(:hosts))";
/// Their points by category.
const SCORES: &str = "SELECT host, category, sum(score) FROM rule_results
  WHERE host IN (SELECT value FROM json_each(:hosts)) AND status = 'fail' GROUP BY host, category";

/// The first of the hosts that never registered, if there is one.
pub fn unknown(reader: &mut dyn Reader, hosts: &[Designation]) -> Result<Option<Designation>> {
    if hosts.is_empty() {
        return Ok(None);
    }
    let names: Vec<&str> = hosts.iter().map(Designation::as_str).collect();
    let table = reader.sql(STATES, &[("hosts".to_owned(), json!(names))], limits())?;
    let known: HashSet<&str> = table.rows.iter().filter_map(|row| row.first()?.as_str()).collect();
    Ok(hosts.iter().find(|host| !known.contains(host.as_str())).cloned())
}

fn of_kind(nodes: &[SubgraphNode], kind: NodeKind) -> impl Iterator<Item = &SubgraphNode> {
    nodes.iter().filter(move |node| node.kind == kind.as_str())
}

fn ids(nodes: &[SubgraphNode], kind: NodeKind) -> Vec<i64> {
    of_kind(nodes, kind).map(|node| node.id).collect()
}

/// State, and points by category.
fn hosts(reader: &mut dyn Reader, nodes: &mut [SubgraphNode]) -> Result<()> {
    let names: Vec<&str> = of_kind(nodes, NodeKind::Drone).map(|node| node.key.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let parameters = [("hosts".to_owned(), json!(names))];
    let states = reader.sql(STATES, &parameters, limits())?;
    let scores = reader.sql(SCORES, &parameters, limits())?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("").to_owned();
    let mut position: HashMap<String, usize> = HashMap::new();
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.kind == NodeKind::Drone.as_str()) {
        position.insert(node.key.clone(), index);
    }
    for row in states.rows {
        if let Some(index) = position.get(&text(row.first())) {
            nodes[*index].status = Some(text(row.get(1)));
            nodes[*index].reason = Some(text(row.get(2)));
        }
    }
    for row in scores.rows {
        if let (Some(index), Some(score)) =
            (position.get(&text(row.first())), row.get(2).and_then(Value::as_f64))
        {
            nodes[*index].scores.insert(text(row.get(1)), score);
        }
    }
    Ok(())
}

/// An interface of a host with what is known around it.
#[derive(Default)]
struct Interface {
    key: String,
    /// Network, address and length of its prefix.
    addresses: Vec<(String, IpAddr, u8)>,
    /// The port of the switch that it is wired to.
    port: Option<i64>,
}

/// Where hosts stand: four steps through the graph for all of them at once.
fn places(reader: &mut dyn Reader, nodes: &mut [SubgraphNode]) -> Result<()> {
    let hosts = ids(nodes, NodeKind::Drone);
    if hosts.is_empty() {
        return Ok(());
    }
    let owned = reader.graph_edges(&hosts, Direction::Out, &[EdgeKind::NicOwner.as_str()])?;
    let nics: Vec<i64> = owned.iter().map(|edge| edge.target).collect();
    let mut interfaces: HashMap<i64, Interface> = reader
        .graph_nodes(&nics)?
        .into_iter()
        .map(|node| (node.id, Interface { key: node.key, ..Interface::default() }))
        .collect();
    let owners = reader.graph_edges(&nics, Direction::Out, &[EdgeKind::IpOwner.as_str()])?;
    let ips = by_id(reader, owners.iter().map(|edge| edge.target))?;
    for edge in &owners {
        if let (Some(interface), Some(address)) =
            (interfaces.get_mut(&edge.source), ips.get(&edge.target).and_then(address))
        {
            interface.addresses.push(address);
        }
    }
    let cables = reader.graph_edges(&nics, Direction::In, &[EdgeKind::WiredTo.as_str()])?;
    for edge in &cables {
        if let Some(interface) = interfaces.get_mut(&edge.target) {
            interface.port = Some(interface.port.map_or(edge.source, |port| port.min(edge.source)));
        }
    }
    let ports = by_id(reader, cables.iter().map(|edge| edge.source))?;
    let port_ids: Vec<i64> = ports.keys().copied().collect();
    let of_switch = reader.graph_edges(&port_ids, Direction::In, &[EdgeKind::NicOwner.as_str()])?;
    let switches = by_id(reader, of_switch.iter().map(|edge| edge.source))?;
    let switch_of: HashMap<i64, i64> = of_switch.iter().map(|edge| (edge.target, edge.source)).collect();
    let mut of_host: HashMap<i64, BTreeSet<(&str, i64)>> = HashMap::new();
    for edge in &owned {
        if let Some(interface) = interfaces.get(&edge.target) {
            of_host.entry(edge.source).or_default().insert((interface.key.as_str(), edge.target));
        }
    }
    for node in nodes.iter_mut().filter(|node| node.kind == NodeKind::Drone.as_str()) {
        let own: Vec<&Interface> =
            of_host.get(&node.id).into_iter().flatten().filter_map(|(_, id)| interfaces.get(id)).collect();
        let primary: Option<IpAddr> =
            node.properties.get("primary_ip_addr").and_then(Value::as_str).and_then(|ip| ip.parse().ok());
        let mut place = PlaceInNetwork::default();
        let main = own.iter().find(|nic| nic.addresses.iter().any(|(_, ip, _)| Some(*ip) == primary));
        let main = main.or_else(|| own.iter().find(|nic| !nic.addresses.is_empty()));
        if let Some((network, ip, length)) = main.and_then(|nic| {
            let addresses = nic.addresses.iter();
            addresses.min_by_key(|(_, ip, _)| (Some(*ip) != primary, ip.is_ipv6(), *ip))
        }) {
            place.network = Some(network.clone());
            place.subnet = Some(subnet(*ip, *length));
        }
        // The address may be a bond's or a VLAN's, the cable that of an interface below.
        let cable = main.and_then(|nic| nic.port).or_else(|| own.iter().find_map(|nic| nic.port));
        if let Some(port) = cable
            && let Some(switch) = switch_of.get(&port).and_then(|switch| switches.get(switch))
        {
            let text = |node: &GraphNode, name: &str| node.properties[name].as_str().map(str::to_owned);
            place.switch = Some(switch.key.clone());
            place.switch_name = text(switch, "SystemName");
            place.port = ports.get(&port).and_then(|port| text(port, "ifname"));
        }
        node.place = (place != PlaceInNetwork::default()).then_some(place);
    }
    Ok(())
}

fn by_id(reader: &mut dyn Reader, ids: impl Iterator<Item = i64>) -> Result<BTreeMap<i64, GraphNode>> {
    let ids: Vec<i64> = ids.collect();
    Ok(reader.graph_nodes(&ids)?.into_iter().map(|node| (node.id, node)).collect())
}

/// Network, address and prefix of an address that other hosts reach too.
fn address(node: &GraphNode) -> Option<(String, IpAddr, u8)> {
    let (network, ip) = node.key.strip_prefix('@')?.split_once('/')?;
    let length = node.properties["cidrmask"].as_u64().and_then(|length| u8::try_from(length).ok())?;
    Some((network.to_owned(), ip.parse().ok()?, length))
}

/// `10.0.0.0/24`
fn subnet(ip: IpAddr, length: u8) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let length = length.min(32);
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            format!("{}/{length}", std::net::Ipv4Addr::from_bits(ip.to_bits() & mask))
        }
        IpAddr::V6(ip) => {
            let length = length.min(128);
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            format!("{}/{length}", std::net::Ipv6Addr::from_bits(ip.to_bits() & mask))
        }
    }
}

/// Whether a monitor that runs looks after a process.
fn processes(reader: &mut dyn Reader, nodes: &mut [SubgraphNode]) -> Result<()> {
    let processes = ids(nodes, NodeKind::ProcessNode);
    let monitoring = reader.graph_edges(&processes, Direction::In, &[EdgeKind::Monitoring.as_str()])?;
    let monitors = by_id(reader, monitoring.iter().map(|edge| edge.source))?;
    let is_active = |id: &i64| monitors.get(id).is_some_and(|monitor| monitor.properties["isactive"] == true);
    let watched: HashSet<i64> =
        monitoring.iter().filter(|edge| is_active(&edge.source)).map(|edge| edge.target).collect();
    for node in nodes.iter_mut().filter(|node| node.kind == NodeKind::ProcessNode.as_str()) {
        node.is_monitored = Some(watched.contains(&node.id));
    }
    Ok(())
}

/// Whose nodes of a kind are: the key of what leads to them by `edge`, of several the first.
fn owners(
    reader: &mut dyn Reader,
    nodes: &mut [SubgraphNode],
    kind: NodeKind,
    edge: EdgeKind,
    owner: NodeKind,
) -> Result<()> {
    let owned = ids(nodes, kind);
    let edges = reader.graph_edges(&owned, Direction::In, &[edge.as_str()])?;
    let sources = by_id(reader, edges.iter().map(|edge| edge.source))?;
    let mut keys: HashMap<i64, &str> = HashMap::new();
    for edge in &edges {
        if let Some(source) = sources.get(&edge.source).filter(|source| source.kind == owner.as_str()) {
            let known = keys.entry(edge.target).or_insert(&source.key);
            *known = (*known).min(&source.key);
        }
    }
    for node in nodes.iter_mut().filter(|node| node.kind == kind.as_str()) {
        node.owner = keys.get(&node.id).map(|key| (*key).to_owned());
    }
    Ok(())
}

/// Of strangers, who made the interface and how the name service calls them.
fn neighbours(reader: &mut dyn Reader, nodes: &mut [SubgraphNode]) -> Result<()> {
    if of_kind(nodes, NodeKind::LinkAddress).all(|node| node.owner.is_some()) {
        return Ok(());
    }
    let table = reader.sql(
        "SELECT DISTINCT network, macaddr, oui, hostname FROM neighbours WHERE owner IS NULL",
        &[],
        limits(),
    )?;
    let mut told: HashMap<String, (Option<String>, Option<String>)> = HashMap::new();
    for row in &table.rows {
        let text = |index: usize| row.get(index).and_then(Value::as_str);
        if let (Some(network), Some(macaddr)) = (text(0), text(1)) {
            let own = told.entry(format!("@{network}/{macaddr}")).or_default();
            own.0 = own.0.take().or_else(|| text(2).map(str::to_owned));
            own.1 = own.1.take().or_else(|| text(3).map(str::to_owned));
        }
    }
    for node in
        nodes.iter_mut().filter(|node| node.kind == NodeKind::LinkAddress.as_str() && node.owner.is_none())
    {
        if let Some((vendor, hostname)) = told.remove(&node.key) {
            (node.vendor, node.hostname) = (vendor, hostname);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_host_is_looked_up() {
        use store::Store;
        let store = store::sqlite::SqliteStore::open(std::path::Path::new(":memory:")).unwrap();
        let mut reader = store.reader().unwrap();
        for statement in [STATES, SCORES] {
            let parameters = [("hosts".to_owned(), json!(["web1"]))];
            let plan = reader.sql(&format!("EXPLAIN QUERY PLAN {statement}"), &parameters, limits()).unwrap();
            let plan = json!(plan.rows).to_string();
            // The list of names is all that is read from one end to the other.
            assert_eq!(plan.matches("SCAN").count(), plan.matches("SCAN json_each").count(), "{plan}");
        }
    }

    #[test]
    fn subnets_are_those_of_the_addresses() {
        for (ip, length, expected) in [
            ("10.1.2.3", 24, "10.1.2.0/24"),
            ("10.1.2.3", 0, "0.0.0.0/0"),
            ("10.1.2.3", 32, "10.1.2.3/32"),
            ("10.1.2.3", 99, "10.1.2.3/32"),
            ("2001:db8::1:2", 64, "2001:db8::/64"),
            ("2001:db8::1:2", 0, "::/0"),
        ] {
            assert_eq!(subnet(ip.parse().unwrap(), length), expected);
        }
    }
}
