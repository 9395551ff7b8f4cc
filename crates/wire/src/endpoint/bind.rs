//! Opening the UDP port: dual stack, other port when it is taken, multicast membership.

use super::EndpointConfig;
use rustix::io::Errno;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

/// A site of ten thousand nanoprobes that all speak at once must fit.
const CMA_RECEIVE_BUFFER_BYTES: usize = 10 << 20;
const CMA_SEND_BUFFER_BYTES: usize = 1 << 20;

/// The port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("UDP {address} is taken by another program (`ss -ulpn 'sport = :{port}'` shows it); stop it, or choose another address with --bind", port = .address.port())]
    Taken { address: SocketAddr },
    #[error("{address} is no address of this host; choose one from `ip address` with --bind")]
    NotOurs { address: SocketAddr },
    #[error("ports below 1024 need root; choose another than {address} with --bind")]
    NotAllowed { address: SocketAddr },
    #[error("cannot open UDP {address}: {error}")]
    Io { address: SocketAddr, error: io::Error },
}

/// A bound socket. Where IPv6 is switched off, `[::]` becomes `0.0.0.0`.
pub(super) fn open(config: &EndpointConfig) -> Result<UdpSocket, BindError> {
    let wanted = config.bind;
    match open_either_family(wanted) {
        Ok(socket) => Ok(tune(socket, config)),
        Err(error) if is(&error, Errno::ADDRINUSE) && config.fallback_ephemeral && wanted.port() != 0 => {
            let free = SocketAddr::new(wanted.ip(), 0);
            tracing::info!(port = wanted.port(), "wanted port is taken, using any free one");
            open_either_family(free).map(|socket| tune(socket, config)).map_err(|error| explain(free, error))
        }
        Err(error) => Err(explain(wanted, error)),
    }
}

/// Joins `group` on every interface of this host; returns on how many it is a member now.
///
/// Interfaces that cannot are logged. Joining again is harmless, so this can be called whenever interfaces appeared.
pub(super) fn join(socket: &tokio::net::UdpSocket, group: Ipv4Addr) -> usize {
    let socket = SockRef::from(socket);
    own_groups_only(&socket);
    let names = match std::fs::read_to_string("/proc/self/net/dev") {
        Ok(text) => interface_names(&text),
        Err(error) => {
            tracing::warn!(%error, "cannot list interfaces to join the multicast group on");
            return 0;
        }
    };
    let mut joined = 0;
    for name in names {
        // An index of 0 would mean "the system's choice", an interface that is gone has none.
        let Ok(index) = rustix::net::netdevice::name_to_index(&*socket, &name) else { continue };
        match socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index)) {
            Ok(()) => joined += 1,
            Err(error) if is(&error, Errno::ADDRINUSE) => joined += 1,
            Err(error) => tracing::warn!(interface = %name, %error, "cannot join the multicast group"),
        }
    }
    joined
}

/// A socket that takes packets to `address`, a multicast group and a port, and nothing else. Several programs of one
/// host may each have one; every one of them gets every packet.
pub(super) fn open_group(config: &EndpointConfig, address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(tune(socket.into(), config))
}

/// Joins `group` on the interface that has the address `interface`; joining again is harmless.
pub(super) fn join_at(socket: &impl AsFd, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
    let socket = SockRef::from(socket);
    own_groups_only(&socket);
    match socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Address(interface)) {
        Err(error) if !is(&error, Errno::ADDRINUSE) => Err(error),
        _ => Ok(()),
    }
}

/// Without this Linux delivers packets of every group, from every interface, that any program of this host joined.
fn own_groups_only(socket: &Socket) {
    if let Err(error) = socket.set_multicast_all_v4(false) {
        tracing::debug!(%error, "multicast packets of other groups cannot be kept out");
    }
}

/// Names of interfaces from `/proc/net/dev` (proc(5)): two lines of heading, then `name: figures`.
fn interface_names(text: &str) -> Vec<String> {
    text.lines().skip(2).filter_map(|line| Some(line.rsplit_once(':')?.0.trim().to_owned())).collect()
}

fn open_either_family(address: SocketAddr) -> io::Result<UdpSocket> {
    match open_at(address) {
        Err(error)
            if address.ip().is_unspecified()
                && address.is_ipv6()
                && (is(&error, Errno::AFNOSUPPORT) || is(&error, Errno::ADDRNOTAVAIL)) =>
        {
            open_at(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
        }
        other => other,
    }
}

fn open_at(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // The system's default may be IPv6 only.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Settings that are better to have, but nothing fails without them.
fn tune(socket: UdpSocket, config: &EndpointConfig) -> UdpSocket {
    let reference = SockRef::from(&socket);
    if let Err(error) = reference.set_multicast_ttl_v4(config.multicast_ttl.min(255)) {
        tracing::debug!(%error, "cannot set the multicast time to live");
    }
    if config.large_buffers {
        for result in [
            reference.set_recv_buffer_size(CMA_RECEIVE_BUFFER_BYTES),
            reference.set_send_buffer_size(CMA_SEND_BUFFER_BYTES),
        ] {
            if let Err(error) = result {
                tracing::debug!(%error, "cannot enlarge a socket buffer");
            }
        }
    }
    socket
}

fn explain(address: SocketAddr, error: io::Error) -> BindError {
    if is(&error, Errno::ADDRINUSE) {
        BindError::Taken { address }
    } else if is(&error, Errno::ADDRNOTAVAIL) {
        BindError::NotOurs { address }
    } else if is(&error, Errno::ACCESS) {
        BindError::NotAllowed { address }
    } else {
        BindError::Io { address, error }
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_from_proc() {
        let text = "Inter-| Receive\n face |bytes\n    lo:  12 3\n  eth0: 4 5\nbr-lan.7: 1\n eth0:1: 5\n";
        assert_eq!(interface_names(text), ["lo", "eth0", "br-lan.7", "eth0:1"]);
        assert!(interface_names("").is_empty());
    }

    #[test]
    fn sockets_of_both_families_take_the_time_to_live() {
        let key = crate::keys::KeyPair::generate().unwrap();
        for bind in ["[::]:0", "127.0.0.1:0"] {
            let bind = bind.parse().unwrap();
            let config =
                EndpointConfig { bind, multicast_ttl: 7, ..EndpointConfig::nanoprobe(key.clone(), vec![]) };
            let socket = open(&config).unwrap();
            assert_eq!(SockRef::from(&socket).multicast_ttl_v4().unwrap(), 7, "{bind}");
        }
    }
}
