use super::*;
use proptest::prelude::*;

/// A made-up key.
fn key(name: u8) -> PublicKey {
    PublicKey([name; 32])
}

fn set(keys: &[(u32, u8)]) -> CmaKeys {
    CmaKeys::unsigned(
        keys.iter().map(|(number, name)| CmaKey { number: *number, key: [*name; 32] }).collect(),
    )
}

fn by_hand(keys: &[(u32, u8)]) -> Succession {
    Succession::by_hand(keys.iter().map(|(number, name)| (*number, key(*name))))
}

fn numbers(succession: &Succession) -> Vec<u32> {
    succession.keys().iter().map(|trusted| trusted.number).collect()
}

#[test]
fn a_rotation_as_it_should_be() {
    let start = by_hand(&[(0, 10), (1, 11)]);
    // The current key makes a further spare known, then the successor takes over.
    let spare = start.propose(&key(10), &set(&[(0, 10), (1, 11), (2, 12)])).unwrap();
    assert_eq!((numbers(&spare.succession), spare.took_over, spare.refused), (vec![0, 1, 2], false, vec![]));
    let after = spare.succession.propose(&key(11), &set(&[(1, 11), (2, 12)])).unwrap();
    assert!(after.took_over && after.refused.is_empty());
    assert_eq!(after.succession.current().unwrap().key, key(11));
    assert_eq!(after.succession.successor().unwrap().key, key(12));
    assert_eq!(after.succession.to_message(), set(&[(1, 11), (2, 12)]));
    // The old key has nothing to say any more.
    assert_eq!(after.succession.propose(&key(10), &set(&[(0, 10)])), Err(Refusal::NotEntitled));
    // The same once more changes nothing.
    let again = after.succession.propose(&key(11), &set(&[(1, 11), (2, 12)])).unwrap();
    assert_eq!((again.succession, again.took_over), (after.succession, false));
}

#[test]
fn the_current_key_takes_back_only_what_it_appended_behind_its_successor() {
    let start = by_hand(&[(0, 10), (1, 11), (5, 15)]);
    let more = start.propose(&key(10), &set(&[(0, 10), (1, 11), (5, 15), (6, 16)])).unwrap().succession;
    let less = more.propose(&key(10), &set(&[(0, 10)])).unwrap();
    assert_eq!(numbers(&less.succession), [0, 1, 5]);
    assert_eq!(less.refused, [Refusal::Stays(1), Refusal::Stays(5)]);
    // A successor that the current key itself introduced cannot be taken back either.
    let alone = by_hand(&[(0, 10)]);
    let two = alone.propose(&key(10), &set(&[(0, 10), (1, 11)])).unwrap().succession;
    let none = two.propose(&key(10), &set(&[(3, 13)])).unwrap();
    assert_eq!(numbers(&none.succession), [0, 1, 3]);
    assert_eq!(none.refused, [Refusal::Stays(0), Refusal::Stays(1)]);
}

#[test]
fn numbers_have_one_key_and_only_grow() {
    let start = by_hand(&[(1, 11), (3, 13), (5, 15)]);
    let refused = |wanted: &[(u32, u8)]| {
        let mut all = vec![(1, 11), (3, 13), (5, 15)];
        all.retain(|(number, _)| wanted.iter().all(|(other, _)| other != number));
        all.extend(wanted);
        let outcome = start.propose(&key(11), &set(&all)).unwrap();
        assert_eq!(outcome.succession, start, "{wanted:?}");
        outcome.refused
    };
    assert_eq!(refused(&[(5, 99)]), [Refusal::Stays(5), Refusal::NumberTaken(5)]);
    assert_eq!(refused(&[(0, 99)]), [Refusal::NotLast(0)]);
    assert_eq!(refused(&[(4, 99)]), [Refusal::NotLast(4)]);
    // At the take-over the successor's list counts, but what came before it is gone for good.
    let taken = start.propose(&key(13), &set(&[(1, 11), (3, 13), (5, 99)])).unwrap();
    assert_eq!(taken.succession.to_message(), set(&[(3, 13), (5, 99)]));
    assert_eq!(taken.refused, [Refusal::Retired(1)]);
}

#[test]
fn lists_that_are_no_lists_change_nothing() {
    let start = by_hand(&[(0, 10), (1, 11)]);
    let many: Vec<(u32, u8)> = (0..=MAX_KEYS as u32).map(|number| (number, number as u8 + 10)).collect();
    for wrong in [
        set(&[]),
        set(&many),
        set(&[(0, 10), (0, 12)]),
        set(&[(0, 10), (2, 10)]),
        set(&[(0, 10), (100_000, 12)]),
    ] {
        for sender in [10, 11] {
            assert_eq!(start.propose(&key(sender), &wrong), Err(Refusal::Malformed), "{wrong:?}");
        }
    }
    assert_eq!(start.propose(&key(11), &set(&[(2, 12)])), Err(Refusal::WithoutSender));
    assert_eq!(start.propose(&key(99), &set(&[(0, 10), (1, 11)])), Err(Refusal::NotEntitled));
    let three = by_hand(&[(0, 10), (1, 11), (2, 12)]);
    assert_eq!(three.propose(&key(12), &set(&[(2, 12)])), Err(Refusal::NotEntitled), "not its turn yet");
}

#[test]
fn a_full_list_takes_no_more() {
    let all: Vec<(u32, u8)> = (0..MAX_KEYS as u32).map(|number| (number, number as u8 + 10)).collect();
    let start = by_hand(&all);
    let mut more = all[1..].to_vec();
    more.push((90, 200));
    let outcome = start.propose(&key(10), &set(&more)).unwrap();
    assert_eq!(outcome.succession, start);
    assert_eq!(outcome.refused, [Refusal::Stays(0), Refusal::TooMany(90)]);
}

/// What happens to one nanoprobe.
#[derive(Debug, Clone)]
enum Happening {
    /// The CMA makes a further pair known.
    Spare,
    /// The CMA retires its key.
    Rotate,
    /// Somebody copies the secret in use. He knows it until the next rotation.
    Theft,
    /// The thief sends a list: of each known key whether he names it, and keys of his own.
    Rogue { named: Vec<bool>, own: Vec<(u32, u8)> },
    /// The CMA says its list again.
    Again,
    /// Whoever carries messages brings a list that was signed for this nanoprobe before, by the CMA or by the thief.
    Replay(prop::sample::Index),
    /// The nanoprobe is started again and has lost the file with the origins.
    Forgotten,
}

fn happening() -> impl Strategy<Value = Happening> {
    let own = prop::collection::vec((0u32..40, 200u8..=255), 0..6);
    let named = prop::collection::vec(any::<bool>(), 0..MAX_KEYS);
    prop_oneof![
        2 => Just(Happening::Spare),
        2 => Just(Happening::Rotate),
        2 => Just(Happening::Theft),
        6 => (named, own).prop_map(|(named, own)| Happening::Rogue { named, own }),
        2 => Just(Happening::Again),
        3 => any::<prop::sample::Index>().prop_map(Happening::Replay),
        1 => Just(Happening::Forgotten),
    ]
}

/// The honest CMA: its keys by number, the first is in use. Names of its keys are below 200.
struct Honest(Vec<(u32, u8)>);

impl Honest {
    fn spare(&mut self) {
        let (number, name) = *self.0.last().unwrap();
        self.0.push((number + 1, name + 1));
    }

    fn tells(&self, trust: &mut Succession, signed: &mut Lists) -> Option<Outcome> {
        let (sender, list) = (key(self.0[0].1), set(&self.0));
        let outcome = trust.propose(&sender, &list).ok();
        signed.push((sender, list));
        *trust = outcome.as_ref()?.succession.clone();
        outcome
    }
}

/// All that was signed for this nanoprobe, and with which key: whoever carries messages has kept it.
type Lists = Vec<(PublicKey, CmaKeys)>;

fn trust_after_replay(trust: &Succession, (sender, list): &(PublicKey, CmaKeys)) -> Succession {
    trust.propose(sender, list).map_or_else(|_| trust.clone(), |outcome| outcome.succession)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever a thief of the key in use does, and whatever old lists are brought again, the spare that was known before can take
    /// over, and then nothing of his is left.
    #[test]
    fn the_honest_spare_always_can_take_over(story in prop::collection::vec(happening(), 1..40)) {
        let mut cma = Honest(vec![(0, 10), (1, 11)]);
        let mut trust = by_hand(&cma.0);
        let mut stolen: Option<u8> = None;
        let mut signed = Lists::new();
        for step in story {
            match step {
                Happening::Spare if cma.0.len() < MAX_KEYS / 2 && cma.0.last().unwrap().1 < 190 => {
                    cma.spare();
                    cma.tells(&mut trust, &mut signed);
                }
                Happening::Spare => {}
                Happening::Again => drop(cma.tells(&mut trust, &mut signed)),
                Happening::Theft => stolen = Some(cma.0[0].1),
                Happening::Rogue { named, own } => {
                    // With every key he has: the stolen one, and those of his own that are trusted by now.
                    for sender in stolen.into_iter().chain(200..=255) {
                        let known = trust.to_message().keys.into_iter().zip(named.iter().chain(std::iter::repeat(&false)));
                        let mut wanted: Vec<CmaKey> = known.filter(|(_, named)| **named).map(|(key, _)| key).collect();
                        wanted.extend(set(&own).keys);
                        signed.push((key(sender), CmaKeys::unsigned(wanted)));
                        trust = trust_after_replay(&trust, signed.last().unwrap());
                    }
                }
                Happening::Replay(which) if !signed.is_empty() => {
                    let retired = signed.iter().filter(|(sender, _)| trust.publics().iter().all(|key| key != sender));
                    for list in retired {
                        prop_assert_eq!(&trust_after_replay(&trust, list), &trust, "a key that is gone has no say");
                    }
                    trust = trust_after_replay(&trust, which.get(&signed));
                }
                Happening::Replay(_) => {}
                Happening::Forgotten => {
                    trust = Succession::by_hand(trust.keys().iter().map(|trusted| (trusted.number, trusted.key)));
                }
                Happening::Rotate => {
                    if cma.0.len() == 2 && cma.0[1].1 < 190 {
                        cma.spare();
                    }
                    cma.0.remove(0);
                    let outcome = cma.tells(&mut trust, &mut signed);
                    prop_assert!(outcome.as_ref().is_some_and(|outcome| outcome.took_over), "{outcome:?}");
                    prop_assert_eq!(trust.to_message(), set(&cma.0));
                    stolen = None;
                }
            }
            let keys = trust.keys();
            prop_assert!(!keys.is_empty() && keys.len() <= MAX_KEYS);
            prop_assert!(keys.is_sorted_by(|a, b| a.number < b.number));
            prop_assert_eq!(keys[0].key, key(cma.0[0].1), "the key in use");
            prop_assert_eq!(keys[1].key, key(cma.0[1].1), "the spare");
        }
    }
    /// As long as nobody has stolen the key in use, the next list that comes through leaves exactly the CMA's keys, whichever of its
    /// old lists were brought in between and in which order: so a number in the list would change nothing that lasts.
    #[test]
    fn what_old_lists_do_ends_with_the_next_one(
        story in prop::collection::vec((0..4u8, any::<prop::sample::Index>()), 1..60),
    ) {
        let mut cma = Honest(vec![(0, 10), (1, 11)]);
        let mut trust = by_hand(&cma.0);
        let mut signed = Lists::new();
        let mut newest = 1;
        for (step, which) in story {
            match step {
                // A further spare, with a number that was never used.
                0 if cma.0.len() < MAX_KEYS / 2 && newest < 150 => {
                    newest += 1;
                    cma.0.push((newest, u8::try_from(newest).unwrap() + 10));
                    cma.tells(&mut trust, &mut signed);
                }
                // The last spare is taken back: somebody has looked into the drawer.
                1 if cma.0.len() > 2 => {
                    cma.0.pop();
                    cma.tells(&mut trust, &mut signed);
                }
                2 if cma.0.len() > 2 => {
                    cma.0.remove(0);
                    cma.tells(&mut trust, &mut signed);
                }
                _ if !signed.is_empty() => trust = trust_after_replay(&trust, which.get(&signed)),
                _ => {}
            }
            // Whatever was brought: who is trusted first and second is as it was, and each list ends what was brought.
            prop_assert_eq!(&trust.to_message().keys[..2], &set(&cma.0).keys[..2]);
            let mut told = trust.clone();
            cma.tells(&mut told, &mut Lists::new());
            prop_assert_eq!(told.to_message(), set(&cma.0), "of {:?}", trust);
        }
    }
}
