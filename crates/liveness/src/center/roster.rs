//! Members, their rings, and who still has to be told of a change.

use super::keys::{End, Keys, cma_session};
use super::{Member, Output};
use crate::rings::{CMA, Place, Rings};
use model::Designation;
use model::config::HeartbeatConfig;
use model::liveness::{HostNumber, Partner, Session, Watch};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// Changes are told when none came for this long,
const QUIET: Duration = Duration::from_millis(50);
/// or after this, and a little more for every host concerned: when a whole site powers up, hosts of the same ring shall
/// be told together.
const LONGEST: Duration = Duration::from_secs(1);
const LONGER_FOR_EACH: Duration = Duration::from_millis(10);
const LONGEST_OF_ALL: Duration = Duration::from_secs(10);
/// Told at once; the rest a moment later.
const AT_ONCE: usize = 1000;
const BETWEEN: Duration = Duration::from_millis(100);
/// A host is told the same again, or called, no more often.
const AGAIN: Duration = Duration::from_secs(5);
/// A generation beyond this was never given by any CMA.
const MOST_GENERATIONS: u64 = 1 << 53;

/// All members by their numbers.
#[derive(Debug)]
pub(super) struct Roster {
    entries: HashMap<HostNumber, Entry>,
    numbers: HashMap<Designation, HostNumber>,
    pub(super) rings: Rings,
    keys: Keys,
    timing: HeartbeatConfig,
    last_number: HostNumber,
    last_position: u64,
    /// Hosts whose partners changed since they were told.
    waiting: BTreeSet<HostNumber>,
    /// When the first of them came, and when the last change did.
    waiting_since: Duration,
    last_change: Duration,
    /// Not before, after many were told.
    not_before: Duration,
    /// What the CMA's own observer was last told.
    own_generation: u64,
    own_partner: Option<HostNumber>,
}

#[derive(Debug)]
struct Entry {
    member: Member,
    /// Last told, or called.
    told: Option<Duration>,
}

/// What a registration came to.
pub(super) struct Registered {
    pub(super) number: HostNumber,
    /// What was in judgement is another life of it.
    pub(super) restarted: bool,
}

impl Roster {
    pub(super) fn new(config: &HeartbeatConfig, secret: &[u8; 32]) -> Self {
        Self {
            entries: HashMap::new(),
            numbers: HashMap::new(),
            rings: Rings::default(),
            keys: Keys::new(secret),
            timing: config.clone(),
            last_number: CMA,
            last_position: 0,
            waiting: BTreeSet::new(),
            waiting_since: Duration::ZERO,
            last_change: Duration::ZERO,
            not_before: Duration::ZERO,
            own_generation: 0,
            own_partner: None,
        }
    }

    pub(super) fn restore(&mut self, now: Duration, members: Vec<Member>) {
        for mut member in members {
            let taken =
                self.entries.contains_key(&member.number) || self.number(&member.designation).is_some();
            if member.number == CMA || taken {
                continue;
            }
            member.present &= member.session.is_some();
            self.last_number = self.last_number.max(member.number);
            self.last_position = self.last_position.max(member.position);
            if member.present {
                self.rings.join(member.number, member.position, &member.place);
            }
            self.numbers.insert(member.designation.clone(), member.number);
            self.entries.insert(member.number, Entry { member, told: None });
        }
        // Its key holds for one life of the CMA.
        if self.rings.len() == 1 {
            let only: Vec<_> = self.rings.hosts_from(0).collect();
            self.changed(now, only);
        }
    }

    pub(super) fn number(&self, host: &Designation) -> Option<HostNumber> {
        self.numbers.get(host).copied()
    }

    pub(super) fn member(&self, number: HostNumber) -> Option<&Member> {
        self.entries.get(&number).map(|entry| &entry.member)
    }

    pub(super) fn is_present(&self, number: HostNumber) -> bool {
        self.member(number).is_some_and(|member| member.present)
    }

    /// For people.
    pub(super) fn name(&self, number: HostNumber) -> &str {
        self.member(number).map_or("the CMA", |member| member.designation.as_str())
    }

    pub(super) fn set_timing(&mut self, now: Duration, config: &HeartbeatConfig) {
        let told = |config: &HeartbeatConfig| {
            (
                config.interval_milliseconds,
                config.suspect_milliseconds,
                config.probe_milliseconds,
                config.probes,
            )
        };
        let same = told(&self.timing) == told(config);
        self.timing = config.clone();
        if !same {
            let all: Vec<_> = self.rings.hosts_from(0).collect();
            self.changed(now, all);
        }
    }

    /// Takes a host in, or notes what is new about it. `None`: it knows no heartbeats.
    pub(super) fn registered(
        &mut self,
        now: Duration,
        host: &Designation,
        session: Option<Session>,
        watch: Option<u64>,
        address: &str,
        outputs: &mut VecDeque<Output>,
    ) -> Option<Registered> {
        let Some(session) = session else {
            if let Some(number) = self.number(host) {
                self.leave(now, number, outputs);
            }
            return None;
        };
        let number = self.number(host).or_else(|| self.enrol(host))?;
        let entry = self.entries.get_mut(&number)?;
        let member = &mut entry.member;
        let restarted = member.session != Some(session);
        let moved = member.address != address;
        // It may have been told more than is remembered here: by a CMA whose database is gone.
        let ahead = watch.filter(|watch| *watch > member.generation && *watch < MOST_GENERATIONS);
        let behind = watch != Some(member.generation);
        member.session = Some(session);
        if moved {
            member.address = address.to_owned();
        }
        if let Some(ahead) = ahead {
            member.generation = ahead;
        }
        if !member.present {
            member.present = true;
            self.move_to_end(now, number);
        } else if restarted || ahead.is_some() {
            self.changed(now, [number]);
        } else if behind && !self.waiting.contains(&number) {
            self.tell(now, number, outputs);
        }
        if restarted || moved {
            let partners = self.rings.partners(number);
            self.changed(now, partners);
            if self.own_partner == Some(number) {
                // The CMA's own observer sends there.
                self.changed(now, [number]);
            } else if !self.waiting.contains(&number)
                && let Some(member) = self.member(number)
            {
                outputs.push_back(Output::Keep(member.clone()));
            }
        }
        Some(Registered { number, restarted })
    }

    /// Another place: it goes to the end of the ring there.
    pub(super) fn place(
        &mut self,
        now: Duration,
        number: HostNumber,
        place: Place,
        outputs: &mut VecDeque<Output>,
    ) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let member = &mut entry.member;
        if member.place == place {
            return;
        }
        member.place = place;
        if member.present {
            self.move_to_end(now, number);
        }
        // Otherwise it is kept when it is told.
        if !self.waiting.contains(&number)
            && let Some(member) = self.member(number)
        {
            outputs.push_back(Output::Keep(member.clone()));
        }
    }

    /// Out of its ring, at once in what is kept.
    pub(super) fn leave(&mut self, now: Duration, number: HostNumber, outputs: &mut VecDeque<Output>) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        if !entry.member.present {
            return;
        }
        entry.member.present = false;
        outputs.push_back(Output::Keep(entry.member.clone()));
        self.waiting.remove(&number);
        let changed = self.rings.leave(number);
        self.changed(now, changed);
        if self.own_partner == Some(number) {
            self.watch_nobody(outputs);
        }
    }

    /// Says to a host once more what it should know, unless that was just done.
    pub(super) fn remind(&mut self, now: Duration, number: HostNumber, outputs: &mut VecDeque<Output>) {
        if self.is_present(number) && !self.waiting.contains(&number) && self.may_again(now, number) {
            self.tell(now, number, outputs);
        }
    }

    /// A new watch for a host whose own does not fit, unless it just had one.
    pub(super) fn renew(&mut self, now: Duration, number: HostNumber) {
        if self.is_present(number) && !self.waiting.contains(&number) && self.may_again(now, number) {
            self.changed(now, [number]);
        }
    }

    /// Other partners and other keys for a host that is alive although its partners do not hear it, unless it just was
    /// told something.
    pub(super) fn move_on(&mut self, now: Duration, number: HostNumber) {
        if self.is_present(number) && !self.waiting.contains(&number) && self.may_again(now, number) {
            self.move_to_end(now, number);
        }
    }

    /// Whether a host that is in no ring may be called now; noted.
    pub(super) fn may_call(&mut self, now: Duration, number: HostNumber) -> bool {
        let may = self.may_again(now, number);
        if let Some(entry) = self.entries.get_mut(&number).filter(|_| may) {
            entry.told = Some(now);
        }
        may
    }

    /// When the changes are due to be told.
    pub(super) fn due(&self) -> Option<Duration> {
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        if waiting == 0 {
            return None;
        }
        let longest = LONGEST.saturating_add(LONGER_FOR_EACH.saturating_mul(waiting)).min(LONGEST_OF_ALL);
        let latest = self.waiting_since.saturating_add(longest);
        Some(self.last_change.saturating_add(QUIET).min(latest).max(self.not_before))
    }

    /// Tells who has to be told, when it is due.
    pub(super) fn tell_changes(&mut self, now: Duration, outputs: &mut VecDeque<Output>) {
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        let told: Vec<HostNumber> = self.waiting.iter().take(AT_ONCE).copied().collect();
        for number in &told {
            self.waiting.remove(number);
            if let Some(entry) = self.entries.get_mut(number) {
                entry.member.generation += 1;
                outputs.push_back(Output::Keep(entry.member.clone()));
            }
        }
        // What is told must be kept first: a generation is never told twice with another content.
        for number in told {
            self.tell(now, number, outputs);
        }
        self.not_before = now.saturating_add(BETWEEN);
        if self.own_partner.is_some_and(|own| self.rings.partners(own) != [CMA]) {
            self.watch_nobody(outputs);
        }
    }

    /// Names as they were given.
    pub(super) fn designation(&self, number: HostNumber) -> Option<Designation> {
        self.member(number).map(|member| member.designation.clone())
    }

    fn enrol(&mut self, host: &Designation) -> Option<HostNumber> {
        let number = self.last_number.checked_add(1)?;
        self.last_number = number;
        let member = Member {
            designation: host.clone(),
            number,
            session: None,
            place: Place::Unknown,
            position: 0,
            generation: 0,
            address: String::new(),
            present: false,
        };
        self.numbers.insert(host.clone(), number);
        self.entries.insert(number, Entry { member, told: None });
        Some(number)
    }

    /// Puts a member at the end of the ring of its place. Its position is part of its keys, so all of its partners are
    /// told, those that it keeps too.
    fn move_to_end(&mut self, now: Duration, number: HostNumber) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        self.last_position += 1;
        entry.member.position = self.last_position;
        let changed = self.rings.join(number, entry.member.position, &entry.member.place);
        self.changed(now, changed);
        self.changed(now, self.rings.partners(number));
        self.changed(now, [number]);
    }

    fn changed(&mut self, now: Duration, hosts: impl IntoIterator<Item = HostNumber>) {
        if self.waiting.is_empty() {
            self.waiting_since = now;
        }
        let before = self.waiting.len();
        let present =
            |number: &HostNumber| self.entries.get(number).is_some_and(|entry| entry.member.present);
        self.waiting.extend(hosts.into_iter().filter(present));
        if self.waiting.len() > before {
            self.last_change = now;
        }
    }

    fn may_again(&self, now: Duration, number: HostNumber) -> bool {
        let told = self.entries.get(&number).and_then(|entry| entry.told);
        told.is_none_or(|told| now.saturating_sub(told) >= AGAIN)
    }

    fn tell(&mut self, now: Duration, number: HostNumber, outputs: &mut VecDeque<Output>) {
        let Some(watch) = self.watch_of(number) else { return };
        let Some(entry) = self.entries.get_mut(&number) else { return };
        entry.told = Some(now);
        let own =
            watch.partners.iter().find(|partner| partner.number == CMA).map(|partner| partner.key.clone());
        let (designation, address) = (entry.member.designation.clone(), entry.member.address.clone());
        if let Some(key) = own {
            let partner = Partner { number, designation: designation.as_str().to_owned(), address, key };
            self.own_generation += 1;
            self.own_partner = Some(number);
            outputs.push_back(Output::OwnWatch(self.watch(self.own_generation, CMA, vec![partner])));
        }
        outputs.push_back(Output::Tell { host: designation, watch });
    }

    fn watch_nobody(&mut self, outputs: &mut VecDeque<Output>) {
        self.own_generation += 1;
        self.own_partner = None;
        outputs.push_back(Output::OwnWatch(self.watch(self.own_generation, CMA, Vec::new())));
    }

    fn watch_of(&self, number: HostNumber) -> Option<Watch> {
        let member = self.member(number)?;
        let own = End { number, session: member.session?, position: member.position };
        let partner = |other: HostNumber| {
            let (session, position, designation, address) = if other == CMA {
                // Wherever it reaches the CMA.
                (cma_session(member.generation), 0, "the CMA", "")
            } else {
                let other = self.member(other)?;
                (other.session?, other.position, other.designation.as_str(), other.address.as_str())
            };
            let key = self.keys.of_pair(own, End { number: other, session, position });
            Some(Partner { number: other, designation: designation.into(), address: address.into(), key })
        };
        let partners = self.rings.partners(number).into_iter().filter_map(partner).collect();
        Some(self.watch(member.generation, number, partners))
    }

    fn watch(&self, generation: u64, own_number: HostNumber, partners: Vec<Partner>) -> Watch {
        Watch {
            generation,
            own_number,
            interval_milliseconds: self.timing.interval_milliseconds,
            suspect_milliseconds: self.timing.suspect_milliseconds,
            probe_milliseconds: self.timing.probe_milliseconds,
            probes: self.timing.probes,
            partners,
        }
    }
}
