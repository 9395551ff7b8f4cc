//! A host that is not connected is called for a new configuration, and only for that.

use crate::site::{Agent, Site, runtime};
use cma::liveness::GETS_THROUGH_SETTING;
use model::message::{FromCma, Register, ToCma};
use model::{DocumentHash, PublicKey};
use serde_json::json;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;
use store::Store;
use store::sqlite::SqliteStore;
use wire::endpoint::{CloseReason, Connection, Endpoint, EndpointConfig, Inbox};
use wire::framed::MESSAGE_LIMIT_BYTES;
use wire::keys::{KeyDirectory, KeyPair};

/// A nanoprobe that can be called.
struct Listener {
    endpoint: Endpoint,
    inbox: Inbox,
    cma: SocketAddr,
    register: Register,
}

impl Listener {
    fn new(site: &Site, cma_keys: Vec<PublicKey>) -> Listener {
        let config = EndpointConfig {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            listen: true,
            ..EndpointConfig::nanoprobe(KeyPair::generate().unwrap(), cma_keys)
        };
        let (endpoint, inbox) = Endpoint::bind(config).unwrap();
        let port = endpoint.local_address().unwrap().port();
        let register = Register { port, ..Agent::new(site, "web1").registration() };
        Listener { endpoint, inbox, cma: site.address, register }
    }

    /// Registers, takes over the configuration it is told, if any, and leaves.
    async fn visit(&mut self) -> Option<String> {
        match self.ask().await {
            FromCma::Welcome(welcome) => {
                let told = welcome.configure.map(|configure| configure.json);
                if let Some(text) = &told {
                    self.register.config = Some(DocumentHash::of(text.as_bytes()));
                }
                told
            }
            answer => panic!("{answer:?}"),
        }
    }

    /// Registers, and leaves.
    async fn ask(&self) -> FromCma {
        let connection = self.endpoint.connect(self.cma).await.unwrap();
        let (mut writer, mut reader) = connection.open_stream().await.unwrap();
        writer.write(&ToCma::Register(self.register.clone()), MESSAGE_LIMIT_BYTES).await.unwrap();
        let answer = reader.read_within(MESSAGE_LIMIT_BYTES, Duration::from_secs(20)).await.unwrap();
        connection.close(CloseReason::Idle);
        // Until the CMA knows that it left.
        tokio::time::sleep(Duration::from_millis(500)).await;
        answer.expect("an answer")
    }

    async fn called_within(&mut self, seconds: u64) -> Option<Connection> {
        let call = self.inbox.connections.recv();
        tokio::time::timeout(Duration::from_secs(seconds), call).await.ok().flatten()
    }
}

#[test]
fn a_host_that_left_is_called_for_a_new_configuration_and_for_nothing_else() {
    let site = Site::create();
    let cma = site.start(&[]);
    let (_, own) = KeyDirectory::open(site.paths.crypto()).unwrap().cma_pair().unwrap();
    let reload = || assert_eq!(site.request("POST", "/v1/rules/reload", None).0, 200);
    runtime().block_on(async {
        let mut host = Listener::new(&site, vec![own.public()]);
        assert!(host.visit().await.is_some());
        reload();
        assert!(host.called_within(4).await.is_none(), "nothing changed");

        fs::write(site.paths.cma_config(), "[discovery]\nrepeat = 7\n").unwrap();
        reload();
        let call = host.called_within(20).await.expect("a call");
        assert_eq!(call.peer, own.public());
        call.close(CloseReason::CallsBack);
        assert!(host.visit().await.unwrap().contains("\"repeat\":7"));
        assert_eq!(host.visit().await, None, "it has it now");
        assert_eq!(site.get("/v1/status")["connected"], json!(0));

        // The next CMA knows that, too.
        drop(cma);
        let cma = site.start(&[]);
        assert!(host.called_within(14).await.is_none(), "nothing changed while the CMA was away");
        drop(cma);
        fs::write(site.paths.cma_config(), "[discovery]\nrepeat = 8\n").unwrap();
        let _cma = site.start(&[]);
        assert!(host.called_within(25).await.is_some(), "{}", site.read("log"));
    });
}

/// Whether the store says that the CMA's packets reach nanoprobes.
fn gets_through(site: &Site) -> bool {
    let mut store = SqliteStore::open(&site.paths.database()).unwrap();
    let kept = store.begin().unwrap().setting(GETS_THROUGH_SETTING).unwrap();
    kept.as_deref() == Some("yes")
}

#[test]
fn who_was_approved_just_before_the_cma_died_is_called_when_it_starts() {
    let site = Site::create();
    fs::write(site.paths.cma_config(), "[enrolment]\npolicy = \"approve\"\n").unwrap();
    let mut cma = site.start(&[]);
    let (_, own) = KeyDirectory::open(site.paths.crypto()).unwrap().cma_pair().unwrap();
    runtime().block_on(async {
        let mut host = Listener::new(&site, vec![own.public()]);
        assert!(matches!(host.ask().await, FromCma::Refused(_)), "nobody has approved it");
        assert_eq!(site.request("POST", "/v1/pending/web1/approve", Some(json!({}))).0, 200);
        // The power goes before the host comes.
        cma.0.kill().unwrap();
        cma.0.wait().unwrap();
        assert!(!gets_through(&site), "nobody has answered a call yet");
        while host.called_within(1).await.is_some() {}

        let cma = site.start(&[]);
        let call = host.called_within(10).await.expect("a call");
        call.close(CloseReason::CallsBack);
        assert!(matches!(host.ask().await, FromCma::Welcome(_)));
        assert_eq!(site.get("/v1/hosts")[0]["status"], "up");

        // Once it is there, nobody calls it for that again. That it took the call is remembered: silence means something then.
        drop(cma);
        assert!(gets_through(&site));
        let _cma = site.start(&[]);
        assert!(host.called_within(4).await.is_none());
    });
}
