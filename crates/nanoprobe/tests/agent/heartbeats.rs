//! Heartbeats of a real nanoprobe: this program plays its CMA and its partner, on the loopback interface.

use crate::rig::{self, Site, Store};
use model::liveness::{Ask, HostNumber, Observation, PairKey, Partner, PortState, Sight, Watch};
use model::message::FromCma;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use wire::heartbeat::{HEARTBEAT_BYTES, Pairs};

/// The sealed bytes, as the documentation of the protocol has them.
pub(crate) const REGULAR: u8 = 0;
const PROBE: u8 = 1;
const ANSWER: u8 = 2;
pub(crate) const STOPPING: u8 = 3;

const NANOPROBE: HostNumber = 11;
const PARTNER: HostNumber = 12;
const KEY: PairKey = PairKey([0x5a; 32]);
/// Longer than anything that this test waits for takes on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody who exchanges heartbeats with the nanoprobe.
pub(crate) struct Peer {
    socket: UdpSocket,
    pairs: Pairs,
}

impl Peer {
    async fn new() -> Self {
        let mut pairs = Pairs::default();
        pairs.handle_watch(&watch(1, PARTNER, NANOPROBE, "127.0.0.1:1"));
        Self { socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(), pairs }
    }

    fn address(&self) -> String {
        self.socket.local_addr().unwrap().to_string()
    }

    async fn send(&mut self, to: SocketAddr, beat: u8) -> [u8; HEARTBEAT_BYTES] {
        let packet = self.pairs.seal(NANOPROBE, beat).unwrap();
        self.socket.send_to(&packet, to).await.unwrap();
        packet
    }

    /// The next authentic heartbeat, and where it came from.
    pub(crate) async fn hear(&mut self) -> (u8, SocketAddr) {
        let mut buffer = [0; 200];
        loop {
            let received = tokio::time::timeout(PATIENCE, self.socket.recv_from(&mut buffer)).await;
            let (length, from) = received.expect("no heartbeat comes").unwrap();
            if let Some((number, beat)) = self.pairs.open(&buffer[..length]) {
                assert_eq!(number, NANOPROBE);
                return (beat, from);
            }
        }
    }

    pub(crate) async fn hear_until(&mut self, wanted: u8) -> SocketAddr {
        let start = Instant::now();
        loop {
            let (beat, from) = self.hear().await;
            if beat == wanted {
                return from;
            }
            assert!(start.elapsed() < PATIENCE, "no heartbeat says {wanted}");
        }
    }

    /// Exchanges heartbeats for a while.
    pub(crate) async fn live(&mut self, to: SocketAddr, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            self.send(to, REGULAR).await;
            let mut buffer = [0; 200];
            let pause = Duration::from_millis(100);
            while let Ok(Ok((length, from))) =
                tokio::time::timeout(pause, self.socket.recv_from(&mut buffer)).await
            {
                if self.pairs.open(&buffer[..length]).is_some_and(|(_, beat)| beat == PROBE) {
                    self.send(from, ANSWER).await;
                }
                if start.elapsed() >= time {
                    break;
                }
            }
        }
    }
}

fn watch(generation: u64, own_number: HostNumber, number: HostNumber, address: &str) -> Watch {
    let partner =
        Partner { number, designation: "neighbour".into(), address: address.into(), key: KEY.clone() };
    Watch {
        generation,
        own_number,
        interval_milliseconds: 200,
        suspect_milliseconds: 1000,
        probe_milliseconds: 400,
        probes: 4,
        partners: vec![partner],
    }
}

fn observations(store: &Store) -> impl Iterator<Item = &Observation> {
    store.heard.iter().flat_map(|heard| &heard.observations)
}

fn saw(store: &Store, sight: Sight) -> bool {
    observations(store).any(|seen| seen.about == PARTNER && seen.sight == sight)
}

/// A site whose nanoprobe has one partner, and where its heartbeats come from.
pub(crate) async fn scene() -> (Site, rig::Cma, rig::Nanoprobe, Peer, SocketAddr) {
    let site = Site::new();
    let mut peer = Peer::new().await;
    site.store.lock().unwrap().watch = Some(watch(5, NANOPROBE, PARTNER, &peer.address()));
    let cma = site.cma(None);
    let nanoprobe = site.nanoprobe(cma.address);
    let from = peer.hear_until(REGULAR).await;
    let registered = site.store.lock().unwrap().registered.unwrap().0;
    assert_eq!(from, registered, "the port of heartbeats is that of QUIC");
    (site, cma, nanoprobe, peer, from)
}

#[tokio::test]
async fn partners_exchange_heartbeats_and_questions_are_answered_where_they_come_from() {
    let (site, _cma, _nanoprobe, mut peer, nanoprobe) = scene().await;
    peer.live(nanoprobe, Duration::from_secs(1)).await;
    // The partner moved: it is answered and followed, and the address that the CMA knows is not given up.
    let moved = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let before = std::mem::replace(&mut peer.socket, moved);
    peer.send(nanoprobe, PROBE).await;
    assert_eq!(peer.hear().await, (ANSWER, nanoprobe));
    assert_eq!(peer.hear().await, (REGULAR, nanoprobe));
    peer.socket = before;
    peer.hear_until(REGULAR).await;
    peer.live(nanoprobe, Duration::from_millis(500)).await;
    let store = site.store.lock().unwrap();
    assert!(!saw(&store, Sight::Silent), "{:?}", store.heard);
    assert_eq!(store.standings.len(), 1);
    assert!(store.standings[0].0.is_some() && store.standings[0].1.is_none(), "no watch before the first");
}

#[tokio::test]
async fn silence_is_told_with_evidence_on_a_connection_made_for_it_and_so_is_the_return() {
    let (site, cma, _nanoprobe, mut peer, nanoprobe) = scene().await;
    let told = |store: &Store| store.last("_init_os").is_some();
    site.until("a report", told).await;
    // The CMA comes back, and the nanoprobe has nothing to say to it.
    let place = cma.address;
    peer.live(nanoprobe, Duration::from_secs(3)).await;
    cma.close().await;
    peer.live(nanoprobe, Duration::from_millis(500)).await;
    let _cma = site.cma(Some(place));
    peer.hear_until(PROBE).await;
    site.until("that the partner is silent", |store| saw(store, Sight::Silent)).await;
    {
        let store = site.store.lock().unwrap();
        let silent = observations(&store).find(|seen| seen.sight == Sight::Silent).unwrap();
        assert!(silent.silent_milliseconds >= 1000 && silent.probes >= 4, "{silent:?}");
        assert_eq!(silent.port, PortState::Silent, "somebody has the port open");
        assert_ne!(silent.echo, Some(false), "loopback answers");
        assert_eq!(store.heard.last().unwrap().generation, 5);
        let known = store.standings.last().unwrap();
        assert_eq!(known.1, Some(5), "it says which partners it has");
        assert_eq!(known.0, store.standings[0].0, "the same life");
    }
    peer.live(nanoprobe, Duration::from_millis(500)).await;
    site.until("that it is back", |store| saw(store, Sight::Alive)).await;

    // Its nanoprobe is gone, its host is not.
    site.store.lock().unwrap().heard.clear();
    drop(peer);
    let refused = |store: &Store| {
        observations(store).any(|seen| seen.sight == Sight::Silent && seen.port == PortState::Refused)
    };
    site.until("that the port is closed", refused).await;
}

#[tokio::test]
async fn forged_repeated_and_strange_packets_lead_to_nothing() {
    let (site, _cma, mut process, mut peer, nanoprobe) = scene().await;
    let attacker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let authentic = peer.send(nanoprobe, PROBE).await;
    peer.hear_until(ANSWER).await;
    let mut packets = Vec::new();
    for bit in 8..HEARTBEAT_BYTES * 8 {
        let mut forged = authentic;
        forged[bit / 8] ^= 1 << (bit % 8);
        packets.push(forged.to_vec());
    }
    for length in 1..=HEARTBEAT_BYTES {
        packets.push(authentic[..length].to_vec());
        packets.push([authentic.as_slice(), &vec![0; length]].concat());
    }
    for packet in &packets {
        attacker.send_to(packet, nanoprobe).await.unwrap();
        // More at once than it keeps would be dropped without being looked at.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut buffer = [0; 200];
    let answer = tokio::time::timeout(Duration::from_secs(1), attacker.recv_from(&mut buffer)).await;
    assert!(answer.is_err(), "not one answer: {answer:?}");
    // Forged packets do not keep the real one from being told silent.
    site.until("that the partner is silent", |store| saw(store, Sight::Silent)).await;
    process.signal(Signal::TERM);
    assert!(process.end().await.success());
    let log = site.log();
    let refused = log.rsplit_once("heartbeats_refused=").unwrap().1.split(' ').next().unwrap();
    let refused: usize = refused.parse().unwrap();
    assert!((packets.len() / 2..=packets.len()).contains(&refused), "{refused} of {}", packets.len());
}

#[tokio::test]
async fn a_stop_is_told_to_partners_and_the_cma() {
    let (site, _cma, mut process, mut peer, nanoprobe) = scene().await;
    peer.live(nanoprobe, Duration::from_millis(500)).await;
    process.signal(Signal::TERM);
    peer.hear_until(STOPPING).await;
    assert!(process.end().await.success());
    assert_eq!(site.store.lock().unwrap().goodbyes, ["HBSHUTDOWN"]);
}

#[tokio::test]
async fn a_question_of_the_cma_is_answered_and_another_life_has_another_session() {
    let (site, cma, process, mut peer, nanoprobe) = scene().await;
    peer.live(nanoprobe, Duration::from_millis(500)).await;
    let say = site.store.lock().unwrap().say.clone().unwrap();
    say.send(FromCma::Ask(Ask { question: 77, about: PARTNER })).unwrap();
    let from = peer.hear_until(PROBE).await;
    peer.send(from, ANSWER).await;
    let answered = |store: &Store| {
        observations(store).any(|seen| seen.question == Some(77) && seen.sight == Sight::Alive)
    };
    site.until("the answer", answered).await;
    // Without partners it falls silent.
    say.send(FromCma::Watch(Watch { partners: vec![], ..watch(6, NANOPROBE, PARTNER, &peer.address()) }))
        .unwrap();
    let start = Instant::now();
    let mut buffer = [0; 200];
    while tokio::time::timeout(Duration::from_secs(1), peer.socket.recv_from(&mut buffer)).await.is_ok() {
        assert!(start.elapsed() < PATIENCE, "heartbeats to a partner of before");
    }
    process.kill();
    let registrations = site.store.lock().unwrap().registrations;
    let _process = site.nanoprobe(cma.address);
    site.until("another registration", |store| store.registrations > registrations).await;
    let store = site.store.lock().unwrap();
    let (session, watch) = *store.standings.last().unwrap();
    assert_ne!(session, store.standings[0].0);
    assert_eq!(watch, None);
}

#[tokio::test]
async fn who_was_stopped_for_a_while_suspects_nobody() {
    let (site, _cma, process, mut peer, nanoprobe) = scene().await;
    peer.live(nanoprobe, Duration::from_secs(1)).await;
    for _ in 0..2 {
        process.signal_both(Signal::STOP);
        peer.live(nanoprobe, Duration::from_secs(4)).await;
        process.signal_both(Signal::CONT);
        peer.live(nanoprobe, Duration::from_secs(2)).await;
    }
    let store = site.store.lock().unwrap();
    assert!(!saw(&store, Sight::Silent), "{:?}", store.heard);
}

#[tokio::test]
async fn a_host_without_neighbours_exchanges_heartbeats_with_the_cma() {
    let site = Site::new();
    let mut beats = site.store.lock().unwrap().collect_datagrams();
    let mut pairs = Pairs::default();
    pairs.handle_watch(&watch(1, 0, NANOPROBE, "127.0.0.1:1"));
    // Without an address: the CMA does not know by which of its own it is reached.
    site.store.lock().unwrap().watch = Some(watch(5, NANOPROBE, 0, ""));
    let cma = site.cma(None);
    let _nanoprobe = site.nanoprobe(cma.address);
    for _ in 0..3 {
        let datagram = tokio::time::timeout(PATIENCE, beats.recv()).await.expect("no heartbeat").unwrap();
        assert_eq!(pairs.open(&datagram.bytes), Some((NANOPROBE, REGULAR)));
    }
    assert!(site.store.lock().unwrap().heard.is_empty(), "it suspects nobody: there is nobody to tell");
}
