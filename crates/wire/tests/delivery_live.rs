//! The sender's decisions carried out by real endpoints, against a CMA that is killed in between.

mod common;

use common::*;
use model::message::{Ack, FromCma, Incarnation, Register, Report, ToCma, Welcome};
use model::{DocumentHash, Timestamp};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use wire::delivery::{Arrival, ConnectionId, Output, Route, Sender, SenderConfig, Standing, arrival};
use wire::endpoint::{CloseReason, Connection, Endpoint, EndpointConfig};
use wire::framed::{MESSAGE_LIMIT_BYTES, REGISTRATION_LIMIT_BYTES};
use wire::keys::KeyPair;

/// What survives the CMA: the committed sequences.
type Log = Arc<Mutex<Vec<u64>>>;

async fn cma_serve(mut connections: mpsc::Receiver<Connection>, log: Log) {
    while let Some(connection) = connections.recv().await {
        let log = log.clone();
        tokio::spawn(async move {
            let Ok((mut writer, mut reader)) = connection.accept_stream().await else { return };
            let mut limit = REGISTRATION_LIMIT_BYTES;
            while let Ok(Some(message)) = reader.read::<ToCma>(limit).await {
                let answer = match message {
                    ToCma::Register(_) => {
                        limit = MESSAGE_LIMIT_BYTES;
                        FromCma::Welcome(Welcome {
                            last_sequence: log.lock().unwrap().last().copied().unwrap_or(0),
                            wanted: Vec::new(),
                            configure: None,
                            clock: Timestamp(0),
                            started: Timestamp(0),
                        })
                    }
                    ToCma::Report(report) => {
                        let mut log = log.lock().unwrap();
                        let last = log.last().copied().unwrap_or(0);
                        if arrival(last, report.sequence) == Arrival::Commit {
                            log.push(report.sequence);
                        }
                        let sequence = log.last().copied().unwrap_or(0);
                        FromCma::Ack(Ack { sequence, rejected: Vec::new() })
                    }
                    ToCma::Heard(_) | ToCma::Trusts(_) => continue,
                    ToCma::Goodbye(_) => FromCma::Farewell,
                };
                if writer.write(&answer, MESSAGE_LIMIT_BYTES).await.is_err() {
                    return;
                }
            }
        });
    }
}

enum Event {
    Connected(ConnectionId, Connection),
    DialFailed(ConnectionId),
    Said(ConnectionId, FromCma),
    Disconnected(ConnectionId),
}

fn register() -> ToCma {
    ToCma::Register(Register {
        protocol: model::message::PROTOCOL_VERSION,
        designation: "picard".into(),
        incarnation: Incarnation([1; 16]),
        software: "test".into(),
        clock: Timestamp(0),
        started: Timestamp(0),
        port: 1984,
        config: None,
        documents: Vec::new(),
        session: None,
        watch: None,
        listen: None,
        token: None,
        machine: None,
        cma_keys: None,
    })
}

fn report(sequence: u64) -> ToCma {
    ToCma::Report(Report {
        sequence,
        instance: "_init_sshd".into(),
        hash: DocumentHash::of(&sequence.to_be_bytes()),
        body: Some(wire::body::compress(b"{}").unwrap().into()),
        changed_after: Timestamp(0),
        seen: Timestamp(0),
        superseded: 0,
    })
}

/// One nanoprobe: `count` reports, a new one every few milliseconds, until all are acknowledged and it has said goodbye.
async fn nanoprobe_run(endpoint: Endpoint, address: std::net::SocketAddr, count: u64) {
    let start = Instant::now();
    let config = SenderConfig {
        start_jitter: Duration::ZERO,
        ack_timeout: Duration::from_secs(1),
        backoff_min: Duration::from_millis(50),
        backoff_max: Duration::from_millis(200),
        window_reports: 5,
        ..SenderConfig::new(vec![Route::Dial])
    };
    let mut sender = Sender::new(config, start.elapsed(), 11, 1, []);
    let (events, mut happened) = mpsc::channel::<Event>(64);
    let mut to_cma: Option<(ConnectionId, Connection, mpsc::Sender<ToCma>)> = None;
    let (mut next, mut produce) = (1, tokio::time::interval(Duration::from_millis(3)));
    while sender.standing() != Standing::Stopped {
        while let Some(output) = sender.poll_output(start.elapsed()) {
            match output {
                Output::Dial { connection, .. } => {
                    let (endpoint, events) = (endpoint.clone(), events.clone());
                    tokio::spawn(async move {
                        let event = match endpoint.connect(address).await {
                            Ok(made) => Event::Connected(connection, made),
                            Err(_) => Event::DialFailed(connection),
                        };
                        let _ = events.send(event).await;
                    });
                }
                Output::Register { connection } => say(&to_cma, connection, register()),
                Output::Transmit { connection, sequence } => say(&to_cma, connection, report(sequence)),
                Output::Goodbye { connection } => say(&to_cma, connection, goodbye("HBSHUTDOWN")),
                Output::Close { connection, .. } => {
                    if let Some((_, made, _)) = to_cma.take_if(|(current, ..)| *current == connection) {
                        made.close(CloseReason::Idle);
                    }
                }
                Output::Forget { .. } => {}
                other => panic!("not expected here: {other:?}"),
            }
        }
        let timer = sender.poll_timeout().map(|at| tokio::time::Instant::from_std(start + at));
        let timer = timer.unwrap_or_else(|| tokio::time::Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            () = tokio::time::sleep_until(timer) => sender.handle_timeout(start.elapsed()),
            _ = produce.tick(), if next <= count => {
                assert!(sender.handle_enqueued(start.elapsed(), next, 100));
                next += 1;
                if next > count {
                    sender.stop(start.elapsed(), start.elapsed() + Duration::from_secs(20));
                }
            }
            Some(event) = happened.recv() => {
                let now = start.elapsed();
                match event {
                    Event::Connected(id, connection) => {
                        let (outgoing, queue) = mpsc::channel(16);
                        tokio::spawn(converse(id, connection.clone(), queue, events.clone()));
                        to_cma = Some((id, connection, outgoing));
                        sender.handle_connected(now, id);
                    }
                    Event::DialFailed(id) => sender.handle_dial_failed(now, id),
                    Event::Disconnected(id) => sender.handle_disconnected(now, id),
                    Event::Said(id, FromCma::Welcome(welcome)) => {
                        sender.handle_welcome(now, id, welcome.last_sequence, welcome.wanted);
                    }
                    Event::Said(id, FromCma::Ack(ack)) => sender.handle_ack(now, id, ack.sequence),
                    Event::Said(id, FromCma::Farewell) => sender.handle_farewell(now, id),
                    Event::Said(_, other) => panic!("not expected here: {other:?}"),
                }
            }
        }
    }
    assert_eq!(sender.queued(), 0, "stopped with everything delivered");
}

/// The window is smaller than the channel, so that a message always fits.
fn say(
    to_cma: &Option<(ConnectionId, Connection, mpsc::Sender<ToCma>)>,
    connection: ConnectionId,
    message: ToCma,
) {
    if let Some((current, _, outgoing)) = to_cma
        && *current == connection
    {
        let _ = outgoing.try_send(message);
    }
}

async fn converse(
    id: ConnectionId,
    connection: Connection,
    mut queue: mpsc::Receiver<ToCma>,
    events: mpsc::Sender<Event>,
) {
    if let Ok((mut writer, mut reader)) = connection.open_stream().await {
        loop {
            tokio::select! {
                Some(message) = queue.recv() => {
                    if writer.write(&message, MESSAGE_LIMIT_BYTES).await.is_err() {
                        break;
                    }
                }
                answer = reader.read::<FromCma>(MESSAGE_LIMIT_BYTES) => match answer {
                    Ok(Some(message)) => {
                        if events.send(Event::Said(id, message)).await.is_err() {
                            break;
                        }
                    }
                    _ => break,
                },
            }
        }
    }
    let _ = events.send(Event::Disconnected(id)).await;
}

#[tokio::test]
async fn a_cma_killed_three_times_has_every_report_once() {
    const COUNT: u64 = 150;
    let home = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let log = Log::default();
    let start = |bind| {
        let state_directory = Some(home.path().to_owned());
        let config = EndpointConfig { bind, state_directory, ..cma_config(&key) };
        let log = log.clone();
        Killable::start(config, move |connections| cma_serve(connections, log))
    };
    let mut cma = start(loopback());
    let address = cma.address;
    let (endpoint, _inbox) = nanoprobe(&[key.public()]);
    let running = tokio::spawn(nanoprobe_run(endpoint, address, COUNT));
    for kill_at in [20, 60, 100] {
        tokio::time::timeout(Duration::from_secs(20), async {
            while log.lock().unwrap().len() < kill_at {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
        cma.kill();
        assert!(log.lock().unwrap().len() < COUNT as usize, "killed in the middle");
        cma = start(address);
    }
    tokio::time::timeout(Duration::from_secs(30), running).await.unwrap().unwrap();
    assert_eq!(*log.lock().unwrap(), (1..=COUNT).collect::<Vec<_>>());
    cma.kill();
}
