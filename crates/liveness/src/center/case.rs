//! One host that is looked at because somebody calls it silent, and the memory of those that turned out to be alive.

use super::Reached;
use model::liveness::{HostNumber, Observation};
use std::collections::BTreeMap;
use std::time::Duration;

/// Accusers of one host that are remembered: partners may change while it is looked at.
const MOST_ACCUSERS: usize = 8;
/// From a contradicted accusation until the same accuser is listened to again; doubles up to the longest.
const FIRST_EXCUSE: Duration = Duration::from_secs(1);
const LONGEST_EXCUSE: Duration = Duration::from_secs(30);
/// After this without another the next one is the first again.
const EXCUSE_MEMORY: Duration = Duration::from_secs(60);

/// A host that is looked at.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) opened: Duration,
    pub(super) question: u64,
    /// Its partners when it was opened: who might hear it.
    pub(super) asked: Vec<HostNumber>,
    pub(super) partners_asked: bool,
    /// Who calls it silent, with the last word of each.
    pub(super) said: BTreeMap<HostNumber, Said>,
    /// What the CMA's own attempt came to.
    pub(super) own: Option<Reached>,
    /// Whether partners that do not answer are looked at themselves.
    pub(super) looked_at_witnesses: bool,
    /// Whether hosts further on are.
    pub(super) widened: bool,
}

#[derive(Debug)]
pub(super) struct Said {
    pub(super) at: Duration,
    pub(super) observation: Observation,
}

impl Case {
    pub(super) fn new(now: Duration, question: u64, asked: Vec<HostNumber>) -> Self {
        Self {
            opened: now,
            question,
            asked,
            partners_asked: false,
            said: BTreeMap::new(),
            own: None,
            looked_at_witnesses: false,
            widened: false,
        }
    }

    pub(super) fn accuse(&mut self, now: Duration, from: HostNumber, observation: &Observation) {
        if self.said.is_empty() {
            // Until now it was looked at for the sake of others.
            self.opened = now;
        }
        if self.said.len() < MOST_ACCUSERS || self.said.contains_key(&from) {
            self.said.insert(from, Said { at: now, observation: observation.clone() });
        }
    }

    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.opened)
    }

    /// The CMA itself did not get through to its nanoprobe.
    pub(super) fn failed(&self) -> bool {
        matches!(self.own, Some(Reached::HostOnly | Reached::Nobody))
    }

    /// Partners that have not called it silent.
    pub(super) fn outstanding(&self) -> impl Iterator<Item = HostNumber> + '_ {
        self.asked.iter().copied().filter(|partner| !self.said.contains_key(partner))
    }

    /// When it was last heard, by those who say that they do not hear it any more.
    pub(super) fn last_heard(&self) -> Option<Duration> {
        let heard = |said: &Said| {
            said.at.saturating_sub(Duration::from_millis(said.observation.silent_milliseconds.into()))
        };
        self.said.values().map(heard).max()
    }
}

/// Hosts that were called silent and are alive.
#[derive(Debug, Default)]
pub(super) struct Notes(BTreeMap<HostNumber, Note>);

#[derive(Debug)]
struct Note {
    accusers: Vec<HostNumber>,
    until: Duration,
    excuse: Duration,
}

impl Notes {
    /// Returns whether this is not the first time within a while.
    pub(super) fn add(&mut self, now: Duration, about: HostNumber, accusers: &[HostNumber]) -> bool {
        self.0.retain(|_, note| now < note.until.saturating_add(EXCUSE_MEMORY));
        let before = self.0.remove(&about);
        let again = before.is_some();
        let (excuse, mut all) = before.map_or((FIRST_EXCUSE, Vec::new()), |note| {
            ((note.excuse * 2).min(LONGEST_EXCUSE), note.accusers)
        });
        all.retain(|accuser| !accusers.contains(accuser));
        all.extend(accusers);
        all.drain(..all.len().saturating_sub(MOST_ACCUSERS));
        self.0.insert(about, Note { accusers: all, until: now.saturating_add(excuse), excuse });
        again
    }

    /// Whether the word of this accuser does not count at the moment.
    pub(super) fn excuse(&self, now: Duration, about: HostNumber, accuser: HostNumber) -> bool {
        self.0.get(&about).is_some_and(|note| now < note.until && note.accusers.contains(&accuser))
    }

    pub(super) fn forget(&mut self, about: HostNumber) {
        self.0.remove(&about);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
