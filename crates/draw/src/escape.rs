//! Text that stays text in each language, whatever is in it.

use model::text::{printable, shortened};
use std::fmt::Write;

/// Longest text of one line, in characters.
pub const MAX_CHARS: usize = 120;

/// `text` as one harmless line: no control or direction characters, and not longer than [`MAX_CHARS`].
pub fn line(text: &str) -> String {
    bounded(text.trim(), MAX_CHARS)
}

/// The same with another bound, for what is longer and no word for people.
pub fn bounded(text: &str, max: usize) -> String {
    // Cut first: what makes characters visible makes them longer, and there may be megabytes.
    let text = shortened(text, max).replace('\t', " ");
    shortened(&printable(&text), max).into_owned()
}

/// The inside of a double-quoted string of DOT that Graphviz prints as it is: `\N` and the like name the node, and
/// `&…;` is an entity (<https://graphviz.org/docs/attr-types/escString/>).
pub fn dot(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '&' => out.push_str("&amp;"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Character data and attribute values of XML 1.0 (§2.2, §2.4): what XML cannot hold at all becomes U+FFFD.
pub fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push_str("&#10;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The inside of a quoted label of Mermaid. Everything that Mermaid, Markdown or HTML could take for more than a letter
/// becomes an entity code `#NN;` (<https://mermaid.js.org/syntax/flowchart.html>, entity codes).
pub fn mermaid(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        // `1. x` and `- x` would begin a list.
        let begins_list = matches!(c, '.' | '-') && characters.peek().is_none_or(|next| *next == ' ');
        let plain = c.is_alphanumeric()
            || matches!(c, ' ' | '.' | ':' | '/' | '-' | ',' | '@' | '…' | '·' | '→' | '×');
        if c.is_control() {
            out.push('\u{fffd}');
        } else if plain && !begins_list {
            out.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "#{};", u32::from(c));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(dot("a\"b\\N\n&lt;\u{1b}"), "a\\\"b\\\\N\\n&amp;lt;\u{fffd}");
        assert_eq!(
            xml("<a b='c' d=\"e\">&\u{1}\u{fffe}\n"),
            "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;\u{fffd}\u{fffd}&#10;"
        );
        assert_eq!(mermaid("a\"]; click #1. x"), "a#34;#93;#59; click #35;1#46; x");
        assert_eq!(mermaid("10.0.0.1:22 é"), "10.0.0.1:22 é");
    }

    #[test]
    fn a_line_is_one_line_and_bounded() {
        assert_eq!(line(" a\tb\n\u{202e}c "), "a b\\n\\u{202e}c");
        assert_eq!(line(&"\u{1b}".repeat(10_000_000)).chars().count(), MAX_CHARS);
    }
}
