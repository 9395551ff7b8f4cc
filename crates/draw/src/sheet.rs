//! The short form of a drawing: a card for each host, switch and stranger, with what is on it as lines, and links between
//! cards in place of the many edges between their parts. Pictures for people are made of this.

mod parts;

use crate::drawing::{Drawing, GroupKind, Node, beyond, natural};
use crate::looks::{Found, Look};
use model::graph::NodeKind;
use parts::{Parts, Strand, row};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Lines on a card; the last one counts the rest.
const MAX_ROWS: usize = 12;
/// Links that are drawn from card to card. More of them are bundled from panel to panel, and each host then names whom it uses.
const MAX_LINKS: usize = 30;
/// Words on a link.
const MAX_WORDS: usize = 3;

/// Panels, cards and links refer to each other by their positions.
#[derive(Debug, Default)]
pub struct Sheet {
    pub panels: Vec<Panel>,
    pub cards: Vec<Card>,
    pub links: Vec<Link>,
    /// Links are bundled from panel to panel.
    pub is_bundled: bool,
}

/// A switch with what is connected to it, a subnet, or a ring.
#[derive(Debug)]
pub struct Panel {
    pub kind: GroupKind,
    pub title: String,
    /// Of a switch that is drawn: its card.
    pub switch: Option<usize>,
    pub sections: Vec<Section>,
    /// How many links begin and end inside and are not drawn.
    pub links_inside: usize,
}

#[derive(Debug)]
pub struct Section {
    /// `None`: the title of the panel says it.
    pub title: Option<String>,
    pub cards: Vec<usize>,
}

#[derive(Debug)]
pub struct Card {
    /// Position of the node in the drawing.
    pub node: usize,
    pub kind: NodeKind,
    pub title: String,
    pub subtitle: Vec<String>,
    pub rows: Vec<Row>,
    /// All that is known, a line each.
    pub tooltip: Vec<String>,
    pub look: Look,
    pub panel: usize,
    /// The cable to the switch of its own panel is drawn as a bus.
    pub is_wired: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub mark: Mark,
    pub text: String,
    /// Printed quietly at the right.
    pub aside: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    None,
    Interface { is_up: bool },
    Container,
    Service { is_monitored: bool },
    Monitor(Found),
    Uses,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Card(usize),
    Panel(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// A cable.
    Wire,
    /// Client to server.
    Uses,
    /// From one of a ring to the next.
    Ring,
}

#[derive(Debug)]
pub struct Link {
    pub from: End,
    pub to: End,
    pub kind: LinkKind,
    /// A few words: services, ports, or how many edges this stands for.
    pub label: String,
    pub tooltip: Vec<String>,
}

/// Cards of a drawing.
pub fn count_cards(drawing: &Drawing) -> usize {
    let cards = drawing.nodes.iter().enumerate().filter(|(_, node)| node.inside.is_none());
    cards.map(|(position, node)| elsewhere(node).ok_or(position)).collect::<BTreeSet<_>>().len()
}

/// What cards of services without their host stand for: context and address where nobody has a nanoprobe, else the host.
/// Those of one share a card.
fn elsewhere(node: &Node) -> Option<(&str, &str)> {
    if let Some((host, _)) = beyond(node) {
        return Some(("", host));
    }
    let context = node.source.key.split_once('/')?.0;
    let is_address = matches!(node.kind, NodeKind::IpTcpPortNode | NodeKind::IpaddrNode);
    let address = node.source.properties.get("ipaddr")?.as_str()?;
    is_address.then_some((context, address))
}

impl Sheet {
    pub fn new(drawing: &Drawing) -> Sheet {
        let parts = Parts::of(drawing);
        let mut sheet = Sheet::default();
        let mut card_of: HashMap<usize, usize> = HashMap::new();
        let mut panel_of: HashMap<usize, usize> = HashMap::new();
        let mut shared: HashMap<(&str, &str), usize> = HashMap::new();
        for (position, node) in drawing.nodes.iter().enumerate() {
            let (None, Some(group)) = (node.inside, node.group) else { continue };
            if let Some(card) = elsewhere(node).and_then(|address| shared.get(&address)) {
                card_of.insert(position, *card);
                sheet.cards[*card].rows.extend(parts.rows_of_stranger(node));
                continue;
            }
            let top = drawing.groups[group].parent.unwrap_or(group);
            let panel = *panel_of.entry(top).or_insert_with(|| {
                let group = &drawing.groups[top];
                sheet.panels.push(Panel {
                    kind: group.kind,
                    title: group.title.clone(),
                    switch: None,
                    sections: Vec::new(),
                    links_inside: 0,
                });
                sheet.panels.len() - 1
            });
            let card = sheet.cards.len();
            card_of.insert(position, card);
            if let Some(address) = elsewhere(node) {
                shared.insert(address, card);
            }
            sheet.cards.push(parts.card(position, panel));
            let panel = &mut sheet.panels[panel];
            if node.kind == NodeKind::SystemNode && panel.kind == GroupKind::Switch {
                panel.switch = Some(card);
                continue;
            }
            let title = drawing.groups[group].parent.map(|_| drawing.groups[group].title.clone());
            match panel.sections.iter_mut().find(|section| section.title == title) {
                Some(section) => section.cards.push(card),
                None => panel.sections.push(Section { title, cards: vec![card] }),
            }
        }
        for card in sheet.cards.iter_mut().filter(|card| card.kind == NodeKind::IpTcpPortNode) {
            shorten(&mut card.rows, MAX_ROWS / 2);
        }
        sheet.sort_panels();
        sheet.link(&parts, &card_of);
        sheet
    }

    /// Switches first, then subnets, strangers last; each in natural order.
    fn sort_panels(&mut self) {
        let mut order: Vec<usize> = (0..self.panels.len()).collect();
        order.sort_by_cached_key(|panel| (self.panels[*panel].kind, natural(&self.panels[*panel].title)));
        let mut new = vec![0; order.len()];
        for (now, before) in order.iter().enumerate() {
            new[*before] = now;
        }
        let mut panels: Vec<Option<Panel>> = std::mem::take(&mut self.panels).into_iter().map(Some).collect();
        self.panels = order.iter().filter_map(|before| panels[*before].take()).collect();
        for panel in &mut self.panels {
            panel.sections.sort_by_cached_key(|section| natural(section.title.as_deref().unwrap_or("")));
        }
        for card in &mut self.cards {
            card.panel = new[card.panel];
        }
    }

    /// Draws what leads from card to card.
    fn link(&mut self, parts: &Parts<'_>, card_of: &HashMap<usize, usize>) {
        let mut bundles: BTreeMap<(LinkKind, usize, usize), Vec<Strand>> = BTreeMap::new();
        for strand in parts.strands() {
            let (Some(from), Some(to)) = (card_of.get(&strand.from), card_of.get(&strand.to)) else {
                continue;
            };
            if from == to {
                continue;
            }
            if strand.kind == LinkKind::Wire && self.panels[self.cards[*to].panel].switch == Some(*from) {
                self.cards[*to].is_wired = true;
                continue;
            }
            bundles.entry((strand.kind, *from, *to)).or_default().push(strand);
        }
        let rings = bundles.keys().any(|(kind, ..)| *kind == LinkKind::Ring);
        self.is_bundled = bundles.len() > MAX_LINKS && !rings;
        if !self.is_bundled {
            for ((kind, from, to), strands) in bundles {
                let words: BTreeSet<&str> = strands.iter().map(|strand| strand.word.as_str()).collect();
                self.links.push(Link {
                    from: End::Card(from),
                    to: End::Card(to),
                    kind,
                    label: few(&words),
                    tooltip: told(&strands),
                });
            }
            return;
        }
        let mut between: BTreeMap<(LinkKind, usize, usize), Vec<Strand>> = BTreeMap::new();
        let mut used: BTreeMap<usize, BTreeMap<usize, BTreeSet<String>>> = BTreeMap::new();
        for ((kind, from, to), strands) in bundles {
            if kind == LinkKind::Uses {
                let words = strands.iter().map(|strand| strand.word.clone());
                used.entry(from).or_default().entry(to).or_default().extend(words);
            }
            let (a, b) = (self.cards[from].panel, self.cards[to].panel);
            match a == b {
                true => self.panels[a].links_inside += strands.len(),
                false => between.entry((kind, a, b)).or_default().extend(strands),
            }
        }
        for (card, servers) in used {
            let mut rows: Vec<Row> = Vec::new();
            for (server, words) in servers {
                let words: BTreeSet<&str> = words.iter().map(String::as_str).collect();
                rows.push(Row {
                    mark: Mark::Uses,
                    text: self.cards[server].title.clone(),
                    aside: few(&words),
                });
            }
            shorten(&mut rows, MAX_ROWS / 2);
            self.cards[card].rows.extend(rows);
        }
        for ((kind, from, to), strands) in between {
            let label = match kind {
                LinkKind::Uses => counted(&strands),
                _ => format!("{} cables", strands.len()),
            };
            self.links.push(Link {
                from: End::Panel(from),
                to: End::Panel(to),
                kind,
                label,
                tooltip: told(&strands),
            });
        }
    }
}

/// Cuts rows to `max`, the last of which counts the rest.
fn shorten(rows: &mut Vec<Row>, max: usize) {
    if rows.len() > max {
        let rest = rows.len() - (max - 1);
        rows.truncate(max - 1);
        rows.push(row(Mark::None, &format!("and {rest} more"), String::new()));
    }
}

fn few(words: &BTreeSet<&str>) -> String {
    let shown: Vec<&str> = words.iter().take(MAX_WORDS).copied().collect();
    let rest = words.len() - shown.len();
    if rest > 0 { format!("{}, +{rest}", shown.join(", ")) } else { shown.join(", ") }
}

/// The services that are used most, with how often.
fn counted(strands: &[Strand]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for strand in strands {
        *counts.entry(&strand.word).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(word, count)| (std::cmp::Reverse(*count), *word));
    let words: Vec<String> =
        counts.iter().take(MAX_WORDS).map(|(word, count)| format!("{word} ×{count}")).collect();
    let rest = counts.len() - words.len();
    if rest > 0 { format!("{}, +{rest}", words.join(", ")) } else { words.join(", ") }
}

/// Lines for a tooltip, which is no place for hundreds.
fn told(strands: &[Strand]) -> Vec<String> {
    const MAX_LINES: usize = 30;
    let lines: BTreeSet<&str> = strands.iter().map(|strand| strand.line.as_str()).collect();
    let mut told: Vec<String> = lines.iter().take(MAX_LINES).map(|line| (*line).to_owned()).collect();
    if lines.len() > MAX_LINES {
        told.push(format!("and {} more", lines.len() - MAX_LINES));
    }
    told
}
