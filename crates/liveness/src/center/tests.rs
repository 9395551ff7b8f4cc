//! What happens at a site, and what the CMA makes of it.

mod hostile;
mod outages;
mod rig;
mod telling;

use super::*;
use proptest::prelude::*;
use rig::{Rig, State, ms};

fn switch(name: &str) -> Place {
    Place::Switch(name.into())
}

#[test]
fn a_settled_site_says_nothing_to_the_cma_and_asks_for_nothing() {
    let mut rig = Rig::one_place(6);
    rig.run_for(ms(260_000));
    assert!(rig.verdicts.is_empty() && rig.tries == 0 && rig.asks == 0 && rig.is_idle());
    // The CMA hears of nobody for long: it looks for itself, seldom.
    rig.run_for(ms(3_600_000));
    assert!(rig.verdicts.is_empty() && rig.asks == 0 && rig.is_idle());
    assert!((30..=70).contains(&rig.tries), "{} tries in an hour", rig.tries);
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
fn many_nanoprobes_that_die_together_are_one_outage() {
    let mut rig = Rig::one_place(30);
    rig.kill(&[3, 9, 14, 20], State::NanoprobeDead);
    rig.run_for(ms(30_000));
    assert_eq!((rig.causes(), rig.given_up()), (vec![Cause::NanoprobeDied], vec![3, 9, 14, 20]));
    let text = rig.verdicts[0].1.evidence.join("; ");
    assert!(
        text.contains("4 hosts fell silent together") && text.contains("none of their nanoprobes"),
        "{text}"
    );
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
    let cut = [(Some(3), Some(2)), (None, Some(3)), (Some(3), None)];
    rig.net = Box::new(move |from, to| !cut.contains(&(from, to)));
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
fn a_site_that_is_gone_as_a_whole_is_noticed() {
    for hosts in [2, 12] {
        let mut rig = Rig::one_place(hosts);
        rig.run_for(ms(400_000));
        rig.kill(&(0..hosts).collect::<Vec<_>>(), State::HostDead);
        rig.run_for(ms(1_200_000));
        assert_eq!(rig.causes(), [Cause::CmaCutOff]);
        assert!(rig.verdicts[0].1.evidence.last().unwrap().contains("nobody was heard for minutes"));
    }
}

#[test]
fn silence_says_nothing_where_the_cma_never_gets_through() {
    let mut rig = Rig::one_place(12);
    rig.dials = false;
    rig.run_for(ms(3_600_000));
    assert!(rig.verdicts.is_empty(), "{:?}", rig.verdicts);
    // What all partners of a host say is enough; what one says is not.
    rig.kill(&[4], State::HostDead);
    rig.run_for(ms(20_000));
    assert_eq!(rig.given_up(), [4]);
    let cut = [(Some(8), Some(7)), (Some(9), None)];
    rig.net = Box::new(move |from, to| !cut.contains(&(from, to)));
    rig.run_for(ms(120_000));
    assert_eq!(rig.given_up(), [4]);
}

#[test]
fn no_way_to_one_host_is_no_cut_while_others_are_heard() {
    let mut rig = Rig::one_place(8);
    rig.unreached = Reached::WeAreCutOff;
    rig.kill(&[3], State::HostDead);
    rig.run_for(ms(30_000));
    assert_eq!((rig.causes(), rig.given_up()), (vec![Cause::HostDead], vec![3]));
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
            prop_assert!(rig.is_idle());
        }
    }
}
