//! `ocf`: a resource agent of the Open Cluster Framework (Resource Agent API 1.1), action `monitor`.
//!
//! `<OCF_ROOT>/resource.d/<provider>/<agent> monitor`, parameters as `OCF_RESKEY_<name>`.
//!
//! | exit status | state |
//! |---|---|
//! | 0 success, 8 running as promoted | up |
//! | 190, 191 running, but degraded | warn |
//! | 7 not running | down |
//! | 1 error, 2 wrong arguments, 3 not implemented, 4 no permission, 5 not installed, 6 not configured, 9 promoted and failed, others | down, by name |

use super::super::state::Outcome;
use super::program::{checked_name, environment, run, scratch};
use super::{Around, Checked, timeout};
use monitors::Monitor;
use std::collections::BTreeMap;

pub fn check(monitor: &Monitor, around: &Around) -> Checked {
    let provider = monitor.provider.as_deref().unwrap_or_default();
    let (agent, provider) = match (checked_name(&monitor.agent), checked_name(provider)) {
        (Ok(agent), Ok(provider)) => (agent, provider),
        (Err(outcome), _) | (_, Err(outcome)) => return outcome.into(),
    };
    let path = around.ocf_root.join("resource.d").join(provider).join(agent);
    let parameters = monitor.env.iter().map(|(name, value)| (format!("OCF_RESKEY_{name}"), value.clone()));
    let own = |name: &str, value: String| (name.to_owned(), value);
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let instance: String = monitor.name.chars().map(|c| if legal(c) { c } else { '_' }).take(200).collect();
    let all = parameters.chain([
        own("OCF_ROOT", around.ocf_root.display().to_string()),
        own("OCF_RA_VERSION_MAJOR", "1".into()),
        own("OCF_RA_VERSION_MINOR", "1".into()),
        own("OCF_RESOURCE_INSTANCE", instance),
        own("OCF_RESOURCE_TYPE", agent.into()),
        own("OCF_RESOURCE_PROVIDER", provider.into()),
        own("OCF_CHECK_LEVEL", "0".into()),
        // Of a cluster manager, which many agents expect: in milliseconds. Without an interval they believe that they are
        // asked before the start of a service, and find a missing one all right.
        own("OCF_RESKEY_CRM_meta_interval", (monitor.repeat_seconds.max(1).saturating_mul(1000)).to_string()),
        own("OCF_RESKEY_CRM_meta_timeout", timeout(monitor).as_millis().to_string()),
        own("HA_RSCTMP", scratch(monitor, around).display().to_string()),
    ]);
    let monitor_with = Monitor { env: all.collect::<BTreeMap<_, _>>(), ..monitor.clone() };
    run(monitor, &path, &["monitor".to_owned()], &environment(&monitor_with), |said| {
        let message = said.message();
        let why =
            |name: &str| if message.is_empty() { name.to_owned() } else { format!("{name}: {message}") };
        let outcome = match said.code {
            0 => Outcome::up(why("running")),
            8 => Outcome::up(why("running as promoted")),
            190 => Outcome::warn(why("running, but degraded")),
            191 => Outcome::warn(why("running as promoted, but degraded")),
            1 => Outcome::down(why("error")),
            2 => Outcome::down(why("wrong arguments")),
            3 => Outcome::down(why("the agent has no action monitor")),
            4 => Outcome::down(why("no permission")),
            5 => Outcome::down(why("not installed")),
            6 => Outcome::down(why("not configured")),
            7 => Outcome::down(why("not running")),
            9 => Outcome::down(why("promoted and failed")),
            other => Outcome::down(why(&format!("the agent ended with {other}, which means nothing"))),
        };
        Outcome { output: said.detail(), ..outcome }
    })
}
