//! Virtual machines of Vagrant that run, from the index that it keeps for each user: `~/.vagrant.d/data/machine-index/index`.
//!
//! `data` is `{"info": {"version": "2.3.4"}, "containers": {"<id>": {...}}}`; a machine has `name`, `provider`, `directory` (of its
//! Vagrantfile), and that directory's `user` and `group`. Machines that are not running are left out. `version` is there when
//! Vagrant's own files tell it. The home directories are those of /etc/passwd.
//! ```json
//! {"containers":{"9c5d2a":{"directory":"/home/joe/lab","group":"joe","name":"default","provider":"virtualbox","user":"joe"}},
//!  "info":{"version":"2.3.4"}}
//! ```

use crate::child_system;
use crate::parse::presence::not_there;
use crate::parse::{Errors, glob};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation};
use model::Envelope;
use model::graph::GraphFacts;
use model::text::{printable, shortened};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub static DISCOVERY: Discovery = Discovery {
    name: "vagrant",
    description: "Running virtual machines of Vagrant",
    documentation: documentation::VAGRANT,
    parameters: &[],
    instances: &[Instance { name: "_init_vagrant", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 300, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph,
};

const INDEX: &str = ".vagrant.d/data/machine-index/index";
const MAX_INDEX_BYTES: u64 = 1024 * 1024;
const MAX_HOMES: usize = 500;
/// More machines of one user are left out.
const MAX_MACHINES: usize = 500;
/// The directory of the gem carries the version: of the vendor's package, of Debian.
const VERSIONS: [&str; 3] = [
    "/opt/vagrant/embedded/gems/*/gems/vagrant-[0-9]*",
    "/opt/vagrant/embedded/gems/gems/vagrant-[0-9]*",
    "/usr/share/rubygems-integration/all/specifications/vagrant-[0-9]*.gemspec",
];

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Errors::default();
    let passwd = host.read_text("/etc/passwd").unwrap_or_default();
    let group = host.read_text("/etc/group").unwrap_or_default();
    let (users, groups) = (names(&passwd), names(&group));
    let mut containers = Map::new();
    let mut is_used = false;
    for home in homes(&passwd) {
        // Only where there is such a directory the file is worth watching for.
        if host.identity(&format!("{home}/.vagrant.d")).is_err() {
            continue;
        }
        is_used = true;
        let path = format!("{home}/{INDEX}");
        let bytes = match host.read_at_most(&path, MAX_INDEX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.is_missing() => continue,
            Err(error) => {
                errors.add(error.to_string());
                continue;
            }
        };
        for (id, mut machine) in machines(&bytes, &path, &mut errors) {
            let directory = machine.get("directory").and_then(Value::as_str).unwrap_or_default();
            if let Some(owner) = directory.starts_with('/').then(|| host.stat(directory).ok()).flatten() {
                let name = |names: &HashMap<u32, &str>, number: u32| {
                    names.get(&number).map_or_else(|| number.to_string(), |name| (*name).to_owned())
                };
                machine.insert("user".into(), name(&users, owner.uid).into());
                machine.insert("group".into(), name(&groups, owner.gid).into());
            }
            containers.insert(id, Value::Object(machine));
        }
    }
    let version = VERSIONS.iter().flat_map(|pattern| glob(host, pattern).unwrap_or_default());
    let version = version.filter_map(|path| version_of(&path)).max();
    let mut collected = match (is_used, version) {
        (false, None) => not_there("Vagrant is not in use: there is no ~/.vagrant.d of any user"),
        (_, version) => {
            let info: BTreeMap<&str, String> =
                version.into_iter().map(|version| ("version", version)).collect();
            Collected::new(json!({ "info": info, "containers": containers }))
        }
    };
    collected.errors = errors.into_list();
    collected
}

/// Machines are children of the host. What runs inside cannot be seen from here, and neither can their addresses.
fn graph(host: &str, envelope: &Envelope) -> GraphFacts {
    let mut facts = GraphFacts::default();
    for (id, machine) in envelope.data["containers"].as_object().into_iter().flatten() {
        let fields = ["name", "provider", "directory", "user", "group"].into_iter().filter_map(|field| {
            let text = shortened(&printable(machine[field].as_str()?), 300).into_owned();
            Some((field.to_owned(), Value::from(text)))
        });
        // Those that are not running are no part of the document.
        let mut properties: Map<String, Value> = fields.collect();
        properties.insert("state".into(), "running".into());
        facts.edges.extend(child_system::edges(host, &format!("vagrant/{id}"), properties));
    }
    facts
}

/// `.../vagrant-2.3.4` or `.../vagrant-2.3.4.gemspec`
fn version_of(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?.strip_prefix("vagrant-")?;
    let version = name.strip_suffix(".gemspec").unwrap_or(name);
    let is_version = version.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    is_version.then(|| version.to_owned())
}

/// The home directories of passwd(5), each once, without those that many programs share.
fn homes(passwd: &str) -> BTreeSet<&str> {
    let homes =
        passwd.lines().filter_map(|line| line.split(':').nth(5)).map(|home| home.trim_end_matches('/'));
    homes.filter(|home| home.starts_with('/') && home.len() > 1).take(MAX_HOMES).collect()
}

/// Number → name, of passwd(5) or group(5); the first name counts.
fn names(text: &str) -> HashMap<u32, &str> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(number)) =
            (fields.next(), fields.nth(1).and_then(|number| number.parse().ok()))
        {
            names.entry(number).or_insert(name);
        }
    }
    names
}

/// The running machines of an index. It belongs to a user, so it may hold anything.
fn machines(bytes: &[u8], path: &str, errors: &mut Errors) -> Vec<(String, Map<String, Value>)> {
    let index: Value = match serde_json::from_slice(bytes) {
        Ok(index) => index,
        Err(error) => {
            errors.add(format!(
                "{} line {}: no JSON: run vagrant global-status --prune",
                printable(path),
                error.line()
            ));
            return Vec::new();
        }
    };
    let machines = index["machines"].as_object().into_iter().flatten();
    let running = machines.filter(|(_, machine)| machine["state"] == "running").take(MAX_MACHINES);
    let told = running.map(|(id, machine)| {
        let fields = [("name", "name"), ("provider", "provider"), ("directory", "vagrantfile_path")];
        let fields = fields.into_iter().filter_map(|(name, of)| {
            let text = machine[of].as_str()?;
            Some((name.to_owned(), Value::from(model::text::shortened(text, 4096).into_owned())))
        });
        (model::text::shortened(id, 64).into_owned(), fields.collect())
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/bash\njoe:x:4294967294:7::/home/joe:/bin/sh\nbad\nx:x:1:1::/:/bin/sh\n";

    #[test]
    fn running_machines_of_every_user() {
        let index = br#"{"version":1,"machines":{"9c5d":{"name":"default","provider":"virtualbox","state":"running",
            "vagrantfile_path":"/srv/lab","local_data_path":"/x","updated_at":null},
            "aaaa":{"name":"off","provider":"libvirt","state":"poweroff","vagrantfile_path":"/srv/lab"},"b":7}}"#;
        let found = testing::collect(
            &DISCOVERY,
            &[
                ("/etc/passwd", PASSWD),
                ("/home/joe/.vagrant.d/data/machine-index/index", index),
                ("/srv/lab/Vagrantfile", b""),
                ("/usr/share/rubygems-integration/all/specifications/vagrant-2.3.4.gemspec", b""),
            ],
        );
        assert_eq!(found.errors, [""; 0]);
        assert_eq!(found.data["info"], json!({"version": "2.3.4"}));
        let containers = found.data["containers"].as_object().unwrap();
        assert_eq!(containers.keys().collect::<Vec<_>>(), ["9c5d"]);
        let machine = &containers["9c5d"];
        assert_eq!(
            (&machine["name"], &machine["provider"], &machine["directory"]),
            (&json!("default"), &json!("virtualbox"), &json!("/srv/lab"))
        );
        assert!(machine["user"].is_string() && machine["group"].is_string());
    }

    #[test]
    fn machines_are_children_of_the_host() {
        let data = json!({"info": {}, "containers": {"9c5d": {"name": "db\u{1b}[2J", "provider": "libvirt", "directory": 7}, "b": 8}});
        let envelope = Envelope {
            discovertype: "vagrant".into(),
            description: String::new(),
            host: String::new(),
            source: String::new(),
            instance: "_init_vagrant".into(),
            proxy: "local/local".into(),
            data,
            errors: Vec::new(),
            extras: Map::new(),
        };
        let facts = graph("joes", &envelope);
        let told: Vec<(&str, &str, &str)> = facts
            .edges
            .iter()
            .map(|edge| (edge.source.1.as_str(), edge.kind.as_str(), edge.target.key.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("joes", "hosting", "joes/vagrant/9c5d"),
                ("joes/vagrant/9c5d", "parentsys", "joes"),
                ("joes", "hosting", "joes/vagrant/b"),
                ("joes/vagrant/b", "parentsys", "joes"),
            ]
        );
        let properties = &facts.edges[0].target.properties;
        assert_eq!((&properties["kind"], &properties["id"]), (&json!("vagrant"), &json!("9c5d")));
        assert!(
            !properties["name"].as_str().unwrap().contains('\u{1b}') && !properties.contains_key("directory")
        );
        assert_eq!(
            graph("joes", &Envelope { data: json!({"NODATA": "x"}), ..envelope }),
            GraphFacts::default()
        );
    }

    #[test]
    fn an_index_that_is_none_is_told_with_its_line() {
        let index = b"{\"version\":1,\n\"machines\":";
        let found = testing::collect(
            &DISCOVERY,
            &[("/etc/passwd", PASSWD), ("/home/joe/.vagrant.d/data/machine-index/index", index)],
        );
        assert_eq!(found.data, json!({"info": {}, "containers": {}}));
        assert!(found.errors.len() == 1 && found.errors[0].contains("index line 2"), "{:?}", found.errors);
    }

    #[test]
    fn a_host_without_vagrant_has_no_data_and_no_error() {
        let found = testing::collect(&DISCOVERY, &[("/etc/passwd", PASSWD)]);
        assert!(found.data["NODATA"].as_str().unwrap().contains("not in use") && found.errors.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn any_index_is_no_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mut errors = Errors::default();
            machines(&bytes, "/x", &mut errors);
            let text = String::from_utf8_lossy(&bytes);
            let _ = (homes(&text), names(&text), version_of(&text));
        }
    }
}
