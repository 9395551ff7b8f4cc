//! Making discovered text harmless before it reaches a terminal or a log.

use std::borrow::Cow;

/// Replaces control and bidirectional-override characters, so that discovered text can neither move the
/// cursor nor pretend to be something else; tab stays.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars()
            .map(|c| if is_harmless(c) { c.to_string() } else { c.escape_default().to_string() })
            .collect(),
    )
}

/// At most `max` characters, with `…` in place of what was cut.
pub fn shortened(text: &str, max: usize) -> Cow<'_, str> {
    if text.chars().nth(max).is_none() {
        return Cow::Borrowed(text);
    }
    let kept: String = text.chars().take(max.saturating_sub(1)).collect();
    Cow::Owned(kept + "…")
}

fn is_harmless(c: char) -> bool {
    let bidirectional =
        matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let separator = matches!(c, '\u{2028}' | '\u{2029}');
    c == '\t' || !(c.is_control() || bidirectional || separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_are_made_visible() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable("evil\u{202e}cod"), "evil\\u{202e}cod");
        assert!(matches!(printable("plain ünïcode"), Cow::Borrowed(_)));
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(shortened("ääää", 3), "ää…");
        assert_eq!(shortened("äää", 3), "äää");
    }
}
