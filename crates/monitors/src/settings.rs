//! `[monitoring]` of cma.toml for one agent on one host.

use crate::Class;
use model::config::{MonitorOverride, MonitoringConfig};
use std::collections::BTreeMap;

/// After all overrides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub is_enabled: bool,
    pub repeat_seconds: u64,
    pub warn_seconds: u64,
    pub timeout_seconds: u64,
    pub failures: u32,
    pub user: String,
    /// Before the words of the rule.
    pub argv: Vec<String>,
    /// Over the rule's.
    pub env: BTreeMap<String, String>,
}

/// Precedence, weakest first: the section, what is built in, `<class>::<type>`, `<class>::<provider>:<type>`, both with
/// `/<host>`. A later `argv` replaces an earlier one, `env` is merged.
pub fn resolve(
    config: &MonitoringConfig,
    class: Class,
    agent: &str,
    provider: Option<&str>,
    host: &str,
) -> Resolved {
    let mut resolved = Resolved {
        is_enabled: true,
        repeat_seconds: config.repeat,
        warn_seconds: config.warn,
        timeout_seconds: config.timeout,
        failures: config.failures,
        user: config.user.clone(),
        argv: Vec::new(),
        env: BTreeMap::new(),
    };
    let plain = format!("{}::{agent}", class.as_str());
    if plain == "nagios::check_load" {
        let words = ["-r", "-w", "4,3,2", "-c", "4,3,2"];
        let argv = words.map(str::to_owned).to_vec();
        apply(
            &mut resolved,
            &MonitorOverride { repeat: Some(60), timeout: Some(30), argv, ..Default::default() },
        );
    }
    let exact = provider.map(|provider| format!("{}::{provider}:{agent}", class.as_str()));
    let names: Vec<&String> = [&plain].into_iter().chain(&exact).collect();
    for name in &names {
        config.agents.get(*name).into_iter().for_each(|change| apply(&mut resolved, change));
    }
    for name in &names {
        let of_host = config.agents.get(&format!("{name}/{host}"));
        of_host.into_iter().for_each(|change| apply(&mut resolved, change));
    }
    resolved.repeat_seconds = resolved.repeat_seconds.max(1);
    resolved.timeout_seconds = resolved.timeout_seconds.max(1);
    resolved.failures = resolved.failures.max(1);
    resolved
}

fn apply(resolved: &mut Resolved, change: &MonitorOverride) {
    resolved.is_enabled = change.enabled.unwrap_or(resolved.is_enabled);
    resolved.repeat_seconds = change.repeat.unwrap_or(resolved.repeat_seconds);
    resolved.warn_seconds = change.warn.unwrap_or(resolved.warn_seconds);
    resolved.timeout_seconds = change.timeout.unwrap_or(resolved.timeout_seconds);
    resolved.failures = change.failures.unwrap_or(resolved.failures);
    if let Some(user) = &change.user {
        resolved.user.clone_from(user);
    }
    if !change.argv.is_empty() {
        resolved.argv.clone_from(&change.argv);
    }
    resolved.env.extend(change.env.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::config::{CmaConfig, parse_toml};

    #[test]
    fn the_more_exact_setting_wins() {
        let config: CmaConfig = parse_toml(
            "cma.toml",
            r#"
[monitoring]
repeat = 20
user = "nobody"
[monitoring.agents."ocf::redis"]
repeat = 30
env = { a = "1", b = "1" }
[monitoring.agents."ocf::heartbeat:redis"]
env = { b = "2" }
user = ""
[monitoring.agents."ocf::redis/web1"]
enabled = false
[monitoring.agents."nagios::check_load"]
argv = ["-w", "9,9,9"]
"#,
        )
        .unwrap();
        let redis = |host| resolve(&config.monitoring, Class::Ocf, "redis", Some("heartbeat"), host);
        assert_eq!((redis("db").repeat_seconds, redis("db").user.as_str()), (30, ""));
        assert_eq!(redis("db").env["b"], "2");
        assert_eq!(redis("db").env["a"], "1");
        assert!(redis("db").is_enabled && !redis("web1").is_enabled);
        let load = resolve(&config.monitoring, Class::Nagios, "check_load", None, "db");
        assert_eq!(
            (load.argv, load.repeat_seconds, load.timeout_seconds),
            (vec!["-w".into(), "9,9,9".into()], 60, 30)
        );
        let other = resolve(&config.monitoring, Class::Tcp, "x", None, "db");
        assert_eq!((other.repeat_seconds, other.user.as_str()), (20, "nobody"));
        let plain = resolve(&MonitoringConfig::default(), Class::Nagios, "check_load", None, "db");
        assert_eq!(plain.argv, ["-r", "-w", "4,3,2", "-c", "4,3,2"]);
    }

    #[test]
    fn nothing_runs_without_pause_or_end() {
        let config = MonitoringConfig { repeat: 0, timeout: 0, failures: 0, ..MonitoringConfig::default() };
        let resolved = resolve(&config, Class::Tcp, "x", None, "h");
        assert_eq!((resolved.repeat_seconds, resolved.timeout_seconds, resolved.failures), (1, 1, 1));
    }
}
