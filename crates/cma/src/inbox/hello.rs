//! Answers nanoprobes that look for a CMA: a small reply, rarely enough to be useless for attacks. Heartbeats come the
//! same way and are handed on.

use crate::liveness::Handle;
use std::time::Instant;
use tokio::sync::mpsc;
use wire::endpoint::{Datagram, Endpoint};
use wire::hello::{self, ReplyLimiter};

/// Answers until the endpoint is closed, for the key that the CMA signs with at the moment.
pub async fn answer(endpoint: Endpoint, mut datagrams: mpsc::Receiver<Datagram>, liveness: Handle) {
    let port = match endpoint.local_address() {
        Ok(address) => address.port(),
        Err(error) => {
            tracing::warn!(%error, "hello packets are not answered: the own port is unknown");
            return;
        }
    };
    // Random enough to keep the buckets that sources share unknown to them.
    let mut limiter = ReplyLimiter::new(uuid::Uuid::new_v4().as_u64_pair().0);
    let start = Instant::now();
    while let Some(datagram) = datagrams.recv().await {
        let datagram = match liveness.heartbeat(datagram) {
            Some(datagram) => datagram,
            None => continue,
        };
        let own = endpoint.own_key();
        let reply =
            hello::answer(&datagram.bytes, datagram.source, &own, port, &mut limiter, start.elapsed());
        if let Some(reply) = reply
            && let Err(error) = endpoint.send_datagram(datagram.source, &reply)
        {
            tracing::debug!(source = %datagram.source, %error, "a hello could not be answered");
        }
    }
}
