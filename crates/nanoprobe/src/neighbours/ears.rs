//! The sockets through which neighbours are heard, and which interfaces let their frames through.
//!
//! LLDP and CDP have one socket each for all interfaces: such frames are rare everywhere, and nothing has to be opened when an
//! interface comes. Addresses have two for each interface that the CMA chose, bound to it, so that the IPv6 packets of all
//! other interfaces meet no filter of ours. Nothing is ever sent, and no interface is made promiscuous.

use super::filter;
use super::links::LinkState;
use super::packet_socket::{Arrival, Membership, PacketSocket, Protocol};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Nearest bridge, nearest bridge but relays of two ports, nearest customer bridge (IEEE 802.1AB table 7-1).
const LLDP_GROUPS: [[u8; 6]; 3] =
    [[0x01, 0x80, 0xc2, 0, 0, 0x0e], [0x01, 0x80, 0xc2, 0, 0, 0x03], [0x01, 0x80, 0xc2, 0, 0, 0x00]];

const CDP_GROUP: [u8; 6] = [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc];

/// Groups in which IPv6 hosts tell of themselves (RFC 2464): all nodes, all routers (solicitations when a host comes), routers
/// that look after multicast (RFC 3810).
const IPV6_GROUPS: [[u8; 6]; 3] =
    [[0x33, 0x33, 0, 0, 0, 0x01], [0x33, 0x33, 0, 0, 0, 0x02], [0x33, 0x33, 0, 0, 0, 0x16]];

/// Frames that are read of one socket before others have their turn.
const BATCH: usize = 32;

/// What a socket hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Devices that tell of themselves.
    Advertisements,
    /// Who has which address.
    Addresses,
}

/// All sockets.
#[derive(Debug, Default)]
pub struct Ears {
    ears: Vec<Ear>,
    /// Indexes of the interfaces that let frames of LLDP and CDP through.
    joined: BTreeSet<u32>,
    /// With which setting the sockets for addresses were opened.
    all_multicast: bool,
}

#[derive(Debug)]
struct Ear {
    socket: AsyncFd<PacketSocket>,
    protocol: Protocol,
    /// Index of the only one that it hears.
    interface: Option<u32>,
}

impl Ears {
    /// Opens and closes what it takes to hear devices on `ports` and addresses on `listening`. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// A socket cannot be had, `PermissionDenied` without CAP_NET_RAW; those that can are open.
    pub fn set<'l>(
        &mut self,
        ports: impl Iterator<Item = &'l LinkState>,
        listening: impl Iterator<Item = &'l LinkState>,
        all_multicast: bool,
    ) -> io::Result<()> {
        let ports: BTreeSet<u32> = ports.map(|link| link.index).collect();
        let listening: BTreeSet<u32> = listening.map(|link| link.index).collect();
        let renew = std::mem::replace(&mut self.all_multicast, all_multicast) != all_multicast;
        self.ears.retain(|ear| match ear.interface {
            None => !ports.is_empty(),
            Some(index) => listening.contains(&index) && !renew,
        });
        let mut result = Ok(());
        if ports.is_empty() {
            self.joined.clear();
        } else {
            result = result.and(self.open(Protocol::Lldp, None)).and(self.open(Protocol::Llc, None));
            self.join(ports);
        }
        for index in listening {
            result = result.and(self.open(Protocol::Arp, Some(index)));
            result = result.and(self.open(Protocol::Ipv6, Some(index)));
        }
        result
    }

    /// Waits until there is something to read.
    pub async fn ready(&self) {
        poll_fn(|context| {
            // A socket that is broken says so when it is read.
            let is_ready = |ear: &Ear| ear.socket.poll_read_ready(context).is_ready();
            if self.ears.iter().any(is_ready) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Hands over what is there, a batch of each socket at most. Returns whether there may be more.
    pub fn read(&self, buffer: &mut [u8], mut frame: impl FnMut(Heard, Arrival, &[u8])) -> bool {
        let mut is_more = false;
        for ear in &self.ears {
            let mut count = 0;
            while count < BATCH {
                count += 1;
                match ear.socket.try_io(Interest::READABLE, |socket| socket.receive(buffer)) {
                    Ok(arrival) if arrival.is_own => {}
                    Ok(arrival) => frame(ear.hears(), arrival, &buffer[..arrival.bytes]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // An interface went down; what it was before is told by its state.
                    Err(error) => tracing::debug!(%error, "a packet socket was disturbed"),
                }
            }
            is_more |= count == BATCH;
        }
        is_more
    }

    fn open(&mut self, protocol: Protocol, interface: Option<u32>) -> io::Result<()> {
        if self.ears.iter().any(|ear| (ear.protocol, ear.interface) == (protocol, interface)) {
            return Ok(());
        }
        let filter = match protocol {
            Protocol::Lldp | Protocol::Arp => filter::all(),
            Protocol::Llc => filter::cdp(),
            Protocol::Ipv6 => filter::icmpv6(),
        };
        let socket = PacketSocket::open(protocol, interface, &filter)?;
        if let (Protocol::Ipv6, Some(index)) = (protocol, interface) {
            let all = self.all_multicast.then_some(Membership::AllGroups);
            for membership in IPV6_GROUPS.map(Membership::Group).into_iter().chain(all) {
                let_through(&socket, index, membership);
            }
        }
        if interface.is_none() {
            // A new socket has no memberships yet.
            self.joined.clear();
        }
        // Deprecated in favour of an unsafe function, because a type could give another descriptor each time it is asked; a
        // `PacketSocket` owns one and gives that.
        #[allow(deprecated)]
        let socket = AsyncFd::new(socket)?;
        self.ears.push(Ear { socket, protocol, interface });
        Ok(())
    }

    /// An index that is gone has left its groups by itself.
    fn join(&mut self, ports: BTreeSet<u32>) {
        for index in ports.difference(&self.joined) {
            for ear in &self.ears {
                let groups: &[[u8; 6]] = match ear.protocol {
                    Protocol::Lldp => &LLDP_GROUPS,
                    Protocol::Llc => &[CDP_GROUP],
                    Protocol::Arp | Protocol::Ipv6 => &[],
                };
                for group in groups {
                    let_through(ear.socket.get_ref(), *index, Membership::Group(*group));
                }
            }
        }
        self.joined = ports;
    }
}

impl Ear {
    fn hears(&self) -> Heard {
        match self.protocol {
            Protocol::Lldp | Protocol::Llc => Heard::Advertisements,
            Protocol::Arp | Protocol::Ipv6 => Heard::Addresses,
        }
    }
}

/// Some interfaces let everything through anyway, and cannot be asked.
fn let_through(socket: &PacketSocket, interface: u32, membership: Membership) {
    if let Err(error) = socket.join(interface, membership) {
        tracing::debug!(interface, ?membership, %error, "an interface does not join a group");
    }
}
