//! SVG, laid out here: no other program, font or script is needed to look at it.

mod canvas;
mod layout;
mod rings;
mod text;

use crate::Kind;
use crate::drawing::Drawing;
use crate::looks::{BLUE, Found, GREEN, GREY, INK, Line, NAVY, ORANGE, PINK, QUIET, RED, YELLOW};
use crate::sheet::{Card, End, LinkKind, Mark, Sheet};
use canvas::{Anchor, Canvas, Stroke};
use layout::{
    CARD_PAD, LABEL, Layout, MARGIN, MARK_WIDTH, PANEL_TITLE, Point, ROW, ROW_GAP, ROW_HEIGHT, Rect,
    SECTION_TITLE, SUBTITLE, SUBTITLE_HEIGHT, TITLE, TITLE_HEIGHT,
};
use model::graph::NodeKind;
use text::Font;

const HEADING: Font = Font::bold(16.0);
const LEGEND: Font = Font::plain(10.5);
/// Least width of a picture, so that the heading and the legend have room.
const MIN_WIDTH: f64 = 560.0;
/// Colours of links, by whom they lead to.
const LINK_COLORS: [&str; 7] = ["#1d5fbf", "#b3541e", "#2c7a4b", "#8b2fa8", "#a8324a", "#4a5a78", "#0f7c86"];
const PAPER: &str = "#ffffff";

/// The picture.
pub fn svg(drawing: &Drawing) -> String {
    let mut canvas = Canvas::default();
    let heading = if drawing.is_cut {
        format!("{} (a part: there are more)", drawing.heading)
    } else {
        drawing.heading.clone()
    };
    let (width, height) = if drawing.kind == Kind::Rings {
        rings::paint(&mut canvas, drawing, MARGIN + 26.0)
    } else {
        let sheet = Sheet::new(drawing);
        let layout = layout::layout(&sheet);
        paint(&mut canvas, &sheet, &layout);
        (layout.width, layout.height)
    };
    let width = width.max(MIN_WIDTH).max(HEADING.width(&heading) + 2.0 * MARGIN);
    canvas.text((MARGIN, MARGIN + 14.0), Anchor::Start, HEADING, INK, &heading);
    let bottom = legend(&mut canvas, drawing.kind, width, height);
    canvas.finish(width, bottom, &heading)
}

fn paint(canvas: &mut Canvas, sheet: &Sheet, layout: &Layout) {
    for (panel, place) in sheet.panels.iter().zip(&layout.panels) {
        canvas.rect(place.rect, 8.0, "#f4f6f9", Stroke::solid("#c3ccd6", 1.0));
        let room = place.rect.x + place.rect.width - 12.0 - place.title_x;
        let at = (place.title_x, place.rect.y + 24.0);
        let title = layout::panel_title(panel);
        let inside = match panel.links_inside {
            0 => String::new(),
            count => format!("{count} links inside"),
        };
        let note = SUBTITLE.width(&inside);
        let note_fits = note > 0.0 && PANEL_TITLE.width(&title) + note + 12.0 < room;
        let title_room = if note_fits { room - note - 12.0 } else { room };
        canvas.text(at, Anchor::Start, PANEL_TITLE, INK, &PANEL_TITLE.fitted(&title, title_room));
        if note_fits {
            canvas.text((place.title_x + room, at.1), Anchor::End, SUBTITLE, QUIET, &inside);
        }
    }
    for section in &layout.sections {
        canvas.rect(section.rect, 6.0, PAPER, Stroke::solid("#d5dce4", 1.0));
        if let Some(title) = &section.title {
            let at = (section.rect.x + 12.0, section.rect.y + 15.0);
            canvas.text(
                at,
                Anchor::Start,
                SECTION_TITLE,
                QUIET,
                &SECTION_TITLE.fitted(title, section.rect.width - 24.0),
            );
        }
    }
    for bus in &layout.buses {
        canvas.line(bus, Stroke::solid("#7fa3d6", 1.4));
    }
    for way in &layout.ways {
        let link = &sheet.links[way.link];
        canvas.open(&link.tooltip);
        canvas.line(
            &way.points,
            Stroke::solid(link_color(link.kind, link.to), if sheet.is_bundled { 2.0 } else { 1.4 }),
        );
        if let Some(tip) = way.points.last().filter(|_| layout::is_directed(link.kind)) {
            canvas.head(*tip, link_color(link.kind, link.to));
        }
        canvas.close();
    }
    for (number, (card, rect)) in sheet.cards.iter().zip(&layout.cards).enumerate() {
        let columns = layout.port_columns.get(&number).copied().unwrap_or(1);
        paint_card(canvas, card, *rect, columns);
    }
    for way in &layout.ways {
        let link = &sheet.links[way.link];
        if let Some((at, room)) = way.label
            && room > 22.0
            && !link.label.is_empty()
        {
            let text = LABEL.fitted(&link.label, room);
            canvas.label((at.0, at.1 + 3.2), link_color(link.kind, link.to), LABEL, &text);
        }
    }
}

fn link_color(kind: LinkKind, to: End) -> &'static str {
    match (kind, to) {
        (LinkKind::Wire, _) => "#5b8bd0",
        (_, End::Card(number) | End::Panel(number)) => LINK_COLORS[number % LINK_COLORS.len()],
    }
}

fn paint_card(canvas: &mut Canvas, card: &Card, rect: Rect, columns: usize) {
    canvas.open(&card.tooltip);
    let width = match (card.kind, card.look.is_bold) {
        (NodeKind::Drone | NodeKind::SystemNode, true) => 2.2,
        _ => 1.2,
    };
    let stroke = Stroke { color: card.look.outline, width, line: card.look.line };
    canvas.rect(
        rect,
        if card.kind == NodeKind::SystemNode { 2.0 } else { 6.0 },
        card.look.fill.unwrap_or(PAPER),
        stroke,
    );
    let (left, room) = (rect.x + CARD_PAD, rect.width - 2.0 * CARD_PAD);
    let mut y = rect.y + CARD_PAD + 10.0;
    canvas.text((left, y), Anchor::Start, TITLE, INK, &TITLE.fitted(&card.title, room));
    y += TITLE_HEIGHT - 4.0;
    for line in &card.subtitle {
        canvas.text((left, y), Anchor::Start, SUBTITLE, QUIET, &SUBTITLE.fitted(line, room));
        y += SUBTITLE_HEIGHT;
    }
    y += 4.0;
    let columns = columns.max(1);
    let per_column = card.rows.len().div_ceil(columns).max(1);
    let column_width = rect.width / columns as f64;
    for (index, row) in card.rows.iter().enumerate() {
        let x = rect.x + (index / per_column) as f64 * column_width + CARD_PAD;
        let base = y + (index % per_column) as f64 * ROW_HEIGHT;
        let room = column_width - 2.0 * CARD_PAD - MARK_WIDTH;
        paint_mark(canvas, row.mark, (x + 4.0, base - 3.6));
        // The name first; what stands beside it gets at least a third.
        let aside_room = (room - ROW.width(&row.text) - ROW_GAP).max(room / 3.0);
        let aside = ROW.fitted(&row.aside, aside_room);
        let taken = if aside.is_empty() { 0.0 } else { ROW.width(&aside) + ROW_GAP };
        canvas.text((x + MARK_WIDTH, base), Anchor::Start, ROW, INK, &ROW.fitted(&row.text, room - taken));
        if !aside.is_empty() {
            canvas.text((x + MARK_WIDTH + room, base), Anchor::End, ROW, QUIET, &aside);
        }
    }
    canvas.close();
}

fn paint_mark(canvas: &mut Canvas, mark: Mark, at: Point) {
    let (x, y) = at;
    match mark {
        Mark::None => {}
        Mark::Interface { is_up } => {
            let line = if is_up { Line::Solid } else { Line::Dotted };
            let rect = Rect { x: x - 3.5, y: y - 3.5, width: 7.0, height: 7.0 };
            canvas.rect(
                rect,
                1.0,
                if is_up { "#c9dbf5" } else { PAPER },
                Stroke { color: NAVY, width: 1.0, line },
            );
        }
        Mark::Container => {
            for (dx, dy) in [(1.0, -1.5), (-1.5, 1.0)] {
                let rect = Rect { x: x - 3.0 + dx, y: y - 3.0 + dy, width: 6.0, height: 6.0 };
                canvas.rect(rect, 1.0, GREY, Stroke::solid(QUIET, 1.0));
            }
        }
        Mark::Service { is_monitored: true } => canvas.circle(at, 3.5, BLUE, Stroke::solid(BLUE, 1.0)),
        Mark::Service { is_monitored: false } => {
            canvas.circle(at, 3.5, PAPER, Stroke { color: BLUE, width: 1.2, line: Line::Solid });
        }
        Mark::Monitor(found) => {
            let fill = if found == Found::Inactive { PAPER } else { found.color() };
            canvas.circle(at, 3.8, fill, Stroke::solid(found.color(), 1.2));
        }
        Mark::Uses => {
            canvas.line(&[(x - 4.0, y), (x + 3.0, y)], Stroke::solid(QUIET, 1.4));
            canvas.line(&[(x, y - 3.0), (x + 3.5, y), (x, y + 3.0)], Stroke::solid(QUIET, 1.4));
        }
    }
}

/// What a sample in the legend looks like.
enum Sample {
    Card { outline: &'static str, fill: &'static str, line: Line },
    Mark(Mark),
    Link(&'static str),
    Ring(&'static str),
}

/// Explains what the picture uses; returns where it ends.
fn legend(canvas: &mut Canvas, kind: Kind, width: f64, top: f64) -> f64 {
    let host = |outline| Sample::Card { outline, fill: PAPER, line: Line::Solid };
    let mut entries = vec![
        (host(GREEN), "host: no security risk"),
        (host(YELLOW), "1 to 10 points"),
        (host(ORANGE), "11 to 20"),
        (host(RED), "more"),
        (Sample::Card { outline: INK, fill: GREY, line: Line::Dashed }, "shut down"),
        (Sample::Card { outline: INK, fill: PINK, line: Line::Dashed }, "dead"),
    ];
    if matches!(kind, Kind::Network | Kind::Everything) {
        entries.push((Sample::Mark(Mark::Interface { is_up: true }), "interface or port"));
        entries.push((Sample::Mark(Mark::Interface { is_up: false }), "without carrier"));
        entries.push((Sample::Link("#7fa3d6"), "cable"));
        entries.push((
            Sample::Card { outline: QUIET, fill: PAPER, line: Line::Dashed },
            "neighbour without a nanoprobe",
        ));
    }
    if kind != Kind::Rings {
        entries.push((Sample::Mark(Mark::Container), "container"));
    }
    if matches!(kind, Kind::Service | Kind::Everything) {
        entries.push((Sample::Mark(Mark::Service { is_monitored: true }), "service, monitored"));
        entries.push((Sample::Mark(Mark::Service { is_monitored: false }), "service, unmonitored"));
        entries.push((Sample::Link(LINK_COLORS[0]), "uses a service"));
        entries.push((Sample::Mark(Mark::Uses), "uses services of"));
    }
    if matches!(kind, Kind::Monitoring | Kind::Everything) {
        entries.push((Sample::Mark(Mark::Monitor(Found::Up)), "monitor: up"));
        entries.push((Sample::Mark(Mark::Monitor(Found::Warn)), "warning"));
        entries.push((Sample::Mark(Mark::Monitor(Found::Down)), "down"));
        entries.push((Sample::Mark(Mark::Monitor(Found::Inactive)), "not run"));
    }
    if kind == Kind::Monitoring {
        entries.push((Sample::Mark(Mark::Service { is_monitored: false }), "service, unmonitored"));
    }
    if kind == Kind::Rings {
        entries.extend(rings::explained().into_iter().map(|(sample, words)| (Sample::Ring(sample), words)));
    }
    let (mut x, mut y) = (MARGIN, top + 10.0);
    for (sample, words) in entries {
        let needed = 26.0 + LEGEND.width(words) + 18.0;
        if x + needed > width - MARGIN && x > MARGIN {
            (x, y) = (MARGIN, y + 20.0);
        }
        let at = (x + 10.0, y - 3.8);
        match sample {
            Sample::Card { outline, fill, line } => {
                let rect = Rect { x, y: at.1 - 6.0, width: 20.0, height: 12.0 };
                canvas.rect(rect, 3.0, fill, Stroke { color: outline, width: 2.0, line });
            }
            Sample::Mark(mark) => paint_mark(canvas, mark, at),
            Sample::Link(color) => canvas.line(&[(x, at.1), (x + 20.0, at.1)], Stroke::solid(color, 1.8)),
            Sample::Ring(what) => rings::sample(canvas, what, at),
        }
        canvas.text((x + 26.0, y), Anchor::Start, LEGEND, INK, words);
        x += needed;
    }
    y + MARGIN
}

#[cfg(test)]
#[path = "../tests/suite/made_up.rs"]
mod made_up;

#[cfg(test)]
mod tests {
    use super::*;
    use model::subgraph::Subgraph;

    fn laid_out(kind: Kind, subgraph: &Subgraph) -> (Sheet, Layout) {
        let sheet = Sheet::new(&Drawing::new(kind, subgraph));
        let layout = layout::layout(&sheet);
        (sheet, layout)
    }

    fn overlap(a: Rect, b: Rect) -> bool {
        a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
    }

    fn within(inner: Rect, outer: Rect) -> bool {
        inner.x >= outer.x
            && inner.y >= outer.y
            && inner.x + inner.width <= outer.x + outer.width
            && inner.y + inner.height <= outer.y + outer.height
    }

    /// The rectangle that a straight line covers, a hair smaller than it is.
    fn covered(a: Point, b: Point) -> Rect {
        let (x, y) = (a.0.min(b.0) + 0.1, a.1.min(b.1) + 0.1);
        Rect { x, y, width: (a.0 - b.0).abs() - 0.2, height: (a.1 - b.1).abs() - 0.2 }
    }

    #[test]
    fn nothing_covers_anything() {
        for subgraph in
            [made_up::one(), made_up::ten(), made_up::many(30), made_up::many(100), Subgraph::default()]
        {
            for kind in [Kind::Network, Kind::Service, Kind::Monitoring, Kind::Everything] {
                let (sheet, layout) = laid_out(kind, &subgraph);
                let page = Rect { x: 0.0, y: 0.0, width: layout.width, height: layout.height };
                for (number, card) in layout.cards.iter().enumerate() {
                    assert!(
                        within(*card, layout.panels[sheet.cards[number].panel].rect),
                        "{kind:?} {number}"
                    );
                    assert!(
                        !layout.cards[..number].iter().any(|other| overlap(*card, *other)),
                        "{kind:?} {number}"
                    );
                }
                for (number, panel) in layout.panels.iter().enumerate() {
                    assert!(within(panel.rect, page), "{kind:?}");
                    assert!(
                        !layout.panels[..number].iter().any(|other| overlap(panel.rect, other.rect)),
                        "{kind:?}"
                    );
                }
                let ways = layout.ways.iter().map(|way| &way.points);
                for line in ways.chain(&layout.buses) {
                    for pair in line.windows(2) {
                        let covered = covered(pair[0], pair[1]);
                        let inside = |card: &&Rect| {
                            let inner = Rect {
                                x: card.x + 0.2,
                                y: card.y + 0.2,
                                width: card.width - 0.4,
                                height: card.height - 0.4,
                            };
                            overlap(
                                Rect {
                                    width: covered.width.max(0.01),
                                    height: covered.height.max(0.01),
                                    ..covered
                                },
                                inner,
                            )
                        };
                        assert_eq!(layout.cards.iter().find(inside), None, "{kind:?} {pair:?}");
                        assert!(within(covered, page), "{kind:?} {pair:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn lines_side_by_side_have_lanes_of_their_own() {
        let (sheet, layout) = laid_out(Kind::Service, &made_up::ten());
        assert!(sheet.links.len() > 8 && !sheet.is_bundled, "{}", sheet.links.len());
        let mut lines: Vec<(usize, Rect)> = Vec::new();
        for way in &layout.ways {
            for pair in way.points.windows(2).filter(|pair| (pair[0].0 - pair[1].0).abs() > 1.0) {
                lines.push((way.link, covered(pair[0], pair[1])));
            }
        }
        for (index, (link, line)) in lines.iter().enumerate() {
            let on_it = |(other, rect): &&(usize, Rect)| {
                other != link
                    && (rect.y - line.y).abs() < 4.0
                    && rect.x < line.x + line.width
                    && line.x < rect.x + rect.width
            };
            assert_eq!(lines[..index].iter().find(on_it), None, "{line:?}");
        }
    }

    #[test]
    fn texts_fit_their_cards() {
        let mut subgraph = made_up::ten();
        for node in &mut subgraph.nodes {
            node.properties.insert(
                "os_description".into(),
                "An operating system with a very long name indeed, so it is".into(),
            );
        }
        let (sheet, layout) = laid_out(Kind::Network, &subgraph);
        for (card, rect) in sheet.cards.iter().zip(&layout.cards) {
            let room = rect.width - 2.0 * CARD_PAD;
            assert!(card.subtitle.iter().all(|line| SUBTITLE.width(&SUBTITLE.fitted(line, room)) <= room));
            assert!(rect.width <= 251.0 || card.kind == NodeKind::SystemNode, "{rect:?}");
        }
        let picture = svg(&Drawing::new(Kind::Network, &subgraph));
        assert!(
            picture.contains("An operating system with a…")
                || picture.contains("An operating system with a "),
            "cut"
        );
        assert!(
            !picture.contains(">An operating system with a very long name indeed, so it is</text>"),
            "cut"
        );
    }
}
