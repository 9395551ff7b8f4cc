//! A nanoprobe with a durable queue and a CMA with a durable log, on a network that loses, doubles, delays and
//! reorders, with restarts of either side anywhere: every change is committed exactly once, in order.

use model::message::{Refused, RefusedReason};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use wire::delivery::{Arrival, ConnectionId, Output, Route, Sender, SenderConfig, Standing, arrival};

/// Nothing may take longer; a run that does is stuck.
const STEP_LIMIT: usize = 200_000;

#[derive(Debug, Clone, Copy)]
struct Faults {
    /// Of 1000 messages, how many are lost, doubled, delayed a lot (and so overtaken).
    lose: u64,
    double: u64,
    delay: u64,
    /// Of 1000 steps, how many restart the nanoprobe, the CMA, cut the connection.
    restart_nanoprobe: u64,
    restart_cma: u64,
    cut: u64,
    /// Of 1000 registrations, how many find the CMA busy.
    busy: u64,
}

const NONE: Faults =
    Faults { lose: 0, double: 0, delay: 0, restart_nanoprobe: 0, restart_cma: 0, cut: 0, busy: 0 };

#[derive(Debug, Clone)]
enum Message {
    Hello,
    Answer,
    Dial,
    Connected,
    Register,
    Welcome(u64),
    Busy,
    Report(u64, u64),
    Ack(u64),
    Closed,
}

#[derive(Debug, Clone)]
struct Packet {
    to_cma: bool,
    /// Life of the nanoprobe process: what is meant for an earlier one finds nobody.
    life: u64,
    connection: ConnectionId,
    message: Message,
}

struct World {
    now: Duration,
    random: u64,
    faults: Faults,
    network: BTreeMap<(Duration, u64), Packet>,
    packets: u64,
    // The nanoprobe: disk, then memory.
    queue: VecDeque<(u64, u64)>,
    next_sequence: u64,
    sender: Sender,
    life: u64,
    produced: u64,
    to_produce: u64,
    next_change: Duration,
    // The CMA: disk, then memory.
    log: Vec<u64>,
    last: u64,
    current: Option<(u64, ConnectionId)>,
    most_in_flight: usize,
    most_packets: usize,
    steps: usize,
}

fn config() -> SenderConfig {
    SenderConfig {
        window_reports: 4,
        window_bytes: 1000,
        ..SenderConfig::new(vec![Route::Dial, Route::Dial])
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Nanoprobe,
    Cma,
    Both,
}

impl World {
    fn new(seed: u64, changes: u64, faults: Faults) -> Self {
        Self {
            now: Duration::ZERO,
            random: seed,
            faults,
            network: BTreeMap::new(),
            packets: 0,
            queue: VecDeque::new(),
            next_sequence: 1,
            sender: Sender::new(config(), Duration::ZERO, seed, 1, []),
            life: 1,
            produced: 0,
            to_produce: changes,
            next_change: Duration::ZERO,
            log: Vec::new(),
            last: 0,
            current: None,
            most_in_flight: 0,
            most_packets: 0,
            steps: 0,
        }
    }

    fn chance(&mut self, of_1000: u64) -> bool {
        of_1000 > 0 && self.number() % 1000 < of_1000
    }

    fn number(&mut self) -> u64 {
        // xorshift64*, never zero.
        self.random |= 1;
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn send(&mut self, to_cma: bool, life: u64, connection: ConnectionId, message: Message) {
        if self.chance(self.faults.lose) {
            return;
        }
        let copies = if self.chance(self.faults.double) { 2 } else { 1 };
        for _ in 0..copies {
            let late = self.chance(self.faults.delay);
            // Without delays a connection keeps the order, as a QUIC stream does.
            let spread = if late { 3_000_000 } else { 1 + self.faults.delay };
            let delay = Duration::from_micros(1000 + self.number() % spread);
            self.packets += 1;
            let packet = Packet { to_cma, life, connection, message: message.clone() };
            self.network.insert((self.now + delay, self.packets), packet);
        }
        self.most_packets = self.most_packets.max(self.network.len());
    }

    fn restart(&mut self, side: Side) {
        if side != Side::Cma {
            self.life += 1;
            let first = self.queue.front().map_or(self.next_sequence, |(sequence, _)| *sequence);
            let sizes: Vec<u64> = self.queue.iter().map(|(_, change)| size(*change)).collect();
            let seed = self.number();
            self.sender = Sender::new(config(), self.now, seed, first, sizes);
        }
        if side != Side::Nanoprobe
            && let Some((life, connection)) = self.current.take()
        {
            self.send(false, life, connection, Message::Closed);
        }
    }

    /// The earliest thing that happens; false when nothing ever will.
    fn step(&mut self) -> bool {
        self.steps += 1;
        assert!(self.steps < STEP_LIMIT, "stuck: {:?}, log {}", self.sender.standing(), self.log.len());
        if self.chance(self.faults.restart_nanoprobe) {
            self.restart(Side::Nanoprobe);
        }
        if self.chance(self.faults.restart_cma) {
            self.restart(Side::Cma);
        }
        if self.chance(self.faults.cut)
            && let Some((life, connection)) = self.current.take()
        {
            self.send(false, life, connection, Message::Closed);
        }
        // One output a step, so that a restart may come between any two.
        if let Some(output) = self.sender.poll_output(self.now) {
            self.perform(output);
            return true;
        }
        let change = (self.produced < self.to_produce).then_some(self.next_change);
        let packet = self.network.keys().next().map(|(at, _)| *at);
        let timer = self.sender.poll_timeout();
        let Some(next) = [change, packet, timer].into_iter().flatten().min() else { return false };
        self.now = self.now.max(next);
        if change.is_some_and(|at| at <= self.now) {
            self.produce();
        } else if packet.is_some_and(|at| at <= self.now) {
            let (_, packet) = self.network.pop_first().unwrap();
            if packet.to_cma { self.cma(packet) } else { self.nanoprobe(packet) }
        } else {
            self.sender.handle_timeout(self.now);
        }
        self.most_in_flight = self.most_in_flight.max(self.sender.in_flight());
        true
    }

    fn produce(&mut self) {
        self.produced += 1;
        self.next_change = self.now + Duration::from_millis(self.number() % 2000);
        let sequence = self.next_sequence;
        self.queue.push_back((sequence, self.produced));
        self.next_sequence += 1;
        if self.chance(self.faults.restart_nanoprobe * 20) {
            // Durable, but the sender never heard of it.
            self.restart(Side::Nanoprobe);
        } else {
            assert!(self.sender.handle_enqueued(self.now, sequence, size(self.produced)));
        }
    }

    fn perform(&mut self, output: Output) {
        let life = self.life;
        match output {
            Output::Dial { connection, .. } => self.send(true, life, connection, Message::Dial),
            Output::Register { connection } => self.send(true, life, connection, Message::Register),
            Output::Transmit { connection, sequence } => {
                let (_, change) = *self.queue.iter().find(|(queued, _)| *queued == sequence).unwrap();
                self.send(true, life, connection, Message::Report(sequence, change));
            }
            Output::Forget { through } => {
                while self.queue.front().is_some_and(|(sequence, _)| *sequence <= through) {
                    let (_, change) = self.queue.pop_front().unwrap();
                    assert!(
                        self.log.contains(&change),
                        "change {change} was forgotten before it was durable"
                    );
                }
            }
            Output::Close { connection, .. } => self.send(true, life, connection, Message::Closed),
            // It belongs to no connection.
            Output::SendHello { .. } => self.send(true, life, ConnectionId(0), Message::Hello),
            other => panic!("not expected here: {other:?}"),
        }
    }

    fn cma(&mut self, packet: Packet) {
        let (life, connection) = (packet.life, packet.connection);
        let known = self.current == Some((life, connection));
        match packet.message {
            Message::Hello => self.send(false, life, connection, Message::Answer),
            Message::Dial => self.send(false, life, connection, Message::Connected),
            Message::Register if self.chance(self.faults.busy) => {
                self.send(false, life, connection, Message::Busy);
            }
            // Older connections end before the answer; an overtaken old registration must not win.
            Message::Register if self.current.is_none_or(|newest| (life, connection) >= newest) => {
                self.current = Some((life, connection));
                self.send(false, life, connection, Message::Welcome(self.last));
            }
            Message::Report(sequence, change) if known => match arrival(self.last, sequence) {
                Arrival::Commit => {
                    self.log.push(change);
                    self.last = sequence;
                    if self.chance(self.faults.restart_cma * 20) {
                        // Committed, but nobody hears of it.
                        self.restart(Side::Cma);
                    } else {
                        self.send(false, life, connection, Message::Ack(self.last));
                    }
                }
                Arrival::Repeat => self.send(false, life, connection, Message::Ack(self.last)),
                Arrival::Gap { .. } => {
                    self.current = None;
                    self.send(false, life, connection, Message::Closed);
                }
            },
            Message::Closed if known => self.current = None,
            // A connection that the CMA does not know: as a stateless reset.
            Message::Report(..) => self.send(false, life, connection, Message::Closed),
            _ => {}
        }
    }

    fn nanoprobe(&mut self, packet: Packet) {
        if packet.life != self.life {
            return;
        }
        let (now, connection) = (self.now, packet.connection);
        match packet.message {
            Message::Answer => self.sender.handle_hello_reply(now),
            Message::Connected => self.sender.handle_connected(now, connection),
            Message::Welcome(last) => self.sender.handle_welcome(now, connection, last, Vec::new()),
            Message::Busy => {
                let refused = Refused { reason: RefusedReason::Busy, text: "disk full".into() };
                self.sender.handle_refused(now, connection, refused);
            }
            Message::Ack(sequence) => self.sender.handle_ack(now, connection, sequence),
            Message::Closed => self.sender.handle_disconnected(now, connection),
            other => panic!("not for a nanoprobe: {other:?}"),
        }
    }

    /// To the end, when nothing more can happen, and checks what must be true then.
    fn finish(&mut self) {
        while self.step() {}
        let all: Vec<u64> = (1..=self.to_produce).collect();
        assert_eq!(self.log, all, "every change exactly once, in order");
        assert!(self.queue.is_empty(), "left in the queue: {:?}", self.queue);
        assert_eq!(self.sender.standing(), Standing::Resting);
        assert!(self.most_in_flight <= config().window_reports, "{} in flight", self.most_in_flight);
    }
}

fn size(change: u64) -> u64 {
    // Some larger than the whole window.
    if change % 7 == 3 { 5000 } else { 100 + change % 300 }
}

#[test]
fn without_faults_the_network_carries_little() {
    let mut world = World::new(1, 50, NONE);
    world.finish();
    // A window of reports, and an acknowledgement for each.
    assert!(world.most_packets <= 8, "{} packets at once", world.most_packets);
    // Registration, 50 reports, 50 acknowledgements and a few connections.
    assert!(world.packets < 200, "{} packets", world.packets);
}

#[test]
fn a_restart_after_any_step_loses_and_repeats_nothing() {
    let steps = {
        let mut world = World::new(2, 8, NONE);
        world.finish();
        world.steps
    };
    assert!(steps > 40, "{steps} steps are too few to mean anything");
    for at in 0..steps {
        for side in [Side::Nanoprobe, Side::Cma, Side::Both] {
            let mut world = World::new(2, 8, NONE);
            (0..at).for_each(|_| {
                world.step();
            });
            world.restart(side);
            world.finish();
        }
    }
}

#[test]
fn two_restarts_after_any_two_steps_lose_and_repeat_nothing() {
    let steps = {
        let mut world = World::new(3, 4, NONE);
        world.finish();
        world.steps
    };
    for first in 0..steps {
        for second in 0..steps {
            for (one, two) in
                [(Side::Nanoprobe, Side::Cma), (Side::Cma, Side::Nanoprobe), (Side::Cma, Side::Cma)]
            {
                let mut world = World::new(3, 4, NONE);
                (0..first).for_each(|_| {
                    world.step();
                });
                world.restart(one);
                (0..second).for_each(|_| {
                    world.step();
                });
                world.restart(two);
                world.finish();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A failing case prints its seed and faults; running it again takes the same steps.
    #[test]
    fn whatever_the_network_does_changes_arrive_once(
        seed in any::<u64>(),
        lose in 0u64..150, double in 0u64..300, delay in 0u64..150,
        restart_nanoprobe in 0u64..10, restart_cma in 0u64..10, cut in 0u64..20, busy in 0u64..300,
    ) {
        let faults = Faults { lose, double, delay, restart_nanoprobe, restart_cma, cut, busy };
        World::new(seed, 40, faults).finish();
    }
}
