//! How two things are connected: by services that one uses of the other, by switches, by subnets.
//!
//! Each layer gives its shortest path or says that none is known; without any, what is known of each end is told, so that
//! one sees whether nothing is there or nobody has looked.

mod segments;

use super::impact::Step;
use super::names::Subject;
use super::{PROCESS, SERVICE, Trouble, Walker, counted, host_of, label, program, switches};
use segments::Segments;
pub(super) use segments::{Segment, masked, subnet_of};
use serde::Serialize;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use store::{Direction, Result};

/// Dependencies in a row that are followed.
const MAX_HOPS: usize = 6;
/// Programs that are looked at in one direction.
const MAX_PROGRAMS: usize = 20_000;
/// Services that both ends use, as they are listed.
const MAX_SHARED: usize = 5;

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// `dependency`, `shared service`, `switch` or `subnet` that both are attached to, `network` (a way through several of
    /// those), or `known` for a fact about one of the ends.
    pub layer: &'static str,
    /// Links of the path; null for what is no path.
    pub length: Option<usize>,
    /// The path, or the fact.
    pub path: String,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    pub from: String,
    pub to: String,
    pub rows: Vec<Row>,
    /// Whether any path is known.
    pub connected: bool,
    pub summary: String,
}

/// The shortest paths between `a` and `b` in each layer.
pub fn path(walker: &mut Walker<'_>, a: &Subject, b: &Subject) -> std::result::Result<Answer, Trouble> {
    let (from, to) = (a.name(), b.name());
    let mut rows = Vec::new();
    let (end_a, end_b) = (End::of(walker, a)?, End::of(walker, b)?);
    for (from, to) in [(&end_a, &end_b), (&end_b, &end_a)] {
        rows.extend(dependency(walker, from, to)?);
    }
    if rows.is_empty() {
        rows.extend(shared(walker, &end_a, &end_b)?);
    }
    let near = Segments::around(walker, &[a, b])?;
    let (at_a, at_b) = (near.place(walker, a)?, near.place(walker, b)?);
    let mut is_near = false;
    for layer in ["switch", "subnet"] {
        let found = near.direct(walker, &at_a, &at_b, layer)?;
        is_near |= found.is_some();
        rows.extend(found);
    }
    // What hosts in between connect takes a look at all addresses; who is attached to nothing is connected to nobody.
    if !is_near && near.may_lead_on(&at_a) && near.may_lead_on(&at_b) {
        let all = Segments::whole(walker)?;
        let (at_a, at_b) = (all.place(walker, a)?, all.place(walker, b)?);
        rows.extend(all.shortest(walker, &at_a, &at_b)?);
    }
    let connected = !rows.is_empty();
    let summary = if connected {
        format!("{from} and {to} are connected: {} known.", counted(rows.len(), "way"))
    } else {
        format!("No connection between {from} and {to} is known; this is what is known of each.")
    };
    if !connected {
        for (subject, end) in [(a, &end_a), (b, &end_b)] {
            rows.extend(known(walker, subject, end, &near)?);
        }
    }
    Ok(Answer { from, to, rows, connected, summary })
}

/// What an end offers and uses.
struct End {
    /// Its processes.
    processes: BTreeSet<i64>,
    /// Ports of services that are the end itself, offered by somebody known or not.
    ports: BTreeSet<i64>,
}

impl End {
    fn of(walker: &mut Walker<'_>, subject: &Subject) -> Result<Self> {
        let mut end = Self { processes: BTreeSet::new(), ports: BTreeSet::new() };
        match subject {
            Subject::Host(node) => end.processes.extend(walker.processes(&[node.id])?),
            Subject::Service { ports, processes } => {
                walker.nodes.extend(ports.iter().chain(processes).map(|node| (node.id, node.clone())));
                end.processes.extend(processes.iter().map(|node| node.id));
                end.ports.extend(ports.iter().map(|node| node.id));
            }
            Subject::Address(node) => {
                end.ports.extend(walker.services_at(node)?);
            }
            Subject::Switch(_) => {}
        }
        Ok(end)
    }
}

/// The shortest chain of programs that use one another, from a program of `from` to one of `to`.
fn dependency(walker: &mut Walker<'_>, from: &End, to: &End) -> Result<Option<Row>> {
    // Of each program the port and the program through which it was reached first.
    let mut reached: HashMap<i64, Option<(i64, i64)>> =
        from.processes.iter().map(|process| (*process, None)).collect();
    let mut level: Vec<i64> = from.processes.iter().copied().collect();
    for _ in 0..MAX_HOPS {
        let uses = walker.edges(&level, Direction::Out, &["tcpclient"])?;
        let mut users: BTreeMap<i64, i64> = BTreeMap::new();
        for edge in &uses {
            users.entry(edge.target).or_insert(edge.source);
        }
        let ports: Vec<i64> = users.keys().copied().collect();
        let mut next = BTreeSet::new();
        for edge in walker.edges(&ports, Direction::In, &["tcpservice"])? {
            let Some(user) = users.get(&edge.target) else { continue };
            if to.processes.contains(&edge.source) && !from.processes.contains(&edge.source) {
                return chain(walker, &reached, *user, edge.target, Some(edge.source)).map(Some);
            }
            if let Entry::Vacant(first) = reached.entry(edge.source) {
                first.insert(Some((edge.target, *user)));
                next.insert(edge.source);
            }
        }
        // Nobody with a nanoprobe offers it, but it is what was asked for.
        if let Some((port, user)) = users.iter().find(|(port, _)| to.ports.contains(port)) {
            return chain(walker, &reached, *user, *port, None).map(Some);
        }
        if next.is_empty() || reached.len() > MAX_PROGRAMS {
            break;
        }
        level = next.into_iter().collect();
    }
    Ok(None)
}

fn chain(
    walker: &mut Walker<'_>,
    reached: &HashMap<i64, Option<(i64, i64)>>,
    user: i64,
    port: i64,
    server: Option<i64>,
) -> Result<Row> {
    let mut ids: Vec<(Option<&'static str>, i64)> = Vec::new();
    ids.extend(server.map(|server| (Some("tcpservice"), server)));
    ids.push((Some("tcpclient"), port));
    let mut process = user;
    while let Some(Some((port, before))) = reached.get(&process) {
        ids.push((Some("tcpservice"), process));
        ids.push((Some("tcpclient"), *port));
        process = *before;
    }
    ids.push((None, process));
    ids.reverse();
    walker.load(ids.iter().map(|(_, id)| *id))?;
    let mut text = String::new();
    let mut length = 0;
    for (edge, id) in &ids {
        let Some(node) = walker.node(*id) else { continue };
        match (edge, node.kind.as_str()) {
            (None, _) => text = format!("{} of {}", program(node), host_of(node)),
            (_, SERVICE) => {
                length += 1;
                text += &format!(" uses {}", label(node));
            }
            _ => text += &format!(" ({} of {}), which", program(node), host_of(node)),
        }
    }
    let text = text.strip_suffix(", which").unwrap_or(&text).to_owned();
    Ok(Row { layer: "dependency", length: Some(length), path: text, steps: steps(walker, &ids) })
}

fn steps(walker: &Walker<'_>, ids: &[(Option<&'static str>, i64)]) -> Vec<Step> {
    let step = |(edge, id): &(Option<&'static str>, i64)| {
        let node = walker.node(*id)?;
        Some(Step { edge: *edge, kind: node.kind.clone(), key: node.key.clone() })
    };
    ids.iter().filter_map(step).collect()
}

/// Services that both use.
fn shared(walker: &mut Walker<'_>, a: &End, b: &End) -> Result<Vec<Row>> {
    let mut users: Vec<BTreeMap<i64, i64>> = Vec::new();
    for end in [a, b] {
        let processes: Vec<i64> = end.processes.iter().copied().collect();
        let uses = walker.edges(&processes, Direction::Out, &["tcpclient"])?;
        users.push(uses.into_iter().map(|edge| (edge.target, edge.source)).collect());
    }
    let both: Vec<(i64, i64, i64)> = users[0]
        .iter()
        .filter_map(|(port, one)| Some((*port, *one, *users[1].get(port)?)))
        .filter(|(_, one, other)| one != other)
        .take(MAX_SHARED)
        .collect();
    walker.load(both.iter().flat_map(|(port, one, other)| [*port, *one, *other]))?;
    let row = |(port, one, other): &(i64, i64, i64)| {
        let user = |id: &i64| {
            walker.node(*id).map(|node| format!("{} of {}", program(node), host_of(node))).unwrap_or_default()
        };
        Row {
            layer: "shared service",
            length: Some(2),
            path: format!("{} and {} both use {}", user(one), user(other), walker.label(*port)),
            steps: steps(walker, &[(None, *one), (Some("tcpclient"), *port), (Some("tcpclient"), *other)]),
        }
    };
    Ok(both.iter().map(row).collect())
}

/// Facts about one end.
fn known(walker: &mut Walker<'_>, subject: &Subject, end: &End, map: &Segments) -> Result<Vec<Row>> {
    let name = subject.name();
    let mut facts = Vec::new();
    match subject {
        Subject::Host(node) => {
            let status = walker.graph().status(&BTreeSet::from([node.key.clone()]))?;
            facts.push(match status.get(&node.key) {
                Some(status) => format!("is a host with a nanoprobe, {status}"),
                None => "was a host with a nanoprobe and is not registered any more".to_owned(),
            });
            let attached = map.names(walker, node.id);
            facts.push(match attached.len() {
                0 => "no switch and no subnet of it is known".to_owned(),
                _ => format!("is attached to {}", attached.join(", ")),
            });
            facts.push(uses(walker, end)?);
        }
        Subject::Switch(node) => {
            let cables = switches::of_switches(walker, &[node.id])?;
            let hosts = cables.iter().map(|cable| cable.host).collect::<BTreeSet<_>>().len();
            facts.push(format!("is a device with {} wired to it", counted(hosts, "host")));
        }
        Subject::Service { processes, .. } => {
            facts.push(match processes.first() {
                Some(process) => format!("is offered by {} of {}", program(process), host_of(process)),
                None => "is used by somebody, and no nanoprobe runs where it is".to_owned(),
            });
            facts.push(uses(walker, end)?);
        }
        Subject::Address(node) => {
            facts.push("belongs to no host with a nanoprobe and to no device that told of itself".to_owned());
            let edges = walker.edges(&[node.id], Direction::Both, &["ipowner"])?;
            let seers: BTreeSet<String> = edges.into_iter().map(|edge| edge.host).collect();
            if !seers.is_empty() {
                facts.push(format!("was seen by {}", seers.into_iter().collect::<Vec<_>>().join(", ")));
            }
            let ports: Vec<i64> = end.ports.iter().copied().collect();
            let users = walker.step(&ports, Direction::In, &["tcpclient"], PROCESS)?;
            if !users.is_empty() {
                facts.push(format!("is used by {}", counted(users.len(), "program")));
            }
        }
    }
    let row = |fact: String| Row {
        layer: "known",
        length: None,
        path: format!("{name} {fact}"),
        steps: Vec::new(),
    };
    Ok(facts.into_iter().map(row).collect())
}

fn uses(walker: &mut Walker<'_>, end: &End) -> Result<String> {
    let processes: Vec<i64> = end.processes.iter().copied().collect();
    let used = walker.edges(&processes, Direction::Out, &["tcpclient"])?;
    let offered = walker.edges(&processes, Direction::Out, &["tcpservice"])?;
    let count =
        |edges: &[store::GraphLink]| edges.iter().map(|edge| edge.target).collect::<BTreeSet<_>>().len();
    Ok(format!(
        "{} with sockets: offers {}, uses {}",
        counted(processes.len(), "program"),
        counted(count(&offered), "service"),
        counted(count(&used), "service")
    ))
}

#[cfg(test)]
#[path = "path/tests.rs"]
mod tests;
