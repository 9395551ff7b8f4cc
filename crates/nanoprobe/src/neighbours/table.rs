//! What is heard of neighbours, on all interfaces, and which documents follow from it. Pure: `now` is an argument, frames come
//! decoded, documents go out by [`Table::tell`].
//!
//! Every interface with a cable has a document of the devices at its other end, while there are any. Every interface that the
//! CMA chose (see [`model::message::Listen`]) has one of the addresses heard in its subnet. Hearing the same again is no
//! change. A change is told after a second, further ones ever more rarely ([`super::pace`]); a lost carrier is told at once.

use super::advertisements::Advertisements;
use super::links::LinkState;
use super::pace::Pace;
use super::pairs::Pairs;
use discovery::link::{Advertisement, MacAddress, Sighting, document, neighbours_document};
use model::{DocumentHash, Envelope};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// How long the documents of an earlier nanoprobe stay as they are: what devices usually hold (LLDP 120 s, CDP 180 s), so
/// everybody who is still there was heard by then.
pub const GRACE: Duration = Duration::from_secs(180);

/// When to tell again what could not be taken.
const RETRY: Duration = Duration::from_secs(15);

/// Interfaces that a CMA may choose; no host has more subnets.
const MAX_LISTEN: usize = 64;

/// What a document is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Devices at the other end of the cable.
    Switch,
    /// Addresses of a subnet.
    Addresses,
}

impl Kind {
    /// The instance of the document about one interface.
    pub fn instance(self, interface: &str) -> String {
        format!("{}{interface}", self.prefix())
    }

    /// What an instance is about; `None` when it is no document of neighbours.
    pub fn of(instance: &str) -> Option<(Self, &str)> {
        let is = |kind: Self| instance.strip_prefix(kind.prefix()).map(|interface| (kind, interface));
        is(Self::Switch).or_else(|| is(Self::Addresses))
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Switch => "#SWITCH_",
            Self::Addresses => "_ARP_",
        }
    }
}

/// For the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub instance: String,
    /// `None`: there is no such document any more.
    pub document: Option<Envelope>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Table {
    host: String,
    is_enabled: bool,
    forget: Duration,
    links: BTreeMap<String, LinkState>,
    /// As the CMA said, whether there are such interfaces or not.
    listen: BTreeSet<String>,
    switches: BTreeMap<String, Advertisements>,
    pairs: BTreeMap<String, Pairs>,
    reports: BTreeMap<(Kind, String), Report>,
    wants_kernel: bool,
}

/// What is known about one document.
#[derive(Debug, Default)]
struct Report {
    pace: Pace,
    /// What was told last; `None`: nothing, or that there is none.
    told: Option<DocumentHash>,
}

impl Table {
    /// A table that hears nothing until [`Table::configure`].
    pub fn new(host: &str) -> Self {
        Self {
            host: host.into(),
            is_enabled: false,
            forget: Duration::ZERO,
            links: BTreeMap::new(),
            listen: BTreeSet::new(),
            switches: BTreeMap::new(),
            pairs: BTreeMap::new(),
            reports: BTreeMap::new(),
            wants_kernel: false,
        }
    }

    /// Takes up a document of an earlier nanoprobe, of which the CMA has this hash. Addresses are heard on until the CMA says
    /// otherwise; `pairs` are those of the document.
    pub fn restore(
        &mut self,
        now: Duration,
        instance: &str,
        hash: DocumentHash,
        pairs: BTreeMap<IpAddr, MacAddress>,
    ) {
        let Some((kind, interface)) = Kind::of(instance) else { return };
        let mut report = Report { told: Some(hash), ..Report::default() };
        report.pace.wait_until(now + GRACE);
        if kind == Kind::Addresses && self.listen.len() < MAX_LISTEN {
            self.listen.insert(interface.into());
            self.wants_kernel = true;
            let own = self.pairs.entry(interface.into()).or_insert_with(|| Pairs::new(self.forget));
            for (ip, mac) in pairs {
                own.restore(now, Sighting { ip, mac });
            }
            if !own.is_empty() {
                report.pace.changed_at_once(now);
            }
        }
        self.reports.insert((kind, interface.into()), report);
    }

    /// Applies settings. What is not wanted any more is told to be gone at once.
    pub fn configure(&mut self, now: Duration, is_enabled: bool, forget: Duration) {
        self.is_enabled = is_enabled;
        if self.forget != forget {
            self.forget = forget;
            self.pairs.values_mut().for_each(|pairs| pairs.set_forget(forget));
        }
        if !is_enabled {
            self.switches.clear();
            self.pairs.clear();
            self.reports.values_mut().for_each(|report| report.pace.changed_at_once(now));
        }
        self.wants_kernel |= is_enabled && !self.listen.is_empty();
    }

    /// Where to hear addresses from now on, in place of all before. Names without an interface wait for one.
    pub fn listen(&mut self, now: Duration, interfaces: impl IntoIterator<Item = String>) {
        let legal = |name: &String| model::ids::check_instance(name).is_ok();
        let listen: BTreeSet<String> = interfaces.into_iter().filter(legal).take(MAX_LISTEN).collect();
        for interface in self.listen.difference(&listen).cloned().collect::<Vec<_>>() {
            self.pairs.remove(&interface);
            self.changed_at_once(now, Kind::Addresses, &interface);
        }
        self.wants_kernel |= listen.difference(&self.listen).next().is_some();
        self.listen = listen;
    }

    /// Interfaces where addresses are heard, as far as there are such.
    pub fn listening(&self) -> impl Iterator<Item = &LinkState> {
        let links = self.listen.iter().filter_map(|name| self.links.get(name));
        links.filter(|_| self.is_enabled)
    }

    /// Interfaces where devices are heard.
    pub fn ports(&self) -> impl Iterator<Item = &LinkState> {
        self.links.values().filter(|link| link.is_port && self.is_enabled)
    }

    /// All interfaces that are up, as they are now. Where a cable was out, whoever was at its other end is gone.
    pub fn handle_links(&mut self, now: Duration, links: Vec<LinkState>) {
        let links: BTreeMap<String, LinkState> =
            links.into_iter().map(|link| (link.name.clone(), link)).collect();
        let old = std::mem::replace(&mut self.links, links);
        for (name, old) in &old {
            let new = self.links.get(name);
            let is_replaced = new.is_none_or(|new| new.index != old.index);
            if !new.is_some_and(|new| is_unbroken(old, new)) {
                self.switches.remove(name);
                self.changed_at_once(now, Kind::Switch, name);
            }
            if is_replaced {
                self.pairs.remove(name);
                self.changed_at_once(now, Kind::Addresses, name);
            }
        }
        self.wants_kernel |=
            self.listen.iter().any(|name| self.links.contains_key(name) && !old.contains_key(name));
    }

    /// A device has told of itself.
    pub fn handle_advertisement(&mut self, now: Duration, interface: &str, advertisement: Advertisement) {
        if !self.is_enabled || self.links.get(interface).is_none_or(|link| !link.is_port) {
            return;
        }
        let heard = self.switches.entry(interface.into()).or_default();
        if heard.hear(now, advertisement) {
            self.changed(now, Kind::Switch, interface);
        }
    }

    /// An address was heard, or is in the kernel's table and was confirmed `age` ago.
    pub fn handle_sighting(&mut self, now: Duration, interface: &str, sighting: Sighting, age: Duration) {
        if !self.is_enabled || !self.listen.contains(interface) || !self.links.contains_key(interface) {
            return;
        }
        let pairs = self.pairs.entry(interface.into()).or_insert_with(|| Pairs::new(self.forget));
        if pairs.hear(now, sighting, age) {
            self.changed(now, Kind::Addresses, interface);
        }
    }

    /// Whether to look into the kernel's table now: hearing begins, or addresses are about to expire. The caller then hands
    /// its entries to [`Table::handle_sighting`] before it calls [`Table::tell`].
    pub fn take_wants_kernel(&mut self, now: Duration) -> bool {
        let wants = std::mem::take(&mut self.wants_kernel);
        wants || self.pairs.values().any(|pairs| pairs.is_check_due(now))
    }

    /// This document is to be told again: the CMA lacks it.
    pub fn wanted(&mut self, now: Duration, instance: &str) {
        self.tell_again(instance, now);
    }

    /// This document could not be taken.
    pub fn refused(&mut self, now: Duration, instance: &str) {
        self.tell_again(instance, now + RETRY);
    }

    /// Lets go what has had its time, and returns the documents that are due.
    pub fn tell(&mut self, now: Duration) -> Vec<Told> {
        self.expire(now);
        let due: Vec<(Kind, String)> = self
            .reports
            .iter()
            .filter(|(_, report)| report.pace.is_due(now))
            .map(|(key, _)| key.clone())
            .collect();
        let mut told = Vec::new();
        for key in due {
            let document = self.document(key.0, &key.1);
            let hash = document.as_ref().map(Envelope::hash);
            let Some(report) = self.reports.get_mut(&key) else { continue };
            if report.told == hash {
                report.pace.skip();
            } else {
                report.told = hash;
                report.pace.told(now);
                told.push(Told { instance: key.0.instance(&key.1), document });
            }
            // Interfaces of containers come and go, each under another name.
            if hash.is_none() && !self.links.contains_key(&key.1) {
                self.reports.remove(&key);
            }
        }
        told
    }

    /// When [`Table::tell`] is due, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let reports = self.reports.values().filter_map(|report| report.pace.due());
        let switches = self.switches.values().filter_map(Advertisements::next_expiry);
        let pairs = self.pairs.values().filter_map(Pairs::next_expiry);
        reports.chain(switches).chain(pairs).min()
    }

    /// Devices and addresses that are known at present.
    pub fn sizes(&self) -> (usize, usize) {
        let devices = self.switches.values().map(Advertisements::len).sum();
        (devices, self.pairs.values().map(Pairs::len).sum())
    }

    fn expire(&mut self, now: Duration) {
        let switches = self
            .switches
            .iter_mut()
            .filter_map(|(name, heard)| heard.expire(now).then(|| (Kind::Switch, name.clone())));
        let pairs = self
            .pairs
            .iter_mut()
            .filter_map(|(name, pairs)| pairs.expire(now).then(|| (Kind::Addresses, name.clone())));
        for (kind, name) in switches.chain(pairs).collect::<Vec<_>>() {
            self.changed(now, kind, &name);
        }
        self.switches.retain(|_, heard| heard.next_expiry().is_some());
        self.pairs.retain(|_, pairs| pairs.next_expiry().is_some());
    }

    /// The present document; `None` without content.
    fn document(&self, kind: Kind, interface: &str) -> Option<Envelope> {
        let (mut envelope, problem) = match kind {
            Kind::Switch => {
                let heard = self.switches.get(interface).filter(|heard| !heard.is_empty())?;
                (document(&self.host, interface, &heard.list()), heard.problem())
            }
            Kind::Addresses => {
                let pairs = self.pairs.get(interface).filter(|pairs| !pairs.is_empty())?;
                (neighbours_document(&self.host, interface, &pairs.map()), pairs.problem())
            }
        };
        envelope.errors.extend(problem);
        Some(envelope)
    }

    fn changed(&mut self, now: Duration, kind: Kind, interface: &str) {
        self.reports.entry((kind, interface.into())).or_default().pace.changed(now);
    }

    /// What was never told need not be told to be gone.
    fn changed_at_once(&mut self, now: Duration, kind: Kind, interface: &str) {
        if let Some(report) = self.reports.get_mut(&(kind, interface.into())) {
            report.pace.changed_at_once(now);
        }
    }

    fn tell_again(&mut self, instance: &str, at: Duration) {
        let report = Kind::of(instance).and_then(|(kind, name)| self.reports.get_mut(&(kind, name.into())));
        if let Some(report) = report {
            report.told = None;
            report.pace.wait_until(at);
        }
    }
}

/// Whether the cable was in all the time.
fn is_unbroken(old: &LinkState, new: &LinkState) -> bool {
    let was_lost = old.has_carrier && !new.has_carrier || old.carrier_losses < new.carrier_losses;
    old.index == new.index && new.is_port && !was_lost
}

#[cfg(test)]
mod tests;
