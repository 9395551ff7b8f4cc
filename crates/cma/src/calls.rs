//! Hosts that are not connected are called when their configuration changes: a host where nothing happens would
//! otherwise keep its old one for ever.
//!
//! The CMA dials the address that the host last registered from, expecting the host's pinned key. The nanoprobe
//! takes connections from the CMA's keys only, ends the connection and comes with one of its own, on which it
//! registers and is told its configuration. A host that cannot be reached (behind a firewall or address translation)
//! is called twice, then it gets its configuration when it next has something to say.

use crate::hosts::Hosts;
use crate::knowledge::{Knowledge, SharedKnowledge};
use crate::readers::Readers;
use model::{Designation, DocumentHash, PublicKey};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use store::{HostRow, StoreError, Transaction};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use wire::endpoint::{CloseReason, Endpoint, Lost};

/// After a start many hosts come by themselves.
const START_PAUSE: Duration = Duration::from_secs(10);
/// From a change to the first call; a burst of reloads is one change.
const CHANGE_PAUSE: Duration = Duration::from_secs(1);
/// From the first round of calls to the second. Longer than a dead connection can look alive to either side.
const SECOND_ROUND_AFTER: Duration = Duration::from_secs(45);
/// How long hosts of the second round may take to come before those that did not are counted.
const COUNT_AFTER: Duration = Duration::from_secs(10);
/// Calls under way at once.
const CALLS_AT_ONCE: usize = 50;
/// Between the beginnings of two calls: hosts register no faster than they are stored.
const CALL_INTERVAL: Duration = Duration::from_millis(10);
/// How long a called nanoprobe may take to end the connection.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// The status of hosts that are called.
const UP: &str = "up";

/// A host to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub designation: Designation,
    /// Where it last registered from, with the port it listens on.
    pub address: SocketAddr,
    /// Its pinned key.
    pub key: PublicKey,
    /// Hash of the configuration it is to get.
    pub wanted: DocumentHash,
}

/// The hosts of `rows` that are up, not connected, and were last given another configuration than they should have.
pub fn due(rows: &[HostRow], hosts: &Hosts, knowledge: &Knowledge) -> Vec<Call> {
    let call = |row: &HostRow| {
        let address: SocketAddr = row.address.parse().ok()?;
        if row.status != UP || address.port() == 0 || address.ip().is_unspecified() {
            return None;
        }
        let wanted = DocumentHash::of(knowledge.agent_config(&row.designation).as_bytes());
        let designation = row.designation.clone();
        hosts.lacks(&designation, wanted).then_some(Call { designation, address, key: row.key, wanted })
    };
    rows.iter().filter_map(call).collect()
}

/// The setting that keeps the hash of the configuration a host was given when it last registered.
pub fn setting_of(designation: &Designation) -> String {
    format!("configuration given to {designation}")
}

/// What the hosts were given before this start. A host of which nothing is kept counts as having another.
///
/// # Errors
/// Those of the store.
pub fn given(
    tx: &mut dyn Transaction,
    known: &[HostRow],
) -> Result<HashMap<Designation, DocumentHash>, StoreError> {
    let mut given = HashMap::new();
    for host in known {
        let kept = tx.setting(&setting_of(&host.designation))?;
        if let Some(hash) = kept.and_then(|text| DocumentHash::from_hex(&text).ok()) {
            given.insert(host.designation.clone(), hash);
        }
    }
    Ok(given)
}

/// Calls hosts whenever the configuration was read.
pub struct Caller {
    pub endpoint: Endpoint,
    pub readers: Arc<Readers>,
    pub hosts: Arc<Hosts>,
    pub knowledge: SharedKnowledge,
    /// Becomes true when the CMA stops.
    pub stop: watch::Receiver<bool>,
}

impl Caller {
    /// Works until the CMA stops.
    pub async fn run(mut self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = self.follow() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn follow(&mut self) {
        let mut changed = self.knowledge.changes();
        let mut pause = START_PAUSE;
        loop {
            changed.borrow_and_update();
            // Another change ends the rounds of the one before; dials under way are given up.
            let more = tokio::select! {
                () = self.rounds(pause) => changed.changed().await,
                more = changed.changed() => more,
            };
            if more.is_err() {
                return;
            }
            pause = CHANGE_PAUSE;
        }
    }

    async fn rounds(&self, pause: Duration) {
        for (round, pause) in [(1, pause), (2, SECOND_ROUND_AFTER)] {
            sleep(pause).await;
            let due = self.due().await;
            if due.is_empty() {
                continue;
            }
            let calls = due.len();
            let answered = self.call(due).await;
            tracing::info!(
                round,
                calls,
                answered,
                "hosts that are not connected were called for their new configuration"
            );
        }
        sleep(COUNT_AFTER).await;
        let hosts = self.due().await.len();
        if hosts > 0 {
            tracing::info!(
                hosts,
                "hosts could not be called (firewall?); they get their configuration when they have something to say"
            );
        }
    }

    async fn due(&self) -> Vec<Call> {
        let knowledge = self.knowledge.get();
        // Who registered just while the configuration was read was told the old one.
        self.hosts.configure(&knowledge);
        let hosts = self.hosts.clone();
        let found = self.readers.read(move |reader| Ok(due(&reader.hosts()?, &hosts, &knowledge))).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "the hosts to call cannot be read");
            Vec::new()
        })
    }

    /// Returns how many answered.
    async fn call(&self, due: Vec<Call>) -> usize {
        let mut answered = 0;
        let mut dials = JoinSet::new();
        let mut pace = interval(CALL_INTERVAL);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for call in due {
            if dials.len() >= CALLS_AT_ONCE {
                answered += usize::from(matches!(dials.join_next().await, Some(Ok(true))));
            }
            pace.tick().await;
            // It may have come by itself meanwhile.
            if self.hosts.lacks(&call.designation, call.wanted) {
                let endpoint = self.endpoint.clone();
                dials.spawn(async move { dial(&endpoint, &call.designation, call.address, call.key).await });
            }
        }
        while let Some(done) = dials.join_next().await {
            answered += usize::from(matches!(done, Ok(true)));
        }
        answered
    }
}

/// Calls one host; `true` when it says that it comes.
pub async fn dial(endpoint: &Endpoint, host: &Designation, address: SocketAddr, key: PublicKey) -> bool {
    let connection = match endpoint.connect_to(address, &[key]).await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%host, %error, "a host could not be called");
            return false;
        }
    };
    match timeout(ANSWER_PATIENCE, connection.closed()).await {
        Ok(Lost::Closed(CloseReason::CallsBack)) => true,
        Ok(lost) => {
            tracing::debug!(%host, %address, %lost, "a host did not take a call");
            false
        }
        Err(_) => {
            tracing::debug!(%host, %address, "a host did not answer a call");
            connection.close(CloseReason::TimedOut);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Timestamp;
    use model::config::parse_toml;

    fn row(name: &str, status: &str, address: &str) -> HostRow {
        HostRow {
            designation: Designation::new(name).unwrap(),
            domain: "global".into(),
            status: status.into(),
            reason: String::new(),
            status_since: Timestamp(1),
            first_seen: Timestamp(1),
            last_seen: Timestamp(1),
            key: PublicKey([name.as_bytes()[0]; 32]),
            rejected_key: None,
            address: address.into(),
            started: Timestamp(1),
            software: String::new(),
        }
    }

    fn knowledge(text: &str) -> Knowledge {
        Knowledge::for_tests(parse_toml("cma.toml", text).unwrap())
    }

    fn names(calls: &[Call]) -> Vec<&str> {
        calls.iter().map(|call| call.designation.as_str()).collect()
    }

    /// Hosts that were all given what `knowledge` says.
    fn given_by(knowledge: &Knowledge, rows: &[HostRow]) -> Hosts {
        let hash = |row: &HostRow| DocumentHash::of(knowledge.agent_config(&row.designation).as_bytes());
        Hosts::with_given(rows.iter().map(|row| (row.designation.clone(), hash(row))).collect())
    }

    #[test]
    fn only_hosts_that_are_up_away_and_behind_are_called() {
        let old = knowledge("");
        let new = knowledge("[discovery.agents.sshd]\nenabled = false\n");
        let rows = [
            row("away", "up", "192.0.2.1:1984"),
            row("connected", "up", "192.0.2.2:1984"),
            row("dead", "dead", "192.0.2.3:1984"),
            row("nowhere", "up", ""),
            row("portless", "up", "192.0.2.4:0"),
            row("six", "up", "[2001:db8::1]:40000"),
        ];
        let hosts = given_by(&old, &rows);
        assert_eq!(names(&due(&rows, &hosts, &old)), [""; 0]);
        let name = rows[1].designation.clone();
        let ticket = hosts.enter(&name, DocumentHash([0; 32]));
        let calls = due(&rows, &hosts, &new);
        assert_eq!(names(&calls), ["away", "six"]);
        assert_eq!((calls[0].address, calls[0].key), ("192.0.2.1:1984".parse().unwrap(), rows[0].key));
        hosts.leave(&name, &ticket);
        assert_eq!(names(&due(&rows, &hosts, &new)), ["away", "connected", "six"]);
        // It came and was told.
        assert!(hosts.gave(&calls[0].designation, calls[0].wanted));
        assert!(!hosts.gave(&calls[0].designation, calls[0].wanted), "nothing to keep a second time");
        assert_eq!(names(&due(&rows, &hosts, &new)), ["connected", "six"]);
        // Taken back before anybody was told.
        assert_eq!(names(&due(&rows, &hosts, &old)), ["away"]);
    }

    #[test]
    fn settings_of_other_hosts_and_rules_call_nobody() {
        let old = knowledge("");
        let rows = [row("web1", "up", "192.0.2.1:1984"), row("web2", "up", "192.0.2.2:1984")];
        let hosts = given_by(&old, &rows);
        let rules = knowledge("[rules.points.security]\nlow = 9\n[notify]\nsyslog = false\n");
        assert!(due(&rows, &hosts, &rules).is_empty());
        let one = knowledge("[discovery.agents.\"sshd/web2\"]\nrepeat = 5\n");
        assert_eq!(names(&due(&rows, &hosts, &one)), ["web2"]);
        let domain = knowledge("[domains]\nlab = [\"web1\"]\n");
        assert_eq!(names(&due(&rows, &hosts, &domain)), ["web1"]);
        // Nothing is known of what they have: an upgrade, or a database from before.
        assert_eq!(due(&rows, &Hosts::default(), &old).len(), 2);
    }

    #[test]
    fn what_was_given_is_known_after_a_restart() {
        use store::Store;
        let mut store = store::sqlite::SqliteStore::open(std::path::Path::new(":memory:")).unwrap();
        let rows = [row("a", "up", ""), row("b", "up", ""), row("c", "up", "")];
        let hash = DocumentHash([7; 32]);
        let mut tx = store.begin().unwrap();
        tx.set_setting(&setting_of(&rows[0].designation), &hash.to_string()).unwrap();
        tx.set_setting(&setting_of(&rows[1].designation), "rubbish").unwrap();
        let given = given(tx.as_mut(), &rows).unwrap();
        assert_eq!(given, HashMap::from([(rows[0].designation.clone(), hash)]));
    }
}
