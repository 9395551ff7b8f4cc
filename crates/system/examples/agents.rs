//! Simulated nanoprobes for the ingest benchmark: real keys, real QUIC, made-up documents of about 2 KB, each
//! changed. `agents <cma address> <crypto.d of the CMA> <agents> <documents each>`; prints the seconds from the first
//! report to the last acknowledgement.

use model::envelope::Envelope;
use model::message::{FromCma, Incarnation, PROTOCOL_VERSION, Register, Report, ToCma};
use model::{PublicKey, Timestamp};
use serde_json::{Map, json};
use std::error::Error;
use std::net::SocketAddr;
use std::time::Instant;
use wire::endpoint::{Endpoint, EndpointConfig};
use wire::framed::{MESSAGE_LIMIT_BYTES, REGISTRATION_LIMIT_BYTES};
use wire::keys::{KeyDirectory, KeyPair};

/// Reports sent and not yet acknowledged, as a nanoprobe's window.
const WINDOW: u64 = 32;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, crypto, agents, documents] = words.as_slice() else {
        return Err("usage: agents ADDRESS CRYPTO.D AGENTS DOCUMENTS".into());
    };
    let address: SocketAddr = address.parse()?;
    let keys: Vec<PublicKey> =
        KeyDirectory::open(crypto)?.cma_publics()?.into_iter().map(|(_, key)| key).collect();
    let (agents, documents): (usize, u64) = (agents.parse()?, documents.parse()?);
    let start = Instant::now();
    let running: Vec<_> =
        (0..agents).map(|number| tokio::spawn(agent(number, address, keys.clone(), documents))).collect();
    for task in running {
        task.await??;
    }
    println!("{}", start.elapsed().as_secs_f64());
    Ok(())
}

async fn agent(
    number: usize,
    address: SocketAddr,
    keys: Vec<PublicKey>,
    documents: u64,
) -> Result<(), Failure> {
    let mut config = EndpointConfig::nanoprobe(KeyPair::generate()?, keys);
    config.bind = "127.0.0.1:0".parse()?;
    let (endpoint, _inbox) = Endpoint::bind(config)?;
    let connection = endpoint.connect(address).await?;
    let (mut writer, mut reader) = connection.open_stream().await?;
    let register = ToCma::Register(Register {
        protocol: PROTOCOL_VERSION,
        designation: format!("agent{number}"),
        incarnation: Incarnation([1; 16]),
        software: "simulated".into(),
        clock: Timestamp::now(),
        started: Timestamp::now(),
        port: endpoint.local_address()?.port(),
        config: None,
        documents: Vec::new(),
        session: None,
        watch: None,
        listen: None,
        token: None,
        machine: None,
        cma_keys: None,
    });
    writer.write(&register, REGISTRATION_LIMIT_BYTES).await?;
    match reader.read(MESSAGE_LIMIT_BYTES).await? {
        Some(FromCma::Welcome(_)) => {}
        other => return Err(format!("not welcome: {other:?}").into()),
    }
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < documents {
        while sent < documents && sent - acknowledged < WINDOW {
            sent += 1;
            writer.write(&ToCma::Report(report(number, sent)?), MESSAGE_LIMIT_BYTES).await?;
        }
        match reader.read(MESSAGE_LIMIT_BYTES).await? {
            Some(FromCma::Ack(ack)) if ack.rejected.is_empty() => acknowledged = ack.sequence,
            Some(FromCma::Configure(_)) => {}
            other => return Err(format!("agent {number}: {other:?}").into()),
        }
    }
    Ok(())
}

/// An sshd document in which something differs each time; its rules are evaluated like those of a real one.
fn report(number: usize, sequence: u64) -> Result<Report, Failure> {
    let filler: Map<_, _> =
        (0..60).map(|n| (format!("Option{n}"), json!(format!("value {n} of {number}")))).collect();
    let mut data = filler;
    data.insert("Port".into(), json!(sequence));
    data.insert("PermitRootLogin".into(), json!(sequence.is_multiple_of(2)));
    let envelope = Envelope {
        discovertype: "sshd".into(),
        description: "simulated".into(),
        host: format!("agent{number}"),
        source: "nanoprobe".into(),
        instance: "_init_sshd".into(),
        proxy: "local/local".into(),
        data: data.into(),
        errors: Vec::new(),
        extras: Map::new(),
    };
    let body = wire::body::compress(envelope.canonical().as_bytes())?;
    let now = Timestamp::now();
    Ok(Report {
        sequence,
        instance: "_init_sshd".into(),
        hash: envelope.hash(),
        body: Some(body.into()),
        changed_after: now,
        seen: now,
        superseded: 0,
    })
}
