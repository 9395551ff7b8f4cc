//! What the files say that nft(8) loads at boot: tables, filter chains with a hook, and the rules about loopback.

use super::read;
use crate::parse::{self, Errors, Files, MAX_INCLUDED_FILES, is_plausible_key, quoted};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub const FILES: &[&str] = &["/etc/nftables.conf", "/etc/sysconfig/nftables.conf"];
const MAX_DEPTH: usize = 16;
const MAX_TABLES: usize = 500;
const MAX_CHAINS: usize = 5000;
/// Words of a statement that are kept: what matters stands at its beginning.
const MAX_WORDS: usize = 200;
/// What may stand before a block in braces; braces behind other words hold the members of a set.
const BLOCKS: &[&str] =
    &["table", "chain", "set", "map", "flowtable", "counter", "quota", "limit", "secmark", "synproxy", "ct"];

/// The section `nftables` of the document.
pub fn configured(files: &dyn Files, errors: &mut Errors) -> Value {
    let mut reader = Reader {
        files,
        errors,
        read: 0,
        tables: Vec::new(),
        chains: BTreeMap::new(),
        rules: Rules::default(),
    };
    for path in FILES {
        if let Some(text) = read(files, path, reader.errors) {
            reader.file(path, &text, 0);
            break;
        }
    }
    reader.document()
}

#[derive(Default)]
struct Chain {
    hook: Option<String>,
    policy: Option<String>,
    rules: Rules,
}

/// Which rules about loopback were seen.
#[derive(Default, Clone, Copy)]
struct Rules {
    accepts_loopback: bool,
    drops_v4: bool,
    drops_v6: bool,
}

struct Reader<'a> {
    files: &'a dyn Files,
    errors: &'a mut Errors,
    read: usize,
    tables: Vec<String>,
    /// By table and name.
    chains: BTreeMap<(String, String), Chain>,
    /// Of all chains with the hook input, in the end.
    rules: Rules,
}

impl Reader<'_> {
    fn file(&mut self, path: &str, text: &str, depth: usize) {
        self.read += 1;
        // The statements that opened the blocks we are in.
        let mut open: Vec<Vec<String>> = Vec::new();
        let mut statement: Vec<String> = Vec::new();
        let mut set_depth = 0_usize;
        for (number, line) in parse::joined_lines(text, path, self.errors, parse::cut_at_hash) {
            for word in words(&line) {
                match word {
                    "{" if set_depth > 0 || !opens_block(&statement) => {
                        set_depth += 1;
                    }
                    "{" => {
                        if open.len() >= MAX_DEPTH {
                            self.errors.at(
                                path,
                                number,
                                format_args!("blocks are nested deeper than {MAX_DEPTH}"),
                            );
                            return;
                        }
                        self.begin(&open, &statement);
                        open.push(std::mem::take(&mut statement));
                    }
                    "}" if set_depth > 0 => set_depth -= 1,
                    "}" => {
                        self.statement(path, number, depth, &open, &std::mem::take(&mut statement));
                        if open.pop().is_none() {
                            self.errors.at(path, number, "there is no brace to close");
                        }
                    }
                    ";" if set_depth == 0 => {
                        self.statement(path, number, depth, &open, &std::mem::take(&mut statement));
                    }
                    word if statement.len() < MAX_WORDS => statement.push(word.chars().take(200).collect()),
                    _ => {}
                }
            }
            if set_depth == 0 {
                self.statement(path, number, depth, &open, &std::mem::take(&mut statement));
            }
        }
        if !open.is_empty() || set_depth > 0 {
            self.errors.add(format!("{path}: the file ends within a block"));
        }
    }

    fn begin(&mut self, open: &[Vec<String>], statement: &[String]) {
        match without_add(statement).as_slice() {
            ["table", rest @ ..] => self.table(rest),
            ["chain", name] => {
                if let Some(table) = open.last().and_then(|outer| table_name(without_add(outer).get(1..)?)) {
                    self.chain(&table, name);
                }
            }
            ["chain", rest @ .., name] => {
                if let Some(table) = table_name(rest) {
                    self.chain(&table, name);
                }
            }
            _ => {}
        }
    }

    fn table(&mut self, words: &[&str]) {
        if let Some(name) = table_name(words)
            && !self.tables.contains(&name)
            && self.tables.len() < MAX_TABLES
        {
            self.tables.push(name);
        }
    }

    fn chain(&mut self, table: &str, name: &str) -> Option<&mut Chain> {
        let key = (table.to_owned(), name.to_owned());
        if self.chains.len() >= MAX_CHAINS && !self.chains.contains_key(&key) {
            return None;
        }
        Some(self.chains.entry(key).or_default())
    }

    fn statement(
        &mut self,
        path: &str,
        number: usize,
        depth: usize,
        open: &[Vec<String>],
        statement: &[String],
    ) {
        let words: Vec<&str> = statement.iter().map(String::as_str).collect();
        // The chain we are in: a block of its own, or a block of a table around it.
        let around: Option<(String, String)> =
            open.last().and_then(|block| match without_add(block).as_slice() {
                ["chain", name] => {
                    let table = open.len().checked_sub(2).and_then(|at| open.get(at))?;
                    Some((table_name(without_add(table).get(1..)?)?, (*name).to_owned()))
                }
                ["chain", rest @ .., name] => Some((table_name(rest)?, (*name).to_owned())),
                _ => None,
            });
        if let Some((table, name)) = around {
            if let Some(chain) = self.chain(&table, &name) {
                apply(chain, &words);
            }
            return;
        }
        match words.as_slice() {
            ["include", pattern, ..] => self.include(path, number, depth, pattern),
            ["add" | "create", "table", rest @ ..] | ["table", rest @ ..] => self.table(rest),
            ["add" | "insert", "rule", family, table, name, rule @ ..] if is_family(family) => {
                if let Some(chain) = self.chain(&format!("{family} {table}"), name) {
                    apply(chain, rule);
                }
            }
            ["flush", "ruleset"] => {
                self.tables.clear();
                self.chains.clear();
            }
            _ => {}
        }
    }

    fn include(&mut self, path: &str, number: usize, depth: usize, pattern: &str) {
        let pattern = pattern.trim_matches('"');
        let pattern = if pattern.starts_with('/') { pattern.to_owned() } else { format!("/etc/{pattern}") };
        let found = match parse::glob(self.files, &pattern) {
            Ok(found) => found,
            Err(reason) => {
                self.errors.at(
                    path,
                    number,
                    format_args!("cannot look for {}: {}", quoted(&pattern), reason.why),
                );
                return;
            }
        };
        for file in found {
            if depth >= MAX_DEPTH || self.read > MAX_INCLUDED_FILES {
                self.errors.at(
                    path,
                    number,
                    format_args!("{file} is left out: too many files include files"),
                );
                continue;
            }
            match self.files.text(&file) {
                Ok(text) => self.file(&file, &text, depth + 1),
                Err(reason) => self.errors.at(path, number, format_args!("cannot read {}", reason.why)),
            }
        }
    }

    fn document(mut self) -> Value {
        let mut data = Map::new();
        if !self.tables.is_empty() {
            data.insert("table".into(), json!(self.tables));
        }
        let mut policy: BTreeMap<&str, &str> = BTreeMap::new();
        for chain in self.chains.values() {
            let Some(hook) = chain.hook.as_deref() else { continue };
            let own = chain.policy.as_deref().unwrap_or("accept");
            let known = policy.entry(hook).or_insert(own);
            // A packet must get through all chains of a hook: one that drops is enough.
            if own == "drop" {
                *known = own;
            }
            if hook == "input" {
                self.rules.accepts_loopback |= chain.rules.accepts_loopback;
                self.rules.drops_v4 |= chain.rules.drops_v4;
                self.rules.drops_v6 |= chain.rules.drops_v6;
            }
        }
        if !policy.is_empty() {
            data.insert("base_chains".into(), policy.keys().copied().collect());
        }
        data.insert("policy".into(), json!(policy));
        let Rules { accepts_loopback, drops_v4, drops_v6 } = self.rules;
        let restricted = accepts_loopback && drops_v4 && drops_v6;
        data.insert("loopback".into(), Value::from(if restricted { "restricted" } else { "open" }));
        Value::Object(data)
    }
}

/// What one statement says about the chain it stands in.
fn apply(chain: &mut Chain, words: &[&str]) {
    match words {
        ["type", "filter", "hook", hook, ..] if is_plausible_key(hook) => {
            chain.hook = Some((*hook).to_owned())
        }
        ["policy", policy, ..] if is_plausible_key(policy) => chain.policy = Some((*policy).to_owned()),
        _ => {
            let drops = words.contains(&"drop") || words.contains(&"reject");
            let after = |name: &str| {
                words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)).copied()
            };
            let interface = after("iif").or(after("iifname")).map(|name| name.trim_matches('"'));
            let source = after("saddr");
            chain.rules.accepts_loopback |=
                interface == Some("lo") && words.contains(&"accept") && source.is_none();
            chain.rules.drops_v4 |= drops && source == Some("127.0.0.0/8");
            chain.rules.drops_v6 |= drops && matches!(source, Some("::1" | "::1/128"));
        }
    }
}

/// Words of a line; braces and semicolons are words of their own, a quoted text is one with its quotes.
fn words(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = line.trim();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '{' | '}' | ';' => 1,
            '"' => rest.get(1..).and_then(|inside| inside.find('"')).map_or(rest.len(), |at| at + 2),
            _ => rest
                .find(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | ';' | '"'))
                .unwrap_or(rest.len()),
        };
        let (word, further) = rest.split_at(end);
        found.push(word);
        rest = further.trim_start();
    }
    found
}

fn opens_block(statement: &[String]) -> bool {
    without_add(statement).first().is_some_and(|word| BLOCKS.contains(word)) && statement.len() <= 6
}

/// The words of a statement without `add` or `create`.
fn without_add(statement: &[String]) -> Vec<&str> {
    let added = matches!(statement.first().map(String::as_str), Some("add" | "create"));
    statement.iter().skip(usize::from(added)).map(String::as_str).collect()
}

/// `inet filter` from the words behind `table`; the family ip may be left out.
fn table_name(words: &[&str]) -> Option<String> {
    match words {
        [family, name, ..] if is_family(family) => Some(format!("{family} {name}")),
        [name] => Some(format!("ip {name}")),
        _ => None,
    }
}

fn is_family(word: &str) -> bool {
    matches!(word, "ip" | "ip6" | "inet" | "arp" | "bridge" | "netdev")
}
