//! The CMA changes which of its keys are trusted.

use crate::rig::{Said, Site, Store};
use model::PublicKey;
use model::message::{CmaKey, CmaKeys, FromCma};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use wire::keys::{KeyPair, signed};

/// As it is: through the network process, which passes on whatever comes.
fn say_bare(site: &Site, keys: CmaKeys) {
    site.store.lock().unwrap().say.as_ref().unwrap().send(FromCma::Keys(keys)).unwrap();
}

/// With the proof that it comes from whoever holds the key in use.
fn say(site: &Site, keys: CmaKeys) {
    say_bare(site, site.signed(&keys));
}

fn last(store: &Store) -> Option<(&[u32], Said)> {
    store.trusted.last().map(|(numbers, said)| (numbers.as_slice(), *said))
}

fn names(site: &Site) -> Vec<String> {
    let entries = fs::read_dir(site.crypto()).unwrap().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("#CMA#"))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn new_keys_are_on_disk_before_they_are_trusted_and_hold_after_a_kill() {
    let mut site = Site::new();
    site.cma_keys().generate_cma().unwrap();
    let cma = site.cma(None);
    let nanoprobe = site.nanoprobe(cma.address);
    site.until("the registration", |store| last(store) == Some((&[0, 1], Said::Registering))).await;
    let spare = site.set(&[0, 1, 2]);
    say(&site, spare);
    site.until("the answer", |store| last(store) == Some((&[0, 1, 2], Said::Answering))).await;
    assert_eq!(names(&site), ["#CMA#00000.pub", "#CMA#00001.pub", "#CMA#00002.pub"]);
    // What it said it trusts it trusts, whatever happens to it.
    nanoprobe.kill();
    let nanoprobe = site.nanoprobe(cma.address);
    site.until("it to come again", |store| last(store) == Some((&[0, 1, 2], Said::Registering))).await;
    // The current key may not take its successor away.
    let without = site.set(&[0, 2]);
    say(&site, without);
    site.until("the refusal", |store| last(store) == Some((&[0, 1, 2], Said::Answering))).await;
    assert!(site.log().contains("#CMA#00001 stays"), "{}", site.log());

    // The successor comes instead of the old key and takes over, without the nanoprobe being started again.
    let address = cma.address;
    cma.close().await;
    site.use_next_key();
    let cma = site.cma(Some(address));
    let registered = site.store.lock().unwrap().registered.unwrap();
    cma.call(registered).await;
    site.until("it to come to the successor", |store| last(store) == Some((&[0, 1, 2], Said::Registering)))
        .await;
    let taken_over = site.set(&[1, 2]);
    say(&site, taken_over);
    site.until("the take-over", |store| last(store) == Some((&[1, 2], Said::Answering))).await;
    assert_eq!(names(&site), ["#CMA#00000.retired", "#CMA#00001.pub", "#CMA#00002.pub"]);
    nanoprobe.kill();
    let _nanoprobe = site.nanoprobe(cma.address);
    site.until("it to come again", |store| last(store) == Some((&[1, 2], Said::Registering))).await;
}

#[tokio::test]
async fn a_thief_of_the_key_in_use_cannot_get_rid_of_the_spare() {
    let mut site = Site::new();
    let cma = site.cma(None);
    let _nanoprobe = site.nanoprobe(cma.address);
    site.until("the registration", |store| last(store) == Some((&[0, 1], Said::Registering))).await;
    let rogue = CmaKey { number: 7, key: [7; 32] };
    let mut wanted = site.set(&[0]);
    wanted.keys.push(rogue);
    say(&site, wanted);
    site.until("the answer", |store| last(store) == Some((&[0, 1, 7], Said::Answering))).await;

    let address = cma.address;
    cma.close().await;
    site.cma_keys().generate_cma().unwrap();
    site.use_next_key();
    let cma = site.cma(Some(address));
    let registered = site.store.lock().unwrap().registered.unwrap();
    cma.call(registered).await;
    site.until("it to tell of the rogue key", |store| last(store) == Some((&[0, 1, 7], Said::Registering)))
        .await;
    let taken_over = site.set(&[1, 2]);
    say(&site, taken_over);
    site.until("the take-over", |store| last(store) == Some((&[1, 2], Said::Answering))).await;
    assert!(!site.crypto().join("#CMA#00007.pub").exists());
}

/// A captured network process can say all that is said here: the connection is authentic, so nothing but the list itself can
/// tell the agent that it is not.
#[tokio::test]
async fn a_list_that_no_trusted_key_signed_for_this_host_changes_nothing_whoever_brings_it() {
    let site = Site::new();
    site.cma_keys().generate_cma().unwrap();
    let cma = site.cma(None);
    let _nanoprobe = site.nanoprobe(cma.address);
    site.until("the registration", |store| last(store) == Some((&[0, 1], Said::Registering))).await;
    let own = site.store.lock().unwrap().registered.unwrap().1;
    let (before, wanted) = (names(&site), site.set(&[0, 1, 2]));
    let stranger = KeyPair::generate().unwrap();
    let (_, not_pinned) = {
        let keys = site.cma_keys();
        for number in 0..2 {
            fs::remove_file(keys.path().join(format!("#CMA#{number:05}.secret"))).unwrap();
        }
        keys.cma_pair().unwrap()
    };
    let mut altered = site.signed(&wanted);
    altered.keys[2].key = stranger.public().0;
    let mut moved = wanted.clone();
    moved.signature = site.signed(&site.set(&[0, 1])).signature;
    let forged = [
        wanted.clone(),
        signed(&wanted, &stranger, &own),
        signed(&wanted, &not_pinned, &own),
        signed(&wanted, &site.cma_key, &PublicKey([1; 32])),
        signed(&wanted, &site.cma_key, &site.cma_key.public()),
        altered,
        moved,
    ];
    let refusals =
        |site: &Site| site.log().matches("none of the keys that are trusted has signed it").count();
    for (number, forged) in forged.into_iter().enumerate() {
        say_bare(&site, forged);
        // It says at once that nothing has changed, and its log says why.
        site.until("the answer", |store| store.trusted.len() == number + 2).await;
        assert_eq!(last(&site.store.lock().unwrap()), Some((&[0, 1][..], Said::Answering)), "{number}");
        assert_eq!((names(&site), refusals(&site)), (before.clone(), number + 1), "{number}");
    }
    assert!(
        !site.root().join("var/lib/assimilation/nanoprobe/keys/cma-keys").exists(),
        "nothing was written"
    );
    say(&site, wanted);
    site.until("the answer to a good one", |store| last(store) == Some((&[0, 1, 2], Said::Answering))).await;
}

/// What an administrator copies into the key directory, in one step.
fn put(path: &Path, bytes: &[u8]) {
    let unfinished = path.with_extension("tmp");
    fs::write(&unfinished, bytes).unwrap();
    fs::set_permissions(&unfinished, PermissionsExt::from_mode(0o644)).unwrap();
    fs::rename(unfinished, path).unwrap();
}

async fn until_log(site: &Site, words: &str, times: usize) {
    site.until(&format!("{words:?} in the log"), |_| site.log().matches(words).count() >= times).await;
}

#[tokio::test]
async fn key_files_that_were_copied_by_hand_count_with_the_next_hangup_all_or_none() {
    let mut site = Site::new();
    site.cma_keys().generate_cma().unwrap();
    let cma = site.cma(None);
    let nanoprobe = site.nanoprobe(cma.address);
    site.until("the registration", |store| last(store) == Some((&[0, 1], Said::Registering))).await;
    let network = nanoprobe.network();
    let file = |number: u32| site.crypto().join(format!("#CMA#{number:05}.pub"));
    let public =
        |number: u32| fs::read(site.cma_keys().path().join(format!("#CMA#{number:05}.pub"))).unwrap();

    // While a connection is up: the CMA is told at once what is trusted now.
    put(&file(2), &public(2));
    nanoprobe.signal(Signal::HUP);
    site.until("the new key", |store| last(store) == Some((&[0, 1, 2], Said::Registering))).await;

    // One file is cut off, so the removal of the other does not count either, and the connection stays.
    let registrations = site.store.lock().unwrap().registrations;
    fs::remove_file(file(1)).unwrap();
    put(&file(3), &public(2)[..20]);
    nanoprobe.signal(Signal::HUP);
    until_log(&site, "the key files are not used", 1).await;
    assert!(site.log().contains("#CMA#00003.pub has 20 bytes"), "{}", site.log());
    // The answer to a list shows what is trusted.
    let wanted = site.set(&[0, 1, 2]);
    say_bare(&site, wanted);
    site.until("an answer", |store| last(store) == Some((&[0, 1, 2], Said::Answering))).await;
    assert_eq!(site.store.lock().unwrap().registrations, registrations);

    fs::remove_file(file(3)).unwrap();
    nanoprobe.signal(Signal::HUP);
    site.until("the removal", |store| last(store) == Some((&[0, 2], Said::Registering))).await;
    // The same as a start would find: and nothing happens where nothing differs.
    let registrations = site.store.lock().unwrap().registrations;
    nanoprobe.signal(Signal::HUP);
    until_log(&site, "settings read again", 4).await;
    let wanted = site.set(&[0, 2]);
    say_bare(&site, wanted);
    site.until("an answer", |store| last(store) == Some((&[0, 2], Said::Answering))).await;
    assert_eq!(site.store.lock().unwrap().registrations, registrations);

    // Without the key in use the CMA is a stranger: its connection ends, and no other begins.
    fs::rename(file(0), site.crypto().join("#CMA#00000.retired")).unwrap();
    nanoprobe.signal(Signal::HUP);
    until_log(&site, "that is #CMA#00000, which was retired", 1).await;
    assert_eq!(site.store.lock().unwrap().registrations, registrations);
    // Put there again beside its record it is not trusted.
    put(&file(0), &public(0));
    nanoprobe.signal(Signal::HUP);
    until_log(&site, "was retired and is not trusted though somebody put it here again", 1).await;
    assert_eq!(site.store.lock().unwrap().registrations, registrations);
    fs::remove_file(site.crypto().join("#CMA#00000.retired")).unwrap();
    nanoprobe.signal(Signal::HUP);
    site.until("it to come again", |store| last(store) == Some((&[0, 2], Said::Registering))).await;
    assert_eq!(nanoprobe.network(), network, "its network process needed no other");

    // The same after a kill, and the order of succession is that of the files.
    nanoprobe.kill();
    let registrations = site.store.lock().unwrap().registrations;
    site.use_next_key();
    site.use_next_key();
    let cma = {
        drop(cma);
        site.cma(None)
    };
    let _nanoprobe = site.nanoprobe(cma.address);
    site.until("it to come to the successor", |store| store.registrations > registrations).await;
    assert_eq!(last(&site.store.lock().unwrap()), Some((&[0, 2][..], Said::Registering)));
    let taken_over = site.set(&[2]);
    say(&site, taken_over);
    site.until("the take-over", |store| last(store) == Some((&[2], Said::Answering))).await;
}
