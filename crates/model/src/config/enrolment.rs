//! `[enrolment]` of cma.toml: who may become a host of this site.

use super::shape::{Setting, Shape, settings};
use serde::{Deserialize, Serialize};

/// What is asked of a host that nobody knows yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnrolmentPolicy {
    /// Nothing: the first key that registers under a name is pinned to it.
    #[default]
    FirstUse,
    /// A valid token, or the approval of an administrator.
    Approve,
    /// A valid token.
    Token,
}

impl Setting for EnrolmentPolicy {
    const SHAPE: Shape = Shape::OneOf(&["first-use", "approve", "token"]);
}

settings! {
    /// Enrolment of hosts; docs/enrolment.md.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct EnrolmentConfig {
        /// What is asked of a host that nobody knows yet: nothing, a token or the approval of an administrator, a token.
        pub policy: EnrolmentPolicy,
        /// Hosts that may wait for approval at once, 1 to 10000.
        pub max_pending: usize,
        /// How many of them may come from one IPv4 address or one /64 of IPv6, 1 to 10000.
        pub max_pending_per_address: usize,
        /// Days after which a host that waits and is not heard any more is forgotten, 1 to 365.
        pub forget_pending_days: u64,
    }
}

impl Default for EnrolmentConfig {
    fn default() -> Self {
        Self {
            policy: EnrolmentPolicy::FirstUse,
            max_pending: 500,
            max_pending_per_address: 50,
            forget_pending_days: 7,
        }
    }
}

impl EnrolmentConfig {
    /// What cannot work: the key, and what it may be.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let bounds = [
            ("max_pending", number(self.max_pending), 10_000),
            ("max_pending_per_address", number(self.max_pending_per_address), 10_000),
            ("forget_pending_days", self.forget_pending_days, 365),
        ];
        bounds
            .into_iter()
            .filter(|(_, value, most)| !(1..=*most).contains(value))
            .map(|(key, value, most)| (key, format!("{value}: it must be from 1 to {most}")))
            .collect()
    }

    /// The first of the problems, as one sentence.
    pub fn problem(&self) -> Option<String> {
        self.problems().first().map(|(key, problem)| format!("[enrolment] {key} = {problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CmaConfig, parse_toml};

    fn config(text: &str) -> Result<EnrolmentConfig, String> {
        let config = parse_toml::<CmaConfig>("cma.toml", &format!("[enrolment]\n{text}\n"));
        config.map(|config| config.enrolment).map_err(|error| error.to_string())
    }

    #[test]
    fn policies_have_the_names_that_are_documented() {
        assert_eq!(config("").unwrap(), EnrolmentConfig::default());
        for (name, policy) in [
            ("first-use", EnrolmentPolicy::FirstUse),
            ("approve", EnrolmentPolicy::Approve),
            ("token", EnrolmentPolicy::Token),
        ] {
            assert_eq!(config(&format!("policy = \"{name}\"")).unwrap().policy, policy);
        }
        let error = config("policy = \"open\"").unwrap_err();
        assert!(error.contains("line 2") && error.contains("first-use"), "{error}");
    }

    #[test]
    fn bounds_that_cannot_work_are_named() {
        assert_eq!(config("max_pending = 10000").unwrap().problem(), None);
        let problem = |text| config(text).unwrap().problem().unwrap_or_default();
        assert!(problem("max_pending = 0").contains("max_pending = 0: it must be from 1 to 10000"));
        assert!(problem("max_pending_per_address = 10001").contains("max_pending_per_address"));
        assert!(problem("forget_pending_days = 0").contains("to 365"));
    }
}
