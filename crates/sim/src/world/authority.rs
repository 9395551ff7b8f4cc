//! The shell of the CMA around its core, with what its store keeps.

use super::links::{Downward, Upward};
use super::{Event, World, address_number, address_text};
use crate::cores::{Judge, Watcher};
use crate::machine::{Clock, Power};
use crate::network::{CMA, Node};
use crate::peers::{Peers, Sealed};
use crate::queue::Moment;
use liveness::center::{Cause, Member, Output, Reached};
use liveness::observer::{self, Beat, Tried};
use model::Designation;
use model::liveness::{Ask, HostNumber, Observation};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

/// Between the beginnings of two calls.
const CALL_INTERVAL: Moment = 10_000;
/// First packet of a call, repeated; then the second round 45 s later.
const CALL_REPEATS: [Moment; 9] =
    [1_000_000, 2_000_000, 4_000_000, 45_000_000, 1_000_000, 2_000_000, 4_000_000, 8_000_000, 0];
/// A question waits so long for a host that was called.
const ASK_PATIENCE: Moment = 3_000_000;
/// When the CMA tries a host itself: packets sent, and the wait after each.
const TRY_ATTEMPTS: u32 = 4;
const TRY_INTERVAL: Moment = 200_000;
/// A registration that would wait longer than this for its commit is refused.
const MAX_WRITER_QUEUE: Moment = 6_000_000;

/// The CMA.
pub(crate) struct Authority {
    /// Counts its starts.
    pub life: u32,
    process: Option<Process>,
    pub paused: bool,
    /// What waits while it is paused.
    pub deferred: Vec<Event>,
    /// Until when its processor has handshakes to do, and its writer registrations.
    pub handshakes_until: Moment,
    writer_until: Moment,
    secret: [u8; 32],
    /// Its store: survives.
    pub kept: BTreeMap<u32, Member>,
    committed: HashMap<Node, u64>,
    /// Figures for reports.
    pub cpu: Duration,
    pub watches_told: u64,
    pub messages: u64,
    pub packets: u64,
    pub calls_made: u64,
}

struct Process {
    judge: Box<dyn Judge>,
    own: Box<dyn Watcher>,
    own_peers: Peers,
    clock: Clock,
    connected: HashMap<u32, u32>,
    calling: HashSet<u32>,
    next_call: Moment,
    pending_asks: HashMap<u32, Vec<(Moment, Ask)>>,
    wake_at: Moment,
}

impl Authority {
    pub fn new(one: [u8; 16], other: [u8; 16]) -> Self {
        let mut secret = [0; 32];
        secret[..16].copy_from_slice(&one);
        secret[16..].copy_from_slice(&other);
        Self {
            life: 0,
            process: None,
            paused: false,
            deferred: Vec::new(),
            handshakes_until: 0,
            writer_until: 0,
            secret,
            kept: BTreeMap::new(),
            committed: HashMap::new(),
            cpu: Duration::ZERO,
            watches_told: 0,
            messages: 0,
            packets: 0,
            calls_made: 0,
        }
    }

    pub fn running(&self) -> bool {
        self.process.is_some()
    }

    pub fn own_peers(&self) -> Option<&Peers> {
        self.process.as_ref().map(|process| &process.own_peers)
    }
}

impl World {
    /// Starts the CMA with what its store kept.
    pub(crate) fn start_cma(&mut self) {
        if self.cma.running() {
            return;
        }
        self.cma.life += 1;
        let clock = Clock::new(self.now, self.random.below(10_000_000_000));
        let now = clock.read(self.now);
        let members = self.cma.kept.values().cloned().collect();
        let begun = Instant::now();
        let judge = self.cores.judge(&self.setup.config, self.cma.secret, now, members);
        self.cma.cpu += begun.elapsed();
        self.cma.handshakes_until = self.now;
        self.cma.writer_until = self.now;
        self.cma.process = Some(Process {
            judge,
            own: self.cores.watcher(now),
            own_peers: Peers::default(),
            clock,
            connected: HashMap::new(),
            calling: HashSet::new(),
            next_call: self.now,
            pending_asks: HashMap::new(),
            wake_at: Moment::MAX,
        });
        self.say(|| "the CMA starts".into());
        self.drain_cma();
    }

    /// SIGKILL: nothing but the store survives.
    pub(crate) fn kill_cma(&mut self) {
        self.cma.process = None;
        self.cma.paused = false;
        self.cma.deferred.clear();
    }

    pub(crate) fn pause_cma(&mut self, paused: bool) {
        self.cma.paused = paused;
        if !paused && self.cma.running() {
            let timers_first = self.random.chance(500_000);
            if timers_first {
                self.cma_timers();
            }
            for event in std::mem::take(&mut self.cma.deferred) {
                self.handle(event);
            }
            self.cma_timers();
        }
    }

    pub(crate) fn cma_message(&mut self, number: u32, message: Upward) {
        self.cma.messages += 1;
        let Some(link) = self.links.get_mut(number) else { return };
        let (machine, identity) = (link.machine, link.identity);
        let address = address_text(link.address);
        match message {
            Upward::Register { session, watch } => {
                link.registration = Some((session, watch));
                let begin = self.now.max(self.cma.writer_until);
                if begin - self.now > MAX_WRITER_QUEUE {
                    return self.down(number, Downward::Busy);
                }
                self.cma.writer_until = begin + u64::from(self.setup.costs.registration_microseconds);
                let done = self.cma.writer_until + u64::from(self.setup.costs.commit_microseconds);
                self.queue.push(done, Event::Registered { link: number });
            }
            Upward::Report { sequence } => {
                let last = self.cma.committed.entry(machine).or_default();
                *last = sequence.max(*last);
                self.down(number, Downward::Ack { sequence });
                let place = self.place_of(machine);
                self.with_judge(|judge, now| judge.handle_place(now, &designation(identity), place));
            }
            Upward::Heard(heard) => {
                self.with_judge(|judge, now| {
                    for observation in &heard.observations {
                        judge.handle_observation(now, &designation(identity), heard.generation, observation);
                    }
                });
            }
            Upward::Goodbye => {
                self.say(|| format!("{} says goodbye from {address}", designation(identity)));
                self.down(number, Downward::Farewell);
                self.ledger.left(self.now, identity);
                self.with_judge(|judge, now| judge.handle_left(now, &designation(identity)));
            }
            Upward::Close => {}
        }
    }

    /// A registration is committed.
    pub(crate) fn registered(&mut self, number: u32) {
        if self.cma.paused {
            return self.cma.deferred.push(Event::Registered { link: number });
        }
        let Some(link) = self.links.get(number) else { return };
        if !self.cma.running() || !link.open_at_cma(self.cma.life) {
            return;
        }
        let (machine, identity, address) = (link.machine, link.identity, address_text(link.address));
        let Some((session, watch)) = link.registration else { return };
        let last_sequence = self.cma.committed.get(&machine).copied().unwrap_or(0);
        self.say(|| format!("{} registered with watch {watch:?} from {address}", designation(identity)));
        let now = self.now;
        let Some(process) = &mut self.cma.process else { return };
        let older = process.connected.insert(identity, number).filter(|older| *older != number);
        process.calling.remove(&identity);
        let asks = process.pending_asks.remove(&identity).unwrap_or_default();
        if let Some(older) = older {
            self.close_from_cma(older);
        }
        self.ledger.registered(now, identity);
        self.down(number, Downward::Welcome { last_sequence });
        self.with_judge(|judge, now| {
            judge.handle_registered(now, &designation(identity), Some(session), watch, &address);
        });
        for (asked, ask) in asks {
            if now - asked <= ASK_PATIENCE {
                self.down(number, Downward::Ask(ask));
            }
        }
    }

    /// A connection is gone, as far as the CMA knows.
    pub(crate) fn cma_lost(&mut self, number: u32) {
        let Some(link) = self.links.get(number) else { return };
        let (identity, owes) = (link.identity, link.owes_watch());
        let Some(process) = &mut self.cma.process else { return };
        if process.connected.get(&identity) == Some(&number) {
            process.connected.remove(&identity);
            if owes {
                self.call(identity);
            }
        }
    }

    pub(crate) fn cma_wake(&mut self, life: u32) {
        if self.cma.life != life {
            return;
        }
        if let Some(process) = &mut self.cma.process {
            process.wake_at = Moment::MAX;
        }
        if !self.cma.paused {
            self.cma_timers();
        }
    }

    pub(crate) fn cma_packet(&mut self, from: Node, sealed: Sealed) {
        if self.cma.paused {
            return self.cma.deferred.push(Event::Packet { from, to: CMA, sealed });
        }
        self.cma.packets += 1;
        let now = self.now;
        let Some(process) = &mut self.cma.process else { return };
        if let (Some(number), Some(beat)) =
            (process.own_peers.open(now, &sealed), Beat::from_byte(sealed.beat))
        {
            process.own.handle_beat(process.clock.read(now), number, beat);
            self.drain_cma();
        }
    }

    pub(crate) fn cma_tried(&mut self, life: u32, about: HostNumber, tried: Tried) {
        if self.cma.life != life {
            return;
        }
        if self.cma.paused {
            return self.cma.deferred.push(Event::CmaTried { life, about, tried });
        }
        let now = self.now;
        if let Some(process) = &mut self.cma.process {
            process.own.handle_tried(process.clock.read(now), about, tried);
            self.drain_cma();
        }
    }

    /// One packet of the CMA's own attempt to reach a host.
    pub(crate) fn cma_tries(&mut self, life: u32, identity: u32, address: Node, attempt: u32) {
        if self.cma.life != life || !self.cma.running() {
            return;
        }
        if self.cma.paused {
            return self.cma.deferred.push(Event::CmaReached { life, identity, address, attempt });
        }
        let reached = self.reach(identity, address);
        if reached == Reached::Nobody && attempt + 1 < TRY_ATTEMPTS {
            let event = Event::CmaReached { life, identity, address, attempt: attempt + 1 };
            return self.queue.push(self.now + TRY_INTERVAL, event);
        }
        let wait = match reached {
            Reached::Nanoprobe | Reached::WeAreCutOff => 2 * self.network.delay(&mut self.random),
            // The proof of the key is waited for until the end.
            Reached::HostOnly | Reached::Nobody => TRY_INTERVAL * u64::from(TRY_ATTEMPTS - attempt),
        };
        self.queue.push(self.now + wait, Event::CmaTold { life, identity, reached });
    }

    pub(crate) fn cma_told(&mut self, life: u32, identity: u32, reached: Reached) {
        if self.cma.life != life {
            return;
        }
        if self.cma.paused {
            return self.cma.deferred.push(Event::CmaTold { life, identity, reached });
        }
        self.say(|| format!("the CMA tried {}: {reached:?}", designation(identity)));
        self.with_judge(|judge, now| judge.handle_reached(now, &designation(identity), reached));
    }

    pub(crate) fn call_attempt(&mut self, life: u32, identity: u32, attempt: u32) {
        let Some(process) = self.cma.process.as_mut().filter(|_| self.cma.life == life) else { return };
        if self.cma.paused {
            return self.cma.deferred.push(Event::Call { life, identity, attempt });
        }
        if !process.calling.contains(&identity) {
            return;
        }
        let address = self.cma.kept.get(&identity).map(|member| address_number(&member.address));
        if address.is_some_and(|address| self.reach(identity, address) == Reached::Nanoprobe) {
            if let Some(machine) = address.and_then(|address| self.machine_at(address)) {
                let at = self.now + 2 * self.network.delay(&mut self.random);
                let life = self.machines[machine as usize].life;
                self.queue.push(at, Event::Called { machine, life });
            }
            self.call_ends(identity);
        } else if let Some(wait) = CALL_REPEATS.get(attempt as usize).filter(|wait| **wait > 0) {
            let event = Event::Call { life, identity, attempt: attempt + 1 };
            self.queue.push(self.now + wait, event);
        } else {
            self.call_ends(identity);
        }
    }

    fn call_ends(&mut self, identity: u32) {
        if let Some(process) = &mut self.cma.process {
            process.calling.remove(&identity);
        }
    }

    /// What one handshake with a pinned key and one echo request find.
    fn reach(&mut self, identity: u32, address: Node) -> Reached {
        if !self.network.has_carrier(CMA) {
            return Reached::WeAreCutOff;
        }
        let Some(machine) = self.machine_at(address) else { return Reached::Nobody };
        let host = &self.machines[machine as usize];
        let (on, is_it) = (host.power == Power::On, host.awake() && host.identity == identity);
        let mut passes =
            || self.network.survives(&mut self.random) && self.network.survives(&mut self.random);
        let (key, echo) = (passes(), passes());
        if !on || !self.network.both_ways(machine, CMA) {
            Reached::Nobody
        } else if is_it && key {
            Reached::Nanoprobe
        } else if echo && !is_it {
            Reached::HostOnly
        } else {
            Reached::Nobody
        }
    }

    /// Does something with the core and then what follows from it.
    pub(crate) fn with_judge(&mut self, act: impl FnOnce(&mut dyn Judge, Duration)) {
        let moment = self.now;
        let Some(process) = &mut self.cma.process else { return };
        let now = process.clock.read(moment);
        let begun = Instant::now();
        act(process.judge.as_mut(), now);
        self.cma.cpu += begun.elapsed();
        self.drain_cma();
    }

    fn cma_timers(&mut self) {
        let moment = self.now;
        let Some(process) = &mut self.cma.process else { return };
        let now = process.clock.read(moment);
        let begun = Instant::now();
        if process.judge.poll_timeout().is_some_and(|due| due <= now) {
            process.judge.handle_timeout(now);
        }
        self.cma.cpu += begun.elapsed();
        if process.own.poll_timeout().is_some_and(|due| due <= now) {
            process.own.handle_timeout(now);
        }
        self.drain_cma();
    }

    fn drain_cma(&mut self) {
        loop {
            let Some(process) = &mut self.cma.process else { return };
            let begun = Instant::now();
            let output = process.judge.poll_output();
            self.cma.cpu += begun.elapsed();
            if let Some(output) = output {
                self.judge_output(output);
            } else if let Some(output) = process.own.poll_output() {
                self.own_output(output);
            } else {
                break;
            }
        }
        let Some(process) = &mut self.cma.process else { return };
        let due = [process.judge.poll_timeout(), process.own.poll_timeout()].into_iter().flatten().min();
        if let Some(due) = due {
            let at = process.clock.moment(due).max(self.now);
            if at < process.wake_at {
                process.wake_at = at;
                self.queue.push(at, Event::CmaWake { life: self.cma.life });
            }
        }
    }

    fn judge_output(&mut self, output: Output) {
        match output {
            Output::Tell { host, watch } => {
                self.cma.watches_told += 1;
                let Some(identity) = identity_of(&host) else { return };
                self.say(|| {
                    let partners: Vec<HostNumber> =
                        watch.partners.iter().map(|partner| partner.number).collect();
                    format!("{host} ({}) is told watch {}: {partners:?}", watch.own_number, watch.generation)
                });
                match self.connection_of(identity) {
                    Some(link) => self.down(link, Downward::Watch(watch)),
                    None => self.call(identity),
                }
            }
            Output::Ask { host, ask } => {
                let Some(identity) = identity_of(&host) else { return };
                self.say(|| format!("{host} is asked about {}", ask.about));
                match self.connection_of(identity) {
                    Some(link) => self.down(link, Downward::Ask(ask)),
                    None => {
                        let now = self.now;
                        if let Some(process) = &mut self.cma.process {
                            process.pending_asks.entry(identity).or_default().push((now, ask));
                        }
                        self.call(identity);
                    }
                }
            }
            Output::Try { host, address } => {
                let Some(identity) = identity_of(&host) else { return };
                let (life, address) = (self.cma.life, address_number(&address));
                let event = Event::CmaReached { life, identity, address, attempt: 0 };
                self.queue.push(self.now, event);
            }
            Output::OwnWatch(watch) => {
                let now = self.now;
                if let Some(process) = &mut self.cma.process {
                    if watch.generation > process.own.generation() {
                        process.own_peers.adopt(&watch, address_number);
                    }
                    process.own.handle_watch(process.clock.read(now), &watch);
                }
            }
            Output::Keep(member) => {
                if let Some(identity) = identity_of(&member.designation) {
                    self.cma.kept.insert(identity, member);
                }
            }
            Output::Verdict(verdict) => {
                self.say(|| format!("VERDICT {verdict:?}"));
                let hosts: Vec<u32> = match verdict.cause {
                    Cause::CmaCutOff => Vec::new(),
                    _ => verdict.hosts.iter().filter_map(identity_of).collect(),
                };
                self.ledger.verdict(self.now, &verdict, &hosts);
            }
            Output::Call { host, why } => {
                self.say(|| format!("{host} is called: {why}"));
                if let Some(identity) = identity_of(&host) {
                    self.call(identity);
                }
            }
        }
    }

    fn own_output(&mut self, output: observer::Output) {
        let (now, life) = (self.now, self.cma.life);
        let Some(process) = &mut self.cma.process else { return };
        match output {
            observer::Output::Send { to, beat } => {
                if let Some((address, sealed)) = process.own_peers.seal(to, beat as u8) {
                    self.transmit(CMA, address, sealed);
                }
            }
            observer::Output::Try { to } => {
                let address = process.own_peers.current.iter().find(|peer| peer.number == to);
                let Some(address) = address.map(|peer| peer.address) else { return };
                let (delay, tried) = self.ping(CMA, address);
                self.queue.push(now + delay, Event::CmaTried { life, about: to, tried });
            }
            observer::Output::Tell { observation, .. } => {
                self.say(|| {
                    let Observation { about, sight, silent_milliseconds, .. } = &observation;
                    format!("the CMA itself: host {about} {sight:?} {silent_milliseconds} ms")
                });
                self.with_judge_quietly(|judge, now| judge.handle_own_observation(now, &observation));
            }
        }
    }

    /// Within [`World::drain_cma`], which goes on with what follows.
    fn with_judge_quietly(&mut self, act: impl FnOnce(&mut dyn Judge, Duration)) {
        let moment = self.now;
        if let Some(process) = &mut self.cma.process {
            act(process.judge.as_mut(), process.clock.read(moment));
        }
    }

    fn connection_of(&self, identity: u32) -> Option<u32> {
        self.cma.process.as_ref()?.connected.get(&identity).copied()
    }

    /// Calls a host soon, unless that is under way.
    fn call(&mut self, identity: u32) {
        let (now, life) = (self.now, self.cma.life);
        let Some(process) = &mut self.cma.process else { return };
        if process.calling.insert(identity) {
            self.cma.calls_made += 1;
            let at = now.max(process.next_call);
            process.next_call = at + CALL_INTERVAL;
            self.queue.push(at, Event::Call { life, identity, attempt: 0 });
        }
    }
}

/// Name of a host by its number in the simulation.
pub(crate) fn designation(identity: u32) -> Designation {
    // Letters and digits are always legal.
    Designation::new(&format!("h{identity}")).unwrap_or_else(|error| unreachable!("{error}"))
}

pub(crate) fn identity_of(host: &Designation) -> Option<u32> {
    host.as_str().strip_prefix('h')?.parse().ok()
}
