//! Who may run what as whom: `/etc/sudoers` and all that it includes, see sudoers(5).
//!
//! `data` has always these keys:
//!
//! - `UserAliases`, `HostAliases`, `RunasAliases`, `CommandAliases`: name → members. A command with a digest is
//!   `{"sum": "sha224:...", "file": "/path"}`.
//! - `Defaults`: scope → options. Scopes are `ANY`, `user:X`, `system:X` (`Defaults@X`), `runas:X` (`Defaults>X`) and
//!   `command:X` (`Defaults!X`). An option is true, false (`!option`), a number (octal after a leading 0, delivered
//!   in decimal) or a text; `secure_path` and other `*_path` are lists; `env_keep`, `env_check` and `env_delete` are
//!   variable → true, or false for one taken off the built-in list by `-=`.
//! - `rules`: list of `{"users": [...], "rulelist": [...]}` in order. An entry of `rulelist` is one command:
//!   `hosts`, `runas` (`users` and `groups`), `TAG_<NAME>` true, `SELinuxRole`, `SELinuxType` and the other options
//!   under their own name (`TIMEOUT`, `CWD`, `NOTBEFORE`, ...), `sum`, and `command` with its arguments. What sudo hands
//!   on along a list of commands (run-as, tags, options) is repeated in each entry. `!` stays in front of names.
//!
//! Further, when there are any: `include` and `includedir`, the paths as they stand in the directives; one is a text,
//! several are a list. In a directory, files with a dot in the name or a `~` at its end are skipped, as sudo does.
//! Whether owner and mode make sudo refuse a file is not looked at. What looks like a password in a command's
//! arguments is replaced by `***`.
//!
//! ```json
//! {"UserAliases": {"ADMINS": ["alice", "%wheel"]}, "HostAliases": {}, "RunasAliases": {}, "CommandAliases": {},
//!  "Defaults": {"ANY": {"env_reset": true, "umask": 63}},
//!  "rules": [{"users": ["ADMINS"], "rulelist": [{"hosts": ["ALL"], "runas": {"users": ["root"], "groups": []},
//!             "TAG_NOPASSWD": true, "command": "/usr/bin/systemctl restart nginx"}]}],
//!  "includedir": "/etc/sudoers.d"}
//! ```

use crate::parse::sudoers_lines::{Given, Item, Setting, parse_line, without_comment};
use crate::parse::{self, Errors, Files, MAX_INCLUDED_FILES, accumulate, c_integer, mask_secrets};
use crate::{
    Collected, Discovery, Host, Instance, Parameter, Parameters, Schedule, Trigger, documentation, no_graph,
};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "sudoers",
    description: "Who may run what as whom (sudo)",
    documentation: documentation::SUDOERS,
    parameters: &[Parameter { name: "SUDOERS_FILE", meaning: "main file", default: MAIN_FILE }],
    instances: &[Instance { name: "_init_sudoers", parameters: &[], schedule: None }],
    schedule: Schedule::DEFAULT,
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const MAIN_FILE: &str = "/etc/sudoers";
const MAX_DEPTH: usize = 64;
const TABLES: &[&str] = &["UserAliases", "HostAliases", "RunasAliases", "CommandAliases"];

fn collect(host: &Host, parameters: &Parameters) -> Collected {
    parse::collected(read(host, parameters.get("SUDOERS_FILE").map_or(MAIN_FILE, String::as_str)))
}

/// The policy that begins with the file `main`.
fn read(files: &dyn Files, main: &str) -> (Value, Vec<String>) {
    let mut reader = Reader {
        files,
        errors: Errors::default(),
        aliases: TABLES.iter().map(|table| ((*table).to_owned(), json!({}))).collect(),
        defaults: Map::new(),
        rules: Vec::new(),
        includes: Map::new(),
        open: Vec::new(),
        read: 0,
    };
    match files.text(main) {
        Ok(text) => reader.file(main, &text),
        Err(reason) => {
            reader.errors.unread(&reason);
            return (parse::no_data(main), reader.errors.into_list());
        }
    }
    let mut data = reader.aliases;
    data.insert("Defaults".into(), Value::Object(reader.defaults));
    data.insert("rules".into(), Value::Array(reader.rules));
    data.extend(reader.includes);
    (Value::Object(data), reader.errors.into_list())
}

struct Reader<'a> {
    files: &'a dyn Files,
    errors: Errors,
    aliases: Map<String, Value>,
    defaults: Map<String, Value>,
    rules: Vec<Value>,
    includes: Map<String, Value>,
    /// Files being read, the main one first.
    open: Vec<String>,
    read: usize,
}

impl Reader<'_> {
    fn file(&mut self, path: &str, text: &str) {
        self.open.push(path.to_owned());
        self.read += 1;
        for (number, line) in parse::joined_lines(text, path, &mut self.errors, without_comment) {
            let (items, error) = parse_line(&line);
            for item in items {
                self.item(path, number, item);
            }
            if let Some(error) = error {
                self.errors.at(path, number, error);
            }
        }
        self.open.pop();
    }

    fn item(&mut self, path: &str, number: usize, item: Item) {
        match item {
            Item::Alias { table, name, members } => {
                let Some(Value::Object(table)) = self.aliases.get_mut(table) else { return };
                if table.contains_key(&name) {
                    self.errors.at(path, number, format_args!("the alias {name} is already defined, this is left out"));
                } else {
                    table.insert(name, Value::Array(members));
                }
            }
            Item::Defaults { scopes, settings } => {
                for scope in scopes {
                    if let Value::Object(options) = self.defaults.entry(scope).or_insert_with(|| json!({})) {
                        settings.iter().for_each(|setting| apply(options, setting));
                    }
                }
            }
            Item::Rule { users, rulelist } => self.rules.push(json!({ "users": users, "rulelist": rulelist })),
            Item::Include { path: included, directory: true } => {
                accumulate(&mut self.includes, "includedir", Value::from(included.as_str()));
                self.include_directory(path, number, &included);
            }
            Item::Include { path: included, directory: false } => {
                accumulate(&mut self.includes, "include", Value::from(included.as_str()));
                let included = self.resolved(path, &included);
                self.include(path, number, &included);
            }
        }
    }

    fn include_directory(&mut self, path: &str, number: usize, directory: &str) {
        let directory = self.resolved(path, directory);
        let directory = directory.trim_end_matches('/');
        let mut names = match self.files.names(directory) {
            Ok(names) => names,
            // sudo takes a missing directory as an empty one.
            Err(reason) if reason.absent => return,
            Err(reason) => {
                self.errors.at(path, number, format_args!("cannot read {}", reason.why));
                return;
            }
        };
        names.retain(|name| !name.contains('.') && !name.ends_with('~'));
        names.sort();
        for name in names {
            self.include(path, number, &format!("{directory}/{name}"));
        }
    }

    fn include(&mut self, path: &str, number: usize, file: &str) {
        if self.open.iter().any(|open| open == file) {
            self.errors.at(path, number, format_args!("{file} includes itself, left out here"));
        } else if self.open.len() > MAX_DEPTH {
            self.errors.at(path, number, format_args!("{file} is included over more than {MAX_DEPTH} levels"));
        } else if self.read > MAX_INCLUDED_FILES {
            self.errors.at(path, number, format_args!("more than {MAX_INCLUDED_FILES} files, {file} left out"));
        } else {
            match self.files.text(file) {
                Ok(text) => self.file(file, &text),
                Err(reason) => self.errors.at(path, number, format_args!("cannot read {}", reason.why)),
            }
        }
    }

    /// The absolute path of an include: relative to the including file, `%h` being the short host name.
    fn resolved(&self, path: &str, included: &str) -> String {
        let mut included = included.to_owned();
        if included.contains("%h") {
            let name = self.files.text("/etc/hostname").unwrap_or_default();
            let name = name.lines().next().unwrap_or_default().trim();
            let short: String = name.chars().take_while(|c| !matches!(c, '.' | '/')).take(64).collect();
            included = included.replace("%h", &short);
        }
        match path.rsplit_once('/') {
            Some((directory, _)) if !included.starts_with('/') => format!("{directory}/{included}"),
            _ => included,
        }
    }
}

/// Sets one option; the last line of a scope counts.
fn apply(options: &mut Map<String, Value>, setting: &Setting) {
    let name = setting.name.as_str();
    let is_list = matches!(name, "env_keep" | "env_check" | "env_delete");
    match &setting.value {
        Given::Flag(on) => {
            options.insert(name.to_owned(), Value::Bool(*on));
        }
        Given::Set(text) if !is_list => {
            options.insert(name.to_owned(), value(name, text));
        }
        Given::Set(text) => {
            options.insert(name.to_owned(), json!({}));
            mark(options, name, text, true);
        }
        Given::Add(text) if is_list => mark(options, name, text, true),
        Given::Remove(text) if is_list => mark(options, name, text, false),
        // Only lists can be added to; sudo refuses it elsewhere, the value is what the line says.
        Given::Add(text) => {
            options.insert(name.to_owned(), value(name, text));
        }
        Given::Remove(_) => {}
    }
}

/// Puts each word of `text` into the variable list `name` with true (kept) or false (taken off).
fn mark(options: &mut Map<String, Value>, name: &str, text: &str, kept: bool) {
    let list = options.entry(name).or_insert_with(|| json!({}));
    if !list.is_object() {
        *list = json!({});
    }
    if let Value::Object(list) = list {
        list.extend(text.split_whitespace().map(|variable| (mask_secrets(variable).into_owned(), Value::Bool(kept))));
    }
}

fn value(name: &str, text: &str) -> Value {
    if name.ends_with("_path") {
        return text.split(':').map(Value::from).collect();
    }
    if let Some(integer) = c_integer(text) {
        return Value::from(integer);
    }
    let is_decimal = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-')) && text.contains('.');
    match text.parse::<f64>().ok().filter(|_| is_decimal) {
        Some(number) => Value::from(number),
        None => Value::from(mask_secrets(text)),
    }
}
