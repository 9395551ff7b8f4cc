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
//! `commands_without_arguments` (commands, ALL too, that may be given any arguments), `negated_commands` and `runas_root`
//! (rules of others than root whose commands run as root or as anybody) are lists of `<users>: <command>`, aliases of
//! commands resolved, absent when there are none. Whether owner and mode make sudo refuse a file is not looked at. What looks like a password in a command's
//! arguments is replaced by `***`.
//!
//! ```json
//! {"UserAliases": {"ADMINS": ["alice", "%wheel"]}, "HostAliases": {}, "RunasAliases": {}, "CommandAliases": {},
//!  "Defaults": {"ANY": {"env_reset": true, "umask": 63}},
//!  "rules": [{"users": ["ADMINS"], "rulelist": [{"hosts": ["ALL"], "runas": {"users": ["root"], "groups": []},
//!             "TAG_NOPASSWD": true, "command": "/usr/bin/systemctl restart nginx"}]}],
//!  "includedir": "/etc/sudoers.d"}
//! ```

#[path = "sudoers/summary.rs"]
mod summary;

use crate::parse::sudoers_lines::{Given, Item, Setting, include_directive, parse_line};
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
/// Texts in all rules and Defaults together; no policy that people can survey has a tenth of it.
const MAX_TEXTS: usize = 300_000;
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
        texts: 0,
    };
    match files.text(main) {
        Ok(text) => reader.file(main, &text),
        Err(reason) => {
            reader.errors.unread(&reason);
            return (parse::no_data(main), reader.errors.into_list());
        }
    }
    let mut data = reader.aliases;
    let summaries = summary::of(&reader.rules, &data);
    data.insert("Defaults".into(), Value::Object(reader.defaults));
    data.insert("rules".into(), Value::Array(reader.rules));
    data.extend(reader.includes);
    data.extend(summaries);
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
    /// How many there are in rules and Defaults.
    texts: usize,
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
                    self.errors.at(
                        path,
                        number,
                        format_args!("the alias {name} is already defined, this is left out"),
                    );
                } else {
                    table.insert(name, Value::Array(members));
                }
            }
            Item::Defaults { scopes, settings }
                if self.has_room(path, number, scopes.len() * settings.len()) =>
            {
                for scope in scopes {
                    if let Value::Object(options) = self.defaults.entry(scope).or_insert_with(|| json!({})) {
                        settings.iter().for_each(|setting| apply(options, setting));
                    }
                }
            }
            Item::Rule { users, rulelist } => {
                let rule = json!({ "users": users, "rulelist": rulelist });
                if self.has_room(path, number, texts(&rule)) {
                    self.rules.push(rule);
                }
            }
            Item::Defaults { .. } => {}
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

    /// Counts texts; when there are too many, the line is left out.
    fn has_room(&mut self, path: &str, number: usize, texts: usize) -> bool {
        let has_room = self.texts.saturating_add(texts) <= MAX_TEXTS;
        if has_room {
            self.texts += texts;
        } else {
            self.errors.at(path, number, format_args!("more than {MAX_TEXTS} names in all rules, left out"));
        }
        has_room
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
            self.errors.at(
                path,
                number,
                format_args!("{file} is included over more than {MAX_DEPTH} levels"),
            );
        } else if self.read > MAX_INCLUDED_FILES {
            self.errors.at(
                path,
                number,
                format_args!("more than {MAX_INCLUDED_FILES} files, {file} left out"),
            );
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

fn texts(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.iter().map(texts).sum(),
        Value::Object(map) => map.values().map(texts).sum(),
        _ => 1,
    }
}

/// Cuts a comment: `#` outside of quotes, unless it begins a user or group id or an include directive.
fn without_comment(line: &str) -> &str {
    let start = line.trim_start();
    if include_directive(start).is_some() {
        return line;
    }
    let (mut in_quotes, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_quotes = !in_quotes,
            '#' if !in_quotes => {
                let after = &line[at + 1..];
                if !after.strip_prefix('-').unwrap_or(after).starts_with(|c: char| c.is_ascii_digit()) {
                    return &line[..at];
                }
            }
            _ => {}
        }
    }
    line
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
        list.extend(
            text.split_whitespace().map(|variable| (mask_secrets(variable).into_owned(), Value::Bool(kept))),
        );
    }
}

fn value(name: &str, text: &str) -> Value {
    if parse::is_secret_name(name) {
        return Value::from("***");
    }
    if name.ends_with("_path") {
        return text.split(':').map(Value::from).collect();
    }
    if let Some(integer) = c_integer(text) {
        return Value::from(integer);
    }
    let is_decimal =
        text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-')) && text.contains('.');
    match text.parse::<f64>().ok().filter(|_| is_decimal) {
        Some(number) => Value::from(number),
        None => Value::from(mask_secrets(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{Tree, check_any_text, check_fixtures, check_robustness};

    fn parse(text: &str) -> (Value, Vec<String>) {
        read(&Tree::of(&[(MAIN_FILE, text)]), MAIN_FILE)
    }

    /// The data of a text without errors.
    fn good(text: &str) -> Value {
        let (data, errors) = parse(text);
        assert!(errors.is_empty(), "{errors:?}");
        data
    }

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn robustness() {
        let text = "Defaults env_reset, umask=0077\nUser_Alias A = b, %c\nroot ALL=(ALL:ALL) NOPASSWD: /bin/a b, ALL\n#1000 h = ALL\n";
        check_robustness(&DISCOVERY, MAIN_FILE, MAIN_FILE, text);
        let tokens = &[
            "root",
            " ",
            "\n",
            "=",
            "\"",
            "#",
            "\\",
            "Defaults",
            "!",
            "env_keep",
            "+=",
            ",",
            ":",
            "(",
            ")",
            "ALL",
            "/bin/a",
            "NOPASSWD",
            "User_Alias",
            "Cmnd_Alias",
            "sha224",
            "@include",
            "dir",
            "%h",
            "^",
            "$",
            "::1",
            "\\x20",
            "ä",
            "1",
        ];
        check_any_text(MAIN_FILE, tokens, parse);
    }

    #[test]
    fn commands_do_not_multiply_hosts() {
        let many = "a,".repeat(3000) + "a";
        let commands = "/a,".repeat(3000) + "/a";
        for line in [
            format!("root {many}={commands}"),
            format!("root ALL=({many}) {commands}"),
            format!("Defaults:{many} {many}"),
        ] {
            let (data, errors) = parse(&line);
            assert!(errors.len() == 1 && errors[0].contains("too many"), "{errors:?}");
            assert!(data.to_string().len() < 1 << 20, "{}", data.to_string().len());
        }
        let rule = format!("root {}a={}/a\n", "a,".repeat(130), "/a,".repeat(130));
        let (data, errors) = parse(&rule.repeat(100));
        assert!(errors[0].contains("names in all rules"), "{:?}", errors.first());
        let rules = data["rules"].as_array().map_or(0, Vec::len);
        assert!((2..100).contains(&rules), "{rules}");
    }

    #[test]
    fn an_empty_file_has_all_tables() {
        let expected = json!({"UserAliases": {}, "HostAliases": {}, "RunasAliases": {}, "CommandAliases": {},
            "Defaults": {}, "rules": []});
        assert_eq!(good(""), expected);
    }

    #[test]
    fn aliases() {
        let data = good(
            "User_Alias ADMINS = alice, %wheel, !bob, #1000, %#20, +net, \"a b\", %:win\\ grp : OPS = dave\n\
             Host_Alias NETS = 10.0.0.0/255.0.0.0, fe80::1/64, !web1 : H2 = 192.168.1.0/24\nRunas_Alias DB = postgres, #5\n\
             Cmnd_Alias A = /bin/a \\\n  b\\,c, !/bin/d, sha224:AbC+/= /bin/e, sha256:aa, sha512:bb /bin/f, sudoedit /etc/x\n\
             Cmd_Alias B = A, /usr/sbin/\n",
        );
        let expected = json!({
            "UserAliases": {"ADMINS": ["alice", "%wheel", "!bob", "#1000", "%#20", "+net", "a b", "%:win grp"], "OPS": ["dave"]},
            "HostAliases": {"NETS": ["10.0.0.0/255.0.0.0", "fe80::1/64", "!web1"], "H2": ["192.168.1.0/24"]},
            "RunasAliases": {"DB": ["postgres", "#5"]},
            "CommandAliases": {"A": ["/bin/a b,c", "!/bin/d", {"sum": "sha224:AbC+/=", "file": "/bin/e"},
                {"sum": ["sha256:aa", "sha512:bb"], "file": "/bin/f"}, "sudoedit /etc/x"], "B": ["A", "/usr/sbin/"]},
            "Defaults": {}, "rules": []});
        assert_eq!(data, expected);
    }

    #[test]
    fn defaults() {
        let data = good(
            "Defaults env_reset, !lecture, umask=0777, passwd_tries=3, timestamp_timeout = 2.5 # why\n\
             Defaults secure_path=\"/sbin:/bin\", logfile=/var/log/sudo.log, badpass_message=\"no, \\\"never\\\"\"\n\
             Defaults env_keep = \"A B\"\nDefaults env_keep += \"C D_*\", env_keep -= B\nDefaults env_delete-=X\n\
             Defaults:%sudo,bob !requiretty\nDefaults@web timestamp_timeout=-1\nDefaults>root set_logname\n\
             Defaults!/usr/bin/x,CMDS noexec\nDefaults !!use_pty\nDefaults umask=077\n",
        );
        let expected = json!({
            "ANY": {"env_reset": true, "lecture": false, "umask": 63, "passwd_tries": 3, "timestamp_timeout": 2.5,
                "secure_path": ["/sbin", "/bin"], "logfile": "/var/log/sudo.log", "badpass_message": "no, \"never\"",
                "env_keep": {"A": true, "B": false, "C": true, "D_*": true}, "env_delete": {"X": false}, "use_pty": true},
            "user:%sudo": {"requiretty": false}, "user:bob": {"requiretty": false}, "system:web": {"timestamp_timeout": -1},
            "runas:root": {"set_logname": true}, "command:/usr/bin/x": {"noexec": true}, "command:CMDS": {"noexec": true}});
        assert_eq!(data["Defaults"], expected);
    }

    #[test]
    fn rules() {
        let data = good(
            "%sudo\tALL=(ALL:ALL) ALL\n\
             alice, !bob  web1, web2 = (root, %ops : adm) NOPASSWD: NOEXEC: /bin/a, PASSWD: /bin/b -x *, (:grp) /bin/c \"\" : db = !/bin/su\n\
             #1000 ALL = ROLE=sysadm_r TYPE=\"sysadm_t\" TIMEOUT=1d CWD=/tmp SETENV:/bin/d --set=a, () /bin/e a\\:b\\=c\\#\n\
             u 2001:db8::/32, h = ^/bin/(a|b,c)$ ^x,y:z$, sha224:aa /bin/f --password=geheim x\n\
             v h=/bin/with\\ blank y, /bin/g a\\ b\n",
        );
        let everyone = json!({"users": ["ALL"], "groups": ["ALL"]});
        let ops = json!({"users": ["root", "%ops"], "groups": ["adm"]});
        let group = json!({"users": [], "groups": ["grp"]});
        let nobody = json!({"users": [], "groups": []});
        let web = json!(["web1", "web2"]);
        assert_eq!(
            data["rules"][0],
            json!({"users": ["%sudo"], "rulelist": [{"hosts": ["ALL"], "runas": everyone, "command": "ALL"}]})
        );
        let expected = json!({"users": ["alice", "!bob"], "rulelist": [
            {"hosts": web, "runas": ops, "TAG_NOPASSWD": true, "TAG_NOEXEC": true, "command": "/bin/a"},
            {"hosts": web, "runas": ops, "TAG_PASSWD": true, "TAG_NOEXEC": true, "command": "/bin/b -x *"},
            {"hosts": web, "runas": group, "TAG_PASSWD": true, "TAG_NOEXEC": true, "command": "/bin/c \"\""},
            {"hosts": ["db"], "command": "!/bin/su"}]});
        assert_eq!(data["rules"][1], expected);
        let expected = json!({"users": ["#1000"], "rulelist": [
            {"hosts": ["ALL"], "SELinuxRole": "sysadm_r", "SELinuxType": "sysadm_t", "TIMEOUT": "1d", "CWD": "/tmp",
             "TAG_SETENV": true, "command": "/bin/d --set=a"},
            {"hosts": ["ALL"], "SELinuxRole": "sysadm_r", "SELinuxType": "sysadm_t", "TIMEOUT": "1d", "CWD": "/tmp",
             "TAG_SETENV": true, "runas": nobody, "command": "/bin/e a:b=c#"}]});
        assert_eq!(data["rules"][2], expected);
        let expected = json!({"users": ["u"], "rulelist": [
            {"hosts": ["2001:db8::/32", "h"], "command": "^/bin/(a|b,c)$ ^x,y:z$"},
            {"hosts": ["2001:db8::/32", "h"], "sum": "sha224:aa", "command": "/bin/f --password=*** x"}]});
        assert_eq!(data["rules"][3], expected);
        let expected = json!({"users": ["v"], "rulelist": [
            {"hosts": ["h"], "command": "/bin/with\\ blank y"}, {"hosts": ["h"], "command": "/bin/g a\\ b"}]});
        assert_eq!(data["rules"][4], expected);
    }

    #[test]
    fn no_secret_gets_out() {
        let (data, errors) = parse(
            "Defaults bindpw=geheim\nu ALL=/bin/a --password=x,geheim\nv ALL=/bin/a token=geheim b : c\n",
        );
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(!format!("{data} {errors:?}").contains("geheim"), "{data} {errors:?}");
        assert_eq!(data["rules"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn includes() {
        let tree = Tree::of(&[
            (
                MAIN_FILE,
                "#include sub/a\n@include \"/x/%h\"\n#includedir /etc/sudoers.d\n@includedir /none\n#includes are nice\n",
            ),
            ("/etc/sub/a", "@include b\n"),
            ("/etc/sub/b", "u1 ALL=ALL\n@include /etc/sudoers\n"),
            ("/etc/hostname", "web.example.org\n"),
            ("/x/web", "u2 ALL=ALL\n"),
            ("/etc/sudoers.d/20", "u4 ALL=ALL"),
            ("/etc/sudoers.d/10", "u3 ALL=ALL"),
            ("/etc/sudoers.d/30.dpkg-old", "u5 ALL=ALL"),
            ("/etc/sudoers.d/40~", "u6 ALL=ALL"),
        ]);
        let (data, errors) = read(&tree, MAIN_FILE);
        let users: Vec<&Value> =
            data["rules"].as_array().unwrap().iter().map(|rule| &rule["users"][0]).collect();
        assert_eq!(users, ["u1", "u2", "u3", "u4"]);
        assert_eq!(data["include"], json!(["sub/a", "b", "/etc/sudoers", "/x/%h"]));
        assert_eq!(data["includedir"], json!(["/etc/sudoers.d", "/none"]));
        assert_eq!(errors, ["/etc/sub/b line 2: /etc/sudoers includes itself, left out here"]);
    }

    #[test]
    fn what_is_malformed_keeps_what_stands_before_it_and_is_named_with_its_line() {
        let (data, errors) = parse(
            "u ALL=/bin/a, relative\nv ALL\nDefaults env_reset, =x\nUser_Alias lower = a\nUser_Alias A = b\nUser_Alias A = c\n\
             w ALL=(root /bin/a\nDefaults x=\"y\nz ALL=/bin/a,\n@include /none\n",
        );
        assert_eq!(data["rules"][0]["rulelist"], json!([{"hosts": ["ALL"], "command": "/bin/a"}]));
        assert_eq!(data["rules"][1]["users"], json!(["z"]));
        assert_eq!(data["Defaults"], json!({"ANY": {"env_reset": true}}));
        assert_eq!(data["UserAliases"], json!({"A": ["b"]}));
        let expected = [
            "/etc/sudoers line 1: a command must be ALL, an alias, sudoedit, or begin with '/' at 'relative'",
            "/etc/sudoers line 2: '=' is missing after the hosts at the end of the line",
            "/etc/sudoers line 3: the name of an option is missing at '=x'",
            "/etc/sudoers line 4: the name of an alias is missing (capitals, digits and _) at 'lower = a'",
            "/etc/sudoers line 6: the alias A is already defined, this is left out",
            "/etc/sudoers line 7: ')' is missing after the run-as users and groups at '/bin/a'",
            "/etc/sudoers line 8: a quote is not closed at '\"y'",
            "/etc/sudoers line 9: a command must be ALL, an alias, sudoedit, or begin with '/' at the end of the line",
            "/etc/sudoers line 10: cannot read /none: no such file or directory",
        ];
        assert_eq!(errors, expected);
    }
}
