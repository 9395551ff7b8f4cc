//! Heartbeats that somebody recorded and sends again, or makes up.

use crate::rig::Scene;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use system::network::Host;

const HOSTS: [&str; 4] = ["picard", "riker", "worf", "crusher"];
const HEARTBEAT: (u8, usize) = (0x23, 30);
/// Ethernet protocol number that means all of them, also of packets that leave (packet(7)).
const ETH_P_ALL: u16 = 0x0003;

/// Where it was sent to, and the packet.
type Recorded = (SocketAddr, Vec<u8>);

/// Takes down heartbeats that a host sends, as somebody on its network might.
fn record(host: &Host, count: usize) -> Vec<Recorded> {
    let own: Ipv4Addr = host.address.parse().unwrap();
    let open =
        || Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(ETH_P_ALL.to_be()))));
    let mut socket = host.inside(open).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (start, mut recorded) = (Instant::now(), Vec::new());
    while recorded.len() < count {
        assert!(start.elapsed() < Duration::from_secs(60), "{} heartbeats only", recorded.len());
        let mut packet = [0; 2048];
        let Ok(length) = socket.read(&mut packet) else { continue };
        recorded.extend(heartbeat_of(own, &packet[..length]));
    }
    recorded
}

/// A heartbeat from this address, in an IPv4 packet without options.
fn heartbeat_of(own: Ipv4Addr, packet: &[u8]) -> Option<Recorded> {
    let (header, rest) = packet.split_at_checked(20)?;
    let (udp, payload) = rest.split_at_checked(8)?;
    let ours = header[0] == 0x45 && header[9] == 17 && header[12..16] == own.octets();
    if !ours || (*payload.first()?, payload.len()) != HEARTBEAT {
        return None;
    }
    let to: [u8; 4] = header[16..20].try_into().ok()?;
    Some(((Ipv4Addr::from(to), u16::from_be_bytes([udp[2], udp[3]])).into(), payload.to_vec()))
}

#[test]
fn repeated_and_forged_heartbeats_neither_kill_nor_raise_the_dead() {
    let mut scene = Scene::new(&HOSTS, &["intruder"]);
    let recorded = record(scene.host("worf"), 12);
    let before = scene.alerts().len();
    let socket = scene.host("intruder").inside(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    // Everything again, and with one bit changed; a goodbye cannot be made from it either.
    let mut attack = |seconds: u64| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(seconds) {
            for (to, packet) in &recorded {
                socket.send_to(packet, to).unwrap();
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let mut forged = packet.clone();
                let bit = 8 + (random % 232) as usize;
                forged[bit / 8] ^= 1 << (bit % 8);
                socket.send_to(&forged, to).unwrap();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    attack(10);
    assert_eq!(scene.alerts().len(), before, "{:#?}", &scene.alerts()[before..]);
    // Who is dead stays dead, though its heartbeats go on.
    let known = scene.alerts_of("worf").len();
    scene.kill("worf");
    attack(15);
    let alerts = scene.alerts_of("worf");
    let told: Vec<_> = alerts[known..].iter().map(|alert| (&*alert.event, &*alert.reason)).collect();
    assert_eq!(told, [("down", "HBDEAD")]);
    scene.assert_only_about("worf", before);
    // None of all this was answered.
    socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 64];
    assert!(socket.recv_from(&mut buffer).is_err(), "{buffer:?}");
}
