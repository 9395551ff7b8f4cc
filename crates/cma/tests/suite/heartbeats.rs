//! Hosts are told their partners: on the connection they have, or by being called; once, also by the next CMA.

use crate::site::{Agent, Site, runtime};
use model::PublicKey;
use model::liveness::{Heard, Observation, PairKey, PortState, Session, Sight, Watch};
use model::message::{FromCma, Goodbye, Register, ToCma};
use std::net::SocketAddr;
use std::time::Duration;
use wire::endpoint::{CloseReason, Connection, Endpoint, EndpointConfig, Inbox};
use wire::framed::{MESSAGE_LIMIT_BYTES, Reader, Writer};
use wire::keys::{KeyDirectory, KeyPair};

/// A nanoprobe that knows heartbeats and says nothing of its own.
pub struct Host {
    endpoint: Endpoint,
    inbox: Inbox,
    cma: SocketAddr,
    pub register: Register,
}

/// An open conversation.
pub struct Talk {
    connection: Connection,
    pub writer: Writer,
    pub reader: Reader,
}

impl Host {
    pub fn new(site: &Site, name: &str, cma_keys: Vec<PublicKey>) -> Host {
        let config = EndpointConfig {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            listen: true,
            ..EndpointConfig::nanoprobe(KeyPair::generate().unwrap(), cma_keys)
        };
        let (endpoint, inbox) = Endpoint::bind(config).unwrap();
        let port = endpoint.local_address().unwrap().port();
        let session = Some(Session([name.as_bytes()[0]; 16]));
        let register = Register { port, session, ..Agent::new(site, name).registration() };
        Host { endpoint, inbox, cma: site.address, register }
    }

    pub async fn register(&self) -> Talk {
        let connection = self.endpoint.connect(self.cma).await.unwrap();
        let (mut writer, mut reader) = connection.open_stream().await.unwrap();
        writer.write(&ToCma::Register(self.register.clone()), MESSAGE_LIMIT_BYTES).await.unwrap();
        let answer = reader.read_within(MESSAGE_LIMIT_BYTES, Duration::from_secs(20)).await.unwrap();
        assert!(matches!(answer, Some(FromCma::Welcome(_))), "{answer:?}");
        Talk { connection, writer, reader }
    }

    /// Waits until it has this many partners.
    async fn learn(&mut self, talk: &mut Talk, partners: usize) -> Watch {
        loop {
            let watch = talk.watch(20).await.expect("a list of partners");
            assert!(Some(watch.generation) > self.register.watch, "{watch:?}");
            self.register.watch = Some(watch.generation);
            if watch.partners.len() == partners && watch.partners.iter().all(|partner| partner.number != 0) {
                return watch;
            }
        }
    }

    pub async fn is_called(&mut self, seconds: u64) -> bool {
        let call = tokio::time::timeout(Duration::from_secs(seconds), self.inbox.connections.recv()).await;
        let Ok(Some(connection)) = call else { return false };
        connection.close(CloseReason::CallsBack);
        true
    }
}

impl Talk {
    /// The next list of partners, if one comes within this time.
    async fn watch(&mut self, seconds: u64) -> Option<Watch> {
        loop {
            let read = self.reader.read::<FromCma>(MESSAGE_LIMIT_BYTES);
            match tokio::time::timeout(Duration::from_secs(seconds), read).await.ok()? {
                Ok(Some(FromCma::Watch(watch))) => return Some(watch),
                Ok(Some(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The CMA answers, after everything that was said before.
    pub async fn goodbye(mut self) {
        let goodbye = ToCma::Goodbye(Goodbye { reason: "HBSHUTDOWN".into() });
        self.writer.write(&goodbye, MESSAGE_LIMIT_BYTES).await.unwrap();
        loop {
            let limit = Duration::from_secs(20);
            let answer = self.reader.read_within::<FromCma>(MESSAGE_LIMIT_BYTES, limit).await.unwrap();
            match answer {
                Some(FromCma::Farewell) => return,
                Some(_) => {}
                None => panic!("no answer"),
            }
        }
    }

    pub async fn leave(self) {
        self.connection.close(CloseReason::Idle);
        // Until the CMA knows that it left.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn key_with(watch: &Watch, name: &str) -> PairKey {
    watch.partners.iter().find(|partner| partner.designation == name).unwrap().key.clone()
}

#[test]
fn partners_are_told_once_and_the_next_cma_knows_them() {
    let site = Site::create();
    let cma = site.start(&[]);
    let (_, own) = KeyDirectory::open(site.paths.crypto()).unwrap().cma_pair().unwrap();
    runtime().block_on(async {
        let mut one = Host::new(&site, "one", vec![own.public()]);
        let mut two = Host::new(&site, "two", vec![own.public()]);
        let mut talk_one = one.register().await;
        let mut talk_two = two.register().await;
        let (first, second) = (one.learn(&mut talk_one, 1).await, two.learn(&mut talk_two, 1).await);
        assert_eq!(key_with(&first, "two"), key_with(&second, "one"), "one key for both");
        assert_eq!(first.partners[0].number, second.own_number);
        assert_eq!(first.partners[0].address, two.endpoint.local_address().unwrap().to_string());

        // A connection that was lost and comes back is no news.
        talk_one.leave().await;
        let mut again = one.register().await;
        assert_eq!(again.watch(2).await, None);
        // Whoever lost its list is told again.
        again.leave().await;
        one.register.watch = None;
        let mut again = one.register().await;
        assert_eq!(key_with(&one.learn(&mut again, 1).await, "two"), key_with(&first, "two"));

        // The next CMA.
        again.leave().await;
        talk_two.leave().await;
        drop(cma);
        let _cma = site.start(&[]);
        let mut again = one.register().await;
        assert_eq!(again.watch(2).await, None, "nothing changed");
        again.leave().await;
        // A nanoprobe that was started again: a new key, for both. The other is not connected, so it is called.
        one.register.session = Some(Session([99; 16]));
        one.register.watch = None;
        let mut again = one.register().await;
        let new = one.learn(&mut again, 1).await;
        assert_ne!(key_with(&new, "two"), key_with(&first, "two"));
        assert!(two.is_called(20).await, "{}", site.read("log"));
        let mut talk_two = two.register().await;
        assert_eq!(key_with(&two.learn(&mut talk_two, 1).await, "one"), key_with(&new, "two"));
        // One says goodbye: the other is left to the CMA, which is number 0.
        again.goodbye().await;
        loop {
            let watch = talk_two.watch(20).await.expect("a list of partners without the one that left");
            if watch.partners.iter().map(|partner| partner.number).eq([0]) {
                break;
            }
        }
    });
}

#[test]
fn what_a_host_makes_up_about_others_kills_nobody() {
    let site = Site::create();
    let _cma = site.start(&[]);
    let (_, own) = KeyDirectory::open(site.paths.crypto()).unwrap().cma_pair().unwrap();
    runtime().block_on(async {
        let mut liar = Host::new(&site, "liar", vec![own.public()]);
        let mut honest = Host::new(&site, "honest", vec![own.public()]);
        let (mut talk, mut other) = (liar.register().await, honest.register().await);
        let watch = liar.learn(&mut talk, 1).await;
        honest.learn(&mut other, 1).await;
        let about = |about| Observation {
            about,
            sight: Sight::Silent,
            silent_milliseconds: u32::MAX,
            probes: u32::MAX,
            port: PortState::Refused,
            echo: Some(false),
            doubt: 0,
            question: Some(u64::MAX),
        };
        let partner = watch.partners[0].number;
        for generation in [0, watch.generation, u64::MAX] {
            let numbers = (0..5000).map(|number| if number % 3 == 0 { partner } else { number });
            let observations = numbers.map(about).collect();
            let heard = ToCma::Heard(Heard { generation, observations });
            talk.writer.write(&heard, MESSAGE_LIMIT_BYTES).await.unwrap();
        }
        // The CMA looks for itself; the accused takes the call.
        assert!(honest.is_called(20).await, "{}", site.read("log"));
        tokio::time::sleep(Duration::from_secs(3)).await;
        let hosts = site.get("/v1/hosts");
        let text = hosts.to_string();
        assert!(text.contains("honest") && !text.contains("dead"), "{hosts:#}");
        talk.goodbye().await;
    });
}
