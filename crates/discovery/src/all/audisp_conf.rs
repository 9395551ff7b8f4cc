//! Plugins of the audit daemon, which hand records on: `/etc/audit/plugins.d/*.conf`, `/etc/audit/audisp-remote.conf`
//! (auditd-plugins(5), audisp-remote.conf(5)); before audit 3.0 they are in `/etc/audisp`.
//!
//! `data` is `<plugin>.<setting>` → a number, a boolean (`yes` and `no`) or a text; the plugin is named as its file.
//! `audisp-remote.*` are the settings of the sender to another host. Words of fixed sets are in lower case. `plugins`
//! has the names of the active plugins. `offload_jobs`, when there are any, are the files of cron that deal with
//! `/var/log/audit`.
//!
//! ```json
//! {"plugins": ["syslog"], "syslog.active": true, "syslog.path": "/sbin/audisp-syslog", "audisp-remote.port": 60,
//!  "audisp-remote.remote_server": "logs.example.org", "offload_jobs": ["/etc/cron.weekly/audit-offload"]}
//! ```

use crate::parse::cron;
use crate::parse::{self, Errors, Files, is_plausible_key, quoted, scalar};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "audisp_conf",
    description: "Plugins of the audit daemon, which hand records on",
    documentation: documentation::AUDISP_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_audisp_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 600, warn_seconds: 20, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const PLUGIN_DIRECTORIES: [&str; 2] = ["/etc/audit/plugins.d", "/etc/audisp/plugins.d"];
const SENDERS: [&str; 2] = ["/etc/audit/audisp-remote.conf", "/etc/audisp/audisp-remote.conf"];
const MAX_FILES: usize = 128;
/// Settings whose value is one of a fixed set of words, besides those that end in `_action`.
const WORDS: [&str; 6] = ["direction", "type", "format", "mode", "transport", "enable_krb5"];

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Errors::default();
    let mut data = Map::new();
    let Some((directory, names)) = plugin_directory(host, &mut errors) else {
        let errors = errors.into_list();
        let data = match errors.is_empty() {
            true => json!({"NODATA": "auditd is not installed: there is no /etc/audit/plugins.d"}),
            false => parse::no_data(PLUGIN_DIRECTORIES[0]),
        };
        return parse::collected((data, errors));
    };
    let mut active = Vec::new();
    for name in names.iter().take(MAX_FILES) {
        let path = format!("{directory}/{name}");
        let plugin = name.trim_end_matches(".conf");
        match host.text(&path) {
            Ok(text) => {
                parse_file(&text, &path, plugin, &mut data, &mut errors);
                if data.get(&format!("{plugin}.active")) == Some(&Value::Bool(true)) {
                    active.push(plugin);
                }
            }
            Err(reason) => errors.unread(&reason),
        }
    }
    data.insert("plugins".into(), json!(active));
    for path in SENDERS {
        match host.text(path) {
            Ok(text) => {
                parse_file(&text, path, "audisp-remote", &mut data, &mut errors);
                break;
            }
            Err(reason) if reason.absent => {}
            Err(reason) => errors.unread(&reason),
        }
    }
    let jobs = cron::jobs(host, |line| line.contains("/var/log/audit"));
    if !jobs.is_empty() {
        data.insert("offload_jobs".into(), json!(jobs));
    }
    parse::collected((data.into(), errors.into_list()))
}

/// The directory that the daemon of this host uses, and the configurations in it.
fn plugin_directory(host: &Host, errors: &mut Errors) -> Option<(&'static str, Vec<String>)> {
    for directory in PLUGIN_DIRECTORIES {
        match host.names(directory) {
            Ok(mut names) => {
                let plausible = |name: &str| name.strip_suffix(".conf").is_some_and(is_plausible_key);
                names.retain(|name| plausible(name) && !name.starts_with('.'));
                names.sort();
                return Some((directory, names));
            }
            Err(reason) if reason.absent => {}
            Err(reason) => errors.unread(&reason),
        }
    }
    None
}

/// `name = value` lines; an empty value is none.
fn parse_file(text: &str, file: &str, plugin: &str, data: &mut Map<String, Value>, errors: &mut Errors) {
    for (number, line) in parse::lines(text, file, errors) {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            errors.at(file, number, format_args!("{} has no '='", quoted(line)));
            continue;
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        if !is_plausible_key(&key) {
            errors.at(file, number, format_args!("{} is not the name of a setting", quoted(&key)));
            continue;
        }
        let full = format!("{plugin}.{key}");
        if value.is_empty() {
            data.remove(&full);
            continue;
        }
        let value = if WORDS.contains(&key.as_str()) || key.ends_with("_action") {
            scalar(&value.to_ascii_lowercase())
        } else if parse::is_secret_name(&key) {
            Value::from("***")
        } else {
            match scalar(value) {
                Value::String(text) => Value::from(parse::mask_secrets(&text)),
                other => other,
            }
        };
        data.insert(full, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, check_fixtures, collect};

    const FILE: &str = "/etc/audit/plugins.d/syslog.conf";

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn values() {
        let plugin = "# x\r\nactive = yes\r\nDirection = OUT\r\npath = /Sbin/x\r\ntype = always \r\nargs = LOG_INFO LOG_LOCAL6\r\nbad\r\n";
        let remote = "remote_server = \nport = 60\nTransport = TCP\nnetwork_failure_action = STOP\n";
        let found = collect(
            &DISCOVERY,
            &[(FILE, plugin.as_bytes()), ("/etc/audit/audisp-remote.conf", remote.as_bytes())],
        );
        let expected = json!({"plugins": ["syslog"], "syslog.active": true, "syslog.direction": "out", "syslog.path": "/Sbin/x",
            "syslog.type": "always", "syslog.args": "LOG_INFO LOG_LOCAL6", "audisp-remote.port": 60,
            "audisp-remote.transport": "tcp", "audisp-remote.network_failure_action": "stop"});
        assert_eq!(found.data, expected);
        assert_eq!(found.errors, [format!("{FILE} line 7: 'bad' has no '='")]);
    }

    #[test]
    fn the_old_place_counts_when_there_is_no_new_one() {
        let old = ("/etc/audisp/plugins.d/syslog.conf", b"active = no\n".as_slice());
        let sender = ("/etc/audisp/audisp-remote.conf", b"remote_server = a.example.org\n".as_slice());
        let found = collect(&DISCOVERY, &[old, sender]).data;
        assert_eq!((&found["syslog.active"], &found["plugins"]), (&json!(false), &json!([])));
        assert_eq!(found["audisp-remote.remote_server"], "a.example.org");
        let both = collect(&DISCOVERY, &[old, (FILE, b"active = yes\n")]).data;
        assert_eq!(both["syslog.active"], true);
        let none = collect(&DISCOVERY, &[sender]);
        let expected = json!({"NODATA": "auditd is not installed: there is no /etc/audit/plugins.d"});
        assert_eq!((none.data, none.errors.len()), (expected, 0));
        let odd = collect(&DISCOVERY, &[("/etc/audit/plugins.d", b"")]);
        assert_eq!(odd.data, json!({"NODATA": "ERROR: Cannot read /etc/audit/plugins.d"}));
        assert_eq!(odd.errors.len(), 1);
    }

    #[test]
    fn jobs_that_take_the_logs_away() {
        let job = b"#!/bin/sh\nrsync -a /var/log/audit/ logs:/audit/\n".as_slice();
        let found = collect(
            &DISCOVERY,
            &[
                (FILE, b""),
                ("/etc/cron.weekly/offload", job),
                ("/etc/cron.weekly/off.sh", job),
                ("/etc/cron.daily/x", b"# rsync /var/log/audit\n"),
            ],
        );
        assert_eq!(found.data["offload_jobs"], json!(["/etc/cron.weekly/offload"]));
    }

    #[test]
    fn any_text() {
        let tokens =
            &["active", " = ", "yes", "\n", "=", "#", "type", "_action", "ä", "path", "/x", "password"];
        check_any_text(FILE, tokens, |text| {
            let (mut data, mut errors) = (Map::new(), Errors::default());
            parse_file(text, FILE, "syslog", &mut data, &mut errors);
            (data.into(), errors.into_list())
        });
    }
}
