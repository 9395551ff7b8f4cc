//! QUIC as far as it matters here: connections between nanoprobe and CMA that take a handshake, carry messages in order
//! each way, repeat what is lost, and notice the end of the other side only when they have something to say.

use super::{Event, World};
use crate::machine::Process;
use crate::network::{CMA, Node};
use crate::queue::Moment;
use model::liveness::{Ask, Heard, Session, Watch};
use model::message::{Refused, RefusedReason};
use std::collections::{HashMap, VecDeque};
use wire::delivery::ConnectionId;

/// Without progress for this long a connection is lost (the transport's idle time-out).
const LOST_AFTER: Moment = 40_000_000;
/// First repetition of a lost packet of a standing connection, doubling up to the longest.
const REPEAT_FIRST: Moment = 100_000;
const REPEAT_LONGEST: Moment = 3_000_000;
/// First repetition of the first packet of a handshake, doubling.
const DIAL_REPEAT: Moment = 1_000_000;
const DIAL_ATTEMPTS: u32 = 4;
/// A handshake that would have to wait longer for the CMA's processor is dropped.
const MAX_HANDSHAKE_QUEUE: Moment = 8_000_000;

#[derive(Debug, Clone)]
pub(crate) enum Upward {
    Register { session: Session, watch: Option<u64> },
    Report { sequence: u64 },
    Heard(Heard),
    Goodbye,
    Close,
}

#[derive(Debug, Clone)]
pub(crate) enum Downward {
    Welcome { last_sequence: u64 },
    Busy,
    Ack { sequence: u64 },
    Watch(Watch),
    Ask(Ask),
    Farewell,
    Close,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub machine: Node,
    /// Start of the nanoprobe that it belongs to.
    pub life: u32,
    /// Start of the CMA that it belongs to.
    pub cma_life: u32,
    pub connection: ConnectionId,
    /// Name that the host registers under, and how.
    pub identity: u32,
    pub registration: Option<(Session, Option<u64>)>,
    /// Address of the host during the handshake.
    pub address: u32,
    host_open: bool,
    cma_open: bool,
    up: Pipe<Upward>,
    down: Pipe<Downward>,
}

/// One direction.
#[derive(Debug)]
struct Pipe<M> {
    messages: VecDeque<M>,
    /// The first message is on its way.
    moving: bool,
    attempts: u32,
    since: Moment,
}

/// All connections. Looked up by number only: the order of a hash map must not matter.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: HashMap<u32, Link>,
    last: u32,
    /// Handshakes begun, ever.
    pub dialled: u64,
}

impl<M> Default for Pipe<M> {
    fn default() -> Self {
        Self { messages: VecDeque::new(), moving: false, attempts: 0, since: 0 }
    }
}

impl Links {
    pub fn get(&self, link: u32) -> Option<&Link> {
        self.links.get(&link)
    }

    pub fn get_mut(&mut self, link: u32) -> Option<&mut Link> {
        self.links.get_mut(&link)
    }
}

impl World {
    /// A nanoprobe dials.
    pub(crate) fn new_link(&mut self, machine: Node, connection: ConnectionId) -> u32 {
        self.links.last += 1;
        self.links.dialled += 1;
        let (number, host) = (self.links.last, &self.machines[machine as usize]);
        let link = Link {
            machine,
            life: host.life,
            cma_life: self.cma.life,
            connection,
            identity: host.identity,
            registration: None,
            address: host.address,
            host_open: true,
            cma_open: false,
            up: Pipe::default(),
            down: Pipe::default(),
        };
        self.links.links.insert(number, link);
        let at = self.now + self.network.delay(&mut self.random);
        self.queue.push(at, Event::Dial { link: number, attempt: 0 });
        number
    }

    pub(crate) fn dial(&mut self, number: u32, attempt: u32) {
        let Some(link) = self.links.links.get(&number) else { return };
        let (machine, life) = (link.machine, link.life);
        if !link.host_open || self.life(machine) != Some(life) {
            self.links.links.remove(&number);
            return;
        }
        let reached = self.cma.running()
            && self.network.both_ways(machine, CMA)
            && self.network.survives(&mut self.random)
            && self.network.survives(&mut self.random);
        if reached && self.cma.paused {
            return self.cma.deferred.push(Event::Dial { link: number, attempt });
        }
        let begin = self.now.max(self.cma.handshakes_until);
        if !reached || begin - self.now > MAX_HANDSHAKE_QUEUE {
            // After the last attempt the nanoprobe's own patience ends it.
            if attempt < DIAL_ATTEMPTS {
                let at = self.now + (DIAL_REPEAT << attempt);
                self.queue.push(at, Event::Dial { link: number, attempt: attempt + 1 });
            }
            return;
        }
        self.cma.handshakes_until = begin + u64::from(self.setup.costs.handshake_microseconds);
        let delay = 2 * self.network.delay(&mut self.random);
        self.queue.push(self.cma.handshakes_until + delay, Event::Dialled { link: number });
    }

    pub(crate) fn dialled(&mut self, number: u32) {
        let cma_life = self.cma.life;
        let Some(link) = self.links.links.get_mut(&number) else { return };
        let (machine, life, connection) = (link.machine, link.life, link.connection);
        if !link.host_open {
            self.links.links.remove(&number);
            return;
        }
        link.cma_life = cma_life;
        link.cma_open = true;
        if self.life(machine) != Some(life) || self.defer(machine, || Event::Dialled { link: number }) {
            return;
        }
        self.with_process(machine, |process, now| process.sender.handle_connected(now, connection));
    }

    /// A message of the nanoprobe.
    pub(crate) fn up(&mut self, link: Option<u32>, message: Upward) {
        let Some(number) = link else { return };
        if let Some(link) = self.links.links.get_mut(&number) {
            link.up.messages.push_back(message);
            self.pump(number, false);
        }
    }

    /// A message of the CMA.
    pub(crate) fn down(&mut self, number: u32, message: Downward) {
        if let Some(link) = self.links.links.get_mut(&number) {
            link.down.messages.push_back(message);
            self.pump(number, true);
        }
    }

    /// The nanoprobe closes; the CMA learns it when the packet comes through.
    pub(crate) fn close_from_host(&mut self, number: u32) {
        if let Some(link) = self.links.links.get_mut(&number) {
            link.host_open = false;
            if link.cma_open {
                link.up.messages.push_back(Upward::Close);
                self.pump(number, false);
            } else {
                self.links.links.remove(&number);
            }
        }
    }

    /// The CMA closes.
    pub(crate) fn close_from_cma(&mut self, number: u32) {
        if let Some(link) = self.links.links.get_mut(&number) {
            link.cma_open = false;
            self.down(number, Downward::Close);
        }
    }

    fn pump(&mut self, number: u32, down: bool) {
        let delay = self.network.delay(&mut self.random);
        let now = self.now;
        let Some(link) = self.links.links.get_mut(&number) else { return };
        let start = if down { link.down.start(now) } else { link.up.start(now) };
        if start {
            self.queue.push(now + delay, Event::Stream { link: number, down });
        }
    }

    /// The first message of a direction arrives, or does not.
    pub(crate) fn stream(&mut self, number: u32, down: bool) {
        let Some(link) = self.links.links.get(&number) else { return };
        let (machine, life, cma_life) = (link.machine, link.life, link.cma_life);
        let host_open = link.host_open && self.life(machine) == Some(life);
        let cma_open = link.cma_open && self.cma.life == cma_life && self.cma.running();
        let sender_lives = if down {
            self.cma.life == cma_life && self.cma.running()
        } else {
            self.life(machine) == Some(life)
        };
        if !sender_lives {
            // Its kernel forgot what it had not sent yet.
            let pipe_owner_gone = if down { !host_open } else { !cma_open };
            if pipe_owner_gone {
                self.links.links.remove(&number);
            } else if let Some(link) = self.links.links.get_mut(&number) {
                link.clear(down);
            }
            return;
        }
        let (from, to) = if down { (CMA, machine) } else { (machine, CMA) };
        let passes = self.network.open(from, to) && self.network.survives(&mut self.random);
        let receiver_there = if down { self.life(machine).is_some() } else { self.cma.running() };
        if !passes || !receiver_there {
            return self.again(number, down);
        }
        let receiver_open = if down { host_open } else { cma_open };
        if !receiver_open {
            // An endpoint answers what it does not know with a reset.
            return if self.network.open(to, from) {
                self.lost(number, down)
            } else {
                self.again(number, down)
            };
        }
        if down && self.defer(machine, || Event::Stream { link: number, down }) {
            return;
        }
        if !down && self.cma.paused {
            return self.cma.deferred.push(Event::Stream { link: number, down });
        }
        let Some(link) = self.links.links.get_mut(&number) else { return };
        if down {
            let message = link.down.take();
            self.pump(number, true);
            if let Some(message) = message {
                self.at_host(number, machine, message);
            }
        } else {
            let message = link.up.take();
            self.pump(number, false);
            if let Some(message) = message {
                self.at_cma(number, message);
            }
        }
    }

    /// Repeats the first message, or gives the connection up.
    fn again(&mut self, number: u32, down: bool) {
        let now = self.now;
        let Some(link) = self.links.links.get_mut(&number) else { return };
        let (attempts, since) = if down { link.down.failed() } else { link.up.failed() };
        if now - since > LOST_AFTER {
            return self.lost(number, down);
        }
        let wait = (REPEAT_FIRST << attempts.min(10)).min(REPEAT_LONGEST);
        self.queue.push(now + wait, Event::Stream { link: number, down });
    }

    /// The sending side learns that the connection is gone.
    fn lost(&mut self, number: u32, down: bool) {
        let Some(link) = self.links.links.get_mut(&number) else { return };
        let (machine, life, connection) = (link.machine, link.life, link.connection);
        link.clear(down);
        if down {
            link.cma_open = false;
            let host_open = link.host_open;
            self.cma_lost(number);
            if !host_open || self.life(machine) != Some(life) {
                self.links.links.remove(&number);
            }
            return;
        }
        link.host_open = false;
        if !link.cma_open {
            self.links.links.remove(&number);
        }
        if self.life(machine) == Some(life) {
            self.with_process(machine, |process, now| {
                process.forget_link(number);
                process.sender.handle_disconnected(now, connection);
            });
        }
    }

    fn at_host(&mut self, number: u32, machine: Node, message: Downward) {
        let Some(link) = self.links.links.get_mut(&number) else { return };
        let connection = link.connection;
        match message {
            Downward::Welcome { last_sequence } => self.welcomed(machine, connection, last_sequence),
            Downward::Watch(watch) => self.told_watch(machine, &watch),
            Downward::Ask(ask) => self.told_ask(machine, ask),
            Downward::Busy => {
                let refused = Refused { reason: RefusedReason::Busy, text: String::new() };
                self.with_process(machine, |process, now| {
                    process.sender.handle_refused(now, connection, refused);
                });
            }
            Downward::Ack { sequence } => {
                self.with_process(machine, |process, now| {
                    process.sender.handle_ack(now, connection, sequence);
                });
            }
            Downward::Farewell => {
                self.with_process(machine, |process, now| process.sender.handle_farewell(now, connection));
            }
            Downward::Close => {
                link.host_open = false;
                self.links.links.remove(&number);
                self.with_process(machine, |process, now| {
                    process.forget_link(number);
                    process.sender.handle_disconnected(now, connection);
                });
            }
        }
    }

    fn at_cma(&mut self, number: u32, message: Upward) {
        if matches!(message, Upward::Close) {
            self.cma_lost(number);
            self.links.links.remove(&number);
            return;
        }
        self.cma_message(number, message);
    }
}

impl Link {
    /// The CMA holds it open.
    pub fn open_at_cma(&self, cma_life: u32) -> bool {
        self.cma_open && self.cma_life == cma_life
    }

    /// A watch was told on it that has not arrived.
    pub fn owes_watch(&self) -> bool {
        self.down.messages.iter().any(|message| matches!(message, Downward::Watch(_)))
    }

    fn clear(&mut self, down: bool) {
        if down {
            self.down.messages.retain(|message| matches!(message, Downward::Watch(_)));
            self.down.moving = true;
        } else {
            self.up = Pipe { moving: true, ..Pipe::default() };
        }
    }
}

impl Process {
    fn forget_link(&mut self, number: u32) {
        if self.link == Some(number) {
            self.link = None;
        }
    }
}

impl<M> Pipe<M> {
    /// True when the first message is to be sent now.
    fn start(&mut self, now: Moment) -> bool {
        if self.moving || self.messages.is_empty() {
            return false;
        }
        *self = Self { messages: std::mem::take(&mut self.messages), moving: true, attempts: 0, since: now };
        true
    }

    fn take(&mut self) -> Option<M> {
        self.moving = false;
        self.messages.pop_front()
    }

    fn failed(&mut self) -> (u32, Moment) {
        self.attempts += 1;
        (self.attempts - 1, self.since)
    }
}
