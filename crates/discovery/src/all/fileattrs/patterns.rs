//! Patterns of the file list: `{a,b}` choices, `*`, `?` and `[...]` within a name, `**` over any number of names.

use crate::parse::matches;

/// Names that one word may stand for by its choices.
const MAX_CHOICES: usize = 256;
/// More `**` in one pattern would make matching slow and mean nothing sensible.
const MAX_ANY_DEPTH: usize = 2;
const ANY_DEPTH: &str = "**";

/// One word of the list without choices.
#[derive(Debug, PartialEq, Eq)]
pub enum Name {
    /// As it is written, a `/` at the end included.
    Plain(String),
    Pattern(Pattern),
}

/// The components of an absolute path, at least one of them with wildcards.
#[derive(Debug, PartialEq, Eq)]
pub struct Pattern(Vec<String>);

impl Pattern {
    /// The directory that all matches are below, and the components after it.
    pub fn split(&self) -> (String, &[String]) {
        let plain = self.0.iter().take_while(|part| !has_wildcard(part)).count();
        let start: String = self.0[..plain].iter().map(|part| format!("/{part}")).collect();
        (if start.is_empty() { "/".into() } else { start }, &self.0[plain..])
    }
}

/// The names and patterns that a word of the list stands for.
///
/// # Errors
/// A sentence: the word cannot be understood.
pub fn names(word: &str) -> Result<Vec<Name>, String> {
    if !word.starts_with('/') {
        return Err(format!("{word}: not an absolute path: write it with / at the start"));
    }
    let mut whole = Vec::new();
    let mut open = vec![word.to_owned()];
    while let Some(text) = open.pop() {
        match choices(&text) {
            None => whole.push(text),
            Some((before, list, after)) => {
                open.extend(list.iter().rev().map(|choice| format!("{before}{choice}{after}")));
            }
        }
        if whole.len() + open.len() > MAX_CHOICES {
            return Err(format!("{word}: more than {MAX_CHOICES} choices: write fewer in one word"));
        }
    }
    whole.into_iter().map(|text| name(word, text)).collect()
}

fn name(word: &str, text: String) -> Result<Name, String> {
    let parts: Vec<String> = text.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    if !parts.iter().any(|part| has_wildcard(part)) {
        return Ok(Name::Plain(text));
    }
    if parts.iter().filter(|part| *part == ANY_DEPTH).count() > MAX_ANY_DEPTH {
        return Err(format!("{word}: more than {MAX_ANY_DEPTH} times ** in one path: write fewer"));
    }
    Ok(Name::Pattern(Pattern(parts)))
}

/// Text before the first braces, the choices in them, and what follows; `None` without complete braces.
fn choices(text: &str) -> Option<(&str, Vec<&str>, &str)> {
    let open = text.find('{')?;
    let mut depth = 0;
    let mut list = Vec::new();
    let mut start = open + 1;
    for (at, byte) in text.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b',' if depth == 1 => {
                list.push(&text[start..at]);
                start = at + 1;
            }
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    list.push(&text[start..at]);
                    return Some((&text[..open], list, &text[at + 1..]));
                }
            }
            _ => {}
        }
    }
    None
}

pub fn has_wildcard(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

/// Whether any of the components crosses directories.
pub fn crosses(parts: &[String]) -> bool {
    parts.iter().any(|part| part == ANY_DEPTH)
}

/// Whether the components of a path match those of a pattern. `**` matches any number of components, none included
/// unless it is the last, and hidden ones too.
pub fn fits(pattern: &[String], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == ANY_DEPTH => {
            let least = usize::from(rest.is_empty());
            (least..=path.len()).any(|skipped| fits(rest, &path[skipped..]))
        }
        (Some((first, rest)), Some((name, below))) => matches(first, name) && fits(rest, below),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(word: &str) -> Vec<String> {
        let names = names(word).unwrap();
        names
            .into_iter()
            .map(|name| match name {
                Name::Plain(text) => text,
                Name::Pattern(pattern) => format!("p:/{}", pattern.0.join("/")),
            })
            .collect()
    }

    #[test]
    fn choices_are_expanded_in_order() {
        assert_eq!(plain("/etc/{a,b}{,-}"), ["/etc/a", "/etc/a-", "/etc/b", "/etc/b-"]);
        assert_eq!(plain("/{etc/{x,y},usr}/"), ["/etc/x/", "/etc/y/", "/usr/"]);
        assert_eq!(plain("/a{b"), ["/a{b"]);
        assert_eq!(plain("/log/{b,w}tmp*"), ["p:/log/btmp*", "p:/log/wtmp*"]);
        assert!(names("etc").unwrap_err().starts_with("etc: not an absolute path"));
        assert!(names(&format!("/{}", "{a,b}".repeat(40))).unwrap_err().contains("choices"));
        assert!(names("/**/a/**/b/**").unwrap_err().contains("**"));
    }

    #[test]
    fn patterns_fit_components() {
        let fits_text = |pattern: &str, path: &str| {
            let Name::Pattern(pattern) = names(pattern).unwrap().remove(0) else { panic!("{pattern}") };
            let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            fits(&pattern.0, &parts)
        };
        for (pattern, path, fit) in [
            ("/var/log/*", "/var/log/syslog", true),
            ("/var/log/*", "/var/log/apt/term.log", false),
            ("/var/log/*", "/var/log/.hidden", false),
            ("/var/log/**", "/var/log/.hidden", true),
            ("/var/log/**", "/var/log/apt/term.log", true),
            ("/var/log/**", "/var/log", false),
            ("/var/log/**/*.journal", "/var/log/journal/x/system.journal", true),
            ("/var/log/**/*.journal", "/var/log/system.journal", true),
            ("/var/log/**/*.journal", "/var/log/system.journal~", false),
            ("/etc/ssh/*_key", "/etc/ssh/ssh_host_rsa_key", true),
            ("/etc/ssh/*_key", "/etc/ssh/ssh_host_rsa_key.pub", false),
        ] {
            assert_eq!(fits_text(pattern, path), fit, "{pattern} {path}");
        }
    }

    #[test]
    fn the_start_is_the_plain_part() {
        let Name::Pattern(pattern) = names("/var/log/**/*.gz").unwrap().remove(0) else { panic!() };
        assert_eq!(pattern.split(), ("/var/log".to_owned(), &["**".to_owned(), "*.gz".to_owned()][..]));
        let Name::Pattern(pattern) = names("/*").unwrap().remove(0) else { panic!() };
        assert_eq!(pattern.split().0, "/");
    }

    proptest! {
        #[test]
        fn any_word_is_survived(word in "[/a{},*\\[\\]?!]{0,60}") {
            if let Ok(found) = names(&word) {
                prop_assert!(!found.is_empty() && found.len() <= MAX_CHOICES);
            }
        }
    }
}
