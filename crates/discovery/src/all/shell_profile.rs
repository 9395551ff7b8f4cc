//! What shells set for everybody at the start: umask and time-out, see bash(1), csh(1), umask(1p).
//!
//! Reads `/etc/profile`, `/etc/profile.d/*`, `/etc/bash.bashrc` (Debian), `/etc/bashrc` (Red Hat), `/etc/csh.cshrc`,
//! `/etc/csh.login`, `/etc/zsh/*` and `/etc/zsh*`, and the start-up files in the homes of root and of people (accounts
//! with a shell, from `UID_MIN` on). Homes on file systems of other machines are left alone on the running system.
//!
//! `data` has for each file an object: `umask`, the weakest mask that a line of it sets, as four octal digits; `umasks`
//! when different lines set different ones; `TMOUT` in seconds with `TMOUT_readonly` and `TMOUT_exported`; `user` for a
//! file in a home. System-wide files appear whenever they exist, the files in homes only when they set something. Nothing
//! is run: a line in a branch of an `if` counts like any other.
//!
//! `login.umask` is what a login shell has after `/etc/profile` and `/etc/profile.d`. `TMOUT`, `TMOUT_readonly`,
//! `TMOUT_exported` and `TMOUT_from` at the top are what bash has after all system-wide files, in the order in which it
//! reads them; after `readonly` no later file counts.
//!
//! ```json
//! {"/etc/profile": {"umask": "0002", "umasks": ["0002", "0022"]}, "/etc/profile.d/tmout.sh": {"TMOUT": 900, "TMOUT_readonly": true},
//!  "/etc/bashrc": {}, "/home/ann/.bashrc": {"umask": "0077", "user": "ann"},
//!  "login": {"umask": "0002", "from": "/etc/profile"},
//!  "TMOUT": 900, "TMOUT_readonly": true, "TMOUT_exported": false, "TMOUT_from": "/etc/profile.d/tmout.sh"}
//! ```

use crate::parse::ownership::first_number_of_people;
use crate::parse::shell_words::{commands, umask};
use crate::parse::users::{self, Homes};
use crate::parse::{self, Errors, Files};
use crate::{
    Collected, Discovery, Host, Instance, Kind, Parameters, Schedule, Trigger, documentation, no_graph,
};
use serde_json::{Map, Value, json};
use std::ffi::CString;

pub static DISCOVERY: Discovery = Discovery {
    name: "shell_profile",
    description: "What shells set for everybody: umask and time-out",
    documentation: documentation::SHELL_PROFILE,
    parameters: &[],
    instances: &[Instance { name: "_init_shell_profile", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const PROFILE: &str = "/etc/profile";
const PROFILE_D: &str = "/etc/profile.d";
const BASHRC: &[&str] = &["/etc/bash.bashrc", "/etc/bashrc"];
const OTHERS: &[&str] = &[
    "/etc/csh.cshrc",
    "/etc/csh.login",
    "/etc/zshenv",
    "/etc/zprofile",
    "/etc/zshrc",
    "/etc/zlogin",
    "/etc/zsh/zshenv",
    "/etc/zsh/zprofile",
    "/etc/zsh/zshrc",
    "/etc/zsh/zlogin",
];
const IN_HOMES: &[&str] = &[
    ".bash_profile",
    ".bash_login",
    ".profile",
    ".bashrc",
    ".zshenv",
    ".zprofile",
    ".zshrc",
    ".cshrc",
    ".tcshrc",
    ".login",
    ".kshrc",
];
/// Homes that are looked at; those of further people are left out.
const MAX_HOMES: usize = 1000;
/// Start-up files are small; a larger one is not read.
const MAX_HOME_FILE_BYTES: u64 = 256 * 1024;

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mounts = Homes::of(host);
    let homes = homes(host).into_iter().filter(|(_, home)| !mounts.are_elsewhere(home));
    parse::collected(read_all(host, homes, |home, name| read_in_home(host, home, name)))
}

/// A start-up file of a user. It is the user's word only: too large, a FIFO or a link out of the home, it is passed
/// over without a sentence. Homes are not watched, they are too busy.
fn read_in_home(host: &Host, home: &str, name: &str) -> Option<String> {
    let directory = host.directory_unrecorded(home).ok()?;
    let raw = CString::new(name).ok()?;
    let bytes = match directory.lstat(&raw).ok()?.kind {
        Kind::Symlink => {
            let path = format!("{home}/{name}");
            let target = host.read_link(&path).ok()?;
            let inside = target.strip_prefix(home).is_some_and(|rest| rest.starts_with('/'))
                || !target.starts_with('/');
            if !inside || target.split('/').any(|part| part == "..") {
                return None;
            }
            host.read_at_most(&path, MAX_HOME_FILE_BYTES).ok()?
        }
        _ => directory.open(&raw).ok()?.bytes(MAX_HOME_FILE_BYTES).ok()?,
    };
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Name and home of root and of people, homes that are no real directories left out.
fn homes(files: &dyn Files) -> Vec<(String, String)> {
    let Ok(text) = files.text("/etc/passwd") else { return Vec::new() };
    let uid_min = i64::from(first_number_of_people(files, "UID_MIN"));
    // Mistakes in this file are told by the discovery of accounts.
    let (users, _) = users::parse(&text, "/etc/passwd", &mut Errors::default());
    users
        .into_iter()
        .filter(|user| user.name == "root" || user.is_interactive(uid_min))
        .filter(|user| user.home.starts_with('/') && user.home.len() > 1 && user.home.len() < 1024)
        .map(|user| (user.name, user.home.trim_end_matches('/').to_owned()))
        .take(MAX_HOMES)
        .collect()
}

fn read_all(
    files: &dyn Files,
    homes: impl Iterator<Item = (String, String)>,
    read_home_file: impl Fn(&str, &str) -> Option<String>,
) -> (Value, Vec<String>) {
    let mut errors = Errors::default();
    let mut data = Map::new();
    let mut login = Map::new();
    let mut timeout = Timeout::default();
    let mut profile_d = match files.names(PROFILE_D) {
        Ok(names) => names,
        Err(reason) => {
            if !reason.absent {
                errors.unread(&reason);
            }
            Vec::new()
        }
    };
    profile_d.retain(|name| name.ends_with(".sh") || name.ends_with(".csh"));
    profile_d.sort();
    profile_d.truncate(parse::MAX_INCLUDED_FILES);
    let profile_d: Vec<String> = profile_d.iter().map(|name| format!("{PROFILE_D}/{name}")).collect();
    let of_sh = profile_d.iter().map(String::as_str).filter(|path| path.ends_with(".sh"));
    let of_login_shells: Vec<&str> = [PROFILE].into_iter().chain(of_sh).collect();
    let of_csh = profile_d.iter().map(String::as_str).filter(|path| path.ends_with(".csh"));
    let all = of_login_shells.iter().chain(BASHRC).copied().chain(of_csh).chain(OTHERS.iter().copied());
    let mut is_there = false;
    for (index, path) in all.enumerate() {
        let text = match files.text(path) {
            Ok(text) => text,
            Err(reason) => {
                if !reason.absent {
                    errors.unread(&reason);
                }
                continue;
            }
        };
        is_there = true;
        let file = parse(&text, path, &mut errors);
        let for_bash = index < of_login_shells.len() + BASHRC.len();
        if for_bash {
            timeout.follow(&file, path);
        }
        if index < of_login_shells.len()
            && let Some(mask) = file.weakest()
        {
            login.insert("umask".into(), octal(mask));
            login.insert("from".into(), Value::from(path));
        }
        data.insert(path.to_owned(), Value::Object(file.object()));
    }
    for (user, home) in homes {
        for name in IN_HOMES {
            let Some(text) = read_home_file(&home, name) else { continue };
            let path = format!("{home}/{name}");
            let mut object = parse(&text, &path, &mut Errors::default()).object();
            if !object.is_empty() {
                object.insert("user".into(), Value::from(user.as_str()));
                data.insert(path, Value::Object(object));
            }
        }
    }
    if !is_there && data.is_empty() && errors_are_none(&mut errors) {
        return (
            json!({"NODATA": "no shell has a start-up file: there is neither /etc/profile nor /etc/bashrc"}),
            Vec::new(),
        );
    }
    data.insert("login".into(), Value::Object(login));
    timeout.add_to(&mut data);
    (Value::Object(data), errors.into_list())
}

fn errors_are_none(errors: &mut Errors) -> bool {
    let list = std::mem::take(errors).into_list();
    let none = list.is_empty();
    list.into_iter().for_each(|sentence| errors.add(sentence));
    none
}

/// What one file does.
#[derive(Default)]
struct File {
    masks: Vec<u32>,
    /// Of the last assignment; `None` after `unset`.
    timeout: Option<i64>,
    /// Whether a line of the file is about TMOUT at all.
    has_timeout: bool,
    readonly: bool,
    exported: bool,
}

impl File {
    fn weakest(&self) -> Option<u32> {
        self.masks.iter().copied().reduce(|a, b| a & b)
    }

    fn object(&self) -> Map<String, Value> {
        let mut object = Map::new();
        if let Some(mask) = self.weakest() {
            object.insert("umask".into(), octal(mask));
        }
        if self.masks.len() > 1 {
            object.insert("umasks".into(), self.masks.iter().map(|mask| octal(*mask)).collect());
        }
        if let Some(seconds) = self.timeout {
            object.insert("TMOUT".into(), Value::from(seconds));
        }
        if self.readonly {
            object.insert("TMOUT_readonly".into(), Value::Bool(true));
        }
        if self.exported {
            object.insert("TMOUT_exported".into(), Value::Bool(true));
        }
        object
    }
}

fn octal(mask: u32) -> Value {
    Value::from(format!("{mask:04o}"))
}

/// TMOUT over several files.
#[derive(Default)]
struct Timeout {
    seconds: Option<(i64, String)>,
    readonly: bool,
    exported: bool,
}

impl Timeout {
    fn follow(&mut self, file: &File, path: &str) {
        if file.has_timeout && !self.readonly {
            if let Some(seconds) = file.timeout {
                self.seconds = Some((seconds, path.to_owned()));
            } else if !file.readonly && !file.exported {
                self.seconds = None;
            }
        }
        self.readonly |= file.readonly;
        self.exported |= file.exported;
    }

    fn add_to(self, data: &mut Map<String, Value>) {
        let Some((seconds, from)) = self.seconds else { return };
        data.insert("TMOUT".into(), Value::from(seconds));
        data.insert("TMOUT_from".into(), Value::from(from));
        data.insert("TMOUT_readonly".into(), Value::Bool(self.readonly));
        data.insert("TMOUT_exported".into(), Value::Bool(self.exported));
    }
}

fn parse(text: &str, path: &str, errors: &mut Errors) -> File {
    let mut file = File::default();
    for (_, line) in parse::lines(text, path, errors) {
        // Most lines of a start-up file are about other things.
        if !line.contains("umask") && !line.contains("TMOUT") {
            continue;
        }
        for words in commands(line) {
            let Some((first, arguments)) = words.split_first() else { continue };
            match first.as_str() {
                "umask" => {
                    if let Some(mask) = umask(arguments).filter(|mask| !file.masks.contains(mask)) {
                        file.masks.push(mask);
                    }
                }
                "export" | "readonly" | "declare" | "typeset" | "local" => {
                    declare(&mut file, first, arguments)
                }
                "unset" if arguments.iter().any(|word| word == "TMOUT") && !file.readonly => {
                    file.has_timeout = true;
                    file.timeout = None;
                }
                // An assignment before a command is for that command only.
                _ if words.iter().all(|word| word.contains('=')) => {
                    words.iter().for_each(|word| assign(&mut file, word));
                }
                _ => {}
            }
        }
    }
    file
}

fn declare(file: &mut File, command: &str, arguments: &[String]) {
    let flags: String =
        arguments.iter().filter(|word| word.starts_with('-')).flat_map(|word| word.chars()).collect();
    let names = || arguments.iter().filter(|word| !word.starts_with('-'));
    names().for_each(|word| assign(file, word));
    if names().any(|word| word == "TMOUT" || word.starts_with("TMOUT=")) {
        file.has_timeout = true;
        let of_variables = matches!(command, "declare" | "typeset" | "local");
        file.readonly |= command == "readonly" || (of_variables && flags.contains('r'));
        file.exported |=
            (command == "export" && !flags.contains('n')) || (of_variables && flags.contains('x'));
    }
}

fn assign(file: &mut File, word: &str) {
    if let Some(value) = word.strip_prefix("TMOUT=")
        && !file.readonly
    {
        file.has_timeout = true;
        // Anything but a number switches the time-out off.
        file.timeout = Some(parse::integer(value).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{Tree, check_any_text, check_fixtures, collect};

    fn read(files: &[(&str, &str)]) -> (Value, Vec<String>) {
        let tree = Tree::of(files);
        let homes = homes(&tree);
        read_all(&tree, homes.into_iter(), |home, name| tree.text(&format!("{home}/{name}")).ok())
    }

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn the_weakest_mask_of_a_file_counts() {
        let (data, errors) = read(&[
            (
                PROFILE,
                "if [ $UID -gt 199 ]; then\n\tumask 027\nelse\r\n    umask 022 # x\nfi\n# umask 000\necho \"umask 000\"\n",
            ),
            ("/etc/profile.d/z.sh", "umask u=rwx,g=,o=\n"),
            ("/etc/profile.d/z.csh", "umask 000\n"),
            ("/etc/bash.bashrc", "[ -z \"$PS1\" ] && return\n"),
        ]);
        let expected = json!({
            PROFILE: {"umask": "0022", "umasks": ["0027", "0022"]},
            "/etc/profile.d/z.sh": {"umask": "0077"},
            "/etc/profile.d/z.csh": {"umask": "0000"},
            "/etc/bash.bashrc": {},
            "login": {"umask": "0077", "from": "/etc/profile.d/z.sh"},
        });
        assert_eq!(data, expected);
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn a_readonly_timeout_stays() {
        let (data, _) = read(&[
            (PROFILE, "TMOUT=100 ls\n"),
            ("/etc/profile.d/a.sh", "TMOUT=900; readonly TMOUT; export TMOUT\nTMOUT=7\n"),
            ("/etc/profile.d/b.sh", "TMOUT=0\n"),
            ("/etc/bashrc", "unset TMOUT\n"),
        ]);
        assert_eq!((&data["TMOUT"], &data["TMOUT_readonly"]), (&json!(900), &json!(true)));
        assert_eq!(
            (&data["TMOUT_exported"], &data["TMOUT_from"]),
            (&json!(true), &json!("/etc/profile.d/a.sh"))
        );
        assert_eq!(data["/etc/profile.d/b.sh"], json!({"TMOUT": 0}));
    }

    #[test]
    fn the_last_timeout_counts_where_none_is_readonly() {
        let (data, _) = read(&[(PROFILE, "export TMOUT=600\n"), ("/etc/bashrc", "TMOUT='1200'\n")]);
        let expected = json!([1200, "/etc/bashrc", false, true]);
        assert_eq!(
            json!([data["TMOUT"], data["TMOUT_from"], data["TMOUT_readonly"], data["TMOUT_exported"]]),
            expected
        );
        let (data, _) = read(&[(PROFILE, "TMOUT=600\n"), ("/etc/bashrc", "unset TMOUT\n")]);
        assert!(data.get("TMOUT").is_none(), "{data}");
        let (data, _) = read(&[("/etc/bashrc", "declare -xr TMOUT=$LIMIT\n")]);
        assert_eq!(json!([data["TMOUT"], data["TMOUT_readonly"]]), json!([0, true]));
    }

    #[test]
    fn files_in_homes_appear_when_they_set_something() {
        let (data, _) = read(&[
            (PROFILE, "umask 077\n"),
            (
                "/etc/passwd",
                "root:x:0:0::/root:/bin/bash\nd:x:1:1::/d:/bin/sh\nann:x:1000:1000::/home/ann/:\n",
            ),
            ("/root/.bashrc", "umask 022\n"),
            ("/home/ann/.profile", "#umask 022\n"),
            ("/home/ann/.zshrc", "umask 002\n"),
            ("/d/.profile", "umask 000\n"),
        ]);
        assert_eq!(data["/root/.bashrc"], json!({"umask": "0022", "user": "root"}));
        assert_eq!(data["/home/ann/.zshrc"], json!({"umask": "0002", "user": "ann"}));
        assert_eq!(data.as_object().unwrap().len(), 4, "{data}");
    }

    #[test]
    fn a_link_that_leaves_the_home_is_not_followed() {
        let tree = tempfile::tempdir().unwrap();
        let home = tree.path().join("home/ann");
        std::fs::create_dir_all(&home).unwrap();
        std::fs::create_dir_all(tree.path().join("etc")).unwrap();
        std::fs::write(tree.path().join("etc/passwd"), "ann:x:1000:1000::/home/ann:/bin/sh\n").unwrap();
        std::fs::write(tree.path().join("etc/secret"), "umask 000\n").unwrap();
        std::fs::write(home.join("real"), "umask 027\n").unwrap();
        std::os::unix::fs::symlink("real", home.join(".bashrc")).unwrap();
        std::os::unix::fs::symlink("/home/ann/real", home.join(".zshrc")).unwrap();
        std::os::unix::fs::symlink("../../etc/secret", home.join(".profile")).unwrap();
        std::os::unix::fs::symlink("/etc/secret", home.join(".login")).unwrap();
        let found = (DISCOVERY.collect)(&Host::at(tree.path()), &Parameters::new());
        let keys: Vec<_> = found.data.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["/home/ann/.bashrc", "/home/ann/.zshrc", "login"]);
    }

    #[test]
    fn no_shell_at_all_and_unreadable_files() {
        let absent = collect(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(absent.data["NODATA"].is_string() && absent.errors.is_empty(), "{absent:?}");
        let below = collect(&DISCOVERY, &[("/etc/profile/x", b"h"), ("/etc/bashrc", b"umask 27")]);
        assert_eq!(below.data["/etc/bashrc"]["umask"], "0027");
        assert!(below.errors.len() == 1 && below.errors[0].contains(PROFILE), "{below:?}");
        let only = collect(&DISCOVERY, &[("/etc/profile/x", b"h")]);
        assert_eq!(only.errors.len(), 1);
    }

    #[test]
    fn any_text() {
        let tokens = &[
            "umask", " ", "022", "\n", ";", "TMOUT", "=", "600", "export", "readonly", "'", "\"", "#", "\\",
            "(",
        ];
        check_any_text(PROFILE, tokens, |text| read(&[(PROFILE, text)]));
    }
}
