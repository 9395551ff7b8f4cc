//! What must hold: once a second, when all is well again, and in steady state.

use super::World;
use crate::ledger::Kind;
use crate::machine::Process;
use crate::network::Node;
use crate::peers::Peer;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// IPv4 and UDP headers, and the heartbeat.
const PACKET_BYTES: f64 = 20.0 + 8.0 + 30.0;

/// What a site sends while nothing happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steady {
    /// Heartbeats of a host, the mean over all that run.
    pub packets_per_host_second: f64,
    /// Of the host that sends most.
    pub most_packets_per_second: f64,
    /// IPv4 and UDP headers included.
    pub bytes_per_host_second: f64,
    /// Messages, handshakes and heartbeats that reached the CMA.
    pub cma_events_per_minute: f64,
}

impl World {
    /// Lets time pass and counts what is sent.
    pub fn measure(&mut self, time: Duration) -> Steady {
        self.measure_each(time).0
    }

    /// Also the heartbeats a second of each machine that runs.
    fn measure_each(&mut self, time: Duration) -> (Steady, Vec<(Node, f64)>) {
        let before: Vec<u64> = self.machines.iter().map(|host| host.traffic.packets).collect();
        let cma = |world: &Self| world.cma.messages + world.cma.packets + world.links.dialled;
        let cma_before = cma(self);
        self.run(time);
        let seconds = time.as_secs_f64();
        let each: Vec<(Node, f64)> = (0..)
            .zip(self.machines.iter().zip(&before))
            .filter(|(_, (host, _))| host.process.is_some())
            .map(|(node, (host, before))| (node, (host.traffic.packets - before) as f64 / seconds))
            .collect();
        let mean = each.iter().map(|(_, rate)| rate).sum::<f64>() / (each.len().max(1) as f64);
        let steady = Steady {
            packets_per_host_second: mean,
            most_packets_per_second: each.iter().map(|(_, rate)| *rate).fold(0.0, f64::max),
            bytes_per_host_second: mean * PACKET_BYTES,
            cma_events_per_minute: (cma(self) - cma_before) as f64 * 60.0 / seconds,
        };
        (steady, each)
    }

    pub(crate) fn check(&mut self) {
        let cma_runs = self.cma.running() && !self.cma.paused;
        self.ledger.check(self.now, cma_runs);
    }

    /// For a site where nothing is wrong any more: everybody who runs is in a ring that holds, nobody else is.
    pub fn check_whole(&mut self) {
        for problem in self.problems_of_rings(20) {
            self.ledger.violate(Kind::Rings, self.now, problem);
        }
    }

    /// Whether everybody who runs is in a ring that holds, and nobody else is.
    pub fn is_whole(&self) -> bool {
        self.problems_of_rings(1).is_empty()
    }

    /// Runs until everybody who runs has partners that it hears, at most for `time`. Returns whether that came.
    pub fn run_until_whole(&mut self, time: Duration) -> bool {
        let end = self.now() + time;
        loop {
            self.run(Duration::from_millis(500));
            if self.is_whole() {
                return true;
            }
            if self.now() >= end {
                return false;
            }
        }
    }

    /// For a site where nothing is wrong: every host sends one heartbeat in each interval to each partner, nothing else,
    /// and nothing to the CMA. Where packets are lost, probes and their answers come on top.
    pub fn check_steady(&mut self, time: Duration) -> Steady {
        let (steady, each) = self.measure_each(time);
        let beats = 1000.0 / f64::from(self.setup.config.interval_milliseconds);
        let lost = f64::from(self.network.weather.loss) / 1e6;
        let odd = each.into_iter().find(|(node, rate)| {
            let process = self.machines[*node as usize].process.as_ref();
            let partners = process.map_or(0.0, |process| process.peers.current.len() as f64);
            let expected = partners * beats;
            // One interval may be cut at either end.
            let cut = partners / time.as_secs_f64() + 0.001;
            *rate > expected * (1.0 + 9.0 * lost) + cut || *rate < expected - cut
        });
        if let Some((node, rate)) = odd {
            let text = format!("machine {node} sends {rate:.2} heartbeats a second");
            self.ledger.violate(Kind::Steady, self.now, text);
        }
        let watched_by_cma = self.cma.own_peers().is_some_and(|peers| !peers.current.is_empty());
        // Where packets are lost, hosts say now and then that heartbeats came late.
        if steady.cma_events_per_minute > 0.0 && !watched_by_cma && lost == 0.0 {
            let text = format!("the CMA received {:.1} packets a minute", steady.cma_events_per_minute);
            self.ledger.violate(Kind::Steady, self.now, text);
        }
        steady
    }

    /// The first few.
    fn problems_of_rings(&self, most: usize) -> Vec<String> {
        let mut problems = Vec::new();
        let mut numbers: BTreeMap<u32, Node> = BTreeMap::new();
        for (machine, process) in self.running() {
            let identity = self.machines[machine as usize].identity;
            match self.cma.kept.get(&identity) {
                Some(member) if member.present => {
                    numbers.insert(member.number, machine);
                    if process.peers.own_number != member.number {
                        problems.push(format!("h{identity} does not know its number {}", member.number));
                    }
                }
                _ => problems.push(format!("h{identity} runs and is in no ring")),
            }
        }
        for (identity, member) in &self.cma.kept {
            if member.present && !numbers.contains_key(&member.number) {
                problems.push(format!("h{identity} does not run and is in a ring"));
            }
        }
        for (number, machine) in &numbers {
            if problems.len() >= most {
                break;
            }
            let Some(process) = &self.machines[*machine as usize].process else { continue };
            problems.extend(self.problems_of_partners(*number, *machine, process, &numbers));
        }
        if problems.is_empty() {
            problems.extend(self.falling_apart(&numbers));
        }
        problems
    }

    fn falling_apart(&self, numbers: &BTreeMap<u32, Node>) -> Option<String> {
        let (reached, all) = (self.connected(numbers), numbers.len());
        (reached < all).then(|| format!("the rings fall apart: {reached} of {all} are joined"))
    }

    fn problems_of_partners(
        &self,
        number: u32,
        machine: Node,
        process: &Process,
        numbers: &BTreeMap<u32, Node>,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        if process.peers.current.is_empty() {
            problems.push(format!("machine {machine}, number {number}, has no partner"));
        }
        for peer in &process.peers.current {
            let named = format!("machine {machine}, number {number}, with partner {}", peer.number);
            let other = if peer.number == 0 {
                self.cma.own_peers()
            } else {
                let other = numbers.get(&peer.number).and_then(|node| self.machines.get(*node as usize));
                other.and_then(|host| host.process.as_ref()).map(|process| &process.peers)
            };
            let Some(other) = other else {
                problems.push(format!("{named}: which is not there"));
                continue;
            };
            let back = other.current.iter().find(|back| back.number == number && back.key == peer.key);
            match back {
                None => problems.push(format!("{named}: which does not have it under the same key")),
                Some(back) if !self.hears(peer) || !self.hears(back) => {
                    problems.push(format!("{named}: one does not hear the other"));
                }
                Some(_) => {}
            }
        }
        problems
    }

    fn hears(&self, peer: &Peer) -> bool {
        let patience = 3000 * u64::from(self.setup.config.interval_milliseconds);
        peer.heard.is_some_and(|heard| self.now - heard <= patience)
    }

    /// How many can be reached from the first, going from partner to partner.
    fn connected(&self, numbers: &BTreeMap<u32, Node>) -> usize {
        let mut reached: BTreeSet<u32> = BTreeSet::new();
        let mut next: Vec<u32> = numbers.keys().next().copied().into_iter().collect();
        while let Some(number) = next.pop() {
            let Some(machine) = numbers.get(&number) else { continue };
            if reached.insert(number)
                && let Some(process) = &self.machines[*machine as usize].process
            {
                next.extend(process.peers.current.iter().map(|peer| peer.number));
            }
        }
        reached.len()
    }

    fn running(&self) -> impl Iterator<Item = (Node, &Process)> {
        (0..).zip(&self.machines).filter_map(|(node, host)| Some((node, host.process.as_ref()?)))
    }
}
