//! A few hosts and the CMA in virtual time, over a network that does what a test says.

use super::super::*;
use crate::observer::{Beat, Observer, Output as Seen, Tried};
use model::liveness::{PairKey, PortState};
use std::collections::HashMap;

pub(super) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const WAY: Duration = ms(1);
/// Until the CMA gives up dialling.
const DIAL: Duration = ms(800);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Up,
    NanoprobeDead,
    HostDead,
}

pub(super) struct Host {
    pub(super) name: Designation,
    pub(super) state: State,
    pub(super) observer: Observer,
    session: Session,
    pub(super) number: HostNumber,
    /// By number: of partners and former ones.
    keys: HashMap<HostNumber, PairKey>,
    pub(super) watches: usize,
}

enum Event {
    Beat { from: usize, to: HostNumber, beat: Beat, key: PairKey },
    Heard { from: usize, generation: u64, observation: Observation },
    Watch { to: usize, watch: Watch },
    Ask { to: usize, ask: Ask },
    Register(usize),
    Tried { at: usize, about: HostNumber, tried: Tried },
    Reached { about: usize, reached: Reached },
}

/// Whether a packet gets from one to the other; `None` is the CMA.
type Net = Box<dyn Fn(Option<usize>, Option<usize>) -> bool>;

pub(super) struct Rig {
    pub(super) center: Center,
    pub(super) now: Duration,
    pub(super) hosts: Vec<Host>,
    own: Observer,
    own_key: HashMap<HostNumber, PairKey>,
    pub(super) net: Net,
    /// Whether the CMA gets through to anybody.
    pub(super) dials: bool,
    /// What the shell of the CMA says when nobody answers a dial.
    pub(super) unreached: Reached,
    events: BTreeMap<(Duration, u64), Event>,
    count: u64,
    pub(super) verdicts: Vec<(Duration, Verdict)>,
    pub(super) kept: BTreeMap<HostNumber, Member>,
    pub(super) calls: Vec<Designation>,
    pub(super) tries: usize,
    pub(super) asks: usize,
    /// First word of a silent partner that reached the CMA.
    pub(super) first_silent: Option<Duration>,
}

impl Rig {
    pub(super) fn new(hosts: usize) -> Self {
        let host = |index: usize| Host {
            name: Designation::new(&format!("h{index}")).unwrap(),
            state: State::Up,
            observer: Observer::new(ms(0)),
            session: Session([u8::try_from(index + 1).unwrap(); 16]),
            number: 0,
            keys: HashMap::new(),
            watches: 0,
        };
        Self {
            center: Center::new(&HeartbeatConfig::default(), [7; 32], ms(0)),
            now: ms(0),
            hosts: (0..hosts).map(host).collect(),
            own: Observer::new(ms(0)),
            own_key: HashMap::new(),
            net: Box::new(|_, _| true),
            dials: true,
            unreached: Reached::Nobody,
            events: BTreeMap::new(),
            count: 0,
            verdicts: Vec::new(),
            kept: BTreeMap::new(),
            calls: Vec::new(),
            tries: 0,
            asks: 0,
            first_silent: None,
        }
    }

    /// All hosts up and settled for half a minute; `place` says where each stands.
    pub(super) fn settled(hosts: usize, place: impl Fn(usize) -> Place) -> Self {
        let mut rig = Self::new(hosts);
        for index in 0..hosts {
            rig.register(index);
            let name = rig.hosts[index].name.clone();
            rig.center.handle_place(rig.now, &name, place(index));
            rig.run_for(ms(7));
        }
        rig.run_for(ms(30_000));
        assert!(rig.verdicts.is_empty(), "{:?}", rig.verdicts);
        rig.tries = 0;
        rig.asks = 0;
        rig.first_silent = None;
        rig
    }

    pub(super) fn one_place(hosts: usize) -> Self {
        Self::settled(hosts, |_| Place::Switch("s".into()))
    }

    /// The same site, after the CMA stopped and started again.
    pub(super) fn restart_center(&mut self) {
        let members = self.kept.values().cloned().collect();
        let gets_through = self.center.gets_through();
        self.center = Center::restore(&HeartbeatConfig::default(), [7; 32], self.now, members);
        if gets_through {
            self.center.handle_got_through();
        }
        self.own = Observer::new(self.now);
    }

    pub(super) fn register(&mut self, index: usize) {
        let host = &self.hosts[index];
        let watch = Some(host.observer.generation()).filter(|generation| *generation > 0);
        let (name, session) = (host.name.clone(), host.session);
        self.center.handle_registered(
            self.now,
            &name,
            Some(session),
            watch,
            &format!("192.0.2.{index}:1984"),
        );
        self.drain();
        let number = self.center.roster.number(&name).unwrap();
        self.hosts[index].number = number;
    }

    /// A new life of its nanoprobe, which registers.
    pub(super) fn restart(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        host.session.0[15] = host.session.0[15].wrapping_add(100);
        host.observer = Observer::new(self.now);
        host.keys.clear();
        host.state = State::Up;
        self.register(index);
    }

    pub(super) fn goodbye(&mut self, index: usize) {
        self.hosts[index].observer.stop(self.now);
        self.drain();
        self.hosts[index].state = State::NanoprobeDead;
        let name = self.hosts[index].name.clone();
        self.center.handle_left(self.now, &name);
        self.drain();
    }

    pub(super) fn kill(&mut self, hosts: &[usize], state: State) {
        self.first_silent = None;
        for index in hosts {
            self.hosts[*index].state = state;
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.drain();
        loop {
            let observers = self.hosts.iter().filter(|host| host.state == State::Up);
            let due = observers
                .filter_map(|host| host.observer.poll_timeout())
                .chain(self.center.poll_timeout())
                .chain(self.own.poll_timeout())
                .chain(self.events.first_key_value().map(|((at, _), _)| *at))
                .min();
            let Some(due) = due.map(|due| due.max(self.now)).filter(|due| *due <= end) else { break };
            self.now = due;
            while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= due) {
                let event = entry.remove();
                self.handle(event);
            }
            for host in self.hosts.iter_mut().filter(|host| host.state == State::Up) {
                host.observer.handle_timeout(due);
            }
            self.own.handle_timeout(due);
            self.center.handle_timeout(due);
            assert!(self.center.poll_timeout().is_none_or(|next| next > due), "the loop would spin");
            self.drain();
        }
        self.now = end;
    }

    fn index_of(&self, number: HostNumber) -> Option<usize> {
        self.hosts.iter().position(|host| host.number == number)
    }

    fn named(&self, name: &Designation) -> usize {
        self.hosts.iter().position(|host| host.name == *name).unwrap()
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.count += 1;
        self.events.insert((self.now + after, self.count), event);
    }

    fn up(&self, index: usize) -> bool {
        self.hosts[index].state == State::Up
    }

    fn both_ways(&self, index: usize) -> bool {
        (self.net)(Some(index), None) && (self.net)(None, Some(index))
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Beat { from, to, beat, key } => {
                let sender = self.hosts[from].number;
                if to == CMA {
                    if self.own_key.get(&sender) == Some(&key) {
                        self.own.handle_beat(self.now, sender, beat);
                    }
                } else if let Some(index) = self.index_of(to).filter(|index| self.up(*index))
                    && self.hosts[index].keys.get(&sender) == Some(&key)
                {
                    self.hosts[index].observer.handle_beat(self.now, sender, beat);
                }
            }
            Event::Heard { from, generation, observation } => {
                if observation.sight == Sight::Silent && self.first_silent.is_none() {
                    self.first_silent = Some(self.now);
                }
                let name = self.hosts[from].name.clone();
                self.center.handle_observation(self.now, &name, generation, &observation);
            }
            Event::Watch { to, watch } => {
                if self.up(to) {
                    let host = &mut self.hosts[to];
                    host.watches += 1;
                    host.keys
                        .extend(watch.partners.iter().map(|partner| (partner.number, partner.key.clone())));
                    assert_eq!(host.number, watch.own_number);
                    host.observer.handle_watch(self.now, &watch);
                }
            }
            Event::Ask { to, ask } => {
                if self.up(to) {
                    self.hosts[to].observer.handle_ask(self.now, ask);
                }
            }
            Event::Register(index) => {
                if self.up(index) {
                    self.register(index);
                }
            }
            Event::Tried { at, about, tried } => self.hosts[at].observer.handle_tried(self.now, about, tried),
            Event::Reached { about, reached } => {
                let name = self.hosts[about].name.clone();
                self.center.handle_reached(self.now, &name, reached);
            }
        }
        self.drain();
    }

    fn drain(&mut self) {
        for index in 0..self.hosts.len() {
            while let Some(output) = self.hosts[index].observer.poll_output() {
                if self.up(index) {
                    self.seen(index, output);
                }
            }
        }
        while let Some(output) = self.own.poll_output() {
            if let Seen::Tell { observation, .. } = output {
                if observation.sight == Sight::Silent && self.first_silent.is_none() {
                    self.first_silent = Some(self.now);
                }
                self.center.handle_own_observation(self.now, &observation);
            }
        }
        while let Some(output) = self.center.poll_output() {
            self.decided(output);
        }
    }

    fn seen(&mut self, from: usize, output: Seen) {
        match output {
            Seen::Send { to, beat } => {
                let key = self.hosts[from].keys[&to].clone();
                let at = if to == CMA { None } else { self.index_of(to) };
                if (self.net)(Some(from), at) {
                    self.later(WAY, Event::Beat { from, to, beat, key });
                }
            }
            Seen::Try { to } => {
                let Some(about) = self.index_of(to) else { return };
                if (self.net)(Some(from), Some(about)) && (self.net)(Some(about), Some(from)) {
                    let tried = match self.hosts[about].state {
                        State::Up => Tried { port: PortState::Silent, echo: Some(true) },
                        State::NanoprobeDead => Tried { port: PortState::Refused, echo: Some(true) },
                        State::HostDead => Tried { port: PortState::Silent, echo: Some(false) },
                    };
                    let after = if self.hosts[about].state == State::HostDead { ms(500) } else { WAY };
                    self.later(after, Event::Tried { at: from, about: to, tried });
                }
            }
            Seen::Tell { generation, observation } => {
                if self.both_ways(from) {
                    self.later(WAY, Event::Heard { from, generation, observation });
                }
            }
        }
    }

    fn decided(&mut self, output: Output) {
        match output {
            Output::Tell { host, watch } => {
                let to = self.named(&host);
                self.hosts[to].number = watch.own_number;
                if self.both_ways(to) {
                    self.later(WAY, Event::Watch { to, watch });
                }
            }
            Output::Ask { host, ask } => {
                self.asks += 1;
                let to = self.named(&host);
                if self.both_ways(to) {
                    self.later(WAY, Event::Ask { to, ask });
                }
            }
            Output::Try { host, .. } => {
                self.tries += 1;
                let about = self.named(&host);
                let (after, reached) = match self.hosts[about].state {
                    _ if !self.dials || !self.both_ways(about) => (DIAL, self.unreached),
                    State::Up => (WAY * 4, Reached::Nanoprobe),
                    State::NanoprobeDead => (WAY * 2, Reached::HostOnly),
                    State::HostDead => (DIAL, self.unreached),
                };
                self.later(after, Event::Reached { about, reached });
            }
            Output::OwnWatch(watch) => {
                self.own_key =
                    watch.partners.iter().map(|partner| (partner.number, partner.key.clone())).collect();
                self.own.handle_watch(self.now, &watch);
            }
            Output::Keep(member) => {
                self.kept.insert(member.number, member);
            }
            Output::Verdict(verdict) => self.verdicts.push((self.now, verdict)),
            Output::Call { host, .. } => {
                let about = self.named(&host);
                self.calls.push(host);
                if self.both_ways(about) {
                    self.later(ms(10), Event::Register(about));
                }
            }
        }
    }

    /// Nothing is pending at the CMA.
    pub(super) fn is_idle(&self) -> bool {
        self.center.roster.due().is_none() && self.center.review.is_none()
    }

    /// Numbers of the hosts in verdicts.
    pub(super) fn given_up(&self) -> Vec<usize> {
        let verdicts = self.verdicts.iter().filter(|(_, verdict)| verdict.cause != Cause::CmaCutOff);
        let mut hosts: Vec<usize> =
            verdicts.flat_map(|(_, verdict)| verdict.hosts.iter().map(|host| self.named(host))).collect();
        hosts.sort_unstable();
        hosts
    }

    pub(super) fn causes(&self) -> Vec<Cause> {
        self.verdicts.iter().map(|(_, verdict)| verdict.cause.clone()).collect()
    }
}
