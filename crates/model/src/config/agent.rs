//! The part of the CMA's settings that a nanoprobe is told.

use super::{DiscoveryConfig, MonitoringConfig, NeighboursConfig};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the CMA tells a nanoprobe (as JSON text; its hash tells whether it changed).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentConfig {
    /// The domain the host belongs to.
    #[serde(default)]
    pub domain: String,
    #[serde(default)]
    pub discovery: DiscoveryConfig,
    #[serde(default)]
    pub monitoring: MonitoringConfig,
    #[serde(default)]
    pub neighbours: NeighboursConfig,
    /// Monitor rules of the site: file name → text, as in the CMA's monrules directories.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub monitor_rules: BTreeMap<String, String>,
}
