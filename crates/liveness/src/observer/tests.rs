use super::*;
use model::liveness::{PairKey, Partner as WatchPartner};
use proptest::prelude::*;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Key 1 for everybody.
fn watch(generation: u64, partners: &[HostNumber]) -> Watch {
    let partner = |number: &HostNumber| WatchPartner {
        number: *number,
        designation: format!("host{number}"),
        address: format!("192.0.2.{number}:1984"),
        key: PairKey([1; 32]),
    };
    Watch {
        generation,
        own_number: 99,
        interval_milliseconds: 1000,
        suspect_milliseconds: 1400,
        probe_milliseconds: 700,
        probes: 6,
        partners: partners.iter().map(partner).collect(),
    }
}

/// An observer in virtual time, with partners that answer as the test says.
struct Bench {
    observer: Observer,
    now: Duration,
    /// These send each second and answer probes at once.
    alive: Vec<HostNumber>,
    /// What trying the host of a partner gives.
    tried: Option<Tried>,
    told: Vec<(Duration, Observation)>,
    sent: Vec<(Duration, HostNumber, Beat)>,
}

impl Bench {
    /// All partners alive since long ago.
    fn with(partners: &[HostNumber]) -> Self {
        let mut bench = Self {
            observer: Observer::new(ms(0)),
            now: ms(0),
            alive: partners.to_vec(),
            tried: None,
            told: Vec::new(),
            sent: Vec::new(),
        };
        bench.observer.handle_watch(ms(0), &watch(1, partners));
        bench.run_to(ms(5_000));
        assert!(bench.told.is_empty(), "{:?}", bench.told);
        bench.sent.clear();
        bench
    }

    /// Partners beat at 0.5 s past each second.
    fn run_to(&mut self, end: Duration) {
        loop {
            self.drain();
            let next_beat = ms((self.now.as_millis() as u64 + 500) / 1000 * 1000 + 500);
            let due = self.observer.poll_timeout().map_or(next_beat, |due| due.min(next_beat)).max(self.now);
            if due > end {
                self.now = end;
                return;
            }
            self.now = due;
            if due == next_beat {
                for partner in self.alive.clone() {
                    self.observer.handle_beat(due, partner, Beat::Regular);
                }
            }
            self.observer.handle_timeout(due);
            assert!(self.observer.poll_timeout().is_none_or(|next| next > due), "the loop would spin");
        }
    }

    /// The process does not run meanwhile.
    fn sleep_to(&mut self, end: Duration) {
        self.now = end;
        self.observer.handle_timeout(end);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.observer.poll_output() {
            match output {
                Output::Send { to, beat } => {
                    self.sent.push((self.now, to, beat));
                    if beat == Beat::Probe && self.alive.contains(&to) {
                        self.observer.handle_beat(self.now, to, Beat::Answer);
                    }
                }
                Output::Try { to } => {
                    if let Some(tried) = self.tried {
                        self.observer.handle_tried(self.now, to, tried);
                    }
                }
                Output::Tell { generation, observation } => {
                    assert_eq!(generation, self.observer.generation());
                    self.told.push((self.now, observation));
                }
            }
        }
    }

    fn sights(&self) -> Vec<(HostNumber, Sight)> {
        self.told.iter().map(|(_, seen)| (seen.about, seen.sight)).collect()
    }

    fn probes(&self, to: HostNumber) -> usize {
        self.sent.iter().filter(|(_, number, beat)| *number == to && *beat == Beat::Probe).count()
    }
}

#[test]
fn a_calm_minute_costs_one_packet_a_second_and_partner() {
    let mut bench = Bench::with(&[1, 2, 3, 4]);
    bench.run_to(ms(65_000));
    assert_eq!(bench.sent.len(), 4 * 60);
    assert!(bench.sent.iter().all(|(_, _, beat)| *beat == Beat::Regular));
    assert!(bench.told.is_empty());
}

#[test]
fn a_silent_partner_is_probed_and_then_told() {
    let mut bench = Bench::with(&[1, 2]);
    bench.alive = vec![2];
    bench.run_to(ms(7_000));
    assert_eq!(bench.probes(1), 6);
    let (at, seen) = bench.told[0].clone();
    // Last heard at 4.5 s, suspected at 5.9, told after 0.7 s of probing (in six equal parts).
    assert!(at >= ms(6_599) && at <= ms(6_600), "{at:?}");
    assert_eq!((seen.about, seen.sight, seen.probes, seen.doubt), (1, Sight::Silent, 6, 0));
    assert!((2_099..=2_100).contains(&seen.silent_milliseconds), "{seen:?}");
    assert_eq!(seen.port, PortState::Silent);
}

#[test]
fn it_is_told_again_with_growing_pauses() {
    let mut bench = Bench::with(&[1, 2]);
    bench.alive = vec![2];
    bench.run_to(ms(120_000));
    let pauses: Vec<u128> = bench.told.windows(2).map(|two| (two[1].0 - two[0].0).as_millis()).collect();
    assert_eq!(pauses, [1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    assert!(bench.sights().iter().all(|sight| *sight == (1, Sight::Silent)));
    // Under a new watch at once.
    bench.observer.handle_watch(bench.now, &watch(2, &[1, 2]));
    bench.run_to(bench.now);
    assert_eq!(bench.told.last().unwrap().0, bench.now);
}

#[test]
fn one_answer_to_a_probe_ends_the_suspicion() {
    let mut bench = Bench::with(&[1, 2]);
    bench.alive = vec![2];
    bench.run_to(ms(6_000));
    assert_eq!(bench.probes(1), 1);
    bench.alive = vec![1, 2];
    bench.run_to(ms(10_000));
    assert_eq!(bench.sights(), [], "one lost heartbeat is not worth a connection to the CMA");
    bench.alive = vec![2];
    while bench.probes(1) < 5 {
        bench.run_to(bench.now + ms(50));
    }
    bench.alive = vec![1, 2];
    bench.run_to(ms(16_000));
    assert_eq!(bench.sights(), [(1, Sight::Late)]);
    assert!(bench.told[0].1.silent_milliseconds >= 1400);
    assert!(bench.told[0].1.probes >= 3);
    // It goes on being late; one word is enough for a while.
    for second in (20..100).step_by(10) {
        bench.alive = vec![2];
        bench.run_to(ms(second * 1000 + 1_800));
        bench.alive = vec![1, 2];
        bench.run_to(ms(second * 1000 + 9_000));
    }
    assert!(bench.sights().iter().filter(|(_, sight)| *sight == Sight::Late).count() == 1);
}

#[test]
fn a_refused_port_ends_the_burst_early() {
    let mut bench = Bench::with(&[1, 2]);
    bench.alive = vec![2];
    bench.tried = Some(Tried { port: PortState::Refused, echo: Some(true) });
    bench.run_to(ms(6_200));
    let (at, seen) = bench.told[0].clone();
    assert!(at < ms(6_150), "{at:?}");
    assert_eq!((seen.probes, seen.port, seen.echo), (2, PortState::Refused, Some(true)));
}

#[test]
fn a_partner_that_comes_back_is_told_alive_once() {
    let mut bench = Bench::with(&[1, 2]);
    bench.alive = vec![2];
    bench.run_to(ms(8_000));
    bench.alive = vec![1, 2];
    bench.run_to(ms(20_000));
    assert_eq!(bench.sights(), [(1, Sight::Silent), (1, Sight::Silent), (1, Sight::Alive)]);
}

#[test]
fn a_new_partner_has_time_to_learn_its_key_but_not_for_ever() {
    let mut bench = Bench::with(&[1, 2]);
    bench.observer.handle_watch(bench.now, &watch(2, &[1, 2, 3]));
    bench.run_to(ms(10_000));
    assert!(bench.told.is_empty());
    assert_eq!(bench.probes(3), 0);
    bench.run_to(ms(14_000));
    assert_eq!(bench.sights(), [(3, Sight::Silent)]);
}

#[test]
fn another_key_or_address_begins_anew_and_the_same_does_not() {
    for change in ["key", "address", "nothing"] {
        let mut bench = Bench::with(&[1, 2]);
        bench.alive = vec![2];
        bench.run_to(ms(5_800));
        let mut new = watch(2, &[1, 2]);
        match change {
            "key" => new.partners[0].key = PairKey([2; 32]),
            "address" => new.partners[0].address = "192.0.2.111:40000".into(),
            _ => {}
        }
        bench.observer.handle_watch(bench.now, &new);
        bench.run_to(ms(13_000));
        assert_eq!(bench.told.is_empty(), change != "nothing", "{change}");
        bench.run_to(ms(14_000));
        assert!(!bench.told.is_empty(), "{change}");
    }
}

#[test]
fn an_older_watch_is_ignored() {
    let mut bench = Bench::with(&[1]);
    bench.observer.handle_watch(bench.now, &watch(5, &[2]));
    bench.observer.handle_watch(bench.now, &watch(4, &[3]));
    bench.observer.handle_watch(bench.now, &watch(5, &[3]));
    assert_eq!(bench.observer.generation(), 5);
    assert_eq!(bench.observer.partners[0].number, 2);
}

#[test]
fn a_goodbye_is_not_a_suspicion_unless_nothing_follows() {
    let mut bench = Bench::with(&[1, 2]);
    bench.alive = vec![2];
    bench.observer.handle_beat(ms(5_100), 1, Beat::Stopping);
    // Overtaken on the way.
    bench.observer.handle_beat(ms(5_150), 1, Beat::Regular);
    bench.run_to(ms(10_000));
    assert!(bench.told.is_empty() && bench.probes(1) == 0);
    bench.run_to(ms(19_000));
    assert_eq!(bench.sights(), [(1, Sight::Stopping)]);
    // Nobody told this host otherwise: it is like any other that is silent.
    bench.run_to(ms(21_000));
    assert_eq!(bench.sights(), [(1, Sight::Stopping), (1, Sight::Silent)]);
}

#[test]
fn a_question_is_answered_by_a_burst() {
    let mut bench = Bench::with(&[1, 2]);
    bench.observer.handle_ask(bench.now, Ask { question: 7, about: 1 });
    bench.run_to(ms(5_100));
    assert_eq!((bench.sights(), bench.told[0].1.question), (vec![(1, Sight::Alive)], Some(7)));
    bench.alive = vec![2];
    bench.observer.handle_ask(bench.now, Ask { question: 8, about: 1 });
    bench.run_to(ms(5_790));
    assert_eq!(bench.told.len(), 1);
    bench.run_to(ms(5_800));
    assert_eq!((bench.sights()[1], bench.told[1].1.question), ((1, Sight::Silent), Some(8)));
    // What is known is said at once.
    bench.observer.handle_ask(bench.now, Ask { question: 9, about: 1 });
    bench.run_to(ms(5_800));
    assert_eq!((bench.sights()[2], bench.told[2].1.question), ((1, Sight::Silent), Some(9)));
    // Of others this host knows nothing.
    bench.observer.handle_ask(bench.now, Ask { question: 10, about: 3 });
    bench.run_to(ms(5_800));
    assert_eq!(bench.told.len(), 3);
}

#[test]
fn a_question_about_a_partner_that_was_never_heard_waits_for_its_time() {
    let mut bench = Bench::with(&[1]);
    bench.observer.handle_watch(bench.now, &watch(2, &[1, 3]));
    bench.observer.handle_ask(bench.now, Ask { question: 7, about: 3 });
    bench.run_to(ms(9_000));
    assert!(bench.told.is_empty());
    bench.observer.handle_beat(bench.now, 3, Beat::Regular);
    bench.drain();
    assert_eq!((bench.sights(), bench.told[0].1.question), (vec![(3, Sight::Alive)], Some(7)));
}

#[test]
fn former_partners_are_martians_after_a_moment() {
    let mut bench = Bench::with(&[1, 2]);
    bench.observer.handle_watch(ms(5_000), &watch(2, &[2]));
    bench.run_to(ms(8_400));
    assert!(bench.told.is_empty(), "beats at 5.5 s and 6.5 s were under way, one counts: {:?}", bench.told);
    bench.run_to(ms(8_600));
    assert_eq!(bench.sights(), [(1, Sight::Martian)]);
}

#[test]
fn martians_are_told_at_the_second_and_every_tenth_beat() {
    let mut bench = Bench::with(&[1, 2]);
    bench.alive = vec![2];
    bench.observer.handle_watch(ms(5_000), &watch(2, &[2]));
    bench.run_to(ms(10_000));
    let mut told_at = Vec::new();
    for beat in 1..=25 {
        bench.observer.handle_beat(bench.now, 1, Beat::Regular);
        bench.drain();
        if bench.told.len() > told_at.len() {
            told_at.push(beat);
        }
        bench.run_to(bench.now + ms(1_000));
    }
    assert_eq!(told_at, [2, 12, 22]);
    assert!(bench.sights().iter().all(|sight| *sight == (1, Sight::Martian)));
    // After a pause it is counted anew; a probe is answered, so that it does not suspect this host.
    bench.run_to(bench.now + ms(11_000));
    bench.sent.clear();
    bench.observer.handle_beat(bench.now, 1, Beat::Probe);
    bench.drain();
    assert_eq!(bench.sent, [(bench.now, 1, Beat::Answer)]);
    assert_eq!(bench.told.len(), 3);
    bench.observer.handle_beat(bench.now, 1, Beat::Regular);
    bench.drain();
    assert_eq!(bench.told.len(), 4);
    // Strangers are nobody; neither is who was a partner long ago.
    bench.run_to(ms(700_000));
    for _ in 0..30 {
        bench.observer.handle_beat(bench.now, 1, Beat::Probe);
        bench.observer.handle_beat(bench.now, 77, Beat::Probe);
    }
    bench.sent.clear();
    bench.drain();
    assert_eq!((bench.told.len(), bench.sent.len()), (4, 0));
}

#[test]
fn sixteen_former_partners_are_remembered() {
    let mut bench = Bench::with(&[1]);
    for generation in 2..40 {
        bench.observer.handle_watch(bench.now, &watch(generation, &[generation as HostNumber]));
    }
    bench.now += ms(5_000);
    let now = bench.now;
    let known = (1..40).filter(|number| bench.observer.former.knows(now, *number)).count();
    assert_eq!(known, 16);
    assert!(bench.observer.former.knows(now, 38) && !bench.observer.former.knows(now, 39));
}

#[test]
fn an_observer_that_was_stopped_accuses_nobody() {
    let mut bench = Bench::with(&[1, 2]);
    bench.sleep_to(ms(25_000));
    bench.run_to(ms(60_000));
    assert!(bench.told.is_empty(), "{:?}", bench.told);
    assert_eq!(bench.probes(1), 0);
    // And one who died meanwhile is found all the same.
    bench.alive = vec![2];
    bench.sleep_to(ms(80_000));
    bench.run_to(ms(90_000));
    assert_eq!(bench.sights()[0], (1, Sight::Silent));
    assert!(bench.told[0].1.doubt > 0);
}

#[test]
fn an_observer_that_is_called_late_waits_longer() {
    let mut bench = Bench::with(&[1, 2]);
    for _ in 0..4 {
        let late = bench.observer.poll_timeout().unwrap() + ms(600);
        bench.sleep_to(late);
    }
    let doubt = bench.observer.doubt.level();
    assert!(doubt >= 4, "{doubt}");
    let fresh = Bench::with(&[1, 2]);
    let suspicion = |bench: &Bench| {
        let timing = bench.observer.timing.unwrap();
        bench.observer.due(0, timing).unwrap() - bench.observer.partners[0].counts_from
    };
    assert!(suspicion(&bench) >= suspicion(&fresh) * 2 - ms(1));
    // What is already in the queue is read before anybody is suspected.
    assert!(bench.observer.due(0, bench.observer.timing.unwrap()).unwrap() > bench.now);
    bench.run_to(bench.now + ms(60_000));
    assert_eq!(bench.observer.doubt.level(), 0, "it trusts itself again");
}

#[test]
fn an_observer_that_hears_nobody_waits_longer_and_says_so() {
    let mut bench = Bench::with(&[1, 2, 3]);
    bench.alive.clear();
    bench.run_to(ms(7_200));
    assert!(bench.told.is_empty());
    bench.run_to(ms(10_000));
    let about: Vec<_> = bench.told.iter().map(|(_, seen)| seen.about).take(3).collect();
    assert_eq!(about, [1, 2, 3]);
    assert!(bench.told.iter().all(|(_, seen)| seen.doubt >= 2 && seen.probes >= 12), "{:?}", bench.told);
}

#[test]
fn the_cma_as_partner_is_sent_heartbeats_and_never_suspected() {
    let mut bench = Bench::with(&[CMA]);
    bench.alive.clear();
    bench.run_to(ms(65_000));
    assert_eq!(bench.sent.len(), 60);
    assert!(bench.told.is_empty());
}

#[test]
fn the_last_word_is_goodbye() {
    let mut bench = Bench::with(&[1, 2]);
    bench.observer.stop(bench.now);
    bench.drain();
    assert_eq!(bench.sent, [(bench.now, 1, Beat::Stopping), (bench.now, 2, Beat::Stopping)]);
    assert_eq!(bench.observer.poll_timeout(), None);
    bench.observer.stop(bench.now);
    bench.observer.handle_beat(bench.now, 1, Beat::Probe);
    bench.observer.handle_watch(bench.now, &watch(9, &[3]));
    bench.observer.handle_timeout(ms(90_000));
    assert_eq!(bench.observer.poll_output(), None);
}

#[derive(Debug, Clone)]
enum Input {
    Watch(u64, u32, u32, u32, u32, Vec<(HostNumber, u8)>),
    Ask(u64, HostNumber),
    Beat(HostNumber, u8),
    Tried(HostNumber, bool, Option<bool>),
    Stop,
    Timeout,
    Due,
}

fn input() -> impl Strategy<Value = Input> {
    let number = 0..6u32;
    let time = || prop_oneof![4 => 0..3000u32, 1 => any::<u32>()];
    let partners = proptest::collection::vec((number.clone(), 0..2u8), 0..7);
    prop_oneof![
        3 => (any::<u64>(), time(), time(), time(), time(), partners)
            .prop_map(|(a, b, c, d, e, partners)| Input::Watch(a % 30, b, c, d, e, partners)),
        2 => (any::<u64>(), number.clone()).prop_map(|(question, about)| Input::Ask(question, about)),
        6 => (number.clone(), 0..4u8).prop_map(|(from, beat)| Input::Beat(from, beat)),
        2 => (number, any::<bool>(), any::<Option<bool>>()).prop_map(|(about, port, echo)| Input::Tried(about, port, echo)),
        1 => Just(Input::Stop),
        4 => Just(Input::Timeout),
        12 => Just(Input::Due),
    ]
}

proptest! {
    #[test]
    fn no_inputs_confuse_it(
        inputs in proptest::collection::vec((input(), prop_oneof![6 => 0..2_000u64, 1 => any::<u32>().prop_map(u64::from)]), 1..200)
    ) {
        let mut observer = Observer::new(ms(3));
        let mut now = ms(3);
        for (input, pause) in inputs {
            now += ms(pause);
            match input {
                Input::Watch(generation, interval, suspect, probe, probes, partners) => {
                    let mut new = watch(generation, &partners.iter().map(|(number, _)| *number).collect::<Vec<_>>());
                    new.own_number = 5;
                    new.interval_milliseconds = interval;
                    new.suspect_milliseconds = suspect;
                    new.probe_milliseconds = probe;
                    new.probes = probes;
                    for (partner, (_, key)) in new.partners.iter_mut().zip(&partners) {
                        partner.key = PairKey([*key; 32]);
                    }
                    observer.handle_watch(now, &new);
                }
                Input::Ask(question, about) => observer.handle_ask(now, Ask { question, about }),
                Input::Beat(from, beat) => observer.handle_beat(now, from, Beat::from_byte(beat).unwrap()),
                Input::Tried(about, port, echo) => {
                    let port = if port { PortState::Refused } else { PortState::Unreachable };
                    observer.handle_tried(now, about, Tried { port, echo });
                }
                Input::Stop if pause % 7 == 0 => observer.stop(now),
                Input::Stop | Input::Timeout => {
                    observer.handle_timeout(now);
                    prop_assert!(observer.poll_timeout().is_none_or(|due| due > now));
                }
                Input::Due => {
                    if let Some(due) = observer.poll_timeout() {
                        now = now.max(due);
                        observer.handle_timeout(now);
                        prop_assert!(observer.poll_timeout().is_none_or(|due| due > now));
                    }
                }
            }
            prop_assert!(observer.partners.len() <= MAX_PARTNERS);
            prop_assert!(observer.partners.iter().all(|partner| partner.number != 5));
            let mut outputs = 0;
            while observer.poll_output().is_some() {
                outputs += 1;
            }
            prop_assert!(outputs <= 40, "{outputs} at once");
        }
    }
}

proptest! {
    /// Whoever is heard within each limit is never told silent.
    #[test]
    fn a_partner_that_beats_is_never_accused(offsets in proptest::collection::vec(0..1300u64, 1..100)) {
        let mut observer = Observer::new(ms(0));
        observer.handle_watch(ms(0), &watch(1, &[1]));
        let mut now = ms(0);
        for offset in offsets {
            let beat = now + ms(offset);
            while let Some(due) = observer.poll_timeout().filter(|due| *due < beat) {
                observer.handle_timeout(due);
            }
            observer.handle_beat(beat, 1, Beat::Regular);
            now = beat;
            while let Some(output) = observer.poll_output() {
                prop_assert!(!matches!(output, Output::Tell { .. }), "{output:?}");
            }
        }
    }
}
