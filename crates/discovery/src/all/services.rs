//! Services: which units start by themselves, and which are active.
//!
//! `data` = unit → fields. Units are those of systemd with a file or a link (services, sockets, timers, targets, paths,
//! mounts), and init scripts that have no unit, as `<script>.service`.
//!
//! | field | value |
//! |---|---|
//! | `enabled` | as `systemctl is-enabled` prints it: `enabled`, `disabled`, `static` (started only when something else needs it), `indirect`, `masked`, `generated`, `linked`, `transient`, also with `-runtime`; found out from the file system alone, so for an image too |
//! | `alias_of` | this is another name of that unit; all else is said about that unit |
//! | `active` | `active`, `inactive` or `failed`; absent when nobody could tell (a file tree, systemd not running) |
//! | `sysv` | the init script; `enabled` when a directory /etc/rc2.d to rc5.d starts it |
//! | `auth` | rescue.service and emergency.service only: the program that asks for a password (`sulogin`), or the one started without |
//!
//! Executables in /etc/cron.hourly, .daily, .weekly and .monthly are listed as `cron.daily/<name>`, enabled.
//!
//! Sources: unit files (systemd.unit(5)); the D-Bus socket of systemd for root, else /run/systemd/units, which tells of
//! services only. On its way up or down a unit counts as inactive, so that jobs of timers make no changes.
//! ```json
//! {"ssh.service":{"active":"active","enabled":"enabled"},"sshd.service":{"active":"active","alias_of":"ssh.service","enabled":"enabled"},
//!  "default.target":{"alias_of":"graphical.target","enabled":"static"},"cron.daily/logrotate":{"enabled":"enabled"}}
//! ```

#[path = "services/manager.rs"]
mod manager;
#[path = "services/unit_files.rs"]
mod unit_files;

use crate::parse::Errors;
use crate::{
    Collected, Discovery, Host, Instance, Kind, Parameters, Schedule, Trigger, documentation, no_graph,
};
use manager::Known;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use unit_files::UnitFiles;

pub static DISCOVERY: Discovery = Discovery {
    name: "services",
    description: "Services and other units: started at boot, and active",
    documentation: documentation::SERVICES,
    parameters: &[],
    instances: &[Instance { name: "_init_services", parameters: &[], schedule: None }],
    // Files are watched; nothing tells when a service stops or fails, so it is looked for.
    schedule: Schedule { repeat_seconds: 300, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const INIT_SCRIPTS: &str = "/etc/init.d";
/// The run levels in which a machine does its work.
const RUN_LEVELS: [&str; 4] = ["/etc/rc2.d", "/etc/rc3.d", "/etc/rc4.d", "/etc/rc5.d"];
const CRON_DIRECTORIES: [&str; 4] = ["cron.hourly", "cron.daily", "cron.weekly", "cron.monthly"];
/// Those that give a shell on the console.
const RESCUE_UNITS: [&str; 2] = ["rescue.service", "emergency.service"];
const SEARCH_PATH: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const MAX_SCRIPTS: usize = 10_000;

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Errors::default();
    let units = UnitFiles::read(host, &mut errors);
    let mut data = Map::new();
    for (name, unit) in units.units() {
        let mut fields = Map::from_iter([("enabled".to_owned(), unit.enabled.into())]);
        if let Some(of) = unit.alias_of {
            fields.insert("alias_of".into(), of.into());
        }
        data.insert(name, Value::Object(fields));
    }
    for name in RESCUE_UNITS {
        if let (Some(Value::Object(fields)), Some(auth)) = (data.get_mut(name), auth(host, &units, name)) {
            fields.insert("auth".into(), auth.into());
        }
    }
    let has_scripts = init_scripts(host, &mut data);
    if units.is_absent && !has_scripts {
        return Collected::new(json!({
            "NODATA": "neither systemd nor init scripts are installed: there is no /usr/lib/systemd/system and no /etc/init.d"
        }));
    }
    periodic(host, &mut data);
    match manager::states(host) {
        Some(Known::All(states)) => {
            set_active(&mut data, |name| Some(states.get(name).unwrap_or(&"inactive")))
        }
        Some(Known::Services(states, why)) => {
            errors.add(format!(
                "{why}: only of services is told whether they are active: run nanoprobe as root"
            ));
            set_active(&mut data, |name| {
                name.ends_with(".service").then(|| *states.get(name).unwrap_or(&"inactive"))
            });
        }
        None => {}
    }
    Collected { data: Value::Object(data), errors: errors.into_list(), extras: Map::new() }
}

/// Adds the field `active`; `state` knows the units themselves, not their aliases, and nothing of templates.
/// For the fuzzer: the bytes are a message of systemd, or the body of one.
pub(crate) fn any_answer(bytes: &[u8]) {
    manager::any_answer(bytes);
}

fn set_active<'a>(data: &mut Map<String, Value>, state: impl Fn(&str) -> Option<&'a str>) {
    for (name, fields) in data {
        let Value::Object(fields) = fields else { continue };
        if name.contains('/') || name.contains("@.") {
            continue;
        }
        let asked = fields.get("alias_of").and_then(Value::as_str).unwrap_or(name);
        if let Some(active) = state(asked) {
            fields.insert("active".into(), active.into());
        }
    }
}

/// Adds the init scripts that no unit replaces. `false`: there is no directory for them.
fn init_scripts(host: &Host, data: &mut Map<String, Value>) -> bool {
    let Ok(directory) = host.directory(INIT_SCRIPTS) else { return false };
    let mut started = BTreeSet::new();
    for run_level in RUN_LEVELS {
        // S, a number of two digits, and the name.
        let names = host.list(run_level).unwrap_or_default();
        started.extend(names.iter().filter_map(|link| {
            let (digits, name) = link.strip_prefix('S')?.split_at_checked(2)?;
            digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| name.to_owned())
        }));
    }
    let scripts = directory.entries().unwrap_or_default();
    for entry in scripts.iter().take(MAX_SCRIPTS) {
        let script = entry.name();
        let is_script = directory
            .stat(entry.raw())
            .is_ok_and(|file| file.kind == Kind::Regular && file.mode & 0o111 != 0);
        if !is_script || script.starts_with('.') {
            continue;
        }
        // What the generator of systemd makes of a script is that script.
        let unit = format!("{}.service", script.strip_suffix(".sh").unwrap_or(&script));
        let is_generated = |unit: &Value| unit["enabled"] == "generated";
        if data.get(&unit).is_none_or(is_generated) {
            let enabled = if started.contains(script.as_ref()) { "enabled" } else { "disabled" };
            data.insert(unit, json!({"enabled": enabled, "sysv": format!("{INIT_SCRIPTS}/{script}")}));
        }
    }
    true
}

/// Adds what cron runs by the hour, day, week and month.
fn periodic(host: &Host, data: &mut Map<String, Value>) {
    for name in CRON_DIRECTORIES {
        let Ok(directory) = host.directory(&format!("/etc/{name}")) else { continue };
        for entry in directory.entries().unwrap_or_default().iter().take(MAX_SCRIPTS) {
            let attributes = directory.stat(entry.raw());
            if attributes.is_ok_and(|file| file.kind == Kind::Regular && file.mode & 0o111 != 0)
                && !entry.name().starts_with('.')
            {
                data.insert(format!("{name}/{}", entry.name()), json!({"enabled": "enabled"}));
            }
        }
    }
}

/// Who asks for a password before the shell: from the last command that the unit and its drop-ins name.
fn auth(host: &Host, units: &UnitFiles, name: &str) -> Option<String> {
    let mut texts = vec![host.read_text(units.path(name)?).ok()?];
    if units.has_drop_ins(name) {
        // Of drop-ins with the same name the first directory's counts; they are read in order of name.
        let mut files = std::collections::BTreeMap::new();
        for directory in SEARCH_PATH {
            for file in host.list(&format!("{directory}/{name}.d")).unwrap_or_default() {
                if file.ends_with(".conf") && files.len() < 100 {
                    files.entry(file.clone()).or_insert(format!("{directory}/{name}.d/{file}"));
                }
            }
        }
        texts.extend(files.values().filter_map(|path| host.read_text(path).ok()));
    }
    rescue_program(texts.iter().map(String::as_str))
}

fn rescue_program<'a>(texts: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut is_forced = false;
    for (section, key, value) in texts.flat_map(unit_files::assignments) {
        match (section.as_str(), key.as_str()) {
            ("Service", "ExecStart") if value.is_empty() => commands.clear(),
            ("Service", "ExecStart") => commands.push(value),
            // Lets everybody in when the account root is locked (systemd's own documentation, ENVIRONMENT.md).
            ("Service", "Environment") if value.contains("SYSTEMD_SULOGIN_FORCE=1") => is_forced = true,
            _ => {}
        }
    }
    let command = commands.pop()?;
    let mut words = command.trim_start_matches(['-', '@', ':', '+', '!']).split_whitespace();
    let program = words.next()?.rsplit('/').next()?;
    // The former asks by way of the latter; older units start it with a shell in between.
    let asks = matches!(program, "sulogin" | "systemd-sulogin-shell") || command.contains("/sulogin");
    is_forced |= words.any(|word| matches!(word, "--force" | "-e"));
    Some(match (asks, is_forced) {
        (true, false) => "sulogin".into(),
        (true, true) => "sulogin --force".into(),
        (false, _) => program.chars().take(64).collect(),
    })
}

#[cfg(test)]
#[path = "services/tests.rs"]
mod tests;
