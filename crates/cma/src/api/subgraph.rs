//! `GET /v1/subgraph`: nodes and relationships around hosts, or of the whole site; also the canned queries of that name.

mod annotate;
mod rings;

use super::{Answer, Failure, Shared, designation};
use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use model::Designation;
use model::graph::{EdgeKind, NodeKind};
use model::subgraph::{RING_NEXT, Relationship, Subgraph, SubgraphNode};
use model::text::nearest;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use store::{Direction, GraphEdge, GraphNode, Reader, Result};

/// Nodes of one answer. A site of 100 hosts with 30 services each has some thousands.
pub const MAX_NODES: usize = 30_000;
/// Relationships of one answer.
const MAX_RELATIONSHIPS: usize = 200_000;
/// Nodes whose edges are read at once, so that an answer that is cut has not read everything before.
const CHUNK: usize = 1000;
/// Nobody is farther away.
const MAX_HOPS: usize = 100;
const MAX_HOSTS: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubgraphQuery {
    /// Kinds of nodes separated by commas; none: all.
    #[serde(default)]
    kinds: String,
    /// Kinds of relationships separated by commas; none: all.
    #[serde(default)]
    edges: String,
    /// Designations separated by commas; none: the whole site.
    #[serde(default)]
    host: String,
    hops: Option<usize>,
}

/// What is asked for, checked.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Empty: all.
    pub kinds: Vec<NodeKind>,
    /// Empty: all.
    pub edges: Vec<EdgeKind>,
    /// Who watches whom, too.
    pub rings: bool,
    /// Empty: the whole site.
    pub hosts: Vec<Designation>,
    /// How far from the hosts: 0 is what is on them, each hop leads to the next host or switch. `None`: as far as it goes.
    pub hops: Option<usize>,
}

pub async fn subgraph(
    site: Shared,
    query: std::result::Result<Query<SubgraphQuery>, QueryRejection>,
) -> Answer {
    let Query(query) = query?;
    let mut wanted = Wanted { hops: query.hops, ..Wanted::default() };
    for word in words(&query.kinds) {
        wanted.kinds.push(known(word, "kind of nodes", &NodeKind::ALL, NodeKind::as_str)?);
    }
    for word in words(&query.edges) {
        match word {
            RING_NEXT => wanted.rings = true,
            word => {
                wanted.edges.push(known(word, "kind of relationships", &EdgeKind::ALL, EdgeKind::as_str)?)
            }
        }
    }
    for word in words(&query.host) {
        wanted.hosts.push(designation(word)?);
    }
    Ok(Json(serde_json::to_value(answer(&site, wanted).await?).unwrap_or_default()))
}

/// The part of the graph that is wanted.
pub async fn answer(site: &super::Site, wanted: Wanted) -> std::result::Result<Subgraph, Failure> {
    if wanted.hosts.len() > MAX_HOSTS {
        return Err(Failure::bad(
            format!("more than {MAX_HOSTS} hosts were named"),
            "leave them out to get the whole site",
        ));
    }
    let found = site.readers.read(move |reader| find(reader, &wanted)).await?;
    found.map_err(|unknown| Failure::unknown_host(&unknown))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn known<K: Copy>(
    word: &str,
    what: &str,
    all: &[K],
    name: impl Fn(K) -> &'static str,
) -> std::result::Result<K, Failure> {
    let found = all.iter().copied().find(|kind| name(*kind).eq_ignore_ascii_case(word));
    found.ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|kind| name(*kind)).collect();
        let hint = match nearest(word, names.iter().copied()) {
            Some(near) => format!("did you mean {near}? There are: {}", names.join(", ")),
            None => format!("there are: {}", names.join(", ")),
        };
        Failure::bad(format!("there is no {what} {word:?}"), hint)
    })
}

/// Reads what is wanted; the error of the inner result is a host that nobody knows.
pub fn find(reader: &mut dyn Reader, wanted: &Wanted) -> Result<std::result::Result<Subgraph, Designation>> {
    if let Some(unknown) = annotate::unknown(reader, &wanted.hosts)? {
        return Ok(Err(unknown));
    }
    let rings = if wanted.rings { rings::rings(&reader.members()?) } else { Vec::new() };
    let mut walk = Walk { wanted, nodes: BTreeMap::new(), is_cut: false };
    // A ring alone has no other edges.
    let has_edges = !wanted.rings || !wanted.edges.is_empty();
    match wanted.hosts.as_slice() {
        [] => walk.whole_site(reader)?,
        hosts => {
            let near = rings::near(&rings, hosts, wanted.hops);
            walk.around(reader, &near, if has_edges { wanted.hops } else { Some(0) })?;
        }
    }
    let mut relationships = if has_edges { walk.relationships(reader)? } else { Vec::new() };
    let (nodes, is_cut) = (walk.nodes, walk.is_cut);
    let of_host: HashMap<&str, i64> =
        nodes.values().filter(|node| node.kind == "Drone").map(|node| (node.key.as_str(), node.id)).collect();
    relationships.extend(rings::relationships(&rings, &of_host));
    let nodes: Vec<SubgraphNode> = nodes.into_values().map(shown).collect();
    let mut subgraph = Subgraph { nodes, relationships, cut: is_cut };
    annotate::annotate(reader, &mut subgraph)?;
    subgraph.nodes.sort_by(|a, b| (&a.kind, &a.key).cmp(&(&b.kind, &b.key)));
    subgraph
        .relationships
        .sort_by(|a, b| (&a.kind, a.source, a.target, &a.ring).cmp(&(&b.kind, b.source, b.target, &b.ring)));
    Ok(Ok(subgraph))
}

fn shown(node: GraphNode) -> SubgraphNode {
    let properties = match node.properties {
        Value::Object(properties) => properties,
        _ => Map::new(),
    };
    SubgraphNode { id: node.id, kind: node.kind, key: node.key, properties, ..SubgraphNode::default() }
}

/// Nodes on the way.
struct Walk<'w> {
    wanted: &'w Wanted,
    nodes: BTreeMap<i64, GraphNode>,
    is_cut: bool,
}

impl Walk<'_> {
    fn kinds(&self) -> Vec<&'static str> {
        let kinds = if self.wanted.kinds.is_empty() { &NodeKind::ALL[..] } else { &self.wanted.kinds };
        kinds.iter().map(|kind| kind.as_str()).collect()
    }

    fn edges(&self) -> Vec<&'static str> {
        self.wanted.edges.iter().map(|kind| kind.as_str()).collect()
    }

    /// Takes a node if there is room for it.
    fn take(&mut self, node: GraphNode) -> bool {
        if self.nodes.len() >= MAX_NODES {
            self.is_cut = true;
            return false;
        }
        self.nodes.insert(node.id, node);
        true
    }

    fn whole_site(&mut self, reader: &mut dyn Reader) -> Result<()> {
        for kind in self.kinds() {
            let room = MAX_NODES - self.nodes.len();
            for node in reader.graph_of_kind(kind, room + 1)? {
                self.take(node);
            }
        }
        Ok(())
    }

    /// What is on the hosts, then what is on the hosts and switches next to them, and so on.
    fn around(&mut self, reader: &mut dyn Reader, hosts: &[Designation], hops: Option<usize>) -> Result<()> {
        let hops = hops.unwrap_or(MAX_HOPS).min(MAX_HOPS);
        let (kinds, edges) = (self.kinds(), self.edges());
        let mut systems: HashSet<String> = hosts.iter().map(|host| host.as_str().to_owned()).collect();
        let mut frontier = Vec::new();
        for host in hosts {
            for node in reader.graph_find(Some(NodeKind::Drone.as_str()), host.as_str())? {
                let id = node.id;
                if self.take(node) {
                    frontier.push(id);
                }
            }
        }
        // Nodes of other systems wait for the next hop.
        let mut waiting: BTreeMap<i64, GraphNode> = BTreeMap::new();
        for hop in 0..=hops {
            while !frontier.is_empty() && !self.is_cut {
                let mut reached = BTreeSet::new();
                for chunk in frontier.chunks(CHUNK) {
                    for edge in reader.graph_edges(chunk, Direction::Both, &edges)? {
                        reached.extend([edge.source, edge.target]);
                    }
                    if reached.len() > 2 * MAX_NODES {
                        self.is_cut = true;
                        break;
                    }
                }
                let new = |id: &i64| !self.nodes.contains_key(id) && !waiting.contains_key(id);
                let reached: Vec<i64> = reached.into_iter().filter(new).collect();
                frontier.clear();
                for node in reader.graph_nodes(&reached)? {
                    if !kinds.contains(&node.kind.as_str()) {
                        continue;
                    }
                    match system_of(&node) {
                        Some(system) if !systems.contains(system) => drop(waiting.insert(node.id, node)),
                        _ => {
                            let id = node.id;
                            if self.take(node) {
                                frontier.push(id);
                            }
                        }
                    }
                }
            }
            if hop == hops || waiting.is_empty() || self.is_cut {
                break;
            }
            for (id, node) in std::mem::take(&mut waiting) {
                systems.extend(system_of(&node).map(str::to_owned));
                if self.take(node) {
                    frontier.push(id);
                }
            }
        }
        Ok(())
    }

    /// Relationships between the nodes; what several hosts say is one, of the host that has said it longest.
    fn relationships(&mut self, reader: &mut dyn Reader) -> Result<Vec<Relationship>> {
        let edges = self.edges();
        let ids: Vec<i64> = self.nodes.keys().copied().collect();
        let mut found: BTreeMap<(String, i64, i64), GraphEdge> = BTreeMap::new();
        for chunk in ids.chunks(CHUNK) {
            for edge in reader.graph_edges(chunk, Direction::Out, &edges)? {
                if !self.nodes.contains_key(&edge.target) {
                    continue;
                }
                let key = (edge.kind.clone(), edge.source, edge.target);
                match found.get(&key) {
                    Some(known) if (known.since, &known.host) <= (edge.since, &edge.host) => {}
                    _ => drop(found.insert(key, edge)),
                }
            }
            if found.len() > MAX_RELATIONSHIPS {
                self.is_cut = true;
                break;
            }
        }
        let relationship = |edge: GraphEdge| Relationship {
            kind: edge.kind,
            source: edge.source,
            target: edge.target,
            since: Some(edge.since),
            said_by: edge.host,
            instance: edge.instance,
            ring: None,
        };
        Ok(found.into_values().take(MAX_RELATIONSHIPS).map(relationship).collect())
    }
}

/// The host or switch that a node belongs to; addresses and services stand between them.
fn system_of(node: &GraphNode) -> Option<&str> {
    let key = node.key.as_str();
    match node.kind.as_str() {
        "Drone" => Some(key),
        // Two parts of `@network/chassis/port`.
        "SystemNode" | "NICNode" if key.starts_with('@') => {
            let end = key.match_indices('/').nth(1).map_or(key.len(), |(end, _)| end);
            Some(&key[..end])
        }
        "NICNode" | "ProcessNode" | "ChildSystem" => Some(key.split_once('/').map_or(key, |(host, _)| host)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_belong_to_hosts_and_switches() {
        for (kind, key, system) in [
            ("Drone", "web1", Some("web1")),
            ("NICNode", "web1/eth0", Some("web1")),
            ("ProcessNode", "web1/sshd:1", Some("web1")),
            ("ChildSystem", "web1/docker/0123", Some("web1")),
            ("SystemNode", "@global/00-16-3e-00-00-01", Some("@global/00-16-3e-00-00-01")),
            ("NICNode", "@global/00-16-3e-00-00-01/Gi1/0/1", Some("@global/00-16-3e-00-00-01")),
            ("IPaddrNode", "@global/10.0.0.1", None),
            ("IPtcpportNode", "@global/22_tcp_10.0.0.1", None),
            ("NICNode", "", Some("")),
        ] {
            let node = GraphNode { id: 1, kind: kind.into(), key: key.into(), properties: Value::Null };
            assert_eq!(system_of(&node), system, "{kind} {key}");
        }
    }
}
