//! Sockets of one network namespace: from the kernel by sock_diag(7), else from /proc/net (proc(5)).
//!
//! Only what is of interest is kept while the kernel tells: what listens, and connections that were opened from
//! here. Those that were accepted can be tens of thousands, and say nothing that the listening socket does not.

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::{Socket as Netlink, SocketAddr as Port, protocols::NETLINK_SOCK_DIAG};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

// <linux/netlink.h>, <linux/sock_diag.h>, <linux/inet_diag.h>, <net/tcp_states.h>
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NETLINK_HEADER_BYTES: usize = 16;
/// `struct inet_diag_req_v2`
const REQUEST_BYTES: usize = 56;
/// `struct inet_diag_msg`
const MESSAGE_BYTES: usize = 72;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const ESTABLISHED: u8 = 1;
/// What an unconnected UDP socket is in.
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const PIECE_BYTES: usize = 64 * 1024;
/// More than these pieces of 32 KiB mean that something is wrong.
const MAX_PIECES: usize = 20_000;
/// More sockets of interest in one namespace are left out.
pub const MAX_SOCKETS: usize = 20_000;
/// Longer tables of /proc/net are cut.
const MAX_TABLE_BYTES: usize = 32 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Waits for peers at its local address.
    Listens,
    /// Opened from here to its remote address.
    Client,
}

/// A socket of interest. IPv4 addresses mapped into IPv6 are IPv4 here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    pub protocol: Protocol,
    pub role: Role,
    /// Of the listening side the local address, of a client the remote one.
    pub address: SocketAddr,
    /// 0 for a socket of the kernel itself.
    pub inode: u64,
}

/// What one namespace has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sockets {
    pub list: Vec<Socket>,
    /// Some were left out because there are more than [`MAX_SOCKETS`].
    pub is_cut: bool,
}

/// The ports that the kernel chooses for sockets that do not ask for one (ip(7), ip_local_port_range).
pub type Ephemeral = RangeInclusive<u16>;

/// The kernel's own default.
pub const EPHEMERAL: Ephemeral = 32768..=60999;

/// The range in a text of two numbers, such as 32768 and 60999.
pub fn ephemeral(text: &str) -> Option<Ephemeral> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u16>);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

/// Which sockets to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Listening,
    All,
}

/// The sockets of the network namespace of the calling thread.
///
/// # Errors
/// The kernel has no sock_diag, or a sandbox forbids it.
pub fn by_netlink(wanted: Wanted, ephemeral: &Ephemeral) -> Result<Sockets, String> {
    let mut filter = Filter::new(ephemeral);
    // What listens must be known before it can be told which connections were accepted.
    for (protocol, state) in [(IPPROTO_TCP, LISTEN), (IPPROTO_UDP, CLOSE)] {
        for family in [AF_INET, AF_INET6] {
            dump(family, protocol, 1 << state, &mut filter)?;
        }
    }
    if wanted == Wanted::All {
        for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
            for family in [AF_INET, AF_INET6] {
                dump(family, protocol, 1 << ESTABLISHED, &mut filter)?;
            }
        }
    }
    Ok(filter.sockets)
}

/// The same from the four tables of a `/proc/<pid>/net` directory; `read` gives a table by its name.
pub fn by_tables(
    wanted: Wanted,
    ephemeral: &Ephemeral,
    read: impl Fn(&str) -> Option<String>,
) -> Option<Sockets> {
    let tables =
        [("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp), ("udp", Protocol::Udp), ("udp6", Protocol::Udp)];
    let mut raw = Vec::new();
    let mut found = false;
    for (name, protocol) in tables {
        let Some(text) = read(name) else { continue };
        found = true;
        raw.extend(text.lines().skip(1).filter_map(|line| table_line(line, protocol)));
    }
    let mut filter = Filter::new(ephemeral);
    raw.iter().filter(|raw| raw.state != ESTABLISHED).for_each(|raw| filter.take(raw));
    if wanted == Wanted::All {
        raw.iter().filter(|raw| raw.state == ESTABLISHED).for_each(|raw| filter.take(raw));
    }
    found.then_some(filter.sockets)
}

/// The most of a table that is read, in bytes.
pub const TABLE_LIMIT_BYTES: usize = MAX_TABLE_BYTES;

/// A socket as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Raw {
    pub protocol: Protocol,
    pub state: u8,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub inode: u64,
}

/// Keeps what is of interest. Listening sockets must come first.
pub(super) struct Filter {
    ephemeral: Ephemeral,
    listening: HashSet<(Protocol, SocketAddr)>,
    sockets: Sockets,
}

impl Filter {
    pub fn new(ephemeral: &Ephemeral) -> Self {
        Filter { ephemeral: ephemeral.clone(), listening: HashSet::new(), sockets: Sockets::default() }
    }

    pub fn take(&mut self, raw: &Raw) {
        let (role, address) = match (raw.protocol, raw.state) {
            (Protocol::Tcp, LISTEN) => (Role::Listens, raw.local),
            // A UDP socket that was bound to no port in particular waits for answers, not for peers. Those of the
            // kernel (WireGuard, VXLAN) are never of that kind.
            (Protocol::Udp, CLOSE) if raw.remote.port() == 0 => {
                if raw.local.port() == 0 || (raw.inode != 0 && self.ephemeral.contains(&raw.local.port())) {
                    return;
                }
                (Role::Listens, raw.local)
            }
            (_, ESTABLISHED) if raw.inode != 0 && !self.is_accepted(raw) => (Role::Client, raw.remote),
            _ => return,
        };
        if role == Role::Listens && self.listening.len() < MAX_SOCKETS {
            self.listening.insert((raw.protocol, raw.local));
        }
        if self.sockets.list.len() >= MAX_SOCKETS {
            self.sockets.is_cut = true;
            return;
        }
        self.sockets.list.push(Socket { protocol: raw.protocol, role, address, inode: raw.inode });
    }

    #[cfg(test)]
    pub fn into_sockets(self) -> Sockets {
        self.sockets
    }

    /// Whether the peer opened the connection: its local address is one that is listened at. When the listener has
    /// gone meanwhile, the ports tell: the side with the port of the kernel's choice is the client.
    fn is_accepted(&self, raw: &Raw) -> bool {
        let port = raw.local.port();
        let any = [raw.local.ip(), Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        any.iter().any(|ip| self.listening.contains(&(raw.protocol, SocketAddr::new(*ip, port))))
            || (!self.ephemeral.contains(&port) && self.ephemeral.contains(&raw.remote.port()))
    }
}

fn dump(family: u8, protocol: u8, states: u32, filter: &mut Filter) -> Result<(), String> {
    let failed = |error: std::io::Error| {
        format!("sock_diag: {error}: load the kernel modules tcp_diag and udp_diag, or allow netlink sockets")
    };
    let mut socket = Netlink::new(NETLINK_SOCK_DIAG).map_err(failed)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT)).map_err(|errno| failed(errno.into()))?;
    socket.bind_auto().map_err(failed)?;
    socket.connect(&Port::new(0, 0)).map_err(failed)?;
    socket.send(&request(family, protocol, states), 0).map_err(failed)?;
    let mut bytes = Vec::with_capacity(PIECE_BYTES);
    for _ in 0..MAX_PIECES {
        bytes.clear();
        let (_, sender) = socket.recv_from(&mut bytes, 0).map_err(failed)?;
        // Any process may send to our port; only the kernel is port 0.
        if sender.port_number() != 0 {
            continue;
        }
        let mut take = |payload: &[u8]| {
            if let Some(raw) = parse(payload, protocol) {
                filter.take(&raw);
            }
        };
        match messages(&bytes, &mut take) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // The kernel was built without IPv6 or without diagnosis of UDP: nothing there, or see /proc/net.
            Err(error) if family == AF_INET6 && error.raw_os_error() == Some(2) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// Goes through one piece of an answer; `true` at its end.
pub(super) fn messages(bytes: &[u8], take: &mut dyn FnMut(&[u8])) -> std::io::Result<bool> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Ok(buffer) = NetlinkBuffer::new_checked(rest) else {
            return Err(std::io::Error::other("the answer cannot be understood"));
        };
        let length = buffer.length() as usize;
        let payload = rest.get(NETLINK_HEADER_BYTES..length).unwrap_or_default();
        match buffer.message_type() {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = payload.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                return Err(std::io::Error::from_raw_os_error(code.saturating_neg()));
            }
            SOCK_DIAG_BY_FAMILY => take(payload),
            _ => {}
        }
        // Messages are aligned to four bytes; a length of 0 would never end.
        rest = rest.get(length.max(NETLINK_HEADER_BYTES).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Header of netlink(7), then `struct inet_diag_req_v2` for all sockets of a family in some states.
fn request(family: u8, protocol: u8, states: u32) -> Vec<u8> {
    let length = NETLINK_HEADER_BYTES + REQUEST_BYTES;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, protocol, 0, 0]);
    bytes.extend(states.to_ne_bytes());
    bytes.resize(length, 0);
    bytes
}

/// `struct inet_diag_msg`: family, state, two timers; ports and addresses in network order; queues, owner, inode.
pub(super) fn parse(payload: &[u8], protocol: u8) -> Option<Raw> {
    let message: &[u8; MESSAGE_BYTES] = payload.first_chunk()?;
    let port = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let ip = |at: usize| match message[0] {
        AF_INET => {
            <[u8; 4]>::try_from(&message[at..at + 4]).ok().map(|bytes| IpAddr::from(Ipv4Addr::from(bytes)))
        }
        AF_INET6 => {
            <[u8; 16]>::try_from(&message[at..at + 16]).ok().map(|bytes| Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    };
    Some(Raw {
        protocol: if protocol == IPPROTO_UDP { Protocol::Udp } else { Protocol::Tcp },
        state: message[1],
        local: SocketAddr::new(ip(8)?, port(4)),
        remote: SocketAddr::new(ip(24)?, port(6)),
        inode: u64::from(u32::from_ne_bytes(*message[68..].first_chunk()?)),
    })
}

/// Columns: number, local and remote address, state, queues, timer, retransmissions, owner, time-out, inode, ...
fn table_line(line: &str, protocol: Protocol) -> Option<Raw> {
    let mut columns = line.split_ascii_whitespace();
    let local = table_address(columns.nth(1)?)?;
    let remote = table_address(columns.next()?)?;
    let state = u8::from_str_radix(columns.next()?, 16).ok()?;
    let inode = columns.nth(5)?.parse().ok()?;
    Some(Raw { protocol, state, local, remote, inode })
}

/// `0100007F:0016`: words of 32 bits in the order of the host, and a port.
fn table_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word =
        |at: usize| Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}
