//! The checks can fail: with a core that is broken in one way the simulation finds the fault.

use liveness::center::{Cause, Center, Member, Output, Reached, Verdict};
use liveness::observer::{self, Beat, Observer, Tried};
use liveness::rings::Place;
use model::Designation;
use model::config::HeartbeatConfig;
use model::liveness::{Ask, HostNumber, Observation, Session, Sight, Watch};
use sim::cores::{Cores, Judge, Watcher};
use sim::ledger::Kind;
use sim::{World, chaos, scenario};
use std::collections::VecDeque;
use std::time::Duration;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// Sends no probes and so hears no answers.
    NeverProbes,
    NeverBeats,
    NeverTells,
    /// The first witness is believed.
    BelievesAnybody,
    /// Each verdict twice.
    RepeatsVerdicts,
    /// No verdict about hosts with an even number.
    HalfBlind,
    /// Stores nothing.
    Forgets,
    /// Every watch has a partner that is none.
    InventsPartners,
    /// Whoever left stays in the rings of the others.
    TellsNobody,
}

struct Mutants(Broken);

impl Cores for Mutants {
    fn watcher(&self, now: Duration) -> Box<dyn Watcher> {
        Box::new(MutantWatcher { broken: self.0, inner: Observer::new(now) })
    }

    fn judge(
        &self,
        config: &HeartbeatConfig,
        secret: [u8; 32],
        now: Duration,
        members: Vec<Member>,
    ) -> Box<dyn Judge> {
        let members = if self.0 == Broken::Forgets { Vec::new() } else { members };
        let inner = Center::restore(config, secret, now, members);
        Box::new(MutantJudge { broken: self.0, inner, more: VecDeque::new(), names: Vec::new() })
    }
}

struct MutantWatcher {
    broken: Broken,
    inner: Observer,
}

impl Watcher for MutantWatcher {
    fn handle_watch(&mut self, now: Duration, watch: &Watch) {
        self.inner.handle_watch(now, watch);
    }

    fn handle_ask(&mut self, now: Duration, ask: Ask) {
        self.inner.handle_ask(now, ask);
    }

    fn handle_beat(&mut self, now: Duration, from: HostNumber, beat: Beat) {
        self.inner.handle_beat(now, from, beat);
    }

    fn handle_tried(&mut self, now: Duration, about: HostNumber, tried: Tried) {
        self.inner.handle_tried(now, about, tried);
    }

    fn stop(&mut self, now: Duration) {
        self.inner.stop(now);
    }

    fn handle_timeout(&mut self, now: Duration) {
        self.inner.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Duration> {
        self.inner.poll_timeout()
    }

    fn poll_output(&mut self) -> Option<observer::Output> {
        loop {
            let output = self.inner.poll_output()?;
            let dropped = match (&output, self.broken) {
                (observer::Output::Send { beat: Beat::Regular, .. }, Broken::NeverBeats)
                | (observer::Output::Tell { .. }, Broken::NeverTells) => true,
                (observer::Output::Send { beat, .. }, Broken::NeverProbes) => *beat != Beat::Regular,
                _ => false,
            };
            if !dropped {
                return Some(output);
            }
        }
    }

    fn generation(&self) -> u64 {
        self.inner.generation()
    }
}

struct MutantJudge {
    broken: Broken,
    inner: Center,
    more: VecDeque<Output>,
    /// By number, as far as told.
    names: Vec<(HostNumber, Designation)>,
}

impl Judge for MutantJudge {
    fn handle_registered(
        &mut self,
        now: Duration,
        host: &Designation,
        session: Option<Session>,
        watch: Option<u64>,
        address: &str,
    ) {
        self.inner.handle_registered(now, host, session, watch, address);
    }

    fn handle_place(&mut self, now: Duration, host: &Designation, place: Place) {
        self.inner.handle_place(now, host, place);
    }

    fn handle_left(&mut self, now: Duration, host: &Designation) {
        self.inner.handle_left(now, host);
    }

    fn handle_observation(
        &mut self,
        now: Duration,
        from: &Designation,
        generation: u64,
        observation: &Observation,
    ) {
        if self.broken == Broken::BelievesAnybody && observation.sight == Sight::Silent {
            let name = self.names.iter().find(|(number, _)| *number == observation.about);
            if let Some((_, name)) = name.cloned() {
                self.inner.handle_left(now, &name);
                self.more.push_back(Output::Verdict(Verdict {
                    cause: Cause::HostDead,
                    hosts: vec![name],
                    evidence: Vec::new(),
                    silent_milliseconds: observation.silent_milliseconds,
                }));
            }
            return;
        }
        self.inner.handle_observation(now, from, generation, observation);
    }

    fn handle_own_observation(&mut self, now: Duration, observation: &Observation) {
        self.inner.handle_own_observation(now, observation);
    }

    fn handle_reached(&mut self, now: Duration, host: &Designation, reached: Reached) {
        self.inner.handle_reached(now, host, reached);
    }

    fn handle_timeout(&mut self, now: Duration) {
        self.inner.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Duration> {
        self.inner.poll_timeout()
    }

    fn poll_output(&mut self) -> Option<Output> {
        loop {
            let mut output = self.more.pop_front().or_else(|| self.inner.poll_output())?;
            match &mut output {
                Output::Tell { host, watch } => {
                    self.names.retain(|(number, _)| *number != watch.own_number);
                    self.names.push((watch.own_number, host.clone()));
                    if self.broken == Broken::TellsNobody && watch.generation > 2 {
                        continue;
                    }
                    if let (Broken::InventsPartners, Some(partner)) = (self.broken, watch.partners.first()) {
                        let partner = partner.clone();
                        watch.partners.push(partner);
                    }
                }
                Output::Verdict(verdict) => {
                    let even = |host: &Designation| host.as_str().ends_with(['0', '2', '4', '6', '8']);
                    if self.broken == Broken::HalfBlind && verdict.hosts.iter().all(even) {
                        continue;
                    }
                    if self.broken == Broken::RepeatsVerdicts && verdict.silent_milliseconds > 0 {
                        let again = Verdict { silent_milliseconds: 0, ..verdict.clone() };
                        self.more.push_back(Output::Verdict(again));
                    }
                }
                _ => {}
            }
            return Some(output);
        }
    }
}

fn kinds(world: &World) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = world.ledger().violations().iter().map(|violation| violation.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// What a directed history finds.
fn directed(name: &str, broken: Broken) -> Vec<Kind> {
    let scenario = scenario::find(name).unwrap();
    kinds(&scenario.run_with(1, None, Box::new(Mutants(broken)), false))
}

#[test]
fn the_wrapper_alone_breaks_nothing() {
    for name in ["kill", "sigstop", "cma-restart"] {
        assert_eq!(directed(name, Broken::Nothing), [], "{name}");
    }
    assert_eq!(kinds(&chaos::run_with(1, Box::new(Mutants(Broken::Nothing)), false)), []);
}

#[test]
fn each_broken_core_is_found_by_what_it_does() {
    let found = [
        ("stop", Broken::NeverBeats, Kind::Steady),
        ("kill", Broken::NeverTells, Kind::Unexpected),
        ("kill", Broken::RepeatsVerdicts, Kind::Repeated),
        ("kill", Broken::HalfBlind, Kind::Unexpected),
        ("kill", Broken::InventsPartners, Kind::Partners),
        ("kill", Broken::TellsNobody, Kind::Rings),
        ("cma-restart", Broken::Forgets, Kind::Unexpected),
        ("asymmetric", Broken::BelievesAnybody, Kind::FalseDeath),
        ("loss", Broken::NeverProbes, Kind::Unexpected),
    ];
    let missed: Vec<String> = found
        .into_iter()
        .filter_map(|(name, broken, kind)| {
            let kinds = directed(name, broken);
            (!kinds.contains(&kind))
                .then(|| format!("{broken:?} in `{name}`: {kind:?} expected, {kinds:?} found"))
        })
        .collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn random_histories_find_them_as_well() {
    for (broken, kind) in [
        (Broken::NeverTells, Kind::Missed),
        (Broken::RepeatsVerdicts, Kind::Repeated),
        (Broken::BelievesAnybody, Kind::FalseDeath),
        (Broken::NeverBeats, Kind::Steady),
    ] {
        let found = (0..30)
            .any(|seed| kinds(&chaos::run_with(seed, Box::new(Mutants(broken)), false)).contains(&kind));
        assert!(found, "{broken:?}: 30 seeds found no {kind:?}");
    }
}
