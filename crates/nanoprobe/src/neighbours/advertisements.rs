//! The devices at the other end of one interface's cable, each as long as it said that it holds. Pure.

use discovery::link::Advertisement;
use std::time::Duration;

/// So many are kept of one interface: behind a hub there are several, hundreds are forged.
pub const MAX: usize = 16;

/// Who was heard twice, at least this long apart, does not leave for somebody new.
const ESTABLISHED: Duration = Duration::from_secs(10);

/// How long a document says that some were left out.
pub const OVERFLOW_TOLD: Duration = Duration::from_secs(600);

/// What was heard on one interface.
#[derive(Debug, Default)]
pub struct Advertisements {
    heard: Vec<Heard>,
    overflow_until: Option<Duration>,
}

#[derive(Debug)]
struct Heard {
    advertisement: Advertisement,
    since: Duration,
    last: Duration,
    expires: Duration,
}

impl Heard {
    fn is(&self, other: &Advertisement) -> bool {
        let own = &self.advertisement;
        (own.protocol, &own.chassis, &own.port) == (other.protocol, &other.chassis, &other.port)
    }

    fn is_established(&self) -> bool {
        self.last >= self.since + ESTABLISHED
    }
}

impl Advertisements {
    /// Takes what a frame said. Returns whether the document is another one now.
    pub fn hear(&mut self, now: Duration, advertisement: Advertisement) -> bool {
        let expires = now + Duration::from_secs(advertisement.ttl_seconds.into());
        let known = self.heard.iter().position(|heard| heard.is(&advertisement));
        if advertisement.ttl_seconds == 0 {
            return known.map(|known| self.heard.swap_remove(known)).is_some();
        }
        if let Some(known) = known.and_then(|known| self.heard.get_mut(known)) {
            let is_same = says_the_same(&known.advertisement, &advertisement);
            *known = Heard { advertisement, since: known.since, last: now, expires };
            return !is_same;
        }
        let is_overflow = self.heard.len() >= MAX;
        let was_overflow = self.overflow_until.is_some();
        if is_overflow {
            self.overflow_until = Some(now + OVERFLOW_TOLD);
            let leaves = self.heard.iter().enumerate().filter(|(_, heard)| !heard.is_established());
            let Some(leaves) = leaves.min_by_key(|(_, heard)| heard.last).map(|(index, _)| index) else {
                return !was_overflow;
            };
            self.heard.swap_remove(leaves);
        }
        self.heard.push(Heard { advertisement, since: now, last: now, expires });
        true
    }

    /// Lets go what has had its time. Returns whether the document is another one now.
    pub fn expire(&mut self, now: Duration) -> bool {
        let before = self.heard.len();
        self.heard.retain(|heard| heard.expires > now);
        let is_over = self.overflow_until.is_some_and(|until| until <= now);
        if is_over {
            self.overflow_until = None;
        }
        self.heard.len() < before || is_over
    }

    /// When [`Advertisements::expire`] is due.
    pub fn next_expiry(&self) -> Option<Duration> {
        self.heard.iter().map(|heard| heard.expires).chain(self.overflow_until).min()
    }

    pub fn len(&self) -> usize {
        self.heard.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heard.is_empty()
    }

    /// In an order that does not depend on who spoke first.
    pub fn list(&self) -> Vec<Advertisement> {
        let mut list: Vec<Advertisement> =
            self.heard.iter().map(|heard| heard.advertisement.clone()).collect();
        list.sort_by(|a, b| (a.protocol, &a.chassis, &a.port).cmp(&(b.protocol, &b.chassis, &b.port)));
        list
    }

    /// A sentence for the document while some are left out.
    pub fn problem(&self) -> Option<String> {
        self.overflow_until.is_some().then(|| {
            format!("more than {MAX} devices were heard, the others are left out: look for a hub, or for forged frames")
        })
    }
}

/// How long it holds is no part of what is told.
fn says_the_same(a: &Advertisement, b: &Advertisement) -> bool {
    (&a.data, &a.errors, a.source) == (&b.data, &b.errors, b.source)
}
