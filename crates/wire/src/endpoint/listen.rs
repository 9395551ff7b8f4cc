//! Taking connections: proof of the address first, then the handshake within a time limit, all within fixed numbers.

use super::{CloseReason, Connection, canonical, lock};
use crate::hello::TokenBucket;
use model::PublicKey;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long a finished connection waits for a full inbox before it is given up.
const INBOX_PATIENCE: Duration = Duration::from_secs(10);

/// How connections are taken: the endpoint's own configuration, with the key that is ours at the moment.
#[derive(Debug, Clone)]
pub(super) struct Served {
    pub config: Arc<quinn::ServerConfig>,
    pub own: PublicKey,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub connections: usize,
    pub per_address: usize,
    /// Time for a handshake.
    pub handshake: Duration,
    /// Handshakes begun in a second, twice as many at once.
    pub handshakes_per_second: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub retries: AtomicU64,
    pub over_limit: AtomicU64,
    pub failed: AtomicU64,
}

/// Runs until the endpoint is closed.
pub(super) async fn run(
    endpoint: quinn::Endpoint,
    inbox: mpsc::Sender<Connection>,
    limits: Limits,
    counters: Arc<Counters>,
    served: Arc<Mutex<Served>>,
) {
    let addresses = Arc::<Addresses>::default();
    let start = Instant::now();
    let mut allowance =
        limits.handshakes_per_second.map(|rate| TokenBucket::new(rate.saturating_mul(2), rate));
    while let Some(incoming) = endpoint.accept().await {
        if endpoint.open_connections() >= limits.connections {
            // No answer at all: the sender may not be who it says, and tries again anyway.
            counters.over_limit.fetch_add(1, Ordering::Relaxed);
            incoming.ignore();
            continue;
        }
        if !incoming.remote_address_validated() {
            // A forged address costs us 16 microseconds this way instead of 220, and 28 KB less.
            counters.retries.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = incoming.retry() {
                error.into_incoming().ignore();
            }
            continue;
        }
        if allowance.as_mut().is_some_and(|bucket| !bucket.take(start.elapsed())) {
            // Unanswered, so that who means it tries again in a second.
            counters.over_limit.fetch_add(1, Ordering::Relaxed);
            incoming.ignore();
            continue;
        }
        let address = canonical(incoming.remote_address()).ip();
        let Some(slot) = Addresses::take(&addresses, address, limits.per_address) else {
            // The address is proven, so it may be told.
            counters.over_limit.fetch_add(1, Ordering::Relaxed);
            incoming.refuse();
            continue;
        };
        let served = lock(&served).clone();
        tokio::spawn(handshake(incoming, served, limits.handshake, slot, inbox.clone(), counters.clone()));
    }
}

/// One place among the connections of an address; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    network: IpAddr,
    addresses: Arc<Addresses>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = lock(&self.addresses.open);
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

/// Open connections per address; holds no more entries than there are connections.
#[derive(Debug, Default)]
struct Addresses {
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Addresses {
    fn take(this: &Arc<Self>, address: IpAddr, limit: usize) -> Option<Arc<Slot>> {
        let network = network(address);
        let mut open = lock(&this.open);
        let count = open.entry(network).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Arc::new(Slot { network, addresses: this.clone() }))
    }
}

/// IPv6 hosts choose the lower half of their address themselves.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

async fn handshake(
    incoming: quinn::Incoming,
    served: Served,
    patience: Duration,
    slot: Arc<Slot>,
    inbox: mpsc::Sender<Connection>,
    counters: Arc<Counters>,
) {
    let remote = canonical(incoming.remote_address());
    let handshake = async { incoming.accept_with(served.config)?.await };
    let connection = match tokio::time::timeout(patience, handshake).await {
        Ok(Ok(connection)) => Connection::new(connection, served.own, Some(slot)),
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%remote, "handshake took too long");
            None
        }
    };
    let Some(connection) = connection else {
        counters.failed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    if let Err(error) = inbox.send_timeout(connection, INBOX_PATIENCE).await {
        counters.over_limit.fetch_add(1, Ordering::Relaxed);
        let (mpsc::error::SendTimeoutError::Timeout(connection)
        | mpsc::error::SendTimeoutError::Closed(connection)) = error;
        connection.close(CloseReason::TimedOut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_an_address_are_limited_and_given_back() {
        let addresses = Arc::<Addresses>::default();
        let take = |text: &str| Addresses::take(&addresses, text.parse().unwrap(), 2);
        let (first, second) = (take("192.0.2.1"), take("192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(take("192.0.2.1").is_none());
        assert!(take("192.0.2.2").is_some());
        drop(first);
        assert!(take("192.0.2.1").is_some());
        drop(second);
        assert!(lock(&addresses.open).is_empty());
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let addresses = Arc::<Addresses>::default();
        let take = |text: &str| Addresses::take(&addresses, text.parse().unwrap(), 1);
        let held = take("2001:db8::1");
        assert!(held.is_some());
        assert!(take("2001:db8::ffff:2").is_none());
        assert!(take("2001:db8:0:1::1").is_some());
    }
}
