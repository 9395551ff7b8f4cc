//! What the rings were before this start, and what has to be put right because the CMA stopped in the middle of something.

use super::{Contact, listening};
use crate::ingest::enrolment::invitations::{self, Invitation};
use crate::ingest::{places, verdict};
use crate::knowledge::Knowledge;
use crate::listeners::Listeners;
use liveness::center::Member;
use model::Designation;
use model::liveness::Session;
use std::collections::HashMap;
use store::{HostRow, MemberRow, Result, Transaction};

/// All that the task starts with.
#[derive(Debug, Default)]
pub struct Restored {
    pub(super) members: Vec<Member>,
    pub(super) contacts: HashMap<Designation, Contact>,
    /// In the rings, though they said goodbye or were removed.
    pub(super) left: Vec<Designation>,
    /// Not in the rings, though nobody was told that they are down.
    pub(super) given_up: Vec<Designation>,
    /// Hosts came back from these and nobody was told.
    pub(super) outages: Vec<String>,
    pub(super) cut_off: bool,
    pub(super) listeners: Listeners,
    /// Were let in and have not come yet.
    pub(super) invited: Vec<Invitation>,
    /// Nanoprobes answered the CMA's own packets.
    pub(super) gets_through: bool,
}

/// The setting that says whether they did, once that is known.
pub const GETS_THROUGH_SETTING: &str = "packets reach nanoprobes";
pub(super) const YES: &str = "yes";

impl Restored {
    /// From what the store has.
    ///
    /// # Errors
    /// Those of the store.
    pub fn read(
        tx: &mut dyn Transaction,
        hosts: &[HostRow],
        members: Vec<MemberRow>,
        knowledge: &Knowledge,
    ) -> Result<Self> {
        let by_name: HashMap<&Designation, &HostRow> =
            hosts.iter().map(|host| (&host.designation, host)).collect();
        let is_up =
            |member: &MemberRow| by_name.get(&member.designation).is_some_and(|host| host.status == "up");
        let named = |wanted: fn(bool, bool) -> bool| {
            members
                .iter()
                .filter(|member| wanted(member.present, is_up(member)))
                .filter(|member| member.session.is_some())
                .map(|member| member.designation.clone())
                .collect::<Vec<_>>()
        };
        let left = named(|present, is_up| present && !is_up);
        let given_up = named(|present, is_up| !present && is_up);
        let contacts = hosts.iter().filter_map(|host| {
            let address = host.address.parse().ok()?;
            Some((host.designation.clone(), Contact { address, key: host.key }))
        });
        Ok(Self {
            contacts: contacts.collect(),
            left,
            given_up,
            listeners: Listeners::restore(listening::known(tx, hosts, knowledge)?),
            outages: verdict::outages_to_tell(tx)?,
            cut_off: verdict::is_cut_off(tx)?,
            invited: invitations::open(tx, hosts)?,
            gets_through: tx.setting(GETS_THROUGH_SETTING)?.as_deref() == Some(YES),
            members: members.into_iter().map(member).collect(),
        })
    }
}

fn member(row: MemberRow) -> Member {
    Member {
        place: places::from_text(&row.place),
        designation: row.designation,
        number: row.number,
        session: row.session.map(Session),
        position: row.position,
        generation: row.generation,
        address: row.address,
        present: row.present,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::config::CmaConfig;
    use model::{PublicKey, Timestamp};
    use store::Store;

    fn host(name: &str, status: &str) -> HostRow {
        HostRow {
            designation: Designation::new(name).unwrap(),
            domain: "global".into(),
            status: status.into(),
            reason: String::new(),
            status_since: Timestamp(1),
            first_seen: Timestamp(1),
            last_seen: Timestamp(1),
            key: PublicKey([1; 32]),
            rejected_key: None,
            address: "192.0.2.1:1984".into(),
            started: Timestamp(1),
            software: String::new(),
        }
    }

    fn kept(name: &str, number: u32, present: bool) -> MemberRow {
        MemberRow {
            designation: Designation::new(name).unwrap(),
            number,
            session: Some([number as u8; 16]),
            place: "subnet 192.0.2.0/24".into(),
            position: 5,
            generation: 6,
            address: "192.0.2.1:1984".into(),
            present,
        }
    }

    #[test]
    fn what_was_interrupted_is_found() {
        let hosts =
            [host("well", "up"), host("said-goodbye", "dead"), host("given-up", "up"), host("dead", "dead")];
        let members = vec![
            kept("well", 1, true),
            kept("said-goodbye", 2, true),
            kept("given-up", 3, false),
            kept("dead", 4, false),
            kept("removed", 5, true),
            MemberRow { session: None, ..kept("given-up-old", 6, false) },
        ];
        let mut store = store::sqlite::SqliteStore::open(std::path::Path::new(":memory:")).unwrap();
        let mut tx = store.begin().unwrap();
        let knowledge = Knowledge::for_tests(CmaConfig::default());
        let restored = Restored::read(tx.as_mut(), &hosts, members, &knowledge).unwrap();
        let names = |list: &[Designation]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&restored.left), ["said-goodbye", "removed"]);
        assert_eq!(names(&restored.given_up), ["given-up"]);
        assert_eq!((restored.members.len(), restored.contacts.len()), (6, 4));
        assert!(!restored.gets_through);
        let well = &restored.members[0];
        assert_eq!((well.number, well.position, well.generation, well.present), (1, 5, 6, true));
        assert_eq!(places::to_text(&well.place), "subnet 192.0.2.0/24");
    }
}
