//! Real endpoints on loopback: who may talk to whom, restarts, address changes, limits.

mod common;

use common::*;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use wire::endpoint::{BindError, CloseReason, ConnectError, Endpoint, EndpointConfig, EndpointError, Lost};
use wire::keys::KeyPair;

#[tokio::test]
async fn both_sides_prove_their_keys_and_talk() {
    let key = KeyPair::generate().unwrap();
    let (_cma, mut inbox, address) = cma(&key);
    let config = nanoprobe_config(&[key.public()]);
    let own = config.key.public();
    let (nanoprobe, _) = Endpoint::bind(config).unwrap();
    let connection = nanoprobe.connect(address).await.unwrap();
    assert_eq!(connection.peer, key.public());
    assert_eq!(connection.remote(), address);
    let seen = inbox.connections.recv().await.unwrap();
    assert_eq!(seen.peer, own);
    assert_eq!(seen.remote(), nanoprobe.local_address().unwrap());
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(serve(receiver));
    sender.send(seen).await.unwrap();
    assert_eq!(exchange(&connection, "HBSHUTDOWN").await, Ok(10));
}

#[tokio::test]
async fn a_cma_with_an_unknown_key_is_refused_and_named() {
    let (ours, theirs) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (cma, mut inbox, address) = cma(&theirs);
    let (nanoprobe, _) = nanoprobe(&[ours.public()]);
    let error = nanoprobe.connect(address).await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::NotTrusted { offered, .. } if *offered == theirs.public()),
        "{error}"
    );
    assert!(error.to_string().contains(&theirs.public().fingerprint()), "{error}");
    tokio::time::timeout(PATIENCE, async {
        while cma.stats().failed_handshakes == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert!(inbox.connections.try_recv().is_err());
    // Without any pinned key nobody is trusted.
    let (unpinned, _) = common::nanoprobe(&[]);
    assert!(matches!(unpinned.connect(address).await, Err(ConnectError::NotTrusted { .. })));
}

#[tokio::test]
async fn the_second_pinned_key_is_as_good_as_the_first() {
    let (first, second) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (_cma, _inbox, address) = cma(&second);
    let (nanoprobe, _) = nanoprobe(&[first.public(), second.public()]);
    assert_eq!(nanoprobe.connect(address).await.unwrap().peer, second.public());
    // Keys can be taken away at run time.
    nanoprobe.trust(vec![first.public()]);
    assert!(matches!(nanoprobe.connect(address).await, Err(ConnectError::NotTrusted { .. })));
    assert!(nanoprobe.connect_to(address, &[second.public()]).await.is_ok());
}

#[tokio::test]
async fn a_listening_nanoprobe_takes_only_its_cma() {
    let (ours, stranger) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let config = EndpointConfig { listen: true, ..nanoprobe_config(&[ours.public()]) };
    let key = config.key.public();
    let (nanoprobe, mut inbox) = Endpoint::bind(config).unwrap();
    let address = nanoprobe.local_address().unwrap();
    let (hostile, _inbox, _) = cma(&stranger);
    // The handshake may look finished to the stranger, but no connection comes out of it.
    if let Ok(connection) = hostile.connect_to(address, &[key]).await {
        assert!(matches!(connection.closed().await, Lost::Other(_)));
    }
    assert!(inbox.connections.try_recv().is_err());
    assert_eq!(nanoprobe.stats().failed_handshakes, 1);
    let (good, _inbox, _) = cma(&ours);
    let _held = good.connect_to(address, &[key]).await.unwrap();
    assert_eq!(inbox.connections.recv().await.unwrap().peer, ours.public());
    // From now on it is the other way round.
    nanoprobe.trust(vec![stranger.public()]);
    if let Ok(connection) = good.connect_to(address, &[key]).await {
        assert!(matches!(connection.closed().await, Lost::Other(_)));
    }
    assert!(inbox.connections.try_recv().is_err());
    let _held = hostile.connect_to(address, &[key]).await.unwrap();
    assert_eq!(inbox.connections.recv().await.unwrap().peer, stranger.public());
}

#[tokio::test]
async fn handshakes_of_strangers_are_rationed_and_the_cma_still_comes_through() {
    let (ours, stranger) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let config =
        EndpointConfig { listen: true, handshakes_per_second: Some(1), ..nanoprobe_config(&[ours.public()]) };
    let key = config.key.public();
    let (nanoprobe, mut inbox) = Endpoint::bind(config).unwrap();
    let address = nanoprobe.local_address().unwrap();
    let (hostile, _inbox, _) = cma(&stranger);
    let attempts = (0..10).map(|_| {
        let hostile = hostile.clone();
        tokio::spawn(async move { hostile.connect_to(address, &[key]).await.map(|c| drop(c.lost())) })
    });
    let attempts: Vec<_> = attempts.collect();
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let stats = nanoprobe.stats();
    assert!(stats.failed_handshakes <= 2 + begun.elapsed().as_secs(), "{stats:?}");
    assert!(stats.over_limit >= 5, "{stats:?}");
    attempts.iter().for_each(tokio::task::JoinHandle::abort);
    let (good, _inbox, _) = cma(&ours);
    let _held = good.connect_to(address, &[key]).await.unwrap();
    assert_eq!(inbox.connections.recv().await.unwrap().peer, ours.public());
}

#[tokio::test]
async fn unvalidated_addresses_are_asked_to_prove_themselves() {
    let key = KeyPair::generate().unwrap();
    let (cma, _inbox, address) = cma(&key);
    let (nanoprobe, _) = nanoprobe(&[key.public()]);
    nanoprobe.connect(address).await.unwrap();
    assert_eq!(cma.stats().retries, 1);
}

#[tokio::test]
async fn a_killed_and_restarted_cma_is_noticed_at_the_next_packet() {
    let home = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    // With other keys after the restart it cannot be noticed: this is what the state directory is for.
    for (before, after, noticed) in [("one", "one", Some(Lost::Restarted)), ("one", "two", None)] {
        let config = |bind, state| {
            let state_directory = Some(home.path().join(state));
            EndpointConfig { bind, state_directory, ..cma_config(&key) }
        };
        let cma = Killable::start(config(loopback(), before), serve);
        let address = cma.address;
        let (nanoprobe, _inbox) = nanoprobe(&[key.public()]);
        let connection = nanoprobe.connect(address).await.unwrap();
        assert_eq!(exchange(&connection, "one").await, Ok(3));
        cma.kill();
        let restarted = Killable::start(config(address, after), serve);
        let speaking = tokio::spawn({
            let connection = connection.clone();
            async move { exchange(&connection, "two").await }
        });
        let lost = tokio::time::timeout(Duration::from_secs(3), connection.closed()).await.ok();
        assert_eq!(lost, noticed, "{before} {after}");
        speaking.abort();
        // Dialling again works at once.
        let again = nanoprobe.connect(address).await.unwrap();
        assert_eq!(exchange(&again, "three").await, Ok(5));
        restarted.kill();
    }
}

#[tokio::test]
async fn a_nanoprobe_that_changes_its_address_goes_on() {
    let key = KeyPair::generate().unwrap();
    let (_cma, mut inbox, address) = cma(&key);
    let (nanoprobe, _) = nanoprobe(&[key.public()]);
    let connection = nanoprobe.connect(address).await.unwrap();
    let seen = inbox.connections.recv().await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(serve(receiver));
    sender.send(seen.clone()).await.unwrap();
    assert_eq!(exchange(&connection, "before").await, Ok(6));
    let before = seen.remote();
    nanoprobe.rebind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0))).unwrap();
    assert_eq!(exchange(&connection, "after!!").await, Ok(7));
    assert_ne!(seen.remote(), before);
    assert_eq!(seen.remote(), nanoprobe.local_address().unwrap());
}

#[tokio::test]
async fn connections_over_the_limit_are_not_answered() {
    let key = KeyPair::generate().unwrap();
    let config = EndpointConfig { max_connections: 2, ..cma_config(&key) };
    let (cma, mut inbox) = Endpoint::bind(config).unwrap();
    let address = cma.local_address().unwrap();
    let (nanoprobe, _) = nanoprobe(&[key.public()]);
    let one = nanoprobe.connect(address).await.unwrap();
    let two = nanoprobe.connect(address).await.unwrap();
    let third = tokio::time::timeout(Duration::from_secs(2), nanoprobe.connect(address)).await;
    assert!(third.is_err(), "{third:?}");
    assert!(cma.stats().over_limit >= 1);
    assert_eq!(cma.stats().open_connections, 2);
    // A place that is given back is taken again.
    one.close(CloseReason::Idle);
    drop(inbox.connections.recv().await.unwrap());
    let again = tokio::time::timeout(Duration::from_secs(8), nanoprobe.connect(address)).await;
    assert!(again.is_ok_and(|result| result.is_ok()));
    drop(two);
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let key = KeyPair::generate().unwrap();
    let config = EndpointConfig { max_connections_per_address: 1, ..cma_config(&key) };
    let (cma, _inbox) = Endpoint::bind(config).unwrap();
    let address = cma.local_address().unwrap();
    let (greedy, _) = nanoprobe(&[key.public()]);
    let _held = greedy.connect(address).await.unwrap();
    let error = greedy.connect(address).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    assert_eq!(cma.stats().over_limit, 1);
    let bind = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 3), 0));
    let (other, _) = Endpoint::bind(EndpointConfig { bind, ..nanoprobe_config(&[key.public()]) }).unwrap();
    assert!(other.connect(address).await.is_ok());
}

#[tokio::test]
async fn the_reason_of_closing_arrives() {
    let key = KeyPair::generate().unwrap();
    let (cma, mut inbox, address) = cma(&key);
    let (nanoprobe, _) = nanoprobe(&[key.public()]);
    for reason in [CloseReason::Idle, CloseReason::Refused, CloseReason::Superseded] {
        let connection = nanoprobe.connect(address).await.unwrap();
        inbox.connections.recv().await.unwrap().close(reason);
        assert_eq!(connection.closed().await, Lost::Closed(reason));
        assert_eq!(connection.lost(), Some(Lost::Closed(reason)));
    }
    let connection = nanoprobe.connect(address).await.unwrap();
    let _seen = inbox.connections.recv().await.unwrap();
    cma.close(CloseReason::Shutdown, PATIENCE).await;
    assert_eq!(connection.closed().await, Lost::Closed(CloseReason::Shutdown));
    assert!(
        tokio::time::timeout(PATIENCE, async { while inbox.connections.recv().await.is_some() {} })
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_taken_port_is_replaced_only_when_allowed() {
    let key = KeyPair::generate().unwrap();
    let (_cma, _inbox, address) = cma(&key);
    let again = Endpoint::bind(EndpointConfig { bind: address, ..cma_config(&key) });
    let error = again.unwrap_err();
    assert!(
        matches!(error, EndpointError::Bind(BindError::Taken { address: at }) if at == address),
        "{error}"
    );
    assert!(error.to_string().contains("--bind"), "{error}");
    let (nanoprobe, _) =
        Endpoint::bind(EndpointConfig { bind: address, ..nanoprobe_config(&[key.public()]) }).unwrap();
    assert_ne!(nanoprobe.local_address().unwrap().port(), address.port());
    assert!(nanoprobe.connect(address).await.is_ok());
    let elsewhere = EndpointConfig { bind: "192.0.2.1:0".parse().unwrap(), ..cma_config(&key) };
    assert!(matches!(Endpoint::bind(elsewhere), Err(EndpointError::Bind(BindError::NotOurs { .. }))));
}

#[tokio::test]
async fn a_dual_stack_endpoint_speaks_both_families() {
    let key = KeyPair::generate().unwrap();
    let config = EndpointConfig { bind: "[::]:0".parse().unwrap(), ..cma_config(&key) };
    let (cma, mut inbox) = Endpoint::bind(config).unwrap();
    let local = cma.local_address().unwrap();
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, local.port()));
    let (nanoprobe, _) = nanoprobe(&[key.public()]);
    let connection = nanoprobe.connect(v4).await.unwrap();
    assert_eq!(connection.remote(), v4);
    let seen = inbox.connections.recv().await.unwrap();
    assert_eq!(seen.remote(), nanoprobe.local_address().unwrap(), "IPv4 is shown as IPv4");
    nanoprobe.send_datagram(v4, &[0x21; 128]).unwrap();
    assert!(inbox.datagrams.recv().await.unwrap().source.is_ipv4());
    // An IPv4 socket cannot reach IPv6, and takes the mapped form of its own family.
    let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{}", local.port()).parse().unwrap();
    assert!(nanoprobe.connect(mapped).await.is_ok());
    assert!(matches!(
        nanoprobe.connect("[::1]:9".parse().unwrap()).await,
        Err(ConnectError::BadAddress { .. })
    ));
    assert!(nanoprobe.send_datagram("[::1]:9".parse().unwrap(), &[0x21]).is_err());
    if local.is_ipv6() {
        let config = EndpointConfig { bind: "[::]:0".parse().unwrap(), ..nanoprobe_config(&[key.public()]) };
        let (six, _inbox) = Endpoint::bind(config).unwrap();
        six.send_datagram(v4, &[0x21; 128]).unwrap();
        assert_eq!(inbox.datagrams.recv().await.unwrap().source.ip(), v4.ip());
        assert!(six.connect(v4).await.is_ok());
    }
}

#[tokio::test]
async fn silence_ends_a_connection_unless_it_is_kept_alive() {
    let key = KeyPair::generate().unwrap();
    let (_cma, mut inbox, address) = cma(&key);
    let idle_timeout = Duration::from_millis(500);
    let settings =
        |keepalive| EndpointConfig { idle_timeout, keepalive, ..nanoprobe_config(&[key.public()]) };
    let (quiet, _) = Endpoint::bind(settings(None)).unwrap();
    let (lively, _) = Endpoint::bind(settings(Some(Duration::from_millis(100)))).unwrap();
    let ends = quiet.connect(address).await.unwrap();
    let stays = lively.connect(address).await.unwrap();
    let _held = (inbox.connections.recv().await.unwrap(), inbox.connections.recv().await.unwrap());
    assert_eq!(tokio::time::timeout(PATIENCE, ends.closed()).await, Ok(Lost::Silent));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stays.lost(), None);
}

#[tokio::test]
async fn a_hundred_dials_at_once_all_succeed() {
    let key = KeyPair::generate().unwrap();
    let (cma, mut inbox, address) = cma(&key);
    let mut dials = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (nanoprobe, _) = nanoprobe(&[key.public()]);
        dials.spawn(async move {
            let result = nanoprobe.connect(address).await;
            (nanoprobe, result)
        });
    }
    let mut peers = std::collections::BTreeSet::new();
    let mut held = Vec::new();
    for _ in 0..100 {
        let seen = tokio::time::timeout(Duration::from_secs(20), inbox.connections.recv()).await;
        let seen = seen.unwrap().unwrap();
        peers.insert(seen.peer);
        held.push(seen);
    }
    for (_, result) in dials.join_all().await {
        result.unwrap();
    }
    assert_eq!(peers.len(), 100);
    assert_eq!((cma.stats().failed_handshakes, cma.stats().over_limit), (0, 0));
}

#[tokio::test]
async fn groups_are_not_dialled() {
    let key = KeyPair::generate().unwrap();
    let (nanoprobe, _) = nanoprobe(&[key.public()]);
    let group = "224.0.2.5:1984".parse().unwrap();
    assert!(
        matches!(nanoprobe.connect(group).await, Err(ConnectError::Multicast { address }) if address == group)
    );
}
