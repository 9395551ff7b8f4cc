//! The sender while its CMA cannot be reached: small packets between dials.

#[path = "common/sending.rs"]
mod sending;

use model::message::{Refused, RefusedReason};
use sending::*;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use wire::delivery::{Output, Route, Sender, SenderConfig, Standing};
use wire::hello::ReplyLimiter;

/// Fails each dial after ten seconds, as QUIC does, until `end`; returns the times of dials and hellos, and the last time.
fn behind_a_closed_firewall(sender: &mut Sender, end: Duration) -> (Vec<Duration>, Vec<Duration>, Duration) {
    let (mut dials, mut hellos, mut now) = (Vec::new(), Vec::new(), ZERO);
    let mut what = outputs(sender, now);
    loop {
        for output in std::mem::take(&mut what) {
            match output {
                Output::Dial { connection, .. } => {
                    dials.push(now);
                    now += s(10);
                    sender.handle_dial_failed(now, connection);
                    what.extend(outputs(sender, now));
                }
                Output::SendHello { .. } => hellos.push(now),
                other => panic!("{other:?}"),
            }
        }
        if now >= end {
            return (dials, hellos, now);
        }
        (now, what) = timer(sender);
    }
}

#[test]
fn a_cma_that_cannot_be_reached_is_asked_by_small_packets_and_dialled_when_it_answers() {
    for seed in 0..50 {
        let mut sender = Sender::new(config(&[Route::Dial]), ZERO, seed, 1, []);
        let hour = s(3600);
        let (dials, hellos, mut now) = behind_a_closed_firewall(&mut sender, hour);
        // An hour of it: at most twelve small packets a minute, and a dial every minute or two.
        assert!((240..=720).contains(&hellos.len()), "seed {seed}: {} hellos", hellos.len());
        assert!(dials.len() < 60, "seed {seed}: {} dials", dials.len());
        // Whenever it opens, one of both comes soon: what is sent in the first seven seconds of a dial arrives.
        let mut signs: Vec<Duration> = hellos.iter().chain(&dials).copied().collect();
        signs.extend(dials.iter().map(|dial| *dial + s(7)));
        signs.sort();
        let longest = signs.windows(2).map(|two| two[1] - two[0]).max().unwrap();
        assert!(longest <= s(13), "seed {seed}: nothing was sent for {longest:?}");
        // It opens: the next hello is answered, and the dial comes within a second.
        let answered = loop {
            let (at, what) = timer(&mut sender);
            match what[..] {
                [Output::SendHello { route: 0, .. }] => break at,
                [Output::Dial { connection, .. }] => sender.handle_dial_failed(at + s(10), connection),
                _ => panic!("{what:?}"),
            }
            now = at;
        };
        assert!(answered - now <= s(20), "seed {seed}");
        sender.handle_hello_reply(answered);
        assert!(sender.poll_timeout().unwrap() <= answered + s(1), "seed {seed}");
        assert!(matches!(timer(&mut sender).1[..], [Output::Dial { route: 0, .. }]), "seed {seed}");
    }
}

#[test]
fn who_answers_hellos_but_takes_nobody_is_asked_less_and_less() {
    let quiet = SenderConfig { backoff_max: s(100_000), backoff_min: s(100_000), ..config(&[Route::Dial]) };
    let mut sender = Sender::new(quiet, ZERO, 3, 1, []);
    let mut now = ZERO;
    let fail = |sender: &mut Sender, now: &mut Duration| {
        let what = outputs(sender, *now);
        let [Output::Dial { connection, .. }] = what[..] else { panic!("{what:?}") };
        *now += s(10);
        sender.handle_dial_failed(*now, connection);
    };
    fail(&mut sender, &mut now);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let due = sender.poll_timeout().unwrap();
        pauses.push((due - now).as_secs());
        now = due;
        sender.handle_timeout(now);
        assert!(matches!(outputs(&mut sender, now)[..], [Output::SendHello { .. }]));
        sender.handle_hello_reply(now);
        // A second answer changes nothing.
        let dial_at = sender.poll_timeout().unwrap();
        sender.handle_hello_reply(now);
        assert_eq!(sender.poll_timeout(), Some(dial_at));
        now = dial_at;
        sender.handle_timeout(now);
        fail(&mut sender, &mut now);
    }
    for (round, pause) in pauses.iter().enumerate() {
        let whole = 10 << round.min(5);
        assert!((whole / 2..=whole).contains(pause), "{pauses:?}");
    }
}

#[test]
fn knocks_take_turns_on_routes_and_nobody_knocks_who_was_refused_or_has_nothing_to_say() {
    let mut sender = Sender::new(config(&[Route::Dial, Route::Hello, Route::Dial]), ZERO, 1, 1, []);
    let mut asked = Vec::new();
    for _ in 0..1000 {
        if asked.len() == 9 {
            break;
        }
        let mut what = outputs(&mut sender, ZERO);
        let at = sender.poll_timeout().unwrap();
        if what.is_empty() {
            let was_waiting = sender.standing() == Standing::BackingOff;
            sender.handle_timeout(at);
            what = outputs(&mut sender, at);
            if let [Output::SendHello { route, attempt }] = what[..]
                && was_waiting
                && sender.standing() == Standing::BackingOff
            {
                asked.push((route, attempt));
            }
        }
        for output in what {
            if let Output::Dial { connection, .. } = output {
                sender.handle_dial_failed(at, connection);
            }
        }
    }
    let expected: Vec<_> = (0..9).map(|said| (said % 3, said / 3)).collect();
    assert_eq!(asked, expected);
    // The answer counts for the route that was asked last.
    let at = sender.poll_timeout().unwrap();
    sender.handle_hello_reply(at);
    assert!(matches!(timer(&mut sender).1[..], [Output::Dial { route: 2, .. }]));

    // Refused: a person has to act. Waiting for a welcome in vain, or busy: it is there.
    for reason in [RefusedReason::Pending, RefusedReason::Busy] {
        let slow = SenderConfig { backoff_min: s(1000), backoff_max: s(1000), ..config(&[Route::Dial]) };
        let mut sender = streaming(slow, 1);
        sender.handle_refused(ZERO, ONE, Refused { reason, text: String::new() });
        outputs(&mut sender, ZERO);
        assert!(matches!(timer(&mut sender).1[..], [Output::Dial { .. }]), "{reason:?}");
    }
    // Resting.
    let mut sender = streaming(config(&[Route::Dial]), 0);
    timer(&mut sender);
    assert_eq!((sender.standing(), sender.poll_timeout()), (Standing::Resting, None));
    sender.handle_hello_reply(s(50));
    assert_eq!((outputs(&mut sender, s(50)), sender.standing()), (vec![], Standing::Resting));
}

/// Many hosts that want something of a CMA that is away for two minutes. What reaches it: dials, and hellos, of which it
/// answers as many as it does.
#[test]
fn a_cma_that_comes_back_is_dialled_no_faster_than_it_answers_hellos() {
    const HOSTS: u32 = 20_000;
    const OPENS: u64 = 120;
    let opens = s(OPENS);
    let mut limiter = ReplyLimiter::new(1);
    let mut due = BTreeSet::new();
    let mut hosts: Vec<Sender> = (0..HOSTS)
        .map(|host| {
            // They became aware of it in the course of a minute.
            let start = s(60) * host / HOSTS;
            due.insert((start, host));
            Sender::new(SenderConfig::new(vec![Route::Dial]), start, host.into(), 1, [])
        })
        .collect();
    let (mut hellos, mut dials, mut came) = ([0; 240], [0; 240], [None; HOSTS as usize]);
    while let Some((now, host)) = due.pop_first() {
        if now >= s(240) {
            break;
        }
        let (sender, second) = (&mut hosts[host as usize], now.as_secs() as usize);
        if sender.poll_timeout().is_some_and(|at| at <= now) {
            sender.handle_timeout(now);
        }
        let mut failed = None;
        while let Some(output) = sender.poll_output(now) {
            match output {
                Output::SendHello { .. } => {
                    hellos[second] += 1;
                    let from = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + host));
                    if now >= opens && limiter.allow(from, now) {
                        sender.handle_hello_reply(now);
                    }
                }
                Output::Dial { connection, .. } if now >= opens => {
                    dials[second] += 1;
                    sender.handle_connected(now, connection);
                    sender.handle_welcome(now, connection, 0, Vec::new());
                    came[host as usize] = Some(now);
                }
                // Given up after ten seconds; while it waits for that, nothing is to be seen of it.
                Output::Dial { connection, .. } => failed = Some(connection),
                _ => {}
            }
        }
        let mut again = now;
        if let Some(connection) = failed {
            again = now + s(10);
            sender.handle_dial_failed(again, connection);
        }
        if came[host as usize].is_none() {
            due.insert((again.max(sender.poll_timeout().unwrap_or(again)), host));
        }
    }
    // Before: each says eight words in a minute, or fewer.
    let before = hellos[60..OPENS as usize].iter().max().unwrap();
    assert!(*before <= HOSTS / 7, "{before} hellos in a second");
    // After: two thousand at once and a thousand in each second are let in, and those whose dial was due anyway.
    let most = dials.iter().max().unwrap();
    assert!(*most <= 3_500, "{most} dials in a second");
    let latest = came.iter().map(|came| came.expect("everybody comes")).max().unwrap();
    assert!(latest - opens <= s(40), "the last one came after {:?}", latest - opens);
    eprintln!("{before} hellos and at most {most} dials a second, all there after {:?}", latest - opens);
}
