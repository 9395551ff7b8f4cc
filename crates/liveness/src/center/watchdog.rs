//! Nobody is left to tell that all hosts are gone, or that the CMA is cut off from all of them: when the CMA has heard of
//! nobody for a while it tries a few.

use super::Reached;
use model::liveness::HostNumber;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// A site where nothing happens is looked at this often.
const SILENCE: Duration = Duration::from_secs(300);
/// For the attempts of one round.
const PATIENCE: Duration = Duration::from_secs(5);
/// Tried in one round.
pub(super) const HOSTS: usize = 5;
/// Hosts that answered before are remembered, and tried again with others.
const REACHED_BEFORE: usize = 2;

/// When to try whom.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// `None` until anybody was heard.
    due: Option<Duration>,
    /// Tried now, without an answer so far.
    waiting: BTreeSet<HostNumber>,
    /// To these the CMA got through, the last one at the end. Where it never gets through to anybody (its packets are
    /// filtered) nothing follows from silence.
    reached: VecDeque<HostNumber>,
    /// Where the next round goes on.
    pub(super) next: HostNumber,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bark {
    Nothing,
    /// Try these, and others up to [`HOSTS`].
    Try(Vec<HostNumber>),
    /// None of these answered, though some did before.
    Silence(BTreeSet<HostNumber>),
}

impl Watchdog {
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Anybody was heard.
    pub(super) fn heard(&mut self, now: Duration) {
        self.waiting.clear();
        self.due = Some(now.saturating_add(SILENCE));
    }

    /// What an attempt came to, in a round or not.
    pub(super) fn tried(&mut self, host: HostNumber, reached: Reached) {
        if reached == Reached::Nanoprobe {
            self.reached.retain(|other| *other != host);
            if self.reached.len() >= REACHED_BEFORE {
                self.reached.pop_front();
            }
            self.reached.push_back(host);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) -> Bark {
        if self.due.is_none_or(|due| due > now) {
            return Bark::Nothing;
        }
        if self.waiting.is_empty() {
            self.due = Some(now.saturating_add(PATIENCE));
            return Bark::Try(self.reached.iter().copied().collect());
        }
        self.due = Some(now.saturating_add(SILENCE));
        let silent = std::mem::take(&mut self.waiting);
        if self.reached.is_empty() { Bark::Nothing } else { Bark::Silence(silent) }
    }

    /// Who is tried in this round. Nobody: the site is empty, and there is nothing to watch.
    pub(super) fn trying(&mut self, hosts: BTreeSet<HostNumber>) {
        if hosts.is_empty() {
            self.due = None;
        }
        self.waiting = hosts;
    }

    pub(super) fn forget(&mut self, host: HostNumber) {
        self.reached.retain(|other| *other != host);
        self.waiting.remove(&host);
    }
}
