//! What a document means as a graph: the pure result of a discovery's `graph` function.
//!
//! Facts are edges owned by one (host, instance). What an instance no longer says disappears; a node lives as
//! long as an edge leads to it, so several hosts can share one (a package, a subnet, a neighbour's address).

use serde_json::{Map, Value};

/// Kinds of nodes. The names are those that events, queries and drawings use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeKind {
    /// A host with a nanoprobe; key = designation.
    Drone,
    /// A network interface; key = `<designation>/<interface name>`.
    NicNode,
    /// An IP address in a network context; key = `<context>/<address>`.
    IpaddrNode,
    /// An installed package in one version; key = `<type>/<name>/<arch>/<version>`.
    Package,
    /// A program with sockets on one host; key = `<designation>/<program>:<hash>`.
    ProcessNode,
    /// A service: a port at an address; key = `<context>/<port>_<protocol>_<address>`.
    IpTcpPortNode,
    /// A monitor of a service or of the host itself; key = its name, `<host>:<class>:<type>::<hash>`.
    MonitorAction,
}

impl NodeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drone => "Drone",
            Self::NicNode => "NICNode",
            Self::IpaddrNode => "IPaddrNode",
            Self::Package => "Package",
            Self::ProcessNode => "ProcessNode",
            Self::IpTcpPortNode => "IPtcpportNode",
            Self::MonitorAction => "MonitorAction",
        }
    }
}

/// A node as one document describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeFact {
    pub kind: NodeKind,
    pub key: String,
    /// Properties this document knows; those of other sources stay.
    pub properties: Map<String, Value>,
}

/// Kinds of edges, with the direction of reference/graph.md §4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EdgeKind {
    /// Drone → NICNode
    NicOwner,
    /// NICNode → IPaddrNode
    IpOwner,
    /// Drone → Package
    Installed,
    /// Drone → ProcessNode, Drone → MonitorAction
    Hosting,
    /// ProcessNode → IPtcpportNode: offers this service
    TcpService,
    /// ProcessNode → IPtcpportNode: uses this service. The reference has this one the other way round; here a service
    /// lives as long as somebody says that it offers or uses it.
    TcpClient,
    /// IPtcpportNode → IPaddrNode
    BaseIp,
    /// MonitorAction → ProcessNode or Drone: what it looks after
    Monitoring,
}

impl EdgeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NicOwner => "nicowner",
            Self::IpOwner => "ipowner",
            Self::Installed => "installed",
            Self::Hosting => "hosting",
            Self::TcpService => "tcpservice",
            Self::TcpClient => "tcpclient",
            Self::BaseIp => "baseip",
            Self::Monitoring => "monitoring",
        }
    }
}

/// `source` –kind→ `target`. The source must be the host itself or the target of another edge of the same facts.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeFact {
    pub source: (NodeKind, String),
    pub kind: EdgeKind,
    pub target: NodeFact,
}

/// All that one document says about the graph.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GraphFacts {
    /// Properties of the host's own node, such as `primary_ip` or the operating system's name.
    pub host_properties: Map<String, Value>,
    pub edges: Vec<EdgeFact>,
}
