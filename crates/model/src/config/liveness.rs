//! `[heartbeats]` and `[neighbours]`: what hosts hear of each other.

use super::shape::settings;
use serde::{Deserialize, Serialize};

settings! {
    /// `[neighbours]` of cma.toml: what nanoprobes hear of the devices around them, without ever sending anything.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct NeighboursConfig {
        /// `false`: nobody listens.
        pub enabled: bool,
        /// Minutes after which an address that was not heard any more is gone, 1 to 10080. Devices that nobody talks to may be
        /// silent for hours; those of LLDP and CDP say themselves how long they hold.
        pub forget_minutes: u64,
        /// Hear multicasts of all groups on the interfaces where a host listens for addresses: more of IPv6 is heard, at the cost of
        /// receiving all multicast traffic of the subnet. Frames between other stations are never received.
        pub all_multicast: bool,
    }
}

impl Default for NeighboursConfig {
    fn default() -> Self {
        Self { enabled: true, forget_minutes: 240, all_multicast: false }
    }
}

settings! {
    /// `[heartbeats]` of cma.toml: how quickly hosts notice that a neighbour is gone.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct HeartbeatConfig {
        /// Milliseconds between two heartbeats to one partner, 100 to 60000.
        pub interval_milliseconds: u32,
        /// Silence after which a partner is probed; more than one interval.
        pub suspect_milliseconds: u32,
        /// Length of the burst of probes. Longer than the longest round trip between partners.
        pub probe_milliseconds: u32,
        /// Probes in a burst.
        pub probes: u32,
        /// How long the CMA waits for further deaths of the same cause before it tells about the first.
        pub gather_milliseconds: u32,
    }
}

impl Default for HeartbeatConfig {
    /// For a LAN. Over a WAN: interval 5000, suspect 12000, probe 3000.
    fn default() -> Self {
        Self {
            interval_milliseconds: 1000,
            suspect_milliseconds: 1400,
            probe_milliseconds: 700,
            probes: 6,
            gather_milliseconds: 300,
        }
    }
}

impl HeartbeatConfig {
    /// What cannot work: the key, and what it may be.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let bounds = [
            ("interval_milliseconds", self.interval_milliseconds, 100, 60_000),
            ("suspect_milliseconds", self.suspect_milliseconds, 150, 600_000),
            ("probe_milliseconds", self.probe_milliseconds, 50, 60_000),
            ("probes", self.probes, 1, 20),
            ("gather_milliseconds", self.gather_milliseconds, 0, 10_000),
        ];
        let mut problems: Vec<(&'static str, String)> = bounds
            .into_iter()
            .filter(|(_, value, least, most)| !(least..=most).contains(&value))
            .map(|(key, value, least, most)| (key, format!("{value}: it must be from {least} to {most}")))
            .collect();
        if problems.is_empty() && self.suspect_milliseconds <= self.interval_milliseconds {
            let (suspect, interval) = (self.suspect_milliseconds, self.interval_milliseconds);
            let problem = format!("{suspect}: it must be more than interval_milliseconds, {interval}");
            problems.push(("suspect_milliseconds", problem));
        }
        problems
    }

    /// The first of the problems, as one sentence.
    pub fn problem(&self) -> Option<String> {
        self.problems().first().map(|(key, problem)| format!("[heartbeats] {key} = {problem}"))
    }
}
