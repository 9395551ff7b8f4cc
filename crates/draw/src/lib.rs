//! Pictures of the graph: what is drawn, and how it is written down for other programs. Does no input or output.
//!
//! A [`Drawing`] is made from a [`model::subgraph::Subgraph`]; [`render`] writes it. DOT and GraphML have a node for
//! everything and leave the layout to others. SVG and Mermaid draw a card for each host and switch, with what is on it as
//! lines ([`sheet`]); SVG is laid out here, so that a picture needs no other program.
//!
//! Everything in it comes from hosts and from frames that anybody may have sent. Names are bounded and harmless from
//! [`drawing`] on; `escape` makes them text, and nothing else, in each of the languages.

pub mod drawing;
mod escape;
mod facts;
mod looks;
pub mod sheet;
mod svg;
mod written;

pub use drawing::{Drawing, Edge, Group, GroupKind, Node, without_far_services};

use model::graph::{EdgeKind, NodeKind};
use model::subgraph::{RING_NEXT, Subgraph};
use std::fmt;

/// Most boxes of a picture; more of them nobody can read, and no program lays out.
pub const MAX_BOXES: usize = 2000;

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Hosts, their interfaces and addresses, switches, neighbours.
    Network,
    /// What listens where, and who uses it.
    Service,
    /// What looks after which service.
    Monitoring,
    /// Which hosts watch each other.
    Rings,
    /// All of it, but who watches whom.
    Everything,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Service => "service",
            Self::Monitoring => "monitoring",
            Self::Rings => "rings",
            Self::Everything => "everything",
        }
    }

    /// Kinds of nodes that are drawn; paths that `--hops` counts lead through no others.
    pub fn nodes(self) -> &'static [NodeKind] {
        use NodeKind::*;
        match self {
            Self::Network => &[Drone, SystemNode, ChildSystem, NicNode, LinkAddress, IpaddrNode],
            Self::Service => &[Drone, ChildSystem, ProcessNode, IpTcpPortNode],
            Self::Monitoring => &[Drone, ChildSystem, ProcessNode, MonitorAction],
            Self::Rings => &[Drone],
            Self::Everything => &[
                Drone,
                SystemNode,
                ChildSystem,
                NicNode,
                LinkAddress,
                IpaddrNode,
                ProcessNode,
                IpTcpPortNode,
                MonitorAction,
            ],
        }
    }

    /// Kinds of relationships that are drawn.
    pub fn edges(self) -> Vec<&'static str> {
        use EdgeKind::*;
        let edges: &[EdgeKind] = match self {
            Self::Network => &[NicOwner, IpOwner, LinkAddr, WiredTo, ParentSys],
            Self::Service => &[Hosting, TcpService, TcpClient, ParentSys],
            Self::Monitoring => &[Hosting, Monitoring, ParentSys],
            Self::Rings => return vec![RING_NEXT],
            Self::Everything => &[
                NicOwner, IpOwner, LinkAddr, WiredTo, ParentSys, Hosting, TcpService, TcpClient, BaseIp,
                Monitoring,
            ],
        };
        edges.iter().map(|kind| kind.as_str()).collect()
    }
}

/// A language to write a drawing in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// For Graphviz.
    Dot,
    /// A picture for browsers, laid out.
    Svg,
    /// For Markdown pages and wikis.
    Mermaid,
    /// XML for graph programs such as yEd and Gephi.
    Graphml,
    /// The nodes and relationships as the local API answers them.
    Json,
}

/// Writes the drawing of `subgraph`.
///
/// # Errors
/// More boxes than a picture can have; GraphML and JSON are for programs and have no such bound.
pub fn render(kind: Kind, subgraph: &Subgraph, language: Language) -> Result<String, TooLarge> {
    let bounded = |boxes: usize| match boxes {
        0..=MAX_BOXES => Ok(()),
        _ => Err(TooLarge { boxes }),
    };
    if language == Language::Json {
        // Numbers, texts and maps keyed by text always serialise.
        return Ok(serde_json::to_string(subgraph).unwrap_or_default() + "\n");
    }
    let drawing = Drawing::new(kind, subgraph);
    match language {
        Language::Dot => {
            bounded(drawing.nodes.len())?;
            Ok(written::dot(&drawing))
        }
        Language::Svg => {
            bounded(sheet::count_cards(&drawing))?;
            Ok(svg::svg(&drawing))
        }
        Language::Mermaid => {
            bounded(sheet::count_cards(&drawing))?;
            Ok(written::mermaid(&drawing))
        }
        Language::Graphml => Ok(written::graphml(&drawing)),
        Language::Json => Ok(String::new()),
    }
}

/// A drawing with more boxes than [`MAX_BOXES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    pub boxes: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this drawing would have {} boxes; more than {MAX_BOXES} nobody can read", self.boxes)
    }
}

impl std::error::Error for TooLarge {}
