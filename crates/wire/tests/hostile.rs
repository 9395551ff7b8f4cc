//! What strangers can send to the one port, and what a registered peer can send in a stream.

mod common;

use common::*;
use model::PublicKey;
use model::message::{FromCma, ToCma};
use std::net::UdpSocket;
use std::time::Duration;
use wire::endpoint::{Endpoint, EndpointConfig};
use wire::framed::{FrameError, MESSAGE_LIMIT_BYTES, REGISTRATION_LIMIT_BYTES};
use wire::hello::{self, Hello, ReplyLimiter};
use wire::keys::KeyPair;

/// Bytes that differ from call to call, the same in every run.
fn noise(seed: &mut u64, length: usize) -> Vec<u8> {
    (0..length)
        .map(|_| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 56) as u8
        })
        .collect()
}

#[tokio::test]
async fn garbage_on_the_port_disturbs_nobody() {
    let key = KeyPair::generate().unwrap();
    let (cma, inbox, address) = cma(&key);
    let mut datagrams = inbox.datagrams;
    tokio::spawn(serve(inbox.connections));
    let (nanoprobe, _) = nanoprobe(&[key.public()]);
    let connection = nanoprobe.connect(address).await.unwrap();
    assert_eq!(exchange(&connection, "before").await, Ok(6));
    let stranger = UdpSocket::bind(loopback()).unwrap();
    let mut seed = 42;
    for round in 0..2000usize {
        let mut packet = noise(&mut seed, round % 1400);
        // Every second one looks like QUIC: long headers, short headers, unknown versions, half an Initial.
        if let (Some(first), 0) = (packet.first_mut(), round % 2) {
            *first |= 0x40;
        }
        stranger.send_to(&packet, address).unwrap();
        if round % 100 == 0 {
            while datagrams.try_recv().is_ok() {}
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    for length in [1501, 9000, 60_000] {
        stranger.send_to(&vec![0x21; length], address).unwrap();
    }
    assert_eq!(exchange(&connection, "after").await, Ok(5));
    let (second, _) = common::nanoprobe(&[key.public()]);
    assert!(second.connect(address).await.is_ok());
    assert!(cma.stats().datagrams > 0);
    assert_eq!(cma.stats().dropped_large, 3);
    assert_eq!(cma.stats().open_connections, 2, "no connection came of garbage");
}

#[tokio::test]
async fn a_flood_of_datagrams_is_dropped_and_counted() {
    let key = KeyPair::generate().unwrap();
    let (cma, mut inbox) = Endpoint::bind(EndpointConfig { datagram_queue: 8, ..cma_config(&key) }).unwrap();
    let address = cma.local_address().unwrap();
    let stranger = UdpSocket::bind(loopback()).unwrap();
    for _ in 0..100 {
        stranger.send_to(&[0x21; 128], address).unwrap();
    }
    tokio::time::timeout(PATIENCE, async {
        while cma.stats().datagrams + cma.stats().dropped_full < 100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!((cma.stats().datagrams, cma.stats().dropped_full), (8, 92));
    let mut waiting = 0;
    while inbox.datagrams.try_recv().is_ok() {
        waiting += 1;
    }
    assert_eq!(waiting, 8);
}

#[tokio::test]
async fn hello_and_connection_share_the_port() {
    let key = KeyPair::generate().unwrap();
    let (cma, inbox, address) = cma(&key);
    let mut datagrams = inbox.datagrams;
    tokio::spawn(serve(inbox.connections));
    let own = key.public();
    let answering = cma.clone();
    tokio::spawn(async move {
        let mut limiter = ReplyLimiter::new(9);
        while let Some(datagram) = datagrams.recv().await {
            let now = Duration::ZERO;
            let port = answering.local_address().unwrap().port();
            let reply = hello::answer(&datagram.bytes, datagram.source, &own, port, &mut limiter, now);
            if let Some(reply) = reply {
                answering.send_datagram(datagram.source, &reply).unwrap();
            }
        }
    });
    let pinned = [PublicKey([5; 32]), own];
    let (nanoprobe, mut mine) = nanoprobe(&pinned);
    let question = Hello::new([7; 16], &pinned, 0);
    nanoprobe.send_datagram(address, &question.encode()).unwrap();
    let answer = mine.datagrams.recv().await.unwrap();
    let reply = hello::Reply::decode(&answer.bytes).unwrap();
    let target = reply.target(&question, &pinned, answer.source).unwrap();
    assert_eq!(target, address);
    let connection = nanoprobe.connect(target).await.unwrap();
    assert_eq!(exchange(&connection, "found").await, Ok(5));
    // The same hello again and again: answered as often as the bucket of one source allows, then not at all.
    for _ in 0..50 {
        nanoprobe.send_datagram(address, &question.encode()).unwrap();
    }
    let mut answers = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(300), mine.datagrams.recv()).await {
        answers += 1;
    }
    assert_eq!(answers, 4, "five at once, one was used before");
    assert_eq!(exchange(&connection, "still").await, Ok(5));
}

#[tokio::test]
async fn large_messages_pass_and_oversized_ones_do_not() {
    let key = KeyPair::generate().unwrap();
    let (_cma, mut inbox, address) = cma(&key);
    let (nanoprobe, _) = nanoprobe(&[key.public()]);
    let connection = nanoprobe.connect(address).await.unwrap();
    let other = inbox.connections.recv().await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(serve(receiver));
    sender.send(other.clone()).await.unwrap();
    let ten_megabytes = "x".repeat(10_000_000);
    assert_eq!(exchange(&connection, &ten_megabytes).await, Ok(10_000_000));

    // The sender refuses before sending.
    let (mut writer, _reader) = connection.open_stream().await.unwrap();
    let refused = writer.write(&goodbye(&ten_megabytes), REGISTRATION_LIMIT_BYTES).await;
    assert!(matches!(refused, Err(FrameError::TooLarge { limit_bytes: REGISTRATION_LIMIT_BYTES, .. })));

    // A receiver before registration refuses what the sender lets pass.
    let connection = nanoprobe.connect(address).await.unwrap();
    let other = inbox.connections.recv().await.unwrap();
    let (mut writer, _reader) = connection.open_stream().await.unwrap();
    tokio::spawn(async move {
        // Blocked by flow control until the connection ends; the other side decides.
        let _ = writer.write(&goodbye(&"x".repeat(70_000)), MESSAGE_LIMIT_BYTES).await;
        writer
    });
    let (_writer, mut reader) = other.accept_stream().await.unwrap();
    let error = reader.read_within::<ToCma>(REGISTRATION_LIMIT_BYTES, PATIENCE).await.unwrap_err();
    assert!(matches!(error, FrameError::TooLarge { bytes, .. } if bytes > 70_000), "{error}");
}

#[tokio::test]
async fn wrong_messages_are_typed_errors() {
    let key = KeyPair::generate().unwrap();
    let (_cma, mut inbox, address) = cma(&key);
    let (nanoprobe, _) = nanoprobe(&[key.public()]);
    let connection = nanoprobe.connect(address).await.unwrap();
    let other = inbox.connections.recv().await.unwrap();

    // A message of the wrong direction is CBOR but not what is expected.
    let (mut writer, _reader) = connection.open_stream().await.unwrap();
    writer.write(&FromCma::Farewell, MESSAGE_LIMIT_BYTES).await.unwrap();
    let (_w, mut reader) = other.accept_stream().await.unwrap();
    let error = reader.read_within::<ToCma>(REGISTRATION_LIMIT_BYTES, PATIENCE).await.unwrap_err();
    assert!(matches!(error, FrameError::Malformed(_)), "{error}");

    // Nothing comes: the time limit, after which reading goes on where it was.
    let (mut writer, _reader) = connection.open_stream().await.unwrap();
    writer.write(&goodbye("first"), MESSAGE_LIMIT_BYTES).await.unwrap();
    let (_w, mut reader) = other.accept_stream().await.unwrap();
    let limit = REGISTRATION_LIMIT_BYTES;
    assert_eq!(reader.read_within(limit, PATIENCE).await.unwrap(), Some(goodbye("first")));
    let short = Duration::from_millis(50);
    let error = reader.read_within::<ToCma>(limit, short).await.unwrap_err();
    assert!(matches!(error, FrameError::TimedOut(patience) if patience == short), "{error}");
    writer.write(&goodbye("second"), MESSAGE_LIMIT_BYTES).await.unwrap();
    assert_eq!(reader.read_within(limit, PATIENCE).await.unwrap(), Some(goodbye("second")));

    // A finished stream is no error, a lost connection is one.
    writer.finish(PATIENCE).await.unwrap();
    assert_eq!(reader.read_within::<ToCma>(limit, PATIENCE).await.unwrap(), None);
    let (mut writer, _reader) = connection.open_stream().await.unwrap();
    writer.write(&goodbye("third"), MESSAGE_LIMIT_BYTES).await.unwrap();
    let (_w, mut reader) = other.accept_stream().await.unwrap();
    assert_eq!(reader.read_within(limit, PATIENCE).await.unwrap(), Some(goodbye("third")));
    connection.close(wire::endpoint::CloseReason::Shutdown);
    let error = reader.read_within::<ToCma>(limit, PATIENCE).await.unwrap_err();
    assert!(matches!(error, FrameError::Lost(_)), "{error}");
}

#[tokio::test]
async fn a_read_or_write_that_is_dropped_half_way_goes_on_later() {
    let key = KeyPair::generate().unwrap();
    let (_cma, mut inbox, address) = cma(&key);
    let (nanoprobe, _) = nanoprobe(&[key.public()]);
    let connection = nanoprobe.connect(address).await.unwrap();
    let other = inbox.connections.recv().await.unwrap();
    let (mut writer, _reader) = connection.open_stream().await.unwrap();
    // Larger than the flow control window, so that neither side can finish alone.
    let large = goodbye(&"y".repeat(3_000_000));
    let short = Duration::from_millis(100);
    assert!(tokio::time::timeout(short, writer.write(&large, MESSAGE_LIMIT_BYTES)).await.is_err());
    let (_w, mut reader) = other.accept_stream().await.unwrap();
    assert!(reader.read_within::<ToCma>(MESSAGE_LIMIT_BYTES, short).await.is_err());
    let (written, read) =
        tokio::join!(writer.flush(), reader.read_within::<ToCma>(MESSAGE_LIMIT_BYTES, PATIENCE));
    written.unwrap();
    assert_eq!(read.unwrap(), Some(large));
    writer.write(&goodbye("next"), MESSAGE_LIMIT_BYTES).await.unwrap();
    assert_eq!(reader.read_within(MESSAGE_LIMIT_BYTES, PATIENCE).await.unwrap(), Some(goodbye("next")));
}

#[tokio::test]
async fn replayed_first_packets_cost_no_connection_and_amplify_nothing() {
    let key = KeyPair::generate().unwrap();
    let (cma, mut inbox, address) = cma(&key);
    // A true first packet, caught by somebody who is not the CMA.
    let catcher = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let (nanoprobe, _) = nanoprobe(&[key.public()]);
    let elsewhere = catcher.local_addr().unwrap();
    let dialling = tokio::spawn(async move { nanoprobe.connect(elsewhere).await });
    let mut packet = vec![0; 2000];
    let length = catcher.recv(&mut packet).await.unwrap();
    dialling.abort();
    packet.truncate(length);
    assert!(length >= 1200, "{length}");
    let stranger = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let (mut sent, mut received, mut buffer) = (0, 0, vec![0; 2000]);
    for round in 0..300 {
        sent += stranger.send_to(&packet, address).await.unwrap();
        if round % 10 == 9 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let silence = Duration::from_millis(200);
    while let Ok(Ok(bytes)) = tokio::time::timeout(silence, stranger.recv(&mut buffer)).await {
        received += bytes;
    }
    assert!(cma.stats().retries > 0);
    assert!(received > 0 && received * 4 < sent, "{received} bytes came back for {sent}");
    assert_eq!(cma.stats().open_connections, 0);
    assert!(inbox.connections.try_recv().is_err());
}

/// Passes packets on both ways until the client has sent `packets`, then none of the client's.
async fn cut_after(packets: usize, cma: std::net::SocketAddr) -> std::net::SocketAddr {
    let front = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let back = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let address = front.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut client, mut passed) = (address, 0);
        let (mut there, mut here) = (vec![0; 2000], vec![0; 2000]);
        loop {
            tokio::select! {
                Ok((length, from)) = front.recv_from(&mut there) => {
                    client = from;
                    passed += 1;
                    if passed <= packets {
                        back.send_to(&there[..length], cma).await.unwrap();
                    }
                }
                Ok(length) = back.recv(&mut here) => {
                    front.send_to(&here[..length], client).await.unwrap();
                }
            }
        }
    });
    address
}

#[tokio::test]
async fn handshakes_that_stop_half_way_are_given_up() {
    let key = KeyPair::generate().unwrap();
    let handshake_timeout = Duration::from_millis(400);
    let (cma, mut inbox) = Endpoint::bind(EndpointConfig { handshake_timeout, ..cma_config(&key) }).unwrap();
    // The first packet is answered with Retry; the second, with the token, starts a handshake.
    let through = cut_after(2, cma.local_address().unwrap()).await;
    let (nanoprobe, _) = nanoprobe(&[key.public()]);
    let dialling = tokio::spawn(async move { nanoprobe.connect(through).await });
    tokio::time::timeout(PATIENCE, async {
        while cma.stats().open_connections == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while cma.stats().failed_handshakes == 0 || cma.stats().open_connections > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert!(inbox.connections.try_recv().is_err());
    dialling.abort();
}
