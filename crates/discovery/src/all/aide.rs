//! AIDE, which tells what changed in files: `/etc/aide/aide.conf` or `/etc/aide.conf` with what it includes
//! (aide.conf(5)), its database, and what runs the check (crontab(5), systemd.timer(5)).
//!
//! | key | value |
//! |---|---|
//! | `config`, `included` | the main file, and the number of further ones |
//! | `not_run` | included files that AIDE runs to get lines; they are not run here, so their lines are not known |
//! | `database_in`, `database` | where the database to compare with should be; `database` only when it is there |
//! | `selections` | number of lines that select files |
//! | `selections_without_acl`, `selections_without_xattrs` | how many of them, not counting those for devices and links, do not look at these, and the first 10 as `..._examples` |
//! | `audit_tools` | for each program of the audit package that the host has: `selected`, the missing attributes out of p, i, n, u, g, s, b, acl, xattrs and sha512, and `covered`: none is missing. Absent when the host has none of them |
//! | `scheduled_check` | files of cron and systemd that run AIDE; absent when there are none |
//!
//! Patterns are compared only when they are plain paths; a host that selects programs by regular expressions with
//! operators shows them as not selected.
//!
//! ```json
//! {"config": "/etc/aide.conf", "database_in": "/var/lib/aide/aide.db.gz", "selections": 40, "selections_without_acl": 0,
//!  "audit_tools": {"/usr/sbin/auditctl": {"selected": true, "covered": true, "missing": []}}}
//! ```

#[path = "aide/config.rs"]
mod config;

use crate::parse::cron;
use crate::parse::presence::not_there;
use crate::parse::{self, Errors, Files};
use crate::{
    Collected, Discovery, Host, Instance, Kind, Parameters, Schedule, Trigger, documentation, no_graph,
};
use config::{Config, Mark};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "aide",
    description: "AIDE, which tells what changed in files",
    documentation: documentation::AIDE,
    parameters: &[],
    instances: &[Instance { name: "_init_aide", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, warn_seconds: 20, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const PROGRAMS: [&str; 2] = ["/usr/bin/aide", "/usr/sbin/aide"];
const CONFIGS: [&str; 2] = ["/etc/aide/aide.conf", "/etc/aide.conf"];
const AUDIT_TOOLS: [&str; 7] =
    ["auditctl", "auditd", "ausearch", "aureport", "autrace", "augenrules", "audisp-syslog"];
const WANTED: [&str; 10] = ["p", "i", "n", "u", "g", "s", "b", "acl", "xattrs", "sha512"];
const TIMERS: [&str; 3] = [
    "/etc/systemd/system/timers.target.wants",
    "/etc/systemd/system/multi-user.target.wants",
    "/usr/lib/systemd/system/timers.target.wants",
];
const MAX_FILES: usize = 128;
const EXAMPLES: usize = 10;

fn collect(host: &Host, _: &Parameters) -> Collected {
    if PROGRAMS.iter().all(|program| host.stat(program).is_err()) {
        return not_there("AIDE is not installed: there is no /usr/bin/aide or /usr/sbin/aide");
    }
    let mut errors = Errors::default();
    let found = CONFIGS.into_iter().find_map(|path| match host.text(path) {
        Ok(text) => Some((path, text)),
        Err(reason) => {
            if !reason.absent {
                errors.unread(&reason);
            }
            None
        }
    });
    let Some((path, text)) = found else {
        let errors = errors.into_list();
        if errors.is_empty() {
            return Collected::new(json!({"config_missing": true}));
        }
        return parse::collected((parse::no_data(CONFIGS[0]), errors));
    };
    let is_program =
        |path: &str| host.stat(path).is_ok_and(|file| file.kind == Kind::Regular && file.mode & 0o111 != 0);
    let config = config::read(host, &is_program, path, &text, &mut errors);
    let mut data = Map::new();
    data.insert("config".into(), path.into());
    data.insert("included".into(), (config.files.len() - 1).into());
    if !config.programs.is_empty() {
        data.insert("not_run".into(), json!(config.programs));
    }
    database(host, &config, path, &mut data);
    selections(&config, &mut data);
    let tools = audit_tools(host, &config);
    if !tools.is_empty() {
        data.insert("audit_tools".into(), tools.into());
    }
    let jobs = scheduled(host);
    if !jobs.is_empty() {
        data.insert("scheduled_check".into(), json!(jobs));
    }
    Collected { data: data.into(), errors: errors.into_list(), extras: Map::new() }
}

fn database(host: &Host, config: &Config, main: &str, data: &mut Map<String, Value>) {
    let setting = config.settings.get("database_in").or_else(|| config.settings.get("database"));
    let usual = if main == CONFIGS[0] { "/var/lib/aide/aide.db" } else { "/var/lib/aide/aide.db.gz" };
    let url = setting.map_or(usual, String::as_str);
    let path = url.strip_prefix("file:").unwrap_or(url).trim_start_matches("//");
    let path = format!("/{}", path.trim_start_matches('/'));
    if host.stat(&path).is_ok_and(|file| file.kind == Kind::Regular && file.size_bytes > 0) {
        data.insert("database".into(), path.as_str().into());
    }
    data.insert("database_in".into(), path.into());
}

fn selections(config: &Config, data: &mut Map<String, Value>) {
    let selecting: Vec<_> =
        config.selections.iter().filter(|selection| selection.mark != Mark::Not).collect();
    data.insert("selections".into(), selecting.len().into());
    for attribute in ["acl", "xattrs"] {
        let without: Vec<&str> = selecting
            .iter()
            // Devices and links have neither.
            .filter(|selection| selection.is_for_files || selection.is_for_directories)
            .filter(|selection| !selection.attributes.contains(attribute))
            .map(|selection| selection.pattern.as_str())
            .collect();
        data.insert(format!("selections_without_{attribute}"), without.len().into());
        if !without.is_empty() {
            let examples: Vec<String> =
                without.iter().take(EXAMPLES).map(|p| p.chars().take(200).collect()).collect();
            data.insert(format!("selections_without_{attribute}_examples"), json!(examples));
        }
    }
}

fn audit_tools(host: &Host, config: &Config) -> Map<String, Value> {
    let mut tools = Map::new();
    for name in AUDIT_TOOLS {
        let places = ["/usr/sbin", "/sbin", "/usr/bin"].map(|directory| format!("{directory}/{name}"));
        let present: Vec<&String> = places.iter().filter(|path| host.stat(path).is_ok()).collect();
        let Some(first) = present.first() else { continue };
        // /sbin and /usr/sbin may be one directory; AIDE knows the path that was selected.
        let kept = present.iter().find_map(|path| Some((path, config.attributes_of(path)?)));
        let missing: Vec<&str> = match kept {
            None => WANTED.to_vec(),
            Some((_, attributes)) => {
                WANTED.into_iter().filter(|wanted| !attributes.contains(*wanted)).collect()
            }
        };
        let path = kept.map_or(first.as_str(), |(path, _)| path.as_str());
        let tool = json!({"selected": kept.is_some(), "covered": missing.is_empty(), "missing": missing});
        tools.insert(path.to_owned(), tool);
    }
    tools
}

/// Files of cron in which a line that is no comment runs AIDE, and timers of it that are switched on.
fn scheduled(host: &Host) -> Vec<String> {
    let mut files = cron::jobs(host, runs_aide);
    for directory in TIMERS {
        let mut names = host.names(directory).unwrap_or_default();
        names.retain(|name| name.contains("aide") && name.ends_with(".timer"));
        names.sort();
        files.extend(names.into_iter().take(MAX_FILES).map(|name| format!("{directory}/{name}")));
    }
    files
}

/// A word whose last part is `aide`, `dailyaidecheck` or another script of the package.
fn runs_aide(line: &str) -> bool {
    let words = line.split(|c: char| c.is_whitespace() || "\"';|&()".contains(c));
    words.map(|word| word.rsplit('/').next().unwrap_or(word)).any(|name| {
        name == "aide" || name == "aide.wrapper" || name == "aideinit" || name.starts_with("dailyaidecheck")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{Tree, check_any_text, check_fixtures, collect};

    const CONFIG: &str = "/etc/aide.conf";
    const AIDE: (&str, &[u8]) = ("/usr/sbin/aide", b"");

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn databases_and_tools() {
        let text = b"@@define DBDIR /var/lib/aide\r\ndatabase_in=file:@@{DBDIR}/x.gz\r\nG = p+i+n+u+g+s+b+acl+xattrs+sha512\r\n\
            /usr/sbin/auditctl G\r\n/usr/sbin/auditd G-acl\r\n/etc p\r\n";
        let tools =
            [("/usr/sbin/auditctl", b"".as_slice()), ("/usr/sbin/auditd", b""), ("/usr/sbin/aureport", b"")];
        let mut files = vec![AIDE, (CONFIG, text.as_slice())];
        files.extend(tools);
        let found = collect(&DISCOVERY, &files);
        assert_eq!(found.errors, [""; 0]);
        let data = found.data;
        assert_eq!((&data["database_in"], data.get("database")), (&json!("/var/lib/aide/x.gz"), None));
        assert_eq!(
            data["audit_tools"]["/usr/sbin/auditctl"],
            json!({"selected": true, "covered": true, "missing": []})
        );
        assert_eq!(data["audit_tools"]["/usr/sbin/auditd"]["missing"], json!(["acl"]));
        assert_eq!(data["audit_tools"]["/usr/sbin/aureport"]["selected"], false);
        assert_eq!((&data["selections"], &data["selections_without_acl"]), (&json!(3), &json!(2)));
        assert_eq!(data["selections_without_xattrs_examples"], json!(["/etc"]));
        files.push(("/var/lib/aide/x.gz", b"x"));
        assert_eq!(collect(&DISCOVERY, &files).data["database"], "/var/lib/aide/x.gz");
    }

    #[test]
    fn checks_are_found_in_cron_and_among_timers() {
        let files = [
            AIDE,
            (CONFIG, b"/etc p\n".as_slice()),
            ("/etc/crontab", b"# 05 4 * * * root /usr/sbin/aide --check\n"),
            ("/etc/cron.d/raid", b"1 2 * * * root /usr/bin/raide\n"),
            ("/etc/cron.daily/aide", b"#!/bin/sh\n[ -x /usr/share/aide/bin/dailyaidecheck ] && exit\n"),
            ("/var/spool/cron/root", b"05 4 * * * /usr/sbin/aide --check\n"),
            ("/etc/systemd/system/timers.target.wants/dailyaidecheck.timer", b""),
        ];
        let expected = json!([
            "/var/spool/cron/root",
            "/etc/cron.daily/aide",
            "/etc/systemd/system/timers.target.wants/dailyaidecheck.timer"
        ]);
        assert_eq!(collect(&DISCOVERY, &files).data["scheduled_check"], expected);
        assert!(collect(&DISCOVERY, &files[..4]).data.get("scheduled_check").is_none());
    }

    #[test]
    fn without_aide_there_is_nothing_to_tell() {
        let found = collect(&DISCOVERY, &[(CONFIG, b"/etc p\n")]);
        assert!(found.data["NODATA"].as_str().unwrap().starts_with("AIDE is not installed"));
        assert!(found.errors.is_empty());
        let odd = collect(&DISCOVERY, &[AIDE, ("/etc/aide/aide.conf/x", b"")]);
        assert_eq!(
            (odd.data, odd.errors.len()),
            (json!({"NODATA": "ERROR: Cannot read /etc/aide/aide.conf"}), 1)
        );
        assert_eq!(collect(&DISCOVERY, &[AIDE]).data, json!({"config_missing": true}));
    }

    #[test]
    fn any_text() {
        let tokens =
            &["/etc", " ", "p+u", "\n", "!", "=", "@@define A ", "@@{A}", "@@if", "@@endif", "R-", "ä", "$"];
        check_any_text(CONFIG, tokens, |text| {
            let mut errors = Errors::default();
            let config = config::read(&Tree::of(&[]), &|_| false, CONFIG, text, &mut errors);
            let mut data = Map::new();
            selections(&config, &mut data);
            config.attributes_of("/usr/sbin/auditctl");
            // An included file that is not there names itself.
            let named =
                |error: String| if error.contains(CONFIG) { error } else { format!("{CONFIG}: {error}") };
            (data.into(), errors.into_list().into_iter().map(named).collect())
        });
    }
}
