//! One UDP socket for QUIC and for our own datagrams, told apart by the first byte.
//!
//! quinn's socket trait changes after 0.11; this is the only file that implements it.

use super::canonical;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use rustix::net::SendFlags;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::sync::mpsc;

/// Every QUIC version 1 packet has this bit in its first byte (RFC 9000 §17); none of our datagrams has.
pub(super) const QUIC_BIT: u8 = 0x40;
/// Longest datagram of our own; no legal one comes near.
pub(super) const MAX_DATAGRAM_BYTES: usize = 1500;

/// A datagram that is not QUIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Where it says it comes from; IPv4 addresses are never in their IPv6-mapped form.
    pub source: SocketAddr,
    /// The address of ours, or the multicast group, that it was sent to, where the system tells.
    pub destination: Option<IpAddr>,
    /// 1 to 1500 bytes.
    pub bytes: Vec<u8>,
}

/// What the socket did with packets, since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub datagrams: AtomicU64,
    pub dropped_full: AtomicU64,
    pub dropped_large: AtomicU64,
    pub dropped_multicast_quic: AtomicU64,
}

/// Sends QUIC packets to quinn and the rest to a bounded channel.
#[derive(Debug)]
pub(crate) struct DemuxSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    datagrams: mpsc::Sender<Datagram>,
    counters: Arc<Counters>,
}

impl DemuxSocket {
    /// Must be called within a tokio runtime.
    pub fn new(
        socket: std::net::UdpSocket,
        datagrams: mpsc::Sender<Datagram>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { io: tokio::net::UdpSocket::from_std(socket)?, state, datagrams, counters })
    }

    /// Sends one datagram, or fails: nothing is queued.
    pub fn send(&self, destination: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let transmit = Transmit { destination, ecn: None, contents: bytes, segment_size: None, src_ip: None };
        match self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), &transmit)) {
            // tokio starts without knowing whether the socket is writable: ask the kernel itself.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.state.try_send((&self.io).into(), &transmit)
            }
            other => other,
        }
    }

    /// The same to somebody who was heard a moment ago: the kernel need not ask for his link-layer address again
    /// (`MSG_CONFIRM`, send(2)).
    pub fn send_to_neighbour(&self, destination: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let flags = SendFlags::CONFIRM | SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::sendto(&self.io, bytes, flags, &destination)?;
        Ok(())
    }

    pub fn io(&self) -> &tokio::net::UdpSocket {
        &self.io
    }
}

impl AsyncUdpSocket for DemuxSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || self.state.send((&self.io).into(), transmit))
    }

    fn poll_recv(
        &self,
        cx: &mut Context,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let received =
                self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, meta));
            if let Ok(count) = received {
                for (buffer, meta) in bufs.iter_mut().zip(meta.iter_mut()).take(count) {
                    split(buffer, meta, &self.datagrams, &self.counters);
                }
                // Also when nothing is left for quinn: it asks again, and its work limiter stays in charge.
                return Poll::Ready(Ok(count));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

/// Takes our datagrams out of a buffer that may hold several packets (GRO), and moves the QUIC ones together.
fn split(buffer: &mut [u8], meta: &mut RecvMeta, datagrams: &mpsc::Sender<Datagram>, counters: &Counters) {
    let end = meta.len.min(buffer.len());
    let stride = if meta.stride == 0 { end } else { meta.stride };
    let destination = meta.dst_ip.map(|address| address.to_canonical());
    let multicast = destination.is_some_and(|address| address.is_multicast());
    let (mut from, mut kept) = (0, 0);
    while from < end {
        let to = from.saturating_add(stride).min(end);
        let quic = buffer[from] & QUIC_BIT != 0;
        if quic && multicast {
            // QUIC is never sent to a group; answering would make every CMA of a network speak at once.
            counters.dropped_multicast_quic.fetch_add(1, Ordering::Relaxed);
        } else if quic {
            buffer.copy_within(from..to, kept);
            kept += to - from;
        } else if to - from > MAX_DATAGRAM_BYTES {
            counters.dropped_large.fetch_add(1, Ordering::Relaxed);
        } else {
            let bytes = buffer[from..to].to_vec();
            let counter =
                match datagrams.try_send(Datagram { source: canonical(meta.addr), destination, bytes }) {
                    Ok(()) => &counters.datagrams,
                    Err(_) => &counters.dropped_full,
                };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        from = to;
    }
    meta.len = kept;
    meta.stride = stride;
}

type WritableFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits until the socket takes packets again, as often as asked.
struct Writable {
    socket: Arc<DemuxSocket>,
    waiting: Option<WritableFuture>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let waiting = this.waiting.get_or_insert_with(|| {
            let socket = this.socket.clone();
            Box::pin(async move { socket.io.writable().await })
        });
        let result = ready!(waiting.as_mut().poll(cx));
        this.waiting = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writable")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meta(len: usize, stride: usize, to: &str) -> RecvMeta {
        let mut meta = RecvMeta::default();
        (meta.len, meta.stride) = (len, stride);
        meta.addr = "[::ffff:192.0.2.7]:9".parse().unwrap();
        meta.dst_ip = Some(to.parse().unwrap());
        meta
    }

    /// What quinn gets, and what the channel gets.
    fn run(packet: &[u8], stride: usize, to: &str, room: usize) -> (Vec<u8>, Vec<Datagram>, Counters) {
        let (sender, mut receiver) = mpsc::channel(room);
        let counters = Counters::default();
        let mut buffer = packet.to_vec();
        let mut meta = meta(packet.len(), stride, to);
        split(&mut buffer, &mut meta, &sender, &counters);
        let mut datagrams = Vec::new();
        while let Ok(datagram) = receiver.try_recv() {
            datagrams.push(datagram);
        }
        buffer.truncate(meta.len);
        (buffer, datagrams, counters)
    }

    #[test]
    fn merged_packets_are_taken_apart() {
        // Two of QUIC around one of ours, the last shorter.
        let (quic, ours, _) = run(&[0x41, 1, 0x21, 2, 0xc0], 2, "::ffff:192.0.2.1", 4);
        assert_eq!(quic, [0x41, 1, 0xc0]);
        assert_eq!(ours.len(), 1);
        assert_eq!(ours[0].bytes, [0x21, 2]);
        assert_eq!(ours[0].source, "192.0.2.7:9".parse().unwrap());
        assert_eq!(ours[0].destination, Some("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn nothing_is_left_for_quinn_when_all_is_ours() {
        let (quic, ours, _) = run(&[0x21, 2, 0x22, 3], 2, "192.0.2.1", 4);
        assert!(quic.is_empty());
        assert_eq!(ours.iter().map(|d| d.bytes[0]).collect::<Vec<_>>(), [0x21, 0x22]);
    }

    #[test]
    fn quic_to_a_multicast_group_is_dropped_and_a_hello_is_not() {
        let (quic, ours, counters) = run(&[0xc1, 1, 0x21, 2], 2, "::ffff:224.0.2.5", 4);
        assert!(quic.is_empty());
        assert_eq!(ours.len(), 1);
        assert_eq!(counters.dropped_multicast_quic.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_full_channel_drops_and_counts() {
        let (_, ours, counters) = run(&[0x21, 0x22, 0x23], 1, "192.0.2.1", 2);
        assert_eq!(ours.len(), 2);
        assert_eq!(counters.dropped_full.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn oversized_and_empty_packets_go_nowhere() {
        let (quic, ours, counters) = run(&[0x21; 1501], 1501, "192.0.2.1", 2);
        assert!(quic.is_empty() && ours.is_empty());
        assert_eq!(counters.dropped_large.load(Ordering::Relaxed), 1);
        let (quic, ours, _) = run(&[], 0, "192.0.2.1", 2);
        assert!(quic.is_empty() && ours.is_empty());
    }

    proptest! {
        /// Whatever the packets, each goes to exactly one side, in order.
        #[test]
        fn every_packet_goes_to_one_side(bytes in proptest::collection::vec(any::<u8>(), 0..400), stride in 0usize..90) {
            let (quic, ours, _) = run(&bytes, stride, "192.0.2.1", 400);
            let step = if stride == 0 { bytes.len().max(1) } else { stride };
            let (to_quinn, to_us): (Vec<&[u8]>, Vec<&[u8]>) = bytes.chunks(step).partition(|c| c[0] & QUIC_BIT != 0);
            prop_assert_eq!(quic, to_quinn.concat());
            prop_assert_eq!(ours.iter().map(|d| d.bytes.as_slice()).collect::<Vec<_>>(), to_us);
        }
    }
}
