//! `[keys]` of cma.toml: the CMA's own keys.

use super::shape::settings;
use serde::{Deserialize, Serialize};

settings! {
    /// The CMA's own keys; docs/keys.md.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct KeysConfig {
        /// Days that a key of the CMA may be in use before `doctor` and an event ask for `assimcli keys rotate`; 0 = for ever.
        pub rotate_after_days: u32,
    }
}

impl Default for KeysConfig {
    /// Two years, the middle of what NIST SP 800-57 part 1 (5.3.6) suggests for a private signature key.
    fn default() -> Self {
        Self { rotate_after_days: 730 }
    }
}
