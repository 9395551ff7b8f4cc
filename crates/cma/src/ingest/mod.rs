//! What a message from a nanoprobe changes: pure over a store transaction, with the time handed in.
//!
//! In the order in which a host meets it: [`register`] admits a host and pins its key, [`document`] opens a report,
//! [`report`] stores it and brings graph, [`evaluation`] and events up to date, [`places`] finds the switch or subnet that it
//! stands at, [`surroundings`] tells what changed around it (`links`, `neighbours`, `duplicates`, `flapping`),
//! [`enrolment`] says who may become a host, [`machines`] notices that two hosts have the same key,
//! [`verdict`] gives it up when nobody hears it any more. Nothing in here is durable or
//! visible before the writer thread commits; what has to happen afterwards is collected in [`Produced`].

mod allowance;
mod checksums;
pub mod configuration;
pub mod document;
mod duplicates;
pub mod enrolment;
pub mod evaluation;
pub mod events;
mod flapping;
pub mod groups;
pub mod keys;
mod links;
pub mod machines;
mod monitors;
mod neighbours;
pub mod places;
pub mod register;
pub mod report;
pub mod surroundings;
pub mod verdict;

use crate::knowledge::Knowledge;
use crate::listeners::Interfaces;
use liveness::rings::Place;
use model::liveness::Session;
use model::message::{Incarnation, Listen};
use model::{Designation, Event, PublicKey, Timestamp};
use std::net::SocketAddr;
use store::{Result, StoreError, Transaction};

/// What every step of one request is given.
pub struct Context<'a> {
    /// The CMA's clock.
    pub now: Timestamp,
    pub knowledge: &'a Knowledge,
    /// Alert channels that get a row for each event.
    pub channels: &'a [&'static str],
    /// Gives a new event id (UUID version 7).
    pub event_ids: &'a mut dyn FnMut() -> String,
    /// What happens after the commit.
    pub produced: Produced,
}

/// What one request has to show for itself once it is durable.
#[derive(Debug, Default)]
pub struct Produced {
    /// Events with their sequences.
    pub events: Vec<(i64, Event)>,
    pub log: Vec<LogLine>,
    /// For those who watch over who is alive, and over who listens.
    pub changes: Vec<Change>,
    /// When [`surroundings::look`] has something to do, at the earliest.
    pub look_at: Option<Timestamp>,
    /// Rules that were evaluated.
    pub evaluations: usize,
    /// The graph may have addresses that it had not.
    pub has_addresses: bool,
    /// Keys that now belong to a host, to be written as files.
    pub pinned: Vec<(Designation, PublicKey)>,
    /// Keys that no longer do.
    pub unpinned: Vec<(Designation, PublicKey)>,
}

/// What a commit changed for the heartbeats and for who listens, told after it and in the order of commits.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A host registered, with the session of its nanoprobe and the generation of partners it works with.
    Registered {
        host: Designation,
        key: PublicKey,
        session: Option<Session>,
        watch: Option<u64>,
        address: SocketAddr,
        /// What it listens for.
        listen: Option<Listen>,
    },
    /// Its switch or subnet became known, or another.
    Place {
        host: Designation,
        place: Place,
    },
    /// Which subnets it has.
    Interfaces {
        host: Designation,
        interfaces: Interfaces,
    },
    /// It was given up.
    Died(Designation),
    /// It said goodbye.
    Left(Designation),
    Removed(Designation),
    /// A host that is not connected, or not known yet, was refused and may come now.
    Invited {
        host: Designation,
        key: PublicKey,
        address: SocketAddr,
    },
    /// A host of an outage of several is up again, and nobody was told yet.
    Back {
        outage: String,
    },
}

/// A line to log once it is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    pub warning: bool,
    pub text: String,
    /// For debug level, on a line of its own: discovered values. Empty for none.
    pub detail: String,
}

/// Who a registered connection belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct Sender {
    pub designation: Designation,
    pub key: PublicKey,
    pub incarnation: Incarnation,
}

impl Context<'_> {
    pub(crate) fn inform(&mut self, text: String) {
        self.produced.log.push(LogLine { warning: false, text, detail: String::new() });
    }

    pub(crate) fn warn(&mut self, text: String) {
        self.produced.log.push(LogLine { warning: true, text, detail: String::new() });
    }

    /// Has [`surroundings::look`] called then, or earlier.
    pub(crate) fn look_at(&mut self, due: Timestamp) {
        self.produced.look_at = self.produced.look_at.into_iter().chain([due]).min();
    }

    /// Appends an event with its outbox rows.
    pub(crate) fn emit(&mut self, tx: &mut dyn Transaction, event: Event) -> Result<()> {
        let sequence = tx.append_event(&event, self.channels)?;
        self.produced.events.push((sequence, event));
        Ok(())
    }
}

/// Whether nothing can be stored at all, as opposed to this one request being at fault.
pub fn concerns_all(error: &StoreError) -> bool {
    match error {
        StoreError::Unwritable(_)
        | StoreError::Corrupt(_)
        | StoreError::Foreign { .. }
        | StoreError::Open { .. }
        | StoreError::NoRoom { .. }
        | StoreError::Migration { .. }
        | StoreError::Stopped { .. }
        | StoreError::TooNew { .. } => true,
        StoreError::Sql(_) | StoreError::Limit(_) => false,
    }
}
