//! Settings of NetworkManager: `/etc/NetworkManager/NetworkManager.conf` and the files of its `conf.d` directories, see
//! NetworkManager.conf(5).
//!
//! `data` is section → setting → value: booleans, whole numbers, texts. Read are `/usr/lib/NetworkManager/conf.d` and
//! `/run/NetworkManager/conf.d`, then the main file, then `/etc/NetworkManager/conf.d`; a name in /etc hides the same
//! name in /run, and that the one in /usr/lib. The last value counts; `key+=` adds to a list separated by commas, `key-=` takes
//! off it. What NetworkManager writes itself (`NetworkManager-intern.conf`) is not looked at.
//!
//! ```json
//! {"main": {"plugins": "keyfile", "dns": "none"}, "keyfile": {"unmanaged-devices": "interface-name:veth*"}}
//! ```

use crate::parse::drop_ins::drop_ins;
use crate::parse::ini::{self, Continued, Entry, Style};
use crate::parse::presence::{any_exists, not_there};
use crate::parse::{self, Errors};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "networkmanager_conf",
    description: "Settings of NetworkManager",
    documentation: documentation::NETWORKMANAGER_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_networkmanager_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const FILE: &str = "/etc/NetworkManager/NetworkManager.conf";
const ETC: &str = "/etc/NetworkManager/conf.d";
const RUN: &str = "/run/NetworkManager/conf.d";
const USR: &str = "/usr/lib/NetworkManager/conf.d";
const PROGRAMS: &[&str] = &["/usr/sbin/NetworkManager", FILE];
const STYLE: Style = Style { continued: Continued::Never, without_section: false };

fn collect(host: &Host, _: &Parameters) -> Collected {
    if !any_exists(host, PROGRAMS) {
        return not_there("NetworkManager is not installed: there is no /usr/sbin/NetworkManager");
    }
    let mut errors = Errors::default();
    let all = drop_ins(host, &[ETC, RUN, USR], ".conf", &mut errors);
    let (own, others): (Vec<String>, Vec<String>) = all.into_iter().partition(|path| path.starts_with(ETC));
    let mut data = Map::new();
    for path in others.into_iter().chain([FILE.to_owned()]).chain(own) {
        match host.read_text(&path) {
            Ok(text) => ini::entries(&text, &path, &mut errors, STYLE)
                .into_iter()
                .for_each(|entry| set(&mut data, entry)),
            Err(error) if error.is_missing() => {}
            Err(error) => {
                errors.add(format!("Cannot read {error}"));
                if path == FILE {
                    return parse::collected((parse::no_data(FILE), errors.into_list()));
                }
            }
        }
    }
    parse::collected((Value::Object(data), errors.into_list()))
}

fn set(data: &mut Map<String, Value>, entry: Entry) {
    let Value::Object(section) = data.entry(&*entry.section).or_insert_with(|| json!({})) else { return };
    if let Some(key) = entry.key.strip_suffix('+') {
        let before = section.get(key).and_then(Value::as_str).unwrap_or_default();
        let value = if before.is_empty() { entry.value } else { format!("{before},{}", entry.value) };
        // Beyond any real list; keeps many additions from growing without end.
        if value.len() <= 16 * 1024 {
            section.insert(key.to_owned(), ini::value_of(key, &value));
        }
    } else if let Some(key) = entry.key.strip_suffix('-') {
        let before = section.get(key).and_then(Value::as_str).unwrap_or_default();
        let kept: Vec<&str> = before.split(',').filter(|word| *word != entry.value).collect();
        let value = kept.join(",");
        section.insert(key.to_owned(), Value::from(value));
    } else {
        let value = ini::value_of(&entry.key, &entry.value);
        section.insert(entry.key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::Files;
    use crate::parse::testing::{Tree, check_any_text, check_fixtures, collect as collect_from};

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn the_order_of_the_files() {
        let found = collect_from(
            &DISCOVERY,
            &[
                ("/usr/lib/NetworkManager/conf.d/a.conf", b"[main]\ndns=systemd-resolved\nplugins=a\n"),
                ("/usr/lib/NetworkManager/conf.d/b.conf", b"[main]\nhidden=1\n"),
                ("/run/NetworkManager/conf.d/b.conf", b"[main]\nrun=1\n"),
                (FILE, b"[main]\nplugins+=b\nplugins+=c\nplugins-=a\ndns=dnsmasq\nx=yes\n"),
                ("/etc/NetworkManager/conf.d/z.conf", b"[main]\ndns=none\n"),
            ],
        );
        assert_eq!(found.errors, [""; 0]);
        assert_eq!(found.data, json!({"main": {"dns": "none", "plugins": "b,c", "run": 1, "x": true}}));
    }

    #[test]
    fn malformed_lines_and_missing_files() {
        let found = collect_from(&DISCOVERY, &[(FILE, b"[main]\nnonsense\ndns=none\n")]);
        assert_eq!(found.data, json!({"main": {"dns": "none"}}));
        assert_eq!(found.errors, ["/etc/NetworkManager/NetworkManager.conf line 2: 'nonsense' has no '='"]);
        let absent = collect_from(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(absent.data["NODATA"].as_str().unwrap().starts_with("NetworkManager is not installed"));
    }

    #[test]
    fn any_text() {
        let tokens = &["[main]", "\n", "a", "+", "-", "=", ",", "b", " ", "[", "#", "password"];
        check_any_text(FILE, tokens, |text| {
            let (mut data, mut errors) = (Map::new(), Errors::default());
            let text = Tree::of(&[(FILE, text)]).text(FILE).unwrap();
            ini::entries(&text, FILE, &mut errors, STYLE).into_iter().for_each(|entry| set(&mut data, entry));
            (Value::Object(data), errors.into_list())
        });
    }
}
