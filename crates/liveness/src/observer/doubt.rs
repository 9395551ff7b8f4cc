//! How far an observer trusts itself. One that gets the processor late, or hears of nobody, waits longer before it says
//! that somebody else is gone.

use std::time::Duration;

const MOST: u32 = 8;
/// Intervals without anything odd after which it trusts itself a little more.
const CALM_INTERVALS: u32 = 5;

#[derive(Debug)]
pub(super) struct Doubt {
    level: u32,
    since: Duration,
}

impl Doubt {
    pub(super) fn none(now: Duration) -> Self {
        Self { level: 0, since: now }
    }

    /// 0 fine, up to 8.
    pub(super) fn level(&self) -> u32 {
        self.level
    }

    pub(super) fn rise(&mut self, now: Duration, by: u32) {
        self.level = (self.level + by).min(MOST);
        self.since = now;
    }

    /// At least this much.
    pub(super) fn rise_to(&mut self, now: Duration, level: u32) {
        self.rise(now, level.saturating_sub(self.level));
    }

    /// Nothing odd at this time.
    pub(super) fn calm(&mut self, now: Duration, interval: Duration) {
        if now.saturating_sub(self.since) >= interval.saturating_mul(CALM_INTERVALS) {
            self.level = self.level.saturating_sub(1);
            self.since = now;
        }
    }

    /// A limit as it is under this doubt: three times as long at most.
    pub(super) fn stretch(&self, limit: Duration) -> Duration {
        limit.saturating_mul(4 + self.level) / 4
    }
}
