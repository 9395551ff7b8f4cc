//! What is wrong with a settings file: everything at once, each with its line, key and what is allowed there.

use super::shape::{Field, Setting, Shape};
use crate::text::shortened;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// More findings than this are not collected: the file is something else.
const MAX_FINDINGS: usize = 100;
/// Keys that differ in more than a third of their letters are no misspellings of each other.
const NEAR: f64 = 0.6;
/// What the parser says of a key that is there twice.
const DUPLICATE: &str = "duplicate key";
/// What `--print-config` shows in the place of a secret.
pub const HIDDEN: &str = "(hidden)";

/// Something to correct, or to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Counted from 1; `None` when it concerns the file as a whole.
    pub line: Option<usize>,
    /// As it would be written in the file from its top, `heartbeats.probes`; empty when it concerns no key.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub problem: String,
    pub grade: Grade,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// The program does not take the file.
    Refused,
    /// The program takes the file and does something else than what it says.
    Wrong,
    /// Perhaps not meant.
    Warning,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if self.grade == Grade::Warning {
            f.write_str("warning: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

/// Where each key stands, by its path from the top.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines(BTreeMap<String, usize>);

impl Lines {
    /// The line of a key, or of the table that it would be in.
    pub fn of(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.0.get(key) {
                return Some(*line);
            }
            key = &key[..key.rfind('.')?];
        }
    }

    /// Whether the file has this key.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

/// A file that was looked through.
#[derive(Debug, Clone)]
pub struct Checked<T> {
    /// `None` when it cannot be used.
    pub config: Option<T>,
    pub findings: Vec<Finding>,
    pub lines: Lines,
}

/// Looks through the text of a file. What the settings mean is for those who know it to check.
pub fn check<T: Setting + for<'de> Deserialize<'de>>(text: &str) -> Checked<T> {
    let line_of = |at: usize| {
        1 + text
            .as_bytes()
            .get(..at.min(text.len()))
            .map_or(0, |head| head.iter().filter(|b| **b == b'\n').count())
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut findings: Vec<Finding> = errors
        .iter()
        .map(|error| Finding {
            line: error.span().map(|span| line_of(span.start)),
            key: String::new(),
            problem: problem_of(error, text),
            grade: Grade::Refused,
        })
        .collect();
    let broken: Vec<Option<usize>> = findings.iter().map(|finding| finding.line).collect();
    let mut walk = Walk { line_of: &line_of, findings: Vec::new(), lines: Lines::default() };
    walk.fields(T::SHAPE.fields(), table.get_ref(), "");
    let Walk { findings: more, lines, .. } = walk;
    // What the parser made of a line that it does not understand says nothing.
    findings.extend(more.into_iter().filter(|finding| !broken.contains(&finding.line)));
    let mut config = None;
    if findings.is_empty() {
        match toml::from_str(text) {
            Ok(value) => config = Some(value),
            Err(error) => findings.push(Finding {
                line: error.span().map(|span| line_of(span.start)),
                key: String::new(),
                problem: error.message().to_owned(),
                grade: Grade::Refused,
            }),
        }
    }
    findings.sort_by_key(|finding| finding.line);
    findings.truncate(MAX_FINDINGS);
    Checked { config, findings, lines }
}

/// What a parser's error says; of a key that is there twice also which.
fn problem_of(error: &toml::de::Error, text: &str) -> String {
    let key = error.span().and_then(|span| text.get(span)).filter(|_| error.message() == DUPLICATE);
    match key {
        Some(key) => format!("{} is there twice: make one of both", shortened(key, 100)),
        None => error.message().to_owned(),
    }
}

struct Walk<'a> {
    line_of: &'a dyn Fn(usize) -> usize,
    findings: Vec<Finding>,
    lines: Lines,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &[Field], table: &DeTable<'_>, path: &str) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            let at = join(path, name);
            let line = (self.line_of)(key.span().start);
            match fields.iter().find(|field| field.name == name) {
                Some(field) => {
                    self.lines.0.insert(at.clone(), line);
                    self.value(&field.shape, value, &at, line);
                }
                None => self.push(line, at, unknown(name, fields)),
            }
        }
    }

    fn value(&mut self, shape: &Shape, value: &Spanned<DeValue<'_>>, path: &str, line: usize) {
        match (shape, value.get_ref()) {
            (Shape::Table(fields) | Shape::TextsOrTable(fields), DeValue::Table(table)) => {
                self.fields(fields, table, path);
            }
            (Shape::Map(inner), DeValue::Table(table)) => {
                for (key, value) in table {
                    let at = join(path, key.get_ref());
                    let line = (self.line_of)(key.span().start);
                    self.lines.0.insert(at.clone(), line);
                    self.value(inner, value, &at, line);
                }
            }
            (Shape::Texts | Shape::TextsOrTable(_), DeValue::Array(items)) => {
                for item in items {
                    if item.get_ref().as_str().is_none() {
                        let line = (self.line_of)(item.span().start);
                        self.push(
                            line,
                            path.to_owned(),
                            format!(
                                "{} is in the list: every item must be {}",
                                a(item.get_ref().type_str()),
                                Shape::Text.allowed()
                            ),
                        );
                    }
                }
            }
            (Shape::Text, DeValue::String(text)) if text == HIDDEN => {
                self.push(line, path.to_owned(), format!(
                    "{HIDDEN:?} stands where --print-config hides a secret: write the secret itself, or remove the line"));
            }
            (Shape::OneOf(words), DeValue::String(text)) if !words.contains(&text.as_ref()) => {
                self.push(
                    line,
                    path.to_owned(),
                    format!("{text:?} is none of what it may be: {}", shape.allowed()),
                );
            }
            (Shape::Whole(most), DeValue::Integer(number)) => {
                let value = i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX);
                if value < 0 || value > i128::from(*most) {
                    self.push(line, path.to_owned(), format!("{number} is not {}", shape.allowed()));
                }
            }
            (Shape::Flag, DeValue::Boolean(_))
            | (Shape::Number, DeValue::Integer(_) | DeValue::Float(_))
            | (Shape::Text | Shape::OneOf(_), DeValue::String(_)) => {}
            (_, other) => {
                self.push(
                    line,
                    path.to_owned(),
                    format!("{} is not {}", a(other.type_str()), shape.allowed()),
                );
            }
        }
    }

    fn push(&mut self, line: usize, key: String, problem: String) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { line: Some(line), key, problem, grade: Grade::Refused });
        }
    }
}

/// With its article.
fn a(what: &str) -> String {
    let article = if what.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {what}")
}

/// What to say of a key that is none: the nearest one, and all there are.
fn unknown(name: &str, fields: &[Field]) -> String {
    let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
    let all = names.join(", ");
    // Some keys name their unit and others do not: `timeout_seconds`.
    let without_unit = name.rsplit_once('_').map(|(name, _)| name).filter(|name| names.contains(name));
    match without_unit.or_else(|| nearest(name, names)) {
        Some(near) => format!("there is no such key: is {near:?} meant? (allowed here: {all})"),
        None => format!("there is no such key (allowed here: {all})"),
    }
}

/// The word that is most like this one, if any is like it.
pub fn nearest<'w>(name: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    // Names as long as a page are no misspellings, and cost time.
    if name.len() > 100 {
        return None;
    }
    let likeness = |word: &str| strsim::normalized_damerau_levenshtein(name, word);
    let best = words.into_iter().map(|word| (likeness(word), word)).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness >= NEAR).map(|(_, word)| word)
}

/// A key below a path, quoted where TOML wants it.
pub fn join(path: &str, name: &str) -> String {
    let name = key_text(name);
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// A key as TOML writes it.
pub(super) fn key_text(name: &str) -> String {
    let is_bare =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    // A JSON string is a basic string of TOML, but for the delete character.
    let quoted = || serde_json::Value::from(name).to_string().replace('\u{7f}', "\\u007F");
    if is_bare { name.to_owned() } else { quoted() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CmaConfig, NanoprobeConfig};
    use proptest::prelude::*;

    fn told(text: &str) -> Vec<String> {
        check::<CmaConfig>(text).findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn everything_is_told_at_once() {
        let found = told(
            "bnid = \"x\"\ndebug = 300\n[notify]\nsyslog = \"yes\"\nscritps = true\n[discovery.agents.\"sshd/web1\"]\nrepaet = 3\nrepeat = -1\n[domains]\nlab = [\"a\", 3]\n[monitoring]\nnagiospath = \"x\"\n",
        );
        let expected = [
            ("line 1: bnid: ", "is \"bind\" meant?"),
            ("line 2: debug: 300 is not", "0 to 255"),
            ("line 4: notify.syslog: a string is not", "true or false"),
            ("line 5: notify.scritps: ", "is \"scripts\" meant?"),
            ("line 7: discovery.agents.\"sshd/web1\".repaet: ", "is \"repeat\" meant?"),
            ("line 8: discovery.agents.\"sshd/web1\".repeat: -1", "0 or more"),
            ("line 10: domains.lab: ", "every item must be a text"),
            ("line 12: monitoring.nagiospath: a string is not", "a list of texts"),
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, (start, part)) in found.iter().zip(expected) {
            assert!(found.starts_with(start) && found.contains(part), "{found:?} is not {start:?} {part:?}");
        }
        assert!(check::<CmaConfig>("bnid = 1").config.is_none());
    }

    #[test]
    fn several_syntax_errors_and_the_keys_around_them() {
        let found = told("bind = \n[notify]\nsyslogg = true\nattempts == 3\n");
        assert!(found.iter().any(|line| line.starts_with("line 1:")), "{found:#?}");
        assert!(found.iter().any(|line| line.starts_with("line 3: notify.syslogg")), "{found:#?}");
        assert!(found.iter().any(|line| line.starts_with("line 4:")), "{found:#?}");
    }

    #[test]
    fn a_key_that_is_there_twice_is_named() {
        for (text, expected) in [
            ("[groups]\nweb = [\"a*\"]\nweb = [\"b*\"]\n", "line 3: web is there twice: make one of both"),
            (
                "[groups]\nweb = [\"a*\"]\n[groups.web]\ntags = [\"x\"]\n",
                "line 3: web is there twice: make one of both",
            ),
            ("[groups]\n[groups]\n", "line 2: groups is there twice: make one of both"),
        ] {
            assert_eq!(told(text), [expected], "{text}");
        }
    }

    #[test]
    fn a_good_file_has_no_findings_and_its_lines_are_known() {
        let checked = check::<CmaConfig>("[heartbeats]\nprobes = 3\n[groups.web]\ntags = [\"web\"]\n");
        assert_eq!(checked.findings, []);
        assert_eq!(checked.config.unwrap().heartbeats.probes, 3);
        assert_eq!(checked.lines.of("heartbeats.probes"), Some(2));
        assert_eq!(checked.lines.of("groups.web.query"), Some(3), "the table that it would be in");
        assert_eq!(checked.lines.of("dns.reverse"), None);
    }

    #[test]
    fn a_far_word_is_no_misspelling() {
        let found = told("xyzzy = 1\n");
        assert!(found[0].contains("no such key (allowed here: bind"), "{found:?}");
        assert_eq!(nearest("repeat_seconds", ["repeat", "warn"]), None);
        assert_eq!(nearest("wran", ["repeat", "warn"]), Some("warn"));
        assert!(told("[monitoring]\ntimeout_seconds = 5\n")[0].contains("is \"timeout\" meant?"));
    }

    proptest! {
        #[test]
        fn whatever_the_file_says_there_is_an_answer(text in "[a-z\\[\\]={}\"'.,#0-9\n é-]{0,200}") {
            let checked = check::<NanoprobeConfig>(&text);
            prop_assert_eq!(checked.config.is_some(), checked.findings.is_empty());
        }
    }
}
