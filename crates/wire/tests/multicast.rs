//! The multicast group, in a network namespace of its own so that no packet leaves this host.

mod common;

use common::*;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;
use wire::MULTICAST;
use wire::endpoint::{Endpoint, EndpointConfig};
use wire::hello::{Hello, Reply, ReplyLimiter, answer};
use wire::keys::KeyPair;

const INSIDE: &str = "WIRE_TEST_IN_NAMESPACE";

/// Runs the test called `name` again inside a namespace that has only a loopback interface; `false` when the system
/// does not let us make one, which is said on stderr.
fn run_in_namespace(name: &str) -> bool {
    let unshare = |script: &str| {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new("unshare");
        command.args(["-r", "-n", "sh", "-c", script]).arg(program).env(INSIDE, "1");
        command.output()
    };
    let prepare = "ip link set lo up multicast on && ip address add 192.0.2.1/32 dev lo && ip route add 224.0.0.0/4 dev lo";
    if !unshare(prepare).is_ok_and(|output| output.status.success()) {
        eprintln!("not tested: no network namespace can be made here");
        return false;
    }
    let output = unshare(&format!("{prepare} && exec \"$0\" --exact {name} --nocapture")).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    true
}

#[test]
fn a_hello_finds_the_cma_and_the_group_takes_nothing_else() {
    if std::env::var_os(INSIDE).is_none() {
        run_in_namespace("a_hello_finds_the_cma_and_the_group_takes_nothing_else");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), inside()).await.unwrap() });
}

async fn inside() {
    let key = KeyPair::generate().unwrap();
    let bind = "[::]:0".parse().unwrap();
    let config = EndpointConfig { bind, ..EndpointConfig::cma(key.clone()) };
    let (cma, mut inbox) = Endpoint::bind(config).unwrap();
    let port = cma.local_address().unwrap().port();
    assert!(cma.join_multicast() >= 1, "joining again keeps the membership");

    let pinned = [key.public()];
    let config =
        EndpointConfig { bind, ..EndpointConfig::nanoprobe(KeyPair::generate().unwrap(), pinned.to_vec()) };
    let (nanoprobe, mut mine) = Endpoint::bind(config).unwrap();
    let group = SocketAddr::from((MULTICAST, port));
    let question = Hello::new([4; 16], &pinned, 0);
    nanoprobe.send_datagram(group, &question.encode()).unwrap();
    let asked = inbox.datagrams.recv().await.unwrap();
    assert_eq!(asked.destination, Some(MULTICAST.into()));
    assert!(asked.source.is_ipv4());
    let mut limiter = ReplyLimiter::new(1);
    let reply =
        answer(&asked.bytes, asked.source, &key.public(), port, &mut limiter, Duration::ZERO).unwrap();
    cma.send_datagram(asked.source, &reply).unwrap();
    let answered = mine.datagrams.recv().await.unwrap();
    let target = Reply::decode(&answered.bytes).unwrap().target(&question, &pinned, answered.source).unwrap();
    assert!(!target.ip().is_multicast());
    tokio::spawn(serve(inbox.connections));
    assert_eq!(exchange(&nanoprobe.connect(target).await.unwrap(), "found").await, Ok(5));

    // QUIC to the group is dropped.
    let stranger = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    stranger.send_to(&[0xc0; 1200], group).unwrap();
    // What other programs' groups get is not ours.
    let other = Ipv4Addr::new(224, 0, 2, 6);
    stranger.join_multicast_v4(&other, &Ipv4Addr::LOCALHOST).unwrap();
    stranger.send_to(&[0x21, 6], (other, port)).unwrap();
    stranger.send_to(&[0x21, 5], group).unwrap();
    let next = inbox.datagrams.recv().await.unwrap();
    assert_eq!((next.bytes, next.destination), (vec![0x21, 5], Some(MULTICAST.into())));
    assert_eq!(cma.stats().dropped_multicast_quic, 1);
}
