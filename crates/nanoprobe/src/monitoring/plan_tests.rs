//! Which monitors there are, which runs next, and what survives.

use super::super::state::{FLAP_WINDOW, State};
use super::super::testing::service;
use super::*;
use proptest::prelude::*;

const SETTINGS: Settings = Settings { flap_changes: 6, forget: Duration::from_secs(24 * 3600) };

fn at(seconds: u64) -> Moment {
    Moment { now: Duration::from_secs(seconds), wall: Timestamp(seconds as i64 * 1_000_000) }
}

/// A host whose processes and removed services the test says.
#[derive(Default)]
struct Found {
    listening: BTreeSet<String>,
    removed: BTreeSet<String>,
    units: BTreeMap<String, String>,
}

impl Found {
    fn of(monitors: &[Monitor]) -> Self {
        let key = |monitor: &Monitor| match &monitor.target {
            Target::Service { process, .. } => Some(process.clone()),
            Target::Host => None,
        };
        Self { listening: monitors.iter().filter_map(key).collect(), ..Self::default() }
    }

    fn set(&self, plan: &mut Plan, chosen: &[Monitor], moment: Moment) -> Vec<Change> {
        let is_removed = |monitor: &Monitor, _: Option<&str>| self.removed.contains(&monitor.name);
        let findings = Findings { listening: &self.listening, is_removed: &is_removed, units: &self.units };
        plan.set(chosen.to_vec(), &findings, moment)
    }
}

fn set(plan: &mut Plan, chosen: &[Monitor], moment: Moment) -> Vec<Change> {
    Found::of(chosen).set(plan, chosen, moment)
}

fn gone(changes: &[Change]) -> Vec<String> {
    let name = |change: &Change| match change {
        Change::Gone(monitor) => Some(monitor.name.clone()),
        Change::Told(_) => None,
    };
    changes.iter().filter_map(name).collect()
}

fn state(plan: &Plan, monitor: &Monitor) -> Option<State> {
    plan.state(&monitor.name).map(|(_, told)| told.state)
}

/// Runs what is due, with one answer for all, and gives the names in order.
fn run(plan: &mut Plan, moment: Moment, outcome: &Outcome) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(run) = plan.start(moment.now) {
        plan.finished(&run.monitor.name, run.number, outcome.clone(), false, moment);
        names.push(run.monitor.name.clone());
    }
    names
}

#[test]
fn first_runs_are_spread_and_then_counted_from_completion() {
    let mut plan = Plan::new(SETTINGS);
    let monitors: Vec<Monitor> = (1..=200).map(|port| service(Class::Tcp, "x", port)).collect();
    set(&mut plan, &monitors, at(100));
    let mut first = BTreeMap::new();
    for tenth in 1000..1160 {
        let moment = Moment { now: Duration::from_millis(tenth * 100), wall: Timestamp(0) };
        for name in run(&mut plan, moment, &Outcome::up("")) {
            let earlier = first.insert(name, tenth);
            assert!(earlier.is_none_or(|earlier| tenth - earlier >= 150), "{earlier:?} {tenth}");
        }
    }
    assert_eq!(first.len(), 200, "all within one repeat");
    let last_quarter = first.values().filter(|tenth| (1112..1150).contains(*tenth)).count();
    assert!((25..80).contains(&last_quarter), "{last_quarter}");
    let mut again = Plan::new(SETTINGS);
    set(&mut again, &monitors, at(100));
    assert!(again.next_wakeup().is_some());
    // From completion: a check that took 40 s is not repeated at once.
    let one = service(Class::Tcp, "y", 1);
    let mut plan = Plan::new(SETTINGS);
    set(&mut plan, std::slice::from_ref(&one), at(0));
    let started = plan.start(Duration::from_secs(15)).unwrap();
    assert_eq!(plan.next_wakeup(), None, "one at a time for one monitor");
    plan.finished(&one.name, started.number, Outcome::up(""), false, at(55));
    assert_eq!(plan.next_wakeup(), Some(Duration::from_secs(70)));
    assert_eq!(state(&plan, &one), Some(State::Warn), "40 s are slow");
}

#[test]
fn a_few_at_once_and_what_is_stuck_holds_up_nobody_but_itself() {
    let mut plan = Plan::new(SETTINGS);
    let monitors: Vec<Monitor> = (1..=10).map(|port| service(Class::Nagios, "x", port)).collect();
    set(&mut plan, &monitors, at(0));
    let now = Duration::from_secs(60);
    let running: Vec<Run> = std::iter::from_fn(|| plan.start(now)).collect();
    assert_eq!((running.len(), plan.next_wakeup()), (AT_ONCE, None));
    let stuck = &running[0];
    assert!(plan.finished(&stuck.monitor.name, stuck.number, Outcome::down("hangs"), true, at(61)));
    let next = plan.start(now).unwrap();
    assert!(running.iter().all(|run| run.monitor.name != next.monitor.name));
    for run in running.iter().skip(1).chain([&next]) {
        plan.finished(&run.monitor.name, run.number, Outcome::up(""), false, at(61));
    }
    let ran = run(&mut plan, at(600), &Outcome::up(""));
    assert_eq!(ran.len(), 9);
    assert!(!ran.contains(&stuck.monitor.name), "its last check has not ended");
    assert!(!plan.finished(&stuck.monitor.name, stuck.number + 100, Outcome::up(""), false, at(600)));
    plan.freed(&stuck.monitor.name, stuck.number, at(600).now);
    assert_eq!(state(&plan, &stuck.monitor), Some(State::Down));
    assert!(run(&mut plan, at(615), &Outcome::up("")).contains(&stuck.monitor.name));
    assert_eq!(state(&plan, &stuck.monitor), Some(State::Up));
}

#[test]
fn a_doubtful_service_is_looked_at_again_sooner() {
    let mut plan = Plan::new(SETTINGS);
    let monitor = Monitor { failures: 2, repeat_seconds: 30, ..service(Class::Tcp, "x", 1) };
    set(&mut plan, std::slice::from_ref(&monitor), at(0));
    run(&mut plan, at(60), &Outcome::up(""));
    run(&mut plan, at(90), &Outcome::down(""));
    assert_eq!((state(&plan, &monitor), plan.next_wakeup()), (Some(State::Up), Some(at(100).now)));
    run(&mut plan, at(100), &Outcome::down(""));
    assert_eq!((state(&plan, &monitor), plan.next_wakeup()), (Some(State::Down), Some(at(130).now)));
}

#[test]
fn a_crashed_service_is_told_and_forgotten_only_in_the_end() {
    let mut plan = Plan::new(SETTINGS);
    let monitor = service(Class::Tcp, "x", 1);
    set(&mut plan, std::slice::from_ref(&monitor), at(0));
    run(&mut plan, at(15), &Outcome::up(""));
    assert_eq!(set(&mut plan, &[], at(20)), []);
    assert_eq!(run(&mut plan, at(30), &Outcome::down("gone")), std::slice::from_ref(&monitor.name));
    assert_eq!(state(&plan, &monitor), Some(State::Down));
    // It comes back: the time of grace begins anew.
    set(&mut plan, std::slice::from_ref(&monitor), at(20 + 23 * 3600));
    run(&mut plan, at(40 + 23 * 3600), &Outcome::up(""));
    assert_eq!(state(&plan, &monitor), Some(State::Up));
    assert_eq!(set(&mut plan, &[], at(25 * 3600)), []);
    assert_eq!(set(&mut plan, &[], at(49 * 3600 - 1)), []);
    assert_eq!(gone(&set(&mut plan, &[], at(49 * 3600))), [monitor.name]);
    assert_eq!(plan.next_wakeup(), None);
}

#[test]
fn a_removed_service_ends_at_once_and_so_does_what_another_monitor_took_over() {
    let mut plan = Plan::new(SETTINGS);
    let (a, b) = (service(Class::Tcp, "a", 1), service(Class::Tcp, "b", 2));
    set(&mut plan, &[a.clone(), b.clone()], at(0));
    run(&mut plan, at(15), &Outcome::up(""));
    let removed = Found { removed: [a.name.clone()].into(), ..Found::of(std::slice::from_ref(&b)) };
    assert_eq!(gone(&removed.set(&mut plan, std::slice::from_ref(&b), at(20))), [a.name]);
    // The process is there as before, under a better agent.
    let better = Monitor {
        class: Class::Nagios,
        name: "web1:nagios:check_b::1".into(),
        agent: "check_b".into(),
        ..b.clone()
    };
    assert_eq!(gone(&set(&mut plan, std::slice::from_ref(&better), at(25))), [b.name]);
    // Nobody is to look after it any more: it listens and is not chosen.
    let found = Found::of(std::slice::from_ref(&better));
    assert_eq!(gone(&found.set(&mut plan, &[], at(30))), [better.name]);
}

#[test]
fn a_service_that_moved_is_no_outage() {
    let mut plan = Plan::new(SETTINGS);
    let old = service(Class::Tcp, "x", 1);
    set(&mut plan, std::slice::from_ref(&old), at(0));
    run(&mut plan, at(15), &Outcome::up(""));
    let new = Monitor {
        target: Target::Service {
            process: "x:other".into(),
            pathname: "/usr/sbin/x".into(),
            listen: vec!["127.0.0.1:2".into()],
        },
        ..service(Class::Tcp, "x", 2)
    };
    assert_eq!(gone(&set(&mut plan, std::slice::from_ref(&new), at(20))), [old.name]);
    run(&mut plan, at(40), &Outcome::up(""));
    assert_eq!(state(&plan, &new), Some(State::Up));
    // Of two of the same kind one crashes: nobody is new, so nobody has moved.
    let second = service(Class::Tcp, "x", 3);
    set(&mut plan, &[new.clone(), second.clone()], at(45));
    run(&mut plan, at(60), &Outcome::up(""));
    assert_eq!(set(&mut plan, std::slice::from_ref(&second), at(65)), []);
    run(&mut plan, at(80), &Outcome::down(""));
    assert_eq!(state(&plan, &new), Some(State::Down));
}

#[test]
fn another_service_of_the_same_program_is_no_successor() {
    let java = |port: u16, rule: &str| Monitor {
        target: Target::Service {
            process: format!("java:{port}"),
            pathname: "/usr/bin/java".into(),
            listen: vec![],
        },
        rule: rule.into(),
        ..service(Class::Tcp, "java", port)
    };
    let unit = |port: u16, unit: &str| (format!("java:{port}"), unit.to_owned());
    for (rule, units, is_successor) in [
        ("fallback:tcp", vec![], false),
        ("kafka.mrule", vec![], true),
        ("fallback:tcp", vec![unit(1, "a.service"), unit(2, "a.service")], true),
        ("fallback:tcp", vec![unit(1, "a.service"), unit(2, "b.service")], false),
        ("kafka.mrule", vec![unit(1, "a.service")], false),
        ("kafka.mrule", vec![unit(2, "a.service")], false),
    ] {
        let mut plan = Plan::new(SETTINGS);
        let (old, new) = ([java(1, rule)], [java(2, rule)]);
        let units: BTreeMap<String, String> = units.into_iter().collect();
        Found { units: units.clone(), ..Found::of(&old) }.set(&mut plan, &old, at(0));
        let changes = Found { units: units.clone(), ..Found::of(&new) }.set(&mut plan, &new, at(1));
        assert_eq!(!gone(&changes).is_empty(), is_successor, "{rule} {units:?}");
    }
}

#[test]
fn one_newcomer_succeeds_one_that_is_missing() {
    let mut plan = Plan::new(SETTINGS);
    let same = |port| Monitor {
        target: Target::Service { process: format!("x:{port}"), pathname: "/x".into(), listen: vec![] },
        ..service(Class::Tcp, "x", port)
    };
    set(&mut plan, &[same(1), same(2)], at(0));
    assert_eq!(gone(&set(&mut plan, &[same(3)], at(1))).len(), 1);
    assert_eq!(plan.monitors().count(), 2);
}

#[test]
fn what_is_left_alone_is_told_once_and_never_run() {
    let mut plan = Plan::new(SETTINGS);
    let skype = service(Class::NeverMon, "skype", 1);
    let changes = set(&mut plan, std::slice::from_ref(&skype), at(0));
    assert_eq!(changes, [Change::Told(skype.name.clone())]);
    assert_eq!((state(&plan, &skype), plan.next_wakeup()), (Some(State::Unmonitored), None));
    assert!(plan.start(at(9999).now).is_none());
    assert_eq!(set(&mut plan, std::slice::from_ref(&skype), at(1)), []);
    assert_eq!(gone(&set(&mut plan, &[], at(2))), [skype.name], "it ended, which is nobody's concern");
}

#[test]
fn another_address_is_told_without_a_change_of_state() {
    let mut plan = Plan::new(SETTINGS);
    let monitor = service(Class::Tcp, "x", 1);
    set(&mut plan, std::slice::from_ref(&monitor), at(0));
    let mut more = monitor.clone();
    if let Target::Service { listen, .. } = &mut more.target {
        listen.push("[::1]:1".into());
    }
    assert_eq!(set(&mut plan, std::slice::from_ref(&more), at(1)), [], "never checked: nothing to say yet");
    run(&mut plan, at(20), &Outcome::up(""));
    assert_eq!(set(&mut plan, std::slice::from_ref(&monitor), at(21)), [Change::Told(monitor.name.clone())]);
    let slower = Monitor { repeat_seconds: 60, ..monitor.clone() };
    assert_eq!(set(&mut plan, std::slice::from_ref(&slower), at(22)), []);
    assert_eq!(plan.state(&monitor.name).unwrap().0.repeat_seconds, 60);
}

#[test]
fn after_a_reboot_what_does_not_come_back_is_missed() {
    let mut plan = Plan::new(SETTINGS);
    let (a, b) = (service(Class::Tcp, "a", 1), service(Class::Tcp, "b", 2));
    let units = BTreeMap::from([(format!("a:{:032x}", 1), "a.service".to_owned())]);
    let found = Found { units, ..Found::of(&[a.clone(), b.clone()]) };
    found.set(&mut plan, &[a.clone(), b.clone()], at(0));
    run(&mut plan, at(15), &Outcome::up("fine"));
    let kept: Vec<Kept> = plan.kept().collect();
    assert_eq!((kept.len(), kept[0].unit.as_deref()), (2, Some("a.service")));
    let mut plan = Plan::new(SETTINGS);
    plan.restore(kept, Duration::ZERO);
    // Only one is there soon; it is asked at once, the other after the time that services need to start.
    set(&mut plan, std::slice::from_ref(&a), at(2));
    assert_eq!(run(&mut plan, at(17), &Outcome::up("fine")), std::slice::from_ref(&a.name));
    assert_eq!(state(&plan, &a), Some(State::Up));
    assert!(!run(&mut plan, at(59), &Outcome::up("fine")).contains(&b.name));
    run(&mut plan, at(90), &Outcome::down("nobody there"));
    assert_eq!(state(&plan, &b), Some(State::Down));
    let told = plan.state(&b.name).unwrap().1;
    assert_eq!((told.since, told.reason.as_str()), (at(90).wall, "nobody there"));
    let asked = std::cell::RefCell::new(Vec::new());
    let is_removed = |monitor: &Monitor, unit: Option<&str>| {
        asked.borrow_mut().push((monitor.name.clone(), unit.map(str::to_owned)));
        false
    };
    let (listening, units) = (BTreeSet::new(), BTreeMap::new());
    plan.set(Vec::new(), &Findings { listening: &listening, is_removed: &is_removed, units: &units }, at(99));
    let expected = [(a.name, Some("a.service".to_owned())), (b.name, None)];
    assert_eq!(asked.into_inner(), expected, "the unit was kept");
}

#[test]
fn names_without_end_fill_no_memory() {
    let mut plan = Plan::new(SETTINGS);
    for round in 0..30_u16 {
        let chosen: Vec<Monitor> = (0..200)
            .map(|number| {
                let port = round * 200 + number;
                Monitor {
                    target: Target::Service {
                        process: format!("p:{port}"),
                        pathname: format!("/p{port}"),
                        listen: vec![],
                    },
                    ..service(Class::Tcp, "x", port)
                }
            })
            .collect();
        set(&mut plan, &chosen, at(u64::from(round)));
        assert!(plan.monitors().count() <= 2 * MAX_MONITORS);
        assert!(chosen.iter().all(|monitor| plan.entries.contains_key(&monitor.name)), "the newest stay");
    }
    let many: Vec<Monitor> = (0..2000).map(|port| service(Class::Tcp, "y", port)).collect();
    set(&mut plan, &many, at(99));
    assert!(plan.monitors().count() <= 2 * MAX_MONITORS);
}

proptest! {
    /// Whatever is chosen, checked and lost in whatever order: one check at a time for each monitor, few at once, nothing of
    /// what is chosen is missing, nothing runs later than its repeat, and everything that is told exists.
    #[test]
    fn any_history(
        steps in prop::collection::vec((0..4_u8, any::<u8>(), 0..40_u64), 1..150),
    ) {
        let mut plan = Plan::new(SETTINGS);
        let monitors: Vec<Monitor> = (0..8).map(|port| service(Class::Tcp, "x", port)).collect();
        let mut running: Vec<Run> = Vec::new();
        let mut stuck: Vec<Run> = Vec::new();
        let mut seconds = 0;
        for (kind, choice, wait) in steps {
            seconds += wait;
            let moment = at(seconds);
            match kind {
                0 => {
                    let chosen: Vec<Monitor> = (monitors.iter().enumerate())
                        .filter(|(bit, _)| choice & (1 << bit) != 0)
                        .map(|(_, monitor)| monitor.clone())
                        .collect();
                    for change in set(&mut plan, &chosen, moment) {
                        if let Change::Told(name) = change {
                            prop_assert!(plan.state(&name).is_some());
                        }
                    }
                    prop_assert!(chosen.iter().all(|monitor| plan.entries.contains_key(&monitor.name)));
                }
                1 => {
                    while let Some(run) = plan.start(moment.now) {
                        let same = |other: &&Run| {
                            other.monitor.name == run.monitor.name
                                && plan.entries[&run.monitor.name].running.is_some_and(|now| now.number == other.number)
                        };
                        prop_assert!(running.iter().chain(&stuck).filter(same).count() == 0);
                        running.push(run);
                        prop_assert!(plan.busy() <= AT_ONCE);
                    }
                }
                2 if !running.is_empty() => {
                    let run = running.remove(usize::from(choice) % running.len());
                    let outcome = if choice & 1 == 0 { Outcome::up("") } else { Outcome::down("") };
                    let is_stuck = choice & 2 != 0;
                    plan.finished(&run.monitor.name, run.number, outcome, is_stuck, moment);
                    if is_stuck {
                        stuck.push(run);
                    }
                }
                3 if !stuck.is_empty() => {
                    let run = stuck.remove(usize::from(choice) % stuck.len());
                    plan.freed(&run.monitor.name, run.number, moment.now);
                }
                _ => {}
            }
            let latest = moment.now + RETURN.max(MAX_SPREAD) + Duration::from_secs(15) + FLAP_WINDOW;
            prop_assert!(plan.next_wakeup().is_none_or(|at| at <= latest));
        }
        for run in stuck {
            plan.freed(&run.monitor.name, run.number, at(seconds).now);
        }
        for run in running {
            plan.finished(&run.monitor.name, run.number, Outcome::up(""), false, at(seconds));
        }
        let names: BTreeSet<String> = plan.monitors().map(|monitor| monitor.name.clone()).collect();
        let ran: BTreeSet<String> = run(&mut plan, at(seconds + 60), &Outcome::up("")).into_iter().collect();
        prop_assert_eq!(ran, names, "nothing is lost");
    }
}
