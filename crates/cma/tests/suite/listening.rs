//! One host of each subnet is told to listen: on the connection it has, or by being called; by the next CMA nobody twice.

use crate::heartbeats::{Host, Talk};
use crate::site::{Site, runtime};
use model::message::{FromCma, Listen, Report, ToCma};
use model::{DocumentHash, Timestamp};
use serde_json::json;
use std::time::Duration;
use wire::framed::MESSAGE_LIMIT_BYTES;
use wire::keys::KeyDirectory;

impl Talk {
    /// Reports an interface with an address in the subnet of all.
    async fn report_network(&mut self, number: u8) {
        let text = json!({"discovertype": "netconfig", "description": "d", "host": "h", "source": "s",
            "instance": "netconfig", "proxy": "local/local", "data": {"eth0": {"address": format!("00-16-3e-00-00-{number:02x}"),
            "carrier": true, "virtual": false, "ipaddrs": {format!("10.0.0.{number}/24"): {"scope": "global", "name": "eth0"}}}}})
        .to_string();
        let report = Report {
            sequence: 1,
            instance: "netconfig".into(),
            hash: DocumentHash::of(text.as_bytes()),
            body: Some(wire::body::compress(text.as_bytes()).unwrap().into()),
            changed_after: Timestamp(0),
            seen: Timestamp::now(),
            superseded: 0,
        };
        self.writer.write(&ToCma::Report(report), MESSAGE_LIMIT_BYTES).await.unwrap();
        loop {
            match self.read(20).await.expect("an acknowledgement") {
                FromCma::Ack(ack) => return assert!(ack.rejected.is_empty(), "{ack:?}"),
                FromCma::Listen(listen) => panic!("too early: {listen:?}"),
                _ => {}
            }
        }
    }

    async fn read(&mut self, seconds: u64) -> Option<FromCma> {
        let read = self.reader.read::<FromCma>(MESSAGE_LIMIT_BYTES);
        tokio::time::timeout(Duration::from_secs(seconds), read).await.ok()?.unwrap()
    }

    /// Where it is told to listen within this time.
    async fn listen(&mut self, seconds: u64) -> Option<Vec<String>> {
        loop {
            if let FromCma::Listen(listen) = self.read(seconds).await? {
                return Some(listen.interfaces);
            }
        }
    }
}

fn listens() -> Option<Listen> {
    Some(Listen { interfaces: vec!["eth0".into()] })
}

#[test]
fn one_host_listens_and_another_when_it_leaves() {
    let site = Site::create();
    let cma = site.start(&[]);
    let (_, own) = KeyDirectory::open(site.paths.crypto()).unwrap().cma_pair().unwrap();
    runtime().block_on(async {
        let mut one = Host::new(&site, "one", vec![own.public()]);
        let mut two = Host::new(&site, "two", vec![own.public()]);
        let (mut first, mut second) = (one.register().await, two.register().await);
        first.report_network(1).await;
        assert_eq!(first.listen(20).await, Some(vec!["eth0".to_owned()]));
        one.register.listen = listens();
        second.report_network(2).await;
        assert_eq!(second.listen(2).await, None, "one is enough");
        second.leave().await;
        // It says goodbye, and the other one is not connected.
        first.goodbye().await;
        assert!(two.is_called(20).await, "{}", site.read("log"));
        let mut second = two.register().await;
        assert_eq!(second.listen(20).await, Some(vec!["eth0".to_owned()]));
        two.register.listen = listens();
        // Back again, with what it did before: the other one goes on.
        let mut first = one.register().await;
        assert_eq!(first.listen(20).await, Some(vec![]));
        one.register.listen = None;
        second.leave().await;
        first.leave().await;

        // The next CMA knows who listens and calls nobody.
        drop(cma);
        let _cma = site.start(&[]);
        let mut first = one.register().await;
        assert_eq!(first.listen(2).await, None);
        let mut second = two.register().await;
        assert_eq!(second.listen(2).await, None);
        second.leave().await;
        // Its nanoprobe was started again and lost what it was told.
        two.register.listen = None;
        let mut second = two.register().await;
        assert_eq!(second.listen(20).await, Some(vec!["eth0".to_owned()]));
    });
}
