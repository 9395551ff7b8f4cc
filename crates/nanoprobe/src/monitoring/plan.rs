//! Which monitors there are, and which runs next. Pure: times and findings come in, decisions go out.
//!
//! A service that is not found any more is not forgotten: most likely it has crashed, and its monitor will say so. Its
//! monitor ends when the service was removed or switched off on purpose, when another monitor has taken over, or after a
//! time of grace (`forget_hours`). What is looked after outlives the nanoprobe, so that a service which does not come back
//! after a reboot is missed.

use super::state::{Health, Judgement, Moment, Outcome, Told};
use model::{DocumentHash, Timestamp};
use monitors::{Class, Monitor, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Checks under way at once; those that cannot be ended do not count.
pub const AT_ONCE: usize = 4;

/// Most monitors of one host, and as many again of services that have vanished.
pub const MAX_MONITORS: usize = 500;

/// First runs are spread over at most this.
const MAX_SPREAD: Duration = Duration::from_secs(60);

/// After a start, services have this long to come back before one that is not found is asked for.
const RETURN: Duration = Duration::from_secs(60);

/// What holds for all monitors.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub flap_changes: u32,
    /// How long a service that vanished is looked after.
    pub forget: Duration,
}

/// What was found on the host.
pub struct Findings<'a> {
    /// Keys of processes that listen.
    pub listening: &'a BTreeSet<String>,
    /// Whether the service of a monitor was removed or switched off on purpose; asked of those that vanished. The text is
    /// the systemd unit that its process ran in, if there was one.
    pub is_removed: &'a dyn Fn(&Monitor, Option<&str>) -> bool,
    /// Process key → the systemd unit that it runs in.
    pub units: &'a BTreeMap<String, String>,
}

/// What the CMA must be told.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The state of the monitor of this name, or what is said about it.
    Told(String),
    /// There is no such monitor any more.
    Gone(Arc<Monitor>),
}

/// One monitor with its state, as it is kept over restarts.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub monitor: Monitor,
    pub told: Option<Told>,
    pub vanished: Option<Timestamp>,
    pub unit: Option<String>,
}

/// A check to be done.
#[derive(Debug, Clone)]
pub struct Run {
    /// Tells its result from that of another run.
    pub number: u64,
    pub monitor: Arc<Monitor>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Plan {
    settings: Settings,
    entries: BTreeMap<String, Entry>,
    next_number: u64,
}

#[derive(Debug)]
struct Entry {
    monitor: Arc<Monitor>,
    health: Health,
    due: Duration,
    running: Option<Running>,
    vanished: Option<Timestamp>,
    unit: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    number: u64,
    since: Duration,
    /// Its result is there, but it does not end.
    is_stuck: bool,
}

impl Plan {
    pub fn new(settings: Settings) -> Self {
        Self { settings, entries: BTreeMap::new(), next_number: 1 }
    }

    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Takes over what was kept, at the start.
    pub fn restore(&mut self, kept: Vec<Kept>, now: Duration) {
        for Kept { monitor, told, vanished, unit } in kept.into_iter().take(2 * MAX_MONITORS) {
            let health = told.map_or_else(Health::default, |told| Health::restored(told, now));
            let due = now + RETURN + spread(&monitor);
            let name = monitor.name.clone();
            let entry = Entry { monitor: Arc::new(monitor), health, due, running: None, vanished, unit };
            self.entries.insert(name, entry);
        }
    }

    /// What is to be kept.
    pub fn kept(&self) -> impl Iterator<Item = Kept> {
        self.entries.values().map(|entry| Kept {
            monitor: Monitor::clone(&entry.monitor),
            told: entry.health.told().cloned(),
            vanished: entry.vanished,
            unit: entry.unit.clone(),
        })
    }

    /// A monitor and its state, if it was ever checked.
    pub fn state(&self, name: &str) -> Option<(&Monitor, &Told)> {
        let entry = self.entries.get(name)?;
        Some((&entry.monitor, entry.health.told()?))
    }

    /// All monitors.
    pub fn monitors(&self) -> impl Iterator<Item = &Monitor> {
        self.entries.values().map(|entry| &*entry.monitor)
    }

    /// All monitors, with the systemd units that their processes ran in.
    pub fn with_units(&self) -> impl Iterator<Item = (Arc<Monitor>, Option<String>)> {
        self.entries.values().map(|entry| (entry.monitor.clone(), entry.unit.clone()))
    }

    /// Nothing is looked after any more.
    pub fn clear(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.entries).into_values().map(|entry| Change::Gone(entry.monitor)).collect()
    }

    /// Takes over what was chosen for the host as it is now; more than [`MAX_MONITORS`] are not taken.
    pub fn set(&mut self, chosen: Vec<Monitor>, findings: &Findings<'_>, moment: Moment) -> Vec<Change> {
        let mut changes = Vec::new();
        let chosen: BTreeMap<String, Monitor> =
            chosen.into_iter().take(MAX_MONITORS).map(|monitor| (monitor.name.clone(), monitor)).collect();
        self.drop_missing(&chosen, findings, moment, &mut changes);
        for (name, monitor) in chosen {
            let unit = match &monitor.target {
                Target::Service { process, .. } => findings.units.get(process).cloned(),
                Target::Host => None,
            };
            let soon = moment.now + spread(&monitor);
            match self.entries.get_mut(&name) {
                Some(entry) => {
                    entry.vanished = None;
                    entry.unit = unit.or(entry.unit.take());
                    entry.due = entry.due.min(soon.max(moment.now));
                    if *entry.monitor != monitor {
                        let is_told = entry.health.told().is_some();
                        if is_told && differs_in_words(&entry.monitor, &monitor) {
                            changes.push(Change::Told(name));
                        }
                        entry.monitor = Arc::new(monitor);
                    }
                }
                None => {
                    let mut health = Health::default();
                    if monitor.class == Class::NeverMon {
                        health = Health::unmonitored("deliberately not looked after", moment.wall);
                        changes.push(Change::Told(name.clone()));
                    }
                    let monitor = Arc::new(monitor);
                    let entry = Entry { monitor, health, due: soon, running: None, vanished: None, unit };
                    self.entries.insert(name, entry);
                }
            }
        }
        changes
    }

    /// The next check that is due, if one may start.
    pub fn start(&mut self, now: Duration) -> Option<Run> {
        if self.busy() >= AT_ONCE {
            return None;
        }
        let waiting = self.entries.values_mut().filter(|entry| entry.may_run() && entry.due <= now);
        let entry = waiting.min_by_key(|entry| entry.due)?;
        let number = self.next_number;
        self.next_number += 1;
        entry.running = Some(Running { number, since: now, is_stuck: false });
        Some(Run { number, monitor: entry.monitor.clone() })
    }

    /// A check has a result. `is_stuck`: what did the check cannot be ended, [`Plan::freed`] follows. `true`: the state has
    /// changed.
    pub fn finished(
        &mut self,
        name: &str,
        number: u64,
        outcome: Outcome,
        is_stuck: bool,
        moment: Moment,
    ) -> bool {
        let flap_changes = self.settings.flap_changes;
        let Some(entry) = self.running(name, number) else { return false };
        let Some(running) = &mut entry.running else { return false };
        let took = moment.now.saturating_sub(running.since);
        if is_stuck {
            running.is_stuck = true;
        } else {
            entry.running = None;
        }
        let judgement = Judgement {
            failures: entry.monitor.failures,
            warn: Duration::from_secs(entry.monitor.warn_seconds),
            flap_changes,
        };
        let is_changed = entry.health.take(outcome, took, judgement, moment);
        let repeat = repeat(&entry.monitor);
        let wait = if entry.health.is_doubtful() { (repeat / 3).max(Duration::from_secs(1)) } else { repeat };
        entry.due = moment.now + wait;
        is_changed
    }

    /// A check that was stuck is gone at last.
    pub fn freed(&mut self, name: &str, number: u64, now: Duration) {
        if let Some(entry) = self.running(name, number) {
            entry.running = None;
            entry.due = now + repeat(&entry.monitor);
        }
    }

    /// When [`Plan::start`] will have something; `None` while it waits for results only.
    pub fn next_wakeup(&self) -> Option<Duration> {
        if self.busy() >= AT_ONCE {
            return None;
        }
        self.entries.values().filter(|entry| entry.may_run()).map(|entry| entry.due).min()
    }

    fn busy(&self) -> usize {
        let running = self.entries.values().filter_map(|entry| entry.running);
        running.filter(|running| !running.is_stuck).count()
    }

    fn running(&mut self, name: &str, number: u64) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(name)?;
        entry.running.is_some_and(|running| running.number == number).then_some(entry)
    }

    /// Ends the monitors whose time has come, among those that were not chosen any more.
    fn drop_missing(
        &mut self,
        chosen: &BTreeMap<String, Monitor>,
        findings: &Findings<'_>,
        moment: Moment,
        changes: &mut Vec<Change>,
    ) {
        // Monitors that are new: each may be the successor of one that is missing.
        let mut fresh: Vec<&Monitor> =
            chosen.values().filter(|monitor| !self.entries.contains_key(&monitor.name)).collect();
        let mut ended = Vec::new();
        for (name, entry) in &mut self.entries {
            if chosen.contains_key(name) {
                continue;
            }
            let monitor = &entry.monitor;
            let Target::Service { process, .. } = &monitor.target else {
                ended.push(name.clone());
                continue;
            };
            let is_here = findings.listening.contains(process);
            let successor =
                fresh.iter().position(|new| is_moved(monitor, entry.unit.as_deref(), new, findings.units));
            let since = *entry.vanished.get_or_insert(moment.wall);
            if monitor.class == Class::NeverMon
                || is_here
                || successor.is_some()
                || moment.wall.since(since) >= self.settings.forget
                || (findings.is_removed)(monitor, entry.unit.as_deref())
            {
                if let Some(successor) = successor.filter(|_| !is_here) {
                    fresh.remove(successor);
                }
                ended.push(name.clone());
            }
        }
        // Whatever vanishes and comes under another name for ever: the oldest go first.
        let kept = self.entries.len() - ended.len();
        if kept > 2 * MAX_MONITORS - chosen.len().min(MAX_MONITORS) {
            let ending: BTreeSet<String> = ended.iter().cloned().collect();
            let mut old: Vec<(Timestamp, &String)> = (self.entries.iter())
                .filter(|(name, _)| !ending.contains(*name))
                .filter_map(|(name, entry)| Some((entry.vanished?, name)))
                .collect();
            old.sort();
            let excess = kept - (2 * MAX_MONITORS - chosen.len().min(MAX_MONITORS));
            ended.extend(old.into_iter().take(excess).map(|(_, name)| name.clone()));
        }
        for name in ended {
            changes.extend(self.entries.remove(&name).map(|entry| Change::Gone(entry.monitor)));
        }
    }
}

impl Entry {
    fn may_run(&self) -> bool {
        self.running.is_none() && self.monitor.class != Class::NeverMon
    }
}

/// The same program in the same unit under the same agent, at another port or with other arguments.
fn is_moved(old: &Monitor, unit: Option<&str>, new: &Monitor, units: &BTreeMap<String, String>) -> bool {
    let (Target::Service { pathname, .. }, Target::Service { process, pathname: path, .. }) =
        (&old.target, &new.target)
    else {
        return false;
    };
    // What nobody knows by more than an interpreter may be anything.
    let is_anything = unit.is_none() && old.rule.starts_with("fallback:") && is_interpreter(pathname);
    (old.class, &old.agent, &old.provider) == (new.class, &new.agent, &new.provider)
        && pathname == path
        && unit == units.get(process).map(String::as_str)
        && !is_anything
}

/// Whether a program runs other people's programs.
fn is_interpreter(pathname: &str) -> bool {
    const NAMES: [&str; 11] =
        ["python", "perl", "ruby", "node", "java", "php", "dotnet", "mono", "beam", "bash", "lua"];
    let name = pathname.rsplit('/').next().unwrap_or_default();
    NAMES.iter().any(|known| name.starts_with(known))
}

/// Whether what is said about the monitor changes.
fn differs_in_words(old: &Monitor, new: &Monitor) -> bool {
    old.target != new.target || old.rule != new.rule
}

fn repeat(monitor: &Monitor) -> Duration {
    Duration::from_secs(monitor.repeat_seconds.clamp(1, 366 * 24 * 3600))
}

/// How long the first run waits: by the monitor's name, so that not everything runs at once, and the same on each start.
fn spread(monitor: &Monitor) -> Duration {
    let hash = DocumentHash::of(monitor.name.as_bytes());
    let number = hash.0.iter().take(4).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    repeat(monitor).min(MAX_SPREAD).mul_f64(number as f64 / f64::from(u32::MAX))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
