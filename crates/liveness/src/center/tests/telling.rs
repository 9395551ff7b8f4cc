//! Who is told what, and how often.

use super::super::*;
use super::rig::{Rig, ms};
use super::switch;

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
        assert!((4_000..=8_000).contains(&told), "{told} watches in {seconds} s");
        assert!(center.roster.due().is_none() && center.review.is_none());
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
    assert!(rig.is_idle());
    let before: Vec<_> = rig.hosts.iter().map(|host| host.observer.generation()).collect();
    config.interval_milliseconds = 5_000;
    rig.center.handle_config(rig.now, &config);
    rig.run_for(ms(1_000));
    let after: Vec<_> = rig.hosts.iter().map(|host| host.observer.generation()).collect();
    assert_eq!(after, before.iter().map(|generation| generation + 1).collect::<Vec<_>>());
}

#[test]
fn another_address_is_kept_and_told_to_partners_and_to_the_own_observer() {
    let mut center = Center::new(&HeartbeatConfig::default(), [8; 32], ms(0));
    let mut own = String::new();
    let mut kept = String::new();
    let host = Designation::new("a").unwrap();
    for (round, address) in ["192.0.2.1:1984", "192.0.2.2:1984"].into_iter().enumerate() {
        let now = ms(1_000 * round as u64);
        center.handle_registered(now, &host, Some(Session([1; 16])), Some(round as u64), address);
        center.handle_timeout(now + ms(50));
        while let Some(output) = center.poll_output() {
            match output {
                Output::OwnWatch(watch) => own = watch.partners[0].address.clone(),
                Output::Keep(member) => kept = member.address,
                _ => {}
            }
        }
        assert_eq!((own.as_str(), kept.as_str()), (address, address));
    }
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
    assert!(told(&mut center, ms(200)).is_empty() && center.roster.due().is_none());
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
