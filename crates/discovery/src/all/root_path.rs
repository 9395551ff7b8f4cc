//! Where root's commands come from: PATH of root as its logins set it, and the directories in it.
//!
//! `data` = `{"paths": {source: value as written}, "entries": {directory: {...}}}`. Sources, all that exist: `ENV_SUPATH` of
//! /etc/login.defs, /etc/environment, /etc/profile, /etc/profile.d/*.sh, /etc/bash.bashrc, /etc/bashrc and the start files
//! of a shell in root's home. What a script does only for other users than root is left out; entries with variables
//! other than PATH and HOME cannot be known and are left out, as are directories that are not there where the script adds
//! them only if they are (`-d`). When no source sets it, the value that login(1) was built
//! with is given.
//!
//! | field of an entry | value |
//! |---|---|
//! | `form` | `absolute`, `relative`, `dot` (`.` or `..`), `empty` (stands for the directory one happens to be in) |
//! | `sources` | where it is written |
//! | `type` | of absolute ones, symlinks followed: `d`, another letter, or `missing` |
//! | `owner`, `group`, `octal` | of what is there |
//!
//! The key of an empty entry is `(empty)`. login.defs(5), environment(5), bash(1).
//! ```json
//! {"paths":{"/etc/login.defs":"/usr/sbin:/usr/bin"},"entries":{"/usr/bin":{"form":"absolute","sources":["/etc/login.defs"],
//!  "type":"d","owner":"root","group":"root","octal":"0755"}}}
//! ```

use crate::parse::mount_points;
use crate::parse::ownership::Names;
use crate::parse::people;
use crate::parse::{Errors, Files, glob, lines};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub static DISCOVERY: Discovery = Discovery {
    name: "root_path",
    description: "Directories from which root's commands come",
    documentation: documentation::ROOT_PATH,
    parameters: &[],
    instances: &[Instance { name: "_init_root_path", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const LOGIN_DEFS: &str = "/etc/login.defs";
const SCRIPTS: &[&str] = &["/etc/profile", "/etc/profile.d/*.sh", "/etc/bash.bashrc", "/etc/bashrc"];
const OF_HOME: &[&str] = &[".bash_profile", ".bash_login", ".profile", ".bashrc"];
/// What login(1) of util-linux and of shadow fall back to.
const BUILT_IN: &str = "/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin";
const MAX_SCRIPTS: usize = 200;
const MAX_NESTING: usize = 100;
/// A longer home is no home, and each `$HOME` would become it.
const MAX_HOME_BYTES: usize = 1024;
const MAX_PATHS: usize = 500;
const MAX_PATH_BYTES: usize = 8192;
const MAX_ENTRIES: usize = 1000;

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Errors::default();
    let home = people::root(host).map(|root| root.home).filter(|home| home.len() < MAX_HOME_BYTES);
    let home = home.unwrap_or_else(|| "/root".to_owned());
    let mut paths: Vec<(String, Setting)> = Vec::new();
    let read = |path: &str, errors: &mut Errors| match host.text(path) {
        Ok(text) => Some(text),
        Err(reason) => {
            if !reason.absent {
                errors.unread(&reason);
            }
            None
        }
    };
    if let Some(text) = read(LOGIN_DEFS, &mut errors) {
        paths.extend(
            of_login_defs(&text, &mut errors).map(|value| (LOGIN_DEFS.to_owned(), Setting::of(value))),
        );
    }
    if let Some(text) = read("/etc/environment", &mut errors) {
        let values = of_script(&text, "/etc/environment", &mut errors);
        paths.extend(values.into_iter().map(|value| ("/etc/environment".to_owned(), value)));
    }
    let mut scripts = Vec::new();
    for pattern in SCRIPTS {
        match glob(host, pattern) {
            Ok(found) => scripts.extend(found),
            Err(reason) if reason.absent => {}
            Err(reason) => errors.unread(&reason),
        }
    }
    scripts.extend(OF_HOME.iter().map(|name| format!("{home}/{name}")));
    for script in scripts.into_iter().take(MAX_SCRIPTS) {
        if let Some(text) = read(&script, &mut errors) {
            let values = of_script(&text, &script, &mut errors);
            paths.extend(values.into_iter().map(|value| (script.clone(), value)));
        }
    }
    if paths.is_empty() {
        paths.push(("built into login".into(), Setting::of(BUILT_IN.into())));
    }
    if paths.len() > MAX_PATHS {
        errors.add(format!("PATH is set more than {MAX_PATHS} times: the rest was left out"));
        paths.truncate(MAX_PATHS);
    }
    // Sources, and whether each of them asks first if the directory is there.
    let mut entries: BTreeMap<String, (BTreeSet<&str>, bool)> = BTreeMap::new();
    for (source, setting) in &paths {
        let tested: Vec<String> = setting.tested.iter().flat_map(|tested| split(tested, &home)).collect();
        for entry in split(&setting.value, &home) {
            if entries.len() < MAX_ENTRIES || entries.contains_key(&entry) {
                let is_tested = tested.contains(&entry);
                let (sources, always_tested) = entries.entry(entry).or_insert((BTreeSet::new(), true));
                sources.insert(source);
                *always_tested &= is_tested;
            }
        }
    }
    let mut unread = Vec::new();
    let names = Names::of(host, &mut unread);
    unread.into_iter().for_each(|why| errors.add(why));
    let barriers = mount_points::barriers(host, &mount_points::current());
    let mut listed = Map::new();
    for (entry, (sources, always_tested)) in &entries {
        let form = form(entry);
        let mut fields =
            Map::from_iter([("form".to_owned(), json!(form)), ("sources".to_owned(), json!(sources))]);
        if form == "absolute" && !host.leads_to_barrier(entry, &barriers) {
            match host.stat(entry) {
                Ok(attributes) => fields.extend(names.entry(attributes)),
                Err(_) if *always_tested => continue,
                Err(_) => {
                    fields.insert("type".into(), "missing".into());
                }
            }
        }
        let key = if entry.is_empty() { "(empty)" } else { entry };
        listed.insert(key.to_owned(), Value::Object(fields));
    }
    let mut by_source = Map::new();
    for (source, setting) in paths {
        crate::parse::accumulate(&mut by_source, &source, setting.value.into());
    }
    let data = json!({"paths": by_source, "entries": listed});
    Collected { data, errors: errors.into_list(), extras: Map::new() }
}

/// A value that PATH is given.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    value: String,
    /// Directories that the script asks for with `-d` before.
    tested: Vec<String>,
}

impl Setting {
    fn of(value: String) -> Setting {
        Setting { value, tested: Vec::new() }
    }
}

/// The last `ENV_SUPATH`; the value may be written `PATH=/a:/b`.
fn of_login_defs(text: &str, errors: &mut Errors) -> Option<String> {
    let value = |line: &str| {
        let rest = line.trim_start().strip_prefix("ENV_SUPATH")?;
        let value = rest.starts_with([' ', '\t', '=']).then(|| rest.trim_matches([' ', '\t', '=', '"']))?;
        Some(value.strip_prefix("PATH=").unwrap_or(value).to_owned())
    };
    let mut values = lines(text, LOGIN_DEFS, errors).into_iter().filter_map(|(_, line)| value(line));
    values.rfind(|value| value.len() <= MAX_PATH_BYTES)
}

/// Every value that a script gives PATH when root runs it: `PATH=...`, `export PATH=...` (also behind `;`, `&&` and
/// `then`), and Red Hat's `pathmunge DIRECTORY`.
fn of_script(text: &str, file: &str, errors: &mut Errors) -> Vec<Setting> {
    let mut settings = Vec::new();
    // Of each `if` that is open: whether what stands here is for other users than root, and what was asked for.
    let mut open: Vec<(Branch, Option<String>)> = Vec::new();
    for (number, line) in lines(text, file, errors) {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        let first = line.split([' ', '\t', ';']).next().unwrap_or_default();
        match first {
            "if" if !has_word(line, "fi") => {
                if open.len() >= MAX_NESTING {
                    errors.at(file, number, "conditions are nested too deeply, the rest is left out");
                    return settings;
                }
                open.push((Branch::of(line), tested(line)));
            }
            "elif" => {
                open.pop();
                open.push((Branch::of(line), tested(line)));
            }
            "else" => {
                if let Some((branch, tested)) = open.last_mut() {
                    *branch = branch.opposite();
                    *tested = None;
                }
            }
            "fi" => drop(open.pop()),
            _ => {}
        }
        if open.iter().any(|(branch, _)| *branch == Branch::OthersOnly) {
            continue;
        }
        let values = values(first, line);
        if values.is_empty() {
            continue;
        }
        let own = tested(line);
        for value in values {
            // More than are told of all scripts together: the caller says so.
            if settings.len() > MAX_PATHS {
                return settings;
            }
            let around = open.iter().filter_map(|(_, tested)| tested.as_ref());
            settings.push(Setting { value, tested: around.chain(&own).cloned().collect() });
        }
    }
    settings
}

fn values(first: &str, line: &str) -> Vec<String> {
    if first == "pathmunge" {
        let directory = line.split_ascii_whitespace().nth(1).filter(|word| *word != "()");
        return directory.map(unquoted).into_iter().collect();
    }
    let value = |statement: &str| {
        let statement = statement.trim_start_matches([' ', '\t', '{', '(']);
        let statement = ["then ", "else ", "export ", "declare -x ", "readonly "]
            .iter()
            .fold(statement, |rest, word| rest.strip_prefix(word).unwrap_or(rest).trim_start());
        let value = statement.strip_prefix("PATH=").filter(|value| value.len() <= MAX_PATH_BYTES)?;
        Some(unquoted(first_word(value)))
    };
    line.split([';', '&', '|']).filter_map(value).collect()
}

/// The directory that a condition asks for: `[ -d /opt/bin ]`.
fn tested(line: &str) -> Option<String> {
    let mut words = line.split_ascii_whitespace().skip_while(|word| *word != "-d");
    let directory = words.nth(1)?.trim_end_matches([';', ']']);
    (directory.len() <= MAX_PATH_BYTES).then(|| unquoted(directory))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Branch {
    RootOnly,
    OthersOnly,
    Either,
}

impl Branch {
    /// By the condition: `[ "$(id -u)" -eq 0 ]`, `[ "$EUID" = "0" ]`, `[ "$UID" -ne 0 ]` ...
    fn of(condition: &str) -> Branch {
        let asks = ["id -u", "EUID", "UID"].iter().any(|word| condition.contains(word));
        let words: Vec<&str> =
            condition.split_ascii_whitespace().map(|word| word.trim_matches(['"', '\'', ';'])).collect();
        let is = |operators: &[&str]| {
            words.windows(2).any(|pair| operators.contains(&pair[0]) && pair[1].trim_end_matches(']') == "0")
        };
        match asks {
            true if is(&["-eq", "=", "=="]) => Branch::RootOnly,
            true if is(&["-ne", "!=", "-gt"]) => Branch::OthersOnly,
            _ => Branch::Either,
        }
    }

    fn opposite(self) -> Branch {
        match self {
            Branch::RootOnly => Branch::OthersOnly,
            Branch::OthersOnly => Branch::RootOnly,
            Branch::Either => Branch::Either,
        }
    }
}

fn has_word(line: &str, word: &str) -> bool {
    line.split([' ', '\t', ';']).any(|found| found == word)
}

/// Up to the first blank outside quotes, or a comment.
fn first_word(text: &str) -> &str {
    let mut quote = None;
    let end = text.find(|c: char| match quote {
        Some(open) => {
            quote = (c != open).then_some(open);
            false
        }
        None => {
            quote = (c == '"' || c == '\'').then_some(c);
            c.is_whitespace()
        }
    });
    &text[..end.unwrap_or(text.len())]
}

fn unquoted(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '"' | '\'')).collect()
}

/// The entries of a value: what it was before and what cannot be known are left out.
fn split(value: &str, home: &str) -> Vec<String> {
    if value.is_empty() {
        return Vec::new();
    }
    let known = value.replace("${PATH}", "$PATH").replace("${HOME}", home).replace("$HOME", home);
    // Colons within an expansion separate nothing; what holds one is unknown as a whole.
    let mut depth = 0_usize;
    let entries = known.split(|c: char| {
        match c {
            '{' | '(' => depth += 1,
            '}' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ':' && depth == 0
    });
    let entries = entries.map(|entry| match entry.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{home}{rest}"),
        _ => entry.to_owned(),
    });
    let tidy = |entry: String| match entry.trim_end_matches('/') {
        "" if !entry.is_empty() => "/".to_owned(),
        trimmed => trimmed.to_owned(),
    };
    entries.filter(|entry| !entry.contains(['$', '`'])).map(tidy).collect()
}

fn form(entry: &str) -> &'static str {
    match entry {
        "" => "empty",
        "." | ".." => "dot",
        absolute if absolute.starts_with('/') => "absolute",
        _ => "relative",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_fixtures, collect as collect_files};
    use proptest::prelude::*;

    fn script(text: &str) -> Vec<String> {
        let mut errors = Errors::default();
        let settings = of_script(text, "f", &mut errors);
        assert_eq!(errors.into_list(), [""; 0]);
        settings.into_iter().map(|setting| setting.value).collect()
    }

    #[test]
    fn many_values_in_one_line_take_no_time_to_speak_of() {
        let start = std::time::Instant::now();
        let line = format!("if [ -d /a ]; then\n[ -d /b ] && {}\nfi\n", "PATH=/a;".repeat(100_000));
        let settings = of_script(&line, "f", &mut Errors::default());
        assert_eq!(settings.len(), MAX_PATHS + 1);
        assert_eq!(settings[0], Setting { value: "/a".into(), tested: vec!["/a".into(), "/b".into()] });
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
    }

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn debians_profile_for_root_only() {
        let text = "# PATH=/no\nif [ \"$(id -u)\" -eq 0 ]; then\n  PATH=\"/usr/sbin:/usr/bin\"\nelse\n  PATH=\"/usr/games\"\nfi\n\
            export PATH\nif [ -d /x ]; then\n  PATH=/x:$PATH # more\nfi\n";
        assert_eq!(script(text), ["/usr/sbin:/usr/bin", "/x:$PATH"]);
        assert_eq!(script("if [ \"$UID\" -ne 0 ]; then\nPATH=/a\nelse\nPATH=/b\nfi\nPATH=/c"), ["/b", "/c"]);
    }

    #[test]
    fn red_hats_profile() {
        let text = "pathmunge () {\n    case \":${PATH}:\" in\n  *) PATH=$PATH:$1\n    esac\n}\n\
            if [ \"$EUID\" = \"0\" ]; then\n    pathmunge /usr/sbin\n    pathmunge /usr/local/sbin\nelse\n\
            pathmunge /x after\nfi\n";
        assert_eq!(script(text), ["/usr/sbin", "/usr/local/sbin"]);
        assert_eq!(script("[ -d ~/bin ] && export PATH='~/bin:$PATH'; true"), ["~/bin:$PATH"]);
    }

    #[test]
    fn entries_are_taken_apart() {
        for (value, entries) in [
            ("/a:/b/", vec!["/a", "/b"]),
            ("$PATH:", vec![""]),
            (":$PATH", vec![""]),
            ("/a::/b", vec!["/a", "", "/b"]),
            (".:$HOME/bin:~/x:~joe", vec![".", "/root/bin", "/root/x", "~joe"]),
            ("${PATH:+${PATH}:}/opt/bin", vec![]),
            ("$(brew --prefix)/bin:/c", vec!["/c"]),
            ("//", vec!["/"]),
            ("", vec![]),
        ] {
            assert_eq!(split(value, "/root"), entries, "{value}");
        }
        for (entry, expected) in
            [("", "empty"), ("..", "dot"), ("bin", "relative"), ("/bin", "absolute"), ("~joe", "relative")]
        {
            assert_eq!(form(entry), expected, "{entry}");
        }
    }

    #[test]
    fn what_is_added_only_if_it_is_there_need_not_be() {
        let text =
            b"[ -d /a ] && PATH=/a:$PATH\nif [ -d \"$HOME/b\" ] ; then\n  PATH=\"$HOME/b:/c:$PATH\"\nelse\n\
            PATH=/root/d\nfi\n[ -d /e ] && PATH=/e\n[ -d /usr ] && PATH=/usr\n";
        let found = collect_files(
            &DISCOVERY,
            &[("/root/.profile", text), ("/etc/profile", b"PATH=/e:$PATH"), ("/usr/x", b"")],
        );
        let entries = found.data["entries"].as_object().unwrap();
        assert_eq!(entries.keys().collect::<Vec<_>>(), ["/c", "/e", "/root/d", "/usr"]);
    }

    #[test]
    fn sources_and_directories_are_told() {
        let found = collect_files(
            &DISCOVERY,
            &[
                ("/etc/login.defs", b"ENV_PATH PATH=/no\nENV_SUPATH\tPATH=/usr/bin:/gone\r\n"),
                ("/etc/environment", b"PATH=\"/usr/bin:\"\n"),
                ("/root/.bashrc", b"export PATH=.:bin:$PATH\n"),
                ("/usr/bin/x", b""),
                ("/etc/profile.d/a.sh", b"PATH=/usr/bin/x\n"),
            ],
        );
        assert_eq!(found.errors, [""; 0]);
        let entries = found.data["entries"].as_object().unwrap();
        assert_eq!(
            entries.keys().collect::<Vec<_>>(),
            ["(empty)", ".", "/gone", "/usr/bin", "/usr/bin/x", "bin"]
        );
        assert_eq!(entries["/usr/bin"]["sources"], json!(["/etc/environment", "/etc/login.defs"]));
        assert_eq!(entries["/usr/bin"]["type"], "d");
        assert_eq!(entries["/usr/bin/x"]["type"], "-");
        assert_eq!(entries["/gone"]["type"], "missing");
        assert_eq!((&entries["bin"]["form"], &entries["bin"]["type"]), (&json!("relative"), &Value::Null));
        assert_eq!(found.data["paths"]["/etc/login.defs"], "/usr/bin:/gone");
        let nothing = collect_files(&DISCOVERY, &[("/etc/hostname", b"x")]);
        assert_eq!(nothing.data["paths"]["built into login"], BUILT_IN);
    }

    proptest! {
        #[test]
        fn any_script_is_survived(
            words in proptest::collection::vec(
                proptest::sample::select(vec![
                    "PATH=", "if ", "fi", "\n", ";", "\"", "'", "$", "{", "}", ":", "/a", "else", "elif", "(", "ä",
                    "pathmunge ", "export ", "id -u", " -eq 0", "~", "\\", "#",
                ]),
                0..60,
            ),
        ) {
            let mut errors = Errors::default();
            for setting in of_script(&words.concat(), "f", &mut errors) {
                for entry in split(&setting.value, "/root") {
                    form(&entry);
                }
            }
            of_login_defs(&words.concat(), &mut errors);
        }
    }
}
