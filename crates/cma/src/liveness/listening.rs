//! Telling hosts where to listen for the others of their subnet, as [`crate::listeners`] decides: on the way that lists of
//! partners take. What a host was told is kept after it was told; a CMA that is killed in between tells it once more.

use super::Task;
use super::keeping::{Request, Tells};
use crate::commit::Work;
use crate::ingest::Change;
use crate::ingest::places;
use crate::knowledge::Knowledge;
use crate::listeners::{Interfaces, Known, Output};
use model::Designation;
use model::message::{FromCma, Listen};
use std::time::Duration;
use store::{HostRow, Result, Transaction};

/// Between the names of interfaces in the setting; no interface has a name with it (`dev_valid_name` in the kernel).
const SEPARATOR: &str = "/";

/// What the store has of every host.
///
/// # Errors
/// Those of the store.
pub(super) fn known(
    tx: &mut dyn Transaction,
    hosts: &[HostRow],
    knowledge: &Knowledge,
) -> Result<Vec<Known>> {
    let mut known = Vec::with_capacity(hosts.len());
    for host in hosts {
        let network = places::network_of(tx, knowledge, &host.designation)?;
        let kept = tx.setting(&setting_of(&host.designation))?.unwrap_or_default();
        let names = kept.split(SEPARATOR).filter(|name| !name.is_empty()).map(str::to_owned);
        known.push(Known {
            host: host.designation.clone(),
            is_up: host.status == "up",
            interfaces: network.map_or_else(Interfaces::new, |(_, facts)| places::interfaces(&facts)),
            kept: Listen { interfaces: names.collect() },
        });
    }
    Ok(known)
}

impl Task {
    /// What a commit means for who listens. To be called before anything else is done about it.
    pub(super) fn listening_changed(&mut self, change: &Change) {
        match change {
            Change::Registered { host, listen, .. } => {
                self.listeners.handle_registered(host, listen.clone());
            }
            Change::Interfaces { host, interfaces } => {
                self.listeners.handle_interfaces(host, interfaces.clone());
            }
            Change::Died(host) | Change::Left(host) => self.listeners.handle_down(host),
            Change::Removed(host) => self.listeners.handle_removed(host),
            Change::Place { .. } | Change::Invited { .. } | Change::Back { .. } => {}
        }
    }

    /// Does what the election wants done.
    pub(super) fn appoint(&mut self, now: Duration) {
        for host in self.outgoing.take_unreached() {
            self.listeners.handle_unreached(&host);
        }
        while let Some(output) = self.listeners.poll_output() {
            match output {
                Output::Tell { host, listen } => self.tell_listen(now, &host, listen),
                Output::Keep { host, listen } => {
                    let value = listen.interfaces.join(SEPARATOR);
                    let work = Work::Setting { name: setting_of(&host), value };
                    self.requests.push_back(Request { work, tells: Tells::new() });
                }
            }
        }
    }

    pub(super) fn tell_listen(&mut self, now: Duration, host: &Designation, listen: Listen) {
        match self.hosts.push(host, FromCma::Listen(listen.clone())) {
            Ok(()) => {
                tracing::debug!(%host, interfaces = ?listen.interfaces, "a host was told where to listen");
                self.outgoing.forget_listen(host);
                self.listeners.handle_told(host, &listen);
            }
            Err(_) => self.outgoing.tell_listen(now, host, listen),
        }
    }
}

fn setting_of(host: &Designation) -> String {
    format!("interfaces on which {host} listens")
}
