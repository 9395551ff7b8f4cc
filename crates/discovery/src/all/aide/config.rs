//! The configuration of AIDE (aide.conf(5)), as far as it can be known without running anything.

use crate::parse::{self, Errors, Files, quoted};
use std::collections::{BTreeMap, BTreeSet};

const MAX_DEPTH: usize = 8;
const MAX_SELECTIONS: usize = 20_000;
const MAX_DEFINITIONS: usize = 2_000;
const MAX_VALUE_BYTES: usize = 4096;

/// Groups that AIDE itself knows; X is part of others.
const BUILT_IN: &[(&str, &str)] = &[
    ("X", "acl+selinux+xattrs+e2fsattrs+caps"),
    ("R", "p+ftype+i+l+n+u+g+s+m+c+md5+X"),
    ("L", "p+ftype+i+l+n+u+g+X"),
    (">", "p+ftype+l+u+g+i+n+s+growing+X"),
    ("H", "md5+sha1+sha256+sha512+rmd160+tiger+crc32"),
    ("E", ""),
];
/// The same attribute under other names.
const SYNONYMS: &[(&str, &str)] = &[("S", "growing"), ("c", "ctime"), ("m", "mtime"), ("a", "atime")];

pub type Attributes = BTreeSet<String>;

/// A line that selects files, or with `!` leaves them out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The regular expression without its mark (`!`, `=`, `-`).
    pub pattern: String,
    pub mark: Mark,
    /// Whether it is about regular files or directories, as opposed to devices, links, sockets only.
    pub is_for_files: bool,
    pub is_for_directories: bool,
    pub attributes: Attributes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Regular,
    /// `=`: the match and its children only.
    Equals,
    /// `!` and `-`.
    Not,
}

#[derive(Debug, Default)]
pub struct Config {
    /// Settings such as `database_in`, names in lower case.
    pub settings: BTreeMap<String, String>,
    pub groups: BTreeMap<String, Attributes>,
    pub selections: Vec<Selection>,
    pub files: Vec<String>,
    /// Files that print configuration when they are run, which nobody does here.
    pub programs: Vec<String>,
    macros: BTreeMap<String, String>,
}

/// Reads a file with what it includes. `is_program` tells which included files AIDE would run.
pub fn read(files: &dyn Files, is_program: &dyn Fn(&str) -> bool, path: &str, text: &str, errors: &mut Errors) -> Config {
    let mut config = Config::default();
    for (name, value) in BUILT_IN {
        let attributes = config.expression(value).unwrap_or_default();
        config.groups.insert((*name).to_owned(), attributes);
    }
    take(&mut config, files, is_program, path, text, errors, 0);
    config
}

fn take(
    config: &mut Config,
    files: &dyn Files,
    is_program: &dyn Fn(&str) -> bool,
    path: &str,
    text: &str,
    errors: &mut Errors,
    depth: usize,
) {
    config.files.push(path.to_owned());
    // Whether the lines count, for each condition that is open.
    let mut open: Vec<bool> = Vec::new();
    for (number, line) in parse::lines(text, path, errors) {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        if let Some(directive) = line.strip_prefix("@@").filter(|rest| !rest.starts_with('{')) {
            let (word, rest) = directive.split_once(char::is_whitespace).unwrap_or((directive, ""));
            let rest = rest.trim();
            match word {
                "ifdef" => open.push(config.macros.contains_key(rest)),
                "ifndef" => open.push(!config.macros.contains_key(rest)),
                "if" => open.push(config.condition(rest)),
                "ifhost" | "ifnhost" => open.push(word == "ifnhost"),
                "else" => {
                    if let Some(last) = open.last_mut() {
                        *last = !*last;
                    }
                }
                "endif" => {
                    open.pop();
                }
                _ if open.contains(&false) => {}
                "define" => {
                    let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                    if config.macros.len() < MAX_DEFINITIONS && name.len() <= 64 && value.len() <= MAX_VALUE_BYTES {
                        let value = config.substituted(value.trim());
                        config.macros.insert(name.to_owned(), value);
                    }
                }
                "undef" => {
                    config.macros.remove(rest);
                }
                "include" | "x_include" => {
                    let rest = config.substituted(rest);
                    include(config, files, is_program, &rest, errors, depth);
                }
                "x_include_setenv" => {}
                other => errors.at(path, number, format_args!("{} is not understood", quoted(&format!("@@{other}")))),
            }
            if open.len() > 100 {
                errors.at(path, number, "more than 100 nested conditions, the rest is left out");
                return;
            }
            continue;
        }
        if open.contains(&false) {
            continue;
        }
        if let Err(what) = config.line(&config.substituted(line)) {
            errors.at(path, number, what);
        }
    }
}

/// A file, or the files of a directory whose names match a regular expression: those that end like it or, as it is
/// on Debian, those without a dot.
fn include(
    config: &mut Config,
    files: &dyn Files,
    is_program: &dyn Fn(&str) -> bool,
    rest: &str,
    errors: &mut Errors,
    depth: usize,
) {
    let mut words = rest.split_whitespace();
    let (Some(target), expression) = (words.next(), words.next()) else { return };
    let mut paths = Vec::new();
    match expression {
        None => paths.push(target.to_owned()),
        Some(expression) => {
            let wants_conf = expression.contains("conf");
            let mut names = files.names(target).unwrap_or_default();
            names.retain(|name| if wants_conf { name.ends_with(".conf") } else { !name.contains('.') });
            names.sort();
            paths.extend(names.into_iter().map(|name| format!("{}/{name}", target.trim_end_matches('/'))));
        }
    }
    for path in paths {
        if depth + 1 > MAX_DEPTH || config.files.len() + config.programs.len() >= parse::MAX_INCLUDED_FILES {
            errors.add(format!("{path}: too many included files, left out"));
            return;
        }
        if is_program(&path) {
            config.programs.push(path);
            continue;
        }
        match files.text(&path) {
            Ok(text) => take(config, files, is_program, &path, &text, errors, depth + 1),
            Err(reason) => errors.unread(&reason),
        }
    }
}

impl Config {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let (mark, rest) = match line.as_bytes().first() {
            Some(b'!' | b'-') => (Mark::Not, &line[1..]),
            Some(b'=') => (Mark::Equals, &line[1..]),
            _ => (Mark::Regular, line),
        };
        if rest.starts_with('/') {
            return self.selection(mark, rest);
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("{} is neither a setting nor a path", quoted(line)));
        };
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || name.len() > 64 || value.len() > MAX_VALUE_BYTES {
            return Err(format!("{} is not the name of a setting", quoted(name)));
        }
        let setting = name.to_ascii_lowercase();
        let is_setting = name == setting && (name.contains('_') || matches!(name, "database" | "verbose" | "config"));
        if is_setting {
            self.settings.insert(setting, value.to_owned());
        } else if self.groups.len() < MAX_DEFINITIONS {
            let attributes = self.expression(value)?;
            self.groups.insert(name.to_owned(), attributes);
        }
        Ok(())
    }

    /// `<pattern> [<kinds of files>] <attributes>`; blanks in the pattern are escaped.
    fn selection(&mut self, mark: Mark, rest: &str) -> Result<(), String> {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let attributes = match (mark, words.as_slice()) {
            (Mark::Not, [_, ..]) => Attributes::new(),
            (_, [_, .., expression]) => self.expression(expression)?,
            _ => return Err(format!("{} selects files without saying what of them", quoted(rest))),
        };
        // For lines that leave out, the kinds come last.
        let kinds = match (mark, words.as_slice()) {
            (Mark::Not, [_, kinds]) => kinds,
            (Mark::Regular | Mark::Equals, [_, kinds, _]) => kinds,
            _ => "0",
        };
        let is_for = |kind: char| kinds.contains(kind) || kinds.contains('0');
        if self.selections.len() < MAX_SELECTIONS {
            self.selections.push(Selection {
                pattern: words.first().copied().unwrap_or_default().to_owned(),
                mark,
                is_for_files: is_for('f'),
                is_for_directories: is_for('d'),
                attributes,
            });
        }
        Ok(())
    }

    /// Attributes and groups joined by `+` and `-`.
    fn expression(&self, text: &str) -> Result<Attributes, String> {
        let mut found = Attributes::new();
        let mut adds = true;
        let mut rest = text;
        loop {
            let end = rest.find(['+', '-']).unwrap_or(rest.len());
            let name = rest[..end].trim();
            let name = SYNONYMS.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| long);
            let is_word = name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_>".contains(&b));
            if !is_word {
                return Err(format!("{} is no list of attributes", quoted(text)));
            }
            let own;
            let members = match self.groups.get(name) {
                Some(group) => group,
                None => {
                    own = if name.is_empty() { Attributes::new() } else { Attributes::from([name.to_owned()]) };
                    &own
                }
            };
            for member in members {
                if adds && found.len() < 200 {
                    found.insert(member.clone());
                } else {
                    found.remove(member);
                }
            }
            match rest[end..].chars().next() {
                Some(sign) => adds = sign == '+',
                None => return Ok(found),
            }
            rest = &rest[end + 1..];
        }
    }

    /// `defined NAME`, `not defined NAME`; of other conditions nothing is known, so their lines count.
    fn condition(&self, text: &str) -> bool {
        let words: Vec<&str> = text.split_whitespace().take(4).collect();
        match words.as_slice() {
            ["defined", name] => self.macros.contains_key(*name),
            ["not", "defined", name] => !self.macros.contains_key(*name),
            _ => true,
        }
    }

    /// `@@{NAME}` replaced by its definition, once.
    fn substituted(&self, line: &str) -> String {
        let mut text = String::new();
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("@@{") {
            let Some((name, behind)) = after.split_once('}') else { break };
            text.push_str(before);
            if text.len() < 4 * MAX_VALUE_BYTES {
                text.push_str(self.macros.get(name).map_or("", String::as_str));
            }
            rest = behind;
        }
        text.push_str(rest);
        text
    }

    /// The attributes kept of a regular file: those of the line that is nearest, when its pattern is plain enough to be
    /// compared. `None`: no such line, or the file is left out.
    pub fn attributes_of(&self, path: &str) -> Option<&Attributes> {
        let mut best: Option<(usize, &Selection)> = None;
        for selection in self.selections.iter().filter(|selection| selection.is_for_files) {
            let Some(plain) = plain(&selection.pattern) else { continue };
            let is_whole = plain.ends_at_end && plain.text == path;
            let is_above = !plain.ends_at_end
                && selection.mark != Mark::Equals
                && path.strip_prefix(&plain.text).is_some();
            let fits = is_whole || is_above || selection.mark == Mark::Equals && plain.text == path;
            // Of equal lines the last one, and what is left out stays out.
            let is_better = best.is_none_or(|(length, other)| {
                (other.mark != Mark::Not && plain.text.len() >= length) || plain.text.len() > length
            });
            if fits && is_better {
                best = Some((plain.text.len(), selection));
            }
        }
        best.map(|(_, selection)| selection).filter(|selection| selection.mark != Mark::Not).map(|s| &s.attributes)
    }
}

struct Plain {
    text: String,
    ends_at_end: bool,
}

/// A pattern that stands for one text: no operators but a `$` at the end and escaped characters.
fn plain(pattern: &str) -> Option<Plain> {
    let (pattern, ends_at_end) = pattern.strip_suffix('$').map_or((pattern, false), |start| (start, true));
    let mut text = String::new();
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => text.push(characters.next()?),
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' => return None,
            c => text.push(c),
        }
    }
    Some(Plain { text, ends_at_end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::Tree;

    fn parsed(text: &str, further: &[(&str, &str)]) -> (Config, Vec<String>) {
        let mut errors = Errors::default();
        let config = read(&Tree::of(further), &|path| path.ends_with("run"), "/a", text, &mut errors);
        (config, errors.into_list())
    }

    fn attributes(config: &Config, path: &str) -> String {
        config.attributes_of(path).map_or("-".into(), |found| found.iter().cloned().collect::<Vec<_>>().join("+"))
    }

    #[test]
    fn groups_and_selections() {
        let text = "# c\ndatabase_in=file:/x\nAll = p+u+X-selinux\n/usr All\n!/usr/share\n/usr/sbin/auditctl p+i+sha512\n\
                    /sbin/.* All\n/etc$ d p\n=/boot u\n/usr/lib\\.x R-md5\n";
        let (config, errors) = parsed(text, &[]);
        assert_eq!(errors, [""; 0]);
        assert_eq!(config.settings["database_in"], "file:/x");
        assert_eq!(attributes(&config, "/usr/sbin/auditctl"), "i+p+sha512");
        assert_eq!(attributes(&config, "/usr/sbin/auditd"), "acl+caps+e2fsattrs+p+u+xattrs");
        assert_eq!(attributes(&config, "/usr/share/x"), "-");
        // A line for directories says nothing about a file of that name.
        assert_eq!((attributes(&config, "/etc"), attributes(&config, "/etc/x")), ("-".into(), "-".into()));
        let etc = config.selections.iter().find(|selection| selection.pattern == "/etc$").unwrap();
        assert!(etc.is_for_directories && !etc.is_for_files);
        assert_eq!((attributes(&config, "/boot"), attributes(&config, "/boot/x")), ("u".into(), "-".into()));
        assert!(attributes(&config, "/usr/lib.x").starts_with("acl+"));
        assert_eq!(config.selections.len(), 7);
    }

    #[test]
    fn macros_conditions_and_includes() {
        let text = "@@define D /var\n@@ifdef D\n/@@{D}x p\n@@else\n/no p\n@@endif\n@@if not defined E\n@@define E 1\n@@endif\n\
                    @@ifndef E\n/no2 p\n@@endif\n@@x_include /d ^[a-zA-Z0-9_-]+$\n@@include /e/one.conf\n@@what\n";
        let further = [("/d/b", "@@{D}/b u\n"), ("/d/a.old", "/old u\n"), ("/d/run", "x"), ("/e/one.conf", "/e g\n@@include /e/one.conf\n")];
        let (config, errors) = parsed(text, &further);
        let patterns: Vec<&str> = config.selections.iter().map(|selection| selection.pattern.as_str()).collect();
        assert_eq!(patterns[..3], ["//varx", "/var/b", "/e"]);
        assert_eq!(config.programs, ["/d/run"]);
        assert!(errors.iter().any(|error| error.contains("'@@what' is not understood")), "{errors:?}");
        assert!(errors.iter().any(|error| error.contains("too many included files")), "{errors:?}");
    }

    #[test]
    fn what_is_malformed_is_told() {
        for (line, part) in [
            ("/etc", "without saying what"),
            ("word", "neither a setting nor a path"),
            ("G = p+ä", "no list of attributes"),
            (" = x", "not the name"),
        ] {
            let (_, errors) = parsed(line, &[]);
            assert!(errors.len() == 1 && errors[0].starts_with("/a line 1: ") && errors[0].contains(part), "{errors:?}");
        }
    }
}
