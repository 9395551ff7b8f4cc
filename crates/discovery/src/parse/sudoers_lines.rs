//! The grammar of one logical line of sudoers(5): aliases, Defaults, rules and include directives.
//!
//! A line that is wrong somewhere gives what stands before that place, and a sentence.

use super::{mask_secrets, one_or_list, quoted};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

/// What one line says. Alias and Defaults lines can say several things.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Table (`UserAliases`, ...), name, members.
    Alias {
        table: &'static str,
        name: String,
        members: Vec<Value>,
    },
    /// Scopes (`ANY`, `user:X`, ...) and what is set for each of them.
    Defaults {
        scopes: Vec<String>,
        settings: Vec<Setting>,
    },
    /// The users and one entry for each command that they may run.
    Rule {
        users: Vec<String>,
        rulelist: Vec<Value>,
    },
    Include {
        path: String,
        directory: bool,
    },
}

/// One option of a Defaults line.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    pub name: String,
    pub value: Given,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    Flag(bool),
    Set(String),
    Add(String),
    Remove(String),
}

/// What a line says, and what is wrong with it.
pub fn parse_line(line: &str) -> (Vec<Item>, Option<String>) {
    let line = line.trim();
    let mut cursor = Cursor { rest: line, copies_left: MAX_COPIES };
    let mut items = Vec::new();
    let outcome = cursor.line(&mut items);
    let error = outcome.err().map(|what| {
        let place = match mask_secrets(line) {
            _ if cursor.rest.is_empty() => "the end of the line".into(),
            masked if masked == line => quoted(cursor.rest).to_string(),
            // What is left may begin in the middle of the secret.
            _ => "a place that is not shown, because a secret stands in the line".into(),
        };
        format!("{what} at {place}")
    });
    (items, error)
}

fn members_of_runas(runas: &Value) -> usize {
    ["users", "groups"].iter().filter_map(|list| runas[list].as_array()).map(Vec::len).sum()
}

type Outcome<T> = Result<T, &'static str>;

const ALIASES: &[(&str, &str, Member)] = &[
    ("User_Alias", "UserAliases", Member::User),
    ("Host_Alias", "HostAliases", Member::Host),
    ("Runas_Alias", "RunasAliases", Member::User),
    ("Cmnd_Alias", "CommandAliases", Member::Command),
    ("Cmd_Alias", "CommandAliases", Member::Command),
];
/// Tags come in pairs of which the later one wins.
const TAGS: &[(&str, &str)] = &[
    ("EXEC", "NOEXEC"),
    ("FOLLOW", "NOFOLLOW"),
    ("INTERCEPT", "NOINTERCEPT"),
    ("LOG_INPUT", "NOLOG_INPUT"),
    ("LOG_OUTPUT", "NOLOG_OUTPUT"),
    ("MAIL", "NOMAIL"),
    ("PASSWD", "NOPASSWD"),
    ("SETENV", "NOSETENV"),
];
/// Option in the file and field in an entry.
const OPTIONS: &[(&str, &str)] = &[
    ("ROLE", "SELinuxRole"),
    ("TYPE", "SELinuxType"),
    ("APPARMOR_PROFILE", "APPARMOR_PROFILE"),
    ("PRIVS", "PRIVS"),
    ("LIMITPRIVS", "LIMITPRIVS"),
    ("NOTBEFORE", "NOTBEFORE"),
    ("NOTAFTER", "NOTAFTER"),
    ("TIMEOUT", "TIMEOUT"),
    ("CWD", "CWD"),
    ("CHROOT", "CHROOT"),
];
const DIGESTS: &[&str] = &["sha224", "sha256", "sha384", "sha512"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    User,
    Host,
    Command,
}

/// What a command takes over from the one before it in the same list.
#[derive(Default)]
struct Inherited {
    runas: Option<Value>,
    tags: BTreeSet<&'static str>,
    options: BTreeMap<&'static str, String>,
}

struct Cursor<'a> {
    rest: &'a str,
    /// How many hosts and run-as users may still be repeated for a command.
    copies_left: usize,
}

/// Every command of a rule is told with its hosts and its run-as lists, every option of Defaults for each of its scopes:
/// a line with thousands of both would become gigabytes.
pub const MAX_COPIES: usize = 20_000;

impl<'a> Cursor<'a> {
    fn line(&mut self, items: &mut Vec<Item>) -> Outcome<()> {
        if let Some((directory, rest)) = include_directive(self.rest) {
            self.rest = rest;
            self.blanks();
            let path = self.text(&[])?;
            items.push(Item::Include { path, directory });
            return self.end();
        }
        if let Some(rest) = self.rest.strip_prefix("Defaults")
            && rest.starts_with([' ', '\t', ':', '@', '>', '!'])
        {
            self.rest = rest;
            return self.defaults(items);
        }
        let word = self.rest.split(char::is_whitespace).next().unwrap_or_default();
        if let Some((_, table, member)) = ALIASES.iter().find(|(name, _, _)| *name == word) {
            self.rest = &self.rest[word.len()..];
            return self.aliases(table, *member, items);
        }
        self.rule(items)
    }

    fn aliases(&mut self, table: &'static str, member: Member, items: &mut Vec<Item>) -> Outcome<()> {
        loop {
            self.blanks();
            let name = self.identifier();
            if !is_alias(name) {
                return Err("the name of an alias is missing (capitals, digits and _)");
            }
            self.rest = &self.rest[name.len()..];
            self.expect('=', "'=' is missing after the name of an alias")?;
            let mut members = Vec::new();
            let outcome = match member {
                Member::Command => self.alias_commands(&mut members),
                _ => self.members(member).map(|list| members = list.into_iter().map(Value::from).collect()),
            };
            if outcome.is_ok() || !members.is_empty() {
                items.push(Item::Alias { table, name: name.to_owned(), members });
            }
            outcome?;
            self.blanks();
            if !self.eat(':') {
                return self.end();
            }
        }
    }

    fn alias_commands(&mut self, members: &mut Vec<Value>) -> Outcome<()> {
        loop {
            let (sums, command) = self.command()?;
            members.push(if sums.is_empty() {
                Value::from(command)
            } else {
                json!({ "sum": one_or_list(sums), "file": command })
            });
            self.blanks();
            if !self.eat(',') {
                return Ok(());
            }
        }
    }

    fn defaults(&mut self, items: &mut Vec<Item>) -> Outcome<()> {
        let scope = self.rest.chars().next().filter(|c| ":@>!".contains(*c));
        let scopes = match scope {
            None => vec!["ANY".to_owned()],
            Some(sigil) => {
                self.rest = &self.rest[1..];
                let (prefix, member) = match sigil {
                    ':' => ("user", Member::User),
                    '@' => ("system", Member::Host),
                    '>' => ("runas", Member::User),
                    _ => ("command", Member::Command),
                };
                self.members(member)?.into_iter().map(|name| format!("{prefix}:{name}")).collect()
            }
        };
        let mut settings = Vec::new();
        let outcome = self.settings(&mut settings);
        if scopes.len().saturating_mul(settings.len()) > MAX_COPIES {
            return Err("too many scopes for so many options");
        }
        if !settings.is_empty() {
            items.push(Item::Defaults { scopes, settings });
        }
        outcome
    }

    fn settings(&mut self, settings: &mut Vec<Setting>) -> Outcome<()> {
        loop {
            self.blanks();
            let mut on = true;
            while self.eat('!') {
                on = !on;
                self.blanks();
            }
            let name = self.identifier();
            if name.is_empty() {
                return Err("the name of an option is missing");
            }
            self.rest = &self.rest[name.len()..];
            self.blanks();
            let operator = ["+=", "-=", "="].into_iter().find(|operator| self.rest.starts_with(operator));
            let value = match operator {
                None => Given::Flag(on),
                Some(_) if !on => return Err("an option with '!' takes no value"),
                Some(operator) => {
                    self.rest = &self.rest[operator.len()..];
                    self.blanks();
                    let text = self.text(&[','])?;
                    match operator {
                        "+=" => Given::Add(text),
                        "-=" => Given::Remove(text),
                        _ => Given::Set(text),
                    }
                }
            };
            settings.push(Setting { name: name.to_owned(), value });
            self.blanks();
            if !self.eat(',') {
                return self.end();
            }
        }
    }

    fn rule(&mut self, items: &mut Vec<Item>) -> Outcome<()> {
        let users = self.members(Member::User)?;
        let mut rulelist = Vec::new();
        let outcome = self.rule_hosts(&mut rulelist);
        if !rulelist.is_empty() {
            items.push(Item::Rule { users, rulelist });
        }
        outcome
    }

    fn rule_hosts(&mut self, rulelist: &mut Vec<Value>) -> Outcome<()> {
        loop {
            let hosts = self.members(Member::Host)?;
            self.expect('=', "'=' is missing after the hosts")?;
            self.rule_commands(&hosts, rulelist)?;
            self.blanks();
            if !self.eat(':') {
                return self.end();
            }
        }
    }

    fn rule_commands(&mut self, hosts: &[String], rulelist: &mut Vec<Value>) -> Outcome<()> {
        let mut inherited = Inherited::default();
        loop {
            self.prefixes(&mut inherited)?;
            let (sums, command) = self.command()?;
            let copies = hosts.len() + inherited.runas.as_ref().map_or(0, members_of_runas);
            self.copies_left = self
                .copies_left
                .checked_sub(copies)
                .ok_or("too many hosts and run-as users for so many commands, use aliases")?;
            let mut entry = Map::new();
            entry.insert("hosts".into(), Value::from(hosts));
            if let Some(runas) = &inherited.runas {
                entry.insert("runas".into(), runas.clone());
            }
            entry.extend(inherited.tags.iter().map(|tag| (format!("TAG_{tag}"), Value::Bool(true))));
            entry.extend(
                inherited
                    .options
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))),
            );
            if !sums.is_empty() {
                entry.insert("sum".into(), one_or_list(sums));
            }
            entry.insert("command".into(), Value::from(command));
            rulelist.push(Value::Object(entry));
            self.blanks();
            if !self.eat(',') {
                return Ok(());
            }
        }
    }

    /// Run-as lists, options and tags before a command, in any order.
    fn prefixes(&mut self, inherited: &mut Inherited) -> Outcome<()> {
        loop {
            self.blanks();
            if self.eat('(') {
                inherited.runas = Some(self.runas()?);
                continue;
            }
            let name = self.identifier();
            let after = self.rest[name.len()..].trim_start();
            if let Some((positive, negative)) = TAGS.iter().find(|(a, b)| *a == name || *b == name)
                && let Some(after) = after.strip_prefix(':')
            {
                inherited.tags.retain(|tag| tag != positive && tag != negative);
                inherited.tags.insert(if *positive == name { positive } else { negative });
                self.rest = after;
            } else if let Some((_, field)) = OPTIONS.iter().find(|(option, _)| *option == name)
                && let Some(after) = after.strip_prefix('=')
            {
                self.rest = after;
                self.blanks();
                inherited.options.insert(field, self.text(&[','])?);
            } else {
                return Ok(());
            }
        }
    }

    /// The inside of `(users:groups)`, up to and with the closing parenthesis.
    fn runas(&mut self) -> Outcome<Value> {
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        self.blanks();
        if !self.rest.starts_with([':', ')']) {
            users = self.members(Member::User)?;
            self.blanks();
        }
        if self.eat(':') {
            self.blanks();
            if !self.rest.starts_with(')') {
                groups = self.members(Member::User)?;
            }
        }
        self.expect(')', "')' is missing after the run-as users and groups")?;
        Ok(json!({ "users": users, "groups": groups }))
    }

    fn members(&mut self, member: Member) -> Outcome<Vec<String>> {
        let mut found = Vec::new();
        loop {
            found.push(self.member(member)?);
            self.blanks();
            if !self.eat(',') {
                return Ok(found);
            }
        }
    }

    fn member(&mut self, member: Member) -> Outcome<String> {
        let mut name = self.negations();
        match member {
            Member::User => {
                // Group, group by id, and group of another name service; net group; user by id.
                for prefix in ["%:", "%#", "%", "+", "#"] {
                    if let Some(rest) = self.rest.strip_prefix(prefix) {
                        name.push_str(prefix);
                        self.rest = rest;
                        break;
                    }
                }
            }
            Member::Host => {
                if let Some(address) = self.ipv6() {
                    name.push_str(address);
                    return Ok(name);
                }
            }
            Member::Command => {
                name.push_str(&self.text(&[',', ':', '='])?);
                return Ok(name);
            }
        }
        name.push_str(&self.text(&[',', ':', '=', '(', ')', '!'])?);
        Ok(name)
    }

    /// An IPv6 address, with its net mask: the only member with colons.
    fn ipv6(&mut self) -> Option<&'a str> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_hexdigit() || ":./".contains(c)))
            .unwrap_or(self.rest.len());
        // No address with a mask is longer.
        let word = self.rest.get(..end).filter(|word| word.len() <= 90)?;
        word.split('/').next()?.parse::<Ipv6Addr>().ok()?;
        self.rest = &self.rest[end..];
        Some(word)
    }

    /// Digests and a command with its arguments.
    fn command(&mut self) -> Outcome<(Vec<Value>, String)> {
        let mut sums = Vec::new();
        loop {
            self.blanks();
            let kind = self.identifier();
            let Some(rest) =
                self.rest[kind.len()..].trim_start().strip_prefix(':').filter(|_| DIGESTS.contains(&kind))
            else {
                break;
            };
            self.rest = rest.trim_start();
            let end = self
                .rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c)))
                .unwrap_or(self.rest.len());
            if end == 0 {
                return Err("the digest is missing");
            }
            sums.push(Value::from(format!("{kind}:{}", &self.rest[..end])));
            self.rest = &self.rest[end..];
            self.blanks();
            self.eat(',');
        }
        let mut command = self.negations();
        let name = self.identifier();
        if is_alias(name) {
            self.rest = &self.rest[name.len()..];
            command.push_str(name);
            return Ok((sums, command));
        }
        let known = ["/", "^", "~", "sudoedit", "list"].iter().any(|start| self.rest.starts_with(start));
        if !known {
            return Err("a command must be ALL, an alias, sudoedit, or begin with '/'");
        }
        let path = match self.rest.strip_prefix('^') {
            Some(_) => self.regular_expression(),
            None => self.command_text(&[' ', '\t', ',', ':', '=']),
        };
        command.push_str(&path);
        self.blanks();
        let arguments = match self.rest.strip_prefix('^') {
            Some(_) => self.regular_expression(),
            None => self.command_text(&[',', ':']),
        };
        if !arguments.is_empty() {
            command.push(' ');
            command.push_str(arguments.trim_end());
        }
        Ok((sums, mask_secrets(&command).into_owned()))
    }

    /// `^...$`, in which commas and colons need no backslash; without the `$`, the rest of the line.
    fn regular_expression(&mut self) -> String {
        let bytes = self.rest.as_bytes();
        let end = self
            .rest
            .match_indices('$')
            .map(|(at, _)| at + 1)
            .find(|end| matches!(bytes.get(*end), None | Some(b' ' | b'\t' | b',' | b':')));
        let (expression, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        expression.to_owned()
    }

    /// A command or its arguments, up to an unescaped stop. A backslash before one of `,:=#` goes away; before a
    /// blank or anything else it stays, since there it tells an argument's own blank and wildcards apart.
    fn command_text(&mut self, stops: &[char]) -> String {
        let mut found = String::new();
        let mut characters = self.rest.char_indices();
        while let Some((at, c)) = characters.next() {
            if c == '\\' {
                match characters.next() {
                    Some((_, escaped @ (',' | ':' | '=' | '#'))) => found.push(escaped),
                    Some((_, other)) => found.extend(['\\', other]),
                    None => found.push('\\'),
                }
            } else if stops.contains(&c) {
                self.rest = &self.rest[at..];
                return found;
            } else {
                found.push(c);
            }
        }
        self.rest = "";
        found
    }

    /// A quoted text, or one up to a blank or an unescaped stop. `\x20` and `\ ` are blanks. Never empty unless
    /// quoted.
    fn text(&mut self, stops: &[char]) -> Outcome<String> {
        let is_quoted = self.rest.starts_with('"');
        let mut found = String::new();
        let mut characters = self.rest[usize::from(is_quoted)..].char_indices();
        let base = usize::from(is_quoted);
        while let Some((at, c)) = characters.next() {
            let at = base + at;
            if c == '\\' {
                let hexadecimal =
                    self.rest.get(at + 2..at + 4).filter(|_| self.rest[at + 1..].starts_with('x'));
                match hexadecimal.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(u8::is_ascii)
                {
                    Some(byte) => {
                        found.push(char::from(byte));
                        characters.nth(2);
                    }
                    None => found.extend(characters.next().map(|(_, escaped)| escaped)),
                }
            } else if is_quoted && c == '"' {
                self.rest = &self.rest[at + 1..];
                return Ok(found);
            } else if !is_quoted && (c.is_whitespace() || stops.contains(&c)) {
                self.rest = &self.rest[at..];
                return if found.is_empty() { Err("a name or value is missing") } else { Ok(found) };
            } else {
                found.push(c);
            }
        }
        if is_quoted {
            return Err("a quote is not closed");
        }
        self.rest = "";
        if found.is_empty() { Err("a name or value is missing") } else { Ok(found) }
    }

    fn negations(&mut self) -> String {
        let mut found = String::new();
        self.blanks();
        while self.eat('!') {
            found.push('!');
            self.blanks();
        }
        found
    }

    /// The letters, digits and underscores that come next; not consumed.
    fn identifier(&self) -> &'a str {
        let end =
            self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        &self.rest[..end]
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, c: char) -> bool {
        self.rest.strip_prefix(c).map(|rest| self.rest = rest).is_some()
    }

    fn expect(&mut self, c: char, otherwise: &'static str) -> Outcome<()> {
        self.blanks();
        if self.eat(c) { Ok(()) } else { Err(otherwise) }
    }

    fn end(&mut self) -> Outcome<()> {
        self.blanks();
        if self.rest.is_empty() { Ok(()) } else { Err("the line is not understood") }
    }
}

/// `#include`, `@include`, `#includedir`, `@includedir`: whether it is of a directory, and what follows.
pub fn include_directive(line: &str) -> Option<(bool, &str)> {
    let rest = line.strip_prefix(['#', '@'])?.strip_prefix("include")?;
    let (directory, rest) = rest.strip_prefix("dir").map_or((false, rest), |rest| (true, rest));
    rest.starts_with([' ', '\t', '"']).then_some((directory, rest))
}

fn is_alias(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}
