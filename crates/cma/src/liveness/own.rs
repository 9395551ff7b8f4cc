//! The CMA's own observer, for a host that nobody else can watch: the same core as on nanoprobes, on the CMA's port.

use liveness::observer::{Beat, Observer, Output, Tried};
use model::liveness::{HostNumber, Observation, Watch};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use wire::endpoint::{Datagram, Endpoint, canonical};
use wire::heartbeat::Pairs;

/// What is left to do after heartbeats were sent.
pub enum Wish {
    /// Try the host of this partner; the result comes by [`OwnObserver::handle_tried`].
    Try {
        to: HostNumber,
        address: SocketAddr,
    },
    Tell(Observation),
}

/// Observer, keys and addresses.
pub struct OwnObserver {
    endpoint: Endpoint,
    observer: Observer,
    pairs: Pairs,
    addresses: HashMap<HostNumber, SocketAddr>,
    /// Of the attempts at hosts.
    pub probe: Duration,
}

impl OwnObserver {
    pub fn new(now: Duration, endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            observer: Observer::new(now),
            pairs: Pairs::default(),
            addresses: HashMap::new(),
            probe: Duration::ZERO,
        }
    }

    pub fn handle_watch(&mut self, now: Duration, watch: &Watch) {
        if watch.generation <= self.observer.generation() {
            return;
        }
        self.pairs.handle_watch(watch);
        let address = |text: &str| text.parse().ok().map(canonical);
        self.addresses = watch
            .partners
            .iter()
            .filter_map(|partner| Some((partner.number, address(&partner.address)?)))
            .collect();
        self.probe = Duration::from_millis(watch.probe_milliseconds.into());
        self.observer.handle_watch(now, watch);
    }

    pub fn handle_datagram(&mut self, now: Duration, datagram: &Datagram) {
        let Some((from, byte)) = self.pairs.open(&datagram.bytes) else { return };
        if let Some(address) = self.addresses.get_mut(&from) {
            // It has moved: only it can make such a packet.
            *address = datagram.source;
        }
        self.observer.handle_beat(now, from, Beat::from_byte(byte).unwrap_or(Beat::Regular));
    }

    pub fn handle_tried(&mut self, now: Duration, about: HostNumber, tried: Tried) {
        self.observer.handle_tried(now, about, tried);
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        self.observer.poll_timeout()
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        if self.observer.poll_timeout().is_some_and(|due| due <= now) {
            self.observer.handle_timeout(now);
        }
    }

    /// Sends what is to be sent, until something else is wished for.
    pub fn poll(&mut self) -> Option<Wish> {
        loop {
            match self.observer.poll_output()? {
                Output::Send { to, beat } => self.send(to, beat),
                Output::Try { to } => {
                    if let Some(address) = self.addresses.get(&to) {
                        return Some(Wish::Try { to, address: *address });
                    }
                }
                Output::Tell { observation, .. } => return Some(Wish::Tell(observation)),
            }
        }
    }

    fn send(&mut self, to: HostNumber, beat: Beat) {
        let Some(address) = self.addresses.get(&to) else { return };
        let Some(packet) = self.pairs.seal(to, beat as u8) else { return };
        if let Err(error) = self.endpoint.send_datagram(*address, &packet) {
            tracing::debug!(%address, %error, "a heartbeat was not sent");
        }
    }
}
