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
pub struct Pattern(Regex);

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
        let translated = translate(pattern);
        // A pattern that is wrong by itself could become right inside the group below.
        let plain = build(&translated, flags)?;
        if !anchored {
            return Ok(Pattern(plain));
        }
        // With X the pattern may end in a comment, which only a newline ends.
        let end = if flags.contains('X') { "\n" } else { "" };
        build(&format!("\\A(?:{translated}{end})"), flags).map(Pattern)
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
        build(&format!(r"\A(?:{})\z", alternatives.join("|")), "S").map(Pattern)
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text.as_bytes())
    }

    /// `None`: no match. `Some(None)`: it matches, but its first group took no part. Otherwise the first group, or
    /// the whole match when there is no group.
    pub fn first_group(&self, text: &str) -> Option<Option<String>> {
        let captures = self.0.captures(text.as_bytes())?;
        let group = captures.get(usize::from(captures.len() > 1));
        Some(group.map(|group| String::from_utf8_lossy(group.as_bytes()).into_owned()))
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
