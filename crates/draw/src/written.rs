//! DOT, Mermaid and GraphML. Nodes are named by their positions, so that no name from outside is more than a label.

use crate::drawing::{Drawing, GroupKind, Node};
use crate::escape;
use crate::looks::{INK, Line};
use crate::sheet::{End, LinkKind, Sheet};
use model::graph::NodeKind;
use std::fmt::{Arguments, Write};

/// Longest key in GraphML; nobody's is longer but an attacker's.
const MAX_KEY_CHARS: usize = 1000;

/// For Graphviz: a node for everything, with the shapes and lines of the original's drawings; switches and subnets are
/// clusters.
pub fn dot(drawing: &Drawing) -> String {
    let mut out = Text::default();
    out.write(format_args!("digraph assimilation {{\n"));
    out.write(format_args!(
        "  graph [label=\"{}\", labelloc=t, fontname=\"sans-serif\", rankdir=LR];\n",
        escape::dot(&heading(drawing))
    ));
    out.write(format_args!(
        "  node [fontname=\"sans-serif\", fontsize=10];\n  edge [fontname=\"sans-serif\", fontsize=8];\n"
    ));
    let tops = (0..drawing.groups.len()).filter(|group| drawing.groups[*group].parent.is_none());
    let members = members(drawing);
    for group in tops {
        dot_cluster(&mut out, drawing, &members, group, 1);
    }
    for (position, node) in drawing.nodes.iter().enumerate() {
        if node.group.is_none() {
            dot_node(&mut out, node, position, 1);
        }
    }
    for edge in &drawing.edges {
        let (color, head) = match edge.kind.as_str() {
            "ipowner" => ("hotpink", "normal"),
            "wiredto" => ("blue", "none"),
            model::subgraph::RING_NEXT => ("gray40", "none"),
            _ => ("black", "normal"),
        };
        let label = edge.ring.as_deref().map_or_else(|| edge.kind.clone(), escape::line);
        out.write(format_args!(
            "  n{} -> n{} [label=\"{}\", color={color}, arrowhead={head}];\n",
            edge.source,
            edge.target,
            escape::dot(&label)
        ));
    }
    out.write(format_args!("}}\n"));
    out.text
}

/// The nodes of each group.
fn members(drawing: &Drawing) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); drawing.groups.len()];
    for (position, node) in drawing.nodes.iter().enumerate() {
        if let Some(group) = node.group {
            members[group].push(position);
        }
    }
    members
}

fn dot_cluster(out: &mut Text, drawing: &Drawing, members: &[Vec<usize>], group: usize, depth: usize) {
    let indent = "  ".repeat(depth);
    let own = &drawing.groups[group];
    out.write(format_args!("{indent}subgraph cluster_{group} {{\n"));
    let title = group_title(own.kind, &own.title);
    out.write(format_args!("{indent}  label=\"{}\"; color=\"#c3ccd6\";\n", escape::dot(&title)));
    for node in &members[group] {
        dot_node(out, &drawing.nodes[*node], *node, depth + 1);
    }
    // Groups have one level of children.
    for child in (0..drawing.groups.len()).filter(|child| drawing.groups[*child].parent == Some(group)) {
        dot_cluster(out, drawing, members, child, depth + 1);
    }
    out.write(format_args!("{indent}}}\n"));
}

fn dot_node(out: &mut Text, node: &Node, position: usize, depth: usize) {
    let is_server = node.source.properties.get("roles").and_then(serde_json::Value::as_array);
    let is_server = is_server.is_some_and(|roles| roles.iter().any(|role| role == "server"));
    let shape = match node.kind {
        NodeKind::Drone => "house",
        NodeKind::NicNode => "octagon",
        NodeKind::ProcessNode if is_server => "folder",
        NodeKind::MonitorAction => "component",
        NodeKind::ChildSystem => "box3d",
        _ => "box",
    };
    let mut label = escape::dot(&node.name);
    for line in &node.details {
        label.push_str("\\n");
        label.push_str(&escape::dot(line));
    }
    let look = node.look;
    let mut styles = Vec::new();
    styles.extend(look.fill.map(|_| "filled"));
    styles.extend(match look.line {
        Line::Solid => None,
        Line::Dashed => Some("dashed"),
        Line::Dotted => Some("dotted"),
    });
    let fill = look.fill.map(|color| format!(", fillcolor=\"{color}\"")).unwrap_or_default();
    let wide = if look.is_bold { ", penwidth=3" } else { "" };
    let text = if look.text == INK { String::new() } else { format!(", fontcolor=\"{}\"", look.text) };
    let small = if node.kind == NodeKind::IpTcpPortNode { ", fontsize=8, height=0.2" } else { "" };
    out.write(format_args!(
        "{}n{position} [label=\"{label}\", shape={shape}, style=\"{}\", color=\"{}\"{fill}{wide}{text}{small}, tooltip=\"{} {}\"];\n",
        "  ".repeat(depth),
        styles.join(","),
        look.outline,
        node.kind.as_str(),
        escape::dot(&escape::line(&node.source.key))
    ));
}

/// For Markdown pages: the cards of the picture, with what is on them as lines.
pub fn mermaid(drawing: &Drawing) -> String {
    let sheet = Sheet::new(drawing);
    let mut out = Text::default();
    out.write(format_args!("---\ntitle: \"{}\"\n---\nflowchart LR\n", escape::mermaid(&heading(drawing))));
    for (number, panel) in sheet.panels.iter().enumerate() {
        let title = group_title(panel.kind, &panel.title);
        out.write(format_args!("  subgraph p{number}[\"{}\"]\n", escape::mermaid(&title)));
        if let Some(card) = panel.switch {
            mermaid_card(&mut out, &sheet, card, "    ");
        }
        for (section_number, section) in panel.sections.iter().enumerate() {
            if let Some(title) = &section.title {
                out.write(format_args!(
                    "    subgraph p{number}s{section_number}[\"{}\"]\n",
                    escape::mermaid(title)
                ));
            }
            for card in &section.cards {
                mermaid_card(&mut out, &sheet, *card, "      ");
            }
            if section.title.is_some() {
                out.write(format_args!("    end\n"));
            }
        }
        out.write(format_args!("  end\n"));
    }
    for (number, card) in sheet.cards.iter().enumerate().filter(|(_, card)| card.is_wired) {
        if let Some(switch) = sheet.panels[card.panel].switch {
            out.write(format_args!("  c{switch} --- c{number}\n"));
        }
    }
    let end = |end: End| match end {
        End::Card(card) => format!("c{card}"),
        End::Panel(panel) => format!("p{panel}"),
    };
    for link in &sheet.links {
        let arrow = if link.kind == LinkKind::Uses { "-->" } else { "---" };
        let label = escape::mermaid(&link.label);
        let label = if label.is_empty() { String::new() } else { format!("|\"{label}\"|") };
        out.write(format_args!("  {} {arrow}{label} {}\n", end(link.from), end(link.to)));
    }
    for (number, card) in sheet.cards.iter().enumerate() {
        let dashes = if card.look.line == Line::Solid { "" } else { ",stroke-dasharray:5 3" };
        out.write(format_args!(
            "  style c{number} fill:{},stroke:{},stroke-width:2px,color:{INK}{dashes}\n",
            card.look.fill.unwrap_or("#ffffff"),
            card.look.outline
        ));
    }
    out.text
}

fn mermaid_card(out: &mut Text, sheet: &Sheet, card: usize, indent: &str) {
    let own = &sheet.cards[card];
    let mut label = escape::mermaid(&own.title);
    let rows = own.rows.iter().map(|row| match row.aside.as_str() {
        "" => row.text.clone(),
        aside => format!("{} · {aside}", row.text),
    });
    for line in own.subtitle.iter().cloned().chain(rows) {
        label.push_str("<br/>");
        label.push_str(&escape::mermaid(&line));
    }
    out.write(format_args!("{indent}c{card}[\"{label}\"]\n"));
}

/// For graph programs: everything with its kind, key, words, colour and group (<http://graphml.graphdrawing.org/>).
pub fn graphml(drawing: &Drawing) -> String {
    let mut out = Text::default();
    out.write(format_args!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<graphml xmlns=\"http://graphml.graphdrawing.org/xmlns\">\n"));
    let keys = [
        ("node", "kind"),
        ("node", "key"),
        ("node", "label"),
        ("node", "details"),
        ("node", "color"),
        ("node", "group"),
        ("node", "inside"),
        ("edge", "type"),
        ("edge", "ring"),
    ];
    for (of, name) in keys {
        let id = &of[..1];
        out.write(format_args!(
            "  <key id=\"{id}_{name}\" for=\"{of}\" attr.name=\"{name}\" attr.type=\"string\"/>\n"
        ));
    }
    out.write(format_args!("  <graph id=\"{}\" edgedefault=\"directed\">\n", drawing.kind.as_str()));
    for (position, node) in drawing.nodes.iter().enumerate() {
        out.write(format_args!("    <node id=\"n{position}\">"));
        let group = drawing.nodes[drawing.outermost(position)].group.map(|group| {
            let own = &drawing.groups[group];
            let parent = own.parent.map(|parent| format!("{} · ", drawing.groups[parent].title));
            format!("{}{}", parent.unwrap_or_default(), own.title)
        });
        let whole = node.inside.map(|whole| drawing.nodes[whole].name.clone());
        for (name, value) in [
            ("kind", node.kind.as_str()),
            ("key", &escape::bounded(&node.source.key, MAX_KEY_CHARS)),
            ("label", &node.name),
            ("details", &node.details.join("\n")),
            ("color", node.look.outline),
            ("group", &group.unwrap_or_default()),
            ("inside", &whole.unwrap_or_default()),
        ] {
            if !value.is_empty() {
                out.write(format_args!("<data key=\"n_{name}\">{}</data>", escape::xml(value)));
            }
        }
        out.write(format_args!("</node>\n"));
    }
    for edge in &drawing.edges {
        out.write(format_args!(
            "    <edge source=\"n{}\" target=\"n{}\"><data key=\"e_type\">{}</data>",
            edge.source,
            edge.target,
            escape::xml(&edge.kind)
        ));
        if let Some(ring) = &edge.ring {
            out.write(format_args!("<data key=\"e_ring\">{}</data>", escape::xml(&escape::line(ring))));
        }
        out.write(format_args!("</edge>\n"));
    }
    out.write(format_args!("  </graph>\n</graphml>\n"));
    out.text
}

fn heading(drawing: &Drawing) -> String {
    if drawing.is_cut {
        format!("{} (a part: there are more)", drawing.heading)
    } else {
        drawing.heading.clone()
    }
}

fn group_title(kind: GroupKind, title: &str) -> String {
    match kind {
        GroupKind::Switch => format!("Switch {title}"),
        _ => title.to_owned(),
    }
}

#[derive(Default)]
struct Text {
    text: String,
}

impl Text {
    fn write(&mut self, words: Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.text.write_fmt(words);
    }
}
