//! The shell of a nanoprobe around its two cores.

use super::links::Upward;
use super::{Event, World, address_number};
use crate::machine::{Clock, Power, Process};
use crate::network::{CMA, Node};
use crate::peers::{Peers, Sealed};
use crate::queue::Moment;
use liveness::observer::{self, Beat, Tried};
use model::liveness::{Ask, Heard, HostNumber, Observation, PortState, Session, Watch};
use std::time::Duration;
use wire::delivery::{ConnectionId, Output, Route, Sender, SenderConfig, Standing};

/// A host has one document to report: where it stands.
const REPORT_BYTES: u64 = 2000;
/// How long a graceful stop may take.
const FAREWELL: Duration = Duration::from_secs(5);
/// What the socket of a paused process holds.
const MAX_DEFERRED: usize = 512;
/// How late a timer fires on a host that has nothing else to do.
const TIMER_SLACK_MICROSECONDS: Moment = 1000;
/// How long an echo or a packet to the port is waited for.
const TRY_PATIENCE_MICROSECONDS: Moment = 400_000;
/// Echo requests sent within that time.
const ECHO_REQUESTS: u32 = 3;

impl World {
    /// Power on, or the start of the nanoprobe on a machine that is on.
    pub(crate) fn boot(&mut self, machine: Node) {
        let session = Session(self.random.bytes());
        self.start_process(machine, session);
    }

    /// As [`World::boot`], with the session of another process: a machine copied while it ran.
    pub(crate) fn start_process(&mut self, machine: Node, session: Session) {
        let Some(host) = self.machines.get_mut(machine as usize) else { return };
        if host.process.is_some() {
            return;
        }
        host.power = Power::On;
        host.life += 1;
        let reading = self.random.below(10_000_000_000);
        let clock = Clock::new(self.now, reading);
        let now = clock.read(self.now);
        let (first, queued) = if host.delivered { (2, None) } else { (1, Some(REPORT_BYTES)) };
        let seed = self.random.word();
        let config = SenderConfig::new(vec![Route::Dial]);
        host.process = Some(Process {
            watcher: self.cores.watcher(now),
            sender: Sender::new(config, now, seed, first, queued),
            session,
            clock,
            paused: false,
            deferred: Vec::new(),
            link: None,
            peers: Peers::default(),
            unsaid: Vec::new(),
            wake_at: Moment::MAX,
        });
        self.say(|| format!("machine {machine} starts"));
        self.refresh_one(machine);
        self.drain(machine);
    }

    /// SIGKILL, or the end of the machine.
    pub(crate) fn kill_process(&mut self, machine: Node) {
        if let Some(host) = self.machines.get_mut(machine as usize) {
            host.process = None;
        }
    }

    /// SIGTERM.
    pub(crate) fn stop_process(&mut self, machine: Node) {
        self.with_process(machine, |process, now| {
            process.watcher.stop(now);
            process.sender.stop(now, now + FAREWELL);
        });
    }

    /// Runs on whatever waited while the process was paused, in either order: a real event loop gives no promise.
    pub(crate) fn resume(&mut self, machine: Node) {
        let timers_first = self.random.chance(500_000);
        if timers_first {
            self.timers(machine);
        }
        let deferred = match self.process_mut(machine) {
            Some(process) => std::mem::take(&mut process.deferred),
            None => return,
        };
        for event in deferred {
            self.handle(event);
        }
        self.timers(machine);
    }

    pub(crate) fn wake(&mut self, machine: Node, life: u32) {
        let now = self.now;
        let Some(host) = self.machines.get_mut(machine as usize) else { return };
        if host.life != life {
            return;
        }
        let awake = host.awake();
        let Some(process) = host.process.as_mut() else { return };
        if process.wake_at <= now {
            process.wake_at = Moment::MAX;
        }
        if awake {
            self.timers(machine);
        }
    }

    pub(crate) fn packet(&mut self, from: Node, to: Node, sealed: Sealed) {
        if to == CMA {
            return self.cma_packet(from, sealed);
        }
        let Some(machine) = self.machine_at(to) else { return };
        let now = self.now;
        let Some(host) = self.machines.get_mut(machine as usize) else { return };
        if host.power != Power::On {
            return;
        }
        let Some(process) = host.process.as_mut() else { return };
        if process.paused {
            if process.deferred.len() < MAX_DEFERRED {
                process.deferred.push(Event::Packet { from, to, sealed });
            }
            return;
        }
        if let (Some(number), Some(beat)) = (process.peers.open(now, &sealed), Beat::from_byte(sealed.beat)) {
            process.watcher.handle_beat(process.clock.read(now), number, beat);
            self.drain(machine);
        }
    }

    pub(crate) fn tried(&mut self, machine: Node, life: u32, about: HostNumber, tried: Tried) {
        if self.life(machine) != Some(life) {
            return;
        }
        if self.defer(machine, || Event::Tried { machine, life, about, tried }) {
            return;
        }
        self.with_process(machine, |process, now| process.watcher.handle_tried(now, about, tried));
    }

    /// The CMA dialled this host.
    pub(crate) fn called(&mut self, machine: Node, life: u32) {
        if self.life(machine) == Some(life) && self.machines[machine as usize].awake() {
            self.with_process(machine, |process, now| process.sender.handle_call(now));
        }
    }

    pub(crate) fn told_watch(&mut self, machine: Node, watch: &Watch) {
        self.ledger.watch_told(self.now, machine, watch);
        self.with_process(machine, |process, now| {
            if watch.generation > process.watcher.generation() {
                process.peers.adopt(watch, address_number);
            }
            process.watcher.handle_watch(now, watch);
        });
    }

    pub(crate) fn told_ask(&mut self, machine: Node, ask: Ask) {
        self.with_process(machine, |process, now| process.watcher.handle_ask(now, ask));
    }

    /// Does something with a running process and then what follows from it.
    pub(crate) fn with_process(&mut self, machine: Node, act: impl FnOnce(&mut Process, Duration)) {
        let moment = self.now;
        if let Some(process) = self.process_mut(machine) {
            let now = process.clock.read(moment);
            act(process, now);
            self.drain(machine);
        }
    }

    pub(crate) fn process_mut(&mut self, machine: Node) -> Option<&mut Process> {
        self.machines.get_mut(machine as usize)?.process.as_mut()
    }

    /// Which start of its nanoprobe runs now.
    pub(crate) fn life(&self, machine: Node) -> Option<u32> {
        let host = self.machines.get(machine as usize)?;
        host.process.as_ref().map(|_| host.life)
    }

    /// Keeps an event for a process that is paused. Returns whether it is.
    pub(crate) fn defer(&mut self, machine: Node, event: impl FnOnce() -> Event) -> bool {
        match self.process_mut(machine) {
            Some(process) if process.paused => {
                if process.deferred.len() < MAX_DEFERRED {
                    process.deferred.push(event());
                }
                true
            }
            _ => false,
        }
    }

    fn timers(&mut self, machine: Node) {
        self.with_process(machine, |process, now| {
            if process.watcher.poll_timeout().is_some_and(|due| due <= now) {
                process.watcher.handle_timeout(now);
            }
            if process.sender.poll_timeout().is_some_and(|due| due <= now) {
                process.sender.handle_timeout(now);
            }
        });
    }

    /// Does what the cores want, until they want no more, and sets the next timer.
    fn drain(&mut self, machine: Node) {
        let Some(mut process) = self.machines.get_mut(machine as usize).and_then(|host| host.process.take())
        else {
            return;
        };
        let now = process.clock.read(self.now);
        loop {
            let mut told = Vec::new();
            while let Some(output) = process.watcher.poll_output() {
                match output {
                    observer::Output::Send { to, beat } => self.send_beat(machine, &mut process, to, beat),
                    observer::Output::Try { to } => self.try_partner(machine, &process, to),
                    observer::Output::Tell { generation, observation } => {
                        told.push((generation, observation))
                    }
                }
            }
            if !told.is_empty() {
                self.tell(machine, &mut process, now, told);
            }
            let Some(output) = process.sender.poll_output(now) else { break };
            self.sender_output(machine, &mut process, now, output);
        }
        if process.sender.standing() == Standing::Stopped {
            self.say(|| format!("machine {machine} has stopped"));
            return self.refresh_one(machine);
        }
        let due = [process.watcher.poll_timeout(), process.sender.poll_timeout()].into_iter().flatten().min();
        if let Some(due) = due {
            let at = process.clock.moment(due).max(self.now);
            if at < process.wake_at {
                let life = self.machines[machine as usize].life;
                let at = at + self.random.below(TIMER_SLACK_MICROSECONDS);
                process.wake_at = at;
                self.queue.push(at, Event::Wake { machine, life });
            }
        }
        self.machines[machine as usize].process = Some(process);
    }

    fn sender_output(&mut self, machine: Node, process: &mut Process, now: Duration, output: Output) {
        match output {
            Output::Dial { connection, .. } => process.link = Some(self.new_link(machine, connection)),
            Output::Register { .. } => {
                let watch = Some(process.watcher.generation()).filter(|generation| *generation > 0);
                self.up(process.link, Upward::Register { session: process.session, watch });
            }
            Output::Transmit { sequence, .. } => {
                self.up(process.link, Upward::Report { sequence });
            }
            Output::Forget { .. } => self.machines[machine as usize].delivered = true,
            Output::Speak { .. } => self.say_unsaid(process),
            Output::Goodbye { .. } => self.up(process.link, Upward::Goodbye),
            Output::Close { .. } => {
                if let Some(link) = process.link.take() {
                    self.close_from_host(link);
                }
            }
            Output::Renumber => process.sender.handle_renumbered(now),
            // There is no multicast here, and nothing but the one document.
            Output::SendHello { .. } | Output::Wanted { .. } => {}
        }
    }

    fn send_beat(&mut self, machine: Node, process: &mut Process, to: HostNumber, beat: Beat) {
        if let Some((address, sealed)) = process.peers.seal(to, beat as u8) {
            self.machines[machine as usize].traffic.packets += 1;
            self.transmit(machine, address, sealed);
        }
    }

    /// A heartbeat goes out, to an address or to the CMA.
    pub(crate) fn transmit(&mut self, from: Node, address: Node, sealed: Sealed) {
        let node = self.machine_at(address).unwrap_or(CMA);
        if self.eavesdrop && self.overheard.len() < 10_000 {
            self.overheard.push((from, address, sealed));
        }
        let arrivals = self.network.send(&mut self.random, from, node);
        for delay in [arrivals.first, arrivals.second].into_iter().flatten() {
            self.queue.push(self.now + delay, Event::Packet { from, to: address, sealed });
        }
    }

    /// What was seen goes to the CMA: at once on a connection, else as soon as there is one.
    fn tell(&mut self, machine: Node, process: &mut Process, now: Duration, told: Vec<(u64, Observation)>) {
        for (generation, observation) in &told {
            self.say(|| {
                let Observation { about, sight, silent_milliseconds: silent, doubt, .. } = observation;
                format!("machine {machine} (watch {generation}): host {about} {sight:?} {silent} ms, doubt {doubt}")
            });
            process.unsaid.retain(|(_, older)| older.about != observation.about);
            process.unsaid.push((*generation, observation.clone()));
        }
        process.sender.handle_message_waiting(now);
    }

    fn say_unsaid(&mut self, process: &mut Process) {
        for (generation, observation) in std::mem::take(&mut process.unsaid) {
            let heard = Heard { generation, observations: vec![observation] };
            self.up(process.link, Upward::Heard(heard));
        }
    }

    /// The CMA welcomed a registration.
    pub(crate) fn welcomed(&mut self, machine: Node, connection: ConnectionId, last_sequence: u64) {
        let Some(mut process) = self.machines.get_mut(machine as usize).and_then(|host| host.process.take())
        else {
            return;
        };
        let now = process.clock.read(self.now);
        process.sender.handle_welcome(now, connection, last_sequence, Vec::new());
        self.machines[machine as usize].process = Some(process);
        self.drain(machine);
    }

    fn try_partner(&mut self, machine: Node, process: &Process, to: HostNumber) {
        let address = process.peers.current.iter().find(|peer| peer.number == to).map(|peer| peer.address);
        let Some(address) = address else { return };
        let (delay, tried) = self.ping(machine, address);
        let life = self.machines[machine as usize].life;
        self.queue.push(self.now + delay, Event::Tried { machine, life, about: to, tried });
    }

    /// Echo requests and a packet to the port of an address: what is known after which time.
    pub(crate) fn ping(&mut self, from: Node, address: Node) -> (Moment, Tried) {
        if !self.network.has_carrier(from) {
            return (100, Tried { port: PortState::Unreachable, echo: None });
        }
        let to = self.machine_at(address).unwrap_or(CMA);
        let there = to == CMA || self.machines[to as usize].power == Power::On;
        let running = to == CMA || self.machines[to as usize].process.is_some();
        let answered = |world: &mut World| {
            there
                && world.network.both_ways(from, to)
                && world.network.survives(&mut world.random)
                && world.network.survives(&mut world.random)
        };
        let echo = (0..ECHO_REQUESTS).any(|_| answered(self));
        let refused = !running && answered(self);
        let port = if refused { PortState::Refused } else { PortState::Silent };
        let delay = self.network.delay(&mut self.random) + self.network.delay(&mut self.random);
        let known = echo && (refused || running);
        (if known { delay } else { TRY_PATIENCE_MICROSECONDS }, Tried { port, echo: Some(echo) })
    }

    /// Stops or starts the clock of a process.
    pub(crate) fn freeze(&mut self, machine: Node, frozen: bool) {
        let moment = self.now;
        if let Some(process) = self.process_mut(machine) {
            if frozen {
                process.clock.freeze(moment);
            } else {
                process.clock.thaw(moment);
                process.wake_at = Moment::MAX;
            }
        }
    }
}
