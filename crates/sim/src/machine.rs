//! One host: what survives its reboot, and the nanoprobe that runs on it.

use crate::cores::Watcher;
use crate::peers::Peers;
use crate::queue::Moment;
use crate::world::Event;
use model::liveness::{Observation, Session};
use std::time::Duration;
use wire::delivery::Sender;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    On,
    Off,
    /// Lid closed: nothing runs, packets are lost, the monotonic clock stands.
    Suspended,
}

/// What was sent, heartbeats only.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    pub packets: u64,
}

pub struct Machine {
    /// Name and key on its disk. A clone has those of another.
    pub identity: u32,
    /// Number of the network address that it has now.
    pub address: u32,
    pub power: Power,
    pub process: Option<Process>,
    /// Counts the starts of its nanoprobe.
    pub life: u32,
    /// Its one document is acknowledged and gone from the outgoing queue.
    pub delivered: bool,
    /// How far its wall clock is off; nothing reads it but registrations, and of those only people.
    pub wall_clock_offset_seconds: i64,
    pub traffic: Traffic,
}

/// A running nanoprobe.
pub struct Process {
    pub watcher: Box<dyn Watcher>,
    pub sender: Sender,
    pub session: Session,
    pub clock: Clock,
    /// By SIGSTOP: packets queue up.
    pub paused: bool,
    /// What waits for a paused process.
    pub deferred: Vec<Event>,
    pub link: Option<u32>,
    pub peers: Peers,
    /// What the watcher told while there was no connection, the last about each partner.
    pub unsaid: Vec<(u64, Observation)>,
    /// The earliest wake-up that is on its way.
    pub wake_at: Moment,
}

impl Machine {
    /// Its nanoprobe can do something now.
    pub fn awake(&self) -> bool {
        self.power == Power::On && self.process.as_ref().is_some_and(|process| !process.paused)
    }
}

/// The monotonic clock of a process: its own start, and no time passes in suspend.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Reading of the clock at the simulation's start, were it running then.
    ahead: Moment,
    frozen: Moment,
    frozen_since: Option<Moment>,
}

impl Clock {
    /// Shows `reading` at `now`.
    pub fn new(now: Moment, reading: Moment) -> Self {
        Self { ahead: reading, frozen: now, frozen_since: None }
    }

    pub fn read(&self, now: Moment) -> Duration {
        let now = self.frozen_since.unwrap_or(now);
        Duration::from_micros(self.ahead + now - self.frozen)
    }

    /// When the clock will show this, rounded up.
    pub fn moment(&self, reading: Duration) -> Moment {
        let micros = u64::try_from(reading.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX / 2);
        (micros + self.frozen).saturating_sub(self.ahead)
    }

    pub fn freeze(&mut self, now: Moment) {
        self.frozen_since.get_or_insert(now);
    }

    pub fn thaw(&mut self, now: Moment) {
        if let Some(since) = self.frozen_since.take() {
            self.frozen += now - since;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_a_process_stands_while_it_is_frozen() {
        let mut clock = Clock::new(1000, 50);
        assert_eq!(clock.read(1200), Duration::from_micros(250));
        assert_eq!(clock.moment(Duration::from_micros(300)), 1250);
        clock.freeze(1300);
        assert_eq!(clock.read(9000), Duration::from_micros(350));
        clock.thaw(2300);
        assert_eq!(clock.read(2400), Duration::from_micros(450));
        assert_eq!(clock.moment(Duration::from_micros(450)), 2400);
        assert_eq!(clock.moment(Duration::from_nanos(450_001)), 2401);
    }
}
