//! The sender's decisions one by one: when it dials, waits, sends and gives up.

#[path = "common/sending.rs"]
mod sending;

use model::message::{Refused, RefusedReason};
use proptest::prelude::*;
use sending::*;
use std::time::Duration;
use wire::delivery::{Closing, ConnectionId, Output, Route, Sender, SenderConfig, Standing};

fn close(connection: u64, reason: Closing) -> Output {
    Output::Close { connection: ConnectionId(connection), reason }
}

#[test]
fn reports_wait_for_the_welcome() {
    let mut sender = Sender::new(config(&[Route::Dial]), ZERO, 1, 5, [100, 100]);
    assert_eq!(outputs(&mut sender, ZERO), [Output::Dial { route: 0, connection: ONE }]);
    sender.handle_connected(ZERO, ONE);
    assert_eq!(outputs(&mut sender, ZERO), [Output::Register { connection: ONE }]);
    sender.handle_ack(ZERO, ONE, 5);
    assert_eq!((sender.queued(), outputs(&mut sender, ZERO)), (2, vec![]));
    let wanted = vec!["_init_sshd".to_owned(), "../passwd".to_owned()];
    sender.handle_welcome(ZERO, ONE, 5, wanted);
    let expected = [
        Output::Forget { through: 5 },
        Output::Wanted { instances: vec!["_init_sshd".into()] },
        Output::Transmit { connection: ONE, sequence: 6 },
    ];
    assert_eq!(outputs(&mut sender, ZERO), expected);
}

#[test]
fn the_window_is_bounded_by_count_and_bytes() {
    let mut sender = streaming(SenderConfig { window_reports: 3, ..config(&[Route::Dial]) }, 5);
    assert_eq!(sender.in_flight(), 3);
    sender.handle_ack(ZERO, ONE, 2);
    assert_eq!(outputs(&mut sender, ZERO).len(), 3, "Forget and two more reports");
    assert_eq!((sender.in_flight(), sender.queued()), (3, 3));
    let sender = streaming(SenderConfig { window_bytes: 250, ..config(&[Route::Dial]) }, 5);
    assert_eq!(sender.in_flight(), 2);
    // One report larger than the window still goes, alone.
    let sender = streaming(SenderConfig { window_bytes: 10, ..config(&[Route::Dial]) }, 5);
    assert_eq!(sender.in_flight(), 1);
}

#[test]
fn a_missing_acknowledgement_closes_and_redials_from_the_start() {
    let mut sender = streaming(config(&[Route::Dial]), 2);
    let (at, what) = timer(&mut sender);
    assert!(at >= s(10) && at < s(11), "{at:?}");
    assert_eq!(what, [close(1, Closing::TimedOut)]);
    let (again, what) = timer(&mut sender);
    assert!(again <= at + s(1));
    assert_eq!(what, [Output::Dial { route: 0, connection: ConnectionId(2) }]);
    sender.handle_connected(again, ConnectionId(2));
    sender.handle_welcome(again, ConnectionId(2), 1, Vec::new());
    let sequences: Vec<_> = outputs(&mut sender, again).into_iter().skip(1).collect();
    let expected =
        [Output::Forget { through: 1 }, Output::Transmit { connection: ConnectionId(2), sequence: 2 }];
    assert_eq!(sequences, expected);
}

#[test]
fn a_large_report_gets_time_for_a_slow_line() {
    let mut sender = Sender::new(config(&[Route::Dial]), ZERO, 1, 1, [16 << 20]);
    sender.handle_connected(ZERO, ONE);
    sender.handle_welcome(ZERO, ONE, 0, Vec::new());
    outputs(&mut sender, ZERO);
    assert_eq!(sender.poll_timeout(), Some(s(10 + 256)));
}

#[test]
fn what_an_older_connection_says_is_ignored() {
    let mut sender = streaming(config(&[Route::Dial]), 2);
    sender.handle_disconnected(s(1), ONE);
    timer(&mut sender);
    sender.handle_connected(s(2), ConnectionId(2));
    for stale in [ONE, ConnectionId(3)] {
        sender.handle_welcome(s(2), stale, 2, Vec::new());
        sender.handle_ack(s(2), stale, 2);
        sender.handle_disconnected(s(2), stale);
        sender.handle_dial_failed(s(2), stale);
    }
    assert_eq!((sender.standing(), sender.queued()), (Standing::Registering, 2));
    sender.handle_welcome(s(2), ConnectionId(2), 0, Vec::new());
    outputs(&mut sender, s(2));
    // It may speak of an earlier incarnation, whose sequences mean other reports.
    sender.handle_ack(s(2), ONE, 1);
    sender.handle_refused(s(2), ONE, Refused { reason: RefusedReason::Busy, text: String::new() });
    sender.handle_farewell(s(2), ONE);
    assert_eq!((sender.standing(), sender.queued(), sender.in_flight()), (Standing::Streaming, 2, 2));
    sender.handle_ack(s(2), ConnectionId(2), 1);
    assert_eq!(sender.queued(), 1);
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_ends_the_connection() {
    let mut sender = streaming(config(&[Route::Dial]), 2);
    sender.handle_ack(ZERO, ONE, 3);
    assert_eq!(outputs(&mut sender, ZERO), [close(1, Closing::Protocol)]);
    assert_eq!(sender.queued(), 2);
}

#[test]
fn idle_connections_close_after_30_seconds_and_open_again_for_a_change() {
    let mut sender = streaming(config(&[Route::Dial]), 1);
    sender.handle_ack(s(5), ONE, 1);
    assert_eq!(outputs(&mut sender, s(5)), [Output::Forget { through: 1 }]);
    assert_eq!(timer(&mut sender), (s(35), vec![close(1, Closing::Idle)]));
    assert_eq!((sender.standing(), sender.poll_timeout()), (Standing::Resting, None));
    assert!(sender.handle_enqueued(s(100), 2, 10));
    assert_eq!(outputs(&mut sender, s(100)), [Output::Dial { route: 0, connection: ConnectionId(2) }]);
    assert!(!sender.handle_enqueued(s(100), 2, 10), "a sequence comes once");
    assert!(!sender.handle_enqueued(s(100), 4, 10), "and without gaps");
}

#[test]
fn with_keepalive_the_connection_stays() {
    let mut sender = streaming(SenderConfig { idle_close: None, ..config(&[Route::Dial]) }, 0);
    assert_eq!(sender.poll_timeout(), None);
    sender.handle_disconnected(s(1000), ONE);
    assert!(matches!(timer(&mut sender).1[..], [Output::Dial { .. }]));
}

#[test]
fn addresses_take_turns_then_the_wait_doubles_up_to_five_minutes() {
    let quiet = SenderConfig { knock_interval: s(3600), ..config(&[Route::Dial, Route::Dial]) };
    let mut sender = Sender::new(quiet, ZERO, 7, 1, [1]);
    let (mut now, mut longest) = (ZERO, ZERO);
    for round in 0u32..40 {
        for route in [0, 1] {
            let what = outputs(&mut sender, now);
            let [Output::Dial { route: dialled, connection }] = what[..] else { panic!("{what:?}") };
            assert_eq!(dialled, route);
            sender.handle_dial_failed(now, connection);
        }
        let wait = sender.poll_timeout().unwrap() - now;
        assert!(wait <= s(300).min(s(1 << round.min(20))), "round {round}: {wait:?}");
        longest = longest.max(wait);
        now += wait;
        sender.handle_timeout(now);
    }
    assert!(longest > s(150), "{longest:?}");
    // Success starts over.
    let what = outputs(&mut sender, now);
    let [Output::Dial { connection, .. }] = what[..] else { panic!("{what:?}") };
    sender.handle_connected(now, connection);
    sender.handle_welcome(now, connection, 0, Vec::new());
    outputs(&mut sender, now);
    sender.handle_ack(now, connection, 1);
    sender.handle_enqueued(now, 2, 1);
    sender.handle_disconnected(now, connection);
    assert!(sender.poll_timeout().unwrap() - now <= s(1));
}

#[test]
fn waits_differ_by_seed() {
    let wait = |seed| {
        let mut sender = Sender::new(config(&[Route::Dial]), ZERO, seed, 1, []);
        sender.handle_dial_failed(ZERO, ONE);
        sender.poll_timeout().unwrap()
    };
    assert_eq!(wait(5), wait(5));
    let mut waits: Vec<_> = (0..100).map(wait).collect();
    waits.sort();
    waits.dedup();
    assert!(waits.len() > 95, "{}", waits.len());
}

#[test]
fn overdue_dials_and_registrations_are_given_up() {
    let mut sender = Sender::new(config(&[Route::Dial]), ZERO, 1, 1, []);
    outputs(&mut sender, ZERO);
    assert_eq!(timer(&mut sender), (s(15), vec![close(1, Closing::TimedOut)]));
    let (at, _) = timer(&mut sender);
    sender.handle_connected(at, ConnectionId(2));
    outputs(&mut sender, at);
    assert_eq!(timer(&mut sender), (at + s(10), vec![close(2, Closing::TimedOut)]));
}

#[test]
fn hellos_are_repeated_and_an_answer_is_dialled() {
    let mut sender = Sender::new(config(&[Route::Hello, Route::Dial]), ZERO, 1, 1, []);
    assert_eq!(outputs(&mut sender, ZERO), [Output::SendHello { route: 0, attempt: 0 }]);
    assert_eq!(timer(&mut sender), (s(1), vec![Output::SendHello { route: 0, attempt: 1 }]));
    sender.handle_hello_reply(s(1));
    assert_eq!(outputs(&mut sender, s(1)), [Output::Dial { route: 0, connection: ONE }]);
    // A second answer changes nothing.
    sender.handle_hello_reply(s(1));
    assert_eq!(outputs(&mut sender, s(1)), []);
    let mut unanswered = Sender::new(config(&[Route::Hello, Route::Dial]), ZERO, 1, 1, []);
    outputs(&mut unanswered, ZERO);
    timer(&mut unanswered);
    timer(&mut unanswered);
    assert_eq!(timer(&mut unanswered), (s(3), vec![Output::Dial { route: 1, connection: ONE }]));
}

#[test]
fn a_refusal_waits_long_and_is_told_until_welcome() {
    let refuse = |reason| {
        let mut sender = streaming(config(&[Route::Dial]), 1);
        sender.handle_refused(ZERO, ONE, Refused { reason, text: "known with another key".into() });
        assert_eq!(outputs(&mut sender, ZERO), [close(1, Closing::Refused)]);
        sender
    };
    let mut sender = refuse(RefusedReason::KeyMismatch);
    let wait = sender.poll_timeout().unwrap();
    assert!(wait >= s(150) && wait <= s(300), "{wait:?}");
    assert_eq!(sender.refusal().unwrap().retry_at, wait);
    assert_eq!(sender.refusal().unwrap().refused.text, "known with another key");
    timer(&mut sender);
    sender.handle_connected(wait, ConnectionId(2));
    sender.handle_welcome(wait, ConnectionId(2), 0, Vec::new());
    assert!(sender.refusal().is_none());
    assert!(refuse(RefusedReason::Busy).poll_timeout().unwrap() <= s(1));
}

#[test]
fn a_restored_cma_or_nanoprobe_takes_a_new_incarnation() {
    // The CMA forgot 4, or knows 8 though the queue ends at 6.
    for last in [3, 8] {
        let mut sender = Sender::new(config(&[Route::Dial]), ZERO, 1, 5, [10, 10]);
        outputs(&mut sender, ZERO);
        sender.handle_connected(ZERO, ONE);
        sender.handle_welcome(ZERO, ONE, last, Vec::new());
        let what = outputs(&mut sender, ZERO);
        assert_eq!(what[1..], [Output::Renumber, close(1, Closing::Protocol)], "last {last}");
        assert_eq!(sender.poll_timeout(), None, "no attempt before the new numbers are durable");
        sender.handle_renumbered(s(9));
        assert_eq!(outputs(&mut sender, s(9)), [Output::Dial { route: 0, connection: ConnectionId(2) }]);
        sender.handle_connected(s(9), ConnectionId(2));
        sender.handle_welcome(s(9), ConnectionId(2), 0, Vec::new());
        let sent: Vec<_> = outputs(&mut sender, s(9)).into_iter().skip(1).collect();
        let report = |sequence| Output::Transmit { connection: ConnectionId(2), sequence };
        assert_eq!(sent, [report(1), report(2)]);
    }
}

#[test]
fn only_what_never_left_may_be_replaced() {
    let mut sender = streaming(SenderConfig { window_reports: 1, ..config(&[Route::Dial]) }, 2);
    // 1 is in flight, 2 may have been sent by an earlier life.
    sender.handle_enqueued(ZERO, 3, 100);
    assert_eq!([1, 2, 3, 4].map(|sequence| sender.may_replace(sequence)), [false, false, true, false]);
    assert!(sender.handle_replaced(3, 50) && !sender.handle_replaced(1, 50));
    sender.handle_ack(ZERO, ONE, 1);
    outputs(&mut sender, ZERO);
    sender.handle_ack(ZERO, ONE, 2);
    outputs(&mut sender, ZERO);
    assert!(!sender.may_replace(3));
    // Also when that connection is gone.
    sender.handle_disconnected(ZERO, ONE);
    assert!(!sender.may_replace(3));
}

#[test]
fn stopping_delivers_says_goodbye_and_ends() {
    let mut sender = streaming(config(&[Route::Dial]), 1);
    sender.stop(s(1), s(6));
    assert_eq!(outputs(&mut sender, s(1)), []);
    sender.handle_ack(s(2), ONE, 1);
    let expected = [Output::Forget { through: 1 }, Output::Goodbye { connection: ONE }];
    assert_eq!(outputs(&mut sender, s(2)), expected);
    sender.handle_farewell(s(3), ONE);
    assert_eq!(outputs(&mut sender, s(3)), [close(1, Closing::Stopping)]);
    assert_eq!((sender.standing(), sender.poll_timeout()), (Standing::Stopped, None));
}

#[test]
fn stopping_without_an_answer_ends_at_the_deadline() {
    let mut sender = streaming(config(&[Route::Dial]), 0);
    sender.stop(s(1), s(6));
    assert_eq!(outputs(&mut sender, s(1)), [Output::Goodbye { connection: ONE }]);
    assert_eq!(timer(&mut sender), (s(6), vec![close(1, Closing::Stopping)]));
    assert_eq!(sender.standing(), Standing::Stopped);
    // A resting one dials once more to say it.
    let mut resting = streaming(config(&[Route::Dial]), 0);
    timer(&mut resting);
    resting.stop(s(100), s(105));
    assert_eq!(outputs(&mut resting, s(100)), [Output::Dial { route: 0, connection: ConnectionId(2) }]);
}

proptest! {
    /// Whatever a CMA or the network says in whatever order: no panic, the window holds, what is sent on a connection
    /// counts up without gaps, and nothing is forgotten that was not acknowledged.
    #[test]
    fn no_sequence_of_inputs_breaks_it(
        seed in any::<u64>(),
        inputs in proptest::collection::vec((0u8..16, prop_oneof![0u64..12, any::<u64>()], 0u64..4, 0u64..40_000), 0..200),
    ) {
        let config = SenderConfig { window_reports: 3, ..config(&[Route::Hello, Route::Dial]) };
        let mut sender = Sender::new(config, ZERO, seed, 1, [10, 10]);
        let (mut now, mut newest, mut expected) = (ZERO, 0, None);
        let (mut forgotten, mut allowed) = (0, 0);
        for (what, number, back, wait_ms) in inputs {
            now += Duration::from_millis(wait_ms);
            let connection = ConnectionId(u64::saturating_sub(newest, back));
            match what {
                0 => sender.handle_timeout(now),
                1 => { let next = sender.next_sequence(); prop_assert!(sender.handle_enqueued(now, next, number)); }
                2 => { sender.handle_enqueued(now, number, number); }
                3 => sender.handle_hello_reply(now),
                4 | 5 => sender.handle_connected(now, connection),
                6 => sender.handle_dial_failed(now, connection),
                7 | 8 => {
                    allowed = allowed.max(number);
                    sender.handle_welcome(now, connection, number, vec!["_init_os".into()]);
                }
                9 | 10 => { allowed = allowed.max(number); sender.handle_ack(now, connection, number); }
                11 => sender.handle_disconnected(now, connection),
                12 => sender.handle_refused(now, connection, Refused { reason: RefusedReason::Busy, text: String::new() }),
                13 | 14 => sender.handle_message_waiting(now),
                _ => sender.handle_farewell(now, connection),
            }
            let queued = sender.queued();
            for output in outputs(&mut sender, now) {
                match output {
                    Output::Dial { connection, .. } => { newest = connection.0; expected = None; }
                    Output::Transmit { connection, sequence } => {
                        prop_assert_eq!(connection.0, newest);
                        prop_assert!(expected.is_none_or(|next| next == sequence));
                        expected = Some(sequence + 1);
                    }
                    Output::Forget { through } => {
                        prop_assert!(through > forgotten && through <= allowed);
                        forgotten = through;
                    }
                    Output::Speak { connection } => prop_assert_eq!(connection.0, newest),
                    Output::Renumber => { sender.handle_renumbered(now); (forgotten, allowed) = (0, 0); }
                    _ => {}
                }
            }
            prop_assert!(sender.in_flight() <= 3 && sender.in_flight() <= queued);
            prop_assert!(queued == 0 || sender.poll_timeout().is_some(), "a queued report always has a timer");
        }
    }
}

#[test]
fn a_call_ends_the_rest_the_wait_and_a_connection_that_the_cma_does_not_know() {
    // Resting.
    let mut sender = streaming(config(&[Route::Dial]), 0);
    let (idle, closed) = timer(&mut sender);
    assert_eq!((closed, sender.standing()), (vec![close(1, Closing::Idle)], Standing::Resting));
    sender.handle_call(idle + s(100));
    let dialled = |connection| Output::Dial { route: 0, connection: ConnectionId(connection) };
    assert_eq!(outputs(&mut sender, idle + s(100)), [dialled(2)]);
    // Once: further calls while an attempt is under way change nothing.
    sender.handle_call(idle + s(100));
    sender.handle_connected(idle + s(100), ConnectionId(2));
    sender.handle_call(idle + s(100));
    let registered = [Output::Register { connection: ConnectionId(2) }];
    assert_eq!(outputs(&mut sender, idle + s(100)), registered);
    sender.handle_welcome(idle + s(100), ConnectionId(2), 0, Vec::new());
    let (_, closed) = timer(&mut sender);
    assert_eq!((closed, sender.standing()), (vec![close(2, Closing::Idle)], Standing::Resting));

    // Waiting after failures.
    let slow = SenderConfig { backoff_min: s(1000), backoff_max: s(1000), ..config(&[Route::Dial]) };
    let mut sender = streaming(slow, 1);
    sender.handle_disconnected(s(1), ONE);
    assert!(sender.poll_timeout().unwrap() > s(2), "this seed waits");
    sender.handle_call(s(2));
    assert_eq!(outputs(&mut sender, s(2)), [dialled(2)]);

    // Connected, as it believes; what was on its way is sent again.
    let mut sender = streaming(config(&[Route::Dial]), 1);
    sender.handle_call(s(3));
    assert_eq!(outputs(&mut sender, s(3)), [close(1, Closing::Idle), dialled(2)]);
    sender.handle_connected(s(3), ConnectionId(2));
    sender.handle_welcome(s(3), ConnectionId(2), 0, Vec::new());
    let again = [
        Output::Register { connection: ConnectionId(2) },
        Output::Transmit { connection: ConnectionId(2), sequence: 1 },
    ];
    assert_eq!(outputs(&mut sender, s(3)), again);
    // Stopping: the goodbye is not interrupted.
    sender.handle_ack(s(3), ConnectionId(2), 1);
    sender.stop(s(4), s(9));
    let last = [Output::Forget { through: 1 }, Output::Goodbye { connection: ConnectionId(2) }];
    assert_eq!(outputs(&mut sender, s(4)), last);
    sender.handle_call(s(4));
    assert_eq!((outputs(&mut sender, s(4)), sender.standing()), (vec![], Standing::Streaming));
    sender.handle_farewell(s(4), ConnectionId(2));
    outputs(&mut sender, s(4));
    sender.handle_call(s(5));
    assert_eq!((outputs(&mut sender, s(5)), sender.standing()), (vec![], Standing::Stopped));
}

#[test]
fn what_cannot_wait_is_said_once_on_the_connection_there_is_or_a_new_one() {
    let speak = |connection| Output::Speak { connection: ConnectionId(connection) };
    let dialled = |connection| Output::Dial { route: 0, connection: ConnectionId(connection) };
    // Connected: at once, and the connection counts as used.
    let mut sender = streaming(config(&[Route::Dial]), 0);
    sender.handle_message_waiting(s(20));
    assert_eq!(outputs(&mut sender, s(20)), [speak(1)]);
    let (idle, closed) = timer(&mut sender);
    assert_eq!((idle, closed), (s(50), vec![close(1, Closing::Idle)]));
    // Resting: dials at once; told again meanwhile, it is still said once, and before the reports.
    sender.handle_message_waiting(s(100));
    assert_eq!(outputs(&mut sender, s(100)), [dialled(2)]);
    sender.handle_message_waiting(s(100));
    sender.handle_enqueued(s(100), 1, 100);
    sender.handle_connected(s(100), ConnectionId(2));
    sender.handle_message_waiting(s(100));
    sender.handle_welcome(s(100), ConnectionId(2), 0, Vec::new());
    let connection = ConnectionId(2);
    let expected = [Output::Register { connection }, speak(2), Output::Transmit { connection, sequence: 1 }];
    assert_eq!(outputs(&mut sender, s(100)), expected);
    // The connection breaks: that it is told again is the caller's business.
    sender.handle_ack(s(100), connection, 1);
    sender.handle_disconnected(s(101), connection);
    assert_eq!(outputs(&mut sender, s(101)), [Output::Forget { through: 1 }]);
    assert_eq!(sender.standing(), Standing::Resting);
}

#[test]
fn what_cannot_wait_shortens_a_wait_but_not_that_of_a_refusal() {
    let slow = SenderConfig { backoff_max: s(1000), knock_interval: s(3600), ..config(&[Route::Dial]) };
    let mut sender = streaming(slow.clone(), 1);
    let mut now = s(1);
    sender.handle_disconnected(now, ONE);
    while sender.poll_timeout().unwrap() < now + s(60) {
        let (at, what) = timer(&mut sender);
        now = at;
        if let [Output::Dial { connection, .. }] = what[..] {
            sender.handle_dial_failed(now, connection);
        }
    }
    sender.handle_message_waiting(now);
    let (at, what) = timer(&mut sender);
    assert!(at <= now + s(1), "{at:?} after {now:?}");
    let [Output::Dial { connection, .. }] = what[..] else { panic!("{what:?}") };
    // Nobody is there: as long as nothing new is told, the waits grow as before.
    sender.handle_dial_failed(at, connection);
    assert!(sender.poll_timeout().unwrap() > at + s(2), "this seed waits");

    let mut sender = streaming(slow, 0);
    let text = String::new();
    sender.handle_refused(s(1), ONE, Refused { reason: RefusedReason::KeyMismatch, text });
    sender.handle_message_waiting(s(1));
    let at = sender.poll_timeout().unwrap();
    assert!(at >= s(150), "{at:?}");
}

#[test]
fn a_stop_says_what_waits_before_the_goodbye_and_nothing_after_it() {
    let mut sender = Sender::new(config(&[Route::Dial]), ZERO, 1, 1, []);
    sender.handle_message_waiting(ZERO);
    sender.stop(ZERO, s(5));
    sender.handle_connected(ZERO, ONE);
    sender.handle_welcome(ZERO, ONE, 0, Vec::new());
    let said = outputs(&mut sender, ZERO);
    assert_eq!(said[2..], [Output::Speak { connection: ONE }, Output::Goodbye { connection: ONE }]);
    sender.handle_message_waiting(s(1));
    assert_eq!(outputs(&mut sender, s(1)), []);
    sender.handle_farewell(s(1), ONE);
    assert_eq!(outputs(&mut sender, s(1)), [close(1, Closing::Stopping)]);
    sender.handle_message_waiting(s(2));
    assert_eq!((sender.poll_timeout(), sender.standing()), (None, Standing::Stopped));
}
