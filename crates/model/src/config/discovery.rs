//! `[discovery]`: how often which discovery runs on which hosts.

use super::shape::settings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often one discovery runs, how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Slowest repetition; triggers (inotify, netlink) run it earlier. 0 = once per start of the nanoprobe.
    pub repeat_seconds: u64,
    /// A run longer than this is logged.
    pub warn_seconds: u64,
    /// A run longer than this is abandoned and reported as an error.
    pub timeout_seconds: u64,
}

impl Schedule {
    pub const DEFAULT: Schedule = Schedule { repeat_seconds: 60, warn_seconds: 120, timeout_seconds: 300 };

    pub fn repeat(&self) -> Option<Duration> {
        (self.repeat_seconds > 0).then(|| Duration::from_secs(self.repeat_seconds))
    }
}

settings! {
    /// Part of a schedule: what is absent is inherited.
    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct ScheduleOverride {
        /// Seconds between two runs at most; 0: once for each start of the nanoprobe.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub repeat: Option<u64>,
        /// Seconds after which a run is logged as slow.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub warn: Option<u64>,
        /// Seconds after which a run is abandoned and reported as an error.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub timeout: Option<u64>,
        /// `false` switches the discovery off.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub enabled: Option<bool>,
        /// Parameters handed to the discovery (for executables: as environment).
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub parameters: BTreeMap<String, String>,
    }
}

settings! {
    /// `[discovery]` of cma.toml; sent to nanoprobes as part of [`AgentConfig`].
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct DiscoveryConfig {
        /// Seconds between two runs at most, for discoveries that have no rhythm of their own and are not in `agents`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub repeat: Option<u64>,
        /// Seconds after which a run is logged as slow, in the same way.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub warn: Option<u64>,
        /// Seconds after which a run is abandoned and reported as an error, in the same way.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub timeout: Option<u64>,
        /// Share of one core that all discoveries together may use, in percent, averaged over an hour.
        pub cpu_budget_percent: f64,
        /// How long after a trigger to wait for the burst to end, in milliseconds.
        pub settle_milliseconds: u64,
        /// `false`: no inotify, no netlink; polling only.
        pub triggers: bool,
        /// By `<discovery type or instance>`, `<the same>/@<group>` for the hosts of a group, or `<the same>/<host>` for one
        /// host; the more exact key wins.
        pub agents: BTreeMap<String, ScheduleOverride>,
    }
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            repeat: None,
            warn: None,
            timeout: None,
            cpu_budget_percent: 0.5,
            settle_milliseconds: 50,
            triggers: true,
            agents: BTreeMap::new(),
        }
    }
}

impl ScheduleOverride {
    /// This one with what `stronger` says in the place of its own.
    pub fn overridden_by(mut self, stronger: &Self) -> Self {
        self.repeat = stronger.repeat.or(self.repeat);
        self.warn = stronger.warn.or(self.warn);
        self.timeout = stronger.timeout.or(self.timeout);
        self.enabled = stronger.enabled.or(self.enabled);
        self.parameters.extend(stronger.parameters.clone());
        self
    }
}

/// One discovery's settings on one host after all overrides.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedSchedule {
    pub schedule: Schedule,
    pub enabled: bool,
    pub parameters: BTreeMap<String, String>,
}

impl DiscoveryConfig {
    /// Precedence, weakest first: `own` (the discovery's default), section, `type`, `instance`, `type/host`, `instance/host`.
    pub fn resolve(&self, own: Schedule, discovertype: &str, instance: &str, host: &str) -> ResolvedSchedule {
        let mut resolved = ResolvedSchedule { schedule: own, enabled: true, parameters: BTreeMap::new() };
        if own == Schedule::DEFAULT {
            // A discovery that asks for a rhythm of its own keeps it unless it is named.
            let section = ScheduleOverride {
                repeat: self.repeat,
                warn: self.warn,
                timeout: self.timeout,
                ..Default::default()
            };
            apply(&mut resolved, &section);
        }
        let by_type = (discovertype != instance).then_some(discovertype);
        for name in by_type.into_iter().chain([instance]) {
            self.agents.get(name).into_iter().for_each(|o| apply(&mut resolved, o));
        }
        for name in by_type.into_iter().chain([instance]) {
            self.agents.get(&format!("{name}/{host}")).into_iter().for_each(|o| apply(&mut resolved, o));
        }
        resolved
    }
}

fn apply(resolved: &mut ResolvedSchedule, change: &ScheduleOverride) {
    let schedule = &mut resolved.schedule;
    schedule.repeat_seconds = change.repeat.unwrap_or(schedule.repeat_seconds);
    schedule.warn_seconds = change.warn.unwrap_or(schedule.warn_seconds);
    schedule.timeout_seconds = change.timeout.unwrap_or(schedule.timeout_seconds);
    resolved.enabled = change.enabled.unwrap_or(resolved.enabled);
    resolved.parameters.extend(change.parameters.clone());
}
