//! What happens at a site, and what the CMA makes of it.

mod rig;

use super::*;
use proptest::prelude::*;
use rig::{Rig, State, ms};

fn switch(name: &str) -> Place {
    Place::Switch(name.into())
}

#[test]
fn a_settled_site_says_nothing_to_the_cma_and_asks_for_nothing() {
    let mut rig = Rig::one_place(6);
    rig.run_for(ms(600_000));
    assert!(rig.verdicts.is_empty() && rig.tries == 0 && rig.asks == 0);
    assert_eq!(rig.center.poll_timeout(), None);
}

#[test]
fn a_killed_nanoprobe_is_told_at_once() {
    let mut rig = Rig::one_place(6);
    rig.kill(&[3], State::NanoprobeDead);
    rig.run_for(ms(10_000));
    assert_eq!((rig.causes(), rig.given_up()), (vec![Cause::NanoprobeDied], vec![3]));
    let (at, verdict) = &rig.verdicts[0];
    let after = *at - rig.first_silent.unwrap();
    assert!(after <= ms(350), "{after:?} after the first word");
    assert!(verdict.silent_milliseconds >= 1600 && verdict.silent_milliseconds < 2600, "{verdict:?}");
    assert_eq!(
        verdict.evidence,
        [
            "h2 heard nothing from it for 1.6 s and got no answer to 2 probes; the host refuses the port, so the host is there; it says the host answers ping",
            "h4 heard nothing from it for 1.6 s and got no answer to 2 probes; the host refuses the port, so the host is there; it says the host answers ping",
            "the CMA reached the host, but not its nanoprobe",
        ]
    );
    // The ring is closed, and nobody speaks of it any more.
    let number = rig.hosts[3].number;
    assert!(rig.hosts.iter().all(|host| !rig.center.roster.rings.partners(host.number).contains(&number)));
    rig.run_for(ms(300_000));
    assert_eq!(rig.verdicts.len(), 1);
    assert!(!rig.kept[&number].present);
}

#[test]
fn a_dead_host_is_told_after_the_cma_tried() {
    let mut rig = Rig::one_place(6);
    rig.kill(&[3], State::HostDead);
    rig.run_for(ms(10_000));
    assert_eq!((rig.causes(), rig.given_up()), (vec![Cause::HostDead], vec![3]));
    let after = rig.verdicts[0].0 - rig.first_silent.unwrap();
    assert!(after <= ms(1_500), "{after:?}");
    assert!(rig.verdicts[0].1.evidence.last().unwrap().contains("could not reach it"));
}

#[test]
fn one_of_two_is_judged_with_one_witness() {
    let mut rig = Rig::one_place(2);
    rig.kill(&[1], State::HostDead);
    rig.run_for(ms(10_000));
    assert_eq!((rig.causes(), rig.given_up()), (vec![Cause::HostDead], vec![1]));
    // The other is watched by the CMA from now on.
    rig.run_for(ms(10_000));
    rig.kill(&[0], State::NanoprobeDead);
    rig.run_for(ms(20_000));
    assert_eq!(rig.given_up(), [0, 1]);
    assert_eq!(rig.causes()[1], Cause::NanoprobeDied);
}

#[test]
fn a_lone_host_is_watched_by_the_cma_also_after_its_restart() {
    let mut rig = Rig::one_place(1);
    rig.restart_center();
    rig.run_for(ms(30_000));
    assert!(rig.verdicts.is_empty());
    rig.kill(&[0], State::HostDead);
    rig.run_for(ms(10_000));
    assert_eq!(rig.given_up(), [0]);
}

#[test]
fn a_dead_host_that_registers_is_in_a_ring_again() {
    let mut rig = Rig::one_place(5);
    rig.kill(&[2], State::NanoprobeDead);
    rig.run_for(ms(10_000));
    rig.restart(2);
    rig.run_for(ms(30_000));
    assert_eq!(rig.given_up(), [2]);
    assert_eq!(rig.center.roster.rings.partners(rig.hosts[2].number).len(), 2);
    rig.kill(&[2], State::NanoprobeDead);
    rig.run_for(ms(10_000));
    assert_eq!(rig.given_up(), [2, 2]);
}

#[test]
fn a_host_that_was_only_stopped_is_called_and_comes_back() {
    let mut rig = Rig::one_place(5);
    rig.kill(&[2], State::HostDead);
    rig.run_for(ms(20_000));
    assert_eq!(rig.given_up(), [2]);
    rig.kill(&[2], State::Up);
    rig.run_for(ms(30_000));
    assert!(!rig.calls.is_empty());
    assert!(rig.center.roster.is_present(rig.hosts[2].number));
    assert_eq!(rig.verdicts.len(), 1, "{:?}", rig.verdicts);
}

#[test]
fn a_restarted_nanoprobe_is_no_outage() {
    let mut rig = Rig::one_place(5);
    for _ in 0..5 {
        rig.restart(2);
        rig.run_for(ms(20_000));
    }
    // In the middle of a judgement.
    rig.kill(&[2], State::NanoprobeDead);
    while rig.center.cases.is_empty() {
        rig.run_for(ms(10));
    }
    rig.restart(2);
    assert!(rig.center.cases.is_empty());
    rig.run_for(ms(60_000));
    assert!(rig.verdicts.is_empty(), "{:?}", rig.verdicts);
}

#[test]
fn a_goodbye_is_no_outage() {
    let mut rig = Rig::one_place(5);
    rig.goodbye(2);
    rig.run_for(ms(60_000));
    assert!(rig.verdicts.is_empty() && rig.tries == 0);
    assert!(!rig.kept[&rig.hosts[2].number].present);
}

#[test]
fn two_neighbours_that_die_together_are_one_outage() {
    let mut rig = Rig::one_place(12);
    rig.kill(&[4, 5], State::HostDead);
    rig.run_for(ms(30_000));
    assert_eq!((rig.causes(), rig.given_up()), (vec![Cause::Split], vec![4, 5]));
    let text = rig.verdicts[0].1.evidence.join("; ");
    assert!(text.contains("either these hosts lost power together or the network between is cut"), "{text}");
}

#[test]
fn a_host_whose_partners_all_die_with_it_is_found() {
    for dead in [vec![3, 4, 5], vec![2, 3, 4, 5, 6, 7, 8], (1..12).collect::<Vec<_>>()] {
        let mut rig = Rig::one_place(14);
        rig.kill(&dead, State::HostDead);
        rig.run_for(ms(60_000));
        assert_eq!((rig.causes(), rig.given_up()), (vec![Cause::Split], dead));
    }
}

#[test]
fn two_neighbours_whose_nanoprobes_die_are_two_outages() {
    let mut rig = Rig::one_place(12);
    rig.kill(&[4, 5], State::NanoprobeDead);
    rig.run_for(ms(30_000));
    assert_eq!((rig.causes(), rig.given_up()), (vec![Cause::NanoprobeDied; 2], vec![4, 5]));
}

#[test]
fn a_switch_that_dies_is_one_outage() {
    let place = |index| switch(["a", "b", "c", "d"][index % 4]);
    let mut rig = Rig::settled(40, place);
    let dead: Vec<usize> = (0..40).filter(|index| index % 4 == 2).collect();
    rig.kill(&dead, State::HostDead);
    rig.run_for(ms(60_000));
    assert_eq!((rig.causes(), rig.given_up()), (vec![Cause::PlaceGone(switch("c"))], dead));
    let text = rig.verdicts[0].1.evidence.join("; ");
    assert!(text.contains("all hosts at switch c"), "{text}");
}

#[test]
fn a_switch_cut_in_half_is_one_outage() {
    let mut rig = Rig::one_place(20);
    let side = |end: Option<usize>| end.is_some_and(|index| index % 2 == 1);
    rig.net = Box::new(move |from, to| side(from) == side(to));
    rig.run_for(ms(60_000));
    let lost: Vec<usize> = (0..20).filter(|index| index % 2 == 1).collect();
    assert_eq!((rig.causes(), rig.given_up()), (vec![Cause::Split], lost));
    // Mended: both sides find each other, and all come back.
    rig.net = Box::new(|_, _| true);
    rig.run_for(ms(120_000));
    assert_eq!(rig.center.roster.rings.len(), 20);
    assert_eq!(rig.verdicts.len(), 1);
}

#[test]
fn several_places_behind_a_cut_are_one_outage() {
    let place = |index| switch(["a", "b", "c", "d", "e"][index / 6]);
    let mut rig = Rig::settled(30, place);
    let side = |end: Option<usize>| end.is_some_and(|index| index >= 12);
    rig.net = Box::new(move |from, to| side(from) == side(to));
    rig.run_for(ms(60_000));
    assert_eq!((rig.causes(), rig.given_up()), (vec![Cause::Split], (12..30).collect()));
}

#[test]
fn a_link_that_is_dead_one_way_gives_no_verdict() {
    let mut rig = Rig::one_place(6);
    // h2 hears nothing from h3; all others do.
    rig.net = Box::new(|from, to| !(from == Some(3) && to == Some(2)));
    rig.run_for(ms(600_000));
    assert!(rig.verdicts.is_empty(), "{:?}", rig.verdicts);
    assert!(rig.tries < 30, "{} tries in ten minutes", rig.tries);
    assert_eq!(rig.center.notes.len(), 1);
    // It is found all the same when it dies.
    rig.kill(&[3], State::HostDead);
    rig.run_for(ms(10_000));
    assert_eq!(rig.given_up(), [3]);
}

#[test]
fn a_host_that_only_its_neighbours_hear_is_not_given_up() {
    let mut rig = Rig::one_place(6);
    // The CMA cannot reach h3, and h2 does not hear it.
    rig.net = Box::new(|from, to| {
        !(from == Some(3) && to == Some(2))
            && !(from.is_none() && to == Some(3))
            && !(from == Some(3) && to.is_none())
    });
    rig.run_for(ms(120_000));
    assert!(rig.verdicts.is_empty(), "{:?}", rig.verdicts);
}

#[test]
fn nobody_is_given_up_when_the_cma_has_no_network() {
    // The nanoprobe beside the CMA is heard, and nobody else is.
    for (hosts, unreached) in [(12, Reached::Nobody), (12, Reached::WeAreCutOff), (5, Reached::Nobody)] {
        let mut rig = Rig::one_place(hosts);
        rig.unreached = unreached;
        let here = |end: Option<usize>| end.is_none() || end == Some(0);
        rig.net = Box::new(move |from, to| here(from) == here(to));
        rig.run_for(ms(300_000));
        assert_eq!(rig.causes(), [Cause::CmaCutOff], "{:?}", rig.verdicts);
        // It is back, and everybody is where it was.
        rig.unreached = Reached::Nobody;
        rig.net = Box::new(|_, _| true);
        rig.run_for(ms(60_000));
        assert_eq!(rig.verdicts.len(), 1);
        assert_eq!(rig.center.roster.rings.len(), hosts);
        rig.kill(&[3], State::HostDead);
        rig.run_for(ms(60_000));
        assert_eq!(rig.given_up(), [3]);
    }
}

#[test]
fn deaths_while_the_cma_is_away_are_told_afterwards() {
    let mut rig = Rig::one_place(8);
    rig.net = Box::new(|from, to| from.is_some() && to.is_some());
    rig.kill(&[1], State::HostDead);
    rig.run_for(ms(20_000));
    rig.kill(&[4], State::NanoprobeDead);
    rig.run_for(ms(60_000));
    assert!(rig.verdicts.is_empty());
    rig.restart_center();
    rig.net = Box::new(|_, _| true);
    rig.run_for(ms(60_000));
    assert_eq!(rig.given_up(), [1, 4]);
    assert_eq!(rig.verdicts.len(), 2, "{:?}", rig.verdicts);
}

#[test]
fn a_restart_of_the_cma_tells_nobody_anything() {
    let mut rig = Rig::one_place(8);
    let watches = |rig: &Rig| rig.hosts.iter().map(|host| host.watches).collect::<Vec<_>>();
    let before = watches(&rig);
    rig.restart_center();
    for index in 0..8 {
        rig.register(index);
    }
    rig.run_for(ms(60_000));
    assert_eq!(watches(&rig), before);
    // And the next death is found as ever.
    rig.kill(&[3], State::NanoprobeDead);
    rig.run_for(ms(10_000));
    assert_eq!(rig.given_up(), [3]);
}

/// A site of `hosts` on switches of `per_switch`, all powered up within `seconds`; each tells its switch `later` after it
/// registered. Returns the watches told.
fn power_on(center: &mut Center, hosts: u64, per_switch: u64, seconds: u64, later: Duration) -> u64 {
    // In an order that has nothing to do with the switches.
    let nth = |index: u64| index * 7919 % hosts;
    let name = |host: u64| Designation::new(&format!("host{host:06}")).unwrap();
    let at = |index: u64| ms(index * seconds * 1000 / hosts);
    let mut told = 0;
    let mut placed = 0;
    let mut now = ms(0);
    let mut step = |center: &mut Center, until: Duration, now: &mut Duration| {
        while let Some(due) = center.poll_timeout().filter(|due| *due <= until) {
            *now = due.max(*now);
            center.handle_timeout(*now);
            while let Some(output) = center.poll_output() {
                told += u64::from(matches!(output, Output::Tell { .. }));
            }
        }
        *now = until;
    };
    for index in 0..hosts {
        let host = nth(index);
        while placed < index && at(placed) + later <= at(index) {
            step(center, at(placed) + later, &mut now);
            center.handle_place(now, &name(nth(placed)), switch(&format!("s{}", nth(placed) / per_switch)));
            placed += 1;
        }
        step(center, at(index), &mut now);
        let mut session = Session([0; 16]);
        session.0[..8].copy_from_slice(&host.to_be_bytes());
        center.handle_registered(now, &name(host), Some(session), None, "[::ffff:192.0.2.1]:1984");
    }
    for index in placed..hosts {
        step(center, at(index) + later, &mut now);
        center.handle_place(now, &name(nth(index)), switch(&format!("s{}", nth(index) / per_switch)));
    }
    step(center, now + ms(60_000), &mut now);
    told
}

#[test]
fn a_mass_power_on_takes_little_more_than_one_watch_for_each_host() {
    for seconds in [2, 20, 60] {
        let mut center = Center::new(&HeartbeatConfig::default(), [7; 32], ms(0));
        let told = power_on(&mut center, 4_000, 40, seconds, ms(300));
        assert!(told >= 4_000 && told <= 8_000, "{told} watches in {seconds} s");
        assert_eq!(center.poll_timeout(), None);
    }
}

#[test]
fn a_newcomer_at_a_small_site_waits_for_nothing() {
    let mut rig = Rig::one_place(4);
    let mut center =
        Center::restore(&HeartbeatConfig::default(), [7; 32], ms(0), rig.kept.values().cloned().collect());
    let name = Designation::new("new").unwrap();
    center.handle_registered(ms(1_000), &name, Some(Session([9; 16])), None, "192.0.2.99:1984");
    assert_eq!(center.poll_timeout(), Some(ms(1_050)));
    center.handle_timeout(ms(1_050));
    let outputs: Vec<Output> = std::iter::from_fn(|| center.poll_output()).collect();
    let told: Vec<_> = outputs.iter().filter(|output| matches!(output, Output::Tell { .. })).collect();
    assert_eq!(told.len(), 2, "itself, whose place is not known, and who stands for the others: {told:?}");
    // What is told is kept before.
    assert!(outputs[..2].iter().all(|output| matches!(output, Output::Keep(_))), "{outputs:?}");
    rig.run_for(ms(1));
}

#[test]
fn other_times_are_told_to_everybody_and_other_settings_to_nobody() {
    let mut rig = Rig::one_place(4);
    let mut config = HeartbeatConfig { gather_milliseconds: 500, ..HeartbeatConfig::default() };
    rig.center.handle_config(rig.now, &config);
    assert_eq!(rig.center.poll_timeout(), None);
    let before: Vec<_> = rig.hosts.iter().map(|host| host.observer.generation()).collect();
    config.interval_milliseconds = 5_000;
    rig.center.handle_config(rig.now, &config);
    rig.run_for(ms(1_000));
    let after: Vec<_> = rig.hosts.iter().map(|host| host.observer.generation()).collect();
    assert_eq!(after, before.iter().map(|generation| generation + 1).collect::<Vec<_>>());
}

#[test]
fn a_host_that_was_told_more_than_is_remembered_is_told_again() {
    // The database was erased.
    let mut center = Center::new(&HeartbeatConfig::default(), [8; 32], ms(0));
    let told = |center: &mut Center, now| {
        center.handle_timeout(now);
        let outputs = std::iter::from_fn(|| center.poll_output());
        let watches: Vec<_> = outputs
            .filter_map(|output| match output {
                Output::Tell { watch, .. } => Some(watch.generation),
                _ => None,
            })
            .collect();
        watches
    };
    let host = Designation::new("a").unwrap();
    let session = Some(Session([1; 16]));
    center.handle_registered(ms(0), &host, session, Some(41), "192.0.2.1:1984");
    assert_eq!(told(&mut center, ms(50)), [42]);
    // Nothing new: nothing told.
    center.handle_registered(ms(100), &host, session, Some(42), "192.0.2.1:1984");
    assert_eq!((told(&mut center, ms(200)), center.poll_timeout()), (vec![], None));
    // It did not get it: told again.
    center.handle_registered(ms(300), &host, session, Some(7), "192.0.2.1:1984");
    assert_eq!(told(&mut center, ms(300)), [42]);
    // What no CMA ever told is not believed.
    center.handle_registered(ms(400), &host, session, Some(u64::MAX), "192.0.2.1:1984");
    assert_eq!(told(&mut center, ms(1_000)), [42]);
    // A nanoprobe without heartbeats is not watched any more.
    center.handle_registered(ms(2_000), &host, None, None, "192.0.2.1:1984");
    assert!(!center.roster.is_present(1));
}

fn lie(about: HostNumber, sight: Sight) -> Observation {
    Observation {
        about,
        sight,
        silent_milliseconds: 5_000,
        probes: 6,
        port: model::liveness::PortState::Refused,
        echo: Some(true),
        doubt: 0,
        question: Some(1),
    }
}

#[test]
fn liars_kill_nobody_and_fill_nothing() {
    let mut rig = Rig::one_place(8);
    let all: Vec<HostNumber> = rig.hosts.iter().map(|host| host.number).collect();
    for _ in 0..600 {
        // h2 and h4 are all partners of h3; what h6 says of strangers counts for nothing.
        for (liar, about) in [(2, all[3]), (4, all[3]), (6, all[1]), (6, all[6]), (6, 0), (6, 4_000_000)] {
            for sight in [Sight::Silent, Sight::Stopping, Sight::Martian, Sight::Late] {
                let name = rig.hosts[liar].name.clone();
                let generation = rig.hosts[liar].observer.generation();
                rig.center.handle_observation(rig.now, &name, generation, &lie(about, sight));
            }
        }
        rig.run_for(ms(1_000));
        assert!(rig.center.cases.len() <= 2 && rig.center.notes.len() <= 1);
    }
    assert!(rig.verdicts.is_empty(), "{:?}", rig.verdicts);
    // One each thirty seconds, but for the beginning.
    assert!(rig.tries <= 60, "{} tries", rig.tries);
    let watches: usize = rig.hosts.iter().map(|host| host.watches).sum();
    assert!(watches < 600, "{watches} watches");
}

#[test]
fn nobody_makes_the_cma_call_the_whole_site() {
    let mut rig = Rig::one_place(30);
    for index in 1..30 {
        let name = rig.hosts[index].name.clone();
        rig.center.handle_left(rig.now, &name);
    }
    let liar = rig.hosts[0].name.clone();
    for _ in 0..10 {
        for index in 1..30 {
            let observation = lie(rig.hosts[index].number, Sight::Martian);
            rig.center.handle_observation(rig.now, &liar, 1_000, &observation);
        }
    }
    let calls = std::iter::from_fn(|| rig.center.poll_output());
    assert_eq!(calls.filter(|output| matches!(output, Output::Call { .. })).count(), 20);
}

#[test]
fn a_lossy_network_kills_nobody() {
    for seed in 1..6u64 {
        let mut rig = Rig::one_place(8);
        let random = std::cell::Cell::new(seed);
        rig.net = Box::new(move |from, to| {
            // Constants of Knuth's MMIX generator.
            random.set(
                random.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407),
            );
            from.is_none() || to.is_none() || (random.get() >> 33) % 10 != 0
        });
        rig.run_for(ms(600_000));
        assert!(rig.verdicts.is_empty(), "seed {seed}: {:?}", rig.verdicts);
        rig.kill(&[5], State::HostDead);
        rig.run_for(ms(20_000));
        assert_eq!(rig.given_up(), [5], "seed {seed}");
    }
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Kill(usize, State),
    Restart(usize),
    Goodbye(usize),
    CmaRestarts,
    Move(usize, u8),
}

fn fate() -> impl Strategy<Value = Fate> {
    let host = 0..9usize;
    prop_oneof![
        3 => (host.clone(), any::<bool>()).prop_map(|(host, nanoprobe)| {
            Fate::Kill(host, if nanoprobe { State::NanoprobeDead } else { State::HostDead })
        }),
        3 => host.clone().prop_map(Fate::Restart),
        1 => host.clone().prop_map(Fate::Goodbye),
        1 => Just(Fate::CmaRestarts),
        1 => (host, 0..3u8).prop_map(|(host, place)| Fate::Move(host, place)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// One after the other, with time to settle: each death is told once and nobody else's is.
    #[test]
    fn every_death_is_told_once(fates in proptest::collection::vec((fate(), 0..20_000u64), 1..12)) {
        let mut rig = Rig::settled(9, |index| switch(["a", "b"][index % 2]));
        for (fate, pause) in fates {
            let before = rig.given_up().len();
            let alive = |rig: &Rig| rig.hosts.iter().filter(|host| host.state == State::Up).count();
            let mut deaths = vec![];
            match fate {
                Fate::Kill(host, state) if rig.hosts[host].state == State::Up && alive(&rig) > 1 => {
                    rig.kill(&[host], state);
                    deaths.push(host);
                }
                Fate::Restart(host) => rig.restart(host),
                Fate::Goodbye(host) if rig.hosts[host].state == State::Up && alive(&rig) > 1 => rig.goodbye(host),
                Fate::CmaRestarts => rig.restart_center(),
                Fate::Move(host, place) => {
                    let name = rig.hosts[host].name.clone();
                    let place = switch(["a", "b", "c"][usize::from(place)]);
                    rig.center.handle_place(rig.now, &name, place);
                }
                _ => {}
            }
            rig.run_for(ms(20_000 + pause));
            let given_up = rig.verdicts.iter().flat_map(|(_, verdict)| &verdict.hosts).skip(before);
            let given_up: Vec<_> = given_up.map(|host| host.as_str()[1..].parse::<usize>().unwrap()).collect();
            prop_assert_eq!(&given_up, &deaths, "{:?}", &rig.verdicts);
            for host in &rig.hosts {
                let partners = rig.center.roster.rings.partners(host.number);
                prop_assert_eq!(!partners.is_empty(), host.state == State::Up);
                // What it works with is what the CMA thinks.
                if host.state == State::Up {
                    prop_assert_eq!(
                        rig.center.roster.member(host.number).unwrap().generation,
                        host.observer.generation()
                    );
                }
            }
            prop_assert_eq!(rig.center.poll_timeout(), None);
        }
    }
}

#[derive(Debug, Clone)]
enum Input {
    Registered(u8, Option<u8>, Option<u64>, u8),
    Place(u8, u8),
    Left(u8),
    Observation(u8, u64, HostNumber, u8, u32, Option<u64>),
    Own(HostNumber, u8),
    Reached(u8, u8),
    Config(u32, u32),
    Timeout,
    Due,
}

fn input() -> impl Strategy<Value = Input> {
    let host = || 0..12u8;
    prop_oneof![
        4 => (host(), proptest::option::weighted(0.9, 0..3u8), any::<Option<u64>>(), any::<u8>())
            .prop_map(|(host, session, watch, address)| Input::Registered(host, session, watch, address)),
        2 => (host(), 0..4u8).prop_map(|(host, place)| Input::Place(host, place)),
        1 => host().prop_map(Input::Left),
        8 => (host(), any::<u64>(), 0..14u32, 0..5u8, any::<u32>(), any::<Option<u64>>())
            .prop_map(|(from, generation, about, sight, silent, question)| {
                Input::Observation(from, generation, about, sight, silent, question)
            }),
        1 => (0..14u32, 0..5u8).prop_map(|(about, sight)| Input::Own(about, sight)),
        6 => (host(), 0..4u8).prop_map(|(host, reached)| Input::Reached(host, reached)),
        1 => (any::<u32>(), any::<u32>()).prop_map(|(interval, gather)| Input::Config(interval, gather)),
        4 => Just(Input::Timeout),
        8 => Just(Input::Due),
    ]
}

proptest! {
    #[test]
    fn no_inputs_confuse_it(inputs in proptest::collection::vec((input(), 0..3_000u64), 1..150)) {
        let mut center = Center::new(&HeartbeatConfig::default(), [7; 32], ms(0));
        let mut now = ms(0);
        let name = |host: u8| Designation::new(&format!("h{host}")).unwrap();
        let sights = [Sight::Silent, Sight::Alive, Sight::Martian, Sight::Late, Sight::Stopping];
        let reaches = [Reached::Nanoprobe, Reached::HostOnly, Reached::Nobody, Reached::WeAreCutOff];
        let mut kept: BTreeMap<HostNumber, Member> = BTreeMap::new();
        let mut told: BTreeMap<Designation, Watch> = BTreeMap::new();
        for (input, pause) in inputs {
            now += ms(if pause < 1_500 { pause / 10 } else { pause - 1_500 });
            match input {
                Input::Registered(host, session, watch, address) => {
                    let session = session.map(|session| Session([session; 16]));
                    center.handle_registered(now, &name(host), session, watch, &format!("192.0.2.{address}:1984"));
                }
                Input::Place(host, place) => center.handle_place(now, &name(host), switch(&place.to_string())),
                Input::Left(host) => center.handle_left(now, &name(host)),
                Input::Observation(from, generation, about, sight, silent, question) => {
                    let mut observation = lie(about, sights[usize::from(sight)]);
                    observation.silent_milliseconds = silent;
                    observation.question = question;
                    center.handle_observation(now, &name(from), generation, &observation);
                }
                Input::Own(about, sight) => center.handle_own_observation(now, &lie(about, sights[usize::from(sight)])),
                Input::Reached(host, reached) => center.handle_reached(now, &name(host), reaches[usize::from(reached)]),
                Input::Config(interval, gather) => {
                    let config = HeartbeatConfig {
                        interval_milliseconds: interval,
                        gather_milliseconds: gather,
                        probe_milliseconds: gather,
                        ..HeartbeatConfig::default()
                    };
                    center.handle_config(now, &config);
                }
                Input::Timeout => {
                    center.handle_timeout(now);
                    prop_assert!(center.poll_timeout().is_none_or(|due| due > now));
                }
                Input::Due => {
                    if let Some(due) = center.poll_timeout() {
                        now = now.max(due.min(now + ms(100_000)));
                        center.handle_timeout(now);
                        prop_assert!(center.poll_timeout().is_none_or(|due| due > now));
                    }
                }
            }
            let mut outputs = 0;
            while let Some(output) = center.poll_output() {
                outputs += 1;
                match output {
                    Output::Keep(member) => {
                        kept.insert(member.number, member);
                    }
                    Output::Tell { host, watch } => {
                        let member = &kept[&watch.own_number];
                        prop_assert_eq!(&member.designation, &host, "told before it was kept");
                        prop_assert_eq!(member.generation, watch.generation, "told before it was kept");
                        prop_assert!(watch.partners.len() <= crate::rings::MAX_PARTNERS);
                        // The same generation always says the same.
                        if let Some(before) = told.insert(host, watch.clone()).filter(|old| old.generation == watch.generation) {
                            prop_assert_eq!(before, watch);
                        }
                    }
                    Output::Verdict(verdict) => {
                        prop_assert!(!verdict.hosts.is_empty() && !verdict.evidence.is_empty());
                        for host in verdict.hosts.iter().filter(|_| verdict.cause != Cause::CmaCutOff) {
                            let number = center.roster.number(host).unwrap();
                            prop_assert!(!center.roster.is_present(number));
                        }
                    }
                    _ => {}
                }
            }
            prop_assert!(outputs <= 60, "{outputs} at once");
            prop_assert!(center.cases.len() <= 12 && center.notes.len() <= 12);
            prop_assert!(center.cases.keys().all(|host| center.roster.is_present(*host)));
        }
    }
}
