//! Packet sockets (packet(7)): whole Ethernet frames of one protocol, as many as a filter in the kernel lets through.
//!
//! Unsafe code, because no safe interface offers packet addresses and memberships in groups
//! (docs/decisions/0008 says what was looked at). Each block is one system call on memory that its own function owns.
#![allow(unsafe_code)]

use socket2::{Domain, SockFilter, Socket, Type};
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// What the kernel keeps of frames that are not yet read, in bytes; it adds as much again for its own use. A burst of some
/// hundred ARP requests fits.
const BUFFER_BYTES: usize = 128 * 1024;

/// What a socket is for: the protocol field of Ethernet frames (linux/if_ether.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Lldp = 0x88cc,
    /// Frames with a length in the place of a protocol (802.2), CDP among them.
    Llc = 0x0004,
    Arp = 0x0806,
    Ipv6 = 0x86dd,
}

/// What an interface lets through besides what is meant for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// Frames to this group.
    Group([u8; 6]),
    /// Frames to all groups, but none to other stations.
    AllGroups,
}

/// One frame that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// How many bytes of the buffer it fills.
    pub bytes: usize,
    /// How many it had; more when the buffer was too small.
    pub wire_bytes: usize,
    /// Index of the interface; for a part of a bond that part.
    pub interface: u32,
    /// Sent by this host itself.
    pub is_own: bool,
}

/// A packet socket that never blocks. Closing it ends its memberships.
#[derive(Debug)]
pub struct PacketSocket(Socket);

impl PacketSocket {
    /// `interface`: index of the only one to hear; `None`: all.
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_NET_RAW; the interface is gone.
    pub fn open(protocol: Protocol, interface: Option<u32>, filter: &[SockFilter]) -> io::Result<Self> {
        // Without a protocol nothing arrives, so nothing slips in before the filter is there.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        socket.attach_filter(filter)?;
        socket.set_recv_buffer_size(BUFFER_BYTES)?;
        let socket = Self(socket);
        socket.set(libc::PACKET_ORIGDEV, &1)?;
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (protocol as u16).to_be(),
            sll_ifindex: index(interface.unwrap_or(0))?,
            ..NO_ADDRESS
        };
        // SAFETY: the pointer and the length are those of `address`, which is initialised and outlives the call.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_BYTES) };
        if bound == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
    }

    /// Has an interface let through more, until this socket is closed or the interface is gone. Nothing is sent for it.
    ///
    /// # Errors
    /// There is no such interface, or it cannot do that.
    pub fn join(&self, interface: u32, membership: Membership) -> io::Result<()> {
        let mut request = libc::packet_mreq {
            mr_ifindex: index(interface)?,
            mr_type: libc::PACKET_MR_ALLMULTI as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        if let Membership::Group(address) = membership {
            request.mr_type = libc::PACKET_MR_MULTICAST as u16;
            request.mr_alen = address.len() as u16;
            request.mr_address[..address.len()].copy_from_slice(&address);
        }
        self.set(libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    /// The next frame; what does not fit into the buffer is cut off.
    ///
    /// # Errors
    /// `WouldBlock` when none is there; others when an interface went down, which is told once and ends nothing.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Arrival> {
        let mut from = NO_ADDRESS;
        let mut from_bytes = ADDRESS_BYTES;
        // SAFETY: the kernel writes at most `buffer.len()` bytes to the buffer and at most `from_bytes`, the size of `from`,
        // to `from`; both are borrowed mutably for the call, and every byte pattern is a `sockaddr_ll`.
        let received = unsafe {
            libc::recvfrom(
                self.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                // Tells the length on the wire, whatever fits.
                libc::MSG_TRUNC,
                (&raw mut from).cast(),
                &raw mut from_bytes,
            )
        };
        let wire_bytes = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(Arrival {
            bytes: wire_bytes.min(buffer.len()),
            wire_bytes,
            interface: from.sll_ifindex.unsigned_abs(),
            is_own: from.sll_pkttype == libc::PACKET_OUTGOING,
        })
    }

    fn set<T: Copy>(&self, option: c_int, value: &T) -> io::Result<()> {
        // SAFETY: the pointer and the length are those of `value`, which is only read. `T` is an integer or a `packet_mreq`,
        // neither of which has padding.
        let result = unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                libc::SOL_PACKET,
                option,
                (&raw const *value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

const NO_ADDRESS: libc::sockaddr_ll = libc::sockaddr_ll {
    sll_family: 0,
    sll_protocol: 0,
    sll_ifindex: 0,
    sll_hatype: 0,
    sll_pkttype: 0,
    sll_halen: 0,
    sll_addr: [0; 8],
};

const ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

fn index(interface: u32) -> io::Result<c_int> {
    interface.try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

#[cfg(test)]
mod tests {
    use super::super::filter;
    use super::*;
    use std::io::ErrorKind;

    /// No interface has this index.
    const NOBODY: u32 = i32::MAX as u32;

    #[test]
    fn interfaces_that_are_not_there_are_errors() {
        let error = PacketSocket::open(Protocol::Arp, Some(NOBODY), &filter::all()).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO | libc::EPERM)), "{error}");
        assert_eq!(index(NOBODY + 1).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(index(NOBODY).unwrap(), i32::MAX);
    }

    #[test]
    fn an_open_socket_does_not_block_and_refuses_what_cannot_be() {
        let socket = match PacketSocket::open(Protocol::Lldp, None, &filter::all()) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return eprintln!("skipped: packet sockets take CAP_NET_RAW");
            }
            socket => socket.unwrap(),
        };
        for membership in [Membership::AllGroups, Membership::Group([1, 0x80, 0xc2, 0, 0, 0x0e])] {
            assert!(socket.join(NOBODY, membership).is_err(), "{membership:?}");
            assert!(socket.join(NOBODY + 1, membership).is_err(), "{membership:?}");
            assert!(socket.join(1, membership).is_ok(), "loopback takes {membership:?}");
        }
        // Whoever runs a switch beside this test may be heard, and no more than fits.
        match socket.receive(&mut [0; 8]) {
            Ok(arrival) => assert!(arrival.bytes == 8 && arrival.wire_bytes > 8, "{arrival:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}
