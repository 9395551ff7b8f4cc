//! What is known of one partner, and of one that is none any more.

use model::liveness::{HostNumber, Observation, PairKey, PortState, Sight, Watch};
use std::time::Duration;

/// From the word that one watches somebody to the first suspicion, if it is never heard. The other one learns of it at
/// another moment, and may have to be called for that.
const GRACE: Duration = Duration::from_secs(6);
/// Limits for what a watch may say.
const INTERVAL_MILLISECONDS: std::ops::RangeInclusive<u32> = 10..=3_600_000;
const MAX_PROBES: u32 = 100;

/// The times of a watch, made sane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) interval: Duration,
    pub(super) suspect: Duration,
    /// Between two probes of a burst.
    pub(super) spacing: Duration,
    pub(super) probes: u32,
}

impl Timing {
    pub(super) fn of(watch: &Watch) -> Self {
        let clamp = |milliseconds: u32| {
            milliseconds.clamp(*INTERVAL_MILLISECONDS.start(), *INTERVAL_MILLISECONDS.end()).into()
        };
        let interval = Duration::from_millis(clamp(watch.interval_milliseconds));
        let suspect = Duration::from_millis(clamp(watch.suspect_milliseconds));
        let probes = watch.probes.clamp(1, MAX_PROBES);
        let spacing =
            (Duration::from_millis(clamp(watch.probe_milliseconds)) / probes).max(Duration::from_millis(1));
        Self { interval, suspect: suspect.max(interval), spacing, probes }
    }
}

#[derive(Debug)]
pub(super) struct Partner {
    pub(super) number: HostNumber,
    pub(super) address: String,
    pub(super) key: PairKey,
    /// Whether anything came under this key and from this address.
    pub(super) ever_heard: bool,
    /// The last heartbeat, or when watching began.
    pub(super) last: Duration,
    /// From when silence counts: later than `last` after the observer itself was away.
    pub(super) counts_from: Duration,
    pub(super) phase: Phase,
    /// To be answered when it is clear.
    pub(super) question: Option<u64>,
    /// Sent since the last heartbeat.
    pub(super) probes: u32,
    pub(super) port: PortState,
    pub(super) echo: Option<bool>,
    /// When the CMA was last told that this one was late.
    pub(super) told_late: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing to say about it.
    Quiet,
    /// In a burst of probes: so many sent, the next step then. `again`: the second burst of an observer that hears nobody.
    Probing { sent: u32, next: Duration, again: bool },
    /// Told silent, and again then.
    Told { next: Duration, pause: Duration },
    /// It said that it stops.
    Stopping { since: Duration, told: bool },
}

impl Partner {
    pub(super) fn new(now: Duration, partner: &model::liveness::Partner) -> Self {
        Self {
            number: partner.number,
            address: partner.address.clone(),
            key: partner.key.clone(),
            ever_heard: false,
            last: now,
            counts_from: now,
            phase: Phase::Quiet,
            question: None,
            probes: 0,
            port: PortState::Silent,
            echo: None,
            told_late: None,
        }
    }

    pub(super) fn is_the_same(&self, partner: &model::liveness::Partner) -> bool {
        self.number == partner.number && self.address == partner.address && self.key == partner.key
    }

    /// How long after `counts_from` silence becomes suspicious.
    pub(super) fn patience(&self, suspect: Duration) -> Duration {
        if self.ever_heard { suspect } else { suspect + GRACE }
    }

    pub(super) fn silent_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last)
    }

    pub(super) fn heard(&mut self, now: Duration) {
        self.ever_heard = true;
        self.last = now;
        self.counts_from = now;
        self.phase = Phase::Quiet;
        self.question = None;
        self.probes = 0;
        self.port = PortState::Silent;
        self.echo = None;
    }

    pub(super) fn observation(
        &self,
        now: Duration,
        sight: Sight,
        doubt: u32,
        question: Option<u64>,
    ) -> Observation {
        Observation {
            about: self.number,
            sight,
            silent_milliseconds: u32::try_from(self.silent_for(now).as_millis()).unwrap_or(u32::MAX),
            probes: self.probes,
            port: self.port,
            echo: self.echo,
            doubt,
            question,
        }
    }
}

/// Former partners are remembered this long, and so many.
const FORMER_FOR: Duration = Duration::from_secs(600);
const MOST_FORMER: usize = 16;
/// Silence after which beats are counted anew.
const MARTIAN_SILENCE: Duration = Duration::from_secs(10);
/// The CMA is told at the second beat and then at every tenth.
const MARTIAN_FIRST: u64 = 2;
const MARTIAN_EVERY: u64 = 10;

/// Those who were partners.
#[derive(Debug, Default)]
pub(super) struct FormerPartners(Vec<Former>);

#[derive(Debug)]
struct Former {
    number: HostNumber,
    since: Duration,
    last_beat: Duration,
    beats: u64,
}

impl FormerPartners {
    pub(super) fn add(&mut self, now: Duration, number: HostNumber) {
        self.forget(number);
        self.0.retain(|former| now.saturating_sub(former.since) < FORMER_FOR);
        if self.0.len() >= MOST_FORMER {
            self.0.remove(0);
        }
        self.0.push(Former { number, since: now, last_beat: now, beats: 0 });
    }

    pub(super) fn forget(&mut self, number: HostNumber) {
        self.0.retain(|former| former.number != number);
    }

    pub(super) fn knows(&self, now: Duration, number: HostNumber) -> bool {
        self.0.iter().any(|former| former.number == number && now.saturating_sub(former.since) < FORMER_FOR)
    }

    /// Whether this beat is to be told. For the first `grace` it may just not have had its new watch.
    pub(super) fn beat(&mut self, now: Duration, number: HostNumber, grace: Duration) -> bool {
        let Some(former) = self.0.iter_mut().find(|former| former.number == number) else { return false };
        let age = now.saturating_sub(former.since);
        if age < grace || age >= FORMER_FOR {
            return false;
        }
        if now.saturating_sub(former.last_beat) > MARTIAN_SILENCE {
            former.beats = 0;
        }
        former.last_beat = now;
        former.beats += 1;
        former.beats % MARTIAN_EVERY == MARTIAN_FIRST
    }
}
