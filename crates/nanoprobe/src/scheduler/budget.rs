//! How much processor time discoveries may use: a token bucket filled by time and emptied by measured cost.

use std::time::Duration;

/// Share of the common budget that one instance may use in the long run, and of the burst.
pub const INSTANCE_SHARE: f64 = 0.5;

/// Seconds of processor time that can be spent. All times are since the start of the process.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Seconds of processor time per second; `None` = no limit.
    rate: Option<f64>,
    /// Most that can be saved up, in seconds of processor time.
    capacity: f64,
    level: f64,
    updated: Duration,
}

impl Budget {
    /// A full bucket. `percent` is of one core; zero, negative and odd numbers mean that there is no limit.
    pub fn new(percent: f64, capacity: Duration, now: Duration) -> Self {
        let capacity = capacity.as_secs_f64();
        Self { rate: rate(percent), capacity, level: capacity, updated: now }
    }

    /// The bucket of a single instance: part of the whole, so that a noisy one cannot starve the others.
    pub fn for_instance(percent: f64, capacity: Duration, now: Duration) -> Self {
        Self::new(percent * INSTANCE_SHARE, capacity.mul_f64(INSTANCE_SHARE), now)
    }

    /// Changes the rate from now on; what was saved up stays.
    pub fn set_percent(&mut self, percent: f64, now: Duration) {
        self.fill(now);
        self.rate = rate(percent);
    }

    /// Debits what a run has cost. The debt is bounded by what an hour brings in, because that is the time the
    /// budget is averaged over: whatever happens, there is something to spend again after an hour.
    pub fn spend(&mut self, cost: Duration, now: Duration) {
        self.fill(now);
        if let Some(rate) = self.rate {
            self.level = (self.level - cost.as_secs_f64()).max(-rate * 3600.0);
        }
    }

    /// The earliest time at which more than `reserve` seconds are there; `now` if they are there already.
    pub fn available_at(&self, reserve: f64, now: Duration) -> Duration {
        let Some(rate) = self.rate else { return now };
        let reserve = reserve.min(self.capacity * 0.9);
        let level = self.level_at(rate, now);
        if level > reserve {
            return now;
        }
        // A millisecond on top, so that rounding does not wake the caller a moment too early.
        now + Duration::from_secs_f64(((reserve - level) / rate).min(86_400.0)) + Duration::from_millis(1)
    }

    /// What can be spent now, in seconds; negative = debt.
    pub fn level(&self, now: Duration) -> f64 {
        self.rate.map_or(self.capacity, |rate| self.level_at(rate, now))
    }

    fn level_at(&self, rate: f64, now: Duration) -> f64 {
        (self.level + rate * now.saturating_sub(self.updated).as_secs_f64()).min(self.capacity)
    }

    fn fill(&mut self, now: Duration) {
        self.level = self.level(now);
        self.updated = self.updated.max(now);
    }
}

fn rate(percent: f64) -> Option<f64> {
    // Below a hundred-thousandth of a core nothing would ever run again.
    (percent.is_finite() && percent > 0.0).then_some((percent / 100.0).max(1e-5))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_burst_is_there_at_once_and_comes_back_slowly() {
        let mut budget = Budget::new(0.5, seconds(10), seconds(0));
        budget.spend(seconds(10), seconds(1));
        assert!(budget.available_at(0.0, seconds(1)) > seconds(1));
        // 0.5 % of 200 s is one second.
        assert!((budget.level(seconds(201)) - 1.0).abs() < 1e-6);
        assert!((budget.level(seconds(100_000)) - 10.0).abs() < 1e-6);
    }

    #[test]
    fn debt_is_worked_off_within_an_hour() {
        let mut budget = Budget::new(0.5, seconds(10), seconds(0));
        budget.spend(seconds(100_000), seconds(0));
        let back = budget.available_at(0.0, seconds(0));
        assert!(back > seconds(3500) && back <= seconds(3601), "{back:?}");
        assert!(budget.level(back) > 0.0);
    }

    #[test]
    fn odd_percentages_mean_no_limit() {
        for percent in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut budget = Budget::new(percent, seconds(10), seconds(0));
            budget.spend(seconds(1000), seconds(0));
            assert_eq!(budget.available_at(2.0, seconds(0)), seconds(0), "{percent}");
        }
    }
}
