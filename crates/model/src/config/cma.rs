//! cma.toml.

use super::shape::settings;
use super::{
    DiscoveryConfig, EnrolmentConfig, HeartbeatConfig, KeysConfig, MonitoringConfig, NeighboursConfig,
    Selection, matches_pattern,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

settings! {
    /// cma.toml. Flags beat environment beats file beats default.
    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct CmaConfig {
        /// UDP address to listen on. Needs a restart.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bind: Option<String>,
        /// User to run as when started as root. Needs a restart.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub user: Option<String>,
        /// How much to log, 0 to 5. SIGUSR1 and SIGUSR2 raise and lower it.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub debug: Option<u8>,
        /// Where to keep what is known: `sqlite:PATH`. Needs a restart.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub store: Option<String>,
        /// TCP address of the web port, or `none`. Needs a restart.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub web: Option<String>,
        /// What nanoprobes look for, and how often.
        pub discovery: DiscoveryConfig,
        /// How quickly hosts notice that a neighbour is gone; told to all hosts at once.
        pub heartbeats: HeartbeatConfig,
        /// Who may become a host of this site (enrolment.md).
        pub enrolment: EnrolmentConfig,
        /// How services are looked after; all hosts.
        pub monitoring: MonitoringConfig,
        /// What hosts hear of switches (LLDP, CDP) and of addresses around them (ARP, IPv6). Nothing is sent.
        pub neighbours: NeighboursConfig,
        /// The CMA's own keys (keys.md).
        pub keys: KeysConfig,
        /// Which rules hosts are judged by.
        pub rules: RulesConfig,
        /// Groups of hosts, by name: a list of host name patterns, or a table. A host may be in any number of them (groups.md).
        pub groups: BTreeMap<String, Selection>,
        /// Domains, by name, in the same form. A host is in the first one that it fits, in the order of their names; hosts that
        /// fit none are in `global`.
        pub domains: BTreeMap<String, Selection>,
        /// Networks, by name: host name patterns with `*`, for sites that use the same private addresses for different
        /// machines. Hosts that fit none are in `global`.
        pub networks: BTreeMap<String, Vec<String>>,
        /// Names of addresses.
        pub dns: DnsConfig,
        /// Vendors by the start of MAC addresses, such as `"56-84-7a" = "linux bridge"`, before what the system's list says.
        pub oui: BTreeMap<String, String>,
        /// Who is told of events.
        pub notify: NotifyConfig,
    }
}

impl CmaConfig {
    /// The domain of a host of which nothing but the name is known: the first, in order of domain names, that has a pattern
    /// that it fits, else `global`.
    pub fn domain_by_name(&self, designation: &str) -> &str {
        let fits = |selection: &Selection| selection.name_pattern(designation).is_some();
        self.domains.iter().find(|(_, selection)| fits(selection)).map_or(GLOBAL, |(name, _)| name.as_str())
    }

    /// The network that the addresses of a host belong to: the first pattern that fits, in order of network names.
    pub fn network_of(&self, designation: &str) -> &str {
        let fits =
            |patterns: &Vec<String>| patterns.iter().any(|pattern| matches_pattern(pattern, designation));
        self.networks.iter().find(|(_, patterns)| fits(patterns)).map_or(GLOBAL, |(name, _)| name.as_str())
    }
}

/// The domain and the network of hosts that fit no other.
pub const GLOBAL: &str = "global";

settings! {
    /// Rule sets and points.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct RulesConfig {
        /// Rule set for each domain; a domain not listed uses that of `global`. BASE picks by the host's operating system.
        pub by_domain: BTreeMap<String, String>,
        /// Rule set for the hosts of a group, before that of their domain. Of several groups the first counts, in order of their
        /// names.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub by_group: BTreeMap<String, String>,
        /// Points of a failed rule by category and severity, where they differ from high 3, medium 2, low 1.
        pub points: BTreeMap<String, BTreeMap<String, f64>>,
    }
}

impl Default for RulesConfig {
    fn default() -> Self {
        Self {
            by_domain: BTreeMap::from([("global".into(), "BASE".into())]),
            by_group: BTreeMap::new(),
            points: BTreeMap::new(),
        }
    }
}

impl RulesConfig {
    pub fn set_of(&self, domain: &str) -> &str {
        self.by_domain.get(domain).or_else(|| self.by_domain.get("global")).map_or("BASE", String::as_str)
    }
}

settings! {
    /// Names of addresses.
    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct DnsConfig {
        /// Whether the CMA asks for the names of the addresses that it knows, each once a day. Not said: a CMA of the whole
        /// system does, and one that has a root of its own (`--root`) does not.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub reverse: Option<bool>,
    }
}

settings! {
    /// Alerts.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct NotifyConfig {
        /// Run the executables of the notification.d directories.
        pub scripts: bool,
        /// Seconds after which a script and all it started is killed.
        pub script_timeout_seconds: u64,
        /// Deliveries are tried this often, with growing pauses, before they are given up.
        pub attempts: u32,
        /// Write every event to the local syslog (or the journal).
        pub syslog: bool,
    }
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self { scripts: true, script_timeout_seconds: 60, attempts: 10, syslog: true }
    }
}
