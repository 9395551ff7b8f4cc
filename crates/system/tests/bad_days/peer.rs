//! A peer that speaks the real protocol over real QUIC, and says what no nanoprobe would.

use crate::rig::PATIENCE;
use minicbor::encode::{Encode, Encoder, Error, Write};
use model::message::{
    Ack, FromCma, Incarnation, PROTOCOL_VERSION, Refused, Register, Report, ToCma, Welcome,
};
use model::{DocumentHash, PublicKey, Timestamp};
use serde_json::{Value, json};
use std::net::SocketAddr;
use system::site::Site;
use wire::endpoint::{Connection, Endpoint, EndpointConfig, Inbox};
use wire::framed::{MESSAGE_LIMIT_BYTES, Reader, Writer};
use wire::keys::{KeyDirectory, KeyPair};

/// Bytes that go out as they are, whatever they mean.
pub struct Raw(pub Vec<u8>);

impl<C> Encode<C> for Raw {
    fn encode<W: Write>(&self, encoder: &mut Encoder<W>, _: &mut C) -> Result<(), Error<W::Error>> {
        encoder.writer_mut().write_all(&self.0).map_err(Error::write)
    }
}

pub fn cma_keys(site: &Site) -> Vec<PublicKey> {
    let keys = KeyDirectory::open(site.paths.crypto()).unwrap().cma_publics().unwrap();
    keys.into_iter().map(|(_, key)| key).collect()
}

/// Runs `work` where tokio's sockets work.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Who it is; connections are made as often as needed.
pub struct Peer {
    pub key: KeyPair,
    pub designation: String,
    cma: SocketAddr,
    cma_keys: Vec<PublicKey>,
}

/// One connection with its stream.
pub struct Talk {
    writer: Writer,
    reader: Reader,
    _connection: Connection,
    _endpoint: (Endpoint, Inbox),
}

impl Peer {
    /// With a key that nobody has seen.
    pub fn new(site: &Site, designation: &str) -> Peer {
        Peer {
            key: KeyPair::generate().unwrap(),
            designation: designation.into(),
            cma: site.address.parse().unwrap(),
            cma_keys: cma_keys(site),
        }
    }

    pub async fn connect(&self) -> Talk {
        let mut config = EndpointConfig::nanoprobe(self.key.clone(), self.cma_keys.clone());
        config.bind = "0.0.0.0:0".parse().unwrap();
        let (endpoint, inbox) = Endpoint::bind(config).unwrap();
        let connection = endpoint.connect(self.cma).await.unwrap();
        let (writer, reader) = connection.open_stream().await.unwrap();
        Talk { writer, reader, _connection: connection, _endpoint: (endpoint, inbox) }
    }

    pub fn registration(&self) -> Register {
        Register {
            protocol: PROTOCOL_VERSION,
            designation: self.designation.clone(),
            incarnation: Incarnation([7; 16]),
            software: "a stranger".into(),
            clock: Timestamp::now(),
            started: Timestamp(5),
            port: 9,
            config: None,
            documents: vec![],
            session: None,
            watch: None,
            listen: None,
            token: None,
            machine: None,
            cma_keys: None,
        }
    }

    /// Connects and registers.
    pub async fn register(&self) -> Result<(Talk, Welcome), Refused> {
        let mut talk = self.connect().await;
        talk.say(&ToCma::Register(self.registration())).await;
        match talk.hear().await {
            Some(FromCma::Welcome(welcome)) => Ok((talk, welcome)),
            Some(FromCma::Refused(refused)) => Err(refused),
            other => panic!("neither welcome nor refusal: {other:?}"),
        }
    }

    /// A report of kernel parameters.
    pub fn report(&self, sequence: u64, data: Value) -> Report {
        let instance = "_auto_proc_sys";
        let text =
            json!({"discovertype": "proc_sys", "description": "kernel settings", "host": self.designation,
            "source": "nanoprobe", "instance": instance, "proxy": "local/local", "data": data})
            .to_string();
        Report {
            sequence,
            instance: instance.into(),
            hash: DocumentHash::of(text.as_bytes()),
            body: Some(wire::body::compress(text.as_bytes()).unwrap().into()),
            changed_after: Timestamp::now(),
            seen: Timestamp::now(),
            superseded: 0,
        }
    }
}

impl Talk {
    /// Sends a message of any length and kind; whether it gets through is the CMA's business.
    pub async fn say<T: Encode<()>>(&mut self, message: &T) {
        let written = tokio::time::timeout(PATIENCE, self.writer.write(message, usize::MAX)).await;
        drop(written.expect("the CMA neither takes a message nor ends the connection"));
    }

    /// The next message; `None` when the CMA has ended the connection.
    pub async fn hear(&mut self) -> Option<FromCma> {
        let heard = tokio::time::timeout(PATIENCE, self.reader.read::<FromCma>(MESSAGE_LIMIT_BYTES)).await;
        heard.expect("the CMA neither answers nor ends the connection").ok().flatten()
    }

    pub async fn acknowledged(&mut self) -> Ack {
        match self.hear().await {
            Some(FromCma::Ack(ack)) => ack,
            other => panic!("no acknowledgement: {other:?}"),
        }
    }
}

/// A zstd frame (RFC 8878) that announces no size and unpacks to `mebibytes` MiB of zeroes.
pub fn bomb(mebibytes: u32) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    let blocks = mebibytes * 8;
    for index in 0..blocks {
        // Block type 1: one byte, repeated 128 KiB times.
        let header = u32::from(index + 1 == blocks) | 1 << 1 | (128 * 1024) << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}
