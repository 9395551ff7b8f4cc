//! What is true, what the CMA said, and where the two do not agree.

use crate::network::Node;
use crate::queue::Moment;
use liveness::center::{Cause, Verdict};
use model::config::HeartbeatConfig;
use model::liveness::Watch;
use std::collections::HashMap;
use std::time::Duration;

/// A verdict may rest on what was true this long before.
const JUSTIFIED_FOR: Moment = 5_000_000;
/// The CMA tries a host itself and asks other witnesses for at most this long.
const JUDGEMENT: Duration = Duration::from_millis(1500);
/// A nanoprobe that could not reach the CMA tells it again after this at the latest.
const REPEATED_AFTER: Moment = 32_000_000;

/// What the simulation found wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A live host that the CMA could reach was reported dead.
    FalseDeath,
    /// One death was reported more than once.
    Repeated,
    /// A dead host was not reported.
    Missed,
    /// A host was given more than four partners, itself, or one of them twice.
    Partners,
    /// When all was well again the rings were not.
    Rings,
    /// In steady state there was traffic that should not be.
    Steady,
    /// A directed history came to something else than it should.
    Unexpected,
}

/// One thing found wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    /// Virtual time.
    pub at: Duration,
    pub text: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} at {:.3} s: {}", self.kind, self.at.as_secs_f64(), self.text)
    }
}

/// A verdict as the CMA gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub at: Duration,
    pub cause: Cause,
    /// Hosts by their number in the simulation.
    pub hosts: Vec<u32>,
    /// From the end of the first of them that is dead to the verdict; `None` when all live.
    pub latency: Option<Duration>,
}

/// Longest time from a death to its verdict when nothing else is wrong.
pub fn detection_bound(config: &HeartbeatConfig) -> Duration {
    let milliseconds = [
        config.interval_milliseconds,
        config.suspect_milliseconds,
        config.probe_milliseconds,
        config.gather_milliseconds,
    ];
    let sum = milliseconds.iter().map(|part| u64::from(*part)).sum();
    Duration::from_millis(sum) + JUDGEMENT
}

/// Keeps book over one site.
pub struct Ledger {
    truths: Vec<Truth>,
    bound: Moment,
    disturbed: Moment,
    last_watches: HashMap<Node, Watch>,
    violations: Vec<Violation>,
    verdicts: Vec<Told>,
    registrations: u64,
}

#[derive(Debug, Clone, Default)]
struct Truth {
    running: bool,
    /// The CMA and it can talk, and nothing holds its nanoprobe.
    reachable: bool,
    /// The last moment at which that was not so.
    unreachable_until: Moment,
    /// End of its last nanoprobe, if it has ended.
    ended: Option<Moment>,
    graceful: bool,
    /// It was reported dead and has not registered since.
    reported: bool,
    /// The CMA knows it as one that is there.
    registered: bool,
}

impl Ledger {
    pub(crate) fn new(hosts: usize, config: &HeartbeatConfig) -> Self {
        Self {
            truths: vec![Truth::default(); hosts],
            bound: super::world::micros(detection_bound(config)),
            disturbed: 0,
            last_watches: HashMap::new(),
            violations: Vec::new(),
            verdicts: Vec::new(),
            registrations: 0,
        }
    }

    /// What was found wrong so far.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// All verdicts so far.
    pub fn verdicts(&self) -> &[Told] {
        &self.verdicts
    }

    /// Registrations so far.
    pub fn registrations(&self) -> u64 {
        self.registrations
    }

    /// Hosts that have registered and were neither reported nor left since.
    pub fn present(&self) -> usize {
        self.truths.iter().filter(|truth| truth.registered).count()
    }

    pub(crate) fn hosts(&self) -> usize {
        self.truths.len()
    }

    pub(crate) fn disturbed(&mut self, now: Moment) {
        self.disturbed = now;
    }

    pub(crate) fn violate(&mut self, kind: Kind, now: Moment, text: String) {
        self.violations.push(Violation { kind, at: Duration::from_micros(now), text });
    }

    pub(crate) fn stopping(&mut self, _now: Moment, identity: u32) {
        if let Some(truth) = self.truths.get_mut(identity as usize) {
            truth.graceful = true;
        }
    }

    pub(crate) fn fact(&mut self, now: Moment, identity: u32, running: bool, reachable: bool) {
        let Some(truth) = self.truths.get_mut(identity as usize) else { return };
        if !truth.reachable || !reachable {
            truth.unreachable_until = now;
        }
        if truth.running && !running {
            truth.ended = Some(now);
            self.disturbed = now;
        }
        if !truth.running && running {
            truth.ended = None;
            truth.graceful = false;
            self.disturbed = now;
        }
        truth.running = running;
        truth.reachable = reachable;
    }

    pub(crate) fn registered(&mut self, _now: Moment, identity: u32) {
        self.registrations += 1;
        if let Some(truth) = self.truths.get_mut(identity as usize) {
            truth.registered = true;
            truth.reported = false;
        }
    }

    pub(crate) fn left(&mut self, _now: Moment, identity: u32) {
        if let Some(truth) = self.truths.get_mut(identity as usize) {
            truth.registered = false;
        }
    }

    pub(crate) fn last_watch(&self, machine: Node) -> Option<&Watch> {
        self.last_watches.get(&machine)
    }

    pub(crate) fn watch_told(&mut self, now: Moment, machine: Node, watch: &Watch) {
        let mut numbers: Vec<u32> = watch.partners.iter().map(|partner| partner.number).collect();
        numbers.push(watch.own_number);
        let told = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        if told > 5 || numbers.len() < told {
            let partners: Vec<u32> = watch.partners.iter().map(|partner| partner.number).collect();
            let text = format!("machine {machine}, number {}, was given {partners:?}", watch.own_number);
            self.violate(Kind::Partners, now, text);
        }
        self.last_watches.insert(machine, watch.clone());
    }

    pub(crate) fn verdict(&mut self, now: Moment, verdict: &Verdict, hosts: &[u32]) {
        let mut latency = None;
        for identity in hosts {
            let Some(truth) = self.truths.get_mut(*identity as usize) else { continue };
            let unreachable_until = if truth.reachable { truth.unreachable_until } else { now };
            latency = latency.or(truth.ended.map(|ended| Duration::from_micros(now - ended)));
            let repeated = truth.reported;
            truth.reported = true;
            truth.registered = false;
            if truth.reachable && now - unreachable_until > JUSTIFIED_FOR {
                self.violate(Kind::FalseDeath, now, format!("h{identity} lives: {verdict:?}"));
            }
            if repeated {
                self.violate(Kind::Repeated, now, format!("h{identity} had been reported: {verdict:?}"));
            }
        }
        let at = Duration::from_micros(now);
        self.verdicts.push(Told { at, cause: verdict.cause.clone(), hosts: hosts.to_vec(), latency });
    }

    /// Every dead host must have been reported when nothing has happened for long enough.
    pub(crate) fn check(&mut self, now: Moment, cma_runs: bool) {
        let dead = |truth: &&Truth| truth.registered && !truth.running && truth.ended.is_some();
        let unreported = self.truths.iter().filter(dead).count() as u64;
        let reachable = self.truths.iter().filter(|truth| truth.reachable).count();
        let known = self.truths.iter().filter(|truth| truth.registered).count();
        // With most of the site gone the CMA is right to doubt its own network first.
        if !cma_runs || unreported == 0 || reachable * 3 <= known {
            return;
        }
        let patience = self.bound * (2 + unreported.min(20)) + REPEATED_AFTER;
        if now.saturating_sub(self.disturbed) <= patience {
            return;
        }
        for identity in 0..self.truths.len() {
            let truth = &mut self.truths[identity];
            if dead(&&*truth) {
                truth.registered = false;
                let since = truth.ended.unwrap_or(now);
                let text = format!("h{identity} ended {:.1} s ago", (now - since) as f64 / 1e6);
                self.violate(Kind::Missed, now, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Designation;

    fn verdict() -> Verdict {
        Verdict {
            cause: Cause::HostDead,
            hosts: vec![Designation::new("h0").unwrap()],
            evidence: Vec::new(),
            silent_milliseconds: 0,
        }
    }

    /// Three hosts that run and are registered since the start.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(3, &HeartbeatConfig::default());
        for identity in 0..3 {
            ledger.fact(0, identity, true, true);
            ledger.registered(1, identity);
        }
        ledger
    }

    fn kinds(ledger: &Ledger) -> Vec<Kind> {
        ledger.violations().iter().map(|violation| violation.kind).collect()
    }

    #[test]
    fn a_verdict_about_a_live_host_is_wrong_and_a_second_one_too() {
        let mut ledger = ledger();
        ledger.verdict(60_000_000, &verdict(), &[0]);
        assert_eq!(kinds(&ledger), [Kind::FalseDeath]);
        ledger.verdict(61_000_000, &verdict(), &[0]);
        assert_eq!(kinds(&ledger), [Kind::FalseDeath, Kind::FalseDeath, Kind::Repeated]);
    }

    #[test]
    fn a_verdict_about_a_dead_or_cut_off_host_is_right_once_until_it_registers_again() {
        let mut ledger = ledger();
        ledger.fact(60_000_000, 0, false, false);
        ledger.fact(60_000_000, 1, true, false);
        ledger.verdict(62_500_000, &verdict(), &[0]);
        ledger.verdict(62_500_000, &verdict(), &[1]);
        assert_eq!(ledger.verdicts()[0].latency, Some(Duration::from_millis(2500)));
        assert_eq!(ledger.verdicts()[1].latency, None);
        ledger.fact(70_000_000, 0, true, true);
        ledger.registered(70_000_000, 0);
        ledger.fact(80_000_000, 0, false, false);
        ledger.verdict(82_000_000, &verdict(), &[0]);
        assert_eq!(kinds(&ledger), []);
        ledger.fact(83_000_000, 1, true, true);
        ledger.verdict(89_000_000, &verdict(), &[1]);
        assert_eq!(kinds(&ledger), [Kind::FalseDeath, Kind::Repeated], "long back, and reported before");
    }

    #[test]
    fn a_death_that_nobody_reports_is_found_but_a_goodbye_is_none() {
        let mut ledger = ledger();
        ledger.fact(60_000_000, 0, false, false);
        ledger.stopping(60_000_000, 1);
        ledger.fact(61_000_000, 1, false, false);
        ledger.left(61_000_000, 1);
        ledger.fact(61_500_000, 1, false, false);
        for second in 62..200 {
            ledger.check(second * 1_000_000, true);
        }
        assert_eq!(kinds(&ledger), [Kind::Missed]);
        assert!(ledger.violations()[0].text.starts_with("h0"), "{}", ledger.violations()[0]);
    }

    #[test]
    fn a_fifth_partner_or_the_same_twice_is_wrong() {
        let partner = |number| model::liveness::Partner {
            number,
            designation: String::new(),
            address: String::new(),
            key: model::liveness::PairKey([0; 32]),
        };
        let watch = |numbers: &[u32]| Watch {
            generation: 1,
            own_number: 9,
            interval_milliseconds: 1000,
            suspect_milliseconds: 1400,
            probe_milliseconds: 700,
            probes: 6,
            partners: numbers.iter().copied().map(partner).collect(),
        };
        for (numbers, wrong) in [
            (&[1, 2, 3, 4][..], false),
            (&[1, 2, 3, 4, 5], true),
            (&[1, 1], true),
            (&[9], true),
            (&[], false),
        ] {
            let mut ledger = ledger();
            ledger.watch_told(5, 9, &watch(numbers));
            assert_eq!(!ledger.violations().is_empty(), wrong, "{numbers:?}");
        }
    }
}
