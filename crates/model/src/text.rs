//! Making discovered text harmless before it reaches a terminal or a log; finding what a misspelt word meant.

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

/// What somebody who wrote `word` may have meant: the word of least edit distance, in any case, that differs in at
/// most one letter and another for every three of it; or else the first that the word begins, from three letters on.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let (mut best, mut beginning) = (None, None);
    for candidate in known {
        let lower = candidate.to_ascii_lowercase();
        let steps = edit_distance(&word, &lower);
        if steps <= 1 + candidate.len() / 3
            && steps < candidate.len().max(1)
            && best.is_none_or(|(fewest, _)| steps < fewest)
        {
            best = Some((steps, candidate));
        }
        if beginning.is_none() && word.len() >= 3 && lower.starts_with(&word) {
            beginning = Some(candidate);
        }
    }
    best.map(|(_, candidate)| candidate).or(beginning)
}

/// Letters to put in, take out or replace to make one word of the other (Levenshtein 1965); words that are longer
/// than 64 characters are like no other.
pub fn edit_distance(a: &str, b: &str) -> usize {
    const MAX_CHARS: usize = 64;
    if [a, b].iter().any(|word| word.chars().nth(MAX_CHARS).is_some()) {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let best = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
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
    fn distances() {
        for (a, b, steps) in [("", "abc", 3), ("sshd", "sshd", 0), ("shsd", "sshd", 2), ("pan", "pam", 1)] {
            assert_eq!(edit_distance(a, b), steps, "{a} {b}");
            assert_eq!(edit_distance(b, a), steps, "{b} {a}");
        }
        assert_eq!(edit_distance(&"x".repeat(65), "x"), usize::MAX);
    }

    #[test]
    fn what_was_meant() {
        let known = ["allips", "allservers", "packagename", "EQ"];
        for (word, meant) in [
            ("allserver", Some("allservers")),
            ("ALLIPS", Some("allips")),
            ("package", Some("packagename")),
            ("eq", Some("EQ")),
            ("zzz", None),
            ("GT", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(shortened("ääää", 3), "ää…");
        assert_eq!(shortened("äää", 3), "äää");
    }
}
