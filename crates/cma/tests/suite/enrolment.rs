//! Who may become a host: policies, tokens, approval, copies of machines, revocation.

use crate::ingest::{Rig, applicant, envelope, events, incoming, name, rig, rig_with, told};
use crate::site::{Agent, Site, runtime};
use cma::ingest::Change;
use cma::ingest::enrolment::actions::{Action, Outcome, perform};
use cma::ingest::enrolment::invitations;
use cma::ingest::register::{Applicant, Registration};
use cma::ingest::report::Outcome as Reported;
use cma::knowledge::Knowledge;
use model::config::parse_toml;
use model::enrolment::{MarkKind, TOKEN_BYTES, machine_mark, token_hash, token_text};
use model::message::{FromCma, Machine, RefusedReason, Register, ToCma};
use model::{Event, PublicKey, Timestamp};
use rules::RuleSets;
use serde_json::json;
use std::fs;
use std::time::Duration;
use store::Store;

const KEY: PublicKey = PublicKey([1; 32]);
const OTHER_KEY: PublicKey = PublicKey([2; 32]);
const DAY: u64 = 86_400;

fn site(enrolment: &str) -> Rig {
    let config = parse_toml("cma.toml", &format!("[enrolment]\n{enrolment}\n")).unwrap();
    let (sets, problems) = RuleSets::load(&[]);
    rig_with(Knowledge::new(config, sets, problems))
}

fn machine(hardware: &str, boot: &str) -> Machine {
    Machine {
        installation: Some(machine_mark(MarkKind::Installation, "one image")),
        hardware: Some(machine_mark(MarkKind::Hardware, hardware)),
        boot: Some(machine_mark(MarkKind::Boot, boot)),
    }
}

/// A nanoprobe of this version.
fn new(host: &str, key: PublicKey) -> Applicant {
    let mut new = applicant(host, key);
    new.message.machine = Some(machine(host, "first"));
    new
}

fn with_token(host: &str, key: PublicKey, token: &str) -> Applicant {
    let mut with = new(host, key);
    with.message.token = Some(token.into());
    with
}

fn on(host: &str, key: PublicKey, machine: Machine, started: i64) -> Applicant {
    let mut on = new(host, key);
    on.message.machine = Some(machine);
    on.message.started = Timestamp(started);
    on
}

/// `welcome`, or the reason and the text of a refusal.
fn answer(registration: Registration) -> (Option<RefusedReason>, String) {
    match registration {
        Registration::Welcome { .. } => (None, String::new()),
        Registration::Refused(refused) => (Some(refused.reason), refused.text),
    }
}

impl Rig {
    fn act(&mut self, action: Action) -> (Outcome, Vec<Event>, Vec<Change>) {
        let (outcome, produced) = self.step(|tx, context| perform(tx, context, &action));
        let changes = produced.changes.clone();
        (outcome, events(produced), changes)
    }

    fn comes(&mut self, applicant: Applicant) -> (Option<RefusedReason>, Vec<String>) {
        let (registration, events) = self.register(applicant);
        (answer(registration).0, told(&events))
    }

    fn text(&mut self, applicant: Applicant) -> String {
        answer(self.register(applicant).0).1
    }

    fn token(&mut self, seed: u8, hosts: &str, uses: Option<u32>, days: Option<u64>) -> (i64, String) {
        let token = token_text(&[seed; TOKEN_BYTES]);
        let action = Action::CreateToken {
            hash: token_hash(&token).unwrap(),
            tags: vec!["lab".into()],
            hosts: hosts.into(),
            uses,
            lasts: days.map(|days| Duration::from_secs(days * DAY)),
        };
        let Outcome::Token(id) = self.act(action).0 else { panic!() };
        (id, token)
    }

    fn tags(&mut self, host: &str) -> Vec<String> {
        self.store.reader().unwrap().tags(&name(host)).unwrap()
    }

    fn waiting(&mut self) -> Vec<String> {
        let rows = self.store.reader().unwrap().pending().unwrap();
        rows.into_iter().map(|row| row.designation.as_str().to_owned()).collect()
    }

    /// Whom a CMA that starts now calls, and where.
    fn invited(&mut self) -> Vec<(String, PublicKey, String)> {
        let hosts = self.store.reader().unwrap().hosts().unwrap();
        let open = invitations::open(self.store.begin().unwrap().as_mut(), &hosts).unwrap();
        let shown = open.into_iter().map(|one| (one.host.to_string(), one.key, one.address.to_string()));
        shown.collect()
    }

    fn used(&mut self, id: i64) -> u32 {
        self.store.reader().unwrap().tokens().unwrap().into_iter().find(|row| row.id == id).unwrap().used
    }
}

fn approve(host: &str) -> Action {
    Action::Approve { host: name(host), key: None }
}

fn is_conflict(outcome: &Outcome, words: &str) -> bool {
    matches!(outcome, Outcome::Refused { is_unknown: false, error, .. } if error.contains(words))
}

fn is_unknown(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused { is_unknown: true, .. })
}

#[test]
fn a_token_lets_in_and_gives_its_tags() {
    for policy in ["first-use", "approve", "token"] {
        let mut rig = site(&format!("policy = \"{policy}\""));
        let (id, token) = rig.token(7, "*", None, Some(7));
        assert_eq!(rig.comes(with_token("web1", KEY, &token)).0, None, "{policy}");
        assert_eq!(rig.tags("web1"), ["lab"]);
        assert_eq!(rig.used(id), 1);
    }
}

#[test]
fn without_a_token_the_policy_decides() {
    assert_eq!(site("").comes(new("web1", KEY)).0, None);
    assert_eq!(site("policy = \"approve\"").comes(new("web1", KEY)).0, Some(RefusedReason::Pending));
    let mut strict = site("policy = \"token\"");
    assert_eq!(
        strict.comes(new("web1", KEY)),
        (Some(RefusedReason::Token), vec!["warn reason=token".to_owned()])
    );
    assert!(strict.text(new("web1", KEY)).contains("enrol.token"));
    assert_eq!(strict.store.reader().unwrap().hosts().unwrap(), []);
    assert_eq!(strict.comes(new("web2", OTHER_KEY)).1, [""; 0], "one event a minute");
    strict.wait(60);
    assert_eq!(strict.comes(new("web2", OTHER_KEY)).1, ["warn reason=token"]);
}

#[test]
fn a_use_counts_once_for_each_key_however_often_it_registers() {
    let mut rig = site("policy = \"token\"");
    let (id, token) = rig.token(7, "*", Some(1), None);
    // Killed before the commit: nothing happened.
    let attempt = with_token("web1", KEY, &token);
    let mut ids = || "id".to_owned();
    let mut context = cma::ingest::Context {
        now: rig.now,
        knowledge: &rig.knowledge,
        channels: &[],
        event_ids: &mut ids,
        produced: cma::ingest::Produced::default(),
    };
    let mut tx = rig.store.begin().unwrap();
    cma::ingest::register::register(tx.as_mut(), &mut context, &attempt, Timestamp(7)).unwrap();
    drop(tx);
    assert_eq!(rig.used(id), 0);
    for _ in 0..3 {
        assert_eq!(rig.comes(attempt.clone()).0, None, "the answer may have been lost");
    }
    assert_eq!(rig.used(id), 1);
    let text = rig.text(with_token("web2", OTHER_KEY, &token));
    assert!(text.contains("good for 1 hosts"), "{text}");
    // Removed and back: the same key, still one use.
    rig.step(|tx, context| cma::ingest::register::remove(tx, context, &name("web1")));
    assert_eq!((rig.comes(attempt).0, rig.used(id)), (None, 1));
}

#[test]
fn tokens_that_do_not_count_are_refused_also_where_none_is_asked_for() {
    for policy in ["first-use", "token"] {
        let mut rig = site(&format!("policy = \"{policy}\""));
        let (id, token) = rig.token(7, "db-*", None, Some(1));
        let refused = |rig: &mut Rig, host: &str, token: &str, words: &str| {
            let (reason, text) = answer(rig.register(with_token(host, KEY, token)).0);
            assert_eq!(reason, Some(RefusedReason::Token), "{policy} {token}");
            assert!(text.contains(words), "{words}: {text}");
        };
        refused(&mut rig, "web1", &token, "is for hosts db-*");
        refused(&mut rig, "db-1", &token_text(&[8; TOKEN_BYTES]), "no such token");
        refused(&mut rig, "db-1", "assim-1", "no token");
        refused(&mut rig, "db-1", "", "no token");
        rig.wait(86_400);
        refused(&mut rig, "db-1", &token, "expired at");
        assert_eq!(rig.act(Action::RevokeToken(id)).0, Outcome::Done);
        refused(&mut rig, "db-1", &token, "was revoked");
        assert!(is_unknown(&rig.act(Action::RevokeToken(id)).0));
        assert_eq!(rig.used(id), 0);
        assert_eq!(rig.store.reader().unwrap().hosts().unwrap(), []);
    }
}

#[test]
fn a_token_opens_no_name_that_another_host_has() {
    let mut rig = site("policy = \"token\"");
    let (id, token) = rig.token(7, "*", None, None);
    rig.comes(with_token("web1", KEY, &token));
    assert_eq!(rig.comes(with_token("web1", OTHER_KEY, &token)).0, Some(RefusedReason::KeyMismatch));
    assert_eq!(rig.used(id), 1);
}

#[test]
fn who_waits_is_approved_called_and_comes_in() {
    let mut rig = site("policy = \"approve\"");
    assert_eq!(
        rig.comes(new("web1", KEY)),
        (Some(RefusedReason::Pending), vec!["warn reason=pending".to_owned()])
    );
    let text = rig.text(new("web1", KEY));
    assert!(text.contains(&format!("hosts approve web1 --key {}", KEY.fingerprint())), "{text}");
    assert_eq!(rig.waiting(), ["web1"], "asking again changes nothing");
    let bad = with_token("web1", KEY, "assim-1");
    assert_eq!(rig.comes(bad).0, Some(RefusedReason::Pending), "a person decides all the same");
    assert!(rig.store.reader().unwrap().pending().unwrap()[0].note.contains("no token"));

    assert!(is_unknown(&rig.act(approve("web2")).0));
    let (outcome, events, changes) = rig.act(approve("web1"));
    assert_eq!((outcome, told(&events)), (Outcome::Done, vec!["unwarn reason=pending".to_owned()]));
    let address = "192.0.2.7:1984".parse().unwrap();
    assert_eq!(changes, [Change::Invited { host: name("web1"), key: KEY, address }]);
    assert_eq!(rig.invited(), [("web1".into(), KEY, "192.0.2.7:1984".into())]);
    assert_eq!(rig.comes(new("web2", KEY)).0, Some(RefusedReason::Pending), "approved for one name only");
    assert_eq!(rig.invited(), []);
    rig.act(approve("web2"));
    assert_eq!(rig.invited().len(), 1);
    assert_eq!(rig.comes(new("web2", KEY)).0, None);
    assert_eq!(rig.invited(), []);
    assert_eq!(rig.waiting(), [""; 0]);
}

#[test]
fn of_two_that_wait_under_one_name_the_key_decides() {
    let mut rig = site("policy = \"approve\"");
    rig.comes(new("web1", KEY));
    rig.comes(new("web1", OTHER_KEY));
    assert!(is_conflict(&rig.act(approve("web1")).0, &OTHER_KEY.fingerprint()));
    let start = OTHER_KEY.fingerprint()[..8].to_uppercase();
    let chosen = Action::Approve { host: name("web1"), key: Some(start) };
    assert_eq!(rig.act(chosen).0, Outcome::Done);
    let other = Action::Approve { host: name("web1"), key: Some(KEY.fingerprint()) };
    assert!(is_conflict(&rig.act(other.clone()).0, "another key was approved"));
    assert_eq!(rig.comes(new("web1", KEY)).0, Some(RefusedReason::Pending));
    assert_eq!(rig.comes(new("web1", OTHER_KEY)).0, None);
    assert!(is_conflict(&rig.act(other).0, "there is a host web1 already"));
}

#[test]
fn who_is_rejected_stays_out_until_that_is_taken_back() {
    let mut rig = site("policy = \"approve\"");
    rig.comes(new("web1", KEY));
    let (outcome, events, _) = rig.act(Action::Reject { host: name("web1"), key: None });
    assert_eq!((outcome, told(&events)), (Outcome::Done, vec!["unwarn reason=pending".to_owned()]));
    assert_eq!(rig.comes(new("web1", KEY)).0, Some(RefusedReason::Revoked));
    assert_eq!(rig.comes(new("elsewhere", KEY)).0, Some(RefusedReason::Revoked), "whatever it calls itself");
    assert_eq!(rig.waiting(), [""; 0]);
    assert_eq!(rig.act(Action::Unrevoke { host: name("web1"), key: None }).0, Outcome::Done);
    assert_eq!(rig.comes(new("web1", KEY)).0, Some(RefusedReason::Pending));
}

#[test]
fn made_up_keys_fill_their_own_share_only_and_push_nobody_out() {
    let mut rig = site("policy = \"approve\"\nmax_pending = 30\nmax_pending_per_address = 10");
    let from = |address: &str, number: u8, host: &str| {
        let mut applicant = new(host, PublicKey([number; 32]));
        applicant.remote = format!("{address}:4000").parse().unwrap();
        applicant
    };
    let honest = || from("192.0.2.50", 200, "honest");
    rig.comes(honest());
    let mut news = 0;
    for number in 0..150 {
        rig.wait(2);
        let (reason, told) = rig.comes(from("192.0.2.66", number, &format!("fake{number}")));
        assert_eq!(reason, Some(RefusedReason::Pending));
        news += told.len();
        if number % 75 == 74 {
            assert_eq!(rig.comes(honest()).0, Some(RefusedReason::Pending));
        }
    }
    assert!(news <= 10, "{news} events for 150 keys in 300 s");
    let waiting = rig.waiting();
    assert_eq!(waiting.len(), 11);
    assert!(waiting.contains(&"honest".to_owned()));
    assert!(
        rig.text(from("192.0.2.66", 160, "late")).contains("list of hosts that wait for approval is full")
    );
    // From many addresses the whole list is full, and nobody who still asks goes.
    for number in 0..40 {
        rig.comes(from(&format!("198.51.100.{number}"), 60 + number, &format!("wide{number}")));
    }
    assert_eq!(rig.waiting().len(), 30);
    rig.wait(14 * 60);
    rig.comes(honest());
    rig.wait(2 * 60);
    // Those who made up keys do not ask again: there is room for who is new, and the honest one stays.
    for number in 0..35 {
        rig.comes(from(&format!("203.0.113.{number}"), 120 + number, &format!("later{number}")));
    }
    let waiting = rig.waiting();
    assert!(waiting.contains(&"honest".to_owned()) && waiting.contains(&"later0".to_owned()), "{waiting:?}");
    assert_eq!(waiting.len(), 30);
}

#[test]
fn who_is_not_heard_for_days_is_forgotten() {
    let mut rig = site("policy = \"approve\"\nforget_pending_days = 2");
    rig.comes(new("web1", KEY));
    rig.wait(2 * 86_400 - 1);
    rig.comes(new("web2", OTHER_KEY));
    assert_eq!(rig.waiting(), ["web1", "web2"]);
    rig.wait(1);
    rig.comes(new("web3", PublicKey([3; 32])));
    assert_eq!(rig.waiting(), ["web2", "web3"]);
}

#[test]
fn an_older_nanoprobe_is_told_only_what_it_knows() {
    let mut rig = site("policy = \"approve\"");
    assert_eq!(rig.comes(applicant("web1", KEY)).0, Some(RefusedReason::KeyMismatch));
    assert!(rig.text(applicant("web1", KEY)).contains("hosts approve web1"));
    rig.act(Action::Reject { host: name("web1"), key: None });
    assert_eq!(rig.comes(applicant("web1", KEY)).0, Some(RefusedReason::KeyMismatch));
    let mut strict = site("policy = \"token\"");
    assert_eq!(strict.comes(applicant("web1", KEY)).0, Some(RefusedReason::KeyMismatch));
    assert!(strict.text(applicant("web1", KEY)).contains("too old to show one"));
}

#[test]
fn a_copied_machine_is_told_with_both_places_and_the_right_one_can_be_kept() {
    let mut rig = rig();
    let (one, two) = (machine("one", "a"), machine("two", "b"));
    let at = |mut applicant: Applicant, address: &str| {
        applicant.remote = address.parse().unwrap();
        applicant
    };
    let first = || at(on("web1", KEY, one, 5), "192.0.2.1:1984");
    let second = || at(on("web1", KEY, two, 8), "192.0.2.2:1984");
    rig.comes(first());
    rig.comes(second());
    let (_, events) = rig.register(first());
    assert_eq!(told(&events), ["warn reason=clone"]);
    let extra = &events[0].extrainfo;
    assert!(extra["text"].as_str().unwrap().contains("192.0.2.1:1984 and 192.0.2.2:1984"), "{extra:?}");
    let names: Vec<&str> =
        [0, 1].into_iter().map(|index| extra["machines"][index]["machine"].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| extra["fix_now"].as_str().unwrap().contains(name)), "{extra:?}");
    assert_eq!(rig.comes(second()).1, [""; 0], "told once");

    let keep =
        |machine: Option<&str>| Action::Keep { host: name("web1"), machine: machine.map(String::from) };
    assert!(is_unknown(&rig.act(keep(Some("nonsense"))).0));
    let (outcome, events, _) = rig.act(keep(Some(names[0])));
    assert_eq!((outcome, told(&events)), (Outcome::Done, vec!["unwarn reason=clone".to_owned()]));
    assert_eq!(rig.comes(first()).0, None);
    let (reason, told_now) = rig.comes(second());
    assert_eq!((reason, told_now), (Some(RefusedReason::KeyMismatch), vec!["warn reason=clone".to_owned()]));
    assert!(rig.text(second()).contains("web1@@*"));
    assert_eq!(rig.comes(second()).1, [""; 0], "told once");
    // Rebooted, and from another address, the kept one is the same machine.
    rig.wait(100);
    let rebooted = at(on("web1", KEY, machine("one", "c"), 900), "198.51.100.1:1984");
    assert_eq!(rig.comes(rebooted).0, None);
    // It moves to the other hardware after all.
    assert_eq!(rig.act(keep(Some(names[1]))).0, Outcome::Done);
    assert_eq!(rig.comes(second()).0, None);
    assert_eq!(rig.comes(first()).0, Some(RefusedReason::KeyMismatch));
    assert_eq!(rig.act(keep(None)).0, Outcome::Done);
    assert_eq!(rig.comes(first()).0, None);
}

#[test]
fn a_machine_that_is_rebooted_moved_or_mended_is_no_copy() {
    let mut rig = rig();
    rig.comes(on("web1", KEY, machine("one", "a"), 5));
    assert_eq!(rig.comes(on("web1", KEY, machine("one", "b"), 9)).1, ["up"], "a reboot");
    let mut moved = on("web1", KEY, machine("one", "b"), 9);
    moved.remote = "198.51.100.9:1984".parse().unwrap();
    assert_eq!(rig.comes(moved).1, [""; 0], "a live migration");
    assert_eq!(rig.comes(on("web1", KEY, machine("two", "c"), 12)).1, ["up"], "other hardware");
    assert_eq!(rig.comes(on("web1", KEY, machine("two", "c"), 14)).1, ["up"], "the nanoprobe was updated");
}

#[test]
fn a_reinstalled_host_is_told_from_a_stranger() {
    let mut rig = rig();
    rig.comes(on("web1", KEY, machine("one", "a"), 5));
    let anew = || on("web1", OTHER_KEY, machine("one", "b"), 9);
    assert_eq!(
        rig.comes(anew()),
        (Some(RefusedReason::KeyMismatch), vec!["warn reason=re-installed".to_owned()])
    );
    let wrong = Action::AcceptKey { host: name("web1"), key: Some("00".into()) };
    assert!(is_conflict(&rig.act(wrong).0, &OTHER_KEY.fingerprint()));
    let (outcome, _, changes) = rig.act(Action::AcceptKey { host: name("web1"), key: None });
    assert_eq!(outcome, Outcome::Done);
    let address = "192.0.2.7:1984".parse().unwrap();
    assert_eq!(changes, [Change::Invited { host: name("web1"), key: OTHER_KEY, address }]);
    assert_eq!(rig.invited(), [("web1".into(), OTHER_KEY, "192.0.2.7:1984".into())]);
    assert_eq!(rig.comes(anew()), (None, vec!["up".to_owned()]), "and it is no copy of the old one");
    assert_eq!(rig.invited(), []);
    rig.wait(60);
    let (_, events) = rig.register(on("web1", PublicKey([3; 32]), machine("three", "c"), 9));
    assert_eq!(told(&events), ["warn reason=key mismatch"]);
    assert!(events[0].extrainfo["text"].as_str().unwrap().contains("other hardware"), "{events:?}");
}

#[test]
fn a_clash_of_names_that_is_over_is_dismissed_and_told_again_when_it_returns() {
    let mut rig = rig();
    rig.comes(new("web1", KEY));
    assert!(is_conflict(&rig.act(Action::Dismiss(name("web1"))).0, "no other key"));
    rig.comes(new("web1", OTHER_KEY));
    let (outcome, events, _) = rig.act(Action::Dismiss(name("web1")));
    assert_eq!((outcome, told(&events)), (Outcome::Done, vec!["unwarn reason=key mismatch".to_owned()]));
    assert_eq!(rig.store.reader().unwrap().hosts().unwrap()[0].rejected_key, None);
    assert_eq!(rig.comes(new("web1", OTHER_KEY)).1.len(), 1);
    assert!(is_unknown(&rig.act(Action::Dismiss(name("nobody"))).0));
}

#[test]
fn a_revoked_host_is_down_leaves_the_rings_and_stays_out() {
    let mut rig = rig();
    let Registration::Welcome { sender, .. } = rig.register(new("web1", KEY)).0 else { panic!() };
    let revoke = || Action::Revoke { host: name("web1"), reason: "stolen\u{1b}[2J".into() };
    let (outcome, events, changes) = rig.act(revoke());
    assert_eq!((outcome, told(&events)), (Outcome::Done, vec!["down reason=revoked".to_owned()]));
    assert_eq!(events[0].extrainfo["revoked_for"], "stolen\\u{1b}[2J");
    assert_eq!(changes, [Change::Left(name("web1"))]);
    let host = rig.store.reader().unwrap().hosts().unwrap().remove(0);
    assert_eq!((host.status.as_str(), host.reason.as_str()), ("dead", "revoked"));
    let late = incoming(1, "_auto_proc_sys", &envelope("_auto_proc_sys", json!({"x": 1})));
    assert_eq!(rig.take(&sender, &late).0, Reported::Unregistered, "sent before the connection was ended");
    assert!(is_conflict(&rig.act(revoke()).0, "was revoked at"));
    assert_eq!(
        rig.comes(new("web1", KEY)),
        (Some(RefusedReason::Revoked), vec!["warn reason=revoked".to_owned()])
    );
    assert_eq!(rig.comes(new("web1", KEY)).1, [""; 0], "one event an hour");
    rig.wait(3600);
    assert_eq!(rig.comes(new("web1", KEY)).1.len(), 1);
    let (outcome, _, changes) = rig.act(Action::Unrevoke { host: name("web1"), key: None });
    assert_eq!((outcome, changes.len()), (Outcome::Done, 1));
    assert_eq!(rig.invited().len(), 1);
    rig.act(revoke());
    assert_eq!(rig.invited(), [], "and it is not to come after all");
    rig.act(Action::Unrevoke { host: name("web1"), key: None });
    assert_eq!(rig.comes(new("web1", KEY)), (None, vec!["up".to_owned()]));
    assert_eq!(rig.invited(), []);
}

#[test]
fn a_revoked_host_comes_back_with_a_new_key_and_the_old_one_stays_out() {
    let mut rig = rig();
    rig.comes(new("web1", KEY));
    rig.act(Action::Revoke { host: name("web1"), reason: String::new() });
    assert_eq!(rig.comes(new("web1", OTHER_KEY)).0, Some(RefusedReason::KeyMismatch));
    rig.act(Action::AcceptKey { host: name("web1"), key: None });
    assert_eq!(rig.comes(new("web1", OTHER_KEY)).0, None);
    assert_eq!(rig.comes(new("web1", KEY)).0, Some(RefusedReason::Revoked));
    // Also when the host is forgotten: the key is what was revoked.
    rig.step(|tx, context| cma::ingest::register::remove(tx, context, &name("web1")));
    assert_eq!(rig.comes(new("web1", KEY)).0, Some(RefusedReason::Revoked));
}

#[test]
fn tags_are_given_taken_and_bounded() {
    let mut rig = rig();
    rig.comes(new("web1", KEY));
    let tag = |add: &[&str], remove: &[&str]| {
        let words = |all: &[&str]| all.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        Action::Tag { host: name("web1"), add: words(add), remove: words(remove) }
    };
    let tags = |all: &[&str]| Outcome::Tags(all.iter().map(|word| word.to_string()).collect());
    assert_eq!(rig.act(tag(&["prod", "db", "db"], &[])).0, tags(&["db", "prod"]));
    assert_eq!(rig.act(tag(&["web"], &["prod", "never"])).0, tags(&["db", "web"]));
    assert_eq!(rig.tags("web1"), ["db", "web"]);
    assert!(is_conflict(&rig.act(tag(&["a b"], &[])).0, "\"a b\""));
    let many: Vec<String> = (0..65).map(|number| format!("t{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(is_conflict(&rig.act(tag(&many, &[])).0, "at most 64"));
    assert!(is_unknown(&rig.act(Action::Tag { host: name("nobody"), add: vec![], remove: vec![] }).0));
    rig.step(|tx, context| cma::ingest::register::remove(tx, context, &name("web1")));
    assert_eq!(rig.tags("web1"), [""; 0]);
}

#[test]
fn old_tokens_make_room_and_there_are_only_so_many() {
    let mut rig = rig();
    let create = |number: u16| Action::CreateToken {
        hash: std::array::from_fn(|index| number.to_be_bytes()[index % 2]),
        tags: vec![],
        hosts: "*".into(),
        uses: None,
        lasts: Some(Duration::from_secs(DAY)),
    };
    for number in 0..1000 {
        assert!(matches!(rig.act(create(number)).0, Outcome::Token(_)));
    }
    assert!(is_conflict(&rig.act(create(1000)).0, "1000 tokens"));
    rig.wait(30 * 86_400);
    assert!(is_conflict(&rig.act(create(1000)).0, "1000 tokens"), "expired for 29 days");
    rig.wait(86_400);
    assert!(matches!(rig.act(create(1000)).0, Outcome::Token(1001)));
}

#[test]
fn a_token_made_by_the_program_counts_once_though_it_is_killed() {
    let site = Site::create();
    fs::write(site.paths.cma_config(), "[enrolment]\npolicy = \"token\"\n").unwrap();
    let cma = site.start(&[]);
    for (wrong, word) in [
        (json!({"tags": ["a b"]}), "a b"),
        (json!({"hosts": "web 1"}), "web 1"),
        (json!({"uses": 0}), "good for nothing"),
        (json!({"seconds": 0}), "good for nothing"),
        (json!({"expires": 7}), "expires"),
    ] {
        let (status, answer) = site.request("POST", "/v1/tokens", Some(wrong));
        assert!(status == 400 && answer["error"].as_str().unwrap().contains(word), "{status} {answer}");
    }
    let wanted = json!({"tags": ["b", "a", "b"], "hosts": "WEB*", "uses": 1, "seconds": 3600});
    let (status, made) = site.request("POST", "/v1/tokens", Some(wanted));
    assert_eq!((status, &made["hosts"], &made["tags"]), (200, &json!("web*"), &json!(["a", "b"])));
    let token = made["token"].as_str().unwrap();
    assert!(!site.get("/v1/tokens").to_string().contains(token));

    let agent = Agent::new(&site, "web1");
    let register = |token: Option<&str>| {
        let machine = Some(machine("web1", "a"));
        ToCma::Register(Register { token: token.map(String::from), machine, ..agent.registration() })
    };
    let ask = |message: &ToCma| runtime().block_on(agent.ask(message));
    let refused = ask(&register(None));
    assert!(
        matches!(&refused, FromCma::Refused(refused) if refused.reason == RefusedReason::Token),
        "{refused:?}"
    );
    assert!(matches!(ask(&register(Some(token))), FromCma::Welcome(_)));
    // Killed without a chance to put anything in order; the nanoprobe asks again with what it has.
    drop(cma);
    let _cma = site.start(&[]);
    assert!(matches!(ask(&register(Some(token))), FromCma::Welcome(_)));
    assert!(matches!(ask(&register(None)), FromCma::Welcome(_)));
    let tokens = site.get("/v1/tokens");
    assert_eq!((&tokens[0]["used"], &tokens[0]["state"]), (&json!(1), &json!("used up")));
    assert_eq!(site.get("/v1/hosts")[0]["tags"], json!(["a", "b"]));
    let has = |file: Vec<u8>, text: &[u8]| file.windows(text.len()).any(|window| window == text);
    let files: Vec<Vec<u8>> = ["cma.sqlite", "cma.sqlite-wal"]
        .into_iter()
        .map(|file| fs::read(site.paths.state().join(file)).unwrap())
        .collect();
    assert!(files.iter().any(|file| has(file.clone(), b"web1")), "the search finds nothing");
    let is_kept = files.into_iter().any(|file| has(file, token.as_bytes()));
    assert!(!is_kept, "the database has its hash only");

    assert_eq!(site.request("DELETE", "/v1/tokens/1", None).0, 200);
    assert_eq!(site.request("DELETE", "/v1/tokens/1", None).0, 404);
    assert_eq!(site.request("POST", "/v1/hosts/web1/revoke", Some(json!({"reason": "lost"}))).0, 200);
    let refused = ask(&register(Some(token)));
    assert!(
        matches!(&refused, FromCma::Refused(refused) if refused.reason == RefusedReason::Revoked),
        "{refused:?}"
    );
    let problems = site.get("/v1/status")["problems"].to_string();
    assert!(problems.contains("the revoked key of web1 is being used"), "{problems}");
    assert_eq!(site.request("POST", "/v1/hosts/web1/unrevoke", None).0, 200);
    assert!(matches!(ask(&register(None)), FromCma::Welcome(_)));
}
