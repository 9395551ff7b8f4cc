//! Rules of the audit subsystem as auditctl(8) reads them.

use crate::parse::{self, Errors, integer, quoted};
use std::collections::BTreeSet;

/// More rules than these are left out: the kernel would be busy with nothing else.
pub const MAX_RULES: usize = 4096;
const MAX_CONDITIONS: usize = 64;
const MAX_NAMES: usize = 512;

/// Bits of permissions as `-p` writes them.
pub const PERMISSIONS: [(char, u8); 4] = [('a', 8), ('r', 4), ('w', 2), ('x', 1)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    Exit,
    Task,
    User,
    Exclude,
    Filesystem,
    IoUring,
}

/// For which of the machine's two system call interfaces a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abi {
    B32,
    B64,
    /// One that this machine does not have.
    Foreign,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Syscalls {
    All,
    Named(BTreeSet<String>),
}

/// Which files a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `-w`: a file, or a directory with everything below.
    Watch(String),
    /// `path=`
    File(String),
    /// `dir=`
    Below(String),
}

impl Place {
    pub fn path(&self) -> &str {
        let (Place::Watch(path) | Place::File(path) | Place::Below(path)) = self;
        path
    }
}

/// `-F field operator value`; with `-C` the value is a field too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub field: String,
    pub operator: &'static str,
    pub value: String,
    pub compares_fields: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub list: List,
    /// `always`, as opposed to `never`.
    pub records: bool,
    /// `None`: no `arch=`.
    pub abi: Option<Abi>,
    pub syscalls: Syscalls,
    pub place: Option<Place>,
    /// `None`: no `perm=`.
    pub permissions: Option<u8>,
    pub conditions: Vec<Condition>,
    pub keys: Vec<String>,
}

impl Rule {
    pub fn new(list: List, records: bool) -> Rule {
        Rule {
            list,
            records,
            abi: None,
            syscalls: Syscalls::All,
            place: None,
            permissions: None,
            conditions: Vec::new(),
            keys: Vec::new(),
        }
    }
}

/// What the lines set besides rules. `None`: no line says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Controls {
    pub enabled: Option<i64>,
    pub failure: Option<i64>,
    pub backlog_limit: Option<i64>,
    pub rate_limit: Option<i64>,
    pub backlog_wait_time: Option<i64>,
    pub is_loginuid_immutable: bool,
    /// `-c` or `-i`: a line that cannot be loaded does not stop the rest.
    pub goes_on_after_errors: bool,
}

/// What auditctl makes of the lines, in the order in which the kernel tries the rules.
#[derive(Debug, Default)]
pub struct Loaded {
    pub rules: Vec<Rule>,
    pub controls: Controls,
    is_full: bool,
}

impl Loaded {
    /// One line; empty ones and comments do nothing. The error is a sentence without file and line.
    pub fn take(&mut self, line: &str) -> Result<(), String> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().take(4 * MAX_NAMES).collect();
        match words.as_slice() {
            ["-D"] => {
                self.rules.clear();
                return Ok(());
            }
            ["-D", "-k", key] => {
                self.rules.retain(|rule| !rule.keys.iter().any(|k| k == key));
                return Ok(());
            }
            ["-c" | "-i"] => self.controls.goes_on_after_errors = true,
            ["--loginuid-immutable"] => self.controls.is_loginuid_immutable = true,
            ["--reset-lost" | "--reset_backlog_wait_time_actual" | "-s" | "-l" | "-v"] => {}
            ["-e" | "-f" | "-b" | "-r" | "--backlog_wait_time", value] => {
                self.set(words[0], value)?;
            }
            [one] if one.starts_with("--backlog_wait_time=") => {
                self.set("--backlog_wait_time", &one["--backlog_wait_time=".len()..])?;
            }
            // getopt(3) takes `-b8192` as well.
            [one] if one.len() > 2 && ["-e", "-f", "-b", "-r"].contains(&one.get(..2).unwrap_or_default()) => {
                self.set(&one[..2], &one[2..])?;
            }
            [first, ..] if ["-a", "-A", "-w", "-F", "-S", "-k", "-p", "-C"].contains(first) => {
                if self.controls.enabled == Some(2) {
                    return Err("comes after -e 2, so the kernel no longer takes it: put -e 2 at the end".into());
                }
                let (rule, first) = rule_of(&words)?;
                if self.rules.len() >= MAX_RULES {
                    let told = std::mem::replace(&mut self.is_full, true);
                    let sentence = format!("more than {MAX_RULES} rules, the rest is left out");
                    return if told { Ok(()) } else { Err(sentence) };
                }
                let position = if first { 0 } else { self.rules.len() };
                self.rules.insert(position, rule);
            }
            _ => return Err(format!("{} is no option that may stand in a file of rules", quoted(line))),
        }
        Ok(())
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), String> {
        let number = integer(value)
            .filter(|number| *number >= 0)
            .ok_or_else(|| format!("{} of {option} is not a number", quoted(value)))?;
        let controls = &mut self.controls;
        let slot = match option {
            "-e" => &mut controls.enabled,
            "-f" => &mut controls.failure,
            "-b" => &mut controls.backlog_limit,
            "-r" => &mut controls.rate_limit,
            _ => &mut controls.backlog_wait_time,
        };
        *slot = Some(number);
        Ok(())
    }
}

/// The lines of several files as augenrules(8) puts them into one: a lone `-D`, then `-b` and `-f`, the rest as
/// it comes, `-e` at the end; of each of these the last one counts. Each with its file and line number.
pub fn compiled<'a>(files: &'a [(String, String)], errors: &mut Errors) -> Vec<(&'a str, usize, &'a str)> {
    let mut moved: [Option<(&str, usize, &str)>; 4] = [None; 4];
    let mut rest = Vec::new();
    for (file, text) in files {
        for (number, line) in parse::lines(text, file, errors) {
            let content = line.trim();
            if content.starts_with('#') {
                continue;
            }
            let slot = match content.as_bytes() {
                [b'-', b'e', ..] => Some(3),
                [b'-', b'D'] => Some(0),
                [b'-', b'f', ..] => Some(2),
                [b'-', b'b', ..] => Some(1),
                _ => None,
            };
            match slot {
                Some(slot) => moved[slot] = Some((file.as_str(), number, line)),
                None => rest.push((file.as_str(), number, line)),
            }
        }
    }
    let [delete, backlog, failure, enabled] = moved;
    [delete, backlog, failure].into_iter().flatten().chain(rest).chain(enabled).collect()
}

/// A rule, and whether it goes to the front of its list (`-A`).
fn rule_of(words: &[&str]) -> Result<(Rule, bool), String> {
    let mut list_and_action = None;
    let mut goes_first = false;
    let mut watch = None;
    let mut syscalls: Option<BTreeSet<String>> = None;
    let mut has_all = false;
    let mut rule = Rule::new(List::Exit, true);
    let mut rest = words.iter();
    while let Some(&word) = rest.next() {
        let (option, attached) = match word.char_indices().nth(2) {
            Some((at, _)) if !word.starts_with("--") => word.split_at(at),
            _ => (word, ""),
        };
        let mut value = || match attached {
            "" => rest.next().copied().ok_or_else(|| format!("{option} lacks its value")),
            attached => Ok(attached),
        };
        match option {
            "-a" | "-A" => {
                list_and_action = Some(list_of(value()?)?);
                goes_first = option == "-A";
            }
            "-w" => watch = Some(value()?),
            "-p" => rule.permissions = Some(permissions_of(value()?)?),
            "-k" => rule.keys.extend(keys_of(value()?)),
            "-S" => {
                for name in value()?.split(',').filter(|name| !name.is_empty()) {
                    has_all |= name == "all";
                    let names = syscalls.get_or_insert_default();
                    if names.len() < MAX_NAMES {
                        names.insert(name.chars().take(64).collect());
                    }
                }
            }
            "-F" => condition(&mut rule, value()?)?,
            "-C" => comparison(&mut rule, value()?)?,
            _ => return Err(format!("{} is not understood", quoted(word))),
        }
    }
    match (watch, list_and_action) {
        (Some(path), None) => {
            if !path.starts_with('/') {
                return Err(format!("{} is not an absolute path", quoted(path)));
            }
            rule.place = Some(Place::Watch(path.to_owned()));
            // Without -p a watch is for everything.
            rule.permissions = rule.permissions.or(Some(15));
        }
        (None, Some((list, records))) => (rule.list, rule.records) = (list, records),
        (Some(_), Some(_)) => return Err("has both -w and -a".into()),
        (None, None) => return Err("has neither -a nor -w".into()),
    }
    if let Some(names) = syscalls.filter(|_| !has_all) {
        rule.syscalls = Syscalls::Named(names);
    }
    Ok((rule, goes_first))
}

/// `always,exit` in either order; several names of lists are not allowed.
fn list_of(text: &str) -> Result<(List, bool), String> {
    let (mut list, mut records) = (None, None);
    for word in text.split(',') {
        match word {
            "exit" => list = Some(List::Exit),
            "task" => list = Some(List::Task),
            "user" => list = Some(List::User),
            "exclude" => list = Some(List::Exclude),
            "filesystem" => list = Some(List::Filesystem),
            "io_uring" => list = Some(List::IoUring),
            "always" => records = Some(true),
            "never" => records = Some(false),
            "entry" | "possible" => {
                return Err(format!("'{word}' is no longer taken by auditctl: use always,exit"));
            }
            other => return Err(format!("{} is neither a list nor an action", quoted(other))),
        }
    }
    list.zip(records).ok_or_else(|| format!("{} lacks the list or the action", quoted(text)))
}

fn permissions_of(text: &str) -> Result<u8, String> {
    let bit = |c: char| PERMISSIONS.iter().find(|(name, _)| *name == c).map(|(_, bit)| *bit);
    let bits: Option<u8> = text.chars().map(bit).try_fold(0, |all, bit| Some(all | bit?));
    bits.filter(|bits| *bits != 0).ok_or_else(|| format!("{} are not permissions out of r, w, x, a", quoted(text)))
}

fn keys_of(text: &str) -> impl Iterator<Item = String> {
    text.split(['\u{1}']).filter(|key| !key.is_empty()).take(4).map(|key| key.chars().take(64).collect())
}

const OPERATORS: [&str; 8] = ["!=", ">=", "<=", "&=", "=", ">", "<", "&"];

/// Field, operator, value.
fn split(text: &str) -> Result<(&str, &'static str, &str), String> {
    let bad = || format!("{} is not a field, an operator and a value", quoted(text));
    let at = text.find(['!', '>', '<', '=', '&']).ok_or_else(bad)?;
    let (field, rest) = text.split_at(at);
    let operator = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)).ok_or_else(bad)?;
    let value = &rest[operator.len()..];
    if field.is_empty() || value.is_empty() { Err(bad()) } else { Ok((field, operator, value)) }
}

fn condition(rule: &mut Rule, text: &str) -> Result<(), String> {
    let (field, operator, value) = split(text)?;
    match (field, operator) {
        ("arch", "=" | "!=") => {
            let abi = abi_of(value);
            rule.abi = Some(match (operator, abi) {
                ("!=", Abi::B32) => Abi::B64,
                ("!=", Abi::B64) => Abi::B32,
                (_, abi) => abi,
            });
        }
        ("path", "=") => rule.place = Some(Place::File(value.to_owned())),
        ("dir", "=") => rule.place = Some(Place::Below(value.to_owned())),
        ("perm", "=") => rule.permissions = Some(permissions_of(value)?),
        ("key", "=") => rule.keys.extend(keys_of(value)),
        ("path" | "dir" | "perm" | "key" | "arch", _) => return Err(format!("{field} can only be given with =")),
        _ if rule.conditions.len() >= MAX_CONDITIONS => return Err("has more conditions than the kernel takes".into()),
        _ => rule.conditions.push(Condition {
            field: field.to_ascii_lowercase(),
            operator,
            value: value.to_owned(),
            compares_fields: false,
        }),
    }
    Ok(())
}

fn comparison(rule: &mut Rule, text: &str) -> Result<(), String> {
    let (left, operator, right) = split(text)?;
    if !["=", "!="].contains(&operator) || rule.conditions.len() >= MAX_CONDITIONS {
        return Err(format!("{} is not a comparison of two fields with = or !=", quoted(text)));
    }
    rule.conditions.push(Condition {
        field: left.to_ascii_lowercase(),
        operator,
        value: right.to_ascii_lowercase(),
        compares_fields: true,
    });
    Ok(())
}

/// `b32` and `b64`, or what uname(2) calls the machines.
fn abi_of(name: &str) -> Abi {
    match name {
        "b64" | "x86_64" | "aarch64" | "s390x" | "ppc64" | "ppc64le" | "riscv64" => Abi::B64,
        "b32" | "i386" | "i486" | "i586" | "i686" | "arm" | "armeb" | "armv5tejl" | "armv7l" | "s390" | "ppc" => {
            Abi::B32
        }
        _ => Abi::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(line: &str) -> Rule {
        let mut loaded = Loaded::default();
        loaded.take(line).unwrap();
        loaded.rules.remove(0)
    }

    #[test]
    fn equivalent_spellings_are_one_rule() {
        let expected = rule("-a always,exit -F arch=b64 -S chmod,fchmod -F auid>=1000 -F key=k");
        for same in [
            "-a exit,always -F arch=b64 -S chmod -S fchmod -F auid>=1000 -k k",
            "  -A always,exit\t-F arch=x86_64 -Schmod,fchmod  -F auid>=1000  -kk",
            "-k k -F arch!=b32 -S fchmod,chmod, -F AUID>=1000 -a always,exit",
        ] {
            assert_eq!(rule(same), expected, "{same}");
        }
        assert_ne!(rule("-a always,exit -F arch=b64 -S chmod -F auid>=1000 -k k"), expected);
        let watch = rule("-w /etc/passwd -p wa -k id");
        assert_eq!(watch.place, Some(Place::Watch("/etc/passwd".into())));
        assert_eq!((watch.permissions, watch.syscalls), (Some(10), Syscalls::All));
        assert_eq!(rule("-w /etc").permissions, Some(15));
        assert_eq!(rule("-a always,exit -S all -S open -F path=/x -F perm=x").syscalls, Syscalls::All);
        let compared = rule("-a always,exit -S execve -C uid!=EUID -F euid=0");
        assert!(compared.conditions[0].compares_fields && compared.conditions[0].value == "euid");
        assert_eq!(compared.conditions[1].operator, "=");
    }

    #[test]
    fn the_order_is_that_of_the_kernel_and_deletions_count() {
        let mut loaded = Loaded::default();
        for line in ["-w /gone", "-D", "-w /b -k b", "-A never,exit -S all", "-w /c -k c", "-D -k b", "-e 2"] {
            loaded.take(line).unwrap();
        }
        assert_eq!(loaded.rules.len(), 2);
        assert!(!loaded.rules[0].records && loaded.rules[1].keys == ["c"]);
        let late = loaded.take("-w /d").unwrap_err();
        assert!(late.contains("after -e 2"), "{late}");
    }

    #[test]
    fn settings() {
        let mut loaded = Loaded::default();
        for line in ["-b 8192", "-f2", "-r 0", "--backlog_wait_time 60000", "--loginuid-immutable", "-i", "# -e 0"] {
            loaded.take(line).unwrap();
        }
        let expected = Controls {
            enabled: None,
            failure: Some(2),
            backlog_limit: Some(8192),
            rate_limit: Some(0),
            backlog_wait_time: Some(60_000),
            is_loginuid_immutable: true,
            goes_on_after_errors: true,
        };
        assert_eq!(loaded.controls, expected);
        loaded.take("--backlog_wait_time=5").unwrap();
        assert_eq!(loaded.controls.backlog_wait_time, Some(5));
    }

    #[test]
    fn augenrules_moves_some_lines() {
        let files = [
            ("a".to_owned(), "-e 1\n-f 1\n-w /a\n-D\n".to_owned()),
            ("b".to_owned(), "# x\n-b 5\n -f 2\n-w /b\n-e 2\n-D -k x\n".to_owned()),
        ];
        let mut errors = Errors::default();
        let lines = compiled(&files, &mut errors);
        let found: Vec<String> = lines.iter().map(|(file, n, text)| format!("{file}{n} {}", text.trim())).collect();
        assert_eq!(found, ["a4 -D", "b2 -b 5", "b3 -f 2", "a3 -w /a", "b4 -w /b", "b6 -D -k x", "b5 -e 2"]);
    }

    #[test]
    fn what_auditctl_refuses_is_told() {
        for (line, part) in [
            ("-a entry,always -S open", "'entry' is no longer"),
            ("-a always -S open", "lacks the list or the action"),
            ("-a sometimes,exit", "neither a list nor an action"),
            ("-w etc/passwd", "not an absolute path"),
            ("-w /etc/passwd -p q", "not permissions"),
            ("-w /x -a always,exit", "both -w and -a"),
            ("-S open", "neither -a nor -w"),
            ("-a always,exit -F auid1000", "not a field"),
            ("-a always,exit -F perm!=x", "only be given with ="),
            ("-a always,exit -S", "-S lacks its value"),
            ("-a always,exit -C uid>euid", "not a comparison"),
            ("-e two", "'two' of -e is not a number"),
            ("hello", "no option"),
        ] {
            let error = Loaded::default().take(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
