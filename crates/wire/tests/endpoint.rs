//! Real endpoints on loopback: who may talk to whom, and what hostile packets do.

mod common;

use common::*;
use std::time::Duration;
use wire::endpoint::{CloseReason, ConnectError, Endpoint, EndpointConfig, Lost};
use wire::keys::KeyPair;

#[tokio::test]
async fn both_sides_prove_their_keys_and_talk() {
    let key = KeyPair::generate().unwrap();
    let (_cma, mut inbox, address) = cma(&key);
    let config = nanoprobe_config(&[key.public()]);
    let own = config.key.public();
    let (nanoprobe, _) = Endpoint::bind(config).unwrap();
    let connection = nanoprobe.connect(address).await.unwrap();
    assert_eq!(connection.peer, key.public());
    assert_eq!(connection.remote(), address);
    let seen = inbox.connections.recv().await.unwrap();
    assert_eq!(seen.peer, own);
    assert_eq!(seen.remote(), nanoprobe.local_address().unwrap());
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(serve(receiver));
    sender.send(seen).await.unwrap();
    assert_eq!(exchange(&connection, "HBSHUTDOWN").await, Ok(10));
}
