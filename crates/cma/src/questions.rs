//! The questions that an administrator asks, answered from the graph and its history.
//!
//! Each question is a file: a pure function over [`Graph`] or over rows, `now` an argument where it matters. What a
//! question reads is bounded, and it says what it left out. In reading order: this file (how the graph is reached),
//! [`names`] (what an argument means), [`impact`], [`path`], [`difference`], [`history`], [`changes`], [`coverage`].

pub mod changes;
pub mod coverage;
pub mod difference;
pub mod history;
pub mod impact;
#[cfg(test)]
mod made;
pub mod names;
pub mod path;
mod switches;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use store::{Direction, GraphEdge, GraphNode, Reader, Result, SqlLimits, StoreError, Table};

pub const DRONE: &str = "Drone";
pub const SYSTEM: &str = "SystemNode";
pub const CHILD: &str = "ChildSystem";
pub const NIC: &str = "NICNode";
pub const ADDRESS: &str = "IPaddrNode";
pub const LINK: &str = "LinkAddress";
pub const PROCESS: &str = "ProcessNode";
pub const SERVICE: &str = "IPtcpportNode";

/// Bounds of the statements that questions send.
const LIMITS: SqlLimits = SqlLimits { rows: 100_000, milliseconds: 10_000, bytes: 64 * 1024 * 1024 };

/// Why a question has no answer.
#[derive(Debug)]
pub enum Trouble {
    Store(StoreError),
    /// Nothing is called so; the second sentence says what to try.
    Unknown(String, String),
    /// Several things are called so: what each is called alone.
    Ambiguous(String, Vec<String>),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What questions ask of the graph.
pub trait Graph {
    fn nodes(&mut self, ids: &[i64]) -> Result<Vec<GraphNode>>;
    fn find(&mut self, kind: Option<&str>, key: &str) -> Result<Vec<GraphNode>>;
    fn of_kind(&mut self, kind: &str, limit: usize) -> Result<Vec<GraphNode>>;
    fn edges(&mut self, ids: &[i64], direction: Direction, kinds: &[&str]) -> Result<Vec<GraphEdge>>;
    /// The nodes of this address, one for each network that has it.
    fn addresses(&mut self, ip: IpAddr) -> Result<Vec<GraphNode>>;
    /// At most `limit` processes whose program has this name.
    fn programs(&mut self, name: &str, limit: usize) -> Result<Vec<GraphNode>>;
    /// `up` or `dead` for each of these hosts that is registered.
    fn status(&mut self, hosts: &BTreeSet<String>) -> Result<BTreeMap<String, String>>;
    fn host_names(&mut self) -> Result<Vec<String>>;
}

/// The graph in the store.
pub struct Stored<'r>(pub &'r mut dyn Reader);

impl Stored<'_> {
    pub fn table(&mut self, statement: &str, parameters: &[(&str, Value)]) -> Result<Table> {
        let parameters: Vec<(String, Value)> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.0.sql(statement, &parameters, LIMITS)
    }

    fn keys(&mut self, statement: &str, parameters: &[(&str, Value)]) -> Result<Vec<String>> {
        let rows = self.table(statement, parameters)?.rows;
        Ok(rows.iter().filter_map(|row| row.first()?.as_str().map(str::to_owned)).collect())
    }

    fn with_keys(&mut self, kind: &str, keys: &[String]) -> Result<Vec<GraphNode>> {
        let mut found = Vec::new();
        for key in keys {
            found.extend(self.0.graph_find(Some(kind), key)?);
        }
        Ok(found)
    }
}

impl Graph for Stored<'_> {
    fn nodes(&mut self, ids: &[i64]) -> Result<Vec<GraphNode>> {
        self.0.graph_nodes(ids)
    }

    fn find(&mut self, kind: Option<&str>, key: &str) -> Result<Vec<GraphNode>> {
        self.0.graph_find(kind, key)
    }

    fn of_kind(&mut self, kind: &str, limit: usize) -> Result<Vec<GraphNode>> {
        self.0.graph_of_kind(kind, limit)
    }

    fn edges(&mut self, ids: &[i64], direction: Direction, kinds: &[&str]) -> Result<Vec<GraphEdge>> {
        self.0.graph_edges(ids, direction, kinds)
    }

    fn addresses(&mut self, ip: IpAddr) -> Result<Vec<GraphNode>> {
        let statement = "SELECT key FROM nodes WHERE kind = 'IPaddrNode' AND properties ->> '$.ipaddr' = :ip ORDER BY key LIMIT 1000";
        let keys = self.keys(statement, &[("ip", json!(ip.to_canonical().to_string()))])?;
        self.with_keys(ADDRESS, &keys)
    }

    fn programs(&mut self, name: &str, limit: usize) -> Result<Vec<GraphNode>> {
        let escaped = name.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        // A program is called by its file or, where that is unknown, by what tcpdiscovery calls the process.
        let statement = "SELECT key FROM nodes WHERE kind = 'ProcessNode' AND (properties ->> '$.pathname' = :name
            OR properties ->> '$.pathname' LIKE :file ESCAPE '\\' OR properties ->> '$.processname' LIKE :process ESCAPE '\\')
            LIMIT :limit";
        let keys = self.keys(
            statement,
            &[
                ("name", json!(name)),
                ("file", json!(format!("%/{escaped}"))),
                ("process", json!(format!("{escaped}:%"))),
                ("limit", json!(limit)),
            ],
        )?;
        self.with_keys(PROCESS, &keys)
    }

    fn status(&mut self, hosts: &BTreeSet<String>) -> Result<BTreeMap<String, String>> {
        let statement = "SELECT host, status FROM hosts WHERE host IN (SELECT value FROM json_each(:hosts))";
        let rows = self.table(statement, &[("hosts", json!(hosts))])?.rows;
        let pair = |row: Vec<Value>| match <[Value; 2]>::try_from(row) {
            Ok([Value::String(host), Value::String(status)]) => Some((host, status)),
            _ => None,
        };
        Ok(rows.into_iter().filter_map(pair).collect())
    }

    fn host_names(&mut self) -> Result<Vec<String>> {
        self.keys("SELECT host FROM hosts ORDER BY host", &[])
    }
}

/// A graph with the nodes seen so far.
pub struct Walker<'g> {
    graph: &'g mut dyn Graph,
    nodes: HashMap<i64, GraphNode>,
}

impl<'g> Walker<'g> {
    pub fn new(graph: &'g mut dyn Graph) -> Self {
        Self { graph, nodes: HashMap::new() }
    }

    pub fn graph(&mut self) -> &mut dyn Graph {
        self.graph
    }

    pub fn edges(&mut self, ids: &[i64], direction: Direction, kinds: &[&str]) -> Result<Vec<GraphEdge>> {
        if ids.is_empty() { Ok(Vec::new()) } else { self.graph.edges(ids, direction, kinds) }
    }

    /// Reads those of the nodes that are not known yet.
    pub fn load(&mut self, ids: impl IntoIterator<Item = i64>) -> Result<()> {
        let missing: Vec<i64> = ids.into_iter().filter(|id| !self.nodes.contains_key(id)).collect();
        if !missing.is_empty() {
            let found = self.graph.nodes(&missing)?;
            self.nodes.extend(found.into_iter().map(|node| (node.id, node)));
        }
        Ok(())
    }

    /// A node that was loaded and still existed then.
    pub fn node(&self, id: i64) -> Option<&GraphNode> {
        self.nodes.get(&id)
    }

    pub fn is(&self, id: i64, kind: &str) -> bool {
        self.node(id).is_some_and(|node| node.kind == kind)
    }

    pub fn label(&self, id: i64) -> String {
        self.node(id).map(label).unwrap_or_default()
    }

    /// The nodes at the far ends of the edges of `ids`, of one kind, each once in ascending order.
    pub fn step(&mut self, ids: &[i64], direction: Direction, kinds: &[&str], to: &str) -> Result<Vec<i64>> {
        let edges = self.edges(ids, direction, kinds)?;
        let ends: BTreeSet<i64> = edges
            .iter()
            .map(|edge| if direction == Direction::In { edge.source } else { edge.target })
            .collect();
        self.load(ends.iter().copied())?;
        Ok(ends.into_iter().filter(|id| self.is(*id, to)).collect())
    }

    /// What runs on hosts, also in their containers, without reading its nodes: processes, and monitors, which have
    /// neither services nor dependencies.
    pub fn hosted(&mut self, hosts: &[i64]) -> Result<BTreeMap<i64, Place>> {
        let contained = self.edges(hosts, Direction::In, &["parentsys"])?;
        let children: Vec<i64> = contained.iter().map(|edge| edge.source).collect();
        let mut places = BTreeMap::new();
        for edge in self.edges(hosts, Direction::Out, &["hosting"])? {
            places.insert(edge.target, Place { host: edge.host, child: None });
        }
        for edge in self.edges(&children, Direction::Out, &["hosting"])? {
            places.insert(edge.target, Place { host: edge.host, child: Some(edge.source) });
        }
        places.retain(|id, _| !children.contains(id));
        Ok(places)
    }

    /// The processes of hosts, also those in their containers. They are loaded.
    pub fn processes(&mut self, hosts: &[i64]) -> Result<BTreeSet<i64>> {
        let hosted = self.hosted(hosts)?;
        self.load(hosted.keys().copied())?;
        Ok(hosted.into_keys().filter(|id| self.is(*id, PROCESS)).collect())
    }
}

/// Where something runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub host: String,
    /// The container, if it runs in one.
    pub child: Option<i64>,
}

/// A property as text.
pub fn text<'n>(node: &'n GraphNode, name: &str) -> Option<&'n str> {
    node.properties.get(name).and_then(Value::as_str)
}

/// The host that a process or an interface is on: its key begins with it.
pub fn host_of(node: &GraphNode) -> &str {
    match node.kind.as_str() {
        DRONE => &node.key,
        _ => node.key.split_once('/').map_or("", |(host, _)| if host.starts_with('@') { "" } else { host }),
    }
}

/// The network of a key, without `@`; of what only one host knows, that host.
pub fn network_of(key: &str) -> &str {
    let context = key.split_once('/').map_or("", |(context, _)| context);
    context.strip_prefix('@').unwrap_or(context)
}

/// The key without what it means something in.
fn bare(key: &str) -> &str {
    key.split_once('/').map_or(key, |(_, rest)| rest)
}

/// How people call a node: `postgres`, `10.0.0.7:5432`, `sw1`, `web1`.
pub fn label(node: &GraphNode) -> String {
    match node.kind.as_str() {
        PROCESS => program(node).to_owned(),
        SERVICE => service_label(node).unwrap_or_else(|| bare(&node.key).to_owned()),
        SYSTEM => text(node, "SystemName").unwrap_or(bare(&node.key)).to_owned(),
        ADDRESS => text(node, "ipaddr").unwrap_or(bare(&node.key)).to_owned(),
        LINK => bare(&node.key).to_owned(),
        NIC => text(node, "ifname").unwrap_or(&node.key).to_owned(),
        _ => node.key.clone(),
    }
}

/// The name of the program: its file's, or what tcpdiscovery calls the process.
pub fn program(node: &GraphNode) -> &str {
    let file =
        text(node, "pathname").and_then(|path| path.rsplit('/').next()).filter(|name| !name.is_empty());
    let process = || {
        let name = text(node, "processname").unwrap_or(bare(&node.key));
        name.rsplit_once(':').map_or(name, |(name, _)| name)
    };
    file.unwrap_or_else(process)
}

/// Port and protocol of a service.
pub fn port_of(node: &GraphNode) -> Option<(u64, &str)> {
    Some((node.properties.get("port")?.as_u64()?, text(node, "protocol").unwrap_or("tcp")))
}

fn service_label(node: &GraphNode) -> Option<String> {
    let (port, protocol) = port_of(node)?;
    let ip = text(node, "ipaddr")?;
    let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let suffix = if protocol == "tcp" { String::new() } else { format!("/{protocol}") };
    Some(format!("{ip}:{port}{suffix}"))
}

/// `3 services`, `1 service`.
pub(crate) fn counted(count: usize, one: &str) -> String {
    match (count, one.strip_suffix('s')) {
        (1, _) => format!("1 {one}"),
        (_, Some(_)) => format!("{count} {one}es"),
        _ => format!("{count} {one}s"),
    }
}
