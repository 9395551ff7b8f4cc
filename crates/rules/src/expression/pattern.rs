//! Regular expressions of `match` and `argmatch`, bounded in size; matching time is linear in the text.
//!
//! The syntax is that of the regex crate, which has neither look-around nor back references; small differences of
//! the original's (Python's) syntax are translated.

use regex::bytes::{Regex, RegexBuilder};

/// Of the pattern's text, in bytes.
const MAXIMUM_PATTERN_BYTES: usize = 4096;
/// Of the compiled pattern, in bytes.
const MAXIMUM_COMPILED_BYTES: usize = 1 << 20;

/// A regular expression in the syntax of rules, checked and bounded.
#[derive(Debug, Clone)]
pub struct Pattern(Matcher);

#[derive(Debug, Clone)]
enum Matcher {
    Text(PlainText),
    Regex(Regex),
}

/// Most patterns of rules are names: comparing costs neither the time nor the memory of a compiled expression.
#[derive(Debug, Clone)]
struct PlainText {
    text: String,
    at_start: bool,
    at_end: bool,
}

impl Pattern {
    /// `flags`: A (ASCII classes), I (ignore case), L and U (accepted, no effect), M (lines), S (dot takes newlines),
    /// X (blanks and comments). `anchored`: must match at the start of the text. The error is a sentence.
    pub fn new(pattern: &str, flags: &str, anchored: bool) -> Result<Pattern, String> {
        if pattern.len() > MAXIMUM_PATTERN_BYTES {
            return Err(format!("the regular expression is longer than {MAXIMUM_PATTERN_BYTES} bytes"));
        }
        if let Some(unknown) = flags.chars().find(|flag| !"AILMSUX".contains(*flag)) {
            return Err(format!("{unknown:?} is no flag of a regular expression (A I L M S U X)"));
        }
        if let Some(text) = PlainText::of(pattern, flags, anchored) {
            return Ok(Pattern(Matcher::Text(text)));
        }
        let translated = translate(pattern);
        // A pattern that is wrong by itself could become right inside the group below.
        let plain = build(&translated, flags)?;
        if !anchored {
            return Ok(Pattern(Matcher::Regex(plain)));
        }
        // With X the pattern may end in a comment, which only a newline ends.
        let end = if flags.contains('X') { "\n" } else { "" };
        drop(plain);
        build(&format!("\\A(?:{translated}{end})"), flags).map(|regex| Pattern(Matcher::Regex(regex)))
    }

    /// Names that match one of the patterns as a whole: `?` and `*` stay within a part of a path, `**` does not,
    /// `[a-z]` is one of the characters, `{a,b}` one of the choices, a backslash takes the next character literally.
    pub fn globs<T: AsRef<str>>(patterns: &[T]) -> Result<Pattern, String> {
        let mut alternatives = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            if pattern.as_ref().len() > MAXIMUM_PATTERN_BYTES {
                return Err(format!("the pattern is longer than {MAXIMUM_PATTERN_BYTES} bytes"));
            }
            alternatives.push(glob(pattern.as_ref())?);
        }
        build(&format!(r"\A(?:{})\z", alternatives.join("|")), "S")
            .map(|regex| Pattern(Matcher::Regex(regex)))
    }

    pub fn is_match(&self, text: &str) -> bool {
        match &self.0 {
            Matcher::Text(plain) => plain.is_match(text),
            Matcher::Regex(regex) => regex.is_match(text.as_bytes()),
        }
    }

    /// `None`: no match. `Some(None)`: it matches, but its first group took no part. Otherwise the first group, or
    /// the whole match when there is no group.
    pub fn first_group(&self, text: &str) -> Option<Option<String>> {
        let regex = match &self.0 {
            Matcher::Text(plain) => return plain.is_match(text).then(|| Some(plain.text.clone())),
            Matcher::Regex(regex) => regex,
        };
        let captures = regex.captures(text.as_bytes())?;
        let group = captures.get(usize::from(captures.len() > 1));
        Some(group.map(|group| String::from_utf8_lossy(group.as_bytes()).into_owned()))
    }
}

impl PlainText {
    /// `None` when the pattern is more than characters that stand for themselves, with `^` before or `$` behind.
    fn of(pattern: &str, flags: &str, anchored: bool) -> Option<Self> {
        if flags.contains(['I', 'M', 'X']) {
            return None;
        }
        let (at_start, rest) = match pattern.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (anchored, pattern),
        };
        let (mut text, mut at_end) = (String::with_capacity(rest.len()), false);
        let mut characters = rest.chars();
        while let Some(character) = characters.next() {
            match character {
                '$' if characters.as_str().is_empty() => at_end = true,
                '\\' => text.push(characters.next().filter(char::is_ascii_punctuation)?),
                '.' | '^' | '$' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' => return None,
                other => text.push(other),
            }
        }
        (!text.is_empty()).then_some(Self { text, at_start, at_end })
    }

    fn is_match(&self, text: &str) -> bool {
        match (self.at_start, self.at_end) {
            (true, true) => text == self.text,
            (true, false) => text.starts_with(&self.text),
            (false, true) => text.ends_with(&self.text),
            (false, false) => text.contains(&self.text),
        }
    }
}

fn build(pattern: &str, flags: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .unicode(!flags.contains('A'))
        .case_insensitive(flags.contains('I'))
        .multi_line(flags.contains('M'))
        .dot_matches_new_line(flags.contains('S'))
        .ignore_whitespace(flags.contains('X'))
        .size_limit(MAXIMUM_COMPILED_BYTES)
        .dfa_size_limit(MAXIMUM_COMPILED_BYTES)
        .nest_limit(50)
        .build()
        .map_err(|error| {
            // The last line tells what is wrong; the ones before draw the place.
            let text = error.to_string();
            let reason =
                text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_string();
            format!("the regular expression cannot be used: {reason}")
        })
}

/// A glob as a regular expression.
fn glob(pattern: &str) -> Result<String, String> {
    let mut translated = String::with_capacity(pattern.len() * 2);
    let mut characters = pattern.chars().peekable();
    let mut choices = 0usize;
    while let Some(character) = characters.next() {
        match character {
            '*' if characters.next_if_eq(&'*').is_some() => translated.push_str(".*"),
            '*' => translated.push_str("[^/]*"),
            '?' => translated.push_str("[^/]"),
            '{' => {
                choices += 1;
                translated.push_str("(?:");
            }
            ',' if choices > 0 => translated.push('|'),
            '}' if choices > 0 => {
                choices -= 1;
                translated.push(')');
            }
            '[' => {
                let mut class = String::new();
                let closed = characters.by_ref().any(|next| {
                    let end = next == ']';
                    class.extend((!end).then_some(next));
                    end
                });
                let (negated, members) = match class.strip_prefix('!') {
                    Some(rest) => ("^", rest),
                    None => ("", class.as_str()),
                };
                if !closed || members.is_empty() || members.contains(['[', '\\', '^', '&', '~']) {
                    return Err(format!("[{class}] is no class of characters in a pattern of names"));
                }
                translated.push_str(&format!("[{negated}{members}]"));
            }
            '\\' => translated.push_str(&regex::escape(&characters.next().unwrap_or('\\').to_string())),
            other => translated.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    if choices > 0 {
        Err(format!("a brace is not closed in the pattern {pattern:?}"))
    } else {
        Ok(translated)
    }
}

/// `\Z` is the end of the text, and inside a class `[`, `&&`, `--` and `~~` are plain characters.
fn translate(pattern: &str) -> String {
    let mut translated = String::with_capacity(pattern.len() + 8);
    let mut characters = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('Z') if !in_class => translated.push_str("\\z"),
                Some(escaped) => translated.extend(['\\', escaped]),
                None => translated.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                translated.push('[');
                translated.extend(characters.next_if_eq(&'^'));
                if characters.next_if_eq(&']').is_some() {
                    translated.push_str("\\]");
                }
            }
            ']' => {
                in_class = false;
                translated.push(']');
            }
            '[' => translated.push_str("\\["),
            '&' | '~' | '-' if in_class && characters.peek() == Some(&character) => {
                characters.next();
                translated.extend([character, '\\', character]);
            }
            other => translated.push(other),
        }
    }
    translated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_anchors_and_translation() {
        let matches = |pattern: &str, flags: &str, text: &str| {
            Pattern::new(pattern, flags, false).unwrap().is_match(text)
        };
        assert!(matches("fre", "I", "aFRED") && !matches("fre", "", "aFRED"));
        assert!(matches("a.b", "S", "a\nb") && !matches("a.b", "", "a\nb"));
        assert!(matches("^b", "M", "a\nb") && !matches("^b", "", "a\nb"));
        assert!(matches("a b # c", "X", "ab") && !matches("a b", "", "ab"));
        assert!(matches("^\\w$", "", "ä") && !matches("^\\w$", "A", "ä"));
        assert!(matches("d\\Z", "", "fred") && matches("[[]", "", "[") && matches("[]a]", "", "]"));
        assert!(matches("^[a&&b]+$", "", "a&b") && matches("^[+--]$", "", "-"));
        let anchored = Pattern::new("x(y)?", "", true).unwrap();
        assert_eq!(anchored.first_group("xy"), Some(Some("y".into())));
        assert_eq!(anchored.first_group("x"), Some(None));
        assert_eq!(anchored.first_group("ax"), None);
        assert_eq!(Pattern::new("x # end", "X", true).unwrap().first_group("xz"), Some(Some("x".into())));
    }

    #[test]
    fn plain_text_matches_as_the_expression_would() {
        let patterns = [
            "sshd$",
            "^sshd",
            "^sshd$",
            "sshd",
            "a\\.b$",
            "beam\\.smp",
            "\\$x",
            "x\\$",
            "ä",
            "a/b-c_d",
            "^",
            "$",
            "a$b",
        ];
        let texts = [
            "sshd", "xsshd", "sshdx", "a.b", "axb", "beam.smp", "$x", "x$", "x", "ä", "a/b-c_d", "", "sshd\n",
        ];
        for pattern in patterns {
            for (flags, anchored) in [("", false), ("", true), ("S", false), ("A", true)] {
                let ours = Pattern::new(pattern, flags, anchored).unwrap();
                let start = if anchored { "\\A(?:" } else { "(?:" };
                let regex = build(&format!("{start}{pattern})"), flags).unwrap();
                for text in texts {
                    assert_eq!(
                        ours.is_match(text),
                        regex.is_match(text.as_bytes()),
                        "{pattern:?} {anchored} {text:?}"
                    );
                    let whole = |found: regex::bytes::Match<'_>| {
                        Some(String::from_utf8_lossy(found.as_bytes()).into_owned())
                    };
                    assert_eq!(
                        ours.first_group(text),
                        regex.find(text.as_bytes()).map(whole),
                        "{pattern:?} {text:?}"
                    );
                }
            }
        }
        let is_plain = |pattern: &str, flags: &str| PlainText::of(pattern, flags, true).is_some();
        assert!(is_plain("sshd$", "") && is_plain("a\\.b", "LU"));
        for (pattern, flags) in
            [("a.b", ""), ("\\d", ""), ("sshd", "I"), ("^a", "M"), ("a b", "X"), ("a|b", ""), ("", "")]
        {
            assert!(!is_plain(pattern, flags), "{pattern:?} {flags}");
        }
    }

    #[test]
    fn patterns_of_names() {
        let matches = |pattern: &str, name: &str| Pattern::globs(&[pattern]).unwrap().is_match(name);
        for (pattern, name) in [
            ("/etc/*.d/?", "/etc/cron.d/x"),
            ("/lib/**/*.so*", "/lib/a/b/libc.so.6"),
            ("/{b,sb}in/*", "/sbin/init"),
            ("/var/log/[bw]tmp*", "/var/log/wtmp.1"),
            ("/a/[!b]", "/a/c"),
            ("/a+(b)", "/a+(b)"),
            ("/a\\*", "/a*"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("/etc/*", "/etc/a/b"),
            ("/etc/a", "/etc/ab"),
            ("/etc/a", "x/etc/a"),
            ("/a\\*", "/ab"),
            ("/a?", "/a/"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        for pattern in ["/{a", "/[]", "/[a", "/[[:alpha:]]"] {
            assert!(Pattern::globs(&[pattern]).is_err(), "{pattern}");
        }
    }

    #[test]
    fn bad_and_huge_patterns_are_refused() {
        for (pattern, flags) in [("[", ""), ("a)(b", ""), ("(?=a)", ""), ("a", "Q"), ("(\\w{500}){500}", "")]
        {
            assert!(Pattern::new(pattern, flags, true).is_err(), "{pattern}");
        }
        assert!(Pattern::new(&"a".repeat(5000), "", false).is_err());
        assert!(Pattern::new(&"(".repeat(4000), "", false).is_err());
    }
}
