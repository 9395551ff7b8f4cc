use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const LIMITS: Limits = Limits { cpu_budget_percent: 0.5, settle: Duration::from_millis(50) };
const FREE: Limits = Limits { cpu_budget_percent: 0.0, settle: Duration::from_millis(50) };

fn milliseconds(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn schedule(repeat_seconds: u64) -> Schedule {
    Schedule { repeat_seconds, ..Schedule::DEFAULT }
}

fn scheduler(limits: Limits, tasks: &[(&str, u64)]) -> Scheduler {
    let mut scheduler = Scheduler::new(limits, 7, Duration::ZERO);
    let tasks: Vec<_> = tasks.iter().map(|(name, repeat)| (name.to_string(), schedule(*repeat))).collect();
    scheduler.set_tasks(&tasks, Duration::ZERO);
    scheduler
}

/// Runs whatever is ready at `now`, each run costing `cost`.
fn run_all(scheduler: &mut Scheduler, now: Duration, cost: Duration) -> Vec<(String, Cause)> {
    let mut ran = Vec::new();
    while let Some((name, cause)) = scheduler.start(now, |_| true) {
        scheduler.finished(&name, cost, now);
        ran.push((name, cause));
    }
    ran
}

/// Advances to `end`, from wake-up to wake-up, and gives the times of all starts.
fn simulate(
    s: &mut Scheduler,
    from: Duration,
    end: Duration,
    cost: Duration,
) -> Vec<(Duration, String, Cause)> {
    let mut starts = Vec::new();
    let mut now = from;
    loop {
        starts.extend(run_all(s, now, cost).into_iter().map(|(name, cause)| (now, name, cause)));
        match s.next_wakeup(now, |_| true) {
            Some(at) if at <= end => {
                assert!(at > now, "woken without progress at {now:?}");
                now = at;
            }
            _ => return starts,
        }
    }
}

#[test]
fn first_runs_are_spread_and_in_order() {
    let mut s = scheduler(FREE, &[("c", 60), ("a", 0), ("b", 60)]);
    let starts = simulate(&mut s, Duration::ZERO, seconds(1), Duration::ZERO);
    let names: Vec<&str> = starts.iter().map(|(_, name, _)| name.as_str()).collect();
    assert_eq!(names, ["c", "a", "b"]);
    assert_eq!(starts[0].0, Duration::ZERO);
    assert!(starts[1].0 > Duration::ZERO && starts[2].0 < SPREAD * 2);
}

#[test]
fn a_delayed_first_run_waits_unless_it_is_triggered_and_later_runs_do_not() {
    let tasks = [("deep".to_string(), schedule(600)), ("asked".to_string(), schedule(600))];
    let mut s = Scheduler::new(FREE, 7, Duration::ZERO);
    s.set_tasks(&tasks, Duration::ZERO);
    for (name, _) in &tasks {
        s.delay_first(name, seconds(300));
        s.delay_first(name, seconds(200));
    }
    s.delay_first("gone", seconds(300));
    assert_eq!(simulate(&mut s, Duration::ZERO, seconds(50), Duration::ZERO), []);
    s.trigger("asked", seconds(50));
    // A new configuration does not start the delay again.
    s.set_tasks(&tasks, seconds(60));
    s.delay_first("asked", seconds(5000));
    let starts = simulate(&mut s, seconds(50), seconds(599), Duration::ZERO);
    let expected = [
        (seconds(50) + FREE.settle, "asked".to_string(), Cause::Trigger),
        (seconds(300), "deep".to_string(), Cause::First),
    ];
    assert_eq!(starts, expected);
    s.delay_first("deep", seconds(5000));
    let later = simulate(&mut s, seconds(599), seconds(901), Duration::ZERO);
    assert!(later.iter().any(|(_, name, cause)| name == "deep" && *cause == Cause::Repeat), "{later:?}");
}

#[test]
fn repeat_zero_runs_once_but_can_be_triggered() {
    let mut s = scheduler(FREE, &[("os", 0)]);
    assert_eq!(simulate(&mut s, Duration::ZERO, seconds(10_000), Duration::ZERO).len(), 1);
    s.trigger("os", seconds(20));
    let starts = simulate(&mut s, seconds(20), seconds(30), Duration::ZERO);
    assert_eq!(starts, [(seconds(20) + LIMITS.settle, "os".to_string(), Cause::Trigger)]);
}

#[test]
fn a_burst_gives_one_run_and_a_lasting_burst_is_cut() {
    let mut s = scheduler(FREE, &[("sshd", 0)]);
    run_all(&mut s, Duration::ZERO, Duration::ZERO);
    (0..4).for_each(|i| s.trigger("sshd", milliseconds(1000 + 10 * i)));
    assert!(s.start(milliseconds(1079), |_| true).is_none());
    assert_eq!(run_all(&mut s, milliseconds(1080), Duration::ZERO).len(), 1);
    assert!(s.start(milliseconds(2000), |_| true).is_none());
    // Every 10 ms for ever: cut after ten settle times.
    let mut runs = 0;
    for at in (3000..4000).step_by(10) {
        s.trigger("sshd", milliseconds(at));
        runs += run_all(&mut s, milliseconds(at), Duration::ZERO).len();
    }
    assert_eq!(runs, 1, "after 500 ms, and the next cut is not over yet");
    assert_eq!(run_all(&mut s, milliseconds(4010), Duration::ZERO).len(), 1);
}

#[test]
fn a_trigger_during_a_run_leads_to_another_run() {
    let mut s = scheduler(FREE, &[("pam", 0)]);
    assert!(s.start(Duration::ZERO, |_| true).is_some());
    s.trigger("pam", seconds(1));
    assert!(s.start(seconds(2), |_| true).is_none(), "never twice at once");
    s.finished("pam", Duration::ZERO, seconds(3));
    assert_eq!(s.start(seconds(3), |_| true), Some(("pam".into(), Cause::Trigger)));
}

#[test]
fn an_empty_budget_delays_triggers_and_loses_none() {
    let mut s = scheduler(LIMITS, &[("cheap", 60), ("dear", 60)]);
    assert_eq!(run_all(&mut s, seconds(1), Duration::ZERO).len(), 2);
    s.trigger("dear", seconds(1));
    let (name, _) = s.start(seconds(2), |_| true).unwrap();
    s.finished(&name, seconds(12), seconds(2));
    s.trigger("cheap", seconds(3));
    assert!(s.start(seconds(4), |_| true).is_none());
    let starts = simulate(&mut s, seconds(4), seconds(2000), milliseconds(1));
    let (at, name, cause) = &starts[0];
    // 10 s of burst less 12 s leaves 2 s of debt: 400 s at 0.5 %.
    assert_eq!((name.as_str(), *cause), ("cheap", Cause::Trigger));
    assert!((at.as_secs_f64() - 402.0).abs() < 5.0, "{at:?}");
}

#[test]
fn a_noisy_dear_instance_does_not_starve_another() {
    let mut s = scheduler(LIMITS, &[("noisy", 60), ("quiet", 60)]);
    let mut quiet_waits = Vec::new();
    let mut triggered = None;
    for at in (0..40_000_000).step_by(500) {
        let now = milliseconds(at);
        s.trigger("noisy", now);
        if at % 600_000 == 300_000 {
            s.trigger("quiet", now);
            triggered = Some(now);
        }
        while let Some((name, _)) = s.start(now, |_| true) {
            if name == "quiet"
                && let Some(since) = triggered.take()
            {
                quiet_waits.push(now - since);
            }
            s.finished(&name, if name == "noisy" { seconds(2) } else { milliseconds(2) }, now);
        }
    }
    assert!(quiet_waits.len() > 50, "{}", quiet_waits.len());
    assert!(quiet_waits.iter().all(|wait| *wait <= seconds(2)), "{quiet_waits:?}");
}

#[test]
fn the_long_run_average_keeps_the_budget() {
    let mut s = scheduler(LIMITS, &[("a", 1), ("b", 1), ("c", 1)]);
    let cost = milliseconds(200);
    let hours = 20;
    let starts = simulate(&mut s, Duration::ZERO, seconds(3600 * hours), cost);
    let spent = cost.as_secs_f64() * starts.len() as f64;
    let allowed = BURST.as_secs_f64() + 18.0 * hours as f64;
    assert!(spent <= allowed + 1.0 && spent >= allowed * 0.8, "{spent} of {allowed}");
    let names: BTreeSet<&str> = starts.iter().rev().take(9).map(|(_, name, _)| name.as_str()).collect();
    assert_eq!(names.len(), 3, "all stretch alike");
}

#[test]
fn slow_runs_are_told_once_per_limit() {
    let mut s = scheduler(FREE, &[("x", 60)]);
    s.start(seconds(1), |_| true).unwrap();
    assert!(s.slow(seconds(120)).is_empty());
    assert_eq!(s.next_wakeup(seconds(2), |_| true), Some(seconds(121)));
    assert_eq!(s.slow(seconds(121)), [Slow::Warn("x".into())]);
    assert_eq!(s.next_wakeup(seconds(122), |_| true), Some(seconds(301)));
    assert_eq!(s.slow(seconds(301)), [Slow::TimedOut("x".into())]);
    assert!(s.slow(seconds(9999)).is_empty());
    assert!(s.start(seconds(9999), |_| true).is_none(), "a stuck run blocks its instance");
    s.finished("x", Duration::ZERO, seconds(10_000));
    assert!(s.start(seconds(10_000), |_| true).is_some());
}

#[test]
fn tasks_change_at_run_time() {
    let mut s = scheduler(FREE, &[("a", 1000), ("b", 1000)]);
    assert!(s.start(seconds(0), |name| name == "a").is_some());
    let kept = [("b".to_string(), schedule(10)), ("c".to_string(), schedule(0))];
    s.set_tasks(&kept, seconds(5));
    assert_eq!(s.instances().collect::<Vec<_>>(), ["b", "c"]);
    s.finished("a", Duration::ZERO, seconds(6));
    s.trigger("a", seconds(6));
    let starts = simulate(&mut s, seconds(6), seconds(16), Duration::ZERO);
    let names: Vec<&str> = starts.iter().map(|(_, name, _)| name.as_str()).collect();
    assert_eq!(names, ["b", "c", "b"]);
}

#[test]
fn a_removed_instance_that_comes_back_while_running_runs_again_afterwards() {
    let mut s = scheduler(FREE, &[("a", 0)]);
    s.start(seconds(0), |_| true).unwrap();
    s.set_tasks(&[], seconds(1));
    s.set_tasks(&[("a".to_string(), schedule(0))], seconds(2));
    assert!(s.start(seconds(3), |_| true).is_none());
    s.finished("a", Duration::ZERO, seconds(4));
    assert_eq!(s.start(seconds(5), |_| true), Some(("a".into(), Cause::First)));
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Trigger(usize),
    TriggerAll,
    Start,
    Finish(usize, u64),
    Tasks(Vec<usize>),
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u64..5_000).prop_map(Step::Wait),
        1 => (5_000u64..900_000).prop_map(Step::Wait),
        4 => (0..NAMES.len()).prop_map(Step::Trigger),
        1 => Just(Step::TriggerAll),
        8 => Just(Step::Start),
        6 => (0..NAMES.len(), 0u64..4_000).prop_map(|(i, cost)| Step::Finish(i, cost)),
        1 => proptest::collection::vec(0..NAMES.len(), 0..5).prop_map(Step::Tasks),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    /// Never two runs at once, wake-ups are honest, and every trigger is followed by a run that starts after it.
    #[test]
    fn promises_hold_whatever_happens(steps in steps(), seed in any::<u64>()) {
        let mut s = Scheduler::new(LIMITS, seed, Duration::ZERO);
        let all: Vec<_> = NAMES.iter().map(|name| (name.to_string(), schedule(60))).collect();
        s.set_tasks(&all, Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut running: BTreeSet<String> = BTreeSet::new();
        let mut owed: BTreeSet<String> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Wait(ms) => now += milliseconds(ms),
                Step::Trigger(i) => {
                    s.trigger(NAMES[i], now);
                    if s.instances().any(|name| name == NAMES[i]) { owed.insert(NAMES[i].into()); }
                }
                Step::TriggerAll => {
                    NAMES.iter().for_each(|name| s.trigger(name, now));
                    owed.extend(s.instances().map(String::from));
                }
                Step::Start => if let Some((name, _)) = s.start(now, |_| true) {
                    prop_assert!(running.insert(name.clone()), "{name} runs twice");
                    owed.remove(&name);
                },
                Step::Finish(i, cost) => if running.remove(NAMES[i]) {
                    s.finished(NAMES[i], milliseconds(cost), now);
                },
                Step::Tasks(kept) => {
                    let kept: BTreeSet<_> = kept.into_iter().collect();
                    let tasks: Vec<_> = kept.iter().map(|i| all[*i].clone()).collect();
                    s.set_tasks(&tasks, now);
                    owed.retain(|name| s.instances().any(|kept| kept == name));
                }
            }
        }
        for name in std::mem::take(&mut running) {
            s.finished(&name, Duration::ZERO, now);
        }
        // Debt is at most an hour's worth, the instance's own bucket takes as long: everything owed runs within 3 h.
        let starts = simulate(&mut s, now, now + seconds(3 * 3600), milliseconds(1));
        for name in owed {
            prop_assert!(starts.iter().any(|(_, ran, _)| *ran == name), "{name} was triggered and never ran");
        }
    }
}
