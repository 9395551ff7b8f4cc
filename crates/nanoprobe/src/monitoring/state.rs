//! From the results of one monitor to its state. Pure.
//!
//! The first result always counts. After that, `failures` failed checks in a row make `down`; everything else counts at
//! once. Whoever changes too often flaps: that is told once, and again when ten minutes have been quiet.

use model::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// Within which changes are counted, and which must be quiet before a flapping service is believed again.
pub const FLAP_WINDOW: Duration = Duration::from_secs(600);

/// Most changes that are remembered, whatever is configured.
const MAX_CHANGES: usize = 100;

/// What the CMA is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Up,
    Warn,
    Down,
    /// Up and down again and again.
    Flapping,
    /// Known, and deliberately not looked after.
    Unmonitored,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Warn => "warn",
            Self::Down => "down",
            Self::Flapping => "flapping",
            Self::Unmonitored => "unmonitored",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Up,
    Warn,
    Down,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        self.state().as_str()
    }

    fn state(self) -> State {
        match self {
            Self::Up => State::Up,
            Self::Warn => State::Warn,
            Self::Down => State::Down,
        }
    }
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub level: Level,
    /// One sentence for people.
    pub reason: String,
    /// Exit status of the program.
    pub rc: Option<i32>,
    /// Signal that killed it.
    pub signal: Option<i32>,
    /// What it printed beyond that; bounded, without secrets.
    pub output: String,
    /// Figures as Nagios plug-ins give them.
    pub perfdata: String,
}

impl Outcome {
    pub fn new(level: Level, reason: impl Into<String>) -> Self {
        Self {
            level,
            reason: reason.into(),
            rc: None,
            signal: None,
            output: String::new(),
            perfdata: String::new(),
        }
    }

    pub fn up(reason: impl Into<String>) -> Self {
        Self::new(Level::Up, reason)
    }

    pub fn warn(reason: impl Into<String>) -> Self {
        Self::new(Level::Warn, reason)
    }

    pub fn down(reason: impl Into<String>) -> Self {
        Self::new(Level::Down, reason)
    }
}

/// The state of a monitor as told, with what led to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    pub state: State,
    pub since: Timestamp,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rc: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub perfdata: String,
}

/// The two clocks: time since the start of the nanoprobe, for limits, and the wall clock, for what is told.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub now: Duration,
    pub wall: Timestamp,
}

/// What decides about a change of state.
#[derive(Debug, Clone, Copy)]
pub struct Judgement {
    /// Failures in a row before a service that was not down counts as down; 0 is taken for 1.
    pub failures: u32,
    /// A check that took longer is a warning.
    pub warn: Duration,
    /// Changes within [`FLAP_WINDOW`] from which on a service flaps; below 2: never.
    pub flap_changes: u32,
}

/// State of one monitor.
#[derive(Debug, Clone, Default)]
pub struct Health {
    told: Option<Told>,
    level: Option<Level>,
    failures: u32,
    /// When the level changed, the oldest first.
    changes: VecDeque<Duration>,
}

impl Health {
    /// As it was before a restart.
    pub fn restored(told: Told, now: Duration) -> Self {
        let level = match told.state {
            State::Up => Some(Level::Up),
            State::Warn => Some(Level::Warn),
            State::Down => Some(Level::Down),
            State::Flapping | State::Unmonitored => None,
        };
        let mut changes = VecDeque::new();
        if told.state == State::Flapping {
            changes.push_back(now);
        }
        Self { told: Some(told), level, failures: 0, changes }
    }

    /// That of something deliberately left alone.
    pub fn unmonitored(reason: &str, wall: Timestamp) -> Self {
        let told = Told {
            state: State::Unmonitored,
            since: wall,
            reason: reason.into(),
            rc: None,
            signal: None,
            output: String::new(),
            perfdata: String::new(),
        };
        Self { told: Some(told), ..Self::default() }
    }

    /// `None`: never checked.
    pub fn told(&self) -> Option<&Told> {
        self.told.as_ref()
    }

    /// There are failures that do not count yet: worth another look soon.
    pub fn is_doubtful(&self) -> bool {
        self.failures > 0 && self.level != Some(Level::Down)
    }

    /// Takes a result. `true`: [`Health::told`] has changed.
    pub fn take(
        &mut self,
        mut outcome: Outcome,
        took: Duration,
        judgement: Judgement,
        moment: Moment,
    ) -> bool {
        if outcome.level == Level::Up && took > judgement.warn {
            outcome.level = Level::Warn;
            outcome.reason = format!(
                "slow: took {:.1} s, longer than {} s: {}",
                took.as_secs_f64(),
                judgement.warn.as_secs(),
                outcome.reason
            );
        }
        if outcome.level == Level::Down {
            self.failures = self.failures.saturating_add(1);
            let was_working = matches!(self.level, Some(Level::Up | Level::Warn));
            if was_working && self.failures < judgement.failures.max(1) {
                return false;
            }
        } else {
            self.failures = 0;
        }
        let before = self.level.replace(outcome.level);
        let is_changed = before.is_some_and(|before| before != outcome.level);
        if is_changed {
            self.changes.push_back(moment.now);
        }
        let is_old = |at: &Duration| moment.now.saturating_sub(*at) >= FLAP_WINDOW;
        while self.changes.front().is_some_and(is_old) || self.changes.len() > MAX_CHANGES {
            self.changes.pop_front();
        }
        let present = self.told.as_ref().map(|told| told.state);
        if present == Some(State::Flapping) {
            if !self.changes.is_empty() {
                return false;
            }
        } else {
            let limit = (judgement.flap_changes as usize).min(MAX_CHANGES);
            if is_changed && limit >= 2 && self.changes.len() >= limit {
                let minutes = FLAP_WINDOW.as_secs() / 60;
                let reason = format!(
                    "changed {} times within {minutes} minutes, at last to {}: {}",
                    self.changes.len(),
                    outcome.level.state().as_str(),
                    outcome.reason
                );
                self.tell(State::Flapping, Outcome { reason, ..outcome }, moment.wall);
                return true;
            }
            if present == Some(outcome.level.state()) {
                return false;
            }
        }
        self.tell(outcome.level.state(), outcome, moment.wall);
        true
    }

    fn tell(&mut self, state: State, outcome: Outcome, wall: Timestamp) {
        let Outcome { reason, rc, signal, output, perfdata, level: _ } = outcome;
        self.told = Some(Told { state, since: wall, reason, rc, signal, output, perfdata });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JUDGEMENT: Judgement = Judgement { failures: 1, warn: Duration::from_secs(20), flap_changes: 6 };

    fn at(seconds: u64) -> Moment {
        Moment { now: Duration::from_secs(seconds), wall: Timestamp(seconds as i64 * 1_000_000) }
    }

    /// Takes results one every 15 s and gives the states that were told.
    fn told(judgement: Judgement, levels: &[Level]) -> Vec<State> {
        let mut health = Health::default();
        let mut states = Vec::new();
        for (number, level) in levels.iter().enumerate() {
            let outcome = Outcome::new(*level, "r");
            if health.take(outcome, Duration::ZERO, judgement, at(number as u64 * 15)) {
                states.push(health.told().unwrap().state);
            }
        }
        states
    }

    use Level::{Down, Up, Warn};

    #[test]
    fn the_first_result_counts_whatever_it_is() {
        let patient = Judgement { failures: 3, ..JUDGEMENT };
        for (level, state) in [(Up, State::Up), (Warn, State::Warn), (Down, State::Down)] {
            assert_eq!(told(patient, &[level, level, level]), [state]);
        }
    }

    #[test]
    fn failures_in_a_row_make_down_and_one_success_ends_it() {
        let patient = Judgement { failures: 3, ..JUDGEMENT };
        assert_eq!(told(patient, &[Up, Down, Down, Up, Down, Down]), [State::Up]);
        assert_eq!(told(patient, &[Up, Down, Down, Down, Down, Up]), [State::Up, State::Down, State::Up]);
        assert_eq!(told(patient, &[Warn, Down, Up, Down, Warn]), [State::Warn, State::Up, State::Warn]);
        let mut health = Health::default();
        health.take(Outcome::up(""), Duration::ZERO, patient, at(0));
        assert!(!health.is_doubtful());
        health.take(Outcome::down(""), Duration::ZERO, patient, at(15));
        assert!(health.is_doubtful());
    }

    #[test]
    fn what_takes_long_is_a_warning_and_a_failure_stays_one() {
        let mut health = Health::default();
        assert!(health.take(Outcome::up("fine"), Duration::from_secs(21), JUDGEMENT, at(0)));
        let slow = health.told().unwrap();
        assert_eq!(slow.state, State::Warn);
        assert!(slow.reason.contains("21.0 s") && slow.reason.contains("fine"), "{}", slow.reason);
        assert!(health.take(Outcome::up("fine"), Duration::from_secs(20), JUDGEMENT, at(15)));
        assert!(health.take(Outcome::down("dead"), Duration::from_secs(99), JUDGEMENT, at(30)));
        assert_eq!((health.told().unwrap().state, health.told().unwrap().since), (State::Down, at(30).wall));
    }

    #[test]
    fn a_flapping_service_is_told_once_until_ten_minutes_are_quiet() {
        let mut health = Health::default();
        let mut states = Vec::new();
        let mut seconds = 0;
        for round in 0..60 {
            let level = if round % 2 == 0 { Up } else { Down };
            seconds += 15;
            if health.take(Outcome::new(level, "r"), Duration::ZERO, JUDGEMENT, at(seconds)) {
                states.push(health.told().unwrap().state);
            }
        }
        assert_eq!(states[..6], [State::Up, State::Down, State::Up, State::Down, State::Up, State::Down]);
        assert_eq!(states[6..], [State::Flapping]);
        assert!(health.told().unwrap().reason.contains("6 times"), "{}", health.told().unwrap().reason);
        // The last change was now: nothing is told for ten minutes, then what is.
        let quiet_since = seconds;
        while !health.take(Outcome::down("still"), Duration::ZERO, JUDGEMENT, at(seconds)) {
            seconds += 15;
            assert!(seconds < quiet_since + 700);
        }
        assert_eq!(seconds - quiet_since, 600);
        assert_eq!(health.told().unwrap().state, State::Down);
    }

    #[test]
    fn few_changes_in_long_time_are_no_flapping_and_damping_can_be_off() {
        let mut health = Health::default();
        for round in 0..40_u64 {
            let level = if round % 2 == 0 { Up } else { Down };
            assert!(health.take(Outcome::new(level, ""), Duration::ZERO, JUDGEMENT, at(round * 121)));
        }
        let off = Judgement { flap_changes: 0, ..JUDGEMENT };
        let levels: Vec<Level> = (0..300).map(|i| if i % 2 == 0 { Up } else { Warn }).collect();
        assert_eq!(told(off, &levels).len(), 300);
    }

    #[test]
    fn a_restart_repeats_nothing() {
        let mut health = Health::default();
        health.take(Outcome::up("a"), Duration::ZERO, JUDGEMENT, at(0));
        let mut again = Health::restored(health.told().unwrap().clone(), Duration::ZERO);
        assert!(!again.take(Outcome::up("b"), Duration::ZERO, JUDGEMENT, at(5)));
        assert!(again.take(Outcome::down("b"), Duration::ZERO, JUDGEMENT, at(20)));
        let flapping = Told { state: State::Flapping, ..health.told().unwrap().clone() };
        let mut again = Health::restored(flapping, Duration::from_secs(3));
        assert!(!again.take(Outcome::up("b"), Duration::ZERO, JUDGEMENT, at(500)));
        assert!(again.take(Outcome::up("b"), Duration::ZERO, JUDGEMENT, at(603)));
        assert_eq!(again.told().unwrap().state, State::Up);
    }

    proptest! {
        /// Whatever comes in whatever rhythm: a state is never told twice in a row, the last one told is the last level or
        /// flapping or a failure that does not count yet, and no ten minutes have more than the allowed changes.
        #[test]
        fn any_results(
            results in prop::collection::vec((0..3_u8, 1..400_u64, 0..40_u64), 1..200),
            failures in 0..4_u32,
            flap_changes in 0..8_u32,
        ) {
            let judgement = Judgement { failures, flap_changes, ..JUDGEMENT };
            let mut health = Health::default();
            let mut seconds = 0;
            let mut told: Vec<(u64, State)> = Vec::new();
            let mut down_in_a_row = 0;
            for (level, wait, took) in results {
                seconds += wait;
                let level = [Up, Warn, Down][usize::from(level)];
                let took = Duration::from_secs(took);
                down_in_a_row = if level == Down { down_in_a_row + 1 } else { 0 };
                let is_changed = health.take(Outcome::new(level, ""), took, judgement, at(seconds));
                let state = health.told().unwrap().state;
                prop_assert_eq!(is_changed, told.last().is_none_or(|(_, last)| *last != state));
                if is_changed {
                    told.push((seconds, state));
                }
                let meant = if level == Up && took > judgement.warn { State::Warn } else { level.state() };
                let is_held_back = level == Down && down_in_a_row < failures;
                prop_assert!(state == meant || state == State::Flapping || is_held_back, "{:?} {:?}", state, meant);
            }
            if flap_changes >= 2 {
                for window in told.windows(flap_changes as usize + 3) {
                    let length = window[window.len() - 1].0 - window[0].0;
                    prop_assert!(length >= 600, "{:?}", window);
                }
            }
        }
    }
}
