//! What somebody means who names a host, a service, a switch or an address.
//!
//! | written | means |
//! |---|---|
//! | `web1` | the host; else a switch of that name; else the program of that name, where it runs on one host only |
//! | `10.0.0.7`, `2001:db8::7` | the host that has the address, or whoever it belongs to |
//! | `10.0.0.7:5432`, `[2001:db8::7]:53/udp` | the service there |
//! | `db1:5432` | what listens on that port of the host |
//! | `db1/postgres` | that program on the host, with all of its ports |
//! | `00-16-3e-00-00-01` | the switch with this chassis, or whoever has the link-layer address |
//! | any key of the graph | that node |

use super::{
    ADDRESS, CHILD, DRONE, LINK, NIC, PROCESS, SERVICE, SYSTEM, Trouble, Walker, bare, counted, host_of,
    label, port_of, program, text,
};
use model::Designation;
use model::text::nearest;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use store::{Direction, GraphNode};

/// Longest name that is looked up, in bytes.
const MAX_NAME_BYTES: usize = 512;
/// Candidates that are listed when a name is ambiguous.
const MAX_CANDIDATES: usize = 20;
/// Devices that are looked through for a name.
const MAX_DEVICES: usize = 50_000;

/// What a name means.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A host with a nanoprobe.
    Host(GraphNode),
    /// A device that told of itself.
    Switch(GraphNode),
    /// Ports at addresses that are one service, with the processes that offer them as far as known.
    Service { ports: Vec<GraphNode>, processes: Vec<GraphNode> },
    /// An IP or link-layer address that no host or device is known to have.
    Address(GraphNode),
}

impl Subject {
    /// How the subject is called alone.
    pub fn name(&self) -> String {
        match self {
            Self::Host(node) => node.key.clone(),
            Self::Switch(node) | Self::Address(node) => label(node),
            Self::Service { ports, processes } => match (processes.first(), ports.first()) {
                (Some(process), Some(port)) if ports_are_one(ports) => {
                    let number = port_of(port).map(|(number, _)| format!(":{number}")).unwrap_or_default();
                    format!("{} at {}{number}", program(process), host_of(process))
                }
                (Some(process), _) => format!("{} at {}", program(process), host_of(process)),
                (None, Some(port)) => label(port),
                (None, None) => String::new(),
            },
        }
    }

    /// `host`, `switch`, `service` or `address`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Host(_) => "host",
            Self::Switch(_) => "switch",
            Self::Service { .. } => "service",
            Self::Address(_) => "address",
        }
    }

    /// What names this subject and no other.
    fn exact(&self) -> String {
        match self {
            Self::Host(node) | Self::Switch(node) | Self::Address(node) => node.key.clone(),
            Self::Service { ports, processes } => match processes.first() {
                Some(process) if !ports_are_one(ports) => process.key.clone(),
                _ => ports.first().or(processes.first()).map(|node| node.key.clone()).unwrap_or_default(),
            },
        }
    }
}

fn ports_are_one(ports: &[GraphNode]) -> bool {
    ports.iter().map(port_of).collect::<BTreeSet<_>>().len() == 1
}

/// The one thing that `name` means; `networks` are the configured ones, without `@`.
pub fn resolve(walker: &mut Walker<'_>, name: &str, networks: &[String]) -> Result<Subject, Trouble> {
    let name = name.trim();
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(Trouble::Unknown(
            "a name has 1 to 512 bytes".into(),
            "give a host, a service such as db1:5432 or db1/postgres, a switch or an address".into(),
        ));
    }
    if let Ok(designation) = Designation::new(name)
        && let Some(host) = walker.graph().find(Some(DRONE), designation.as_str())?.pop()
    {
        return Ok(Subject::Host(host));
    }
    let mut found = by_key(walker, name)?;
    if found.is_empty() {
        found = by_address(walker, name)?;
    }
    if found.is_empty() {
        found = of_host(walker, name)?;
    }
    if found.is_empty() {
        found = by_link_address(walker, name, networks)?;
    }
    if found.is_empty() {
        found = by_device(walker, name)?;
    }
    if found.is_empty() {
        found = by_program(walker, name)?;
    }
    let mut by_name: BTreeMap<String, Subject> =
        found.into_iter().map(|subject| (subject.exact(), subject)).collect();
    match by_name.len() {
        0 => Err(unknown(walker, name)?),
        1 => by_name.pop_first().map(|(_, subject)| subject).ok_or_else(|| no_such(name, String::new())),
        count => {
            let mut names: Vec<String> = by_name.into_keys().take(MAX_CANDIDATES).collect();
            if count > MAX_CANDIDATES {
                names.push(format!("and {} more", count - MAX_CANDIDATES));
            }
            Err(Trouble::Ambiguous(name.to_owned(), names))
        }
    }
}

/// A key of the graph, as answers and drawings show them.
fn by_key(walker: &mut Walker<'_>, name: &str) -> Result<Vec<Subject>, Trouble> {
    let found = walker.graph().find(None, name)?;
    // A chassis and its link-layer address have the same key; the device is meant.
    let preferred = [SYSTEM, SERVICE, PROCESS, CHILD, NIC, ADDRESS, LINK];
    let node = preferred.iter().find_map(|kind| found.iter().find(|node| node.kind == *kind)).cloned();
    node.map_or(Ok(Vec::new()), |node| subject_of(walker, node))
}

fn subject_of(walker: &mut Walker<'_>, node: GraphNode) -> Result<Vec<Subject>, Trouble> {
    Ok(match node.kind.as_str() {
        DRONE => vec![Subject::Host(node)],
        SYSTEM => vec![Subject::Switch(node)],
        SERVICE => vec![service_at(walker, node)?],
        PROCESS => vec![program_of(walker, vec![node])?],
        CHILD => {
            let inside = walker.step(&[node.id], Direction::Out, &["hosting"], PROCESS)?;
            let processes: Vec<GraphNode> =
                inside.iter().filter_map(|id| walker.node(*id).cloned()).collect();
            vec![program_of(walker, processes)?]
        }
        ADDRESS | LINK => owners(walker, node)?,
        NIC => {
            let owners = walker.edges(&[node.id], Direction::In, &["nicowner"])?;
            walker.load(owners.iter().map(|edge| edge.source))?;
            let nodes: Vec<GraphNode> =
                owners.iter().filter_map(|edge| walker.node(edge.source).cloned()).collect();
            devices(nodes)
        }
        _ => Vec::new(),
    })
}

fn devices(nodes: Vec<GraphNode>) -> Vec<Subject> {
    let subject = |node: GraphNode| match node.kind.as_str() {
        DRONE => Some(Subject::Host(node)),
        SYSTEM => Some(Subject::Switch(node)),
        _ => None,
    };
    nodes.into_iter().filter_map(subject).collect()
}

/// Whoever has an address: the owners of its interfaces, or else the address itself.
fn owners(walker: &mut Walker<'_>, address: GraphNode) -> Result<Vec<Subject>, Trouble> {
    let mut nics = walker.step(&[address.id], Direction::In, &["ipowner", "linkaddr"], NIC)?;
    if nics.is_empty() {
        // An address that a neighbour sees, at the link-layer address of an interface that is known.
        let links = walker.step(&[address.id], Direction::In, &["ipowner"], LINK)?;
        nics = walker.step(&links, Direction::In, &["linkaddr"], NIC)?;
    }
    let mut ids = walker.step(&nics, Direction::In, &["nicowner"], DRONE)?;
    ids.extend(walker.step(&nics, Direction::In, &["nicowner"], SYSTEM)?);
    let nodes: Vec<GraphNode> = ids.iter().filter_map(|id| walker.node(*id).cloned()).collect();
    let known = devices(nodes);
    Ok(if known.is_empty() { vec![Subject::Address(address)] } else { known })
}

/// `10.0.0.7`, `10.0.0.7:5432`, `[::1]:53/udp`.
fn by_address(walker: &mut Walker<'_>, name: &str) -> Result<Vec<Subject>, Trouble> {
    let (ip, port) = match name.parse::<IpAddr>() {
        Ok(ip) => (ip, None),
        Err(_) => {
            let Some((place, port, protocol)) = place_and_port(name) else { return Ok(Vec::new()) };
            let place = place.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(place);
            let Ok(ip) = place.parse::<IpAddr>() else { return Ok(Vec::new()) };
            (ip, Some((port, protocol)))
        }
    };
    let addresses = walker.graph().addresses(ip)?;
    let mut found = Vec::new();
    let Some((port, protocol)) = port else {
        for address in addresses {
            found.extend(owners(walker, address)?);
        }
        return Ok(found);
    };
    let ids: Vec<i64> = addresses.iter().map(|address| address.id).collect();
    for id in walker.step(&ids, Direction::In, &["baseip"], SERVICE)? {
        let fits = walker.node(id).and_then(port_of).is_some_and(|(number, own)| {
            number == u64::from(port) && protocol.is_none_or(|protocol| protocol == own)
        });
        if fits && let Some(node) = walker.node(id).cloned() {
            found.push(service_at(walker, node)?);
        }
    }
    Ok(found)
}

/// `db1:5432`, `db1/postgres`.
fn of_host(walker: &mut Walker<'_>, name: &str) -> Result<Vec<Subject>, Trouble> {
    let (host, wanted) = match (place_and_port(name), name.split_once('/')) {
        (Some((host, port, protocol)), _) => (host, Wanted::Port(port, protocol)),
        (None, Some((host, program))) => (host, Wanted::Program(program)),
        (None, None) => return Ok(Vec::new()),
    };
    let Ok(designation) = Designation::new(host) else { return Ok(Vec::new()) };
    let Some(drone) = walker.graph().find(Some(DRONE), designation.as_str())?.pop() else {
        return Ok(Vec::new());
    };
    let processes: Vec<i64> = walker.processes(&[drone.id])?.into_iter().collect();
    let offered = walker.edges(&processes, Direction::Out, &["tcpservice"])?;
    walker.load(offered.iter().map(|edge| edge.target))?;
    let mut ports: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for edge in &offered {
        let Some((number, protocol)) = walker.node(edge.target).and_then(port_of) else { continue };
        all.insert(format!("{number} ({})", walker.label(edge.source)));
        let fits = match wanted {
            Wanted::Port(port, wanted) => {
                number == u64::from(port) && wanted.is_none_or(|wanted| wanted == protocol)
            }
            Wanted::Program(_) => false,
        };
        if fits {
            ports.entry(edge.source).or_default().push(edge.target);
        }
    }
    if let Wanted::Program(wanted) = wanted {
        let fits = |id: &i64| {
            walker.node(*id).is_some_and(|node| {
                program(node).eq_ignore_ascii_case(wanted)
                    || text(node, "processname") == Some(wanted)
                    || text(node, "pathname") == Some(wanted)
            })
        };
        let fitting: Vec<GraphNode> =
            processes.iter().filter(|id| fits(id)).filter_map(|id| walker.node(*id).cloned()).collect();
        if fitting.is_empty() {
            let names: BTreeSet<String> = processes.iter().map(|id| walker.label(*id)).collect();
            let near = nearest(wanted, names.iter().map(String::as_str));
            return Err(Trouble::Unknown(
                format!("no program {wanted:?} with sockets is known at {designation}"),
                match near {
                    Some(near) => format!("did you mean {designation}/{near}?"),
                    None => format!("known there: {}", listed(names.into_iter())),
                },
            ));
        }
        return Ok(vec![program_of(walker, fitting)?]);
    }
    if ports.is_empty() {
        return Err(Trouble::Unknown(
            format!("nothing is known to listen at {name}"),
            if all.is_empty() {
                format!("no service of {designation} is known; `assimcli coverage` may tell why")
            } else {
                format!("{designation} offers {}", listed(all.into_iter()))
            },
        ));
    }
    // Several processes at one port are one service to whoever uses it.
    let processes: Vec<GraphNode> = ports.keys().filter_map(|id| walker.node(*id).cloned()).collect();
    let ids: BTreeSet<i64> = ports.into_values().flatten().collect();
    let ports: Vec<GraphNode> = ids.iter().filter_map(|id| walker.node(*id).cloned()).collect();
    Ok(vec![Subject::Service { ports, processes }])
}

#[derive(Clone, Copy)]
enum Wanted<'n> {
    Port(u16, Option<&'n str>),
    Program(&'n str),
}

/// `db1:53/udp` as place, port and protocol.
fn place_and_port(name: &str) -> Option<(&str, u16, Option<&str>)> {
    let (rest, protocol) = match name.rsplit_once('/') {
        Some((rest, protocol @ ("tcp" | "udp"))) => (rest, Some(protocol)),
        _ => (name, None),
    };
    let (place, port) = rest.rsplit_once(':')?;
    Some((place, port.parse().ok()?, protocol))
}

fn by_link_address(
    walker: &mut Walker<'_>,
    name: &str,
    networks: &[String],
) -> Result<Vec<Subject>, Trouble> {
    let address = name.replace(':', "-").to_ascii_lowercase();
    let is_one = address.split('-').count() >= 6
        && address.split('-').all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
    if !is_one {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for network in ["global"].into_iter().chain(networks.iter().map(String::as_str)) {
        found.extend(by_key(walker, &format!("@{network}/{address}"))?);
    }
    Ok(found)
}

fn by_device(walker: &mut Walker<'_>, name: &str) -> Result<Vec<Subject>, Trouble> {
    let all = walker.graph().of_kind(SYSTEM, MAX_DEVICES)?;
    let called = |node: &GraphNode| {
        [Some(bare(&node.key)), text(node, "SystemName"), text(node, "ManagementAddress")]
            .into_iter()
            .flatten()
            .any(|own| own.eq_ignore_ascii_case(name))
    };
    Ok(all.into_iter().filter(called).map(Subject::Switch).collect())
}

fn by_program(walker: &mut Walker<'_>, name: &str) -> Result<Vec<Subject>, Trouble> {
    let mut by_host: BTreeMap<String, Vec<GraphNode>> = BTreeMap::new();
    for process in walker.graph().programs(name, MAX_CANDIDATES * 5)? {
        by_host.entry(host_of(&process).to_owned()).or_default().push(process);
    }
    let mut found = Vec::new();
    for processes in by_host.into_values() {
        found.push(program_of(walker, processes)?);
    }
    Ok(found)
}

/// The service that a port at an address belongs to: the same port of the same processes at other addresses is it too.
fn service_at(walker: &mut Walker<'_>, port: GraphNode) -> Result<Subject, Trouble> {
    let processes = walker.step(&[port.id], Direction::In, &["tcpservice"], PROCESS)?;
    let mut ports = vec![port.clone()];
    for id in walker.step(&processes, Direction::Out, &["tcpservice"], SERVICE)? {
        if let Some(other) = walker.node(id)
            && other.id != port.id
            && port_of(other) == port_of(&port)
        {
            ports.push(other.clone());
        }
    }
    let processes = processes.iter().filter_map(|id| walker.node(*id).cloned()).collect();
    Ok(Subject::Service { ports, processes })
}

/// Processes with all of their ports.
fn program_of(walker: &mut Walker<'_>, processes: Vec<GraphNode>) -> Result<Subject, Trouble> {
    let ids: Vec<i64> = processes.iter().map(|process| process.id).collect();
    let ports = walker.step(&ids, Direction::Out, &["tcpservice"], SERVICE)?;
    let ports = ports.iter().filter_map(|id| walker.node(*id).cloned()).collect();
    Ok(Subject::Service { ports, processes })
}

fn unknown(walker: &mut Walker<'_>, name: &str) -> Result<Trouble, Trouble> {
    let mut names = walker.graph().host_names()?;
    let hosts = names.len();
    names.extend(walker.graph().of_kind(SYSTEM, MAX_DEVICES)?.iter().map(label));
    let host = name.split(['/', ':']).next().unwrap_or(name);
    let rest = &name[host.len()..];
    Ok(match nearest(host, names.iter().map(String::as_str)) {
        Some(near) => no_such(name, format!("did you mean {near}{rest}?")),
        None => no_such(name, format!("{} known: `assimcli hosts` lists them", counted(hosts, "host"))),
    })
}

fn no_such(name: &str, hint: String) -> Trouble {
    Trouble::Unknown(format!("no host, service, switch or address is known as {name:?}"), hint)
}

/// The first few, and how many more.
fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    let shown = names.iter().take(MAX_CANDIDATES).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(MAX_CANDIDATES) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}

#[cfg(test)]
#[path = "names/tests.rs"]
mod tests;
