//! Where the system's messages go: `/etc/rsyslog.conf` and what it includes, see rsyslog.conf(5).
//!
//! Understood are selector lines, `$Directives` and RainerScript objects (`module(...)`, `input(...)`, `action(...)`,
//! `global(...)`, `include(...)`). `data`:
//!
//! - `$Name value` is `Name` → text; the last line counts. `FileCreateMode`, `DirCreateMode` and `Umask` stay octal
//!   texts. `global(name="value")` is `global` → name → text.
//! - `modules`: the modules loaded, in order.
//! - `imtcp`, `imudp`, `imrelp`: the ports on which messages from the network are taken in; absent when there are none
//!   (a module that is loaded without an input opens no port).
//! - `rules`: list of `{"selector": ..., "action": ...}` in order; a property filter is its own selector, and one inside of
//!   `if` or `ruleset` has `"conditional": true`.
//! - `facilities`: facility → list of files and hosts that get all its messages from priority info upwards, whatever
//!   the program. Only unconditional selector lines count.
//! - `remote_loghost`: list of hosts that messages are sent to; absent when there are none.
//!
//! ```json
//! {"FileCreateMode": "0640", "modules": ["imuxsock", "imklog"], "remote_loghost": ["@@logs.example.org:6514"],
//!  "rules": [{"selector": "auth,authpriv.*", "action": "/var/log/auth.log"}],
//!  "facilities": {"auth": ["/var/log/auth.log"], "authpriv": ["/var/log/auth.log"]}}
//! ```

#[path = "rsyslog_conf/scanner.rs"]
mod scanner;
#[path = "rsyslog_conf/selector.rs"]
mod selector;

use crate::parse::presence::not_there;
use crate::parse::{self, Errors, Files, MAX_INCLUDED_FILES, is_plausible_key, mask_secrets, quoted};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use model::text::shortened;
use scanner::{Object, Scanner, Statement};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "rsyslog_conf",
    description: "Where the system's messages go (rsyslog)",
    documentation: documentation::RSYSLOG_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_rsyslog_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const FILE: &str = "/etc/rsyslog.conf";
const MAX_DEPTH: usize = 10;
const MAX_RULES: usize = 5000;

fn collect(host: &Host, _: &Parameters) -> Collected {
    if host.stat(FILE).is_err_and(|error| error.is_missing()) {
        return not_there("rsyslog is not installed: there is no /etc/rsyslog.conf");
    }
    parse::collected(read(host))
}

fn read(files: &dyn Files) -> (Value, Vec<String>) {
    let mut reader = Reader {
        files,
        errors: Errors::default(),
        data: Map::new(),
        read: 0,
        rules: Vec::new(),
        selector: None,
    };
    match files.text(FILE) {
        Ok(text) => reader.file(FILE, &text, 0),
        Err(reason) => {
            reader.errors.unread(&reason);
            return (parse::no_data(FILE), reader.errors.into_list());
        }
    }
    let mut data = reader.data;
    let facilities = selector::facilities(
        reader
            .rules
            .iter()
            .filter(|rule| !rule.conditional)
            .map(|rule| (rule.selector.as_str(), rule.action.as_str())),
    );
    let mut hosts: Vec<&str> = Vec::new();
    for rule in &reader.rules {
        if rule.action.starts_with('@') && !hosts.contains(&rule.action.as_str()) && hosts.len() < 100 {
            hosts.push(&rule.action);
        }
    }
    if !hosts.is_empty() {
        data.insert("remote_loghost".into(), json!(hosts));
    }
    data.insert("facilities".into(), json!(facilities));
    let rules = reader.rules.iter().map(|rule| {
        let mut value = json!({ "selector": rule.selector, "action": rule.action });
        if rule.conditional {
            value["conditional"] = Value::Bool(true);
        }
        value
    });
    data.insert("rules".into(), rules.collect());
    (Value::Object(data), reader.errors.into_list())
}

struct Rule {
    selector: String,
    action: String,
    conditional: bool,
}

struct Reader<'a> {
    files: &'a dyn Files,
    errors: Errors,
    data: Map<String, Value>,
    read: usize,
    rules: Vec<Rule>,
    /// That of the line before, for `& action`.
    selector: Option<String>,
}

impl Reader<'_> {
    fn file(&mut self, path: &str, text: &str, depth: usize) {
        self.read += 1;
        let mut scanner = Scanner::new(text);
        // Braces of RainerScript that are open, and whether an `if` waits for its action.
        let mut braces = 0_usize;
        let mut after_if = false;
        loop {
            let line = scanner.line();
            let statement = match scanner.next_statement() {
                Ok(Some(statement)) => statement,
                Ok(None) => break,
                Err((line, what)) => {
                    self.errors.at(path, line, what);
                    continue;
                }
            };
            let conditional = braces > 0 || after_if;
            match statement {
                Statement::Open => braces += 1,
                Statement::Close if braces == 0 => self.errors.at(path, line, "there is no brace to close"),
                Statement::Close => {
                    braces -= 1;
                    after_if = false;
                }
                Statement::If => after_if = true,
                Statement::Other => {}
                Statement::Directive { name, value } => self.directive(path, line, name, value, depth),
                Statement::Object(object) => {
                    self.object(path, line, &object, None, conditional, depth);
                    after_if = after_if && object.name != "action";
                }
                // `if ... then /file`
                Statement::Rule { selector, action: "", object: None } if after_if => {
                    self.rule(path, line, "if", &action_of(selector), true);
                    after_if = false;
                }
                Statement::Rule { selector, action, object } => {
                    let selector = match (selector, &self.selector) {
                        ("&", Some(before)) => before.clone(),
                        ("&", None) => {
                            self.errors.at(path, line, "'&' follows no selector");
                            continue;
                        }
                        (own, _) => shortened(own, 1000).into_owned(),
                    };
                    self.selector = Some(selector.clone());
                    match object {
                        Some(object) => self.object(path, line, &object, Some(&selector), conditional, depth),
                        None => self.rule(path, line, &selector, &action_of(action), conditional),
                    }
                    after_if = false;
                }
            }
        }
    }

    fn rule(&mut self, path: &str, line: usize, selector: &str, action: &str, conditional: bool) {
        if action.is_empty() {
            self.errors.at(path, line, format_args!("{} has no action", quoted(selector)));
        } else if self.rules.len() == MAX_RULES {
            self.errors.at(path, line, format_args!("more than {MAX_RULES} rules, the rest is left out"));
        } else if self.rules.len() < MAX_RULES {
            let action = shortened(&mask_secrets(action), 1000).into_owned();
            self.rules.push(Rule { selector: selector.to_owned(), action, conditional });
        }
    }

    fn directive(&mut self, path: &str, line: usize, name: &str, value: &str, depth: usize) {
        if !is_plausible_key(name) {
            self.errors.at(path, line, format_args!("{} is not a directive", quoted(name)));
            return;
        }
        match name.to_ascii_lowercase().as_str() {
            "includeconfig" => self.include(path, line, value, depth),
            "modload" => self.load(value),
            "inputtcpserverrun" => self.listen("imtcp", value),
            "udpserverrun" => self.listen("imudp", value),
            "inputrelpserverrun" => self.listen("imrelp", value),
            lower => {
                let name = match lower {
                    "filecreatemode" => "FileCreateMode",
                    "dircreatemode" => "DirCreateMode",
                    "umask" => "Umask",
                    _ => name,
                };
                let value = if parse::is_secret_name(name) { "***".into() } else { mask_secrets(value) };
                self.data.insert(name.to_owned(), Value::from(shortened(&value, 1000)));
            }
        }
    }

    fn object(
        &mut self,
        path: &str,
        line: usize,
        object: &Object<'_>,
        selector: Option<&str>,
        conditional: bool,
        depth: usize,
    ) {
        match object.name.as_str() {
            "module" => {
                if let Some(name) = object.get("load") {
                    self.load(name);
                    if let ("omfile" | "builtin:omfile", Some(mode)) = (name, object.get("filecreatemode")) {
                        self.data.insert("FileCreateMode".into(), Value::from(shortened(mode, 20)));
                    }
                }
            }
            "input" => {
                if let Some(kind) =
                    object.get("type").filter(|kind| matches!(*kind, "imtcp" | "imudp" | "imrelp" | "imptcp"))
                {
                    let kind = if kind == "imptcp" { "imtcp" } else { kind };
                    self.listen(kind, object.get("port").unwrap_or("514"));
                }
            }
            "include" => match object.get("file") {
                Some(pattern) => self.include(path, line, pattern, depth),
                None => self.errors.at(path, line, "include() names no file"),
            },
            "global" => {
                if let Value::Object(global) = self.data.entry("global").or_insert_with(|| json!({})) {
                    for (name, value) in object.parameters.iter().take(200) {
                        let value =
                            if parse::is_secret_name(name) { "***".into() } else { mask_secrets(value) };
                        global.insert(name.clone(), Value::from(shortened(&value, 1000)));
                    }
                }
            }
            "action" => {
                let selector = selector.unwrap_or("*.*");
                let target = || object.get("target").unwrap_or_default();
                let at = match object.get("protocol") {
                    Some("tcp") => "@@",
                    _ => "@",
                };
                let port = object.get("port").map(|port| format!(":{port}")).unwrap_or_default();
                let action = match object.get("type").unwrap_or_default() {
                    "omfile" => object.get("file").or(object.get("dynafile")).unwrap_or_default().to_owned(),
                    "omfwd" => format!("{at}{}{port}", target()),
                    "omrelp" => format!("@relp:{}{port}", target()),
                    kind => kind.to_owned(),
                };
                self.rule(path, line, selector, &action, conditional);
            }
            _ => {}
        }
    }

    fn load(&mut self, name: &str) {
        let name = name.trim_start_matches("./").trim_end_matches(".so");
        if let Value::Array(modules) = self.data.entry("modules").or_insert_with(|| json!([]))
            && modules.len() < 200
        {
            modules.push(Value::from(shortened(name, 200)));
        }
    }

    fn listen(&mut self, kind: &str, port: &str) {
        if let Value::Array(ports) = self.data.entry(kind).or_insert_with(|| json!([]))
            && ports.len() < 200
        {
            ports.push(Value::from(shortened(port, 200)));
        }
    }

    fn include(&mut self, path: &str, line: usize, pattern: &str, depth: usize) {
        let absolute = if pattern.starts_with('/') { pattern.to_owned() } else { format!("/etc/{pattern}") };
        // A directory stands for all its files.
        let pattern = if absolute.ends_with('/') { format!("{absolute}*") } else { absolute };
        let found = match parse::glob(self.files, &pattern) {
            Ok(found) => found,
            Err(reason) => {
                self.errors.at(
                    path,
                    line,
                    format_args!("cannot look for {}: {}", quoted(&pattern), reason.why),
                );
                return;
            }
        };
        for file in found {
            if depth >= MAX_DEPTH || self.read > MAX_INCLUDED_FILES {
                self.errors.at(path, line, format_args!("{file} is left out: too many files include files"));
                continue;
            }
            match self.files.text(&file) {
                Ok(text) => self.file(&file, &text, depth + 1),
                Err(reason) => self.errors.at(path, line, format_args!("cannot read {}", reason.why)),
            }
        }
    }
}

/// An action of the old style without its template, and a file name without the `-` that asks for lazy writing.
fn action_of(action: &str) -> String {
    let action = action.split(';').next().unwrap_or(action).trim();
    action.strip_prefix('-').filter(|path| path.starts_with('/')).unwrap_or(action).to_owned()
}

#[cfg(test)]
#[path = "rsyslog_conf/tests.rs"]
mod tests;
