//! Where everything stands: cards in rows, rows in sections, sections in panels, panels on shelves; and the ways between
//! them. Links run in gutters above rows and in channels left of panels, each in a lane of its own, so that no line
//! runs over a text.

use super::text::Font;
use crate::GroupKind;
use crate::sheet::{Card, End, LinkKind, Panel, Row, Sheet};
use model::graph::NodeKind;
use std::collections::BTreeMap;

pub const TITLE: Font = Font::bold(12.5);
pub const SUBTITLE: Font = Font::plain(10.0);
pub const ROW: Font = Font::plain(10.5);
pub const LABEL: Font = Font::plain(9.5);
pub const PANEL_TITLE: Font = Font::bold(13.0);
pub const SECTION_TITLE: Font = Font::bold(11.0);

pub const TITLE_HEIGHT: f64 = 17.0;
pub const SUBTITLE_HEIGHT: f64 = 13.0;
pub const ROW_HEIGHT: f64 = 15.0;
/// Between the edge of a card and its text.
pub const CARD_PAD: f64 = 9.0;
/// Room for the mark of a row.
pub const MARK_WIDTH: f64 = 14.0;
/// Least room between a row's text and what stands at its right.
pub const ROW_GAP: f64 = 8.0;
/// Around the whole picture.
pub const MARGIN: f64 = 20.0;

const MIN_CARD: f64 = 120.0;
const MAX_CARD: f64 = 250.0;
const MAX_TITLE: f64 = 320.0;
const GAP: f64 = 14.0;
const PAD: f64 = 12.0;
const LANE: f64 = 13.0;
const HEADING: f64 = 34.0;
const PANEL_TITLE_HEIGHT: f64 = 20.0;
const SECTION_TITLE_HEIGHT: f64 = 17.0;
const MAX_COLUMNS: usize = 10;
/// Width over height that pictures should have.
const ASPECT: f64 = 1.7;
/// Pictures are not made narrower than this by putting below each other what has room side by side.
const USUAL_WIDTH: f64 = 800.0;

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

pub type Point = (f64, f64);

#[derive(Debug, Default)]
pub struct Layout {
    pub width: f64,
    /// Without a legend.
    pub height: f64,
    pub panels: Vec<PanelBox>,
    pub sections: Vec<SectionBox>,
    /// As the cards of the sheet.
    pub cards: Vec<Rect>,
    /// Columns of ports on a switch.
    pub port_columns: BTreeMap<usize, usize>,
    pub ways: Vec<Way>,
    /// From a switch to the hosts of its panel.
    pub buses: Vec<Vec<Point>>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct PanelBox {
    pub rect: Rect,
    /// Where its title begins.
    pub title_x: f64,
}

#[derive(Debug)]
pub struct SectionBox {
    pub rect: Rect,
    pub title: Option<String>,
}

/// A link with its corners.
#[derive(Debug)]
pub struct Way {
    pub link: usize,
    pub points: Vec<Point>,
    /// Middle of the label, and the room there is for it.
    pub label: Option<(Point, f64)>,
}

/// Cards side by side.
struct Line {
    panel: usize,
    section: Option<usize>,
    cards: Vec<usize>,
    height: f64,
    has_bus: bool,
}

/// What a link runs through, in turn a gutter and a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Course {
    /// Gutters: above lines, then above shelves.
    gutters: [usize; 4],
    /// Channels: left of panels, then left of all.
    channels: [usize; 3],
    count: usize,
}

pub fn layout(sheet: &Sheet) -> Layout {
    let width = card_width(sheet);
    let mut plan = Plan::new(sheet, width);
    plan.lay_courses(sheet);
    plan.place_across(sheet);
    plan.choose_lanes();
    plan.place_down(sheet);
    plan.finish(sheet)
}

pub fn card_height(card: &Card, port_columns: usize) -> f64 {
    let rows = card.rows.len().div_ceil(port_columns.max(1));
    let space = if rows > 0 { 4.0 } else { 0.0 };
    CARD_PAD * 2.0 + TITLE_HEIGHT - 4.0
        + card.subtitle.len() as f64 * SUBTITLE_HEIGHT
        + rows as f64 * ROW_HEIGHT
        + space
}

/// One width for all cards, so that they stand in columns.
fn card_width(sheet: &Sheet) -> f64 {
    let wide = sheet.cards.iter().filter(|card| card.kind != NodeKind::SystemNode).map(|card| {
        let lines = card.subtitle.iter().map(|line| SUBTITLE.width(line));
        let widest = lines.chain(card.rows.iter().map(row_width)).fold(TITLE.width(&card.title), f64::max);
        widest + 2.0 * CARD_PAD + 2.0
    });
    wide.fold(MIN_CARD, f64::max).min(MAX_CARD)
}

fn row_width(row: &Row) -> f64 {
    MARK_WIDTH + ROW.width(&row.text) + ROW_GAP + ROW.width(&row.aside)
}

struct Plan {
    card_width: f64,
    columns: Vec<usize>,
    lines: Vec<Line>,
    line_of: Vec<usize>,
    shelves: Vec<Vec<usize>>,
    shelf_of: Vec<usize>,
    courses: Vec<Course>,
    /// Lanes of each channel that are taken.
    channel_lanes: Vec<usize>,
    /// The lane of each course in each of its channels.
    course_lanes: Vec<[usize; 3]>,
    channel_x: Vec<f64>,
    slots: Vec<(f64, f64)>,
    gutter_lanes: Vec<usize>,
    course_heights: Vec<[usize; 4]>,
    /// Where the lowest lane of each gutter runs.
    gutter_y: Vec<f64>,
    result: Layout,
}

impl Plan {
    fn new(sheet: &Sheet, card_width: f64) -> Plan {
        let mut result = Layout { cards: vec![Rect::default(); sheet.cards.len()], ..Layout::default() };
        let (mut lines, mut columns, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
        let mut line_of = vec![0; sheet.cards.len()];
        for (number, panel) in sheet.panels.iter().enumerate() {
            let all: Vec<usize> =
                panel.sections.iter().flat_map(|section| section.cards.iter().copied()).collect();
            let heights: f64 = all.iter().map(|card| card_height(&sheet.cards[*card], 1) + 24.0).sum();
            let longest = panel.sections.iter().map(|section| section.cards.len()).max().unwrap_or(0);
            let wanted = (2.0 * heights / (card_width + GAP)).sqrt().round() as usize;
            let ports = panel.switch.map_or(0, |card| sheet.cards[card].rows.len());
            let least = if ports > 4 { 2 } else { 1 };
            let wide = wanted.clamp(1, MAX_COLUMNS).min(longest.max(1)).max(least);
            columns.push(wide);
            let mut height = PAD * 2.0 + PANEL_TITLE_HEIGHT;
            let begin = lines.len();
            if let Some(card) = panel.switch {
                let room = wide as f64 * (card_width + GAP) - GAP;
                let needed =
                    sheet.cards[card].rows.iter().map(row_width).fold(0.0, f64::max) + 2.0 * CARD_PAD;
                let fitting = (room / needed.max(1.0)) as usize;
                result.port_columns.insert(card, fitting.min(ports).max(1));
                lines.push(Line {
                    panel: number,
                    section: None,
                    cards: vec![card],
                    height: 0.0,
                    has_bus: false,
                });
            }
            for (section, cards) in panel.sections.iter().enumerate() {
                for cards in cards.cards.chunks(wide) {
                    let has_bus = cards.iter().any(|card| sheet.cards[*card].is_wired);
                    lines.push(Line {
                        panel: number,
                        section: Some(section),
                        cards: cards.to_vec(),
                        height: 0.0,
                        has_bus,
                    });
                }
                height += SECTION_TITLE_HEIGHT + GAP;
            }
            for line in &mut lines[begin..] {
                let tall = |card: &usize| {
                    card_height(&sheet.cards[*card], result.port_columns.get(card).copied().unwrap_or(1))
                };
                line.height = line.cards.iter().map(tall).fold(0.0, f64::max);
                height += line.height + 14.0;
            }
            sizes.push((wide as f64 * (card_width + GAP) + PAD * 4.0, height));
        }
        for (number, line) in lines.iter().enumerate() {
            for card in &line.cards {
                line_of[*card] = number;
            }
        }
        let (shelves, shelf_of) = pack(&sizes);
        result.panels = vec![PanelBox::default(); sheet.panels.len()];
        Plan {
            card_width,
            columns,
            lines,
            line_of,
            shelves,
            shelf_of,
            courses: Vec::new(),
            channel_lanes: Vec::new(),
            course_lanes: Vec::new(),
            channel_x: Vec::new(),
            slots: Vec::new(),
            gutter_lanes: Vec::new(),
            course_heights: Vec::new(),
            gutter_y: Vec::new(),
            result,
        }
    }

    /// Which gutters and channels each link takes.
    fn lay_courses(&mut self, sheet: &Sheet) {
        let page = sheet.panels.len();
        self.channel_lanes = vec![0; page + 1];
        let place = |end: End| match end {
            End::Card(card) => (sheet.cards[card].panel, Some(self.line_of[card])),
            End::Panel(panel) => (panel, None),
        };
        for link in &sheet.links {
            let ((from, from_line), (to, to_line)) = (place(link.from), place(link.to));
            let (mut gutters, mut channels) = (Vec::new(), Vec::new());
            let shelf = |panel: usize| self.lines.len() + self.shelf_of[panel];
            match (from_line, to_line) {
                (Some(a), Some(b)) if a == b => gutters.push(a),
                (Some(a), Some(b)) if from == to => {
                    gutters.extend([a, b]);
                    channels.push(from);
                }
                _ => {
                    if let Some(line) = from_line {
                        gutters.push(line);
                        channels.push(from);
                    }
                    gutters.push(shelf(from));
                    if shelf(from) != shelf(to) {
                        channels.push(page);
                        gutters.push(shelf(to));
                    }
                    if let Some(line) = to_line {
                        channels.push(to);
                        gutters.push(line);
                    }
                }
            }
            let mut course = Course { gutters: [0; 4], channels: [0; 3], count: gutters.len() };
            course.gutters[..gutters.len()].copy_from_slice(&gutters);
            course.channels[..channels.len()].copy_from_slice(&channels);
            let mut lanes = [0; 3];
            for (index, channel) in channels.iter().enumerate() {
                lanes[index] = self.channel_lanes[*channel];
                self.channel_lanes[*channel] += 1;
            }
            self.courses.push(course);
            self.course_lanes.push(lanes);
        }
    }

    /// Everything's place from left to right.
    fn place_across(&mut self, sheet: &Sheet) {
        let page = sheet.panels.len();
        let buses: Vec<bool> = (0..page)
            .map(|panel| self.lines.iter().any(|line| line.panel == panel && line.has_bus))
            .collect();
        let room = |plan: &Plan, channel: usize| match plan.channel_lanes[channel] {
            0 => 0.0,
            lanes => lanes as f64 * LANE + 4.0,
        };
        self.channel_x = vec![0.0; page + 1];
        self.channel_x[page] = MARGIN;
        for shelf in &self.shelves {
            let mut x = MARGIN + room(self, page);
            for panel in shelf {
                self.channel_x[*panel] = x + 4.0;
                let bus = if buses[*panel] { 14.0 } else { 0.0 };
                let inner = x + PAD + room(self, *panel) + bus;
                let wide = self.columns[*panel] as f64 * (self.card_width + GAP) - GAP;
                let has_titles = sheet.panels[*panel].sections.iter().any(|section| section.title.is_some());
                let pad = if has_titles { PAD } else { 0.0 };
                let title = PANEL_TITLE.width(&panel_title(&sheet.panels[*panel])).min(MAX_TITLE);
                let width = inner - x + (wide + pad * 2.0).max(title + 1.0) + PAD;
                self.result.panels[*panel] =
                    PanelBox { rect: Rect { x, width, ..Rect::default() }, title_x: inner };
                for line in self.lines.iter().filter(|line| line.panel == *panel) {
                    for (column, card) in line.cards.iter().enumerate() {
                        let left = inner + pad + column as f64 * (self.card_width + GAP);
                        let width = if line.section.is_none() { wide } else { self.card_width };
                        self.result.cards[*card] = Rect { x: left, width, ..Rect::default() };
                    }
                }
                x += width + GAP * 1.5;
            }
            self.result.width = self.result.width.max(x - GAP * 1.5 + MARGIN);
        }
        self.place_slots(sheet);
    }

    /// Where on the upper edge of a card or panel each link begins and ends.
    fn place_slots(&mut self, sheet: &Sheet) {
        let rect = |end: End| match end {
            End::Card(card) => self.result.cards[card],
            End::Panel(panel) => self.result.panels[panel].rect,
        };
        let middle = |end: End| rect(end).x + rect(end).width / 2.0;
        let mut ends: BTreeMap<End, Vec<(f64, usize, bool)>> = BTreeMap::new();
        for (number, link) in sheet.links.iter().enumerate() {
            ends.entry(link.from).or_default().push((middle(link.to), number, true));
            ends.entry(link.to).or_default().push((middle(link.from), number, false));
        }
        let mut slots = vec![(0.0, 0.0); sheet.links.len()];
        for (end, mut uses) in ends {
            uses.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let rect = rect(end);
            let step = (rect.width - 24.0) / (uses.len() + 1) as f64;
            for (index, (_, number, begins)) in uses.iter().enumerate() {
                let x = rect.x + 12.0 + step * (index + 1) as f64;
                if *begins { slots[*number].0 = x } else { slots[*number].1 = x }
            }
        }
        self.slots = slots;
    }

    /// From corner to corner along one course: the x of its beginning, of its channels, and of its end.
    fn stations(&self, number: usize) -> Vec<f64> {
        let (course, lanes) = (&self.courses[number], &self.course_lanes[number]);
        let mut stations = vec![self.slots[number].0];
        let channels = course.channels.iter().zip(lanes).take(course.count.saturating_sub(1));
        stations
            .extend(channels.map(|(channel, lane)| self.channel_x[*channel] + (*lane as f64 + 0.5) * LANE));
        stations.push(self.slots[number].1);
        stations
    }

    /// Links that run side by side in a gutter get lanes of their own.
    fn choose_lanes(&mut self) {
        let gutters = self.lines.len() + self.shelves.len();
        let mut stretches: Vec<Vec<(f64, f64, usize, usize)>> = vec![Vec::new(); gutters];
        for (number, course) in self.courses.iter().enumerate() {
            let stations = self.stations(number);
            for leg in 0..course.count {
                let (a, b) = (stations[leg], stations[leg + 1]);
                stretches[course.gutters[leg]].push((a.min(b), a.max(b), number, leg));
            }
        }
        self.course_heights = vec![[0; 4]; self.courses.len()];
        self.gutter_lanes = vec![0; gutters];
        for (gutter, mut stretches) in stretches.into_iter().enumerate() {
            stretches.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.2.cmp(&b.2)));
            let mut ends: Vec<f64> = Vec::new();
            for (begin, end, number, leg) in stretches {
                let free = ends.iter().position(|taken| taken + 6.0 < begin);
                let lane = free.unwrap_or(ends.len());
                match free {
                    Some(lane) => ends[lane] = end,
                    None => ends.push(end),
                }
                self.course_heights[number][leg] = lane;
            }
            self.gutter_lanes[gutter] = ends.len();
        }
    }

    /// Everything's place from top to bottom.
    fn place_down(&mut self, sheet: &Sheet) {
        self.gutter_y = vec![0.0; self.gutter_lanes.len()];
        let mut top = MARGIN + HEADING;
        for (shelf, panels) in self.shelves.iter().enumerate() {
            let gutter = self.lines.len() + shelf;
            top += match self.gutter_lanes[gutter] {
                0 => 2.0,
                lanes => lanes as f64 * LANE + 10.0,
            };
            self.gutter_y[gutter] = top - 10.0;
            let mut bottom = top;
            for panel in panels {
                let own = &mut self.result.panels[*panel];
                let mut y = top + PAD;
                if !panel_title(&sheet.panels[*panel]).is_empty() {
                    y += PANEL_TITLE_HEIGHT;
                }
                let mut section: Option<(usize, f64)> = None;
                let titles: Vec<Option<String>> =
                    sheet.panels[*panel].sections.iter().map(|section| section.title.clone()).collect();
                let (x, right) = (own.title_x, own.rect.x + own.rect.width - PAD);
                let close = |section: Option<(usize, f64)>, y: &mut f64, boxes: &mut Vec<SectionBox>| {
                    if let Some((number, begin)) = section
                        && let Some(Some(title)) = titles.get(number)
                    {
                        *y += PAD;
                        let rect = Rect { x, y: begin, width: right - x, height: *y - begin };
                        boxes.push(SectionBox { rect, title: Some(title.clone()) });
                    }
                };
                for (number, line) in self.lines.iter().enumerate().filter(|(_, line)| line.panel == *panel) {
                    if let Some(new) = line.section
                        && section.map(|(section, _)| section) != Some(new)
                    {
                        close(section, &mut y, &mut self.result.sections);
                        y += if section.is_some() || sheet.panels[*panel].switch.is_some() {
                            GAP
                        } else {
                            0.0
                        };
                        section = Some((new, y));
                        if titles.get(new).is_some_and(Option::is_some) {
                            y += SECTION_TITLE_HEIGHT + 4.0;
                        }
                    }
                    let bus = if line.has_bus { 9.0 } else { 0.0 };
                    y += match self.gutter_lanes[number] {
                        0 => 8.0 + bus,
                        lanes => lanes as f64 * LANE + 12.0 + bus,
                    };
                    self.gutter_y[number] = y - 12.0 - bus;
                    for card in &line.cards {
                        let columns = self.result.port_columns.get(card).copied().unwrap_or(1);
                        self.result.cards[*card].y = y;
                        self.result.cards[*card].height = card_height(&sheet.cards[*card], columns);
                    }
                    y += line.height;
                }
                close(section, &mut y, &mut self.result.sections);
                own.rect.y = top;
                own.rect.height = y + PAD - top;
                bottom = bottom.max(y + PAD);
            }
            top = bottom + GAP;
        }
        self.result.height = top - GAP + MARGIN;
    }

    fn finish(mut self, sheet: &Sheet) -> Layout {
        for (number, link) in sheet.links.iter().enumerate() {
            let (course, stations) = (self.courses[number], self.stations(number));
            let heights: Vec<f64> = (0..course.count)
                .map(|leg| {
                    let lane = self.course_heights[number][leg] as f64;
                    self.gutter_y[course.gutters[leg]] - lane * LANE
                })
                .collect();
            let top = |end: End| match end {
                End::Card(card) => self.result.cards[card].y,
                End::Panel(panel) => self.result.panels[panel].rect.y,
            };
            let mut points = vec![(stations[0], top(link.from))];
            for (leg, y) in heights.iter().enumerate() {
                points.extend([(stations[leg], *y), (stations[leg + 1], *y)]);
            }
            points.push((stations[course.count], top(link.to)));
            let longest = (0..course.count).max_by(|a, b| {
                let length = |leg: usize| (stations[leg] - stations[leg + 1]).abs();
                length(*a).total_cmp(&length(*b))
            });
            let label = longest.map(|leg| {
                let (a, b) = (stations[leg], stations[leg + 1]);
                (((a + b) / 2.0, heights[leg]), (a - b).abs() - 8.0)
            });
            self.result.ways.push(Way { link: number, points, label });
        }
        self.lay_buses(sheet);
        self.result
    }

    /// A trunk from the switch down the left of its panel, an arm above each line of hosts, a stub to each host.
    fn lay_buses(&mut self, sheet: &Sheet) {
        for (number, panel) in sheet.panels.iter().enumerate() {
            let Some(switch) = panel.switch else { continue };
            let x = self.result.panels[number].title_x - 8.0;
            let from = self.result.cards[switch];
            let mut lowest = None;
            for line in self.lines.iter().filter(|line| line.panel == number && line.has_bus) {
                let wired = line.cards.iter().filter(|card| sheet.cards[**card].is_wired);
                let tops: Vec<Point> = wired
                    .map(|card| self.result.cards[*card])
                    .map(|rect| (rect.x + rect.width / 2.0, rect.y))
                    .collect();
                let Some((right, y)) = tops.last().copied() else { continue };
                let arm = y - 7.0;
                self.result.buses.push(vec![(x, arm), (right, arm)]);
                self.result.buses.extend(tops.iter().map(|(x, y)| vec![(*x, arm), (*x, *y)]));
                lowest = Some(arm);
            }
            if let Some(arm) = lowest {
                let y = from.y + from.height / 2.0;
                self.result.buses.push(vec![(from.x, y), (x, y), (x, arm)]);
            }
        }
    }
}

/// Puts panels on shelves from left to right, so that the whole is somewhat wider than high.
fn pack(sizes: &[(f64, f64)]) -> (Vec<Vec<usize>>, Vec<usize>) {
    let area: f64 = sizes.iter().map(|(width, height)| (width + GAP) * (height + GAP)).sum();
    let widest = sizes.iter().map(|(width, _)| *width).fold(0.0, f64::max);
    let limit = (area * ASPECT).sqrt().max(widest).max(USUAL_WIDTH);
    let (mut shelves, mut shelf_of): (Vec<Vec<usize>>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut used = f64::INFINITY;
    for (panel, (width, _)) in sizes.iter().enumerate() {
        if used + width > limit * 1.1 {
            shelves.push(Vec::new());
            used = 0.0;
        }
        used += width + GAP;
        shelf_of.push(shelves.len() - 1);
        if let Some(shelf) = shelves.last_mut() {
            shelf.push(panel);
        }
    }
    (shelves, shelf_of)
}

/// What stands at the top of a panel; the card of a switch says it itself.
pub fn panel_title(panel: &Panel) -> String {
    match (panel.switch, panel.kind) {
        (Some(_), _) => String::new(),
        (None, GroupKind::Switch) => format!("Switch {}", panel.title),
        _ => panel.title.clone(),
    }
}

/// Whether a link has a direction that a picture shows.
pub fn is_directed(kind: LinkKind) -> bool {
    kind == LinkKind::Uses
}
