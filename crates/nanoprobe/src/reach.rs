//! `nanoprobe reach ADDR`: whether a CMA or nanoprobe can be reached there, or something on the way keeps packets out.
//!
//! One packet of QUIC in a version that nobody speaks: whoever takes connections answers with the versions that he
//! does speak (RFC 8999 §6), before any key is looked at. So it needs no keys, tells nothing of us and leaves nothing behind.
//! It is sent from a port of its own: firewalls that let in answers to what was said before do not make it look good.

use crate::cli::ReachArgs;
use std::fmt::{self, Write as _};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};
use wire::address::PeerAddress;

/// What there is to print, and the exit code.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// For standard output: one line for each address that was tried.
    pub output: String,
    /// For standard error.
    pub messages: String,
    /// 0 answered, 2 not, 1 the arguments cannot be used.
    pub code: u8,
}

/// What came back from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Somebody speaks QUIC there.
    Answered,
    /// The host answers that nobody listens on the port.
    Refused,
    /// A router or our own system says that there is no way.
    NoWay,
    /// Nothing at all.
    Silent,
    /// The system does not let us send, for instance because of a rule for outgoing packets.
    NotSent,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answered => "answers",
            Self::Refused => {
                "the host is there, but nothing listens on this UDP port (or a firewall rejects it)"
            }
            Self::NoWay => "there is no way to this address",
            Self::Silent => {
                "no answer: a firewall in between drops UDP packets to this port, or the host is off"
            }
            Self::NotSent => "this host may not send there: one of its own firewall's rules forbids it",
        })
    }
}

/// Packets sent to one address, because networks lose some.
const TRIES: u32 = 3;
/// How long each of them is given.
const PATIENCE: Duration = Duration::from_millis(1000);
/// Of a name, so many addresses are tried.
const MAX_ADDRESSES: usize = 4;

/// A server need not answer anything shorter (RFC 9000 §14.1).
const PACKET_BYTES: usize = 1200;
const ID_BYTES: usize = 8;
/// Reserved for making others negotiate (RFC 9000 §15: 0x?a?a?a?a).
const NOBODYS_VERSION: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];

/// Tries the address of the command line.
pub fn run(arguments: &ReachArgs) -> Answer {
    let wrong = |message: String| Answer {
        messages: format!("nanoprobe: {message}\n"),
        code: 1,
        ..Answer::default()
    };
    let peer = match arguments.address.parse::<PeerAddress>() {
        Ok(peer) if peer.is_multicast() => {
            return wrong(format!("{peer} is a multicast group; name the address of one host"));
        }
        Ok(peer) => peer,
        Err(error) => return wrong(error.to_string()),
    };
    let addresses: Vec<SocketAddr> = match resolve(&peer) {
        Ok(found) if !found.is_empty() => found,
        Ok(_) => return wrong(format!("{peer}: the name has no address; check it, or name an address")),
        Err(error) => {
            return wrong(format!(
                "{peer}: the name cannot be resolved ({error}); check it, or name an address"
            ));
        }
    };
    let mut answer = Answer { code: 2, ..Answer::default() };
    for address in addresses {
        let found = reach(address, PATIENCE).unwrap_or(Found::NotSent);
        let _ = writeln!(answer.output, "{address}: {found}");
        if found == Found::Answered {
            answer.code = 0;
            break;
        }
    }
    answer
}

/// Asks `address` up to three times and waits up to `patience` for each answer.
///
/// # Errors
/// No socket, or no random numbers.
pub fn reach(address: SocketAddr, patience: Duration) -> io::Result<Found> {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    if let Err(error) = socket.connect(address) {
        return Ok(meaning(&error).unwrap_or(Found::NoWay));
    }
    let mut ids = [0; 2 * ID_BYTES];
    getrandom::fill(&mut ids).map_err(|error| io::Error::other(error.to_string()))?;
    let packet = question(&ids);
    for _ in 0..TRIES {
        if let Err(error) = socket.send(&packet)
            && let Some(found) = meaning(&error)
        {
            return Ok(found);
        }
        if let Some(found) = answer_within(&socket, &ids, patience)? {
            return Ok(found);
        }
    }
    Ok(Found::Silent)
}

fn resolve(peer: &PeerAddress) -> io::Result<Vec<SocketAddr>> {
    match peer {
        PeerAddress::Socket(address) => Ok(vec![*address]),
        PeerAddress::Name { host, port } => {
            Ok((host.as_str(), *port).to_socket_addrs()?.take(MAX_ADDRESSES).collect())
        }
    }
}

fn answer_within(
    socket: &UdpSocket,
    ids: &[u8; 2 * ID_BYTES],
    patience: Duration,
) -> io::Result<Option<Found>> {
    let deadline = Instant::now() + patience;
    let mut buffer = [0; 2048];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut buffer) {
            Ok(length) if buffer.get(..length).is_some_and(|bytes| is_answer(bytes, ids)) => {
                return Ok(Some(Found::Answered));
            }
            // Somebody else's words; the time runs on.
            Ok(_) => {}
            Err(error) => match meaning(&error) {
                Some(found) => return Ok(Some(found)),
                None => std::thread::sleep(left.min(Duration::from_millis(10))),
            },
        }
    }
}

/// What an error on a connected socket says about the way (udp(7)); `None` where it only was not the time.
fn meaning(error: &io::Error) -> Option<Found> {
    match error.kind() {
        ErrorKind::ConnectionRefused => Some(Found::Refused),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => {
            Some(Found::NoWay)
        }
        ErrorKind::PermissionDenied => Some(Found::NotSent),
        _ => None,
    }
}

/// A long header with our two connection ids, filled up with zeros. Pure.
fn question(ids: &[u8; 2 * ID_BYTES]) -> Vec<u8> {
    let (theirs, ours) = ids.split_at(ID_BYTES);
    let mut packet = Vec::with_capacity(PACKET_BYTES);
    packet.push(0xc0);
    packet.extend_from_slice(&NOBODYS_VERSION);
    for id in [theirs, ours] {
        packet.push(ID_BYTES as u8);
        packet.extend_from_slice(id);
    }
    packet.resize(PACKET_BYTES, 0);
    packet
}

/// Whether these bytes answer the question with these ids: version 0, both ids turned round, at least one version.
fn is_answer(bytes: &[u8], ids: &[u8; 2 * ID_BYTES]) -> bool {
    let (theirs, ours) = ids.split_at(ID_BYTES);
    let length = [ID_BYTES as u8];
    let header = [&[0; 4][..], &length, ours, &length, theirs].concat();
    let Some((first, rest)) = bytes.split_first() else { return false };
    let Some(versions) = rest.strip_prefix(header.as_slice()) else { return false };
    first & 0x80 != 0 && !versions.is_empty() && versions.len().is_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::endpoint::{Endpoint, EndpointConfig};
    use wire::keys::KeyPair;

    const IDS: [u8; 16] = *b"theirs..ours....";

    fn answer(ids: &[u8; 16]) -> Vec<u8> {
        let (theirs, ours) = ids.split_at(8);
        [&[0xff, 0, 0, 0, 0, 8][..], ours, &[8], theirs, &[0, 0, 0, 1]].concat()
    }

    fn try_address(address: &str) -> Answer {
        run(&ReachArgs { address: address.into() })
    }

    #[test]
    fn the_question_is_as_in_the_rfc() {
        let packet = question(&IDS);
        assert_eq!(packet.len(), 1200);
        assert_eq!(packet[0] & 0xc0, 0xc0, "long header, and the bit that tells QUIC from our datagrams");
        assert!(packet[1..5].iter().all(|byte| byte & 0x0f == 0x0a));
        assert_eq!((packet[5], &packet[6..14], packet[14], &packet[15..23]), (8, &IDS[..8], 8, &IDS[8..]));
    }

    #[test]
    fn only_the_answer_to_this_question_counts() {
        let good = answer(&IDS);
        assert!(is_answer(&good, &IDS));
        assert!(!is_answer(&good, b"theirs..others.."));
        assert!(!is_answer(&question(&IDS), &IDS), "our own packet, mirrored");
        assert!(!is_answer(&good[..good.len() - 4], &IDS), "no version at all");
        assert!(!is_answer(&good[..good.len() - 1], &IDS));
        let mut short_header = good.clone();
        short_header[0] = 0x7f;
        assert!(!is_answer(&short_header, &IDS));
    }

    #[tokio::test]
    async fn who_takes_connections_answers_whatever_keys_he_trusts() {
        let config = EndpointConfig {
            bind: "127.0.0.1:0".parse().unwrap(),
            listen: true,
            ..EndpointConfig::nanoprobe(KeyPair::generate().unwrap(), Vec::new())
        };
        let (endpoint, _inbox) = Endpoint::bind(config).unwrap();
        let address = endpoint.local_address().unwrap().to_string();
        let asked = address.clone();
        let answer = tokio::task::spawn_blocking(move || try_address(&asked)).await.unwrap();
        assert_eq!(
            answer,
            Answer { output: format!("{address}: answers\n"), messages: String::new(), code: 0 }
        );
    }

    #[test]
    fn closed_and_silent_ports_are_told_apart() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(reach(address, Duration::from_millis(50)).unwrap(), Found::Silent);
        drop(socket);
        assert_eq!(reach(address, Duration::from_secs(5)).unwrap(), Found::Refused);
        let refused = try_address(&address.to_string());
        assert_eq!(refused.code, 2);
        assert!(refused.output.contains("nothing listens"), "{}", refused.output);
    }

    #[test]
    fn what_is_no_address_of_one_host_is_a_usage_error() {
        for (text, word) in [("224.0.2.5:1984", "multicast"), ("a b", "a b"), ("127.0.0.1:0", "127.0.0.1:0")]
        {
            let answer = try_address(text);
            assert!(
                answer.code == 1 && answer.messages.contains(word) && answer.output.is_empty(),
                "{answer:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(!is_answer(&bytes, &IDS));
        }
    }
}
