//! Programs, libraries and their directories that somebody but root could change.
//!
//! | key | what |
//! |---|---|
//! | `commands` | files in /bin, /sbin, /usr/bin, /usr/sbin, /usr/local/bin, /usr/local/sbin; no symlinks |
//! | `command_directories` | these directories and all below them |
//! | `libraries` | files `*.so*` at any depth of /lib, /lib64, /usr/lib, /usr/lib64; no symlinks |
//! | `library_directories` | these directories and all below them |
//!
//! Each is path → `{owner, group, type, octal, system_group}`; `system_group`: the number of the group is below GID_MIN of
//! login.defs(5), so it is no person's. There are thousands of such files and nearly all are alike, so of those that
//! root alone may write only three of each mode are given, of the others the first 100 with the same owner, group and
//! mode. A statement about all of them is true of these exactly if it is true of all. Paths are real ones: on merged
//! systems, where /bin is a symlink, /usr/bin/ls and not /bin/ls. File systems across a network are left out.
//!
//! Nothing of it is watched, because that would take thousands of watches; it is looked at every hour. stat(2).
//! ```json
//! {"commands":{"/usr/bin/ls":{"owner":"root","group":"root","type":"-","octal":"0755","system_group":true}},
//!  "command_directories":{},"libraries":{},"library_directories":{}}
//! ```

use crate::host::{Barriers, Limits, Next, Visited};
use crate::parse::mount_points;
use crate::parse::ownership::{Names, Samples, first_number_of_people};
use crate::{
    Attributes, Collected, Discovery, Host, Instance, Kind, Parameters, Schedule, Trigger, documentation,
    no_graph,
};
use serde_json::{Map, Value};
use std::time::{Duration, Instant};

pub static DISCOVERY: Discovery = Discovery {
    name: "system_files",
    description: "Programs and libraries that somebody but root could change",
    documentation: documentation::SYSTEM_FILES,
    parameters: &[],
    instances: &[Instance { name: "_init_system_files", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 3600, warn_seconds: 60, timeout_seconds: 300 },
    trigger: Trigger::None,
    collect,
    graph: no_graph,
};

const COMMANDS: &[&str] = &["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
const LIBRARIES: &[&str] = &["/lib", "/lib64", "/usr/lib", "/usr/lib64"];
/// Of what only root may change.
const SAMPLES: usize = 3;
/// Of anything else with the same owner, group and mode.
const OFFENDERS: usize = 100;
const MAX_CLASSES: usize = 1000;
/// Of paths, in each of the lists.
const MAX_BYTES: usize = 256 * 1024;
const MAX_ENTRIES: u64 = 3_000_000;
const MAX_SECONDS: u64 = 120;

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Vec::new();
    let mut look = Look {
        host,
        barriers: mount_points::barriers(host, &mount_points::current()),
        deadline: Instant::now() + Duration::from_secs(MAX_SECONDS),
        errors: Vec::new(),
    };
    let names = Names::of(host, &mut errors);
    let first_group = first_number_of_people(host, "GID_MIN");
    let is_command = |visited: &Visited<'_>| visited.depth == 1;
    let (commands, command_directories) = look.trees(COMMANDS, &is_command);
    let (libraries, library_directories) = look.trees(LIBRARIES, &|visited| is_library(visited.name()));
    errors.append(&mut look.errors);
    let mut data = Map::new();
    for (key, found) in [
        ("commands", commands),
        ("command_directories", command_directories),
        ("libraries", libraries),
        ("library_directories", library_directories),
    ] {
        data.insert(key.to_owned(), list(found, &names, first_group));
    }
    Collected { data: Value::Object(data), errors, extras: Map::new() }
}

/// Kind, owner, group, mode.
type Class = (bool, u32, u32, u32);
type Found = Samples<Class>;

struct Look<'a> {
    host: &'a Host,
    barriers: Barriers,
    deadline: Instant,
    errors: Vec<String>,
}

impl Look<'_> {
    /// The wanted files of these trees, and all their directories.
    fn trees(&mut self, starts: &[&str], wanted: &dyn Fn(&Visited<'_>) -> bool) -> (Found, Found) {
        let (mut files, mut directories) = (found(), found());
        for start in starts {
            // What a symlink leads to is looked at under its own name; what is not there cannot be changed.
            let Ok(attributes) = self.host.lstat_unrecorded(start) else { continue };
            if attributes.kind != Kind::Directory || self.barriers.hides(&self.host.path_outside(start)) {
                continue;
            }
            add(&mut directories, attributes, (*start).to_owned());
            let mut visit = |visited: &Visited<'_>| {
                let list = match visited.kind() {
                    Kind::Directory => &mut directories,
                    Kind::Regular if wanted(visited) => &mut files,
                    _ => return Next::Go,
                };
                if let Some(attributes) = visited.attributes() {
                    add(list, attributes, visited.path());
                }
                Next::Go
            };
            let limits = Limits { deadline: self.deadline, max_entries: MAX_ENTRIES };
            match self.host.walk(start, &self.barriers, limits, &mut visit) {
                Ok(outcome) => self.errors.extend(outcome.problems),
                Err(error) => self.errors.push(error.to_string()),
            }
        }
        if files.is_cut() || directories.is_cut() {
            let first = starts.first().copied().unwrap_or_default();
            self.errors.push(format!(
                "{first} and its like: more than {MAX_CLASSES} different owners, groups and modes: the rest was left out"
            ));
        }
        (files, directories)
    }
}

fn add(found: &mut Found, attributes: Attributes, path: String) {
    let Attributes { uid, gid, mode, kind, .. } = attributes;
    let class = (kind == Kind::Directory, uid, gid, mode);
    let limit = if uid == 0 && gid == 0 && mode & 0o022 == 0 { SAMPLES } else { OFFENDERS };
    found.add(class, path, limit);
}

fn found() -> Found {
    Found::new(MAX_CLASSES, MAX_BYTES)
}

fn is_library(name: &[u8]) -> bool {
    name.windows(3).any(|part| part == b".so")
}

fn list(found: Found, names: &Names, first_group: u32) -> Value {
    let mut list = Map::new();
    for ((is_directory, uid, gid, mode), paths) in found.into_classes() {
        let kind = if is_directory { Kind::Directory } else { Kind::Regular };
        let mut entry = names.entry(Attributes { kind, mode, uid, gid, size_bytes: 0 });
        entry.insert("system_group".into(), (gid < first_group).into());
        list.extend(paths.into_iter().map(|path| (path, Value::Object(entry.clone()))));
    }
    Value::Object(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn write(root: &std::path::Path, path: &str, mode: u32) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn offenders_are_named_and_the_rest_represented() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        for number in 0..9 {
            write(root, &format!("usr/bin/tool{number}"), 0o755);
            write(root, &format!("usr/lib/x/libx.so.{number}"), 0o664);
            write(root, &format!("usr/lib/x/text.{number}"), 0o666);
        }
        write(root, "usr/bin/open", 0o777);
        write(root, "usr/bin/below/not-a-command", 0o755);
        symlink("tool1", root.join("usr/bin/link")).unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink("/nowhere", root.join("lib64")).unwrap();
        let found = collect(&Host::at(root), &Parameters::new());
        assert_eq!(found.errors, [""; 0]);
        let commands = keys(&found.data["commands"]);
        assert!(commands.contains(&"/usr/bin/open") && !commands.contains(&"/usr/bin/link"));
        assert!(commands.iter().all(|path| !path.contains("below") && !path.starts_with("/bin")));
        // Whoever runs this test may not be root; then nothing is root's, and all are offenders.
        let me = rustix::process::getuid().as_raw();
        assert_eq!(commands.len(), if me == 0 { 1 + SAMPLES } else { 1 + 9 });
        assert_eq!(keys(&found.data["libraries"]).len(), 9, "writable by the group: all are named");
        assert_eq!(found.data["libraries"]["/usr/lib/x/libx.so.8"]["octal"], "0664");
        assert_eq!(keys(&found.data["command_directories"]), ["/usr/bin", "/usr/bin/below"]);
        assert_eq!(keys(&found.data["library_directories"]), ["/usr/lib", "/usr/lib/x"]);
        let system = rustix::process::getgid().as_raw() < 1000;
        assert_eq!(found.data["commands"]["/usr/bin/open"]["system_group"], json!(system));
    }

    #[test]
    fn lists_of_offenders_are_bounded() {
        let mut found = found();
        let attributes = |uid, mode| Attributes { kind: Kind::Regular, mode, uid, gid: 0, size_bytes: 0 };
        for number in 0..1000 {
            add(&mut found, attributes(0, 0o644), format!("/a/{number:04}"));
            add(&mut found, attributes(7, 0o644), format!("/b/{number:04}"));
        }
        let list = list(found, &Names::default(), 1000);
        assert_eq!(keys(&list).len(), SAMPLES + OFFENDERS);
        assert_eq!(keys(&list)[SAMPLES], "/b/0000");
        let mut many = super::found();
        (0..2 * MAX_CLASSES)
            .for_each(|uid| add(&mut many, attributes(u32::try_from(uid).unwrap(), 0), "/x".into()));
        assert_eq!(many.classes(), MAX_CLASSES);
    }

    #[test]
    fn libraries_are_told_by_their_names() {
        for (name, is) in
            [("libc.so.6", true), ("a.so", true), ("libc.a", false), ("so", false), (".so", true)]
        {
            assert_eq!(is_library(name.as_bytes()), is, "{name}");
        }
    }
}
