//! Which cable leads from which interface to which port, as LLDP and CDP told.

use super::{DRONE, NIC, SYSTEM, Walker};
use std::collections::{BTreeMap, BTreeSet};
use store::{Direction, GraphLink, Result};

/// One cable, by the numbers of its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cable {
    pub host: i64,
    pub nic: i64,
    pub port: i64,
    pub switch: i64,
}

/// The cables of hosts. All nodes of them are loaded.
pub fn of_hosts(walker: &mut Walker<'_>, hosts: &[i64]) -> Result<Vec<Cable>> {
    let owned = walker.edges(hosts, Direction::Out, &["nicowner"])?;
    let nics: Vec<i64> = owned.iter().map(|edge| edge.target).collect();
    let wires = walker.edges(&nics, Direction::In, &["wiredto"])?;
    let ports: Vec<i64> = wires.iter().map(|edge| edge.source).collect();
    let of_switches = walker.edges(&ports, Direction::In, &["nicowner"])?;
    let cables = join(&owned, &wires, &of_switches);
    walker.load(cables.iter().flat_map(|cable| [cable.host, cable.nic, cable.port, cable.switch]))?;
    Ok(cables.into_iter().filter(|cable| is_one(walker, cable)).collect())
}

/// The cables of switches. All nodes of them are loaded.
pub fn of_switches(walker: &mut Walker<'_>, switches: &[i64]) -> Result<Vec<Cable>> {
    let cables = by_numbers(walker, switches)?;
    walker.load(cables.iter().flat_map(|cable| [cable.host, cable.nic, cable.port, cable.switch]))?;
    Ok(cables.into_iter().filter(|cable| is_one(walker, cable)).collect())
}

/// The cables of switches without reading a node: for many. What hangs on a port may be something else than a host.
pub fn by_numbers(walker: &mut Walker<'_>, switches: &[i64]) -> Result<Vec<Cable>> {
    let owned = walker.edges(switches, Direction::Out, &["nicowner"])?;
    let ports: Vec<i64> = owned.iter().map(|edge| edge.target).collect();
    let wires = walker.edges(&ports, Direction::Out, &["wiredto"])?;
    let nics: Vec<i64> = wires.iter().map(|edge| edge.target).collect();
    let of_hosts = walker.edges(&nics, Direction::In, &["nicowner"])?;
    Ok(join(&of_hosts, &wires, &owned))
}

/// `web1:eth0 – sw1 port g7`, for people.
pub fn text(walker: &Walker<'_>, cable: &Cable) -> String {
    format!(
        "{} is wired to {} port {}",
        walker.label(cable.nic),
        walker.label(cable.switch),
        walker.label(cable.port)
    )
}

fn is_one(walker: &Walker<'_>, cable: &Cable) -> bool {
    walker.is(cable.host, DRONE)
        && walker.is(cable.nic, NIC)
        && walker.is(cable.port, NIC)
        && walker.is(cable.switch, SYSTEM)
}

/// Owners of interfaces, wires, owners of ports: a cable for each wire that has both.
fn join(of_hosts: &[GraphLink], wires: &[GraphLink], of_switches: &[GraphLink]) -> Vec<Cable> {
    let owners = |edges: &[GraphLink]| -> BTreeMap<i64, i64> {
        edges.iter().map(|edge| (edge.target, edge.source)).collect()
    };
    let (hosts, switches) = (owners(of_hosts), owners(of_switches));
    let cables: BTreeSet<Cable> = wires
        .iter()
        .filter_map(|wire| {
            let (host, switch) = (*hosts.get(&wire.target)?, *switches.get(&wire.source)?);
            Some(Cable { host, nic: wire.target, port: wire.source, switch })
        })
        .collect();
    cables.into_iter().collect()
}
