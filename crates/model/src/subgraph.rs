//! A part of the graph as the CMA hands it out: what the local API answers and what drawings are made of.

use crate::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The kind of relationship between hosts that exchange heartbeats, from one to the next of a ring. It is no edge of the
/// graph: the CMA computes it from the members of the rings.
pub const RING_NEXT: &str = "ringnext";

/// The ring over all places, of one host from each: [`Relationship::ring`] then says this.
pub const RING_OF_RINGS: &str = "all places";

/// Nodes, and all relationships of the kinds asked for between them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Subgraph {
    /// By kind and key.
    pub nodes: Vec<SubgraphNode>,
    pub relationships: Vec<Relationship>,
    /// More was asked for than one answer holds: nodes are missing.
    #[serde(default)]
    pub cut: bool,
}

/// A node with what the CMA knows about it besides what discoveries say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SubgraphNode {
    /// Number of the node in this answer; relationships refer to it.
    pub id: i64,
    /// As [`crate::graph::NodeKind::as_str`].
    pub kind: String,
    pub key: String,
    #[serde(default)]
    pub properties: Map<String, Value>,
    /// Of a host: `up` or `dead`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Of a host: why the status is what it is, such as `HBDEAD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a host: points of failed rules by category.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<String, f64>,
    /// Of a host: where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<PlaceInNetwork>,
    /// Of a process: whether a monitor looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_monitored: Option<bool>,
    /// Of an address or a link-layer address: key of the interface that has it; of a service: key of the process that offers
    /// it; also when that is no part of this. Without it, it is of somebody without a nanoprobe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Of a link-layer address of a neighbour without a nanoprobe: who made the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Of such a neighbour: its name from reverse DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
}

/// Where a host stands: by the interface of its primary address, else by the first that tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceInNetwork {
    /// Name of the network that addresses mean something in, such as `global`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// `10.0.0.0/24`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// Key of the switch (SystemNode) that the interface is wired to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<String>,
    /// What the switch calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch_name: Option<String>,
    /// Port of the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
}

/// `source` –type→ `target`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Relationship {
    /// As [`crate::graph::EdgeKind::as_str`], or [`RING_NEXT`].
    #[serde(rename = "type")]
    pub kind: String,
    pub source: i64,
    pub target: i64,
    /// Since when this is said without a break; not of what the CMA computes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The host that says so, of several the one that has done so longest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub said_by: String,
    /// The discovery of that host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// Which ring, for [`RING_NEXT`]: `switch ...`, `subnet ...`, empty for hosts of unknown place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<String>,
}
