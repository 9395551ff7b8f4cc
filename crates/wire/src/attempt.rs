//! Whether a host is there though its heartbeats are not: its port is tried, and an ICMP echo.
//!
//! A connected UDP socket is told what ICMP says about its packets (udp(7)): "port unreachable" means that the host is
//! alive and nobody listens. An echo request (RFC 792, RFC 4443) needs a socket that the system gives to root, or to
//! everybody in `net.ipv4.ping_group_range` (icmp(7)); without one, the port has to do.

use crate::endpoint::canonical;
use model::liveness::PortState;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// Packets of either kind that are sent, spread over the first half of the time, because networks lose some.
const TRIES: u32 = 3;
/// What is sent to the port: no packet of any kind that a nanoprobe knows, so that it is dropped there.
const NOTHING: [u8; 1] = [0];
/// After a refusal the echo cannot tell more than that the host is there; it is awaited this long.
const AFTER_REFUSAL: Duration = Duration::from_millis(50);
/// Errors of one socket that are looked at.
const MAX_ERRORS: u32 = 16;
const TOKEN_BYTES: usize = 16;

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    pub port: PortState,
    /// Whether the host answered the echo; `None` when none could be sent, or the refusal of the port came first.
    pub echo: Option<bool>,
}

/// Tries the port and the echo at `address`, both at once, for at most `patience`. Sends six packets at most.
pub async fn attempt(address: SocketAddr, patience: Duration) -> Attempt {
    let address = canonical(address);
    let ip = address.ip();
    if ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST || address.port() == 0 {
        return Attempt { port: PortState::Silent, echo: None };
    }
    let (port, echo) = (try_port(address, patience), try_echo(ip, patience));
    tokio::pin!(port, echo);
    tokio::select! {
        port = &mut port => {
            let longest = if port == PortState::Refused { AFTER_REFUSAL } else { patience };
            let echo = tokio::time::timeout(longest, echo).await.unwrap_or(None);
            Attempt { port, echo }
        }
        echo = &mut echo => Attempt { port: port.await, echo },
    }
}

/// [`PortState::Silent`] also where we may not send.
async fn try_port(address: SocketAddr, patience: Duration) -> PortState {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let Ok(socket) = UdpSocket::bind((any, 0)).await else { return PortState::Silent };
    if let Err(error) = socket.connect(address).await {
        return meaning(&error).unwrap_or(PortState::Silent);
    }
    let mut buffer = [0; 64];
    // Whoever answers in words is no nanoprobe; nothing follows from it.
    exchange(&socket, &NOTHING, &mut buffer, patience, |_| None, meaning).await.unwrap_or(PortState::Silent)
}

/// What an error on a connected socket says about the other side.
fn meaning(error: &io::Error) -> Option<PortState> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(PortState::Refused),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Some(PortState::Unreachable),
        _ => None,
    }
}

async fn try_echo(ip: IpAddr, patience: Duration) -> Option<bool> {
    let (socket, with_header) = echo_socket(ip)?;
    let mut token = [0; TOKEN_BYTES];
    getrandom::fill(&mut token).ok()?;
    let request = echo_request(ip.is_ipv6(), &token);
    let mut buffer = [0; 256];
    let read = |bytes: &[u8]| is_answer(bytes, ip.is_ipv6(), with_header, &token).then_some(true);
    // That there is no way to the host is no answer of the host.
    Some(exchange(&socket, &request, &mut buffer, patience, read, |_| None).await.unwrap_or(false))
}

/// Sends `packet` a few times until `read` makes something of an answer, or `failed` of an error.
async fn exchange<T>(
    socket: &UdpSocket,
    packet: &[u8],
    buffer: &mut [u8],
    patience: Duration,
    read: impl Fn(&[u8]) -> Option<T>,
    failed: impl Fn(&io::Error) -> Option<T>,
) -> Option<T> {
    let start = Instant::now();
    let mut errors = 0;
    for round in 1..=TRIES {
        if let Err(error) = socket.send(packet).await
            && let Some(found) = failed(&error)
        {
            return Some(found);
        }
        let until = if round < TRIES { start + patience * round / (2 * TRIES) } else { start + patience };
        while let Ok(received) = timeout_at(until, socket.recv(buffer)).await {
            let found = match received {
                Ok(length) => read(buffer.get(..length)?),
                Err(error) => {
                    errors += 1;
                    failed(&error)
                }
            };
            if found.is_some() || errors > MAX_ERRORS {
                return found;
            }
        }
    }
    None
}

/// A socket for echoes with one host, and whether what it receives begins with an IP header.
fn echo_socket(ip: IpAddr) -> Option<(UdpSocket, bool)> {
    let address = SocketAddr::new(ip, 0);
    let domain = Domain::for_address(address);
    let protocol = if ip.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let (socket, raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => (socket, false),
        Err(_) => (Socket::new(domain, Type::RAW, Some(protocol)).ok()?, true),
    };
    socket.set_nonblocking(true).ok()?;
    // From now on it takes packets of this host only.
    socket.connect(&address.into()).ok()?;
    let socket = UdpSocket::from_std(socket.into()).ok()?;
    Some((socket, raw && ip.is_ipv4()))
}

/// Type 8 or, for ICMPv6, 128; the identifier is the first of the token, because the system may put in its own.
fn echo_request(v6: bool, token: &[u8; TOKEN_BYTES]) -> [u8; 8 + TOKEN_BYTES] {
    let mut packet = [0; 8 + TOKEN_BYTES];
    packet[0] = if v6 { 128 } else { 8 };
    packet[4..6].copy_from_slice(&token[..2]);
    packet[7] = 1;
    packet[8..].copy_from_slice(token);
    if !v6 {
        // For ICMPv6 the system does this itself, because the IP header is part of the sum.
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// Whether `bytes` are the answer (type 0 or 129) to the request with this token.
fn is_answer(bytes: &[u8], v6: bool, with_header: bool, token: &[u8; TOKEN_BYTES]) -> bool {
    let header_bytes = match bytes.first() {
        // In units of four bytes (RFC 791).
        Some(first) if with_header => usize::from(first & 15) * 4,
        _ => 0,
    };
    let Some(message) = bytes.get(header_bytes..) else { return false };
    let answer = if v6 { 129 } else { 0 };
    message.len() == 8 + TOKEN_BYTES && message[..2] == [answer, 0] && message[8..] == token[..]
}

/// Of an even number of bytes (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) as u16 + (folded >> 16) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_port_without_listener_refuses_and_its_host_is_there() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // Free, because it was ours a moment ago.
            let Ok(socket) = std::net::UdpSocket::bind(address) else {
                assert!(address.starts_with('['), "only IPv6 may be missing");
                continue;
            };
            let address = socket.local_addr().unwrap();
            drop(socket);
            assert_eq!(attempt(address, PATIENCE).await.port, PortState::Refused, "{address}");
            if let IpAddr::V4(v4) = address.ip() {
                let mapped = SocketAddr::new(v4.to_ipv6_mapped().into(), address.port());
                assert_eq!(attempt(mapped, PATIENCE).await.port, PortState::Refused, "{mapped}");
            }
        }
    }

    #[tokio::test]
    async fn a_listener_that_says_nothing_is_silence() {
        let listener = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let found = attempt(listener.local_addr().unwrap(), Duration::from_millis(300)).await;
        assert_eq!(found.port, PortState::Silent);
        assert_ne!(found.echo, Some(false), "where an echo can be sent, loopback answers");
        let mut buffer = [0; 64];
        for _ in 0..TRIES {
            let (length, _) = listener.try_recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[..length], NOTHING);
        }
        assert!(listener.try_recv_from(&mut buffer).is_err(), "no more than that");
    }

    #[tokio::test]
    async fn echoes_are_answered_where_the_system_lets_us_send_them() {
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let permitted = echo_socket(ip).is_some();
            assert_eq!(try_echo(ip, PATIENCE).await, permitted.then_some(true), "{ip}");
        }
    }

    #[tokio::test]
    async fn addresses_of_nobody_are_not_tried() {
        for address in ["0.0.0.0:1984", "[::]:1984", "224.0.2.5:1984", "255.255.255.255:9", "127.0.0.1:0"] {
            let found = attempt(address.parse().unwrap(), PATIENCE).await;
            assert_eq!(found, Attempt { port: PortState::Silent, echo: None }, "{address}");
        }
    }

    #[test]
    fn requests_are_as_in_the_rfc() {
        let token = [0xff; TOKEN_BYTES];
        let request = echo_request(false, &token);
        assert_eq!(request[..8], [8, 0, 0xf7, 0xfe, 0xff, 0xff, 0, 1]);
        assert_eq!(checksum(&request), 0, "the sum over a packet with its checksum");
        assert_eq!(echo_request(true, &token)[..8], [128, 0, 0, 0, 0xff, 0xff, 0, 1]);
    }

    #[test]
    fn only_the_answer_to_this_request_counts() {
        let token = [7; TOKEN_BYTES];
        for (v6, kind) in [(false, 0), (true, 129)] {
            let mut answer = echo_request(v6, &token);
            assert!(!is_answer(&answer, v6, false, &token), "our own request");
            answer[0] = kind;
            assert!(is_answer(&answer, v6, false, &token));
            assert!(!is_answer(&answer, v6, false, &[8; TOKEN_BYTES]), "somebody else's");
            assert!(!is_answer(&answer[..20], v6, false, &token));
            let mut header = vec![0x46; 24];
            header.extend(answer);
            assert!(is_answer(&header, v6, true, &token), "behind an IP header with an option");
            assert!(!is_answer(&header, v6, false, &token));
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), header in any::<bool>()) {
            prop_assert!(!is_answer(&bytes, header, header, &[1; TOKEN_BYTES]));
        }
    }
}
