//! The network side: connections from nanoprobes, hello packets, and heartbeats of the hosts that the CMA watches itself.
//!
//! Everything here is bounded: connections by the endpoint, unanswered reports per connection, memory for documents
//! over all connections, requests that wait for the writer.

mod connection;
mod hello;

use crate::commit::Writer;
use crate::health::Health;
use crate::hosts::Hosts;
use crate::keys::Keyring;
use crate::liveness::Handle;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use wire::endpoint::{Endpoint, Inbox};

/// Memory for documents that are unpacked and not yet committed, in KiB, over all connections.
const DOCUMENT_MEMORY_KIB: usize = 48 * 1024;

/// What every connection needs.
pub struct Reception {
    pub writer: Writer,
    pub hosts: Arc<Hosts>,
    pub health: Arc<Health>,
    /// Those who watch over who is alive.
    pub liveness: Handle,
    pub keys: Arc<Keyring>,
    memory: Arc<Semaphore>,
    /// Becomes true when the CMA stops.
    stop: watch::Receiver<bool>,
}

impl Reception {
    pub fn new(
        writer: Writer,
        hosts: Arc<Hosts>,
        health: Arc<Health>,
        liveness: Handle,
        keys: Arc<Keyring>,
        stop: watch::Receiver<bool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            writer,
            hosts,
            health,
            liveness,
            keys,
            memory: Arc::new(Semaphore::new(DOCUMENT_MEMORY_KIB)),
            stop,
        })
    }
}

/// Serves connections and hello packets until the endpoint is closed.
pub async fn run(reception: Arc<Reception>, endpoint: Endpoint, inbox: Inbox) {
    let Inbox { mut connections, datagrams } = inbox;
    let hellos = tokio::spawn(hello::answer(endpoint, datagrams, reception.liveness.clone()));
    while let Some(connection) = connections.recv().await {
        tokio::spawn(connection::serve(reception.clone(), connection));
    }
    hellos.abort();
}
