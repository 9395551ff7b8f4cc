//! What a document means as a graph: the pure result of a discovery's `graph` function.
//!
//! Facts are edges owned by one (host, instance). What an instance no longer says disappears; a node lives as
//! long as an edge touches it, so several hosts can share one (a package, a switch, a neighbour's address).
//!
//! Addresses mean something in a network only. Discoveries write the context [`GLOBAL`] into the keys of what is reached
//! from elsewhere, and the host's name into those of what only the host knows; the CMA, which knows that two sites have
//! the same private network, then puts the host's own network in place of the former ([`GraphFacts::in_network`]).

use serde_json::{Map, Value};

/// The network of addresses for a discovery, and of hosts that belong to no other by the CMA's configuration. No host's
/// name begins with `@`.
pub const GLOBAL: &str = "@global";

/// Counted up whenever a discovery says something else about the graph for the same document: the CMA then makes the graph
/// anew from the documents it has.
pub const MEANING: u32 = 2;

/// Kinds of nodes. The names are those that events, queries and drawings use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeKind {
    /// A host with a nanoprobe; key = designation.
    Drone,
    /// A device without a nanoprobe that told of itself, such as a switch; key = `<context>/<chassis id>`.
    SystemNode,
    /// A container or virtual machine on a host; key = `<designation>/<proxy>`, such as `web1/docker/<id>`.
    ChildSystem,
    /// A network interface of a host or a port of a switch; key = `<designation>/<interface name>` or
    /// `<context>/<chassis id>/<port id>`.
    NicNode,
    /// A link-layer address; key = `<context>/<address>`, lower case with dashes. Interfaces of one host may share one,
    /// and neighbours without a nanoprobe are known by nothing else.
    LinkAddress,
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
    /// Every kind, in the order in which they are declared. A new one belongs here too: people can ask for no other.
    pub const ALL: [NodeKind; 10] = [
        Self::Drone,
        Self::SystemNode,
        Self::ChildSystem,
        Self::NicNode,
        Self::LinkAddress,
        Self::IpaddrNode,
        Self::Package,
        Self::ProcessNode,
        Self::IpTcpPortNode,
        Self::MonitorAction,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drone => "Drone",
            Self::SystemNode => "SystemNode",
            Self::ChildSystem => "ChildSystem",
            Self::LinkAddress => "LinkAddress",
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
    /// Drone → NICNode, SystemNode → NICNode
    NicOwner,
    /// NICNode → IPaddrNode by the host itself, LinkAddress → IPaddrNode by a neighbour
    IpOwner,
    /// NICNode → LinkAddress
    LinkAddr,
    /// NICNode of a switch port → NICNode of a host: the cable between them
    WiredTo,
    /// ChildSystem → Drone
    ParentSys,
    /// Drone → Package
    Installed,
    /// Drone → ProcessNode, Drone → MonitorAction, Drone → ChildSystem, ChildSystem → ProcessNode
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
    /// Every kind, in the order in which they are declared. A new one belongs here too: people can ask for no other.
    pub const ALL: [EdgeKind; 11] = [
        Self::NicOwner,
        Self::IpOwner,
        Self::LinkAddr,
        Self::WiredTo,
        Self::ParentSys,
        Self::Installed,
        Self::Hosting,
        Self::TcpService,
        Self::TcpClient,
        Self::BaseIp,
        Self::Monitoring,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::NicOwner => "nicowner",
            Self::IpOwner => "ipowner",
            Self::LinkAddr => "linkaddr",
            Self::WiredTo => "wiredto",
            Self::ParentSys => "parentsys",
            Self::Installed => "installed",
            Self::Hosting => "hosting",
            Self::TcpService => "tcpservice",
            Self::TcpClient => "tcpclient",
            Self::BaseIp => "baseip",
            Self::Monitoring => "monitoring",
        }
    }
}

/// `source` –kind→ `target`. The source must be the host itself, the target of another edge of the same facts, or one of
/// their [`GraphFacts::sources`].
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
    /// Nodes that edges only start at, such as a switch whose port leads to the host.
    pub sources: Vec<NodeFact>,
    pub edges: Vec<EdgeFact>,
}

impl GraphFacts {
    /// The same facts in the network with the name `network` (without `@`), in place of [`GLOBAL`].
    pub fn in_network(mut self, network: &str) -> Self {
        let keys = self.sources.iter_mut().map(|node| &mut node.key);
        let of_edges = self.edges.iter_mut().flat_map(|edge| [&mut edge.source.1, &mut edge.target.key]);
        for key in keys.chain(of_edges) {
            if let Some(rest) = key.strip_prefix(GLOBAL).and_then(|rest| rest.strip_prefix('/')) {
                *key = format!("@{network}/{rest}");
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: NodeKind, key: &str) -> NodeFact {
        NodeFact { kind, key: key.into(), properties: Map::new() }
    }

    #[test]
    fn kinds_are_listed_in_their_order_and_have_names_of_their_own() {
        assert!(NodeKind::ALL.iter().enumerate().all(|(index, kind)| *kind as usize == index));
        assert!(EdgeKind::ALL.iter().enumerate().all(|(index, kind)| *kind as usize == index));
        let nodes = NodeKind::ALL.map(NodeKind::as_str);
        let edges = EdgeKind::ALL.map(EdgeKind::as_str);
        let names: std::collections::BTreeSet<&str> = nodes.into_iter().chain(edges).collect();
        assert_eq!(names.len(), nodes.len() + edges.len());
    }

    #[test]
    fn the_network_stands_in_the_keys_of_what_others_reach_too() {
        let facts = GraphFacts {
            sources: vec![node(NodeKind::SystemNode, "@global/00-16-3e-00-00-01")],
            edges: vec![
                EdgeFact {
                    source: (NodeKind::NicNode, "global/eth0".into()),
                    kind: EdgeKind::IpOwner,
                    target: node(NodeKind::IpaddrNode, "@global/10.0.0.1"),
                },
                EdgeFact {
                    source: (NodeKind::SystemNode, "@global/00-16-3e-00-00-01".into()),
                    kind: EdgeKind::NicOwner,
                    target: node(NodeKind::NicNode, "@globalisation/x"),
                },
            ],
            ..GraphFacts::default()
        };
        let keys = |facts: &GraphFacts| -> Vec<String> {
            let edges = facts.edges.iter().flat_map(|edge| [edge.source.1.clone(), edge.target.key.clone()]);
            facts.sources.iter().map(|node| node.key.clone()).chain(edges).collect()
        };
        assert_eq!(facts.clone().in_network("global"), facts);
        assert_eq!(
            keys(&facts.in_network("berlin")),
            [
                "@berlin/00-16-3e-00-00-01",
                "global/eth0",
                "@berlin/10.0.0.1",
                "@berlin/00-16-3e-00-00-01",
                "@globalisation/x"
            ]
        );
    }
}
