//! When which discovery runs. Pure: time is handed in as the time since the process started, so that steps of the
//! wall clock do not matter; nothing here reads a clock, a file or a random number.
//!
//! An instance is due when its `repeat` is over or a trigger has told that something it reads has changed. A burst
//! of triggers is waited out (`settle`), but not for ever. Processor time is limited by [`Budget`]: when it is used
//! up, triggered runs wait for it and repeats wait longer; neither is lost. No instance runs twice at once.

mod budget;
#[cfg(test)]
mod tests;

pub use budget::Budget;
use model::config::Schedule;
use std::collections::BTreeMap;
use std::time::Duration;

/// Processor time that can be used at once, after start or after hours of rest.
pub const BURST: Duration = Duration::from_secs(10);

/// Processor seconds that repeats leave over for triggers.
const RESERVE_SECONDS: f64 = 2.0;

/// A continuing burst of triggers is cut after this many settle times.
const SETTLE_CUT: u32 = 10;

/// How much longer a repeat waits than a triggered run that was due at the same time.
const PATIENCE: Duration = Duration::from_secs(60);

/// After this time a waiting repeat no longer leaves anything over for triggers.
const STARVED: Duration = Duration::from_secs(3600);

/// Longest pause between the first runs of two instances.
const SPREAD: Duration = Duration::from_millis(80);

/// What applies to all instances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Of one core, averaged over an hour; zero or less = no limit.
    pub cpu_budget_percent: f64,
    pub settle: Duration,
}

/// Why an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// First run of this process, or after the instance was added or changed.
    First,
    Repeat,
    Trigger,
}

/// A run that takes long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slow {
    /// Longer than `warn_seconds`: to be logged.
    Warn(String),
    /// Longer than `timeout_seconds`: to be given up. The instance stays blocked until [`Scheduler::finished`].
    TimedOut(String),
}

/// Decides when which instance runs.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    budget: Budget,
    tasks: BTreeMap<String, Task>,
    random: u64,
}

#[derive(Debug)]
struct Task {
    schedule: Schedule,
    budget: Budget,
    /// When it is due by itself; `None` = only when triggered.
    due: Option<(Duration, Cause)>,
    triggered: Option<Triggered>,
    running: Option<Running>,
    /// Runs although it was removed; forgotten when that ends.
    removed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Triggered {
    first: Duration,
    due: Duration,
}

#[derive(Debug)]
struct Running {
    since: Duration,
    warned: bool,
    timed_out: bool,
}

impl Scheduler {
    /// `seed` spreads hosts that start at the same moment.
    pub fn new(limits: Limits, seed: u64, now: Duration) -> Self {
        let budget = Budget::new(limits.cpu_budget_percent, BURST, now);
        Self { limits, budget, tasks: BTreeMap::new(), random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 }
    }

    /// Applies other limits from now on.
    pub fn set_limits(&mut self, limits: Limits, now: Duration) {
        self.budget.set_percent(limits.cpu_budget_percent, now);
        for task in self.tasks.values_mut() {
            task.budget.set_percent(limits.cpu_budget_percent * budget::INSTANCE_SHARE, now);
        }
        self.limits = limits;
    }

    /// The instances there are from now on, in the order of their first runs. New ones run soon, those missing are
    /// forgotten (a run in progress is let end), changed rhythms count from the last run.
    pub fn set_tasks(&mut self, tasks: &[(String, Schedule)], now: Duration) {
        let mut start = now;
        for (name, schedule) in tasks {
            match self.tasks.get_mut(name) {
                Some(task) if !task.removed => {
                    if task.schedule.repeat_seconds != schedule.repeat_seconds
                        && !matches!(task.due, Some((_, Cause::First)))
                    {
                        task.due = schedule.repeat().map(|repeat| (now + repeat, Cause::Repeat));
                    }
                    task.schedule = *schedule;
                }
                Some(task) => {
                    task.removed = false;
                    task.schedule = *schedule;
                    task.due = Some((now, Cause::First));
                }
                None => {
                    let budget = Budget::for_instance(self.limits.cpu_budget_percent, BURST, now);
                    let due = Some((start, Cause::First));
                    let task = Task {
                        schedule: *schedule,
                        budget,
                        due,
                        triggered: None,
                        running: None,
                        removed: false,
                    };
                    self.tasks.insert(name.clone(), task);
                    start += SPREAD.mul_f64(0.25 + 0.75 * self.fraction());
                }
            }
        }
        self.tasks.retain(|name, task| {
            if tasks.iter().any(|(kept, _)| kept == name) {
                return true;
            }
            task.removed = true;
            task.running.is_some()
        });
    }

    /// Something that `instance` reads has changed (or it shall run soon for another reason). Unknown names are
    /// ignored: an event may outlive its instance.
    pub fn trigger(&mut self, instance: &str, now: Duration) {
        let settle = self.limits.settle;
        let Some(task) = self.tasks.get_mut(instance).filter(|task| !task.removed) else { return };
        let first = task.triggered.map_or(now, |triggered| triggered.first);
        let cut = first + settle.saturating_mul(SETTLE_CUT);
        task.triggered = Some(Triggered { first, due: (now + settle).min(cut) });
    }

    /// Lets an instance that has not run yet wait until `earliest`, since the start of the process; a trigger runs it
    /// earlier. Says nothing about later runs.
    pub fn delay_first(&mut self, instance: &str, earliest: Duration) {
        if let Some(Task { due: Some((due, Cause::First)), .. }) = self.tasks.get_mut(instance) {
            *due = (*due).max(earliest);
        }
    }

    /// The instance to run now among those that `can_run`; it counts as running until [`Scheduler::finished`].
    pub fn start(&mut self, now: Duration, can_run: impl Fn(&str) -> bool) -> Option<(String, Cause)> {
        let ready = |(name, task): (&String, &Task)| {
            let (at, cause) = self.ready(task, now)?;
            (at <= now && can_run(name)).then(|| (task.rank(cause), cause, name.clone()))
        };
        let (_, cause, name) = self.tasks.iter().filter_map(ready).min_by_key(|(rank, _, _)| *rank)?;
        let jitter = self.fraction();
        let task = self.tasks.get_mut(&name)?;
        task.running = Some(Running { since: now, warned: false, timed_out: false });
        task.triggered = None;
        // `repeat` is the slowest a discovery runs, so the spread only ever shortens it.
        task.due =
            task.schedule.repeat().map(|repeat| (now + repeat.mul_f64(0.9 + 0.1 * jitter), Cause::Repeat));
        Some((name, cause))
    }

    /// A run has ended after using `cost` of processor time. Triggers that came meanwhile lead to another run.
    pub fn finished(&mut self, instance: &str, cost: Duration, now: Duration) {
        self.budget.spend(cost, now);
        let Some(task) = self.tasks.get_mut(instance) else { return };
        task.running = None;
        task.budget.spend(cost, now);
        if task.removed {
            self.tasks.remove(instance);
        }
    }

    /// Runs that have become too long since the last call, each reported once per limit.
    pub fn slow(&mut self, now: Duration) -> Vec<Slow> {
        let mut found = Vec::new();
        for (name, task) in &mut self.tasks {
            let Some(running) = &mut task.running else { continue };
            let age = now.saturating_sub(running.since);
            if !running.timed_out && age >= Duration::from_secs(task.schedule.timeout_seconds) {
                running.timed_out = true;
                found.push(Slow::TimedOut(name.clone()));
            } else if !running.timed_out
                && !running.warned
                && age >= Duration::from_secs(task.schedule.warn_seconds)
            {
                running.warned = true;
                found.push(Slow::Warn(name.clone()));
            }
        }
        found
    }

    /// When [`Scheduler::start`] or [`Scheduler::slow`] may have something next; `None` = not without a trigger.
    /// Only instances that `can_run` are looked at for starting.
    pub fn next_wakeup(&self, now: Duration, can_run: impl Fn(&str) -> bool) -> Option<Duration> {
        let one = |(name, task): (&String, &Task)| match &task.running {
            Some(running) if running.timed_out => None,
            Some(running) => {
                let limit = if running.warned || task.schedule.warn_seconds >= task.schedule.timeout_seconds {
                    task.schedule.timeout_seconds
                } else {
                    task.schedule.warn_seconds
                };
                Some(running.since + Duration::from_secs(limit))
            }
            None if can_run(name) => self.ready(task, now).map(|(at, _)| at),
            None => None,
        };
        self.tasks.iter().filter_map(one).min()
    }

    /// The names of all instances.
    pub fn instances(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().filter(|(_, task)| !task.removed).map(|(name, _)| name.as_str())
    }

    /// Processor seconds that can be spent now; negative = debt.
    pub fn budget_seconds(&self, now: Duration) -> f64 {
        self.budget.level(now)
    }

    /// The earliest time at which the task may run, as far as is known now, and why.
    fn ready(&self, task: &Task, now: Duration) -> Option<(Duration, Cause)> {
        if task.running.is_some() || task.removed {
            return None;
        }
        let triggered = task.triggered.map(|triggered| {
            let paid = self.budget.available_at(0.0, now).max(task.budget.available_at(0.0, now));
            (later(triggered.due, paid, now), Cause::Trigger)
        });
        let own = task.due.map(|(due, cause)| {
            let starved = now.saturating_sub(due) >= STARVED;
            let reserve = if starved || cause == Cause::First { 0.0 } else { RESERVE_SECONDS };
            let mut paid = self.budget.available_at(reserve, now);
            if reserve > 0.0 {
                paid = paid.min((due + STARVED).max(self.budget.available_at(0.0, now)));
            }
            (later(due, paid.max(task.budget.available_at(0.0, now)), now), cause)
        });
        [triggered, own].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// A number in 0..1 from the seed (xorshift64, Marsaglia 2003): spread, not secrecy.
    fn fraction(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Task {
    /// Who goes first: what has waited longest, where repeats stand [`PATIENCE`] further behind.
    fn rank(&self, cause: Cause) -> Duration {
        match (cause, self.triggered, self.due) {
            (Cause::Trigger, Some(triggered), _) => triggered.due,
            (Cause::Repeat, _, Some((due, _))) => due + PATIENCE,
            (_, _, Some((due, _))) => due,
            _ => Duration::MAX,
        }
    }
}

/// `due`, or when it is paid for if that is later.
fn later(due: Duration, paid: Duration, now: Duration) -> Duration {
    if paid <= now { due } else { due.max(paid) }
}
