//! Liars, and any order of events.

use super::super::*;
use super::rig::{Rig, ms};
use super::switch;
use proptest::prelude::*;

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
