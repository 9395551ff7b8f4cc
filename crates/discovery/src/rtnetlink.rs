//! What the kernel says about links, addresses and neighbours (rtnetlink(7)).
//!
//! Only the attributes we need are looked at, one by one: an attribute of a newer kernel cannot spoil a message.

use netlink_packet_core::{NetlinkBuffer, NlaBuffer, NlasIterator};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

// <linux/rtnetlink.h>, <linux/netlink.h>
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NETLINK_HEADER_BYTES: usize = 16;
const LINK_HEADER_BYTES: usize = 16;
const ADDRESS_HEADER_BYTES: usize = 8;
const NEIGHBOUR_HEADER_BYTES: usize = 12;
const IFF_UP: u32 = 1;
const IFA_F_SECONDARY: u32 = 1;
// <linux/neighbour.h>: reachable, stale, delay, probe.
const NUD_VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10;
const NUD_PERMANENT: u16 = 0x80;
/// USER_HZ, in which the kernel tells times to programs.
const TICKS_PER_SECOND: u32 = 100;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The kernel makes its pieces fit what is asked for, and at most 32 KiB.
const MAX_PIECE_BYTES: usize = 64 * 1024;
/// More than these means that something is wrong.
const MAX_PIECES: usize = 20_000;

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// ARPHRD number.
    pub hardware_type: u16,
    pub is_up: bool,
    pub address: Vec<u8>,
    pub mtu: Option<u32>,
    /// RFC 2863.
    pub operstate: Option<u8>,
    pub carrier: Option<bool>,
    /// Index of the interface this one sits on.
    pub parent: Option<u32>,
    /// Port of a bridge, slave of a bond, ...
    pub has_controller: bool,
    /// Driver of a virtual interface.
    pub kind: Option<String>,
    /// How often the carrier was lost since the interface is there; kernels before 4.16 do not count.
    pub carrier_losses: Option<u32>,
}

/// An IP address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Index of the interface.
    pub link: u32,
    pub ip: IpAddr,
    pub prefix_length: u8,
    /// RT_SCOPE number.
    pub scope: u8,
    pub is_secondary: bool,
    pub peer: Option<IpAddr>,
    pub broadcast: Option<IpAddr>,
    pub label: Option<String>,
}

/// An entry of the kernel's neighbour table (ip-neighbour(8)) whose link-layer address is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the interface.
    pub link: u32,
    pub ip: IpAddr,
    /// Link-layer address.
    pub address: Vec<u8>,
    /// How long ago the neighbour last gave a sign of life; none of an entry that an administrator made.
    pub confirmed_ago: Option<Duration>,
}

/// All interfaces.
///
/// # Errors
/// A sentence; netlink is not to be had.
pub fn links() -> Result<Vec<Link>, String> {
    dump(RTM_GETLINK, RTM_NEWLINK, LINK_HEADER_BYTES, parse_link)
}

/// All addresses of all interfaces.
///
/// # Errors
/// As [`links`].
pub fn addresses() -> Result<Vec<Address>, String> {
    dump(RTM_GETADDR, RTM_NEWADDR, ADDRESS_HEADER_BYTES, parse_address)
}

/// What the kernel knows about addresses of neighbours, without those that it is still asking for or that do not answer.
///
/// # Errors
/// As [`links`].
pub fn neighbours() -> Result<Vec<Neighbour>, String> {
    dump(RTM_GETNEIGH, RTM_NEWNEIGH, NEIGHBOUR_HEADER_BYTES, parse_neighbour)
}

/// One whole answer, in the kernel's order. When the kernel says that something changed in the middle, again.
fn dump<T>(
    request: u16,
    answer: u16,
    header_bytes: usize,
    parse: fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, String> {
    let failed = |error: std::io::Error| format!("netlink: {error}: allow nanoprobe to use netlink sockets");
    let mut found = Vec::new();
    for _ in 0..4 {
        found.clear();
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))
            .map_err(|errno| failed(errno.into()))?;
        socket.bind_auto().map_err(failed)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
        socket.send(&request_for(request, header_bytes), 0).map_err(failed)?;
        let mut state = State::More { is_consistent: true };
        let mut bytes = Vec::with_capacity(MAX_PIECE_BYTES);
        for _ in 0..MAX_PIECES {
            bytes.clear();
            let (_, sender) = socket.recv_from(&mut bytes, 0).map_err(failed)?;
            // Any process may send to our port; only the kernel is port 0.
            if sender.port_number() == 0 {
                state = take(&bytes, answer, state, |payload| found.extend(parse(payload)))?;
            }
            if let State::Done { .. } = state {
                break;
            }
        }
        if let State::Done { is_consistent: true } = state {
            return Ok(found);
        }
    }
    // Interfaces come and go faster than they can be listed: the last list is the best there is.
    Ok(found)
}

/// A request for everything: header of netlink(7), then an empty one of rtnetlink(7).
fn request_for(request: u16, header_bytes: usize) -> Vec<u8> {
    let length = (NETLINK_HEADER_BYTES + header_bytes) as u32;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(request.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    bytes.extend(1u32.to_ne_bytes());
    bytes.resize(length as usize, 0);
    bytes
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    More { is_consistent: bool },
    Done { is_consistent: bool },
}

/// Goes through the messages of one piece of an answer.
pub(crate) fn take(
    bytes: &[u8],
    wanted: u16,
    state: State,
    mut message: impl FnMut(&[u8]),
) -> Result<State, String> {
    let State::More { mut is_consistent } = state else { return Ok(state) };
    let mut rest = bytes;
    while !rest.is_empty() {
        let buffer =
            NetlinkBuffer::new_checked(rest).map_err(|error| format!("netlink: unusable answer: {error}"))?;
        let length = buffer.length() as usize;
        is_consistent &= buffer.flags() & NLM_F_DUMP_INTR == 0;
        let payload = rest.get(NETLINK_HEADER_BYTES..length).unwrap_or_default();
        match buffer.message_type() {
            NLMSG_DONE => return Ok(State::Done { is_consistent }),
            NLMSG_ERROR => {
                let code = payload.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                let error = std::io::Error::from_raw_os_error(code.saturating_neg());
                return Err(format!("netlink: the kernel refused: {error}"));
            }
            kind if kind == wanted => message(payload),
            _ => {}
        }
        // Messages are aligned to four bytes; a length of 0 would never end.
        rest = rest.get(length.max(NETLINK_HEADER_BYTES).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(State::More { is_consistent })
}

pub(crate) fn any_answer(bytes: &[u8]) {
    for wanted in [RTM_NEWLINK, RTM_NEWADDR, RTM_NEWNEIGH] {
        // What an error here says does not matter.
        let _ = take(bytes, wanted, State::More { is_consistent: true }, |payload| {
            parse_link(payload);
            parse_address(payload);
            parse_neighbour(payload);
        });
    }
    parse_link(bytes);
    parse_address(bytes);
    parse_neighbour(bytes);
}

/// `struct ifinfomsg` and its attributes. `None` without a name.
pub(crate) fn parse_link(payload: &[u8]) -> Option<Link> {
    let header = payload.get(..LINK_HEADER_BYTES)?;
    let mut link = Link {
        hardware_type: u16::from_ne_bytes([header[2], header[3]]),
        index: u32::from_ne_bytes(*header[4..].first_chunk()?),
        is_up: u32::from_ne_bytes(*header[8..].first_chunk()?) & IFF_UP != 0,
        ..Link::default()
    };
    for attribute in attributes(&payload[LINK_HEADER_BYTES..]) {
        let value = attribute.value();
        match attribute.kind() {
            1 => link.address = value.to_vec(),
            3 => link.name = text(value),
            4 => link.mtu = number(value),
            5 => link.parent = number(value),
            10 => link.has_controller = number(value).is_some_and(|index| index != 0),
            16 => link.operstate = value.first().copied(),
            18 => {
                link.kind =
                    attributes(value).find(|nested| nested.kind() == 1).map(|nested| text(nested.value()))
            }
            33 => link.carrier = value.first().map(|carrier| *carrier != 0),
            48 => link.carrier_losses = number(value),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

/// `struct ifaddrmsg` and its attributes.
pub(crate) fn parse_address(payload: &[u8]) -> Option<Address> {
    let header = payload.get(..ADDRESS_HEADER_BYTES)?;
    let (mut address, mut local, mut broadcast, mut label) = (None, None, None, None);
    let mut flags = u32::from(header[2]);
    for attribute in attributes(&payload[ADDRESS_HEADER_BYTES..]) {
        let value = attribute.value();
        match attribute.kind() {
            1 => address = ip(value),
            2 => local = ip(value),
            3 => label = Some(text(value)),
            4 => broadcast = ip(value),
            8 => flags = number(value).unwrap_or(flags),
            _ => {}
        }
    }
    // On a point-to-point link IFA_LOCAL is ours and IFA_ADDRESS the other end's; IPv6 has IFA_LOCAL only there.
    let own = local.or(address)?;
    Some(Address {
        link: u32::from_ne_bytes(*header[4..].first_chunk()?),
        ip: own,
        prefix_length: header[1],
        scope: header[3],
        is_secondary: flags & IFA_F_SECONDARY != 0,
        peer: address.filter(|address| *address != own),
        broadcast,
        label,
    })
}

/// `struct ndmsg` and its attributes. `None` without an address that is in use.
pub(crate) fn parse_neighbour(payload: &[u8]) -> Option<Neighbour> {
    let header = payload.get(..NEIGHBOUR_HEADER_BYTES)?;
    let state = u16::from_ne_bytes([header[8], header[9]]);
    if state & (NUD_VALID | NUD_PERMANENT) == 0 {
        return None;
    }
    let (mut destination, mut address, mut ticks) = (None, Vec::new(), None);
    for attribute in attributes(&payload[NEIGHBOUR_HEADER_BYTES..]) {
        let value = attribute.value();
        match attribute.kind() {
            1 => destination = ip(value),
            2 => address = value.to_vec(),
            // struct nda_cacheinfo begins with the time since the last confirmation.
            3 => ticks = value.first_chunk().map(|ticks| u32::from_ne_bytes(*ticks)),
            _ => {}
        }
    }
    let ago = |ticks: u32| Duration::from_millis(u64::from(ticks) * 1000 / u64::from(TICKS_PER_SECOND));
    Some(Neighbour {
        link: u32::from_ne_bytes(*header[4..].first_chunk()?),
        ip: destination?,
        address,
        confirmed_ago: if state & NUD_PERMANENT == 0 { Some(ago(ticks?)) } else { None },
    })
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
        16 => <[u8; 16]>::try_from(value).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbour(state: u16, attributes: &[(u16, &[u8])]) -> Option<Neighbour> {
        let mut payload = vec![2, 0, 0, 0, 3, 0, 0, 0];
        payload[4..8].copy_from_slice(&3u32.to_ne_bytes());
        payload.extend(state.to_ne_bytes());
        payload.extend([0, 1]);
        for (kind, value) in attributes {
            payload.extend((4 + value.len() as u16).to_ne_bytes());
            payload.extend(kind.to_ne_bytes());
            payload.extend(*value);
            payload.resize(payload.len().next_multiple_of(4), 0);
        }
        parse_neighbour(&payload)
    }

    #[test]
    fn neighbours_that_answered_are_told_with_the_age_of_that() {
        let cache: Vec<u8> = [250u32, 1, 2, 3].iter().flat_map(|ticks| ticks.to_ne_bytes()).collect();
        let attributes: [(u16, &[u8]); 3] =
            [(1, &[10, 0, 0, 7]), (2, &[0, 0x16, 0x3e, 0, 0, 1]), (3, &cache)];
        let expected = Neighbour {
            link: 3,
            ip: [10, 0, 0, 7].into(),
            address: vec![0, 0x16, 0x3e, 0, 0, 1],
            confirmed_ago: Some(Duration::from_millis(2500)),
        };
        for state in [0x02, 0x04, 0x08, 0x10] {
            assert_eq!(neighbour(state, &attributes).as_ref(), Some(&expected), "{state}");
        }
        let made_by_hand = Neighbour { confirmed_ago: None, ..expected };
        assert_eq!(neighbour(NUD_PERMANENT, &attributes), Some(made_by_hand));
        // Still asked for, given up, one that needs no asking (multicast, loopback).
        for state in [0, 0x01, 0x20, 0x40] {
            assert_eq!(neighbour(state, &attributes), None, "{state}");
        }
        assert_eq!(neighbour(0x02, &attributes[1..]), None, "nobody's address");
        assert_eq!(neighbour(0x02, &attributes[..2]), None, "no age");
    }
}
