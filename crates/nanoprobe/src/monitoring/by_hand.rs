//! `nanoprobe monitors`: what would look after this host, and with `--check` what it says now. Needs neither CMA nor keys.

use super::choose::{self, DOCUMENTS, Job};
use super::classes::{Around, check};
use super::directories;
use super::plan::AT_ONCE;
use super::state::{Level, Outcome};
use crate::cli::MonitorsArgs;
use crate::collector::pack;
use discovery::{Host, Parameters};
use model::Designation;
use model::config::AgentConfig;
use model::paths::SitePaths;
use monitors::{Class, Monitor, Target};
use output::{Format, Rows, note};
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A longer configuration is none that a nanoprobe keeps.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// Carries out the sub-command; the exit code: 0 all is well (or nothing was checked), 2 something is down, 1 an error.
pub fn run(arguments: &MonitorsArgs, site: &SitePaths, host_root: &Path) -> u8 {
    match prepared(arguments, site, host_root) {
        Ok((rows, is_down)) => {
            let format = arguments.output.unwrap_or_else(Format::by_terminal);
            match rows.print(format) {
                Ok(()) if is_down => 2,
                Ok(()) => 0,
                Err(error) => {
                    note!("nanoprobe: cannot write the answer: {error}");
                    1
                }
            }
        }
        Err(problem) => {
            note!("nanoprobe: {}", model::text::printable(&problem));
            1
        }
    }
}

fn prepared(arguments: &MonitorsArgs, site: &SitePaths, host_root: &Path) -> Result<(Rows, bool), String> {
    if !host_root.is_dir() {
        return Err(format!("--host-root {}: there is no such directory", host_root.display()));
    }
    if arguments.check && host_root != Path::new("/") {
        return Err(
            "--check asks the services of the running system: leave out --host-root, or --check".into()
        );
    }
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host = Designation::new(&host_name).map_err(|error| error.to_string())?;
    let config = config(site);
    let documents = Host::at(host_root);
    let bodies = DOCUMENTS.map(|name| {
        let (discovery, instance) = discovery::find(name)?;
        let envelope = discovery::run(discovery, instance.name, &documents, &Parameters::new());
        for error in &envelope.errors {
            note!("nanoprobe: {name}: {}", model::text::printable(error));
        }
        pack(&envelope).ok().map(|document| document.body)
    });
    let job = Job {
        host,
        config: config.monitoring.clone(),
        rules: config.monitor_rules,
        directories: directories(site),
        host_root: host_root.into(),
        bodies,
        present: Vec::new(),
    };
    let chosen = choose::choose(job);
    for problem in &chosen.problems {
        note!("nanoprobe: {}", model::text::printable(problem));
    }
    let outcomes = if arguments.check {
        // Whoever may not write there has no agents either that would.
        let around = Around::new(&config.monitoring, site.nanoprobe_state().join("rsctmp"));
        check_all(&chosen.monitors, &around)
    } else {
        chosen.monitors.iter().map(|_| None).collect()
    };
    let is_down = outcomes.iter().flatten().any(|outcome| outcome.level == Level::Down);
    Ok((table(&chosen.monitors, &outcomes, &chosen.overview, arguments.check), is_down))
}

/// The configuration that the CMA last gave the nanoprobe of this site, or the default.
fn config(site: &SitePaths) -> AgentConfig {
    let mut text = String::new();
    let file = std::fs::File::open(site.nanoprobe_state().join("config.json"));
    let read = file.and_then(|file| file.take(MAX_CONFIG_BYTES).read_to_string(&mut text));
    read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Each once, a few at a time. What is deliberately left alone has no outcome.
fn check_all(monitors: &[Monitor], around: &Around) -> Vec<Option<Outcome>> {
    let outcomes: Vec<Mutex<Option<Outcome>>> = monitors.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(monitor), Some(place)) = (monitors.get(number), outcomes.get(number)) else {
                        return;
                    };
                    if monitor.class != Class::NeverMon {
                        let outcome = check(monitor, around).outcome;
                        *place.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(outcome);
                    }
                }
            });
        }
    });
    let taken = |place: Mutex<_>| place.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    outcomes.into_iter().map(taken).collect()
}

fn table(
    monitors: &[Monitor],
    outcomes: &[Option<Outcome>],
    overview: &serde_json::Map<String, Value>,
    is_checked: bool,
) -> Rows {
    let mut rows = Rows::new(&["state", "class", "agent", "target", "listen", "rule", "reason"]);
    for (monitor, outcome) in monitors.iter().zip(outcomes) {
        let (state, reason) = match outcome {
            _ if monitor.class == Class::NeverMon => ("unmonitored", "deliberately not looked after"),
            Some(outcome) => (outcome.level.as_str(), outcome.reason.as_str()),
            None => ("-", ""),
        };
        let agent = match &monitor.provider {
            Some(provider) => format!("{provider}:{}", monitor.agent),
            None => monitor.agent.clone(),
        };
        let (target, listen) = match &monitor.target {
            Target::Host => ("host", String::new()),
            Target::Service { pathname, listen, .. } => (pathname.as_str(), listen.join(" ")),
        };
        let words = [state, monitor.class.as_str(), &agent, target, &listen, &monitor.rule, reason];
        rows.rows.push(words.map(Value::from).to_vec());
    }
    for process in overview.values() {
        let listen: Vec<&str> =
            process["listen"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let listen = listen.join(" ");
        let pathname = process["pathname"].as_str().unwrap_or("");
        let why = process["why"].as_str().unwrap_or("");
        let state = if is_checked { "unmonitored" } else { "-" };
        rows.rows.push([state, "-", "-", pathname, &listen, "-", why].map(Value::from).to_vec());
    }
    rows
}
