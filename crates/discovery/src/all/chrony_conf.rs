//! Settings of the time daemon chrony: `/etc/chrony/chrony.conf` or `/etc/chrony.conf` and what they include, see
//! chrony.conf(5).
//!
//! `data` is directive, in lower case, → value: a number when it is a single whole number, else the words as one text
//! with single blanks; true without a value. Of a directive on several lines the last one counts, except for those
//! that add up (`allow`, `deny`, `bindacqaddress`, ...): one is a text, several are a list. Further:
//!
//! - `server`, `pool`, `peer`: list of `{"address": ..., <option>: value or true}`, also those of the `*.sources` files
//!   of `sourcedir`.
//! - `process`: `{"user": ...}`, the account chronyd runs as: that of the running process, else that of the option
//!   `-u` in `/etc/sysconfig/chronyd` or `/etc/default/chrony`, else that of the directive `user`. Absent when nothing
//!   of the kind is there (chronyd then uses the account it was built for).
//!
//! Directories of `confdir` are read where the directive stands, in order of file name; a name in an earlier
//! directory hides the same name in a later one.
//!
//! ```json
//! {"pool": [{"address": "2.debian.pool.ntp.org", "iburst": true, "maxpoll": 10}], "makestep": "1 3", "port": 0,
//!  "rtcsync": true, "process": {"user": "_chrony"}}
//! ```

use crate::parse::drop_ins::drop_ins;
use crate::parse::presence::{any_exists, not_there};
use crate::parse::{self, Errors, Files, MAX_INCLUDED_FILES, accumulate, integer, is_plausible_key, quoted};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use model::text::shortened;
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "chrony_conf",
    description: "Settings of the time daemon chrony",
    documentation: documentation::CHRONY_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_chrony_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 600, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const MAIN_FILES: &[&str] = &["/etc/chrony/chrony.conf", "/etc/chrony.conf"];
const PROGRAMS: &[&str] = &["/usr/sbin/chronyd", "/sbin/chronyd"];
const OPTION_FILES: &[&str] = &["/etc/sysconfig/chronyd", "/etc/default/chrony"];
const MAX_DEPTH: usize = 10;
const MAX_SOURCES: usize = 1000;
const MAX_PROCESSES: usize = 100_000;
/// Directives of which every line counts.
const ADD_UP: &[&str] = &[
    "allow",
    "deny",
    "cmdallow",
    "cmddeny",
    "bindaddress",
    "bindcmdaddress",
    "initstepslew",
    "refclock",
    "include",
    "confdir",
    "sourcedir",
    "ntstrustedcerts",
    "ntsserverkey",
    "ntsservercert",
    "hwtimestamp",
    "broadcast",
    "mailonchange",
];

fn collect(host: &Host, _: &Parameters) -> Collected {
    let Some(main) = MAIN_FILES.iter().find(|path| host.stat(path).is_ok()) else {
        return if any_exists(host, PROGRAMS) {
            not_there(
                "chronyd has no configuration: there is no /etc/chrony/chrony.conf and no /etc/chrony.conf",
            )
        } else {
            not_there("chrony is not installed: there is no /etc/chrony/chrony.conf and no /etc/chrony.conf")
        };
    };
    let (mut data, errors) = read(host, main);
    if let Value::Object(map) = &mut data
        && !map.contains_key("NODATA")
        && let Some(user) = user(host, map)
    {
        map.insert("process".into(), json!({ "user": user }));
    }
    parse::collected((data, errors))
}

/// The configuration that begins with the file `main`.
fn read(files: &dyn Files, main: &str) -> (Value, Vec<String>) {
    let mut reader = Reader { files, errors: Errors::default(), data: Map::new(), read: 0, sources: 0 };
    match files.text(main) {
        Ok(text) => reader.file(main, &text, 0, false),
        Err(reason) => {
            reader.errors.unread(&reason);
            return (parse::no_data(main), reader.errors.into_list());
        }
    }
    (Value::Object(reader.data), reader.errors.into_list())
}

struct Reader<'a> {
    files: &'a dyn Files,
    errors: Errors,
    data: Map<String, Value>,
    read: usize,
    sources: usize,
}

impl Reader<'_> {
    fn file(&mut self, path: &str, text: &str, depth: usize, sources_only: bool) {
        self.read += 1;
        for (number, line) in parse::lines(text, path, &mut self.errors) {
            let line = line.trim();
            if line.starts_with(['#', '!', ';', '%']) {
                continue;
            }
            let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let name = name.to_ascii_lowercase();
            if !name.bytes().all(|b| b.is_ascii_alphanumeric()) || !is_plausible_key(&name) {
                self.errors.at(path, number, format_args!("{} is not a directive", quoted(&name)));
                continue;
            }
            match name.as_str() {
                "server" | "pool" | "peer" => self.source(path, number, &name, rest),
                _ if sources_only => {
                    self.errors.at(path, number, format_args!("{} is not a source", quoted(&name)));
                }
                _ => self.directive(path, number, depth, &name, rest),
            }
        }
    }

    fn source(&mut self, path: &str, number: usize, name: &str, rest: &str) {
        let mut words = rest.split_whitespace().take(64);
        let Some(address) = words.next() else {
            self.errors.at(path, number, format_args!("{name} has no address"));
            return;
        };
        self.sources += 1;
        if self.sources > MAX_SOURCES {
            self.errors.at(
                path,
                number,
                format_args!("more than {MAX_SOURCES} sources, this one is left out"),
            );
            return;
        }
        let mut source = Map::new();
        source.insert("address".into(), Value::from(shortened(address, 255)));
        let mut words = words.peekable();
        while let Some(option) = words.next() {
            let option = option.to_ascii_lowercase();
            if !is_plausible_key(&option) {
                self.errors.at(path, number, format_args!("{} is not an option", quoted(&option)));
                continue;
            }
            let value = match words.peek() {
                // Options without a value are words, values are numbers; `key` and `certset` take numbers too.
                Some(word) if word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.')) => {
                    words.next().map_or(Value::Bool(true), value)
                }
                _ => Value::Bool(true),
            };
            source.insert(option, value);
        }
        if let Value::Array(list) = self.data.entry(name).or_insert_with(|| json!([])) {
            list.push(Value::Object(source));
        }
    }

    fn directive(&mut self, path: &str, number: usize, depth: usize, name: &str, rest: &str) {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let value = if words.is_empty() { Value::Bool(true) } else { value(&words.join(" ")) };
        if ADD_UP.contains(&name) {
            accumulate(&mut self.data, name, value);
        } else {
            self.data.insert(name.to_owned(), value);
        }
        let directories = || words.iter().take(10).map(|word| word.trim_end_matches('/').to_owned());
        let (paths, sources_only) = match name {
            "include" => {
                let pattern = words.first().copied().unwrap_or_default();
                match parse::glob(self.files, pattern) {
                    Ok(paths) => (paths, false),
                    Err(reason) => {
                        self.errors.at(path, number, format_args!("cannot look for files: {}", reason.why));
                        return;
                    }
                }
            }
            "confdir" => {
                (drop_ins(self.files, &directories().collect::<Vec<_>>(), ".conf", &mut self.errors), false)
            }
            "sourcedir" => {
                (drop_ins(self.files, &directories().collect::<Vec<_>>(), ".sources", &mut self.errors), true)
            }
            _ => return,
        };
        for file in paths {
            if depth >= MAX_DEPTH || self.read > MAX_INCLUDED_FILES {
                self.errors.at(
                    path,
                    number,
                    format_args!("{file} is left out: too many files include files"),
                );
                continue;
            }
            match self.files.text(&file) {
                Ok(text) => self.file(&file, &text, depth + 1, sources_only),
                Err(reason) => self.errors.at(path, number, format_args!("cannot read {}", reason.why)),
            }
        }
    }
}

fn value(text: &str) -> Value {
    integer(text).map_or_else(|| Value::from(shortened(text, 1000)), Value::from)
}

/// The account that chronyd runs as.
fn user(host: &Host, directives: &Map<String, Value>) -> Option<String> {
    let running = if host.is_running_system() { process_user(host) } else { None };
    let by_option = || OPTION_FILES.iter().find_map(|file| option_user(&host.read_text(file).ok()?));
    let by_directive = || directives.get("user").and_then(Value::as_str).map(str::to_owned);
    running.or_else(by_option).or_else(by_directive)
}

/// The word after `-u` in the options that a service file's environment file gives.
fn option_user(text: &str) -> Option<String> {
    let line = text
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("OPTIONS=").or(line.trim().strip_prefix("DAEMON_OPTS=")))?;
    let mut words =
        line.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).filter(|w| !w.is_empty());
    words.find(|word| *word == "-u")?;
    words.next().map(|name| shortened(name, 64).into_owned())
}

/// The owner of the running process named chronyd.
fn process_user(host: &Host) -> Option<String> {
    // Reading through the host would record each process as a file to watch.
    let entries = std::fs::read_dir("/proc").ok()?;
    for entry in entries.flatten().take(MAX_PROCESSES) {
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit())) {
            continue;
        }
        if std::fs::read(entry.path().join("comm")).is_ok_and(|comm| comm == b"chronyd\n") {
            let uid = std::os::unix::fs::MetadataExt::uid(&entry.metadata().ok()?).to_string();
            let accounts = host.read_text("/etc/passwd").unwrap_or_default();
            let named = accounts.lines().find_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next()?;
                (fields.nth(1)? == uid).then(|| shortened(name, 64).into_owned())
            });
            return named.or(Some(uid));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{Tree, check_any_text, check_fixtures, collect as collect_from};

    const MAIN: &str = "/etc/chrony/chrony.conf";

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn directives_and_sources() {
        let text = "# c\n! c\nServer ntp1 iburst maxpoll 16 key 5\npool p -x\nport 0\nmakestep  1  -1\nrtcsync\nallow a\n\
                    allow b\ncmdport 1\ncmdport 0\n";
        let (data, errors) = read(&Tree::of(&[(MAIN, text)]), MAIN);
        assert_eq!(errors, [""; 0]);
        let expected = json!({"server": [{"address": "ntp1", "iburst": true, "maxpoll": 16, "key": 5}],
            "pool": [{"address": "p", "-x": true}], "port": 0, "makestep": "1 -1", "rtcsync": true,
            "allow": ["a", "b"], "cmdport": 0});
        assert_eq!(data, expected);
    }

    #[test]
    fn includes_directories_and_sources() {
        let tree = Tree::of(&[
            (MAIN, "confdir /etc/chrony/conf.d /usr/c.d/\nsourcedir /run/s\ninclude /x/*.conf\nport 1\n"),
            ("/etc/chrony/conf.d/b.conf", "port 2\nserver b\n"),
            ("/usr/c.d/b.conf", "server hidden\n"),
            ("/usr/c.d/a.conf", "server a\n"),
            ("/run/s/dhcp.sources", "server d\nport 9\n"),
            ("/x/y.conf", "server y\ninclude /x/y.conf\n"),
        ]);
        let (data, errors) = read(&tree, MAIN);
        let addresses: Vec<&str> =
            data["server"].as_array().unwrap().iter().map(|s| s["address"].as_str().unwrap()).collect();
        assert_eq!(addresses[..4], ["a", "b", "d", "y"]);
        assert_eq!(data["port"], 1);
        assert_eq!(errors[0], "/run/s/dhcp.sources line 2: 'port' is not a source");
        assert!(errors[1].contains("/x/y.conf is left out"), "{errors:?}");
    }

    #[test]
    fn the_account() {
        assert_eq!(option_user("# x\nOPTIONS=\"-F 2 -u chrony\"\n").as_deref(), Some("chrony"));
        assert_eq!(option_user("DAEMON_OPTS=\"-F 1\"\n"), None);
        let found = collect_from(
            &DISCOVERY,
            &[(MAIN, b"user nobody\n"), ("/etc/default/chrony", b"DAEMON_OPTS='-u _chrony'\n")],
        );
        assert_eq!(found.data["process"], json!({"user": "_chrony"}));
        let found = collect_from(&DISCOVERY, &[(MAIN, b"user nobody\n")]);
        assert_eq!(found.data["process"], json!({"user": "nobody"}));
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let (data, errors) = read(&Tree::of(&[(MAIN, "server\n?? x\nport 0\n")]), MAIN);
        assert_eq!(data, json!({"port": 0}));
        let expected = [
            "/etc/chrony/chrony.conf line 1: server has no address",
            "/etc/chrony/chrony.conf line 2: '??' is not a directive",
        ];
        assert_eq!(errors, expected);
        let absent = collect_from(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(absent.data["NODATA"].as_str().unwrap().starts_with("chrony is not installed"));
        assert!(absent.errors.is_empty());
    }

    #[test]
    fn any_text() {
        let tokens =
            &["server", " ", "\n", "confdir", "include", "/etc/*", "1", "-", "#", "maxpoll", "!", "\u{fffd}"];
        check_any_text(MAIN, tokens, |text| read(&Tree::of(&[(MAIN, text)]), MAIN));
    }
}
