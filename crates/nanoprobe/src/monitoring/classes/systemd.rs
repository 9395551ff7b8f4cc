//! `systemd`: the state of a unit, asked of systemd over D-Bus (org.freedesktop.systemd1(5)).
//!
//! | `ActiveState` | state |
//! |---|---|
//! | `active`, `reloading`, `refreshing` | up |
//! | `activating` | warn: it starts; down where it waits to be started again after a failure (`auto-restart`) |
//! | `failed` | down, with `Result` and exit status |
//! | `inactive`, `deactivating`, others | down |
//!
//! Where the nanoprobe may not use the socket, a unit with a process counts as up and any other as down.

use super::super::state::Outcome;
use super::{Around, timed_out, timeout};
use discovery::systemd::{UnitState, unit_state};
use monitors::Monitor;
use std::fs;
use std::time::{Duration, Instant};

/// systemd answers within milliseconds, except while it is being replaced.
const LIMIT: Duration = Duration::from_secs(5);

pub fn check(monitor: &Monitor, around: &Around) -> Outcome {
    let unit = unit(&monitor.agent);
    if unit.len() > 255 || unit.contains(['/', '\0']) {
        return Outcome::down(format!("invalid monitoring request: {unit:?} is no unit"));
    }
    let limit = timeout(monitor).min(LIMIT);
    let started = Instant::now();
    match unit_state(&around.systemd_socket, &unit, limit) {
        Ok(state) => judge(&unit, &state),
        Err(_) if started.elapsed() >= timeout(monitor) => timed_out(monitor),
        Err(why) => match fs::symlink_metadata(around.systemd_units.join(format!("invocation:{unit}"))) {
            Ok(_) => Outcome::up(format!("{unit} has a process ({why})")),
            Err(_) if around.systemd_units.is_dir() => {
                Outcome::down(format!("{unit} has no process ({why})"))
            }
            Err(_) => Outcome::warn(format!("unknown: systemd gives no answer about {unit}: {why}")),
        },
    }
}

/// The unit that an agent's name means: without a suffix, a service.
pub fn unit(agent: &str) -> String {
    const SUFFIXES: [&str; 6] = [".service", ".socket", ".timer", ".target", ".path", ".mount"];
    if SUFFIXES.iter().any(|suffix| agent.ends_with(suffix)) {
        agent.into()
    } else {
        format!("{agent}.service")
    }
}

/// What systemd's words mean.
pub fn judge(unit: &str, state: &UnitState) -> Outcome {
    let UnitState { load, active, sub, .. } = state;
    match (load.as_str(), active.as_str(), sub.as_str()) {
        (_, "active" | "reloading" | "refreshing", _) => Outcome::up(format!("{unit} is {active} ({sub})")),
        ("not-found", ..) => Outcome::down(format!("there is no unit {unit} any more")),
        ("masked", ..) => Outcome::down(format!("{unit} is masked: it cannot be started")),
        (_, "activating", "auto-restart" | "auto-restart-queued") => {
            Outcome::down(format!("{unit} ended and is started again: {}", ending(state)))
        }
        (_, "activating", _) => Outcome::warn(format!("{unit} is starting ({sub})")),
        (_, "failed", _) => Outcome::down(format!("{unit} has failed: {}", ending(state))),
        (_, "inactive", _) => Outcome::down(format!("{unit} is not running")),
        _ => Outcome::down(format!("{unit} is {active} ({sub})")),
    }
}

/// `Result`, and how the main process ended.
fn ending(state: &UnitState) -> String {
    let UnitState { result, exit_code, exit_status, .. } = state;
    match exit_code {
        1 => format!("{result}, exit status {exit_status}"),
        2 | 3 => format!("{result}, killed by signal {exit_status}"),
        _ => result.clone(),
    }
}
