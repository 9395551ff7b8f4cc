//! The agent: finds out what its host is like, keeps watching, and tells the CMA what changes.
//!
//! In the order in which a fact passes through: [`scheduler`] says when a discovery runs, [`triggers`] that it
//! should run now, [`collector`] runs it (with [`executables`] for those of the site), [`queue`] keeps what
//! changed until the CMA has it, [`monitoring`] looks after what was found to listen, [`neighbours`] hears what is around
//! the host, [`memory`] goes back when work is done, [`agent`] is the event loop around all of them, and [`network`] the other process, which speaks with the CMA and with
//! partners. [`cli`] and [`settings`] read what
//! the operator wants, [`discover`] and [`audit`] are the sub-commands of these names.

pub mod agent;
pub mod audit;
pub mod cli;
pub mod collector;
pub mod discover;
pub mod executables;
pub mod memory;
pub mod monitoring;
pub mod neighbours;
pub mod network;
pub mod queue;
pub mod scheduler;
pub mod settings;
pub mod triggers;
