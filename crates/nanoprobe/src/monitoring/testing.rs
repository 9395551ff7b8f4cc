//! What several tests need.

use monitors::{Class, Monitor, Target};
use std::collections::BTreeMap;

/// A monitor of a service at a port of the loopback interface.
pub fn service(class: Class, agent: &str, port: u16) -> Monitor {
    Monitor {
        name: format!("web1:{}:{agent}::{port:016x}", class.as_str()),
        class,
        agent: agent.into(),
        provider: None,
        argv: Vec::new(),
        env: BTreeMap::from([("ip".into(), "127.0.0.1".into()), ("port".into(), port.to_string())]),
        target: Target::Service {
            process: format!("{agent}:{port:032x}"),
            pathname: format!("/usr/sbin/{agent}"),
            listen: vec![format!("127.0.0.1:{port}")],
        },
        rule: format!("{agent}.mrule"),
        repeat_seconds: 15,
        warn_seconds: 20,
        timeout_seconds: 60,
        failures: 1,
        user: String::new(),
    }
}
