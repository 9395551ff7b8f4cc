//! Any part of a site goes at once.

use super::rig::{Rig, State, ms};
use super::switch;
use crate::center::Cause;
use proptest::prelude::*;

fn places() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0..4u8, 5..24)
}

fn site(places: &[u8]) -> Rig {
    Rig::settled(places.len(), |index| switch(&places[index].to_string()))
}

/// Those of `chosen` that exist, so that two hosts at least are left.
fn lost(places: &[u8], chosen: u32) -> Vec<usize> {
    let mut lost: Vec<usize> = (0..places.len()).filter(|index| chosen >> index & 1 == 1).collect();
    lost.truncate(places.len() - 2);
    lost
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn all_that_die_together_are_given_up_and_nobody_else(places in places(), chosen in any::<u32>(), nanoprobes in any::<u32>()) {
        let mut rig = site(&places);
        let lost = lost(&places, chosen);
        for index in &lost {
            // A quarter are nanoprobes that crash at the same moment.
            let state = if nanoprobes >> index & 3 == 0 { State::NanoprobeDead } else { State::HostDead };
            rig.kill(&[*index], state);
        }
        rig.run_for(ms(90_000));
        prop_assert_eq!(rig.given_up(), lost, "{:#?}", &rig.verdicts);
        prop_assert!(rig.is_idle());
    }

    #[test]
    fn all_on_the_other_side_of_a_cut_are_given_up_and_come_back(places in places(), chosen in any::<u32>()) {
        let mut rig = site(&places);
        let lost = lost(&places, chosen);
        let there = lost.clone();
        let side = move |end: Option<usize>| end.is_some_and(|index| there.contains(&index));
        rig.net = Box::new(move |from, to| side(from) == side(to));
        rig.run_for(ms(90_000));
        prop_assert_eq!(rig.given_up(), lost, "{:#?}", &rig.verdicts);
        let verdicts = rig.verdicts.len();
        rig.net = Box::new(|_, _| true);
        rig.run_for(ms(120_000));
        prop_assert_eq!(rig.center.roster.rings.len(), places.len());
        prop_assert_eq!(rig.verdicts.len(), verdicts, "{:#?}", &rig.verdicts);
        prop_assert!(rig.is_idle());
    }

    /// One outage, one verdict; two hosts of different places might have died by chance.
    #[test]
    fn a_cut_is_one_verdict(places in places(), chosen in any::<u32>()) {
        let mut rig = site(&places);
        let lost = lost(&places, chosen);
        let there = lost.clone();
        let side = move |end: Option<usize>| end.is_some_and(|index| there.contains(&index));
        rig.net = Box::new(move |from, to| side(from) == side(to));
        rig.run_for(ms(90_000));
        let most = if lost.len() == 2 { 2 } else { usize::from(!lost.is_empty()) };
        prop_assert!(rig.verdicts.len() <= most, "{:#?}", &rig.verdicts);
    }
}

#[test]
fn a_site_that_died_while_the_cma_was_away_is_noticed_when_it_is_back() {
    for hosts in [2, 12] {
        let mut rig = Rig::one_place(hosts);
        // Long enough to have found out that its packets arrive.
        rig.run_for(ms(400_000));
        rig.kill(&(0..hosts).collect::<Vec<_>>(), State::HostDead);
        rig.restart_center();
        rig.run_for(ms(290_000));
        assert!(rig.verdicts.is_empty(), "the power may be back just now: {:?}", rig.verdicts);
        rig.run_for(ms(900_000));
        assert_eq!(rig.causes(), [Cause::CmaCutOff], "told once");
        assert!(rig.verdicts[0].1.evidence.last().unwrap().contains("they are all gone"));
    }
}

#[test]
fn who_comes_back_in_time_or_is_only_quiet_alarms_nobody_after_a_restart() {
    // Everybody's power is back, and booting takes long.
    let mut rig = Rig::one_place(6);
    rig.run_for(ms(400_000));
    rig.kill(&[0, 1, 2, 3, 4, 5], State::HostDead);
    rig.restart_center();
    rig.run_for(ms(240_000));
    for index in 0..6 {
        rig.restart(index);
        rig.run_for(ms(50));
    }
    rig.run_for(ms(1_200_000));
    assert!(rig.verdicts.is_empty(), "{:?}", rig.verdicts);
    // All the time nobody had anything to say to the CMA.
    rig.restart_center();
    rig.run_for(ms(1_200_000));
    assert!(rig.verdicts.is_empty(), "{:?}", rig.verdicts);
}

#[test]
fn what_was_known_of_the_way_is_forgotten_when_it_proves_wrong() {
    let mut rig = Rig::one_place(6);
    rig.run_for(ms(400_000));
    assert!(rig.center.gets_through());
    // A filter appeared while the CMA was away: a false warning, but only one.
    rig.dials = false;
    rig.restart_center();
    rig.run_for(ms(600_000));
    assert_eq!(rig.causes(), [Cause::CmaCutOff]);
    rig.register(3);
    assert!(!rig.center.gets_through());
    rig.restart_center();
    rig.run_for(ms(1_200_000));
    assert_eq!(rig.verdicts.len(), 1, "{:?}", rig.verdicts);
}

#[test]
fn whether_its_packets_arrive_is_found_out_by_one_round_also_where_there_is_much_to_hear() {
    let mut rig = Rig::one_place(6);
    assert!(!rig.center.gets_through());
    rig.tries = 0;
    for turn in 0..60 {
        rig.restart(turn % 6);
        rig.run_for(ms(20_000));
    }
    assert!(rig.center.gets_through());
    assert!((1..=5).contains(&rig.tries), "{} tries", rig.tries);
}
