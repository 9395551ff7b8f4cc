//! What a life of the CMA finds in its database.

use crate::health::Health;
use crate::knowledge::{Knowledge, SharedKnowledge};
use crate::liveness::Restored;
use crate::readers::newest_event;
use crate::settings::Settings;
use crate::{calls, groups, reevaluate, restore};
use model::{Designation, DocumentHash, Timestamp};
use std::collections::HashMap;
use store::sqlite::SqliteStore;
use store::{HostKeysRow, HostRow, Result, Store};

/// Read before anything listens, so nothing of it is out of date.
pub struct Known {
    pub hosts: Vec<HostRow>,
    /// Which keys of the CMA they said they trust.
    pub host_keys: Vec<HostKeysRow>,
    /// Hash of the configuration that each of them has.
    pub given: HashMap<Designation, DocumentHash>,
    /// Who is alive, and who watches whom.
    pub liveness: Restored,
    /// Sequence of the newest event.
    pub newest_event: i64,
    /// What the rules were evaluated with last.
    pub evaluated: Option<String>,
    /// When this database was put in the place of another one.
    pub replaced: Option<Timestamp>,
}

impl Known {
    /// Reads it, with rules and groups as the settings and the database have them. What is wrong with those goes to the log.
    ///
    /// # Errors
    /// Those of the store.
    pub fn read(
        store: &mut SqliteStore,
        settings: &Settings,
        health: &Health,
    ) -> Result<(Self, SharedKnowledge)> {
        let replaced = restore::tell(store, health)?;
        let committed = groups::committed(store.reader()?.as_mut())?;
        let knowledge = Knowledge::load(settings.config.clone(), &settings.site).with_membership(committed);
        for problem in knowledge.problems() {
            tracing::warn!("{problem}");
        }
        let evaluated = reevaluate::last_evaluated(store.begin()?.as_mut())?;
        let mut reader = store.reader()?;
        let hosts = reader.hosts()?;
        let newest_event = newest_event(reader.as_mut())?;
        let members = reader.members()?;
        let host_keys = reader.all_host_keys()?;
        drop(reader);
        let given = calls::given(store.begin()?.as_mut(), &hosts)?;
        let liveness = Restored::read(store.begin()?.as_mut(), &hosts, members, &knowledge)?;
        let known = Self { hosts, host_keys, given, liveness, newest_event, evaluated, replaced };
        Ok((known, SharedKnowledge::new(knowledge)))
    }
}
