//! The CMA's part: partners for everybody, and one verdict for each outage.
//!
//! | module | what it does |
//! |---|---|
//! | `roster` | members, their rings, whom to tell of a change, many changes at once |
//! | `keys` | keys of pairs, derived |
//! | `case` | one host that somebody calls silent: who said what |
//! | `review` | looks at all cases: whom to ask further, when to judge, which belong together |
//! | `watchdog` | looks for itself when nobody at all was heard for long |
//! | `standing` | whether it is not the CMA that is cut off |
//! | `evidence` | says it in words |
//!
//! No host is given up on the word of others alone: the CMA's own attempt to reach it must have failed as well, and
//! nobody who can be asked may hear it.

mod case;
mod evidence;
mod keys;
mod review;
mod roster;
mod standing;
mod watchdog;

use crate::rings::{CMA, Place};
use case::{Case, Notes};
use model::Designation;
use model::config::HeartbeatConfig;
use model::liveness::{Ask, HostNumber, Observation, Session, Sight, Watch};
use roster::Roster;
use standing::Site;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use watchdog::{Bark, Watchdog};

/// A host as the centre has to remember it across a restart of the CMA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub designation: Designation,
    pub number: HostNumber,
    /// Of its nanoprobe's process; `None` when it knows no heartbeats.
    pub session: Option<Session>,
    pub place: Place,
    /// Place in the order of its ring.
    pub position: u64,
    /// Generation of the last watch it was told.
    pub generation: u64,
    /// `address:port` of its nanoprobe.
    pub address: String,
    /// In a ring now. Others (dead, shut down) keep only their number.
    pub present: bool,
}

/// What the CMA's own attempt to reach a host came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// The nanoprobe proved its key.
    Nanoprobe,
    /// The host answers (ICMP, or a refused port), its nanoprobe does not.
    HostOnly,
    Nobody,
    /// Our own network is gone: nothing follows from the silence.
    WeAreCutOff,
}

/// Why hosts are given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The host answers nobody.
    HostDead,
    /// The host answers, its nanoprobe does not; with several hosts: at the same moment.
    NanoprobeDied,
    /// All hosts of this switch or subnet went silent together, others did not.
    PlaceGone(Place),
    /// The members that can be reached no longer reach these; each side may go on working.
    Split,
    /// Hardly anybody answers any more: it is the CMA that is cut off. Nobody is declared dead.
    CmaCutOff,
}

/// One outage.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub cause: Cause,
    /// Everybody it concerns; one host for `HostDead`.
    pub hosts: Vec<Designation>,
    /// One sentence for each piece of evidence, for people.
    pub evidence: Vec<String>,
    /// How long before the verdict the first witness last heard of the first host.
    pub silent_milliseconds: u32,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this to a host: if it is connected on its connection, else it has to be called.
    Tell { host: Designation, watch: Watch },
    /// Ask a host for a probe; only worth it when it is connected or can be called at once.
    Ask { host: Designation, ask: Ask },
    /// The CMA is to try this host itself; the result comes by [`Center::handle_reached`].
    Try { host: Designation, address: String },
    /// The CMA's own observer has these partners from now on.
    OwnWatch(Watch),
    /// To be stored: this is what [`Center::restore`] gets after a restart.
    Keep(Member),
    /// To be committed, with its event.
    Verdict(Verdict),
    /// Heard of again without having registered: it is called, and registers.
    Call { host: Designation, why: &'static str },
}

/// Calls of hosts that were given up, in one second: nobody can make the CMA call the whole site.
const CALLS_A_SECOND: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);

/// Who says that an accused host is alive.
#[derive(Debug, Clone, Copy)]
enum HeardBy {
    Cma,
    Others,
}

/// Rings and judgement of a whole site.
#[derive(Debug)]
pub struct Center {
    roster: Roster,
    config: HeartbeatConfig,
    /// Hosts that are looked at, by number.
    cases: BTreeMap<HostNumber, Case>,
    notes: Notes,
    site: Site,
    watchdog: Watchdog,
    /// Counts up with every case.
    question: u64,
    /// When to look at all cases again.
    review: Option<Duration>,
    calls_since: Duration,
    calls: u32,
    outputs: VecDeque<Output>,
}

impl Center {
    /// Of an empty site. `secret` is kept by the CMA on disk; pair keys are derived from it (HKDF, RFC 5869), so that a
    /// restarted CMA knows them without having stored any.
    pub fn new(config: &HeartbeatConfig, secret: [u8; 32], now: Duration) -> Self {
        Self {
            roster: Roster::new(config, &secret),
            config: config.clone(),
            cases: BTreeMap::new(),
            notes: Notes::default(),
            site: Site::default(),
            watchdog: Watchdog::default(),
            question: 0,
            review: None,
            calls_since: now,
            calls: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Of a site as it was before the CMA stopped. Nobody is told anything: hosts go on watching each other. Only a
    /// single host, which the CMA watches itself, gets a new watch.
    pub fn restore(config: &HeartbeatConfig, secret: [u8; 32], now: Duration, members: Vec<Member>) -> Self {
        let mut center = Self::new(config, secret, now);
        center.roster.restore(now, members);
        if !center.roster.rings.is_empty() {
            center.watchdog.heard(now);
        }
        center
    }

    /// A nanoprobe answered a packet of the CMA, now or, as far as the store remembers, in an earlier life of the CMA: when
    /// nobody is heard any more and nobody answers, that is worth a warning.
    pub fn handle_got_through(&mut self) {
        self.watchdog.got_through();
    }

    /// Whether the CMA's packets reach nanoprobes, to be kept for [`Center::handle_got_through`] after a restart.
    pub fn gets_through(&self) -> bool {
        self.watchdog.gets_through
    }

    /// Other times are told to everybody.
    pub fn handle_config(&mut self, now: Duration, config: &HeartbeatConfig) {
        self.config = config.clone();
        self.roster.set_timing(now, config);
    }

    /// A registration was committed. `watch`: the generation that the host works with.
    pub fn handle_registered(
        &mut self,
        now: Duration,
        host: &Designation,
        session: Option<Session>,
        watch: Option<u64>,
        address: &str,
    ) {
        let known = self.roster.number(host);
        let registered = self.roster.registered(now, host, session, watch, address, &mut self.outputs);
        if let Some(registered) = registered {
            self.alive(now, registered.number);
            if registered.restarted {
                self.notes.forget(registered.number);
            }
        } else if let Some(number) = known {
            self.dismiss(now, number);
        }
    }

    /// Its subnet or switch became known, or another. Of a host that has not registered nothing is remembered.
    pub fn handle_place(&mut self, now: Duration, host: &Designation, place: Place) {
        if let Some(number) = self.roster.number(host) {
            self.roster.place(now, number, place, &mut self.outputs);
        }
    }

    /// It said goodbye, or was removed by a person.
    pub fn handle_left(&mut self, now: Duration, host: &Designation) {
        if let Some(number) = self.roster.number(host) {
            self.roster.leave(now, number, &mut self.outputs);
            self.dismiss(now, number);
        }
    }

    /// What a host that is connected tells. `generation`: of the watch under which it observed that.
    pub fn handle_observation(
        &mut self,
        now: Duration,
        from: &Designation,
        generation: u64,
        observation: &Observation,
    ) {
        let Some(from) = self.roster.number(from) else { return };
        if !self.roster.is_present(from) {
            self.call(now, from, "it was given up and still watches others");
            return;
        }
        // Whoever tells something is alive.
        self.alive(now, from);
        let current = self.roster.member(from).is_some_and(|member| generation >= member.generation);
        self.observed(now, from, current, observation);
    }

    /// From the CMA's own observer.
    pub fn handle_own_observation(&mut self, now: Duration, observation: &Observation) {
        self.observed(now, CMA, true, observation);
    }

    /// What came of an [`Output::Try`].
    pub fn handle_reached(&mut self, now: Duration, host: &Designation, reached: Reached) {
        let Some(number) = self.roster.number(host) else { return };
        self.site.tried(now, number, reached);
        self.watchdog.tried(number, reached);
        match reached {
            Reached::Nanoprobe => {
                if self.accuses(number) {
                    self.site.got_through = Some(now);
                }
                self.alive(now, number);
            }
            Reached::HostOnly => self.answered(now, number),
            Reached::Nobody | Reached::WeAreCutOff => {}
        }
        if let Some(case) = self.cases.get_mut(&number) {
            case.own = Some(reached);
        }
        self.look_soon(now);
    }

    /// Tells what has gathered, and judges what is ripe.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.roster.tell_changes(now, &mut self.outputs);
        if self.review.is_some_and(|review| review <= now) {
            self.review(now);
        }
        match self.watchdog.handle_timeout(now) {
            Bark::Nothing => {}
            Bark::Try(again) => self.look_around(again),
            Bark::Silence(silent) => self.nobody_answers(now, &silent),
        }
    }

    /// `None` for an empty site. With nothing pending it is minutes ahead, and moves on whenever anybody is heard.
    pub fn poll_timeout(&self) -> Option<Duration> {
        [self.roster.due(), self.review, self.watchdog.due()].into_iter().flatten().min()
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn observed(&mut self, now: Duration, from: HostNumber, current: bool, observation: &Observation) {
        let about = observation.about;
        if about == from || about == CMA || self.roster.member(about).is_none() {
            return;
        }
        let present = self.roster.is_present(about);
        let partners = present
            && (self.roster.rings.partners(about).contains(&from)
                || self.cases.get(&about).is_some_and(|case| case.asked.contains(&from)));
        match observation.sight {
            Sight::Silent | Sight::Stopping => {
                if !current {
                    // It may know neither the key nor who else is gone.
                    self.roster.remind(now, from, &mut self.outputs);
                } else if !partners {
                    self.roster.renew(now, from);
                } else {
                    self.accuse(now, from, observation);
                }
            }
            Sight::Alive if partners => self.contradicted(now, about, HeardBy::Others),
            Sight::Alive | Sight::Martian if !present => {
                self.call(now, about, "it was given up and others hear it");
            }
            Sight::Martian => self.roster.remind(now, about, &mut self.outputs),
            Sight::Alive | Sight::Late => {}
        }
    }

    fn accuse(&mut self, now: Duration, from: HostNumber, observation: &Observation) {
        let about = observation.about;
        if !self.cases.contains_key(&about) {
            if self.notes.excuse(now, about, from) {
                return;
            }
            self.open(now, about);
        }
        self.ask_partners(about, &[from]);
        if let Some(case) = self.cases.get_mut(&about) {
            case.accuse(now, from, observation);
        }
        self.look_soon(now);
    }

    /// Begins to look at a host.
    fn open(&mut self, now: Duration, about: HostNumber) {
        self.question += 1;
        self.try_to_reach(about);
        let case = Case::new(now, self.question, self.roster.rings.partners(about));
        self.cases.insert(about, case);
        self.look_soon(now);
    }

    fn try_to_reach(&mut self, number: HostNumber) {
        if let Some(member) = self.roster.member(number) {
            let (host, address) = (member.designation.clone(), member.address.clone());
            self.outputs.push_back(Output::Try { host, address });
        }
    }

    /// Asks those who should hear it, once, but for some.
    fn ask_partners(&mut self, about: HostNumber, but: &[HostNumber]) {
        let Some(case) = self.cases.get_mut(&about).filter(|case| !case.partners_asked) else { return };
        case.partners_asked = true;
        for partner in case.asked.iter().filter(|partner| **partner != CMA && !but.contains(partner)) {
            if let Some(host) = self.roster.designation(*partner) {
                self.outputs.push_back(Output::Ask { host, ask: Ask { question: case.question, about } });
            }
        }
    }

    fn answered(&mut self, now: Duration, number: HostNumber) {
        self.site.answered(now, number);
        self.watchdog.heard(now);
    }

    /// Tries hosts that answered before and some others.
    fn look_around(&mut self, again: Vec<HostNumber>) {
        let rings = &self.roster.rings;
        let mut hosts: BTreeSet<HostNumber> = again.into_iter().collect();
        for host in rings.hosts_from(self.watchdog.next).chain(rings.hosts_from(0)).take(watchdog::HOSTS) {
            if hosts.len() < watchdog::HOSTS && hosts.insert(host) {
                self.watchdog.next = host.saturating_add(1);
            }
        }
        for host in &hosts {
            self.try_to_reach(*host);
        }
        self.watchdog.trying(hosts);
    }

    /// It spoke to the CMA, or the CMA reached it.
    fn alive(&mut self, now: Duration, number: HostNumber) {
        self.answered(now, number);
        self.contradicted(now, number, HeardBy::Cma);
    }

    /// Somebody hears it: no verdict. Who accused it is not listened to for a while.
    fn contradicted(&mut self, now: Duration, number: HostNumber, heard_by: HeardBy) {
        let Some(case) = self.cases.remove(&number) else { return };
        let accusers: Vec<HostNumber> = case.said.keys().copied().collect();
        if !accusers.is_empty() && self.notes.add(now, number, &accusers) {
            // Not for the first time: perhaps one of them never got the key of the other, or it counts below what they
            // have seen, or only the way between them is bad. A new key is only for a host that can be told of it.
            match heard_by {
                HeardBy::Cma => self.roster.move_on(now, number),
                HeardBy::Others => {
                    self.roster.renew(now, number);
                    for accuser in accusers {
                        self.roster.renew(now, accuser);
                    }
                }
            }
        }
        self.look_soon(now);
    }

    /// It is no member any more: there is nothing to judge.
    fn dismiss(&mut self, now: Duration, number: HostNumber) {
        self.watchdog.forget(number);
        self.notes.forget(number);
        if self.cases.remove(&number).is_some() {
            self.look_soon(now);
        }
    }

    fn call(&mut self, now: Duration, number: HostNumber, why: &'static str) {
        if now.saturating_sub(self.calls_since) >= SECOND {
            (self.calls_since, self.calls) = (now, 0);
        }
        if self.calls >= CALLS_A_SECOND || !self.roster.may_call(now, number) {
            return;
        }
        if let Some(host) = self.roster.designation(number) {
            self.calls += 1;
            self.outputs.push_back(Output::Call { host, why });
        }
    }
}

#[cfg(test)]
mod tests;
