//! Monitoring agents: what on this host can say whether a service works.
//!
//! | key | list of | from |
//! |---|---|---|
//! | `lsb` | init scripts | executables in /etc/init.d |
//! | `nagios` | plug-ins | executables in the directories of the parameter `NAGIOS_DIRS` |
//! | `ocf` | `<provider>/<type>` | executables in /usr/lib/ocf/resource.d |
//! | `systemd` | services, without `.service` | unit files in /etc/systemd/system, /usr/lib/systemd/system and the like |
//!
//! Lists are sorted; a kind of agent that is not there is left out. Templates (`getty@`) and what is masked are no
//! services.
//! ```json
//! {"lsb":["ssh"],"nagios":["check_load"],"ocf":["heartbeat/IPaddr"],"systemd":["ssh"]}
//! ```

use crate::{
    Collected, Directory, Discovery, Host, Instance, Kind, Parameter, Parameters, Problem, ReadError,
    Schedule, Trigger, documentation, no_graph,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

pub static DISCOVERY: Discovery = Discovery {
    name: "monitoringagents",
    description: "Monitoring agents",
    documentation: documentation::MONITORINGAGENTS,
    parameters: &[Parameter {
        name: "NAGIOS_DIRS",
        meaning: "directories with Nagios plug-ins, separated by colons or blanks",
        default: "/usr/lib/nagios/plugins:/usr/lib64/nagios/plugins:/usr/local/nagios/libexec:/usr/nagios/libexec:/opt/nrpe/libexec",
    }],
    instances: &[Instance { name: "_init_monitoringagents", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const INIT_SCRIPTS: &str = "/etc/init.d";
const OCF_AGENTS: &str = "/usr/lib/ocf/resource.d";
/// Where unit files lie, the first wins (systemd.unit(5)); what is made at run time is not looked at.
const UNIT_FILES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// More agents of one kind are left out.
const MAX_AGENTS: usize = 20_000;

fn collect(host: &Host, parameters: &Parameters) -> Collected {
    let mut errors = Vec::new();
    let mut lsb = BTreeSet::new();
    executables(host, INIT_SCRIPTS, "", &mut lsb, &mut errors);
    let mut nagios = BTreeSet::new();
    let directories = parameters.get("NAGIOS_DIRS").map_or("", String::as_str);
    for directory in directories.split([':', ' ']).filter(|path| path.starts_with('/')).take(64) {
        executables(host, directory, "", &mut nagios, &mut errors);
    }
    let mut ocf = BTreeSet::new();
    for provider in host.list(OCF_AGENTS).unwrap_or_default() {
        if !provider.starts_with('.') {
            let prefix = format!("{provider}/");
            executables(host, &format!("{OCF_AGENTS}/{provider}"), &prefix, &mut ocf, &mut errors);
        }
    }
    let mut data = Map::new();
    for (kind, names) in [("lsb", lsb), ("nagios", nagios), ("ocf", ocf), ("systemd", services(host))] {
        if names.len() > MAX_AGENTS {
            errors.push(format!("more than {MAX_AGENTS} agents of kind {kind}: the rest is left out"));
        }
        if !names.is_empty() {
            data.insert(kind.into(), json!(names.into_iter().take(MAX_AGENTS).collect::<Vec<_>>()));
        }
    }
    Collected { data: Value::Object(data), errors, extras: Map::new() }
}

/// Adds the names of the executables in a directory, hidden ones left out. A directory that is not there has none.
fn executables(
    host: &Host,
    path: &str,
    prefix: &str,
    names: &mut BTreeSet<String>,
    errors: &mut Vec<String>,
) {
    let found = host.directory(path).and_then(|directory| in_directory(&directory, prefix, names));
    if let Err(error) = found
        && !error.is_missing()
        && *error.problem() != Problem::NotADirectory
    {
        errors.push(error.to_string());
    }
}

fn in_directory(
    directory: &Directory<'_>,
    prefix: &str,
    names: &mut BTreeSet<String>,
) -> Result<(), ReadError> {
    for entry in directory.entries()? {
        let name = entry.name();
        if name.starts_with('.') || entry.kind() == Kind::Directory || names.len() > MAX_AGENTS {
            continue;
        }
        let attributes = directory.stat(entry.raw());
        if attributes.is_ok_and(|file| file.kind == Kind::Regular && file.mode & 0o111 != 0) {
            names.insert(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

/// The names of services with a unit file, that is not a link to /dev/null.
fn services(host: &Host) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let mut names = BTreeSet::new();
    for path in UNIT_FILES {
        let Ok(directory) = host.directory(path) else { continue };
        for entry in directory.entries().unwrap_or_default() {
            let file = entry.name();
            let Some(name) = file.strip_suffix(".service").filter(|name| !name.ends_with('@')) else {
                continue;
            };
            if known.len() > MAX_AGENTS || !known.insert(file.clone().into_owned()) {
                continue;
            }
            let is_masked = entry.kind() == Kind::Symlink
                && host.read_link(&directory.path_of(entry.raw())).is_ok_and(|target| target == "/dev/null");
            if !is_masked {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn put(root: &Path, path: &str, mode: u32) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn agents_of_four_kinds() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        put(root, "etc/init.d/ssh", 0o755);
        put(root, "etc/init.d/README", 0o644);
        put(root, "etc/init.d/.hidden", 0o755);
        put(root, "usr/lib/nagios/plugins/check_load", 0o755);
        put(root, "opt/nrpe/libexec/check_own", 0o755);
        put(root, "usr/lib/ocf/resource.d/heartbeat/IPaddr", 0o755);
        put(root, "usr/lib/ocf/resource.d/heartbeat/.metadata", 0o755);
        put(root, "usr/lib/ocf/resource.d/heartbeat/deep/er", 0o755);
        put(root, "usr/lib/ocf/resource.d/loose", 0o755);
        for unit in ["ssh.service", "cron.service", "off.service", "getty@.service", "ssh.socket"] {
            put(root, &format!("usr/lib/systemd/system/{unit}"), 0o644);
        }
        fs::create_dir_all(root.join("etc/systemd/system")).unwrap();
        symlink("/dev/null", root.join("etc/systemd/system/off.service")).unwrap();
        symlink("/usr/lib/systemd/system/ssh.service", root.join("etc/systemd/system/sshd.service")).unwrap();
        let envelope = run(&DISCOVERY, "_init_monitoringagents", &Host::at(root), &Parameters::new());
        let expected = json!({
            "lsb": ["ssh"], "nagios": ["check_load", "check_own"], "ocf": ["heartbeat/IPaddr"],
            "systemd": ["cron", "ssh", "sshd"],
        });
        assert_eq!((envelope.data, envelope.errors), (expected, vec![]));
    }

    #[test]
    fn a_host_without_agents_gives_an_empty_document() {
        let tree = tempfile::tempdir().unwrap();
        let envelope = run(&DISCOVERY, "_init_monitoringagents", &Host::at(tree.path()), &Parameters::new());
        assert_eq!((envelope.data, envelope.errors), (json!({}), vec![]));
        put(tree.path(), "etc/init.d", 0o755);
        assert_eq!(run(&DISCOVERY, "x", &Host::at(tree.path()), &Parameters::new()).data, json!({}));
    }
}
