//! Which hosts are connected right now, how to reach them with a new configuration, and which one each was given.

use crate::knowledge::Knowledge;
use model::message::Configure;
use model::{Designation, DocumentHash};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot};

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
}

#[derive(Debug)]
struct Entry {
    number: u64,
    /// The configuration the host has or was sent last.
    config: DocumentHash,
    push: mpsc::Sender<Configure>,
    /// Dropped to end the connection.
    _keep: oneshot::Sender<()>,
}

/// A connection's place in the registry; given up with [`Hosts::leave`].
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    pub configurations: mpsc::Receiver<Configure>,
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

    /// Enters a host that was welcomed with the configuration of this hash.
    pub fn enter(&self, designation: &Designation, config: DocumentHash) -> Ticket {
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        // More than one waiting configuration makes no sense: the host asks again when it reconnects.
        let (push, configurations) = mpsc::channel(2);
        let (keep, superseded) = oneshot::channel();
        state.by_name.insert(designation.clone(), Entry { number, config, push, _keep: keep });
        Ticket { number, configurations, superseded }
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

    /// Sends every connected host its configuration where that is another than it has; returns to how many.
    pub fn configure(&self, knowledge: &Knowledge) -> usize {
        let mut sent = 0;
        for (designation, entry) in &mut self.lock().by_name {
            let json = knowledge.agent_config(designation);
            let hash = DocumentHash::of(json.as_bytes());
            if hash != entry.config && entry.push.try_send(Configure { json }).is_ok() {
                entry.config = hash;
                sent += 1;
            }
        }
        sent
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
    fn a_changed_configuration_is_sent_once() {
        let hosts = Hosts::default();
        let knowledge = Knowledge::for_tests(CmaConfig::default());
        let current = DocumentHash::of(knowledge.agent_config(&name("a")).as_bytes());
        let mut same = hosts.enter(&name("a"), current);
        let mut other = hosts.enter(&name("b"), DocumentHash([0; 32]));
        assert_eq!((hosts.configure(&knowledge), hosts.configure(&knowledge)), (1, 0));
        assert!(same.configurations.try_recv().is_err());
        assert!(other.configurations.try_recv().unwrap().json.contains("global"));
    }
}
