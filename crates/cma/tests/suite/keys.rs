//! Which keys of the CMA hosts trust, and a key that changes while the CMA runs.

use crate::ingest::{name, rig};
use crate::restore::{back_up, restore, staged};
use crate::site::{Agent, Site, runtime};
use cma::ingest::keys::{InUse, Told, age, hash_of, told};
use model::PublicKey;
use model::message::{CmaKey, CmaKeys, FromCma, Register, ToCma};
use model::{Event, EventType};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;
use store::Store;
use wire::endpoint::{Connection, Endpoint, EndpointConfig, Inbox};
use wire::framed::{MESSAGE_LIMIT_BYTES, Reader, Writer};
use wire::keys::{KeyDirectory, KeyPair, Refusal, signer};

fn set(numbers: &[u32]) -> CmaKeys {
    CmaKeys::unsigned(numbers.iter().map(|n| CmaKey { number: *n, key: [*n as u8; 32] }).collect())
}

fn kinds(events: &[(i64, Event)]) -> Vec<(EventType, String)> {
    let reason = |event: &Event| event.extrainfo["reason"].as_str().unwrap_or_default().to_owned();
    events.iter().map(|(_, event)| (event.eventtype, reason(event))).collect()
}

#[test]
fn a_host_that_does_not_take_the_list_is_told_of_once_and_when_it_has() {
    let mut rig = rig();
    let sender = rig.registered();
    let mut say = |trusted: Option<&[u32]>, wanted: &[u32], is_answer: bool| {
        let what = Told { trusted: trusted.map(set), wanted: set(wanted), is_answer };
        let ((), produced) = rig.step(|tx, context| told(tx, context, &sender, &what));
        kinds(&produced.events)
    };
    let warn = vec![(EventType::Warn, "keys refused".to_owned())];
    let unwarn = vec![(EventType::Unwarn, "keys refused".to_owned())];
    assert_eq!(say(Some(&[0, 1]), &[0, 1, 2], false), [], "it was not told yet");
    assert_eq!(say(Some(&[0, 1, 2]), &[0, 1, 2], true), [], "it took it");
    assert_eq!(say(Some(&[0, 1, 2]), &[0, 1, 2, 3], true), warn);
    assert_eq!(say(Some(&[0, 1, 2]), &[0, 1, 2, 3], true), [], "that is known");
    assert_eq!(say(Some(&[0, 1, 2]), &[0, 1, 2, 3], false), [], "also when it registers again");
    assert_eq!(say(Some(&[0, 1, 2, 7]), &[0, 1, 2, 3], true), warn, "another list is news");
    assert_eq!(say(Some(&[0, 1, 2, 3]), &[0, 1, 2, 3], false), unwarn);
    assert_eq!(say(None, &[0, 1, 2, 3], false), [], "an older nanoprobe says nothing, and is not blamed");
    let kept = rig.store.reader().unwrap().all_host_keys().unwrap();
    assert_eq!((kept[0].trusted.clone(), kept[0].answered, kept[0].is_warned), (None, None, false));
}

#[test]
fn what_is_missing_and_what_is_not_ours_is_named_and_survives_a_restart() {
    let mut rig = rig();
    let sender = rig.registered();
    let what = Told { trusted: Some(set(&[0, 7])), wanted: set(&[0, 1]), is_answer: true };
    let ((), produced) = rig.step(|tx, context| told(tx, context, &sender, &what));
    let extrainfo = &produced.events[0].1.extrainfo;
    let named = |field: &str| extrainfo[field][0].as_str().unwrap_or_default().to_owned();
    assert_eq!(named("lacks"), format!("#CMA#00001 ({})", PublicKey([1; 32]).fingerprint()));
    assert_eq!(named("trusts_also"), format!("#CMA#00007 ({})", PublicKey([7; 32]).fingerprint()));
    let kept = rig.store.reader().unwrap().all_host_keys().unwrap();
    assert_eq!((kept[0].answered, kept[0].is_warned), (Some(hash_of(&set(&[0, 1]))), true));
    // A connection of a host that has another key by now says nothing.
    let stranger = cma::ingest::Sender { key: PublicKey([99; 32]), ..sender };
    let what = Told { trusted: Some(set(&[0, 1])), wanted: set(&[0, 1]), is_answer: true };
    let ((), produced) = rig.step(|tx, context| told(tx, context, &stranger, &what));
    assert_eq!(kinds(&produced.events), []);
    assert_eq!(rig.store.reader().unwrap().all_host_keys().unwrap(), kept);
    let host = name("web1");
    rig.step(|tx, context| cma::ingest::register::remove(tx, context, &host));
    assert_eq!(rig.store.reader().unwrap().all_host_keys().unwrap(), []);
}

#[test]
fn the_age_of_the_key_is_told_at_each_change_and_ends_with_a_rotation() {
    let mut rig = rig();
    let begun = rig.now;
    let first = InUse { number: 0, key: PublicKey([1; 32]), made: Some(begun) };
    let day = 86_400;
    let mut look = |in_use: &InUse, days: i64, limit: u32| {
        rig.wait(days * day);
        let (since, produced) = rig.step(|tx, context| age(tx, context, in_use, limit));
        (since, kinds(&produced.events))
    };
    let event = |kind: EventType, reason: &str| (kind, reason.to_owned());
    assert_eq!(look(&first, 0, 730), (begun, vec![]));
    assert_eq!(look(&first, 699, 730), (begun, vec![]));
    assert_eq!(look(&first, 1, 730).1, [event(EventType::Warn, "key expires")]);
    assert_eq!(look(&first, 1, 730).1, [], "once");
    let old = [event(EventType::Unwarn, "key expires"), event(EventType::Warn, "key old")];
    assert_eq!(look(&first, 29, 730).1, old);
    // Somebody decides that it may be older.
    assert_eq!(look(&first, 0, 0).1, [event(EventType::Unwarn, "key old")]);
    assert_eq!(look(&first, 0, 730).1, [event(EventType::Warn, "key old")]);
    // The spare was made long ago and is in use from now on.
    let second = InUse { number: 1, key: PublicKey([2; 32]), made: Some(begun) };
    let (since, events) = look(&second, 0, 730);
    assert_eq!(
        (since, events),
        (model::Timestamp(begun.0 + 730 * day * 1_000_000), vec![event(EventType::Unwarn, "key old")])
    );
}

/// A nanoprobe of a few lines that can be told of keys and be called.
struct Nanoprobe {
    endpoint: Endpoint,
    inbox: Inbox,
    key: PublicKey,
    register: Register,
}

struct Conversation {
    connection: Connection,
    /// Of the nanoprobe.
    key: PublicKey,
    writer: Writer,
    reader: Reader,
}

impl Nanoprobe {
    fn new(site: &Site, cma_keys: Option<CmaKeys>) -> Self {
        let publics = keys_of(site).cma_publics().unwrap().into_iter().map(|(_, key)| key).collect();
        let own = KeyPair::generate().unwrap();
        let key = own.public();
        let config = EndpointConfig {
            bind: ([127, 0, 0, 1], 0).into(),
            listen: true,
            ..EndpointConfig::nanoprobe(own, publics)
        };
        let (endpoint, inbox) = Endpoint::bind(config).unwrap();
        let port = endpoint.local_address().unwrap().port();
        let register = Register { port, cma_keys, ..Agent::new(site, "web1").registration() };
        Self { endpoint, inbox, key, register }
    }

    async fn registered(&self, site: &Site) -> Conversation {
        let connection = self.endpoint.connect(site.address).await.unwrap();
        let (mut writer, reader) = connection.open_stream().await.unwrap();
        writer.write(&ToCma::Register(self.register.clone()), MESSAGE_LIMIT_BYTES).await.unwrap();
        let mut conversation = Conversation { connection, key: self.key, writer, reader };
        let welcome = conversation.next(20).await;
        assert!(matches!(welcome, Some(FromCma::Welcome(_))), "{welcome:?}");
        conversation
    }
}

impl Conversation {
    async fn next(&mut self, seconds: u64) -> Option<FromCma> {
        self.reader.read_within(MESSAGE_LIMIT_BYTES, Duration::from_secs(seconds)).await.ok().flatten()
    }

    /// The list that comes next; it is signed, with the key that the CMA showed, for this nanoprobe and no other.
    async fn keys(&mut self) -> Vec<u32> {
        loop {
            match self.next(20).await {
                Some(FromCma::Keys(keys)) => {
                    let trusted = [self.connection.peer];
                    assert_eq!(signer(&keys, &trusted, &self.key), Ok(self.connection.peer));
                    assert_eq!(signer(&keys, &trusted, &PublicKey([1; 32])), Err(Refusal::Unsigned));
                    return keys.keys.iter().map(|key| key.number).collect();
                }
                Some(_) => {}
                None => panic!("the CMA says nothing about keys"),
            }
        }
    }
}

fn keys_of(site: &Site) -> KeyDirectory {
    KeyDirectory::open(site.paths.crypto()).unwrap()
}

/// The public keys of these numbers.
fn published(site: &Site, numbers: &[u32]) -> CmaKeys {
    let publics = keys_of(site).cma_publics().unwrap().into_iter();
    let keys = publics.map(|(id, key)| CmaKey { number: id.cma_number().unwrap(), key: key.0 });
    CmaKeys::unsigned(keys.filter(|key| numbers.contains(&key.number)).collect())
}

fn as_it_should_be(site: &Site) -> Value {
    site.get("/v1/keys/hosts")[0]["as_it_should_be"].clone()
}

/// Until the CMA knows that the host trusts what it should; the network goes on meanwhile.
async fn trusted(site: &Site) {
    for _ in 0..400 {
        if as_it_should_be(site) == true {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} {}", site.get("/v1/keys/hosts"), site.read("log"));
}

#[test]
fn hosts_are_told_connected_or_not_and_what_they_answer_is_kept() {
    let site = Site::create();
    let cma = site.start(&[]);
    runtime().block_on(async {
        let mut host = Nanoprobe::new(&site, Some(published(&site, &[0, 1])));
        let mut talk = host.registered(&site).await;
        trusted(&site).await;
        assert_eq!(site.get("/v1/keys")["keys"][1]["hosts"], 1);

        // A further spare reaches who is connected.
        keys_of(&site).generate_cma().unwrap();
        let (code, answer) = site.request("POST", "/v1/keys/reload", None);
        assert_eq!((code, &answer), (200, &json!({"in_use": 0, "switched": false, "changed": true})));
        assert_eq!(talk.keys().await, [0, 1, 2]);
        assert_eq!(as_it_should_be(&site), false, "told is not trusted");
        drop(talk);

        // It is killed before it answers, and so is the CMA: it is told again when it registers.
        drop(cma);
        let cma = site.start(&[]);
        let mut talk = host.registered(&site).await;
        assert_eq!(talk.keys().await, [0, 1, 2]);
        let trusts = published(&site, &[0, 1, 2]);
        talk.writer.write(&ToCma::Trusts(trusts.clone()), MESSAGE_LIMIT_BYTES).await.unwrap();
        trusted(&site).await;
        host.register.cma_keys = Some(trusts);
        drop(talk);
        drop(cma);
        let _cma = site.start(&[]);
        assert_eq!(as_it_should_be(&site), true, "also across a restart");

        // A host that is not connected is called.
        keys_of(&site).generate_cma().unwrap();
        site.request("POST", "/v1/keys/reload", None);
        let call = tokio::time::timeout(Duration::from_secs(30), host.inbox.connections.recv()).await;
        assert!(call.is_ok_and(|call| call.is_some()), "{}", site.read("log"));
    });
}

#[test]
fn a_switch_shows_the_new_key_ends_the_old_connections_and_a_bad_file_changes_nothing() {
    let site = Site::create();
    let mut cma = site.start(&[]);
    runtime().block_on(async {
        let host = Nanoprobe::new(&site, Some(published(&site, &[0, 1])));
        let old = Nanoprobe::new(&site, None);
        let talk = host.registered(&site).await;
        let publics = published(&site, &[0, 1]).keys;
        assert_eq!(talk.connection.peer.0, publics[0].key);
        let damaged = site.paths.crypto().join("#CMA#00001.pub");
        let whole = fs::read(&damaged).unwrap();
        fs::write(&damaged, &whole[..9]).unwrap();
        let (code, answer) = site.request("POST", "/v1/keys/reload", None);
        assert!(code == 409 && answer["error"].as_str().unwrap().contains("#CMA#00001.pub"), "{answer}");
        fs::write(&damaged, whole).unwrap();
        assert_eq!(talk.connection.lost(), None);

        fs::remove_file(site.paths.crypto().join("#CMA#00000.secret")).unwrap();
        assert_eq!(
            site.request("POST", "/v1/keys/reload", None).1,
            json!({"in_use": 1, "switched": true, "changed": true})
        );
        tokio::time::timeout(Duration::from_secs(20), talk.connection.closed()).await.unwrap();
        let mut talk = host.registered(&site).await;
        assert_eq!(talk.connection.peer.0, publics[1].key);
        assert_eq!(talk.keys().await, [1]);
        // One that cannot be told is not told: it would not understand.
        let mut register = old.register.clone();
        register.designation = "old".into();
        let old = Nanoprobe { register, ..old };
        let mut talk = old.registered(&site).await;
        while let Some(message) = talk.next(2).await {
            assert!(!matches!(message, FromCma::Keys(_)), "{message:?}");
        }
        let hosts = site.get("/v1/keys/hosts");
        let row = hosts.as_array().unwrap().iter().find(|row| row["host"] == "old").unwrap();
        assert_eq!(row["trusts"], Value::Null);
        assert!(site.get("/v1/status")["problems"].to_string().contains("assimcli keys spare"));
    });
    assert!(cma.0.try_wait().unwrap().is_none(), "{}", site.read("log"));
}

#[test]
fn a_restore_brings_no_retired_key_back_into_use() {
    let site = Site::create();
    let _cma = site.start(&[]);
    let publics = published(&site, &[0, 1]).keys;
    let copy = back_up(&site);
    fs::remove_file(site.paths.crypto().join("#CMA#00000.secret")).unwrap();
    assert_eq!(site.request("POST", "/v1/keys/reload", None).1["switched"], true);

    // Without sound keys nothing is taken over.
    let damaged = site.paths.crypto().join("#CMA#00001.pub");
    let whole = fs::read(&damaged).unwrap();
    fs::rename(&copy, staged(&site)).unwrap();
    fs::write(&damaged, &whole[..9]).unwrap();
    let (code, answer) = site.request("POST", "/v1/restore", Some(json!({})));
    assert!(code == 409 && answer["error"].as_str().unwrap().contains("#CMA#00001.pub"), "{answer}");
    fs::write(&damaged, whole).unwrap();

    restore(&site);
    assert_eq!(site.get("/v1/keys")["in_use"], 1);
    runtime().block_on(async {
        let host = Nanoprobe::new(&site, Some(published(&site, &[0, 1])));
        let mut talk = host.registered(&site).await;
        assert_eq!(talk.connection.peer.0, publics[1].key, "the key that it was switched to");
        assert_eq!(talk.keys().await, [1]);
    });
}
