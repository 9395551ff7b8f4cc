//! The multicast group beside an endpoint that is bound to one address.
//!
//! Linux gives a packet to the socket whose bound address is the packet's destination: one that is bound to 192.0.2.1
//! never sees a packet to 224.0.2.5 (ip(7)). So such an endpoint has a second socket, bound to the group, which only
//! takes hello packets in; answers leave by the endpoint's own socket.

use super::EndpointConfig;
use super::bind;
use super::canonical;
use super::socket::{Counters, Datagram, MAX_DATAGRAM_BYTES, QUIC_BIT};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Pause after a socket failed, so that one that fails for ever costs nothing.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// How an endpoint gets what is sent to its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// By its own socket. Loopback too: it has no multicast unless its administrator says so.
    Itself,
    /// By a second socket, on the interface that has this address.
    Beside(Ipv4Addr),
    /// Not at all: an IPv4 sender could not be answered from an IPv6 address.
    Never,
}

/// For an endpoint bound to `bound`.
pub(super) fn reach(bound: SocketAddr) -> Reach {
    match bound.ip().to_canonical() {
        ip if ip.is_unspecified() || ip.is_loopback() => Reach::Itself,
        IpAddr::V4(address) => Reach::Beside(address),
        IpAddr::V6(_) => Reach::Never,
    }
}

/// A member of the group on one interface; ends when dropped.
#[derive(Debug)]
pub(super) struct GroupSocket {
    io: Arc<UdpSocket>,
    group: Ipv4Addr,
    interface: Ipv4Addr,
    task: AbortHandle,
}

impl GroupSocket {
    /// Opens `group`:`port` on the interface that has the address `interface`. Must be called within a tokio runtime.
    pub fn open(
        config: &EndpointConfig,
        group: Ipv4Addr,
        port: u16,
        interface: Ipv4Addr,
        datagrams: mpsc::Sender<Datagram>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let socket = bind::open_group(config, SocketAddr::from((group, port)))?;
        bind::join_at(&socket, group, interface)?;
        let io = Arc::new(UdpSocket::from_std(socket)?);
        let task = tokio::spawn(read(io.clone(), group, datagrams, counters)).abort_handle();
        Ok(Self { io, group, interface, task })
    }

    /// Joins again: the membership is lost when the interface goes and comes back.
    pub fn join(&self) -> io::Result<()> {
        bind::join_at(&*self.io, self.group, self.interface)
    }
}

impl Drop for GroupSocket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Moves datagrams to the inbox as long as it has room; whatever does not fit is dropped and counted.
async fn read(
    socket: Arc<UdpSocket>,
    group: Ipv4Addr,
    datagrams: mpsc::Sender<Datagram>,
    counters: Arc<Counters>,
) {
    // One byte more than the longest legal one, to tell those that are longer.
    let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
    loop {
        let (length, source) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%group, %error, "the multicast socket failed");
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let counter = match buffer[..length].first() {
            None => continue,
            Some(first) if first & QUIC_BIT != 0 => &counters.dropped_multicast_quic,
            Some(_) if length > MAX_DATAGRAM_BYTES => &counters.dropped_large,
            Some(_) => {
                let bytes = buffer[..length].to_vec();
                let datagram = Datagram { source: canonical(source), destination: Some(group.into()), bytes };
                match datagrams.try_send(datagram) {
                    Ok(()) => &counters.datagrams,
                    Err(mpsc::error::TrySendError::Full(_)) => &counters.dropped_full,
                    Err(mpsc::error::TrySendError::Closed(_)) => return,
                }
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_specific_ipv4_address_needs_another_socket() {
        let of = |text: &str| reach(text.parse().unwrap());
        let address = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(of("192.0.2.1:1984"), Reach::Beside(address));
        assert_eq!(of("[::ffff:192.0.2.1]:1984"), Reach::Beside(address));
        assert_eq!(of("[2001:db8::1]:1984"), Reach::Never);
        for text in ["0.0.0.0:1984", "[::]:1984", "127.0.0.1:1984", "[::1]:1984"] {
            assert_eq!(of(text), Reach::Itself, "{text}");
        }
    }
}
