//! Any part of a site goes at once.

use super::rig::{Rig, State, ms};
use super::switch;
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
