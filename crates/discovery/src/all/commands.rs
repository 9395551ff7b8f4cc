//! Commands: the executables in the directories of a path.
//!
//! `data` = name → null, for each regular file that somebody may execute; symbolic links are followed. The parameter
//! `DISCOVER_PATH` gives the directories, separated by colons or blanks. Names that are not UTF-8 appear with `\xNN`.
//! Rules of monitoring ask `hascmd(name)`.
//! ```json
//! {"awk":null,"bash":null,"sensors":null}
//! ```

use crate::{
    Collected, Directory, Discovery, Host, Instance, Kind, Parameter, Parameters, Problem, Schedule, Trigger,
    documentation, no_graph,
};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

pub static DISCOVERY: Discovery = Discovery {
    name: "commands",
    description: "Executable programs",
    documentation: documentation::COMMANDS,
    parameters: &[Parameter {
        name: "DISCOVER_PATH",
        meaning: "directories to look into, separated by colons or blanks",
        default: "/sbin:/usr/sbin:/bin:/usr/bin:/usr/local/sbin:/usr/local/bin",
    }],
    instances: &[Instance { name: "_init_commands", parameters: &[], schedule: None }],
    // The directories are watched; the repetition is for lost events.
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

/// Further directories of a path are not looked at.
const MAX_DIRECTORIES: usize = 64;
/// Further commands are left out.
const MAX_COMMANDS: usize = 100_000;

fn collect(host: &Host, parameters: &Parameters) -> Collected {
    let path = parameters.get("DISCOVER_PATH").map_or("", String::as_str);
    let mut names = BTreeSet::new();
    let mut errors = Vec::new();
    for directory in directories(host, path) {
        let found = host.directory(&directory).and_then(|directory| executables(&directory, &mut names));
        if let Err(error) = found
            && !error.is_missing()
            && *error.problem() != Problem::NotADirectory
        {
            errors.push(error.to_string());
        }
    }
    if names.len() > MAX_COMMANDS {
        errors.push(format!("more than {MAX_COMMANDS} commands: the rest is left out"));
    }
    let data = names.into_iter().take(MAX_COMMANDS).map(|name| (name, Value::Null)).collect();
    Collected { data: Value::Object(data), errors, extras: Map::new() }
}

/// The directories of a path, each once: on most systems `/bin` is a link to `/usr/bin`.
fn directories(host: &Host, path: &str) -> Vec<String> {
    let words = || path.split([':', ' ']).filter(|word| word.starts_with('/')).take(MAX_DIRECTORIES);
    let mut directories: Vec<String> = Vec::new();
    for word in words() {
        let word = word.trim_end_matches('/');
        let target = host.read_link(word).map(|target| format!("/{}", target.trim_matches('/')));
        let is_listed = target.is_ok_and(|target| words().any(|other| other.trim_end_matches('/') == target));
        if !is_listed && !directories.iter().any(|known| known == word) {
            directories.push(word.to_owned());
        }
    }
    directories
}

fn executables(directory: &Directory<'_>, names: &mut BTreeSet<String>) -> Result<(), crate::ReadError> {
    for entry in directory.entries()? {
        let attributes = match entry.kind() {
            Kind::Regular => directory.lstat(entry.raw()),
            Kind::Symlink | Kind::Unknown => directory.stat(entry.raw()),
            _ => continue,
        };
        // Gone meanwhile, or a link to nowhere: no command.
        if attributes.is_ok_and(|file| file.kind == Kind::Regular && file.mode & 0o111 != 0)
            && names.len() <= MAX_COMMANDS
        {
            names.insert(entry.name().into_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run;
    use serde_json::json;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn program(root: &Path, path: &str, mode: u32) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn of(root: &Path, path: Option<&str>) -> (Value, Vec<String>) {
        let given = path.map(|path| ("DISCOVER_PATH".to_owned(), path.to_owned()));
        let envelope = run(&DISCOVERY, "_init_commands", &Host::at(root), &Parameters::from_iter(given));
        (envelope.data, envelope.errors)
    }

    #[test]
    fn executables_are_listed_once_and_nothing_else_is() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        program(root, "usr/bin/bash", 0o755);
        program(root, "usr/bin/data", 0o644);
        program(root, "usr/local/bin/bash", 0o700);
        program(root, "usr/local/bin/mine", 0o100);
        program(root, "opt/bin/other", 0o755);
        fs::create_dir_all(root.join("usr/bin/directory")).unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink("bash", root.join("usr/bin/sh")).unwrap();
        symlink("/usr/bin/data", root.join("usr/bin/no")).unwrap();
        // /etc/passwd of this machine is no command, and outside of the tree.
        symlink("/bin/ls", root.join("usr/bin/outside")).unwrap();
        symlink("nowhere", root.join("usr/bin/dangling")).unwrap();
        let (data, errors) = of(root, None);
        assert_eq!(data, json!({"bash": null, "mine": null, "sh": null}));
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(of(root, Some("/opt/bin /none relative")).0, json!({"other": null}));
        assert_eq!(of(root, Some("/bin")).0, json!({"bash": null, "sh": null}));
    }

    #[test]
    fn this_machine_has_commands() {
        let envelope = run(&DISCOVERY, "_init_commands", &Host::running(), &Parameters::new());
        assert!(envelope.data.as_object().unwrap().contains_key("sh"), "{:?}", envelope.errors);
    }
}
