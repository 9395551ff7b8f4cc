//! How programs authenticate people: the service files under `/etc/pam.d`, see pam.conf(5).
//!
//! `data` is file name → list of its lines in order. Where there is no `/etc/pam.d`, `/etc/pam.conf` is read, which
//! names the service at the beginning of each line. Editor backups and leftovers of package managers are skipped.
//!
//! - A module line is `{"service", "type", "module"}`. `service` is the module type in lower case and keeps a
//!   leading `-`. `type` is `{"keyword": "required"}` or, for `[...]`, return value → action, where the number of
//!   modules to jump over is a number. `module` has `path` and the arguments: a bare word → true,
//!   `name=value` → number (octal after a leading 0, delivered in decimal) or text, `[name=several words]` →
//!   list, and a repeated name → list.
//! - An include line is `{"service": "@include", "filename": "common-auth"}`. `include` and `substack` are
//!   control words and come as `type.keyword`, with the file in `module.path`.
//!
//! Values of arguments that look like secrets are replaced by `***`.
//!
//! ```json
//! {"sshd": [{"service": "auth", "type": {"success": 1, "default": "ignore"},
//!            "module": {"path": "pam_unix.so", "nullok": true}},
//!           {"service": "@include", "filename": "common-account"}]}
//! ```

use crate::parse::{
    self, Errors, Files, NotRead, accumulate, c_integer, is_secret_name, mask_secrets, quoted,
};
use crate::{
    Collected, Discovery, Host, Instance, Parameter, Parameters, Schedule, Trigger, documentation, no_graph,
};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "pam",
    description: "How programs authenticate people (PAM)",
    documentation: documentation::PAM,
    parameters: &[Parameter {
        name: "PAM_DIRECTORY",
        meaning: "directory of service files",
        default: "/etc/pam.d",
    }],
    instances: &[Instance { name: "_init_pam", parameters: &[], schedule: None }],
    schedule: Schedule::DEFAULT,
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const MAX_FILES: usize = 1000;
const TYPES: &[&str] = &["account", "auth", "password", "session"];
const KEYWORDS: &[&str] = &["required", "requisite", "sufficient", "optional", "include", "substack"];

fn collect(host: &Host, parameters: &Parameters) -> Collected {
    parse::collected(read(host, parameters.get("PAM_DIRECTORY").map_or("/etc/pam.d", String::as_str)))
}

fn read(files: &dyn Files, directory: &str) -> (Value, Vec<String>) {
    let mut errors = Errors::default();
    let mut names = match files.names(directory) {
        Ok(names) => names,
        Err(reason) => return read_pam_conf(files, directory, &reason),
    };
    names.retain(|name| !is_leftover(name));
    names.sort();
    if names.len() > MAX_FILES {
        errors.add(format!(
            "{directory} has {} files, those after the first {MAX_FILES} are left out",
            names.len()
        ));
        names.truncate(MAX_FILES);
    }
    let mut data = Map::new();
    for name in names {
        let path = format!("{directory}/{name}");
        match files.text(&path) {
            Ok(text) => {
                let entries = parse(&text, &path, &mut errors);
                data.insert(name, Value::Array(entries));
            }
            // Gone since the directory was listed.
            Err(reason) if reason.absent => {}
            Err(reason) => errors.unread(&reason),
        }
    }
    (Value::Object(data), errors.into_list())
}

/// `/etc/pam.conf`, which counts only where the directory does not exist.
fn read_pam_conf(files: &dyn Files, directory: &str, reason: &NotRead) -> (Value, Vec<String>) {
    let mut errors = Errors::default();
    let file = "/etc/pam.conf";
    if reason.absent
        && let Ok(text) = files.text(file)
    {
        let mut data = Map::new();
        for (number, line) in parse::joined_lines(&text, file, &mut errors, parse::cut_at_hash) {
            let (service, rest) = split_word(line.trim());
            if let Some(entry) = entry(rest, file, number, &mut errors) {
                let list = data.entry(service.to_ascii_lowercase()).or_insert_with(|| json!([]));
                if let Value::Array(list) = list {
                    list.push(entry);
                }
            }
        }
        return (Value::Object(data), errors.into_list());
    }
    errors.unread(reason);
    (parse::no_data(directory), errors.into_list())
}

/// The lines of one service file.
fn parse(text: &str, file: &str, errors: &mut Errors) -> Vec<Value> {
    parse::joined_lines(text, file, errors, parse::cut_at_hash)
        .iter()
        .filter_map(|(number, line)| entry(line.trim(), file, *number, errors))
        .collect()
}

fn entry(line: &str, file: &str, number: usize, errors: &mut Errors) -> Option<Value> {
    let (service, rest) = split_word(line);
    if service.eq_ignore_ascii_case("@include") {
        if rest.is_empty() {
            errors.at(file, number, "@include without a file name");
            return None;
        }
        return Some(json!({ "service": "@include", "filename": split_word(rest).0 }));
    }
    let service = service.to_ascii_lowercase();
    if !TYPES.contains(&service.strip_prefix('-').unwrap_or(&service)) {
        errors.at(
            file,
            number,
            format_args!("{} is not a module type ({})", quoted(&service), TYPES.join(", ")),
        );
        return None;
    }
    let (control, rest) = match rest.strip_prefix('[') {
        Some(inside) => {
            let Some((inside, rest)) = bracketed(inside) else {
                errors.at(file, number, "the '[' of the control value is not closed");
                return None;
            };
            (actions(&inside, file, number, errors), rest.trim_start())
        }
        None => {
            let (word, rest) = split_word(rest);
            let word = word.to_ascii_lowercase();
            if word.is_empty() || rest.is_empty() {
                errors.at(file, number, format_args!("a {service} line needs a control value and a module"));
                return None;
            }
            if !KEYWORDS.contains(&word.as_str()) {
                errors.at(file, number, format_args!("{} is not a control value", quoted(&word)));
            }
            (json!({ "keyword": word }), rest)
        }
    };
    let (path, mut rest) = split_word(rest);
    if path.is_empty() {
        errors.at(file, number, format_args!("a {service} line needs a module"));
        return None;
    }
    let mut module = Map::new();
    while !rest.is_empty() {
        let argument;
        (argument, rest) = match rest.strip_prefix('[').map(bracketed) {
            Some(Some((inside, rest))) => (inside, rest.trim_start()),
            Some(None) => {
                errors.at(file, number, "the '[' of an argument is not closed");
                (rest[1..].to_owned(), "")
            }
            None => {
                let (word, rest) = split_word(rest);
                (word.to_owned(), rest)
            }
        };
        add_argument(&mut module, argument.trim());
    }
    // Last, so that an argument called `path` cannot stand in for the module.
    module.insert("path".into(), Value::from(path));
    Some(json!({ "service": service, "type": control, "module": module }))
}

/// The first word, and what follows the blanks after it.
fn split_word(text: &str) -> (&str, &str) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// What stands before the closing bracket, `\]` being a bracket in the text, and what follows.
fn bracketed(text: &str) -> Option<(String, &str)> {
    let mut start = 0;
    while let Some(at) = text[start..].find(']').map(|at| start + at) {
        if !text[..at].ends_with('\\') {
            return Some((text[..at].replace("\\]", "]"), &text[at + 1..]));
        }
        start = at + 1;
    }
    None
}

/// `success=1 default=ignore` as an object. Blanks around `=` are allowed.
fn actions(text: &str, file: &str, number: usize, errors: &mut Errors) -> Value {
    let mut found = Map::new();
    let spaced = text.replace('=', " = ");
    let mut words = spaced.split_whitespace();
    while let Some(name) = words.next() {
        match (words.next(), words.next()) {
            (Some("="), Some(action)) if name != "=" && action != "=" => {
                let action = action.to_ascii_lowercase();
                let value = parse::integer(&action).map_or_else(|| Value::from(action), Value::from);
                found.insert(name.to_ascii_lowercase(), value);
            }
            _ => {
                errors.at(file, number, format_args!("{} is not a list of value=action", quoted(text)));
                break;
            }
        }
    }
    Value::Object(found)
}

fn add_argument(module: &mut Map<String, Value>, argument: &str) {
    let named = argument.split_once('=').filter(|(name, _)| {
        // `uid >= 1000` has an operator, not a value.
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    });
    let Some((name, value)) = named else {
        if !argument.is_empty() {
            module.insert(mask_secrets(argument).into_owned(), Value::Bool(true));
        }
        return;
    };
    if is_secret_name(name) {
        module.insert(name.to_owned(), Value::from("***"));
        return;
    }
    let words: Vec<&str> = value.split_whitespace().collect();
    let value = match words.as_slice() {
        [] => Value::from(""),
        [word] => c_integer(word).map_or_else(|| Value::from(mask_secrets(word)), Value::from),
        _ => mask_secrets(value).split_whitespace().map(Value::from).collect(),
    };
    match module.get(name) {
        Some(Value::Bool(_)) | None => {
            module.insert(name.to_owned(), value);
        }
        Some(_) => accumulate(module, name, value),
    }
}

/// Files that editors and package managers leave behind; PAM itself reads a file only under a program's name.
fn is_leftover(name: &str) -> bool {
    const ENDINGS: &[&str] =
        &["~", ".bak", ".old", ".orig", ".save", ".swp", ".rpmsave", ".rpmnew", ".rpmorig", ".pam-old"];
    name.starts_with(['.', '#'])
        || ENDINGS.iter().any(|ending| name.ends_with(ending))
        || [".dpkg-", ".ucf-"].iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{Tree, check_any_text, check_fixtures, check_robustness};

    const FILE: &str = "/etc/pam.d/x";

    fn entries(text: &str) -> (Value, Vec<String>) {
        let (data, errors) = read(&Tree::of(&[(FILE, text)]), "/etc/pam.d");
        (data["x"].clone(), errors)
    }

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn robustness() {
        check_robustness(
            &DISCOVERY,
            "/etc/pam.d",
            FILE,
            "auth [success=1 default=ignore] pam_unix.so nullok a=b=c [d=e f]\n@include y\n-session\trequired\tz.so\n",
        );
        let tokens = &[
            "auth",
            " ",
            "\n",
            "=",
            "#",
            "[",
            "]",
            "\\",
            "required",
            "pam_unix.so",
            "@include",
            "-",
            "1",
            "ä",
        ];
        check_any_text(FILE, tokens, |text| read(&Tree::of(&[(FILE, text)]), "/etc/pam.d"));
    }

    #[test]
    fn module_lines() {
        let (found, errors) = entries(
            "-Auth [Success = 2 default=DIE new_authtok_reqd=ok] pam_unix.so \\\n  nullok_secure remember=24 minlen=-1 umask=0022\n\
             password Required pam_ldap.so filter=(a=b) uri=ldap://u:pw@h bindpw=x [query=select x from y] [a \\] b] empty=\n\
             account sufficient pam_succeed_if.so uid >= 1000 quiet # why\n\
             auth include system-auth\nauth required m.so a=1 a=2 path=/evil\n",
        );
        let expected = json!([
            {"service": "-auth", "type": {"success": 2, "default": "die", "new_authtok_reqd": "ok"},
             "module": {"path": "pam_unix.so", "nullok_secure": true, "remember": 24, "minlen": -1, "umask": 18}},
            {"service": "password", "type": {"keyword": "required"},
             "module": {"path": "pam_ldap.so", "filter": "(a=b)", "uri": "ldap://u:***@h", "bindpw": "***",
                        "query": ["select", "x", "from", "y"], "a ] b": true, "empty": ""}},
            {"service": "account", "type": {"keyword": "sufficient"},
             "module": {"path": "pam_succeed_if.so", "uid": true, ">=": true, "1000": true, "quiet": true}},
            {"service": "auth", "type": {"keyword": "include"}, "module": {"path": "system-auth"}},
            {"service": "auth", "type": {"keyword": "required"}, "module": {"path": "m.so", "a": [1, 2]}},
        ]);
        assert_eq!(found, expected);
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let (found, errors) = entries(
            "auth required\nwrong required x.so\nauth [a=1 x.so\nauth perhaps x.so\n@include\nauth [a b] y.so\nauth [default=ok]\n",
        );
        let expected = json!([
            {"service": "auth", "type": {"keyword": "perhaps"}, "module": {"path": "x.so"}},
            {"service": "auth", "type": {}, "module": {"path": "y.so"}},
        ]);
        assert_eq!(found, expected);
        let lines: Vec<&str> = errors.iter().filter_map(|error| error.split(':').next()).collect();
        let expected: Vec<String> =
            [1, 2, 3, 4, 5, 6, 7].iter().map(|n| format!("{FILE} line {n}")).collect();
        assert_eq!(lines, expected, "{errors:?}");
    }

    #[test]
    fn leftovers_are_skipped_and_unreadable_files_named() {
        let line = "auth required a.so\n";
        let mut tree = Tree::of(&[]);
        for name in [
            "sshd",
            "sshd~",
            ".sshd.swp",
            "sshd.dpkg-old",
            "sshd.rpmsave",
            "#sshd#",
            "other.bak",
            "a.ucf-dist",
        ] {
            tree.0.insert(format!("/etc/pam.d/{name}"), Some(line.into()));
        }
        tree.0.insert("/etc/pam.d/closed".into(), None);
        let (data, errors) = read(&tree, "/etc/pam.d");
        assert_eq!(data.as_object().unwrap().keys().collect::<Vec<_>>(), ["sshd"]);
        assert_eq!(errors, ["Cannot read /etc/pam.d/closed: permission denied"]);
    }

    #[test]
    fn pam_conf_is_read_where_there_is_no_directory() {
        let tree = Tree::of(&[(
            "/etc/pam.conf",
            "Login auth required a.so\nlogin account required b.so x=1\nsu bad\n",
        )]);
        let (data, errors) = read(&tree, "/etc/pam.d");
        assert_eq!(data["login"][1]["module"], json!({"path": "b.so", "x": 1}));
        assert_eq!(data["login"][0]["service"], "auth");
        assert_eq!(errors.len(), 1);
        assert!(errors[0].starts_with("/etc/pam.conf line 3: 'bad'"), "{errors:?}");
    }
}
