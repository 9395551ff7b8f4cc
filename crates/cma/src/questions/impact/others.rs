//! Whether a program that loses a service has another one that does the same.

use crate::questions::{Walker, port_of, program, text};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use store::{Direction, Result};

/// What could take the place of ports that stop.
pub struct Others {
    /// Who offers a port: processes with their hosts.
    offered: HashMap<i64, Vec<(i64, String)>>,
    /// Hosts that are registered and not up.
    down: BTreeSet<String>,
}

impl Others {
    /// Reads who offers what programs use that still have something left.
    pub fn read(
        walker: &mut Walker<'_>,
        used: &HashMap<i64, BTreeSet<i64>>,
        stopped: &HashMap<i64, usize>,
    ) -> Result<Self> {
        // Who has nothing left but what stopped needs no further look.
        let ports: BTreeSet<i64> = used.values().flatten().copied().collect();
        walker.load(ports.iter().copied())?;
        let choosing = used.values().filter(|ports| ports.iter().any(|port| !stopped.contains_key(port)));
        let ports: Vec<i64> = choosing.flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let edges = walker.edges(&ports, Direction::In, &["tcpservice"])?;
        walker.load(edges.iter().map(|edge| edge.source))?;
        let mut offered: HashMap<i64, Vec<(i64, String)>> = HashMap::new();
        for edge in edges {
            offered.entry(edge.target).or_default().push((edge.source, edge.host));
        }
        let hosts: BTreeSet<String> = offered.values().flatten().map(|(_, host)| host.clone()).collect();
        let status = if hosts.is_empty() { BTreeMap::new() } else { walker.graph().status(&hosts)? };
        let down = status.into_iter().filter(|(_, status)| status != "up").map(|(host, _)| host).collect();
        Ok(Self { offered, down })
    }

    /// The port among `left` that does the same as `lost`, on another host that is up as far as known.
    pub fn instead_of(
        &self,
        walker: &Walker<'_>,
        lost: i64,
        left: &[i64],
        stopped_hosts: &BTreeSet<String>,
    ) -> Option<i64> {
        let gone = walker.node(lost)?;
        let of = |port: i64| self.offered.get(&port).map_or(&[][..], Vec::as_slice);
        let programs = |port: i64| -> BTreeSet<&str> {
            of(port).iter().filter_map(|(process, _)| walker.node(*process).map(program)).collect()
        };
        let own_programs = programs(lost);
        let own_hosts: BTreeSet<&str> = of(lost).iter().map(|(_, host)| host.as_str()).collect();
        left.iter().copied().find(|port| {
            let Some(other) = walker.node(*port) else { return false };
            let does_the_same =
                port_of(other) == port_of(gone) || !own_programs.is_disjoint(&programs(*port));
            let hosts = of(*port);
            let is_elsewhere = if hosts.is_empty() {
                text(other, "ipaddr") != text(gone, "ipaddr")
            } else {
                hosts.iter().any(|(_, host)| {
                    !own_hosts.contains(host.as_str())
                        && !stopped_hosts.contains(host)
                        && !self.down.contains(host)
                })
            };
            does_the_same && is_elsewhere
        })
    }

    pub fn text(&self, walker: &Walker<'_>, port: i64) -> String {
        let host = self.offered.get(&port).and_then(|offers| offers.first()).map(|(_, host)| host.as_str());
        format!("{} ({})", walker.label(port), host.unwrap_or("no nanoprobe there"))
    }
}
