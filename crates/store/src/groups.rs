//! Which hosts are in which groups, as the CMA last worked it out.

use crate::Result;
use model::{Designation, Timestamp};

/// A host in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    pub host: Designation,
    pub group: String,
    /// What it fits, for people: `name web*`, `tag web`, `query`, `group frontend`.
    pub why: String,
    pub since: Timestamp,
}

/// The part of [`crate::Transaction`] that groups need.
pub trait GroupTransaction {
    /// The groups of a host, by name.
    fn groups(&mut self, host: &Designation) -> Result<Vec<GroupRow>>;
    /// Puts a host into these groups (name and why) and into no others; it stays in those that it was in since it was.
    fn set_groups(&mut self, host: &Designation, groups: &[(String, String)], now: Timestamp) -> Result<()>;
}

/// The part of [`crate::Reader`] that groups need.
pub trait GroupReader {
    /// By group, then by host.
    fn groups(&mut self) -> Result<Vec<GroupRow>>;
}
