//! What the CMA is told: one document for each monitor that was checked, and one about what nobody looks after.

use super::state::Told;
use model::Envelope;
use monitors::{Monitor, Target};
use serde_json::{Map, Value, json};

/// Instances of monitors begin so; those of discoveries never do.
pub const PREFIX: &str = "_monitor_";

/// The document about what is not looked after.
pub const OVERVIEW: &str = "_monitors";

/// Whether a document of this instance is the monitoring's.
pub fn is_ours(instance: &str) -> bool {
    instance == OVERVIEW || instance.starts_with(PREFIX)
}

/// The document of one monitor.
pub fn of_monitor(host: &str, monitor: &Monitor, told: &Told) -> Envelope {
    let mut data = Map::new();
    let mut put = |name: &str, value: Value| drop(data.insert(name.to_owned(), value));
    put("monitorname", monitor.name.clone().into());
    put("class", monitor.class.as_str().into());
    put("agent", monitor.agent.clone().into());
    if let Some(provider) = &monitor.provider {
        put("provider", provider.clone().into());
    }
    match &monitor.target {
        Target::Host => put("target", "host".into()),
        Target::Service { process, pathname, listen } => {
            put("target", "service".into());
            put("process", process.clone().into());
            put("pathname", pathname.clone().into());
            put("listen", listen.clone().into());
        }
    }
    put("state", told.state.as_str().into());
    put("reason", told.reason.clone().into());
    put("since", told.since.to_utc_text().into());
    for (name, number) in [("rc", told.rc), ("signal", told.signal)] {
        if let Some(number) = number {
            put(name, number.into());
        }
    }
    for (name, text) in [("output", &told.output), ("perfdata", &told.perfdata)] {
        if !text.is_empty() {
            put(name, text.clone().into());
        }
    }
    put("active", (monitor.class != monitors::Class::NeverMon).into());
    put("rule", monitor.rule.clone().into());
    envelope("monitor", "State of what is looked after", host, monitor.instance(), Value::Object(data))
}

/// The document about what is not looked after: process key → `pathname`, `listen` and `why`.
pub fn overview(host: &str, unmonitored: Map<String, Value>) -> Envelope {
    let data = json!({"unmonitored": unmonitored});
    envelope("monitors", "What listens and is not looked after", host, OVERVIEW.into(), data)
}

fn envelope(discovertype: &str, description: &str, host: &str, instance: String, data: Value) -> Envelope {
    Envelope {
        discovertype: discovertype.into(),
        description: description.into(),
        host: host.into(),
        source: "nanoprobe".into(),
        instance,
        proxy: "local/local".into(),
        data,
        errors: Vec::new(),
        extras: Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::State;
    use super::super::testing::service;
    use super::*;
    use model::Timestamp;
    use monitors::Class;

    #[test]
    fn the_document_says_what_is_known_and_nothing_secret() {
        let mut monitor = service(Class::Nagios, "check_x", 80);
        monitor.env.insert("password".into(), "geheim".into());
        monitor.argv = vec!["-p".into(), "geheim".into()];
        let told = Told {
            state: State::Warn,
            since: Timestamp(0),
            reason: "load is high".into(),
            rc: Some(1),
            signal: None,
            output: String::new(),
            perfdata: "load1=4.0".into(),
        };
        let envelope = of_monitor("web1", &monitor, &told);
        model::ids::check_instance(&envelope.instance).unwrap();
        assert!(is_ours(&envelope.instance) && !is_ours("_init_monitoringagents"));
        let expected = json!({
            "monitorname": "web1:nagios:check_x::0000000000000050", "class": "nagios", "agent": "check_x",
            "target": "service", "process": format!("check_x:{:032x}", 80), "pathname": "/usr/sbin/check_x",
            "listen": ["127.0.0.1:80"], "state": "warn", "reason": "load is high", "rc": 1,
            "perfdata": "load1=4.0", "since": "1970-01-01T00:00:00.000000Z", "active": true,
            "rule": "check_x.mrule",
        });
        assert_eq!(envelope.data, expected);
        let host = Monitor { target: Target::Host, class: Class::NeverMon, ..monitor };
        let data = of_monitor("web1", &host, &told).data;
        assert_eq!((&data["target"], &data["active"]), (&json!("host"), &json!(false)));
    }
}
