//! How often one document is told: soon after a change, and ever more rarely while it goes on changing. Pure.

use std::time::Duration;

/// Changes often come together: a frame for each VLAN, one of each protocol, a subnet that gets its power back.
pub const SETTLE: Duration = Duration::from_secs(1);

/// Between two documents while an interface changes all the time.
pub const MAX_PAUSE: Duration = Duration::from_secs(60);

/// When the next document of one instance is due.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    due: Option<Duration>,
    last: Option<Duration>,
    pause: Duration,
}

impl Pace {
    /// Something is different.
    pub fn changed(&mut self, now: Duration) {
        let earliest = self.last.map_or(Duration::ZERO, |last| last + self.pause);
        self.due.get_or_insert((now + SETTLE).max(earliest));
    }

    /// Something is different that must not wait.
    pub fn changed_at_once(&mut self, now: Duration) {
        self.due = Some(now);
    }

    /// Whatever is different waits until then.
    pub fn wait_until(&mut self, at: Duration) {
        self.due = Some(at);
    }

    pub fn due(&self) -> Option<Duration> {
        self.due
    }

    pub fn is_due(&self, now: Duration) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// What was due turned out to be no change.
    pub fn skip(&mut self) {
        self.due = None;
    }

    /// What was due is told now.
    pub fn told(&mut self, now: Duration) {
        self.due = None;
        let goes_on = self.last.is_some_and(|last| now.saturating_sub(last) < 2 * self.pause.max(SETTLE));
        self.pause = if goes_on { (2 * self.pause).min(MAX_PAUSE) } else { SETTLE };
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_lasting_storm_is_told_once_a_minute_and_a_quiet_time_forgives() {
        let mut pace = Pace::default();
        let mut told = Vec::new();
        for tenths in 0..6000u64 {
            let now = Duration::from_millis(tenths * 100);
            pace.changed(now);
            if pace.is_due(now) {
                pace.told(now);
                told.push(now.as_secs());
            }
        }
        assert_eq!(told[..8], [1, 2, 4, 8, 16, 32, 64, 124], "{told:?}");
        assert_eq!(told.len(), 15, "{told:?}");
        let later = Duration::from_secs(1000);
        pace.told(Duration::from_secs(605));
        pace.changed(later);
        assert_eq!(pace.due(), Some(later + SETTLE));
    }

    #[test]
    fn what_must_not_wait_does_not() {
        let mut pace = Pace::default();
        let now = Duration::from_secs(10);
        pace.changed(now);
        pace.told(now);
        pace.changed(now);
        assert!(!pace.is_due(now));
        pace.changed_at_once(now);
        assert!(pace.is_due(now));
        pace.skip();
        assert_eq!(pace.due(), None);
    }

    proptest! {
        /// However changes come, none is left untold for more than a minute, and no pair of documents is closer than a second.
        #[test]
        fn every_change_is_told_in_time(gaps in proptest::collection::vec(0u64..100_000, 1..200)) {
            let mut pace = Pace::default();
            let (mut now, mut waiting, mut last) = (Duration::ZERO, None, None);
            for gap in gaps {
                let next = now + Duration::from_millis(gap);
                while let Some(due) = pace.due().filter(|due| *due <= next) {
                    pace.told(due);
                    prop_assert!(last.is_none_or(|last| due >= last + SETTLE));
                    prop_assert!(waiting.is_some_and(|since| due <= since + MAX_PAUSE));
                    (last, waiting) = (Some(due), None);
                }
                now = next;
                pace.changed(now);
                waiting.get_or_insert(now);
            }
        }
    }
}
