//! SVG 1.1 elements as text. Everything that is written goes through here, and every text through the escaper.

use super::layout::{Point, Rect};
use super::text::Font;
use crate::escape::xml;
use crate::looks::{INK, Line};
use std::fmt::Write;

#[derive(Default)]
pub struct Canvas {
    out: String,
}

/// How the outline of a shape is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Stroke {
    pub color: &'static str,
    pub width: f64,
    pub line: Line,
}

impl Stroke {
    pub const fn solid(color: &'static str, width: f64) -> Stroke {
        Stroke { color, width, line: Line::Solid }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

impl Canvas {
    /// Closes the picture; `title` is what programs read out.
    pub fn finish(self, width: f64, height: f64, title: &str) -> String {
        let (w, h) = (n(width.ceil()), n(height.ceil()));
        let title = xml(title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{title}\" \
             font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\">\n<title>{title}</title>\n\
             <rect width=\"{w}\" height=\"{h}\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.out
        )
    }

    /// Begins a group that tells `lines` to who points at it.
    pub fn open(&mut self, lines: &[String]) {
        self.write(format_args!("<g>"));
        if !lines.is_empty() {
            self.write(format_args!("<title>{}</title>", xml(&lines.join("\n"))));
        }
        self.out.push('\n');
    }

    pub fn close(&mut self) {
        self.write(format_args!("</g>\n"));
    }

    pub fn rect(&mut self, rect: Rect, radius: f64, fill: &str, stroke: Stroke) {
        self.write(format_args!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{}\" fill=\"{fill}\"{}/>\n",
            n(rect.x),
            n(rect.y),
            n(rect.width),
            n(rect.height),
            n(radius),
            outline(stroke)
        ));
    }

    pub fn circle(&mut self, center: Point, radius: f64, fill: &str, stroke: Stroke) {
        self.write(format_args!(
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" fill=\"{fill}\"{}/>\n",
            n(center.0),
            n(center.1),
            n(radius),
            outline(stroke)
        ));
    }

    pub fn text(&mut self, at: Point, anchor: Anchor, font: Font, color: &str, text: &str) {
        self.text_with(at, anchor, font, color, text, "");
    }

    /// Text on a line: with paper around the letters.
    pub fn label(&mut self, at: Point, color: &str, font: Font, text: &str) {
        let halo = " stroke=\"#ffffff\" stroke-width=\"4\" stroke-linejoin=\"round\" paint-order=\"stroke\"";
        self.text_with(at, Anchor::Middle, font, color, text, halo);
    }

    /// Text turned around its beginning by so many degrees.
    pub fn turned(&mut self, at: Point, degrees: f64, anchor: Anchor, font: Font, text: &str) {
        let turn = format!(" transform=\"rotate({} {} {})\"", n(degrees), n(at.0), n(at.1));
        self.text_with(at, anchor, font, INK, text, &turn);
    }

    fn text_with(&mut self, at: Point, anchor: Anchor, font: Font, color: &str, text: &str, more: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let weight = if font.is_bold { " font-weight=\"bold\"" } else { "" };
        self.write(format_args!(
            "<text x=\"{}\" y=\"{}\" font-size=\"{}\"{weight}{anchor} fill=\"{color}\"{more}>{}</text>\n",
            n(at.0),
            n(at.1),
            n(font.size),
            xml(text)
        ));
    }

    /// A line through the points, its corners rounded.
    pub fn line(&mut self, points: &[Point], stroke: Stroke) {
        let mut path = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let corner = index.checked_sub(1).map(|before| points[before]).zip(points.get(index + 1));
            match corner {
                None => {
                    let letter = if index == 0 { 'M' } else { 'L' };
                    // Writing to a string cannot fail.
                    let _ = write!(path, "{letter}{} {}", n(*x), n(*y));
                }
                Some((before, after)) => {
                    let (a, b) = (toward((*x, *y), before), toward((*x, *y), *after));
                    let _ = write!(path, "L{} {}Q{} {} {} {}", n(a.0), n(a.1), n(*x), n(*y), n(b.0), n(b.1));
                }
            }
        }
        self.write(format_args!("<path d=\"{path}\" fill=\"none\"{}/>\n", outline(stroke)));
    }

    /// A small head that points down at `tip`.
    pub fn head(&mut self, tip: Point, color: &str) {
        let (x, y) = tip;
        self.write(format_args!(
            "<path d=\"M{} {}L{} {}L{} {}Z\" fill=\"{color}\"/>\n",
            n(x),
            n(y),
            n(x - 3.5),
            n(y - 7.0),
            n(x + 3.5),
            n(y - 7.0)
        ));
    }

    fn write(&mut self, words: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(words);
    }
}

/// From a corner some pixels toward another point, at most half the way.
fn toward(corner: Point, other: Point) -> Point {
    let (dx, dy) = (other.0 - corner.0, other.1 - corner.1);
    let length = dx.hypot(dy);
    if length == 0.0 {
        return corner;
    }
    let step = (length / 2.0).min(5.0) / length;
    (corner.0 + dx * step, corner.1 + dy * step)
}

fn outline(stroke: Stroke) -> String {
    let dashes = match stroke.line {
        Line::Solid => "",
        Line::Dashed => " stroke-dasharray=\"5 3\"",
        Line::Dotted => " stroke-dasharray=\"1.5 2.5\"",
    };
    format!(" stroke=\"{}\" stroke-width=\"{}\"{dashes}", stroke.color, n(stroke.width))
}

/// A number as short as a tenth of a pixel allows.
fn n(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}
