//! What stops working if a host, a service or a switch stops.
//!
//! A host takes its services with it, also those in its containers. A program that uses a service which stops, stops, and
//! with it the services that it offers itself, and so on. Who uses the same service (the same port, or the same program) on
//! another host as well, and that host is up, is degraded only; a host with a cable to another switch loses redundancy
//! only. Neither goes further.
//!
//! Level by level, with a handful of reads for each, however many programs a level has.

mod others;

use super::names::Subject;
use super::{PROCESS, Trouble, Walker, counted, host_of, port_of, program, switches, text};
use others::Others;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use store::{Direction, Result};

/// How far and how much.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Dependencies in a row that are followed.
    pub hops: usize,
    /// Rows of the answer.
    pub rows: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Effect {
    #[serde(rename = "stops")]
    Stops,
    #[serde(rename = "degraded")]
    Degraded,
    #[serde(rename = "loses redundancy")]
    LosesRedundancy,
}

/// One thing that is affected.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Dependencies between the subject and this: 0 goes down with it, 1 uses what goes down with it.
    pub depth: usize,
    pub effect: Effect,
    /// `host`, `service` (a program that offers something) or `client` (one that offers nothing).
    pub kind: &'static str,
    pub host: String,
    pub what: String,
    pub because: String,
    pub path: Vec<Step>,
}

/// A node on the way from the subject, and the edge that leads to it; the first has none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    pub edge: Option<&'static str>,
    pub kind: String,
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Impact {
    pub subject: String,
    pub subject_kind: &'static str,
    pub rows: Vec<Row>,
    /// Affected, but beyond the bound of rows; what they in turn affect is not counted.
    pub more: usize,
    /// Affected, but beyond the bound of hops.
    pub farther: usize,
    pub summary: String,
}

/// Follows what depends on the subject.
pub fn impact(
    walker: &mut Walker<'_>,
    subject: &Subject,
    bounds: Bounds,
) -> std::result::Result<Impact, Trouble> {
    let mut spread = Spread::new(walker, bounds);
    match subject {
        Subject::Host(node) => {
            let root = spread.root(node.id);
            spread.walker.nodes.insert(node.id, node.clone());
            spread.stop_hosts(&[(node.id, root)])?;
        }
        Subject::Switch(node) => {
            let root = spread.root(node.id);
            spread.walker.nodes.insert(node.id, node.clone());
            spread.stop_switch(node.id, root)?;
        }
        Subject::Service { ports, processes } => {
            let first = processes.first().or(ports.first());
            let root = spread.root(first.map_or(0, |node| node.id));
            spread.walker.nodes.extend(processes.iter().chain(ports).map(|node| (node.id, node.clone())));
            spread.stopped_processes.extend(processes.iter().map(|node| node.id));
            spread.stop_ports(ports.iter().map(|port| (port.id, root)));
        }
        Subject::Address(node) => {
            return Err(Trouble::Unknown(
                format!(
                    "no host or device is known to have {}, so nothing is known of what it does",
                    super::label(node)
                ),
                "`assimcli path` tells who has seen it; install a nanoprobe there".into(),
            ));
        }
    }
    let mut farther = 0;
    for depth in 1.. {
        let level = std::mem::take(&mut spread.frontier);
        if level.is_empty() {
            break;
        }
        let users = spread.users(&level)?;
        if depth > bounds.hops {
            farther = users.keys().filter(|id| !spread.by_process.contains_key(*id)).count();
            break;
        }
        spread.level(depth, users)?;
        if spread.more > 0 {
            break;
        }
    }
    Ok(spread.answer(subject, farther))
}

/// An affected thing, in the order in which it was found.
struct Item {
    depth: usize,
    effect: Effect,
    node: i64,
    /// The item that takes this one with it.
    parent: Option<usize>,
    /// The way from the parent's node, without the parent.
    steps: Vec<(&'static str, i64)>,
    because: String,
    /// The subject itself is no row of its own answer.
    is_shown: bool,
}

struct Spread<'w, 'g> {
    walker: &'w mut Walker<'g>,
    rows: usize,
    items: Vec<Item>,
    by_process: HashMap<i64, usize>,
    stopped_hosts: BTreeSet<String>,
    stopped_processes: HashSet<i64>,
    /// Ports that stop, with the item that takes them with it.
    stopped_ports: HashMap<i64, usize>,
    /// What a program offers, for its row.
    offers: HashMap<i64, Vec<i64>>,
    frontier: Vec<i64>,
    shown: usize,
    more: usize,
}

impl<'w, 'g> Spread<'w, 'g> {
    fn new(walker: &'w mut Walker<'g>, bounds: Bounds) -> Self {
        Self {
            walker,
            rows: bounds.rows,
            items: Vec::new(),
            by_process: HashMap::new(),
            stopped_hosts: BTreeSet::new(),
            stopped_processes: HashSet::new(),
            stopped_ports: HashMap::new(),
            offers: HashMap::new(),
            frontier: Vec::new(),
            shown: 0,
            more: 0,
        }
    }

    fn root(&mut self, node: i64) -> usize {
        self.items.push(Item {
            depth: 0,
            effect: Effect::Stops,
            node,
            parent: None,
            steps: Vec::new(),
            because: String::new(),
            is_shown: false,
        });
        self.items.len() - 1
    }

    /// Adds a row if there is room.
    fn push(&mut self, item: Item) -> Option<usize> {
        if self.shown >= self.rows {
            self.more += 1;
            return None;
        }
        self.shown += 1;
        self.items.push(item);
        Some(self.items.len() - 1)
    }

    fn stop_ports(&mut self, ports: impl IntoIterator<Item = (i64, usize)>) {
        for (port, item) in ports {
            if self.stopped_ports.insert(port, item).is_none() {
                self.frontier.push(port);
            }
        }
    }

    /// Hosts behind a switch: those with no other cable stop.
    fn stop_switch(&mut self, switch: i64, root: usize) -> Result<()> {
        let here = switches::of_switches(self.walker, &[switch])?;
        let hosts: Vec<i64> =
            here.iter().map(|cable| cable.host).collect::<BTreeSet<_>>().into_iter().collect();
        let all = switches::of_hosts(self.walker, &hosts)?;
        let mut stopping = Vec::new();
        for host in hosts {
            let Some(cable) = here.iter().find(|cable| cable.host == host) else { continue };
            let elsewhere = all.iter().find(|cable| cable.host == host && cable.switch != switch);
            let own = switches::text(self.walker, cable);
            let (effect, because) = match elsewhere {
                Some(other) => (
                    Effect::LosesRedundancy,
                    format!("{own}, but {} too", switches::text(self.walker, other)),
                ),
                None => (Effect::Stops, format!("{own}; no cable to another switch is known")),
            };
            let item = Item {
                depth: 0,
                effect,
                node: host,
                parent: Some(root),
                steps: vec![("nicowner", cable.port), ("wiredto", cable.nic), ("nicowner", host)],
                because,
                is_shown: true,
            };
            if let Some(index) = self.push(item)
                && effect == Effect::Stops
            {
                stopping.push((host, index));
            }
        }
        self.stop_hosts(&stopping)
    }

    /// Hosts with the items that take them down: their services go with them.
    fn stop_hosts(&mut self, hosts: &[(i64, usize)]) -> Result<()> {
        let ids: Vec<i64> = hosts.iter().map(|(id, _)| *id).collect();
        let mut items: HashMap<String, usize> = HashMap::new();
        for (id, item) in hosts {
            if let Some(node) = self.walker.node(*id) {
                self.stopped_hosts.insert(node.key.clone());
                items.insert(node.key.clone(), *item);
            }
        }
        let hosted = self.walker.hosted(&ids)?;
        let mut offered = self.ports_of(&hosted.keys().copied().collect::<Vec<_>>())?;
        self.stopped_processes.extend(hosted.keys());
        // Behind a switch there may be far more than fits: only what is told is read.
        let room = self.rows.saturating_sub(self.shown);
        self.more += offered.len().saturating_sub(room);
        let told: BTreeSet<i64> =
            offered.keys().copied().collect::<BTreeSet<_>>().into_iter().take(room).collect();
        offered.retain(|process, _| told.contains(process));
        let children = told.iter().filter_map(|process| hosted.get(process)?.child);
        let ports = offered.values().flatten().copied();
        let wanted: Vec<i64> = told.iter().copied().chain(children).chain(ports).collect();
        self.walker.load(wanted)?;
        for process in told {
            let (Some(ports), Some(place)) = (offered.get(&process), hosted.get(&process)) else { continue };
            let Some(parent) = items.get(&place.host).copied() else { continue };
            let inside =
                place.child.map(|child| format!(" in {}", self.walker.label(child))).unwrap_or_default();
            let mut steps: Vec<(&'static str, i64)> =
                place.child.map(|child| ("hosting", child)).into_iter().collect();
            steps.push(("hosting", process));
            let item = Item {
                depth: 0,
                effect: Effect::Stops,
                node: process,
                parent: Some(parent),
                steps,
                because: format!("runs on {}{inside}", place.host),
                is_shown: true,
            };
            if let Some(index) = self.push(item) {
                self.by_process.insert(process, index);
                self.stop_ports(ports.iter().map(|port| (*port, index)));
            }
        }
        self.offers.extend(offered);
        Ok(())
    }

    /// Ports of those processes that have any.
    fn ports_of(&mut self, processes: &[i64]) -> Result<HashMap<i64, Vec<i64>>> {
        let mut offered: HashMap<i64, Vec<i64>> = HashMap::new();
        for edge in self.walker.edges(processes, Direction::Out, &["tcpservice"])? {
            let ports = offered.entry(edge.source).or_default();
            if !ports.contains(&edge.target) {
                ports.push(edge.target);
            }
        }
        Ok(offered)
    }

    /// Programs that use these ports and have not stopped yet, each with the first port of them that it uses.
    fn users(&mut self, ports: &[i64]) -> Result<BTreeMap<i64, i64>> {
        let mut users = BTreeMap::new();
        for edge in self.walker.edges(ports, Direction::In, &["tcpclient"])? {
            if !self.stopped_processes.contains(&edge.source) && !self.stopped_hosts.contains(&edge.host) {
                users.entry(edge.source).or_insert(edge.target);
            }
        }
        Ok(users)
    }

    /// Decides for each program that uses something that stopped whether it stops too.
    fn level(&mut self, depth: usize, users: BTreeMap<i64, i64>) -> Result<()> {
        let known = users.keys().filter(|id| self.by_process.contains_key(*id)).count();
        let room = self.rows.saturating_sub(self.shown).saturating_add(known);
        self.more += users.len().saturating_sub(room);
        let users: BTreeMap<i64, i64> = users.into_iter().take(room).collect();
        let ids: Vec<i64> = users.keys().copied().collect();
        let uses = self.walker.edges(&ids, Direction::Out, &["tcpclient"])?;
        self.walker.load(ids.iter().copied())?;
        let mut used: HashMap<i64, BTreeSet<i64>> = HashMap::new();
        for edge in uses {
            used.entry(edge.source).or_default().insert(edge.target);
        }
        let others = Others::read(self.walker, &used, &self.stopped_ports)?;
        let mut stopping: Vec<(i64, usize)> = Vec::new();
        for (process, port) in users {
            let Some(all) = used.get(&process) else { continue };
            let (lost, left): (Vec<i64>, Vec<i64>) =
                all.iter().copied().partition(|port| self.stopped_ports.contains_key(port));
            let without = lost
                .iter()
                .find(|lost| others.instead_of(self.walker, **lost, &left, &self.stopped_hosts).is_none());
            let (effect, port) = match without {
                Some(lost) => (Effect::Stops, *lost),
                None => (Effect::Degraded, port),
            };
            let parent = self.stopped_ports.get(&port).copied();
            let mut because = self.because(port, parent);
            if effect == Effect::Degraded
                && let Some(other) = others.instead_of(self.walker, port, &left, &self.stopped_hosts)
            {
                because = format!("{because}; still has {}", others.text(self.walker, other));
            }
            let item = Item {
                depth,
                effect,
                node: process,
                parent,
                steps: self.way(parent, port, process),
                because,
                is_shown: true,
            };
            let index = match self.by_process.get(&process).copied() {
                // It had an alternative at first, and that stops now too.
                Some(index) if effect == Effect::Stops => {
                    self.items[index] = item;
                    Some(index)
                }
                Some(_) => None,
                None => self.push(item),
            };
            if let Some(index) = index {
                self.by_process.insert(process, index);
                if effect == Effect::Stops {
                    self.stopped_processes.insert(process);
                    stopping.push((process, index));
                }
            }
        }
        let all: Vec<i64> = ids.into_iter().filter(|id| self.by_process.contains_key(id)).collect();
        let offered = self.ports_of(&all)?;
        self.walker.load(offered.values().flatten().copied())?;
        for (process, index) in stopping {
            let ports = offered.get(&process).cloned().unwrap_or_default();
            self.stop_ports(ports.into_iter().map(|port| (port, index)));
        }
        self.offers.extend(offered);
        Ok(())
    }

    /// From what takes a port down, through the port, to who uses it.
    fn way(&self, parent: Option<usize>, port: i64, process: i64) -> Vec<(&'static str, i64)> {
        let own = parent.and_then(|parent| self.items.get(parent)).map(|item| item.node);
        let mut steps = Vec::new();
        // A port that is the subject itself is there already.
        if own != Some(port) {
            steps.push(("tcpservice", port));
        }
        steps.push(("tcpclient", process));
        steps
    }

    fn because(&self, port: i64, parent: Option<usize>) -> String {
        let address = self.walker.label(port);
        let Some(item) = parent.and_then(|parent| self.items.get(parent)) else {
            return format!("uses {address}");
        };
        let own = match self.walker.node(item.node) {
            Some(node) if node.kind == PROCESS => {
                format!("uses {} of {} at {address}", program(node), host_of(node))
            }
            _ => format!("uses {address}"),
        };
        // Depth 0 explains itself: it goes down with the subject.
        if item.depth == 0 { own } else { format!("{own}, which {}", item.because) }
    }

    fn path(&self, index: usize) -> Vec<Step> {
        let mut chain = vec![index];
        while let Some(parent) = chain.last().and_then(|last| self.items[*last].parent) {
            // Parents come first or had their place before: a chain longer than all items would be a circle.
            if chain.len() > self.items.len() {
                break;
            }
            chain.push(parent);
        }
        let mut path = Vec::new();
        for index in chain.into_iter().rev() {
            let item = &self.items[index];
            let steps: Vec<(Option<&'static str>, i64)> = if item.parent.is_none() {
                vec![(None, item.node)]
            } else {
                item.steps.iter().map(|(edge, node)| (Some(*edge), *node)).collect()
            };
            path.extend(steps.into_iter().filter_map(|(edge, id)| {
                let node = self.walker.node(id)?;
                Some(Step { edge, kind: node.kind.clone(), key: node.key.clone() })
            }));
        }
        path
    }

    fn row(&self, index: usize) -> Row {
        let item = &self.items[index];
        let node = self.walker.node(item.node);
        let ports = self.offers.get(&item.node).map_or(&[][..], Vec::as_slice);
        let kind = match node {
            Some(node) if node.kind == PROCESS && ports.is_empty() => "client",
            Some(node) if node.kind == PROCESS => "service",
            _ => "host",
        };
        let mut what = self.walker.label(item.node);
        if !ports.is_empty() {
            what = format!("{what} {}", self.addresses(ports));
        } else if let Some(command) = node.filter(|_| kind == "client").and_then(|node| text(node, "proxy"))
            && command != "local/local"
        {
            what = format!("{what} in {command}");
        }
        Row {
            depth: item.depth,
            effect: item.effect,
            kind,
            host: node.map(|node| host_of(node).to_owned()).unwrap_or_default(),
            what,
            because: item.because.clone(),
            path: self.path(index),
        }
    }

    /// `10.0.0.7:80 and 3 more`; addresses that others reach come first.
    fn addresses(&self, ports: &[i64]) -> String {
        let mut nodes: Vec<_> = ports.iter().filter_map(|id| self.walker.node(*id)).collect();
        nodes
            .sort_by_key(|node| (!node.key.starts_with('@'), port_of(node).map(|(port, _)| port), &node.key));
        let first = nodes.first().map(|node| super::label(node)).unwrap_or_default();
        match nodes.len() {
            0 | 1 => first,
            count => format!("{first} and {} more", count - 1),
        }
    }

    fn answer(self, subject: &Subject, farther: usize) -> Impact {
        let mut rows: Vec<Row> = (0..self.items.len())
            .filter(|index| self.items[*index].is_shown)
            .map(|index| self.row(index))
            .collect();
        rows.sort_by(|a, b| {
            let order = |row: &Row| (row.depth, row.effect, row.kind != "host");
            order(a).cmp(&order(b)).then_with(|| (&a.host, &a.what).cmp(&(&b.host, &b.what)))
        });
        let summary = summary(subject, &rows, self.more, farther);
        Impact {
            subject: subject.name(),
            subject_kind: subject.kind(),
            rows,
            more: self.more,
            farther,
            summary,
        }
    }
}

fn summary(subject: &Subject, rows: &[Row], more: usize, farther: usize) -> String {
    let name = subject.name();
    if rows.is_empty() && more == 0 {
        return match subject {
            Subject::Switch(_) => format!("No host is known to be wired to {name}."),
            Subject::Host(_) => {
                format!("No service of {name} is known, so nothing is known to stop with it.")
            }
            _ => format!("Nobody is known to use {name}."),
        };
    }
    let hosts: BTreeSet<&str> = rows.iter().map(|row| row.host.as_str()).collect();
    let mut parts = Vec::new();
    for (effect, words) in [
        (Effect::Stops, ["stops", "stop"]),
        (Effect::Degraded, ["is degraded", "are degraded"]),
        (Effect::LosesRedundancy, ["loses redundancy", "lose redundancy"]),
    ] {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.effect == effect) {
            *counts.entry(row.kind).or_default() += 1;
        }
        let order = ["host", "service", "client"];
        let kinds: Vec<String> =
            order.iter().filter_map(|kind| Some(counted(*counts.get(kind)?, kind))).collect();
        if !kinds.is_empty() {
            let is_one = counts.values().sum::<usize>() == 1;
            parts.push(format!("{} {}", kinds.join(" and "), words[usize::from(!is_one)]));
        }
    }
    let mut text = format!("If {name} stops: {}, on {}.", parts.join("; "), counted(hosts.len(), "host"));
    if more > 0 {
        text +=
            &format!(" {more} more are affected and not shown; what they affect in turn is not followed.");
    }
    if farther > 0 {
        text += &format!(" {farther} more are farther away; --hops follows them.");
    }
    text
}

#[cfg(test)]
#[path = "impact/tests.rs"]
mod tests;
