//! Directed histories: the bad days that need no real kernel, each with what has to come of it.

use crate::cores::{Cores, Production};
use crate::ledger::{Kind, Told, detection_bound};
use crate::network::{CMA, Node, Weather};
use crate::world::{Fault, Setup, World};
use liveness::center::Cause;
use std::time::Duration;

/// One of them.
#[derive(Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub what: &'static str,
    /// Machines of the site, where nobody says another number, and on each switch.
    pub hosts: usize,
    pub hosts_per_place: usize,
    /// Makes it happen, and judges with [`World::expect`].
    play: fn(&mut World),
}

/// All of them.
pub const ALL: &[Scenario] = &[
    scenario("kill", "kill -9 of one nanoprobe after the other", 10, 10, kill),
    scenario("power-off", "one host after the other loses its power", 20, 5, power_off),
    scenario("stop", "nanoprobes that are stopped on purpose", 12, 6, stop),
    scenario("single", "the only host of a site dies", 1, 1, single),
    scenario("cma-down", "hosts die, and come back, while the CMA is down", 24, 8, cma_down),
    scenario("cma-restart", "the CMA is restarted in the middle of verdicts", 12, 6, cma_restart),
    scenario("cma-pause", "the CMA is stopped for 20 s, and goes on", 12, 6, cma_pause),
    scenario(
        "cma-cut-off",
        "the network of the CMA is gone, hosts die, and it comes back",
        24,
        8,
        cma_cut_off,
    ),
    scenario("sigstop", "a nanoprobe is stopped for 20 s, and goes on", 12, 6, sigstop),
    scenario("suspend", "a laptop is suspended for ten minutes", 12, 6, suspend),
    scenario("overload", "a host that gets the processor seldom", 12, 6, overload),
    scenario("clone", "the disk of a host is copied with its keys, and both run", 12, 6, clone_disk),
    scenario("clone-running", "a running host is copied with its session", 12, 6, clone_running),
    scenario("swap", "two hosts swap their addresses", 12, 6, swap),
    scenario("forged", "heartbeats of a dead host are replayed, others forged", 12, 6, forged),
    scenario("asymmetric", "a host hears one of its partners no more, and only that way", 12, 6, asymmetric),
    scenario("switch", "a switch dies, and comes back", 36, 12, switch),
    scenario("half-switch", "a switch is cut in half", 36, 12, half_switch),
    scenario("split", "a third of the site is cut off", 36, 12, split),
    scenario("blackout", "the whole site loses its power, and gets it back", 36, 12, blackout),
    scenario("loss", "every tenth packet is lost for ten minutes", 10, 10, loss),
];

const fn scenario(
    name: &'static str,
    what: &'static str,
    hosts: usize,
    hosts_per_place: usize,
    play: fn(&mut World),
) -> Scenario {
    Scenario { name, what, hosts, hosts_per_place, play }
}

/// The one of this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Longest that a site may need until everybody has partners.
const SETTLING: Duration = seconds(150);

impl Scenario {
    /// Plays it with the shipped cores; what is wrong is in the world's ledger.
    pub fn run(&self, seed: u64, hosts: Option<usize>) -> World {
        self.run_with(seed, hosts, Box::new(Production), false)
    }

    /// As [`Scenario::run`], with other cores, or with a log for a person.
    pub fn run_with(&self, seed: u64, hosts: Option<usize>, cores: Box<dyn Cores>, log: bool) -> World {
        let hosts = hosts.unwrap_or(self.hosts);
        let mut world = World::with_cores(
            Setup { hosts_per_place: self.hosts_per_place, ..Setup::new(seed, hosts) },
            cores,
        );
        if log {
            world.keep_log();
        }
        world.settle("after power-on");
        // Every connection is closed by now.
        world.run(seconds(35));
        (self.play)(&mut world);
        world
    }
}

impl World {
    /// Notes that a history came to something else than it should.
    pub fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            let now = self.now;
            self.ledger.violate(Kind::Unexpected, now, what());
        }
    }

    /// Lets a minute pass once more and looks whether all is as it should be: the end of most histories.
    fn settle(&mut self, when: &str) {
        if !self.run_until_whole(SETTLING) {
            self.check_whole();
            self.expect(false, || format!("{when}: the rings are not whole after {} s", SETTLING.as_secs()));
        }
    }

    fn finish(&mut self) {
        self.settle("in the end");
        self.run(seconds(70));
        self.check_whole();
        self.check_steady(seconds(20));
    }

    /// Verdicts from this one on, those about nobody left out.
    fn verdicts_since(&self, first: usize) -> Vec<Told> {
        let verdicts = self.ledger().verdicts().iter().skip(first);
        verdicts.filter(|told| !told.hosts.is_empty()).cloned().collect()
    }

    fn verdicts_so_far(&self) -> usize {
        self.ledger().verdicts().len()
    }

    fn expect_no_verdict(&mut self, first: usize) {
        let verdicts = self.verdicts_since(first);
        self.expect(verdicts.is_empty(), || format!("nobody was dead: {verdicts:?}"));
    }

    /// Exactly this one died, for this cause, and was reported within the bound.
    fn expect_death(&mut self, first: usize, machine: Node, cause: &Cause) {
        let verdicts = self.verdicts_since(first);
        let bound = detection_bound(&self.setup().config);
        let right = matches!(&verdicts[..], [told]
            if told.hosts == [machine] && told.cause == *cause && told.latency.is_some_and(|time| time <= bound));
        self.expect(right, || {
            format!("h{machine} died, one {cause:?} within {bound:?} was expected: {verdicts:?}")
        });
    }

    fn hosts(&self) -> u32 {
        self.setup().hosts as u32
    }

    fn of_place(&self, place: u32) -> Vec<Node> {
        (0..self.hosts()).filter(|machine| self.network.place(*machine) == place).collect()
    }
}

/// Verdicts of one site, 95 of 100 within 3 s.
fn expect_quick(world: &mut World) {
    let mut times: Vec<Duration> = world.ledger().verdicts().iter().filter_map(|told| told.latency).collect();
    times.sort_unstable();
    let index = (times.len() * 95).div_ceil(100).saturating_sub(1);
    let p95 = times.get(index).copied();
    world.expect(p95.is_some_and(|p95| p95 <= seconds(3)), || {
        format!("95 of 100 deaths are to be told within 3 s, it took {p95:?} ({} deaths)", times.len())
    });
}

fn kill(world: &mut World) {
    for round in 0..30 {
        let machine = round % world.hosts();
        let first = world.verdicts_so_far();
        world.run(milliseconds(u64::from(round) * 137 % 1000));
        world.apply(Fault::Kill(machine));
        world.run(seconds(10));
        world.expect_death(first, machine, &Cause::NanoprobeDied);
        world.apply(Fault::Start(machine));
        world.run(seconds(20));
    }
    expect_quick(world);
    world.finish();
}

fn power_off(world: &mut World) {
    for round in 0..20 {
        let machine = round % world.hosts();
        let first = world.verdicts_so_far();
        world.run(milliseconds(u64::from(round) * 137 % 1000));
        world.apply(Fault::PowerOff(machine));
        world.run(seconds(10));
        world.expect_death(first, machine, &Cause::HostDead);
        world.apply(Fault::Start(machine));
        world.run(seconds(20));
    }
    expect_quick(world);
    world.finish();
}

fn stop(world: &mut World) {
    let first = world.verdicts_so_far();
    for machine in 0..world.hosts() / 2 {
        world.apply(Fault::Stop(machine));
        world.run(milliseconds(u64::from(machine) * 700));
    }
    world.run(seconds(60));
    world.expect_no_verdict(first);
    world.finish();
}

fn single(world: &mut World) {
    let first = world.verdicts_so_far();
    world.apply(Fault::PowerOff(0));
    world.run(seconds(20));
    world.expect_death(first, 0, &Cause::HostDead);
    world.apply(Fault::Start(0));
    world.finish();
}

fn cma_down(world: &mut World) {
    let first = world.verdicts_so_far();
    world.apply(Fault::KillCma);
    world.run(seconds(2));
    for machine in [1, 9, 17] {
        world.apply(Fault::PowerOff(machine));
        world.run(seconds(1));
    }
    world.run(seconds(300));
    world.apply(Fault::Start(9));
    world.run(seconds(30));
    world.apply(Fault::StartCma);
    world.run(seconds(60));
    let verdicts = world.verdicts_since(first);
    let mut dead: Vec<u32> = verdicts.iter().flat_map(|told| told.hosts.clone()).collect();
    dead.sort_unstable();
    world.expect(dead == [1, 17], || format!("1 and 17 are dead, 9 came back: {verdicts:?}"));
    world.finish();
}

fn cma_restart(world: &mut World) {
    for (round, at) in (0..14).map(|step| 600 + step * 200).enumerate() {
        let machine = (round as u32 * 5) % world.hosts();
        let first = world.verdicts_so_far();
        world.apply(Fault::PowerOff(machine));
        world.run(milliseconds(at));
        world.apply(Fault::KillCma);
        world.run(milliseconds(800));
        world.apply(Fault::StartCma);
        world.run(seconds(45));
        let verdicts = world.verdicts_since(first);
        let right = matches!(&verdicts[..], [told] if told.hosts == [machine]);
        world.expect(right, || {
            format!(
                "h{machine} died, the CMA was killed {at} ms later: one verdict was expected: {verdicts:?}"
            )
        });
        world.apply(Fault::Start(machine));
        world.run(seconds(20));
    }
    world.finish();
}

fn cma_pause(world: &mut World) {
    let first = world.verdicts_so_far();
    world.apply(Fault::PauseCma);
    world.run(seconds(20));
    world.apply(Fault::ContinueCma);
    world.run(seconds(30));
    world.expect_no_verdict(first);
    world.apply(Fault::PowerOff(3));
    world.run(milliseconds(2300));
    world.apply(Fault::PauseCma);
    world.run(seconds(20));
    world.apply(Fault::ContinueCma);
    world.run(seconds(30));
    let verdicts = world.verdicts_since(first);
    world.expect(matches!(&verdicts[..], [told] if told.hosts == [3]), || format!("h3 died: {verdicts:?}"));
    world.finish();
}

fn cma_cut_off(world: &mut World) {
    let first = world.verdicts_so_far();
    // Once its own kernel can tell, once only the silence of everybody.
    for cut in [Fault::Unplug(CMA), Fault::Side(vec![CMA], 1)] {
        world.apply(cut);
        world.run(seconds(60));
        world.expect_no_verdict(first);
        world.apply(Fault::Heal);
        world.run(seconds(40));
        world.expect_no_verdict(first);
    }
    world.apply(Fault::Unplug(CMA));
    world.run(seconds(5));
    world.apply(Fault::PowerOff(5));
    world.run(seconds(60));
    world.expect_no_verdict(first);
    world.apply(Fault::Heal);
    world.run(seconds(60));
    let verdicts = world.verdicts_since(first);
    world.expect(matches!(&verdicts[..], [told] if told.hosts == [5]), || format!("h5 died: {verdicts:?}"));
    world.finish();
}

fn sigstop(world: &mut World) {
    let first = world.verdicts_so_far();
    world.apply(Fault::Pause(4));
    world.run(seconds(20));
    let verdicts = world.verdicts_since(first);
    world.expect(matches!(&verdicts[..], [told] if told.hosts == [4]), || {
        format!("h4 answers nobody for 20 s: {verdicts:?}")
    });
    world.apply(Fault::Continue(4));
    world.run(seconds(30));
    let after = world.verdicts_since(first);
    world.expect(after.len() == 1, || format!("h4 suspects nobody when it goes on: {after:?}"));
    world.finish();
    let present = world.ledger().present();
    world.expect(present == world.setup().hosts, || format!("{present} hosts are up, h4 should be"));
}

fn suspend(world: &mut World) {
    let first = world.verdicts_so_far();
    world.apply(Fault::Suspend(4));
    world.run(seconds(600));
    world.apply(Fault::Resume(4));
    world.run(seconds(60));
    let verdicts = world.verdicts_since(first);
    world.expect(matches!(&verdicts[..], [told] if told.hosts == [4]), || {
        format!("h4 was away, nobody else: {verdicts:?}")
    });
    world.finish();
}

fn overload(world: &mut World) {
    let first = world.verdicts_so_far();
    for round in 0..40u64 {
        world.apply(Fault::Pause(4));
        world.run(milliseconds(200 + round * 331 % 1500));
        world.apply(Fault::Continue(4));
        world.run(milliseconds(50 + round * 97 % 400));
    }
    let verdicts = world.verdicts_since(first);
    let others = verdicts.iter().flat_map(|told| &told.hosts).any(|host| *host != 4);
    world.expect(!others, || format!("only h4 is slow: {verdicts:?}"));
    world.finish();
}

fn clone_disk(world: &mut World) {
    with_clone(world, Fault::CloneDisk(4));
}

fn clone_running(world: &mut World) {
    with_clone(world, Fault::CloneRunning(4));
}

fn with_clone(world: &mut World, fault: Fault) {
    let first = world.verdicts_so_far();
    let copy = world.hosts();
    world.apply(fault);
    world.run(seconds(120));
    let verdicts = world.verdicts_since(first);
    let others = verdicts.iter().flat_map(|told| &told.hosts).any(|host| *host != 4);
    world.expect(!others, || format!("nobody but h4 is there twice: {verdicts:?}"));
    world.apply(Fault::PowerOff(copy));
    // Partners may take the heartbeats of the one for repeated, when its copy has counted further: it is moved, and has
    // other keys.
    world.run(seconds(120));
    world.finish();
}

fn swap(world: &mut World) {
    let first = world.verdicts_so_far();
    world.apply(Fault::SwapAddresses(2, 9));
    world.run(seconds(60));
    world.expect_no_verdict(first);
    world.finish();
}

fn forged(world: &mut World) {
    let first = world.verdicts_so_far();
    world.apply(Fault::Eavesdrop);
    world.run(seconds(30));
    world.apply(Fault::Forge(7, 100));
    world.apply(Fault::PowerOff(4));
    for _ in 0..3 {
        world.run(seconds(1));
        world.apply(Fault::Replay);
        world.apply(Fault::Forge(3, 100));
        world.apply(Fault::Forge(5, 100));
    }
    world.run(seconds(10));
    world.expect_death(first, 4, &Cause::HostDead);
    world.finish();
}

fn asymmetric(world: &mut World) {
    let first = world.verdicts_so_far();
    for other in (0..world.hosts()).filter(|other| *other != 4) {
        // First this one hears one host less after the other, then the other way round.
        world.apply(Fault::Block(other, 4));
        world.run(seconds(12));
        world.apply(Fault::Heal);
        world.apply(Fault::Block(4, other));
        world.run(seconds(12));
        world.apply(Fault::Heal);
    }
    world.expect_no_verdict(first);
    world.finish();
}

fn switch(world: &mut World) {
    let first = world.verdicts_so_far();
    world.apply(Fault::PlaceDown(1));
    world.run(seconds(60));
    let (verdicts, members) = (world.verdicts_since(first), world.of_place(1));
    let place = world.place_of(members[0]);
    let right = matches!(&verdicts[..], [told]
        if told.cause == Cause::PlaceGone(place.clone()) && sorted(&told.hosts) == members);
    world.expect(right, || format!("one verdict for all of {place:?} was expected: {verdicts:?}"));
    world.apply(Fault::Heal);
    world.finish();
}

fn half_switch(world: &mut World) {
    let first = world.verdicts_so_far();
    let half: Vec<Node> = world.of_place(1).into_iter().step_by(2).collect();
    world.apply(Fault::Side(half.clone(), 1));
    world.run(seconds(90));
    let verdicts = world.verdicts_since(first);
    let mut hosts: Vec<u32> = verdicts.iter().flat_map(|told| told.hosts.clone()).collect();
    hosts.sort_unstable();
    world.expect(hosts == half, || format!("{half:?} are cut off: {verdicts:?}"));
    world.expect(verdicts.len() <= 2, || format!("one outage should be one verdict: {verdicts:?}"));
    world.apply(Fault::Heal);
    world.finish();
}

fn split(world: &mut World) {
    let first = world.verdicts_so_far();
    let part: Vec<Node> = (0..world.hosts()).filter(|machine| machine % 3 == 1).collect();
    world.apply(Fault::Side(part.clone(), 1));
    world.run(seconds(120));
    let verdicts = world.verdicts_since(first);
    let mut hosts: Vec<u32> = verdicts.iter().flat_map(|told| told.hosts.clone()).collect();
    hosts.sort_unstable();
    world.expect(hosts == part, || format!("{part:?} are cut off: {verdicts:?}"));
    world.expect(verdicts.len() <= 3, || format!("one outage should be one verdict: {verdicts:?}"));
    world.apply(Fault::Heal);
    world.finish();
}

fn blackout(world: &mut World) {
    for machine in 0..world.hosts() {
        world.apply(Fault::PowerOff(machine));
    }
    world.run(seconds(120));
    for machine in 0..world.hosts() {
        world.after(milliseconds(u64::from(machine) * 400), Fault::Start(machine));
    }
    world.run(seconds(30));
    world.finish();
}

fn loss(world: &mut World) {
    let first = world.verdicts_so_far();
    world.apply(Fault::Weather(Weather { loss: 100_000, ..Weather::default() }));
    let before = world.cma.messages;
    world.run(seconds(600));
    world.expect_no_verdict(first);
    // A host says that heartbeats of a partner come late, once in five minutes; it does not call it silent.
    let (messages, most) = (world.cma.messages - before, u64::from(world.hosts()) * 4 * 4);
    world.expect(messages <= most, || format!("the CMA got {messages} messages in ten minutes"));
    world.apply(Fault::Weather(Weather::default()));
    world.finish();
}

fn sorted(hosts: &[u32]) -> Vec<u32> {
    let mut hosts = hosts.to_vec();
    hosts.sort_unstable();
    hosts
}
