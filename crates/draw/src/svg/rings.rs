//! Rings as circles of hosts: neighbours on a circle watch each other.

use super::canvas::{Anchor, Canvas, Stroke};
use super::layout::{MARGIN, Point};
use super::text::Font;
use crate::drawing::{Drawing, Edge};
use crate::looks::{GREY, INK, QUIET};
use model::subgraph::RING_OF_RINGS;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::f64::consts::TAU;

const NAME: Font = Font::plain(10.5);
const TITLE: Font = Font::bold(12.0);
const COUNT: Font = Font::plain(10.5);
const MAX_NAME: f64 = 150.0;
const DOT: f64 = 6.0;
/// Hosts below each other in the list of those who are in no ring.
const LIST_ROWS: usize = 25;

/// Hosts in the order in which they watch each other.
struct Ring {
    title: String,
    hosts: Vec<usize>,
}

/// Hosts that nobody of the others watches.
const ALONE: &str = "alone, or in no ring";

/// Paints all rings below `top`; returns the width and height of the whole.
pub fn paint(canvas: &mut Canvas, drawing: &Drawing, top: f64) -> (f64, f64) {
    let stands: BTreeSet<usize> = drawing
        .edges
        .iter()
        .filter(|edge| edge.ring.as_deref() == Some(RING_OF_RINGS))
        .flat_map(|edge| [edge.source, edge.target])
        .collect();
    let rings = rings(drawing, &stands);
    let sizes: Vec<(f64, f64)> = rings.iter().map(|ring| size(drawing, ring)).collect();
    let area: f64 = sizes.iter().map(|(_, side)| side * side).sum();
    let widest = sizes.iter().map(|(_, side)| *side).fold(0.0, f64::max);
    let limit = (area * 1.6).sqrt().max(widest).max(420.0) + MARGIN;
    let (mut x, mut y, mut tallest, mut width) = (MARGIN, top, 0.0_f64, 0.0_f64);
    for (ring, (radius, side)) in rings.iter().zip(sizes) {
        if x + side > limit && x > MARGIN {
            (x, y, tallest) = (MARGIN, y + tallest, 0.0);
        }
        paint_ring(canvas, drawing, ring, &stands, (x + side / 2.0, y + side / 2.0), radius);
        x += side;
        tallest = tallest.max(side);
        width = width.max(x);
    }
    (width + MARGIN, y + tallest + MARGIN / 2.0)
}

/// Radius, and the side of the square that it needs with its names.
fn size(drawing: &Drawing, ring: &Ring) -> (f64, f64) {
    if ring.title == ALONE {
        let columns = ring.hosts.len().div_ceil(LIST_ROWS) as f64;
        let rows = ring.hosts.len().min(LIST_ROWS) as f64 + 2.0;
        let side = (columns * (MAX_NAME + 30.0)).max(rows * 20.0).max(TITLE.width(ALONE) + 20.0);
        return (side / 2.0 - 14.0, side);
    }
    let name = |host: &usize| NAME.width(&drawing.nodes[*host].name).min(MAX_NAME);
    let longest = ring.hosts.iter().map(name).fold(0.0, f64::max);
    let title = TITLE.width(&ring.title).min(180.0) / 2.0 + 14.0;
    let radius = (ring.hosts.len() as f64 * 17.0 / TAU).max(title).max(48.0);
    (radius, 2.0 * (radius + DOT + 8.0 + longest) + 8.0)
}

/// Those who are in no ring, as a list.
fn paint_list(canvas: &mut Canvas, drawing: &Drawing, ring: &Ring, corner: Point) {
    canvas.text((corner.0, corner.1), Anchor::Start, TITLE, INK, &ring.title);
    for (index, host) in ring.hosts.iter().enumerate() {
        let node = &drawing.nodes[*host];
        let column = (index / LIST_ROWS) as f64;
        let at = (
            corner.0 + DOT + 2.0 + column * (MAX_NAME + 30.0),
            corner.1 + 20.0 * ((index % LIST_ROWS) as f64 + 1.0),
        );
        let mut lines = vec![node.name.clone()];
        lines.extend(node.details.iter().cloned());
        canvas.open(&lines);
        let stroke = Stroke { color: node.look.outline, width: 2.5, line: node.look.line };
        canvas.circle(at, DOT, node.look.fill.unwrap_or("#ffffff"), stroke);
        let name = NAME.fitted(&node.name, MAX_NAME);
        canvas.text((at.0 + DOT + 7.0, at.1 + 3.6), Anchor::Start, NAME, INK, &name);
        canvas.close();
    }
}

fn paint_ring(
    canvas: &mut Canvas,
    drawing: &Drawing,
    ring: &Ring,
    stands: &BTreeSet<usize>,
    center: Point,
    radius: f64,
) {
    if ring.title == ALONE {
        return paint_list(canvas, drawing, ring, (center.0 - radius, center.1 - radius));
    }
    if ring.hosts.len() > 1 {
        canvas.circle(center, radius, "none", Stroke::solid("#9aa4b0", 1.5));
    }
    let title = TITLE.fitted(&ring.title, 2.0 * radius - 20.0);
    canvas.text((center.0, center.1 - 2.0), Anchor::Middle, TITLE, INK, &title);
    let count = match ring.hosts.len() {
        1 => "1 host".to_owned(),
        count => format!("{count} hosts"),
    };
    canvas.text((center.0, center.1 + 14.0), Anchor::Middle, COUNT, QUIET, &count);
    for (index, host) in ring.hosts.iter().enumerate() {
        let node = &drawing.nodes[*host];
        // The first one at the top, then clockwise.
        let angle = TAU * (index as f64 / ring.hosts.len() as f64 - 0.25);
        let at = (center.0 + radius * angle.cos(), center.1 + radius * angle.sin());
        let mut lines = vec![node.name.clone()];
        lines.extend(node.details.iter().cloned());
        canvas.open(&lines);
        if stands.contains(host) && ring.title != RING_OF_RINGS {
            canvas.circle(at, DOT + 3.0, "#ffffff", Stroke::solid(QUIET, 1.0));
        }
        let look = node.look;
        let stroke = Stroke { color: look.outline, width: 2.5, line: look.line };
        canvas.circle(at, DOT, look.fill.unwrap_or("#ffffff"), stroke);
        let name = NAME.fitted(&node.name, MAX_NAME);
        let away = radius + DOT + 7.0;
        let from = (center.0 + away * angle.cos(), center.1 + away * angle.sin());
        let degrees = angle.to_degrees();
        let is_left = angle.cos() < -1e-9;
        let (anchor, turn) = if is_left { (Anchor::End, degrees + 180.0) } else { (Anchor::Start, degrees) };
        // The middle of small letters is a third of the size above the line they stand on.
        let (sin, cos) = turn.to_radians().sin_cos();
        let shifted = (from.0 - sin * NAME.size * 0.35, from.1 + cos * NAME.size * 0.35);
        canvas.turned(shifted, turn, anchor, NAME, &name);
        canvas.close();
    }
}

/// The rings as the relationships tell them, that over all places first; at last, those who are in none.
fn rings(drawing: &Drawing, stands: &BTreeSet<usize>) -> Vec<Ring> {
    let mut edges: BTreeMap<&str, Vec<&Edge>> = BTreeMap::new();
    for edge in &drawing.edges {
        if let Some(ring) = &edge.ring {
            edges.entry(ring).or_default().push(edge);
        }
    }
    let mut rings: Vec<Ring> = Vec::new();
    let mut alone: BTreeSet<usize> = (0..drawing.nodes.len()).collect();
    for (name, edges) in edges {
        let next: HashMap<usize, usize> = edges.iter().map(|edge| (edge.source, edge.target)).collect();
        let mut left: BTreeSet<usize> = edges.iter().flat_map(|edge| [edge.source, edge.target]).collect();
        let mut hosts = Vec::new();
        // Of a part of a site only pieces of a ring may be there; each is walked from its beginning.
        let mut starts: Vec<usize> =
            left.iter().copied().filter(|host| !edges.iter().any(|edge| edge.target == *host)).collect();
        starts.extend(left.iter().find(|host| stands.contains(host)).filter(|_| starts.is_empty()));
        while let Some(mut host) = starts.pop().or_else(|| left.first().copied()) {
            while left.remove(&host) {
                hosts.push(host);
                match next.get(&host) {
                    Some(following) => host = *following,
                    None => break,
                }
            }
        }
        for host in &hosts {
            if name != RING_OF_RINGS {
                alone.remove(host);
            }
        }
        let title = if name.is_empty() { "place not known".to_owned() } else { crate::escape::line(name) };
        rings.push(Ring { title, hosts });
    }
    rings.sort_by_cached_key(|ring| (ring.title != RING_OF_RINGS, crate::drawing::natural(&ring.title)));
    if !alone.is_empty() {
        rings.push(Ring { title: ALONE.into(), hosts: alone.into_iter().collect() });
    }
    rings
}

/// What the circles mean.
pub fn explained() -> Vec<(&'static str, &'static str)> {
    vec![
        ("circle", "neighbours on a circle watch each other"),
        ("double", "also stands for its place in the ring over all places"),
    ]
}

/// Paints a sample of [`explained`].
pub fn sample(canvas: &mut Canvas, what: &str, at: Point) {
    match what {
        "circle" => canvas.circle(at, DOT, "none", Stroke::solid("#9aa4b0", 1.5)),
        _ => {
            canvas.circle(at, DOT + 1.0, "#ffffff", Stroke::solid(QUIET, 1.0));
            canvas.circle(at, DOT - 2.0, GREY, Stroke::solid(INK, 1.5));
        }
    }
}
