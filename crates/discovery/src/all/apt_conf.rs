//! Settings of APT: `/etc/apt/apt.conf.d/*`, then `/etc/apt/apt.conf`, see apt.conf(5).
//!
//! `data` is the full name of a setting, such as `APT::Get::AllowUnauthenticated`, → value: the last one counts. What
//! APT takes as yes (`true`, `yes`, `on`, `with`, `enable`) and no is a boolean, whole numbers are numbers, the rest is text.
//! The members of a list (`A::B:: "x";`, or values without a name in braces) are a list under the list's name. Names
//! are not case sensitive; they are delivered as first written, those that rules ask for in the manual's spelling.
//! Passwords are replaced by `***`.
//!
//! In apt.conf.d, files with an extension other than `.conf` and names with other characters than letters, digits, `-`,
//! `_` and `.` are skipped, as APT does.
//!
//! ```json
//! {"APT::Periodic::Unattended-Upgrade": 1, "Unattended-Upgrade::Remove-Unused-Dependencies": true,
//!  "Unattended-Upgrade::Origins-Pattern": ["origin=Debian,codename=${distro_codename},label=Debian-Security"]}
//! ```

use crate::parse::presence::{any_exists, not_there};
use crate::parse::{self, Errors, Files, integer, is_secret_name, mask_secrets, quoted};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use model::text::shortened;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub static DISCOVERY: Discovery = Discovery {
    name: "apt_conf",
    description: "Settings of APT",
    documentation: documentation::APT_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_apt_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const DIRECTORY: &str = "/etc/apt/apt.conf.d";
const FILE: &str = "/etc/apt/apt.conf";
const MAX_DEPTH: usize = 64;
const MAX_SETTINGS: usize = 20_000;
const MAX_NAME_BYTES: usize = 512;
const MAX_WORD_CHARS: usize = 4096;
/// Settings that rules ask for, in the manual's spelling.
const SPELLINGS: &[&str] = &[
    "APT::Get::AllowUnauthenticated",
    "APT::Periodic::Unattended-Upgrade",
    "Unattended-Upgrade::Remove-Unused-Dependencies",
    "Unattended-Upgrade::Remove-Unused-Kernel-Packages",
    "Acquire::AllowInsecureRepositories",
];

fn collect(host: &Host, _: &Parameters) -> Collected {
    if !any_exists(host, &["/usr/bin/apt-get", "/etc/apt"]) {
        return not_there("APT is not installed: there is no /etc/apt");
    }
    parse::collected(read(host))
}

fn read(files: &dyn Files) -> (Value, Vec<String>) {
    let mut reader = Reader::default();
    let mut paths: Vec<String> = match files.names(DIRECTORY) {
        Ok(names) => {
            let mut names: Vec<String> = names.into_iter().filter(|name| is_taken(name)).take(1000).collect();
            names.sort();
            names.into_iter().map(|name| format!("{DIRECTORY}/{name}")).collect()
        }
        Err(reason) if reason.absent => Vec::new(),
        Err(reason) => {
            reader.errors.unread(&reason);
            Vec::new()
        }
    };
    paths.push(FILE.to_owned());
    for path in paths {
        match files.text(&path) {
            Ok(text) => reader.file(&text, &path),
            Err(reason) if reason.absent => {}
            Err(reason) => reader.errors.unread(&reason),
        }
    }
    (Value::Object(reader.data), reader.errors.into_list())
}

fn is_taken(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    plain && !name.starts_with('.') && name.rsplit_once('.').is_none_or(|(_, extension)| extension == "conf")
}

#[derive(Default)]
struct Reader {
    errors: Errors,
    data: Map<String, Value>,
    /// Lower-case name → the name in `data`.
    spelled: BTreeMap<String, String>,
}

/// A piece of a file.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// A name or a value, without its quotes.
    Word(String),
    Open,
    Close,
    End,
    /// `#clear` or `#include`, up to the semicolon.
    Order(String),
}

impl Reader {
    fn file(&mut self, text: &str, path: &str) {
        // The names of the open braces, joined; empty for the outermost level.
        let mut scopes: Vec<String> = Vec::new();
        let mut words: Vec<String> = Vec::new();
        let mut scanner = Scanner { rest: text, line: 1 };
        loop {
            scanner.skip_blanks_and_comments();
            let line = scanner.line;
            let token = match scanner.next_token() {
                Ok(Some(token)) => token,
                Ok(None) => break,
                Err(what) => {
                    self.errors.at(path, line, what);
                    words.clear();
                    continue;
                }
            };
            let scope = scopes.last().cloned().unwrap_or_default();
            match token {
                // Names and values that are longer are cut anyway; here they would be copied again and again.
                Token::Word(word) if words.len() < 100 => {
                    words.push(shortened(&word, MAX_WORD_CHARS).into_owned());
                }
                Token::Word(_) => {}
                Token::Open => {
                    let name = words.first().cloned().unwrap_or_default();
                    words.clear();
                    if scopes.len() >= MAX_DEPTH {
                        self.errors.at(path, line, format_args!("braces are nested deeper than {MAX_DEPTH}"));
                        return;
                    }
                    scopes.push(shortened(&joined(&scope, &name), MAX_NAME_BYTES + 1).into_owned());
                }
                Token::Close | Token::End => {
                    self.setting(path, line, &scope, &std::mem::take(&mut words));
                    if token == Token::Close && scopes.pop().is_none() {
                        self.errors.at(path, line, "there is no brace to close");
                    }
                }
                Token::Order(order) => self.order(path, line, &scope, &order),
            }
        }
        if !words.is_empty() || !scopes.is_empty() {
            self.errors.at(path, scanner.line, "the file ends within a setting");
        }
    }

    fn setting(&mut self, path: &str, line: usize, scope: &str, words: &[String]) {
        match words {
            [] => {}
            // A value without a name is a member of the list around it.
            [value] if !scope.is_empty() => self.member(path, line, scope, value),
            [name] => self.errors.at(path, line, format_args!("{} has no value", quoted(name))),
            [name, value, ..] => match name.strip_suffix("::") {
                Some(list) => self.member(path, line, &joined(scope, list), value),
                None => {
                    let name = joined(scope, name);
                    self.put(path, line, &name, |_| value_of(&name, value));
                }
            },
        }
    }

    fn member(&mut self, path: &str, line: usize, list: &str, value: &str) {
        let value = Value::from(shortened(&mask_secrets(value), 4096));
        self.put(path, line, list, |before| match before {
            Some(Value::Array(mut members)) => {
                members.push(value);
                Value::Array(members)
            }
            _ => json!([value]),
        });
    }

    fn put(&mut self, path: &str, line: usize, name: &str, value: impl FnOnce(Option<Value>) -> Value) {
        let plain = name.bytes().all(|b| b.is_ascii_graphic() && !b"\"{};".contains(&b));
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !plain {
            self.errors.at(path, line, format_args!("{} is not the name of a setting", quoted(name)));
            return;
        }
        let lower = name.to_ascii_lowercase();
        if !self.spelled.contains_key(&lower) && self.data.len() >= MAX_SETTINGS {
            self.errors.at(
                path,
                line,
                format_args!("more than {MAX_SETTINGS} settings, the rest is left out"),
            );
            return;
        }
        let known =
            || SPELLINGS.iter().find(|known| known.eq_ignore_ascii_case(name)).copied().unwrap_or(name);
        let spelled = self.spelled.entry(lower).or_insert_with(|| known().to_owned()).clone();
        let before = self.data.get_mut(&spelled).map(Value::take);
        self.data.insert(spelled, value(before));
    }

    fn order(&mut self, path: &str, line: usize, scope: &str, order: &str) {
        let mut words = order.split_whitespace();
        match words.next() {
            Some("clear") => {
                for name in words.take(100) {
                    let lower = joined(scope, name).to_ascii_lowercase();
                    let below = format!("{lower}::");
                    let mut cleared: Vec<String> = self
                        .spelled
                        .range(below.clone()..)
                        .take_while(|(known, _)| known.starts_with(&below))
                        .map(|(known, _)| known.clone())
                        .collect();
                    cleared.push(lower);
                    for name in cleared {
                        if let Some(spelled) = self.spelled.remove(&name) {
                            self.data.remove(&spelled);
                        }
                    }
                }
            }
            _ => self.errors.at(path, line, format_args!("#{} is not followed", quoted(order))),
        }
    }
}

fn joined(scope: &str, name: &str) -> String {
    let name = name.trim_start_matches("::");
    match (scope.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (_, true) => scope.to_owned(),
        _ => format!("{scope}::{name}"),
    }
}

/// Cuts a text into tokens; comments are left out.
struct Scanner<'a> {
    rest: &'a str,
    /// Of the beginning of `rest`, from 1.
    line: usize,
}

impl Scanner<'_> {
    /// The next token, none at the end, or what is wrong; then the scanner stands behind the mistake.
    fn next_token(&mut self) -> Result<Option<Token>, &'static str> {
        self.skip_blanks_and_comments();
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        match first {
            '{' => Ok(Some(self.single(Token::Open))),
            '}' => Ok(Some(self.single(Token::Close))),
            ';' => Ok(Some(self.single(Token::End))),
            '#' => {
                let end = self.rest.find(['\n', ';']).unwrap_or(self.rest.len());
                let order = self.rest.get(1..end).unwrap_or_default().trim().to_owned();
                self.skip(end);
                if self.rest.starts_with(';') {
                    self.skip(1);
                }
                Ok(Some(Token::Order(order)))
            }
            '"' => match self.rest.get(1..).and_then(|rest| rest.find(['"', '\n'])) {
                Some(length) if self.rest.as_bytes().get(length + 1) == Some(&b'"') => {
                    let word = self.rest.get(1..=length).unwrap_or_default().to_owned();
                    self.skip(length + 2);
                    Ok(Some(Token::Word(word)))
                }
                _ => {
                    let end = self.rest.find('\n').unwrap_or(self.rest.len());
                    self.skip(end);
                    Err("a quote is not closed")
                }
            },
            _ => {
                let stops = |c: char| c.is_whitespace() || matches!(c, '{' | '}' | ';' | '"');
                let end = self.rest.find(stops).unwrap_or(self.rest.len());
                let word = self.rest.get(..end).unwrap_or_default().to_owned();
                self.skip(end);
                Ok(Some(Token::Word(word)))
            }
        }
    }

    fn single(&mut self, token: Token) -> Token {
        self.skip(1);
        token
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            let trimmed = self.rest.trim_start();
            self.skip(self.rest.len() - trimmed.len());
            if self.rest.starts_with("/*") {
                let end = self.rest.find("*/").map_or(self.rest.len(), |at| at + 2);
                self.skip(end);
            } else if self.rest.starts_with("//") || (self.rest.starts_with('#') && !self.is_order()) {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.skip(end);
            } else {
                return;
            }
        }
    }

    /// `#clear` and `#include` look like comments and are none.
    fn is_order(&self) -> bool {
        ["#clear", "#include", "#x-apt-configure-index"].iter().any(|order| {
            self.rest.strip_prefix(order).is_some_and(|rest| rest.starts_with(char::is_whitespace))
        })
    }

    fn skip(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.line += skipped.bytes().filter(|b| *b == b'\n').count();
        self.rest = rest;
    }
}

fn value_of(name: &str, value: &str) -> Value {
    if is_secret_name(name) {
        return Value::from("***");
    }
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "with" | "enable" => Value::Bool(true),
        "false" | "no" | "off" | "without" | "disable" => Value::Bool(false),
        _ => integer(value).map_or_else(|| Value::from(shortened(&mask_secrets(value), 4096)), Value::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{Tree, check_any_text, check_fixtures, collect as collect_from};

    #[test]
    fn enormous_names_and_many_orders_take_no_time_to_speak_of() {
        let start = std::time::Instant::now();
        let (data, errors) = parse(&format!("{} {{ {} }}", "a".repeat(4 << 20), "b c; ".repeat(40_000)));
        assert_eq!((data, errors.len()), (json!({}), 101));
        let settings: String = (0..5000).map(|n| format!("A::B{n} 1;\n")).collect();
        let (data, _) = parse(&format!("{settings}{}", "#clear C D E F G;\n".repeat(20_000)));
        assert_eq!(data["A::B4999"], 1);
        let (data, _) = parse("A::B 1; A::C 1; AA 2; #clear A::B;\n A::Bc 3; #clear AA::B;");
        assert_eq!(data, json!({"A::C": 1, "AA": 2, "A::Bc": 3}));
        let (data, _) = parse("A::B 1; a::C 1; AA 2; #clear A;\n");
        assert_eq!(data, json!({"AA": 2}));
        assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
    }

    fn parse(text: &str) -> (Value, Vec<String>) {
        read(&Tree::of(&[(FILE, text)]))
    }

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn nested_names_lists_and_comments() {
        let text = "// c\nAPT { Get { allowunauthenticated \"True\"; }; Never::X \"3\"; };\n/* a\nb */ # d\n\
                    unattended-upgrade::Origins { \"a;b\"; \"c\"; };\nUnattended-Upgrade::Origins:: \"d\";\n\
                    Dir::Etc /etc;\nA::Password \"geheim\";\nhttp::Proxy \"http://u:geheim@h\";\n";
        let (data, errors) = parse(text);
        assert_eq!(errors, [""; 0]);
        let expected = json!({"APT::Get::AllowUnauthenticated": true, "APT::Never::X": 3,
            "unattended-upgrade::Origins": ["a;b", "c", "d"], "Dir::Etc": "/etc", "A::Password": "***",
            "http::Proxy": "http://u:***@h"});
        assert_eq!(data, expected);
    }

    #[test]
    fn later_files_win_and_clear_takes_back() {
        let tree = Tree::of(&[
            ("/etc/apt/apt.conf.d/20b", "A::B \"2\";\nL:: \"x\";\nL::M \"1\";\n"),
            ("/etc/apt/apt.conf.d/10a.conf", "A::B \"1\";\nA::C \"1\";\n"),
            ("/etc/apt/apt.conf.d/30c.dpkg-old", "A::C \"2\";\n"),
            ("/etc/apt/apt.conf.d/.x", "A::C \"3\";\n"),
            (FILE, "a::b \"off\";\n#clear L;\nL { \"z\"; };\n"),
        ]);
        let (data, errors) = read(&tree);
        assert_eq!(errors, [""; 0]);
        assert_eq!(data, json!({"A::B": false, "A::C": 1, "L": ["z"]}));
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let (data, errors) = parse("A;\nB \"x\nC \"1\";\n};\n#include /x;\nD {\n");
        assert_eq!(data, json!({"C": 1}));
        let expected = [
            "/etc/apt/apt.conf line 1: 'A' has no value",
            "/etc/apt/apt.conf line 2: a quote is not closed",
            "/etc/apt/apt.conf line 4: there is no brace to close",
            "/etc/apt/apt.conf line 5: #'include /x' is not followed",
            "/etc/apt/apt.conf line 7: the file ends within a setting",
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn a_host_without_apt() {
        let absent = collect_from(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(absent.data["NODATA"].as_str().unwrap().starts_with("APT is not installed"));
        assert_eq!(collect_from(&DISCOVERY, &[("/etc/apt/sources.list", b"")]).data, json!({}));
    }

    #[test]
    fn any_text() {
        let tokens =
            &["APT", "::", "\n", "{", "}", ";", "\"", "x", " ", "//", "/*", "*/", "#clear ", "#", "ä"];
        check_any_text("/etc/apt", tokens, parse);
    }
}
