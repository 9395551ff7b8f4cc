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

/// A loopback interface with multicast.
const LOOPBACK: &str =
    "ip link set lo up multicast on && ip address add 192.0.2.1/32 dev lo && ip route add 224.0.0.0/4 dev lo";

/// Runs `test` inside a namespace prepared by the commands `prepare`: in this process if it is the one inside, else in
/// another that runs the test called `name` again. Where the system lets us make no namespace, stderr says so.
fn in_namespace<F: Future<Output = ()>>(name: &str, prepare: &str, test: impl FnOnce() -> F) {
    if std::env::var_os(INSIDE).is_none() {
        return run_in_namespace(name, prepare);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), test()).await.unwrap() });
}

fn run_in_namespace(name: &str, prepare: &str) {
    let unshare = |script: &str| {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new("unshare");
        command.args(["-r", "-n", "sh", "-c", script]).arg(program).env(INSIDE, "1");
        command.output()
    };
    if !unshare(prepare).is_ok_and(|output| output.status.success()) {
        eprintln!("not tested: no network namespace can be made here");
        return;
    }
    let output = unshare(&format!("{prepare} && exec \"$0\" --exact {name} --nocapture")).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_hello_finds_the_cma_and_the_group_takes_nothing_else() {
    in_namespace("a_hello_finds_the_cma_and_the_group_takes_nothing_else", LOOPBACK, on_every_address);
}

#[test]
fn a_hello_finds_a_cma_that_is_bound_to_one_address() {
    // A second network, where this CMA does not serve.
    let more = "ip link add other type veth peer name behind && ip link set other up && ip link set behind up \
                && ip address add 198.51.100.1/24 dev other";
    let prepare = format!("{LOOPBACK} && {more}");
    in_namespace("a_hello_finds_a_cma_that_is_bound_to_one_address", &prepare, on_one_address);
}

async fn on_every_address() {
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

async fn on_one_address() {
    let key = KeyPair::generate().unwrap();
    let bind = "192.0.2.1:0".parse().unwrap();
    let config = EndpointConfig { bind, ..EndpointConfig::cma(key.clone()) };
    let (cma, mut inbox) = Endpoint::bind(config).unwrap();
    let port = cma.local_address().unwrap().port();
    assert_eq!(cma.join_multicast(), 1, "joining again keeps the membership");

    let pinned = [key.public()];
    let bind = "[::]:0".parse().unwrap();
    let config =
        EndpointConfig { bind, ..EndpointConfig::nanoprobe(KeyPair::generate().unwrap(), pinned.to_vec()) };
    let (nanoprobe, mut mine) = Endpoint::bind(config).unwrap();
    let group = SocketAddr::from((MULTICAST, port));
    let question = Hello::new([4; 16], &pinned, 0);
    nanoprobe.send_datagram(group, &question.encode()).unwrap();
    let asked = inbox.datagrams.recv().await.unwrap();
    assert_eq!(asked.destination, Some(MULTICAST.into()));
    let mut limiter = ReplyLimiter::new(1);
    let reply =
        answer(&asked.bytes, asked.source, &key.public(), port, &mut limiter, Duration::ZERO).unwrap();
    cma.send_datagram(asked.source, &reply).unwrap();
    let answered = mine.datagrams.recv().await.unwrap();
    assert_eq!(answered.source, SocketAddr::from(([192, 0, 2, 1], port)), "the one address answers");
    let target = Reply::decode(&answered.bytes).unwrap().target(&question, &pinned, answered.source).unwrap();
    tokio::spawn(serve(inbox.connections));
    assert_eq!(exchange(&nanoprobe.connect(target).await.unwrap(), "found").await, Ok(5));

    // Packets that are not for it: QUIC, too long, empty, from a network it is not bound to.
    let stranger = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    stranger.send_to(&[0xc0; 1200], group).unwrap();
    stranger.send_to(&[0x21; 1501], group).unwrap();
    stranger.send_to(&[], group).unwrap();
    let elsewhere = socket2::Socket::from(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    let other = Ipv4Addr::new(198, 51, 100, 1);
    elsewhere.set_multicast_if_v4(&other).unwrap();
    // Another program of this host is a member there.
    elsewhere.join_multicast_v4(&MULTICAST, &other).unwrap();
    elsewhere.send_to(&[0x21, 7], &group.into()).unwrap();
    stranger.send_to(&[0x21, 5], group).unwrap();
    let next = inbox.datagrams.recv().await.unwrap();
    assert_eq!((next.bytes, next.destination), (vec![0x21, 5], Some(MULTICAST.into())));
    assert_eq!((cma.stats().dropped_multicast_quic, cma.stats().dropped_large), (1, 1));

    // The address goes, and with its interface's last address the membership; both come back.
    ip(&["address", "del", "192.0.2.1/32", "dev", "lo"]);
    assert_eq!(cma.join_multicast(), 0);
    ip(&["address", "add", "192.0.2.1/32", "dev", "lo"]);
    assert_eq!(cma.join_multicast(), 1);
    ip(&["route", "replace", "224.0.0.0/4", "dev", "lo"]);
    stranger.send_to(&[0x21, 9], group).unwrap();
    assert_eq!(inbox.datagrams.recv().await.unwrap().bytes, [0x21, 9]);
}

/// Changes the network of the namespace that this process is in.
fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {}", arguments.join(" "));
}
