//! Looks at all cases together: whom to ask further, when a case is ripe, and which of them have one cause.

use super::case::Case;
use super::standing::Standing;
use super::{Cause, Center, Output, Reached, Verdict, evidence};
use crate::rings::{CMA, Place};
use model::liveness::HostNumber;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Beyond two bursts of probes: for the way of question and answer.
const WAY: Duration = Duration::from_millis(100);
/// An outage that is still found to be larger is told after this all the same.
const LONGEST_GATHERING: Duration = Duration::from_secs(30);
/// Hosts further on that are looked at when neighbours are silent together: at first, and at most at a time.
const FIRST_WIDTH: usize = 8;
const MOST_AT_ONCE: usize = 256;
/// With so many cases a review for every single message would cost too much.
const MANY: usize = 100;
const BETWEEN_REVIEWS: Duration = Duration::from_millis(10);
/// So many nanoprobes that die at the same moment, while their hosts answer, have one cause: an update, an administrator.
const MANY_NANOPROBES: usize = 3;
/// Hosts whose cases lead to them further on are searched through this far.
const SEARCHED: usize = 10_000;

/// The cases sorted out.
struct Sorted {
    /// Everybody who could hear the host says that it is silent, or is lost as well, and the CMA failed too.
    ripe: BTreeSet<HostNumber>,
    /// Others that may still become so soon.
    open: BTreeSet<HostNumber>,
}

impl Center {
    pub(super) fn look_soon(&mut self, now: Duration) {
        let at = if self.cases.len() > MANY {
            self.site.reviewed.saturating_add(BETWEEN_REVIEWS).max(now)
        } else {
            now
        };
        self.review = Some(self.review.map_or(at, |review| review.min(at)));
    }

    pub(super) fn review(&mut self, now: Duration) {
        self.site.reviewed = now;
        self.review = None;
        self.close_undecided(now);
        self.believe_in_ways(now);
        self.ask_further(now);
        let sorted = self.sort(now);
        let mut wait = self.judge(now, sorted);
        // Who is looked at for the sake of others is of no interest without them.
        if self.cases.values().all(|case| case.said.is_empty()) {
            self.cases.clear();
        }
        self.look_at_witnesses(now);
        self.widen(now);
        if self.cases.is_empty() {
            self.site.width = FIRST_WIDTH;
            self.site.controls = None;
        }
        let steps = [self.gathering(), self.patience(), self.undecided()];
        let next_steps =
            self.cases.values().flat_map(|case| steps.map(|step| case.opened.saturating_add(step)));
        wait.extend(next_steps.filter(|step| *step > now));
        self.review = wait.into_iter().min().map(|next| next.max(now + Duration::from_millis(1)));
    }

    fn gathering(&self) -> Duration {
        Duration::from_millis(self.config.gather_milliseconds.into())
    }

    /// For the answers of everybody who is asked.
    pub(super) fn patience(&self) -> Duration {
        (Duration::from_millis(self.config.probe_milliseconds.into()) * 2 + WAY).max(self.gathering())
    }

    fn longest_gathering(&self) -> Duration {
        LONGEST_GATHERING.max(self.patience() * 2)
    }

    /// A case that nobody can decide is closed after this; whoever still hears nothing says so again. What is ripe was
    /// judged before.
    fn undecided(&self) -> Duration {
        self.longest_gathering() + self.patience() * 3
    }

    /// Closed without a verdict; the accusers are not listened to for a while.
    pub(super) fn set_aside(&mut self, now: Duration, host: HostNumber) {
        let Some(case) = self.cases.remove(&host) else { return };
        let accusers: Vec<HostNumber> = case.said.keys().copied().collect();
        if !accusers.is_empty() {
            self.notes.add(now, host, &accusers);
        }
    }

    fn close_undecided(&mut self, now: Duration) {
        let limit = self.undecided();
        let old: Vec<_> =
            self.cases.iter().filter(|(_, case)| case.age(now) >= limit).map(|(host, _)| *host).collect();
        for host in old {
            self.set_aside(now, host);
        }
    }

    /// Neighbours of who was looked at for the sake of others are asked only when it did not answer.
    fn ask_further(&mut self, now: Duration) {
        let failed: Vec<_> = self
            .cases
            .iter()
            .filter(|(_, case)| case.failed() && !case.partners_asked)
            .map(|(host, case)| (*host, case.asked.clone()))
            .collect();
        for (host, mut asked) in failed {
            // Who is known to be gone is not asked.
            asked.retain(|partner| self.cases.get(partner).is_some_and(Case::failed));
            self.ask_partners(host, &asked);
            if let Some(case) = self.cases.get_mut(&host) {
                // Their answers take as long as anybody's.
                case.opened = now;
            }
        }
    }

    fn sort(&self, now: Duration) -> Sorted {
        let dials_work = self.dials_work(now);
        let lost: BTreeSet<HostNumber> = self
            .cases
            .iter()
            .filter(|(_, case)| case.failed() && (dials_work || !case.said.is_empty()))
            .map(|(host, _)| *host)
            .collect();
        let is_lost =
            |host: HostNumber| lost.contains(&host) || (host != CMA && !self.roster.is_present(host));
        let pending = |host: &HostNumber| self.cases.get(host).is_some_and(|case| case.own.is_none());
        let failed = |host: &HostNumber| self.cases.get(host).is_some_and(Case::failed);
        // Its neighbours are only just being looked at, or are to be.
        let growing = |case: &Case| {
            let next = !case.widened && case.asked.iter().any(failed);
            case.failed() && case.said.is_empty() && (next || case.asked.iter().any(pending))
        };
        let mut sorted = Sorted { ripe: BTreeSet::new(), open: BTreeSet::new() };
        // Those whom nobody accuses, because all who could are silent themselves.
        let mut inner = BTreeSet::new();
        for (host, case) in &self.cases {
            let alone = case.failed() && case.outstanding().all(is_lost);
            let overdue = case.failed() && case.age(now) >= self.patience() && dials_work;
            if !case.said.is_empty() && (alone || overdue) {
                sorted.ripe.insert(*host);
            } else if case.said.is_empty() && alone {
                inner.insert(*host);
            } else if case.own != Some(Reached::WeAreCutOff)
                && (case.age(now) < self.patience() || growing(case))
            {
                sorted.open.insert(*host);
            }
        }
        // Where somebody at their edge lives and accuses nobody, they may all live and merely be out of the CMA's reach.
        let unclear = |host: &HostNumber| !inner.contains(host) && !sorted.ripe.contains(host);
        let (mut open, mut doubtful): (Vec<HostNumber>, Vec<HostNumber>) =
            lost.iter().copied().filter(unclear).partition(|host| sorted.open.contains(host));
        let beside = |host: HostNumber, inner: &mut BTreeSet<HostNumber>| -> Vec<HostNumber> {
            let Some(case) = self.cases.get(&host) else { return Vec::new() };
            case.asked.iter().copied().filter(|partner| inner.remove(partner)).collect()
        };
        while let Some(host) = open.pop() {
            let found = beside(host, &mut inner);
            sorted.open.extend(&found);
            open.extend(found);
        }
        while let Some(host) = doubtful.pop() {
            doubtful.extend(beside(host, &mut inner));
        }
        sorted.ripe.extend(inner);
        sorted
    }

    /// Gives what verdicts can be given; returns when to look again for those that have to wait.
    fn judge(&mut self, now: Duration, mut sorted: Sorted) -> Vec<Duration> {
        let mut wait = Vec::new();
        let gathering = self.gathering();
        let cut_off: BTreeSet<HostNumber> = self
            .cases
            .iter()
            .filter(|(_, case)| case.own == Some(Reached::WeAreCutOff) && case.age(now) >= gathering)
            .map(|(host, _)| *host)
            .collect();
        if !cut_off.is_empty() {
            self.we_are_cut_off(now, &cut_off, "the CMA's own host says that it has no way to them");
        }
        let accused = |host: &HostNumber| self.cases.get(host).is_some_and(|case| !case.said.is_empty());
        let seeds: Vec<HostNumber> = sorted.ripe.iter().copied().filter(accused).collect();
        for first in seeds {
            if !sorted.ripe.remove(&first) {
                continue;
            }
            let (outage, blocked) = self.outage(first, &mut sorted);
            let accused =
                outage.iter().filter_map(|host| self.cases.get(host)).filter(|case| !case.said.is_empty());
            let Some(began) = accused.map(|case| case.opened).min() else { continue };
            let age = now.saturating_sub(began);
            // Those who lost several partners at once doubt themselves first and speak later.
            let gone = |host: &&HostNumber| self.cases.get(host).is_some_and(|case| !host_answers(case));
            let several = outage.iter().filter(gone).nth(1).is_some();
            let gathering = if several { gathering.max(self.patience() * 2) } else { gathering };
            if age < gathering {
                wait.push(began.saturating_add(gathering));
            } else if blocked && age < self.longest_gathering() {
                wait.push(began.saturating_add(self.longest_gathering()));
            } else {
                match self.standing(now, &outage) {
                    Standing::Proven => self.give_up(now, &outage),
                    Standing::Wait(until) => wait.push(until),
                    Standing::CutOff => {
                        self.we_are_cut_off(now, &outage, "no other host answers the CMA either")
                    }
                }
            }
        }
        wait
    }

    /// All ripe cases that have to do with this one: of the same place, of its partners, and all that fell silent at the
    /// same time. Also whether others that have may still become ripe.
    fn outage(&self, first: HostNumber, sorted: &mut Sorted) -> (BTreeSet<HostNumber>, bool) {
        let mut at: BTreeMap<&Place, Vec<HostNumber>> = BTreeMap::new();
        let mut together = Vec::new();
        for host in sorted.ripe.iter().chain(&sorted.open) {
            if let Some(member) = self.roster.member(*host) {
                at.entry(&member.place).or_default().push(*host);
            }
            if self.apart(first, *host).is_some_and(|apart| apart <= self.interval()) {
                together.push(*host);
            }
        }
        let mut outage = BTreeSet::from([first]);
        let mut blocked = false;
        let mut unseen = vec![first];
        while let Some(host) = unseen.pop() {
            let Some(case) = self.cases.get(&host) else { continue };
            // Each place is gone through once.
            let beside =
                self.roster.member(host).and_then(|member| at.remove(&member.place)).unwrap_or_default();
            for other in
                beside.into_iter().chain(std::mem::take(&mut together)).chain(case.asked.iter().copied())
            {
                let apart = self.apart(first, other).unwrap_or_default();
                if sorted.open.contains(&other) {
                    blocked = true;
                } else if sorted.ripe.contains(&other) && apart <= self.interval() + self.suspicion() {
                    sorted.ripe.remove(&other);
                    outage.insert(other);
                    unseen.push(other);
                }
            }
        }
        (outage, blocked)
    }

    /// How far apart two hosts fell silent, as far as anybody says when they were last heard.
    fn apart(&self, one: HostNumber, other: HostNumber) -> Option<Duration> {
        let heard = |host| self.cases.get(host).and_then(Case::last_heard);
        Some(heard(&one)?.abs_diff(heard(&other)?))
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(self.config.interval_milliseconds.into())
    }

    fn suspicion(&self) -> Duration {
        Duration::from_millis(self.config.suspect_milliseconds.into())
    }

    /// The verdicts about one outage.
    fn give_up(&mut self, now: Duration, outage: &BTreeSet<HostNumber>) {
        let (there, gone): (Vec<HostNumber>, Vec<HostNumber>) =
            outage.iter().partition(|host| self.cases.get(host).is_some_and(host_answers));
        let mut verdicts: Vec<(Cause, Vec<HostNumber>)> = if there.len() < MANY_NANOPROBES {
            there.into_iter().map(|host| (Cause::NanoprobeDied, vec![host])).collect()
        } else {
            vec![(Cause::NanoprobeDied, there)]
        };
        match gone[..] {
            [] => {}
            // Two who have nothing to do with each other but the moment.
            [one, other] if !self.belong_together(one, other) => {
                verdicts.extend([one, other].map(|host| (Cause::HostDead, vec![host])));
            }
            _ => verdicts.push((self.cause(&gone), gone)),
        }
        for (cause, hosts) in verdicts {
            let verdict = self.verdict(now, cause, &hosts);
            self.outputs.push_back(Output::Verdict(verdict));
            for host in hosts {
                self.cases.remove(&host);
                self.notes.forget(host);
                self.watchdog.forget(host);
                self.roster.leave(now, host, &mut self.outputs);
            }
        }
    }

    fn belong_together(&self, one: HostNumber, other: HostNumber) -> bool {
        let place = |host| self.roster.member(host).map(|member| &member.place);
        place(one) == place(other) || self.roster.rings.partners(one).contains(&other)
    }

    fn cause(&self, gone: &[HostNumber]) -> Cause {
        if gone.len() < 2 {
            return Cause::HostDead;
        }
        let mut places: Vec<&Place> =
            gone.iter().filter_map(|host| self.roster.member(*host)).map(|member| &member.place).collect();
        places.dedup();
        match places[..] {
            [place]
                if *place != Place::Unknown
                    && self.roster.rings.count_at(place) == gone.len()
                    && self.roster.rings.len() > gone.len() =>
            {
                Cause::PlaceGone(place.clone())
            }
            _ => Cause::Split,
        }
    }

    pub(super) fn verdict(&self, now: Duration, cause: Cause, hosts: &[HostNumber]) -> Verdict {
        let heard = hosts.iter().filter_map(|host| self.cases.get(host)?.last_heard()).min();
        let silent = heard.map_or(Duration::ZERO, |heard| now.saturating_sub(heard));
        Verdict {
            evidence: evidence::of(&self.roster, &self.cases, &cause, hosts),
            cause,
            hosts: hosts.iter().filter_map(|host| self.roster.designation(*host)).collect(),
            silent_milliseconds: u32::try_from(silent.as_millis()).unwrap_or(u32::MAX),
        }
    }

    /// Who was asked and does not answer is looked at as well. What comes of that is worth something when the CMA can
    /// reach those who do answer.
    fn look_at_witnesses(&mut self, now: Duration) {
        let gathering = self.gathering();
        let (mut missing, mut accusers) = (BTreeSet::new(), BTreeSet::new());
        for case in self.cases.values_mut() {
            let due = !case.said.is_empty() && case.age(now) >= gathering;
            if due && !case.looked_at_witnesses {
                case.looked_at_witnesses = true;
                if case.outstanding().next().is_some() {
                    accusers.extend(case.said.keys().copied());
                }
                missing.extend(case.outstanding().filter(|host| !self.site.heard_since(*host, case.opened)));
            }
        }
        for host in missing {
            if !self.cases.contains_key(&host) && self.roster.is_present(host) {
                self.open(now, host);
            }
        }
        for host in accusers {
            if !self.site.reached_lately(now, host) {
                self.try_to_reach(host);
            }
        }
    }

    /// Where neighbours are silent together, their neighbours are looked at, more of them each time.
    fn widen(&mut self, now: Duration) {
        let pending = self.cases.values().filter(|case| case.own.is_none()).count();
        let failed = |host: &HostNumber| self.cases.get(host).is_some_and(Case::failed);
        let edge: Vec<HostNumber> = self
            .cases
            .iter()
            .filter(|(_, case)| case.failed() && !case.widened && case.asked.iter().any(failed))
            .map(|(host, _)| *host)
            .collect();
        if edge.is_empty() {
            return;
        }
        let width = self.site.width.max(FIRST_WIDTH);
        let mut room = width.min(MOST_AT_ONCE.saturating_sub(pending));
        if room == 0 {
            return;
        }
        self.site.width = (width * 4).min(MOST_AT_ONCE);
        for host in &edge {
            if let Some(case) = self.cases.get_mut(host) {
                case.widened = true;
            }
        }
        let mut seen: BTreeSet<HostNumber> = edge.iter().copied().collect();
        let mut next: VecDeque<HostNumber> = edge.into();
        while let Some(host) = next.pop_front() {
            for partner in self.roster.rings.partners(host) {
                if room == 0 {
                    return;
                }
                if partner == CMA || seen.len() > SEARCHED || !seen.insert(partner) {
                    continue;
                }
                if self.cases.contains_key(&partner) {
                    next.push_back(partner);
                } else if !self.site.heard(now).contains(&partner) {
                    self.open(now, partner);
                    room -= 1;
                    next.push_back(partner);
                }
            }
        }
    }
}

/// The host itself is there.
fn host_answers(case: &Case) -> bool {
    case.own == Some(Reached::HostOnly)
        || case.said.values().any(|said| evidence::host_answers(&said.observation))
}
