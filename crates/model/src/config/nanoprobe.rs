//! nanoprobe.toml.

use super::shape::settings;
use serde::{Deserialize, Serialize};

settings! {
    /// nanoprobe.toml. Flags beat environment beats file beats default.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct NanoprobeConfig {
        /// Where the CMA is; several are tried in turn. Without any, the multicast group is asked.
        pub cmaaddr: Vec<String>,
        /// Local address and port; without one a taken port 1984 is replaced by any free one.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bind: Option<String>,
        /// `true`: any free port.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub dynamic: Option<bool>,
        /// Routers that a multicast packet may pass, 0 to 255.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ttl: Option<u32>,
        /// How much to log, 0 to 5. SIGUSR1 and SIGUSR2 raise and lower it.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub debug: Option<u8>,
        /// Name that this host is known by; without one, the host name in lower case. Needs a restart.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub name: Option<String>,
        /// Keep the connection open with a packet every few seconds, for a nanoprobe behind NAT.
        pub keepalive: bool,
        /// Size at which the outgoing queue drops superseded changes, in bytes.
        pub queue_bytes: u64,
        /// File with the enrolment token, removed once the host is enrolled.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub token_file: Option<String>,
    }
}

impl Default for NanoprobeConfig {
    fn default() -> Self {
        Self {
            cmaaddr: Vec::new(),
            bind: None,
            dynamic: None,
            ttl: None,
            debug: None,
            name: None,
            keepalive: false,
            queue_bytes: 64 * 1024 * 1024,
            token_file: None,
        }
    }
}
