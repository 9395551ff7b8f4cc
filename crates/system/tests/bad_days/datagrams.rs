//! Packets that nobody should have sent, to the CMA's port and to a nanoprobe's: garbage, truncated, oversized,
//! replayed and forged ones.

use crate::peer::cma_keys;
use crate::rig::{Random, Scene, memory_bytes};
use model::PublicKey;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use system::process::Running;
use wire::hello::{HELLO_BYTES, Hello, Reply};

/// Every QUIC version 1 packet has this bit in its first byte (RFC 9000 §17).
const QUIC_BIT: u8 = 0x40;
const PACKETS: usize = 8000;
const MIB: u64 = 1024 * 1024;

/// Stands between a nanoprobe and the CMA, passes everything on and remembers it, as somebody on the path could.
struct Relay {
    address: SocketAddr,
    to_cma: Arc<Mutex<Vec<Vec<u8>>>>,
    to_nanoprobe: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
}

impl Relay {
    /// Within the present namespace.
    fn start(own: &str, cma: SocketAddr) -> Relay {
        let front = UdpSocket::bind((own, 4000)).unwrap();
        let back = UdpSocket::bind((own, 0)).unwrap();
        back.connect(cma).unwrap();
        let relay = Relay {
            address: front.local_addr().unwrap(),
            to_cma: Arc::default(),
            to_nanoprobe: Arc::default(),
            stop: Arc::default(),
        };
        let client = Arc::new(Mutex::new(None));
        let (front_too, back_too) = (front.try_clone().unwrap(), back.try_clone().unwrap());
        let known = client.clone();
        relay.pass_on(front, relay.to_cma.clone(), move |packet, source| {
            *known.lock().unwrap() = Some(source);
            let _ = back_too.send(packet);
        });
        relay.pass_on(back, relay.to_nanoprobe.clone(), move |packet, _| {
            if let Some(client) = *client.lock().unwrap() {
                let _ = front_too.send_to(packet, client);
            }
        });
        relay
    }

    fn pass_on(
        &self,
        from: UdpSocket,
        record: Arc<Mutex<Vec<Vec<u8>>>>,
        on: impl Fn(&[u8], SocketAddr) + Send + 'static,
    ) {
        from.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let stop = self.stop.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, source)) = from.recv_from(&mut buffer) else { continue };
                let mut record = record.lock().unwrap();
                if record.len() < 400 {
                    record.push(buffer[..length].to_vec());
                }
                drop(record);
                on(&buffer[..length], source);
            }
        });
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One packet of any bad kind. `seen` are genuine ones.
fn bad_packet(random: &mut Random, seen: &[Vec<u8>], keys: &[PublicKey]) -> Vec<u8> {
    let genuine = |random: &mut Random| seen[random.below(seen.len())].clone();
    match random.below(9) {
        0 => {
            let length = random.below(1501);
            random.bytes(length)
        }
        1 => first_of_a_connection(random),
        2 => {
            let length = 21 + random.below(1400);
            with_first(random.bytes(length), QUIC_BIT | 0x1f)
        }
        3 => {
            let mut packet = genuine(random);
            packet.truncate(random.below(packet.len()));
            packet
        }
        4 => genuine(random),
        5 => {
            let mut packet = genuine(random);
            let at = random.below(packet.len());
            packet[at] ^= 1 << random.below(8);
            packet
        }
        6 => {
            let length = if random.below(20) == 0 { 65507 } else { 1501 + random.below(3000) };
            random.bytes(length)
        }
        7 => {
            let mut hello = Hello::new([1; 16], keys, 0).encode().to_vec();
            match random.below(3) {
                0 => hello.truncate(random.below(HELLO_BYTES)),
                1 => hello[1] = 2 + random.bytes(1)[0] % 200,
                _ => hello[18..34].copy_from_slice(&random.bytes(16)),
            }
            hello
        }
        _ => Reply { nonce: [1; 16], key: keys[0].short_hash(), port: 9 }.encode().to_vec(),
    }
}

/// Looks like the first packet of a QUIC connection, with any version and any lengths of the connection ids.
fn first_of_a_connection(random: &mut Random) -> Vec<u8> {
    let length = 1200 + random.below(252);
    let mut packet = with_first(random.bytes(length), 0xc0 | (random.bytes(1)[0] & 0x3f));
    let versions = [[0, 0, 0, 1], [0, 0, 0, 0], [0x6b, 0x33, 0x43, 0xcf], [0x0a, 0x1a, 0x2a, 0x3a]];
    packet[1..5].copy_from_slice(&versions[random.below(4)]);
    packet[5] = random.below(22) as u8;
    packet
}

fn with_first(mut packet: Vec<u8>, first: u8) -> Vec<u8> {
    packet[0] = first;
    packet
}

/// Sends bad packets to `target` and returns the bytes sent and received on sockets for QUIC-looking packets and for others.
fn attack(
    target: SocketAddr,
    random: &mut Random,
    seen: &[Vec<u8>],
    keys: &[PublicKey],
) -> [(usize, usize); 2] {
    let sockets = [(); 2].map(|()| UdpSocket::bind("0.0.0.0:0").unwrap());
    let mut bytes = [(0, 0); 2];
    for number in 0..PACKETS {
        let packet = bad_packet(random, seen, keys);
        let which = usize::from(packet.first().is_none_or(|first| first & QUIC_BIT == 0));
        // An error is that of an earlier packet, for instance a closed port: the nanoprobe has to stay, that comes later.
        let _ = sockets[which].send_to(&packet, target);
        bytes[which].0 += packet.len();
        if number % 50 == 0 {
            // So that the receiver's buffer does not drop nearly everything.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    for (socket, bytes) in sockets.iter().zip(&mut bytes) {
        bytes.1 = received(socket, Duration::from_millis(500)).iter().map(Vec::len).sum();
    }
    bytes
}

fn received(socket: &UdpSocket, patience: Duration) -> Vec<Vec<u8>> {
    socket.set_read_timeout(Some(patience)).unwrap();
    let mut buffer = vec![0; 65536];
    let mut packets = Vec::new();
    while let Ok(length) = socket.recv(&mut buffer) {
        packets.push(buffer[..length].to_vec());
    }
    packets
}

/// Packets whose source address is a lie.
fn forge(target: SocketAddrV4, sources: &[SocketAddrV4], payloads: &[Vec<u8>]) {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
    for (number, payload) in payloads.iter().enumerate() {
        let source = sources[number % sources.len()];
        let mut packet = vec![0x45, 0];
        packet.extend(((28 + payload.len()) as u16).to_be_bytes());
        // Not to be fragmented, 64 hops, UDP; the kernel fills in the checksum.
        packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
        packet.extend(source.ip().octets());
        packet.extend(target.ip().octets());
        packet.extend(source.port().to_be_bytes());
        packet.extend(target.port().to_be_bytes());
        packet.extend(((8 + payload.len()) as u16).to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(payload);
        let _ = socket.send_to(&packet, &SocketAddr::V4(target).into());
    }
}

/// Hellos as a nanoprobe sends them, from many ports. Returns the replies, and how long all took.
fn hellos(target: SocketAddr, keys: &[PublicKey], count: usize) -> (Vec<Vec<u8>>, Duration) {
    let hello = Hello::new([5; 16], keys, 0).encode();
    let start = Instant::now();
    let sockets: Vec<UdpSocket> = (0..count).map(|_| UdpSocket::bind("0.0.0.0:0").unwrap()).collect();
    for socket in &sockets {
        socket.send_to(&hello, target).unwrap();
        socket.send_to(&hello[..HELLO_BYTES - 1], target).unwrap();
    }
    let first = received(&sockets[0], Duration::from_secs(1));
    let others = sockets[1..].iter().flat_map(|socket| received(socket, Duration::from_millis(1)));
    (first.into_iter().chain(others).collect(), start.elapsed())
}

/// UDP packets that programs in the network of this process have received.
fn delivered(program: &Running) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/net/snmp", program.pid())).unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, numbers) = (lines.next().unwrap(), lines.next().unwrap());
    let mut columns = names.split(' ').zip(numbers.split(' '));
    columns.find(|(name, _)| *name == "InDatagrams").unwrap().1.parse().unwrap()
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(v4) => v4,
        SocketAddr::V6(_) => unreachable!("the network of the tests is IPv4"),
    }
}

#[test]
fn a_flood_of_bad_packets_is_survived_by_both_ends_and_never_amplified() {
    let scene = Scene::new(&["picard", "locutus"]);
    let keys = cma_keys(&scene.site);
    let cma_address: SocketAddr = scene.site.address.parse().unwrap();
    let (picard, locutus) = (scene.host("picard"), scene.host("locutus"));
    let picard_address = SocketAddr::new(picard.address.parse().unwrap(), 1984);
    let mut cma = scene.site.start_cma(&[]).unwrap();
    let relay = locutus.inside(|| Relay::start(&locutus.address, cma_address)).unwrap();
    let to = relay.address.to_string();
    let mut nanoprobe = scene.site.start_nanoprobe("picard", Some(picard), &["--cmaaddr", &to]).unwrap();
    scene.wait_until_judged("picard", "pass");
    let before = (memory_bytes(&cma), memory_bytes(&nanoprobe), scene.log("cma").len());
    let delivered_before = [&cma, &nanoprobe].map(delivered);
    let seen = [&relay.to_cma, &relay.to_nanoprobe].map(|record| record.lock().unwrap().clone());
    assert!(seen.iter().all(|packets| packets.len() > 5), "nothing was overheard");

    let mut random = Random::new();
    locutus
        .inside(|| {
            for (target, seen) in [(cma_address, &seen[0]), (picard_address, &seen[1])] {
                let [quic, others] = attack(target, &mut random, seen, &keys);
                assert!(quic.0 > 100_000 && others.0 > 100_000, "{quic:?} {others:?}");
                assert!(quic.1 * 3 < quic.0, "{} bytes were answered with {}", quic.0, quic.1);
                assert_eq!(others.1, 0, "bytes in answer to packets that are neither QUIC nor a right hello");
            }
            let payloads: Vec<Vec<u8>> = (0..1500)
                .map(|_| bad_packet(&mut random, &seen[0], &keys))
                .filter(|p| p.len() < 1400)
                .collect();
            let from = |ip: [u8; 4], port| SocketAddrV4::new(Ipv4Addr::from(ip), port);
            let liars = [
                from([10, 84, 0, 1], 1984),
                from([10, 84, 0, 2], 1984),
                from([10, 84, 0, 77], 53),
                from([224, 0, 0, 1], 1984),
                from([255, 255, 255, 255], 1984),
                from([127, 0, 0, 1], 1984),
            ];
            forge(v4(cma_address), &liars, &payloads);
            forge(v4(picard_address), &liars, &payloads);
        })
        .unwrap();

    for (program, before) in [&cma, &nanoprobe].into_iter().zip(delivered_before) {
        let arrived = delivered(program) - before;
        assert!(arrived > PACKETS as u64 / 2, "only {arrived} packets arrived: the flood was none");
    }

    // Right hellos of one address, from many ports: its share and no more, also after all of the above.
    let (replies, took) = locutus.inside(|| hellos(cma_address, &keys, 200)).unwrap();
    let allowed = 5 + 2 * (took.as_secs() as usize + 1);
    assert!((1..=allowed).contains(&replies.len()), "{} replies in {took:?}", replies.len());
    let expected =
        BTreeSet::from([Some(Reply { nonce: [5; 16], key: keys[0].short_hash(), port: 1984 }.encode())]);
    let given: BTreeSet<_> = replies.iter().map(|reply| reply.as_slice().try_into().ok()).collect();
    assert_eq!(given, expected, "every reply is the 28 bytes for this hello");

    scene.prove_that_changes_arrive("picard");
    cma.still_running().unwrap();
    nanoprobe.still_running().unwrap();
    let grown =
        [(&cma, before.0), (&nanoprobe, before.1)].map(|(p, old)| memory_bytes(p).saturating_sub(old));
    assert!(grown.iter().all(|bytes| *bytes < 30 * MIB), "grown by {grown:?} bytes");
    let logged = scene.log("cma").len() - before.2;
    assert!(logged < 50_000, "the flood wrote {logged} bytes into the log");
    eprintln!("grown by {grown:?} bytes, {logged} bytes logged, {} replies", replies.len());
}
