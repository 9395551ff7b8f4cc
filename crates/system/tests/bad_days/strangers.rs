//! Peers with a key of their own that do not keep to the rules.

use crate::peer::{Peer, Raw, block_on, bomb};
use crate::rig::{Scene, memory_bytes, texts};
use model::message::{FromCma, Goodbye, RefusedReason, ToCma};
use model::{DocumentHash, Timestamp};
use serde_json::json;

const MIB: usize = 1024 * 1024;

/// What comes before registration: refused with a reason, or cut off.
async fn before_registration(peer: &Peer) {
    let malformed = |answer: Option<FromCma>| match answer {
        Some(FromCma::Refused(refused)) => {
            assert_eq!(refused.reason, RefusedReason::Malformed);
            refused.text
        }
        other => panic!("not refused: {other:?}"),
    };
    let firsts =
        [ToCma::Goodbye(Goodbye { reason: "HBSHUTDOWN".into() }), ToCma::Report(peer.report(1, json!({})))];
    for first in firsts {
        let mut talk = peer.connect().await;
        talk.say(&first).await;
        let text = malformed(talk.hear().await);
        assert!(text.contains("first message must be a registration"), "{text}");
    }
    let cut_off = model::message::encode(&ToCma::Register(peer.registration()));
    let with_rest = [cut_off.as_slice(), &[0]].concat();
    let deep = vec![0x81; 60_000];
    let announced = vec![0x82, 0x01, 0x81, 0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let cases: [&[u8]; 7] =
        [&[], &[0xff], &cut_off[..cut_off.len() / 2], &with_rest, &deep, &announced, &[0x41; 70_000]];
    for bytes in cases {
        let mut talk = peer.connect().await;
        talk.say(&Raw(bytes.to_vec())).await;
        let text = malformed(talk.hear().await);
        assert!(text.contains("cannot be read"), "{text}");
    }
    let mut future = peer.registration();
    future.protocol = 99;
    let mut talk = peer.connect().await;
    talk.say(&ToCma::Register(future)).await;
    let Some(FromCma::Refused(refused)) = talk.hear().await else { panic!("a protocol from the future") };
    assert!(
        refused.text.contains("99") && refused.text.contains("install the same version"),
        "{}",
        refused.text
    );
}

/// What a registered host may still do wrong.
async fn after_registration(peer: &Peer) {
    // Larger than any legal message: refused by its length alone.
    let (mut talk, _) = peer.register().await.unwrap();
    talk.say(&Raw(vec![0; 17 * MIB])).await;
    assert_eq!(talk.hear().await, None);
    let (mut talk, _) = peer.register().await.unwrap();
    talk.say(&Raw(b"\xffnothing".to_vec())).await;
    assert_eq!(talk.hear().await, None);

    let (mut talk, welcome) = peer.register().await.unwrap();
    assert_eq!(welcome.last_sequence, 0);
    talk.say(&ToCma::Report(peer.report(1, json!({"n": 1})))).await;
    assert_eq!(talk.acknowledged().await.sequence, 1);
    // The same number with another content, and numbers that leave a gap: nothing of it is taken.
    for (sequence, content) in [(1, 100), (0, 101), (7, 102), (u64::MAX, 103)] {
        talk.say(&ToCma::Report(peer.report(sequence, json!({"n": content})))).await;
        let ack = talk.acknowledged().await;
        assert_eq!((ack.sequence, ack.rejected.len()), (1, 0), "after sequence {sequence}");
    }
    // Refused for good, by number and with the reason; the next one is taken.
    let mut bombed = peer.report(2, json!({}));
    bombed.body = Some(bomb(64).into());
    let mut wrong_hash = peer.report(3, json!({"n": 3}));
    wrong_hash.hash = DocumentHash([9; 32]);
    let mut strange = peer.report(4, json!({"n": 4}));
    strange.instance = "../../etc/passwd".into();
    let mut no_json = peer.report(5, json!({}));
    no_json.body = Some(wire::body::compress(b"{\"data\": ").unwrap().into());
    no_json.hash = DocumentHash::of(b"{\"data\": ");
    for report in [bombed, wrong_hash, strange, no_json] {
        let sequence = report.sequence;
        talk.say(&ToCma::Report(report)).await;
        let ack = talk.acknowledged().await;
        assert_eq!((ack.sequence, ack.rejected.len()), (sequence, 1), "{ack:?}");
        assert!(!ack.rejected[0].reason.is_empty());
    }
    let mut last = peer.report(6, json!({"n": 6}));
    (last.seen, last.changed_after) = (Timestamp(i64::MAX), Timestamp(i64::MIN));
    talk.say(&ToCma::Report(last)).await;
    let ack = talk.acknowledged().await;
    assert_eq!((ack.sequence, ack.rejected.len()), (6, 0), "{ack:?}");
}

#[test]
fn peers_that_break_the_rules_are_refused_and_disturb_nobody() {
    let scene = Scene::new(&["picard", "locutus"]);
    let mut cma = scene.site.start_cma(&[]).unwrap();
    let _nanoprobe = scene.start("picard");
    scene.wait_until_judged("picard", "pass");
    let before = memory_bytes(&cma);

    let stranger = Peer::new(&scene.site, "locutus");
    let impostor = Peer::new(&scene.site, "picard");
    let locutus = scene.host("locutus");
    locutus.inside(|| block_on(before_registration(&stranger))).unwrap();
    assert_eq!(scene.site.count("SELECT 1 FROM hosts"), 1, "nothing of all this was a registration");
    locutus.inside(|| block_on(after_registration(&stranger))).unwrap();
    let rows = scene
        .site
        .ask(&[
            "sql",
            "SELECT document ->> '$.data.n' AS n FROM changes WHERE host = 'locutus' ORDER BY since",
        ])
        .unwrap();
    assert_eq!(rows, json!([{"n": 1}, {"n": 6}]), "neither the repeats nor the gaps left a trace");

    let refused =
        locutus.inside(|| block_on(impostor.register()).err()).unwrap().expect("an impostor was let in");
    assert_eq!(refused.reason, RefusedReason::KeyMismatch);
    assert!(
        refused.text.contains("accept-key picard") && refused.text.contains("--name"),
        "{}",
        refused.text
    );
    let events = scene
        .site
        .ask(&["sql", "SELECT reason FROM events WHERE host = 'picard' AND eventtype = 'warn' AND reason = 'key mismatch'"])
        .unwrap();
    assert_eq!(texts(&events, "reason"), ["key mismatch"]);

    // Those who connect and say nothing take some places, not the service.
    let silent = Peer::new(&scene.site, "silence");
    locutus
        .inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut talks = Vec::new();
            for _ in 0..150 {
                talks.push(runtime.block_on(silent.connect()));
            }
            scene.prove_that_changes_arrive("picard");
        })
        .unwrap();
    cma.still_running().unwrap();
    let grown = memory_bytes(&cma).saturating_sub(before);
    assert!(grown < 64 * MIB as u64, "the CMA grew by {} MiB", grown / MIB as u64);
}
