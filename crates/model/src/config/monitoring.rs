//! `[monitoring]`: how services are looked after.

use super::shape::settings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

settings! {
    /// `[monitoring]` of cma.toml: how services are looked after.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct MonitoringConfig {
        /// `false`: no service is looked after.
        pub enabled: bool,
        /// Seconds from the end of one check to the next.
        pub repeat: u64,
        /// A check that takes longer is a warning.
        pub warn: u64,
        /// A check that takes longer is ended and counts as failed.
        pub timeout: u64,
        /// Failures in a row before a service counts as down; its first result counts at once.
        pub failures: u32,
        /// Changes of state within ten minutes from which on a service flaps: one warning instead of ups and downs.
        pub flap_changes: u32,
        /// Hours after which a service that vanished from the host is no longer looked after.
        pub forget_hours: u64,
        /// Directories of Nagios plug-ins, the first that has a plug-in wins.
        pub nagiospath: Vec<String>,
        /// User that plug-ins and agents run as, where `agents` does not say another; empty: the nanoprobe's own.
        pub user: String,
        /// By `<class>::<type>` or `<class>::<provider>:<type>`, or either with `/@<group>` or `/<host>`; the more exact key wins.
        pub agents: BTreeMap<String, MonitorOverride>,
    }
}

impl Default for MonitoringConfig {
    fn default() -> Self {
        let nagiospath =
            ["/usr/lib/nagios/plugins", "/usr/lib64/nagios/plugins", "/usr/local/nagios/libexec"];
        Self {
            enabled: true,
            repeat: 15,
            warn: 20,
            timeout: 60,
            failures: 1,
            flap_changes: 6,
            forget_hours: 24,
            nagiospath: nagiospath.map(String::from).to_vec(),
            user: String::new(),
            agents: BTreeMap::new(),
        }
    }
}

settings! {
    /// Settings of one monitoring agent, all optional.
    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct MonitorOverride {
        /// `false`: not looked after, and nothing else in its place.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub enabled: Option<bool>,
        /// Seconds from the end of one check to the next.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub repeat: Option<u64>,
        /// Seconds from which on a check is a warning.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub warn: Option<u64>,
        /// Seconds after which a check is ended and counts as failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub timeout: Option<u64>,
        /// Failures in a row before a service counts as down.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub failures: Option<u32>,
        /// User that it runs as; empty: that of the nanoprobe.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub user: Option<String>,
        /// Words that come before those of the rule.
        pub argv: Vec<String>,
        /// Environment; wins over that of the rule. Values are told to the hosts concerned only, and never shown.
        pub env: BTreeMap<String, String>,
    }
}

impl MonitorOverride {
    /// This one with what `stronger` says in the place of its own, as nanoprobes combine them: `argv` as a whole, `env` one by one.
    pub fn overridden_by(mut self, stronger: &Self) -> Self {
        self.enabled = stronger.enabled.or(self.enabled);
        self.repeat = stronger.repeat.or(self.repeat);
        self.warn = stronger.warn.or(self.warn);
        self.timeout = stronger.timeout.or(self.timeout);
        self.failures = stronger.failures.or(self.failures);
        self.user = stronger.user.clone().or(self.user);
        if !stronger.argv.is_empty() {
            self.argv.clone_from(&stronger.argv);
        }
        self.env.extend(stronger.env.clone());
        self
    }
}
