//! How nodes look, with the meanings that the original's drawings gave to outlines and fillings.

use model::graph::NodeKind;
use model::subgraph::SubgraphNode;
use serde_json::Value;

/// How a node looks. Colours are `#rrggbb`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    pub outline: &'static str,
    /// `None` is paper.
    pub fill: Option<&'static str>,
    pub line: Line,
    pub is_bold: bool,
    pub text: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Solid,
    Dashed,
    Dotted,
}

pub const INK: &str = "#1b2430";
pub const QUIET: &str = "#5a6675";
pub const GREEN: &str = "#1f9d55";
pub const YELLOW: &str = "#d9a400";
pub const ORANGE: &str = "#e8730c";
pub const RED: &str = "#c81e1e";
pub const GREY: &str = "#e3e6ea";
pub const PINK: &str = "#ffc9e0";
pub const BLUE: &str = "#1d5fbf";
pub const NAVY: &str = "#16306b";

const PLAIN: Look = Look { outline: INK, fill: None, line: Line::Solid, is_bold: false, text: INK };

/// Points of failed rules in the category security.
pub fn security_score(node: &SubgraphNode) -> f64 {
    node.scores.get("security").copied().unwrap_or(0.0)
}

/// How bad a security score is: the colour of a host's outline.
pub fn severity(score: f64) -> &'static str {
    match score {
        score if score < 1.0 => GREEN,
        score if score <= 10.0 => YELLOW,
        score if score <= 20.0 => ORANGE,
        _ => RED,
    }
}

/// What a monitor found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Up,
    Warn,
    Down,
    /// Nothing is run for it.
    Inactive,
}

impl Found {
    pub fn color(self) -> &'static str {
        match self {
            Self::Up => GREEN,
            Self::Warn => ORANGE,
            Self::Down => RED,
            Self::Inactive => "#9aa4b0",
        }
    }
}

pub fn found(node: &SubgraphNode) -> Found {
    let text = |name: &str| node.properties.get(name).and_then(Value::as_str).unwrap_or("");
    let is_inactive = node.properties.get("isactive") == Some(&Value::Bool(false));
    match text("state") {
        _ if is_inactive || text("class") == "NEVERMON" => Found::Inactive,
        "down" => Found::Down,
        "warn" | "flapping" => Found::Warn,
        "unmonitored" => Found::Inactive,
        _ => Found::Up,
    }
}

pub fn look(kind: NodeKind, node: &SubgraphNode) -> Look {
    match kind {
        NodeKind::Drone => {
            let outline = severity(security_score(node));
            match node.status.as_deref() {
                None | Some("up") => Look { outline, is_bold: true, ..PLAIN },
                _ => {
                    let fill = if node.reason.as_deref() == Some("HBSHUTDOWN") { GREY } else { PINK };
                    Look { outline, fill: Some(fill), line: Line::Dashed, is_bold: true, ..PLAIN }
                }
            }
        }
        NodeKind::SystemNode => Look { is_bold: true, ..PLAIN },
        NodeKind::NicNode => {
            let has_carrier = node.properties.get("carrier") != Some(&Value::Bool(false));
            Look { outline: NAVY, line: if has_carrier { Line::Solid } else { Line::Dotted }, ..PLAIN }
        }
        NodeKind::IpaddrNode => Look { outline: BLUE, ..PLAIN },
        NodeKind::ProcessNode => {
            let roles = node.properties.get("roles").and_then(Value::as_array);
            let is_server = roles.is_some_and(|roles| roles.iter().any(|role| role == "server"));
            let is_alone = is_server && node.is_monitored != Some(true);
            let is_root = ["uid", "gid"].iter().any(|name| {
                let id = node.properties.get(*name);
                id == Some(&Value::from(0))
                    || id == Some(&Value::from("0"))
                    || id == Some(&Value::from("root"))
            });
            Look {
                outline: BLUE,
                line: if is_alone { Line::Dashed } else { Line::Solid },
                text: if is_root { RED } else { INK },
                ..PLAIN
            }
        }
        NodeKind::MonitorAction => match found(node) {
            Found::Inactive => Look { outline: QUIET, fill: Some(GREY), ..PLAIN },
            Found::Down => Look { outline: RED, fill: Some(PINK), ..PLAIN },
            Found::Warn => Look { outline: ORANGE, ..PLAIN },
            Found::Up => Look { outline: GREEN, ..PLAIN },
        },
        NodeKind::LinkAddress => Look { outline: QUIET, line: Line::Dashed, ..PLAIN },
        NodeKind::ChildSystem | NodeKind::IpTcpPortNode | NodeKind::Package => PLAIN,
    }
}
