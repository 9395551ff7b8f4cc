//! Everything that goes wrong, or is mended.

use super::{World, machine};
use crate::machine::Power;
use crate::network::{CMA, Node, Weather};
use crate::peers::Sealed;
use crate::world::Event;

/// One thing that happens to a site. Machines are named by their index, the CMA's by [`CMA`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of the nanoprobe.
    Kill(Node),
    /// Start of the nanoprobe, with power if needed.
    Start(Node),
    /// SIGTERM: a graceful stop.
    Stop(Node),
    PowerOff(Node),
    /// SIGSTOP of the nanoprobe: timers do not fire, packets queue up.
    Pause(Node),
    Continue(Node),
    /// Lid closed: packets are lost and the monotonic clock stands.
    Suspend(Node),
    Resume(Node),
    /// The cable is pulled; its kernel knows.
    Unplug(Node),
    Plug(Node),
    /// All machines of a place reach nobody, not even each other.
    PlaceDown(u32),
    PlaceUp(u32),
    /// These nodes reach only those of the same side from now on.
    Side(Vec<Node>, u8),
    /// Nothing gets from the first to the second any more.
    Block(Node, Node),
    /// All cables, switches and links work again.
    Heal,
    Weather(Weather),
    /// SIGKILL of the CMA: only its store survives.
    KillCma,
    StartCma,
    PauseCma,
    ContinueCma,
    /// Somebody sets the wall clock.
    StepWallClock(Node, i64),
    /// Two machines exchange their addresses.
    SwapAddresses(Node, Node),
    /// The disk of a machine is copied to a new one, which starts.
    CloneDisk(Node),
    /// A running machine is copied: also what its nanoprobe has in memory.
    CloneRunning(Node),
    /// Somebody begins to listen.
    Eavesdrop,
    /// What was overheard is sent again.
    Replay,
    /// So many heartbeats that somebody without the keys made, from each of its partners to this machine.
    Forge(Node, u32),
}

impl World {
    /// Lets a fault happen now.
    pub fn apply(&mut self, fault: Fault) {
        if !matches!(fault, Fault::StepWallClock(..)) {
            self.ledger.disturbed(self.now);
        }
        self.say(|| format!("FAULT {fault:?}"));
        match fault {
            Fault::Kill(machine) => self.kill_process(machine),
            Fault::Start(machine) => self.boot(machine),
            Fault::Stop(machine) => {
                if let Some(identity) = self.identity(machine) {
                    self.ledger.stopping(self.now, identity);
                }
                self.stop_process(machine);
            }
            Fault::PowerOff(machine) => {
                self.kill_process(machine);
                self.set_power(machine, Power::Off);
            }
            Fault::Pause(machine) => {
                if let Some(process) = self.process_mut(machine) {
                    process.paused = true;
                }
            }
            Fault::Continue(machine) => {
                if self.process_mut(machine).is_some_and(|process| std::mem::take(&mut process.paused)) {
                    self.resume(machine);
                }
            }
            Fault::Suspend(machine) => {
                if self.machines.get(machine as usize).is_some_and(|host| host.power == Power::On) {
                    self.set_power(machine, Power::Suspended);
                    self.freeze(machine, true);
                }
            }
            Fault::Resume(machine) => {
                if self.machines.get(machine as usize).is_some_and(|host| host.power == Power::Suspended) {
                    self.set_power(machine, Power::On);
                    self.freeze(machine, false);
                    self.resume(machine);
                }
            }
            Fault::Unplug(node) => self.network.set_unplugged(node, true),
            Fault::Plug(node) => self.network.set_unplugged(node, false),
            Fault::PlaceDown(place) => self.network.set_place_dead(place, true),
            Fault::PlaceUp(place) => self.network.set_place_dead(place, false),
            Fault::Side(nodes, side) => {
                nodes.iter().for_each(|node| self.network.set_side(*node, side));
            }
            Fault::Block(from, to) => self.network.block(from, to),
            Fault::Heal => self.network.heal(),
            Fault::Weather(weather) => self.network.weather = weather,
            Fault::KillCma => self.kill_cma(),
            Fault::StartCma => self.start_cma(),
            Fault::PauseCma => self.pause_cma(true),
            Fault::ContinueCma => self.pause_cma(false),
            Fault::StepWallClock(machine, seconds) => {
                if let Some(host) = self.machines.get_mut(machine as usize) {
                    host.wall_clock_offset_seconds += seconds;
                }
            }
            Fault::SwapAddresses(one, other) => self.swap(one, other),
            Fault::CloneDisk(original) => {
                if let Some(copy) = self.copy(original) {
                    self.boot(copy);
                }
            }
            Fault::CloneRunning(original) => self.copy_running(original),
            Fault::Eavesdrop => self.eavesdrop = true,
            Fault::Replay => self.replay(),
            Fault::Forge(machine, count) => self.forge(machine, count),
        }
        self.refresh();
    }

    /// Tells the ledger what is true about every host now.
    pub(crate) fn refresh(&mut self) {
        let mut facts: Vec<(u32, bool, bool)> = vec![(0, false, false); self.ledger.hosts()];
        for (node, host) in (0..).zip(&self.machines) {
            let Some(fact) = facts.get_mut(host.identity as usize) else { continue };
            fact.0 += u32::from(host.power != Power::Off);
            fact.1 |= host.process.is_some();
            fact.2 |= host.awake() && self.network.both_ways(node, CMA);
        }
        for (identity, (copies, running, reachable)) in (0..).zip(facts) {
            // Nothing is true of a host that exists twice.
            self.ledger.fact(self.now, identity, running, reachable && copies == 1);
        }
    }

    /// As [`World::refresh`], of one machine to which something happened: a whole site that starts is many of them.
    pub(crate) fn refresh_one(&mut self, machine: Node) {
        if self.machines.len() > self.ledger.hosts() {
            // There are copies.
            return self.refresh();
        }
        let Some(host) = self.machines.get(machine as usize) else { return };
        let reachable = host.awake() && self.network.both_ways(machine, CMA);
        self.ledger.fact(self.now, host.identity, host.process.is_some(), reachable);
    }

    pub(crate) fn identity(&self, machine: Node) -> Option<u32> {
        self.machines.get(machine as usize).map(|host| host.identity)
    }

    fn set_power(&mut self, machine: Node, power: Power) {
        if let Some(host) = self.machines.get_mut(machine as usize) {
            host.power = power;
        }
    }

    fn swap(&mut self, one: Node, other: Node) {
        let (Some(first), Some(second)) =
            (self.machines.get(one as usize), self.machines.get(other as usize))
        else {
            return;
        };
        let addresses = (first.address, second.address);
        self.machines[one as usize].address = addresses.1;
        self.machines[other as usize].address = addresses.0;
        self.owners.swap(addresses.0 as usize, addresses.1 as usize);
    }

    /// Another machine with the name and the keys of the first, at an address of its own.
    fn copy(&mut self, original: Node) -> Option<Node> {
        let (identity, delivered) =
            self.machines.get(original as usize).map(|host| (host.identity, host.delivered))?;
        let copy = self.machines.len() as u32;
        let mut host = machine(identity, self.owners.len() as u32);
        host.delivered = delivered;
        self.owners.push(copy);
        self.network.add(self.network.place(original));
        self.machines.push(host);
        Some(copy)
    }

    fn copy_running(&mut self, original: Node) {
        let Some(session) = self.process_mut(original).map(|process| process.session) else { return };
        let last_watch = self.ledger.last_watch(original).cloned();
        let Some(copy) = self.copy(original) else { return };
        self.start_process(copy, session);
        if let Some(watch) = last_watch {
            self.told_watch(copy, &watch);
        }
    }

    fn replay(&mut self) {
        for (from, to, sealed) in std::mem::take(&mut self.overheard) {
            let delay = self.random.below(5_000_000);
            self.queue.push(self.now + delay, Event::Packet { from, to, sealed });
        }
    }

    fn forge(&mut self, machine: Node, count: u32) {
        let Some(host) = self.machines.get(machine as usize) else { return };
        let address = host.address;
        let Some(process) = &host.process else { return };
        let senders: Vec<u32> = process.peers.current.iter().map(|peer| peer.number).collect();
        for round in 0..count {
            for sender in &senders {
                let key = self.random.word();
                let sealed = Sealed {
                    sender: *sender,
                    key,
                    counter: u64::from(round) + 1_000_000,
                    beat: (round % 5) as u8,
                };
                let at = self.now + self.random.below(2_000_000);
                self.queue.push(at, Event::Packet { from: machine, to: address, sealed });
            }
        }
    }
}
