//! SELinux: whether it enforces now, and what the next boot does. See selinux(8), selinux_config(5).
//!
//! | field | meaning |
//! |---|---|
//! | `mode` | `enforcing`, `permissive` or `disabled`: the kernel's (`/sys/fs/selinux/enforce`); for a file tree that of the next boot |
//! | `config_mode` | `SELINUX` of `/etc/selinux/config`: the mode of the next boot |
//! | `policy` | `SELINUXTYPE`: `targeted`, `mls`, `minimum` |
//!
//! Without `/etc/selinux/config` SELinux is not installed: no data. Nor is there any in a container.
//! ```json
//! {"mode":"enforcing","config_mode":"enforcing","policy":"targeted"}
//! ```

use crate::parse::container::container_of;
use crate::parse::presence::not_there;
use crate::parse::{self, Errors, Files, collected, no_data, quoted};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value};

pub static DISCOVERY: Discovery = Discovery {
    name: "selinux",
    description: "Mode and policy of SELinux",
    documentation: documentation::SELINUX,
    parameters: &[],
    instances: &[Instance { name: "_init_selinux", parameters: &[], schedule: None }],
    // setenforce(8) is no event of a file.
    schedule: Schedule { repeat_seconds: 120, warn_seconds: 5, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const CONFIG: &str = "/etc/selinux/config";
const ENFORCE: &str = "/sys/fs/selinux/enforce";

fn collect(host: &Host, _: &Parameters) -> Collected {
    if let Some(kind) = container_of(host) {
        let sentence = format!("this is a container ({kind}): SELinux belongs to the machine");
        return not_there(sentence);
    }
    let mut errors = Errors::default();
    let text = match host.text(CONFIG) {
        Ok(text) => text,
        Err(reason) if reason.absent => {
            return not_there("SELinux is not installed: there is no /etc/selinux/config");
        }
        Err(reason) => {
            errors.unread(&reason);
            return collected((no_data(CONFIG), errors.into_list()));
        }
    };
    let mut data = parse(&text, CONFIG, &mut errors);
    let mode = if host.is_running_system() {
        running_mode(host.read_at_most(ENFORCE, 16).ok().as_deref())
    } else {
        data.get("config_mode").and_then(Value::as_str).unwrap_or("enforcing")
    };
    let mode = Value::from(mode);
    data.insert("mode".into(), mode);
    collected((Value::Object(data), errors.into_list()))
}

/// From the content of the kernel's file, which is there only when SELinux is on.
fn running_mode(enforce: Option<&[u8]>) -> &'static str {
    match enforce {
        None => "disabled",
        Some(text) if text.trim_ascii() == b"1" => "enforcing",
        Some(_) => "permissive",
    }
}

fn parse(text: &str, file: &str, errors: &mut Errors) -> Map<String, Value> {
    let mut data = Map::new();
    for (number, line) in parse::lines(text, file, errors) {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            errors.at(file, number, format_args!("{} has no '='", quoted(line)));
            continue;
        };
        let value = value.trim();
        match name.trim() {
            "SELINUX" => {
                let mode = value.to_ascii_lowercase();
                if matches!(mode.as_str(), "enforcing" | "permissive" | "disabled") {
                    data.insert("config_mode".into(), mode.into());
                } else {
                    errors.at(file, number, format_args!("{} is not a mode of SELinux", quoted(value)));
                }
            }
            "SELINUXTYPE" if parse::is_plausible_key(value) => {
                data.insert("policy".into(), value.into());
            }
            "SELINUXTYPE" => {
                errors.at(file, number, format_args!("{} is not the name of a policy", quoted(value)))
            }
            // SETLOCALDEFS, REQUIRESEUSERS, AUTORELABEL
            _ => {}
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, check_fixtures, collect};
    use serde_json::json;

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn a_tree_has_the_mode_of_its_next_boot() {
        let text = "# c\nSELINUX=Permissive \n SELINUXTYPE=targeted\nSETLOCALDEFS=0\n";
        let found = collect(&DISCOVERY, &[(CONFIG, text.as_bytes())]);
        let expected = json!({"mode": "permissive", "config_mode": "permissive", "policy": "targeted"});
        assert_eq!((found.data, found.errors), (expected, Vec::new()));
    }

    #[test]
    fn the_kernel_tells_its_mode() {
        let modes = [None, Some(b"1".as_slice()), Some(b"0\n")].map(running_mode);
        assert_eq!(modes, ["disabled", "enforcing", "permissive"]);
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let found = collect(&DISCOVERY, &[(CONFIG, b"SELINUX=maybe\nx\nSELINUXTYPE=\n")]);
        let expected = [
            "/etc/selinux/config line 1: 'maybe' is not a mode of SELinux",
            "/etc/selinux/config line 2: 'x' has no '='",
            "/etc/selinux/config line 3: '' is not the name of a policy",
        ];
        assert_eq!(found.errors, expected);
    }

    #[test]
    fn not_installed_is_no_error() {
        let found = collect(&DISCOVERY, &[("/etc/hostname", b"")]);
        assert!(found.errors.is_empty() && found.data["NODATA"].as_str().unwrap().contains("not installed"));
        let unreadable = collect(&DISCOVERY, &[("/etc/selinux/config/x", b"")]);
        assert_eq!(unreadable.data["NODATA"], "ERROR: Cannot read /etc/selinux/config");
        let container = collect(&DISCOVERY, &[("/.dockerenv", b""), (CONFIG, b"SELINUX=enforcing\n")]);
        assert!(container.data["NODATA"].as_str().unwrap().contains("docker"));
    }

    #[test]
    fn hostile_texts() {
        check_any_text(CONFIG, &["SELINUX", "=", "enforcing", " ", "\n", "#", "ä"], |text| {
            let mut errors = Errors::default();
            (Value::Object(parse(text, CONFIG, &mut errors)), errors.into_list())
        });
    }
}
