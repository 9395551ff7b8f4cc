//! Which hosts are connected right now, how to reach them, and which configuration each was given.

use crate::knowledge::Knowledge;
use model::message::{Configure, FromCma};
use model::{Designation, DocumentHash, Timestamp};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot};

/// Messages that wait for one connection; who does not take them is told again when it registers.
const WAITING: usize = 16;

/// The connected hosts. One connection each: a newer one takes over.
#[derive(Debug, Default)]
pub struct Hosts {
    connected: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_name: HashMap<Designation, Entry>,
    next: u64,
    /// The configuration each host was given at its last registration. What is sent later counts only when the host
    /// registers with it: nothing else says that it arrived.
    given: HashMap<Designation, DocumentHash>,
    /// How far ahead of ours each host's clock was at its last registration since the start, in whole seconds.
    clocks: HashMap<Designation, i64>,
}

/// How the clocks of hosts differ from ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clocks {
    /// Hosts that told their clock since the start.
    pub hosts: usize,
    /// Hosts further off than asked for, in either direction.
    pub ahead: usize,
    pub behind: usize,
    /// Those furthest off, in seconds ahead of us.
    pub off: Vec<(Designation, i64)>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    /// The configuration the host has or was sent last.
    config: DocumentHash,
    push: mpsc::Sender<FromCma>,
    /// Dropped to end the connection.
    _keep: oneshot::Sender<()>,
}

/// A connection's place in the registry; given up with [`Hosts::leave`].
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    pub messages: mpsc::Receiver<FromCma>,
    /// Ends when the connection is to be closed: a newer one came, or the host was removed.
    pub superseded: oneshot::Receiver<()>,
}

impl Hosts {
    /// Nobody is connected; before the start of this program hosts were given these configurations.
    pub fn with_given(given: HashMap<Designation, DocumentHash>) -> Self {
        Self { connected: Mutex::new(State { given, ..State::default() }) }
    }

    /// A host that registered has this configuration, or was welcomed with it. `true` when that is to be kept, because
    /// it is another than before.
    pub fn gave(&self, designation: &Designation, config: DocumentHash) -> bool {
        self.lock().given.insert(designation.clone(), config) != Some(config)
    }

    /// Whether a host is not connected and was given another configuration than `wanted`.
    pub fn lacks(&self, designation: &Designation, wanted: DocumentHash) -> bool {
        let state = self.lock();
        !state.by_name.contains_key(designation) && state.given.get(designation) != Some(&wanted)
    }

    /// A host registered and said what time it is.
    pub fn told_clock(&self, designation: &Designation, theirs: Timestamp, ours: Timestamp) {
        let seconds = theirs.0.saturating_sub(ours.0) / 1_000_000;
        self.lock().clocks.insert(designation.clone(), seconds);
    }

    /// Hosts whose clocks are off by more than `seconds`; at most `limit` are named.
    pub fn clocks(&self, seconds: u64, limit: usize) -> Clocks {
        let state = self.lock();
        let off = state.clocks.iter().filter(|(_, off)| off.unsigned_abs() > seconds);
        let mut off: Vec<(Designation, i64)> = off.map(|(name, off)| (name.clone(), *off)).collect();
        let ahead = off.iter().filter(|(_, seconds)| *seconds > 0).count();
        let behind = off.len() - ahead;
        off.sort_by(|a, b| b.1.unsigned_abs().cmp(&a.1.unsigned_abs()).then_with(|| a.0.cmp(&b.0)));
        off.truncate(limit);
        Clocks { hosts: state.clocks.len(), ahead, behind, off }
    }

    /// A host was removed.
    pub fn forget(&self, designation: &Designation) {
        let mut state = self.lock();
        state.by_name.remove(designation);
        state.clocks.remove(designation);
    }

    /// Enters a host that was welcomed with the configuration of this hash.
    pub fn enter(&self, designation: &Designation, config: DocumentHash) -> Ticket {
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        let (push, messages) = mpsc::channel(WAITING);
        let (keep, superseded) = oneshot::channel();
        state.by_name.insert(designation.clone(), Entry { number, config, push, _keep: keep });
        Ticket { number, messages, superseded }
    }

    /// Takes a connection out, unless a newer one has its place.
    pub fn leave(&self, designation: &Designation, ticket: &Ticket) {
        let mut state = self.lock();
        if state.by_name.get(designation).is_some_and(|entry| entry.number == ticket.number) {
            state.by_name.remove(designation);
        }
    }

    /// Ends a host's connection, so that it has to register again.
    pub fn disconnect(&self, designation: &Designation) {
        self.lock().by_name.remove(designation);
    }

    /// Ends all connections.
    pub fn disconnect_all(&self) {
        self.lock().by_name.clear();
    }

    /// Sends every connected host its configuration where that is another than it has; returns to how many.
    pub fn configure(&self, knowledge: &Knowledge) -> usize {
        let mut sent = 0;
        for (designation, entry) in &mut self.lock().by_name {
            let json = knowledge.agent_config(designation);
            let hash = DocumentHash::of(json.as_bytes());
            if hash != entry.config && entry.push.try_send(FromCma::Configure(Configure { json })).is_ok() {
                entry.config = hash;
                sent += 1;
            }
        }
        sent
    }

    /// Hands a message to a host's connection; gives it back when the host is not connected, or does not take any.
    pub fn push(&self, designation: &Designation, message: FromCma) -> Result<(), FromCma> {
        match self.lock().by_name.get(designation) {
            Some(entry) => entry.push.try_send(message).map_err(|error| error.into_inner()),
            None => Err(message),
        }
    }

    pub fn is_connected(&self, designation: &Designation) -> bool {
        self.lock().by_name.contains_key(designation)
    }

    pub fn count(&self) -> usize {
        self.lock().by_name.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a single operation on a map, so a panic elsewhere leaves it whole.
        self.connected.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::config::CmaConfig;

    fn name(text: &str) -> Designation {
        Designation::new(text).unwrap()
    }

    #[test]
    fn a_newer_connection_takes_over_and_the_old_one_cannot_take_it_out() {
        let hosts = Hosts::default();
        let mut old = hosts.enter(&name("a"), DocumentHash([0; 32]));
        let mut new = hosts.enter(&name("a"), DocumentHash([0; 32]));
        assert!(matches!(old.superseded.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(matches!(new.superseded.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        hosts.leave(&name("a"), &old);
        assert_eq!(hosts.count(), 1);
        hosts.leave(&name("a"), &new);
        assert_eq!(hosts.count(), 0);
    }

    #[test]
    fn clocks_that_are_off_are_named_the_worst_first() {
        let hosts = Hosts::default();
        let now = Timestamp(1_000_000_000_000_000);
        for (host, theirs) in
            [("a", now.0 + 3_000_000), ("b", i64::MAX), ("c", i64::MIN), ("d", now.0 - 90_000_000)]
        {
            hosts.told_clock(&name(host), Timestamp(theirs), now);
        }
        let seen = hosts.clocks(30, 2);
        assert_eq!((seen.hosts, seen.ahead, seen.behind), (4, 1, 2));
        assert_eq!(seen.off.iter().map(|(host, _)| host.as_str()).collect::<Vec<_>>(), ["c", "b"]);
        hosts.told_clock(&name("c"), now, now);
        hosts.forget(&name("b"));
        assert_eq!(hosts.clocks(30, 9).off, [(name("d"), -90)]);
    }

    #[test]
    fn a_changed_configuration_is_sent_once() {
        let hosts = Hosts::default();
        let knowledge = Knowledge::for_tests(CmaConfig::default());
        let current = DocumentHash::of(knowledge.agent_config(&name("a")).as_bytes());
        let mut same = hosts.enter(&name("a"), current);
        let mut other = hosts.enter(&name("b"), DocumentHash([0; 32]));
        assert_eq!((hosts.configure(&knowledge), hosts.configure(&knowledge)), (1, 0));
        assert!(same.messages.try_recv().is_err());
        let told = other.messages.try_recv().unwrap();
        assert!(matches!(told, FromCma::Configure(configure) if configure.json.contains("global")));
    }

    #[test]
    fn messages_to_a_host_are_bounded_and_come_back_when_nobody_takes_them() {
        let hosts = Hosts::default();
        let push = || hosts.push(&name("a"), FromCma::Farewell);
        assert_eq!(push(), Err(FromCma::Farewell), "not connected");
        let mut ticket = hosts.enter(&name("a"), DocumentHash([0; 32]));
        assert!(hosts.is_connected(&name("a")) && !hosts.is_connected(&name("b")));
        let taken = (0..WAITING + 5).filter(|_| push().is_ok()).count();
        assert_eq!(taken, WAITING);
        assert_eq!(ticket.messages.try_recv(), Ok(FromCma::Farewell));
        assert_eq!(push(), Ok(()));
    }
}
