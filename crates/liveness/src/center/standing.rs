//! What the CMA's own attempts and its own hearing are worth: whether it is not the CMA that is cut off.

use super::{Cause, Center, Output, Reached};
use crate::rings::CMA;
use model::liveness::HostNumber;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Other hosts that are tried to see whether the CMA's own network works.
const CONTROLS: u32 = 5;
/// For how long somebody's answer proves that.
const PROOF: Duration = Duration::from_secs(5);
/// Being cut off is told no more often.
const CUT_OFF_AGAIN: Duration = Duration::from_secs(60);
/// Hosts of whom the last answer is remembered.
const REMEMBERED: usize = 8;
/// For how long it means something to have got through to a host: for as long as an outage is looked at.
const REACHED: Duration = Duration::from_secs(40);
/// Hosts that are gone through to find one to try.
const SEARCHED: usize = 10_000;

/// What is known of the CMA's own standing.
#[derive(Debug, Default)]
pub(super) struct Site {
    /// Who was heard by the CMA last, the latest at the end.
    answers: VecDeque<(HostNumber, Duration)>,
    /// To whom it got through last.
    reached: VecDeque<(HostNumber, Duration)>,
    /// When it got through to somebody who accused others then.
    pub(super) got_through: Option<Duration>,
    pub(super) controls: Option<Controls>,
    /// A control answered.
    proof: Option<Duration>,
    /// Told to be cut off, and by whom alone it was heard then.
    cut_off: Option<BTreeSet<HostNumber>>,
    told_cut_off: Option<Duration>,
    /// How many hosts are looked at at once; grows while more and more are silent.
    pub(super) width: usize,
    pub(super) reviewed: Duration,
}

#[derive(Debug)]
pub(super) struct Controls {
    until: Duration,
    waiting: BTreeSet<HostNumber>,
}

/// Whether the CMA can trust its own network.
pub(super) enum Standing {
    Proven,
    /// Not known before then.
    Wait(Duration),
    CutOff,
}

impl Site {
    /// The CMA heard of this host, from itself or because it answered.
    pub(super) fn answered(&mut self, now: Duration, number: HostNumber) {
        remember(&mut self.answers, now, number);
        let heard = self.heard(now);
        if self
            .cut_off
            .as_ref()
            .is_some_and(|alone| heard.len() > 1 && heard.iter().any(|host| !alone.contains(host)))
        {
            self.cut_off = None;
        }
    }

    pub(super) fn tried(&mut self, now: Duration, number: HostNumber, reached: Reached) {
        if reached == Reached::Nanoprobe {
            remember(&mut self.reached, now, number);
        }
        let Some(controls) = &mut self.controls else { return };
        if controls.waiting.remove(&number) && matches!(reached, Reached::Nanoprobe | Reached::HostOnly) {
            self.proof = Some(now);
        }
    }

    pub(super) fn heard(&self, now: Duration) -> BTreeSet<HostNumber> {
        let recent = self.answers.iter().filter(|(_, at)| now.saturating_sub(*at) <= PROOF);
        recent.map(|(host, _)| *host).collect()
    }

    pub(super) fn reached_lately(&self, now: Duration, host: HostNumber) -> bool {
        self.reached.iter().any(|(other, at)| *other == host && now.saturating_sub(*at) <= REACHED)
    }

    pub(super) fn heard_since(&self, host: HostNumber, since: Duration) -> bool {
        self.answers.iter().any(|(other, at)| *other == host && *at >= since)
    }
}

impl Center {
    /// Where the CMA has no way to some and hears others all the same, it is not cut off: those were not reached.
    pub(super) fn believe_in_ways(&mut self, now: Duration) {
        let without: BTreeSet<HostNumber> = self
            .cases
            .iter()
            .filter(|(_, case)| case.own == Some(Reached::WeAreCutOff))
            .map(|(host, _)| *host)
            .collect();
        if !without.is_empty() && self.answering(now, &without) >= 2 {
            for case in self.cases.values_mut().filter(|case| case.own == Some(Reached::WeAreCutOff)) {
                case.own = Some(Reached::Nobody);
            }
        }
    }

    /// How many others the CMA heard just now.
    pub(super) fn answering(&self, now: Duration, outage: &BTreeSet<HostNumber>) -> usize {
        self.site.heard(now).difference(outage).filter(|host| self.roster.is_present(**host)).count()
    }

    /// Whether the CMA's attempts mean anything: it got through to somebody who accuses others. Where it never does (its
    /// packets are filtered), only what hosts say themselves counts.
    pub(super) fn dials_work(&self, now: Duration) -> bool {
        let lately = self.site.got_through.is_some_and(|at| now.saturating_sub(at) <= REACHED);
        lately || self.accuses(CMA)
    }

    /// Whether this one accuses anybody.
    pub(super) fn accuses(&self, host: HostNumber) -> bool {
        self.cases.values().any(|case| case.said.contains_key(&host))
    }

    pub(super) fn standing(&mut self, now: Duration, outage: &BTreeSet<HostNumber>) -> Standing {
        let heard = self.site.heard(now);
        let answering = self.answering(now, outage);
        let host_answers =
            |host| self.cases.get(host).is_some_and(|case| case.own == Some(Reached::HostOnly));
        let proof = self.site.proof.is_some_and(|at| now.saturating_sub(at) <= PROOF);
        let others = self.roster.rings.len().saturating_sub(outage.len() + answering);
        // One or two of three: nobody else could be asked.
        let few = others == 0 && outage.len() <= 2;
        if answering >= 2 || proof || few || outage.iter().any(host_answers) {
            return Standing::Proven;
        }
        if others == 0 {
            return Standing::CutOff;
        }
        match &self.site.controls {
            Some(controls) if controls.waiting.is_empty() || controls.until <= now => {
                self.site.controls = None;
                Standing::CutOff
            }
            Some(controls) => Standing::Wait(controls.until),
            None => {
                let until = now.saturating_add(self.patience());
                self.start_controls(until, outage, &heard);
                Standing::Wait(until)
            }
        }
    }

    /// Tries a few hosts here and there of which nothing bad is known.
    pub(super) fn start_controls(
        &mut self,
        until: Duration,
        outage: &BTreeSet<HostNumber>,
        heard: &BTreeSet<HostNumber>,
    ) {
        let rings = &self.roster.rings;
        let last = rings.last_number();
        let mut waiting = BTreeSet::new();
        for part in 0..CONTROLS {
            let from = u64::from(last) * u64::from(part) / u64::from(CONTROLS);
            let from = HostNumber::try_from(from).unwrap_or(0);
            let fit = |host: &HostNumber| {
                !outage.contains(host)
                    && !heard.contains(host)
                    && !self.cases.contains_key(host)
                    && !waiting.contains(host)
            };
            let found = rings.hosts_from(from).chain(rings.hosts_from(0)).take(SEARCHED).find(fit);
            waiting.extend(found);
        }
        for host in &waiting {
            self.try_to_reach(*host);
        }
        self.site.controls = Some(Controls { until, waiting });
    }

    /// Told once; until others are heard again nobody is judged.
    pub(super) fn we_are_cut_off(&mut self, now: Duration, outage: &BTreeSet<HostNumber>, why: &str) {
        let lately = self.site.told_cut_off.is_some_and(|told| now.saturating_sub(told) < CUT_OFF_AGAIN);
        if self.site.cut_off.is_none() && !lately {
            self.site.told_cut_off = Some(now);
            let hosts: Vec<HostNumber> = outage.iter().copied().collect();
            let mut verdict = self.verdict(now, Cause::CmaCutOff, &hosts);
            verdict.evidence.push(format!("{why}; no host is given up for this"));
            self.outputs.push_back(Output::Verdict(verdict));
            self.site.cut_off = Some(self.site.heard(now));
        }
        for host in outage {
            self.set_aside(now, *host);
        }
    }

    /// It is long since anybody was heard, and none of these answers.
    pub(super) fn nobody_answers(&mut self, now: Duration, silent: &BTreeSet<HostNumber>) {
        let why = "nobody was heard for minutes, and none of these hosts could be reached: either they are all gone or the CMA is cut off";
        self.we_are_cut_off(now, silent, why);
    }
}

/// The latest at the end, each host once.
fn remember(hosts: &mut VecDeque<(HostNumber, Duration)>, now: Duration, number: HostNumber) {
    hosts.retain(|(host, _)| *host != number);
    if hosts.len() >= REMEMBERED {
        hosts.pop_front();
    }
    hosts.push_back((number, now));
}
