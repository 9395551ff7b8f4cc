//! What the tests of this crate share: a CMA and nanoprobes on loopback.
#![allow(dead_code)] // every test program uses another part

use model::PublicKey;
use model::message::{Ack, FromCma, Goodbye, ToCma};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use wire::endpoint::{Connection, Endpoint, EndpointConfig, Inbox};
use wire::framed::MESSAGE_LIMIT_BYTES;
use wire::keys::KeyPair;

pub const PATIENCE: Duration = Duration::from_secs(5);

pub fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A CMA's settings on a free port of loopback; it joins no group, so that no packet leaves this host.
pub fn cma_config(key: &KeyPair) -> EndpointConfig {
    EndpointConfig { bind: loopback(), join: None, ..EndpointConfig::cma(key.clone()) }
}

pub fn nanoprobe_config(pinned: &[PublicKey]) -> EndpointConfig {
    let key = KeyPair::generate().unwrap();
    EndpointConfig { bind: loopback(), ..EndpointConfig::nanoprobe(key, pinned.to_vec()) }
}

pub fn cma(key: &KeyPair) -> (Endpoint, Inbox, SocketAddr) {
    let (endpoint, inbox) = Endpoint::bind(cma_config(key)).unwrap();
    let address = endpoint.local_address().unwrap();
    (endpoint, inbox, address)
}

pub fn nanoprobe(pinned: &[PublicKey]) -> (Endpoint, Inbox) {
    Endpoint::bind(nanoprobe_config(pinned)).unwrap()
}

pub fn goodbye(text: &str) -> ToCma {
    ToCma::Goodbye(Goodbye { reason: text.into() })
}

/// Answers every message on every stream of every connection with its length as acknowledgement.
pub async fn serve(mut connections: Receiver<Connection>) {
    while let Some(connection) = connections.recv().await {
        tokio::spawn(async move {
            while let Ok((mut writer, mut reader)) = connection.accept_stream().await {
                while let Ok(Some(ToCma::Goodbye(message))) = reader.read::<ToCma>(MESSAGE_LIMIT_BYTES).await
                {
                    let ack = Ack { sequence: message.reason.len() as u64, rejected: Vec::new() };
                    if writer.write(&FromCma::Ack(ack), MESSAGE_LIMIT_BYTES).await.is_err() {
                        break;
                    }
                }
            }
        });
    }
}

/// One message there and its answer back on a new stream.
pub async fn exchange(connection: &Connection, text: &str) -> Result<u64, String> {
    let work = async {
        let (mut writer, mut reader) = connection.open_stream().await.map_err(|e| e.to_string())?;
        writer.write(&goodbye(text), MESSAGE_LIMIT_BYTES).await.map_err(|e| e.to_string())?;
        match reader.read::<FromCma>(MESSAGE_LIMIT_BYTES).await.map_err(|e| e.to_string())? {
            Some(FromCma::Ack(ack)) => Ok(ack.sequence),
            other => Err(format!("{other:?}")),
        }
    };
    tokio::time::timeout(Duration::from_secs(20), work).await.unwrap_or(Err("no answer".into()))
}

/// A CMA in a thread of its own. Killing it ends its tasks without a word to the peers, as a killed process does.
pub struct Killable {
    kill: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
    pub address: SocketAddr,
}

impl Killable {
    pub fn start<F>(
        config: EndpointConfig,
        serve: impl FnOnce(Receiver<Connection>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (kill, killed) = tokio::sync::oneshot::channel();
        let (tell, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let endpoint = runtime.block_on(async {
                let (endpoint, inbox) = Endpoint::bind(config).unwrap();
                tell.send(endpoint.local_address().unwrap()).unwrap();
                tokio::spawn(serve(inbox.connections));
                killed.await.unwrap();
                endpoint
            });
            drop(runtime);
            drop(endpoint);
        });
        Self { kill, thread, address: address.recv().unwrap() }
    }

    pub fn kill(self) {
        self.kill.send(()).unwrap();
        self.thread.join().unwrap();
    }
}
