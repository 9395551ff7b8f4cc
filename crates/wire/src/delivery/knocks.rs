//! While a CMA that could not be reached is not dialled, it is asked by a small packet whether it is there.
//!
//! A dial is four packets of 1,200 bytes and begins a handshake that the CMA has to work for, so the wait between dials
//! doubles. A hello is one packet of 128 bytes, its answer has 28: it can be said every few seconds, and the CMA answers only
//! so many in a second, so those who come after it was away come no faster than that.

use super::SenderConfig;
use super::random::Random;
use std::time::Duration;

/// Doublings of the time between hellos that led to nothing.
const MOST_DOUBLINGS: u32 = 5;

/// When to knock, and on which door.
#[derive(Debug, Default)]
pub(super) struct Knocks {
    /// When the next one is due; `None`: nobody is knocked for.
    due: Option<Duration>,
    /// The route asked last, as long as its answer counts.
    asked: Option<usize>,
    /// Said since the start: routes take turns, and so do keys.
    said: usize,
    /// The attempt under way was made because of an answer.
    is_invited: bool,
    /// Answers in a row after which no connection came about.
    vain: u32,
}

impl Knocks {
    /// A wait after a failure begins; knocks are of use in it if nobody `was_heard`.
    pub fn begin(&mut self, now: Duration, config: &SenderConfig, random: &mut Random, was_heard: bool) {
        if std::mem::take(&mut self.is_invited) {
            self.vain = self.vain.saturating_add(1);
        }
        self.asked = None;
        self.due = (!was_heard && !config.routes.is_empty()).then(|| now + self.pause(config, random));
    }

    /// No wait is under way any more.
    pub fn end(&mut self) {
        self.due = None;
        self.asked = None;
    }

    /// The CMA took us.
    pub fn welcomed(&mut self) {
        *self = Self { said: self.said, ..Self::default() };
    }

    pub fn due(&self) -> Option<Duration> {
        self.due
    }

    /// The route to say hello to, and the number of this attempt, if it is time.
    pub fn take(
        &mut self,
        now: Duration,
        config: &SenderConfig,
        random: &mut Random,
    ) -> Option<(usize, usize)> {
        self.due.filter(|due| now >= *due)?;
        let routes = config.routes.len().max(1);
        // Each route sees all numbers in turn, so that keys take turns on each.
        let (route, attempt) = (self.said % routes, self.said / routes);
        self.said = self.said.wrapping_add(1);
        self.asked = Some(route);
        self.due = Some(now + self.pause(config, random));
        Some((route, attempt))
    }

    /// Somebody answered: the route to dial, if the answer is to a knock.
    pub fn answered(&mut self) -> Option<usize> {
        let route = self.asked.take()?;
        self.due = None;
        self.is_invited = true;
        Some(route)
    }

    fn pause(&self, config: &SenderConfig, random: &mut Random) -> Duration {
        let routes = u32::try_from(config.routes.len()).unwrap_or(u32::MAX).max(1);
        let doubled = config.knock_interval.saturating_mul(1 << self.vain.min(MOST_DOUBLINGS));
        random.upper_half((doubled / routes).max(config.hello_interval))
    }
}
