//! Peers that do not keep to the rules, and giving up root.

use crate::site::{Agent, Site, host, runtime, wait_for};
use model::message::{FromCma, KnownDocument, RefusedReason, ToCma};
use model::{DocumentHash, PublicKey};
use serde_json::json;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;
use wire::framed::MESSAGE_LIMIT_BYTES;
use wire::hello::{Hello, Reply};
use wire::keys::KeyDirectory;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_first_message_must_be_a_small_registration() {
    let site = Site::create();
    let _cma = site.start(&[]);
    let mut agent = Agent::new(&site, "web1");
    agent.queue(json!({}));
    runtime().block_on(async {
        let report = ToCma::Report(agent.reports[0].clone());
        let refused = |answer| matches!(answer, FromCma::Refused(refused) if refused.reason == RefusedReason::Malformed);
        assert!(refused(agent.ask(&report).await));
        let mut large = agent.registration();
        large.documents =
            vec![KnownDocument { instance: "x".repeat(100), hash: DocumentHash([0; 32]) }; 1000];
        assert!(refused(agent.ask(&ToCma::Register(large)).await));
        let mut other = agent.registration();
        other.protocol = 7;
        let answer = agent.ask(&ToCma::Register(other)).await;
        assert!(matches!(answer, FromCma::Refused(refused) if refused.reason == RefusedReason::Protocol));
    });
    assert_eq!(site.get("/v1/hosts"), json!([]));
}

#[test]
fn bad_reports_are_rejected_by_number_and_good_ones_go_on() {
    let site = Site::create();
    let _cma = site.start(&[]);
    let mut agent = Agent::new(&site, "web1");
    for n in 0..4 {
        agent.queue(json!({"n": n}));
    }
    agent.reports[1].hash = DocumentHash([7; 32]);
    agent.reports[2].body = Some(bomb().into());
    runtime().block_on(async {
        let (_endpoint, mut writer, mut reader, _) = agent.dial().await.unwrap();
        for report in &agent.reports {
            writer.write(&ToCma::Report(report.clone()), MESSAGE_LIMIT_BYTES).await.unwrap();
        }
        let mut rejected = vec![];
        loop {
            match reader.read_within::<FromCma>(MESSAGE_LIMIT_BYTES, PATIENCE).await.unwrap() {
                Some(FromCma::Ack(ack)) => {
                    rejected.extend(ack.rejected.iter().map(|r| r.sequence));
                    if ack.sequence == 4 {
                        break;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(rejected, [2, 3]);
    });
    let events = site.get("/v1/events");
    let told: Vec<&str> =
        events.as_array().unwrap().iter().map(|e| e["event"]["eventtype"].as_str().unwrap()).collect();
    assert_eq!(told, ["up", "warn", "unwarn"], "{events}");
    let value = site.get("/v1/history?host=web1&instance=_auto_proc_sys&fact=n");
    assert_eq!(value, json!({"value": 3}));
}

/// A zstd frame (RFC 8878) that announces no size and unpacks to 64 MiB of zeroes.
fn bomb() -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    for i in 0..512u32 {
        let header = u32::from(i == 511) | 1 << 1 | (128 * 1024) << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn a_newer_connection_of_a_host_ends_the_older_one() {
    let site = Site::create();
    let _cma = site.start(&[]);
    let agent = Agent::new(&site, "web1");
    runtime().block_on(async {
        let (_first, _writer, mut reader, _) = agent.dial().await.unwrap();
        let (_second, _writer2, _reader2, answer) = agent.dial().await.unwrap();
        assert!(matches!(answer, FromCma::Welcome(_)));
        assert!(reader.read_within::<FromCma>(MESSAGE_LIMIT_BYTES, PATIENCE).await.is_err());
        assert_eq!(site.get("/v1/status")["connected"], 1);
    });
}

#[test]
fn a_hello_is_answered_and_nothing_shorter() {
    let site = Site::create();
    let _cma = site.start(&[]);
    let keys: Vec<PublicKey> = KeyDirectory::open(site.paths.crypto())
        .unwrap()
        .cma_publics()
        .unwrap()
        .into_iter()
        .map(|(_, key)| key)
        .collect();
    let hello = Hello::new([5; 16], &keys, 0);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(&hello.encode(), site.address).unwrap();
    let mut buffer = [0; 2000];
    let (count, from) = socket.recv_from(&mut buffer).unwrap();
    let reply = Reply::decode(&buffer[..count]).unwrap();
    assert_eq!(reply.target(&hello, &keys, from), Some(site.address));
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket.send_to(&hello.encode()[..127], site.address).unwrap();
    assert!(socket.recv_from(&mut buffer).is_err());
}

#[test]
fn started_as_root_it_becomes_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: giving up root can only be tested as root");
        return;
    }
    let site = Site::create();
    for path in [site.paths.root().to_owned(), site.paths.crypto()] {
        let mode = if path == site.paths.crypto() { 0o700 } else { 0o755 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    site.script("who", "id -u > @/var/lib/assimilation/who");
    let cma = site.start(&["--user", "nobody"]);
    let status = fs::read_to_string(format!("/proc/{}/status", cma.0.id())).unwrap();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let uid = daemon::privileges::find_user(&passwd, "nobody").unwrap().uid;
    let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    assert_eq!(line.split_whitespace().skip(1).collect::<Vec<_>>(), vec![uid.to_string(); 4]);
    assert_eq!(fs::metadata(site.paths.database()).unwrap().uid(), uid);
    let agent = Agent::new(&site, "web1");
    runtime().block_on(agent.deliver(1));
    assert_eq!(KeyDirectory::open(site.paths.crypto()).unwrap().pinned(&host("web1")).unwrap().len(), 1);
    let who = wait_for("the script", 20, || {
        let text = site.read("var/lib/assimilation/who");
        (!text.is_empty()).then_some(text)
    });
    assert_eq!(who.trim(), uid.to_string());
}
