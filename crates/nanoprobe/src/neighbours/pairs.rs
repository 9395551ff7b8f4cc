//! Who has which address in one subnet: pairs of IP and link-layer address, each until nothing was heard of it for long. Pure.

use super::advertisements::OVERFLOW_TOLD;
use discovery::link::{MacAddress, Sighting};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// So many are kept of one interface: more than a subnet that works has.
pub const MAX: usize = 4096;

/// Who was heard twice, at least this long apart, leaves only when everybody else was heard twice too.
const ESTABLISHED: Duration = Duration::from_secs(10);

/// What has expired is looked for this many times in the time that pairs are kept: the kernel's table is read each time.
const CHECKS: u32 = 16;

/// What was heard on one interface.
#[derive(Debug)]
pub struct Pairs {
    known: BTreeMap<IpAddr, Pair>,
    /// The same, in the order in which they leave for others.
    order: BTreeSet<Rank>,
    /// How long a pair stays without being heard.
    forget: Duration,
    check_at: Option<Duration>,
    overflow_until: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Pair {
    mac: MacAddress,
    since: Duration,
    expires: Duration,
    is_established: bool,
}

/// Whether it is established, when it expires, whose it is.
type Rank = (bool, Duration, IpAddr);

impl Pair {
    fn rank(&self, ip: IpAddr) -> Rank {
        (self.is_established, self.expires, ip)
    }
}

impl Pairs {
    pub fn new(forget: Duration) -> Self {
        Self { known: BTreeMap::new(), order: BTreeSet::new(), forget, check_at: None, overflow_until: None }
    }

    /// Takes what was heard `age` ago. Returns whether the document is another one now.
    pub fn hear(&mut self, now: Duration, sighting: Sighting, age: Duration) -> bool {
        let expires = (now + self.forget).saturating_sub(age);
        if expires <= now {
            return false;
        }
        let Sighting { ip, mac } = sighting;
        let new = Pair { mac, since: now, expires, is_established: false };
        if let Some(known) = self.known.get(&ip).copied() {
            if known.mac != mac {
                // An entry of the kernel's table may be older than what was heard since.
                let is_newer = expires >= known.expires;
                if is_newer {
                    self.insert(ip, new);
                }
                return is_newer;
            }
            let expires = known.expires.max(expires);
            let is_established = known.is_established || now >= known.since + ESTABLISHED;
            self.insert(ip, Pair { expires, is_established, ..known });
            return false;
        }
        if self.known.len() >= MAX {
            self.overflow_until = Some(now + OVERFLOW_TOLD);
            if let Some((.., leaves)) = self.order.pop_first() {
                self.known.remove(&leaves);
            }
        }
        self.insert(ip, new);
        true
    }

    /// Takes up what an earlier nanoprobe had heard; nobody knows when.
    pub fn restore(&mut self, now: Duration, sighting: Sighting) {
        if self.known.len() < MAX {
            let pair =
                Pair { mac: sighting.mac, since: now, expires: now + self.forget, is_established: true };
            self.insert(sighting.ip, pair);
        }
    }

    /// Lets go what was not heard for long. Returns whether the document is another one now.
    pub fn expire(&mut self, now: Duration) -> bool {
        let mut is_changed = false;
        if self.overflow_until.is_some_and(|until| until <= now) {
            self.overflow_until = None;
            is_changed = true;
        }
        if !self.is_check_due(now) {
            return is_changed;
        }
        let before = self.known.len();
        self.retain(|pair| pair.expires > now);
        let first = self.known.values().map(|pair| pair.expires).min();
        self.check_at = first.map(|first| first.max(now + self.forget / CHECKS));
        is_changed || self.known.len() < before
    }

    /// Whether pairs are about to expire, so that it is time to see what the kernel knows of them.
    pub fn is_check_due(&self, now: Duration) -> bool {
        self.check_at.is_some_and(|at| at <= now)
    }

    /// When [`Pairs::expire`] is due.
    pub fn next_expiry(&self) -> Option<Duration> {
        self.check_at.into_iter().chain(self.overflow_until).min()
    }

    /// Pairs that were heard already stay as much longer or shorter.
    pub fn set_forget(&mut self, forget: Duration) {
        let old = std::mem::replace(&mut self.forget, forget);
        for pair in self.known.values_mut() {
            pair.expires = (pair.expires + forget).saturating_sub(old);
        }
        self.retain(|_| true);
        self.check_at = self.known.values().map(|pair| pair.expires).min();
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn map(&self) -> BTreeMap<IpAddr, MacAddress> {
        self.known.iter().map(|(ip, pair)| (*ip, pair.mac)).collect()
    }

    /// A sentence for the document while some are left out.
    pub fn problem(&self) -> Option<String> {
        self.overflow_until.is_some().then(|| {
            format!(
                "more than {MAX} addresses were heard, the others are left out: look for forged ARP packets"
            )
        })
    }

    fn insert(&mut self, ip: IpAddr, pair: Pair) {
        self.check_at = Some(self.check_at.map_or(pair.expires, |at| at.min(pair.expires)));
        self.order.insert(pair.rank(ip));
        if let Some(old) = self.known.insert(ip, pair).filter(|old| old.rank(ip) != pair.rank(ip)) {
            self.order.remove(&old.rank(ip));
        }
    }

    fn retain(&mut self, stays: impl Fn(&Pair) -> bool) {
        self.known.retain(|_, pair| stays(pair));
        self.order = self.known.iter().map(|(ip, pair)| pair.rank(*ip)).collect();
    }
}
