//! A short history of faults from a seed: after each storm everything is mended, and must be whole again.

use crate::cores::{Cores, Production};
use crate::network::{CMA, Weather};
use crate::random::Random;
use crate::world::{Fault, Setup, World};
use std::time::Duration;

/// Everybody has partners after this at the latest, from power-on or from the end of a storm. A nanoprobe that could not
/// reach the CMA, or was called in vain, may need half a minute until it tries again.
const SETTLING: Duration = Duration::from_secs(150);
const STORM: Duration = Duration::from_secs(40);
const STEADY: Duration = Duration::from_secs(20);

/// Lives through one seed's history and judges it; the world holds what was found.
pub fn run(seed: u64) -> World {
    run_with(seed, Box::new(Production), false)
}

/// As [`run`], with other cores, or with a log for a person.
pub fn run_with(seed: u64, cores: Box<dyn Cores>, log: bool) -> World {
    let mut random = Random::new(!seed);
    let hosts = random.between(2, 30) as usize;
    let setup = Setup {
        hosts_per_place: random.between(2, 12) as usize,
        boot_spread: Duration::from_millis(random.below(4000)),
        weather: weather(&mut random),
        ..Setup::new(seed, hosts)
    };
    let calm = setup.weather;
    let mut world = World::with_cores(setup, cores);
    if log {
        world.keep_log();
    }
    world.run_until_whole(SETTLING);
    world.check_whole();
    for fault in storm(&mut random, hosts as u32, places(&world)) {
        world.after(Duration::from_micros(random.below(STORM.as_micros() as u64)), fault);
    }
    world.run(STORM);
    mend(&mut world, hosts as u32, calm);
    world.run_until_whole(SETTLING);
    world.check_whole();
    // Connections that were used lately have to end first.
    world.run(Duration::from_secs(60));
    world.check_steady(STEADY);
    // Whoever is dead now is reported.
    world.run(Duration::from_secs(60));
    world
}

fn places(world: &World) -> u32 {
    world.setup().hosts.div_ceil(world.setup().hosts_per_place) as u32
}

/// From a quiet LAN to one that loses every tenth packet.
fn weather(random: &mut Random) -> Weather {
    match random.below(3) {
        0 => Weather::default(),
        1 => Weather {
            delay_max_microseconds: 30_000,
            reorder: 50_000,
            duplicate: 20_000,
            ..Weather::default()
        },
        _ => Weather { loss: 100_000, ..Weather::default() },
    }
}

/// A few things that go wrong, some of them together.
fn storm(random: &mut Random, hosts: u32, places: u32) -> Vec<Fault> {
    let mut faults = Vec::new();
    for _ in 0..random.between(1, 6) {
        let machine = random.below(hosts.into()) as u32;
        let other = random.below(hosts.into()) as u32;
        let place = random.below(places.into()) as u32;
        match random.below(16) {
            0 | 1 => faults.push(Fault::Kill(machine)),
            2 => faults.push(Fault::PowerOff(machine)),
            3 => faults.extend([Fault::Kill(machine), Fault::Start(machine)]),
            4 => faults.push(Fault::Stop(machine)),
            5 => faults.extend([Fault::Pause(machine), Fault::Continue(machine)]),
            6 => faults.extend([Fault::Suspend(machine), Fault::Resume(machine)]),
            7 => faults.extend([Fault::Unplug(machine), Fault::Plug(machine)]),
            8 => faults.extend([Fault::PlaceDown(place), Fault::PlaceUp(place)]),
            9 => {
                let side = (0..hosts).filter(|_| random.chance(400_000)).collect();
                faults.extend([Fault::Side(side, 1), Fault::Heal]);
            }
            10 | 11 => faults.extend([Fault::Block(machine, other), Fault::Block(other, machine + 1)]),
            12 => faults.extend([Fault::KillCma, Fault::StartCma]),
            13 => faults.extend([Fault::PauseCma, Fault::ContinueCma]),
            14 => faults.extend([Fault::Eavesdrop, Fault::Replay, Fault::Forge(machine, 50)]),
            _ => faults.extend([Fault::Unplug(CMA), Fault::Plug(CMA)]),
        }
    }
    faults
}

/// Mends the network, continues what was held, starts the CMA and half of the dead.
fn mend(world: &mut World, hosts: u32, weather: Weather) {
    world.apply(Fault::Heal);
    world.apply(Fault::Weather(weather));
    world.apply(Fault::StartCma);
    world.apply(Fault::ContinueCma);
    for machine in 0..hosts {
        world.apply(Fault::Resume(machine));
        world.apply(Fault::Continue(machine));
        if machine % 2 == 0 {
            world.apply(Fault::Start(machine));
        }
    }
}
