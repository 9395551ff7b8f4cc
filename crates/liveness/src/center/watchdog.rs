//! Nobody is left to tell that all hosts are gone, or that the CMA is cut off from all of them: when the CMA has heard of
//! nobody for a while it tries a few.
//!
//! Silence means something only where the CMA is known to get through. That is kept across restarts, because everybody may die
//! while the CMA is away; where it is not known, one round after the start finds out.

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
    /// To these the CMA got through, the last one at the end.
    reached: VecDeque<HostNumber>,
    /// It got through to somebody, in this life or an earlier one. Where it never does (its packets are filtered) nothing
    /// follows from silence.
    pub(super) gets_through: bool,
    /// A round was begun in this life.
    was_tried: bool,
    /// Nobody answered the last round, and nobody was heard since.
    is_silent: bool,
    /// Where the next round goes on.
    pub(super) next: HostNumber,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bark {
    Nothing,
    /// Try these, and others up to [`HOSTS`].
    Try(Vec<HostNumber>),
    /// None of these answered, though somebody did before.
    Silence(BTreeSet<HostNumber>),
}

impl Watchdog {
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Anybody was heard.
    pub(super) fn heard(&mut self, now: Duration) {
        self.waiting.clear();
        if std::mem::take(&mut self.is_silent) && self.reached.is_empty() {
            // They were there all the time, perhaps: what is known from an earlier life may be so no more.
            self.gets_through = false;
        }
        if self.due.is_none() || self.gets_through || self.was_tried {
            self.due = Some(now.saturating_add(SILENCE));
        }
    }

    /// What an attempt came to, in a round or not.
    pub(super) fn tried(&mut self, host: HostNumber, reached: Reached) {
        if reached == Reached::Nanoprobe {
            self.got_through();
            self.reached.retain(|other| *other != host);
            if self.reached.len() >= REACHED_BEFORE {
                self.reached.pop_front();
            }
            self.reached.push_back(host);
        }
    }

    /// A packet of the CMA reached a nanoprobe, which answered.
    pub(super) fn got_through(&mut self) {
        self.gets_through = true;
        self.is_silent = false;
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) -> Bark {
        if self.due.is_none_or(|due| due > now) {
            return Bark::Nothing;
        }
        if self.waiting.is_empty() {
            self.due = Some(now.saturating_add(PATIENCE));
            self.was_tried = true;
            return Bark::Try(self.reached.iter().copied().collect());
        }
        self.due = Some(now.saturating_add(SILENCE));
        let silent = std::mem::take(&mut self.waiting);
        if !self.gets_through {
            return Bark::Nothing;
        }
        self.is_silent = true;
        Bark::Silence(silent)
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
