//! One seed decides everything, and no wall clock has a say.

use sim::World;
use sim::chaos;
use sim::world::{Fault, Setup};
use std::time::Duration;

#[test]
fn the_same_seed_gives_the_same_history_and_another_seed_another() {
    let trace = |seed| {
        let world = chaos::run(seed);
        (world.trace(), world.events(), world.ledger().verdicts().len(), world.ledger().registrations())
    };
    for seed in [3, 4, 5] {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
    assert_ne!(trace(3).0, trace(4).0);
}

#[test]
fn a_step_of_the_wall_clock_changes_nothing_and_a_lost_cable_does() {
    let trace = |fault: Option<Fault>| {
        let mut world = World::new(Setup::new(11, 8));
        world.run(Duration::from_secs(20));
        if let Some(fault) = fault {
            world.apply(fault);
        }
        world.run(Duration::from_secs(40));
        world.trace()
    };
    let undisturbed = trace(None);
    for seconds in [3600, -3600, 1 << 40] {
        assert_eq!(trace(Some(Fault::StepWallClock(3, seconds))), undisturbed, "{seconds} s");
    }
    assert_ne!(trace(Some(Fault::Unplug(3))), undisturbed);
}

#[test]
fn what_a_host_sends_does_not_depend_on_the_size_of_the_site() {
    let rate = |hosts| {
        let setup = Setup { hosts_per_place: 10, ..Setup::new(5, hosts) };
        let mut world = World::new(setup);
        assert!(world.run_until_whole(Duration::from_secs(120)), "{hosts} hosts");
        world.run(Duration::from_secs(45));
        let steady = world.check_steady(Duration::from_secs(10));
        assert!(world.ledger().violations().is_empty(), "{:?}", world.ledger().violations());
        assert_eq!(steady.cma_events_per_minute, 0.0);
        steady.packets_per_host_second
    };
    let (few, many) = (rate(30), rate(600));
    assert!((few - many).abs() / few < 0.05, "{few} packets a second with 30 hosts, {many} with 600");
    assert!(many <= 4.0);
}
