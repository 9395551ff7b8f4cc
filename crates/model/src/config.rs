//! Settings of both daemons, with their defaults. Unknown keys are errors that name key and line (contract §2).

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

/// Part of a schedule: what is absent is inherited.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleOverride {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// `false` switches the discovery off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Parameters handed to the discovery (for executables: as environment).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// `[discovery]` of cma.toml; sent to nanoprobes as part of [`AgentConfig`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiscoveryConfig {
    /// Seconds between runs, unless the discovery itself or `agents` says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Share of one core that all discoveries together may use, in percent, averaged over an hour.
    pub cpu_budget_percent: f64,
    /// How long after a trigger to wait for the burst to end, in milliseconds.
    pub settle_milliseconds: u64,
    /// `false`: no inotify, no netlink; polling only.
    pub triggers: bool,
    /// By `<discovery type or instance>`, or `<the same>/<host>` for one host; the more exact key wins.
    pub agents: BTreeMap<String, ScheduleOverride>,
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

/// `[neighbours]` of cma.toml: what nanoprobes hear of the devices around them, without ever sending anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeighboursConfig {
    pub enabled: bool,
    /// Minutes after which an address that was not heard any more is gone, 1 to 10080. Devices that nobody talks to may be
    /// silent for hours; those of LLDP and CDP say themselves how long they hold.
    pub forget_minutes: u64,
    /// Hear multicasts of all groups on the interfaces where a host listens for addresses: more of IPv6 is heard, at the cost of
    /// receiving all multicast traffic of the subnet. Frames between other stations are never received.
    pub all_multicast: bool,
}

impl Default for NeighboursConfig {
    fn default() -> Self {
        Self { enabled: true, forget_minutes: 240, all_multicast: false }
    }
}

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
    /// What cannot work, with the key and what it may be.
    pub fn problem(&self) -> Option<String> {
        let bounds = [
            ("interval_milliseconds", self.interval_milliseconds, 100, 60_000),
            ("suspect_milliseconds", self.suspect_milliseconds, 150, 600_000),
            ("probe_milliseconds", self.probe_milliseconds, 50, 60_000),
            ("probes", self.probes, 1, 20),
            ("gather_milliseconds", self.gather_milliseconds, 0, 10_000),
        ];
        let wrong = bounds.into_iter().find(|(_, value, least, most)| !(least..=most).contains(&value));
        if let Some((key, value, least, most)) = wrong {
            return Some(format!("[heartbeats] {key} = {value}: it must be from {least} to {most}"));
        }
        (self.suspect_milliseconds <= self.interval_milliseconds).then(|| {
            format!(
                "[heartbeats] suspect_milliseconds = {}: it must be more than interval_milliseconds, {}",
                self.suspect_milliseconds, self.interval_milliseconds
            )
        })
    }
}

/// `[monitoring]` of cma.toml: how services are looked after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonitoringConfig {
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
    /// By `<class>::<type>`, `<class>::<provider>:<type>`, or either with `/<host>`; the more exact key wins.
    pub agents: BTreeMap<String, MonitorOverride>,
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

/// Settings of one monitoring agent, all optional.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonitorOverride {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Words that come before those of the rule.
    pub argv: Vec<String>,
    /// Environment; wins over that of the rule. Values are told to the hosts concerned only, and never shown.
    pub env: BTreeMap<String, String>,
}

/// cma.toml. Flags beat environment beats file beats default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CmaConfig {
    /// UDP address to listen on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind: Option<String>,
    /// User to run as when started as root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web: Option<String>,
    pub discovery: DiscoveryConfig,
    pub heartbeats: HeartbeatConfig,
    pub monitoring: MonitoringConfig,
    pub neighbours: NeighboursConfig,
    pub rules: RulesConfig,
    /// Domain name → host name patterns with `*`; hosts that match none are in `global`.
    pub domains: BTreeMap<String, Vec<String>>,
    /// Network name → host name patterns with `*`, for sites that use the same private addresses for different machines;
    /// hosts that match none are in `global`.
    pub networks: BTreeMap<String, Vec<String>>,
    pub dns: DnsConfig,
    /// Start of a MAC address (`56-84-7a`) → vendor, before what the system's list says.
    pub oui: BTreeMap<String, String>,
    pub notify: NotifyConfig,
    pub keys: KeysConfig,
}

impl CmaConfig {
    /// The domain of a host: the first pattern that fits, in order of domain names, else `global`.
    pub fn domain_of(&self, designation: &str) -> &str {
        first_fit(&self.domains, designation)
    }

    /// The network that the addresses of a host belong to, found in the same way.
    pub fn network_of(&self, designation: &str) -> &str {
        first_fit(&self.networks, designation)
    }
}

fn first_fit<'c>(groups: &'c BTreeMap<String, Vec<String>>, designation: &str) -> &'c str {
    groups
        .iter()
        .find(|(_, patterns)| patterns.iter().any(|pattern| matches_pattern(pattern, designation)))
        .map_or("global", |(name, _)| name.as_str())
}

/// Rule sets and points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RulesConfig {
    /// Domain → rule set; a domain not listed uses that of `global`.
    pub by_domain: BTreeMap<String, String>,
    /// Points of a failed rule by category and severity, where they differ from high 3, medium 2, low 1.
    pub points: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Default for RulesConfig {
    fn default() -> Self {
        Self { by_domain: BTreeMap::from([("global".into(), "BASE".into())]), points: BTreeMap::new() }
    }
}

impl RulesConfig {
    pub fn set_of(&self, domain: &str) -> &str {
        self.by_domain.get(domain).or_else(|| self.by_domain.get("global")).map_or("BASE", String::as_str)
    }
}

/// Names of addresses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsConfig {
    /// Whether the CMA asks for the names of the addresses that it knows, each once a day. Not said: a CMA of the whole
    /// system does, and one that has a root of its own (`--root`) does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverse: Option<bool>,
}

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

impl Default for NotifyConfig {
    fn default() -> Self {
        Self { scripts: true, script_timeout_seconds: 60, attempts: 10, syslog: true }
    }
}

/// `[keys]` of cma.toml.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// Days that a key of the CMA may be in use before `doctor` and an event ask for `assimcli keys rotate`; 0 = for ever.
    pub rotate_after_days: u32,
}

impl Default for KeysConfig {
    /// Two years, the middle of what NIST SP 800-57 part 1 (5.3.6) suggests for a private signature key.
    fn default() -> Self {
        Self { rotate_after_days: 730 }
    }
}

/// nanoprobe.toml. Flags beat environment beats file beats default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NanoprobeConfig {
    /// Where the CMA is; several are tried in turn.
    pub cmaaddr: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Keep the connection open with a packet every few seconds, for a nanoprobe behind NAT.
    pub keepalive: bool,
    /// Size at which the outgoing queue drops superseded changes, in bytes.
    pub queue_bytes: u64,
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
        }
    }
}

/// A configuration file that cannot be used; the text names file, line and key.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConfigError {
    pub path: String,
    pub message: String,
}

/// Reads the text of a configuration file.
pub fn parse_toml<T: for<'de> Deserialize<'de>>(path: &str, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let at = line.map(|n| format!("line {n}: ")).unwrap_or_default();
        ConfigError { path: path.into(), message: format!("{at}{}", error.message()) }
    })
}

/// `*` stands for any run of characters.
pub fn matches_pattern(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_exact_override_wins() {
        let config: CmaConfig = parse_toml(
            "cma.toml",
            "[discovery]\nrepeat = 30\n[discovery.agents.sshd]\nrepeat = 20\n[discovery.agents.\"sshd/web1\"]\nenabled = false\n",
        )
        .unwrap();
        let resolve =
            |kind, host| config.discovery.resolve(Schedule::DEFAULT, kind, &format!("_init_{kind}"), host);
        assert_eq!(resolve("pam", "web1").schedule.repeat_seconds, 30);
        assert_eq!(resolve("sshd", "web2").schedule.repeat_seconds, 20);
        assert!(resolve("sshd", "web2").enabled);
        assert!(!resolve("sshd", "web1").enabled);
        let own = Schedule { repeat_seconds: 0, warn_seconds: 5, timeout_seconds: 60 };
        assert_eq!(config.discovery.resolve(own, "os", "_init_os", "x").schedule, own);
    }

    #[test]
    fn heartbeats_that_cannot_work_are_named() {
        let problem = |text: &str| {
            let config: CmaConfig = parse_toml("cma.toml", &format!("[heartbeats]\n{text}\n")).unwrap();
            config.heartbeats.problem().unwrap_or_default()
        };
        assert_eq!(problem(""), "");
        assert_eq!(
            problem("interval_milliseconds = 5000\nsuspect_milliseconds = 12000\nprobe_milliseconds = 3000"),
            ""
        );
        assert!(
            problem("interval_milliseconds = 0").contains("interval_milliseconds = 0: it must be from 100")
        );
        assert!(problem("interval_milliseconds = 1400").contains("suspect_milliseconds = 1400"));
        assert!(problem("probes = 0").contains("probes = 0"));
        assert!(problem("gather_milliseconds = 4000000000").contains("to 10000"));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error =
            parse_toml::<CmaConfig>("/etc/assimilation/cma.toml", "bind = \"x\"\n[notify]\nsyslogg = true\n")
                .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("cma.toml") && text.contains("line 3") && text.contains("syslogg"), "{text}");
    }

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("lab-*", "lab-1", true),
            ("*", "x", true),
            ("web*.example.org", "web1.example.org", true),
            ("a*a", "a", false),
            ("web", "web1", false),
            ("*b*c", "abcbc", true),
        ] {
            assert_eq!(matches_pattern(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn domains_and_sets() {
        let config: CmaConfig = parse_toml(
            "cma.toml",
            "[domains]\nlab = [\"lab-*\"]\n[networks]\nberlin = [\"*-b\"]\n[rules.by_domain]\nglobal = \"BASE\"\nlab = \"LABSET\"\n",
        )
        .unwrap();
        assert_eq!(config.domain_of("lab-7"), "lab");
        assert_eq!(config.domain_of("web1"), "global");
        assert_eq!((config.network_of("lab-b"), config.network_of("lab-7")), ("berlin", "global"));
        assert_eq!(config.rules.set_of("lab"), "LABSET");
        assert_eq!(config.rules.set_of("prod"), "BASE");
    }

    #[test]
    fn the_documented_settings_are_legal() {
        let page = include_str!("../../../docs/configuration.md");
        let blocks: Vec<&str> =
            page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let [cma, nanoprobe] = blocks.as_slice() else {
            panic!("two examples expected, found {}", blocks.len())
        };
        let cma: CmaConfig = parse_toml("cma.toml", cma).unwrap();
        assert_eq!(cma.domain_of("lab-1"), "lab");
        assert_eq!(cma.discovery.settle_milliseconds, DiscoveryConfig::default().settle_milliseconds);
        assert_eq!(cma.heartbeats, HeartbeatConfig::default());
        assert_eq!((cma.dns.reverse, cma.oui["56-84-7a"].as_str()), (Some(true), "linux bridge"));
        let nanoprobe: NanoprobeConfig = parse_toml("nanoprobe.toml", nanoprobe).unwrap();
        assert_eq!(nanoprobe.queue_bytes, NanoprobeConfig::default().queue_bytes);
    }
}
