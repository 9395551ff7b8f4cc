//! From the documents of discoveries to monitors: reads them, asks the monitor rules, and finds out what became of services
//! that are not there any more. Blocks; for a thread of its own.

use super::plan::MAX_MONITORS;
use discovery::systemd::{self, unit_state};
use model::config::MonitoringConfig;
use model::{Designation, Envelope};
use monitors::{Class, Findings, Monitor, MonitorRules, Target};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Tells which processes listen.
pub const TCPDISCOVERY: &str = "_init_tcpdiscovery";

/// What the choice is made from, in the order of [`Job::bodies`].
pub const DOCUMENTS: [&str; 4] = [TCPDISCOVERY, "_init_monitoringagents", "_init_commands", "_init_services"];

/// Those that tell what became of a service that does not work.
pub const TELLING: [&str; 2] = [TCPDISCOVERY, "_init_services"];

/// How long systemd may take to answer.
const SYSTEMD_LIMIT: Duration = Duration::from_secs(2);
/// Entries of the overview, and addresses of one of them.
const MAX_UNMONITORED: usize = 2000;
const MAX_LISTEN: usize = 100;

/// All that the choice depends on.
pub struct Job {
    pub host: Designation,
    pub config: MonitoringConfig,
    /// Monitor rules of the CMA's site, by file name.
    pub rules: BTreeMap<String, String>,
    pub directories: [PathBuf; 2],
    pub host_root: PathBuf,
    /// Compressed documents.
    pub bodies: [Option<Vec<u8>>; 4],
    /// The monitors there are, with the units that their processes ran in.
    pub present: Vec<(Arc<Monitor>, Option<String>)>,
}

/// What was chosen.
#[derive(Debug, Default)]
pub struct Chosen {
    /// `false`: there is no choice, because of a defect.
    pub is_complete: bool,
    pub monitors: Vec<Monitor>,
    /// What is not looked after: process key → `pathname`, `listen`, `why`.
    pub overview: Map<String, Value>,
    /// Keys of processes that listen.
    pub listening: BTreeSet<String>,
    /// Process key → systemd unit that it runs in.
    pub units: BTreeMap<String, String>,
    /// Names of monitors whose services were removed or switched off on purpose.
    pub removed: BTreeSet<String>,
    /// Rules that are not used, and why.
    pub problems: Vec<String>,
}

/// Makes the choice.
pub fn choose(job: Job) -> Chosen {
    let Job { host, config, rules, directories, host_root, bodies, present } = job;
    let [tcpdiscovery, monitoringagents, commands, services] =
        bodies.map(|body| body.map_or(Value::Null, data));
    let (rules, problems) = MonitorRules::load(&directories, &rules);
    let findings = Findings {
        tcpdiscovery: &tcpdiscovery,
        monitoringagents: &monitoringagents,
        commands: &commands,
        services: &services,
    };
    let mut choice = rules.choose(&host, &config, findings);
    for monitor in choice.monitors.drain(MAX_MONITORS.min(choice.monitors.len())..) {
        if let Target::Service { process, .. } = monitor.target {
            choice.unmonitored.push((process, format!("there are more than {MAX_MONITORS} monitors")));
        }
    }
    let chosen: BTreeSet<&str> = choice.monitors.iter().map(|monitor| monitor.name.as_str()).collect();
    let missing = present.iter().filter(|(monitor, _)| !chosen.contains(monitor.name.as_str()));
    let is_running_system = host_root == Path::new("/");
    let removed = missing
        .filter(|(monitor, unit)| {
            let live = |unit: &str| {
                let ask = || unit_state(Path::new(systemd::SOCKET), unit, SYSTEMD_LIMIT).ok();
                is_running_system.then(ask).flatten()
            };
            is_removed(monitor, unit.as_deref(), &services, &host_root, live)
        })
        .map(|(monitor, _)| monitor.name.clone())
        .collect();
    Chosen {
        is_complete: true,
        overview: overview(&choice.unmonitored, &tcpdiscovery),
        listening: listening(&tcpdiscovery),
        units: units(&tcpdiscovery),
        removed,
        monitors: choice.monitors,
        problems: problems.iter().map(ToString::to_string).collect(),
    }
}

/// The `data` of a compressed document; null when it cannot be read.
fn data(body: Vec<u8>) -> Value {
    let text = wire::body::decompress(&body).ok();
    let envelope = text.and_then(|text| serde_json::from_slice::<Envelope>(&text).ok());
    envelope.map_or(Value::Null, |envelope| envelope.data)
}

/// `address:port` of everything that a process listens at.
fn listens_at(process: &Value) -> impl Iterator<Item = &String> {
    let addresses = |field: &str| process[field].as_object().into_iter().flat_map(Map::keys);
    addresses("listenaddrs").chain(addresses("loopback_listenaddrs"))
}

fn listening(tcpdiscovery: &Value) -> BTreeSet<String> {
    let processes = tcpdiscovery.as_object().into_iter().flatten();
    processes
        .filter(|(_, process)| listens_at(process).next().is_some())
        .map(|(key, _)| key.clone())
        .collect()
}

fn overview(unmonitored: &[(String, String)], tcpdiscovery: &Value) -> Map<String, Value> {
    let entry = |(key, why): &(String, String)| {
        let process = &tcpdiscovery[key.as_str()];
        let listen: Vec<&String> = listens_at(process).take(MAX_LISTEN).collect();
        let pathname = process["exe"].as_str().unwrap_or("");
        (key.clone(), json!({"pathname": pathname, "listen": listen, "why": why}))
    };
    unmonitored.iter().take(MAX_UNMONITORED).map(entry).collect()
}

/// Whether a service that is not there any more was taken away on purpose: its program is gone, or its unit or init script, or
/// that is switched off and ended in good order. `live`: what systemd says about a unit now.
fn is_removed(
    monitor: &Monitor,
    unit: Option<&str>,
    services: &Value,
    host_root: &Path,
    live: impl Fn(&str) -> Option<systemd::UnitState>,
) -> bool {
    let Target::Service { pathname, .. } = &monitor.target else { return false };
    let is_gone = |path: &str| {
        let found = fs::symlink_metadata(host_root.join(path.trim_start_matches('/')));
        found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    if pathname.starts_with('/') && is_gone(pathname) {
        return true;
    }
    if monitor.class == Class::Lsb
        && !monitor.agent.contains('/')
        && is_gone(&format!("etc/init.d/{}", monitor.agent))
    {
        return true;
    }
    let named = match monitor.class {
        Class::Systemd => Some(super::classes::unit(&monitor.agent)),
        Class::Lsb => Some(format!("{}.service", monitor.agent)),
        _ => None,
    };
    let Some(unit) = unit.map(str::to_owned).or(named) else { return false };
    let mut found = &services[unit.as_str()];
    if let Some(alias) = found["alias_of"].as_str() {
        found = &services[alias];
    }
    let state = live(&unit);
    match &state {
        Some(state) if state.load == "not-found" => return true,
        // Nobody knows about units here.
        None if services.as_object().is_none_or(|all| all.is_empty() || all.contains_key("NODATA")) => {
            return false;
        }
        None if found.is_null() => return true,
        _ => {}
    }
    let enabled = found["enabled"].as_str().unwrap_or("");
    let is_off = matches!(enabled.trim_end_matches("-runtime"), "disabled" | "masked");
    let ended_well = match &state {
        Some(state) => state.active == "inactive" && matches!(state.result.as_str(), "" | "success"),
        None => found["active"] == "inactive",
    };
    is_off && ended_well
}

/// The systemd services that processes belong to; users' own service managers are not ours to ask for.
fn units(tcpdiscovery: &Value) -> BTreeMap<String, String> {
    let is_asked_for = |unit: &&str| unit.ends_with(".service") && !unit.starts_with("user@");
    let unit = |(key, process): (&String, &Value)| {
        Some((key.clone(), process["unit"].as_str().filter(is_asked_for)?.to_owned()))
    };
    tcpdiscovery.as_object().into_iter().flatten().filter_map(unit).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::service;
    use super::*;
    use systemd::UnitState;

    #[test]
    fn services_of_the_system_are_the_units_of_processes() {
        let data = json!({
            "a:1": {"unit": "nginx.service"}, "b:2": {"unit": "session-3.scope"}, "c:3": {},
            "d:4": {"unit": "user@1000.service"}, "e:5": {"unit": 7},
        });
        assert_eq!(units(&data), [("a:1".to_owned(), "nginx.service".to_owned())].into());
        assert!(units(&Value::Null).is_empty());
    }

    #[test]
    fn a_crash_is_no_removal() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/sbin")).unwrap();
        fs::create_dir_all(root.path().join("etc/init.d")).unwrap();
        let program = root.path().join("usr/sbin/nginx");
        fs::write(&program, "").unwrap();
        let unit =
            |enabled: &str, active: &str| json!({"nginx.service": {"enabled": enabled, "active": active}});
        let monitor = service(Class::Http, "nginx", 80);
        let removed = |monitor: &Monitor, unit: Option<&str>, services: &Value| {
            is_removed(monitor, unit, services, root.path(), |_| None)
        };
        let of_unit = Some("nginx.service");
        assert!(!removed(&monitor, of_unit, &unit("enabled", "failed")), "crashed");
        assert!(
            !removed(&monitor, of_unit, &unit("enabled", "inactive")),
            "stopped, and will be back after a reboot"
        );
        assert!(!removed(&monitor, of_unit, &unit("disabled", "failed")), "started by hand and crashed");
        assert!(removed(&monitor, of_unit, &unit("disabled", "inactive")));
        assert!(removed(&monitor, of_unit, &unit("masked-runtime", "inactive")));
        assert!(
            removed(&monitor, of_unit, &json!({"ssh.service": {"enabled": "enabled"}})),
            "its unit is gone"
        );
        let alias = json!({"nginx.service": {"alias_of": "angie.service", "enabled": "enabled"},
            "angie.service": {"enabled": "disabled", "active": "inactive"}});
        assert!(removed(&monitor, of_unit, &alias));
        assert!(!removed(&monitor, of_unit, &Value::Null), "nobody knows");
        assert!(!removed(&monitor, of_unit, &json!({"NODATA": "neither"})), "nobody knows");
        assert!(!removed(&monitor, None, &unit("disabled", "inactive")), "not known to be that unit");
        let by_unit = Monitor { class: Class::Systemd, ..monitor.clone() };
        assert!(removed(&by_unit, None, &unit("disabled", "inactive")));
        let script = Monitor { class: Class::Lsb, ..monitor.clone() };
        assert!(removed(&script, None, &Value::Null), "its init script is gone");
        fs::write(root.path().join("etc/init.d/nginx"), "").unwrap();
        assert!(!removed(&script, None, &Value::Null));
        // What systemd says now counts more than what was found minutes ago.
        let now = |load: &str, active: &str, result: &str| {
            let state = UnitState {
                load: load.into(),
                active: active.into(),
                result: result.into(),
                ..UnitState::default()
            };
            move |_: &str| Some(state.clone())
        };
        let stale = unit("disabled", "inactive");
        assert!(!is_removed(&monitor, of_unit, &stale, root.path(), now("loaded", "failed", "signal")));
        assert!(!is_removed(&monitor, of_unit, &stale, root.path(), now("loaded", "activating", "success")));
        assert!(is_removed(&monitor, of_unit, &stale, root.path(), now("loaded", "inactive", "success")));
        assert!(is_removed(
            &monitor,
            of_unit,
            &unit("enabled", "active"),
            root.path(),
            now("not-found", "", "")
        ));
        fs::remove_file(program).unwrap();
        assert!(removed(&monitor, None, &Value::Null), "its program is gone");
        let host = Monitor { target: Target::Host, ..monitor };
        assert!(!removed(&host, None, &Value::Null));
    }

    #[test]
    fn what_nobody_looks_after_is_listed_with_where_it_listens() {
        let data = json!({
            "x:1": {"exe": "/opt/x", "listenaddrs": {"0.0.0.0:1": "tcp"}, "loopback_listenaddrs": {"127.0.0.1:2": "tcp"}},
            "y:2": {"exe": "/opt/y", "clientaddrs": {"1.2.3.4:5": "tcp"}},
            "unknown:3": {"loopback_listenaddrs": {"[::1]:3": "tcp6"}},
        });
        assert_eq!(listening(&data), ["unknown:3", "x:1"].map(String::from).into());
        let why = |key: &str| (key.to_owned(), "no rule".to_owned());
        let overview = overview(&[why("x:1"), why("unknown:3")], &data);
        let expected = json!({
            "x:1": {"pathname": "/opt/x", "listen": ["0.0.0.0:1", "127.0.0.1:2"], "why": "no rule"},
            "unknown:3": {"pathname": "", "listen": ["[::1]:3"], "why": "no rule"},
        });
        assert_eq!(Value::Object(overview), expected);
        assert!(listening(&Value::Null).is_empty() && listening(&json!([1])).is_empty());
    }
}
